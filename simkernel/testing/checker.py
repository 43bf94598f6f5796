"""The check: run a server against its contract over many schedules, shrink what fails, and tell its story."""

import contextlib
import gc
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis.database import ExampleDatabase

from simkernel.kernel.choice import Seeded
from simkernel.testing.campaign import Interrupted, Interrupts, Job, Store, campaign
from simkernel.testing.contracts import Contract, Echo
from simkernel.testing.determinism import Sampled, confirmed
from simkernel.testing.escapes import kinds_of, no_escape
from simkernel.testing.example import Failure, run_linux, sim_example
from simkernel.testing.replay import Token
from simkernel.testing.scenario import Serve
from simkernel.testing.worlds import no_last_words

# How many examples on the real kernel, unless told otherwise.
LINUX_EXAMPLES = 20
# Containers made, less those that have gone, from one collection of garbage to the next.
GC_THRESHOLD = 5_000


@dataclass
class Report:
    """What a check found: ``ok``, or a ``failure``; how many examples ran on each kernel, and in how many seconds.

    ``covered``: different pairs of calls and their results that were seen (the portfolio counts them); ``proofs``: what was proved, in
    words; ``interrupted``: it ended before its time.
    """

    target: str
    contract: str
    examples: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    covered: int = 0
    proofs: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return self.failure is None

    def rate(self, kernel: str) -> float | None:
        """Examples a second on ``kernel``, "sim" or "linux"; None if none ran, or if the time was spent on a failure as well."""
        seconds = self.seconds.get(kernel, 0.0)
        if not seconds or (self.failure is not None and self.failure.on == kernel):
            return None
        return self.examples[kernel] / seconds

    @property
    def ratio(self) -> float | None:
        """How many examples the fake kernel ran while the real one ran one; None unless both did."""
        sim, linux = self.rate("sim"), self.rate("linux")
        return sim / linux if sim is not None and linux is not None else None

    def as_dict(self) -> dict[str, Any]:
        """The report in plain values, for --json."""
        out: dict[str, Any] = {
            "target": self.target,
            "contract": self.contract,
            "ok": self.ok,
            "examples": self.examples,
            "seconds": {k: round(v, 3) for k, v in self.seconds.items()},
            "rates": {k: round(rate, 1) for k in self.examples if (rate := self.rate(k)) is not None},
            "covered": self.covered,
            "proofs": self.proofs,
            "interrupted": self.interrupted,
        }
        if self.ratio is not None:
            out["ratio"] = round(self.ratio, 1)
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
    profile: str = "linux",
    allow_real: bool | Collection[str] = (),
    strategy: str = "portfolio",
    preemptions: int | None = None,
    executor: Executor | None = None,
    database: ExampleDatabase | str | Path | None = None,
) -> Report:
    """Check that ``serve(sys, listener, stop)`` keeps its contract (default: Echo).

    ``examples`` schedules on the fake kernel; on the real one ``linux_examples`` (default: 20, or fewer if ``examples`` is).  ``on`` is
    "sim", "linux" or "both".  ``profile`` is what the fake kernel may do: "linux", "network" or "posix".  ``seed`` chooses other
    examples.  ``progress(kernel, done, total)`` is called as it goes.
    ``strategy`` is how examples are chosen: "portfolio" (a bit of each), "random", "pct" (priorities), or "exhaustive" (every schedule with
    at most ``preemptions`` preemptions, plan by plan).  ``executor``, any of concurrent.futures, runs the examples; the server must then be
    a function of a file, and the report is the same.  ``database``, a Hypothesis ExampleDatabase or a directory, keeps failures and what
    covers something new; the next check begins with them.
    A server that is written on Python's own modules (sockets, clocks, locks, event loops) runs in a world on the fake kernel (worlds.py).
    What it uses of the real world all the same raises Escape; ``allow_real`` names the kinds of escapes.py that
    are meant, or is True.
    The report has ``ok`` and ``failure`` (kind, message, token, trace, story()).  Interrupted, a KeyboardInterrupt, has it as far as it is.
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

        def tick(ran: int) -> None:
            out.examples["sim"] = ran
            if progress is not None:
                progress("sim", ran, examples)

        example = sim_example(serve, contract, profile, kinds_of(allow_real))
        with no_escape(allow_real), Interrupts() as stop, no_last_words(), cheap_collections():
            sampled = Sampled(example)
            result = campaign(
                sampled,
                examples,
                seed,
                tick,
                strategy=strategy,
                preemptions=preemptions,
                executor=executor,
                job=Job.of(serve, target, contract, profile, kinds_of(allow_real)) if executor is not None else None,
                store=Store.at(database, target, contract.name, profile) if database is not None else None,
                stop=stop,
            )
            out.examples["sim"] = result.ran
            out.covered, out.proofs, out.interrupted = result.covered, result.proofs, result.stopped
            if (found := result.found) is not None:
                tape = found.tape if sampled.parted is None else sampled.tape
                out.failure = sampled.parted or confirmed(example, tape, found.kind)
                out.failure.example = found.example
                out.failure.token = str(Token(target, contract.name, tape, profile))
        out.seconds["sim"] = time.perf_counter() - began
        if out.interrupted:
            raise Interrupted(out)
    if on in ("linux", "both") and out.ok:
        began = time.perf_counter()
        total = linux_examples if linux_examples is not None else min(examples, LINUX_EXAMPLES)
        choice = Seeded(seed)
        for done in range(total):
            if progress is not None:
                progress("linux", done, total)
            out.examples["linux"] = done + 1
            try:
                out.failure = run_linux(serve, contract, contract.plans(choice))
            except KeyboardInterrupt:
                out.interrupted = True
                raise Interrupted(out) from None
            if out.failure is not None:
                out.failure.example = done + 1
                break
        out.seconds["linux"] = time.perf_counter() - began
    return out


@contextlib.contextmanager
def cheap_collections() -> Iterator[None]:
    """Garbage is collected seldom, and only among what the examples leave behind, which is some hundred objects each.

    Otherwise the collector goes several times in each example through what lives on anyway.
    """
    if gc.get_freeze_count():
        # Somebody has arrangements of their own.
        yield
        return
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(max(before[0], GC_THRESHOLD) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def target_of(serve: Serve) -> str:
    """``path:function`` of a server, as a token names it; "" when it has no file."""
    code = getattr(serve, "__code__", None)
    if code is None or not Path(code.co_filename).is_file():
        return ""
    path = Path(code.co_filename)
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{code.co_name}"
