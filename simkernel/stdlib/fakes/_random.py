"""_random: a Random that is not given a seed takes one from the machine, so that the run's choices decide."""

import _random as real
from typing import TYPE_CHECKING, Any

from simkernel.stdlib.here import NoMachine, here

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
SEED_BYTES = 32


class Random(real.Random):
    """random() -> x in the interval [0, 1)."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Random":
        made = super().__new__(cls, 0)  # type: ignore[call-arg]  # typeshed leaves it out
        if cls is Random:
            # Others have an __init__ that seeds.
            made.seed(*args)
        return made

    def seed(self, n: Any = None, /) -> None:
        """Begin anew from ``n``, or from what the machine gives."""
        super().seed(chance() if n is None else n)


Random.__module__ = "_random"


def chance() -> int:
    """A number from the machine; always the same while none runs: a module that is imported then is seeded again when a process begins."""
    return 0 if isinstance(here.sys, NoMachine) else int.from_bytes(here.sys.getrandom(SEED_BYTES), "little")
