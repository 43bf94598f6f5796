"""timerfd (fs/timerfd.c): a timer to wait on.

A periodic timer that has expired is not started again before somebody reads it (or asks for its time): then the expirations in between
are counted.  That is why an edge-triggered epoll hears of it once.
"""

import errno
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.clock import REALTIME_AT_BOOT, Timer
from simkernel.kernel.file import File
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import WaitQueue, wait_event_locked, wake_up
from simkernel.uapi import CLOCK_REALTIME, NSEC_PER_SEC, O_RDWR, POLLIN, TFD_TIMER_ABSTIME

# KTIME_MAX: what is later than this never comes.
KTIME_MAX: Final = 2**63 - 1


class TimerFd(File):
    """timerfd_ctx and its file.  Times are virtual nanoseconds; ``expires`` is when the timer is due next, or was."""

    __slots__ = ("clockid", "expired", "expires", "settime_flags", "ticks", "timer", "tintv", "wqh")
    kind = "timerfd"
    can_write = False

    def __init__(self, sched: Sched, clockid: int, f_flags: int) -> None:
        super().__init__(sched, f_flags | O_RDWR)
        self.clockid = clockid
        self.wqh = WaitQueue(self, "wqh")
        self.ticks = 0
        self.expired = False
        self.tintv = 0
        self.expires = 0
        self.timer: Timer | None = None
        self.settime_flags = 0

    def fdinfo(self) -> str:
        """timerfd_show."""
        value, interval = divmod(self._remaining(), NSEC_PER_SEC), divmod(self.tintv, NSEC_PER_SEC)
        return (
            f"clockid: {self.clockid}\nticks: {self.ticks}\nsettime flags: 0{self.settime_flags:o}\n"
            f"it_value: {value}\nit_interval: {interval}\n"
        )

    def settime(self, flags: int, initial_ns: int, interval_ns: int) -> tuple[int, int]:
        """do_timerfd_settime: the old setting; what had expired is forgotten."""
        self._cancel()
        if self.expired and self.tintv:
            self._forward_now()
        old = self._remaining(), self.tintv
        self.expired = False
        self.ticks = 0
        self.tintv = interval_ns
        self.settime_flags = flags
        self.expires = 0
        if initial_ns:
            now = self.sched.clock.now
            if not flags & TFD_TIMER_ABSTIME:
                self.expires = now + initial_ns
            elif self.clockid == CLOCK_REALTIME:
                self.expires = initial_ns - REALTIME_AT_BOOT
            else:
                self.expires = initial_ns
            self._start()
        self.sched.stalled = 0
        return old

    def gettime(self) -> tuple[int, int]:
        """do_timerfd_gettime: nanoseconds until the timer is due, and its interval.  A periodic one that has expired goes on."""
        self._restart()
        return self._remaining(), self.tintv

    def _start(self) -> None:
        self.expires = min(self.expires, KTIME_MAX)
        delay = max(self.expires - self.sched.clock.now, 0)
        if self.sched.explored:
            # Timers may be late, never early.
            delay += self.sched.choice.pick(4, "timer-slack") * 50_000
        self.timer = self.sched.clock.add_timer(delay, self.timerfd_tmrproc)
        if self.expires <= self.sched.clock.now and not self.sched.explored:
            # What is due already does not wait until somebody sleeps.
            self.sched.run_timers()

    def _cancel(self) -> None:
        if self.timer is not None:
            self.sched.clock.del_timer(self.timer)
            self.timer = None

    def _remaining(self) -> int:
        """timerfd_get_remaining: 0 when disarmed or due."""
        return max(self.expires - self.sched.clock.now, 0) if self.expires else 0

    def _forward_now(self) -> int:
        """hrtimer_forward_now: move the expiry past now; how many intervals that took."""
        delta = self.sched.clock.now - self.expires
        if delta < 0:
            return 0
        overruns = delta // self.tintv + 1
        self.expires += overruns * self.tintv
        return overruns

    def _restart(self) -> None:
        """A periodic timer that has expired starts again, and what it missed is counted."""
        if self.expired and self.tintv:
            self.expired = False
            self.ticks += self._forward_now() - 1
            self._start()

    def timerfd_tmrproc(self) -> None:
        """The timer is due."""
        self.timer = None
        self.expired = True
        self.ticks += 1
        wake_up(self.wqh, POLLIN)

    def read(self, n: int) -> bytes:
        """timerfd_read_iter: how often it has expired since the last read, as 8 bytes; EAGAIN or sleep when it has not."""
        if n < 8:
            raise oserror(errno.EINVAL)
        if not self.ticks:
            if self.nonblock:
                self.sched.stall("read of a timerfd that has not expired")
                raise oserror(errno.EAGAIN)
            wait_event_locked(self.sched, self.wqh, lambda: self.ticks > 0)
        ticks = self.ticks
        if self.expired and self.tintv:
            ticks += self._forward_now() - 1
            self._start()
        self.expired = False
        self.ticks = 0
        self.sched.stalled = 0
        return ticks.to_bytes(8, "little")

    def poll(self, table: PollTable | None) -> int:
        """timerfd_poll: IN alone, without RDNORM."""
        if table is not None:
            table.qproc(self.wqh)
        return POLLIN if self.ticks else 0

    def release(self) -> None:
        self._cancel()
