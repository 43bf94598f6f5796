"""Recorded runs that can be changed a little: each task's choices in a lane of its own.

A tape is read from front to back: one choice more or less, and everything after it means something else.  A change is small when the rest
of the run stays what it was, so choices are noted with their label and the task that they were made in, and a choice of who runs next with
whom was chosen.  Tasks are named by where they come from, not by pid: "1.2" is the second child of process 1, whatever was born meanwhile.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from simkernel.kernel.choice import Choice
from simkernel.kernel.sched import Sched

SCHEDULING: Final = ("sched", "preempt")


class Pick(NamedTuple):
    """A choice that was made: ``value`` of range(``n``) in task ``who``; ``whom`` it let run, if that was not the plain choice."""

    label: str
    n: int
    value: int
    who: str = ""
    whom: str = ""


class Names:
    """The names of a scheduler's tasks."""

    __slots__ = ("_born", "_children", "_names", "_sched")

    def __init__(self, sched: Sched) -> None:
        self._sched = sched
        self._names: dict[int, str] = {}
        self._children: dict[str, int] = {}
        self._born = 0

    def __getitem__(self, pid: int) -> str:
        if self._born != self._sched.next_pid:
            self._look()
        return self._names.get(pid, "")

    def _look(self) -> None:
        """Name whoever was born since, in order of birth.  Who was born and died unseen never was on a run queue that was chosen from."""
        self._born = self._sched.next_pid
        for pid in sorted(self._sched.tasks):
            if pid not in self._names:
                process = self._sched.tasks[pid].process
                parent = process.parent
                if process.pid != pid:
                    of = self._names.get(process.pid, "") + "t"
                else:
                    of = self._names.get(parent.pid, "") + "." if parent is not None else ""
                number = self._children[of] = self._children.get(of, 0) + 1
                self._names[pid] = f"{of}{number}"


class Journal(Choice):
    """Notes the choices of another source, each as a Pick, in ``picks``."""

    __slots__ = ("_names", "_sched", "_source", "picks")

    def __init__(self, source: Choice) -> None:
        self._source = source
        self._sched: Sched | None = None
        self._names: Names | None = None
        self.picks: list[Pick] = []

    def bind(self, sched: Sched) -> None:
        self._sched = sched
        self._names = Names(sched)
        self._source.bind(sched)

    def pick(self, n: int, label: str) -> int:
        if n <= 1:
            return 0
        got = self._source.pick(n, label)
        who = whom = ""
        sched, names = self._sched, self._names
        if sched is not None and names is not None and sched.current is not None:
            who = names[sched.current.pid]
            if got and label in SCHEDULING:
                whom = names[sched.runqueue[got - (label == "preempt")].pid]
        self.picks.append(Pick(label, n, got, who, whom))
        return got

    @property
    def calls(self) -> int:
        """How many system calls the run has made."""
        return self._sched.calls if self._sched is not None else 0

    def tape(self) -> bytes:
        """The choices so far, as bytes for Tape, with trailing zeros left out."""
        return as_tape(self.picks)


def as_tape(picks: Iterable[Pick]) -> bytes:
    """Choices as bytes for Tape, with trailing zeros left out."""
    tape = bytearray()
    for pick in picks:
        tape += pick.value.to_bytes(1 if pick.n <= 256 else 2, "little")
    return bytes(tape).rstrip(b"\0")


class Lanes(Choice):
    """Choices read from lanes: one for each label in each task.

    Who is to run is looked up by name; where nobody of that name can run, and past the end of a lane, the choice is the plain one.  Other
    values count modulo n.  Without a lane ``rest`` answers (default: plain).
    """

    __slots__ = ("_lanes", "_names", "_rest", "_sched")

    def __init__(self, picks: Iterable[Pick], rest: Choice | None = None) -> None:
        self._rest = rest
        self._sched: Sched | None = None
        self._names: Names | None = None
        lanes: dict[tuple[str, str], list[Pick]] = {}
        for pick in picks:
            lanes.setdefault((pick.label, pick.who), []).append(pick)
        self._lanes = lanes
        for lane in lanes.values():
            lane.reverse()

    def bind(self, sched: Sched) -> None:
        self._sched = sched
        self._names = Names(sched)
        if self._rest is not None:
            self._rest.bind(sched)

    def pick(self, n: int, label: str) -> int:
        if n <= 1:
            return 0
        sched, names = self._sched, self._names
        who = names[sched.current.pid] if sched is not None and names is not None and sched.current is not None else ""
        lane = self._lanes.get((label, who))
        if lane is None:
            return self._rest.pick(n, label) if self._rest is not None else 0
        if not lane:
            return 0
        pick = lane.pop()
        if not pick.whom or sched is None or names is None:
            return pick.value % n
        place = 1 if label == "preempt" else 0
        for task in sched.runqueue:
            if names[task.pid] == pick.whom:
                return place
            place += 1
        return 0
