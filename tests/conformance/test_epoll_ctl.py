"""epoll_ctl: its errors, the key of the interest list (file and fd), and what closing does to it."""

import itertools

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    EPOLL_CLOEXEC,
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
    EPOLLPRI,
    EPOLLRDHUP,
    EPOLLWAKEUP,
    F_GETFD,
    FD_CLOEXEC,
    SOCK_STREAM,
)

from .helpers import ALL, FIN, World, channel, err, ready, reset, settle, tcp_pair, watch, who

CHANNELS = ["pipe", "unix", "tcp"]


def test_add_twice_mod_absent_del_absent(world: World) -> None:
    """Fact 55: ADD of what is there is EEXIST; MOD and DEL of what isn't are ENOENT."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, r, EPOLLOUT) == "EEXIST"
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_MOD, w, EPOLLIN) == "ENOENT"
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_DEL, w) == "ENOENT"
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_DEL, r) is None
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_DEL, r) == "ENOENT"
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, r, EPOLLIN) is None

    world.run(main)


def test_add_self(world: World) -> None:
    """Fact 57: an epoll can't watch itself, not under a dup's number either: EINVAL."""

    def main(sys: Syscalls) -> None:
        epfd = sys.epoll_create1()
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, epfd, EPOLLIN) == "EINVAL"
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, sys.dup(epfd), EPOLLIN) == "EINVAL"

    world.run(main)


@pytest.mark.parametrize("length", [2, 3, 4])
def test_cycle(world: World, length: int) -> None:
    """Fact 58: epolls that would watch each other in a circle are ELOOP."""

    def main(sys: Syscalls) -> None:
        fds = [sys.epoll_create1() for _ in range(length)]
        for outer, inner in itertools.pairwise(fds):
            sys.epoll_ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN)
        assert err(sys.epoll_ctl, fds[-1], EPOLL_CTL_ADD, fds[0], EPOLLIN) == "ELOOP"

    world.run(main)


@pytest.mark.parametrize("order", ["inner first", "outer first"])
def test_nesting_depth(world: World, order: str) -> None:
    """Fact 59: four links of epoll in epoll are allowed, the fifth is ELOOP, from whichever end the chain is built."""

    def main(sys: Syscalls) -> list[object]:
        fds = [sys.epoll_create1() for _ in range(9)]
        results = []
        for one, two in itertools.pairwise(fds):
            outer, inner = (two, one) if order == "inner first" else (one, two)
            results.append(err(sys.epoll_ctl, outer, EPOLL_CTL_ADD, inner, EPOLLIN))
        return results

    # The link that fails leaves a gap, where a new chain begins.
    assert world.run(main) == [None, None, None, None, "ELOOP", None, None, None]


def test_nesting_with_a_pipe_at_the_bottom(world: World) -> None:
    """Fact 59: a pipe under the innermost epoll is no further link, and its event comes up through all four."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        inner = watch(sys, r, EPOLLIN)
        for _ in range(4):
            inner = watch(sys, inner, EPOLLIN)
        assert err(watch, sys, inner, EPOLLIN) == "ELOOP"
        assert ready(sys, inner) == []
        sys.write(w, b"x")
        assert [mask for _, mask in ready(sys, inner)] == ["IN"]

    world.run(main)


@pytest.mark.parametrize(
    ("extra", "result"),
    [
        (0, None),
        (EPOLLET, None),
        (EPOLLWAKEUP, None),
        (EPOLLHUP | EPOLLERR, None),
        (EPOLLET | EPOLLWAKEUP, None),
        (EPOLLONESHOT, "EINVAL"),
        (EPOLLPRI, "EINVAL"),
        (EPOLLRDHUP, "EINVAL"),
    ],
)
def test_what_goes_with_exclusive(world: World, extra: int, result: str | None) -> None:
    """Fact 60: EXCLUSIVE with ONESHOT, PRI or RDHUP is EINVAL; with IN, OUT, ET, WAKEUP, HUP and ERR it is fine."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()
        epfd = sys.epoll_create1()
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, r, EPOLLEXCLUSIVE | EPOLLIN | EPOLLOUT | extra) == result

    world.run(main)


def test_mod_of_exclusive(world: World) -> None:
    """Fact 61: MOD of an EXCLUSIVE entry is EINVAL; DEL and ADD do instead."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN | EPOLLEXCLUSIVE)
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_MOD, r, EPOLLIN) == "EINVAL"
        sys.epoll_ctl(epfd, EPOLL_CTL_DEL, r)
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN)

    world.run(main)


def test_mod_to_exclusive(world: World) -> None:
    """Fact 61: MOD to EXCLUSIVE is EINVAL, and leaves the entry as it was."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLEXCLUSIVE) == "EINVAL"
        sys.write(w, b"x")
        assert ready(sys, epfd) == [(r, "IN")]

    world.run(main)


def test_exclusive_on_an_epoll(world: World) -> None:
    """Fact 62: an epoll can't be watched with EXCLUSIVE: EINVAL."""

    def main(sys: Syscalls) -> None:
        epfd = sys.epoll_create1()
        assert err(watch, sys, epfd, EPOLLIN | EPOLLEXCLUSIVE) == "EINVAL"

    world.run(main)


def test_errors_of_epoll_wait(world: World) -> None:
    """Fact 63: maxevents <= 0 is EINVAL, what is no epoll is EINVAL, a closed fd EBADF."""

    def main(sys: Syscalls) -> None:
        epfd = sys.epoll_create1()
        assert err(sys.epoll_wait, epfd, 0, 0) == "EINVAL"
        assert err(sys.epoll_wait, epfd, -1, 0) == "EINVAL"
        assert err(sys.epoll_wait, sys.socket(AF_INET, SOCK_STREAM), 1, 0) == "EINVAL"
        sys.close(epfd)
        assert err(sys.epoll_wait, epfd, 1, 0) == "EBADF"

    world.run(main)


def test_errors_of_epoll_ctl(world: World) -> None:
    """Raw values: a closed fd, or a closed epfd, is EBADF; what is no epoll, and an unknown operation, EINVAL."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = sys.epoll_create1()
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, 900, EPOLLIN) == "EBADF"
        assert err(sys.epoll_ctl, 900, EPOLL_CTL_ADD, r, EPOLLIN) == "EBADF"
        assert err(sys.epoll_ctl, w, EPOLL_CTL_ADD, r, EPOLLIN) == "EINVAL"
        assert err(sys.epoll_ctl, epfd, 9, r, EPOLLIN) == "EINVAL"

    world.run(main)


def test_epoll_create1_flags(world: World) -> None:
    """EPOLL_CLOEXEC sets FD_CLOEXEC; another flag is EINVAL."""

    def main(sys: Syscalls) -> None:
        assert sys.fcntl(sys.epoll_create1(), F_GETFD) == 0
        assert sys.fcntl(sys.epoll_create1(EPOLL_CLOEXEC), F_GETFD) == FD_CLOEXEC
        assert err(sys.epoll_create1, 1) == "EINVAL"

    world.run(main)


def test_hup_without_any_event_asked_for(world: World) -> None:
    """Fact 64: events=0 still reports HUP."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, 0)
        sys.write(w, b"x")
        assert ready(sys, epfd) == []
        sys.close(w)
        assert ready(sys, epfd) == [(r, "HUP")]

    world.run(main)


def test_err_without_any_event_asked_for(world: World) -> None:
    """Fact 64: events=0 still reports ERR, after a MOD too."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLOUT)
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, ours, 0)
        assert ready(sys, epfd) == []
        reset(sys, theirs)
        settle(sys)
        assert ready(sys, epfd) == [(ours, "ERR|HUP")]

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_closed_fd_with_a_live_dup_still_fires(world: World, kind: str) -> None:
    """Fact 65: the key is (file, fd): under the old number events go on; DEL of it is EBADF, MOD by the dup ENOENT."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN)
        twin = sys.dup(r)
        sys.close(r)
        sys.write(w, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(r, "IN")]
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_DEL, r) == "EBADF"
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_MOD, r, 0) == "EBADF"
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_MOD, twin, 0) == "ENOENT"
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_DEL, twin) == "ENOENT"
        # The way out: bring the file back to its old number.
        sys.dup2(twin, r)
        sys.epoll_ctl(epfd, EPOLL_CTL_DEL, r)
        assert ready(sys, epfd) == []

    world.run(main)


def test_zombie_entry_and_reused_number(world: World) -> None:
    """Fact 66: a zombie entry and a new file of the same number are two entries: ADD is fine, and both fire."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = sys.epoll_create1()
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN, "old")
        sys.dup(r)
        sys.close(r)
        r2, w2 = sys.pipe2()
        assert r2 == r
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, r2, EPOLLIN, "new") is None
        sys.write(w, b"x")
        sys.write(w2, b"x")
        assert ready(sys, epfd) == [("old", "IN"), ("new", "IN")]
        sys.epoll_ctl(epfd, EPOLL_CTL_DEL, r2)
        assert ready(sys, epfd) == [("old", "IN")]

    world.run(main)


def test_dup_added_separately(world: World) -> None:
    """Fact 67: a file may be added once under each of its fds; both fire; the last close removes both."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        twin = sys.dup(r)
        epfd = watch(sys, r, EPOLLIN)
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, twin, EPOLLIN) is None
        sys.write(w, b"x")
        assert sorted(ready(sys, epfd)) == [(r, "IN"), (twin, "IN")]
        sys.close(r)
        assert sorted(ready(sys, epfd)) == [(r, "IN"), (twin, "IN")]
        sys.close(twin)
        assert ready(sys, epfd) == []

    world.run(main)


def test_child_keeps_the_entry(world: World) -> None:
    """Fact 68: after the parent's close events go on as long as a child holds the fd, and end with its exit."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        go_r, go_w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        pid = sys.spawn(lambda sys: sys.read(go_r, 1))
        sys.write(w, b"x")
        sys.close(r)
        settle(sys)
        assert ready(sys, epfd) == [(r, "IN")]
        sys.write(go_w, b"!")
        sys.waitpid(pid)
        assert ready(sys, epfd) == []

    world.run(main)


def test_dup_of_the_epoll_shares_the_interest_list(world: World) -> None:
    """Fact 69: entries made through either fd are seen through both."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = sys.epoll_create1()
        twin = sys.dup(epfd)
        sys.epoll_ctl(twin, EPOLL_CTL_ADD, r, EPOLLIN)
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, r, EPOLLIN) == "EEXIST"
        sys.write(w, b"x")
        assert (ready(sys, epfd), ready(sys, twin)) == ([(r, "IN")], [(r, "IN")])
        sys.close(epfd)
        assert ready(sys, twin) == [(r, "IN")]

    world.run(main)


def test_child_shares_the_interest_list(world: World) -> None:
    """Fact 69, of fork: an ADD by a child is in the list for the parent as well, under the child's fd number."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = sys.epoll_create1()
        pid = sys.spawn(lambda sys: sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN))
        assert sys.waitpid(pid) == (pid, 0)
        sys.write(w, b"x")
        assert len(sys.epoll_wait(epfd, 9, 0)) == 1
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, r, EPOLLIN) == "EEXIST"

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_close_removes_the_entry(world: World, kind: str) -> None:
    """Raw values: the last close takes the entry away; DEL is EBADF; a new file of the same number is not watched."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN)
        sys.write(w, b"x")
        settle(sys)
        sys.close(r)
        assert ready(sys, epfd) == []
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_DEL, r) == "EBADF"
        r2, w2 = sys.pipe2()
        assert r2 == r
        sys.write(w2, b"x")
        assert ready(sys, epfd) == []
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_MOD, r2, EPOLLIN) == "ENOENT"

    world.run(main)


def test_dup2_over_a_watched_fd_removes_the_entry(world: World) -> None:
    """dup2 closes its target, so the entry goes."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()
        r2, w2 = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        sys.write(w2, b"x")
        sys.dup2(r2, r)
        assert ready(sys, epfd) == []
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_DEL, r) == "ENOENT"

    world.run(main)


def test_data_comes_back(world: World) -> None:
    """epoll_data is the caller's; MOD replaces it."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = sys.epoll_create1()
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN, "one")
        sys.write(w, b"x")
        assert who(sys, epfd) == ["one"]
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, EPOLLIN, "two")
        assert who(sys, epfd) == ["two"]

    world.run(main)


def test_del_of_a_ready_entry(world: World) -> None:
    """DEL takes an entry out of the ready list too."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        sys.write(w, b"x")
        sys.epoll_ctl(epfd, EPOLL_CTL_DEL, r)
        assert ready(sys, epfd) == []
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN)
        assert ready(sys, epfd) == [(r, "IN")]

    world.run(main)


def test_one_file_in_two_epolls(world: World) -> None:
    """Each epoll has its own entry for a file."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        one, two = watch(sys, r, EPOLLIN | EPOLLET), watch(sys, r, EPOLLIN | EPOLLET)
        sys.write(w, b"x")
        assert (who(sys, one), who(sys, two)) == ([r], [r])
        assert (who(sys, one), who(sys, two)) == ([], [])

    world.run(main)


@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
def test_epoll_reports_the_whole_mask(world: World, trigger: int) -> None:
    """Raw values: asked for every bit, epoll reports what poll reports."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.close(theirs)
        settle(sys)
        epfd = watch(sys, ours, ALL | trigger)
        assert ready(sys, epfd) == [(ours, FIN)]

    world.run(main)


def test_closing_the_epoll(world: World) -> None:
    """Closing an epoll leaves the watched files alone, and a file closed later has no one to tell."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        sys.close(epfd)
        sys.write(w, b"x")
        assert sys.read(r, 9) == b"x"
        sys.close(r)
        assert err(sys.write, w, b"x") == "EPIPE"

    world.run(main)


def test_read_and_write_on_an_epoll(world: World) -> None:
    """An epoll fd can be neither read nor written: EINVAL."""

    def main(sys: Syscalls) -> None:
        epfd = sys.epoll_create1()
        assert err(sys.read, epfd, 8) == "EINVAL"
        assert err(sys.write, epfd, b"x") == "EINVAL"

    world.run(main)
