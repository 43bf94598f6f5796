"""Regular files and directories: open, lseek, read and write with a position, unlink, mkdir."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    F_GETFD,
    F_GETFL,
    F_SETFL,
    FD_CLOEXEC,
    FIONREAD,
    MFD_CLOEXEC,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOCTTY,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    POLLIN,
    RLIMIT_NOFILE,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
)

from .helpers import DATA, World, channel, err, mask

NEW = O_RDWR | O_CREAT | O_EXCL
LAST = 2**63 - 1


def memfd(sys: Syscalls, data: bytes = b"") -> int:
    """A file in memory that holds ``data``, at position 0."""
    fd = sys.memfd_create("test")
    sys.write(fd, data)
    sys.lseek(fd, 0, SEEK_SET)
    return fd


# --- opening ---
def test_open_makes_a_file(world: World, workdir: str) -> None:
    """O_CREAT makes a file, O_EXCL refuses one that is there, O_TRUNC empties it; without O_CREAT a missing one is ENOENT."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/f"
        assert err(sys.open, path, O_RDWR) == "ENOENT"
        fd = sys.open(path, NEW)
        assert sys.write(fd, b"hello") == 5
        assert err(sys.open, path, NEW) == "EEXIST"
        again = sys.open(path, O_RDONLY | O_CREAT)
        assert sys.read(again, 10) == b"hello"
        assert sys.read(again, 10) == b""
        sys.open(path, O_WRONLY | O_TRUNC)
        assert sys.pread(again, 10, 0) == b""
        sys.write(fd, b"!")
        assert sys.pread(again, 10, 0) == bytes(5) + b"!"
        # O_TRUNC does its work even on a file that is not to be written.
        sys.open(path, O_RDONLY | O_TRUNC)
        assert sys.pread(again, 10, 0) == b""

    world.run(main)


def test_open_flags_that_stay(world: World, workdir: str) -> None:
    """F_GETFL shows O_LARGEFILE and what concerns reading and writing; what concerned the opening is gone."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        fd = sys.open(workdir + "/f", NEW | O_CLOEXEC | O_TRUNC | O_NOCTTY)
        assert sys.fcntl(fd, F_GETFL) == O_RDWR | O_LARGEFILE
        assert sys.fcntl(fd, F_GETFD) == FD_CLOEXEC
        fd = sys.open(workdir + "/f", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOFOLLOW)
        assert sys.fcntl(fd, F_GETFL) == O_WRONLY | O_APPEND | O_NONBLOCK | O_NOFOLLOW | O_LARGEFILE
        assert sys.fcntl(sys.open(workdir, O_RDONLY | O_DIRECTORY), F_GETFL) == O_DIRECTORY | O_LARGEFILE
        assert sys.fcntl(sys.memfd_create("x", MFD_CLOEXEC), F_GETFL) == O_RDWR | O_LARGEFILE

    world.run(main)


def test_open_errors(world: World, workdir: str) -> None:
    """Each way in which open fails."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.mkdir(workdir + "/d")
        file = workdir + "/f"
        sys.open(file, NEW)
        got = [
            (path.removeprefix(workdir), err(sys.open, path, flags))
            for path, flags in (
                (workdir + "/d", O_WRONLY),
                (workdir + "/d", O_RDWR),
                (workdir + "/d", O_RDONLY | O_TRUNC),
                (workdir + "/d", O_CREAT),
                (workdir + "/d", O_CREAT | O_EXCL),
                (workdir + "/d", O_CREAT | O_DIRECTORY),
                (workdir + "/d/.", O_CREAT),
                (workdir + "/d/../", O_CREAT),
                ("/", O_CREAT | O_EXCL),
                (workdir + "/d/", O_CREAT | O_EXCL),
                (workdir + "/d/./", O_CREAT | O_EXCL),
                (workdir + "/new/", O_CREAT),
                (file, O_DIRECTORY),
                (file + "/", O_RDONLY),
                (file + "/", O_CREAT),
                (file + "/x", O_CREAT),
                (file + "/.", O_RDONLY),
                (file + "/..", O_RDONLY),
                (workdir + "/none/x", O_CREAT),
                (workdir + "/none", O_RDONLY),
                ("", O_RDONLY),
                (workdir + "/" + "n" * 256, O_CREAT),
                ("/" + "x/" * 2100, O_RDONLY),
            )
        ]
        assert [result for _, result in got] == [
            "EISDIR",
            "EISDIR",
            "EISDIR",
            "EISDIR",
            "EEXIST",
            "EINVAL",
            "EISDIR",
            "EISDIR",
            "EEXIST",
            "EISDIR",
            "EEXIST",
            "EISDIR",
            "ENOTDIR",
            "ENOTDIR",
            "EISDIR",
            "ENOTDIR",
            "ENOTDIR",
            "ENOTDIR",
            "ENOENT",
            "ENOENT",
            "ENOENT",
            "ENAMETOOLONG",
            "ENAMETOOLONG",
        ]

    world.run(main)


def test_paths_with_dots(world: World, workdir: str) -> None:
    """``.``, ``..`` and doubled slashes; the root is its own parent."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.mkdir(workdir + "/d/")
        fd = sys.open(workdir + "//d/.././/f", NEW)
        sys.write(fd, b"x")
        assert sys.read(sys.open("/../.." + workdir + "/d/../f", O_RDONLY), 5) == b"x"
        assert sys.read(sys.open(workdir.encode() + b"/f", O_RDONLY), 5) == b"x"

    world.run(main)


def test_full_fd_table_makes_no_file(world: World, workdir: str) -> None:
    """EMFILE comes before the file is made, but after a path that can't be one."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.setrlimit(RLIMIT_NOFILE, (3, sys.getrlimit(RLIMIT_NOFILE)[1]))
        assert err(sys.open, workdir + "/f", NEW) == "EMFILE"
        assert err(sys.open, "", NEW) == "ENOENT"
        assert err(sys.open, workdir + "/none", O_RDONLY) == "EMFILE"
        assert err(sys.memfd_create, "x") == "EMFILE"
        sys.setrlimit(RLIMIT_NOFILE, sys.getrlimit(RLIMIT_NOFILE)[1:] * 2)
        assert err(sys.open, workdir + "/f", O_RDONLY) == "ENOENT"

    world.run(main)


def test_access_modes(world: World) -> None:
    """A file not open for reading or writing is EBADF, also for a call of nothing; mode 3 allows neither."""

    def main(sys: Syscalls) -> None:
        fd = memfd(sys, b"abc")
        name = f"/proc/self/fd/{fd}"
        r, w, neither = sys.open(name, O_RDONLY), sys.open(name, O_WRONLY), sys.open(name, 3)
        for f in (w, neither):
            assert [err(sys.read, f, 1), err(sys.read, f, 0), err(sys.readv, f, [1]), err(sys.pread, f, 1, 0)] == ["EBADF"] * 4
        for f in (r, neither):
            assert [err(sys.write, f, b"x"), err(sys.write, f, b""), err(sys.writev, f, [b"x"]), err(sys.pwrite, f, b"x", 0)] == [
                "EBADF"
            ] * 4
        assert err(sys.ftruncate, r, 0) == "EINVAL"
        assert err(sys.ftruncate, w, 0) is None

    world.run(main)


def test_memfd_names(world: World) -> None:
    """A memfd's name may be empty and has at most 249 bytes; unknown flags are EINVAL."""

    def main(sys: Syscalls) -> None:
        assert isinstance(err(sys.memfd_create, ""), int)
        assert isinstance(err(sys.memfd_create, "x" * 249), int)
        assert err(sys.memfd_create, "x" * 250) == "EINVAL"
        assert err(sys.memfd_create, "x", 0x100) == "EINVAL"

    world.run(main)


# --- removing ---
def test_unlinked_file_lives_on(world: World, workdir: str) -> None:
    """An open file survives its name, and a new one of the same name is another."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/f"
        fd = sys.open(path, NEW)
        sys.write(fd, b"old")
        sys.unlink(path)
        assert err(sys.open, path, O_RDONLY) == "ENOENT"
        new = sys.open(path, NEW)
        sys.write(new, b"newer")
        assert sys.pread(fd, 10, 0) == b"old"
        # The name is gone, the link of /proc still leads to the file.
        assert sys.read(sys.open(f"/proc/self/fd/{fd}", O_RDONLY), 10) == b"old"

    world.run(main)


def test_unlink_errors(world: World, workdir: str) -> None:
    """A directory is EISDIR, a missing name ENOENT, a file with a slash ENOTDIR."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.open(workdir + "/f", NEW)
        paths = [workdir, workdir + "/", "/", workdir + "/.", workdir + "/..", workdir + "/none", workdir + "/none/", workdir + "/f/"]
        assert [err(sys.unlink, path) for path in paths] == ["EISDIR"] * 5 + ["ENOENT", "ENOENT", "ENOTDIR"]
        assert err(sys.unlink, workdir + "/f/x") == "ENOTDIR"
        assert err(sys.unlink, "") == "ENOENT"
        assert err(sys.unlink, workdir + "/" + "n" * 256) == "ENAMETOOLONG"
        assert err(sys.unlink, workdir + "/f") is None

    world.run(main)


def test_mkdir_errors(world: World, workdir: str) -> None:
    """A name that is there is EEXIST, whatever it is; the directory above must exist."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.open(workdir + "/f", NEW)
        paths = [workdir, workdir + "/f", "/", ".", workdir + "/.."]
        assert [err(sys.mkdir, path) for path in paths] == ["EEXIST"] * 5
        assert [err(sys.mkdir, workdir + path) for path in ("/a/b", "/a/.", "/f/x")] == ["ENOENT", "ENOENT", "ENOTDIR"]
        assert err(sys.mkdir, "") == "ENOENT"
        assert err(sys.mkdir, workdir + "/" + "n" * 256) == "ENAMETOOLONG"

    world.run(main)


# --- positions ---
def test_lseek(world: World) -> None:
    """A position may lie past the end, which reads as the end and writes as a hole; not below 0."""

    def main(sys: Syscalls) -> None:
        fd = memfd(sys, b"abc")
        assert [sys.lseek(fd, -1, SEEK_END), sys.lseek(fd, 5, SEEK_CUR), sys.lseek(fd, 0, SEEK_CUR)] == [2, 7, 7]
        assert sys.read(fd, 1) == b""
        assert sys.write(fd, b"x") == 1
        assert sys.pread(fd, 10, 0) == b"abc\0\0\0\0x"
        assert [err(sys.lseek, fd, *where) for where in ((-1, SEEK_SET), (-9, SEEK_CUR), (-9, SEEK_END))] == ["EINVAL"] * 3
        assert [err(sys.lseek, fd, 0, whence) for whence in (-1, 5)] == ["EINVAL"] * 2
        assert sys.lseek(fd, 0, SEEK_CUR) == 8
        assert sys.lseek(fd, LAST, SEEK_SET) == LAST
        assert err(sys.lseek, fd, 1, SEEK_CUR) == "EINVAL"

    world.run(main)


@pytest.mark.parametrize("kind", ["pipe", "unix", "tcp"])
def test_no_position(world: World, kind: str) -> None:
    """Raw values: lseek, pread and pwrite on pipes and sockets are ESPIPE, after the checks of their numbers."""

    def main(sys: Syscalls) -> None:
        for fd in channel(sys, kind):
            assert [err(sys.lseek, fd, 0, whence) for whence in (SEEK_SET, SEEK_CUR, SEEK_END)] == ["ESPIPE"] * 3
            assert err(sys.lseek, fd, 0, 9) == "EINVAL"
            assert [err(sys.pread, fd, 1, 0), err(sys.pwrite, fd, b"x", 0)] == ["ESPIPE"] * 2
            assert [err(sys.pread, fd, 1, -1), err(sys.pwrite, fd, b"x", -1)] == ["EINVAL"] * 2
            assert err(sys.ftruncate, fd, 0) == "EINVAL"

    world.run(main)


@pytest.mark.parametrize("kind", ["eventfd", "timerfd", "signalfd", "epoll"])
def test_position_of_nothing(world: World, kind: str) -> None:
    """Raw values: lseek on an eventfd, timerfd, signalfd or epoll does nothing and says 0; pread and pwrite are ESPIPE."""

    def main(sys: Syscalls) -> None:
        if kind == "eventfd":
            fd = sys.eventfd(1)
        elif kind == "timerfd":
            fd = sys.timerfd_create(1)
        elif kind == "signalfd":
            fd = sys.signalfd(-1, [10])
        else:
            fd = sys.epoll_create1()
        assert [sys.lseek(fd, *where) for where in ((5, SEEK_SET), (-5, SEEK_SET), (1, SEEK_END))] == [0, 0, 0]
        assert err(sys.lseek, fd, 0, 9) == "EINVAL"
        assert [err(sys.pread, fd, 8, 0), err(sys.pwrite, fd, bytes(8), 0), err(sys.pread, fd, 8, -1)] == ["ESPIPE", "ESPIPE", "EINVAL"]
        assert err(sys.ftruncate, fd, 0) == "EINVAL"

    world.run(main)


def test_pidfd_has_no_position(world: World) -> None:
    """A pidfd can't be sought in: ESPIPE, unlike the other anonymous files."""

    def main(sys: Syscalls) -> None:
        assert err(sys.lseek, sys.pidfd_open(sys.getpid()), 0, SEEK_SET) == "ESPIPE"

    world.run(main)


def test_pread_and_pwrite_leave_the_position(world: World) -> None:
    """They work where they are told; a range that no loff_t holds is EINVAL."""

    def main(sys: Syscalls) -> None:
        fd = memfd(sys, b"0123456789")
        sys.lseek(fd, 3, SEEK_SET)
        assert sys.pread(fd, 4, 8) == b"89"
        assert sys.pwrite(fd, b"ab", 9) == 2
        assert sys.read(fd, 100) == b"345678ab"
        assert [err(sys.pread, fd, 1, -1), err(sys.pread, fd, 2, LAST), err(sys.pwrite, fd, b"xx", LAST)] == ["EINVAL"] * 3
        assert err(sys.pwrite, fd, b"", LAST) == 0

    world.run(main)


def test_shared_position(world: World) -> None:
    """dup and fork share the position, an open of its own does not."""

    def main(sys: Syscalls) -> None:
        fd = memfd(sys, b"0123456789")
        other = sys.dup(fd)
        own = sys.open(f"/proc/self/fd/{fd}", O_RDONLY)
        assert sys.read(fd, 3) == b"012"
        assert sys.read(other, 2) == b"34"

        def child(sys: Syscalls) -> None:
            assert sys.read(fd, 1) == b"5"
            sys.lseek(other, 8, SEEK_SET)

        sys.waitpid(sys.spawn(child))
        assert sys.read(fd, 10) == b"89"
        assert sys.read(own, 10) == b"0123456789"

    world.run(main)


def test_append(world: World, workdir: str) -> None:
    """O_APPEND writes at the end, wherever the position was, and leaves it there; so does pwrite, wherever it was told to."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        fd = sys.open(workdir + "/f", NEW | O_APPEND)
        sys.write(fd, b"one")
        sys.lseek(fd, 0, SEEK_SET)
        sys.write(fd, b"two")
        assert sys.lseek(fd, 0, SEEK_CUR) == 6
        assert sys.pwrite(fd, b"!", 0) == 1
        assert sys.lseek(fd, 0, SEEK_CUR) == 6
        assert sys.pread(fd, 10, 0) == b"onetwo!"
        sys.fcntl(fd, F_SETFL, 0)
        sys.lseek(fd, 0, SEEK_SET)
        sys.write(fd, b"ONE")
        assert sys.pread(fd, 10, 0) == b"ONEtwo!"

    world.run(main)


def test_vectors(world: World) -> None:
    """readv and writev move the position by all that they took."""

    def main(sys: Syscalls) -> None:
        fd = memfd(sys)
        assert sys.writev(fd, [b"ab", b"", b"cde"]) == 5
        sys.lseek(fd, 1, SEEK_SET)
        assert sys.readv(fd, [1, 2, 9]) == [b"b", b"cd", b"e"]
        assert sys.lseek(fd, 0, SEEK_CUR) == 5

    world.run(main)


def test_ftruncate(world: World) -> None:
    """Cuts off for good, or makes a hole; the position stays.  A negative length is EINVAL."""

    def main(sys: Syscalls) -> None:
        fd = memfd(sys, b"x" * 5000)
        sys.ftruncate(fd, 4097)
        sys.ftruncate(fd, 4100)
        assert sys.pread(fd, 10, 4096) == b"x\0\0\0"
        sys.ftruncate(fd, 3)
        sys.ftruncate(fd, 2**40)
        assert sys.lseek(fd, 0, SEEK_END) == 2**40
        assert sys.pread(fd, 5, 0) == b"xxx\0\0"
        assert sys.pread(fd, 5, 2**39) == bytes(5)
        assert err(sys.ftruncate, fd, -1) == "EINVAL"

    world.run(main)


def test_large_data(world: World) -> None:
    """Bytes that cross pages come back as they went."""

    def main(sys: Syscalls) -> None:
        fd = memfd(sys)
        data = bytes(i * 7 % 251 for i in range(20000))
        assert sys.pwrite(fd, data, 4000) == 20000
        assert sys.pread(fd, 30000, 4000) == data
        assert sys.pread(fd, 5000, 8191) == data[4191:9191]

    world.run(main)


# --- the rest ---
def test_regular_file_is_always_ready(world: World, workdir: str) -> None:
    """Fact 56: epoll does not take a regular file or a directory (EPERM); poll says IN|OUT, whatever is in it; select reads it as ready."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        file, directory, ep = sys.open(workdir + "/f", NEW), sys.open(workdir, O_RDONLY), sys.epoll_create1()
        for fd in (file, directory, memfd(sys)):
            assert err(sys.epoll_ctl, ep, EPOLL_CTL_ADD, fd, POLLIN) == "EPERM"
            assert mask(sys, fd) == DATA
            assert sys.select([fd], [fd], [fd], 0) == ([fd], [fd], [])

    world.run(main)


def test_fionread(world: World, workdir: str) -> None:
    """FIONREAD of a regular file is what lies between position and end: negative past it.  A directory has none."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        fd = sys.open(workdir + "/f", NEW)
        sys.write(fd, b"12345")
        assert sys.ioctl(fd, FIONREAD) == 0
        sys.lseek(fd, 2, SEEK_SET)
        assert sys.ioctl(fd, FIONREAD) == 3
        sys.lseek(fd, 10, SEEK_SET)
        assert sys.ioctl(fd, FIONREAD) == -5
        assert err(sys.ioctl, sys.open(workdir, O_RDONLY), FIONREAD) == "ENOTTY"

    world.run(main)


def test_directory(world: World, workdir: str) -> None:
    """A directory can be opened, not read: EISDIR; not written: EBADF."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        fd = sys.open(workdir, O_RDONLY)
        assert [err(sys.read, fd, 1), err(sys.read, fd, 0), err(sys.pread, fd, 1, 0), err(sys.readv, fd, [1])] == ["EISDIR"] * 4
        assert [err(sys.write, fd, b"x"), err(sys.writev, fd, [b"x"])] == ["EBADF"] * 2
        assert err(sys.ftruncate, fd, 0) == "EINVAL"
        assert sys.lseek(fd, 0, SEEK_SET) == 0

    world.run(main)


def test_hostile_arguments(world: World) -> None:
    """What Python can't pass to C is TypeError, ValueError or OverflowError, the same on both kernels."""

    def main(sys: Syscalls) -> None:
        fd = memfd(sys)
        for call, args, wanted in (
            (sys.open, (5, 0), TypeError),
            (sys.open, ("a\0b", 0), ValueError),
            (sys.open, ("/tmp", "r"), TypeError),
            (sys.open, ("/tmp", 2**31), OverflowError),
            (sys.unlink, (None,), TypeError),
            (sys.mkdir, ("/tmp", "x"), TypeError),
            (sys.memfd_create, ("a\0",), ValueError),
            (sys.lseek, (fd, 2**63, 0), OverflowError),
            (sys.lseek, (fd, 1.5, 0), TypeError),
            (sys.lseek, (fd, 0, 2**31), OverflowError),
            (sys.ftruncate, (fd, -(2**63) - 1), OverflowError),
            (sys.pread, (fd, -1, 0), ValueError),
            (sys.pread, (fd, 1, 2**63), OverflowError),
            (sys.pwrite, (fd, "x", 0), TypeError),
            (sys.sendfile, (fd, fd, 0.5, 1), TypeError),
            (sys.sendfile, (fd, fd, 0, -1), ValueError),
            (sys.splice, (fd, None, fd, None, -1, 0), ValueError),
            (sys.splice, (fd, 2**63, fd, None, 1, 0), OverflowError),
        ):
            with pytest.raises(wanted):
                call(*args)  # type: ignore[operator]

    world.run(main)
