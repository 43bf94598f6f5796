"""The calls on paths and positions (fs/open.c, namei.c, read_write.c, splice.c, mm/memfd.c)."""

import errno
import os
from typing import Final

from simkernel.api import Buffer
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.locks import fcntl_getlk, fcntl_setlk, flock_lock_inode_wait, flock_to_posix_lock
from simkernel.kernel.namei import LOFF_MAX, PATH_MAX, DirFile, rw_verify_area
from simkernel.kernel.shmem import ftruncate, shmem_file_setup
from simkernel.kernel.splice import SPLICE_F_ALL, do_sendfile, do_splice, sendfile_from
from simkernel.kernel.syscalls.base import INT_MAX, as_bytes, c_int, size
from simkernel.kernel.syscalls.files import FileCalls
from simkernel.sockaddr import path_name
from simkernel.uapi import (
    F_GETLK,
    F_SETLK,
    F_SETLKW,
    F_UNLCK,
    GRND_INSECURE,
    GRND_NONBLOCK,
    GRND_RANDOM,
    MFD_CLOEXEC,
    O_ACCMODE,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_DSYNC,
    O_EXCL,
    O_LARGEFILE,
    O_NOATIME,
    O_NOCTTY,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_SYNC,
    O_TMPFILE_BIT,
    O_TRUNC,
    OPEN_NAMES,
    SEEK_SET,
)
from simkernel.uapi import (
    flags as flags_text,
)

# include/linux/fcntl.h; open ignores what is not among them.
VALID_OPEN_FLAGS: Final = 0o37777703
MODELLED_OPEN_FLAGS: Final = (
    O_ACCMODE
    | O_APPEND
    | O_CLOEXEC
    | O_CREAT
    | O_DIRECTORY
    | O_DSYNC
    | O_EXCL
    | O_LARGEFILE
    | O_NOATIME
    | O_NOCTTY
    | O_NOFOLLOW
    | O_NONBLOCK
    | O_SYNC
    | O_TMPFILE_BIT
    | O_TRUNC
)
SEEK_MAX: Final = 4
MFD_NAME_MAX: Final = 249
MFD_ALL_FLAGS: Final = 0x1F


def c_offset(value: object) -> int:
    """An argument that Linux takes as a loff_t."""
    if not isinstance(value, int):
        raise TypeError(f"an offset must be an int, not {type(value).__name__}")
    if not -(2**63) <= value < 2**63:
        raise OverflowError(f"the offset {value} does not fit a C loff_t")
    return value


class VfsCalls(FileCalls):
    """open, unlink, mkdir, stat, fstat, getrandom, memfd_create, lseek, ftruncate, pread, pwrite, sendfile, splice."""

    __slots__ = ()

    def open(self, path: str | bytes, flags: int, mode: int = 0o666, /) -> int:
        raw = path_name(path)
        c_int(flags, "flags")
        c_int(mode, "mode")
        flags &= VALID_OPEN_FLAGS
        if flags & ~MODELLED_OPEN_FLAGS:
            raise Unsupported(f"open flags {flags_text(flags & ~MODELLED_OPEN_FLAGS, OPEN_NAMES)} are not modelled")
        if flags & O_CREAT and flags & O_DIRECTORY:
            raise oserror(errno.EINVAL)
        if not raw:
            raise oserror(errno.ENOENT)
        if len(raw) >= PATH_MAX:
            raise oserror(errno.ENAMETOOLONG)
        files = self.sched.current.files
        # Linux takes the number first: with a full table nothing is made.
        files.get_unused_fd(self._nofile())
        return self._install(files, self._interruptible(self.vfs.open, raw, flags, mode & 0o7777), bool(flags & O_CLOEXEC))

    def unlink(self, path: str | bytes, /) -> None:
        self.vfs.unlink(path_name(path))

    def mkdir(self, path: str | bytes, mode: int = 0o777, /) -> None:
        raw = path_name(path)
        c_int(mode, "mode")
        self.vfs.mkdir(raw, mode & 0o1777)

    def rmdir(self, path: str | bytes, /) -> None:
        self.vfs.rmdir(path_name(path))

    def rename(self, old: str | bytes, new: str | bytes, /) -> None:
        self.vfs.rename(path_name(old), path_name(new))

    def readlink(self, path: str | bytes, /) -> bytes:
        return self.vfs.readlink(path_name(path))

    def chmod(self, path: str | bytes, mode: int, /) -> None:
        raw = path_name(path)
        self.vfs.chmod(raw, c_int(mode, "mode"))

    def chdir(self, path: str | bytes, /) -> None:
        self.vfs.chdir(path_name(path))

    def getcwd(self) -> bytes:
        return self.vfs.current_dir().path_name()

    def umask(self, mask: int, /) -> int:
        process = self.sched.current.process
        old, process.umask = process.umask, c_int(mask, "mask") & 0o777
        return old

    def flock(self, fd: int, operation: int, /) -> None:
        c_int(operation, "operation")
        files = self.sched.current.files
        file = files.fget(fd)
        self._held(files, file, flock_lock_inode_wait, self.sched, self.vfs, file, operation)

    def fcntl_lock(
        self, fd: int, cmd: int, l_type: int, l_whence: int = 0, l_start: int = 0, l_len: int = 0, /
    ) -> tuple[int, int, int, int, int]:
        c_int(cmd, "cmd")
        c_int(l_type, "l_type")
        c_int(l_whence, "l_whence")
        c_offset(l_start)
        c_offset(l_len)
        if cmd not in (F_GETLK, F_SETLK, F_SETLKW):
            raise Unsupported(f"record locks by fcntl command {cmd} are not modelled, only by F_GETLK, F_SETLK and F_SETLKW")
        files = self.sched.current.files
        file = files.fget(fd)
        lock = flock_to_posix_lock(file, l_type, l_whence, l_start, l_len, self.sched.current.process.pid)
        if cmd == F_GETLK:
            found = fcntl_getlk(self.vfs, files, file, lock)
            if found is None:
                return F_UNLCK, l_whence, l_start, l_len, 0
            return found.type, SEEK_SET, found.start, 0 if found.end == LOFF_MAX else found.end - found.start + 1, found.pid
        self._held(files, file, fcntl_setlk, self.sched, self.vfs, files, file, lock, cmd == F_SETLKW)
        return l_type, l_whence, l_start, l_len, 0

    def getdents64(self, fd: int, n: int = 32768, /) -> list[tuple[int, int, bytes]]:
        size(n)
        file = self.sched.current.files.fget(fd)
        if not isinstance(file, DirFile):
            raise oserror(errno.ENOTDIR)
        return file.iterate_dir(n)

    def stat(self, path: str | bytes, /) -> os.stat_result:
        return self.vfs.stat(path_name(path), True).result()

    def lstat(self, path: str | bytes, /) -> os.stat_result:
        return self.vfs.stat(path_name(path), False).result()

    def fstat(self, fd: int, /) -> os.stat_result:
        return self.sched.current.files.fget(fd).getattr().result()

    def getrandom(self, n: int, flags: int = 0, /) -> bytes:
        size(n)
        c_int(flags, "flags")
        if flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) or flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE:
            raise oserror(errno.EINVAL)
        return self.crng.get_random_bytes(min(n, INT_MAX)) if n else b""

    def memfd_create(self, name: str, flags: int = 0, /) -> int:
        raw = path_name(name)
        c_int(flags, "flags")
        if flags & ~MFD_ALL_FLAGS:
            raise oserror(errno.EINVAL)
        if flags & ~MFD_CLOEXEC:
            raise Unsupported(f"memfd_create flags {flags:#x} are not modelled, only MFD_CLOEXEC")
        if len(raw) > MFD_NAME_MAX:
            raise oserror(errno.EINVAL)
        files = self.sched.current.files
        files.get_unused_fd(self._nofile())
        return self._install(files, shmem_file_setup(self.vfs, raw), bool(flags & MFD_CLOEXEC))

    def lseek(self, fd: int, offset: int, whence: int, /) -> int:
        c_offset(offset)
        c_int(whence, "whence")
        file = self.sched.current.files.fget(fd)
        if not 0 <= whence <= SEEK_MAX:
            raise oserror(errno.EINVAL)
        if not file.can_seek:
            raise oserror(errno.ESPIPE)
        return file.llseek(offset, whence)

    def ftruncate(self, fd: int, length: int, /) -> None:
        c_int(fd, "fd")
        c_offset(length)
        if length < 0:
            raise oserror(errno.EINVAL)
        ftruncate(self.sched.current.files.fget(fd), length)

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        c_int(fd, "fd")
        size(n)
        if c_offset(offset) < 0:
            raise oserror(errno.EINVAL)
        file = self.sched.current.files.fget(fd)
        if not file.can_pread:
            raise oserror(errno.ESPIPE)
        if not file.readable:
            raise oserror(errno.EBADF)
        rw_verify_area(offset, n)
        return file.pread(n, offset)

    def pwrite(self, fd: int, data: Buffer, offset: int, /) -> int:
        c_int(fd, "fd")
        raw = as_bytes(data)
        if c_offset(offset) < 0:
            raise oserror(errno.EINVAL)
        file = self.sched.current.files.fget(fd)
        if not file.can_pwrite:
            raise oserror(errno.ESPIPE)
        if not file.writable:
            raise oserror(errno.EBADF)
        rw_verify_area(offset, len(raw))
        return file.pwrite(raw, offset)

    def sendfile(self, out_fd: int, in_fd: int, offset: int | None, count: int, /) -> int:
        c_int(out_fd, "out_fd")
        c_int(in_fd, "in_fd")
        if offset is not None:
            c_offset(offset)
        size(count)
        files = self.sched.current.files
        file = files.fget(in_fd)
        pos = sendfile_from(file, offset, count)
        out = files.fget(out_fd)
        n: int = self._held(files, out, self._held, files, file, do_sendfile, self.sched, out, file, pos, offset, count)
        return n

    def splice(self, fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, count: int, flags: int = 0, /) -> int:
        c_int(fd_in, "fd_in")
        c_int(fd_out, "fd_out")
        c_int(flags, "flags")
        for offset in (off_in, off_out):
            if offset is not None:
                c_offset(offset)
        if not size(count):
            return 0
        if flags & ~SPLICE_F_ALL:
            raise oserror(errno.EINVAL)
        files = self.sched.current.files
        a = files.fget(fd_in)
        b = files.fget(fd_out)
        n: int = self._held(files, a, self._held, files, b, do_splice, self.sched, a, off_in, b, off_out, count, flags)
        return n
