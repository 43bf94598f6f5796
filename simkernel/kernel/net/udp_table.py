"""UDP's ports, and whom a datagram is for (udp_table of net/ipv4/udp.c, net/ipv6/udp.c, net/core/sock_reuseport.c)."""

import errno
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from simkernel.errors import oserror
from simkernel.kernel.net.inet import IPV6_DEFAULT_HOPLIMIT, LO_BROADCAST, ReuseportHash, is_ipv4, rcv_saddr_equal
from simkernel.kernel.net.loopback import Loopback
from simkernel.kernel.net.skbuff import ICMP, UDP, Packet
from simkernel.kernel.net.socket import Sysctl
from simkernel.kernel.sched import Sched
from simkernel.uapi import AF_INET, AF_INET6, IN6ADDR_ANY, INADDR_ANY

if TYPE_CHECKING:
    from simkernel.kernel.net.net_namespace import Net

TCP_ESTABLISHED: Final = 1
TCP_CLOSE: Final = 7

# What a buffer costs beside its bytes (x86-64): struct sk_buff, skb_shared_info; and the sizes of its head.
SIZEOF_SKBUFF: Final = 256
SIZEOF_SHARED_INFO: Final = 320
HEAD_SIZES: Final = (576, 1024, 2048, 4096, 8192, 16384)
SKB_MAX_ALLOC: Final = 16384 - SIZEOF_SHARED_INFO
# Room for the headers: the device's 16, IP 20 or 40, UDP 8; then room at the end: to align, or for the header of a fragment.
HEADROOM_V4: Final = 44
HEADROOM_V6: Final = 64
TAILROOM_V4: Final = 15
TAILROOM_V6: Final = 8
UDP_HEADER: Final = 8
# Beyond the MTU of lo, 65,536, a datagram of IPv6 travels in two fragments, of which the first carries this much.
FRAGMENT_V6: Final = 65480
MAX_PAYLOAD_V4: Final = 65507
MAX_PAYLOAD_V6: Final = 65527


class UdpReceiver(Protocol):
    """What the table needs to know of a socket."""

    family: int
    ipv6only: bool
    laddr: str
    lport: int
    raddr: str
    rport: int
    reuseaddr: int
    reuseport: int
    reuseport_cb: bool
    state: int

    def queue_rcv_skb(self, skb: "UdpSkb") -> None:
        """A datagram for it."""
        ...

    def udp_err(self, code: int) -> None:
        """An ICMP error about one of its datagrams."""
        ...


U = TypeVar("U", bound=UdpReceiver)


class UdpSkb(Packet):
    """A datagram.  ``head`` is the size of its linear part, ``linear`` how many bytes of the payload lie there.

    ``hop_limit`` and ``tclass`` are of its IPv6 header; ``cscov`` is how many bytes UDP-Lite's checksum covers, 0: all.
    """

    __slots__ = ("cloned", "cscov", "daddr", "dport", "head", "hop_limit", "linear", "saddr", "sport", "table", "tclass", "truesize")

    def __init__(self, table: "UdpTable[U]", saddr: str, sport: int, daddr: str, dport: int, data: bytes) -> None:
        super().__init__(UDP, data)
        self.table: UdpTable[Any] = table
        self.saddr = saddr
        self.sport = sport
        self.daddr = daddr
        self.dport = dport
        self.cloned = False
        self.hop_limit = IPV6_DEFAULT_HOPLIMIT
        self.tclass = 0
        self.cscov = 0
        n = len(data)
        room = self.headroom() + (TAILROOM_V4 if is_ipv4(daddr) else TAILROOM_V6)
        # Too big for one piece: the headers alone are linear, the rest lies in pages.
        self.linear = n if room + n < SKB_MAX_ALLOC else 0
        need = -(-(room + self.linear) // 64) * 64 + SIZEOF_SHARED_INFO
        self.head = next(size for size in HEAD_SIZES if size >= need)
        self.truesize = self.head + SIZEOF_SKBUFF + n - self.linear

    def headroom(self) -> int:
        """What the headers take of the linear part."""
        return HEADROOM_V4 if is_ipv4(self.daddr) else HEADROOM_V6

    def max_payload(self) -> int:
        """The most that a datagram carries."""
        return MAX_PAYLOAD_V4 if is_ipv4(self.daddr) else MAX_PAYLOAD_V6

    def append(self, data: bytes) -> None:
        """More payload, which lies in pages."""
        self.data += data
        self.truesize += len(data)

    def condense(self) -> None:
        """skb_condense: when memory is short, what lies in pages moves to the linear part if there is room."""
        paged = len(self.data) - self.linear
        if paged and not self.cloned and paged <= self.head - SIZEOF_SHARED_INFO - self.headroom() - self.linear:
            self.linear += paged
            self.truesize = self.head + SIZEOF_SKBUFF

    def clone(self) -> "UdpSkb":
        """skb_clone: the same bytes for another receiver."""
        skb = UdpSkb(self.table, self.saddr, self.sport, self.daddr, self.dport, self.data)
        skb.linear, skb.head, skb.truesize = self.linear, self.head, self.truesize
        skb.hop_limit, skb.tclass, skb.cscov = self.hop_limit, self.tclass, self.cscov
        self.cloned = skb.cloned = True
        skb.cause = self.cause
        return skb

    def rcv(self) -> None:
        """udp_rcv: to its receiver; if there is none, an ICMP error goes back."""
        if self.daddr == LO_BROADCAST:
            self.table.mcast_deliver(self)
            return
        if not self.table.net.is_local(self.daddr):
            # It came back from lo with a destination that is not here (ip_route_input).
            return
        table = self.table
        sk = table.lookup(self.saddr, self.sport, self.daddr, self.dport)
        if sk is not None:
            if len(self.data) > FRAGMENT_V6 + UDP_HEADER and not is_ipv4(self.daddr):
                # Two fragments, joined again.
                self.truesize = HEAD_SIZES[0] + SIZEOF_SKBUFF + FRAGMENT_V6 + HEAD_SIZES[0] + SIZEOF_SKBUFF
            sk.queue_rcv_skb(self)
        else:
            table.net.route(self.saddr).xmit(PortUnreachable(self))

    def enter(self, net: "Net") -> None:
        self.table = net.udplite if self.table.lite else net.udp

    def copy(self) -> "UdpSkb":
        return self.clone()


class PortUnreachable(Packet):
    """The ICMP message about a datagram that nobody took.  ``table`` is that of the host where it is."""

    __slots__ = ("about", "table")

    def __init__(self, about: UdpSkb) -> None:
        super().__init__(ICMP, b"")
        self.about = about
        self.table: UdpTable[Any] = about.table

    def rcv(self) -> None:
        """udp_err: for the socket that would get the answer to that datagram."""
        skb = self.about
        sk = self.table.lookup(skb.daddr, skb.dport, skb.saddr, skb.sport)
        if sk is not None:
            sk.udp_err(errno.ECONNREFUSED)

    def enter(self, net: "Net") -> None:
        self.table = net.udplite if self.table.lite else net.udp

    def copy(self) -> "PortUnreachable":
        copied = PortUnreachable(self.about)
        copied.cause = self.cause
        return copied


class UdpTable(Generic[U]):
    """struct udp_table, or that of UDP-Lite: sockets by port, and by address and port; of both the newest comes first."""

    __slots__ = ("device", "hash", "hash2", "lite", "net", "next_port", "reuseport", "sched", "sysctl")

    def __init__(self, sched: Sched, sysctl: Sysctl, device: Loopback, net: "Net", lite: bool = False) -> None:
        self.net = net
        self.lite = lite
        self.sched = sched
        self.sysctl = sysctl
        self.device = device
        self.hash: dict[int, list[U]] = {}
        self.hash2: dict[tuple[str, int], list[U]] = {}
        self.next_port = sysctl.port_range[0]
        self.reuseport = ReuseportHash(sched)

    # --- ports ---
    def get_port(self, sk: U, port: int) -> int:
        """udp_lib_get_port: bind ``sk``; 0 asks for a free port.  EADDRINUSE."""
        if port == 0:
            port = self.ephemeral(sk)
        elif self.lport_inuse(sk, port):
            raise oserror(errno.EADDRINUSE)
        self.hash.setdefault(port, []).insert(0, sk)
        sk.lport = port
        sk.reuseport_cb = sk.reuseport != 0
        self.hash2_add(sk)
        return port

    def lport_inuse(self, sk: U, port: int) -> bool:
        """udp_lib_lport_inuse: the port is shared by those with SO_REUSEADDR, or with SO_REUSEPORT: the first of these settles it."""
        for sk2 in self.hash.get(port, ()):
            if sk2 is not sk and not (sk2.reuseaddr and sk.reuseaddr) and rcv_saddr_equal(sk, sk2):
                return not (sk2.reuseport and sk.reuseport)
        return False

    def ephemeral(self, sk: U) -> int:
        """A free port: on Linux any, here the next."""
        low, high = self.sysctl.port_range
        span = high - low + 1
        for step in range(span):
            port = low + (self.next_port - low + step) % span
            if port not in self.hash:
                self.next_port = port + 1
                return port
        raise oserror(errno.EADDRINUSE)

    def slot(self, sk: U) -> tuple[str, int]:
        """Where it is in hash2: the two wildcards share a slot."""
        return INADDR_ANY if sk.laddr == IN6ADDR_ANY else sk.laddr, sk.lport

    def hash2_add(self, sk: U) -> None:
        """The newest goes to the head; of IPv6's with SO_REUSEPORT to the tail."""
        sockets = self.hash2.setdefault(self.slot(sk), [])
        if sk.reuseport and sk.family == AF_INET6:
            sockets.append(sk)
        else:
            sockets.insert(0, sk)

    def hash2_del(self, sk: U) -> None:
        """Out of its slot."""
        key = self.slot(sk)
        sockets = self.hash2[key]
        sockets.remove(sk)
        if not sockets:
            del self.hash2[key]

    def rehash(self, sk: U, laddr: str) -> None:
        """udp_lib_rehash: connect has given it an address; with that it leaves its group of SO_REUSEPORT."""
        self.hash2_del(sk)
        sk.laddr = laddr
        sk.reuseport_cb = False
        sockets = self.hash2.setdefault(self.slot(sk), [])
        sockets.insert(0, sk)

    def unhash(self, sk: U) -> None:
        """udp_lib_unhash: the port is free at once."""
        if sk.lport:
            self.hash2_del(sk)
            sockets = self.hash[sk.lport]
            sockets.remove(sk)
            if not sockets:
                del self.hash[sk.lport]
            sk.lport = 0

    # --- lookup ---
    def lookup(self, saddr: str, sport: int, daddr: str, dport: int) -> U | None:
        """__udp4_lib_lookup, __udp6_lib_lookup: among those at the very address, then among those at any, the one that scores best."""
        found = self.lookup2(saddr, sport, daddr, dport, daddr)
        if found is None:
            found = self.lookup2(saddr, sport, INADDR_ANY if is_ipv4(daddr) else IN6ADDR_ANY, dport, daddr)
        return found

    def lookup2(self, saddr: str, sport: int, laddr: str, dport: int, daddr: str) -> U | None:
        """udp4_lib_lookup2: the first of those with the best score; of a group of SO_REUSEPORT the one that a hash says."""
        key = INADDR_ANY if laddr == IN6ADDR_ANY else laddr
        found: U | None = None
        badness = 0
        for sk in self.hash2.get((key, dport), ()):
            score = self.compute_score(sk, saddr, sport, laddr)
            if score <= badness:
                continue
            badness = score
            found = sk
            if sk.state != TCP_ESTABLISHED and sk.reuseport_cb:
                group = self.reuseport_group(sk)
                chosen = self.reuseport_select_sock(group, saddr, sport, daddr, dport)
                if chosen is None:
                    continue
                found = chosen
                if all(other.state != TCP_ESTABLISHED for other in group):
                    return found
                badness = self.compute_score(found, saddr, sport, laddr)
        return found

    def compute_score(self, sk: U, saddr: str, sport: int, laddr: str) -> int:
        """compute_score: 0 if the datagram is not for it; connected sockets before others, IPv4's own before dual ones."""
        if is_ipv4(laddr):
            if sk.ipv6only or (sk.laddr != laddr and not (laddr == INADDR_ANY and sk.laddr == IN6ADDR_ANY)):
                return 0
            score = 2 if sk.family == AF_INET else 1
        elif sk.family != AF_INET6 or sk.laddr != laddr:
            return 0
        else:
            score = 1
        if sk.raddr not in (INADDR_ANY, IN6ADDR_ANY):
            if sk.raddr != saddr:
                return 0
            score += 4
        if sk.rport:
            if sk.rport != sport:
                return 0
            score += 4
        return score

    def mcast_deliver(self, skb: UdpSkb) -> None:
        """__udp4_lib_mcast_deliver: a clone to each whom a broadcast concerns, the datagram itself to the first; nobody is no error."""
        found = [sk for sk in self.hash.get(skb.dport, ()) if self.is_mcast_sock(sk, skb)]
        clones = [(sk, skb.clone()) for sk in found[1:]]
        for sk, clone in clones:
            sk.queue_rcv_skb(clone)
        for sk in found[:1]:
            sk.queue_rcv_skb(skb)

    def is_mcast_sock(self, sk: U, skb: UdpSkb) -> bool:
        """__udp_is_mcast_sock: bound to the broadcast address or to any, and not connected to somebody else."""
        if sk.ipv6only or sk.laddr not in (skb.daddr, INADDR_ANY, IN6ADDR_ANY):
            return False
        return sk.raddr in (skb.saddr, INADDR_ANY, IN6ADDR_ANY) and sk.rport in (skb.sport, 0)

    def reuseport_group(self, sk: U) -> list[U]:
        """struct sock_reuseport: those that bound the same address with SO_REUSEPORT, in the order in which they did."""
        same = [
            other
            for other in self.hash[sk.lport]
            if other.reuseport_cb and other.family == sk.family and other.laddr == sk.laddr and other.ipv6only == sk.ipv6only
        ]
        same.reverse()
        return same

    def reuseport_select_sock(self, group: list[U], saddr: str, sport: int, daddr: str, dport: int) -> U | None:
        """By a hash of the four-tuple.  Connected ones are passed over."""
        n = len(group)
        start = self.reuseport.index(saddr, sport, daddr, dport, n)
        for step in range(n):
            sk = group[(start + step) % n]
            if sk.state != TCP_ESTABLISHED:
                return sk
        return None
