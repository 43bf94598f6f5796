"""Virtual time and timers (kernel/time/timer.c, hrtimer.c).

Time is an int of nanoseconds since boot.  It stands still while anything runs; when every task sleeps, it jumps to the next timer.
"""

import errno
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from simkernel.errors import Unsupported, oserror
from simkernel.uapi import (
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_MONOTONIC_RAW,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE,
    CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID,
)

# What CLOCK_REALTIME shows at boot: 2001-09-09 01:46:40 UTC, so that a date is plausible and every run has the same.
REALTIME_AT_BOOT: Final = 1_000_000_000 * 1_000_000_000


# CONFIG_HZ=250: what counts in jiffies counts in these.
JIFFY: Final = 4_000_000
# What each clock shows: how much it is ahead of the time since boot, and in which steps it goes.  None: the processor time that was used,
# of which there is none, since time stands still while anything runs.
CLOCKS: Final[dict[int, tuple[int, int] | None]] = {
    CLOCK_REALTIME: (REALTIME_AT_BOOT, 1),
    CLOCK_MONOTONIC: (0, 1),
    CLOCK_PROCESS_CPUTIME_ID: None,
    CLOCK_THREAD_CPUTIME_ID: None,
    CLOCK_MONOTONIC_RAW: (0, 1),
    CLOCK_REALTIME_COARSE: (REALTIME_AT_BOOT, JIFFY),
    CLOCK_MONOTONIC_COARSE: (0, JIFFY),
    CLOCK_BOOTTIME: (0, 1),
    CLOCK_TAI: (REALTIME_AT_BOOT, 1),
}
# Those of a real-time clock chip, and of a PTP device.
ALARM_CLOCKS: Final = (8, 9)
# The timer wheel's levels: 64 buckets each, each level eight times as coarse as the one before.
LVL_SIZE: Final = 64
LVL_CLK_SHIFT: Final = 3
LVL_DEPTH: Final = 9
# Above the number of any other timer.
WHEEL: Final = 1 << 62


def calc_wheel_expiry(now: int, timeout_ns: int) -> int:
    """calc_wheel_index: when a timer of the wheel, which schedule_timeout uses, really fires; never early, the longer the later."""
    clk = now // JIFFY
    expires = clk - timeout_ns // -JIFFY
    delta = expires - clk
    level = 0
    while level < LVL_DEPTH - 1 and delta >= (LVL_SIZE - 1) << level * LVL_CLK_SHIFT:
        level += 1
    shift = level * LVL_CLK_SHIFT
    return ((expires >> shift) + 1 << shift) * JIFFY


def cancelled() -> None:
    """What a cancelled timer would do."""


class Timer:
    """One pending call.  Timers of the same instant fire in the order in which they were added, those of the wheel in reverse."""

    __slots__ = ("active", "expires", "function", "seq")

    def __init__(self, expires: int, seq: int, function: Callable[[], None]) -> None:
        self.expires = expires
        self.seq = seq
        self.function = function
        self.active = True

    def __lt__(self, other: "Timer") -> bool:
        if self.expires != other.expires:
            return self.expires < other.expires
        return self.seq < other.seq


class Clock:
    """The virtual clock: ``now`` in nanoseconds since boot, and the timers that wait for later."""

    __slots__ = ("_cancelled", "_heap", "_seq", "looks", "now")

    def __init__(self) -> None:
        self.now = 0
        # How often a program has looked at it without a system call.
        self.looks = 0
        self._heap: list[Timer] = []
        self._seq = 0
        self._cancelled = 0

    def gettime(self, clockid: int) -> int:
        """What a clock shows, in nanoseconds.  EINVAL if there is none of this number."""
        if clockid not in CLOCKS:
            if clockid in ALARM_CLOCKS:
                raise Unsupported(f"clock {clockid} is not modelled: alarm clocks are not")
            raise oserror(errno.EINVAL)
        clock = CLOCKS[clockid]
        if clock is None:
            return 0
        ahead, step = clock
        return ahead + self.now - self.now % step

    def add_timer(self, delay_ns: int, function: Callable[[], None], wheel: bool = False) -> Timer:
        """Call ``function`` in interrupt context, ``delay_ns`` from now.  Those of the ``wheel`` come after others of their instant."""
        self._seq += 1
        # A bucket of the wheel is a list to whose head timers are added.
        timer = Timer(self.now + max(delay_ns, 0), WHEEL - self._seq if wheel else self._seq, function)
        heappush(self._heap, timer)
        return timer

    def del_timer(self, timer: Timer) -> None:
        """Cancel a timer; one that has fired is left alone."""
        if timer.active:
            timer.active = False
            # What it would have been about may go before it.
            timer.function = cancelled
            self._cancelled += 1
            if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
                # Most of the heap is cancelled timeouts: drop them, or a long run would keep them until they are due.
                self._heap = [t for t in self._heap if t.active]
                heapify(self._heap)
                self._cancelled = 0

    def dismantle(self) -> None:
        """Forget all timers."""
        self._heap.clear()

    def next_expiry(self) -> int | None:
        """When the next timer is due, or None when there is none."""
        heap = self._heap
        while heap and not heap[0].active:
            heappop(heap)
            self._cancelled -= 1
        return heap[0].expires if heap else None

    def pop_expired(self) -> Timer | None:
        """The next timer that is due now, taken off the heap, or None."""
        if (expires := self.next_expiry()) is None or expires > self.now:
            return None
        timer = heappop(self._heap)
        timer.active = False
        return timer
