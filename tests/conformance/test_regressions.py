"""Bugs that re-implementations of epoll have had, each as a test of what Linux does instead."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLRDHUP,
    SHUT_WR,
    SOCK_NONBLOCK,
    SOCK_STREAM,
)

from .helpers import World, channel, client, err, listener, mask, nonblocking, ready, settle, start, tcp_pair, watch, who

LEVEL_EDGE = pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
CHANNELS = pytest.mark.parametrize("kind", ["pipe", "unix", "tcp"])


@LEVEL_EDGE
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_out_is_not_delivered_unrequested(world: World, kind: str, trigger: int) -> None:
    """Asked for IN alone, an event says IN alone, although the socket is writable too."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, kind)
        epfd = watch(sys, ours, EPOLLIN | trigger)
        assert ready(sys, epfd) == []
        sys.write(theirs, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(ours, "IN")]

    world.run(main)


@LEVEL_EDGE
def test_requested_bits_after_mod(world: World, trigger: int) -> None:
    """The bits of before the MOD are no longer delivered."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, "unix")
        epfd = watch(sys, ours, EPOLLIN | EPOLLOUT | trigger)
        assert ready(sys, epfd) == [(ours, "OUT")]
        sys.write(theirs, b"x")
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, ours, EPOLLIN | trigger)
        assert ready(sys, epfd) == [(ours, "IN")]

    world.run(main)


@CHANNELS
def test_mod_under_edge_gives_an_event(world: World, kind: str) -> None:
    """Every MOD of a ready edge-triggered entry is an event, also when it changes nothing."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        sys.write(w, b"x")
        settle(sys)
        epfd = watch(sys, r, EPOLLIN | EPOLLET)
        assert ready(sys, epfd) == [(r, "IN")]
        for _ in range(3):
            sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET)
            assert ready(sys, epfd) == [(r, "IN")]
            assert ready(sys, epfd) == []

    world.run(main)


@LEVEL_EDGE
@CHANNELS
def test_oneshot_does_not_repeat(world: World, kind: str, trigger: int) -> None:
    """Neither the data still there nor new data fires a ONESHOT entry again."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLONESHOT | trigger)
        sys.write(w, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(r, "IN")]
        assert ready(sys, epfd) == []
        sys.write(w, b"x")
        settle(sys)
        assert ready(sys, epfd) == []

    world.run(main)


@LEVEL_EDGE
def test_oneshot_is_rearmed_by_mod(world: World, trigger: int) -> None:
    """MOD re-arms it whether there is data now (an event at once) or later."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        flags = EPOLLIN | EPOLLONESHOT | trigger
        epfd = watch(sys, r, flags)
        for _ in range(3):
            sys.write(w, b"x")
            assert ready(sys, epfd) == [(r, "IN")]
            sys.read(r, 9)
            sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, flags)
            assert ready(sys, epfd) == []

    world.run(main)


@LEVEL_EDGE
def test_eventfd_write_is_an_edge(world: World, trigger: int) -> None:
    """Each write of an eventfd is an event, read in between or not."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        epfd = watch(sys, fd, EPOLLIN | trigger)
        for _ in range(3):
            sys.write(fd, (1).to_bytes(8, "little"))
            assert ready(sys, epfd) == [(fd, "IN")]
        sys.read(fd, 8)
        assert ready(sys, epfd) == []
        sys.write(fd, (1).to_bytes(8, "little"))
        assert ready(sys, epfd) == [(fd, "IN")]

    world.run(main)


@CHANNELS
def test_partial_read_makes_no_edge(world: World, kind: str) -> None:
    """A sleeping waiter isn't woken by another thread's partial read."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLET)
        sys.write(w, b"abc")
        settle(sys)
        assert ready(sys, epfd) == [(r, "IN")]
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.epoll_wait(epfd, 1, 60)))
        sys.read(r, 1)
        sys.join(tid)
        assert got == [[]]

    world.run(main)


@pytest.mark.parametrize("inner_trigger", [0, EPOLLET], ids=["inner level", "inner edge"])
@pytest.mark.parametrize("outer_trigger", [0, EPOLLET], ids=["outer level", "outer edge"])
def test_no_event_is_lost_through_a_nested_epoll(world: World, outer_trigger: int, inner_trigger: int) -> None:
    """Each write that follows a full harvest comes up through both levels."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        inner = watch(sys, r, EPOLLIN | inner_trigger)
        outer = watch(sys, inner, EPOLLIN | outer_trigger)
        for _ in range(3):
            sys.write(w, b"x")
            assert who(sys, outer) == [inner]
            assert who(sys, inner) == [r]
            sys.read(r, 9)
            assert who(sys, inner) == []
            assert who(sys, outer) == []

    world.run(main)


@LEVEL_EDGE
@pytest.mark.parametrize(("kind", "expected"), [("pipe", "HUP"), ("unix", "IN|HUP|RDHUP"), ("tcp", "IN|RDHUP")])
def test_close_of_the_other_side(world: World, kind: str, expected: str, trigger: int) -> None:
    """A pipe and an AF_UNIX socket say HUP when the other side closes; a TCP socket, half open still, says RDHUP only."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLRDHUP | trigger)
        assert ready(sys, epfd) == []
        sys.close(w)
        settle(sys)
        assert ready(sys, epfd) == [(r, expected)]

    world.run(main)


@LEVEL_EDGE
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_rdhup_is_not_hup(world: World, kind: str, trigger: int) -> None:
    """A half-close says RDHUP to those who asked, else IN alone; HUP comes with the second half."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, kind)
        plain = watch(sys, ours, EPOLLIN | trigger)
        asking = watch(sys, ours, EPOLLIN | EPOLLRDHUP | trigger)
        sys.shutdown(theirs, SHUT_WR)
        settle(sys)
        assert (ready(sys, plain), ready(sys, asking)) == ([(ours, "IN")], [(ours, "IN|RDHUP")])
        sys.shutdown(ours, SHUT_WR)
        settle(sys)
        assert (ready(sys, plain), ready(sys, asking)) == ([(ours, "IN|HUP")], [(ours, "IN|HUP|RDHUP")])

    world.run(main)


def test_exclusive_is_bit_28(world: World) -> None:
    """EPOLLEXCLUSIVE is 1 << 28: an entry added with it can't be modified, one added with a neighbouring bit can."""

    def main(sys: Syscalls) -> None:
        assert EPOLLEXCLUSIVE == 1 << 28
        r, _ = sys.pipe2()
        for bit, expected in ((1 << 28, "EINVAL"), (0, None)):
            epfd = sys.epoll_create1()
            sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN | bit)
            assert err(sys.epoll_ctl, epfd, EPOLL_CTL_MOD, r, EPOLLIN) == expected

    world.run(main)


@LEVEL_EDGE
def test_hup_on_an_unconnected_tcp_socket(world: World, trigger: int) -> None:
    """A fresh TCP socket is OUT|HUP for epoll too; when it has connected, HUP is gone."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys)
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        epfd = watch(sys, fd, EPOLLIN | EPOLLOUT | trigger)
        assert ready(sys, epfd) == [(fd, "OUT|HUP")]
        err(sys.connect, fd, addr)
        settle(sys)
        assert ready(sys, epfd) == [(fd, "OUT")]

    world.run(main)


@LEVEL_EDGE
@CHANNELS
def test_close_clears_the_interest_list(world: World, kind: str, trigger: int) -> None:
    """A file that was ready when closed isn't reported, and its number is free for another entry."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | trigger)
        sys.write(w, b"x")
        settle(sys)
        sys.close(r)
        r2, w2 = sys.pipe2()
        assert r2 == r
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, r2, EPOLLIN | trigger) is None
        assert ready(sys, epfd) == []
        sys.write(w2, b"x")
        assert ready(sys, epfd) == [(r2, "IN")]

    world.run(main)


@LEVEL_EDGE
def test_close_during_the_wait(world: World, trigger: int) -> None:
    """A file closed while a thread waits leaves the list under its feet: the wait goes on, for the others."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        r2, w2 = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN | trigger)
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r2, EPOLLIN | trigger)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.epoll_wait(epfd, 9, 1000)))
        sys.close(r)
        assert err(sys.write, w, b"x") == "EPIPE"
        settle(sys)
        assert got == []
        sys.write(w2, b"x")
        sys.join(tid)
        assert got == [[(r2, EPOLLIN)]]

    world.run(main)


@LEVEL_EDGE
def test_in_and_out_are_one_event(world: World, trigger: int) -> None:
    """A file that is readable and writable is reported once, so that who closes it at the first event meets no second one.

    Were there two, the second would hit the next file of that number.
    """

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, "unix")
        epfd = watch(sys, ours, EPOLLIN | EPOLLOUT | trigger)
        sys.write(theirs, b"x")
        assert ready(sys, epfd) == [(ours, "IN|OUT")]
        sys.close(ours)
        reused, _ = sys.socketpair(AF_UNIX, SOCK_STREAM)
        assert reused == ours
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, reused, EPOLLIN | trigger)
        assert ready(sys, epfd) == []

    world.run(main)


@LEVEL_EDGE
def test_in_and_out_take_one_place(world: World, trigger: int) -> None:
    """One event also means one place of maxevents."""

    def main(sys: Syscalls) -> None:
        epfd = sys.epoll_create1()
        for i in range(2):
            ours, theirs = channel(sys, "unix")
            sys.epoll_ctl(epfd, EPOLL_CTL_ADD, ours, EPOLLIN | EPOLLOUT | trigger, i)
            sys.write(theirs, b"x")
        assert ready(sys, epfd, 2) == [(0, "IN|OUT"), (1, "IN|OUT")]

    world.run(main)


@LEVEL_EDGE
def test_epoll_and_pipe_together(world: World, trigger: int) -> None:
    """A writer that fills a pipe and waits for OUT, and a reader that waits for IN, come to an end."""

    def main(sys: Syscalls) -> None:
        total = 300_000
        r, w = sys.pipe2()
        nonblocking(sys, r, w)

        def writer(sys: Syscalls) -> None:
            epfd = watch(sys, w, EPOLLOUT | trigger)
            left = total
            while left:
                n = err(sys.write, w, bytes(min(left, 10_000)))
                if n == "EAGAIN":
                    sys.epoll_wait(epfd, 1)
                else:
                    left -= n
            sys.close(w)

        tid = sys.thread(writer)
        epfd = watch(sys, r, EPOLLIN | trigger)
        got = 0
        while True:
            data = err(sys.read, r, 7_000)
            if data == "EAGAIN":
                sys.epoll_wait(epfd, 1)
            elif data:
                got += len(data)
            else:
                break
        sys.join(tid)
        assert got == total

    world.run(main)


@pytest.mark.parametrize("family", [AF_INET, AF_UNIX], ids=["tcp", "unix"])
def test_backlog_is_not_off_by_one(world: World, family: int) -> None:
    """listen(1) holds two connections."""

    def main(sys: Syscalls) -> None:
        if family == AF_INET:
            _, addr = listener(sys, 1)
            masks = [mask(sys, client(sys, addr, SOCK_NONBLOCK)) for _ in range(3)]
            assert masks == ["OUT|WRNORM", "OUT|WRNORM", "0"]
        else:
            fd, name = sys.socket(AF_UNIX, SOCK_STREAM), f"\0simkernel-{sys.getpid()}".encode()
            sys.bind(fd, name)
            sys.listen(fd, 1)
            results = [err(sys.connect, sys.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK), name) for _ in range(3)]
            assert results == [None, None, "EAGAIN"]

    world.run(main)


@LEVEL_EDGE
def test_err_and_hup_need_not_be_asked_for(world: World, trigger: int) -> None:
    """ERR and HUP come with or without being asked for, and asking changes nothing."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        plain, asking = watch(sys, w, trigger), watch(sys, w, EPOLLERR | EPOLLHUP | trigger)
        sys.close(r)
        assert (ready(sys, plain), ready(sys, asking)) == ([(w, "ERR")], [(w, "ERR")])

    world.run(main)


def test_del_then_add_starts_anew(world: World) -> None:
    """DEL and ADD of a file whose edge was used up: the ADD reports it again."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLET)
        sys.send(theirs, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(ours, "IN")]
        sys.epoll_ctl(epfd, EPOLL_CTL_DEL, ours)
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, ours, EPOLLIN | EPOLLET)
        assert ready(sys, epfd) == [(ours, "IN")]

    world.run(main)
