"""The check: run a server against its contract over many schedules, shrink what fails, and tell its story."""

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from simkernel import linux
from simkernel.errors import Deadlock, Livelock, SimulationError, Timeout
from simkernel.kernel.choice import Seeded, Tape
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import Task
from simkernel.kernel.trace import Trace
from simkernel.testing.contracts import Contract, Echo, Plan
from simkernel.testing.explain import Calls, explain_spin, explain_stop
from simkernel.testing.replay import Token
from simkernel.testing.scenario import Finding, Serve, crash_text, scenario
from simkernel.tools.strace import strace_lines

# Fixed-size chunks: Hypothesis draws and shrinks them far faster than single bytes or integers.
CHUNK = 64
CHUNKS = 16
# In the simulator: how much virtual time an example may take, and how many calls may pass without progress.
DEADLINE_NS = 600_000_000_000
MAX_STALLED = 600
# On the real kernel: seconds for one example, and how many examples unless told otherwise.
LINUX_TIMEOUT = 20.0
LINUX_EXAMPLES = 20
# Where the servers of a simulated check listen; a shown address then says who is who.
SIM_ADDR = ("127.0.0.1", 9000)
# Where in a tape the plans are, and the values tried there when a story is shortened.
PLAN_BYTES = 24
PLAN_VALUES = 8
# How bad a kind is: when an example shows several, the worst is the failure.
SEVERITY = ("crash", "corruption", "spin", "hang", "leak")


def chunked_tapes(chunks: int = CHUNKS) -> st.SearchStrategy[bytes]:
    """A strategy for tapes' bytes: up to ``chunks`` chunks of 64."""
    return st.lists(st.binary(min_size=CHUNK, max_size=CHUNK), max_size=chunks).map(b"".join)


def tapes(chunks: int = CHUNKS) -> st.SearchStrategy[Tape]:
    """A Hypothesis strategy for choice sources: ``@given(tape=tapes())``, then ``simkernel.run(main, choice=tape)``.

    A Tape is read as it goes, so use each one for one run.
    """
    return chunked_tapes(chunks).map(ShownTape)


class ShownTape(Tape):
    """A Tape that prints as what it is, so a falsifying example can be pasted."""

    __slots__ = ("_shown",)

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        stripped = data.rstrip(b"\0")
        self._shown = stripped

    def __repr__(self) -> str:
        return f"Tape({self._shown!r})"


@dataclass
class Failure:
    """A broken promise: its kind, a line that says what was seen, and how to see it again."""

    kind: str
    message: str
    on: str
    example: int = 0
    calls: int = 0
    token: str = ""
    trace: Trace | None = None
    plans: Sequence[Plan] = ()
    explanation: list[str] = field(default_factory=list)
    # The story ends here: a spin's goes on as it began.
    end: int | None = None

    def story(self) -> list[str]:
        """The run as strace-like text with its wake-ups, without the calls of the check itself (process 1)."""
        if self.trace is None:
            return []
        return [line for line in strace_lines(self.trace, self.end) if " [1] " not in line[:24]]


@dataclass
class Report:
    """What a check found: ``ok``, or a ``failure``; how many examples ran on each kernel, and in how many seconds."""

    target: str
    contract: str
    examples: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return self.failure is None

    def as_dict(self) -> dict[str, Any]:
        """The report in plain values, for --json."""
        out: dict[str, Any] = {
            "target": self.target,
            "contract": self.contract,
            "ok": self.ok,
            "examples": self.examples,
            "seconds": {k: round(v, 3) for k, v in self.seconds.items()},
        }
        f = self.failure
        if f is not None:
            out["failure"] = {
                "kind": f.kind,
                "message": f.message,
                "on": f.on,
                "example": f.example,
                "calls": f.calls,
                "token": f.token,
                "explanation": f.explanation,
                "story": f.story(),
            }
        return out


def worst(findings: Sequence[Finding]) -> Finding | None:
    """The finding to report."""
    known = [f for f in findings if f["kind"] in SEVERITY]
    return min(known, key=lambda f: SEVERITY.index(f["kind"]), default=None)


def run_sim(serve: Serve, contract: Contract, tape: bytes, trace: Trace | None = None) -> Failure | None:
    """One example on the fake kernel.  With a trace the failure has its explanation and story."""
    choice = Tape(tape)
    crashes: list[Finding] = []
    explanation: list[str] = []

    def on_crash(task: Task, error: BaseException) -> None:
        if task.process.comm == "client_main":
            # A client of ours must not fail but by a Violation: that is a bug of the contract, to be seen.
            raise error
        crashes.append({"kind": "crash", "who": f"pid {task.pid}", "message": f"{task.process.comm} died of {crash_text(error)}"})

    end: list[int] = []

    def on_stop(kernel: Kernel) -> None:
        if trace is None:
            return
        if isinstance(kernel.sched.fatal, Livelock):
            lines, last = explain_spin(kernel)
            explanation.extend(lines)
            end.append(last)
        else:
            explanation.extend(explain_stop(kernel))

    kernel = Kernel(choice, trace, deadline_ns=DEADLINE_NS, max_stalled=MAX_STALLED, nofile=(256, 4096), on_crash=on_crash, on_stop=on_stop)
    plans = contract.plans(choice)
    failure: Failure | None = None
    try:
        findings: list[Finding] = kernel.run(scenario, serve, contract, plans, SIM_ADDR)
        if (found := worst([*crashes, *findings])) is not None:
            failure = Failure(found["kind"], found["message"], "sim")
    except Deadlock as error:
        found = worst(crashes)
        if found is not None:
            failure = Failure(found["kind"], found["message"], "sim")
        else:
            failure = Failure("hang", str(error), "sim")
    except Livelock as error:
        failure = Failure("spin", str(error), "sim")
    if failure is not None:
        failure.plans = plans
        failure.explanation = explanation
        # A spin goes on until somebody stops it: what counts is how long it took to get there.
        failure.calls = kernel.sched.calls - (kernel.sched.stalled if failure.kind == "spin" else 0)
        if trace is not None:
            failure.trace = trace
            failure.end = end[0] if end else None
            failure.calls = Calls(trace).step_at(end[0] if end else len(trace))
            if not explanation:
                failure.explanation = [failure.message]
    return failure


def run_linux(serve: Serve, contract: Contract, plans: Sequence[Plan]) -> Failure | None:
    """One example on the real kernel, with a deadline."""
    try:
        findings: list[Finding] = linux.run(scenario, serve, contract, plans, timeout=LINUX_TIMEOUT)
    except Timeout as error:
        text = str(error)
        kind = "spin" if "is running" in text else "hang"
        return Failure(kind, f"not done after {LINUX_TIMEOUT:g} s", "linux", plans=plans, explanation=text.splitlines())
    found = worst(findings)
    if found is None:
        return None
    return Failure(found["kind"], found["message"], "linux", plans=plans, explanation=[found["message"]])


Progress = Callable[[str, int, int], None]


def check(
    serve: Serve,
    contract: Contract | None = None,
    examples: int = 500,
    on: str = "sim",
    seed: int = 0,
    target: str | None = None,
    progress: Progress | None = None,
    linux_examples: int | None = None,
) -> Report:
    """Check that ``serve(sys, listener, stop)`` keeps its contract (default: Echo).

    ``examples`` schedules on the fake kernel; on the real one ``linux_examples`` (default: 20, or fewer if ``examples`` is).  ``on`` is
    "sim", "linux" or "both".  ``seed`` chooses other examples.  ``progress(kernel, done, total)`` is called as it goes.
    The report has ``ok`` and ``failure`` (kind, message, token, trace, story()).
    """
    if on not in ("sim", "linux", "both"):
        raise ValueError(f"on must be 'sim', 'linux' or 'both', not {on!r}")
    if examples < 1:
        raise ValueError(f"examples must be at least 1, not {examples}")
    contract = contract if contract is not None else Echo()
    target = target if target is not None else target_of(serve)
    out = Report(target, contract.name)
    if on in ("sim", "both"):
        began = time.perf_counter()
        out.failure = _explore(serve, contract, examples, seed, target, out, progress)
        out.seconds["sim"] = time.perf_counter() - began
    if on in ("linux", "both") and out.ok:
        began = time.perf_counter()
        total = linux_examples if linux_examples is not None else min(examples, LINUX_EXAMPLES)
        choice = Seeded(seed)
        for done in range(total):
            if progress is not None:
                progress("linux", done, total)
            out.examples["linux"] = done + 1
            out.failure = run_linux(serve, contract, contract.plans(choice))
            if out.failure is not None:
                out.failure.example = done + 1
                break
        out.seconds["linux"] = time.perf_counter() - began
    return out


def _explore(
    serve: Serve, contract: Contract, examples: int, seed: int, target: str, out: Report, progress: Progress | None
) -> Failure | None:
    """Examples from Hypothesis until one fails; then its shrinking, and the story of the smallest."""
    kind: list[str] = []
    ran = 0
    first = 0

    def fails(tape: bytes) -> bool:
        nonlocal ran, first
        if not kind:
            ran += 1
            out.examples["sim"] = ran
            if progress is not None:
                progress("sim", ran, examples)
        failure = run_sim(serve, contract, tape)
        if failure is None:
            return False
        if not kind:
            kind.append(failure.kind)
            first = ran
        return failure.kind == kind[0]

    # The plain run first; Hypothesis then mixes short and long tapes.
    if fails(b""):
        tape = b""
    else:
        try:
            with quiet():
                tape = find(
                    chunked_tapes(),
                    fails,
                    random=Random(seed),
                    settings=settings(
                        max_examples=max(examples - 1, 1),
                        deadline=None,
                        database=None,
                        phases=[Phase.generate, Phase.shrink],
                        suppress_health_check=list(HealthCheck),
                        verbosity=Verbosity.quiet,
                    ),
                )
        except NoSuchExample:
            return None
        tape = zero_out(tape, fails)

    def calls(trial: bytes) -> int | None:
        failure = run_sim(serve, contract, trial)
        if failure is None or failure.kind != kind[0]:
            return None
        return failure.calls

    tape = fewest_calls(tape, calls)
    trace = Trace()
    failure = run_sim(serve, contract, tape, trace)
    if failure is None:
        raise SimulationError(f"the run of tape {tape!r} failed ({kind[0]}) and then did not: the server is not deterministic")
    failure.example = first
    failure.token = str(Token(target, contract.name, tape))
    return failure


def zero_out(tape: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Make a failing tape plainer: halves, then single bytes, to zero, as long as it still fails in the same way."""
    best = bytearray(tape.rstrip(b"\0"))
    size = len(best)
    while size >= 1:
        for start in range(0, len(best), size):
            if any(best[start : start + size]):
                trial = bytearray(best)
                trial[start : start + size] = bytes(len(trial[start : start + size]))
                if fails(bytes(trial)):
                    best = trial
        size //= 2
    return bytes(best).rstrip(b"\0")


def fewest_calls(tape: bytes, calls: Callable[[bytes], int | None]) -> bytes:
    """Shorten the story: other values for the tape's first bytes, where the plans are, as long as it fails with fewer calls."""
    best = tape.ljust(PLAN_BYTES, b"\0")
    least = calls(tape)
    for pos in range(PLAN_BYTES):
        for value in range(PLAN_VALUES):
            if value == best[pos]:
                continue
            trial = best[:pos] + bytes([value]) + best[pos + 1 :]
            n = calls(trial)
            if n is not None and (least is None or n < least):
                best, least = trial, n
    return best.rstrip(b"\0")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hypothesis prints what it found; the report says it better."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def target_of(serve: Serve) -> str:
    """``path:function`` of a server, as a token names it; "" when it has no file."""
    code = getattr(serve, "__code__", None)
    if code is None or not Path(code.co_filename).is_file():
        return ""
    path = Path(code.co_filename)
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{code.co_name}"
