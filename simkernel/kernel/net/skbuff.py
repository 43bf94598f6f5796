"""Socket buffers (include/linux/skbuff.h): what travels over a link."""

from typing import TYPE_CHECKING, Final

from simkernel.uapi import flags

if TYPE_CHECKING:
    from simkernel.kernel.net.net_namespace import Net
    from simkernel.kernel.net.tcp import TcpSock

# The state of a socket that has no connection (TCP_CLOSE), and of one whose SYN is not answered (TCP_SYN_SENT).
CLOSED: Final = 7
SYN_SENT: Final = 2

# The flags of a TCP header (include/net/tcp.h, TCPHDR_*).
FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10
URG: Final = 0x20

FLAG_NAMES: Final = {SYN: "SYN", ACK: "ACK", FIN: "FIN", RST: "RST", URG: "URG"}
# The text of each combination, for the trace; then what is not TCP.
FLAG_TEXTS: Final = [*(flags(bits, FLAG_NAMES) for bits in range(2 * URG)), "UDP", "ICMP"]
UDP: Final = 2 * URG
ICMP: Final = 2 * URG + 1


class Packet:
    """What travels: ``flags`` say what it is, for the trace; ``cause`` is the event of the trace that sent it; ``next`` is behind it."""

    __slots__ = ("cause", "data", "flags", "next")

    def __init__(self, flags: int, data: bytes) -> None:
        self.flags = flags
        self.data = data
        self.cause = -1
        self.next: Packet | None = None

    def rcv(self) -> None:
        """It arrives: the handler of its protocol (ip_protocol_deliver_rcu).  TCP's is called without this step."""
        raise NotImplementedError

    def enter(self, net: "Net") -> None:
        """It has come over a link to another host, whose tables are the ones to look in."""
        raise NotImplementedError

    def copy(self) -> "Packet":
        """skb_copy: the same once more, for a link that doubles it."""
        raise NotImplementedError


class SkBuff(Packet):
    """A TCP segment.  ``sk`` sent it; ``dst`` receives it, or None when the receiver has to be looked up (a SYN)."""

    __slots__ = ("dst", "seq", "sk", "window")

    def __init__(self, sk: "TcpSock", dst: "TcpSock | None", flags: int, data: bytes, seq: int = 0, window: int = 0) -> None:
        self.sk = sk
        self.dst = dst
        self.flags = flags
        self.data = data
        self.seq = seq
        self.window = window
        self.cause = -1
        self.next = None

    def ends(self) -> tuple[int, int, int, int]:
        """The ports of the connection as both sockets know it, sender first."""
        sk, dst = self.sk, self.dst
        return (sk.sport, sk.rport, dst.sport, dst.rport) if dst is not None else (sk.sport, sk.rport, 0, 0)

    def is_stale(self, ends: tuple[int, int, int, int] | None) -> bool:
        """Whether one of the sockets has gone on to another connection since ``ends`` were taken."""
        sk, dst = self.sk, self.dst
        if self.ends() == ends:
            return dst is None and sk.state != SYN_SENT
        return dst is None or sk.state != CLOSED or dst.state != CLOSED


class UrgentSkBuff(SkBuff):
    """A segment with an urgent pointer: ``urg`` is where in the stream the byte behind the urgent one is."""

    __slots__ = ("urg",)

    def __init__(self, sk: "TcpSock", dst: "TcpSock | None", data: bytes, seq: int, urg: int) -> None:
        super().__init__(sk, dst, ACK | URG, data, seq)
        self.urg = urg
