"""What a run covers, for an exploration that prefers what it has not seen yet.

A point is a call with what came of it: the errno or the class of its result, the mask that poll and its kin reported, or the state of the
socket that it was made on, and the wait queues: whether the caller slept, who sleeps on the socket, how many others could run.  What is
covered are the pairs of points that follow each other in one task, as AFL counts edges rather than blocks.
"""

import zlib
from collections.abc import Sequence
from typing import Any, Final

from simkernel.kernel.choice import Choice
from simkernel.kernel.sched import Sched

# The class of a result: an errno is its own class, below these.
SOME: Final = 160
NONE: Final = 161
SHORT: Final = 162
FULL: Final = 163
OTHER: Final = 164
# How many events or waiters are counted.
MOST: Final = 3
# Points are mixed into 30 bits (FNV-1a's prime), and pairs of them into 60: small enough that no step needs a big number.
POINT: Final = (1 << 30) - 1
MIX: Final = 16777619


class Coverage:
    """The pairs that one run has seen, as numbers that are the same in every process and on every Python."""

    __slots__ = ("_calls", "seen")

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self._calls: dict[str, int] = {}

    def begin(self) -> None:
        """A new run."""
        self.seen = set()

    def note(self, sched: Sched, name: str, fd: object, what: int, mask: int) -> None:
        """The running task's call on ``fd`` has returned, or failed: the class of its result, or the errno.  Process 1 is not looked at."""
        task = sched.current
        if task.pid == 1:
            return
        point = self._calls.get(name, -1)
        if point < 0:
            point = self._calls[name] = zlib.crc32(name.encode()) & POINT
        state = 0
        if isinstance(fd, int):
            fds = task.files.fd
            file = fds[fd] if 0 <= fd < len(fds) else None
            sk = file.sk if file is not None else None
            if sk is not None:
                state = 1 + (sk.state << 8) + (sk.shutdown_mask << 4) + (min(len(sk.wq.entries), MOST) << 2) + (2 if sk.err else 0)
        # Both only grow: their sum is another one when the caller has slept, with others or alone.
        slept = sched.switches + sched.clock.now != task.entered
        point = (point ^ what) * MIX & POINT
        point = (point ^ mask) * MIX & POINT
        point = (point ^ state) * MIX & POINT
        point = (point ^ min(len(sched.runqueue), MOST) << 1 ^ slept) * MIX & POINT
        self.seen.add(task.covered << 30 | point)
        task.covered = point


class Covering(Choice):
    """Another source's choices, in a run whose coverage is noted: ``Kernel(choice=Covering(source, coverage))``."""

    __slots__ = ("_coverage", "_source")

    def __init__(self, source: Choice, coverage: Coverage) -> None:
        self._source = source
        self._coverage = coverage

    def bind(self, sched: Sched) -> None:
        sched.coverage = self._coverage
        self._coverage.begin()
        self._source.bind(sched)

    def pick(self, n: int, label: str) -> int:
        return self._source.pick(n, label)


def result_class(result: object, args: Sequence[Any]) -> tuple[int, int]:
    """What kind of result it is, and the mask of events if it has some."""
    if type(result) is int:
        if len(args) > 1 and type(args[1]) is bytes:
            return FULL if result == len(args[1]) else SHORT, 0
        return SOME if result else NONE, 0
    if type(result) is bytes:
        if not result:
            return NONE, 0
        return FULL if len(args) > 1 and len(result) == args[1] else SHORT, 0
    if type(result) is list:
        return OTHER + min(len(result), MOST), mask_of(result)
    return OTHER, 0


def mask_of(events: Sequence[Any]) -> int:
    """All the events that poll or one of its kin has reported."""
    mask = 0
    for item in events:
        if type(item) is tuple and len(item) == 2 and type(item[1]) is int:
            mask |= item[1]
    return mask
