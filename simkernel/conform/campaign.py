"""A comparison of many programs: batches, spread over worker processes, the same by seed whatever their number."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from simkernel.conform.compare import Runner, judge, on_linux, on_sim, shrink, story
from simkernel.conform.dice import seeded
from simkernel.conform.generate import Tally
from simkernel.conform.kinds import KINDS
from simkernel.conform.program import Program, Result
from simkernel.conform.text import as_test
from simkernel.errors import Timeout

MOST_DIVERGENCES = 10
"""A campaign ends when it has found so many."""
MOST_IN_A_BATCH = 2
"""So many of a batch are shrunk; the others are only counted."""

Progress = Callable[[int, int, float], None]
"""Called with (calls, programs, seconds) now and then."""


@dataclass
class Divergence:
    """A program on which the two kernels differ: its story call by call, and a test to paste."""

    kind: str
    seed: int
    index: int
    calls: int
    story: str
    test: str


@dataclass
class Report:
    """What was compared.  ``tally`` counts outcomes by (call, type of file, outcome), ``unsupported`` calls by why they were left out."""

    seed: int
    kinds: tuple[str, ...]
    calls: int = 0
    programs: int = 0
    seconds: float = 0.0
    wavered: int = 0
    differed: int = 0
    known: Counter[str] = field(default_factory=Counter)
    divergences: list[Divergence] = field(default_factory=list)
    tally: Tally = field(default_factory=dict)
    unsupported: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, list[int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no divergence was found."""
        return not self.differed

    def add(self, other: "Report") -> None:
        """Add what a batch found."""
        self.calls += other.calls
        self.programs += other.programs
        self.wavered += other.wavered
        self.differed += other.differed
        self.known.update(other.known)
        self.divergences += other.divergences
        self.unsupported.update(other.unsupported)
        for key, n in other.tally.items():
            self.tally[key] = self.tally.get(key, 0) + n
        for kind, (calls, programs) in other.by_kind.items():
            sums = self.by_kind.setdefault(kind, [0, 0])
            sums[0] += calls
            sums[1] += programs

    def summary(self) -> str:
        """The last line."""
        rate = self.calls / self.seconds if self.seconds else 0
        return (
            f"{self.calls} calls compared, {self.programs} programs, {self.seconds:.1f} s, {rate:.0f} calls/s, "
            f"{self.differed} divergences, {self.wavered} wavered, {self.known['delayed-ack']} known"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ok": self.ok, "seed": self.seed, "kinds": list(self.kinds), "calls": self.calls, "programs": self.programs,
            "seconds": round(self.seconds, 3), "calls_per_second": round(self.calls / self.seconds) if self.seconds else 0,
            "divergences": self.differed, "wavered": self.wavered, "known": dict(sorted(self.known.items())),
            "by_kind": {kind: {"calls": calls, "programs": programs} for kind, (calls, programs) in sorted(self.by_kind.items())},
            "unsupported": dict(sorted(self.unsupported.items())),
            "found": [vars(divergence) for divergence in self.divergences],
        }  # fmt: skip


def run_batch(name: str, seed: int, index: int) -> Report:
    """Make and compare one batch of programs."""
    kind = KINDS[name]
    report = Report(seed, (name,))
    made: list[tuple[int, Program, list[Result]]] = []
    for i in range(index * kind.batch, (index + 1) * kind.batch):
        tally: Tally = {}
        program, sim, known = kind.make(seeded(seed, name, i), tally, report.unsupported)
        if not program.calls:
            continue
        made.append((i, program, sim))
        report.known.update(known)
        for key, n in tally.items():
            report.tally[key] = report.tally.get(key, 0) + n
    for (i, program, sim), real in zip(made, _all_on_linux(kind.runner, [program for _, program, _ in made]), strict=True):
        if real is None:
            report.wavered += 1
            continue
        report.calls += len(program.calls)
        report.programs += 1
        if sim == real:
            continue
        verdict = judge(kind.runner, program, sim, real)
        if verdict.kind == "wavers":
            report.wavered += 1
        elif verdict.kind == "known":
            report.known["delayed-ack"] += 1
        elif verdict.kind == "differs":
            found = explain(name, program, seed, i) if len(report.divergences) < MOST_IN_A_BATCH else None
            if found is not None and "!!" not in found.story:
                report.wavered += 1  # it did not show again
                continue
            report.differed += 1
            if found is not None:
                report.divergences.append(found)
    report.by_kind[name] = [report.calls, report.programs]
    return report


def _all_on_linux(runner: Runner, programs: list[Program]) -> list[list[Result] | None]:
    """Linux's results; where the run of all fails, those of each by itself, and None for one that did not come to an end twice."""
    try:
        return list(on_linux(runner, programs))
    except (Timeout, RuntimeError):
        if len(programs) == 1:
            return [None]
    return [result for program in programs for result in _all_on_linux(runner, [program])]


def explain(name: str, program: Program, seed: int, index: int) -> Divergence:
    """Shrink a program that differs, and tell its story."""
    runner = KINDS[name].runner
    program = shrink(runner, program)
    sim = on_sim(runner, program)
    real = on_linux(runner, [program], settle=True)[0]
    raw = real if program.tasks else on_linux(runner, [program], settle=True, raw=True)[0]
    return Divergence(
        name, seed, index, len(program.calls), story(program, sim, real), as_test(f"{name}_{seed}_{index}", program, sim, real, raw)
    )


def campaign(
    kinds: Sequence[str],
    seed: int = 0,
    calls: int | None = None,
    programs: int | None = None,
    seconds: float | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Compare programs of the kinds in turn until one of the limits is reached, or MOST_DIVERGENCES were found."""
    report = Report(seed, tuple(kinds))
    start = time.monotonic()

    def late() -> bool:
        return seconds is not None and time.monotonic() - start >= seconds

    def enough() -> bool:
        full = calls is not None and report.calls >= calls
        return full or (programs is not None and report.programs >= programs) or report.differed >= MOST_DIVERGENCES

    for found in _batches(kinds, seed, workers, late, enough):
        report.add(found)
        report.seconds = time.monotonic() - start
        if progress is not None:
            progress(report.calls, report.programs, report.seconds)
    report.seconds = time.monotonic() - start
    return report


def _batches(kinds: Sequence[str], seed: int, workers: int, late: Callable[[], bool], enough: Callable[[], bool]) -> Iterator[Report]:
    """The batches' reports in order.  ``enough`` looks at what was yielded; what was begun beyond it is thrown away."""
    n = 0
    if workers <= 1:
        while not late() and not enough():
            yield run_batch(kinds[n % len(kinds)], seed, n // len(kinds))
            n += 1
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        running: dict[int, Future[Report]] = {}
        done = 0
        while True:
            while not late() and not enough() and len(running) < 2 * workers:
                running[n] = pool.submit(run_batch, kinds[n % len(kinds)], seed, n // len(kinds))
                n += 1
            if not running:
                return
            wait([running[done]], return_when=FIRST_COMPLETED)
            yield running.pop(done).result()
            done += 1
            if enough():
                return
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
