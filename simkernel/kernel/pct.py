"""Schedules by priorities: probabilistic concurrency testing."""

from typing import Final

from simkernel.errors import UsageError
from simkernel.kernel.choice import Choice, Dice, Swarm
from simkernel.kernel.sched import TIMESLICE_CALLS, Sched, Task

# Without a number of steps, the seed chooses one of these.
STEPS: Final = (16, 32, 64, 128, 256, 512, 1024, 2048)


class Pct(Choice):
    """Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with Probabilistic Guarantees
    of Finding Bugs, ASPLOS 2010).

    Each task has a priority, drawn when it is first seen, and of the runnable tasks that with the highest runs.  At ``depth - 1`` steps,
    drawn beforehand, the running task's priority falls below all others'.  A bug that needs ``depth`` ordered steps among ``n`` tasks is
    found with a chance of at least 1 / (n * steps ** (depth - 1)) a run.  A step is a point at which another task could run; ``steps`` is
    how many of them a run is expected to have (0: a power of two from 16 to 2048, drawn).
    A task that calls without progress for a time slice goes last, so that a program that tries again and again is no dead end.
    What is not about who runs next is answered by ``others`` (default: a Swarm of the same seed): the promise is one about schedules, and
    clients, sizes and pieces have to vary as well.
    """

    __slots__ = ("_changes", "_depth", "_dice", "_last", "_others", "_priority", "_sched", "_stalled", "_step")

    def __init__(self, seed: int, depth: int = 3, steps: int = 0, others: Choice | None = None) -> None:
        if depth < 1:
            raise UsageError(f"depth must be at least 1, not {depth}: it is the number of steps that a bug needs in one order")
        if steps < 0:
            raise UsageError(f"steps must not be negative, but {steps} is")
        self._dice = Dice(seed)
        self._others = others if others is not None else Swarm(seed)
        self._depth = depth
        self._sched: Sched | None = None
        # Higher runs first: depth and more at first, depth - 1 to 1 after a change, below 1 for who goes last.
        self._priority: dict[int, int] = {}
        self._last = 0
        self._step = 0
        # Calls without progress when a task was last put last.
        self._stalled = 0
        steps = steps or STEPS[self._dice.below(len(STEPS))]
        # Where the running task falls, and to what.
        self._changes: dict[int, int] = {1 + self._dice.below(steps): to for to in range(1, depth)}

    def bind(self, sched: Sched) -> None:
        self._sched = sched
        self._others.bind(sched)

    def pick(self, n: int, label: str) -> int:
        if n <= 1:
            return 0
        preempt = label == "preempt"
        if not preempt and label != "sched":
            return self._others.pick(n, label)
        sched = self._sched
        if sched is None:
            raise UsageError("Pct chooses among the tasks of a kernel: give it to run(choice=...) or Kernel")
        self._step += 1
        current = sched.current
        if preempt and sched.stalled - self._stalled >= TIMESLICE_CALLS:
            self._stalled = sched.stalled
            self._last -= 1
            self._priority[current.pid] = self._last
        elif sched.stalled < self._stalled:
            self._stalled = 0
        change = self._changes.get(self._step)
        if change is not None:
            self._priority[current.pid] = change
        # 0 stands for the running task at "preempt", and for the first of the run queue at "sched".
        at = 0
        best = self._priority_of(current) if preempt else self._last - 1
        place = 1 if preempt else 0
        for task in sched.runqueue:
            priority = self._priority_of(task)
            if priority > best:
                at, best = place, priority
            place += 1
        return at

    def _priority_of(self, task: Task) -> int:
        priority = self._priority.get(task.pid)
        if priority is None:
            # No two are the same but by a chance of one in a billion, and then the run queue's order decides.
            priority = self._priority[task.pid] = self._depth + self._dice.below(1 << 30)
        return priority
