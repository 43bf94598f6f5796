"""Assertions over a whole run: what must hold at each step, at some step, or before a time.

    def test(sys):
        always(sys, lambda: pool.open <= pool.limit, "the pool keeps its limit")
        never(sys, lambda: None in pool.idle)
        sometimes(sys, lambda: pool.open == pool.limit, "the pool fills up")
        ...
        eventually(sys, lambda: pool.open == 0, within=5 * SEC)

A condition is a function without arguments that returns True or False.  It looks at Python's memory, which all simulated processes share,
and makes no system call.  It is looked at before and after every system call of every task: tasks change in system calls only, so when a
condition breaks, the code that ran since the task's last call broke it, and that call and this one are named.

They need a run that is watched: @simulate, the fixture ``world``, ServerMachine, or ``simkernel.run(main, probes=[Conditions()])``.

On the real kernel (``@simulate(on="both")``, the fixture ``world``) memory is not shared: a condition is looked at around the system calls
of the process that stated it and of those forked from it later, each with its own memory.  ``sometimes`` says nothing there.
"""

import inspect
import mmap
import os
import sys as python
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from simkernel.api import Syscalls
from simkernel.errors import UsageError
from simkernel.kernel.machine import KERNEL_DIR
from simkernel.kernel.sched import Sched
from simkernel.kernel.tracepoint import Probe, ProbedSyscalls
from simkernel.kernel.wait import WaitQueue, wait_event_hrtimeout, wake_up
from simkernel.linux import LinuxSyscalls
from simkernel.testing.explain import Calls

Predicate: TypeAlias = Callable[[], object]

NS_PER_MS = 1_000_000
# How often ``eventually`` looks on the real kernel.
LOOK_NS = 1_000_000
SHARED_BYTES = 8192


class Broken(AssertionError):
    """An ``always``, ``never`` or ``eventually`` that does not hold.  ``where`` is the place of the assertion in the test."""

    def __init__(self, text: str, where: str) -> None:
        super().__init__(text, where)
        self.where = where

    def __str__(self) -> str:
        return str(self.args[0])


class Condition:
    """One standing assertion.  It ends with ``end()``, or as a context manager; else with the run."""

    __slots__ = ("name", "predicate", "verb", "watch", "where")

    def __init__(self, watch: "Conditions", verb: str, predicate: Predicate, name: str, where: str) -> None:
        self.watch = watch
        self.verb = verb
        self.predicate = predicate
        self.name = name
        self.where = where

    def __str__(self) -> str:
        return f"{self.verb}({self.name!r}), {self.where}" if self.name else f"{self.verb}(...), {self.where}"

    def holds(self) -> bool:
        """Whether it holds now.  UsageError for a condition that returns no answer."""
        return truth(self.predicate, self.where) is (self.verb != "never")

    def end(self) -> None:
        """Look no more."""
        if self in self.watch.conditions:
            self.watch.conditions.remove(self)

    def __enter__(self) -> "Condition":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
        if error[0] is None and self.verb != "sometimes" and not self.holds():
            raise Broken(f"{self} is broken at the end of its block", self.where)


class Conditions:
    """The assertions of one run: a probe for ``simkernel.run(main, probes=[Conditions()])``.

    ``reached`` says of each ``sometimes``, by its text, whether it has been true.
    """

    def __init__(self) -> None:
        self.conditions: list[Condition] = []
        self.waiting: list[tuple[Predicate, str, WaitQueue]] = []
        self.reached: dict[str, bool] = {}
        self.sched: Sched | None = None
        # On the real kernel: where a child leaves word of what it found broken.
        self.shared: mmap.mmap | None = None
        # System calls of all tasks so far.
        self.calls = 0
        self._looking = False

    def __call__(self, ev: str, call: str) -> None:
        """A task is about to enter the kernel, or comes back."""
        if ev == "sys_enter":
            self.calls += 1
        if not (self.conditions or self.waiting) or self._looking:
            return
        sched = self.sched
        if sched is not None and (sched.fatal is not None or sched.current.killed):
            return
        self._looking = True
        try:
            broken = self._look(ev, call)
            for predicate, where, wq in self.waiting:
                if truth(predicate, where):
                    wake_up(wq)
        finally:
            self._looking = False
        if broken is not None:
            self.fail(broken)

    def _look(self, ev: str, call: str) -> Broken | None:
        for condition in self.conditions:
            holds = condition.holds()
            if condition.verb == "sometimes":
                if holds:
                    self.reached[str(condition)] = True
                    self.conditions = [other for other in self.conditions if other is not condition]
            elif not holds:
                return Broken(f"{condition} broke {self._moment(ev, call)}", condition.where)
        return None

    def _moment(self, ev: str, call: str) -> str:
        """Which step it was: the call, its place, the task, and the call of that task before it, if there is a trace."""
        frame = program_frame()
        at = f", {place(frame)}" if frame is not None else ""
        when = f"before {call}" if ev == "sys_enter" else f"in {call}"
        if self.sched is None:
            return f"{when}{at} of process {os.getpid()}"
        task = self.sched.current
        text = f"{when}{at} of {task.process.comm} (pid {task.pid})"
        before = Calls(self.sched.trace, harness=0).last_of(task.pid) if ev == "sys_enter" else ""
        return f"{text}, after its {before}" if before else text

    def fail(self, broken: Broken) -> None:
        """End the run with everything where it is; on the real kernel, raise in the process that noticed."""
        if self.sched is not None:
            self.sched.stop(broken)
        if self.shared is not None and not self.shared[0]:
            text = f"{broken.where}\0{broken}".encode()[: SHARED_BYTES - 3]
            self.shared[: len(text) + 3] = b"\1" + len(text).to_bytes(2, "little") + text
        raise broken

    def state(self, sys: Syscalls, verb: str, predicate: Predicate, name: str) -> Condition:
        """A new condition, looked at for the first time."""
        self.sched = sys.sched if isinstance(sys, ProbedSyscalls) else None
        frame = program_frame()
        condition = Condition(self, verb, predicate, name, place(frame) if frame is not None else "?")
        holds = condition.holds()
        if verb == "sometimes":
            key = str(condition)
            self.reached[key] = self.reached.get(key, False) or holds
            if not self.reached[key]:
                self.conditions.append(condition)
        elif not holds:
            raise Broken(f"{condition} is broken from the start", condition.where)
        else:
            self.conditions.append(condition)
        return condition


def truth(predicate: Predicate, where: str) -> bool:
    """A condition's answer.  UsageError for one that gives none."""
    value = predicate()
    if value is None:
        raise UsageError(f"the condition at {where} returned None: it must return True or False")
    return bool(value)


def watch_of(sys: Syscalls, what: str) -> Conditions:
    """The Conditions of a run.  UsageError if nobody watches it."""
    for probe in getattr(sys, "probes", ()):
        if isinstance(probe, Conditions):
            return probe
    raise UsageError(f"{what} needs a run that is watched: @simulate, the fixture world, or simkernel.run(main, probes=[Conditions()])")


def always(sys: Syscalls, condition: Predicate, name: str = "") -> Condition:
    """``condition`` holds now and at every step from here on, until the run (or the ``with`` block) ends."""
    return watch_of(sys, "always()").state(sys, "always", condition, name)


def never(sys: Syscalls, condition: Predicate, name: str = "") -> Condition:
    """``condition`` is false now and at every step from here on, until the run (or the ``with`` block) ends."""
    return watch_of(sys, "never()").state(sys, "never", condition, name)


def sometimes(sys: Syscalls, condition: Predicate, name: str = "") -> Condition:
    """``condition`` holds at one step at least of one example at least: else @simulate fails after the last example, as "unreached".

    It shows that a test gets where it means to go.  Outside of @simulate, look into ``Conditions.reached``.
    """
    return watch_of(sys, "sometimes()").state(sys, "sometimes", condition, name)


def eventually(sys: Syscalls, condition: Predicate, within: int, name: str = "") -> None:
    """Sleep until ``condition`` holds; Broken if it does not within ``within`` nanoseconds: virtual ones, or real on the real kernel.

    The others run meanwhile.  The sleeper wakes at the very step at which the condition becomes true, and makes no system call.
    """
    watch = watch_of(sys, "eventually()")
    if within <= 0:
        raise UsageError(f"eventually(within={within}): give a time in nanoseconds, above 0")
    frame = program_frame()
    where = place(frame) if frame is not None else "?"
    if isinstance(sys, ProbedSyscalls):
        watch.sched = sys.sched
        waiter = (condition, where, WaitQueue(None, "eventually"))
        watch.waiting.append(waiter)
        try:
            done = wait_event_hrtimeout(sys.sched, waiter[2], lambda: truth(condition, where), within)
        finally:
            watch.waiting.remove(waiter)
    else:
        deadline = sys.clock_gettime_ns(1) + within
        while not (done := truth(condition, where)) and sys.clock_gettime_ns(1) < deadline:
            sys.nanosleep(LOOK_NS)
    if not done:
        text = f"eventually({name!r})" if name else "eventually(...)"
        watch.fail(Broken(f"{text}, {where}, did not come true within {within / NS_PER_MS:g} ms", where))


def program_frame() -> FrameType | None:
    """The innermost frame that is neither the kernel's nor this module's."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(KERNEL_DIR)):
        frame = frame.f_back
    return frame


def place(frame: FrameType) -> str:
    """``file.py:line`` of a frame."""
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


# --- the real kernel ---


class ProbedLinux(LinuxSyscalls):
    """LinuxSyscalls that calls its probes before and after each system call, as ProbedSyscalls does on the fake kernel."""

    __slots__ = ("probes",)

    def __init__(self, probes: Sequence[Probe]) -> None:
        super().__init__()
        self.probes = tuple(probes)


def _probed(name: str) -> Callable[..., Any]:
    function = getattr(LinuxSyscalls, name)

    def call(self: ProbedLinux, *args: Any) -> Any:
        for probe in self.probes:
            probe("sys_enter", name)
        try:
            return function(self, *args)
        finally:
            for probe in self.probes:
                probe("sys_exit", name)

    call.__name__ = name
    return call


for _name in [name for name in vars(Syscalls) if not name.startswith("_") and callable(getattr(Syscalls, name))]:
    setattr(ProbedLinux, _name, _probed(_name))


def watched(main: Callable[..., object]) -> Callable[..., object]:
    """``main(sys, *args)`` for the real kernel, watched: what a child finds broken is raised when main has ended."""

    def watched_main(sys: Syscalls, *args: object) -> object:
        watch = Conditions()
        watch.shared = mmap.mmap(-1, SHARED_BYTES)
        try:
            return main(ProbedLinux([watch]), *args)
        finally:
            if watch.shared[0] and not isinstance(python.exception(), Broken):
                size = int.from_bytes(watch.shared[1:3], "little")
                where, _, text = watch.shared[3 : 3 + size].decode(errors="replace").partition("\0")
                raise Broken(text, where)

    return watched_main
