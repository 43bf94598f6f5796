"""Recorded runs that can be changed a little: each task's choices in a lane of its own.

A tape is read from front to back: one choice more or less, and everything after it means something else.  A change is small when the rest
of the run stays what it was, so choices are noted with their label and the task that they were made in, and a choice of who runs next with
whom was chosen.  Tasks are named by where they come from, not by pid: "1.2" is the second child of process 1, whatever was born meanwhile.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from simkernel.kernel.choice import Choice, Dice
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

    __slots__ = ("_children", "_names", "_sched")

    def __init__(self, sched: Sched) -> None:
        self._sched = sched
        # By pid; "" for nobody.
        self._names: list[str] = []
        self._children: dict[str, int] = {}

    def __getitem__(self, pid: int) -> str:
        if len(self._names) <= self._sched.next_pid:
            self._look()
        return self._names[pid]

    def _look(self) -> None:
        """Name whoever was born since, in order of birth.  Who was born and died unseen never was on a run queue that was chosen from."""
        names = self._names
        names.extend([""] * (self._sched.next_pid + 1 - len(names)))
        for pid in sorted(self._sched.tasks):
            if not names[pid]:
                process = self._sched.tasks[pid].process
                parent = process.parent
                if process.pid != pid:
                    of = names[process.pid] + "t"
                else:
                    of = names[parent.pid] + "." if parent is not None else ""
                number = self._children[of] = self._children.get(of, 0) + 1
                names[pid] = f"{of}{number}"


class Record:
    """The choices of a run, column by column: what was chosen (``values``) of how many (``ns``), in which lane, and whom it let run.

    ``keys`` are the lanes: label and task.  All lists but that one are as long as there were choices.
    """

    __slots__ = ("keys", "lanes", "ns", "values", "whoms")

    def __init__(self, keys: list[tuple[str, str]], lanes: list[int], ns: list[int], values: list[int], whoms: list[str]) -> None:
        self.keys = keys
        self.lanes = lanes
        self.ns = ns
        self.values = values
        self.whoms = whoms

    @classmethod
    def of(cls, picks: Iterable[Pick]) -> "Record":
        """The same from a list of picks."""
        record = cls([], [], [], [], [])
        numbers: dict[tuple[str, str], int] = {}
        for pick in picks:
            key = (pick.label, pick.who)
            lane = numbers.setdefault(key, len(numbers))
            if lane == len(record.keys):
                record.keys.append(key)
            record.lanes.append(lane)
            record.ns.append(pick.n)
            record.values.append(pick.value)
            record.whoms.append(pick.whom)
        return record

    def picks(self) -> list[Pick]:
        """The same as a list of picks."""
        keys = self.keys
        out = []
        for lane, n, value, whom in zip(self.lanes, self.ns, self.values, self.whoms, strict=True):
            label, who = keys[lane]
            out.append(Pick(label, n, value, who, whom))
        return out

    def tape(self) -> bytes:
        """The same as bytes for Tape, with trailing zeros left out."""
        if max(self.ns, default=0) <= 256:
            return bytes(self.values).rstrip(b"\0")
        choices = zip(self.ns, self.values, strict=True)
        return b"".join([value.to_bytes(1 if n <= 256 else 2, "little") for n, value in choices]).rstrip(b"\0")

    def columns(self) -> "Columns":
        """What it is made of, as plain data that can travel, and that the garbage collector has nothing to do with."""
        return tuple(self.keys), tuple(self.lanes), tuple(self.ns), tuple(self.values), tuple(self.whoms)

    @classmethod
    def from_columns(cls, columns: "Columns") -> "Record":
        """The same back."""
        keys, lanes, ns, values, whoms = columns
        return cls(list(keys), list(lanes), list(ns), list(values), list(whoms))

    def changed(self, dice: Dice) -> "Record":
        """A copy in which a few places are others: drawn anew, plain, or all that came after is left out."""
        values, whoms, ns = self.values[:], self.whoms[:], self.ns
        length = len(values)
        for _ in range(1 + dice.below(4)):
            if not length:
                break
            how = dice.below(4)
            at = dice.below(length)
            if how == 0:
                length = at
                continue
            for i in range(at, at + 1 + dice.below(min(length - at, 1 << dice.below(6)))):
                values[i] = dice.below(ns[i]) if how > 1 else 0
                whoms[i] = ""
        return Record(self.keys, self.lanes[:length], ns, values, whoms)


Columns = tuple[tuple[tuple[str, str], ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[str, ...]]


class Journal(Choice):
    """Notes the choices of another source in a Record."""

    __slots__ = ("_names", "_numbers", "_sched", "_source", "record")

    def __init__(self, source: Choice) -> None:
        self._source = source
        self._sched: Sched | None = None
        self._names: Names | None = None
        # Of each task, by label.
        self._numbers: dict[str, dict[str, int]] = {}
        self.record = Record([], [], [], [], [])

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
            if got and (label == "sched" or label == "preempt"):
                whom = names[sched.runqueue[got - (label == "preempt")].pid]
        record = self.record
        numbers = self._numbers.get(who)
        if numbers is None:
            numbers = self._numbers[who] = {}
        lane = numbers.get(label, -1)
        if lane < 0:
            lane = numbers[label] = len(record.keys)
            record.keys.append((label, who))
        record.lanes.append(lane)
        record.ns.append(n)
        record.values.append(got)
        record.whoms.append(whom)
        return got

    @property
    def calls(self) -> int:
        """How many system calls the run has made."""
        return self._sched.calls if self._sched is not None else 0

    @property
    def picks(self) -> list[Pick]:
        """The choices so far."""
        return self.record.picks()

    def tape(self) -> bytes:
        """The choices so far, as bytes for Tape, with trailing zeros left out."""
        return self.record.tape()


class Lanes(Choice):
    """Choices read from lanes: one for each label in each task.

    Who is to run is looked up by name; where nobody of that name can run, and past the end of a lane, the choice is the plain one.  Other
    values count modulo n.  Without a lane ``rest`` answers (default: plain).
    """

    __slots__ = ("_lanes", "_names", "_rest", "_sched", "_values", "_whoms")

    def __init__(self, record: Record, rest: Choice | None = None) -> None:
        self._rest = rest
        self._sched: Sched | None = None
        self._names: Names | None = None
        self._values = record.values
        self._whoms = record.whoms
        # Where the choices of each lane are, the next one last.
        places: list[list[int]] = [[] for _ in record.keys]
        at = len(record.lanes)
        for lane in reversed(record.lanes):
            at -= 1
            places[lane].append(at)
        self._lanes: dict[str, dict[str, list[int]]] = {}
        for (label, who), place in zip(record.keys, places, strict=True):
            if place:
                self._lanes.setdefault(who, {})[label] = place

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
        lanes = self._lanes.get(who)
        lane = lanes.get(label) if lanes is not None else None
        if lane is None:
            return self._rest.pick(n, label) if self._rest is not None else 0
        if not lane:
            return 0
        at = lane.pop()
        whom = self._whoms[at]
        if not whom or sched is None or names is None:
            return self._values[at] % n
        place = 1 if label == "preempt" else 0
        for task in sched.runqueue:
            if names[task.pid] == whom:
                return place
            place += 1
        return 0
