"""Runs a program on both kernels, tells a difference from a wavering of Linux, and shrinks it to the fewest calls."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from simkernel import linux
from simkernel.api import Syscalls
from simkernel.conform.machine import FDS, UNOFFERED, Machine
from simkernel.conform.program import FD_PLACES, SETUP, Call, Program, Result, renumber
from simkernel.errors import Deadlock, SimulationError, Unsupported
from simkernel.kernel.machine import run
from simkernel.uapi import EPOLLET, EPOLLIN, EPOLLONESHOT, EPOLLOUT, F_DUPFD, F_DUPFD_CLOEXEC

LINUX_TIMEOUT = 10.0
"""Seconds for a run on the real kernel; a program has one more each."""
SHRINK_SECONDS = 15.0
"""How long a shrinking may take: what it has by then is what is shown."""


class Runner(Protocol):
    """How the programs of a kind are run on a kernel."""

    def __call__(self, sys: Syscalls, program: Program, /, *, settle: bool = False, raw: bool = False) -> list[Result]:
        """A result for each call, and one of the end."""
        ...


def play_calls(sys: Syscalls, program: Program, /, *, settle: bool = False, raw: bool = False) -> list[Result]:
    """Run a program of one task."""
    return Machine(sys, settle, raw).run(program)


def on_linux(runner: Runner, programs: Sequence[Program], settle: bool = False, raw: bool = False) -> list[list[Result]]:
    """The results of many programs, all in one run on the real kernel."""

    def main(sys: Syscalls) -> list[list[Result]]:
        return [runner(sys, program, settle=settle, raw=raw) for program in programs]

    results: list[list[Result]] = linux.run(main, timeout=LINUX_TIMEOUT + len(programs))
    return results


def on_sim(runner: Runner, program: Program, raw: bool = False) -> list[Result]:
    """The results of one program on the fake kernel; of one that it can't finish, why.  Raises Unsupported and Deadlock."""
    try:
        results: list[Result] = run(lambda sys: runner(sys, program, raw=raw), on_crash=_ignore)
    except (Unsupported, Deadlock):
        raise  # no result: a call that can't be compared, or one that slept where nobody may
    except SimulationError as error:
        return [f"{type(error).__name__}: {error}"]
    except Exception as error:
        return [f"the fake kernel raised {error!r}"]
    return results


def _ignore(*_: object) -> None:
    """A task that was killed in the middle of a program has nothing to say."""


def same(sim: Sequence[Result], real: Sequence[Result]) -> bool:
    """Whether the results agree, but for calls that simkernel.linux does not pass on, and the order of time limits that end together."""
    sim, real = _ties(sim), _ties(real)
    if len(sim) == len(real) and any(r[0] == UNOFFERED for r in real if isinstance(r, tuple)):
        sim = [(r[0], s[1]) if isinstance(r, tuple) and r[0] == UNOFFERED else s for s, r in zip(sim, real, strict=True)]
    return sim == real


def _ties(results: Sequence[Result]) -> list[Result]:
    """Results of several tasks with the EAGAINs of one step in the order of the tasks: see same-jiffy in known.py."""
    out: list[Result] = []
    for result in results:
        if isinstance(result, tuple) and isinstance(result[0], list) and len(result[0]) > 1:
            late = iter(sorted(entry for entry in result[0] if entry[1] == "EAGAIN"))
            result = [next(late) if entry[1] == "EAGAIN" else entry for entry in result[0]], *result[1:]
        out.append(result)
    return out


def orderless(results: Sequence[Result]) -> list[Result]:
    """Results of several tasks without the order of those that woke in one step."""
    return [(sorted(r[0], key=repr) if isinstance(r[0], list) else r[0], r[1]) if isinstance(r, tuple) else r for r in results]


@dataclass
class Verdict:
    """``kind`` is "same", "differs", "wavers" (Linux itself does not always do the same) or "known" (the delayed acknowledgement)."""

    kind: str
    sim: list[Result] = field(default_factory=list)
    linux: list[Result] = field(default_factory=list)


def judge(runner: Runner, program: Program, sim: list[Result], real: list[Result]) -> Verdict:
    """What a first difference is: Linux is asked twice more, with pauses for what it may delay."""
    if same(sim, real):
        return Verdict("same")
    again, third = on_linux(runner, [program, program], settle=True)
    if again == third:
        if same(sim, again):
            paused = program.kind != "timers" and any("socket" in call for call in program.calls)
            return Verdict("known" if paused and real != again else "wavers")
        return Verdict("differs", sim, again)
    if same(sim, again) or same(sim, third):
        return Verdict("wavers")
    # The order of several that woke at once may waver: who woke, and with what, must not.
    runs = [orderless(r) for r in (real, again, third)]
    if runs[0] == runs[1] == runs[2] and not same(orderless(sim), runs[0]):
        return Verdict("differs", sim, again)
    return Verdict("wavers")


def which_differ(runner: Runner, programs: Sequence[Program]) -> list[bool]:
    """Of each program whether the two kernels differ, with pauses too; one that can't be run shows nothing."""
    sims: list[list[Result] | None] = []
    for program in programs:
        try:
            sims.append(on_sim(runner, program))
        except SimulationError:
            sims.append(None)
    found = [False] * len(programs)
    suspects = [i for i, sim in enumerate(sims) if sim is not None]
    before: dict[int, list[Result]] = {}
    for settle in (False, True):
        try:
            runs = on_linux(runner, [programs[i] for i in suspects], settle=settle) if suspects else []
        except Exception:
            return [False] * len(programs)  # one of them does not end, or breaks our own machinery
        reals = dict(zip(suspects, runs, strict=True))
        suspects = [i for i in suspects if not same(sims[i] or [], reals[i])]
        if not settle:
            before = reals
    for i in suspects:
        found[i] = before[i] == reals[i] or not same(orderless(sims[i] or []), orderless(reals[i]))
    return found


def shrink(runner: Runner, program: Program, which_differ: Callable[[Runner, Sequence[Program]], list[bool]] = which_differ) -> Program:
    """Leave out calls, then make arguments plainer, as long as the two kernels differ."""
    end = time.monotonic() + SHRINK_SECONDS

    def first_that_differs(candidates: Sequence[Program]) -> Program | None:
        if time.monotonic() > end or not candidates:
            return None
        flags = which_differ(runner, candidates)
        return next((candidate for candidate, differs in zip(candidates, flags, strict=True) if differs), None)

    # What comes after the first difference is not needed.
    head = program.with_calls(program.calls[: _first_difference(runner, program)])
    program = first_that_differs([head]) or program
    size = max(len(program.calls) // 2, 1)
    while time.monotonic() < end:
        n = len(program.calls)
        left = _Shorter(runner, program)
        chunks = [frozenset(range(i, min(i + size, n))) for i in range(0, n, size)]
        candidates = [(chunk, candidate) for chunk in chunks for candidate in left.without(chunk)]
        flags = which_differ(runner, [candidate for _, candidate in candidates])
        # Those chunks can go one by one; now as many as can go together.
        good = list(dict.fromkeys(chunk for (chunk, _), differs in zip(candidates, flags, strict=True) if differs))
        together: list[Program] = []
        k = len(good)
        while k:
            together += left.without(frozenset().union(*good[:k]))
            k //= 2
        shorter = first_that_differs(together)
        if shorter is not None:
            program = shorter
            size = max(min(size, len(program.calls) // 2), 1)
        elif size == 1:
            break
        else:
            size //= 2
    if program.observe:
        program = first_that_differs([Program(program.calls, False, program.tasks, program.kind)]) or program
    for i in range(len(program.calls)):
        calls = program.calls
        program = first_that_differs([program.with_calls((*calls[:i], c, *calls[i + 1 :])) for c in _plainer(calls[i])]) or program
    return program


def _first_difference(runner: Runner, program: Program) -> int:
    """How many calls there are up to the first whose results differ."""
    pairs = zip(on_sim(runner, program), on_linux(runner, [program], settle=True)[0], strict=False)
    return next((i + 1 for i, (sim, real) in enumerate(pairs) if sim != real), len(program.calls))


class _Shorter:
    """A program with calls left out: as it is, and with the fds renumbered that come after those no longer opened."""

    def __init__(self, runner: Runner, program: Program) -> None:
        self.program = program
        self.skip = 1 if program.tasks else 0
        results = on_sim(runner, program)
        self.outcomes: list[Any] = [result[0] for result in results] if len(results) > len(program.calls) else [None] * len(program.calls)
        self.opened = [_opened(call[self.skip :], outcome, self.skip) for call, outcome in zip(program.calls, self.outcomes, strict=False)]

    def without(self, left_out: frozenset[int]) -> list[Program]:
        """The candidates."""
        plain = [call for i, call in enumerate(self.program.calls) if i not in left_out]
        renumbered = self._shifted(left_out) if self.program.tasks else self._replayed(left_out)
        both = [self.program.with_calls(plain)]
        if renumbered != plain:
            both.append(self.program.with_calls(renumbered))
        return both

    def _shifted(self, left_out: frozenset[int]) -> list[Call]:
        """Each fd is lower by the number of those below it that are no longer opened."""
        gone: list[int] = []
        calls: list[Call] = []
        for i, call in enumerate(self.program.calls):
            if i in left_out:
                gone += self.opened[i]
                continue
            new = {fd: max(fd - sum(other < fd for other in gone), 3) for fd in FDS}
            calls.append((*call[: self.skip], *renumber(call[self.skip :], new)))
        return calls

    def _replayed(self, left_out: frozenset[int]) -> list[Call]:
        """Each fd is what the fake kernel gives in its place."""
        calls: list[Call] = []

        def main(sys: Syscalls) -> None:
            machine = Machine(sys)
            new: dict[int, int] = {}
            for i, call in enumerate(self.program.calls):
                if i not in left_out:
                    calls.append(renumber(call, new))
                    now = _opened(calls[-1], machine.step(calls[-1]), 0)
                    new.update(zip(self.opened[i], now, strict=False))

        try:
            run(main)
        except Exception:
            return [call for i, call in enumerate(self.program.calls) if i not in left_out]
        return calls


_OPEN_ONE = (
    "socket",
    "eventfd",
    "epoll_create1",
    "dup",
    "dup2",
    "dup3",
    "timerfd_create",
    "memfd_create",
    "open",
    "signalfd",
    "pidfd_open",
)


def _opened(call: Call, outcome: Any, several_tasks: int) -> list[int]:
    """The fds that a call opened."""
    if several_tasks:
        if not isinstance(outcome, list) or len(outcome) != 1:
            return []
        outcome = outcome[0][1]
    if isinstance(outcome, int) and (call[0] in _OPEN_ONE or (call[0] == "fcntl" and call[2] in (F_DUPFD, F_DUPFD_CLOEXEC))):
        return [outcome]
    if call[0] == "accept4" and isinstance(outcome, (list, tuple)):
        return [outcome[0]]
    if call[0] in ("pipe2", "socketpair") and isinstance(outcome, (list, tuple)):
        return list(outcome)
    return []


_AS_IT_IS = ("socket", "socketpair", "bind", "open", "timerfd_settime", "fcntl", "ioctl", "getsockopt", "setsockopt")


def _plainer(call: Call) -> Iterable[Call]:
    """The call with one number in it made smaller or rounder: sizes, flags, events."""
    name = call[1] if isinstance(call[0], int) else call[0]
    first = 2 if isinstance(call[0], int) else 1
    if name in _AS_IT_IS:
        return
    for i in range(first, len(call)):
        arg = call[i]
        if not isinstance(arg, int) or i == first or i - first in FD_PLACES.get(name, ()):
            continue
        if name == "epoll_ctl" and i == first + 3:
            options = [EPOLLIN, EPOLLOUT, *(arg & ~bit for bit in (EPOLLET, EPOLLONESHOT) if arg & bit)]
        elif name == "epoll_ctl":
            continue
        else:
            # (recv of 0 bytes, where it may sleep, is a difference of its own: see known.py.)
            options = [1, 8, 100] if first == 2 else [0, 1, 8, 100]
        for option in options:
            if option != arg and (abs(option) < abs(arg) or name == "epoll_ctl"):
                yield (*call[:i], option, *call[i + 1 :])


def story(program: Program, sim: Sequence[Result], real: Sequence[Result]) -> str:
    """A program that differs, call by call."""
    lines: list[str] = []
    if len(sim) == 1 and isinstance(sim[0], str):
        lines.append(f"  !! sim: {sim[0]}")
        sim = list(sim) * len(real)
    for i, call in enumerate([*program.calls, ("end",)]):
        if i >= len(real) or i >= len(sim):
            break
        who = ""
        if isinstance(call[0], int):
            who, call = ("setup " if call[0] == SETUP else f"task {call[0]} "), call[1:]
        mark = "  " if sim[i] == real[i] else "!!"
        lines.append(f"  {mark} {who}{call[0]}({', '.join(map(repr, call[1:]))})")
        if sim[i] == real[i]:
            lines.append(f"         both  {show(real[i])}"[:400])
        else:
            lines += [f"         sim   {show(sim[i])}"[:400], f"         linux {show(real[i])}"[:400]]
    return "\n".join(lines)


def show(result: Result) -> str:
    """A result in one line."""
    if isinstance(result, tuple) and len(result) == 2:
        return f"{result[0]}" + (f"   {result[1]}" if result[1] is not None else "")
    return str(result)
