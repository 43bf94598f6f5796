"""The kinds of programs."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simkernel.conform.blocking import SignalGenerator, TaskGenerator, TimerGenerator, make_tasks
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


def _of_tasks(name: str, length: int, style: type[TaskGenerator]) -> Maker:
    def make(dice: Dice, tally: Tally, missing: "Counter[str]") -> tuple[Program, list[Result], "Counter[str]"]:
        return make_tasks(dice, length, families(), tally, missing, style, name)

    return make


BLOCKING: Final = "two to five tasks in one to three processes, which block: who wakes, in which order, with what"
SIGNALS: Final = "one to three processes, which block and send each other signals"
TIMERS: Final = "two or three tasks, which block with time limits"

KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("calls", "one task that never blocks", _calls, play_calls, 100),
        Kind("blocking", BLOCKING, _of_tasks("blocking", 30, TaskGenerator), play_tasks, 40),
        Kind("signals", SIGNALS, _of_tasks("signals", 30, SignalGenerator), play_tasks, 40),
        Kind("timers", TIMERS, _of_tasks("timers", 20, TimerGenerator), play_tasks, 8),
    )
}
"""The kinds by their names."""
