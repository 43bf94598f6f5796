"""Network devices (include/linux/netdevice.h), and the timing of what goes over a wire (net/sched/sch_netem.c, in small).

A packet is handed to the device that leads to its destination; the device at the other end hands it to the receive softirq.
"""

from typing import TYPE_CHECKING

from simkernel.kernel.net.skbuff import Packet, SkBuff

if TYPE_CHECKING:
    from simkernel.kernel.net.net_namespace import Net


class NetDevice:
    """struct net_device: ``net`` is the host that it belongs to, ``peer`` the device that hears what it sends (of lo: itself)."""

    __slots__ = ("net", "peer")

    def __init__(self) -> None:
        # Both are set when the host and the link are made.
        self.net: Net = None  # type: ignore[assignment]
        self.peer: NetDevice = self

    def xmit(self, skb: Packet) -> None:
        """ndo_start_xmit: send a packet."""
        raise NotImplementedError


class NetProtocol:
    """struct net_protocol: what takes the packets that arrive."""

    __slots__ = ()

    def handler(self, skb: SkBuff) -> None:
        """A packet arrives."""
        raise NotImplementedError
