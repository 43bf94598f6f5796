"""epoll in epoll: how readiness comes up, level by level."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLET, EPOLLIN, EPOLLOUT

from .helpers import World, mask, ready, start, watch


@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
def test_poll_on_an_epoll(world: World, trigger: int) -> None:
    """Fact 98: an epoll's own mask is IN while it has something to report, else 0."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN | trigger)
        assert mask(sys, epfd) == "0"
        sys.write(w, b"x")
        assert mask(sys, epfd) == "IN|RDNORM"
        assert sys.select([epfd], [epfd], [epfd], 0) == ([epfd], [], [])
        ready(sys, epfd)
        assert mask(sys, epfd) == ("0" if trigger else "IN|RDNORM")
        sys.read(r, 9)
        assert mask(sys, epfd) == "0"

    world.run(main)


def test_poll_on_an_epoll_looks_at_the_files(world: World) -> None:
    """Fact 98: an entry that is queued but no longer ready doesn't count."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        sys.write(w, b"x")
        sys.read(r, 9)
        assert mask(sys, epfd) == "0"

    world.run(main)


def test_outer_level_inner_edge(world: World) -> None:
    """Fact 96: the outer epoll repeats its event until the inner one is harvested."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        inner = watch(sys, r, EPOLLIN | EPOLLET)
        outer = watch(sys, inner, EPOLLIN)
        sys.write(w, b"x")
        assert [ready(sys, outer) for _ in range(3)] == [[(inner, "IN")]] * 3
        assert ready(sys, inner) == [(r, "IN")]
        assert ready(sys, outer) == []

    world.run(main)


def test_outer_level_inner_level(world: World) -> None:
    """Fact 96: both level-triggered: the outer one repeats until the file itself is drained."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        inner = watch(sys, r, EPOLLIN)
        outer = watch(sys, inner, EPOLLIN)
        sys.write(w, b"x")
        for _ in range(2):
            assert ready(sys, outer) == [(inner, "IN")]
            assert ready(sys, inner) == [(r, "IN")]
        sys.read(r, 9)
        assert ready(sys, outer) == []

    world.run(main)


@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["inner level", "inner edge"])
def test_outer_edge(world: World, trigger: int) -> None:
    """Fact 97: an edge-triggered outer epoll reports once, and again when new data comes."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        inner = watch(sys, r, EPOLLIN | trigger)
        outer = watch(sys, inner, EPOLLIN | EPOLLET)
        sys.write(w, b"x")
        assert ready(sys, outer) == [(inner, "IN")]
        assert ready(sys, outer) == []
        ready(sys, inner)
        sys.write(w, b"x")
        assert ready(sys, outer) == [(inner, "IN")]
        assert ready(sys, outer) == []

    world.run(main)


def test_inner_ready_before_it_is_added(world: World) -> None:
    """Facts 74 and 98: an inner epoll that is ready when added is reported."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        inner = watch(sys, r, EPOLLIN)
        sys.write(w, b"x")
        outer = watch(sys, inner, EPOLLIN | EPOLLET)
        assert ready(sys, outer) == [(inner, "IN")]

    world.run(main)


def test_inner_gets_a_ready_file(world: World) -> None:
    """An ADD to the inner epoll of a file that is ready makes the outer one ready."""

    def main(sys: Syscalls) -> None:
        _, w = sys.pipe2()
        inner = sys.epoll_create1()
        outer = watch(sys, inner, EPOLLIN)
        assert ready(sys, outer) == []
        sys.epoll_ctl(inner, EPOLL_CTL_ADD, w, EPOLLOUT)
        assert ready(sys, outer) == [(inner, "IN")]
        sys.epoll_ctl(inner, EPOLL_CTL_DEL, w)
        assert ready(sys, outer) == []

    world.run(main)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_waiter_wakes_through_the_levels(world: World, depth: int) -> None:
    """Facts 59 and 98: a thread that sleeps on the outermost epoll wakes by a write at the bottom."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        for _ in range(depth):
            epfd = watch(sys, epfd, EPOLLIN)
        got: list[tuple[int, int]] = []
        tid = start(sys, lambda sys: got.extend(sys.epoll_wait(epfd, 1, 1000)))
        assert got == []
        sys.write(w, b"x")
        sys.join(tid)
        assert [events for _, events in got] == [EPOLLIN]

    world.run(main)


def test_poll_sleeps_on_an_epoll(world: World) -> None:
    """Fact 98: poll(2) and select(2) on an epoll wake when it becomes ready."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        got: list[object] = []
        tids = [
            start(sys, lambda sys: got.append(sys.poll([(epfd, EPOLLIN)], 1000))),
            start(sys, lambda sys: got.append(sys.select([epfd], [], [], 1.0))),
        ]
        sys.write(w, b"x")
        for tid in tids:
            sys.join(tid)
        assert sorted(got, key=repr) == [([epfd], [], []), [(epfd, EPOLLIN)]]

    world.run(main)


def test_closing_the_inner_epoll(world: World) -> None:
    """The close of the inner epoll takes its entry out of the outer one, like any file's."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        inner = watch(sys, r, EPOLLIN)
        outer = watch(sys, inner, EPOLLIN)
        sys.write(w, b"x")
        sys.close(inner)
        assert ready(sys, outer) == []

    world.run(main)


def test_closing_the_outer_epoll(world: World) -> None:
    """The inner epoll goes on without the outer one."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        inner = watch(sys, r, EPOLLIN)
        outer = watch(sys, inner, EPOLLIN)
        sys.close(outer)
        sys.write(w, b"x")
        assert ready(sys, inner) == [(r, "IN")]

    world.run(main)


def test_out_is_never_true_of_an_epoll(world: World) -> None:
    """Fact 98: only IN comes up, whatever the file inside is ready for."""

    def main(sys: Syscalls) -> None:
        _, w = sys.pipe2()
        inner = watch(sys, w, EPOLLOUT)
        outer = watch(sys, inner, EPOLLIN | EPOLLOUT)
        assert ready(sys, outer) == [(inner, "IN")]

    world.run(main)
