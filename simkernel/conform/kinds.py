"""The kinds of programs."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simkernel.conform.blocking import make_tasks
from simkernel.conform.compare import Runner, play_calls
from simkernel.conform.dice import Dice
from simkernel.conform.generate import Tally, families, make
from simkernel.conform.program import Program, Result
from simkernel.conform.stage import play_tasks

Maker = Callable[[Dice, Tally, "Counter[str]"], tuple[Program, list[Result], "Counter[str]"]]


@dataclass(frozen=True)
class Kind:
    """``make`` makes a program from dice, and counts in a tally; ``runner`` runs it; ``batch`` programs share one run on Linux."""

    name: str
    what: str
    make: Maker
    runner: Runner
    batch: int


def _calls(dice: Dice, tally: Tally, missing: "Counter[str]") -> tuple[Program, list[Result], "Counter[str]"]:
    return make(dice, 60, (), tally, missing)


def _blocking(dice: Dice, tally: Tally, missing: "Counter[str]") -> tuple[Program, list[Result], "Counter[str]"]:
    return make_tasks(dice, 30, families(), tally, missing)


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("calls", "one task that never blocks", _calls, play_calls, 100),
        Kind(
            "blocking",
            "two to five tasks in one to three processes, which block: who wakes, in which order, with what",
            _blocking,
            play_tasks,
            40,
        ),
    )
}
"""The kinds by their names."""
