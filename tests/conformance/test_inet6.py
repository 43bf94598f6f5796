"""AF_INET6: names, TCP and UDP over ::1, IPv4 through an IPv6 socket, and who may share a port."""

import pytest

from simkernel.api import Address, Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    EPOLLET,
    EPOLLIN,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_DOMAIN,
    SO_LINGER,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import FULL_ERR, IDLE, World, err, inet_name, mask, ready, settle, watch

BOTH = pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM], ids=["tcp", "udp"])


def port_of(sys: Syscalls, fd: int) -> int:
    """The port of getsockname."""
    name = sys.getsockname(fd)
    assert isinstance(name, tuple)
    return name[1]


def free_port(sys: Syscalls, kind: int) -> int:
    """A port that nobody has, neither over IPv4 nor over IPv6: other programs may hold one that is free in one family alone."""
    fd = sys.socket(AF_INET6, kind)
    sys.bind(fd, ("::", 0, 0, 0))
    port = port_of(sys, fd)
    sys.close(fd)
    return port


def bound6(sys: Syscalls, kind: int, host: str = "::1") -> tuple[int, int]:
    """A socket bound to ``host`` and a port of the kernel's choice."""
    fd = sys.socket(AF_INET6, kind)
    sys.bind(fd, (host, 0, 0, 0))
    return fd, port_of(sys, fd)


def listener6(sys: Syscalls, host: str = "::1") -> tuple[int, int]:
    """A listening TCP socket and its port."""
    fd, port = bound6(sys, SOCK_STREAM, host)
    sys.listen(fd, 8)
    return fd, port


@BOTH
def test_fresh_names(world: World, kind: int) -> None:
    """A fresh socket is ::, port 0; SO_DOMAIN tells the family; bound it has the name that inet_ntop writes."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET6, kind)
        assert sys.getsockname(fd) == ("::", 0, 0, 0)
        assert err(sys.getpeername, fd) == "ENOTCONN"
        assert sys.getsockopt(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6
        sys.bind(fd, ("0:0:0:0:0:0:0:1", 0, 0, 0))
        assert sys.getsockname(fd) == ("::1", port_of(sys, fd), 0, 0)
        mapped = sys.socket(AF_INET6, kind)
        sys.bind(mapped, ("::FFFF:7f00:1", 0, 0, 0))
        assert sys.getsockname(mapped) == ("::ffff:127.0.0.1", port_of(sys, mapped), 0, 0)
        empty = sys.socket(AF_INET6, kind)
        sys.bind(empty, ("", 0, 0, 0))
        assert sys.getsockname(empty) == ("::", port_of(sys, empty), 0, 0)

    world.run(main)


def test_flowinfo_and_scope_are_not_kept(world: World) -> None:
    """A flow label and the scope of an address that needs none are taken and forgotten."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET6, SOCK_DGRAM)
        sys.bind(fd, ("::1", 0, 0xFFFFF, 2**32 - 1))
        assert sys.getsockname(fd) == ("::1", port_of(sys, fd), 0, 0)
        sys.connect(fd, ("::1", 9, 5, 6))
        assert sys.getpeername(fd) == ("::1", 9, 0, 0)

    world.run(main)


@pytest.mark.parametrize(
    ("addr", "error"),
    [
        (("::1", 1, 0), TypeError),
        (("::1", 1, 0, 0, 0), TypeError),
        ((b"::1", 1, 0, 0), TypeError),
        (("::1", 1.0, 0, 0), TypeError),
        (("::1", 1, "", 0), TypeError),
        (("::1", 1, 0, None), TypeError),
        (("localhost", 1, 0, 0), ValueError),
        (("127.0.0.1", 1, 0, 0), ValueError),
        (("::1%lo", 1, 0, 0), ValueError),
        (("::g", 1, 0, 0), ValueError),
        (("::1\0", 1, 0, 0), ValueError),
        (("::1", 65536, 0, 0), OverflowError),
        (("::1", -1, 0, 0), OverflowError),
        (("::1", 1, 2**20, 0), OverflowError),
        (("::1", 1, -1, 0), OverflowError),
        (("::1", 1, 0, 2**32), OverflowError),
        (("::1", 1, 0, -1), OverflowError),
    ],
)
def test_addresses_that_python_refuses(world: World, addr: tuple[object, ...], error: type[Exception]) -> None:
    """What is no AF_INET6 address at all never reaches a kernel."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET6, SOCK_DGRAM)
        calls: list[tuple[object, ...]] = [(sys.bind, fd, addr), (sys.connect, fd, addr), (sys.sendto, fd, b"x", 0, addr)]
        for call, *args in calls:
            with pytest.raises(error):
                call(*args)  # type: ignore[operator]
        assert sys.getsockname(fd) == ("::", 0, 0, 0)

    world.run(main)


@BOTH
def test_addresses_of_other_families(world: World, kind: int) -> None:
    """bind and connect on AF_INET6: a struct sockaddr_in is too short (EINVAL), but UDP connects to one; AF_UNIX by its length."""

    def main(sys: Syscalls) -> None:
        for addr, code in (("/x", "EINVAL"), ("/a-path-of-more-than-22-bytes", "EAFNOSUPPORT")):
            fd = sys.socket(AF_INET6, kind)
            assert err(sys.bind, fd, addr) == code
            assert err(sys.connect, fd, addr) == code
        fd = sys.socket(AF_INET6, kind)
        assert err(sys.bind, fd, ("127.0.0.1", 0)) == "EINVAL"
        assert err(sys.connect, fd, ("127.0.0.1", 9)) == ("EINVAL" if kind == SOCK_STREAM else None)
        four = sys.socket(AF_INET, kind)
        assert err(sys.bind, four, ("::1", 0, 0, 0)) == "EAFNOSUPPORT"
        assert err(sys.connect, four, ("::1", 9, 0, 0)) == "EAFNOSUPPORT"
        unix = sys.socket(AF_UNIX, SOCK_STREAM)
        assert err(sys.bind, unix, ("::1", 0, 0, 0)) == "EINVAL"
        assert err(sys.connect, unix, ("::1", 0, 0, 0)) == "EINVAL"

    world.run(main)


def test_udp_sendto_other_families(world: World) -> None:
    """sendto on AF_INET6 takes an AF_INET address; AF_UNIX is EINVAL, whatever its length."""

    def main(sys: Syscalls) -> None:
        fd, port = bound6(sys, SOCK_DGRAM, "::")
        assert sys.sendto(fd, b"x", 0, ("127.0.0.1", port)) == 1
        assert sys.recvfrom(fd, 9) == (b"x", ("::ffff:127.0.0.1", port, 0, 0))
        assert err(sys.sendto, fd, b"x", 0, "/x") == "EINVAL"
        assert err(sys.sendto, fd, b"x", 0, "/a-path-of-more-than-22-bytes") == "EINVAL"

    world.run(main)


def test_tcp_over_ipv6(world: World) -> None:
    """A connection over ::1: all names, data both ways, the end."""

    def main(sys: Syscalls) -> None:
        listening, port = listener6(sys)
        ours = sys.socket(AF_INET6, SOCK_STREAM)
        sys.connect(ours, ("::1", port, 0, 0))
        theirs, addr = sys.accept4(listening)
        assert addr == sys.getpeername(theirs) == sys.getsockname(ours) == ("::1", port_of(sys, ours), 0, 0)
        assert sys.getsockname(theirs) == sys.getpeername(ours) == ("::1", port, 0, 0)
        assert sys.getsockopt(theirs, SOL_SOCKET, SO_DOMAIN) == AF_INET6
        assert mask(sys, ours) == IDLE
        sys.send(ours, b"ping")
        assert sys.recv(theirs, 9) == b"ping"
        sys.send(theirs, b"pong")
        assert sys.recv(ours, 9) == b"pong"
        sys.close(theirs)
        assert sys.recv(ours, 9) == b""

    world.run(main)


def test_tcp_refused_over_ipv6(world: World) -> None:
    """Nobody listens: ECONNREFUSED, also where somebody listens on the same port of IPv4."""

    def main(sys: Syscalls) -> None:
        four = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(four, ("0.0.0.0", 0))
        sys.listen(four, 1)
        port = inet_name(sys, four)[1]
        fd = sys.socket(AF_INET6, SOCK_STREAM)
        assert err(sys.connect, fd, ("::1", port, 0, 0)) == "ECONNREFUSED"
        fd = sys.socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK)
        assert err(sys.connect, fd, ("::1", port, 0, 0)) == "EINPROGRESS"
        assert mask(sys, fd) == FULL_ERR

    world.run(main)


@BOTH
def test_connect_to_any(world: World, kind: int) -> None:
    """Fact 54 for IPv6: :: means ::1; from a socket that is bound to an IPv4 address 127.0.0.1, and ::ffff:0.0.0.0 means that too."""

    def main(sys: Syscalls) -> None:
        listening, port = bound6(sys, kind, "::")
        if kind == SOCK_STREAM:
            sys.listen(listening, 8)
        fd = sys.socket(AF_INET6, kind)
        sys.connect(fd, ("::", port, 0, 0))
        assert sys.getpeername(fd) == ("::1", port, 0, 0)
        assert sys.getsockname(fd) == ("::1", port_of(sys, fd), 0, 0)
        fd, _ = bound6(sys, kind, "::ffff:127.0.0.1")
        sys.connect(fd, ("::", port, 0, 0))
        assert sys.getpeername(fd) == ("::ffff:127.0.0.1", port, 0, 0)
        fd = sys.socket(AF_INET6, kind)
        sys.connect(fd, ("::ffff:0.0.0.0", port, 0, 0))
        assert sys.getpeername(fd) == ("::ffff:127.0.0.1", port, 0, 0)

    world.run(main)


def test_tcp_dual_stack(world: World) -> None:
    """A listener on :: takes IPv4 too, whose names are ::ffff:127.0.0.1; the IPv4 client sees plain names."""

    def main(sys: Syscalls) -> None:
        listening, port = listener6(sys, "::")
        for host in ("127.0.0.1", "127.0.0.2"):
            four = sys.socket(AF_INET, SOCK_STREAM)
            sys.connect(four, (host, port))
            theirs, addr = sys.accept4(listening)
            assert addr == ("::ffff:127.0.0.1", inet_name(sys, four)[1], 0, 0)
            assert sys.getsockname(theirs) == (f"::ffff:{host}", port, 0, 0)
            assert sys.getpeername(four) == (host, port)
            assert sys.getsockopt(theirs, SOL_SOCKET, SO_DOMAIN) == AF_INET6
            sys.send(four, b"x")
            assert sys.recv(theirs, 9) == b"x"

    world.run(main)


def test_v6only_takes_no_ipv4(world: World) -> None:
    """IPV6_V6ONLY: an IPv4 client is refused, and an IPv4 listener may have the port."""

    def main(sys: Syscalls) -> None:
        port = free_port(sys, SOCK_STREAM)
        listening = sys.socket(AF_INET6, SOCK_STREAM)
        sys.setsockopt(listening, IPPROTO_IPV6, IPV6_V6ONLY, 1)
        sys.bind(listening, ("::", port, 0, 0))
        sys.listen(listening, 8)
        four = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.connect, four, ("127.0.0.1", port)) == "ECONNREFUSED"
        other = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(other, ("0.0.0.0", port))
        sys.listen(other, 1)
        sys.connect(four, ("127.0.0.1", port))
        assert sys.accept4(other)[1] == sys.getsockname(four)
        six = sys.socket(AF_INET6, SOCK_STREAM)
        sys.connect(six, ("::1", port, 0, 0))
        assert sys.accept4(listening)[1] == sys.getsockname(six)

    world.run(main)


def test_the_ipv4_listener_comes_first(world: World) -> None:
    """With SO_REUSEPORT both a :: and a 0.0.0.0 listener may have a port: IPv4 goes to the latter, IPv6 to the former."""

    def main(sys: Syscalls) -> None:
        port = free_port(sys, SOCK_STREAM)
        six = sys.socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK)
        four = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        for fd in (six, four):
            sys.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1)
        sys.bind(six, ("::", port, 0, 0))
        sys.bind(four, ("0.0.0.0", port))
        for fd in (six, four):
            sys.listen(fd, 4)
        client = sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(client, ("127.0.0.1", port))
        assert err(sys.accept4, six) == "EAGAIN"
        assert sys.accept4(four)[1] == sys.getsockname(client)
        client = sys.socket(AF_INET6, SOCK_STREAM)
        sys.connect(client, ("::1", port, 0, 0))
        assert err(sys.accept4, four) == "EAGAIN"
        assert sys.accept4(six)[1] == sys.getsockname(client)

    world.run(main)


@BOTH
def test_v6only_option(world: World, kind: int) -> None:
    """0 at first; it can be set until there is a port, then EINVAL.  bind to ::1 sets it, to :: or a mapped address not."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET6, kind)
        assert sys.getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0
        sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 5)
        assert sys.getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 1
        assert err(sys.setsockopt, fd, IPPROTO_IPV6, IPV6_V6ONLY, b"\1") == "EINVAL"
        assert err(sys.bind, fd, ("::ffff:127.0.0.1", 0, 0, 0)) == "EINVAL"
        sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)
        sys.bind(fd, ("::1", 0, 0, 0))
        assert sys.getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 1
        assert err(sys.setsockopt, fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) == "EINVAL"
        for host in ("::", "::ffff:127.0.0.1"):
            other, _ = bound6(sys, kind, host)
            assert sys.getsockopt(other, IPPROTO_IPV6, IPV6_V6ONLY) == 0

    world.run(main)


@BOTH
def test_v6only_on_ipv4(world: World, kind: int) -> None:
    """An AF_INET socket has no such level: ENOPROTOOPT to set, EOPNOTSUPP to get."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, kind)
        assert err(sys.setsockopt, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) == "ENOPROTOOPT"
        assert err(sys.getsockopt, fd, IPPROTO_IPV6, IPV6_V6ONLY) == "EOPNOTSUPP"

    world.run(main)


@BOTH
def test_v6only_reaches_no_ipv4(world: World, kind: int) -> None:
    """An IPV6_V6ONLY socket does not connect to a mapped address: ENETUNREACH.  So one that is bound to ::1."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET6, kind)
        sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
        assert err(sys.connect, fd, ("::ffff:127.0.0.1", 9, 0, 0)) == "ENETUNREACH"
        fd, _ = bound6(sys, kind)
        assert err(sys.connect, fd, ("::ffff:127.0.0.1", 9, 0, 0)) == "ENETUNREACH"
        if kind == SOCK_DGRAM:
            assert err(sys.connect, fd, ("127.0.0.1", 9)) == "EAFNOSUPPORT"
            assert err(sys.sendto, fd, b"x", 0, ("::ffff:127.0.0.1", 9, 0, 0)) == "ENETUNREACH"
            assert err(sys.sendto, fd, b"x", 0, ("127.0.0.1", 9)) == "ENETUNREACH"

    world.run(main)


@BOTH
def test_ipv4_bound_reaches_no_ipv6(world: World, kind: int) -> None:
    """A socket that is bound to a mapped address does not reach ::1: EAFNOSUPPORT."""

    def main(sys: Syscalls) -> None:
        fd, _ = bound6(sys, kind, "::ffff:127.0.0.1")
        assert err(sys.connect, fd, ("::1", 9, 0, 0)) == "EAFNOSUPPORT"
        if kind == SOCK_DGRAM:
            assert err(sys.sendto, fd, b"x", 0, ("::1", 9, 0, 0)) == "EAFNOSUPPORT"

    world.run(main)


def test_mapped_client(world: World) -> None:
    """An AF_INET6 socket connects to an IPv4 listener by ::ffff:127.0.0.1, and is plain IPv4 for the other side."""

    def main(sys: Syscalls) -> None:
        four = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(four, ("127.0.0.1", 0))
        sys.listen(four, 1)
        port = inet_name(sys, four)[1]
        fd = sys.socket(AF_INET6, SOCK_STREAM)
        sys.connect(fd, ("::ffff:127.0.0.1", port, 0, 0))
        assert sys.getsockname(fd) == ("::ffff:127.0.0.1", port_of(sys, fd), 0, 0)
        assert sys.getpeername(fd) == ("::ffff:127.0.0.1", port, 0, 0)
        assert sys.accept4(four)[1] == ("127.0.0.1", port_of(sys, fd))

    world.run(main)


@BOTH
@pytest.mark.parametrize("v6only", [False, True])
@pytest.mark.parametrize("first", ["0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:0.0.0.0", "::ffff:127.0.0.1"])
def test_bind_conflicts(world: World, kind: int, v6only: bool, first: str) -> None:
    """Who holds a port against whom (inet_rcv_saddr_equal): a wildcard holds its own family, :: IPv4 too unless IPV6_V6ONLY."""
    if v6only and first.startswith("::ffff:"):
        pytest.skip("IPV6_V6ONLY forbids a mapped address")

    def new(sys: Syscalls, host: str, only: bool) -> int:
        fd = sys.socket(AF_INET6 if ":" in host else AF_INET, kind)
        if ":" in host:
            sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, only)
        return fd

    def addr(host: str, port: int) -> Address:
        return (host, port, 0, 0) if ":" in host else (host, port)

    def main(sys: Syscalls) -> None:
        port = free_port(sys, kind)
        holder = new(sys, first, v6only)
        sys.bind(holder, addr(first, port))
        speaks4 = ":" not in first or first.startswith("::ffff:") or (first == "::" and not v6only)
        held4 = {"0.0.0.0", "127.0.0.1", "127.0.0.2"} if first in ("0.0.0.0", "::", "::ffff:0.0.0.0") else {"0.0.0.0", "127.0.0.1"}
        for host in ("0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:127.0.0.2"):
            for only in (False, True) if host in ("::", "::1") else (False,):
                plain = host.removeprefix("::ffff:")
                if ":" not in plain:
                    taken = speaks4 and plain in held4
                elif host == "::":
                    taken = first in ("::", "::1") or not only
                else:
                    taken = first in ("::", "::1")
                fd = new(sys, host, only)
                assert err(sys.bind, fd, addr(host, port)) == ("EADDRINUSE" if taken else None), (host, only)
                sys.close(fd)

    world.run(main)


@BOTH
def test_ports_are_shared_with_ipv4(world: World, kind: int) -> None:
    """REUSEADDR of both lets both families' wildcards share, as within one family."""

    def main(sys: Syscalls) -> None:
        six = sys.socket(AF_INET6, kind)
        sys.setsockopt(six, SOL_SOCKET, SO_REUSEADDR, 1)
        sys.bind(six, ("::", 0, 0, 0))
        port = port_of(sys, six)
        four = sys.socket(AF_INET, kind)
        assert err(sys.bind, four, ("0.0.0.0", port)) == "EADDRINUSE"
        sys.setsockopt(four, SOL_SOCKET, SO_REUSEADDR, 1)
        assert err(sys.bind, four, ("0.0.0.0", port)) is None

    world.run(main)


def test_ephemeral_ports(world: World) -> None:
    """Fact 45 for IPv6: bind takes odd ports, connect even ones."""

    def main(sys: Syscalls) -> None:
        listening, port = listener6(sys)
        assert port % 2 == 1
        ports = []
        for _ in range(5):
            fd = sys.socket(AF_INET6, SOCK_STREAM)
            sys.connect(fd, ("::1", port, 0, 0))
            ports.append(port_of(sys, fd))
            sys.accept4(listening)
        assert all(port % 2 == 0 and 32768 <= port <= 60999 for port in ports) and len(set(ports)) == 5

    world.run(main)


@pytest.mark.parametrize("dual", [False, True])
def test_time_wait(world: World, dual: bool) -> None:
    """Fact 46 for IPv6: the server closed first, so the port is EADDRINUSE without REUSEADDR; over IPv4, IPv4's is too."""

    def main(sys: Syscalls) -> None:
        listening, port = listener6(sys, "::")
        ours = sys.socket(AF_INET if dual else AF_INET6, SOCK_STREAM)
        sys.connect(ours, ("127.0.0.1", port) if dual else ("::1", port, 0, 0))
        theirs, _ = sys.accept4(listening)
        sys.close(theirs)
        settle(sys)
        sys.close(ours)
        sys.close(listening)
        settle(sys)
        fd = sys.socket(AF_INET6, SOCK_STREAM)
        assert err(sys.bind, fd, ("::", port, 0, 0)) == "EADDRINUSE"
        assert err(sys.bind, fd, ("::1", port, 0, 0)) == (None if dual else "EADDRINUSE")
        four = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.bind, four, ("127.0.0.1", port)) == ("EADDRINUSE" if dual else None)

    world.run(main)


@pytest.mark.parametrize(
    ("host", "scope_id", "tcp", "udp"),
    [
        ("2001:db8::1", 0, "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
        ("::1.2.3.4", 0, "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
        ("::2", 0, "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
        ("::ffff:0.0.0.1", 0, "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
        ("fe80::1", 0, "EINVAL", "EINVAL"),
        ("fe80::1", 1, "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
        ("fe80::1", 987654, "ENODEV", "ENODEV"),
        ("ff02::1", 0, "EINVAL", "EINVAL"),
    ],
)
def test_bind_to_foreign_addresses(world: World, host: str, scope_id: int, tcp: str, udp: str) -> None:
    """EADDRNOTAVAIL; an address of the link needs a scope (EINVAL) that exists (ENODEV); TCP has no multicast (EINVAL)."""

    def main(sys: Syscalls) -> None:
        for kind, code in ((SOCK_STREAM, tcp), (SOCK_DGRAM, udp)):
            assert err(sys.bind, sys.socket(AF_INET6, kind), (host, 0, 0, scope_id)) == code

    world.run(main)


@BOTH
def test_bind_twice(world: World, kind: int) -> None:
    """A second bind is EINVAL, and that is told before what is wrong with the address; on AF_INET it is the other way round."""

    def main(sys: Syscalls) -> None:
        fd, port = bound6(sys, kind)
        assert err(sys.bind, fd, ("::1", port, 0, 0)) == "EINVAL"
        assert err(sys.bind, fd, ("2001:db8::1", port, 0, 0)) == "EINVAL"
        four = sys.socket(AF_INET, kind)
        sys.bind(four, ("127.0.0.1", 0))
        assert err(sys.bind, four, ("0.0.0.1", 0)) == "EADDRNOTAVAIL"

    world.run(main)


def test_a_failed_bind_leaves_no_trace(world: World) -> None:
    """After EADDRINUSE the socket is unbound, and IPV6_V6ONLY is what it was."""

    def main(sys: Syscalls) -> None:
        _, port = bound6(sys, SOCK_DGRAM)
        fd = sys.socket(AF_INET6, SOCK_DGRAM)
        assert err(sys.bind, fd, ("::1", port, 0, 0)) == "EADDRINUSE"
        assert sys.getsockname(fd) == ("::", 0, 0, 0)
        assert sys.getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0
        sys.bind(fd, ("::1", 0, 0, 0))

    world.run(main)


def test_udp_over_ipv6(world: World) -> None:
    """Datagrams over ::1, their senders' names, and a refusal."""

    def main(sys: Syscalls) -> None:
        fd, port = bound6(sys, SOCK_DGRAM)
        out = sys.socket(AF_INET6, SOCK_DGRAM)
        sys.sendto(out, b"hello", 0, ("::1", port, 0, 0))
        assert sys.recvfrom(fd, 9) == (b"hello", ("::1", port_of(sys, out), 0, 0))
        assert sys.getsockname(out) == ("::", port_of(sys, out), 0, 0)
        sys.connect(out, ("::1", port, 0, 0))
        assert sys.getsockname(out) == ("::1", port_of(sys, out), 0, 0)
        epfd = watch(sys, fd, EPOLLIN | EPOLLET)
        sys.send(out, b"x")
        assert ready(sys, epfd) == [(fd, "IN")]
        sys.close(fd)
        sys.send(out, b"y")
        assert err(sys.recv, out, 9) == "ECONNREFUSED"

    world.run(main)


def test_udp_dual_stack(world: World) -> None:
    """A datagram socket on :: hears IPv4 too, and answers it by the mapped name it was given."""

    def main(sys: Syscalls) -> None:
        fd, port = bound6(sys, SOCK_DGRAM, "::")
        four = sys.socket(AF_INET, SOCK_DGRAM)
        sys.connect(four, ("127.0.0.1", port))
        sys.send(four, b"ping")
        data, addr = sys.recvfrom(fd, 9)
        assert (data, addr) == (b"ping", ("::ffff:127.0.0.1", inet_name(sys, four)[1], 0, 0))
        sys.sendto(fd, b"pong", 0, addr)
        assert sys.recvfrom(four, 9) == (b"pong", ("127.0.0.1", port))
        sys.close(fd)
        sys.send(four, b"x")
        assert err(sys.recv, four, 9) == "ECONNREFUSED"

    world.run(main)


def test_udp_changes_the_family_of_its_peer(world: World) -> None:
    """Connected over IPv6 and then to a mapped address, the local name stays ::1; the other way round is EAFNOSUPPORT."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET6, SOCK_DGRAM)
        sys.connect(fd, ("::1", 9, 0, 0))
        sys.connect(fd, ("::ffff:127.0.0.1", 9, 0, 0))
        assert sys.getsockname(fd) == ("::1", port_of(sys, fd), 0, 0)
        assert sys.getpeername(fd) == ("::ffff:127.0.0.1", 9, 0, 0)
        fd = sys.socket(AF_INET6, SOCK_DGRAM)
        sys.connect(fd, ("::ffff:127.0.0.1", 9, 0, 0))
        assert err(sys.connect, fd, ("::1", 9, 0, 0)) == "EAFNOSUPPORT"
        assert sys.getpeername(fd) == ("::ffff:127.0.0.1", 9, 0, 0)

    world.run(main)


def test_tcp_reset_over_ipv6(world: World) -> None:
    """A reset connection over ::1 looks as over 127.0.0.1."""

    def main(sys: Syscalls) -> None:
        listening, port = listener6(sys)
        ours = sys.socket(AF_INET6, SOCK_STREAM)
        sys.connect(ours, ("::1", port, 0, 0))
        theirs, _ = sys.accept4(listening)
        sys.setsockopt(theirs, SOL_SOCKET, SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert err(sys.recv, ours, 9) == "ECONNRESET"

    world.run(main)
