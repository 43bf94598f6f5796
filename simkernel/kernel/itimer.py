"""Interval timers (kernel/time/itimer.c): alarm and setitimer.

A periodic one that has expired is not started again before its SIGALRM is taken.
"""

import errno
from typing import Final

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.clock import Timer
from simkernel.kernel.sched import Process, Sched, SigInfo
from simkernel.kernel.signal import SI_KERNEL, send_signal
from simkernel.uapi import ITIMER_PROF, ITIMER_REAL, NSEC_PER_SEC, NSEC_PER_USEC, SIGALRM

KTIME_MAX: Final = 2**63 - 1


class RealTimer:
    """signal_struct's real_timer and it_real_incr.  Times are virtual nanoseconds; ``expires`` is when it is due next, or was."""

    __slots__ = ("expires", "it_real_incr", "process", "sched", "timer")

    def __init__(self, sched: Sched, process: Process) -> None:
        self.sched = sched
        self.process = process
        self.expires = 0
        self.it_real_incr = 0
        self.timer: Timer | None = None

    def start(self) -> None:
        """hrtimer_start."""
        delay = max(self.expires - self.sched.clock.now, 0)
        if self.sched.explored:
            # Timers may be late, never early.
            delay += self.sched.choice.pick(4, "timer-slack") * 50_000
        self.timer = self.sched.clock.add_timer(delay, self.it_real_fn)

    def cancel(self) -> None:
        """hrtimer_cancel."""
        if self.timer is not None:
            self.sched.clock.del_timer(self.timer)
            self.timer = None

    def it_real_fn(self) -> None:
        """The timer is due."""
        self.timer = None
        send_signal(self.sched, self.process, SigInfo(SIGALRM, SI_KERNEL, 0))

    def rearm(self) -> None:
        """posixtimer_rearm_itimer: its signal was taken, so a periodic one goes on."""
        if self.timer is None and self.it_real_incr:
            missed = max(self.sched.clock.now - self.expires, 0) // self.it_real_incr
            self.expires += (missed + 1) * self.it_real_incr
            self.start()

    def remaining(self) -> int:
        """itimer_get_remtime: at least a microsecond as long as it is set."""
        return max(self.expires - self.sched.clock.now, NSEC_PER_USEC) if self.timer is not None else 0


def do_getitimer(sched: Sched, which: int) -> tuple[int, int]:
    """getitimer(2): (nanoseconds until it expires, 0 when it is not set; interval in nanoseconds)."""
    check_which(which)
    timer = sched.current.process.real_timer
    return (timer.remaining(), timer.it_real_incr) if timer is not None else (0, 0)


def do_setitimer(sched: Sched, which: int, value_ns: int, interval_ns: int) -> tuple[int, int]:
    """setitimer(2): the old setting; ``value_ns`` 0 disarms."""
    old = do_getitimer(sched, which)
    process = sched.current.process
    if process.real_timer is None:
        process.real_timer = RealTimer(sched, process)
    timer = process.real_timer
    timer.cancel()
    timer.it_real_incr = 0
    if value_ns:
        timer.it_real_incr = interval_ns
        timer.expires = min(sched.clock.now + value_ns, KTIME_MAX)
        timer.start()
    sched.stalled = 0
    return old


def alarm_setitimer(sched: Sched, seconds: int) -> int:
    """alarm(2): the seconds that were left, rounded, but not to 0."""
    left, _ = do_setitimer(sched, ITIMER_REAL, seconds * NSEC_PER_SEC, 0)
    whole, rest = divmod(left, NSEC_PER_SEC)
    return whole + 1 if (not whole and rest) or rest >= NSEC_PER_SEC // 2 else whole


def check_which(which: int) -> None:
    """EINVAL for what is no timer."""
    if not ITIMER_REAL <= which <= ITIMER_PROF:
        raise oserror(errno.EINVAL)
    if which != ITIMER_REAL:
        raise Unsupported("setitimer with ITIMER_VIRTUAL or ITIMER_PROF: computing takes no virtual time, so they would never expire")
