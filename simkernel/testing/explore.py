"""Exploration: examples until one fails, and the smallest run that fails in the same way."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, Phase, Verbosity, find, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample

from simkernel.kernel.choice import Tape
from simkernel.testing.example import Example

# Fixed-size chunks: Hypothesis draws and shrinks them far faster than single bytes or integers.
CHUNK = 64
CHUNKS = 16
# Where in a tape the plans are, and the values tried there when a story is shortened.
PLAN_BYTES = 24
PLAN_VALUES = 8


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


def explore(example: Example, examples: int, seed: int, tick: Callable[[int], None]) -> Found | None:
    """Up to ``examples`` runs until one fails, then its shrinking.  ``tick(n)`` is called before the nth run."""
    kind: list[str] = []
    ran = 0
    first = 0
    seen = b""

    def fails(tape: bytes) -> bool:
        nonlocal ran, first, seen
        if not kind:
            ran += 1
            tick(ran)
        failure = example(Tape(tape))
        if failure is None:
            return False
        if not kind:
            kind.append(failure.kind)
            first, seen = ran, tape
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
        except Flaky:
            # What failed does not fail again: the caller finds out why.
            return Found(kind[0], seen, first)
        tape = zero_out(tape, fails)

    return Found(kind[0], shorten(example, tape, kind[0]), first)


def shorten(example: Example, tape: bytes, kind: str) -> bytes:
    """The tape with the shortest story that fails in the same way."""

    def calls(trial: bytes) -> int | None:
        failure = example(Tape(trial))
        return failure.calls if failure is not None and failure.kind == kind else None

    return fewest_calls(tape, calls)


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
