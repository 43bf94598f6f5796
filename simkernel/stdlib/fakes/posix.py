"""posix on the machine that runs: fds, pipes, processes and random numbers are its own, and so are paths, which may lead to real files.

os.py above it is Python's.  What only computes (W*, major, fspath, the result types) is the real module's; every other name that is not
written here raises Unsupported when it is called.
"""

import errno
import os
import posix as real
import resource
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from operator import index
from types import FunctionType, GenericAlias
from typing import TYPE_CHECKING, Any, NoReturn

from simkernel.api import Syscalls
from simkernel.errors import Unsupported
from simkernel.stdlib.builtin import as_builtin
from simkernel.stdlib.execve import execve as become
from simkernel.stdlib.execve import find, open_fds, program_of
from simkernel.stdlib.here import here
from simkernel.uapi import (
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_GETLK,
    F_RDLCK,
    F_SETFD,
    F_SETFL,
    F_SETLK,
    F_SETLKW,
    F_UNLCK,
    F_WRLCK,
    FD_CLOEXEC,
    NSEC_PER_SEC,
    TCGETS,
    TIOCGPGRP,
)

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"
retried = world.retried

# What only computes, or tells what never changes: the real function or class is as good.
PURE = """
    sched_get_priority_max sched_get_priority_min
    WCOREDUMP WEXITSTATUS WIFCONTINUED WIFEXITED WIFSIGNALED WIFSTOPPED WSTOPSIG WTERMSIG _path_normpath _path_splitroot_ex confstr
    ctermid error fspath getegid geteuid getgid getgrouplist getgroups getresgid getresuid getuid major makedev minor sched_param
    stat_result statvfs_result strerror terminal_size times_result uname_result waitid_result waitstatus_to_exitcode
""".split()
# Calls on paths of the real file system, of which the simulated kernel has nothing to know.
ON_PATHS = "chown getxattr lchown listxattr mkfifo mknod pathconf removexattr setxattr statvfs".split()
# What os.supports_dir_fd and its like are made without.
WITHOUT = ("HAVE_FEXECVE",)
# Which of the calls on paths take an fd as well, and say so.
ALSO_FDS = "chdir chmod chown listdir pathconf scandir stat statvfs truncate utime".split()
PROCESSORS = 4
MISSING = object()
CLOCK_TICKS = 100
READ_MAX = 2**63 - 1
# What each world forgets when a process begins in it: set by reset().
environ: dict[bytes, bytes] = {}

# os.py takes all of these, and nothing that is only here.
__all__ = [name for name in dir(real) if not name.startswith("_")]
_have_functions = [
    name
    for name in real._have_functions  # type: ignore[attr-defined]  # typeshed leaves it out
    if name not in WITHOUT
]


# What execve gave, of a program that was executed; None: what simkernel's own process has.
initial: dict[bytes, bytes] | None = None


def reset() -> None:
    """A new process begins with its environment."""
    environ.clear()
    environ.update(os.environb if initial is None else initial)


def buffer(data: object) -> bytes | bytearray | memoryview:
    """An argument that is read: any object with contiguous bytes."""
    return data if isinstance(data, (bytes, bytearray)) else memoryview(data).cast("B")  # type: ignore[arg-type]


def named(error: OSError, path: object, other: object = None) -> OSError:
    """``error`` with the file's name, as calls on paths have it."""
    return OSError(error.errno, real.strerror(error.errno or 0), path, None, other)


def unsupported(name: str, why: str) -> Callable[..., NoReturn]:
    """A function that says that it is not modelled."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise Unsupported(f"os.{name} is not modelled: {why}")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


# --- fds ---
def read(fd: int, length: int, /) -> bytes:
    """read(2) of at most ``length`` bytes."""
    fd, length = index(fd), index(length)
    if length < 0:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    data: bytes = retried(here.sys.read, fd, length)
    return data


def write(fd: int, data: Any, /) -> int:
    """write(2); the number of bytes that were taken."""
    n: int = retried(here.sys.write, index(fd), buffer(data))
    return n


def writable(buffers: Sequence[Any]) -> list[memoryview]:
    """Buffers to read into."""
    views = [memoryview(item).cast("B") for item in buffers]
    if any(view.readonly for view in views):
        raise BufferError("Object is not writable.")
    return views


def scatter(data: Iterable[bytes], views: Iterable[memoryview]) -> int:
    """Put what was read where it belongs."""
    total = 0
    for piece, view in zip(data, views, strict=False):
        view[: len(piece)] = piece
        total += len(piece)
    return total


def readv(fd: int, buffers: Sequence[Any], /) -> int:
    """readv(2); the number of bytes read."""
    if not isinstance(buffers, Sequence):
        raise TypeError("readv() arg 2 must be a sequence")
    views = writable(buffers)
    return scatter(retried(here.sys.readv, index(fd), [len(view) for view in views]), views)


def writev(fd: int, buffers: Sequence[Any], /) -> int:
    """writev(2); the number of bytes that were taken."""
    if not isinstance(buffers, Sequence):
        raise TypeError("writev() arg 2 must be a sequence")
    n: int = retried(here.sys.writev, index(fd), [buffer(item) for item in buffers])
    return n


def pread(fd: int, length: int, offset: int, /) -> bytes:
    """pread(2)."""
    fd, length, offset = index(fd), index(length), index(offset)
    if length < 0:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    data: bytes = retried(here.sys.pread, fd, length, offset)
    return data


def pwrite(fd: int, data: Any, offset: int, /) -> int:
    """pwrite(2)."""
    n: int = retried(here.sys.pwrite, index(fd), buffer(data), index(offset))
    return n


def no_rwf(name: str, flags: int) -> None:
    """The flags of preadv2 and pwritev2 are not modelled."""
    if index(flags):
        raise Unsupported(f"os.{name} with flags {flags:#x} is not modelled: leave them out")


def preadv(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int:
    """preadv2(2) without flags; the number of bytes read."""
    if not isinstance(buffers, Sequence):
        raise TypeError("preadv2() arg 2 must be a sequence")
    no_rwf("preadv", flags)
    views = writable(buffers)
    data = pread(fd, sum(map(len, views)), offset)
    pieces = []
    for view in views:
        pieces.append(data[: len(view)])
        data = data[len(view) :]
    return scatter(pieces, views)


def pwritev(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0, /) -> int:
    """pwritev2(2) without flags; the number of bytes that were taken."""
    if not isinstance(buffers, Sequence):
        raise TypeError("pwritev() arg 2 must be a sequence")
    no_rwf("pwritev", flags)
    return pwrite(fd, b"".join([bytes(buffer(item)) for item in buffers]), offset)


def close(fd: int) -> None:
    """close(2), which is not made again: the fd is gone, even if it was interrupted."""
    try:
        here.sys.close(index(fd))
    except InterruptedError:
        world.check_signals()


def closerange(fd_low: int, fd_high: int, /) -> None:
    """Close all fds from ``fd_low`` to below ``fd_high``; errors don't matter."""
    for fd in range(max(index(fd_low), 0), min(index(fd_high), sysconf("SC_OPEN_MAX"))):
        try:
            here.sys.close(fd)
        except OSError:
            pass


def dup(fd: int, /) -> int:
    """A copy of ``fd`` that is not inherited."""
    return here.sys.fcntl(index(fd), F_DUPFD_CLOEXEC, 0)


def dup2(fd: int, fd2: int, inheritable: bool = True) -> int:
    """Make ``fd2`` a copy of ``fd``."""
    fd, fd2 = index(fd), index(fd2)
    if fd < 0 or fd2 < 0:
        raise OSError(errno.EBADF, real.strerror(errno.EBADF))
    if inheritable:
        return here.sys.dup2(fd, fd2)
    return here.sys.dup3(fd, fd2, real.O_CLOEXEC)


def pipe() -> tuple[int, int]:
    """A pipe: (read end, write end), neither inherited."""
    return here.sys.pipe2(real.O_CLOEXEC)


def pipe2(flags: int, /) -> tuple[int, int]:
    """pipe2(2)."""
    return here.sys.pipe2(index(flags))


def lseek(fd: int, position: int, how: int, /) -> int:
    """lseek(2)."""
    return here.sys.lseek(index(fd), index(position), index(how))


def ftruncate(fd: int, length: int, /) -> None:
    """ftruncate(2)."""
    retried(here.sys.ftruncate, index(fd), index(length))


def fstat(fd: int) -> real.stat_result:
    """fstat(2)."""
    found: real.stat_result = retried(here.sys.fstat, index(fd))
    return found


def isatty(fd: int, /) -> bool:
    """Whether ``fd`` is a terminal."""
    try:
        here.sys.ioctl(index(fd), TCGETS)
    except OSError:
        return False
    return True


def ttyname(fd: int, /) -> str:
    """The name of a terminal: OSError for what is none."""
    here.sys.ioctl(index(fd), TCGETS)
    raise Unsupported("os.ttyname is not modelled: a simulated terminal has no name")


def tcgetpgrp(fd: int, /) -> int:
    """The group in the foreground of a terminal: OSError for what is none."""
    here.sys.ioctl(index(fd), TIOCGPGRP)
    raise Unsupported("os.tcgetpgrp is not modelled: a simulated terminal has no jobs")


def device_encoding(fd: int) -> str | None:
    """The encoding of a terminal."""
    return sys.getfilesystemencoding() if isatty(fd) else None


def get_terminal_size(fd: int = 1, /) -> real.terminal_size:
    """The size of a terminal: OSError, since there is none."""
    here.sys.fcntl(index(fd), F_GETFL)
    raise OSError(errno.ENOTTY, real.strerror(errno.ENOTTY))


def set_blocking(fd: int, blocking: bool, /) -> None:
    """Set or clear O_NONBLOCK."""
    fd = index(fd)
    flags = here.sys.fcntl(fd, F_GETFL)
    here.sys.fcntl(fd, F_SETFL, flags & ~real.O_NONBLOCK if blocking else flags | real.O_NONBLOCK)


def get_blocking(fd: int, /) -> bool:
    """Whether O_NONBLOCK is clear."""
    return not here.sys.fcntl(index(fd), F_GETFL) & real.O_NONBLOCK


def set_inheritable(fd: int, inheritable: bool, /) -> None:
    """Clear or set FD_CLOEXEC."""
    fd = index(fd)
    flags = here.sys.fcntl(fd, F_GETFD)
    here.sys.fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC if inheritable else flags | FD_CLOEXEC)


def get_inheritable(fd: int, /) -> bool:
    """Whether FD_CLOEXEC is clear."""
    return not here.sys.fcntl(index(fd), F_GETFD) & FD_CLOEXEC


def sendfile(out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    """sendfile(2); the number of bytes that were copied."""
    n: int = retried(here.sys.sendfile, index(out_fd), index(in_fd), None if offset is None else index(offset), index(count))
    return n


def splice(src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None, flags: int = 0) -> int:
    """splice(2); the number of bytes that were moved."""
    if index(count) < 0:
        raise ValueError("negative value for 'count' not allowed")
    n: int = retried(here.sys.splice, index(src), offset_src, index(dst), offset_dst, index(count), index(flags))
    return n


def eventfd(initval: int, flags: int = real.EFD_CLOEXEC) -> int:
    """eventfd(2)."""
    return here.sys.eventfd(index(initval), index(flags))


def eventfd_read(fd: int) -> int:
    """The counter of an eventfd, which is then 0; sleeps until it is not."""
    return int.from_bytes(read(fd, 8), sys.byteorder)


def eventfd_write(fd: int, value: int) -> None:
    """Add to the counter of an eventfd."""
    write(fd, index(value).to_bytes(8, sys.byteorder))


def memfd_create(name: Any, flags: int = real.MFD_CLOEXEC) -> int:
    """memfd_create(2)."""
    return here.sys.memfd_create(real.fspath(name), index(flags))


def copy_file_range(src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None) -> int:
    """copy_file_range(2) of regular files; the number of bytes that were copied."""
    if index(count) < 0:
        raise ValueError("negative value for 'count' not allowed")
    if fstat(src).st_mode & 0o170000 != 0o100000 or fstat(dst).st_mode & 0o170000 != 0o100000:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    data = read(src, count) if offset_src is None else pread(src, count, offset_src)
    return write(dst, data) if offset_dst is None else pwrite(dst, data, offset_dst)


def lockf(fd: int, command: int, length: int, /) -> None:
    """lockf(3): lock records from the position on."""
    fd, command, length = index(fd), index(command), index(length)
    if command == real.F_TEST:
        kind, *_, pid = here.sys.fcntl_lock(fd, F_GETLK, F_RDLCK, 1, 0, length)
        if kind != F_UNLCK and pid != here.sys.getpid():
            raise OSError(errno.EACCES, real.strerror(errno.EACCES))
        return
    kinds = {real.F_ULOCK: (F_SETLK, F_UNLCK), real.F_LOCK: (F_SETLKW, F_WRLCK), real.F_TLOCK: (F_SETLK, F_WRLCK)}
    if command not in kinds:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    setlk, kind = kinds[command]
    retried(here.sys.fcntl_lock, fd, setlk, kind, 1, 0, length)


def is_file(fd: int) -> bool:
    """Whether ``fd``, or what has a fileno(), is a regular file or a directory; EBADF if it is nothing."""
    number = fd if isinstance(fd, int) else fd.fileno()
    return fstat(number).st_mode & 0o170000 in (0o100000, 0o040000)


def fsync(fd: int) -> None:
    """fsync(2): what was written has been passed on already, so there is nothing to wait for.  EINVAL for what is no file."""
    if not is_file(fd):
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))


def fdatasync(fd: int) -> None:
    """fdatasync(2), as fsync."""
    fsync(fd)


def posix_fadvise(fd: int, offset: int, length: int, advice: int, /) -> None:
    """posix_fadvise(2): advice without an effect on what is read.  ESPIPE for what is no file."""
    if not is_file(index(fd)):
        raise OSError(errno.ESPIPE, real.strerror(errno.ESPIPE))
    if not 0 <= index(advice) <= 5 or index(length) < 0:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))


def sync() -> None:
    """sync(2): nothing is kept back."""


def posix_fallocate(fd: int, offset: int, length: int, /) -> None:
    """posix_fallocate(3): a file is at least so long."""
    if not is_file(index(fd)):
        raise OSError(errno.ESPIPE, real.strerror(errno.ESPIPE))
    if index(offset) < 0 or index(length) <= 0:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    if fstat(fd).st_size < offset + length:
        ftruncate(fd, offset + length)


# --- paths ---
def path_of(path: Any, function: str, dir_fd: int | None = None) -> str | bytes:
    """A path argument.  TypeError for what is none."""
    kinds = "string, bytes, os.PathLike or integer" if function in ALSO_FDS else "string, bytes or os.PathLike"
    if isinstance(path, (bytearray, memoryview)) and sys.version_info < (3, 14):
        warnings.warn(f"{function}: path should be {kinds}, not {type(path).__name__}", DeprecationWarning, stacklevel=3)
        path = bytes(path)
    if not isinstance(path, (str, bytes)) and not hasattr(type(path), "__fspath__"):
        raise TypeError(f"{function}: path should be {kinds}, not {type(path).__name__}")
    name: str | bytes = real.fspath(path)
    if dir_fd is not None and not fs_bytes(name).startswith(b"/"):
        # The kernel finds its way through /proc.
        if not is_fd(dir_fd):
            raise TypeError(f"argument should be integer or None, not {type(dir_fd).__name__}")
        name = of_fd(dir_fd).encode() + b"/" + fs_bytes(name)
    if b"\0" in fs_bytes(name):
        raise ValueError(f"{function}: embedded null {'byte' if isinstance(name, bytes) else 'character in path'}")
    return name


def called(path: Any, function: str, call: Callable[..., Any], *args: Any, dir_fd: int | None = None) -> Any:
    """``call(path, *args)``, a system call, its error with the file's name."""
    try:
        return retried(call, path_of(path, function, dir_fd), *args)
    except OSError as error:
        raise named(error, path) from None


def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:  # noqa: A001
    """open(2); the fd is not inherited."""
    fd: int = called(path, "open", here.sys.open, index(flags) | real.O_CLOEXEC, index(mode), dir_fd=dir_fd)
    return fd


def is_fd(path: Any) -> bool:
    """Whether an argument that may be a path or an fd is an fd."""
    return hasattr(type(path), "__index__")


def stat(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> real.stat_result:
    """stat(2), or fstat of an fd."""
    if is_fd(path):
        if dir_fd is not None:
            raise ValueError("stat: can't specify dir_fd without matching path")
        if not follow_symlinks:
            raise ValueError("stat: cannot use fd and follow_symlinks together")
        return fstat(path)
    found: real.stat_result = called(path, "stat", here.sys.stat if follow_symlinks else here.sys.lstat, dir_fd=dir_fd)
    return found


def lstat(path: Any, *, dir_fd: int | None = None) -> real.stat_result:
    """lstat(2)."""
    found: real.stat_result = called(path, "lstat", here.sys.lstat, dir_fd=dir_fd)
    return found


def unlink(path: Any, *, dir_fd: int | None = None) -> None:
    """unlink(2)."""
    called(path, "unlink", here.sys.unlink, dir_fd=dir_fd)


def remove(path: Any, *, dir_fd: int | None = None) -> None:
    """unlink(2)."""
    called(path, "remove", here.sys.unlink, dir_fd=dir_fd)


def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """mkdir(2)."""
    called(path, "mkdir", here.sys.mkdir, index(mode), dir_fd=dir_fd)


def rmdir(path: Any, *, dir_fd: int | None = None) -> None:
    """rmdir(2)."""
    called(path, "rmdir", here.sys.rmdir, dir_fd=dir_fd)


def rename(src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
    """rename(2)."""
    old, new = path_of(src, "rename", src_dir_fd), path_of(dst, "rename", dst_dir_fd)
    try:
        here.sys.rename(old, new)
    except OSError as error:
        raise named(error, src, dst) from None


replace = rename


def readlink(path: Any, *, dir_fd: int | None = None) -> str | bytes:
    """readlink(2)."""
    target: bytes = called(path, "readlink", here.sys.readlink, dir_fd=dir_fd)
    return target if isinstance(real.fspath(path), bytes) else fs_text(target)


def of_fd(fd: int) -> str:
    """The path that leads to an fd's file."""
    fd = index(fd)
    here.sys.fcntl(fd, F_GETFD)
    return f"/proc/self/fd/{int(fd)}"


def chmod(path: Any, mode: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    """chmod(2), or fchmod of an fd."""
    if not follow_symlinks:
        raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
    called(of_fd(path) if is_fd(path) else path, "chmod", here.sys.chmod, index(mode), dir_fd=dir_fd)


def fchmod(fd: int, mode: int) -> None:
    """fchmod(2)."""
    here.sys.chmod(of_fd(index(fd)), index(mode))


def chdir(path: Any) -> None:
    """chdir(2), or fchdir of an fd: for this process alone."""
    called(of_fd(path) if is_fd(path) else path, "chdir", here.sys.chdir)


def fchdir(fd: Any) -> None:
    """fchdir(2)."""
    here.sys.chdir(of_fd(fd if isinstance(fd, int) else fd.fileno()))


def getcwd() -> str:
    """The current directory of the process."""
    return fs_text(here.sys.getcwd())


def getcwdb() -> bytes:
    """The same in bytes."""
    return here.sys.getcwd()


def umask(mask: int, /) -> int:
    """umask(2) of the process."""
    return here.sys.umask(index(mask))


def truncate(path: Any, length: int) -> None:
    """truncate(2), or ftruncate of an fd."""
    if is_fd(path):
        ftruncate(path, length)
        return
    fd = called(path, "truncate", here.sys.open, real.O_WRONLY | real.O_CLOEXEC)
    try:
        ftruncate(fd, length)
    finally:
        here.sys.close(fd)


def entries(path: Any, function: str) -> list[tuple[int, int, bytes]]:
    """What is in a directory, given by its path or an fd: (inode, type, name) of each."""
    if path is None:
        path = "."
    if is_fd(path):
        fd = dup(path)
        here.sys.lseek(fd, 0, 0)
    else:
        fd = called(path, function, here.sys.open, real.O_DIRECTORY | real.O_CLOEXEC)
    found: list[tuple[int, int, bytes]] = []
    try:
        while got := here.sys.getdents64(fd):
            found += got
    finally:
        here.sys.close(fd)
    return [entry for entry in found if entry[2] not in (b".", b"..")]


def listdir(path: Any = None) -> list[Any]:
    """The names in a directory."""
    names = [name for _, _, name in entries(path, "listdir")]
    return names if in_bytes(path) else [fs_text(name) for name in names]


def in_bytes(path: Any) -> bool:
    """Whether the names in a directory are wanted as bytes."""
    if path is None or is_fd(path):
        return False
    return isinstance(path, (bytearray, memoryview)) or isinstance(real.fspath(path), bytes)


class DirEntry:
    """What scandir gives."""

    __slots__ = ("_dir_fd", "_ino", "_kind", "_lstat", "_stat", "name", "path")
    # So that os.DirEntry[str] may be written.
    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self, name: Any, path: Any, ino: int, kind: int, dir_fd: int | None) -> None:
        self._dir_fd = dir_fd
        self.name = name
        self.path = path
        self._ino = ino
        self._kind = kind
        self._stat: real.stat_result | None = None
        self._lstat: real.stat_result | None = None

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def inode(self) -> int:
        """The inode's number."""
        return self._ino

    def stat(self, *, follow_symlinks: bool = True) -> real.stat_result:
        """What it is, looked up once."""
        if follow_symlinks and self.is_symlink():
            if self._stat is None:
                self._stat = stat(self.path, dir_fd=self._dir_fd)
            return self._stat
        if self._lstat is None:
            self._lstat = lstat(self.path, dir_fd=self._dir_fd)
        return self._lstat

    def _is(self, kind: int, follow_symlinks: bool) -> bool:
        if not follow_symlinks or not self.is_symlink():
            return self._kind == kind
        try:
            return self.stat().st_mode >> 12 == kind
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        return self._is(0o04, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file."""
        return self._is(0o10, follow_symlinks)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._kind == 0o12

    def is_junction(self) -> bool:
        """Whether it is what only Windows has."""
        return False


class ScandirIterator:
    """What scandir returns: an iterator to be closed."""

    def __init__(self, found: Iterable[DirEntry]) -> None:
        self._found = iter(list(found))
        self._open = True

    def __iter__(self) -> "ScandirIterator":
        return self

    def __next__(self) -> DirEntry:
        try:
            return next(self._found)
        except StopIteration:
            self._open = False
            raise

    def __del__(self) -> None:
        if self._open:
            warnings.warn(f"unclosed scandir iterator {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def __enter__(self) -> "ScandirIterator":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """There is nothing more."""
        self._found = iter(())
        self._open = False


def scandir(path: Any = None) -> ScandirIterator:
    """The entries of a directory, as it is now."""
    found = entries(path, "scandir")
    dir_fd = path if is_fd(path) else None
    if in_bytes(path):
        raw = fs_bytes(path)
        raw += b"" if raw.endswith(b"/") else b"/"
        return ScandirIterator([DirEntry(name, raw + name, ino, kind, None) for ino, kind, name in found])
    prefix = "./" if path is None else "" if dir_fd is not None else str(real.fspath(path))
    prefix += "" if not prefix or prefix.endswith("/") else "/"
    return ScandirIterator([DirEntry(fs_text(name), prefix + fs_text(name), ino, kind, dir_fd) for ino, kind, name in found])


def fchown(fd: int, uid: int, gid: int) -> None:
    """fchown(2), of a real file."""
    real.chown(host_path(index(fd), "fchown"), uid, gid)


def fstatvfs(fd: int, /) -> real.statvfs_result:
    """fstatvfs(3), of a real file."""
    return real.statvfs(host_path(index(fd), "fstatvfs"))


def fpathconf(fd: int, name: str | int, /) -> int:
    """fpathconf(3), of a real file."""
    return real.pathconf(host_path(index(fd), "fpathconf"), name)


# --- what is left to the real file system ---
def host_path(path: Any, function: str, dir_fd: int | None = None) -> str | bytes:
    """The real path of a file, given by path or fd.  Unsupported for what is the simulated kernel's own: a socket, a device, tmpfs."""
    if is_fd(path):
        ours: real.stat_result | None = fstat(path)
        name: str | bytes = here.sys.readlink(of_fd(path))
    else:
        if dir_fd is not None and not fs_bytes(path).startswith(b"/"):
            path = here.sys.readlink(of_fd(dir_fd)) + b"/" + fs_bytes(path)
        name = path_of(path, function)
        if not fs_bytes(name):
            raise OSError(errno.ENOENT, real.strerror(errno.ENOENT))
        if not fs_bytes(name).startswith(b"/"):
            name = getcwdb() + b"/" + fs_bytes(name)
        ours = looked_up(here.sys.lstat, name)
    theirs = looked_up(real.lstat, name)
    if ours is theirs is None or (ours is not None and theirs is not None and ours[:3] == theirs[:3]):
        return name
    raise Unsupported(f"os.{function} of {path!r} is not modelled: it is not a file of the real file system")


def looked_up(call: Callable[..., real.stat_result], path: str | bytes) -> real.stat_result | None:
    """What is there, if anything."""
    try:
        return call(path)
    except OSError:
        return None


def on_host(name: str) -> Callable[..., Any]:
    """The real function on a path, of which the simulated kernel has nothing to know."""
    function = getattr(real, name)

    def call(path: Any, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> Any:
        where = host_path(path, name, dir_fd)
        try:
            return function(where, *args, **kwargs)
        except OSError as error:
            raise named(error, path) from None

    call.__name__ = call.__qualname__ = name
    call.__doc__ = function.__doc__
    return call


def utime(path: Any, times: Any = None, *, ns: Any = MISSING, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    """utime(2) of a real file; without times, what the machine's clock shows."""
    if times is not None and ns is not MISSING:
        raise ValueError("utime: you may specify either 'times' or 'ns' but not both")
    where = host_path(path, "utime", dir_fd)
    try:
        if times is not None:
            real.utime(where, times, follow_symlinks=follow_symlinks)
        else:
            now = here.clock_gettime_ns(0)
            real.utime(where, ns=(now, now) if ns is MISSING else ns, follow_symlinks=follow_symlinks)
    except OSError as error:
        raise named(error, path) from None


def symlink(src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None) -> None:
    """symlink(2), on the real file system."""
    where = host_path(dst, "symlink", dir_fd)
    text = path_of(src, "symlink")
    try:
        real.symlink(fs_bytes(text), fs_bytes(where))
    except OSError as error:
        raise named(error, src, dst) from None


def link(src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
    """link(2), on the real file system."""
    old, new = host_path(src, "link", src_dir_fd), host_path(dst, "link", dst_dir_fd)
    try:
        real.link(fs_bytes(old), fs_bytes(new), follow_symlinks=follow_symlinks)
    except OSError as error:
        raise named(error, src, dst) from None


def access(path: Any, mode: int, *, dir_fd: int | None = None, effective_ids: bool = False, follow_symlinks: bool = True) -> bool:
    """Whether a file may be used so.  What the simulated kernel has alone is root's."""
    name = path_of(path, "access", dir_fd)
    found = looked_up(here.sys.stat, name)
    if found is None:
        return False
    try:
        return real.access(host_path(path, "access", dir_fd), mode, effective_ids=effective_ids, follow_symlinks=follow_symlinks)
    except Unsupported:
        return not mode & real.X_OK or bool(found.st_mode & 0o40111)


# --- processes ---
def getpid() -> int:
    """getpid(2)."""
    return here.sys.getpid()


def getppid() -> int:
    """getppid(2)."""
    return here.sys.getppid()


def kill(pid: int, signal: int, /) -> None:
    """kill(2).  A signal to oneself has been handled when it returns."""
    here.sys.kill(index(pid), index(signal))
    world.check_signals()


def killpg(pgid: int, signal: int, /) -> None:
    """killpg(3)."""
    if index(pgid) < 0:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    kill(-index(pgid), signal)


def getpgid(pid: int) -> int:
    """getpgid(2)."""
    return here.sys.getpgid(index(pid))


def getpgrp() -> int:
    """The process group."""
    return here.sys.getpgid(0)


def setpgid(pid: int, pgrp: int, /) -> None:
    """setpgid(2)."""
    here.sys.setpgid(index(pid), index(pgrp))


def setpgrp() -> None:
    """A process group of one's own."""
    here.sys.setpgid(0, 0)


def getsid(pid: int, /) -> int:
    """getsid(2)."""
    return here.sys.getsid(index(pid))


def setsid() -> None:
    """setsid(2)."""
    here.sys.setsid()


def words_of(argv: Any, function: str) -> list[bytes]:
    """The arguments of a program."""
    if not isinstance(argv, (list, tuple)):
        raise TypeError(f"{function}: argv must be a tuple or list")
    if not argv or not argv[0]:
        raise ValueError(f"{function}: argv {'must not' if not argv else 'first element cannot'} be empty")
    return [fs_bytes(word) for word in argv]


def environment_of(env: Any) -> dict[bytes, bytes]:
    """The environment of a program, of any mapping."""
    environment = {}
    for key in env.keys():  # noqa: SIM118  # as C takes it
        name, value = fs_bytes(key), fs_bytes(env[key])
        if b"\0" in name + value:
            raise ValueError("embedded null byte")
        if not name or b"=" in name:
            raise ValueError("illegal environment variable name")
        environment[name] = value
    return environment


def execve(path: Any, argv: Any, env: Any) -> NoReturn:
    """execve(2): this process becomes another program of Python's.  Its other threads must have ended."""
    words = words_of(argv, "execve")
    environment = environment_of(env)
    threading: Any = world.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        raise Unsupported("os.execve with other threads is not modelled: end them first")
    try:
        become(world, [fs_bytes(path_of(path, "execve"))], words, environment)
    except OSError as error:
        raise named(error, path) from None


def execv(path: Any, argv: Any, /) -> NoReturn:
    """execve(2) with this process's environment."""
    words_of(argv, "execv")
    execve(path, argv, environ)


def file_action(sys: Syscalls, action: Any) -> None:
    """One of posix_spawn's file actions, in the child."""
    kind, *args = action
    if kind == real.POSIX_SPAWN_OPEN:
        fd, path, flags, mode = args
        new = sys.open(fs_bytes(path), flags, mode)
        if new != fd:
            sys.dup2(new, fd)
            sys.close(new)
    elif kind == real.POSIX_SPAWN_CLOSE:
        sys.close(*args)
    elif kind == real.POSIX_SPAWN_DUP2:
        sys.dup2(*args)
        if args[0] == args[1]:
            sys.fcntl(args[0], F_SETFD, 0)
    else:
        for fd in open_fds():
            if fd >= args[0]:
                sys.close(fd)


def check_file_actions(actions: Any) -> list[Any]:
    """TypeError for what is no list of file actions."""
    kinds: dict[int, tuple[Any, ...]] = {
        real.POSIX_SPAWN_OPEN: (int, (str, bytes), int, int),
        real.POSIX_SPAWN_CLOSE: (int,),
        real.POSIX_SPAWN_DUP2: (int, int),
        getattr(real, "POSIX_SPAWN_CLOSEFROM", -1): (int,),
    }
    for action in actions or ():
        if not isinstance(action, tuple) or not action:
            raise TypeError("Each file_actions element must be a non-empty tuple")
        if action[0] not in kinds:
            raise TypeError("Unknown file_actions identifier")
        types = kinds[action[0]]
        if len(action) != 1 + len(types) or not all(map(isinstance, action[1:], types)):
            raise TypeError(f"A {('open', 'close', 'dup2', 'closefrom')[action[0]]} file_action tuple is not as it must be")
    return list(actions or ())


def spawned(
    executables: list[bytes],
    path: Any,
    argv: Any,
    env: Any,
    file_actions: Any,
    setpgroup: int | None,
    resetids: bool,
    setsid: bool,
    setsigmask: Iterable[int],
    setsigdef: Iterable[int],
    scheduler: Any,
) -> int:
    """posix_spawn(3) of the first of some paths that is there."""
    words = words_of(argv, "posix_spawn")
    environment = environment_of(env if env is not None else environ)
    actions = check_file_actions(file_actions)
    index(resetids)
    if scheduler is not None:
        raise Unsupported("os.posix_spawn with a scheduler is not modelled")
    mask, default = [index(signum) for signum in setsigmask], [index(signum) for signum in setsigdef]
    pgroup = None if setpgroup is None else index(setpgroup)
    for signum in mask + default:
        if not 0 < signum < 65:
            raise ValueError(f"signal number {signum} out of range [1; 64]")
    try:
        program_of(find(executables), words)
    except OSError as error:
        raise named(error, path) from None

    def child(sys: Syscalls) -> None:
        try:
            if pgroup is not None:
                sys.setpgid(0, pgroup)
            if setsid:
                sys.setsid()
            if mask:
                sys.sigprocmask(2, mask)
            for signum in default:
                sys.sigaction(signum, 0)
            for action in actions:
                file_action(sys, action)
            become(world, executables, words, environment)
        except OSError:
            sys.exit(127)

    child.__name__ = fs_text(words[0].rpartition(b"/")[2])
    return here.sys.spawn(child)


def posix_spawn(
    path: Any,
    argv: Any,
    env: Any,
    /,
    *,
    file_actions: Any = (),
    setpgroup: int | None = None,
    resetids: bool = False,
    setsid: bool = False,
    setsigmask: Iterable[int] = (),
    setsigdef: Iterable[int] = (),
    scheduler: Any = None,
) -> int:
    """posix_spawn(3) of a program of Python's."""
    name = fs_bytes(path_of(path, "posix_spawn"))
    return spawned([name], path, argv, env, file_actions, setpgroup, resetids, setsid, setsigmask, setsigdef, scheduler)


def posix_spawnp(
    path: Any,
    argv: Any,
    env: Any,
    /,
    *,
    file_actions: Any = (),
    setpgroup: int | None = None,
    resetids: bool = False,
    setsid: bool = False,
    setsigmask: Iterable[int] = (),
    setsigdef: Iterable[int] = (),
    scheduler: Any = None,
) -> int:
    """The same; a name without a slash is looked for in PATH."""
    name = fs_bytes(path_of(path, "posix_spawnp"))
    folders = environ.get(b"PATH", b"/bin:/usr/bin").split(b":")
    names = [name] if b"/" in name else [folder + b"/" + name for folder in folders]
    return spawned(names, path, argv, env, file_actions, setpgroup, resetids, setsid, setsigmask, setsigdef, scheduler)


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    """waitpid(2): (pid, wait status)."""
    found: tuple[int, int] = retried(here.sys.waitpid, index(pid), index(options))
    return found


def wait4(pid: int, options: int) -> tuple[int, int, Any]:
    """waitpid(2), and what the child has used: nothing, in virtual time."""
    found, status = waitpid(pid, options)
    return found, status, resource.struct_rusage((0.0, 0.0, *[0] * 14))


def wait3(options: int) -> tuple[int, int, Any]:
    """The same for any child."""
    return wait4(-1, options)


def waitid(idtype: int, id: int, options: int, /) -> real.waitid_result | None:
    """waitid(2) for children that have ended; None with WNOHANG if none has."""
    if options & ~(real.WEXITED | real.WNOHANG) or not options & real.WEXITED:
        raise Unsupported(f"os.waitid with options {options:#x} is not modelled, only WEXITED and WNOHANG")
    pids = {real.P_ALL: -1, real.P_PID: index(id), real.P_PGID: -index(id)}
    if idtype not in pids:
        raise Unsupported("os.waitid with an idtype other than P_ALL, P_PID and P_PGID is not modelled")
    pid, status = waitpid(pids[idtype], options & real.WNOHANG)
    if not pid:
        return None
    exited = real.WIFEXITED(status)
    code = real.WEXITSTATUS(status) if exited else real.WTERMSIG(status)
    return real.waitid_result((pid, 0, 17, code, real.CLD_EXITED if exited else real.CLD_KILLED))


def wait() -> tuple[int, int]:
    """waitpid(2) for any child."""
    return waitpid(-1, 0)


def _exit(status: int) -> NoReturn:
    """_exit(2)."""
    here.sys.exit(index(status))
    raise AssertionError("exit does not return")


def abort() -> NoReturn:
    """End by SIGABRT."""
    here.sys.sigaction(6, 0)
    here.sys.kill(here.sys.getpid(), 6)
    raise AssertionError("SIGABRT does not return")


def pidfd_open(pid: int, flags: int = 0) -> int:
    """pidfd_open(2)."""
    return here.sys.pidfd_open(index(pid), index(flags))


def is_there(pid: int) -> None:
    """EINVAL or ESRCH for what is no process."""
    if index(pid) < 0:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    here.sys.kill(pid or here.sys.getpid(), 0)


def sched_getscheduler(pid: int, /) -> int:
    """All tasks are as the others."""
    is_there(pid)
    return real.SCHED_OTHER


def sched_getparam(pid: int, /) -> real.sched_param:
    """Nobody has a priority."""
    is_there(pid)
    return real.sched_param(0)


def sched_yield() -> None:
    """sched_yield(2): everybody else goes first."""
    here.sys.nanosleep(0)


def register_at_fork(*, before: Any = MISSING, after_in_child: Any = MISSING, after_in_parent: Any = MISSING) -> None:
    """What to call around a fork, which never comes: a Python stack can't be copied."""
    given = [function for function in (before, after_in_child, after_in_parent) if function is not MISSING]
    if not given:
        raise TypeError("At least one argument is required.")
    for function in given:
        if not callable(function):
            raise TypeError(f"'{type(function).__name__}' object is not callable")


fork = unsupported("fork", "a greenlet's stack can't be copied. Start the child from a function: sys.spawn(main), or subprocess")
forkpty = unsupported("forkpty", "there are neither terminals nor copies of a stack. Use subprocess with pipes")


def set_ids(name: str) -> Callable[..., None]:
    """A call that changes who a process is: root stays root, so it may only be told to be what it is."""

    def call(*ids: Any) -> None:
        for number in ids:
            if not is_fd(number):
                raise TypeError(f"{'gid' if 'gid' in name else 'uid'} should be integer, not {type(number).__name__}")
            if not -1 <= index(number) < 2**32:
                raise OverflowError(
                    f"{'gid' if 'gid' in name else 'uid'} is {'less than minimum' if number < 0 else 'greater than maximum'}"
                )
        mine = real.getgid() if "gid" in name else real.getuid()
        if not all(index(number) in (mine, -1) for number in ids):
            raise Unsupported(f"os.{name} is not modelled: there is one user")

    call.__name__ = call.__qualname__ = name
    return call


setuid, seteuid, setreuid, setresuid = map(set_ids, ("setuid", "seteuid", "setreuid", "setresuid"))
setgid, setegid, setregid, setresgid = map(set_ids, ("setgid", "setegid", "setregid", "setresgid"))


def getpriority(which: int, who: int) -> int:
    """All tasks are as the others."""
    if index(which) == real.PRIO_PROCESS:
        is_there(who)
    return 0


def getloadavg() -> tuple[float, float, float]:
    """Computing takes no virtual time, so nobody waits for a processor."""
    return (0.0, 0.0, 0.0)


def times() -> real.times_result:
    """times(2): tasks need no processor time in virtual time; the elapsed time is the machine's."""
    elapsed = here.sys.clock_gettime_ns(1) * CLOCK_TICKS // NSEC_PER_SEC / CLOCK_TICKS
    return real.times_result((0.0, 0.0, 0.0, 0.0, elapsed))


def cpu_count() -> int:
    """The same on every machine."""
    return PROCESSORS


def sched_getaffinity(pid: int, /) -> set[int]:
    """All processors."""
    is_there(pid)
    return set(range(PROCESSORS))


def sysconf(name: str | int, /) -> int:
    """sysconf(3); what is the machine's own comes from it."""
    number = real.sysconf_names.get(name) if isinstance(name, str) else name
    if number == real.sysconf_names["SC_OPEN_MAX"]:
        return here.sys.getrlimit(7)[0]
    if number in (real.sysconf_names["SC_NPROCESSORS_ONLN"], real.sysconf_names["SC_NPROCESSORS_CONF"]):
        return PROCESSORS
    return real.sysconf(name)


def uname() -> real.uname_result:
    """uname(2) of the real machine, but the name, which is the simulated one's."""
    found = real.uname()
    network = world.modules.get("_socket")
    nodename = network.gethostname() if "_socket" in world.fakes and network is not None else found.nodename
    return real.uname_result((found.sysname, nodename, found.release, found.version, found.machine))


# --- random numbers and the environment ---
def urandom(size: int, /) -> bytes:
    """``size`` random bytes of the machine."""
    if index(size) < 0:
        raise ValueError("negative argument not allowed")
    return b"" if not size else getrandom(size)


def getrandom(size: int, flags: int = 0) -> bytes:
    """getrandom(2)."""
    if index(size) < 0:
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    data: bytes = retried(here.sys.getrandom, index(size), index(flags))
    return data


def fs_bytes(text: Any) -> bytes:
    """An argument that is a str or bytes of the file system."""
    name = bytes(text) if isinstance(text, (bytearray, memoryview)) else real.fspath(text)
    return name if isinstance(name, bytes) else name.encode(sys.getfilesystemencoding(), "surrogateescape")


def fs_text(name: bytes) -> str:
    """A name of the file system as text."""
    return name.decode(sys.getfilesystemencoding(), "surrogateescape")


def putenv(name: Any, value: Any, /) -> None:
    """Set a variable of this world's environment."""
    if b"\0" in fs_bytes(name) + fs_bytes(value):
        raise ValueError("embedded null byte")
    if not fs_bytes(name) or b"=" in fs_bytes(name):
        raise ValueError("illegal environment variable name")
    environ[fs_bytes(name)] = fs_bytes(value)


def unsetenv(name: Any, /) -> None:
    """Remove a variable of this world's environment."""
    if b"\0" in fs_bytes(name):
        raise ValueError("embedded null byte")
    if not fs_bytes(name) or b"=" in fs_bytes(name):
        raise OSError(errno.EINVAL, real.strerror(errno.EINVAL))
    environ.pop(fs_bytes(name), None)


for _name, _value in vars(real).items():
    if _name in globals():
        continue
    if not callable(_value) or _name in PURE:
        globals()[_name] = _value
    elif _name in ON_PATHS:
        globals()[_name] = on_host(_name)
    elif not _name.startswith("__"):
        globals()[_name] = unsupported(_name, "it would reach the real system")
for _name in dir(real):
    if isinstance(globals()[_name], FunctionType):
        globals()[_name] = as_builtin(globals()[_name], "posix")
reset()
