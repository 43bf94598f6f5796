"""What a run covers, for an exploration that prefers what it has not seen yet.

A point is a call with what came of it: the errno or the class of its result, the mask that poll and its kin reported, or the state of the
socket that it was made on, and the wait queues: whether the caller slept, who sleeps on the socket, how many others could run.  What is
covered are the pairs of points that follow each other in one task, as AFL counts edges rather than blocks.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from simkernel.api import Buffer
from simkernel.kernel.choice import Choice
from simkernel.kernel.entry import Args, EnteredSyscalls, R
from simkernel.kernel.sched import Sched
from simkernel.kernel.syscalls import SimSyscalls

# The class of a result: an errno is its own class, below these.
SOME, NONE, SHORT, FULL, OTHER = 160, 161, 162, 163, 164
# How many events or waiters are counted.
MOST: Final = 3
# A pair is kept as a number below this one, 2 ** 61 - 1.
PRIME: Final = 2305843009213693951


class Coverage:
    """The pairs that one run has seen, as numbers that are the same in every process and on every Python."""

    __slots__ = ("_before", "_calls", "seen")

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self._calls: dict[str, int] = {}
        self._before: dict[int, int] = {}

    def begin(self) -> None:
        """A new run: no task has called yet."""
        self.seen = set()
        self._before.clear()

    def note(self, sched: Sched, name: str, args: tuple[Any, ...], what: int, mask: int, slept: bool) -> None:
        """A call has returned, or failed."""
        task = sched.current
        call = self._calls.get(name, -1)
        if call < 0:
            call = self._calls[name] = zlib.crc32(name.encode()) & 0xFFFF
        state = 0
        if args and type(args[0]) is int:
            fds = task.files.fd
            fd = args[0]
            file = fds[fd] if 0 <= fd < len(fds) else None
            sk = file.sk if file is not None else None
            if sk is not None:
                waiters = len(sk.wq.entries)
                state = 1 + (sk.state << 8) + (sk.shutdown_mask << 4) + (min(waiters, MOST) << 2) + (2 if sk.err else 0)
        others = min(len(sched.runqueue), MOST)
        point = ((((call << 8 | what) << 16 | mask & 0xFFFF) << 16 | state) << 3) | others << 1 | slept
        before = self._before.get(task.pid, 0)
        self._before[task.pid] = point
        self.seen.add((before * 1_000_003 + point) % PRIME)


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


class CoveredSyscalls(EnteredSyscalls):
    """EnteredSyscalls with a note of each call, but those of process 1."""

    __slots__ = ()
    depth: ClassVar[int] = 3

    def call(self, name: str, function: Callable[[SimSyscalls, *Args], R], *args: *Args) -> R:
        sched = self.sched
        coverage = sched.coverage
        if coverage is None or sched.current.pid == 1:
            return super().call(name, function, *args)
        # Both only grow: their sum is another one when the caller has slept, with others or alone.
        before = sched.switches + sched.clock.now
        try:
            result = super().call(name, function, *args)
        except OSError as error:
            coverage.note(sched, name, args, min(error.errno or 0, SOME - 1), 0, sched.switches + sched.clock.now != before)
            raise
        what, mask = result_class(result, args)
        coverage.note(sched, name, args, what, mask, sched.switches + sched.clock.now != before)
        return result

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        return self.call("send", SimSyscalls.send, fd, data, flags)

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        return self.call("recv", SimSyscalls.recv, fd, n, flags)


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
        mask = 0
        for item in result:
            if type(item) is tuple and len(item) == 2 and type(item[1]) is int:
                mask |= item[1]
        return OTHER + min(len(result), MOST), mask
    return OTHER, 0
