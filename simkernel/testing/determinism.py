"""Whether two runs of one tape are the same run, and where they part if they are not.

Everything that the machine decides is on the tape.  If a run differs all the same, the program itself decides by something else: the order
of a set, id() or hash(), the real clock, a random number, or what an earlier run left behind in a global.
"""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from simkernel.kernel.choice import Choice, Recording, Tape
from simkernel.kernel.trace import Trace
from simkernel.testing.example import Example, Failure
from simkernel.testing.explain import Calls

KIND = "nondeterminism"
CAUSES = (
    "something that is not on the tape decides: the order of a set, id() or hash(), the real clock, random numbers, "
    "or what an earlier run left in a global"
)


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two traces part: the number of the event, the step it belongs to, and what each run did there."""

    seq: int
    step: int
    first: str
    second: str

    def __str__(self) -> str:
        return f"part at step {self.step}: {self.first} against {self.second}"


def parting(a: Trace, b: Trace, harness: int = 1) -> Parting | None:
    """The first event in which two traces differ, in all but its place in a file; None when they are equal.  As digest() compares."""
    for seq, (mine, yours) in enumerate(zip_longest(a.events, b.events)):
        if mine is None or yours is None or _essence(mine) != _essence(yours):
            step = max(Calls(trace, harness).step_at(seq) for trace in (a, b))
            first, second = (_show(trace, seq) for trace in (a, b))
            return Parting(seq, step, first, second)
    return None


def _essence(event: tuple[Any, ...]) -> tuple[Any, ...]:
    return event[:5] if event[1] == "sys_enter" else event


def _show(trace: Trace, seq: int) -> str:
    """What a run does at event ``seq``: its system call there with result and place, or what the machine does within one."""
    if seq >= len(trace):
        return "the end of the run"
    calls = Calls(trace, harness=0).by_enter
    (_t, pid, _ctx), ev, fn, _code, _lasti, cause, fields = trace.event(seq)
    if ev in ("sys_enter", "sys_exit"):
        return f"[{pid}] {calls[seq if ev == 'sys_enter' else fields[1]].show()}"
    inside = f"{ev} in {fn} ({', '.join(f'{k} {v}' for k, v in zip(fields[::2], fields[1::2], strict=True))})"
    while cause >= 0 and cause not in calls:
        cause = trace.event(cause)[5]
    return f"{inside} after [{calls[cause].pid}] {calls[cause].show()}" if cause >= 0 else inside


def failure_of(found: Parting, said: str, tape: bytes, trace: Trace) -> Failure:
    """A Failure of kind "nondeterminism".  ``said`` is what was seen of the run otherwise."""
    short = tape.rstrip(b"\0")
    name = f"{short[:12].hex()}{'...' if len(short) > 12 else ''} ({len(short)} bytes)" if short else "without choices"
    failure = Failure(KIND, f"the two runs of tape {name} {found}", "sim", trace=trace)
    failure.calls = found.step
    failure.end = found.seq + 1
    failure.explanation = [
        f"two runs of one tape part at step {found.step}",
        f"  once   {found.first}",
        f"  again  {found.second}",
        f"  {CAUSES}",
    ]
    if said:
        failure.explanation.append(f"  {said}")
    return failure


def confirmed(example: Example, tape: bytes, kind: str, harness: int = 1) -> Failure:
    """The failure that ``tape`` shows, run twice with a trace: as it is if both runs are equal, else as one of kind "nondeterminism".

    ``kind`` is what exploration saw; a run that no longer shows it is not the run that was seen.
    """
    traces = Trace(), Trace()
    failures = [example(Tape(tape), trace) for trace in traces]
    found = parting(*traces, harness)
    if found is not None:
        seen = [f"{f.kind}: {f.message}" if f is not None else "nothing wrong" for f in failures]
        return failure_of(found, f"exploration saw: {kind}; then: {seen[0]}; then: {seen[1]}", tape, traces[0])
    if failures[0] is None or failures[1] is None:
        message = f"a run of the tape showed {kind}, and two runs later did not, call by call alike"
        failure = Failure(KIND, message, "sim", trace=traces[0])
        failure.explanation = [message, f"  {CAUSES}"]
        return failure
    return failures[0]


class Sampled:
    """An example whose passing runs number 1, 4, 16, 64 ... are run twice more and compared; until the first one that fails.

    If two runs of one tape differ, it fails from there on with that ``parted``, so that exploration ends; ``tape`` are the choices.
    The sample costs a few runs, however many there are.
    """

    def __init__(self, example: Example, harness: int = 1) -> None:
        self.example = example
        self.harness = harness
        self.runs = 0
        self.next_sample = 1
        self.failed = False
        self.parted: Failure | None = None
        self.tape = b""

    def __call__(self, choice: Choice, trace: Trace | None = None) -> Failure | None:
        if self.parted is not None:
            return self.parted
        if self.failed or trace is not None or choice.plain:
            return self.example(choice, trace)
        self.runs += 1
        if self.runs != self.next_sample:
            failure = self.example(choice)
            self.failed = failure is not None
            return failure
        self.next_sample *= 4
        recording = Recording(choice)
        failure = self.example(recording)
        if failure is not None:
            self.failed = True
            return failure
        tape = recording.tape()
        traces = Trace(), Trace()
        for each in traces:
            self.example(Tape(tape), each)
        found = parting(*traces, self.harness)
        if found is not None:
            self.tape = tape
            self.parted = failure_of(found, "", tape, traces[0])
        return self.parted
