"""Names: rename, rmdir, readlink, chmod, chdir, getcwd, umask, getdents64, and files without one."""

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_UNIX,
    F_GETLK,
    F_RDLCK,
    F_SETLK,
    F_SETLKW,
    F_UNLCK,
    F_WRLCK,
    LOCK_EX,
    LOCK_NB,
    LOCK_SH,
    LOCK_UN,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE_BIT,
    O_WRONLY,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
    SOCK_STREAM,
    WNOHANG,
)

from .helpers import World, err, settle

NEW = O_RDWR | O_CREAT | O_EXCL
LAST = 2**63 - 1
O_TMPFILE = O_TMPFILE_BIT | O_DIRECTORY


def touch(sys: Syscalls, path: str, data: bytes = b"", mode: int = 0o666) -> int:
    """A new file's inode."""
    fd = sys.open(path, NEW, mode)
    sys.write(fd, data)
    ino = sys.fstat(fd).st_ino
    sys.close(fd)
    return ino


def listing(sys: Syscalls, path: str) -> list[tuple[int, bytes]]:
    """(type, name) of what is in a directory, sorted by name."""
    fd = sys.open(path, O_RDONLY | O_DIRECTORY)
    found: list[tuple[int, bytes]] = []
    while got := sys.getdents64(fd):
        found += [(kind, name) for _, kind, name in got]
    sys.close(fd)
    return sorted(found, key=lambda entry: entry[1])


def test_rename(world: World, workdir: str) -> None:
    """A name moves, over a file and an empty directory too."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        a, b, d, e = (f"{workdir}/{name}" for name in "abde")
        ino = touch(sys, a, b"a")
        open_b = sys.open(b, NEW)
        sys.write(open_b, b"old")
        sys.rename(a, b)
        assert err(sys.stat, a) == "ENOENT" and sys.stat(b).st_ino == ino
        assert sys.pread(open_b, 10, 0) == b"old" and sys.fstat(open_b).st_nlink == 0
        sys.rename(b, b)
        sys.mkdir(d)
        sys.mkdir(e)
        sys.rename(b, d + "/b")
        assert err(sys.rename, e, d) == "ENOTEMPTY"
        sys.rename(d, e + "/")
        assert sys.stat(e + "/b").st_ino == ino
        sys.rename(e + "/b", e + "/../b")
        assert listing(sys, workdir) == [(4, b"."), (4, b".."), (8, b"b"), (4, b"e")]

    world.run(main)


def test_rename_errors(world: World, workdir: str) -> None:
    """Each way in which rename fails."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.mkdir(workdir + "/d")
        sys.mkdir(workdir + "/d/e")
        touch(sys, workdir + "/f")
        sys.chdir(workdir)
        pairs = (
            ("f", "d"),
            ("d", "f"),
            ("d", "d/e/x"),
            ("d", "d/x"),
            ("d/e", "d"),
            ("none", "f"),
            ("f", "none/x"),
            ("f/", "h"),
            ("f", "h/"),
            (".", "x"),
            ("d/..", "x"),
            ("d", "d/.."),
            ("d", "/proc/x"),
            ("f/x", "g"),
            ("/", "x"),
            ("", "x"),
            ("f", ""),
        )
        assert [err(sys.rename, *pair) for pair in pairs] == [
            "EISDIR",
            "ENOTDIR",
            "EINVAL",
            "EINVAL",
            "ENOTEMPTY",
            "ENOENT",
            "ENOENT",
            "ENOTDIR",
            "ENOTDIR",
            "EBUSY",
            "EBUSY",
            "EBUSY",
            "EXDEV",
            "ENOTDIR",
            "EBUSY",
            "ENOENT",
            "ENOENT",
        ]

    world.run(main)


def test_rmdir(world: World, workdir: str) -> None:
    """Empty directories go, and nothing else."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.chdir(workdir)
        sys.mkdir("d")
        sys.mkdir("d/e")
        touch(sys, "f")
        paths = ("d", "f", "f/", "none", "none/", "", ".", "d/.", "d/..", "/", "/dev", "/proc", "/proc/self", "f/x")
        assert [err(sys.rmdir, path) for path in paths] == [
            "ENOTEMPTY",
            "ENOTDIR",
            "ENOTDIR",
            "ENOENT",
            "ENOENT",
            "ENOENT",
            "EINVAL",
            "EINVAL",
            "ENOTEMPTY",
            "EBUSY",
            "EBUSY",
            "EBUSY",
            "ENOTDIR",
            "ENOTDIR",
        ]
        sys.rmdir("d/e/")
        sys.rmdir("d")
        assert err(sys.stat, "d") == "ENOENT"

    world.run(main)


def test_readlink(world: World, workdir: str) -> None:
    """Where links of /proc lead, as text."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        assert sys.readlink("/proc/self") == b"%d" % sys.getpid()
        assert sys.readlink("/dev/fd") == b"/proc/self/fd"
        r, w = sys.pipe2()
        assert sys.readlink(f"/proc/self/fd/{w}") == b"pipe:[%d]" % sys.fstat(r).st_ino
        fd = sys.socket(AF_UNIX, SOCK_STREAM)
        assert sys.readlink(f"/proc/self/fd/{fd}") == b"socket:[%d]" % sys.fstat(fd).st_ino
        anonymous = [sys.eventfd(), sys.epoll_create1(), sys.timerfd_create(1), sys.signalfd(-1, [10]), sys.pidfd_open(sys.getpid())]
        assert [sys.readlink(f"/proc/self/fd/{fd}") for fd in anonymous] == [
            b"anon_inode:[eventfd]",
            b"anon_inode:[eventpoll]",
            b"anon_inode:[timerfd]",
            b"anon_inode:[signalfd]",
            b"anon_inode:[pidfd]",
        ]
        path = workdir + "/f"
        fd = sys.open(path, NEW)
        assert sys.readlink(f"/proc/self/fd/{fd}") == path.encode()
        sys.unlink(path)
        assert sys.readlink(f"/proc/self/fd/{fd}") == path.encode() + b" (deleted)"
        fd = sys.memfd_create("name")
        assert sys.readlink(f"/proc/self/fd/{fd}") == b"/memfd:name (deleted)"
        fd = sys.open(workdir, O_RDONLY | O_DIRECTORY)
        assert sys.readlink(f"/proc/self/fd/{fd}") == workdir.encode()
        fd = sys.open("/dev/null", O_RDONLY)
        assert sys.readlink(f"/proc/self/fd/{fd}") == b"/dev/null"
        paths = (workdir, "/dev/null", workdir + "/none", "/proc/self/", "")
        assert [err(sys.readlink, path) for path in paths] == ["EINVAL", "EINVAL", "ENOENT", "EINVAL", "ENOENT"]

    world.run(main)


def test_chmod_and_umask(world: World, workdir: str) -> None:
    """chmod sets the rights of files, directories and sockets; umask takes them off new ones, and is inherited."""

    def main(sys: Syscalls) -> None:
        assert sys.umask(0o027) == 0o022
        sys.mkdir(workdir)
        sys.chdir(workdir)
        touch(sys, "f")
        sys.bind(sys.socket(AF_UNIX, SOCK_STREAM), "s")
        assert [oct(sys.stat(name).st_mode & 0o7777) for name in (workdir, "f", "s")] == ["0o750", "0o640", "0o750"]
        for name in (workdir, "f", "s"):
            sys.chmod(name, 0o1711)
        assert [oct(sys.stat(name).st_mode & 0o7777) for name in (workdir, "f", "s")] == ["0o1711"] * 3
        assert err(sys.chmod, "none", 0o600) == "ENOENT"
        fd = sys.open("f", O_RDONLY)
        sys.chmod(f"/proc/self/fd/{fd}", 0o600)
        assert oct(sys.fstat(fd).st_mode) == "0o100600"

        def child(sys: Syscalls) -> None:
            assert sys.umask(0o777) == 0o027

        assert sys.waitpid(sys.spawn(child))[1] == 0
        assert sys.umask(0o022) == 0o027

    world.run(main)


def test_chdir(world: World, workdir: str) -> None:
    """Relative paths begin where the process is; a child begins there too, and goes its own way."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.chdir(workdir)
        assert sys.getcwd() == workdir.encode()
        sys.mkdir("a")
        ino = touch(sys, "a/f")

        def child(sys: Syscalls) -> None:
            sys.chdir("a")
            assert sys.stat("f").st_ino == ino
            assert sys.getcwd() == workdir.encode() + b"/a"

        assert sys.waitpid(sys.spawn(child))[1] == 0
        assert err(sys.stat, "f") == "ENOENT"
        sys.chdir("a/./../a")
        assert sys.getcwd() == workdir.encode() + b"/a"
        assert sys.stat("../a/f").st_ino == ino
        assert [err(sys.chdir, path) for path in ("f", "none", "", "f/x")] == ["ENOTDIR", "ENOENT", "ENOENT", "ENOTDIR"]
        sys.rename(workdir + "/a", workdir + "/b")
        assert sys.getcwd() == workdir.encode() + b"/b"
        sys.chdir("/")
        assert sys.getcwd() == b"/"
        fd = sys.open(workdir + "/b", O_RDONLY | O_DIRECTORY)
        sys.chdir(f"/proc/self/fd/{fd}")
        assert sys.stat("f").st_ino == ino

    world.run(main)


def test_getdents64(world: World, workdir: str) -> None:
    """Types and names, in pieces that fit the buffer, and again from the start."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.chdir(workdir)
        ino = touch(sys, "file")
        sys.mkdir("dir")
        sys.bind(sys.socket(AF_UNIX, SOCK_STREAM), "socket")
        assert listing(sys, ".") == [(4, b"."), (4, b".."), (4, b"dir"), (8, b"file"), (12, b"socket")]
        fd = sys.open(".", O_RDONLY | O_DIRECTORY)
        assert err(sys.getdents64, fd, 16) == "EINVAL"
        pieces = [sys.getdents64(fd, 48) for _ in range(6)]
        assert sorted([name for piece in pieces for _, _, name in piece]) == [b".", b"..", b"dir", b"file", b"socket"]
        assert max(map(len, pieces)) < 3 and sys.getdents64(fd) == []
        sys.lseek(fd, 0, SEEK_SET)
        assert ino in [number for number, _, name in sys.getdents64(fd) if name == b"file"]
        assert err(sys.getdents64, sys.eventfd()) == "ENOTDIR"
        assert err(sys.getdents64, sys.open("file", O_RDONLY)) == "ENOTDIR"
        assert err(sys.getdents64, 99) == "EBADF"
        fds = [name for _, name in listing(sys, "/proc/self/fd")]
        assert b"%d" % fd in fds and b"0" in fds

    world.run(main)


def test_tmpfile(world: World, workdir: str) -> None:
    """O_TMPFILE makes a file that no name leads to."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        fd = sys.open(workdir, O_RDWR | O_TMPFILE, 0o600)
        sys.write(fd, b"data")
        found = sys.fstat(fd)
        assert (oct(found.st_mode), found.st_nlink, found.st_size) == ("0o100600", 0, 4)
        assert listing(sys, workdir) == [(4, b"."), (4, b"..")]
        touch(sys, workdir + "/f")
        assert err(sys.open, workdir, O_RDONLY | O_TMPFILE, 0o600) == "EINVAL"
        assert err(sys.open, workdir + "/f", O_RDWR | O_TMPFILE, 0o600) == "ENOTDIR"
        assert err(sys.open, workdir + "/none", O_RDWR | O_TMPFILE, 0o600) == "ENOENT"

    world.run(main)


def test_flock(world: World, workdir: str) -> None:
    """A lock belongs to an open file: dup shares it, another open of the same file does not; the last close gives it back."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/f"
        touch(sys, path)
        a, b, c = (sys.open(path, O_RDONLY) for _ in range(3))
        sys.flock(a, LOCK_SH)
        sys.flock(b, LOCK_SH | LOCK_NB)
        assert err(sys.flock, c, LOCK_EX | LOCK_NB) == "EAGAIN"
        # Another kind of lock: what it had is gone, even if the new one is not to be had.
        assert err(sys.flock, a, LOCK_EX | LOCK_NB) == "EAGAIN"
        sys.flock(b, LOCK_EX | LOCK_NB)
        assert err(sys.flock, a, LOCK_SH | LOCK_NB) == "EAGAIN"
        copy = sys.dup(b)
        sys.close(b)
        assert err(sys.flock, a, LOCK_SH | LOCK_NB) == "EAGAIN"
        sys.flock(copy, LOCK_EX | LOCK_NB)
        sys.close(copy)
        sys.flock(a, LOCK_EX | LOCK_NB)
        sys.flock(a, LOCK_UN)
        sys.flock(a, LOCK_UN)
        sys.flock(c, LOCK_EX)
        assert [err(sys.flock, c, operation) for operation in (0, LOCK_NB, LOCK_SH | LOCK_EX, 64)] == ["EINVAL"] * 4
        assert err(sys.flock, 99, LOCK_SH) == "EBADF"
        r, _ = sys.pipe2()
        sys.flock(r, LOCK_EX)

    world.run(main)


def test_flock_waits(world: World, workdir: str) -> None:
    """A lock that somebody has is waited for, also when he who has it ends."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/f"
        touch(sys, path)
        r, w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            fd = sys.open(path, O_RDONLY)
            sys.flock(fd, LOCK_EX)
            sys.write(w, b"locked")
            settle(sys)
            sys.write(w, b"ends")

        sys.spawn(child)
        assert sys.read(r, 100) == b"locked"
        fd = sys.open(path, O_RDONLY)
        sys.flock(fd, LOCK_EX)
        assert sys.read(r, 100) == b"ends"

    world.run(main)


def test_record_locks(world: World, workdir: str) -> None:
    """Ranges are locked by a process, whatever its fds; they are split and joined, and any close of the file gives them back."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/f"
        touch(sys, path, bytes(100))
        fd = sys.open(path, O_RDWR)
        sys.fcntl_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 10, 10)
        sys.fcntl_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 20, 10)
        sys.fcntl_lock(fd, F_SETLK, F_RDLCK, SEEK_SET, 25, 0)
        sys.fcntl_lock(fd, F_SETLK, F_UNLCK, SEEK_SET, 14, 2)
        # Its own locks are in nobody's way.
        assert sys.fcntl_lock(fd, F_GETLK, F_WRLCK, SEEK_SET, 0, 0) == (F_UNLCK, SEEK_SET, 0, 0, 0)
        me = sys.getpid()
        r, w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            fd = sys.open(path, O_RDWR)
            sys.lseek(fd, 50, SEEK_SET)
            got = [
                sys.fcntl_lock(fd, F_GETLK, F_WRLCK, SEEK_SET, start, length)
                for start, length in ((0, 0), (0, 10), (14, 2), (16, 1), (25, 1), (20, -1), (99, 1))
            ]
            got.append(sys.fcntl_lock(fd, F_GETLK, F_WRLCK, SEEK_CUR, -25, 1))
            got.append(sys.fcntl_lock(fd, F_GETLK, F_WRLCK, SEEK_END, 0, 1))
            got.append(sys.fcntl_lock(fd, F_GETLK, F_RDLCK, SEEK_SET, 30, 1))
            assert got == [
                (F_WRLCK, SEEK_SET, 10, 4, me),
                (F_UNLCK, SEEK_SET, 0, 10, 0),
                (F_UNLCK, SEEK_SET, 14, 2, 0),
                (F_WRLCK, SEEK_SET, 16, 9, me),
                (F_RDLCK, SEEK_SET, 25, 0, me),
                (F_WRLCK, SEEK_SET, 16, 9, me),
                (F_RDLCK, SEEK_SET, 25, 0, me),
                (F_RDLCK, SEEK_SET, 25, 0, me),
                (F_RDLCK, SEEK_SET, 25, 0, me),
                (F_UNLCK, SEEK_SET, 30, 1, 0),
            ]
            assert err(sys.fcntl_lock, fd, F_SETLK, F_WRLCK, SEEK_SET, 0, 0) == "EAGAIN"
            sys.fcntl_lock(fd, F_SETLK, F_RDLCK, SEEK_SET, 25, 5)
            sys.write(w, b"x")
            sys.fcntl_lock(fd, F_SETLKW, F_WRLCK, SEEK_SET, 0, 0)

        pid = sys.spawn(child)
        assert sys.read(r, 1) == b"x"
        assert err(sys.fcntl_lock, fd, F_SETLK, F_WRLCK, SEEK_SET, 28, 1) == "EAGAIN"
        settle(sys)
        assert sys.waitpid(pid, WNOHANG) == (0, 0)
        # Any fd of the file.
        sys.close(sys.open(path, O_RDONLY))
        assert sys.waitpid(pid) == (pid, 0)
        sys.fcntl_lock(fd, F_SETLK, F_WRLCK)

    world.run(main)


def test_record_locks_that_fail(world: World, workdir: str) -> None:
    """Ranges that are none, files that are open otherwise, and two who wait for each other."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/f"
        touch(sys, path)
        fd, reading = sys.open(path, O_RDWR), sys.open(path, O_RDONLY)
        assert [
            err(sys.fcntl_lock, reading, F_SETLK, F_WRLCK),
            err(sys.fcntl_lock, sys.open(path, O_WRONLY), F_SETLK, F_RDLCK),
            err(sys.fcntl_lock, fd, F_SETLK, 9),
            err(sys.fcntl_lock, fd, F_GETLK, F_UNLCK),
            err(sys.fcntl_lock, fd, F_SETLK, F_WRLCK, 9),
            err(sys.fcntl_lock, fd, F_SETLK, F_WRLCK, SEEK_SET, -1, 1),
            err(sys.fcntl_lock, fd, F_SETLK, F_WRLCK, SEEK_SET, 5, -6),
            err(sys.fcntl_lock, fd, F_SETLK, F_WRLCK, SEEK_SET, LAST, 2),
            err(sys.fcntl_lock, 99, F_SETLK, F_WRLCK),
        ] == ["EBADF", "EBADF", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "EOVERFLOW", "EBADF"]
        sys.fcntl_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 0, 1)
        r, w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            mine = sys.open(path, O_RDWR)
            sys.fcntl_lock(mine, F_SETLK, F_WRLCK, SEEK_SET, 1, 1)
            sys.write(w, b"x")
            sys.fcntl_lock(mine, F_SETLKW, F_WRLCK, SEEK_SET, 0, 1)

        pid = sys.spawn(child)
        sys.read(r, 1)
        settle(sys)
        assert err(sys.fcntl_lock, fd, F_SETLKW, F_WRLCK, SEEK_SET, 1, 1) == "EDEADLK"
        sys.dup2(reading, fd)
        assert sys.waitpid(pid) == (pid, 0)

    world.run(main)
