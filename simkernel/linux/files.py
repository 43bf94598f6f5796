"""The calls on files and fds."""

import ctypes
import os
from collections.abc import Sequence
from ctypes import c_int
from typing import Any

from simkernel.api import Buffer
from simkernel.errors import Unsupported
from simkernel.linux.libc import (
    Flock,
    IoVec,
    addressof,
    c_dup,
    c_dup2,
    c_dup3,
    c_eventfd,
    c_fcntl,
    c_flock,
    c_ftruncate,
    c_getdents64,
    c_ioctl,
    c_lseek,
    c_memfd_create,
    c_mkdir,
    c_open,
    c_pread,
    c_pwrite,
    c_read,
    c_readv,
    c_sendfile,
    c_splice,
    c_unlink,
    c_write,
    c_writev,
    check_ints,
    check_offset,
    check_size,
    contents,
    dirents,
    fail,
    io_vec,
    loff,
    path_name,
    pin,
)
from simkernel.uapi import F_GETLK, F_SETLK, F_SETLKW, FIONBIO, FIONREAD, SIOCATMARK, SIOCOUTQ, SIOCOUTQNSD, TCGETS, TIOCGPGRP, TIOCGWINSZ


class FileCalls:
    """The calls on files and fds."""

    __slots__ = ()

    def open(self, path: str | bytes, flags: int, mode: int = 0o666, /) -> int:
        """open(2)."""
        raw = path_name(path)
        check_ints(flags, mode)
        fd: int = c_open(raw, flags, mode)
        if fd < 0:
            fail()
        return fd

    def unlink(self, path: str | bytes, /) -> None:
        """unlink(2)."""
        if c_unlink(path_name(path)) < 0:
            fail()

    def mkdir(self, path: str | bytes, mode: int = 0o777, /) -> None:
        """mkdir(2)."""
        raw = path_name(path)
        check_ints(mode)
        if c_mkdir(raw, mode) < 0:
            fail()

    def rmdir(self, path: str | bytes, /) -> None:
        """rmdir(2)."""
        os.rmdir(path_name(path))

    def rename(self, old: str | bytes, new: str | bytes, /) -> None:
        """rename(2)."""
        os.rename(path_name(old), path_name(new))

    def readlink(self, path: str | bytes, /) -> bytes:
        """readlink(2)."""
        return os.readlink(path_name(path))

    def chmod(self, path: str | bytes, mode: int, /) -> None:
        """chmod(2)."""
        os.chmod(path_name(path), mode)

    def chdir(self, path: str | bytes, /) -> None:
        """chdir(2)."""
        os.chdir(path_name(path))

    def getcwd(self) -> bytes:
        """getcwd(2)."""
        return os.getcwdb()

    def flock(self, fd: int, operation: int, /) -> None:
        """flock(2)."""
        check_ints(fd, operation)
        if c_flock(fd, operation) < 0:
            fail()

    def fcntl_lock(
        self, fd: int, cmd: int, l_type: int, l_whence: int = 0, l_start: int = 0, l_len: int = 0, /
    ) -> tuple[int, int, int, int, int]:
        """fcntl(2) with a struct flock."""
        check_ints(fd, cmd, l_type, l_whence)
        check_offset(l_start)
        check_offset(l_len)
        if cmd not in (F_GETLK, F_SETLK, F_SETLKW):
            raise Unsupported(f"record locks by fcntl command {cmd}")
        lock = Flock(l_type, l_whence, l_start, l_len, 0)
        if c_fcntl(fd, cmd, addressof(lock)) < 0:
            fail()
        return lock.type, lock.whence, lock.start, lock.len, lock.pid

    def umask(self, mask: int, /) -> int:
        """umask(2)."""
        return os.umask(mask)

    def getdents64(self, fd: int, n: int = 32768, /) -> list[tuple[int, int, bytes]]:
        """getdents64(2)."""
        check_ints(fd)
        check_size(n)
        buf = ctypes.create_string_buffer(n)
        got: int = c_getdents64(fd, buf, n)
        if got < 0:
            fail()
        return list(dirents(buf.raw[:got]))

    def stat(self, path: str | bytes, /) -> os.stat_result:
        """stat(2)."""
        return os.stat(path_name(path))

    def lstat(self, path: str | bytes, /) -> os.stat_result:
        """lstat(2)."""
        return os.lstat(path_name(path))

    def fstat(self, fd: int, /) -> os.stat_result:
        """fstat(2)."""
        return os.fstat(fd)

    def getrandom(self, n: int, flags: int = 0, /) -> bytes:
        """getrandom(2).  ValueError for a negative ``n``."""
        check_size(n)
        check_ints(flags)
        return os.getrandom(n, flags)

    def memfd_create(self, name: str, flags: int = 0, /) -> int:
        """memfd_create(2)."""
        raw = path_name(name)
        check_ints(flags)
        fd: int = c_memfd_create(raw, flags)
        if fd < 0:
            fail()
        return fd

    def lseek(self, fd: int, offset: int, whence: int, /) -> int:
        """lseek(2)."""
        check_ints(fd, whence)
        check_offset(offset)
        pos: int = c_lseek(fd, offset, whence)
        if pos < 0:
            fail()
        return pos

    def ftruncate(self, fd: int, length: int, /) -> None:
        """ftruncate(2)."""
        check_ints(fd)
        check_offset(length)
        if c_ftruncate(fd, length) < 0:
            fail()

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        """pread(2).  ValueError for a negative ``n``."""
        check_ints(fd)
        check_size(n)
        check_offset(offset)
        buf = ctypes.create_string_buffer(n)
        got: int = c_pread(fd, buf, n, offset)
        if got < 0:
            fail()
        return buf.raw[:got]

    def pwrite(self, fd: int, data: Buffer, offset: int, /) -> int:
        """pwrite(2)."""
        check_ints(fd)
        check_offset(offset)
        raw = contents(data)
        n: int = c_pwrite(fd, raw, len(raw), offset)
        if n < 0:
            fail()
        return n

    def sendfile(self, out_fd: int, in_fd: int, offset: int | None, count: int, /) -> int:
        """sendfile(2).  The offset comes in and its new value is known: ``offset`` plus the result."""
        check_ints(out_fd, in_fd)
        where = loff(offset)
        check_size(count)
        n: int = c_sendfile(out_fd, in_fd, where, count)
        if n < 0:
            fail()
        return n

    def splice(self, fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, count: int, flags: int = 0, /) -> int:
        """splice(2).  ValueError for a negative ``count``."""
        check_ints(fd_in, fd_out, flags)
        where, there = loff(off_in), loff(off_out)
        check_size(count)
        n: int = c_splice(fd_in, where, fd_out, there, count, flags)
        if n < 0:
            fail()
        return n

    def read(self, fd: int, n: int, /) -> bytes:
        """read(2).  ValueError for a negative ``n``."""
        if fd >> 31:
            check_ints(fd)
        if n >> 63:
            check_size(n)
        buf: Any = bytes(n) if n > 1 else ctypes.create_string_buffer(n)
        got: int = c_read(fd, buf, n)
        if got < 0:
            fail()
        data: bytes = buf[:got]
        return data

    def write(self, fd: int, data: Buffer, /) -> int:
        """write(2)."""
        if fd >> 31:
            check_ints(fd)
        if data.__class__ is bytes:
            n: int = c_write(fd, data, len(data))
        else:
            n = c_write(fd, *pin(data))
        if n < 0:
            fail()
        return n

    def readv(self, fd: int, sizes: Sequence[int], /) -> list[bytes]:
        """readv(2) into buffers of ``sizes`` bytes.  Returns their contents, trailing empty buffers left out."""
        if fd >> 31:
            check_ints(fd)
        for size in sizes:
            if size >> 63:
                check_size(size)
        buffers = [ctypes.create_string_buffer(size or 1) for size in sizes]
        iov = (IoVec * len(sizes))(*[IoVec(addressof(buffer), size) for buffer, size in zip(buffers, sizes, strict=True)])
        got: int = c_readv(fd, iov, len(iov))
        if got < 0:
            fail()
        out: list[bytes] = []
        for buffer, size in zip(buffers, sizes, strict=True):
            if got <= 0:
                break
            out.append(buffer.raw[: min(size, got)])
            got -= size
        return out

    def writev(self, fd: int, buffers: Sequence[Buffer], /) -> int:
        """writev(2)."""
        if fd >> 31:
            check_ints(fd)
        parts = [contents(buffer) for buffer in buffers]
        iov = io_vec(parts)
        n: int = c_writev(fd, iov, len(iov))
        if n < 0:
            fail()
        return n

    def close(self, fd: int, /) -> None:
        """close(2)."""
        os.close(fd)

    def dup(self, fd: int, /) -> int:
        """dup(2)."""
        if fd >> 31:
            check_ints(fd)
        new: int = c_dup(fd)
        if new < 0:
            fail()
        return new

    def dup2(self, old: int, new: int, /) -> int:
        """dup2(2)."""
        if (old | new) >> 31:
            check_ints(old, new)
        fd: int = c_dup2(old, new)
        if fd < 0:
            fail()
        return fd

    def dup3(self, old: int, new: int, flags: int, /) -> int:
        """dup3(2)."""
        if (old | new | flags) >> 31:
            check_ints(old, new, flags)
        fd: int = c_dup3(old, new, flags)
        if fd < 0:
            fail()
        return fd

    def fcntl(self, fd: int, cmd: int, arg: int = 0, /) -> int:
        """fcntl(2) with an int argument."""
        if (fd | cmd | arg) >> 31:
            check_ints(fd, cmd, arg)
        value: int = c_fcntl(fd, cmd, arg)
        if value < 0:
            fail()
        return value

    def ioctl(self, fd: int, request: int, arg: int = 0, /) -> int:
        """ioctl(2): FIONREAD, FIONBIO, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK, and whether it is a terminal; else Unsupported."""
        if (fd | arg) >> 31:
            check_ints(fd, arg)
        if not isinstance(request, int):
            raise TypeError(f"request must be an int, not {type(request).__name__}")
        if request in (TCGETS, TIOCGPGRP, TIOCGWINSZ):
            # The largest that they fill, struct termios, has 60 bytes.
            if c_ioctl(fd, request, ctypes.create_string_buffer(64)) < 0:
                fail()
            return 0
        if request not in (FIONREAD, FIONBIO, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK):
            raise Unsupported(f"ioctl request {request:#x}")
        value = c_int(arg)
        if c_ioctl(fd, request, addressof(value)) < 0:
            fail()
        return 0 if request == FIONBIO else value.value

    def pipe2(self, flags: int = 0, /) -> tuple[int, int]:
        """pipe2(2)."""
        return os.pipe2(flags)

    def eventfd(self, initval: int = 0, flags: int = 0, /) -> int:
        """eventfd(2).  ``initval``: 0 to 2**32 - 1."""
        if flags >> 31:
            check_ints(flags)
        if initval >> 32:
            raise OverflowError(f"initval {initval} does not fit a C unsigned int")
        fd: int = c_eventfd(initval, flags)
        if fd < 0:
            fail()
        return fd
