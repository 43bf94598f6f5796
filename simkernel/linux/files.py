"""The calls on files and fds."""

import ctypes
import os
from collections.abc import Sequence
from ctypes import c_int
from typing import Any

from simkernel.api import Buffer, UnmodelledCalls
from simkernel.errors import Unsupported
from simkernel.linux.libc import (
    IoVec,
    addressof,
    c_dup,
    c_dup2,
    c_dup3,
    c_eventfd,
    c_fcntl,
    c_ioctl,
    c_read,
    c_readv,
    c_write,
    c_writev,
    check_ints,
    check_size,
    contents,
    fail,
    io_vec,
    pin,
)
from simkernel.uapi import FIONBIO, FIONREAD, SIOCATMARK, SIOCOUTQ, SIOCOUTQNSD


class FileCalls(UnmodelledCalls):
    """The calls on files and fds."""

    __slots__ = ()

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
        """ioctl(2): FIONREAD, FIONBIO, SIOCOUTQ, SIOCOUTQNSD and SIOCATMARK.  Others, whose argument may be anything, raise Unsupported."""
        if (fd | arg) >> 31:
            check_ints(fd, arg)
        if not isinstance(request, int):
            raise TypeError(f"request must be an int, not {type(request).__name__}")
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
