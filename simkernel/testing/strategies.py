"""Strategies: which runs to try next.

A strategy makes tries: a Try says in plain data where a run's choices come from, so that it can be run anywhere, in any process.  It gives
them in generations; what a generation has shown (Outcomes) decides about the next.  So what is tried depends on the seed alone, and not on
who runs it, how many at a time, or how fast.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from simkernel.errors import UsageError
from simkernel.kernel.choice import Choice, Dice, Swarm, Tape
from simkernel.kernel.coverage import Coverage, Covering
from simkernel.kernel.exhaustive import Departures, Exhaustive, Schedule
from simkernel.kernel.lanes import Columns, Journal, Lanes, Record
from simkernel.kernel.pct import Pct
from simkernel.testing.example import Example

STRATEGIES = ("portfolio", "random", "pct", "exhaustive")

# Runs of the first generation; each is as large as all before it, up to the last number.
FIRST_GENERATION = 64
MOST_GENERATION = 4096
# Up to this example a portfolio is mostly random.
EASILY = 16384
# How many tries are one piece of work.
BATCH = 32
# How many of its runs with something new are kept, and how many are there to be changed.
KEPT = 3
CORPUS = 256
# Preemptions that an exhaustive search goes to.
PREEMPTIONS = 2


@dataclass(frozen=True, slots=True)
class Try:
    """A run to be tried: its example number, and where its choices come from (``how``, and what that needs).

    ``looks``: whether it is worth looking at what the run covers, and noting its choices, which costs half a run.
    """

    number: int
    how: str
    seed: int = 0
    tape: bytes = b""
    parent: Columns | None = None
    departures: Departures = ()
    looks: bool = False

    def choice(self) -> Choice:
        """The source of choices.  Each call gives the same one anew."""
        if self.how == "plain":
            # Not Plain: also without a single choice, this is a run in which they could be made.
            return Tape(b"")
        if self.how == "tape":
            return Tape(self.tape)
        if self.how == "random":
            return Swarm(self.seed)
        if self.how == "pct":
            return Pct(self.seed, 2 + self.seed % 3)
        if self.how == "mutant":
            assert self.parent is not None
            # Where it goes beyond what was recorded, a Swarm answers.
            return Lanes(Record.from_columns(self.parent).changed(Dice(self.seed)), Swarm(self.seed))
        return Schedule(self.departures, self.tape)


@dataclass(slots=True)
class Outcome:
    """What a try has shown: the ``kind`` of its failure and its tape, or the new ``pairs`` that it covered and its ``picks``."""

    number: int
    kind: str = ""
    tape: bytes = b""
    pairs: frozenset[int] = frozenset()
    picks: Columns | None = None
    alternatives: list[tuple[int, int, bool]] = field(default_factory=list)
    planned: list[tuple[str, int]] = field(default_factory=list)


def run_batch(
    example: Example, tries: Sequence[Try], seen: Iterable[int] | None = None, tick: Callable[[int], object] | None = None
) -> list[Outcome]:
    """Run tries until one fails, or ``tick(n)``, called before try n, returns something true.

    With ``seen``, the pairs that were covered before, what is new is noted.
    """
    outcomes: list[Outcome] = []
    coverage = Coverage()
    covered = set(seen) if seen is not None else set()
    journals: dict[int, Journal] = {}
    for at, one in enumerate(tries):
        if tick is not None and tick(one.number):
            break
        choice = source = one.choice()
        if seen is not None and one.looks:
            choice = journals[at] = Journal(Covering(source, coverage))
        failure = example(choice)
        outcome = Outcome(one.number)
        outcomes.append(outcome)
        if failure is not None:
            # Most runs are not noted, that costs time: the same run once more is.
            journal = Journal(one.choice())
            example(journal)
            outcome.kind, outcome.tape = failure.kind, journal.tape()
            break
        if isinstance(source, Schedule):
            outcome.alternatives, outcome.planned = source.alternatives, source.planned
        if at in journals:
            new = coverage.seen - covered
            covered |= new
            outcome.pairs = frozenset(new)
    # Only those with the most that is new are worth being kept, and what was worth it before.
    best = sorted((tries[at].how != "tape", -len(outcome.pairs), at) for at, outcome in enumerate(outcomes) if outcome.pairs)
    for place, (fresh, _, at) in enumerate(best):
        if place < KEPT or not fresh:
            outcomes[at].picks, outcomes[at].tape = journals[at].record.columns(), journals[at].tape()
    return outcomes


class Strategy:
    """Gives tries in generations: first the plain run and the ``known`` tapes, then what ``fill`` says.

    ``done`` examples of this seed were tried in earlier runs: others come now.
    """

    # Whether what a run covers is of interest.
    covers = False

    def __init__(self, seed: int, examples: int, known: Sequence[bytes] = (), done: int = 0) -> None:
        self.seed = seed
        self.examples = examples
        self.done = done
        self.given = 0
        self.pairs: set[int] = set()
        self._known = deque([Try(0, "plain"), *(Try(0, "tape", tape=tape, looks=True) for tape in known)])

    def generation(self) -> list[Try]:
        """The next tries, numbered; none when all ``examples`` were given, or nothing is left to try."""
        size = min(max(self.given, FIRST_GENERATION), MOST_GENERATION, self.examples - self.given)
        tries: list[Try] = []
        while len(tries) < size:
            number = self.given + len(tries) + 1
            one = replace(self._known.popleft(), number=number) if self._known else self.fill(number)
            if one is None:
                break
            tries.append(one)
        self.given += len(tries)
        return tries

    def fill(self, number: int) -> Try | None:
        """The try with this number, or None if none is left until the next generation."""
        raise NotImplementedError

    def learn(self, one: Try, outcome: Outcome) -> bytes | None:
        """What a try that did not fail has shown; its tape, if it is worth being kept."""
        return None

    def proofs(self) -> list[str]:
        """What was proved, in words."""
        return []

    def draw(self, number: int) -> int:
        """A seed of its own for each try."""
        return self.seed * 0x9E3779B1 + self.done + number


class RandomRuns(Strategy):
    """Swarms."""

    def fill(self, number: int) -> Try:
        return Try(number, "random", self.draw(number))


class PctRuns(Strategy):
    """Probabilistic concurrency testing, with depths 2 to 4."""

    def fill(self, number: int) -> Try:
        return Try(number, "pct", self.draw(number))


class Plans:
    """Exhaustive search plan by plan: the plain plan, then those that differ from it in one choice; at most ``most`` runs for each."""

    def __init__(self, preemptions: int, most: int) -> None:
        self.preemptions = preemptions
        self.most = most
        self.ended: list[tuple[str, Exhaustive]] = []
        self._name, self._plan = "the plain plan", b""
        self._frontier = Exhaustive(preemptions, b"", most)
        self._open = 0
        self._others: deque[tuple[str, bytes]] = deque()

    def take(self) -> tuple[bytes, Departures] | None:
        """The next run, as (plan, departures); None while it depends on runs that are not known yet, or when there are no more."""
        while not (taken := self._frontier.take(1)):
            if self._open or not self._name:
                return None
            self.ended.append((self._name, self._frontier))
            self._name, self._plan = self._others.popleft() if self._others else ("", b"")
            self._frontier = Exhaustive(self.preemptions, self._plan, self.most)
            if not self._name:
                return None
        self._open += 1
        return self._plan, taken[0]

    def all(self) -> list[tuple[str, Exhaustive]]:
        """Each plan that was begun, by name, with how far it got."""
        return [*self.ended, *([(self._name, self._frontier)] if self._name and self._frontier.runs else [])]

    def learn(self, plan: bytes, departures: Departures, outcome: Outcome) -> None:
        """What a run has shown."""
        self._open -= 1
        self._frontier.learn(departures, outcome.alternatives)
        if plan or departures:
            return
        at = 0
        for label, n in outcome.planned:
            width = 1 if n <= 256 else 2
            for value in range(1, min(n, 256)):
                self._others.append((f"the plan with {label} {value} and the rest plain", bytes(at) + bytes([value])))
            at += width


class AllRuns(Strategy):
    """Exhaustive search."""

    def __init__(self, seed: int, examples: int, known: Sequence[bytes] = (), done: int = 0, preemptions: int = PREEMPTIONS) -> None:
        super().__init__(seed, examples, known, done)
        self._plans = Plans(preemptions, max(examples // 2, 1))
        # The plain run is the first schedule of the plain plan.
        self._known.popleft()

    def fill(self, number: int) -> Try | None:
        taken = self._plans.take()
        return Try(number, "schedule", tape=taken[0], departures=taken[1]) if taken is not None else None

    def learn(self, one: Try, outcome: Outcome) -> bytes | None:
        if one.how == "schedule":
            self._plans.learn(one.tape, one.departures, outcome)
        return None

    def proofs(self) -> list[str]:
        return [frontier.proof(name) for name, frontier in self._plans.all()]


class Portfolio(Strategy):
    """All of them: swarms at first, with some priorities among them; then also changes of runs that covered something new, and schedules.

    Nothing finds everything: each finds in a few runs what others miss for long.
    """

    covers = True

    def __init__(self, seed: int, examples: int, known: Sequence[bytes] = (), done: int = 0, preemptions: int = 1) -> None:
        super().__init__(seed, examples, known, done)
        self._plans = Plans(preemptions, max(examples // 32, FIRST_GENERATION))
        self._corpus: deque[Columns] = deque(maxlen=CORPUS)

    def fill(self, number: int) -> Try:
        # Most are random: all but three in sixteen at first, all but three in eight when what is found easily has been found.
        turn = number % (16 if number <= EASILY else 8)
        seed = self.draw(number)
        if turn == 0:
            return Try(number, "pct", seed, looks=number % 32 == 0)
        if turn == 2 and self._corpus and number > FIRST_GENERATION:
            dice = Dice(seed)
            # Of two, the newer: what was found late is what others have not seen.
            at = max(dice.below(len(self._corpus)), dice.below(len(self._corpus)))
            return Try(number, "mutant", seed, parent=self._corpus[at], looks=True)
        if turn == 4 and number > FIRST_GENERATION and (taken := self._plans.take()) is not None:
            return Try(number, "schedule", tape=taken[0], departures=taken[1])
        return Try(number, "random", seed, looks=turn == 6)

    def learn(self, one: Try, outcome: Outcome) -> bytes | None:
        if one.how == "schedule":
            self._plans.learn(one.tape, one.departures, outcome)
        if outcome.pairs <= self.pairs:
            return None
        self.pairs |= outcome.pairs
        if outcome.picks is None:
            return None
        self._corpus.append(outcome.picks)
        return outcome.tape

    def proofs(self) -> list[str]:
        return [frontier.proof(name) for name, frontier in self._plans.all() if frontier.done]


def make_strategy(
    name: str, seed: int, examples: int, known: Sequence[bytes] = (), done: int = 0, preemptions: int | None = None
) -> Strategy:
    """The strategy ``name``.  UsageError for a name that is none."""
    if preemptions is not None and preemptions < 0:
        raise UsageError(f"preemptions must not be negative, but {preemptions} is")
    if name == "portfolio":
        return Portfolio(seed, examples, known, done, 1 if preemptions is None else preemptions)
    if name == "random":
        return RandomRuns(seed, examples, known, done)
    if name == "pct":
        return PctRuns(seed, examples, known, done)
    if name == "exhaustive":
        return AllRuns(seed, examples, known, done, PREEMPTIONS if preemptions is None else preemptions)
    raise UsageError(f"there is no strategy {name!r}: choose one of {', '.join(STRATEGIES)}")
