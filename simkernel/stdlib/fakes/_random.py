"""_random: a Random that is not given a seed takes one from the machine, so that the run's choices decide.

One that lives on when its process has ended, since a module made it when it was imported, is seeded again when the next process begins.
"""

import _random as real
import itertools
import weakref
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from simkernel.stdlib.here import NoMachine, here

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
SEED_BYTES: Final = 32
# Those that have their seed from the machine, in the order in which they were made.
_by_chance: dict[int, "weakref.ref[Random]"] = {}
_count = itertools.count()


class Random(real.Random):
    """random() -> x in the interval [0, 1)."""

    _number: int | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> "Random":
        made = super().__new__(cls, 0)  # type: ignore[call-arg]  # typeshed leaves it out
        if cls is Random:
            # Others have an __init__ that seeds.
            made.seed(*args)
        return made

    def seed(self, n: Any = None, /) -> None:
        """Begin anew from ``n``, or from what the machine gives."""
        if n is not None:
            if self._number is not None:
                del _by_chance[self._number]
                self._number = None
        elif self._number is None:
            number = self._number = next(_count)
            _by_chance[number] = weakref.ref(self, lambda gone: _by_chance.pop(number, None))
        super().seed(chance() if n is None else n)


Random.__module__ = "_random"


def chance() -> int:
    """A number from the machine; always the same while none runs: a module that is imported then is seeded again when a process begins."""
    return 0 if isinstance(here.sys, NoMachine) else int.from_bytes(here.sys.getrandom(SEED_BYTES), "little")


def reset() -> None:
    """A new process: each Random that it has already has a state of its own."""
    if _by_chance:
        key = here.sys.getrandom(SEED_BYTES)
        for place, found in enumerate(list(_by_chance.values())):
            kept = found()
            if kept is not None:
                real.Random.seed(kept, int.from_bytes(blake2b(b"%d" % place, key=key).digest(), "little"))
