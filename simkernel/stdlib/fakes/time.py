"""``time``: the machine's virtual clocks, sleeping in its kernel, and a local time that is the program's own.

The time zone is that of the environment's TZ, and UTC without one: /etc/localtime would make two machines differ.
"""

import contextlib
import errno
import math
import operator
import os
import sys
import time as real
from collections.abc import Iterator
from time import (  # noqa: F401
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_RAW,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME,
    CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID,
    struct_time,
)
from typing import TYPE_CHECKING, Any, Final

from simkernel.stdlib.environ import c_environment, getenv
from simkernel.stdlib.here import LOOKS, here

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
_STRUCT_TM_ITEMS: Final[int] = vars(real)["_STRUCT_TM_ITEMS"]
NSEC: Final = 1_000_000_000
PYTIME: Final = "PyTime_t" if sys.version_info >= (3, 13) else "_PyTime_t"
UTC: Final = "UTC0"
# What depends on the zone in a format of strftime.
ZONED: Final = frozenset("ZzscEO+")


# --- clocks ---
def time() -> float:
    """Seconds since the Epoch."""
    return here.clock_gettime_ns(CLOCK_REALTIME) / 1e9


def time_ns() -> int:
    """The same in nanoseconds."""
    return here.clock_gettime_ns(CLOCK_REALTIME)


def monotonic() -> float:
    """Seconds since boot."""
    sched = here.sched
    if sched is None or sched.sigwork:
        return here.clock_gettime_ns(CLOCK_MONOTONIC) / 1e9
    # Event loops ask all the time: Here.clock_gettime_ns, written out.
    clock = sched.clock
    clock.looks += 1
    if not clock.looks % LOOKS:
        return here.clock_gettime_ns(CLOCK_MONOTONIC) / 1e9
    return clock.now / 1e9


def monotonic_ns() -> int:
    """The same in nanoseconds."""
    return here.clock_gettime_ns(CLOCK_MONOTONIC)


perf_counter, perf_counter_ns = monotonic, monotonic_ns


def process_time() -> float:
    """The processor time of the process in seconds: none, computing takes no virtual time."""
    return here.clock_gettime_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9


def process_time_ns() -> int:
    """The same in nanoseconds."""
    return here.clock_gettime_ns(CLOCK_PROCESS_CPUTIME_ID)


def thread_time() -> float:
    """The processor time of the thread in seconds: none, computing takes no virtual time."""
    return here.clock_gettime_ns(CLOCK_THREAD_CPUTIME_ID) / 1e9


def thread_time_ns() -> int:
    """The same in nanoseconds."""
    return here.clock_gettime_ns(CLOCK_THREAD_CPUTIME_ID)


def clock_gettime(clk_id: int, /) -> float:
    """A clock in seconds."""
    return here.clock_gettime_ns(clk_id) / 1e9


def clock_gettime_ns(clk_id: int, /) -> int:
    """A clock in nanoseconds."""
    return here.clock_gettime_ns(clk_id)


def clock_getres(clk_id: int, /) -> float:
    """The resolution of a clock in seconds."""
    here.clock_gettime_ns(clk_id)
    return 1e-9


def clock_settime(clk_id: int, time: float, /) -> None:
    """A clock is not set by a program, which is as one without CAP_SYS_TIME."""
    clock_settime_ns(clk_id, nanoseconds(time))


def clock_settime_ns(clk_id: int, time: int, /) -> None:
    """The same, in nanoseconds."""
    operator.index(time)
    here.clock_gettime_ns(clk_id)
    error = errno.EPERM if clk_id == CLOCK_REALTIME else errno.EINVAL
    raise OSError(error, os.strerror(error))


def pthread_getcpuclockid(thread_id: int, /) -> int:
    """The clock of a thread's processor time."""
    # (As the C library makes it: CPUCLOCK_PERTHREAD, CPUCLOCK_SCHED.)
    return real.pthread_getcpuclockid(thread_id) if here.sched is None else ~thread_id << 3 | 6


def get_clock_info(name: Any, /) -> Any:
    """What is known of a clock."""
    info: Any = real.get_clock_info(name)
    # Not that of the machine below.
    info.resolution = 1e-9
    return info


# --- sleeping ---
def nanoseconds(seconds: object) -> int:
    """A number of seconds as CPython takes it, rounded away from zero."""
    if isinstance(seconds, float):
        if math.isnan(seconds):
            raise ValueError("Invalid value NaN (not a number)")
        scaled = seconds * 1e9
        if not -(2.0**63) <= scaled < 2.0**63:
            raise OverflowError("timestamp out of range for platform time_t")
        return math.ceil(scaled) if scaled >= 0 else math.floor(scaled)
    ns = operator.index(seconds) * NSEC  # type: ignore[arg-type]  # TypeError for what is no number
    if not -(2**63) <= ns < 2**63:
        raise OverflowError(f"timestamp too large to convert to C {PYTIME}")
    return ns


def sleep(seconds: float, /) -> None:
    """Sleep, and go on after a signal handler that did not raise, until the time is there (PEP 475)."""
    ns = nanoseconds(seconds)
    if ns < 0:
        raise ValueError("sleep length must be non-negative")
    deadline = here.clock_gettime_ns(CLOCK_MONOTONIC) + ns
    while ns >= 0:
        try:
            here.sys.nanosleep(ns)
            break
        except InterruptedError:
            pass
        world.check_signals()
        ns = deadline - here.clock_gettime_ns(CLOCK_MONOTONIC)


# --- the calendar ---
def environment() -> str:
    """The program's TZ, as the C library's tzset looks at it."""
    zone = getenv(world, "TZ")
    return UTC if zone is None else zone


@contextlib.contextmanager
def in_zone() -> Iterator[None]:
    """The C library computes in the program's zone.  Nobody else runs meanwhile."""
    try:
        with c_environment(world, TZ=_zone):
            real.tzset()
            yield
    finally:
        real.tzset()


def is_utc() -> bool:
    """Whether the program's zone is UTC."""
    return _zone == UTC


def tzset() -> None:
    """Take the zone of the environment's TZ."""
    global _zone, altzone, daylight, timezone, tzname
    _zone = environment()
    with in_zone():
        altzone, daylight, timezone, tzname = real.altzone, real.daylight, real.timezone, real.tzname


def now() -> int:
    """Seconds since the Epoch, whole ones."""
    return here.clock_gettime_ns(CLOCK_REALTIME) // NSEC


def gmtime(seconds: float | None = None, /) -> real.struct_time:
    """A time in UTC."""
    return real.gmtime(now() if seconds is None else seconds)


def localtime(seconds: float | None = None, /) -> real.struct_time:
    """A time in the program's zone."""
    if _zone == UTC:
        return real.struct_time(gmtime(seconds), {"tm_zone": "UTC", "tm_gmtoff": 0})
    with in_zone():
        return real.localtime(now() if seconds is None else seconds)


def asctime(*t: Any) -> str:
    """A time tuple, or now, in words."""
    return real.asctime(*t or (localtime(),))


def ctime(seconds: float | None = None, /) -> str:
    """A time in words."""
    return real.asctime(localtime(seconds))


def mktime(t: Any, /) -> float:
    """The seconds since the Epoch of a local time."""
    global _zone
    _zone = environment()
    with in_zone():
        return real.mktime(t)


def strftime(format: str, *t: Any) -> str:
    """A time tuple, or now, as the format says."""
    global _zone
    if _zone == UTC and ZONED.isdisjoint(format):
        return real.strftime(format, *t or (localtime(),))
    _zone = environment()
    with in_zone():
        return real.strftime(format, *t or (localtime(),))


def strptime(*args: Any) -> real.struct_time:
    """A text as a time tuple."""
    parsed: real.struct_time = world.import_module("_strptime")._strptime_time(*args)
    return parsed


_zone = UTC
altzone, daylight, timezone, tzname = 0, 0, 0, ("UTC", "UTC")
tzset()
# A new process looks at its environment.
reset = tzset
