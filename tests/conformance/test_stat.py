"""stat, lstat, fstat, getrandom, and which ioctls tell a terminal."""

import errno
import stat

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    GRND_INSECURE,
    GRND_NONBLOCK,
    GRND_RANDOM,
    O_CREAT,
    O_DIRECTORY,
    O_RDONLY,
    O_RDWR,
    SOCK_STREAM,
    TCGETS,
    TIOCGPGRP,
    TIOCGWINSZ,
)

from .helpers import World, err


def test_fstat_tells_kinds_apart(world: World, workdir: str) -> None:
    """The type bits of each kind of fd; what is anonymous has none."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        r, w = sys.pipe2()
        a, b = sys.socketpair(AF_UNIX, SOCK_STREAM)
        kinds = [
            (sys.socket(AF_INET, SOCK_STREAM), 0o140777),
            (a, 0o140777),
            (r, 0o010600),
            (w, 0o010600),
            (sys.eventfd(), 0o600),
            (sys.epoll_create1(), 0o600),
            (sys.timerfd_create(1), 0o600),
            (sys.pidfd_open(sys.getpid()), 0o700),
            (sys.memfd_create("x"), 0o100777),
            (sys.open("/dev/null", O_RDWR), 0o020666),
            (sys.open("/proc/sys/fs/file-max", O_RDONLY), 0o100644),
            (sys.open("/proc/self/fd", O_RDONLY), 0o040500),
            (sys.open(workdir, O_RDONLY), 0o040755),
            (sys.open(workdir + "/f", O_RDWR | O_CREAT, 0o666), 0o100644),
            (sys.open(workdir + "/g", O_RDWR | O_CREAT, 0o600), 0o100600),
        ]
        assert [oct(sys.fstat(fd).st_mode) for fd, _ in kinds] == [oct(mode) for _, mode in kinds]
        assert sys.fstat(r).st_ino == sys.fstat(w).st_ino and sys.fstat(a).st_ino != sys.fstat(b).st_ino
        assert sys.fstat(a).st_mtime == 0 and sys.fstat(a).st_size == 0
        sys.write(w, b"abc")
        assert sys.fstat(r).st_size == 0
        assert err(sys.fstat, 99) == "EBADF"

    world.run(main)


def test_stat_of_files(world: World, workdir: str) -> None:
    """Size, links and blocks; a path and an fd tell the same."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/f"
        fd = sys.open(path, O_RDWR | O_CREAT, 0o640)
        sys.write(fd, bytes(5000))
        found = sys.fstat(fd)
        assert (found.st_size, found.st_nlink, found.st_blksize, found.st_uid) == (5000, 1, 4096, 0)
        named = sys.stat(path)
        assert (named.st_dev, named.st_ino, named.st_mode, named.st_size) == (found.st_dev, found.st_ino, found.st_mode, 5000)
        memfd = sys.memfd_create("x")
        sys.write(memfd, bytes(5000))
        assert (sys.fstat(memfd).st_size, sys.fstat(memfd).st_blocks, sys.fstat(memfd).st_nlink) == (5000, 16, 0)
        sys.mkdir(workdir + "/d", 0o700)
        assert oct(sys.stat(workdir + "/d").st_mode) == oct(stat.S_IFDIR | 0o700)
        assert err(sys.stat, workdir + "/none") == "ENOENT"
        assert err(sys.stat, path + "/x") == "ENOTDIR"
        assert err(sys.stat, path + "/") == "ENOTDIR"
        assert err(sys.stat, "") == "ENOENT"
        assert sys.stat("/dev/null").st_rdev == 0x103
        assert sys.fstat(sys.open("/dev/zero", O_RDONLY)).st_rdev == 0x105

    world.run(main)


def test_stat_of_links_and_sockets(world: World, workdir: str) -> None:
    """lstat shows the link, stat what it leads to; the name of a socket is a socket, its fd another inode."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        assert stat.S_ISLNK(sys.lstat("/proc/self").st_mode) and stat.S_ISDIR(sys.stat("/proc/self").st_mode)
        assert oct(sys.lstat("/dev/fd").st_mode) == "0o120777" and sys.lstat("/dev/fd").st_size == len("/proc/self/fd")
        r, w = sys.pipe2()
        assert [oct(sys.lstat(f"/proc/self/fd/{fd}").st_mode) for fd in (r, w)] == ["0o120500", "0o120300"]
        assert sys.stat(f"/proc/self/fd/{r}").st_ino == sys.fstat(r).st_ino
        fd = sys.socket(AF_UNIX, SOCK_STREAM)
        assert sys.stat(f"/proc/self/fd/{fd}").st_ino == sys.fstat(fd).st_ino
        sys.bind(fd, workdir + "/s")
        found = sys.stat(workdir + "/s")
        assert oct(found.st_mode) == "0o140755" and found.st_ino != sys.fstat(fd).st_ino
        sys.unlink(workdir + "/s")
        assert err(sys.stat, workdir + "/s") == "ENOENT"
        assert oct(sys.stat(workdir).st_mode) == oct(sys.fstat(sys.open(workdir, O_RDONLY | O_DIRECTORY)).st_mode)

    world.run(main)


def test_getrandom(world: World) -> None:
    """As many bytes as were asked for, never the same twice; EINVAL for flags that contradict each other."""

    def main(sys: Syscalls) -> None:
        assert sys.getrandom(0) == b""
        one, other = sys.getrandom(32), sys.getrandom(32, GRND_NONBLOCK)
        assert len(one) == len(other) == 32 and one != other
        assert len(sys.getrandom(1000, GRND_RANDOM)) == 1000
        assert err(sys.getrandom, 1, GRND_RANDOM | GRND_INSECURE) == "EINVAL"
        assert err(sys.getrandom, 1, 8) == "EINVAL"
        with pytest.raises(ValueError):
            sys.getrandom(-1)

    world.run(main)


def test_no_terminal(world: World) -> None:
    """ENOTTY of whatever is no terminal, but EINVAL of the random devices."""

    def main(sys: Syscalls) -> None:
        r, _ = sys.pipe2()
        fds = [r, sys.socket(AF_INET, SOCK_STREAM), sys.eventfd(), sys.memfd_create("x"), sys.open("/dev/null", O_RDONLY)]
        assert {err(sys.ioctl, fd, request) for fd in fds for request in (TCGETS, TIOCGPGRP, TIOCGWINSZ)} == {"ENOTTY"}
        assert err(sys.ioctl, sys.open("/dev/urandom", O_RDONLY), TCGETS) == errno.errorcode[errno.EINVAL]
        assert err(sys.ioctl, 99, TCGETS) == "EBADF"

    world.run(main)
