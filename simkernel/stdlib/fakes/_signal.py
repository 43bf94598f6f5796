"""``_signal``: Python's signal handlers over the kernel's (Modules/signalmodule.c).

What the kernel calls is ``trip``, which notes the signal and writes its number to the wakeup fd.  The program's handler runs later, in the
first thread only, when that returns from a system call: on its way out of the one that the signal came in, or of its next one if another
thread took the signal.  What the handler raises leaves that call.
"""

import _signal as real  # type: ignore[import-not-found]  # as typeshed calls it: signal
import functools
import math
import operator
import os
import sys
import threading
from _signal import *  # noqa: F403  # constants, and what only computes: strsignal, valid_signals, struct_siginfo, ItimerError
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from simkernel.errors import is_ours
from simkernel.stdlib.here import here
from simkernel.stdlib.unraisable import write_unraisable
from simkernel.uapi import F_GETFL, O_NONBLOCK, SA_RESTART
from simkernel.uapi import NSIG as LAST

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
__all__ = [name for name in dir(real) if not name.startswith("_")]
SIG_DFL, SIG_IGN, SIGINT, SIGPIPE, SIGXFSZ = int(real.SIG_DFL), int(real.SIG_IGN), real.SIGINT, real.SIGPIPE, real.SIGXFSZ
NSEC: Final = 1_000_000_000
PYTIME: Final = "PyTime_t" if sys.version_info >= (3, 13) else "_PyTime_t"
# What a handler may be: SIG_DFL, SIG_IGN, a callable, or None for one that is not Python's.
PyHandler = Any

_handlers: dict[int, PyHandler] = {}
# Signals that came and whose handler has not run.
_tripped: set[int] = set()
_wakeup_fd = -1
_warn_on_full_buffer = True


# --- signals come in ---
def trip(signum: int) -> None:
    """A signal has come: what CPython's handler does in the kernel's signal frame, in any thread."""
    first = not _tripped
    _tripped.add(signum)
    if _wakeup_fd != -1:
        try:
            here.sys.write(_wakeup_fd, bytes([signum]))
        except OSError as error:
            if _warn_on_full_buffer or not isinstance(error, BlockingIOError):
                here.task_work_add(functools.partial(_report_wakeup_error, error))
    if first:
        here.task_work_add(_run_handlers)


def _report_wakeup_error(error: OSError) -> None:
    message: str | None = "Exception ignored when trying to write to the signal wakeup fd"
    if sys.version_info < (3, 13):
        print(f"{message}:", file=world.sys.stderr)
        message = None
    write_unraisable(world.sys, error, message)


def _in_main_thread() -> bool:
    if here.sched is None:
        return threading.current_thread() is threading.main_thread()
    return here.thread_id() == here.process_id()


def _run_handlers() -> None:
    """_PyErr_CheckSignals: run the handlers of the signals that came, in the order of their numbers."""
    frame = _program_frame()
    while _tripped:
        signum = min(_tripped)
        _tripped.discard(signum)
        handler = _handlers.get(signum)
        if handler is None or handler in (SIG_DFL, SIG_IGN):
            # It was exchanged since.
            write_unraisable(world.sys, OSError(f"Signal {signum} ignored due to race condition"), None)
            continue
        try:
            handler(signum, frame)
        except BaseException:
            if _tripped:
                here.task_work_add(_run_handlers)
            raise


def _program_frame() -> FrameType | None:
    """The frame that the signal interrupts: the program's innermost."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def check_signals() -> None:
    """PyErr_CheckSignals: what has come is handled now, if this is the first thread."""
    if _tripped and _in_main_thread():
        _run_handlers()


world.check_signals = check_signals


def default_int_handler(signum: int, frame: FrameType | None, /) -> NoReturn:
    """What SIGINT does unless the program says otherwise."""
    raise KeyboardInterrupt


# --- handlers ---
def _number(signum: Any) -> int:
    number = operator.index(signum)
    if not 1 <= number <= LAST:
        raise ValueError("signal number out of range")
    return number


def signal(signalnum: int, handler: PyHandler, /) -> PyHandler:
    """Set a handler and return the one before."""
    if not _in_main_thread():
        raise ValueError("signal only works in main thread of the main interpreter")
    number = _number(signalnum)
    if not callable(handler) and not (isinstance(handler, int) and handler in (SIG_DFL, SIG_IGN)):
        raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
    check_signals()
    here.sys.sigaction(number, trip if callable(handler) else int(handler))
    old = _handlers.get(number, SIG_DFL)
    _handlers[number] = handler
    return old


def getsignal(signalnum: int, /) -> PyHandler:
    """The handler of a signal; None for one that is not Python's."""
    return _handlers.get(_number(signalnum), SIG_DFL)


def siginterrupt(signalnum: int, flag: int, /) -> None:
    """Whether a signal interrupts calls."""
    number = _number(signalnum)
    old = here.sys.sigaction(number, None)
    here.sys.sigaction(number, old, 0 if flag else SA_RESTART)


def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    """Where the number of each signal that comes is written to; returns the fd before, or -1."""
    global _wakeup_fd, _warn_on_full_buffer
    number = operator.index(fd)
    if not _in_main_thread():
        raise ValueError("set_wakeup_fd only works in main thread of the main interpreter")
    if number != -1 and not here.sys.fcntl(number, F_GETFL) & O_NONBLOCK:
        raise ValueError(f"the fd {number} must be in non-blocking mode")
    old, _wakeup_fd, _warn_on_full_buffer = _wakeup_fd, number, bool(warn_on_full_buffer)
    return old


# --- sending ---
def _process_id() -> int:
    return here.process_id() or os.getpid()


def raise_signal(signalnum: int, /) -> None:
    """Send a signal to the calling thread."""
    here.sys.tgkill(_process_id(), here.thread_id() or threading.get_native_id(), signalnum)
    check_signals()


def pthread_kill(thread_id: int, signalnum: int, /) -> None:
    """Send a signal to a thread."""
    if here.sched is None:
        thread_id = next((t.native_id or 0 for t in threading.enumerate() if t.ident == thread_id), 0) or 2**31 - 1
    here.sys.tgkill(_process_id(), thread_id, signalnum)
    check_signals()


def pidfd_send_signal(pidfd: int, signalnum: int, siginfo: None = None, flags: int = 0, /) -> None:
    """Send a signal to a process."""
    if siginfo is not None:
        raise TypeError("siginfo must be None")
    here.sys.pidfd_send_signal(pidfd, signalnum, flags)


# --- masks and waiting ---
def _mask(signals: Iterable[int]) -> list[int]:
    mask = []
    for signum in signals:
        number = operator.index(signum)
        if not 1 <= number <= LAST:
            raise ValueError(f"signal number {number} out of range [1; {LAST}]")
        mask.append(number)
    return mask


def pthread_sigmask(how: int, mask: Iterable[int], /) -> set[int]:
    """Change the thread's mask, and return the one before."""
    old = here.sys.sigprocmask(how, _mask(mask))
    check_signals()
    return old


def sigpending() -> set[int]:
    """The blocked signals that wait."""
    return here.sys.sigpending()


def sigwait(sigset: Iterable[int], /) -> int:
    """Take a signal of the set, waiting for one."""
    mask = _mask(sigset)
    while True:
        try:
            return here.sys.sigtimedwait(mask)[0]
        except InterruptedError:
            continue


def sigwaitinfo(sigset: Iterable[int], /) -> real.struct_siginfo:
    """Take a signal of the set, waiting for one, and all that is known of it."""
    info = _sigtimedwait(_mask(sigset), None)
    assert info is not None
    return info


def sigtimedwait(sigset: Iterable[int], timeout: float, /) -> real.struct_siginfo | None:
    """The same, for so many seconds at most; None when they are over."""
    ns = _nanoseconds(timeout)
    if ns < 0:
        raise ValueError("timeout must be non-negative")
    return _sigtimedwait(_mask(sigset), ns)


def _sigtimedwait(mask: list[int], ns: int | None) -> real.struct_siginfo | None:
    deadline = None if ns is None else here.clock_gettime_ns(1) + ns
    while True:
        try:
            signo, code, error, pid, uid, status = here.sys.sigtimedwait(mask, ns)
            # (si_band lies where si_pid and si_uid do.)
            return real.struct_siginfo((signo, code, error, pid, uid, status, pid | uid << 32))
        except BlockingIOError:
            return None
        except InterruptedError:
            pass
        check_signals()
        if deadline is not None:
            ns = deadline - here.clock_gettime_ns(1)
            if ns < 0:
                return None


def pause() -> None:
    """Wait until a signal handler has run."""
    try:
        here.sys.pause()
    except InterruptedError:
        pass
    check_signals()


# --- timers ---
def alarm(seconds: int, /) -> int:
    """SIGALRM after so many seconds; returns how many were left of the alarm before."""
    return here.sys.alarm(operator.index(seconds) & 0x7FFFFFFF)


def _nanoseconds(seconds: object) -> int:
    if isinstance(seconds, float):
        if math.isnan(seconds):
            raise ValueError("Invalid value NaN (not a number)")
        if not -(2.0**63) <= seconds * 1e9 < 2.0**63:
            raise OverflowError("timestamp out of range for platform time_t")
        return math.ceil(seconds * 1e9)
    ns = operator.index(seconds) * NSEC  # type: ignore[arg-type]  # TypeError for what is no number
    if not -(2**63) <= ns < 2**63:
        raise OverflowError(f"timestamp too large to convert to C {PYTIME}")
    return ns


def setitimer(which: int, seconds: float, interval: float = 0.0, /) -> tuple[float, float]:
    """SIGALRM after ``seconds``, and then at each interval; returns the setting before."""
    value_us, interval_us = (-(-_nanoseconds(t) // 1000) for t in (seconds, interval))
    try:
        return _seconds(here.sys.setitimer(operator.index(which), value_us, interval_us))
    except OSError as error:
        raise real.ItimerError(error.errno, error.strerror) from None


def getitimer(which: int, /) -> tuple[float, float]:
    """How long until SIGALRM, and the interval after that."""
    try:
        return _seconds(here.sys.getitimer(operator.index(which)))
    except OSError as error:
        raise real.ItimerError(error.errno, error.strerror) from None


def _seconds(setting: tuple[int, int]) -> tuple[float, float]:
    value, interval = (us // 1_000_000 + us % 1_000_000 / 1e6 for us in setting)
    return value, interval


def set_interrupt(signum: int) -> None:
    """PyErr_SetInterruptEx: as if the signal had come, for _thread.interrupt_main."""
    handler = getsignal(signum)
    if handler is not None and handler not in (SIG_DFL, SIG_IGN):
        trip(signum)


def reset() -> None:
    """A new process: handlers that were in its place before exec are gone, what was ignored still is, and SIGINT is KeyboardInterrupt."""
    global _wakeup_fd
    _tripped.clear()
    _handlers.clear()
    _wakeup_fd = -1
    for signum in here.begin_new_exec():
        _handlers[signum] = SIG_IGN
    if SIGINT not in _handlers:
        signal(SIGINT, default_int_handler)


_handlers.update({SIGPIPE: SIG_IGN, SIGXFSZ: SIG_IGN, SIGINT: default_int_handler})
