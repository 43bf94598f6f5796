"""Socket options: defaults, what is read back, and whom they are for."""

import struct
from typing import Any

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    IP_TOS,
    IP_TTL,
    IPPROTO_IP,
    IPPROTO_TCP,
    SO_ACCEPTCONN,
    SO_BROADCAST,
    SO_DEBUG,
    SO_DOMAIN,
    SO_DONTROUTE,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_OOBINLINE,
    SO_PASSCRED,
    SO_PEERCRED,
    SO_PRIORITY,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDLOWAT,
    SO_SNDTIMEO,
    SO_TYPE,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
)

from .helpers import World, bound, client, err, listener, tcp_pair, timeval


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


INT_MIN, INT_MAX = -(2**31), 2**31 - 1
EVERY = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 100000, INT_MAX, -1, -2, INT_MIN)


def read_back(sys: Syscalls, level: int, name: int, values: tuple[int, ...] = EVERY, family: int = AF_INET) -> list[Any]:
    """What each of ``values`` reads back as on a fresh socket, or the errno of setting it."""
    found: list[Any] = []
    for value in values:
        fd = sys.socket(family, SOCK_STREAM)
        found.append(err(sys.setsockopt, fd, level, name, value) or sys.getsockopt(fd, level, name))
        sys.close(fd)
    return found


@pytest.mark.parametrize("family", [AF_INET, AF_UNIX])
@pytest.mark.parametrize("name", [SO_DEBUG, SO_DONTROUTE, SO_BROADCAST, SO_OOBINLINE, SO_KEEPALIVE, SO_REUSEADDR])
def test_switches_of_every_socket(world: World, family: int, name: int) -> None:
    """Any number but 0 switches on; the rest of a longer value is ignored."""

    def main(sys: Syscalls) -> None:
        assert read_back(sys, SOL_SOCKET, name, family=family) == [0] + [1] * 14
        fd = sys.socket(family, SOCK_STREAM)
        sys.setsockopt(fd, SOL_SOCKET, name, b"\0\0\0\0\1")
        assert sys.getsockopt(fd, SOL_SOCKET, name) == 0

    world.run(main)


def test_so_priority(world: World) -> None:
    """SO_PRIORITY takes every number from a privileged process, but IP_TOS sets it as well, by a table of four."""

    def main(sys: Syscalls) -> None:
        assert read_back(sys, SOL_SOCKET, SO_PRIORITY, (0, 1, 6)) == [0, 1, 6]
        priorities = []
        for tos in (0x04, 0x08, 0x10, 0x18, 0x3C, 0xFC):
            fd = sys.socket(AF_INET, SOCK_STREAM)
            sys.setsockopt(fd, SOL_SOCKET, SO_PRIORITY, 3)
            sys.setsockopt(fd, IPPROTO_IP, IP_TOS, 0)
            assert sys.getsockopt(fd, SOL_SOCKET, SO_PRIORITY) == 3
            sys.setsockopt(fd, IPPROTO_IP, IP_TOS, tos)
            priorities.append(sys.getsockopt(fd, SOL_SOCKET, SO_PRIORITY))
        assert priorities == [0, 2, 6, 4, 4, 4]

    world.run(main)


def test_so_sndlowat(world: World) -> None:
    """SO_SNDLOWAT is 1 and can't be set."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_SNDLOWAT) == 1
        assert err(sys.setsockopt, fd, SOL_SOCKET, SO_SNDLOWAT, 2) == "ENOPROTOOPT"

    world.run(main)


def test_credentials_of_a_tcp_socket(world: World) -> None:
    """SO_PASSCRED of TCP is EOPNOTSUPP, to set and to get; SO_PEERCRED is nobody's and can't be set."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.setsockopt, fd, SOL_SOCKET, SO_PASSCRED, 1) == "EOPNOTSUPP"
        assert err(sys.setsockopt, fd, SOL_SOCKET, SO_PASSCRED, b"\1") == "EINVAL"
        assert err(sys.getsockopt, fd, SOL_SOCKET, SO_PASSCRED) == "EOPNOTSUPP"
        assert sys.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, 100) == struct.pack("iii", 0, -1, -1)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, 6) == struct.pack("iii", 0, -1, -1)[:6]
        assert sys.getsockopt(fd, SOL_SOCKET, SO_PEERCRED) == 0
        assert err(sys.setsockopt, fd, SOL_SOCKET, SO_PEERCRED, bytes(12)) == "ENOPROTOOPT"

    world.run(main)


@pytest.mark.parametrize("family", [AF_INET, AF_UNIX])
def test_unknown_options(world: World, family: int) -> None:
    """Numbers that Linux does not know are ENOPROTOOPT, after the value's length was looked at."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(family, SOCK_STREAM)
        for name in (0, 22, 58, 81, 1000, -1, INT_MAX):
            assert err(sys.getsockopt, fd, SOL_SOCKET, name) == "ENOPROTOOPT"
            assert err(sys.setsockopt, fd, SOL_SOCKET, name, 1) == "ENOPROTOOPT"
            assert err(sys.setsockopt, fd, SOL_SOCKET, name, b"abc") == "EINVAL"

    world.run(main)


def test_unknown_levels(world: World) -> None:
    """A level that TCP does not have: ENOPROTOOPT to set and EOPNOTSUPP to get; AF_UNIX has none but SOL_SOCKET: EOPNOTSUPP."""

    def main(sys: Syscalls) -> None:
        tcp = sys.socket(AF_INET, SOCK_STREAM)
        unix = sys.socket(AF_UNIX, SOCK_STREAM)
        for level in (77, 17, 255, -1):
            assert err(sys.setsockopt, tcp, level, 1, 1) == "ENOPROTOOPT"
            assert err(sys.setsockopt, tcp, level, 1, b"") == "ENOPROTOOPT"
            assert err(sys.getsockopt, tcp, level, 1) == "EOPNOTSUPP"
        for level in (IPPROTO_TCP, IPPROTO_IP, 77):
            assert err(sys.setsockopt, unix, level, 1, 1) == "EOPNOTSUPP"
            assert err(sys.setsockopt, unix, level, 1, b"") == "EOPNOTSUPP"
            assert err(sys.getsockopt, unix, level, 1) == "EOPNOTSUPP"
        assert err(sys.setsockopt, tcp, IPPROTO_TCP, 1000, 1) == "ENOPROTOOPT"
        assert err(sys.setsockopt, tcp, IPPROTO_TCP, 1000, b"") == "EINVAL"
        assert err(sys.getsockopt, tcp, IPPROTO_TCP, -1) == "ENOPROTOOPT"
        assert err(sys.setsockopt, tcp, IPPROTO_IP, 1000, b"") == "ENOPROTOOPT"
        assert err(sys.getsockopt, tcp, IPPROTO_IP, 1000) == "ENOPROTOOPT"

    world.run(main)


def test_lengths(world: World) -> None:
    """A value may be longer than its option and not shorter; a buffer gets as much as it holds."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sizes = {SO_KEEPALIVE: 4, SO_LINGER: 8, SO_RCVTIMEO: 16}
        for name, size in sizes.items():
            for length in range(20):
                raw = b"\5" + bytes(length - 1) if length else b""
                assert err(sys.setsockopt, fd, SOL_SOCKET, name, raw) == (None if length >= size else "EINVAL")
            full = sys.getsockopt(fd, SOL_SOCKET, name, 300)
            assert isinstance(full, bytes)
            assert len(full) == size
            assert [sys.getsockopt(fd, SOL_SOCKET, name, n) for n in range(1, 20)] == [full[:n] for n in range(1, 20)]
            assert sys.getsockopt(fd, SOL_SOCKET, name) == full[0]

    world.run(main)


def test_ip_options_take_a_byte(world: World) -> None:
    """IPPROTO_IP: a value shorter than an int is one byte, an empty one 0; a buffer shorter than an int gets one byte."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.setsockopt, fd, IPPROTO_IP, IP_TTL, b"") == "EINVAL"
        for length in range(1, 8):
            sys.setsockopt(fd, IPPROTO_IP, IP_TTL, b"\7" + bytes(length - 1))
            assert sys.getsockopt(fd, IPPROTO_IP, IP_TTL) == 7
        sys.setsockopt(fd, IPPROTO_IP, IP_TOS, 8)
        assert [sys.getsockopt(fd, IPPROTO_IP, IP_TOS, n) for n in range(1, 6)] == [b"\x08"] * 3 + [b"\x08\0\0\0"] * 2
        sys.setsockopt(fd, IPPROTO_IP, IP_TOS, b"")
        assert sys.getsockopt(fd, IPPROTO_IP, IP_TOS) == 0

    world.run(main)


def test_ip_tos_and_ttl(world: World) -> None:
    """IP_TOS keeps a byte, on a stream without the bits of ECN; IP_TTL is 1 to 255, -1 for the default."""

    def main(sys: Syscalls) -> None:
        assert read_back(sys, IPPROTO_IP, IP_TOS, (0, 1, 7, 127, 255, 256, 1000, -1, -2)) == [0, 0, 4, 124, 252, 0, 232, 252, 252]
        assert read_back(sys, IPPROTO_IP, IP_TTL) == ["EINVAL", 1, 2, 7, 127, 128, 255, *["EINVAL"] * 5, 64, "EINVAL", "EINVAL"]

    world.run(main)


def test_so_linger_details(world: World) -> None:
    """Switched off, SO_LINGER keeps its seconds; negative ones are as many as there can be, which reads back as nonsense."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        found = []
        for onoff, seconds in ((1, 5), (0, 9), (-5, 3), (0, 0), (1, INT_MAX), (2, -1)):
            sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, struct.pack("ii", onoff, seconds))
            raw = sys.getsockopt(fd, SOL_SOCKET, SO_LINGER, 8)
            assert isinstance(raw, bytes)
            found.append(struct.unpack("ii", raw))
        assert found[:5] == [(1, 5), (0, 5), (1, 3), (0, 3), (1, INT_MAX)]
        assert found[5][0] == 1
        assert found[5][1] != -1

    world.run(main)


@pytest.mark.parametrize("name", [SO_RCVTIMEO, SO_SNDTIMEO])
def test_odd_timeouts(world: World, name: int) -> None:
    """A timeout is kept in ticks of the clock, rounded up; a negative one is 0; microseconds out of range are EDOM."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        found = []
        for seconds, micros in ((3, 20000), (0, 1_000_000), (0, -1), (-1, 0), (0, 40000), (2**62, 0)):
            found.append(err(sys.setsockopt, fd, SOL_SOCKET, name, struct.pack("qq", seconds, micros)))
            found.append(sys.getsockopt(fd, SOL_SOCKET, name, 16))
        assert found[0::2] == [None, "EDOM", "EDOM", None, None, None]
        assert found[1::2] == [struct.pack("qq", *v) for v in ((3, 20000), (3, 20000), (3, 20000), (0, 0), (0, 40000), (0, 0))]
        sys.setsockopt(fd, SOL_SOCKET, name, struct.pack("qq", 0, 1))
        raw = sys.getsockopt(fd, SOL_SOCKET, name, 16)
        assert isinstance(raw, bytes)
        assert 1 <= struct.unpack("qq", raw)[1] <= 10000

    world.run(main)


def test_a_negative_timeout_does_not_wait(world: World) -> None:
    """With a negative SO_RCVTIMEO recv is EAGAIN at once, and reads back as if there were none."""

    def main(sys: Syscalls) -> None:
        fd, _ = tcp_pair(sys)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, struct.pack("qq", -1, 0))
        assert err(sys.recv, fd, 1) == "EAGAIN"

    world.run(main)


def test_rcvlowat_grows_the_buffer(world: World) -> None:
    """SO_RCVLOWAT of TCP makes the receive buffer twice as large, unless SO_RCVBUF fixed that; negative is the most there can be."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, 100000)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVBUF) == 200000
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 4096)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, 100000)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT) == 4096
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, -1)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT) == 4096
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVBUF) == 8192

    world.run(main)


def test_what_accept_inherits(world: World) -> None:
    """Fact 50: an accepted socket has its listener's options as they were when the SYN came, but not its SO_PRIORITY."""

    def main(sys: Syscalls) -> None:
        ints = (SO_DEBUG, SO_DONTROUTE, SO_BROADCAST, SO_OOBINLINE, SO_KEEPALIVE, SO_REUSEADDR)
        listening, addr = listener(sys)
        for name in ints:
            sys.setsockopt(listening, SOL_SOCKET, name, 1)
        sys.setsockopt(listening, SOL_SOCKET, SO_RCVLOWAT, 7)
        sys.setsockopt(listening, SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 6))
        sys.setsockopt(listening, SOL_SOCKET, SO_RCVTIMEO, timeval(3400))
        sys.setsockopt(listening, SOL_SOCKET, SO_SNDTIMEO, timeval(2000))
        sys.setsockopt(listening, IPPROTO_IP, IP_TOS, 0x10)
        sys.setsockopt(listening, IPPROTO_IP, IP_TTL, 33)
        sys.setsockopt(listening, SOL_SOCKET, SO_PRIORITY, 5)
        fd = client(sys, addr)
        child, _ = sys.accept4(listening)
        assert [sys.getsockopt(child, SOL_SOCKET, name) for name in ints] == [1] * 6
        assert sys.getsockopt(child, SOL_SOCKET, SO_RCVLOWAT) == 7
        assert sys.getsockopt(child, SOL_SOCKET, SO_LINGER, 8) == struct.pack("ii", 1, 6)
        assert sys.getsockopt(child, SOL_SOCKET, SO_RCVTIMEO, 16) == timeval(3400)
        assert sys.getsockopt(child, SOL_SOCKET, SO_SNDTIMEO, 16) == timeval(2000)
        assert sys.getsockopt(child, SOL_SOCKET, SO_PRIORITY) == 0
        assert [sys.getsockopt(child, IPPROTO_IP, name) for name in (IP_TOS, IP_TTL)] == [0x10, 33]
        assert [sys.getsockopt(fd, IPPROTO_IP, name) for name in (IP_TOS, IP_TTL)] == [0, 64]
        # From here on they are two.
        sys.setsockopt(child, IPPROTO_IP, IP_TTL, 44)
        assert sys.getsockopt(listening, IPPROTO_IP, IP_TTL) == 33

    world.run(main)
