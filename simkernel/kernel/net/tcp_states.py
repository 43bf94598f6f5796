"""The states of a TCP connection (include/net/tcp_states.h), and numbers that its parts share."""

from typing import Final

from simkernel.uapi import NSEC_PER_MSEC, NSEC_PER_SEC, POLLOUT, POLLWRBAND, POLLWRNORM

TCP_ESTABLISHED: Final = 1
TCP_SYN_SENT: Final = 2
TCP_SYN_RECV: Final = 3
TCP_FIN_WAIT1: Final = 4
TCP_FIN_WAIT2: Final = 5
TCP_TIME_WAIT: Final = 6
TCP_CLOSE: Final = 7
TCP_CLOSE_WAIT: Final = 8
TCP_LAST_ACK: Final = 9
TCP_LISTEN: Final = 10
TCP_CLOSING: Final = 11

STATE_NAMES: Final = {
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

KEY_WRITABLE: Final = POLLOUT | POLLWRNORM | POLLWRBAND
# The largest segment on lo, whose MTU is 65,536.
MSS_LOOPBACK: Final = 65483
# What a segment holds while nothing is known of the peer.
TCP_MSS_DEFAULT: Final = 536
TCPOLEN_TSTAMP_ALIGNED: Final = 12
# What the send buffer of an established connection on lo grows to (tcp_sndbuf_expand; measured with getsockopt on Linux 6.18).
SNDBUF_ESTABLISHED: Final = 3939840
# When a SYN is sent again: four times a second apart, then doubling (tcp_syn_linear_timeouts, tcp_syn_retries).
SYN_LINEAR_TIMEOUTS: Final = 4
SYN_TIMEOUT: Final = NSEC_PER_SEC
# How often a SYN-ACK is sent again (tcp_synack_retries).
SYNACK_RETRIES: Final = 5
# How long TCP_CORK and MSG_MORE hold a segment back (TCP_RTO_MIN; some milliseconds more on Linux, by the round trips it has seen).
TCP_RTO_MIN: Final = 200 * NSEC_PER_MSEC

# urg_data: there is an urgent byte (the low byte), its place is known but it has not come, it has been read.
TCP_URG_VALID: Final = 0x0100
TCP_URG_NOTYET: Final = 0x0200
TCP_URG_READ: Final = 0x0400
