"""Shrinking: from a failing run to the one with the fewest calls that fails in the same way.

A run is its recorded choices, each with its label and task.  A shorter run is tried by changing them and running again with each task's
choices in a lane of its own (``Lanes``), so that a client less does not shift the schedule of the others; what that run really chose is
recorded again, and is a tape like any other.  These passes come again and again while they help:

plan      fewer clients, fewer and smaller messages: the choices before the first one about who runs next
schedule  choices after that back to plain, in halves, quarters, and so on
hasten    somebody else sooner, near the end
search    a smaller plan that does not fail with this schedule may fail with another one: a few are tried with each
tiny      once, while the story is long: plain plans but for one or two choices; small worlds show most bugs, and cost next to nothing

Deterministic, and bounded in runs and in calls.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import combinations
from sys import maxsize

from simkernel.errors import Deadlock
from simkernel.kernel.choice import Choice, Plain, Swarm, Tape
from simkernel.kernel.lanes import SCHEDULING, Journal, Lanes, Pick, Record
from simkernel.kernel.pct import Pct
from simkernel.kernel.sched import Sched
from simkernel.kernel.trace import Trace
from simkernel.testing.example import Example

# How many runs shrinking may take, and how many system calls they may make: all of them, those of tiny plans, and those of searches.
RUNS = 3000
CALLS = 300_000
TINY_CALLS = 100_000
SEARCH_CALLS = 60_000
# A run that makes so many times the calls of the best one, and more than so many, will not be better: it is cut off.
TOO_LONG = 2
LEAST = 200
# A story of so many calls is short enough: it ends with the first round that does not help.
SHORT = 25
# One of so many is worth tiny plans at once, before anything is made of it.
LONG = 50
# And so many rounds without a better one are enough for a long one.
FRUITLESS = 2
# Other schedules that are tried for each plan, in a round; a plan with other values of one choice is tried up to this value.
SCHEDULES = 6
OTHER_VALUES = 16
# So many of the last choices about who runs next are tried the other way.
LAST = 12


def shrink(example: Example, tape: bytes, kind: str, stop: Callable[[], bool] | None = None) -> bytes:
    """The tape with the fewest calls that was found to fail with ``kind``, as ``tape`` does.

    It ends early when ``stop()`` is true.

    A tape that does not fail again is given back: the example is not deterministic, and whoever runs it again will say so.
    """
    shrinker = Shrinker(example, kind, stop)
    return shrinker.shrink() if shrinker.attempt(Tape(tape)) else tape


def plan_end(picks: Sequence[Pick]) -> int:
    """How many choices a run makes before the first about who runs next: boot's, and the plans'."""
    return next((i for i, pick in enumerate(picks) if pick.label in SCHEDULING), len(picks))


def lowered(picks: list[Pick], at: int, value: int) -> list[Pick]:
    """The choices with another value at one place."""
    return [*picks[:at], picks[at]._replace(value=value, whom=""), *picks[at + 1 :]]


def without(picks: list[Pick], parent: str, number: int) -> list[Pick]:
    """The choices without those of one child of a process, and of its descendants; the children born after it move up."""
    gone = f"{parent}.{number}"

    def renamed(name: str) -> str:
        if not name.startswith(parent + "."):
            return name
        child, dot, rest = name[len(parent) + 1 :].partition(".")
        child, thread, of = child.partition("t")
        return f"{parent}.{int(child) - 1}{thread}{of}{dot}{rest}" if int(child) > number else name

    def of_gone(name: str) -> bool:
        return name == gone or name.startswith((gone + ".", gone + "t"))

    kept = (pick for pick in picks if not of_gone(pick.who))
    return [
        pick._replace(
            who=renamed(pick.who), whom="" if of_gone(pick.whom) else renamed(pick.whom), value=0 if of_gone(pick.whom) else pick.value
        )
        for pick in kept
    ]


def parts(picks: Sequence[Pick], end: int) -> tuple[int, list[int]] | None:
    """Where a plan says how many parts it has (clients), and where each of them begins.

    That is a choice, followed by one choice of the next label for 0, two for 1, and so on.  None, if the plan is not made so.
    """
    for count in range(end - 1):
        label = picks[count + 1].label
        begins = [i for i in range(count + 1, end) if picks[i].label == label]
        if picks[count].value and len(begins) == picks[count].value + 1 and picks[count].label != label:
            return count, begins
    return None


def keep_parts(picks: list[Pick], end: int, kept: Collection[int]) -> list[Pick]:
    """The choices with only these parts of the plan, and without the tasks of the others.

    Process 1 makes the clients last, so they are the last of its children.
    """
    found = parts(picks, end)
    assert found is not None
    count, begins = found
    ends = [*begins[1:], end]
    born = max((int(name) for name in (pick.who[2:] for pick in picks if pick.who.startswith("1.")) if name.isdigit()), default=0)
    plan = lowered(picks, count, len(kept) - 1)[: begins[0]]
    schedule = picks[end:]
    for number in reversed(range(len(begins))):
        if number in kept:
            continue
        if born >= len(begins):
            schedule = without(schedule, "1", born - len(begins) + number + 1)
    for number, (begin, after) in enumerate(zip(begins, ends, strict=True)):
        if number in kept:
            plan += picks[begin:after]
    return plan + schedule


def fewer_parts(picks: list[Pick], end: int) -> Iterator[list[Pick]]:
    """Choices with one part of the plan alone, with one half, with one quarter left out, and so on down to one left out."""
    found = parts(picks, end)
    if found is None:
        return
    n = len(found[1])
    for number in range(n):
        yield keep_parts(picks, end, [number])
    size = n // 2
    while size:
        for at in range(0, n, size):
            kept = [number for number in range(n) if not at <= number < at + size]
            if len(kept) > 1:
                yield keep_parts(picks, end, kept)
        size //= 2


def smaller_plans(picks: list[Pick], end: int) -> Iterator[list[Pick]]:
    """Choices with a smaller plan: each value of it lower, and one less of what is chosen several times in a row after how many it is."""
    for i in range(end):
        value = picks[i].value
        for lower in dict.fromkeys((0, value // 2, value - 1)):
            if 0 <= lower < value:
                yield lowered(picks, i, lower)
    for i in range(1, end):
        count = i - 1
        while count >= 0 and picks[count].label == picks[i].label:
            count -= 1
        if count >= 0 and picks[count].value and i + 1 < end and picks[i + 1].label == picks[i].label:
            less = lowered(picks, count, picks[count].value - 1)
            yield less[:i] + less[i + 1 :]


def tiny_plans(plain: list[Pick]) -> Iterator[list[Pick]]:
    """The plain plan with another value for one choice, then with others for two."""
    others = [(i, value) for i, pick in enumerate(plain) for value in range(1, min(pick.n, OTHER_VALUES))]
    for i, value in others:
        yield lowered(plain, i, value)
    for at, (i, value) in enumerate(others):
        for j, other in others[at + 1 :]:
            if i != j:
                yield lowered(lowered(plain, i, value), j, other)


def bare_plans(picks: list[Pick], end: int) -> Iterator[list[Pick]]:
    """One or two parts of the plan alone, without a schedule: of each only its first choice, the others plain; and then as they are."""
    found = parts(picks, end)
    if found is None:
        return
    count, begins = found
    bare = [pick if i <= count or i in begins else pick._replace(value=0) for i, pick in enumerate(picks[:end])]
    seen = set()
    for plan in (bare, picks[:end]):
        for few in (1, 2):
            for kept in combinations(range(len(begins)), few):
                tiny = keep_parts(plan, end, kept)
                values = tuple(pick.value for pick in tiny)
                if values not in seen:
                    seen.add(values)
                    yield tiny


def other_plans(picks: list[Pick], end: int) -> Iterator[list[Pick]]:
    """The choices with another value for one of the plan's: a smaller number is not always the shorter story."""
    for i in range(end):
        for value in range(min(picks[i].n, OTHER_VALUES)):
            if value > picks[i].value:
                yield lowered(picks, i, value)


class Limited(Choice):
    """Another source, which ends a run that makes more than ``most`` calls; ``cut`` says that it did."""

    __slots__ = ("_sched", "_source", "cut", "most")

    def __init__(self, source: Choice, most: int) -> None:
        self._source = source
        self._sched: Sched | None = None
        self.most = most
        self.cut = False

    def bind(self, sched: Sched) -> None:
        self._sched = sched
        self._source.bind(sched)

    def pick(self, n: int, label: str) -> int:
        # This one is asked by a task that calls, which can be stopped there.
        if label == "preempt" and self._sched is not None and self._sched.calls > self.most:
            self.cut = True
            self._sched.stop(Deadlock("longer than the best run"))
        return self._source.pick(n, label)


class Shrinker:
    """One shrinking: the best run so far, and what it took."""

    def __init__(self, example: Example, kind: str, stop: Callable[[], bool] | None = None) -> None:
        self._example = example
        self._kind = kind
        self._search = SEARCH_CALLS
        self._stop = stop
        self._seed = 0
        self.ran = 0
        # What all runs have called, and what one may.
        self._calls = 0
        self._most = maxsize
        self._tried: set[bytes] = set()
        self._best: list[Pick] = []
        self._key: tuple[int, ...] | None = None

    def shrink(self) -> bytes:
        """All passes until none of them helps, or no run is left."""
        self._plan(fewer_parts)
        tiny = self._key is not None and self._key[0] > LONG
        if tiny:
            self._tiny()
        before = None
        fruitless = 0
        while self._left() and fruitless < FRUITLESS and (self._key != before or self._is_long()):
            fruitless = fruitless + 1 if self._key == before else 0
            before = self._key
            self._plan(fewer_parts)
            self._plan(smaller_plans)
            self._schedule()
            self._hasten()
            if self._key == before:
                self._plan(other_plans)
            if self._key == before:
                end = plan_end(self._best)
                plans = [*smaller_plans(self._best, end), self._best, *other_plans(self._best, end)]
                self._search_plans([plan[: plan_end(plan)] for plan in plans])
            if self._key == before and not tiny:
                tiny = True
                self._tiny()
        return Record.of(self._best).tape()

    def _tiny(self) -> None:
        """While the story is long: tiny plans with a plain schedule, and few parts of this plan with others."""
        plans = list(bare_plans(self._best, plan_end(self._best)))
        journal = Journal(Tape(b""))
        self._example(journal)
        self.ran += 1
        most = self._calls + TINY_CALLS
        plain = journal.picks
        for plan in tiny_plans(plain[: plan_end(plain)]):
            if not self._is_long() or self._calls > most:
                break
            self._changed(plan)
        if self._is_long():
            self._search_plans(plans)

    def _is_long(self) -> bool:
        return self._key is not None and self._key[0] > SHORT

    def _left(self) -> bool:
        return self.ran < RUNS and self._calls < CALLS and not (self._stop is not None and self._stop())

    def attempt(self, choice: Choice) -> bool:
        """Run; whether it failed in the same way with fewer calls, or as many and plainer choices, and is the best from now on."""
        self.ran += 1
        limited = Limited(choice, self._most)
        journal = Journal(limited)
        failure = self._example(journal)
        self._calls += journal.calls
        if failure is None or failure.kind != self._kind or limited.cut:
            return False
        picks, tape = journal.picks, journal.tape()
        # Without a trace an oracle notices some things only now and then, and the story's calls are a rough number.
        self._calls += journal.calls
        failure = self._example(Tape(tape), Trace())
        if failure is None or failure.kind != self._kind:
            return False
        values = [pick.value for pick in picks if pick.value]
        key = (failure.calls, len(values), sum(values), len(tape))
        if self._key is not None and key >= self._key:
            return False
        self._best, self._key, self._most = picks, key, max(TOO_LONG * journal.calls, LEAST)
        return True

    def _changed(self, picks: list[Pick]) -> bool:
        """``attempt`` with changed choices, unless the very same were tried before."""
        what = repr([(pick.label, pick.value, pick.who, pick.whom) for pick in picks]).encode()
        if what in self._tried or not self._left():
            return False
        self._tried.add(what)
        return self.attempt(Lanes(Record.of(picks)))

    def _plan(self, plans: Callable[[list[Pick], int], Iterator[list[Pick]]]) -> None:
        """Another plan with the same schedule."""
        helped = True
        while helped and self._left():
            helped = any(self._changed(plan) for plan in plans(self._best, plan_end(self._best)))

    def _schedule(self) -> None:
        """Choices back to plain: all at once, in halves, and so on down to single ones."""
        size = len(self._best)
        while size and self._left():
            at = 0
            while departures := self._departures()[at:]:
                size = min(size, at + len(departures))
                back = set(departures[:size])
                picks = [pick._replace(value=0, whom="") if i in back else pick for i, pick in enumerate(self._best)]
                if not self._changed(picks):
                    at += size
            size //= 2

    def _departures(self) -> list[int]:
        """Where the best run's schedule departs from the plain one."""
        return [i for i in range(plan_end(self._best), len(self._best)) if self._best[i].value]

    def _hasten(self) -> None:
        """Somebody else sooner, near the end: whoever sees the failure need not wait until the others sleep."""
        helped = True
        while helped and self._left():
            start = plan_end(self._best)
            near = [i for i in range(start, len(self._best)) if self._best[i].label in SCHEDULING and not self._best[i].value][-LAST:]
            helped = any(
                self._changed(lowered(self._best, i, value)) for i in near for value in range(1, min(self._best[i].n, OTHER_VALUES))
            )

    def _search_plans(self, plans: list[list[Pick]]) -> None:
        """Plans with other schedules: each with the first, then each with the second, until one helps."""
        for turn in range(SCHEDULES):
            for plan in plans:
                if self._search <= 0 or not self._left():
                    return
                self._seed += 1
                seed = self._seed
                before = self._calls
                rest = Swarm(seed) if turn % 2 else Pct(seed, 2 + seed % 3, 8 << seed % 4, Plain())
                helped = self.attempt(Lanes(Record.of(plan), rest))
                self._search -= self._calls - before
                if helped:
                    return
