"""UDP-Lite: UDP whose checksum covers a part of a datagram only (net/ipv4/udplite.c, include/net/udplite.h), with ports of its own.

Nothing is damaged on the way here, so of the coverage remains what the receiver demands of it.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from simkernel.kernel.net.socket import Sysctl
from simkernel.kernel.net.sockopt import SIMULATED, Option
from simkernel.kernel.net.udp import UDP_OPTIONS, UdpSock
from simkernel.kernel.net.udp_table import UDP_HEADER, UdpSkb, UdpTable
from simkernel.kernel.sched import Sched
from simkernel.uapi import IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, UDPLITE_SEND_CSCOV

USHRT_MAX: Final = 0xFFFF


class UdpLiteSock(UdpSock):
    """struct udp_sock of UDP-Lite: ``pcslen`` bytes of what it sends are covered, ``pcrlen`` must be of what it takes.

    0 is the whole datagram, None that nobody has said.
    """

    __slots__ = ("pcrlen", "pcslen")
    name = "udplite"
    options: ClassVar[Mapping[int, Option]] = {}

    def __init__(self, sched: Sched, sysctl: Sysctl, table: UdpTable[UdpSock], family: int) -> None:
        super().__init__(sched, sysctl, table, family)
        self.protocol = IPPROTO_UDPLITE
        self.pcslen: int | None = None
        self.pcrlen: int | None = None

    def udp_send_skb(self, skb: UdpSkb) -> None:
        """udplite_csum."""
        if self.pcslen and self.pcslen < UDP_HEADER + len(skb.data):
            skb.cscov = self.pcslen
        super().udp_send_skb(skb)

    def queue_rcv_skb(self, skb: UdpSkb) -> None:
        """udp_queue_rcv_one_skb: what is covered less than was asked for is dropped."""
        if self.pcrlen is not None and skb.cscov and (not self.pcrlen or skb.cscov < self.pcrlen):
            self.drops += 1
            return
        super().queue_rcv_skb(skb)


def coverage(val: int) -> int:
    """The bytes that are covered: the header at least."""
    if val and val < UDP_HEADER:
        return UDP_HEADER
    return min(val, USHRT_MAX)


def set_send_cscov(sk: UdpLiteSock, val: int) -> None:
    """UDPLITE_SEND_CSCOV."""
    sk.pcslen = coverage(val)


def set_recv_cscov(sk: UdpLiteSock, val: int) -> None:
    """UDPLITE_RECV_CSCOV."""
    sk.pcrlen = coverage(val)


IPPROTO_UDPLITE_TABLE: Final = (
    Option(
        IPPROTO_UDPLITE,
        UDPLITE_SEND_CSCOV,
        "UDPLITE_SEND_CSCOV",
        SIMULATED,
        lambda sk: sk.pcslen or 0,
        set_send_cscov,
        where="UDP-Lite",
    ),
    Option(
        IPPROTO_UDPLITE,
        UDPLITE_RECV_CSCOV,
        "UDPLITE_RECV_CSCOV",
        SIMULATED,
        lambda sk: sk.pcrlen or 0,
        set_recv_cscov,
        where="UDP-Lite",
    ),
)
UdpLiteSock.options = UDP_OPTIONS | {option.number: option for option in IPPROTO_UDPLITE_TABLE}
