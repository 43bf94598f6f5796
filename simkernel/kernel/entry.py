"""The way in and out of the kernel (arch/x86/entry): what happens around a system call when somebody watches or explores.

A run without choices and without a trace uses SimSyscalls as it is, so neither costs anything there.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from errno import errorcode
from typing import Any, ParamSpec, TypeVar

from simkernel.api import Address, Buffer, Main
from simkernel.kernel.syscalls import SimSyscalls

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN_TYPES = frozenset({int, bytes, str, bool, float, type(None)})


def shown(value: Any) -> Any:
    """An argument or result as the trace keeps it: plain values as they are, anything else as text that is the same in every run."""
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, (tuple, list)):
        return tuple(shown(item) for item in value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return f"<{type(value).__name__}>"


class EnteredSyscalls(SimSyscalls):
    """SimSyscalls with sys_enter and sys_exit events, and with preemption: at each entry another task may be chosen to go first."""

    __slots__ = ()

    def call(self, name: str, function: Callable[P, R], *args: P.args, **none: P.kwargs) -> R:
        """One system call."""
        sched = self.sched
        task = sched.current
        if task.killed:
            sched.refuse()
        if sched.explore:
            choice = sched.choice
            if sched.softirq is not None and self.lo.net_rx.pending and choice.pick(2, "softirq-now"):
                sched.softirq()
            if sched.runqueue and (i := choice.pick(len(sched.runqueue) + 1, "preempt")):
                sched.yield_cpu(i - 1)
        sched.count_call(name)
        trace = sched.trace
        if not trace.on:
            return function(*args, **none)
        frame = sys._getframe(2)
        enter = trace.emit_at("sys_enter", name, frame.f_code, frame.f_lasti, "args", shown(args))
        trace.cause = enter
        try:
            result = function(*args, **none)
        except OSError as error:
            trace.emit("sys_exit", name, "enter", enter, "error", errorcode.get(error.errno or 0, str(error.errno)))
            trace.cause = enter
            raise
        trace.emit("sys_exit", name, "enter", enter, "ret", shown(result))
        return result

    def spawn(self, main: Main, /, *args: object) -> int:
        return self.call("spawn", super().spawn, main, *args)

    def thread(self, main: Main, /, *args: object) -> int:
        return self.call("thread", super().thread, main, *args)
    def socket(self, family: int, type: int, proto: int = 0, /) -> int:
        return self.call("socket", super().socket, family, type, proto)

    def socketpair(self, family: int, type: int, proto: int = 0, /) -> tuple[int, int]:
        return self.call("socketpair", super().socketpair, family, type, proto)

    def bind(self, fd: int, addr: Address, /) -> None:
        self.call("bind", super().bind, fd, addr)

    def listen(self, fd: int, backlog: int, /) -> None:
        self.call("listen", super().listen, fd, backlog)

    def connect(self, fd: int, addr: Address, /) -> None:
        self.call("connect", super().connect, fd, addr)

    def accept4(self, fd: int, flags: int = 0, /) -> tuple[int, Address]:
        return self.call("accept4", super().accept4, fd, flags)

    def getsockname(self, fd: int, /) -> Address:
        return self.call("getsockname", super().getsockname, fd)

    def getpeername(self, fd: int, /) -> Address:
        return self.call("getpeername", super().getpeername, fd)

    def shutdown(self, fd: int, how: int, /) -> None:
        self.call("shutdown", super().shutdown, fd, how)

    def setsockopt(self, fd: int, level: int, name: int, value: int | bytes, /) -> None:
        self.call("setsockopt", super().setsockopt, fd, level, name, value)

    def getsockopt(self, fd: int, level: int, name: int, buflen: int = 0, /) -> int | bytes:
        return self.call("getsockopt", super().getsockopt, fd, level, name, buflen)

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        return self.call("send", super().send, fd, data, flags)

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        return self.call("recv", super().recv, fd, n, flags)

    def read(self, fd: int, n: int, /) -> bytes:
        return self.call("read", super().read, fd, n)

    def write(self, fd: int, data: Buffer, /) -> int:
        return self.call("write", super().write, fd, data)

    def readv(self, fd: int, sizes: Sequence[int], /) -> list[bytes]:
        return self.call("readv", super().readv, fd, sizes)

    def writev(self, fd: int, buffers: Sequence[Buffer], /) -> int:
        return self.call("writev", super().writev, fd, buffers)

    def close(self, fd: int, /) -> None:
        self.call("close", super().close, fd)

    def dup(self, fd: int, /) -> int:
        return self.call("dup", super().dup, fd)

    def dup2(self, old: int, new: int, /) -> int:
        return self.call("dup2", super().dup2, old, new)

    def dup3(self, old: int, new: int, flags: int, /) -> int:
        return self.call("dup3", super().dup3, old, new, flags)

    def fcntl(self, fd: int, cmd: int, arg: int = 0, /) -> int:
        return self.call("fcntl", super().fcntl, fd, cmd, arg)

    def ioctl(self, fd: int, request: int, arg: int = 0, /) -> int:
        return self.call("ioctl", super().ioctl, fd, request, arg)

    def pipe2(self, flags: int = 0, /) -> tuple[int, int]:
        return self.call("pipe2", super().pipe2, flags)

    def eventfd(self, initval: int = 0, flags: int = 0, /) -> int:
        return self.call("eventfd", super().eventfd, initval, flags)

    def epoll_create1(self, flags: int = 0, /) -> int:
        return self.call("epoll_create1", super().epoll_create1, flags)

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: Any = None, /) -> None:
        self.call("epoll_ctl", super().epoll_ctl, epfd, op, fd, events, data)

    def epoll_wait(self, epfd: int, maxevents: int, timeout: int = -1, /) -> list[tuple[Any, int]]:
        return self.call("epoll_wait", super().epoll_wait, epfd, maxevents, timeout)

    def epoll_pwait2(self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: Iterable[int] | None = None, /) -> list[tuple[Any, int]]:
        return self.call("epoll_pwait2", super().epoll_pwait2, epfd, maxevents, timeout_ns, sigmask)

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        return self.call("poll", super().poll, fds, timeout)

    def select(self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /) -> tuple[list[int], list[int], list[int]]:
        return self.call("select", super().select, r, w, x, timeout)

    def clock_gettime_ns(self, clockid: int, /) -> int:
        return self.call("clock_gettime_ns", super().clock_gettime_ns, clockid)

    def nanosleep(self, ns: int, /) -> None:
        self.call("nanosleep", super().nanosleep, ns)

    def join(self, tid: int, /) -> None:
        self.call("join", super().join, tid)

    def waitpid(self, pid: int, options: int = 0, /) -> tuple[int, int]:
        return self.call("waitpid", super().waitpid, pid, options)

    def kill(self, pid: int, signum: int, /) -> None:
        self.call("kill", super().kill, pid, signum)

    def getpid(self) -> int:
        return self.call("getpid", super().getpid)

    def getppid(self) -> int:
        return self.call("getppid", super().getppid)

    def exit(self, status: int, /) -> None:
        self.call("exit", super().exit, status)

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        return self.call("getrlimit", super().getrlimit, resource)

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        self.call("setrlimit", super().setrlimit, resource, limits)
