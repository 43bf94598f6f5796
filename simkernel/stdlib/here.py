"""Where the calls of a program go: the system calls of the machine that runs now.

Python's modules have no ``sys`` to be handed, so what stands for them asks here.  Machines run one at a time in a thread of Python and
may nest: the innermost counts.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from simkernel.api import Syscalls
from simkernel.errors import UsageError

if TYPE_CHECKING:
    from simkernel.kernel.sched import Sched


class NoMachine:
    """Stands for the system calls while no machine runs."""

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
