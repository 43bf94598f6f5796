"""TCP: what a lossy link needs (net/ipv4/tcp_timer.c): sending again, giving up, keepalive.  On lo nothing of this runs.

A segment that a link lost is sent again after a retransmission timeout (RFC 6298), which doubles each time.  What is sent behind it waits,
as at the receiver, whose program sees bytes in order alone.  So loss is delay, and what is sent into a partition comes when it heals,
unless TCP has given up by then: ETIMEDOUT.
"""

import errno
from collections import deque
from typing import TYPE_CHECKING, Final

from simkernel.kernel.clock import Timer
from simkernel.kernel.net.skbuff import RST, SkBuff
from simkernel.kernel.net.tcp_states import SYN_TIMEOUT, SYNACK_RETRIES, TCP_CLOSE, TCP_RTO_MIN, TCP_SYN_RECV, TCP_SYN_SENT
from simkernel.uapi import IPPROTO_TCP, NSEC_PER_MSEC, NSEC_PER_SEC, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock
    from simkernel.kernel.net.veth import VethDev

TCP_RTO_MAX: Final = 120 * NSEC_PER_SEC
# How long a segment is sent again, counted in timeouts that double: tcp_retries2; tcp_orphan_retries of a socket that no program has.
TCP_RETRIES2: Final = 15
TCP_ORPHAN_RETRIES: Final = 8
# Linux's defaults of TCP_KEEPIDLE, TCP_KEEPINTVL (seconds) and TCP_KEEPCNT.
KEEPALIVE_TIME: Final = 7200
KEEPALIVE_INTVL: Final = 75
KEEPALIVE_PROBES: Final = 9


def retransmits_timed_out(boundary: int) -> int:
    """tcp_model_timeout: how many nanoseconds ``boundary`` timeouts take that double from TCP_RTO_MIN up to TCP_RTO_MAX."""
    thresh = (TCP_RTO_MAX // TCP_RTO_MIN).bit_length() - 1
    if boundary <= thresh:
        return ((2 << boundary) - 1) * TCP_RTO_MIN
    return ((2 << thresh) - 1) * TCP_RTO_MIN + (boundary - thresh) * TCP_RTO_MAX


class RtxQueue:
    """tcp_rtx_queue of a socket whose way is a link: the first segment that was lost, and what was sent behind it.

    ``arrives`` is when the last segment that is on its way comes, in virtual ns: no other of this socket comes earlier.  ``listener`` is
    whose connection it will be when the handshake is done (rsk_listener).
    """

    __slots__ = ("arrives", "backoff", "dev", "listener", "queue", "sk", "stamp", "timer")

    def __init__(self, sk: "TcpSock", dev: "VethDev") -> None:
        self.sk = sk
        self.dev = dev
        self.queue: deque[SkBuff] = deque()
        self.timer: Timer | None = None
        self.backoff = 0
        self.stamp = 0
        self.arrives = 0
        self.listener: TcpSock | None = None

    def lost(self, skb: SkBuff) -> None:
        """The first segment that did not get through."""
        self.queue.append(skb)
        self.backoff = 0
        self.stamp = self.sk.sched.clock.now
        self.reset_xmit_timer()

    def purge(self) -> None:
        """tcp_rtx_queue_purge: what was lost is lost for good, but for a RST, which says so."""
        if self.queue:
            self.queue = deque(skb for skb in self.queue if skb.flags & RST)

    def reset_xmit_timer(self) -> None:
        """tcp_reset_xmit_timer: the next try, but not later than TCP_USER_TIMEOUT (tcp_clamp_rto_to_user_timeout)."""
        sk = self.sk
        clock = sk.sched.clock
        base = SYN_TIMEOUT if sk.state == TCP_SYN_RECV else TCP_RTO_MIN + 2 * self.dev.latency
        delay = min(base << self.backoff, TCP_RTO_MAX)
        if sk.user_timeout:
            delay = min(delay, max(self.stamp + sk.user_timeout * NSEC_PER_MSEC - clock.now, 1))
        if self.timer is not None:
            clock.del_timer(self.timer)
        self.timer = clock.add_timer(delay, self.retransmit_timer)

    def retransmit_timer(self) -> None:
        """tcp_retransmit_timer: once the first segment gets through, so do those behind it."""
        self.timer = None
        if not self.queue or self.write_timeout():
            return
        if not self.retransmit():
            self.backoff += 1
            self.reset_xmit_timer()

    def retransmit(self) -> bool:
        """tcp_retransmit_skb: False if it is lost again."""
        queue = self.queue
        if queue:
            if not self.dev.carries():
                return False
            self.queue = deque()
            trace = self.sk.sched.trace
            for skb in queue:
                if trace.on:
                    skb.cause = trace.emit("tcp_retransmit_skb", "tcp_retransmit_skb", ("sk", self.sk.ino, "len", len(skb.data)))
                self.dev.send(skb)
        return True

    def write_timeout(self) -> bool:
        """tcp_write_timeout, reqsk_timer_handler: whether it is time to give up; done if so."""
        sk = self.sk
        waited = sk.sched.clock.now - self.stamp
        if sk.state == TCP_SYN_RECV:
            if self.backoff < SYNACK_RETRIES:
                return False
            self.queue.clear()
            sk.set_state(TCP_CLOSE)
            return True
        limit = sk.user_timeout * NSEC_PER_MSEC or retransmits_timed_out(TCP_ORPHAN_RETRIES if sk.dead else TCP_RETRIES2)
        if waited < limit:
            return False
        self.queue.clear()
        if sk.state != TCP_CLOSE:
            sk.done_with_error(errno.ETIMEDOUT)
        return True


def tcp_keepalive(sk: "TcpSock", dev: "VethDev") -> None:
    """The link of a socket with SO_KEEPALIVE has failed: when its probes, from now on, would all have gone unanswered, it is over.

    Linux counts from the last segment; the probes that are answered change nothing, so here none is sent while the link works.
    """
    stored = sk.stored or {}
    idle = stored.get((IPPROTO_TCP, TCP_KEEPIDLE), KEEPALIVE_TIME)
    intvl = stored.get((IPPROTO_TCP, TCP_KEEPINTVL), KEEPALIVE_INTVL)
    probes = stored.get((IPPROTO_TCP, TCP_KEEPCNT), KEEPALIVE_PROBES)
    failed = dev.failed

    def keepalive_timer() -> None:
        rtx = sk.rtx
        # What waits to be sent again has its own end.
        if dev.up or dev.failed != failed or sk.state in (TCP_CLOSE, TCP_SYN_SENT) or rtx is None or rtx.dev is not dev or rtx.queue:
            return
        sk.done_with_error(errno.ETIMEDOUT)

    sk.sched.clock.add_timer((idle + intvl * probes) * NSEC_PER_SEC, keepalive_timer)
