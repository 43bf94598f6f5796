"""UDP-Lite: ports of its own, coverage, and what of an IPv6 header a receiver may ask for."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    IPV6_HOPLIMIT,
    IPV6_RECVHOPLIMIT,
    IPV6_RECVTCLASS,
    IPV6_TCLASS,
    IPV6_UNICAST_HOPS,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    SO_PROTOCOL,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    UDP_CORK,
    UDPLITE_RECV_CSCOV,
    UDPLITE_SEND_CSCOV,
)

from .helpers import World, err

HOSTS = {AF_INET: ("127.0.0.1", 0), AF_INET6: ("::1", 0, 0, 0)}
FAMILIES = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["inet", "inet6"])


def bound(sys: Syscalls, family: int = AF_INET, protocol: int = IPPROTO_UDPLITE) -> tuple[int, tuple]:
    """A socket that has a port, and its name."""
    fd = sys.socket(family, SOCK_DGRAM, protocol)
    sys.bind(fd, HOSTS[family])
    name = sys.getsockname(fd)
    assert isinstance(name, tuple)
    return fd, name


def number(value: int) -> bytes:
    """A C int."""
    return value.to_bytes(4, "little", signed=True)


@FAMILIES
def test_datagrams(world: World, family: int) -> None:
    """It carries datagrams as UDP does, has its own ports, and tells its protocol."""

    def main(sys: Syscalls) -> None:
        fd, name = bound(sys, family)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDPLITE
        out = sys.socket(family, SOCK_DGRAM, IPPROTO_UDPLITE)
        assert sys.sendto(out, b"hello", 0, name) == 5
        assert sys.sendto(out, b"", 0, name) == 0
        data, sender = sys.recvfrom(fd, 100)
        assert data == b"hello"
        assert sender == (name[0], sys.getsockname(out)[1], *name[2:])
        assert sys.recv(fd, 100) == b""
        # The same port of UDP is free, and a datagram of UDP does not come here.
        other = sys.socket(family, SOCK_DGRAM)
        sys.bind(other, name)
        sys.sendto(other, b"x", 0, name)
        assert err(sys.recv, fd, 1, MSG_DONTWAIT) == "EAGAIN"
        again = sys.socket(family, SOCK_DGRAM, IPPROTO_UDPLITE)
        assert err(sys.bind, again, name) == "EADDRINUSE"
        assert err(sys.socket, family, SOCK_STREAM, IPPROTO_UDPLITE) == "EPROTONOSUPPORT"

    world.run(main)


@FAMILIES
def test_nobody_there(world: World, family: int) -> None:
    """A connected socket is told that nobody has the port."""

    def main(sys: Syscalls) -> None:
        fd, name = bound(sys, family)
        sys.close(fd)
        out = sys.socket(family, SOCK_DGRAM, IPPROTO_UDPLITE)
        sys.connect(out, name)
        sys.send(out, b"x")
        assert err(sys.send, out, b"x") == "ECONNREFUSED"

    world.run(main)


def test_coverage(world: World) -> None:
    """What is covered less than the receiver demands is dropped; 0 is the whole datagram; less than the header becomes the header."""

    def main(sys: Syscalls) -> None:
        fd, name = bound(sys)
        out = sys.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)
        for option in (UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV):
            assert sys.getsockopt(out, IPPROTO_UDPLITE, option) == 0
            for given, kept in ((3, 8), (8, 8), (20, 20), (70000, 65535), (-1, 8), (0, 0)):
                sys.setsockopt(out, IPPROTO_UDPLITE, option, given)
                assert sys.getsockopt(out, IPPROTO_UDPLITE, option) == kept, given
        sys.setsockopt(out, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 20)
        sys.sendto(out, bytes(100), 0, name)
        assert len(sys.recv(fd, 200, MSG_DONTWAIT)) == 100
        for demanded, comes in ((20, True), (21, False), (8, True), (0, False)):
            sys.setsockopt(fd, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, demanded)
            sys.sendto(out, bytes(100), 0, name)
            assert (err(sys.recv, fd, 200, MSG_DONTWAIT) != "EAGAIN") == comes, demanded
            # All of a short one is covered.
            sys.sendto(out, bytes(9), 0, name)
            assert len(sys.recv(fd, 200, MSG_DONTWAIT)) == 9

    world.run(main)


def test_options_of_udp(world: World) -> None:
    """Either level reaches the options of both; UDP itself has no coverage to set."""

    def main(sys: Syscalls) -> None:
        lite = sys.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)
        for level in (IPPROTO_UDP, IPPROTO_UDPLITE):
            sys.setsockopt(lite, level, UDP_CORK, 1)
            assert sys.getsockopt(lite, level, UDP_CORK) == 1
            sys.setsockopt(lite, level, UDPLITE_SEND_CSCOV, 9)
            assert sys.getsockopt(lite, level, UDPLITE_SEND_CSCOV) == 9
        udp = sys.socket(AF_INET, SOCK_DGRAM)
        assert err(sys.setsockopt, udp, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 9) == "ENOPROTOOPT"
        assert sys.getsockopt(udp, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV) == 0
        assert err(sys.setsockopt, udp, IPPROTO_TCP, UDPLITE_SEND_CSCOV, 9) == "ENOPROTOOPT"

    world.run(main)


@pytest.mark.parametrize("protocol", [IPPROTO_UDP, IPPROTO_UDPLITE], ids=["udp", "udplite"])
def test_hop_limit_and_traffic_class(world: World, protocol: int) -> None:
    """Asked for, they come as control messages, as the sender's options or its own control messages had them."""

    def main(sys: Syscalls) -> None:
        fd, name = bound(sys, AF_INET6, protocol)
        out = sys.socket(AF_INET6, SOCK_DGRAM, protocol)
        for option in (IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS):
            assert sys.getsockopt(fd, IPPROTO_IPV6, option) == 0
            sys.setsockopt(fd, IPPROTO_IPV6, option, 5)
            assert sys.getsockopt(fd, IPPROTO_IPV6, option) == 1

        def got(room: int = 100) -> tuple[list, int]:
            return sys.recvmsg(fd, 10, room)[1:3]

        def message(hops: int, tclass: int) -> list:
            return [(IPPROTO_IPV6, IPV6_HOPLIMIT, number(hops)), (IPPROTO_IPV6, IPV6_TCLASS, number(tclass))]

        sys.sendto(out, b"x", 0, name)
        assert got() == (message(64, 0), 0)
        sys.sendmsg(out, [b"x"], message(3, 9), 0, name)
        assert got() == (message(3, 9), 0)
        assert sys.getsockopt(out, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 64
        sys.setsockopt(out, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 7)
        sys.setsockopt(out, IPPROTO_IPV6, IPV6_TCLASS, 20)
        sys.sendto(out, b"x", 0, name)
        assert got() == (message(7, 20), 0)
        sys.sendmsg(out, [b"x"], message(-1, -1), 0, name)
        assert got() == (message(7, 255), 0)
        for room, count, flags in ((0, 0, MSG_CTRUNC), (20, 1, MSG_CTRUNC), (24, 1, MSG_CTRUNC), (44, 2, 0)):
            sys.sendto(out, b"x", 0, name)
            assert got(room) == (message(7, 20)[:count], flags), room
        for bad in (256, -2):
            assert err(sys.sendmsg, out, [b"x"], message(bad, 0), 0, name) == "EINVAL"
            assert err(sys.sendmsg, out, [b"x"], message(0, bad), 0, name) == "EINVAL"
            assert err(sys.setsockopt, out, IPPROTO_IPV6, IPV6_UNICAST_HOPS, bad) == "EINVAL"
            assert err(sys.setsockopt, out, IPPROTO_IPV6, IPV6_TCLASS, bad) == "EINVAL"
        assert err(sys.sendmsg, out, [b"x"], [(IPPROTO_IPV6, IPV6_HOPLIMIT, b"\1")], 0, name) == "EINVAL"
        sys.setsockopt(out, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1)
        sys.setsockopt(out, IPPROTO_IPV6, IPV6_TCLASS, -1)
        sys.sendto(out, b"x", 0, name)
        assert got() == (message(64, 0), 0)

    world.run(main)


def test_what_came_over_ipv4_has_no_header_of_ipv6(world: World) -> None:
    """To a dual-stack socket: no control messages."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET6, SOCK_DGRAM)
        sys.bind(fd, ("::", 0, 0, 0))
        sys.setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
        out = sys.socket(AF_INET, SOCK_DGRAM)
        sys.sendto(out, b"x", 0, ("127.0.0.1", sys.getsockname(fd)[1]))
        assert sys.recvmsg(fd, 10, 100)[:3] == (b"x", [], 0)

    world.run(main)
