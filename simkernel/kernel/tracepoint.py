"""Probes on the way into the kernel and out of it (kernel/trace/trace_syscalls.c: register_trace_sys_enter, register_trace_sys_exit).

A probe sees every system call of every task at the two moments at which tasks can change, so between two of its calls the code of one
task has run, and nothing else.  Only a Kernel that was given probes has them; the others take no notice.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from simkernel.api import Buffer
from simkernel.kernel.entry import Args, EnteredSyscalls, R
from simkernel.kernel.fork import Crash
from simkernel.kernel.net.socket import Sysctl
from simkernel.kernel.sched import Sched
from simkernel.kernel.syscalls import SimSyscalls

# Called with "sys_enter" or "sys_exit" and the name of the call.
Probe: TypeAlias = Callable[[str, str], object]


class ProbedSyscalls(EnteredSyscalls):
    """EnteredSyscalls that calls its probes before and after each system call, in order; also after one that failed."""

    __slots__ = ("probes",)
    depth: ClassVar[int] = 3

    def __init__(self, sched: Sched, sysctl: Sysctl, crash: Crash, probes: Sequence[Probe]) -> None:
        super().__init__(sched, sysctl, crash)
        self.probes = tuple(probes)

    def call(self, name: str, function: Callable[[SimSyscalls, *Args], R], *args: *Args) -> R:
        for probe in self.probes:
            probe("sys_enter", name)
        try:
            return super().call(name, function, *args)
        finally:
            for probe in self.probes:
                probe("sys_exit", name)

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        return self.call("send", SimSyscalls.send, fd, data, flags)

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        return self.call("recv", SimSyscalls.recv, fd, n, flags)
