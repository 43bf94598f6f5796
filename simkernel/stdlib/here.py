"""Where the calls of a program go: the system calls of the machine that runs now.

Python's modules have no ``sys`` to be handed, so what stands for them asks here.  Machines run one at a time in a thread of Python and
may nest: the innermost counts.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from simkernel.api import Syscalls
from simkernel.errors import UsageError
from simkernel.kernel.signal import flush_signal_handlers
from simkernel.kernel.task_work import task_work_add
from simkernel.uapi import CLOCK_MONOTONIC, NSIG, SIG_IGN

if TYPE_CHECKING:
    from simkernel.kernel.sched import Sched

# So many looks at the clock count as one call without progress: programs look at it for each line that they log.
LOOKS: Final = 16
# Calls without progress after which a program that looks at the clock waits for it, and how far it then moves at most: 2**30 ns, a second.
PATIENCE: Final = 4000
LONGEST_STEP: Final = 30


class NoMachine:
    """Stands for the system calls while no machine runs."""

    def close(self, fd: int) -> None:
        """What is collected when its run is over has nothing to close any more."""

    def __getattr__(self, name: str) -> object:
        raise UsageError(
            f"{name} of a simulated module was called, and no machine runs: call it inside simkernel.run, or import the real module"
        )


class Here:
    """``sys``: the Syscalls of the machine that runs.  ``sched``: its scheduler, None on the real kernel."""

    __slots__ = ("on_exit", "sched", "sys")
    sys: Syscalls
    sched: "Sched | None"

    def __init__(self) -> None:
        self.sys = NoMachine()  # type: ignore[assignment]  # it refuses every call
        self.sched = None
        self.on_exit: list[Callable[[], None]] = []

    def process_id(self) -> int:
        """The running process, without a system call; 0 on the real kernel, where a world has one process."""
        return self.sched.current.process.pid if self.sched is not None else 0

    def thread_id(self) -> int:
        """The running thread, without a system call; 0 on the real kernel, whose threads stay Python's own."""
        return self.sched.current.pid if self.sched is not None else 0

    def clock_gettime_ns(self, clockid: int) -> int:
        """What a clock shows.  That is no system call on Linux (vdso(7)): nobody else runs meanwhile, and nothing is recorded."""
        sched = self.sched
        if sched is None or sched.sigwork or clockid < 0:
            return self.sys.clock_gettime_ns(clockid)
        clock = sched.clock
        if not clock.looks % LOOKS:
            # A loop that only looks at the clock ends as others do that make no progress.
            sched.stall("clock_gettime, which a loop must not wait for: it has to sleep")
            if sched.stalled > PATIENCE:
                self.pass_time(sched)
        clock.looks += 1
        return clock.now if clockid == CLOCK_MONOTONIC else clock.gettime(clockid)

    def pass_time(self, sched: "Sched") -> None:
        """Computing takes no virtual time; but who does nothing but look at the clock waits for it: it moves, faster and faster."""
        clock = sched.clock
        now = clock.now + (1 << min((sched.stalled - PATIENCE) // 4 + 1, LONGEST_STEP))
        expires = clock.next_expiry()
        if expires is None or expires > now:
            clock.now = now
        else:
            sched.tick()

    def task_work_add(self, work: Callable[[], None]) -> None:
        """Have the first thread of the running process call ``work`` when it next returns from a system call.

        On the real kernel at once: Python itself has waited for that there.
        """
        if self.sched is None:
            work()
        else:
            task_work_add(self.sched, self.sched.current.process.threads[0], work)

    def begin_new_exec(self) -> set[int]:
        """What execve does to the signals of the running process (flush_signal_handlers); those that are ignored."""
        if self.sched is not None:
            return flush_signal_handlers(self.sched.current.process)
        return {signum for signum in range(1, NSIG + 1) if signum not in (32, 33) and self.sys.sigaction(signum, None) == SIG_IGN}

    def dying(self) -> bool:
        """Whether the running thread has been killed, so that it makes no more calls."""
        return self.sched is not None and self.sched.current.killed


here = Here()


@contextlib.contextmanager
def machine(sys: Syscalls, sched: "Sched | None" = None) -> Iterator[None]:
    """The calls of this block's programs go to ``sys``."""
    outer = here.sys, here.sched, here.on_exit
    here.sys, here.sched, here.on_exit = sys, sched, []
    if sched is not None:
        sched.trace.indirect = True
    try:
        yield
    finally:
        for function in reversed(here.on_exit):
            function()
        here.sys, here.sched, here.on_exit = outer
