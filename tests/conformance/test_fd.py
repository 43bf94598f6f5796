"""File descriptors: numbers, dups, flags of the fd and of the description, and the limit."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_SETFD,
    F_SETFL,
    FD_CLOEXEC,
    FIONBIO,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDWR,
    RLIMIT_NOFILE,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
)

from .helpers import World, channel, err, mask, settle


def test_lowest_free_number(world: World) -> None:
    """Raw values: a new fd is the lowest number that is free; the first after stdin, stdout and stderr is 3."""

    def main(sys: Syscalls) -> None:
        fds = [sys.eventfd() for _ in range(4)]
        assert fds == [3, 4, 5, 6]
        sys.close(5)
        sys.close(3)
        assert sys.dup(4) == 3
        assert sys.epoll_create1() == 5
        assert sys.pipe2() == (7, 8)

    world.run(main)


def test_close_twice(world: World) -> None:
    """Raw values: EBADF; so are all calls on a closed or negative fd."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        assert (err(sys.close, fd), err(sys.close, fd)) == (None, "EBADF")
        for bad in (fd, -1):
            assert err(sys.close, bad) == "EBADF"
            assert err(sys.read, bad, 8) == "EBADF"
            assert err(sys.write, bad, b"x") == "EBADF"
            assert err(sys.recv, bad, 8) == "EBADF"
            assert err(sys.dup, bad) == "EBADF"
            assert err(sys.fcntl, bad, F_GETFL) == "EBADF"
            assert err(sys.accept4, bad) == "EBADF"

    world.run(main)


def test_dup2_onto_itself(world: World) -> None:
    """Raw values: dup2(fd, fd) is a check only; dup3(fd, fd) is EINVAL."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        sys.fcntl(fd, F_SETFD, FD_CLOEXEC)
        assert sys.dup2(fd, fd) == fd
        assert sys.fcntl(fd, F_GETFD) == FD_CLOEXEC
        assert err(sys.dup3, fd, fd, 0) == "EINVAL"
        assert err(sys.dup2, 900, 900) == "EBADF"

    world.run(main)


def test_dup2_closes_its_target(world: World) -> None:
    """dup2 onto an open fd closes that first; a failing dup2 leaves it."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        fd = sys.eventfd()
        assert err(sys.dup2, 900, w) == "EBADF"
        assert mask(sys, r) == "0"
        assert sys.dup2(fd, w) == w
        assert mask(sys, r) == "HUP"
        sys.close(fd)
        sys.write(w, (1).to_bytes(8, "little"))
        assert mask(sys, w) == "IN|OUT"

    world.run(main)


def test_dup_and_fd_flags(world: World) -> None:
    """Fact 124: FD_CLOEXEC is the fd's own: a dup has none, and each is changed alone."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC)
        twin = sys.dup(fd)
        assert (sys.fcntl(fd, F_GETFD), sys.fcntl(twin, F_GETFD)) == (FD_CLOEXEC, 0)
        sys.fcntl(twin, F_SETFD, FD_CLOEXEC)
        sys.fcntl(fd, F_SETFD, 0)
        assert (sys.fcntl(fd, F_GETFD), sys.fcntl(twin, F_GETFD)) == (0, FD_CLOEXEC)
        assert sys.fcntl(sys.dup2(twin, 50), F_GETFD) == 0
        assert sys.fcntl(sys.dup3(fd, 51, O_CLOEXEC), F_GETFD) == FD_CLOEXEC
        assert sys.fcntl(sys.fcntl(fd, F_DUPFD_CLOEXEC, 60), F_GETFD) == FD_CLOEXEC
        assert sys.fcntl(sys.fcntl(twin, F_DUPFD, 60), F_GETFD) == 0

    world.run(main)


@pytest.mark.parametrize("kind", ["pipe", "unix", "tcp"])
def test_nonblocking_is_the_descriptions(world: World, kind: str) -> None:
    """Fact 124: O_NONBLOCK set through one fd holds for its dup, whichever call set it."""

    def main(sys: Syscalls) -> None:
        r, _ = channel(sys, kind)
        twin = sys.dup(r)
        before = sys.fcntl(r, F_GETFL)
        sys.fcntl(r, F_SETFL, before | O_NONBLOCK)
        assert sys.fcntl(twin, F_GETFL) == before | O_NONBLOCK
        assert err(sys.read, twin, 9) == "EAGAIN"
        assert sys.ioctl(twin, FIONBIO, 0) == 0
        assert sys.fcntl(r, F_GETFL) == before
        assert sys.ioctl(r, FIONBIO, 1) == 0
        assert err(sys.read, twin, 9) == "EAGAIN"

    world.run(main)


def test_nonblocking_is_shared_over_fork(world: World) -> None:
    """Fact 124: a child that sets O_NONBLOCK sets it for its parent, whose FD_CLOEXEC it can't touch."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()

        def child(sys: Syscalls) -> None:
            sys.fcntl(r, F_SETFL, O_NONBLOCK)
            sys.fcntl(r, F_SETFD, FD_CLOEXEC)

        assert sys.waitpid(pid := sys.spawn(child)) == (pid, 0)
        assert sys.fcntl(r, F_GETFL) & O_NONBLOCK
        assert sys.fcntl(r, F_GETFD) == 0
        assert err(sys.read, r, 9) == "EAGAIN"

    world.run(main)


def test_setting_nonblocking_does_not_wake(world: World) -> None:
    """Fact 124: a read that sleeps goes on sleeping when O_NONBLOCK is set: it was asked at the start."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        got: list[object] = []
        tid = sys.thread(lambda sys: got.append(err(sys.read, r, 9)))
        settle(sys)
        sys.fcntl(r, F_SETFL, O_NONBLOCK)
        settle(sys)
        assert got == []
        sys.write(w, b"x")
        sys.join(tid)
        assert got == [b"x"]

    world.run(main)


def test_socket_flags(world: World) -> None:
    """Raw values: SOCK_NONBLOCK and SOCK_CLOEXEC in the type; a socket is O_RDWR."""

    def main(sys: Syscalls) -> None:
        for family in (AF_INET, AF_UNIX):
            fd = sys.socket(family, SOCK_STREAM)
            assert (sys.fcntl(fd, F_GETFL), sys.fcntl(fd, F_GETFD)) == (O_RDWR, 0)
            fd = sys.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
            assert (sys.fcntl(fd, F_GETFL), sys.fcntl(fd, F_GETFD)) == (O_RDWR | O_NONBLOCK, FD_CLOEXEC)

    world.run(main)


def test_f_dupfd(world: World) -> None:
    """F_DUPFD takes the lowest free number from its argument on; EINVAL when that is negative or beyond the limit."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        assert [sys.fcntl(fd, F_DUPFD, n) for n in (0, 10, 10, 3)] == [4, 10, 11, 5]
        assert err(sys.fcntl, fd, F_DUPFD, -1) == "EINVAL"
        soft, _ = sys.getrlimit(RLIMIT_NOFILE)
        assert err(sys.fcntl, fd, F_DUPFD, soft) == "EINVAL"

    world.run(main)


def test_f_setfl_changes_only_what_it_may(world: World) -> None:
    """F_SETFL ignores the access mode; F_SETFD knows one bit."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        before = sys.fcntl(w, F_GETFL)
        sys.fcntl(w, F_SETFL, O_RDWR)
        assert sys.fcntl(w, F_GETFL) == before
        assert err(sys.read, w, 1) == "EBADF"
        sys.fcntl(r, F_SETFD, 0xFF)
        assert sys.fcntl(r, F_GETFD) == FD_CLOEXEC

    world.run(main)


def test_table_full(world: World) -> None:
    """EMFILE from every call that makes an fd; dup2 beyond the limit is EBADF; nothing leaks."""

    def main(sys: Syscalls) -> None:
        _, hard = sys.getrlimit(RLIMIT_NOFILE)
        fd = sys.eventfd()
        sys.setrlimit(RLIMIT_NOFILE, (fd + 2, hard))
        assert err(sys.pipe2) == "EMFILE"
        assert err(sys.socketpair, AF_UNIX, SOCK_STREAM) == "EMFILE"
        assert sys.dup(fd) == fd + 1
        assert err(sys.dup, fd) == "EMFILE"
        assert err(sys.fcntl, fd, F_DUPFD, 0) == "EMFILE"
        assert err(sys.socket, AF_INET, SOCK_STREAM) == "EMFILE"
        assert err(sys.eventfd) == "EMFILE"
        assert err(sys.epoll_create1) == "EMFILE"
        assert err(sys.dup2, fd, fd + 2) == "EBADF"
        assert err(sys.dup2, fd, fd + 1) == fd + 1
        sys.close(fd + 1)
        assert sys.dup(fd) == fd + 1

    world.run(main)


def test_limit_below_open_fds(world: World) -> None:
    """A limit below what is open closes nothing: those fds go on working."""

    def main(sys: Syscalls) -> None:
        _, hard = sys.getrlimit(RLIMIT_NOFILE)
        fds = [sys.eventfd(1) for _ in range(5)]
        sys.setrlimit(RLIMIT_NOFILE, (4, hard))
        assert len(sys.read(fds[-1], 8)) == 8
        sys.close(fds[-1])
        assert err(sys.eventfd) == "EMFILE"

    world.run(main)


def test_rlimit_is_read_back(world: World) -> None:
    """setrlimit: what was set is read; soft above hard is EINVAL; a child inherits, and changes only its own."""

    def main(sys: Syscalls) -> None:
        _, hard = sys.getrlimit(RLIMIT_NOFILE)
        sys.setrlimit(RLIMIT_NOFILE, (100, hard))
        assert sys.getrlimit(RLIMIT_NOFILE) == (100, hard)
        assert err(sys.setrlimit, RLIMIT_NOFILE, (hard + 1, hard)) == "EINVAL"
        r, w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            sys.write(w, b"%d" % sys.getrlimit(RLIMIT_NOFILE)[0])
            sys.setrlimit(RLIMIT_NOFILE, (50, hard))

        assert sys.waitpid(pid := sys.spawn(child)) == (pid, 0)
        assert sys.read(r, 9) == b"100"
        assert sys.getrlimit(RLIMIT_NOFILE) == (100, hard)

    world.run(main)


def test_threads_share_the_limit(world: World) -> None:
    """A limit set by a thread is the process's."""

    def main(sys: Syscalls) -> None:
        _, hard = sys.getrlimit(RLIMIT_NOFILE)
        sys.join(sys.thread(lambda sys: sys.setrlimit(RLIMIT_NOFILE, (77, hard))))
        assert sys.getrlimit(RLIMIT_NOFILE) == (77, hard)

    world.run(main)
