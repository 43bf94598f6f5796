"""What the sockets of AF_INET and AF_INET6 share (net/ipv4/af_inet.c, net/ipv6/af_inet6.c): names, bind, and the way to an address.

Addresses are kept as they are on the wire: "127.0.0.1" for IPv4, "::1" for IPv6.  An AF_INET6 socket that speaks IPv4 therefore holds an
IPv4 address, and its program sees ::ffff:127.0.0.1.  A machine has one device, lo, with 127.0.0.0/8 and ::1, unless it is a host of a
network (net_namespace.py).
"""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from simkernel.api import Address
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.net.inet import IPV6_DEFAULT_HOPLIMIT, LO_BROADCAST, is_ipv4, is_local
from simkernel.kernel.net.socket import Sock, Sysctl
from simkernel.kernel.net.sockopt import (
    SIMULATED,
    Option,
    bind_address_no_port,
    do_ip_getsockopt,
    do_ip_setsockopt,
    in_range,
    int_option,
    set_option,
    store,
    switch,
)
from simkernel.kernel.sched import Sched
from simkernel.sockaddr import inet6_addr, inet_addr, unix_path
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    IN6ADDR_ANY,
    IN6ADDR_LOOPBACK,
    INADDR_ANY,
    INADDR_LOOPBACK,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_RECVHOPLIMIT,
    IPV6_RECVTCLASS,
    IPV6_TCLASS,
    IPV6_UNICAST_HOPS,
    IPV6_V6ONLY,
    SOCK_DGRAM,
    SOCK_STREAM,
)

if TYPE_CHECKING:
    from simkernel.kernel.net.net_namespace import Net

SIZEOF_SOCKADDR_IN: Final = 16
# What is required of a struct sockaddr_in6: the scope may be left out.
SIN6_LEN_RFC2133: Final = 24
LOOPBACK_IFINDEX: Final = 1
TCP_SYN_SENT: Final = 2
TCP_CLOSE: Final = 7
MAPPED: Final = "::ffff:"
# The last option of level IPPROTO_IPV6 that Linux may know (netfilter has numbers up to here).
IPV6_LAST: Final = 80


def sockaddr_len(addr: Address) -> int:
    """How long the struct sockaddr of an address is."""
    if isinstance(addr, tuple):
        return 28 if len(addr) == 4 else SIZEOF_SOCKADDR_IN
    path = unix_path(addr)
    return 2 + len(path) + bool(path and path[0])


def inet_sockaddr(addr: Address) -> tuple[str, int]:
    """A struct sockaddr_in: of another family it is EAFNOSUPPORT, but one that is too short for it EINVAL."""
    if isinstance(addr, tuple) and len(addr) == 2:
        return inet_addr(addr)
    raise oserror(errno.EINVAL if sockaddr_len(addr) < SIZEOF_SOCKADDR_IN else errno.EAFNOSUPPORT)


def inet6_sockaddr(addr: Address) -> tuple[str, int, int]:
    """A struct sockaddr_in6: the address as on the wire, the port and the scope.  Errors as of inet_sockaddr; AF_INET's is too short."""
    if isinstance(addr, tuple) and len(addr) == 4:
        host, port, _, scope_id = inet6_addr(addr)
        return on_wire(host), port, scope_id
    raise oserror(errno.EINVAL if sockaddr_len(addr) < SIN6_LEN_RFC2133 else errno.EAFNOSUPPORT)


def on_wire(host: str) -> str:
    """An IPv6 address, or the IPv4 one that is mapped into it."""
    return host[len(MAPPED) :] if host.startswith(MAPPED) and "." in host else host


def inet6_name(addr: str, port: int) -> Address:
    """A struct sockaddr_in6 for a program.  Flow labels are not sent, and no address here has a scope."""
    return (MAPPED + addr if is_ipv4(addr) else addr), port, 0, 0


def is_multicast(host: str) -> bool:
    """224.0.0.0/4 or ff00::/8."""
    return 224 <= int(host.split(".", 1)[0]) <= 239 if is_ipv4(host) else host.startswith("ff") and host.index(":") == 4


def is_broadcast(host: str) -> bool:
    """The broadcast addresses of this machine: of the network of lo, and of any."""
    return host in (LO_BROADCAST, "255.255.255.255")


def needs_scope(host: str) -> bool:
    """__ipv6_addr_needs_scope_id: fe80::/10, and what is multicast on the link or the interface only (ff01::, ff02::)."""
    head = host.split(":", 1)[0]
    return len(head) == 4 and (head[:3] in ("fe8", "fe9", "fea", "feb") or (head[:2] == "ff" and head[3] in "12"))


def show(addr: str, port: int) -> str:
    """An address and a port for people."""
    return f"{addr}:{port}" if is_ipv4(addr) else f"[{addr}]:{port}"


class InetSock(Sock):
    """struct inet_sock.

    ``laddr`` is inet_rcv_saddr, where it hears; ``lport`` inet_num, the port it holds; ``sport`` inet_sport, which getsockname tells even
    when the port has been given back.  ``raddr`` and ``rport`` are the peer's.  The locks say what bind was told, and a reset keeps.
    ``net`` is the host that it is on.
    """

    __slots__ = ("bindaddr_lock", "bindport_lock", "ipv6only", "laddr", "lport", "net", "raddr", "rport", "sport")

    def __init__(self, sched: Sched, sysctl: Sysctl, net: "Net", family: int, type: int, protocol: int) -> None:
        super().__init__(sched, sysctl, family, type, protocol)
        self.net = net
        self.state = TCP_CLOSE
        self.laddr = self.raddr = IN6ADDR_ANY if family == AF_INET6 else INADDR_ANY
        self.lport = 0
        self.sport = 0
        self.rport = 0
        self.bindaddr_lock = False
        self.bindport_lock = False
        self.ipv6only = False

    # --- names ---
    def getname(self, peer: bool) -> Address:
        """inet_getname, inet6_getname."""
        if not peer:
            addr, port = self.laddr, self.sport
        elif not self.rport or self.state in (TCP_CLOSE, TCP_SYN_SENT):
            raise oserror(errno.ENOTCONN)
        else:
            addr, port = self.raddr, self.rport
        return (addr, port) if self.family == AF_INET else inet6_name(addr, port)

    def accepted_name(self) -> Address:
        return (self.raddr, self.rport) if self.family == AF_INET else inet6_name(self.raddr, self.rport)

    def reset_saddr(self) -> None:
        """inet_reset_saddr."""
        self.laddr = IN6ADDR_ANY if self.family == AF_INET6 else INADDR_ANY

    # --- bind ---
    def get_port(self, port: int) -> int:
        """The protocol's get_port: take ``port``, or a free one for 0.  EADDRINUSE."""
        raise NotImplementedError

    def bind(self, addr: Address) -> None:
        """inet_bind, inet6_bind.  A specific IPv6 address makes the socket IPV6_V6ONLY."""
        if self.family == AF_INET6:
            host, port, scope_id = inet6_sockaddr(addr)
            if is_multicast(host) and not is_ipv4(host) and self.type == SOCK_STREAM:
                raise oserror(errno.EINVAL)
            self._bind_once()
            self._check_bind6(host, scope_id)
        else:
            host, port = inet_sockaddr(addr)
            self._check_bind4(host)
            self._bind_once()
        self.laddr = host
        ipv6only = self.ipv6only
        if not is_ipv4(host) and host != IN6ADDR_ANY:
            self.ipv6only = True
        try:
            if port or not bind_address_no_port(self):
                self.lport = self.get_port(port)
        except OSError:
            self.ipv6only = ipv6only
            self.reset_saddr()
            raise
        self.sport = self.lport
        self.bindaddr_lock = host != (IN6ADDR_ANY if self.family == AF_INET6 else INADDR_ANY)
        self.bindport_lock = port != 0

    def _bind_once(self) -> None:
        if self.state != TCP_CLOSE or self.lport:
            raise oserror(errno.EINVAL)

    def _check_bind4(self, host: str) -> None:
        """inet_addr_valid_or_nonlocal."""
        if is_broadcast(host) and self.family == AF_INET and self.type == SOCK_DGRAM:
            return
        if is_multicast(host) or is_broadcast(host):
            raise Unsupported(f"bind to the multicast or broadcast address {host} is not modelled")
        if host != INADDR_ANY and not self.net.is_local(host):
            raise oserror(errno.EADDRNOTAVAIL)

    def _check_bind6(self, host: str, scope_id: int) -> None:
        if is_ipv4(host):
            if self.ipv6only:
                raise oserror(errno.EINVAL)
            self._check_bind4(host)
        elif host != IN6ADDR_ANY:
            if needs_scope(host):
                if not scope_id:
                    raise oserror(errno.EINVAL)
                if scope_id != LOOPBACK_IFINDEX:
                    raise oserror(errno.ENODEV)
            if is_multicast(host):
                raise Unsupported(f"bind to the multicast address {host} is not modelled")
            if not is_local(host):
                raise oserror(errno.EADDRNOTAVAIL)

    # --- the way to an address ---
    def route_v4(self, host: str) -> tuple[str, str]:
        """ip_route_output: (source, destination).  0.0.0.0 is this machine.  ENETUNREACH for what is on no network of ours."""
        laddr = self.laddr
        # An IPv6 address has no IPv4 twin, and a broadcast address is no source: as if unbound.
        source = laddr if is_ipv4(laddr) and laddr != INADDR_ANY and not is_broadcast(laddr) else ""
        if host == INADDR_ANY:
            host = source or INADDR_LOOPBACK
        if is_ipv4(host) and (is_local(host) or (host == LO_BROADCAST and self.type == SOCK_DGRAM)):
            return source or INADDR_LOOPBACK, host
        net = self.net
        if net.route(host) is not net.lo and source and is_local(source):
            # __mkroute_output: what is lo's does not leave the machine.
            raise oserror(errno.EINVAL)
        return source or net.source(host), host

    def route_v6(self, host: str) -> tuple[str, str]:
        """ip6_dst_lookup: (source, destination).  EAFNOSUPPORT from a socket that is bound to an IPv4 address."""
        if not is_local(host):
            raise oserror(errno.ENETUNREACH)
        if is_ipv4(self.laddr):
            raise oserror(errno.EAFNOSUPPORT)
        return (IN6ADDR_LOOPBACK if self.laddr == IN6ADDR_ANY else self.laddr), host

    def this_machine(self) -> str:
        """What :: means as a destination: the loopback of the family that the socket is bound to."""
        return INADDR_LOOPBACK if is_ipv4(self.laddr) else IN6ADDR_LOOPBACK

    # --- options ---
    def inet_setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """ip_setsockopt, ipv6_setsockopt: the levels below the protocol's own."""
        if level == IPPROTO_IP:
            do_ip_setsockopt(self, name, value)
        elif level != IPPROTO_IPV6 or self.family != AF_INET6:
            raise oserror(errno.ENOPROTOOPT)
        elif name in IPV6_OPTIONS:
            set_option(self, IPV6_OPTIONS[name], int_option(value), value)
        else:
            raise self.ipv6_unknown(name, "setsockopt")

    def inet_getsockopt(self, level: int, name: int) -> int | bytes:
        """ip_getsockopt, ipv6_getsockopt, which differ in what they say of a level that is none."""
        if level == IPPROTO_IP:
            return do_ip_getsockopt(self, name)
        if self.family != AF_INET6:
            raise oserror(errno.EOPNOTSUPP)
        if level != IPPROTO_IPV6:
            raise oserror(errno.ENOPROTOOPT)
        if name in IPV6_OPTIONS:
            found: int = IPV6_OPTIONS[name].get(self)
            return found
        raise self.ipv6_unknown(name, "getsockopt")

    def ipv6_unknown(self, name: int, call: str) -> Exception:
        """Why an option of level IPPROTO_IPV6 is not to be had."""
        if 0 < name <= IPV6_LAST:
            return Unsupported(f"{call}(IPPROTO_IPV6, {name}) is not modelled")
        return oserror(errno.ENOPROTOOPT)


def set_v6only(sk: InetSock, val: int) -> None:
    """IPV6_V6ONLY, until there is a port."""
    if sk.lport:
        raise oserror(errno.EINVAL)
    sk.ipv6only = val != 0


def kept_v6(number: int, name: str, default: int, check: Callable[[int], int]) -> Option:
    """An option that udp.py reads where it is kept; -1 is the default."""

    def read(sk: InetSock) -> int:
        val = default if sk.stored is None else sk.stored.get((IPPROTO_IPV6, number), default)
        return default if val < 0 else val

    def write(sk: InetSock, val: int) -> None:
        store(sk, IPPROTO_IPV6, number, check(val))

    return Option(IPPROTO_IPV6, number, name, SIMULATED, read, write, where="AF_INET6")


IPPROTO_IPV6_TABLE: Final = (
    Option(IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY", SIMULATED, lambda sk: int(sk.ipv6only), set_v6only, where="AF_INET6"),
    kept_v6(IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", IPV6_DEFAULT_HOPLIMIT, in_range(-1, 255)),
    kept_v6(IPV6_TCLASS, "IPV6_TCLASS", 0, in_range(-1, 255)),
    kept_v6(IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT", 0, switch),
    kept_v6(IPV6_RECVTCLASS, "IPV6_RECVTCLASS", 0, switch),
)
IPV6_OPTIONS: Final = {option.number: option for option in IPPROTO_IPV6_TABLE}
