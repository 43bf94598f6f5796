"""Every nondeterministic decision of a run, behind one method.

A choice source answers ``pick(n, label)`` with a number in range(n).  0 is always the plain behaviour: go on with the current task,
deliver whole, no fault.  A run is its choices: the same numbers give the same run, bit for bit.  This is the only module that may
use random.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

if TYPE_CHECKING:
    from simkernel.kernel.sched import Sched

# A label's chance to depart from the plain behaviour in a run of Swarm, in 1/256: a third of the labels each.
SWARM_RATES: Final = (8, 64, 256)
SWARM_TURNS: Final = 4
SWARM_RICH: Final = 3
# After so many choices the rest of the run is plain: whoever transfers a MiB byte by byte shows nothing new with it.
SWARM_PICKS: Final = 2000


@mypyc_attr(allow_interpreted_subclasses=True)
class Choice:
    """A source of choices.  ``plain`` says that it only ever answers 0, so the kernel may leave out the question."""

    __slots__ = ()
    plain = False

    def bind(self, sched: "Sched") -> None:
        """Called at boot: the choices to come are of this scheduler.  For sources that want to know who is to be chosen from."""

    def pick(self, n: int, label: str) -> int:
        """A number in range(n); ``n`` is at least 1.  ``label`` names the decision (``"sched"``, ``"preempt"``, ...)."""
        raise NotImplementedError

    def spent(self) -> bool:
        """Whether it answers 0 from now on, whatever the question, so that nobody need ask.  False if that is not known."""
        return False


class Plain(Choice):
    """Always 0: the run that a reader expects."""

    __slots__ = ()
    plain = True

    def pick(self, n: int, label: str) -> int:
        return 0


@mypyc_attr(allow_interpreted_subclasses=True)
class Tape(Choice):
    """Choices read from bytes: one byte a choice (two when n is above 256), modulo n; zeros past the end.

    Lowering a byte moves towards the plain behaviour and a shorter tape is a plainer run, which is what shrinking needs.
    """

    __slots__ = ("_data", "_pos")

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        self._pos = 0

    def pick(self, n: int, label: str) -> int:
        if n <= 1:
            return 0
        pos = self._pos
        data = self._data
        if pos >= len(data):
            return 0
        if n <= 256:
            self._pos = pos + 1
            return data[pos] % n
        self._pos = pos + 2
        return int.from_bytes(data[pos : pos + 2], "little") % n

    def spent(self) -> bool:
        return self._pos >= len(self._data)

    @property
    def used(self) -> int:
        """How many bytes of the tape were read."""
        return min(self._pos, len(self._data))


class Dice:
    """Numbers from a seed, for those who make runs.  ``random.Random.random`` gives the same ones on every supported Python."""

    __slots__ = ("_random",)

    def __init__(self, seed: int) -> None:
        self._random: Callable[[], float] = random.Random(seed).random

    def below(self, n: int) -> int:
        """A number in range(n)."""
        return int(self._random() * n)


@mypyc_attr(allow_interpreted_subclasses=True)
class Seeded(Choice):
    """Choices from a seed, each as likely as the others."""

    __slots__ = ("_random",)

    def __init__(self, seed: int) -> None:
        self._random: Callable[[], float] = random.Random(seed).random

    def pick(self, n: int, label: str) -> int:
        return int(self._random() * n) if n > 1 else 0


class Swarm(Choice):
    """Choices from a seed, where each label departs from the plain behaviour as often, and as variedly, as this run has drawn for it.

    A run that takes every liberty at every chance seldom gets far in one direction; runs that differ in which liberties they take find
    more (Groce, Zhang, Eide, Chen, Regehr: Swarm testing, ISSTA 2012).  In one run of SWARM_RICH everything is equally likely until the
    first choice of who runs next: many clients, who do a lot.  In one run of SWARM_TURNS whoever is preempted gives way to the first in the
    queue, so that tasks go call by call in turn.
    """

    __slots__ = ("_bytes", "_left", "_random", "_rates", "_rich")

    def __init__(self, seed: int) -> None:
        self._random: Callable[[], float] = random.Random(seed).random
        self._left = SWARM_PICKS
        self._rich = self._random() * SWARM_RICH < 1
        # A number from which bytes are taken, below a leading 1.
        self._bytes = 1
        # Negative: in turn.
        self._rates: dict[str, int] = {}

    def pick(self, n: int, label: str) -> int:
        if n <= 1:
            return 0
        self._left -= 1
        if self._left < 0:
            return 0
        rate = self._rates.get(label, 0)
        if not rate:
            drawn = int(self._random() * len(SWARM_RATES) * SWARM_TURNS)
            rate = SWARM_RATES[drawn // SWARM_TURNS]
            if label == "preempt" or label == "sched":
                self._rich = False
                if label == "preempt" and drawn % SWARM_TURNS == 0:
                    rate = -rate
            elif self._rich:
                rate = 256
            self._rates[label] = rate
        if rate == 256:
            return int(self._random() * n)
        # A number is six bytes, and each says whether to depart from the plain behaviour.
        left = self._bytes
        if left == 1:
            left = 1 << 48 | int(self._random() * (1 << 48))
        self._bytes = left >> 8
        at = left & 255
        if rate < 0:
            return 1 if at < -rate else 0
        return int(self._random() * n) if at < rate else 0

    def spent(self) -> bool:
        return self._left <= 0


class Recording(Choice):
    """Notes the choices of another source as a tape: ``Tape(recording.tape())`` replays the run."""

    __slots__ = ("_source", "_tape")

    def __init__(self, source: Choice) -> None:
        self._source = source
        self._tape = bytearray()

    def bind(self, sched: "Sched") -> None:
        self._source.bind(sched)

    def pick(self, n: int, label: str) -> int:
        if n <= 1:
            return 0
        got = self._source.pick(n, label)
        if n <= 256:
            self._tape.append(got)
        else:
            self._tape += got.to_bytes(2, "little")
        return got

    def tape(self) -> bytes:
        """The choices so far, as bytes for Tape, with trailing zeros left out."""
        return bytes(self._tape).rstrip(b"\0")
