"""The system calls: one method a call, from arguments to the fd table to the file.

Arguments of the wrong Python type raise TypeError, numbers that fit no C int OverflowError; everything else is Linux's errno.
"""

import errno
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from simkernel.api import Address, Buffer, Main, UnmodelledCalls
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.clock import REALTIME_AT_BOOT
from simkernel.kernel.eventfd import EventFd
from simkernel.kernel.eventpoll import EventPoll
from simkernel.kernel.exit import do_group_exit, do_wait, join_thread
from simkernel.kernel.fdtable import FilesStruct, bad_fd
from simkernel.kernel.file import File
from simkernel.kernel.fork import Crash, copy_process, copy_thread, wake_up_new_task
from simkernel.kernel.net.inet import InetTable
from simkernel.kernel.net.loopback import Loopback
from simkernel.kernel.net.socket import SS_CONNECTED, Sock, Socket, Sysctl
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_input import tcp_v4_rcv
from simkernel.kernel.net.unix import UnixSock, UnixTable, unix_socketpair
from simkernel.kernel.pipe import Pipe, do_pipe2
from simkernel.kernel.sched import Sched, Task
from simkernel.kernel.select import do_poll, do_select
from simkernel.kernel.signal import do_kill
from simkernel.sockaddr import inet_addr, unix_path
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
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
    FD_SETSIZE,
    FIONBIO,
    FIONREAD,
    IPPROTO_TCP,
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    O_APPEND,
    O_ASYNC,
    O_CLOEXEC,
    O_DIRECT,
    O_NOATIME,
    O_NONBLOCK,
    PAGE_SIZE,
    RLIM_INFINITY,
    RLIMIT_NOFILE,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

INT_MAX = 2**31 - 1
EP_MAX_EVENTS = INT_MAX // 12
IOV_MAX = 1024
SSIZE_MAX = 2**63 - 1
NR_OPEN = 1048576
SETFL_MASK = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME
# Numbers of net/socket.c: NPROTO and SOCK_MAX.
AF_MAX = 46
SOCK_MAX = 11
SOCK_TYPE_MASK = 0xF
IPPROTO_MAX = 263


def c_int(value: object, what: str) -> int:
    """An argument that Linux takes as a C int."""
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not -INT_MAX - 1 <= value <= INT_MAX:
        raise OverflowError(f"{what} does not fit a C int: {value}")
    return value


def size(value: object, what: str = "the size") -> int:
    """An argument that Linux takes as a size_t."""
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{what} must not be negative: {value}")
    if value > 2**63 - 1:
        raise OverflowError(f"{what} does not fit a C ssize_t: {value}")
    return value


def timespec(ns: object, what: str) -> None:
    """Check a time that Linux takes as a struct timespec: EINVAL if it is negative."""
    if not isinstance(ns, int):
        raise TypeError(f"{what} must be an int, not {type(ns).__name__}")
    if not -(2**63) <= ns // NSEC_PER_SEC < 2**63:
        raise OverflowError(f"{what} does not fit a struct timespec: {ns}")
    if ns < 0:
        raise oserror(errno.EINVAL)


def as_bytes(data: object) -> bytes:
    """A buffer argument as bytes."""
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    if isinstance(data, memoryview):
        if not data.c_contiguous:
            raise BufferError("the memoryview must be contiguous")
        return data.tobytes()
    raise TypeError(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")


def move_addr_to_kernel(fd: object, addr: object) -> tuple[str, int] | bytes:
    """An address argument, its family told by its Python type: (host, port) of AF_INET, or sun_path of AF_UNIX."""
    c_int(fd, "fd")
    return inet_addr(addr) if isinstance(addr, tuple) else unix_path(addr)


def do_loop_writev(file: File, buffers: Sequence[bytes]) -> int:
    """do_loop_readv_writev: a write for each buffer, until one fails; an empty one is skipped, unless it is the first."""
    done = 0
    for i, data in enumerate(buffers):
        if i and not data:
            continue
        try:
            done += file.write(data)
        except OSError:
            if not done:
                raise
            break
    return done


class SimSyscalls(UnmodelledCalls):
    """api.Syscalls on the fake kernel.  One object serves all tasks: each call is made by the running one."""

    __slots__ = ("crash", "inet", "lo", "sched", "sysctl", "unix")

    def __init__(self, sched: Sched, sysctl: Sysctl, crash: Crash) -> None:
        self.sched = sched
        self.sysctl = sysctl
        self.crash = crash
        self.inet: InetTable[TcpSock] = InetTable(sched, sysctl)
        self.lo = Loopback(sched, tcp_v4_rcv)
        self.inet.device = self.lo
        self.unix = UnixTable()

    # --- helpers ---
    def _install(self, files: FilesStruct, file: File, cloexec: bool) -> int:
        try:
            fd = files.get_unused_fd(self._nofile())
        except OSError:
            # As if it had never been opened: nobody has seen it.
            file.f_count = 1
            file.fput()
            raise
        files.fd_install(fd, file, cloexec)
        self.sched.stalled = 0
        return fd

    def _install2(self, a: File, b: File, cloexec: bool) -> tuple[int, int]:
        files = self.sched.current.files
        try:
            fd = self._install(files, a, cloexec)
        except OSError:
            b.f_count = 1
            b.fput()
            raise
        try:
            return fd, self._install(files, b, cloexec)
        except OSError:
            files.close_fd(fd)
            raise

    def _nofile(self) -> int:
        soft = self.sched.current.process.rlimits[RLIMIT_NOFILE][0]
        return NR_OPEN if soft == RLIM_INFINITY else min(soft, NR_OPEN)

    def _sock(self, fd: int) -> Sock:
        file = self.sched.current.files.fget(fd)
        sk = file.sk
        if sk is None:
            raise oserror(errno.ENOTSOCK)
        return sk

    def _held(self, files: FilesStruct, file: File, call: Callable[..., Any], *args: Any) -> Any:
        """Do an operation that may sleep.  In a table that threads share, close must not release the file under it (fdget)."""
        if files.count == 1:
            return call(*args)
        file.f_count += 1
        try:
            return call(*args)
        finally:
            file.fput()

    # --- sockets ---
    def socket(self, family: int, type: int, proto: int = 0, /) -> int:
        c_int(family, "family")
        c_int(type, "type")
        c_int(proto, "proto")
        if type & ~SOCK_TYPE_MASK & ~(SOCK_NONBLOCK | SOCK_CLOEXEC):
            raise oserror(errno.EINVAL)
        sk = self._sk_alloc(family, type & SOCK_TYPE_MASK, proto)
        file = Socket(self.sched, sk, type & SOCK_NONBLOCK)
        return self._install(self.sched.current.files, file, bool(type & SOCK_CLOEXEC))

    def _sk_alloc(self, family: int, kind: int, proto: int) -> Sock:
        if not 0 <= family < AF_MAX:
            raise oserror(errno.EAFNOSUPPORT)
        if kind >= SOCK_MAX:
            raise oserror(errno.EINVAL)
        if family == AF_INET and kind == SOCK_STREAM:
            if proto not in (0, IPPROTO_TCP):
                raise oserror(errno.EPROTONOSUPPORT) if 0 <= proto < IPPROTO_MAX else oserror(errno.EINVAL)
            return TcpSock(self.sched, self.sysctl, self.inet)
        if family == AF_UNIX and kind == SOCK_STREAM:
            if proto not in (0, AF_UNIX):
                raise oserror(errno.EPROTONOSUPPORT)
            return UnixSock(self.sched, self.sysctl, self.unix, kind)
        raise Unsupported(f"socket(family {family}, type {kind}) is not modelled, only AF_INET and AF_UNIX with SOCK_STREAM")

    def socketpair(self, family: int, type: int, proto: int = 0, /) -> tuple[int, int]:
        c_int(family, "family")
        c_int(type, "type")
        c_int(proto, "proto")
        if type & ~SOCK_TYPE_MASK & ~(SOCK_NONBLOCK | SOCK_CLOEXEC):
            raise oserror(errno.EINVAL)
        if family != AF_UNIX:
            self._sk_alloc(family, type & SOCK_TYPE_MASK, proto).close()
            raise oserror(errno.EOPNOTSUPP)
        if type & SOCK_TYPE_MASK >= SOCK_MAX:
            raise oserror(errno.EINVAL)
        if proto not in (0, AF_UNIX):
            raise oserror(errno.EPROTONOSUPPORT)
        a, b = unix_socketpair(self.sched, self.sysctl, self.unix, type & SOCK_TYPE_MASK, type & SOCK_NONBLOCK)
        return self._install2(a, b, bool(type & SOCK_CLOEXEC))

    def bind(self, fd: int, addr: Address, /) -> None:
        addr = move_addr_to_kernel(fd, addr)
        self._sock(fd).bind(addr)

    def listen(self, fd: int, backlog: int, /) -> None:
        c_int(backlog, "backlog")
        self._sock(fd).listen(backlog)

    def connect(self, fd: int, addr: Address, /) -> None:
        addr = move_addr_to_kernel(fd, addr)
        files = self.sched.current.files
        file = files.fget(fd)
        if file.sk is None:
            raise oserror(errno.ENOTSOCK)
        self._held(files, file, file.sk.connect, addr, file.nonblock)

    def accept4(self, fd: int, flags: int = 0, /) -> tuple[int, Address]:
        c_int(flags, "flags")
        files = self.sched.current.files
        file = files.fget(fd)
        if flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC):
            raise oserror(errno.EINVAL)
        limit = self._nofile()
        try:
            # Linux takes the number first: with a full table nothing is accepted, and the connection stays pending.
            files.get_unused_fd(limit)
        except OSError:
            self.sched.stall("accept4")
            raise
        if file.sk is None:
            raise oserror(errno.ENOTSOCK)
        sk: Sock = self._held(files, file, file.sk.accept, file.nonblock)
        new = Socket(self.sched, sk, flags & SOCK_NONBLOCK)
        new.state = SS_CONNECTED
        newfd = self._install(files, new, bool(flags & SOCK_CLOEXEC))
        return newfd, sk.accepted_name()

    def getsockname(self, fd: int, /) -> Address:
        return self._sock(fd).getname(False)

    def getpeername(self, fd: int, /) -> Address:
        return self._sock(fd).getname(True)

    def shutdown(self, fd: int, how: int, /) -> None:
        c_int(how, "how")
        sk = self._sock(fd)
        if not 0 <= how <= 2:
            raise oserror(errno.EINVAL)
        sk.shutdown(how)

    def setsockopt(self, fd: int, level: int, name: int, value: int | bytes, /) -> None:
        c_int(level, "level")
        c_int(name, "name")
        value = c_int(value, "value") if isinstance(value, int) else as_bytes(value)
        self._sock(fd).setsockopt(level, name, value)

    def getsockopt(self, fd: int, level: int, name: int, buflen: int = 0, /) -> int | bytes:
        c_int(level, "level")
        c_int(name, "name")
        size(c_int(buflen, "buflen"), "buflen")
        sk = self._sock(fd)
        if level == SOL_SOCKET and name == SO_ERROR:
            # Reading it takes it: asking again makes no progress.
            self.sched.stall("getsockopt")
        return sk.getsockopt(level, name, buflen)

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        if type(data) is not bytes:
            data = as_bytes(data)
        if flags >> 31:
            c_int(flags, "flags")
        files = self.sched.current.files
        try:
            file = files.fd[fd] if fd >= 0 else None
        except (IndexError, TypeError):
            file = None
        if file is None:
            raise bad_fd(fd)
        sk = file.sk
        if sk is None:
            raise oserror(errno.ENOTSOCK)
        if files.count == 1:
            return sk.sendmsg(data, flags, file.nonblock)
        sent: int = self._held(files, file, sk.sendmsg, data, flags, file.nonblock)
        return sent

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        if n >> 63:
            size(n)
        if flags >> 31:
            c_int(flags, "flags")
        files = self.sched.current.files
        try:
            file = files.fd[fd] if fd >= 0 else None
        except (IndexError, TypeError):
            file = None
        if file is None:
            raise bad_fd(fd)
        sk = file.sk
        if sk is None:
            raise oserror(errno.ENOTSOCK)
        if files.count == 1:
            return sk.recvmsg(n, flags, file.nonblock)
        data: bytes = self._held(files, file, sk.recvmsg, n, flags, file.nonblock)
        return data

    # --- files ---
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
        if not file.can_read or len(raw) > IOV_MAX:
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
        self.sched.current.files.close_fd(fd)
        self.sched.stalled = 0

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
        gone = files.fd[new] if new < len(files.fd) else None
        files.fd_install(new, file, cloexec)
        if gone is not None:
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

    # --- waiting for many files ---
    def epoll_create1(self, flags: int = 0, /) -> int:
        c_int(flags, "flags")
        if flags & ~O_CLOEXEC:
            raise oserror(errno.EINVAL)
        return self._install(self.sched.current.files, EventPoll(self.sched, 0), bool(flags & O_CLOEXEC))

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: Any = None, /) -> None:
        if (epfd | op | fd) >> 31:
            c_int(epfd, "epfd")
            c_int(op, "op")
            c_int(fd, "fd")
        if not isinstance(events, int):
            raise TypeError(f"events must be an int, not {type(events).__name__}")
        if not 0 <= events < 2**32:
            raise OverflowError(f"events does not fit a C unsigned int: {events}")
        files = self.sched.current.files
        ep = files.fget(epfd)
        file = files.fget(fd)
        if not file.can_poll:
            raise oserror(errno.EPERM)
        if not isinstance(ep, EventPoll):
            raise oserror(errno.EINVAL)
        ep.ctl(op, file, fd, events, fd if data is None else data)

    def epoll_wait(self, epfd: int, maxevents: int, timeout: int = -1, /) -> list[tuple[Any, int]]:
        c_int(timeout, "timeout")
        return self._epoll_wait(epfd, maxevents, None if timeout < 0 else timeout * NSEC_PER_MSEC)

    def epoll_pwait2(
        self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[Any, int]]:
        c_int(epfd, "epfd")
        c_int(maxevents, "maxevents")
        if sigmask is not None:
            raise Unsupported("epoll_pwait2 with a signal mask is not modelled")
        if timeout_ns is not None:
            timespec(timeout_ns, "timeout_ns")
        return self._epoll_wait(epfd, maxevents, timeout_ns)

    def _epoll_wait(self, epfd: int, maxevents: int, timeout_ns: int | None) -> list[tuple[Any, int]]:
        c_int(maxevents, "maxevents")
        files = self.sched.current.files
        ep = files.fget(epfd)
        if not 0 < maxevents <= EP_MAX_EVENTS:
            raise oserror(errno.EINVAL)
        if not isinstance(ep, EventPoll):
            raise oserror(errno.EINVAL)
        if files.count == 1:
            return ep.ep_poll(maxevents, timeout_ns)
        got: list[tuple[Any, int]] = self._held(files, ep, ep.ep_poll, maxevents, timeout_ns)
        return got

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        c_int(timeout, "timeout")
        pairs: list[tuple[int, int]] = []
        for pair in fds:
            fd, events = pair
            c_int(fd, "fd")
            if not isinstance(events, int):
                raise TypeError(f"events must be an int, not {type(events).__name__}")
            if not 0 <= events <= 0xFFFF:
                raise OverflowError(f"events do not fit a C unsigned short: {events}")
            pairs.append((fd, events))
        if len(pairs) > self._nofile():
            raise oserror(errno.EINVAL)
        files = self.sched.current.files
        timeout_ns = None if timeout < 0 else timeout * NSEC_PER_MSEC
        got: list[tuple[int, int]] = self._holding(files, [fd for fd, _ in pairs], lambda: do_poll(self.sched, files, pairs, timeout_ns))
        return got

    def select(
        self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /
    ) -> tuple[list[int], list[int], list[int]]:
        sets = [list(r), list(w), list(x)]
        for group in sets:
            for fd in group:
                c_int(fd, "fd")
                if not 0 <= fd < FD_SETSIZE:
                    raise ValueError(f"filedescriptor out of range in select(): {fd} is not in range({FD_SETSIZE})")
        timeout_ns: int | None = None
        if timeout is not None:
            if not isinstance(timeout, (int, float)):
                raise TypeError(f"timeout must be a number or None, not {type(timeout).__name__}")
            # struct timeval has microseconds; rounded up, so that it is never early.
            timeout_ns = math.ceil(timeout * 1e6) * 1000
            if timeout < 0:
                raise oserror(errno.EINVAL)
        files = self.sched.current.files
        a, b, c = sets
        got: tuple[list[int], list[int], list[int]] = self._holding(
            files, a + b + c, lambda: do_select(self.sched, files, a, b, c, timeout_ns)
        )
        return got

    def _holding(self, files: FilesStruct, fds: list[int], call: Callable[[], Any]) -> Any:
        """The same as _held for poll and select: each file is kept while they may sleep."""
        if files.count == 1:
            return call()
        kept = [file for fd in fds if 0 <= fd < len(files.fd) and (file := files.fd[fd]) is not None]
        for file in kept:
            file.f_count += 1
        try:
            return call()
        finally:
            for file in kept:
                file.fput()

    # --- time ---
    def clock_gettime_ns(self, clockid: int, /) -> int:
        c_int(clockid, "clockid")
        self.sched.stall("clock_gettime")
        if clockid in (CLOCK_MONOTONIC, CLOCK_BOOTTIME):
            return self.sched.clock.now
        if clockid == CLOCK_REALTIME:
            return REALTIME_AT_BOOT + self.sched.clock.now
        raise Unsupported(f"clock {clockid} is not modelled, only CLOCK_REALTIME, CLOCK_MONOTONIC and CLOCK_BOOTTIME")

    def nanosleep(self, ns: int, /) -> None:
        timespec(ns, "ns")
        sched = self.sched
        task = sched.current
        task.state = "S"
        # A sleep takes time, even one of 0 ns.
        sched.schedule_timeout(max(ns, 1))
        task.state = "R"

    # --- processes and threads ---
    def _start(self, task: Task, main: Main, args: tuple[object, ...]) -> int:
        self.sched.stalled = 0
        wake_up_new_task(self.sched, task, main, (self, *args), self.crash)
        return task.pid

    def spawn(self, main: Main, /, *args: object) -> int:
        if not callable(main):
            raise TypeError(f"main must be callable, not {type(main).__name__}")
        self._alive()
        return self._start(copy_process(self.sched, self.sched.current.process, getattr(main, "__name__", "main")), main, args)

    def thread(self, main: Main, /, *args: object) -> int:
        if not callable(main):
            raise TypeError(f"main must be callable, not {type(main).__name__}")
        self._alive()
        process = self.sched.current.process
        task = copy_thread(self.sched, process)
        process.joinable[task.pid] = task
        return self._start(task, main, args)

    def _alive(self) -> None:
        """A task that unwinds after SIGKILL or exit starts nothing any more."""
        if self.sched.current.killed:
            self.sched.refuse()

    def join(self, tid: int, /) -> None:
        join_thread(self.sched, c_int(tid, "tid"))

    def waitpid(self, pid: int, options: int = 0, /) -> tuple[int, int]:
        return do_wait(self.sched, c_int(pid, "pid"), c_int(options, "options"))

    def kill(self, pid: int, signum: int, /) -> None:
        self._alive()
        do_kill(self.sched, c_int(pid, "pid"), c_int(signum, "signum"))

    def getpid(self) -> int:
        return self.sched.current.process.pid

    def getppid(self) -> int:
        parent = self.sched.current.process.parent
        return parent.pid if parent is not None else 0

    def exit(self, status: int, /) -> None:
        c_int(status, "status")
        sched = self.sched
        do_group_exit(sched, sched.current.process, (status & 0xFF) << 8)
        sched.refuse()

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        c_int(resource, "resource")
        if resource != RLIMIT_NOFILE:
            raise Unsupported(f"resource {resource} is not modelled, only RLIMIT_NOFILE")
        return self.sched.current.process.rlimits[RLIMIT_NOFILE]

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        c_int(resource, "resource")
        soft, hard = limits
        for limit in (soft, hard):
            if not isinstance(limit, int):
                raise TypeError(f"a limit must be an int, not {type(limit).__name__}")
            if not -1 <= limit < 2**64:
                raise OverflowError(f"a limit does not fit a C unsigned long: {limit}")
        if resource != RLIMIT_NOFILE:
            raise Unsupported(f"resource {resource} is not modelled, only RLIMIT_NOFILE")
        if hard == RLIM_INFINITY or hard > NR_OPEN:
            raise oserror(errno.EPERM)
        if soft == RLIM_INFINITY or soft > hard:
            raise oserror(errno.EINVAL)
        self.sched.current.process.rlimits[RLIMIT_NOFILE] = (soft, hard)
