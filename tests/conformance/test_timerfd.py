"""timerfd: masks, counts, edges, settings."""

from simkernel.api import Syscalls
from simkernel.uapi import (
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    EPOLLET,
    EPOLLIN,
    NSEC_PER_SEC,
    POLLIN,
    TFD_CLOEXEC,
    TFD_NONBLOCK,
    TFD_TIMER_ABSTIME,
)

from .helpers import MS, World, err, mask, settle, start, watch, who


def count(sys: Syscalls, fd: int) -> int:
    return int.from_bytes(sys.read(fd, 8), "little")


def test_unarmed(world: World) -> None:
    """Fact 115: an unarmed timer has mask 0, and a read is EAGAIN; settings are (0, 0)."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        assert mask(sys, fd) == "0"
        assert err(sys.read, fd, 8) == "EAGAIN"
        assert sys.timerfd_gettime(fd) == (0, 0)

    world.run(main)


def test_one_shot(world: World) -> None:
    """A one-shot timer is IN (without RDNORM) when it has expired, reads 1, and is then disarmed."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        assert sys.timerfd_settime(fd, 0, 10 * MS) == (0, 0)
        left, interval = sys.timerfd_gettime(fd)
        assert 0 < left <= 10 * MS
        assert interval == 0
        assert mask(sys, fd) == "0"
        settle(sys)
        assert mask(sys, fd) == "IN"
        assert sys.timerfd_gettime(fd) == (0, 0)
        assert count(sys, fd) == 1
        assert err(sys.read, fd, 8) == "EAGAIN"
        assert mask(sys, fd) == "0"

    world.run(main)


def test_periodic(world: World) -> None:
    """Fact 115: a periodic timer counts what it missed; after the read it goes on from where it would have been."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        sys.timerfd_settime(fd, 0, 100 * MS, 100 * MS)
        settle(sys, 350)
        assert mask(sys, fd) == "IN"
        n = count(sys, fd)
        assert n >= 3
        assert err(sys.read, fd, 8) == "EAGAIN"
        left, interval = sys.timerfd_gettime(fd)
        assert 0 < left <= 100 * MS
        assert interval == 100 * MS
        if world.name == "sim":
            assert (n, left) == (3, 50 * MS)

    world.run(main)


def test_a_blocking_read_waits(world: World) -> None:
    """A read sleeps until the timer expires, never shorter."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC)
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        sys.timerfd_settime(fd, 0, 30 * MS)
        assert count(sys, fd) == 1
        assert sys.clock_gettime_ns(CLOCK_MONOTONIC) - before >= 30 * MS

    world.run(main)


def test_settime_forgets(world: World) -> None:
    """Fact 115: a new setting forgets what had expired; the old one comes back; 0 disarms, whatever the interval."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        sys.timerfd_settime(fd, 0, 1 * MS)
        settle(sys)
        assert sys.timerfd_settime(fd, 0, 60 * NSEC_PER_SEC, 7) == (0, 0)
        assert mask(sys, fd) == "0"
        assert err(sys.read, fd, 8) == "EAGAIN"
        left, interval = sys.timerfd_settime(fd, 0, 0, 9)
        assert 59 * NSEC_PER_SEC < left <= 60 * NSEC_PER_SEC
        assert interval == 7
        assert sys.timerfd_gettime(fd) == (0, 9)

    world.run(main)


def test_absolute(world: World) -> None:
    """Fact 115: an absolute time that has passed fires at once; on each of the three clocks."""

    def main(sys: Syscalls) -> None:
        settle(sys)
        for clock in (CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME):
            fd = sys.timerfd_create(clock, TFD_NONBLOCK)
            sys.timerfd_settime(fd, TFD_TIMER_ABSTIME, sys.clock_gettime_ns(clock) - 10 * MS)
            assert mask(sys, fd) == "IN"
            assert count(sys, fd) == 1
            sys.timerfd_settime(fd, TFD_TIMER_ABSTIME, sys.clock_gettime_ns(clock) + 40 * MS)
            assert mask(sys, fd) == "0"
            left, _ = sys.timerfd_gettime(fd)
            assert 0 < left <= 40 * MS
            settle(sys, 50)
            assert mask(sys, fd) == "IN"
            sys.timerfd_settime(fd, TFD_TIMER_ABSTIME, 1)
            assert mask(sys, fd) == "IN"

    world.run(main)


def test_an_absolute_periodic_timer_of_the_past(world: World) -> None:
    """It has expired once for each interval that has passed since."""

    def main(sys: Syscalls) -> None:
        settle(sys, 50)
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        sys.timerfd_settime(fd, TFD_TIMER_ABSTIME, sys.clock_gettime_ns(CLOCK_MONOTONIC) - 35 * MS, 1000 * MS)
        assert count(sys, fd) == 1
        left, _ = sys.timerfd_gettime(fd)
        assert 900 * MS < left <= 965 * MS
        sys.timerfd_settime(fd, TFD_TIMER_ABSTIME, sys.clock_gettime_ns(CLOCK_MONOTONIC) - 35 * MS, 10 * MS)
        assert count(sys, fd) >= 4

    world.run(main)


def test_gettime_starts_a_periodic_timer_again(world: World) -> None:
    """timerfd_gettime of a periodic timer that has expired counts what was missed, as a read does, and keeps the count."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        sys.timerfd_settime(fd, 0, 50 * MS, 1000 * MS)
        settle(sys, 100)
        left, interval = sys.timerfd_gettime(fd)
        assert 900 * MS < left <= 960 * MS
        assert interval == 1000 * MS
        assert mask(sys, fd) == "IN"
        assert count(sys, fd) == 1

    world.run(main)


def test_errors(world: World) -> None:
    """EINVAL for flags, clocks, sizes, negative times and other files; writes are EINVAL; lseek has nothing to do."""

    def main(sys: Syscalls) -> None:
        assert err(sys.timerfd_create, CLOCK_MONOTONIC, 1) == "EINVAL"
        assert err(sys.timerfd_create, 99) == "EINVAL"
        assert err(sys.timerfd_create, 2) == "EINVAL"
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        assert sys.fcntl(fd, 1) == 1
        assert sys.fcntl(fd, 3) == 0o4002
        assert err(sys.read, fd, 7) == "EINVAL"
        assert err(sys.write, fd, b"12345678") == "EINVAL"
        assert err(sys.timerfd_settime, fd, 8, 1) == "EINVAL"
        assert err(sys.timerfd_settime, fd, 0, -1) == "EINVAL"
        assert err(sys.timerfd_settime, fd, 0, 1, -1) == "EINVAL"
        assert err(sys.timerfd_settime, 99, 0, -1) == "EINVAL"
        assert err(sys.timerfd_settime, 99, 0, 1) == "EBADF"
        assert err(sys.timerfd_settime, sys.eventfd(), 0, 1) == "EINVAL"
        assert err(sys.timerfd_gettime, sys.eventfd()) == "EINVAL"
        assert err(sys.timerfd_gettime, 99) == "EBADF"

    world.run(main)


def test_edges(world: World) -> None:
    """Fact 87: an unread periodic timer is one edge only, however often it expires; a read makes the next expiry an edge."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        ep = watch(sys, fd, EPOLLIN | EPOLLET)
        sys.timerfd_settime(fd, 0, 20 * MS, 20 * MS)
        settle(sys, 50)
        assert who(sys, ep) == [fd]
        settle(sys, 50)
        assert who(sys, ep) == []
        sys.read(fd, 8)
        settle(sys, 50)
        assert who(sys, ep) == [fd]

    world.run(main)


def test_it_wakes_poll_and_epoll(world: World) -> None:
    """A timer ends the sleep of who polls it."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        sys.timerfd_settime(fd, 0, 20 * MS)
        assert sys.poll([(fd, POLLIN)], 10_000) == [(fd, POLLIN)]
        ep = watch(sys, fd, EPOLLIN)
        sys.timerfd_settime(fd, 0, 20 * MS)
        assert sys.epoll_wait(ep, 1, 10_000) == [(fd, EPOLLIN)]

    world.run(main)


def test_a_dup_and_a_child_share_the_timer(world: World) -> None:
    """The timer belongs to the open file: whoever reads first takes the count."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        other = sys.dup(fd)
        sys.timerfd_settime(other, 0, 10 * MS)
        pid = sys.spawn(lambda sys: sys.exit(len(err(sys.read, fd, 8)) if sys.poll([(fd, POLLIN)], 1000) else 9))
        assert sys.waitpid(pid) == (pid, 8 << 8)
        assert err(sys.read, fd, 8) == "EAGAIN"

    world.run(main)


def test_readers_of_one_timer(world: World) -> None:
    """All sleeping readers are woken, and one gets the count."""

    def main(sys: Syscalls) -> None:
        fd = sys.timerfd_create(CLOCK_MONOTONIC)
        got: list[bytes] = []
        for _ in range(2):
            start(sys, lambda sys: got.append(sys.read(fd, 8)))
        sys.timerfd_settime(fd, 0, 10 * MS)
        settle(sys, 60)
        assert len(got) == 1
        sys.timerfd_settime(fd, 0, 10 * MS)
        settle(sys, 60)
        assert len(got) == 2

    world.run(main)
