"""A link between two hosts: a pair of devices (drivers/net/veth.c), each with a delay before its end (net/sched/sch_netem.c).

A packet leaves when those before it have left and its own bits are on the wire (bandwidth), and comes after the latency, and up to the
jitter more.  Segments of one TCP socket keep their order; datagrams need not.  A lost segment is sent again (tcp_timer.py), a lost
datagram is gone.  What was on its way when the link failed still comes.
"""

from typing import TYPE_CHECKING, Final

from simkernel.kernel.net.loopback import Loopback
from simkernel.kernel.net.netdevice import NetDevice
from simkernel.kernel.net.skbuff import FLAG_TEXTS, SYN, Packet, SkBuff
from simkernel.uapi import NSEC_PER_SEC

if TYPE_CHECKING:
    from simkernel.kernel.net.net_namespace import Net

# What Ethernet, IP and TCP (with timestamps) or UDP add to a packet, in bytes.
TCP_OVERHEAD: Final = 14 + 20 + 32
UDP_OVERHEAD: Final = 14 + 20 + 8
# Into how many steps a choice divides the jitter.
JITTER_STEPS: Final = 8


class VethDev(NetDevice):
    """One end of a link, and the direction that leads away from it.

    ``latency`` and ``jitter`` in ns, ``bandwidth`` in bits a second (0: no limit), ``loss`` and ``duplicate`` as one packet in so many (0:
    none).  ``busy`` is when the last bit that was sent has left; ``up`` is whether anything gets through, ``failed`` how often that ended.
    """

    __slots__ = ("bandwidth", "busy", "duplicate", "failed", "in_flight", "jitter", "latency", "lo", "loss", "up")

    def __init__(self, net: "Net", lo: Loopback) -> None:
        super().__init__()
        self.net = net
        self.lo = lo
        self.latency = 0
        self.jitter = 0
        self.bandwidth = 0
        self.loss = 0
        self.duplicate = 0
        self.busy = 0
        self.up = True
        self.failed = 0
        self.in_flight = 0

    def xmit(self, skb: Packet) -> None:
        """veth_xmit."""
        trace = self.lo.sched.trace
        if trace.on:
            skb.cause = trace.emit("net_dev_xmit", "veth_xmit", ("flags", FLAG_TEXTS[skb.flags], "len", len(skb.data)))
        if isinstance(skb, SkBuff):
            rtx = skb.sk.rtx
            if rtx is not None and not skb.flags & SYN and rtx.queue:
                # Behind what was lost.
                rtx.queue.append(skb)
            elif self.carries():
                self.send(skb)
            elif rtx is None or skb.dst is None or skb.dst is skb.sk:
                # A SYN, which has its own timer, or the answer that nobody listens, which the next SYN will have.
                self.drop(skb)
            else:
                self.drop(skb)
                rtx.lost(skb)
        elif self.carries():
            self.send(skb)
            if self.duplicate and self.lo.sched.choice.pick(self.duplicate, "duplicate") == self.duplicate - 1:
                self.send(skb.copy())
        else:
            self.drop(skb)

    def carries(self) -> bool:
        """Whether a packet gets through: the link is up, and a choice does not lose it."""
        if not self.up:
            return False
        loss = self.loss
        return not loss or self.lo.sched.choice.pick(loss, "loss") != loss - 1

    def drop(self, skb: Packet) -> None:
        """It is lost: the trace says so."""
        trace = self.lo.sched.trace
        if trace.on:
            skb.cause = trace.emit("kfree_skb", "netem_enqueue", ("flags", FLAG_TEXTS[skb.flags], "len", len(skb.data), "up", self.up))

    def send(self, skb: Packet) -> None:
        """netem_enqueue: it will arrive."""
        sched = self.lo.sched
        now = sched.clock.now
        leaves = max(now, self.busy)
        tcp = isinstance(skb, SkBuff)
        if self.bandwidth:
            bits = 8 * (len(skb.data) + (TCP_OVERHEAD if tcp else UDP_OVERHEAD))
            leaves += -(-bits * NSEC_PER_SEC // self.bandwidth)
            self.busy = leaves
        arrives = leaves + self.latency
        if self.jitter:
            arrives += sched.choice.pick(JITTER_STEPS, "jitter") * self.jitter // (JITTER_STEPS - 1)
        if isinstance(skb, SkBuff) and skb.sk.rtx is not None and skb.dst is not skb.sk:
            arrives = max(arrives, skb.sk.rtx.arrives)
            skb.sk.rtx.arrives = arrives
        self.in_flight += 1
        sched.clock.add_timer(arrives - now, InFlight(self, skb).arrive)


class InFlight:
    """A packet on the wire.  ``ends`` is what both sockets of a segment were when it was sent."""

    __slots__ = ("dev", "ends", "skb")

    def __init__(self, dev: VethDev, skb: Packet) -> None:
        self.dev = dev
        self.skb = skb
        self.ends = skb.ends() if isinstance(skb, SkBuff) else None

    def arrive(self) -> None:
        """At the other end: veth_poll, netif_rx.  A socket that has another connection by now does not get it."""
        dev, skb = self.dev, self.skb
        dev.in_flight -= 1
        if isinstance(skb, SkBuff):
            if skb.is_stale(self.ends):
                return
        else:
            skb.enter(dev.peer.net)
        dev.lo.netif_rx(skb)


class Neighbour(NetDevice):
    """An address of our network that nobody has: no answer to ARP (net/core/neighbour.c), so that packets wait, and then are dropped."""

    __slots__ = ("lo",)

    def __init__(self, lo: Loopback) -> None:
        super().__init__()
        self.lo = lo

    def xmit(self, skb: Packet) -> None:
        """neigh_resolve_output; after the last probe neigh_invalidate tells who waits (arp_error_report): EHOSTUNREACH.

        A UDP socket is not told, since it is no hard error (icmp_err_convert).
        """
        if isinstance(skb, SkBuff) and skb.flags & SYN:
            sk, ends = skb.sk, skb.ends()
            if not sk.retries:
                self.lo.sched.clock.add_timer(ARP_TIMEOUT, lambda: sk.host_unreachable(ends))


# Three probes, a second apart (mcast_solicit, retrans_time), and some jiffies: measured 3.06 s on Linux 6.18.
ARP_TIMEOUT: Final = 3_060_000_000
