"""TCP: sending (net/ipv4/tcp_output.c): segments, windows, SYNs again, and who is told of free space."""

import errno
from typing import TYPE_CHECKING

from simkernel.kernel.net.skbuff import ACK, FIN, RST, SYN, SkBuff, UrgentSkBuff
from simkernel.kernel.net.socket import RCV_SHUTDOWN
from simkernel.kernel.net.tcp_states import (
    KEY_WRITABLE,
    MSS_LOOPBACK,
    SYN_LINEAR_TIMEOUTS,
    SYN_TIMEOUT,
    TCP_MSS_DEFAULT,
    TCP_RTO_MIN,
    TCP_SYN_SENT,
    TCPOLEN_TSTAMP_ALIGNED,
)
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import wake_up
from simkernel.uapi import IPPROTO_TCP, NSEC_PER_MSEC, TCP_MAXSEG

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock


def tcp_send_syn(sk: "TcpSock") -> None:
    """Send the SYN, and again when no answer comes (the backlog was full): tcp_connect, tcp_retransmit_timer."""
    now = sk.sched.clock.now
    if not sk.retries:
        sk.retrans_stamp = now
    delay = SYN_TIMEOUT << max(sk.retries - SYN_LINEAR_TIMEOUTS, 0)
    if sk.user_timeout:
        # tcp_clamp_rto_to_user_timeout
        delay = min(delay, max(sk.retrans_stamp + sk.user_timeout * NSEC_PER_MSEC - now, 1))
    sk.timer = sk.sched.clock.add_timer(delay, lambda: tcp_syn_timeout(sk))
    sk.device.xmit(SkBuff(sk, None, SYN, b""))


def tcp_syn_timeout(sk: "TcpSock") -> None:
    """The SYN was not answered in time: again, or give up (tcp_write_timeout, retransmits_timed_out)."""
    sk.timer = None
    if sk.state != TCP_SYN_SENT:
        return
    retries = sk.syn_retries or sk.sysctl.tcp_syn_retries
    # What as many retries would have taken if each had waited twice as long as the last.
    limit = sk.user_timeout * NSEC_PER_MSEC or ((2 << retries) - 1) * SYN_TIMEOUT
    if sk.sched.clock.now - sk.retrans_stamp >= limit or sk.retries >= retries + SYN_LINEAR_TIMEOUTS:
        sk.done_with_error(errno.ETIMEDOUT)
        return
    sk.retries += 1
    tcp_send_syn(sk)


def tcp_mss(sk: "TcpSock") -> int:
    """tcp_current_mss: a segment is at most half of the peer's first window (tcp_bound_to_half_wnd)."""
    window = sk.max_window
    return min(MSS_LOOPBACK, max(window >> 1 if window > TCP_MSS_DEFAULT else window, 1))


def user_mss(sk: "TcpSock") -> int:
    """rx_opt.user_mss: what TCP_MAXSEG was set to, or 0."""
    return sk.stored.get((IPPROTO_TCP, TCP_MAXSEG), 0) if sk.stored else 0


def tcp_sync_mss(sk: "TcpSock", peer: "TcpSock") -> None:
    """tcp_sync_mss, when the connection is made: what TCP_MAXSEG will read, less the timestamps if one of both ends asked for a size."""
    sk.mss_cache = tcp_mss(sk)
    if sk.stored or peer.stored:
        for limit in (user_mss(sk), user_mss(peer)):
            if limit:
                sk.mss_cache = min(sk.mss_cache, limit - TCPOLEN_TSTAMP_ALIGNED)


def tcp_waits_for_ack(sk: "TcpSock", chunk: bytes, last: bool) -> bool:
    """Over a link, with something in flight: what a small window would cut waits (tcp_snd_wnd_test), and so does a small last segment.

    Not with TCP_NODELAY, this (tcp_nagle_test; RFC 896).  On lo the acknowledgement has always come.
    """
    if sk.wmem_queued == sk.unsent:
        return False
    if len(chunk) > sk.snd_wnd:
        return sk.snd_wnd < sk.max_window >> 1
    return last and not sk.nodelay and not sk.fin_queued and len(chunk) < tcp_mss(sk)


def segment_size(sched: Sched, n: int) -> int:
    """How many of ``n`` bytes go into the next segment: a choice may cut it anywhere."""
    cut = sched.choice.pick(4, "segment")
    return n if cut == 0 else 1 if cut == 1 else n >> 1 if cut == 2 else n - 1


def tcp_write_xmit(sk: "TcpSock", corked: bool) -> None:
    """Send what the peer's window takes; then the FIN, if one waits.

    ``corked`` holds the last segment back unless it is full, urgent, or the FIN goes with it (tcp_nagle_test).
    """
    queue = sk.write_queue
    device = sk.device
    sched = sk.sched
    held = False
    # Whether the segment is what a choice has left of one.
    rest = sk.rtx is None
    while queue and sk.snd_wnd > 0:
        chunk = queue[0]
        # Its place in the stream: what was written, less what still waits.
        seq = sk.write_seq - sk.unsent
        if corked and len(queue) == 1 and not sk.fin_queued and sk.snd_up <= seq and len(chunk) < tcp_mss(sk):
            held = True
            break
        if not rest and sk.snd_up <= seq and tcp_waits_for_ack(sk, chunk, len(queue) == 1):
            break
        n = min(len(chunk), sk.snd_wnd)
        if sched.explore and n > 1:
            whole = n
            n = segment_size(sched, n)
            rest = n < whole or sk.rtx is None
        if n < len(chunk):
            queue[0] = chunk[n:]
            chunk = chunk[:n]
        else:
            queue.pop(0)
        sk.snd_wnd -= n
        sk.unsent -= n
        if sk.snd_up > seq:
            device.xmit(UrgentSkBuff(sk, sk.peer, chunk, seq, min(sk.snd_up, seq + 0xFFFF)))
        else:
            device.xmit(SkBuff(sk, sk.peer, ACK, chunk, seq))
        # Its acknowledgement pushes what MSG_MORE held.
        corked = sk.cork
    if held:
        tcp_check_probe_timer(sk)
    elif sk.timer is not None and not queue:
        sched.clock.del_timer(sk.timer)
        sk.timer = None
    if sk.fin_queued and not queue:
        sk.fin_queued = False
        device.xmit(SkBuff(sk, sk.peer, FIN | ACK, b"", sk.write_seq))


def tcp_push_pending_frames(sk: "TcpSock", corked: bool) -> None:
    """__tcp_push_pending_frames: send what waits, if anything does."""
    if sk.write_queue:
        tcp_write_xmit(sk, corked)


def tcp_check_probe_timer(sk: "TcpSock") -> None:
    """tcp_check_probe_timer: what is held back has a timer."""
    if sk.timer is None:
        sk.timer = sk.sched.clock.add_timer(TCP_RTO_MIN, lambda: tcp_probe_timer(sk))


def tcp_probe_timer(sk: "TcpSock") -> None:
    """tcp_probe_timer: what is held back goes after 200 ms, corked or not."""
    sk.timer = None
    tcp_push_pending_frames(sk, False)


def tcp_send_fin(sk: "TcpSock") -> None:
    """tcp_send_fin: behind what is still to be sent."""
    sk.fin_queued = True
    tcp_write_xmit(sk, False)


def tcp_send_reset(sk: "TcpSock", to: "TcpSock") -> None:
    """tcp_send_active_reset, tcp_v4_send_reset."""
    sk.device.xmit(SkBuff(sk, to, RST, b"", sk.write_seq))


def tcp_check_space(sk: "TcpSock") -> None:
    """The peer has taken bytes: if a writer found no space before, and there is enough now, wake it."""
    if sk.nospace and sk.writable() and not sk.dead:
        sk.nospace = False
        if sk.wq.entries:
            wake_up(sk.wq, KEY_WRITABLE)


def tcp_select_window(sk: "TcpSock") -> int:
    """__tcp_select_window: the space to offer; none rather than a little, so that the peer doesn't send crumbs."""
    clamp = sk.window_clamp
    free = clamp - sk.rmem
    if free < clamp >> 1 and (free < clamp >> 4 or free < min(MSS_LOOPBACK, clamp >> 1)):
        return 0
    return max(free, 0)


def tcp_cleanup_rbuf(sk: "TcpSock") -> None:
    """The program has read: send a window update if the window has at least doubled."""
    now = sk.rcv_wnd
    if sk.shutdown_mask & RCV_SHUTDOWN or now << 1 > sk.window_clamp:
        return
    new = tcp_select_window(sk)
    if new and new >= now << 1:
        sk.rcv_wnd = new
        peer = sk.peer
        if peer is not None:
            sk.device.xmit(SkBuff(sk, peer, ACK, b"", sk.write_seq, new))
