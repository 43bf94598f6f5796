"""Where a generator's choices come from: a seed, or a tape of bytes that Hypothesis draws and shrinks."""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Choices made of one function that returns a float from 0 up to, not including, 1.  With 0 each choice is its first and plainest."""

    __slots__ = ("random",)

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random

    def below(self, n: int) -> int:
        """One of range(n)."""
        return int(self.random() * n)

    def pick(self, things: Sequence[T]) -> T:
        """One of the things."""
        return things[int(self.random() * len(things))]

    def chance(self, p: float) -> bool:
        """True with probability ``p``."""
        return self.random() >= 1 - p


def seeded(*seed: object) -> Dice:
    """Dice from a seed of any printable parts: the same on every machine."""
    return Dice(Random("/".join(map(str, seed))).random)


def taped(tape: bytes) -> Dice:
    """Dice that read two bytes a choice, and zeros past the end of the tape."""
    draws = iter([(tape[i] << 8 | tape[i + 1]) / 65536 for i in range(0, len(tape) - 1, 2)])
    return Dice(lambda: next(draws, 0.0))
