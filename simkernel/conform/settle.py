"""When a step on the real kernel is over: every task sleeps in a system call, or has ended.

All tasks of a program and the controller share one processor, so that a task that was woken waits for it, in the order of its wake-up,
and what a system call sets off in the network (softirqs on loopback) is done when the call returns.  With the right to (CAP_SYS_NICE)
the tasks run under SCHED_FIFO: then the order is exact, and whenever the controller gets the processor all tasks sleep.  In any case
/proc/PID/task/TID/syscall of each is read until it says so twice in the same words.
"""

import os
import threading
import time
from typing import Protocol

from simkernel.api import Syscalls
from simkernel.linux.syscalls import LinuxSyscalls

_FUTEX = b"202 "  # x86-64's number: a thread in it waits for Python's lock, and so is not done
_PATIENCE = 5.0


class Platform(Protocol):
    """What the two kernels do differently for a comparison of several tasks."""

    def pin(self) -> None:
        """Called by the controller, before anything is forked."""

    def enter(self) -> None:
        """Called in each process, before it starts threads."""

    def tid(self) -> int:
        """A name for the running task that watch understands."""

    def watch(self, pid: int, tid: int) -> None:
        """Have settle wait for this task too."""

    def settle(self, ns: int) -> None:
        """Return when every task sleeps or has ended, and ``ns`` nanoseconds have passed."""

    def children(self) -> list[int]:
        """The controller's children, those included of which it was not told."""

    def forget(self) -> None:
        """Watch nobody any more."""


class SimPlatform:
    """The fake kernel: virtual time moves only when nobody can run."""

    def __init__(self, sys: Syscalls) -> None:
        self.sys = sys

    def pin(self) -> None:
        """Nothing to do."""

    def enter(self) -> None:
        """Nothing to do."""

    def tid(self) -> int:
        """No task needs a name."""
        return 0

    def watch(self, pid: int, tid: int) -> None:
        """The scheduler knows all tasks."""

    def settle(self, ns: int) -> None:
        """Sleep a microsecond: it is over when all others sleep."""
        self.sys.nanosleep(ns or 1000)

    def children(self) -> list[int]:
        """It was told of all."""
        return []

    def forget(self) -> None:
        """Nothing to do."""


class LinuxPlatform:
    """The real kernel."""

    def __init__(self) -> None:
        self.watched: list[int] = []

    def pin(self) -> None:
        """Stay on the processor that we are on."""
        allowed = os.sched_getaffinity(0)
        if len(allowed) > 1:
            os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})

    def enter(self) -> None:
        """First in, first out, if we may."""
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            pass

    def tid(self) -> int:
        """The kernel's id of the thread."""
        return threading.get_native_id()

    def watch(self, pid: int, tid: int) -> None:
        """Keep its file in /proc open: one read is one look."""
        try:
            self.watched.append(os.open(f"/proc/{pid}/task/{tid}/syscall", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass  # it has ended

    def settle(self, ns: int) -> None:
        """Look until all sleep in the same calls as at the look before."""
        if ns:
            time.sleep(ns / 1e9)
        deadline = 0.0
        before: list[bytes] = []
        while True:
            now = self._look()
            if now and now == before:
                return
            before = now
            os.sched_yield()
            if not deadline:
                deadline = time.monotonic() + _PATIENCE
            elif not now and time.monotonic() > deadline:
                raise RuntimeError("a task of the program did not come to rest")

    def _look(self) -> list[bytes]:
        """What each task sleeps in, or nothing if one runs."""
        looks = [b"."]
        for fd in self.watched:
            try:
                look = os.pread(fd, 200, 0)
            except OSError:
                look = b"ended"
            if look.startswith((b"running", _FUTEX)):
                return []
            looks.append(look)
        return looks

    def children(self) -> list[int]:
        """One may have been forked by a task that was killed before it could say so."""
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                return [int(pid) for pid in file.read().split()]
        except OSError:
            return []

    def forget(self) -> None:
        """Close the files."""
        for fd in self.watched:
            os.close(fd)
        self.watched.clear()


def platform_of(sys: Syscalls) -> Platform:
    """The kernel's platform."""
    return LinuxPlatform() if isinstance(sys, LinuxSyscalls) else SimPlatform(sys)
