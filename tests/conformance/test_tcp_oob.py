"""TCP's urgent data: the mark, the byte beside the stream, POLLPRI."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    EPOLLET,
    EPOLLIN,
    EPOLLPRI,
    FIONREAD,
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    POLLPRI,
    SHUT_RDWR,
    SHUT_WR,
    SIOCATMARK,
    SO_OOBINLINE,
    SO_RCVLOWAT,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import FULL_ERR, IDLE, World, err, listener, mask, names, nonblocking, ready, settle, start, tcp_pair, watch

PRI = "PRI|OUT|WRNORM"
PRI_DATA = "IN|PRI|OUT|RDNORM|WRNORM"


def urgent(sys: Syscalls, before: bytes = b"", oob: bytes = b"!", after: bytes = b"", inline: bool = False) -> tuple[int, int]:
    """(reader, writer) of a connection on which ``before``, ``oob`` (its last byte urgent) and ``after`` were sent."""
    writer, reader = tcp_pair(sys)
    nonblocking(sys, reader)
    if inline:
        sys.setsockopt(reader, SOL_SOCKET, SO_OOBINLINE, 1)
    if before:
        sys.send(writer, before)
    if oob:
        assert sys.send(writer, oob, MSG_OOB) == len(oob)
    if after:
        sys.send(writer, after)
    return reader, writer


def test_an_urgent_byte_is_pri_and_not_in(world: World) -> None:
    """Fact 29: an OOB byte: PRI|OUT, not IN; select reports it as exceptional and nothing to read."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys)
        assert mask(sys, reader) == PRI
        assert sys.select([reader], [], [reader], 0) == ([], [], [reader])
        assert [names(revents) for _, revents in sys.poll([(reader, POLLPRI)], 0)] == ["PRI"]

    world.run(main)


def test_recv_oob_takes_the_byte_once(world: World) -> None:
    """recv(MSG_OOB) gives the byte whatever room there is; then EINVAL, and no PRI.  Without one it is EINVAL as well."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, oob=b"")
        assert err(sys.recv, reader, 1, MSG_OOB) == "EINVAL"
        sys.send(writer, b"ab!", MSG_OOB)
        assert mask(sys, reader) == PRI_DATA
        assert sys.recv(reader, 10, MSG_OOB) == b"!"
        assert err(sys.recv, reader, 10, MSG_OOB) == "EINVAL"
        assert mask(sys, reader) == "IN|OUT|RDNORM|WRNORM"
        assert sys.recv(reader, 10) == b"ab"
        # The read byte is still a hole at the end of the stream.
        assert mask(sys, reader) == IDLE
        assert sys.ioctl(reader, SIOCATMARK) == 1
        assert err(sys.recv, reader, 10) == "EAGAIN"
        assert sys.ioctl(reader, SIOCATMARK) == 0

    world.run(main)


def test_recv_oob_of_nothing_and_flags(world: World) -> None:
    """recv(0, MSG_OOB) eats the byte; recvmsg's flags say MSG_OOB, and MSG_TRUNC where it had no room.  MSG_PEEK leaves it."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys)
        assert sys.recv(reader, 1, MSG_OOB | MSG_PEEK) == b"!"
        assert sys.recvmsg(reader, 5, 0, MSG_OOB | MSG_PEEK) == (b"!", [], MSG_OOB, "")
        assert sys.recvmsg(reader, 0, 0, MSG_OOB) == (b"", [], MSG_OOB | MSG_TRUNC, "")
        assert err(sys.recv, reader, 1, MSG_OOB) == "EINVAL"
        sys.send(writer, b"?", MSG_OOB)
        assert sys.recv(reader, 3, MSG_OOB | MSG_TRUNC) == b"\0"
        assert err(sys.recv, reader, 1, MSG_OOB) == "EINVAL"

    world.run(main)


def test_a_read_stops_at_the_mark(world: World) -> None:
    """A read gives what is before the mark, the next one steps over the urgent byte, with which recv(MSG_OOB) is too late."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys, b"before", b"!", b"after")
        assert sys.ioctl(reader, FIONREAD) == 6
        assert sys.ioctl(reader, SIOCATMARK) == 0
        assert sys.recv(reader, 100) == b"before"
        assert sys.ioctl(reader, SIOCATMARK) == 1
        assert sys.ioctl(reader, FIONREAD) == 0
        assert mask(sys, reader) == PRI_DATA
        assert sys.recv(reader, 100) == b"after"
        assert mask(sys, reader) == IDLE
        assert err(sys.recv, reader, 1, MSG_OOB) == "EINVAL"

    world.run(main)


@pytest.mark.parametrize(
    ("n", "parts"), [(3, [b"bef", b"ore", b"aft", b"er"]), (7, [b"before", b"after"]), (1, [bytes((c,)) for c in b"beforeafter"])]
)
def test_reads_around_the_mark(world: World, n: int, parts: list[bytes]) -> None:
    """Reads of other sizes stop there too, and no read counts the urgent byte."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys, b"before", b"!", b"after")
        assert [sys.recv(reader, n) for _ in parts] == parts
        assert err(sys.recv, reader, 1) == "EAGAIN"

    world.run(main)


def test_stepping_over_the_byte_alone(world: World) -> None:
    """A read with nothing behind the mark is EAGAIN, and yet it has stepped over the urgent byte, which is lost."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys)
        assert sys.recv(reader, 0) == b""
        assert mask(sys, reader) == PRI
        assert err(sys.recv, reader, 10) == "EAGAIN"
        assert mask(sys, reader) == IDLE
        assert err(sys.recv, reader, 1, MSG_OOB) == "EINVAL"
        sys.send(writer, b"x")
        assert sys.recv(reader, 10) == b"x"

    world.run(main)


def test_peek_at_the_mark(world: World) -> None:
    """MSG_PEEK stops before the mark; at the mark it sees what is behind it, and the urgent byte stays."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys, b"ab", b"!", b"cd")
        assert sys.recv(reader, 10, MSG_PEEK) == b"ab"
        assert sys.recv(reader, 10) == b"ab"
        assert sys.recv(reader, 10, MSG_PEEK) == b"cd"
        assert sys.recv(reader, 1, MSG_PEEK) == b"c"
        assert sys.recv(reader, 1, MSG_OOB) == b"!"
        assert sys.recv(reader, 10, MSG_PEEK) == b"cd"
        assert sys.recv(reader, 10) == b"cd"

    world.run(main)


def test_waitall_stops_at_the_mark(world: World) -> None:
    """MSG_WAITALL does not wait for bytes behind the mark."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys, b"ab", b"!", b"cd")
        assert sys.recv(reader, 4, MSG_WAITALL) == b"ab"
        assert sys.recv(reader, 2, MSG_WAITALL) == b"cd"

    world.run(main)


def test_oobinline(world: World) -> None:
    """SO_OOBINLINE: the byte is read where it was sent, reads still stop at the mark, recv(MSG_OOB) is EINVAL; PRI until it is read."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys, b"ab", b"!", b"cd", inline=True)
        assert sys.ioctl(reader, FIONREAD) == 5
        assert mask(sys, reader) == PRI_DATA
        assert err(sys.recv, reader, 1, MSG_OOB) == "EINVAL"
        assert sys.recv(reader, 10) == b"ab"
        assert sys.ioctl(reader, SIOCATMARK) == 1
        assert mask(sys, reader) == PRI_DATA
        assert sys.recv(reader, 10) == b"!cd"
        assert mask(sys, reader) == IDLE

    world.run(main)


def test_oobinline_of_the_byte_alone(world: World) -> None:
    """Inline, a lone urgent byte is IN and PRI."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys, inline=True)
        assert mask(sys, reader) == PRI_DATA
        assert sys.select([reader], [], [reader], 0) == ([reader], [], [reader])
        assert sys.recv(reader, 10) == b"!"
        assert mask(sys, reader) == IDLE

    world.run(main)


def test_oobinline_switched_later(world: World) -> None:
    """SO_OOBINLINE set when the byte is there makes it a part of the stream; switched off again, it is beside it."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys, b"", b"!", b"x")
        sys.setsockopt(reader, SOL_SOCKET, SO_OOBINLINE, 1)
        assert sys.ioctl(reader, FIONREAD) == 2
        sys.setsockopt(reader, SOL_SOCKET, SO_OOBINLINE, 0)
        assert sys.ioctl(reader, FIONREAD) == 0
        assert sys.recv(reader, 1, MSG_OOB) == b"!"
        sys.setsockopt(reader, SOL_SOCKET, SO_OOBINLINE, 1)
        assert sys.recv(reader, 10) == b"!x"

    world.run(main)


def test_a_second_urgent_byte(world: World) -> None:
    """There is one urgent byte, the newest: an older one that was not read is a byte like others."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, b"ab", b"1", b"cd")
        sys.send(writer, b"2", MSG_OOB)
        sys.send(writer, b"ef")
        assert sys.recv(reader, 1, MSG_OOB) == b"2"
        assert sys.recv(reader, 10) == b"ab1cd"
        assert sys.recv(reader, 10) == b"ef"

    world.run(main)


def test_a_second_urgent_byte_at_the_mark(world: World) -> None:
    """A newer urgent byte comes while the reader is at the mark of the last one: that one vanishes."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, b"", b"1")
        sys.send(writer, b"2", MSG_OOB)
        assert sys.ioctl(reader, FIONREAD) == 0
        assert sys.ioctl(reader, SIOCATMARK) == 1
        assert sys.recv(reader, 1, MSG_OOB) == b"2"
        assert err(sys.recv, reader, 10) == "EAGAIN"

    world.run(main)


def test_a_second_urgent_byte_at_the_mark_with_data(world: World) -> None:
    """The same with data between them."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, b"", b"1", b"ab")
        sys.send(writer, b"2", MSG_OOB)
        assert sys.ioctl(reader, FIONREAD) == 2
        assert sys.recv(reader, 10) == b"ab"
        assert sys.recv(reader, 1, MSG_OOB) == b"2"

    world.run(main)


def test_oob_of_many_bytes(world: World) -> None:
    """Of more bytes the last is urgent; of none nothing is."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, oob=b"abc")
        assert mask(sys, reader) == PRI_DATA
        assert sys.recv(reader, 10, MSG_OOB) == b"c"
        assert sys.recv(reader, 10) == b"ab"
        assert sys.send(writer, b"", MSG_OOB) == 0
        assert mask(sys, reader) == IDLE

    world.run(main)


def test_edges_of_pri(world: World) -> None:
    """An urgent byte is one edge for EPOLLPRI; a second one is another.  EPOLLIN alone hears nothing of a lone one."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, oob=b"")
        pri = watch(sys, reader, EPOLLPRI | EPOLLET)
        both = watch(sys, reader, EPOLLPRI | EPOLLIN | EPOLLET)
        only_in = watch(sys, reader, EPOLLIN | EPOLLET)
        sys.send(writer, b"!", MSG_OOB)
        assert (ready(sys, pri), ready(sys, both), ready(sys, only_in)) == ([(reader, "PRI")], [(reader, "PRI")], [])
        assert ready(sys, pri) == []
        sys.send(writer, b"x")
        assert (ready(sys, pri), ready(sys, both), ready(sys, only_in)) == ([(reader, "PRI")], [(reader, "IN|PRI")], [(reader, "IN")])
        sys.send(writer, b"?", MSG_OOB)
        assert (ready(sys, pri), ready(sys, both), ready(sys, only_in)) == ([(reader, "PRI")], [(reader, "IN|PRI")], [(reader, "IN")])
        sys.recv(reader, 1, MSG_OOB)
        assert (ready(sys, pri), ready(sys, both), ready(sys, only_in)) == ([], [], [])

    world.run(main)


def test_a_blocked_recv_sleeps_over_an_urgent_byte(world: World) -> None:
    """A blocked recv is not ended by a lone urgent byte; it steps over it and gets what comes behind."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        out, result = sys.pipe2()

        def read(sys: Syscalls) -> None:
            sys.write(result, sys.recv(reader, 10))

        tid = start(sys, read)
        sys.send(writer, b"!", MSG_OOB)
        settle(sys)
        assert sys.poll([(out, 1)], 0) == []
        sys.send(writer, b"x")
        assert sys.read(out, 10) == b"x"
        sys.join(tid)

    world.run(main)


def test_a_blocked_poll_for_pri(world: World) -> None:
    """A poll for PRI sleeps through data and wakes for an urgent byte."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        out, result = sys.pipe2()

        def wait(sys: Syscalls) -> None:
            sys.poll([(reader, POLLPRI)], -1)
            sys.write(result, b"woken")

        tid = start(sys, wait)
        sys.send(writer, b"data")
        settle(sys)
        assert sys.poll([(out, 1)], 0) == []
        sys.send(writer, b"!", MSG_OOB)
        assert sys.read(out, 10) == b"woken"
        sys.join(tid)

    world.run(main)


def test_rcvlowat_and_the_urgent_byte(world: World) -> None:
    """At the mark the urgent byte does not count for SO_RCVLOWAT; before it, it does."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, b"a", b"!")
        sys.setsockopt(reader, SOL_SOCKET, SO_RCVLOWAT, 2)
        assert mask(sys, reader) == PRI_DATA
        sys.recv(reader, 1)
        assert mask(sys, reader) == PRI
        sys.send(writer, b"b")
        assert mask(sys, reader) == PRI
        sys.send(writer, b"c")
        assert mask(sys, reader) == PRI_DATA

    world.run(main)


def test_an_unread_hole_is_unread_data(world: World) -> None:
    """close() after recv(MSG_OOB) alone sends a RST: the byte's place in the stream was not read."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys)
        assert sys.recv(reader, 1, MSG_OOB) == b"!"
        sys.close(reader)
        assert mask(sys, writer) == FULL_ERR

    world.run(main)


def test_urgent_byte_and_the_end(world: World) -> None:
    """The urgent byte stays to be read when the peer has shut down; without one it is EINVAL there too."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, b"a", b"!")
        sys.shutdown(writer, SHUT_WR)
        assert mask(sys, reader) == "IN|PRI|OUT|RDNORM|WRNORM|RDHUP"
        assert sys.ioctl(reader, FIONREAD) == 1
        assert sys.recv(reader, 10) == b"a"
        assert sys.ioctl(reader, FIONREAD) == 0
        assert sys.recv(reader, 10, MSG_OOB) == b"!"
        assert sys.recv(reader, 10) == b""
        assert err(sys.recv, reader, 10, MSG_OOB) == "EINVAL"

    world.run(main)


def test_oob_pushes_what_is_held(world: World) -> None:
    """Urgent data is not held back by MSG_MORE, and takes with it what was."""

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, oob=b"")
        sys.send(writer, b"a", MSG_MORE)
        assert mask(sys, reader) == IDLE
        sys.send(writer, b"!", MSG_OOB | MSG_MORE)
        assert mask(sys, reader) == PRI_DATA
        assert sys.recv(reader, 10) == b"a"

    world.run(main)


def test_oob_where_there_is_no_connection(world: World) -> None:
    """recv(MSG_OOB): EINVAL unconnected, ENOTCONN on a listener; send(MSG_OOB): EPIPE, or EAGAIN while connecting."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        assert err(sys.recv, fd, 1, MSG_OOB) == "EINVAL"
        assert err(sys.send, fd, b"x", MSG_OOB) == "EPIPE"
        assert sys.ioctl(fd, SIOCATMARK) == 0
        listening, _ = listener(sys)
        assert err(sys.recv, listening, 1, MSG_OOB | MSG_DONTWAIT) == "ENOTCONN"
        assert sys.ioctl(listening, SIOCATMARK) == 0

    world.run(main)


def test_accept_inherits_oobinline(world: World) -> None:
    """SO_OOBINLINE of a listener is its connections' too."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        sys.setsockopt(listening, SOL_SOCKET, SO_OOBINLINE, 1)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(fd, addr)
        accepted, _ = sys.accept4(listening)
        sys.send(fd, b"!", MSG_OOB)
        assert sys.recv(accepted, 10) == b"!"

    world.run(main)


def test_read_and_readv_stop_too(world: World) -> None:
    """read and recvmsg are recv: they stop at the mark."""

    def main(sys: Syscalls) -> None:
        reader, _ = urgent(sys, b"ab", b"!", b"cd")
        assert sys.read(reader, 10) == b"ab"
        assert sys.recvmsg(reader, 10) == (b"cd", [], 0, "")

    world.run(main)


def test_urgent_data_that_nobody_will_read(world: World) -> None:
    """Urgent data for a socket that is shut down is answered by a RST, and still moves its mark: the old urgent byte is like others.

    PRI is told, yet recv(MSG_OOB) is ENOTCONN.
    """

    def main(sys: Syscalls) -> None:
        reader, writer = urgent(sys, b"a", b"1")
        sys.shutdown(reader, SHUT_RDWR)
        assert sys.send(writer, b"b2", MSG_OOB) == 2
        assert mask(sys, reader) == "IN|PRI|OUT|ERR|HUP|RDNORM|WRNORM|RDHUP"
        assert sys.recv(reader, 10) == b"a1"
        assert err(sys.recv, reader, 10, MSG_OOB) == "ENOTCONN"

    world.run(main)
