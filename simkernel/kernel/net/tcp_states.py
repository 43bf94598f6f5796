"""The states of a TCP connection (include/net/tcp_states.h), and numbers that its parts share."""

from simkernel.uapi import NSEC_PER_MSEC, NSEC_PER_SEC, POLLOUT, POLLWRBAND, POLLWRNORM

TCP_ESTABLISHED = 1
TCP_SYN_SENT = 2
TCP_SYN_RECV = 3
TCP_FIN_WAIT1 = 4
TCP_FIN_WAIT2 = 5
TCP_TIME_WAIT = 6
TCP_CLOSE = 7
TCP_CLOSE_WAIT = 8
TCP_LAST_ACK = 9
TCP_LISTEN = 10
TCP_CLOSING = 11

STATE_NAMES = {
    TCP_ESTABLISHED: "ESTABLISHED",
    TCP_SYN_SENT: "SYN_SENT",
    TCP_SYN_RECV: "SYN_RECV",
    TCP_FIN_WAIT1: "FIN_WAIT1",
    TCP_FIN_WAIT2: "FIN_WAIT2",
    TCP_TIME_WAIT: "TIME_WAIT",
    TCP_CLOSE: "CLOSE",
    TCP_CLOSE_WAIT: "CLOSE_WAIT",
    TCP_LAST_ACK: "LAST_ACK",
    TCP_LISTEN: "LISTEN",
    TCP_CLOSING: "CLOSING",
}

KEY_WRITABLE = POLLOUT | POLLWRNORM | POLLWRBAND
# The largest segment on lo, whose MTU is 65,536.
MSS_LOOPBACK = 65483
# What a segment holds while nothing is known of the peer.
TCP_MSS_DEFAULT = 536
TCPOLEN_TSTAMP_ALIGNED = 12
# What the send buffer of an established connection on lo grows to (tcp_sndbuf_expand; measured with getsockopt on Linux 6.18).
SNDBUF_ESTABLISHED = 3939840
# When a SYN is sent again: four times a second apart, then doubling (tcp_syn_linear_timeouts, tcp_syn_retries).
SYN_LINEAR_TIMEOUTS = 4
SYN_TIMEOUT = NSEC_PER_SEC
# How often a SYN-ACK is sent again (tcp_synack_retries).
SYNACK_RETRIES = 5
# How long TCP_CORK and MSG_MORE hold a segment back (TCP_RTO_MIN; some milliseconds more on Linux, by the round trips it has seen).
TCP_RTO_MIN = 200 * NSEC_PER_MSEC

# urg_data: there is an urgent byte (the low byte), its place is known but it has not come, it has been read.
TCP_URG_VALID = 0x0100
TCP_URG_NOTYET = 0x0200
TCP_URG_READ = 0x0400
