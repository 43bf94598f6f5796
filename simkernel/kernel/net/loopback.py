"""The loopback device (drivers/net/loopback.c): what is sent comes back through the receive softirq, in order."""

from collections import deque
from collections.abc import Callable

from simkernel.kernel.irq import Softirq
from simkernel.kernel.net.skbuff import FLAG_TEXTS, SkBuff
from simkernel.kernel.sched import Sched


class Loopback:
    """lo.  ``backlog`` is the queue of the processor (softnet_data) from which NET_RX hands each segment to ``deliver``."""

    __slots__ = ("backlog", "deliver", "net_rx", "sched")

    def __init__(self, sched: Sched, deliver: Callable[[SkBuff], None]) -> None:
        self.sched = sched
        self.deliver = deliver
        self.backlog: deque[SkBuff] = deque()
        self.net_rx = Softirq(sched, "NET_RX", self.net_rx_action)

    def loopback_xmit(self, skb: SkBuff) -> None:
        """Send a segment: put it on the backlog and raise NET_RX (netif_rx)."""
        self.backlog.append(skb)
        trace = self.sched.trace
        if trace.on:
            skb.cause = trace.emit("net_dev_xmit", "loopback_xmit", ("flags", FLAG_TEXTS[skb.flags], "len", len(skb.data)))
        self.net_rx.raise_softirq()

    def net_rx_action(self) -> bool:
        """Receive one segment; True while more are waiting."""
        backlog = self.backlog
        if backlog:
            skb = backlog.popleft()
            trace = self.sched.trace
            if trace.on:
                trace.cause = skb.cause
                trace.cause = trace.emit("netif_receive_skb", "net_rx_action", ("flags", FLAG_TEXTS[skb.flags], "len", len(skb.data)))
            self.deliver(skb)
        return len(backlog) > 0
