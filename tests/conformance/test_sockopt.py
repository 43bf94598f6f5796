"""Socket options: defaults, what is read back, and whom they are for."""

import struct

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    IPPROTO_TCP,
    SO_ACCEPTCONN,
    SO_DOMAIN,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SO_TYPE,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
)

from .helpers import World, bound, err, timeval


def test_buffer_sizes_are_doubled(world: World) -> None:
    """Fact 52: SO_RCVBUF 4096 reads back 8192 (the kernel doubles, for its own books); SO_SNDBUF is at least 4608."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 4096)
        sys.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, 10)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVBUF) == 8192
        assert sys.getsockopt(fd, SOL_SOCKET, SO_SNDBUF) == 4608
        sys.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, 4096)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_SNDBUF) == 8192
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 10)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVBUF) == 2304

    world.run(main)


def test_default_buffer_sizes(world: World) -> None:
    """Fact 53: a fresh TCP socket has 131072 to receive and 16384 to send; an AF_UNIX one 212992 both."""

    def main(sys: Syscalls) -> None:
        tcp = sys.socket(AF_INET, SOCK_STREAM)
        assert sys.getsockopt(tcp, SOL_SOCKET, SO_RCVBUF) == 131072
        assert sys.getsockopt(tcp, SOL_SOCKET, SO_SNDBUF) == 16384
        unix = sys.socket(AF_UNIX, SOCK_STREAM)
        assert sys.getsockopt(unix, SOL_SOCKET, SO_RCVBUF) == 212992
        assert sys.getsockopt(unix, SOL_SOCKET, SO_SNDBUF) == 212992

    world.run(main)


@pytest.mark.parametrize(("family", "protocol"), [(AF_INET, IPPROTO_TCP), (AF_UNIX, 0)])
def test_what_a_socket_is(world: World, family: int, protocol: int) -> None:
    """SO_DOMAIN, SO_TYPE (without the flags given to socket) and SO_PROTOCOL."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(family, SOCK_STREAM | SOCK_NONBLOCK)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_DOMAIN) == family
        assert sys.getsockopt(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM
        assert sys.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL) == protocol
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) == 0

    world.run(main)


def test_so_acceptconn(world: World) -> None:
    """SO_ACCEPTCONN is 1 while the socket listens."""

    def main(sys: Syscalls) -> None:
        fd, _ = bound(sys)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0
        sys.listen(fd, 1)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1

    world.run(main)


@pytest.mark.parametrize(
    ("level", "name"),
    [(SOL_SOCKET, SO_REUSEADDR), (SOL_SOCKET, SO_REUSEPORT), (SOL_SOCKET, SO_KEEPALIVE), (IPPROTO_TCP, TCP_NODELAY)],
)
def test_switches(world: World, level: int, name: int) -> None:
    """Options that are on or off: off at first, 1 when on, whatever non-zero number was given."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        values = [sys.getsockopt(fd, level, name)]
        for value in (1, 0, 7):
            sys.setsockopt(fd, level, name, value)
            values.append(sys.getsockopt(fd, level, name))
        assert values == [0, 1, 0, 1]

    world.run(main)


def test_so_linger_is_read_back(world: World) -> None:
    """SO_LINGER is a struct of two ints: on, seconds."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_LINGER, 8) == struct.pack("ii", 0, 0)
        sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 5))
        assert sys.getsockopt(fd, SOL_SOCKET, SO_LINGER, 8) == struct.pack("ii", 1, 5)

    world.run(main)


@pytest.mark.parametrize("name", [SO_RCVTIMEO, SO_SNDTIMEO])
def test_timeouts_are_read_back(world: World, name: int) -> None:
    """SO_RCVTIMEO and SO_SNDTIMEO are a struct timeval; 0 means none."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert sys.getsockopt(fd, SOL_SOCKET, name, 16) == timeval(0)
        sys.setsockopt(fd, SOL_SOCKET, name, timeval(1500))
        assert sys.getsockopt(fd, SOL_SOCKET, name, 16) == timeval(1500)

    world.run(main)


def test_so_rcvlowat_is_read_back(world: World) -> None:
    """SO_RCVLOWAT is 1 at first, and 0 means 1."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        values = [sys.getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT)]
        for value in (10, 0):
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, value)
            values.append(sys.getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT))
        assert values == [1, 10, 1]

    world.run(main)


def test_read_only_options(world: World) -> None:
    """SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL and SO_ACCEPTCONN can't be set: ENOPROTOOPT."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        results = [err(sys.setsockopt, fd, SOL_SOCKET, n, 1) for n in (SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN)]
        assert results == ["ENOPROTOOPT"] * 5

    world.run(main)


def test_options_of_what_is_no_socket(world: World) -> None:
    """ENOTSOCK on a pipe, EBADF on a closed fd; EINVAL when the value is shorter than a C int."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()
        assert err(sys.getsockopt, r, SOL_SOCKET, SO_ERROR) == "ENOTSOCK"
        assert err(sys.setsockopt, r, SOL_SOCKET, SO_REUSEADDR, 1) == "ENOTSOCK"
        assert err(sys.getsockopt, 900, SOL_SOCKET, SO_ERROR) == "EBADF"
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, b"\1") == "EINVAL"

    world.run(main)


def test_options_are_the_sockets_not_the_fds(world: World) -> None:
    """A dup sees what was set through the other fd."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        twin = sys.dup(fd)
        sys.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
        assert sys.getsockopt(twin, SOL_SOCKET, SO_KEEPALIVE) == 1

    world.run(main)
