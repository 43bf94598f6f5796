"""Ports and who has them (net/ipv4/inet_hashtables.c, inet_connection_sock.c, inet_timewait_sock.c)."""

import errno
from typing import TYPE_CHECKING, Final, Protocol

from simkernel.errors import oserror
from simkernel.kernel.sched import Sched
from simkernel.uapi import AF_INET, IN6ADDR_ANY, IN6ADDR_LOOPBACK, INADDR_ANY, NSEC_PER_SEC

if TYPE_CHECKING:
    from simkernel.kernel.net.loopback import Loopback
    from simkernel.kernel.net.net_namespace import Net
    from simkernel.kernel.net.socket import Sysctl
    from simkernel.kernel.net.tcp import TcpSock

TIME_WAIT_LEN: Final = 60 * NSEC_PER_SEC
TCP_LISTEN: Final = 10
# inet_rcv_saddr of an AF_INET6 socket whose address has no IPv4 form (LOOPBACK4_IPV6, include/net/ipv6.h).
LOOPBACK4_IPV6: Final = "127.0.0.6"
# The broadcast address of lo's network.
IPV6_DEFAULT_HOPLIMIT: Final = 64
LO_BROADCAST: Final = "127.255.255.255"


def is_ipv4(host: str) -> bool:
    """Whether an address, as on the wire, is IPv4's."""
    return ":" not in host


def is_local(host: str) -> bool:
    """Whether an address is lo's: 127.0.0.0/8 but its broadcast address, and ::1."""
    return (host.startswith("127.") and host != LO_BROADCAST) or host == IN6ADDR_LOOPBACK


class BoundAddr(Protocol):
    """What has a local address, and maybe speaks IPv6 alone."""

    family: int
    ipv6only: bool
    laddr: str


def rcv_saddr_equal(sk: BoundAddr, sk2: BoundAddr) -> bool:
    """inet_rcv_saddr_equal: whether both hear at one address, a wildcard matching all.  ``sk`` is the one that wants to bind."""
    addr, addr2 = sk.laddr, sk2.laddr
    if sk.family == AF_INET or (is_ipv4(addr) and is_ipv4(addr2)):
        # ipv4_rcv_saddr_equal
        if sk2.ipv6only:
            return False
        if not is_ipv4(addr2):
            addr2 = INADDR_ANY if addr2 == IN6ADDR_ANY else LOOPBACK4_IPV6
        return addr == addr2 or INADDR_ANY in (addr, addr2)
    # ipv6_rcv_saddr_equal
    if addr == addr2:
        return True
    if addr2 == IN6ADDR_ANY and not (sk2.ipv6only and is_ipv4(addr)):
        return True
    return addr == IN6ADDR_ANY and not (sk.ipv6only and is_ipv4(addr2))


class TimeWait:
    """inet_timewait_sock: what is left of a connection that we closed first, until ``expires``."""

    __slots__ = ("expires", "family", "ipv6only", "laddr", "lport", "raddr", "reuseaddr", "reuseport", "rport", "state")

    def __init__(self, sk: "TcpSock", expires: int) -> None:
        self.family = sk.family
        self.ipv6only = sk.ipv6only
        self.laddr, self.lport = sk.laddr, sk.lport
        self.raddr, self.rport = sk.raddr, sk.rport
        self.reuseaddr = sk.reuseaddr
        self.reuseport = sk.reuseport
        self.expires = expires
        self.state = 6


class ReuseportHash:
    """Which socket of a group of SO_REUSEPORT a four-tuple is for: by a hash that is keyed by chance, so a choice, but always the same."""

    __slots__ = ("keys", "sched")

    def __init__(self, sched: Sched) -> None:
        self.sched = sched
        self.keys: dict[tuple[str, int, str, int], int] = {}

    def index(self, saddr: str, sport: int, daddr: str, dport: int, n: int) -> int:
        """The place in a group of ``n``.  Without a choice, one after the other as clients' ports go: connect takes every second."""
        four = (saddr, sport, daddr, dport)
        key = self.keys.get(four)
        if key is None:
            key = self.keys[four] = (sport >> 1) + self.sched.choice.pick(n, "reuseport")
        return key % n


class InetTable:
    """inet_hashinfo of a host: bound ports, connections by their four-tuple, and listeners.  ``device`` is lo.

    ``requests`` are the connections that a SYN over a link has begun, until the handshake is done (request_sock).
    """

    __slots__ = ("bound", "device", "established", "listeners", "net", "next_even", "next_odd", "requests", "reuseport", "sched", "sysctl")

    def __init__(self, sched: Sched, sysctl: "Sysctl", device: "Loopback", net: "Net") -> None:
        self.sched = sched
        self.sysctl = sysctl
        self.device = device
        self.net = net
        self.reuseport = ReuseportHash(sched)
        self.bound: dict[int, list[TcpSock | TimeWait]] = {}
        self.established: dict[tuple[str, int, str, int], TcpSock] = {}
        self.requests: dict[tuple[str, int, str, int], TcpSock] = {}
        self.listeners: dict[int, list[TcpSock]] = {}
        self.next_even = self.next_odd = 0
        self.set_port_range()

    def set_port_range(self) -> None:
        """The sysctl has changed: the next free ports are looked for from its beginning on."""
        low = self.sysctl.port_range[0]
        self.next_even = low + low % 2
        self.next_odd = low + 1 - low % 2

    # --- bind ---
    def owners(self, port: int) -> "list[TcpSock | TimeWait]":
        """Who has the port now; what TIME_WAIT has expired is forgotten here, not by a timer."""
        owners = self.bound.get(port)
        if owners is None:
            return []
        now = self.sched.clock.now
        live = [o for o in owners if not (isinstance(o, TimeWait) and o.expires <= now)]
        if len(live) != len(owners):
            self._keep(port, live)
        return live

    def _keep(self, port: int, owners: "list[TcpSock | TimeWait]") -> None:
        if owners:
            self.bound[port] = owners
        else:
            self.bound.pop(port, None)

    def get_port(self, sk: "TcpSock", port: int) -> int:
        """inet_csk_get_port: bind ``sk``.  0 asks for a free one: odd ones are for bind, even ones for connect.  EADDRINUSE."""
        if port == 0:
            port = self._ephemeral(odd=True)
        elif self.conflict(sk, port):
            raise oserror(errno.EADDRINUSE)
        self.bound.setdefault(port, []).append(sk)
        return port

    def check_listen(self, sk: "TcpSock") -> None:
        """listen on a port that is bound already: EADDRINUSE if somebody else listens there."""
        if self.conflict(sk, sk.lport):
            raise oserror(errno.EADDRINUSE)

    def conflict(self, sk: "TcpSock", port: int) -> bool:
        """inet_csk_bind_conflict: shared only if all have SO_REUSEADDR and none listens, or all have SO_REUSEPORT."""
        for other in self.owners(port):
            if other is sk:
                continue
            if not rcv_saddr_equal(sk, other):
                continue
            if sk.reuseport and other.reuseport:
                continue
            if sk.reuseaddr and other.reuseaddr and other.state != TCP_LISTEN:
                continue
            return True
        return False

    def put_port(self, sk: "TcpSock") -> None:
        """inet_put_port: the socket gives its port back."""
        port = sk.lport
        if port:
            owners = self.bound.get(port)
            if owners is not None and sk in owners:
                owners.remove(sk)
                self._keep(port, owners)
            sk.lport = 0

    def inherit_port(self, child: "TcpSock") -> None:
        """__inet_inherit_port: a connection keeps the port of its listener taken."""
        self.bound.setdefault(child.lport, []).append(child)
        self.established[child.laddr, child.lport, child.raddr, child.rport] = child

    def _ephemeral(self, odd: bool) -> int:
        low, high = self.sysctl.port_range
        start = self.next_odd if odd else self.next_even
        span = high - low + 1
        for step in range(0, 2 * span, 2):
            # First all ports of our parity, then those of the other.
            port = low + (start - low + step + (1 if step >= span else 0)) % span
            if not self.owners(port):
                if odd:
                    self.next_odd = port + 2
                else:
                    self.next_even = port + 2
                return port
        raise oserror(errno.EADDRINUSE if odd else errno.EADDRNOTAVAIL)

    # --- connect ---
    def hash_connect(self, sk: "TcpSock", laddr: str, raddr: str, rport: int) -> None:
        """inet_hash_connect: a local port for the connection.  EADDRNOTAVAIL if the four-tuple is taken."""
        lport = sk.lport or self._ephemeral(odd=False)
        key = (laddr, lport, raddr, rport)
        if key in self.established:
            raise oserror(errno.EADDRNOTAVAIL)
        if not sk.lport:
            sk.lport = lport
            self.bound.setdefault(lport, []).append(sk)
        self.established[key] = sk

    def unhash(self, sk: "TcpSock") -> None:
        """inet_unhash: the four-tuple of a connection that is over is free, and a listener hears no more."""
        if sk.state == TCP_LISTEN:
            listeners = self.listeners[sk.lport]
            listeners.remove(sk)
            if not listeners:
                del self.listeners[sk.lport]
            return
        key = (sk.laddr, sk.lport, sk.raddr, sk.rport)
        if self.established.get(key) is sk:
            del self.established[key]

    def time_wait(self, sk: "TcpSock") -> None:
        """tcp_time_wait: keep the port for TIME_WAIT_LEN."""
        self.bound.setdefault(sk.lport, []).append(TimeWait(sk, self.sched.clock.now + TIME_WAIT_LEN))

    def lookup_listener(self, saddr: str, sport: int, addr: str, port: int) -> "TcpSock | None":
        """__inet_lookup_listener, inet6_lookup_listener: the very address before any, and IPv4's own before those that speak both.

        Of those with SO_REUSEPORT the one that a hash of the four-tuple says.
        """
        listeners = self.listeners.get(port, ())
        if len(listeners) == 1 and listeners[0].laddr == addr:
            return listeners[0]
        v4 = is_ipv4(addr)
        any_addr = INADDR_ANY if v4 else IN6ADDR_ANY
        found: list[TcpSock] = []
        best = 0
        for sk in listeners:
            if sk.laddr == addr:
                score = 3
            elif sk.laddr == any_addr or (v4 and sk.laddr == IN6ADDR_ANY and not sk.ipv6only):
                score = 1
            else:
                continue
            if sk.family == AF_INET:
                score += 1
            if score > best:
                found, best = [sk], score
            elif score == best and sk.reuseport:
                found.append(sk)
        if not found:
            return None
        return found[0] if len(found) == 1 else found[self.reuseport.index(saddr, sport, addr, port, len(found))]
