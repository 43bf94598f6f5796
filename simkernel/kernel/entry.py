"""The way in and out of the kernel (arch/x86/entry): what happens around a system call when somebody watches or explores.

A run without choices and without a trace uses SimSyscalls as it is, so neither costs anything there.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from errno import errorcode
from sys import _getframe
from typing import Any, ClassVar, Final, TypeVar, TypeVarTuple

from simkernel.api import Address, Buffer, Cmsg, FutexWord, Handler, Main
from simkernel.kernel.coverage import FULL, MOST, NONE, OTHER, SHORT, SOME, mask_of, result_class
from simkernel.kernel.fault_inject import FaultAttr
from simkernel.kernel.fork import Crash
from simkernel.kernel.net.socket import Sysctl
from simkernel.kernel.place import program_frame
from simkernel.kernel.sched import Sched
from simkernel.kernel.syscalls import SimSyscalls

Args = TypeVarTuple("Args")
R = TypeVar("R")
# Before a call a timer that is due soon fires once in so many.
TICK_ODDS: Final = 8

# How often a Watch looks: a power of two.
WATCH_CALLS: Final = 64

_PLAIN_TYPES: Final = frozenset({int, bytes, str, bool, float, type(None)})


def shown(value: Any) -> Any:
    """An argument or result as the trace keeps it: plain values as they are, anything else as text that is the same in every run."""
    kind = type(value)
    if kind in _PLAIN_TYPES:
        return value
    if kind is tuple:
        for item in value:
            if type(item) not in _PLAIN_TYPES:
                break
        else:
            return value
    if isinstance(value, (tuple, list)):
        return tuple([shown(item) for item in value])
    if kind is set and all(type(item) is int for item in value):
        return tuple(sorted(value))
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return f"<{type(value).__name__}>"


# Whether this is the compiled build (hatch_build.py), whose functions have no frames.
COMPILED: Final = not __file__.endswith(".py")


class EnteredSyscalls(SimSyscalls):
    """SimSyscalls with sys_enter and sys_exit events, and with preemption: at each entry another task may be chosen to go first.

    It notes in the task which call it is in.  ``depth`` is how many frames above ``call`` the program is.
    """

    __slots__ = ("faults",)
    depth: ClassVar[int] = 2

    def __init__(self, sched: Sched, sysctl: Sysctl, crash: Crash) -> None:
        super().__init__(sched, sysctl, crash)
        self.faults: FaultAttr | None = None

    def begin(self, name: str, fd: int) -> bool:
        """The way into a call on ``fd`` that nobody records; False, and nothing done, if that is for ``call`` to do."""
        sched = self.sched
        task = sched.current
        if sched.trace.on or task.learnt is not None or self.faults is not None or type(self) is not EnteredSyscalls:
            # A class of its own has a call() of its own.
            return False
        task.call, task.call_fd = name, fd
        if task.killed:
            sched.refuse()
        if sched.explored:
            self.preempt()
            if sched.coverage is not None:
                task.entered = sched.switches + sched.clock.now
        sched.stalled += 1
        if sched.stalled >= sched.max_stalled:
            sched.stall(name)
        return True

    def unmet(self, name: str, args: tuple[Any, ...], error: OSError) -> None:
        """A call has failed: whoever looks on is told."""
        sched = self.sched
        if sched.watch is not None:
            sched.watch.failed(name, args, error.errno or 0)
        if sched.coverage is not None:
            sched.coverage.note(sched, name, args[0] if args else None, min(error.errno or 0, SOME - 1), 0)

    def call(self, name: str, function: Callable[[SimSyscalls, *Args], R], *args: *Args) -> R:
        """One system call: ``function(self, *args)``."""
        sched = self.sched
        task = sched.current
        task.call, task.call_fd = name, args[0] if args else None
        if task.killed:
            sched.refuse()
        if sched.explored:
            self.preempt()
            if self.faults is not None:
                function = self.faults.inject(name, function, args)
            if task.learnt is not None and sched.watch is not None:
                sched.watch.acts(name, args)
            if sched.coverage is not None:
                task.entered = sched.switches + sched.clock.now
        sched.stalled += 1
        if sched.stalled >= sched.max_stalled:
            sched.stall(name)
        trace = sched.trace
        if not trace.on:
            try:
                result = function(self, *args)
            except OSError as error:
                self.unmet(name, args, error)
                raise
            if sched.coverage is not None:
                self.covered(name, args, result)
            return result
        kept: Any = args
        for arg in kept:
            if type(arg) not in _PLAIN_TYPES:
                kept = shown(kept)
                break
        # Two events a call make up most of a trace, so they are written out here instead of calling emit.
        frame = _getframe(0 if COMPILED else self.depth)
        if trace.indirect:
            frame = program_frame(frame)
        events = trace.events
        enter = len(events)
        events.append((trace.where, "sys_enter", name, trace.cause, kept, frame.f_code, frame.f_lasti))
        trace.cause = enter
        try:
            result = function(self, *args)
        except OSError as error:
            self.failed(name, enter, error)
            self.unmet(name, args, error)
            raise
        value = result if type(result) in _PLAIN_TYPES else shown(result)
        events.append((trace.where, "sys_exit", name, trace.cause, "enter", enter, "ret", value))
        if enter >= trace.limit:
            trace.on = False
        if sched.coverage is not None:
            self.covered(name, args, result)
        return result

    def covered(self, name: str, args: tuple[Any, ...], result: object) -> None:
        """A call has returned, and somebody collects what is covered."""
        coverage = self.sched.coverage
        if coverage is not None:
            what, mask = result_class(result, args)
            coverage.note(self.sched, name, args[0] if args else None, what, mask)

    def norestart(self) -> bool:
        return self.faults is not None and self.faults.norestart()

    def failed(self, name: str, enter: int, error: OSError) -> None:
        """The sys_exit of a call that failed."""
        trace = self.sched.trace
        trace.emit("sys_exit", name, ("enter", enter, "error", errorcode.get(error.errno or 0, str(error.errno))))
        trace.cause = enter

    def preempt(self) -> None:
        """A choice may deliver what the network has kept back, and may let another task go first."""
        sched = self.sched
        process = sched.current.process
        if process.pid != 1:
            sched.calls += 1
            process.calls += 1
            if sched.watch is not None and (not sched.calls & WATCH_CALLS - 1 or sched.trace.on):
                sched.watch.sample()
        if sched.explore:
            choice = sched.choice
            if choice.spent():
                sched.explore = False
            else:
                net_rx = self.lo.net_rx
                if net_rx.pending and choice.pick(2, "softirq-now"):
                    net_rx.do_softirq()
                if sched.ticks and sched.due_soon() and choice.pick(TICK_ODDS, "tick") == TICK_ODDS - 1:
                    sched.tick()
                if sched.runqueue and (i := choice.pick(len(sched.runqueue) + 1, "preempt")):
                    sched.yield_cpu(i - 1)
        if sched.sigwork:
            self._exit_to_user()

    def spawn(self, main: Main, /, *args: object) -> int:
        return self.call("spawn", SimSyscalls.spawn, main, *args)

    def thread(self, main: Main, /, *args: object) -> int:
        return self.call("thread", SimSyscalls.thread, main, *args)

    def socket(self, family: int, type: int, proto: int = 0, /) -> int:
        return self.call("socket", SimSyscalls.socket, family, type, proto)

    def socketpair(self, family: int, type: int, proto: int = 0, /) -> tuple[int, int]:
        return self.call("socketpair", SimSyscalls.socketpair, family, type, proto)

    def bind(self, fd: int, addr: Address, /) -> None:
        self.call("bind", SimSyscalls.bind, fd, addr)

    def listen(self, fd: int, backlog: int, /) -> None:
        self.call("listen", SimSyscalls.listen, fd, backlog)

    def connect(self, fd: int, addr: Address, /) -> None:
        if self.begin("connect", fd):
            try:
                SimSyscalls.connect(self, fd, addr)
            except OSError as error:
                self.unmet("connect", (fd, addr), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "connect", fd, OTHER, 0)
            return None
        return self.call("connect", SimSyscalls.connect, fd, addr)

    def accept4(self, fd: int, flags: int = 0, /) -> tuple[int, Address]:
        if self.begin("accept4", fd):
            try:
                new = SimSyscalls.accept4(self, fd, flags)
            except OSError as error:
                self.unmet("accept4", (fd, flags), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "accept4", fd, OTHER, 0)
            return new
        return self.call("accept4", SimSyscalls.accept4, fd, flags)

    def getsockname(self, fd: int, /) -> Address:
        return self.call("getsockname", SimSyscalls.getsockname, fd)

    def getpeername(self, fd: int, /) -> Address:
        return self.call("getpeername", SimSyscalls.getpeername, fd)

    def shutdown(self, fd: int, how: int, /) -> None:
        if self.begin("shutdown", fd):
            try:
                SimSyscalls.shutdown(self, fd, how)
            except OSError as error:
                self.unmet("shutdown", (fd, how), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "shutdown", fd, OTHER, 0)
            return None
        return self.call("shutdown", SimSyscalls.shutdown, fd, how)

    def setsockopt(self, fd: int, level: int, name: int, value: int | bytes, /) -> None:
        self.call("setsockopt", SimSyscalls.setsockopt, fd, level, name, value)

    def getsockopt(self, fd: int, level: int, name: int, buflen: int = 0, /) -> int | bytes:
        return self.call("getsockopt", SimSyscalls.getsockopt, fd, level, name, buflen)

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        sched = self.sched
        trace = sched.trace
        if not trace.on and self.begin("send", fd):
            try:
                done = SimSyscalls.send(self, fd, data, flags)
            except OSError as error:
                self.unmet("send", (fd, data, flags), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "send", fd, FULL if done == len(data) else SHORT, 0)
            return done
        task = sched.current
        if sched.explored or not trace.on or task.killed or type(fd) is not int or type(data) is not bytes:
            return self.call("send", SimSyscalls.send, fd, data, flags)
        # send and recv are most of what a server does: call() written out for them, where nothing is chosen.
        task.call, task.call_fd = "send", fd
        sched.stalled += 1
        if sched.stalled >= sched.max_stalled:
            sched.stall("send")
        frame = _getframe(0 if COMPILED else 1)
        if trace.indirect:
            frame = program_frame(frame)
        events = trace.events
        enter = len(events)
        events.append((trace.where, "sys_enter", "send", trace.cause, (fd, data, flags), frame.f_code, frame.f_lasti))
        trace.cause = enter
        try:
            sent = SimSyscalls.send(self, fd, data, flags)
        except OSError as error:
            self.failed("send", enter, error)
            raise
        events.append((trace.where, "sys_exit", "send", trace.cause, "enter", enter, "ret", sent))
        if enter >= trace.limit:
            trace.on = False
        return sent

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        sched = self.sched
        trace = sched.trace
        if not trace.on and self.begin("recv", fd):
            try:
                got = SimSyscalls.recv(self, fd, n, flags)
            except OSError as error:
                self.unmet("recv", (fd, n, flags), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "recv", fd, NONE if not got else FULL if len(got) == n else SHORT, 0)
            return got
        task = sched.current
        if sched.explored or not trace.on or task.killed or type(fd) is not int or type(n) is not int:
            return self.call("recv", SimSyscalls.recv, fd, n, flags)
        task.call, task.call_fd = "recv", fd
        sched.stalled += 1
        if sched.stalled >= sched.max_stalled:
            sched.stall("recv")
        frame = _getframe(0 if COMPILED else 1)
        if trace.indirect:
            frame = program_frame(frame)
        events = trace.events
        enter = len(events)
        events.append((trace.where, "sys_enter", "recv", trace.cause, (fd, n, flags), frame.f_code, frame.f_lasti))
        trace.cause = enter
        try:
            data = SimSyscalls.recv(self, fd, n, flags)
        except OSError as error:
            self.failed("recv", enter, error)
            raise
        events.append((trace.where, "sys_exit", "recv", trace.cause, "enter", enter, "ret", data))
        if enter >= trace.limit:
            trace.on = False
        return data

    def sendto(self, fd: int, data: Buffer, flags: int, addr: Address | None, /) -> int:
        return self.call("sendto", SimSyscalls.sendto, fd, data, flags, addr)

    def recvfrom(self, fd: int, n: int, flags: int = 0, /) -> tuple[bytes, Address]:
        return self.call("recvfrom", SimSyscalls.recvfrom, fd, n, flags)

    def sendmsg(
        self, fd: int, buffers: Sequence[Buffer], ancdata: Iterable[Cmsg] = (), flags: int = 0, addr: Address | None = None, /
    ) -> int:
        return self.call("sendmsg", SimSyscalls.sendmsg, fd, buffers, ancdata, flags, addr)

    def recvmsg(
        self, fd: int, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Address]:
        return self.call("recvmsg", SimSyscalls.recvmsg, fd, bufsize, ancbufsize, flags)

    def open(self, path: str | bytes, flags: int, mode: int = 0o666, /) -> int:
        return self.call("open", SimSyscalls.open, path, flags, mode)

    def unlink(self, path: str | bytes, /) -> None:
        self.call("unlink", SimSyscalls.unlink, path)

    def mkdir(self, path: str | bytes, mode: int = 0o777, /) -> None:
        self.call("mkdir", SimSyscalls.mkdir, path, mode)

    def rmdir(self, path: str | bytes, /) -> None:
        self.call("rmdir", SimSyscalls.rmdir, path)

    def rename(self, old: str | bytes, new: str | bytes, /) -> None:
        self.call("rename", SimSyscalls.rename, old, new)

    def readlink(self, path: str | bytes, /) -> bytes:
        return self.call("readlink", SimSyscalls.readlink, path)

    def chmod(self, path: str | bytes, mode: int, /) -> None:
        self.call("chmod", SimSyscalls.chmod, path, mode)

    def chdir(self, path: str | bytes, /) -> None:
        self.call("chdir", SimSyscalls.chdir, path)

    def getcwd(self) -> bytes:
        return self.call("getcwd", SimSyscalls.getcwd)

    def flock(self, fd: int, operation: int, /) -> None:
        self.call("flock", SimSyscalls.flock, fd, operation)

    def fcntl_lock(
        self, fd: int, cmd: int, l_type: int, l_whence: int = 0, l_start: int = 0, l_len: int = 0, /
    ) -> tuple[int, int, int, int, int]:
        return self.call("fcntl_lock", SimSyscalls.fcntl_lock, fd, cmd, l_type, l_whence, l_start, l_len)

    def umask(self, mask: int, /) -> int:
        return self.call("umask", SimSyscalls.umask, mask)

    def getdents64(self, fd: int, n: int = 32768, /) -> list[tuple[int, int, bytes]]:
        return self.call("getdents64", SimSyscalls.getdents64, fd, n)

    def stat(self, path: str | bytes, /) -> os.stat_result:
        return self.call("stat", SimSyscalls.stat, path)

    def lstat(self, path: str | bytes, /) -> os.stat_result:
        return self.call("lstat", SimSyscalls.lstat, path)

    def fstat(self, fd: int, /) -> os.stat_result:
        return self.call("fstat", SimSyscalls.fstat, fd)

    def getrandom(self, n: int, flags: int = 0, /) -> bytes:
        return self.call("getrandom", SimSyscalls.getrandom, n, flags)

    def memfd_create(self, name: str, flags: int = 0, /) -> int:
        return self.call("memfd_create", SimSyscalls.memfd_create, name, flags)

    def lseek(self, fd: int, offset: int, whence: int, /) -> int:
        return self.call("lseek", SimSyscalls.lseek, fd, offset, whence)

    def ftruncate(self, fd: int, length: int, /) -> None:
        self.call("ftruncate", SimSyscalls.ftruncate, fd, length)

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        return self.call("pread", SimSyscalls.pread, fd, n, offset)

    def pwrite(self, fd: int, data: Buffer, offset: int, /) -> int:
        return self.call("pwrite", SimSyscalls.pwrite, fd, data, offset)

    def sendfile(self, out_fd: int, in_fd: int, offset: int | None, count: int, /) -> int:
        return self.call("sendfile", SimSyscalls.sendfile, out_fd, in_fd, offset, count)

    def splice(self, fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, count: int, flags: int = 0, /) -> int:
        return self.call("splice", SimSyscalls.splice, fd_in, off_in, fd_out, off_out, count, flags)

    def timerfd_create(self, clockid: int, flags: int = 0, /) -> int:
        return self.call("timerfd_create", SimSyscalls.timerfd_create, clockid, flags)

    def timerfd_settime(self, fd: int, flags: int, initial_ns: int, interval_ns: int = 0, /) -> tuple[int, int]:
        return self.call("timerfd_settime", SimSyscalls.timerfd_settime, fd, flags, initial_ns, interval_ns)

    def timerfd_gettime(self, fd: int, /) -> tuple[int, int]:
        return self.call("timerfd_gettime", SimSyscalls.timerfd_gettime, fd)

    def signalfd(self, fd: int, mask: Iterable[int], flags: int = 0, /) -> int:
        return self.call("signalfd", SimSyscalls.signalfd, fd, mask, flags)

    def epoll_pwait(self, epfd: int, maxevents: int, timeout: int = -1, sigmask: Iterable[int] | None = None, /) -> list[tuple[Any, int]]:
        return self.call("epoll_pwait", SimSyscalls.epoll_pwait, epfd, maxevents, timeout, sigmask)

    def ppoll(
        self, fds: Sequence[tuple[int, int]], timeout_ns: int | None = None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[int, int]]:
        return self.call("ppoll", SimSyscalls.ppoll, fds, timeout_ns, sigmask)

    def pselect(
        self,
        r: Iterable[int],
        w: Iterable[int],
        x: Iterable[int],
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | None = None,
        /,
    ) -> tuple[list[int], list[int], list[int]]:
        return self.call("pselect", SimSyscalls.pselect, r, w, x, timeout_ns, sigmask)

    def pidfd_open(self, pid: int, flags: int = 0, /) -> int:
        return self.call("pidfd_open", SimSyscalls.pidfd_open, pid, flags)

    def sigaction(self, signum: int, handler: Handler | None, flags: int = 0, mask: Iterable[int] = (), /) -> Handler:
        return self.call("sigaction", SimSyscalls.sigaction, signum, handler, flags, mask)

    def sigprocmask(self, how: int, set: Iterable[int] | None = None, /) -> set[int]:
        return self.call("sigprocmask", SimSyscalls.sigprocmask, how, set)

    def sigtimedwait(self, set: Iterable[int], timeout_ns: int | None = None, /) -> tuple[int, int, int, int, int, int]:
        return self.call("sigtimedwait", SimSyscalls.sigtimedwait, set, timeout_ns)

    def pause(self) -> None:
        self.call("pause", SimSyscalls.pause)

    def alarm(self, seconds: int, /) -> int:
        return self.call("alarm", SimSyscalls.alarm, seconds)

    def getitimer(self, which: int, /) -> tuple[int, int]:
        return self.call("getitimer", SimSyscalls.getitimer, which)

    def setitimer(self, which: int, value_us: int, interval_us: int = 0, /) -> tuple[int, int]:
        return self.call("setitimer", SimSyscalls.setitimer, which, value_us, interval_us)

    def tgkill(self, tgid: int, tid: int, signum: int, /) -> None:
        self.call("tgkill", SimSyscalls.tgkill, tgid, tid, signum)

    def pidfd_send_signal(self, pidfd: int, signum: int, flags: int = 0, /) -> None:
        self.call("pidfd_send_signal", SimSyscalls.pidfd_send_signal, pidfd, signum, flags)

    def sigpending(self) -> set[int]:
        return self.call("sigpending", SimSyscalls.sigpending)

    def read(self, fd: int, n: int, /) -> bytes:
        if self.begin("read", fd):
            try:
                got = SimSyscalls.read(self, fd, n)
            except OSError as error:
                self.unmet("read", (fd, n), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "read", fd, NONE if not got else FULL if len(got) == n else SHORT, 0)
            return got
        return self.call("read", SimSyscalls.read, fd, n)

    def write(self, fd: int, data: Buffer, /) -> int:
        if self.begin("write", fd):
            try:
                done = SimSyscalls.write(self, fd, data)
            except OSError as error:
                self.unmet("write", (fd, data), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "write", fd, FULL if done == len(data) else SHORT, 0)
            return done
        return self.call("write", SimSyscalls.write, fd, data)

    def readv(self, fd: int, sizes: Sequence[int], /) -> list[bytes]:
        return self.call("readv", SimSyscalls.readv, fd, sizes)

    def writev(self, fd: int, buffers: Sequence[Buffer], /) -> int:
        return self.call("writev", SimSyscalls.writev, fd, buffers)

    def close(self, fd: int, /) -> None:
        if self.begin("close", fd):
            try:
                SimSyscalls.close(self, fd)
            except OSError as error:
                self.unmet("close", (fd,), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "close", fd, OTHER, 0)
            return None
        return self.call("close", SimSyscalls.close, fd)

    def dup(self, fd: int, /) -> int:
        return self.call("dup", SimSyscalls.dup, fd)

    def dup2(self, old: int, new: int, /) -> int:
        return self.call("dup2", SimSyscalls.dup2, old, new)

    def dup3(self, old: int, new: int, flags: int, /) -> int:
        return self.call("dup3", SimSyscalls.dup3, old, new, flags)

    def fcntl(self, fd: int, cmd: int, arg: int = 0, /) -> int:
        return self.call("fcntl", SimSyscalls.fcntl, fd, cmd, arg)

    def ioctl(self, fd: int, request: int, arg: int = 0, /) -> int:
        return self.call("ioctl", SimSyscalls.ioctl, fd, request, arg)

    def pipe2(self, flags: int = 0, /) -> tuple[int, int]:
        return self.call("pipe2", SimSyscalls.pipe2, flags)

    def eventfd(self, initval: int = 0, flags: int = 0, /) -> int:
        return self.call("eventfd", SimSyscalls.eventfd, initval, flags)

    def epoll_create1(self, flags: int = 0, /) -> int:
        return self.call("epoll_create1", SimSyscalls.epoll_create1, flags)

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: Any = None, /) -> None:
        if self.begin("epoll_ctl", epfd):
            try:
                SimSyscalls.epoll_ctl(self, epfd, op, fd, events, data)
            except OSError as error:
                self.unmet("epoll_ctl", (epfd, op, fd, events, data), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "epoll_ctl", epfd, OTHER, 0)
            return None
        return self.call("epoll_ctl", SimSyscalls.epoll_ctl, epfd, op, fd, events, data)

    def epoll_wait(self, epfd: int, maxevents: int, timeout: int = -1, /) -> list[tuple[Any, int]]:
        if self.begin("epoll_wait", epfd):
            try:
                events = SimSyscalls.epoll_wait(self, epfd, maxevents, timeout)
            except OSError as error:
                self.unmet("epoll_wait", (epfd, maxevents, timeout), error)
                raise
            if self.sched.coverage is not None:
                self.sched.coverage.note(self.sched, "epoll_wait", epfd, OTHER + min(len(events), MOST), mask_of(events))
            return events
        return self.call("epoll_wait", SimSyscalls.epoll_wait, epfd, maxevents, timeout)

    def epoll_pwait2(
        self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[Any, int]]:
        return self.call("epoll_pwait2", SimSyscalls.epoll_pwait2, epfd, maxevents, timeout_ns, sigmask)

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        return self.call("poll", SimSyscalls.poll, fds, timeout)

    def select(
        self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /
    ) -> tuple[list[int], list[int], list[int]]:
        return self.call("select", SimSyscalls.select, r, w, x, timeout)

    def clock_gettime_ns(self, clockid: int, /) -> int:
        return self.call("clock_gettime_ns", SimSyscalls.clock_gettime_ns, clockid)

    def nanosleep(self, ns: int, /) -> None:
        self.call("nanosleep", SimSyscalls.nanosleep, ns)

    def futex_wait(self, word: FutexWord, expected: int, timeout_ns: int | None = None, /) -> None:
        self.call("futex_wait", SimSyscalls.futex_wait, word, expected, timeout_ns)

    def futex_wake(self, word: FutexWord, n: int, /) -> int:
        return self.call("futex_wake", SimSyscalls.futex_wake, word, n)

    def join(self, tid: int, /) -> None:
        self.call("join", SimSyscalls.join, tid)

    def waitpid(self, pid: int, options: int = 0, /) -> tuple[int, int]:
        return self.call("waitpid", SimSyscalls.waitpid, pid, options)

    def kill(self, pid: int, signum: int, /) -> None:
        self.call("kill", SimSyscalls.kill, pid, signum)

    def getpid(self) -> int:
        return self.call("getpid", SimSyscalls.getpid)

    def getppid(self) -> int:
        return self.call("getppid", SimSyscalls.getppid)

    def getpgid(self, pid: int, /) -> int:
        return self.call("getpgid", SimSyscalls.getpgid, pid)

    def setpgid(self, pid: int, pgid: int, /) -> None:
        self.call("setpgid", SimSyscalls.setpgid, pid, pgid)

    def getsid(self, pid: int, /) -> int:
        return self.call("getsid", SimSyscalls.getsid, pid)

    def setsid(self) -> int:
        return self.call("setsid", SimSyscalls.setsid)

    def exit(self, status: int, /) -> None:
        self.call("exit", SimSyscalls.exit, status)

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        return self.call("getrlimit", SimSyscalls.getrlimit, resource)

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        self.call("setrlimit", SimSyscalls.setrlimit, resource, limits)
