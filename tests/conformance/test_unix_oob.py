"""MSG_OOB on AF_UNIX streams (CONFIG_AF_UNIX_OOB, Linux 5.15): one urgent byte, a mark that no recv crosses.

The details are those of Linux 6.18; older kernels had bugs at most of these edges.
"""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_UNIX,
    EPOLLET,
    EPOLLIN,
    EPOLLPRI,
    FIONREAD,
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    SIOCATMARK,
    SO_OOBINLINE,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import UNIX_DATA, UNIX_FULL, UNIX_IDLE, World, abstract, err, mask, ready, settle, start, watch

PRI = "IN|PRI|OUT|RDNORM|WRNORM|WRBAND"


def pair(sys: Syscalls, *parts: bytes, inline: bool = False) -> tuple[int, int]:
    """A pair, and on the way to the first what was sent by the second: capital letters as MSG_OOB."""
    ours, theirs = sys.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)
    if inline:
        sys.setsockopt(ours, SOL_SOCKET, SO_OOBINLINE, 1)
    for part in parts:
        sys.send(theirs, part, MSG_OOB if part.isupper() else 0)
    return ours, theirs


def state(sys: Syscalls, fd: int) -> tuple[int, int, str]:
    """FIONREAD, SIOCATMARK and the mask."""
    return sys.ioctl(fd, FIONREAD), sys.ioctl(fd, SIOCATMARK), mask(sys, fd)


def recvs(sys: Syscalls, fd: int) -> list[bytes]:
    """What each recv takes, up to EAGAIN."""
    out = []
    while (data := err(sys.recv, fd, 9)) != "EAGAIN":
        out.append(data)
    return out


def test_an_urgent_byte(world: World) -> None:
    """It makes PRI, and unlike TCP's also IN; MSG_OOB receives it once, wherever the reader is; then EINVAL."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys, b"ab", b"C")
        assert state(sys, ours) == (3, 0, PRI)
        assert sys.recv(ours, 9, MSG_OOB | MSG_PEEK) == b"C"
        assert sys.recv(ours, 9, MSG_OOB) == b"C"
        assert state(sys, ours) == (2, 0, UNIX_DATA)
        assert err(sys.recv, ours, 9, MSG_OOB) == "EINVAL"
        assert sys.recv(ours, 9) == b"ab"

    world.run(main)


def test_none(world: World) -> None:
    """Without an urgent byte a recv is EINVAL; a send of nothing is EOPNOTSUPP; unconnected EINVAL and ENOTCONN."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        assert err(sys.recv, ours, 1, MSG_OOB) == "EINVAL"
        assert err(sys.send, theirs, b"", MSG_OOB) == "EOPNOTSUPP"
        fd = sys.socket(AF_UNIX, SOCK_STREAM)
        assert err(sys.recv, fd, 1, MSG_OOB) == "EINVAL"
        assert err(sys.send, fd, b"x", MSG_OOB) == "ENOTCONN"
        assert sys.ioctl(fd, SIOCATMARK) == 0

    world.run(main)


def test_a_pending_connection_looks_like_a_mark(world: World) -> None:
    """A listener's queue has an empty buffer for each connection, which SIOCATMARK takes for a mark."""

    def main(sys: Syscalls) -> None:
        listening = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.bind(listening, abstract(sys))
        sys.listen(listening, 1)
        assert sys.ioctl(listening, SIOCATMARK) == 0
        sys.connect(sys.socket(AF_UNIX, SOCK_STREAM), abstract(sys))
        assert sys.ioctl(listening, SIOCATMARK) == 1
        sys.accept4(listening)
        assert sys.ioctl(listening, SIOCATMARK) == 0

    world.run(main)


def test_the_last_byte_is_urgent(world: World) -> None:
    """Of a send with MSG_OOB the last byte is, the others are ordinary data."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        assert sys.send(theirs, b"abC", MSG_OOB) == 3
        assert sys.recv(ours, 9) == b"ab"
        assert sys.recv(ours, 9, MSG_OOB) == b"C"

    world.run(main)


def test_a_recv_stops_at_the_mark(world: World) -> None:
    """The recv before stops there, even with MSG_WAITALL; the next one drops the byte, which FIONREAD goes on counting."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys, b"a", b"B", b"c")
        assert sys.recv(ours, 9, MSG_PEEK) == b"a"
        assert sys.recv(ours, 9, MSG_WAITALL) == b"a"
        assert state(sys, ours) == (2, 1, PRI)
        assert sys.recv(ours, 9) == b"c"
        assert state(sys, ours) == (1, 0, UNIX_IDLE)
        assert err(sys.recv, ours, 9, MSG_OOB) == "EINVAL"

    world.run(main)


def test_at_the_mark(world: World) -> None:
    """With the mark first in the queue a peek looks behind it; a recv that finds nothing else drops it, and is EAGAIN."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, b"A")
        assert state(sys, ours) == (1, 1, PRI)
        assert err(sys.recv, ours, 9, MSG_PEEK) == "EAGAIN"
        assert state(sys, ours) == (1, 1, PRI)
        sys.send(theirs, b"b")
        assert sys.recv(ours, 9, MSG_PEEK) == b"b"
        assert sys.recv(ours, 9) == b"b"
        assert state(sys, ours) == (1, 0, UNIX_IDLE)
        ours, _ = pair(sys, b"A")
        assert err(sys.recv, ours, 9) == "EAGAIN"
        assert state(sys, ours) == (1, 0, UNIX_IDLE)

    world.run(main)


def test_a_second_one_makes_the_first_ordinary(world: World) -> None:
    """There is one mark: the urgent byte before it becomes data."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys, b"a", b"B", b"C", b"d")
        assert sys.recv(ours, 9, MSG_PEEK) == b"aB"
        assert sys.recv(ours, 9, MSG_OOB) == b"C"
        assert recvs(sys, ours) == [b"aB", b"d"]

    world.run(main)


def test_the_place_of_a_received_one(world: World) -> None:
    """It stays as a mark that a recv stops at, and makes IN with nothing to read until a recv has passed it."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys, b"a", b"B", b"c")
        sys.recv(ours, 1, MSG_OOB)
        assert sys.recv(ours, 9, MSG_PEEK) == b"a"
        assert sys.recv(ours, 9) == b"a"
        assert state(sys, ours) == (1, 1, UNIX_DATA)
        assert sys.recv(ours, 9) == b"c"
        ours, theirs = pair(sys, b"A")
        sys.recv(ours, 1, MSG_OOB)
        assert state(sys, ours) == (0, 1, UNIX_DATA)
        assert err(sys.recv, ours, 9) == "EAGAIN"
        assert state(sys, ours) == (0, 0, UNIX_IDLE)
        # Two places next to each other are one.
        for letter in (b"B", b"C"):
            sys.send(theirs, letter, MSG_OOB)
            assert sys.recv(ours, 1, MSG_OOB) == letter
        assert state(sys, ours) == (0, 1, UNIX_DATA)
        assert recvs(sys, ours) == []

    world.run(main)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ((b"A",), [b"A"]),
        ((b"ab", b"C"), [b"ab", b"C"]),
        ((b"a", b"B", b"c"), [b"a", b"Bc"]),
        ((b"a", b"B", b"C", b"d"), [b"aB", b"Cd"]),
        ((b"A", b"b"), [b"Ab"]),
    ],
)
def test_inline(world: World, parts: tuple[bytes, ...], whole: list[bytes]) -> None:
    """SO_OOBINLINE: the byte is data, a recv still stops in front of it, and MSG_OOB is EINVAL."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys, *parts, inline=True)
        assert mask(sys, ours) == PRI
        assert err(sys.recv, ours, 1, MSG_OOB) == "EINVAL"
        assert sys.getsockopt(ours, SOL_SOCKET, SO_OOBINLINE) == 1
        assert recvs(sys, ours) == whole
        assert state(sys, ours) == (0, 0, UNIX_IDLE)

    world.run(main)


@pytest.mark.parametrize(
    ("parts", "receive", "lost"),
    [((b"A",), True, b""), ((b"A",), False, "ECONNRESET"), ((b"a", b"B"), True, "ECONNRESET"), ((b"A", b"b"), True, "ECONNRESET")],
)
def test_close_with_one_unread(world: World, parts: tuple[bytes, ...], receive: bool, lost: object) -> None:
    """The place of a byte that was received by MSG_OOB is no unread data; anything else is ECONNRESET for the sender."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, *parts)
        if receive:
            sys.recv(ours, 1, MSG_OOB)
        sys.close(ours)
        assert err(sys.recv, theirs, 9) == lost
        assert mask(sys, theirs) == UNIX_FULL

    world.run(main)


def test_message_flags(world: World) -> None:
    """recvmsg reports MSG_OOB; a recv of 0 bytes takes the urgent byte as well."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys, b"A")
        assert sys.recvmsg(ours, 9, 0, MSG_OOB | MSG_PEEK) == (b"A", [], MSG_OOB, "")
        assert sys.recvmsg(ours, 0, 0, MSG_OOB) == (b"", [], MSG_OOB, "")
        assert err(sys.recv, ours, 1, MSG_OOB) == "EINVAL"

    world.run(main)


def test_edges(world: World) -> None:
    """An urgent byte wakes who waits for PRI or for IN; received out of band it leaves IN behind."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLPRI | EPOLLET)
        sys.send(theirs, b"A", MSG_OOB)
        assert ready(sys, epfd) == [(ours, "IN|PRI")]
        sys.recv(ours, 1, MSG_OOB)
        assert ready(sys, epfd) == []
        sys.send(theirs, b"b")
        assert ready(sys, epfd) == [(ours, "IN")]

    world.run(main)


def test_a_sleeping_recv_does_not_return_for_one(world: World) -> None:
    """A blocked recv drops the urgent byte that arrives and sleeps on."""

    def main(sys: Syscalls) -> None:
        ours, theirs = sys.socketpair(AF_UNIX, SOCK_STREAM)
        got: list[bytes] = []
        tid = start(sys, lambda sys: got.append(sys.recv(ours, 9)))
        sys.send(theirs, b"A", MSG_OOB)
        settle(sys)
        assert got == []
        assert mask(sys, ours) == UNIX_IDLE
        sys.send(theirs, b"b")
        sys.join(tid)
        assert got == [b"b"]

    world.run(main)
