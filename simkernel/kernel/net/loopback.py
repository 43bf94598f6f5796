"""The loopback device (drivers/net/loopback.c): what is sent comes back through the receive softirq, in order."""

from simkernel.kernel.irq import Softirq
from simkernel.kernel.net.netdevice import NetDevice, NetProtocol
from simkernel.kernel.net.skbuff import FLAG_TEXTS, Packet, SkBuff
from simkernel.kernel.sched import Sched


class NetRx(Softirq):
    """NET_RX_SOFTIRQ."""

    __slots__ = ("lo",)

    def __init__(self, sched: Sched, lo: "Loopback") -> None:
        super().__init__(sched)
        self.lo = lo

    def action(self) -> bool:
        return self.lo.net_rx_action()


class Loopback(NetDevice):
    """lo.  ``first`` to ``last`` is the queue of the processor (softnet_data) from which NET_RX hands each segment to ``tcp``.

    All hosts share the processor, so there is one for all of them, and their links hand it what arrives.
    """

    __slots__ = ("first", "last", "net_rx", "sched", "tcp")

    def __init__(self, sched: Sched, tcp: NetProtocol) -> None:
        super().__init__()
        self.sched = sched
        self.tcp = tcp
        self.first: Packet | None = None
        self.last: Packet | None = None
        self.net_rx = NetRx(sched, self)

    def dismantle(self) -> None:
        """Let go of what knows it."""
        self.net = self.peer = self.net_rx = None  # type: ignore[assignment]  # they are used no more
        self.first = self.last = None

    def netif_rx(self, skb: Packet) -> None:
        """A packet has come over a link."""
        self.enqueue(skb)
        self.net_rx.raise_softirq()

    def enqueue(self, skb: Packet) -> None:
        """Put it last on the queue."""
        if self.last is None:
            self.first = skb
        else:
            self.last.next = skb
        self.last = skb

    def xmit(self, skb: Packet) -> None:
        """Send a segment: put it on the queue and raise NET_RX (netif_rx)."""
        self.enqueue(skb)
        sched = self.sched
        trace = sched.trace
        net_rx = self.net_rx
        if trace.on:
            events = trace.events
            skb.cause = len(events)
            flags = FLAG_TEXTS[skb.flags]
            events.append((trace.where, "net_dev_xmit", "loopback_xmit", trace.cause, "flags", flags, "len", len(skb.data)))
        if sched.explore or net_rx.running or net_rx.pending:
            net_rx.raise_softirq()
            return
        # raise_softirq, written out for the plain case, in which nothing is chosen.
        net_rx.running = True
        try:
            if trace.on:
                where, cause = trace.where, trace.cause
                trace.where = (where[0], where[1], "irq")
                self.net_rx_action()
                trace.where, trace.cause = where, cause
            else:
                self.net_rx_action()
        finally:
            net_rx.running = False

    def net_rx_action(self) -> bool:
        """Receive what is in the queue; a choice may stop after any segment.  True if some are left."""
        tcp = self.tcp
        sched = self.sched
        trace = sched.trace
        while (skb := self.first) is not None:
            self.first = skb.next
            if self.first is None:
                self.last = None
            if trace.on:
                events = trace.events
                trace.cause = len(events)
                flags = FLAG_TEXTS[skb.flags]
                events.append((trace.where, "netif_receive_skb", "net_rx_action", skb.cause, "flags", flags, "len", len(skb.data)))
            if isinstance(skb, SkBuff):
                tcp.handler(skb)
            else:
                skb.rcv()
            if sched.explore and self.first is not None and sched.choice.pick(2, "softirq-stop"):
                return True
        return False
