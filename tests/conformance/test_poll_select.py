"""poll(2), select(2), and the timeouts of every call that waits."""

from collections.abc import Callable

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    CLOCK_MONOTONIC,
    EPOLLIN,
    F_DUPFD,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLRDNORM,
    POLLWRNORM,
    RLIMIT_NOFILE,
    SHUT_WR,
    SOCK_NONBLOCK,
)

from .helpers import ALL, MS, World, bound, channel, client, err, mask, ready, reset, settle, start, tcp_pair, watch


def elapsed(sys: Syscalls, call: Callable[[], object]) -> int:
    """How long a call takes, in nanoseconds."""
    before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
    call()
    return sys.clock_gettime_ns(CLOCK_MONOTONIC) - before


def test_poll_ignores_negative_fds(world: World) -> None:
    """Fact 99: fd -1 is ignored, whatever is asked of it; an fd that isn't open is NVAL, and counts."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        sys.write(w, b"x")
        assert sys.poll([(-1, POLLIN), (r, POLLIN), (900, POLLIN)], 0) == [(r, POLLIN), (900, POLLNVAL)]
        assert sys.poll([(-1, POLLIN)], 0) == []

    world.run(main)


def test_poll_of_a_closed_fd_is_nval(world: World) -> None:
    """Fact 99: at once, even without a limit of time, and unasked."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()
        sys.close(r)
        assert sys.poll([(r, POLLIN)], -1) == [(r, POLLNVAL)]
        assert sys.poll([(r, 0)], -1) == [(r, POLLNVAL)]

    world.run(main)


def test_poll_of_duplicate_fds(world: World) -> None:
    """Fact 99: an fd listed twice is reported twice, each with the bits asked for."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        sys.write(w, b"x")
        assert sys.poll([(r, POLLIN), (r, POLLIN | POLLRDNORM)], 0) == [(r, POLLIN), (r, POLLIN | POLLRDNORM)]

    world.run(main)


def test_poll_answers_in_the_order_of_its_argument(world: World) -> None:
    """Raw values: neither the order of fds nor that of becoming ready."""

    def main(sys: Syscalls) -> None:
        ends = [sys.pipe2() for _ in range(4)]
        for i in (2, 0, 3, 1):
            sys.write(ends[i][1], b"x")
        asked = [(r, POLLIN) for r, _ in reversed(ends)]
        assert sys.poll(asked, 0) == asked

    world.run(main)


def test_poll_reports_only_what_was_asked(world: World) -> None:
    """Only ERR, HUP and NVAL come unasked."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, "unix")
        sys.write(theirs, b"x")
        assert sys.poll([(ours, POLLIN)], 0) == [(ours, POLLIN)]
        assert sys.poll([(ours, POLLOUT)], 0) == [(ours, POLLOUT)]
        assert sys.poll([(ours, 0)], 0) == []
        sys.close(theirs)
        assert sys.poll([(ours, 0)], 0) == [(ours, POLLHUP)]

    world.run(main)


@pytest.mark.parametrize("kind", ["pipe", "unix", "tcp"])
def test_fd_closed_during_poll(world: World, kind: str) -> None:
    """Fact 100: nothing wakes the poll; at its timeout it looks again and reports NVAL."""

    def main(sys: Syscalls) -> None:
        r, _ = channel(sys, kind)
        got: list[object] = []
        times: list[int] = []
        tid = start(sys, lambda sys: times.append(elapsed(sys, lambda: got.append(sys.poll([(r, POLLIN)], 200)))))
        sys.close(r)
        sys.join(tid)
        assert got == [[(r, POLLNVAL)]]
        assert times[0] >= 200 * MS

    world.run(main)


def test_fds_beyond_1023(world: World) -> None:
    """Fact 101: select can't name them (ValueError here, where libc's FD_SET would write past its end); poll and epoll can."""

    def main(sys: Syscalls) -> None:
        _, hard = sys.getrlimit(RLIMIT_NOFILE)
        sys.setrlimit(RLIMIT_NOFILE, (1600, hard))
        r, w = sys.pipe2()
        high = sys.fcntl(r, F_DUPFD, 1500)
        assert high == 1500
        sys.write(w, b"x")
        assert mask(sys, high) == "IN|RDNORM"
        assert ready(sys, watch(sys, high, EPOLLIN)) == [(high, "IN")]
        with pytest.raises(ValueError):
            sys.select([high], [], [], 0)
        with pytest.raises(ValueError):
            sys.select([1024], [], [], 0)

    world.run(main)


def test_select_of_a_pipe_hung_up(world: World) -> None:
    """Fact 102: HUP is readable, neither writable nor exceptional."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        sys.close(w)
        assert sys.select([r], [r], [r], 0) == ([r], [], [])

    world.run(main)


def test_select_of_a_pipe_without_reader(world: World) -> None:
    """Fact 102: ERR is readable and writable."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        sys.close(r)
        assert sys.select([w], [w], [w], 0) == ([w], [w], [])

    world.run(main)


def test_select_of_a_refused_connection(world: World) -> None:
    """Fact 102: readable and writable, not exceptional."""

    def main(sys: Syscalls) -> None:
        _, addr = bound(sys)
        fd = client(sys, addr, SOCK_NONBLOCK)
        settle(sys)
        assert sys.select([fd], [fd], [fd], 0) == ([fd], [fd], [])

    world.run(main)


def test_select_of_a_reset_connection(world: World) -> None:
    """Fact 102: an RST likewise."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        reset(sys, theirs)
        settle(sys)
        assert sys.select([ours], [ours], [ours], 0) == ([ours], [ours], [])

    world.run(main)


def test_select_of_a_closed_fd(world: World) -> None:
    """select(2): EBADF, where poll says NVAL."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        sys.close(r)
        assert err(sys.select, [r], [], [], 0) == "EBADF"
        assert err(sys.select, [], [w], [r], 0) == "EBADF"

    world.run(main)


def test_select_sorts_what_is_ready(world: World) -> None:
    """select answers each of its three sets for itself."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, "unix")
        idle, _ = channel(sys, "unix")
        sys.write(theirs, b"x")
        assert sys.select([ours, idle], [ours, idle], [ours, idle], 0) == ([ours], [ours, idle], [])
        assert sys.select([ours, idle], [], [], 0) == ([ours], [], [])
        sys.shutdown(theirs, SHUT_WR)
        sys.read(ours, 9)
        assert sys.select([ours, idle], [], [], 0) == ([ours], [], [])

    world.run(main)


WAITS: dict[str, Callable[[Syscalls, int, int], object]] = {
    "poll": lambda sys, fd, epfd: sys.poll([(fd, POLLIN)], 20),
    "poll nothing": lambda sys, fd, epfd: sys.poll([], 20),
    "select": lambda sys, fd, epfd: sys.select([fd], [], [], 0.0201),
    "select nothing": lambda sys, fd, epfd: sys.select([], [], [], 0.0201),
    "epoll_wait": lambda sys, fd, epfd: sys.epoll_wait(epfd, 1, 20),
    "epoll_pwait2": lambda sys, fd, epfd: sys.epoll_pwait2(epfd, 1, 20_100_000),
    "nanosleep": lambda sys, fd, epfd: sys.nanosleep(20_100_000),
}


@pytest.mark.parametrize("call", list(WAITS))
def test_timeouts_are_never_early(world: World, call: str) -> None:
    """Fact 104: a wait that finds nothing lasts at least as long as was asked for, and its result is empty."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        got: list[object] = []
        least = 20_000_000 if call in ("poll", "poll nothing", "epoll_wait") else 20_100_000
        assert elapsed(sys, lambda: got.append(WAITS[call](sys, r, epfd))) >= least
        assert got[0] in ([], ([], [], []), None)

    world.run(main)


def test_epoll_pwait2_is_finer_than_a_millisecond(world: World) -> None:
    """Fact 104: 100 us are honoured, where epoll_wait knows whole milliseconds only."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        times = [elapsed(sys, lambda: sys.epoll_pwait2(epfd, 1, 100_000)) for _ in range(10)]
        # The shortest of several: a busy machine may be late, though never early.
        assert 100_000 <= min(times) < MS

    world.run(main)


@pytest.mark.parametrize("call", ["epoll_wait", "poll", "epoll_pwait2", "select"])
def test_no_limit_of_time(world: World, call: str) -> None:
    """Fact 104: any negative timeout is infinite (None for select and epoll_pwait2)."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        calls: dict[str, Callable[[Syscalls], object]] = {
            "epoll_wait": lambda sys: sys.epoll_wait(epfd, 1, -5),
            "poll": lambda sys: sys.poll([(r, POLLIN)], -5),
            "epoll_pwait2": lambda sys: sys.epoll_pwait2(epfd, 1, None),
            "select": lambda sys: sys.select([r], [], [], None),
        }
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(calls[call](sys)))
        assert got == []
        sys.write(w, b"x")
        sys.join(tid)
        assert got == [([r], [], []) if call == "select" else [(r, POLLIN)]]

    world.run(main)


def test_more_fds_than_the_limit(world: World) -> None:
    """Fact 106: poll of more entries than RLIMIT_NOFILE is EINVAL, even when they are all -1."""

    def main(sys: Syscalls) -> None:
        _, hard = sys.getrlimit(RLIMIT_NOFILE)
        sys.setrlimit(RLIMIT_NOFILE, (64, hard))
        assert err(sys.poll, [(-1, POLLIN)] * 64, 0) == []
        assert err(sys.poll, [(-1, POLLIN)] * 65, 0) == "EINVAL"

    world.run(main)


@pytest.mark.parametrize("kind", ["pipe", "unix", "tcp"])
@pytest.mark.parametrize("call", ["poll", "select"])
def test_data_wakes_a_waiter(world: World, call: str, kind: str) -> None:
    """poll and select sleep until there is data; one of several files is enough."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        idle, _ = channel(sys, kind)
        got: list[object] = []
        if call == "poll":
            tid = start(sys, lambda sys: got.append(sys.poll([(idle, POLLIN), (r, POLLIN)], 1000)))
        else:
            tid = start(sys, lambda sys: got.append(sys.select([idle, r], [], [], 1.0)))
        assert got == []
        sys.write(w, b"x")
        sys.join(tid)
        assert got == [[(r, POLLIN)] if call == "poll" else ([r], [], [])]

    world.run(main)


def test_poll_sleeps_through_what_it_did_not_ask_for(world: World) -> None:
    """Data doesn't end a wait for OUT on a pipe's read end; HUP, which comes unasked, does."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.poll([(r, POLLOUT)], 1000)))
        sys.write(w, b"x")
        settle(sys)
        assert got == []
        sys.close(w)
        sys.join(tid)
        assert got == [[(r, POLLHUP)]]

    world.run(main)


def test_zero_timeout_does_not_sleep(world: World) -> None:
    """A timeout of 0 looks once: with nothing there, the answer is empty; with something, it is told."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        for expected in ([], [(r, POLLIN)]):
            assert sys.poll([(r, POLLIN)], 0) == expected
            assert sys.epoll_wait(epfd, 1, 0) == expected
            assert sys.epoll_pwait2(epfd, 1, 0) == expected
            assert sys.select([r], [], [], 0) == ([fd for fd, _ in expected], [], [])
            sys.write(w, b"x")

    world.run(main)


def test_poll_of_a_wrong_end(world: World) -> None:
    """Raw values: the write end of a pipe never says IN, nor the read end OUT."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        sys.write(w, b"x")
        assert sys.poll([(w, ALL & ~POLLOUT & ~POLLWRNORM)], 0) == []
        assert sys.poll([(r, POLLOUT)], 0) == []

    world.run(main)
