"""The calls on processes, threads and time (kernel/fork.c, exit.c, signal.c, sys.c, time/)."""

import errno

from simkernel.api import Main
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.clock import REALTIME_AT_BOOT
from simkernel.kernel.exit import do_group_exit, do_wait, join_thread
from simkernel.kernel.fork import copy_process, copy_thread, wake_up_new_task
from simkernel.kernel.sched import Task
from simkernel.kernel.signal import do_kill
from simkernel.kernel.syscalls.base import NR_OPEN, c_int, timespec
from simkernel.kernel.syscalls.waiting import WaitingCalls
from simkernel.uapi import (
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    RLIM_INFINITY,
    RLIMIT_NOFILE,
)


class ProcessCalls(WaitingCalls):
    """spawn, thread, waitpid, kill, the clock, limits."""

    __slots__ = ()

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
