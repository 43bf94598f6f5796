"""Exploration: examples until one fails, and the smallest run that fails in the same way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hypothesis import strategies as st

from simkernel.kernel.choice import Tape
from simkernel.testing.example import Example
from simkernel.testing.shrink import shrink
from simkernel.testing.strategies import BATCH, Outcome, Strategy, Try, make_strategy, run_batch

# Fixed-size chunks: Hypothesis draws and shrinks them far faster than single bytes or integers.
CHUNK = 64
CHUNKS = 16


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


@dataclass(frozen=True)
class Found:
    """A failing run: its kind, the smallest tape that shows it, and which example it was (from 1)."""

    kind: str
    tape: bytes
    example: int


class Runner(Protocol):
    """Who runs batches of tries: this process, or others."""

    def run(self, batches: Sequence[Sequence[Try]], seen: frozenset[int] | None) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in order.  Whoever has heard enough closes the iterator."""
        ...


class Here:
    """Runs tries in this process, one after the other, until ``tick(n)``, called before example n, returns something true."""

    def __init__(self, example: Example, tick: Callable[[int], object]) -> None:
        self._example = example
        self._tick = tick

    def run(self, batches: Sequence[Sequence[Try]], seen: frozenset[int] | None) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in their order; ``seen`` are the pairs that count as covered already, None: nobody looks."""
        for batch in batches:
            yield run_batch(self._example, batch, seen, self._tick)


@dataclass
class Search:
    """How far an exploration got: examples that ran, the failure with the lowest number, as it was found; whether it was told to stop.

    ``kept`` are tapes that covered something new, ``fixed`` those of the known ones that no longer fail.
    """

    ran: int = 0
    found: Found | None = None
    stopped: bool = False
    kept: list[bytes] = field(default_factory=list)
    fixed: list[bytes] = field(default_factory=list)


def search(
    strategy: Strategy, runner: Runner, stop: Callable[[], bool] = lambda: False, progress: Callable[[Search], None] | None = None
) -> Search:
    """Run the strategy's tries until one fails, none is left, or ``stop()`` is true.  ``progress`` is called after each batch."""
    out = Search()
    while out.found is None and not out.stopped and (tries := strategy.generation()):
        by_number = {one.number: one for one in tries}
        batches = [tries[at : at + BATCH] for at in range(0, len(tries), BATCH)]
        for outcomes in runner.run(batches, frozenset(strategy.pairs) if strategy.covers else None):
            for outcome in outcomes:
                out.ran += 1
                if outcome.kind:
                    out.found = Found(outcome.kind, outcome.tape, outcome.number)
                    break
                one = by_number[outcome.number]
                if one.how == "tape":
                    out.fixed.append(one.tape)
                tape = strategy.learn(one, outcome)
                if tape is not None and one.how != "tape":
                    out.kept.append(tape)
            if progress is not None:
                progress(out)
            if out.found is not None:
                break
        out.stopped = stop()
    return out


def explore(
    example: Example,
    examples: int,
    seed: int,
    tick: Callable[[int], object],
    strategy: str = "portfolio",
    preemptions: int | None = None,
) -> Found | None:
    """Up to ``examples`` runs until one fails, then its shrinking.  ``tick(n)`` is called before the nth run.

    ``strategy``: "portfolio", "random", "pct" or "exhaustive", that one with up to ``preemptions`` preemptions.
    """
    found = search(make_strategy(strategy, seed, examples, preemptions=preemptions), Here(example, tick)).found
    return smallest(example, found) if found is not None else None


def smallest(example: Example, found: Found, stop: Callable[[], bool] | None = None) -> Found:
    """What was found, with the fewest calls."""
    return Found(found.kind, shrink(example, found.tape, found.kind, stop), found.example)
