"""Every schedule with few preemptions: iterative context bounding."""

from collections import deque
from collections.abc import Iterator

from simkernel.errors import UsageError
from simkernel.kernel.choice import Choice, Tape

# A schedule: where it departs from the plain one, as (number of the scheduling choice, what is chosen there).
Departures = tuple[tuple[int, int], ...]


class Schedule(Choice):
    """One schedule: plain but for its departures.  What is not about who runs next is read from ``plan``, a tape, and plain past its end.

    After the run ``alternatives`` are what could have been chosen differently since the last departure, as (number of the scheduling
    choice, how many there were to choose from, whether another choice is a preemption); ``planned`` are the other choices before the first
    of them, as (label, n): those that make the plan.
    """

    __slots__ = ("_at", "_count", "_last", "_others", "alternatives", "departures", "planned")

    def __init__(self, departures: Departures = (), plan: bytes = b"") -> None:
        self.departures = departures
        self._at = dict(departures)
        self._last = departures[-1][0] if departures else -1
        self._others = Tape(plan)
        self._count = -1
        self.alternatives: list[tuple[int, int, bool]] = []
        self.planned: list[tuple[str, int]] = []

    def pick(self, n: int, label: str) -> int:
        if n <= 1:
            return 0
        preempt = label == "preempt"
        if not preempt and label != "sched":
            if self._count < 0:
                self.planned.append((label, n))
            return self._others.pick(n, label)
        count = self._count = self._count + 1
        if count <= self._last:
            return self._at.get(count, 0) % n
        self.alternatives.append((count, n, preempt))
        return 0


class Exhaustive:
    """Every schedule of a run with at most ``preemptions`` preemptions: first all without, then all with one, and so on.

        schedules = Exhaustive(preemptions=2)
        for choice in schedules:
            simkernel.run(main, choice=choice)
        schedules.proof()

    Musuvathi, Qadeer: Iterative Context Bounding for Systematic Testing of Multithreaded Programs, PLDI 2007.  A preemption lets another
    task go first where the running one could go on; who runs after a task has gone to sleep is free, and every answer is tried.  ``plan``
    is a tape for all other choices: the clients of the run.  At most ``most`` schedules are given, and each of them once.
    The run of a schedule must be over before the next is asked for: it says where it could have gone differently.
    """

    __slots__ = ("_last", "_later", "_now", "_open", "_plan", "bound", "most", "preemptions", "runs")

    def __init__(self, preemptions: int = 2, plan: bytes = b"", most: int = 10_000) -> None:
        if preemptions < 0:
            raise UsageError(f"preemptions must not be negative, but {preemptions} is")
        if most < 1:
            raise UsageError(f"most must be at least 1, not {most}")
        self.preemptions = preemptions
        self.most = most
        self.runs = 0
        # The number of preemptions that is being tried.
        self.bound = 0
        self._plan = plan
        self._now: deque[Departures] = deque([()])
        self._later: deque[Departures] = deque()
        self._last: Schedule | None = None
        # Schedules that were taken, and have not shown yet what branches off.
        self._open = 0

    def __iter__(self) -> Iterator[Schedule]:
        return self

    def __next__(self) -> Schedule:
        if self._last is not None:
            self.learn(self._last.departures, self._last.alternatives)
            self._last = None
        taken = self.take(1)
        if not taken:
            raise StopIteration
        self._last = Schedule(taken[0], self._plan)
        return self._last

    def take(self, most: int) -> list[Departures]:
        """Up to ``most`` schedules that can be tried now, each by its departures; ``learn`` takes what they showed.

        None when others have to be learnt from first, or all were tried.
        """
        if not self._now and not self._open and self.bound < self.preemptions:
            self.bound += 1
            self._now, self._later = self._later, self._now
        got: list[Departures] = []
        while self._now and len(got) < most and self.runs < self.most:
            got.append(self._now.popleft())
            self.runs += 1
            self._open += 1
        return got

    def learn(self, departures: Departures, alternatives: list[tuple[int, int, bool]]) -> None:
        """What a schedule that was tried has shown: where others branch off."""
        self._open -= 1
        room = self.most - self.runs
        for count, n, preempt in alternatives:
            queue = self._later if preempt else self._now
            if preempt and self.bound == self.preemptions:
                continue
            for value in range(1, n):
                # What will not be tried need not be kept; one more is, to know that there was more.
                if len(queue) <= room:
                    queue.append((*departures, (count, value)))

    @property
    def done(self) -> bool:
        """Whether every schedule was tried."""
        return not self._now and not self._open and not self._later and self.bound == self.preemptions

    def proof(self, plan: str = "this plan") -> str:
        """In words what has been shown, if no run has failed, and what has not."""
        rest = "not covered: other plans, later or split delivery, late timers, smaller buffers"
        if self.done:
            most = counted(self.preemptions)
            return f"proved for {plan}: no failure in any schedule with at most {most} ({self.runs} runs); {rest}, more preemptions"
        bound = self.bound if self._now or self._open else self.bound + 1
        before = f"; all those with at most {counted(bound - 1)} were tried" if bound else ""
        return f"not proved for {plan}: no failure in {self.runs} schedules, and there are more with {counted(bound)}{before}; {rest}"


def counted(preemptions: int) -> str:
    """``1 preemption``, ``2 preemptions``."""
    return f"{preemptions} preemption" + ("" if preemptions == 1 else "s")
