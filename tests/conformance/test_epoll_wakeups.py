"""Who wakes, and in which order: several waiters on one epoll, several epolls on one file, and blocked calls."""

from collections.abc import Callable

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLIN,
    EPOLLONESHOT,
    POLLIN,
)

from .helpers import ONE, World, client, listener, settle, start, watch


def waiters(sys: Syscalls, epfds: list[int], cause: Callable[[], object]) -> list[int]:
    """Let a thread wait on each of ``epfds``, one after another; make the cause; return who got an event, in that order."""
    got: list[int] = []

    def wait(sys: Syscalls, i: int) -> None:
        if sys.epoll_wait(epfds[i], 1, 300):
            got.append(i)

    tids = [start(sys, wait, i) for i in range(len(epfds))]
    cause()
    for tid in tids:
        sys.join(tid)
    return got


@pytest.mark.parametrize(
    ("events", "count"), [(EPOLLIN, 3), (EPOLLIN | EPOLLET, 1), (EPOLLIN | EPOLLONESHOT, 1)], ids=["level", "edge", "oneshot"]
)
def test_several_waiters_on_one_epoll(world: World, events: int, count: int) -> None:
    """Fact 91: one event that nobody reads wakes all waiters when level-triggered, one when ET or ONESHOT."""

    def main(sys: Syscalls) -> int:
        r, w = sys.pipe2()
        epfd = watch(sys, r, events)
        return len(waiters(sys, [epfd] * 3, lambda: sys.write(w, b"x")))

    assert world.run(main) == count


def in_turn(sys: Syscalls, call: Callable[[Syscalls], object], cause: Callable[[], object]) -> list[tuple[int, object]]:
    """Let three threads make a call that sleeps, one after another; make the cause three times; return who woke, and with what."""
    got: list[tuple[int, object]] = []
    woken = sys.eventfd()

    def body(sys: Syscalls, i: int) -> None:
        got.append((i, call(sys)))
        sys.write(woken, ONE)

    tids = [start(sys, body, i) for i in range(3)]
    for _ in tids:
        cause()
        sys.read(woken, 8)
    for tid in tids:
        sys.join(tid)
    return got


@pytest.mark.parametrize("events", [EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT], ids=["edge", "oneshot"])
def test_epoll_waiters_wake_lifo(world: World, events: int) -> None:
    """Fact 92: the waiter that came last wakes first."""

    def main(sys: Syscalls) -> list[tuple[int, object]]:
        ends = [sys.pipe2() for _ in range(3)]
        epfd = sys.epoll_create1()
        for i, (r, _) in enumerate(ends):
            sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, events, i)
        writes = iter(ends)
        return in_turn(sys, lambda sys: sys.epoll_wait(epfd, 1), lambda: sys.write(next(writes)[1], b"x"))

    assert world.run(main) == [(2, [(0, EPOLLIN)]), (1, [(1, EPOLLIN)]), (0, [(2, EPOLLIN)])]


def test_blocked_accepts_wake_fifo(world: World) -> None:
    """Fact 93: the accept that came first gets the first connection."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        names: list[object] = []
        got = in_turn(sys, lambda sys: sys.accept4(listening)[1], lambda: names.append(sys.getsockname(client(sys, addr))))
        assert got == list(enumerate(names))

    world.run(main)


def test_blocked_pipe_reads_wake_fifo(world: World) -> None:
    """Fact 93: the read that came first gets the first data."""

    def main(sys: Syscalls) -> list[tuple[int, object]]:
        r, w = sys.pipe2()
        data = iter([b"a", b"b", b"c"])
        return in_turn(sys, lambda sys: sys.read(r, 9), lambda: sys.write(w, next(data)))

    assert world.run(main) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_blocked_pipe_writes_wake_fifo(world: World) -> None:
    """Fact 93, of writes to a full pipe: the write that came first goes first."""

    def main(sys: Syscalls) -> list[tuple[int, object]]:
        r, w = sys.pipe2()
        sys.write(w, bytes(65536))
        return in_turn(sys, lambda sys: sys.write(w, bytes(4096)), lambda: sys.read(r, 4096))

    assert world.run(main) == [(0, 4096), (1, 4096), (2, 4096)]


@pytest.mark.parametrize("call", ["poll", "select"])
def test_poll_waiters_all_wake(world: World, call: str) -> None:
    """Fact 94: a write wakes everyone who polls."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        got: list[int] = []

        def wait(sys: Syscalls, i: int) -> None:
            found = sys.poll([(r, POLLIN)], 1000) if call == "poll" else sys.select([r], [], [], 1.0)[0]
            if found:
                got.append(i)

        tids = [start(sys, wait, i) for i in range(3)]
        sys.write(w, b"x")
        for tid in tids:
            sys.join(tid)
        return sorted(got)

    assert world.run(main) == [0, 1, 2]


@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
def test_every_epoll_on_a_file_wakes(world: World, trigger: int) -> None:
    """Fact 95, the other way: without EXCLUSIVE all epolls that watch a file wake (the herd)."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        epfds = [watch(sys, r, EPOLLIN | trigger) for _ in range(3)]
        return sorted(waiters(sys, epfds, lambda: sys.write(w, b"x")))

    assert world.run(main) == [0, 1, 2]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]], ids=["first waits first", "first waits last"])
@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
def test_exclusive_wakes_the_first_registered(world: World, trigger: int, order: list[int]) -> None:
    """Fact 95: with EXCLUSIVE one wakes, always the one registered first, however the waiters came."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        epfds = [watch(sys, r, EPOLLIN | EPOLLEXCLUSIVE | trigger) for _ in range(3)]
        return [order[i] for i in waiters(sys, [epfds[i] for i in order], lambda: sys.write(w, b"x"))]

    assert world.run(main) == [0]


def test_exclusive_wakes_the_first_every_time(world: World) -> None:
    """Fact 95: they don't take turns: of event after event each wakes the first, which waits again in between."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        epfds = [watch(sys, r, EPOLLIN | EPOLLEXCLUSIVE) for _ in range(2)]
        got: list[int] = []
        read = sys.eventfd()

        def wait(sys: Syscalls, i: int) -> None:
            while sys.epoll_wait(epfds[i], 1, 200):
                got.append(i)
                sys.read(r, 9)
                sys.write(read, ONE)

        tids = [start(sys, wait, i) for i in range(2)]
        for _ in range(4):
            sys.write(w, b"x")
            sys.read(read, 8)
            settle(sys)
        for tid in tids:
            sys.join(tid)
        return got

    assert world.run(main) == [0, 0, 0, 0]


def test_exclusive_passes_over_idle_epolls(world: World) -> None:
    """Fact 95: an epoll on which nobody waits doesn't stop the walk: the first with a sleeping waiter wakes."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        epfds = [watch(sys, r, EPOLLIN | EPOLLEXCLUSIVE) for _ in range(3)]
        return waiters(sys, epfds[1:], lambda: sys.write(w, b"x"))

    assert world.run(main) == [0]


def test_exclusive_beside_plain_entries(world: World) -> None:
    """Fact 95: plain entries all wake, and one of the EXCLUSIVE ones besides."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        kinds = [EPOLLEXCLUSIVE, 0, EPOLLEXCLUSIVE, 0]
        epfds = [watch(sys, r, EPOLLIN | kind) for kind in kinds]
        return sorted(waiters(sys, epfds, lambda: sys.write(w, b"x")))

    assert world.run(main) == [0, 1, 3]


def test_exclusive_event_is_seen_by_who_looks(world: World) -> None:
    """Fact 95: EXCLUSIVE limits the waking only: level-triggered, the others find the event as soon as they look."""

    def main(sys: Syscalls) -> list[list[tuple[int, int]]]:
        r, w = sys.pipe2()
        epfds = [watch(sys, r, EPOLLIN | EPOLLEXCLUSIVE) for _ in range(3)]
        sys.write(w, b"x")
        return [sys.epoll_wait(epfd, 1, 0) for epfd in epfds]

    assert [len(events) for events in world.run(main)] == [1, 1, 1]


def test_exclusive_listener(world: World) -> None:
    """Fact 95, for what it was made: of several processes' epolls on one listener one wakes a connection."""

    def main(sys: Syscalls) -> list[int]:
        listening, addr = listener(sys)
        epfds = [watch(sys, listening, EPOLLIN | EPOLLEXCLUSIVE) for _ in range(3)]
        return waiters(sys, epfds, lambda: client(sys, addr))

    assert world.run(main) == [0]


def test_add_of_a_ready_file_wakes_a_waiter(world: World) -> None:
    """Raw values: an ADD of a file that is ready wakes a thread that waits."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        sys.write(w, b"x")
        epfd = sys.epoll_create1()
        return waiters(sys, [epfd], lambda: sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN))

    assert world.run(main) == [0]


def test_mod_that_makes_ready_wakes_a_waiter(world: World) -> None:
    """Fact 79: so does a MOD."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        sys.write(w, b"x")
        epfd = watch(sys, r, 0)
        return waiters(sys, [epfd], lambda: sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, EPOLLIN))

    assert world.run(main) == [0]


def test_del_before_the_event_wakes_nobody(world: World) -> None:
    """After a DEL the waiter sleeps on, until its timeout."""

    def main(sys: Syscalls) -> list[int]:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)

        def cause() -> None:
            sys.epoll_ctl(epfd, EPOLL_CTL_DEL, r)
            sys.write(w, b"x")

        return waiters(sys, [epfd], cause)

    assert world.run(main) == []


def test_mod_before_the_event_wakes_nobody(world: World) -> None:
    """Fact 79: a waiter whose file was changed to ask for nothing sleeps on, and wakes once it asks again."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        got: list[tuple[int, int]] = []
        tid = start(sys, lambda sys: got.extend(sys.epoll_wait(epfd, 1, 1000)))
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, 0)
        sys.write(w, b"x")
        settle(sys)
        assert got == []
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, EPOLLIN)
        sys.join(tid)
        assert got == [(r, EPOLLIN)]

    world.run(main)


def test_waiters_in_two_processes(world: World) -> None:
    """Fact 91, of processes that share an epoll over fork: an ET event wakes one of them."""

    def main(sys: Syscalls) -> bytes:
        r, w = sys.pipe2()
        report_r, report_w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN | EPOLLET)

        def child(sys: Syscalls) -> None:
            sys.write(report_w, b"%d" % len(sys.epoll_wait(epfd, 1, 250)))

        pids = []
        for _ in range(2):
            pids.append(sys.spawn(child))
            settle(sys)
        sys.write(w, b"x")
        for pid in pids:
            sys.waitpid(pid)
        return bytes(sorted(sys.read(report_r, 9)))

    assert world.run(main) == b"01"
