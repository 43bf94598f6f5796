"""The calls on files and fds (fs/read_write.c, fcntl.c, open.c, pipe.c, eventfd.c)."""

import errno
from collections.abc import Sequence

from simkernel.api import Buffer
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.eventfd import EventFd
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.file import File
from simkernel.kernel.pipe import Pipe, do_pipe2
from simkernel.kernel.syscalls.base import IOV_MAX, SETFL_MASK, SSIZE_MAX, BaseSyscalls, as_bytes, c_int, do_loop_writev, size
from simkernel.uapi import (
    EFD_SEMAPHORE,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_GETPIPE_SZ,
    F_SETFD,
    F_SETFL,
    F_SETPIPE_SZ,
    FD_CLOEXEC,
    FIONBIO,
    FIONREAD,
    O_CLOEXEC,
    O_DIRECT,
    O_NONBLOCK,
    PAGE_SIZE,
    SIOCATMARK,
    SIOCOUTQ,
    SIOCOUTQNSD,
    TCGETS,
    TIOCGPGRP,
    TIOCGWINSZ,
)


class FileCalls(BaseSyscalls):
    """read, write, close, dup, fcntl and the calls that make files."""

    __slots__ = ()

    def read(self, fd: int, n: int, /) -> bytes:
        size(n)
        files = self.sched.current.files
        file = files.fget(fd)
        data: bytes = self._held(files, file, file.read, n)
        return data

    def write(self, fd: int, data: Buffer, /) -> int:
        raw = as_bytes(data)
        files = self.sched.current.files
        file = files.fget(fd)
        n: int = self._held(files, file, file.write, raw)
        return n

    def readv(self, fd: int, sizes: Sequence[int], /) -> list[bytes]:
        wanted = [size(n) for n in sizes]
        files = self.sched.current.files
        file = files.fget(fd)
        if not file.readable:
            raise oserror(errno.EBADF)
        total = sum(wanted)
        if not file.can_read or len(wanted) > IOV_MAX or total > SSIZE_MAX:
            raise oserror(errno.EINVAL)
        if not total:
            # vfs_readv asks the file only if there is something to read.
            return []
        data: bytes = self._held(files, file, file.read, total)
        out: list[bytes] = []
        for n in wanted:
            if not data:
                break
            out.append(data[:n])
            data = data[n:]
        return out

    def writev(self, fd: int, buffers: Sequence[Buffer], /) -> int:
        raw = [as_bytes(buffer) for buffer in buffers]
        files = self.sched.current.files
        file = files.fget(fd)
        if not file.writable:
            raise oserror(errno.EBADF)
        if not file.can_write or len(raw) > IOV_MAX:
            raise oserror(errno.EINVAL)
        joined = b"".join(raw)
        if not joined:
            # vfs_writev asks the file only if there is something to write.
            return 0
        if not file.write_iter:
            done: int = self._held(files, file, do_loop_writev, file, raw)
            return done
        n: int = self._held(files, file, file.write, joined)
        return n

    def close(self, fd: int, /) -> None:
        sched = self.sched
        files = sched.current.files
        if sched.watch is not None:
            sched.watch.closed(fd, files.fget(fd))
        files.close_fd(fd)
        sched.stalled = 0

    def dup(self, fd: int, /) -> int:
        files = self.sched.current.files
        file = files.fget(fd)
        new = files.get_unused_fd(self._nofile())
        files.fd_install(new, file, False)
        return new

    def dup2(self, old: int, new: int, /) -> int:
        c_int(new, "new")
        files = self.sched.current.files
        file = files.fget(old)
        if old == new:
            return new
        return self._dup_to(files, file, new, False)

    def dup3(self, old: int, new: int, flags: int, /) -> int:
        c_int(old, "old")
        c_int(new, "new")
        c_int(flags, "flags")
        if flags & ~O_CLOEXEC or old == new:
            raise oserror(errno.EINVAL)
        files = self.sched.current.files
        if not 0 <= new < self._nofile():
            raise oserror(errno.EBADF)
        return self._dup_to(files, files.fget(old), new, bool(flags & O_CLOEXEC))

    def _dup_to(self, files: FilesStruct, file: File, new: int, cloexec: bool) -> int:
        if not 0 <= new < self._nofile():
            raise oserror(errno.EBADF)
        if new in files.reserved:
            raise oserror(errno.EBUSY)
        gone = files.fd[new] if new < len(files.fd) else None
        files.fd_install(new, file, cloexec)
        if gone is not None:
            if files.filp_close is not None:
                files.filp_close(gone)
            gone.fput()
        return new

    def fcntl(self, fd: int, cmd: int, arg: int = 0, /) -> int:
        c_int(cmd, "cmd")
        c_int(arg, "arg")
        files = self.sched.current.files
        file = files.fget(fd)
        if cmd == F_GETFL:
            return file.f_flags
        if cmd == F_SETFL:
            if arg & O_DIRECT and not isinstance(file, Pipe):
                raise oserror(errno.EINVAL)
            file.f_flags = (file.f_flags & ~SETFL_MASK) | (arg & SETFL_MASK)
            file.set_nonblock(bool(arg & O_NONBLOCK))
            return 0
        if cmd == F_GETFD:
            return FD_CLOEXEC if fd in files.cloexec else 0
        if cmd == F_SETFD:
            if arg & FD_CLOEXEC:
                files.cloexec.add(fd)
            else:
                files.cloexec.discard(fd)
            return 0
        if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
            limit = self._nofile()
            if not 0 <= arg < limit:
                raise oserror(errno.EINVAL)
            new = files.get_unused_fd(limit, arg)
            files.fd_install(new, file, cmd == F_DUPFD_CLOEXEC)
            return new
        if cmd in (F_GETPIPE_SZ, F_SETPIPE_SZ):
            if not isinstance(file, Pipe):
                raise oserror(errno.EBADF)
            return file.pipe.max_usage * PAGE_SIZE if cmd == F_GETPIPE_SZ else file.set_size(arg)
        raise Unsupported(f"fcntl command {cmd} is not modelled")

    def ioctl(self, fd: int, request: int, arg: int = 0, /) -> int:
        if not isinstance(request, int):
            raise TypeError(f"request must be an int, not {type(request).__name__}")
        c_int(arg, "arg")
        file = self.sched.current.files.fget(fd)
        if request == FIONREAD:
            return file.fionread()
        if request == FIONBIO:
            file.set_nonblock(bool(arg))
            return 0
        if request in (SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK, TCGETS, TIOCGWINSZ, TIOCGPGRP):
            return file.ioctl(request)
        raise Unsupported(f"ioctl request {request:#x} is not modelled")

    def pipe2(self, flags: int = 0, /) -> tuple[int, int]:
        c_int(flags, "flags")
        if flags & ~(O_NONBLOCK | O_CLOEXEC | O_DIRECT):
            raise oserror(errno.EINVAL)
        r, w = do_pipe2(self.sched, flags & (O_NONBLOCK | O_DIRECT))
        return self._install2(r, w, bool(flags & O_CLOEXEC))

    def eventfd(self, initval: int = 0, flags: int = 0, /) -> int:
        c_int(flags, "flags")
        if not isinstance(initval, int):
            raise TypeError(f"initval must be an int, not {type(initval).__name__}")
        if not 0 <= initval < 2**32:
            raise OverflowError(f"initval does not fit a C unsigned int: {initval}")
        if flags & ~(EFD_SEMAPHORE | O_NONBLOCK | O_CLOEXEC):
            raise oserror(errno.EINVAL)
        file = EventFd(self.sched, initval, flags, flags & O_NONBLOCK)
        return self._install(self.sched.current.files, file, bool(flags & O_CLOEXEC))
