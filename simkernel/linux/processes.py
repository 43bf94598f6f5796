"""The calls on processes, threads and time."""

import ctypes
import errno
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterable
from ctypes import c_int
from typing import NoReturn

from simkernel.api import FutexWord, Handler, Main
from simkernel.errors import Unsupported
from simkernel.linux.libc import (
    RLIM64_INFINITY,
    RLIMIT,
    SIGINFO,
    SIGINFO_SIZE,
    TIME,
    addressof,
    c_alarm,
    c_futex,
    c_getitimer,
    c_getrlimit,
    c_kill,
    c_nanosleep,
    c_pause,
    c_setitimer,
    c_setrlimit,
    c_signalfd,
    c_sigprocmask,
    c_sigtimedwait,
    c_tgkill,
    c_timerfd_create,
    c_timerfd_gettime,
    c_timerfd_settime,
    c_waitpid,
    check_ints,
    fail,
    signums,
    sigset,
    timespec,
    two_words,
)
from simkernel.linux.signals import sigaction
from simkernel.linux.threads import exit_code, flush_stdio, forget_threads, fork_process, own, thread_ids, threads
from simkernel.linux.waiting import WaitingCalls
from simkernel.uapi import FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE, NSEC_PER_SEC, SIG_DFL, SIG_IGN

# A parameter of sigprocmask hides the name.
_set = set


def _itimerspec(raw: bytes) -> tuple[int, int]:
    """(it_value, it_interval) of a struct itimerspec, in nanoseconds."""
    (interval_s, interval_ns), (value_s, value_ns) = TIME.iter_unpack(raw)
    return value_s * NSEC_PER_SEC + value_ns, interval_s * NSEC_PER_SEC + interval_ns


def _futex_word(word: FutexWord) -> ctypes.c_uint32:
    """The word of a futex call.  TypeError for one that has no address."""
    if not isinstance(word, ctypes.c_uint32):
        raise TypeError(f"on the real kernel the word of a futex is a ctypes.c_uint32, not {type(word).__name__}")
    return word


def _itimerval(raw: bytes) -> tuple[int, int]:
    """(it_value, it_interval) of a struct itimerval, in microseconds."""
    (interval_s, interval_us), (value_s, value_us) = TIME.iter_unpack(raw)
    return value_s * 1_000_000 + value_us, interval_s * 1_000_000 + interval_us


class ProcessCalls(WaitingCalls):
    """Processes, threads, time and limits."""

    __slots__ = ()

    # --- time ---
    def clock_gettime_ns(self, clockid: int, /) -> int:
        """clock_gettime(2) in nanoseconds."""
        return time.clock_gettime_ns(clockid)

    def nanosleep(self, ns: int, /) -> None:
        """nanosleep(2), once: EINTR when a signal came."""
        if c_nanosleep(timespec(ns), None) < 0:
            fail()

    # --- processes and threads ---
    def spawn(self, main: Main, /, *args: object) -> int:
        """fork(2), and run ``main(sys, *args)`` in the child.

        The child ends with status 0, with 1 and a traceback on stderr if ``main`` raises, and as SystemExit says.
        """
        pid = fork_process()
        if pid:
            return pid
        status = 1
        try:
            forget_threads()
            main(self, *args)
            status = 0
        except SystemExit as e:
            status = exit_code(e)
        except BaseException:
            traceback.print_exc()
        finally:
            flush_stdio()
            os._exit(status)

    def thread(self, main: Main, /, *args: object) -> int:
        """clone(2) of a thread that runs ``main(sys, *args)``.  Returns a small number for join.

        An exception ends the thread with a traceback on stderr; the process goes on.
        """

        def body() -> None:
            own.tid = tid
            try:
                main(self, *args)
            except SystemExit:
                pass
            except BaseException:
                traceback.print_exc()

        tid = next(thread_ids)
        thread = threads[tid] = threading.Thread(target=body, name=f"thread {tid}", daemon=True)
        try:
            thread.start()
        except BaseException:
            del threads[tid]
            raise
        return tid

    def join(self, tid: int, /) -> None:
        """Wait until thread ``tid`` has ended.  ESRCH if there is none or it was joined already, EDEADLK for oneself."""
        if tid >> 31:
            check_ints(tid)
        if tid and tid == own.tid:
            raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
        thread = threads.pop(tid, None)
        if thread is None:
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
        thread.join()

    def futex_wait(self, word: FutexWord, expected: int, timeout_ns: int | None = None, /) -> None:
        """FUTEX_WAIT.  ``word``: a ctypes.c_uint32."""
        if expected >> 32:
            raise OverflowError(f"expected {expected} does not fit a C unsigned int")
        timeout = None if timeout_ns is None else timespec(timeout_ns)
        if c_futex(_futex_word(word), FUTEX_WAIT_PRIVATE, expected, timeout) < 0:
            fail()

    def futex_wake(self, word: FutexWord, n: int, /) -> int:
        """FUTEX_WAKE.  ``word``: a ctypes.c_uint32."""
        check_ints(n)
        woken = c_futex(_futex_word(word), FUTEX_WAKE_PRIVATE, n & 0xFFFFFFFF, None)
        if woken < 0:
            fail()
        return woken

    def waitpid(self, pid: int, options: int = 0, /) -> tuple[int, int]:
        """waitpid(2)."""
        if (pid + 0x80000000) >> 32 or options >> 31:
            check_ints(pid, options)
        status = c_int()
        child: int = c_waitpid(pid, addressof(status), options)
        if child < 0:
            fail()
        return child, status.value

    def kill(self, pid: int, signum: int, /) -> None:
        """kill(2).  Unsupported for pid -1, every process that the user may signal: that is no test's business."""
        if (pid | signum) >> 31:
            check_ints(pid, signum)
            if pid == -1:
                raise Unsupported("kill(-1, ...) on the real kernel")
        if c_kill(pid, signum) < 0:
            fail()

    def tgkill(self, tgid: int, tid: int, signum: int, /) -> None:
        """tgkill(2)."""
        check_ints(tgid, tid, signum)
        thread = threads.get(tid)
        if c_tgkill(tgid, thread.native_id if thread is not None else tid, signum) < 0:
            fail()

    def pidfd_send_signal(self, pidfd: int, signum: int, flags: int = 0, /) -> None:
        """pidfd_send_signal(2)."""
        check_ints(pidfd, signum, flags)
        signal.pidfd_send_signal(pidfd, signum, None, flags)

    def pidfd_open(self, pid: int, flags: int = 0, /) -> int:
        """pidfd_open(2)."""
        check_ints(pid, flags)
        return os.pidfd_open(pid, flags & 0xFFFFFFFF)

    def sigaction(self, signum: int, handler: Handler | None, flags: int = 0, mask: Iterable[int] = (), /) -> Handler:
        """sigaction(2).  See simkernel.linux.signals for what differs because Python runs the handler."""
        check_ints(signum)
        if not isinstance(flags, int):
            raise TypeError(f"flags must be an int, not {type(flags).__name__}")
        if flags >> 32:
            raise OverflowError(f"flags {flags} do not fit a C unsigned int")
        if isinstance(handler, int) and handler not in (SIG_DFL, SIG_IGN):
            raise ValueError(f"handler must be SIG_DFL, SIG_IGN or a function, not {handler}")
        if handler is not None and not isinstance(handler, int) and not callable(handler):
            raise TypeError(f"handler must be SIG_DFL, SIG_IGN or a function, not {type(handler).__name__}")
        return sigaction(signum, handler, flags, mask)

    def sigprocmask(self, how: int, set: Iterable[int] | None = None, /) -> _set[int]:
        """sigprocmask(2) of the calling thread."""
        check_ints(how)
        mask = None if set is None else sigset(set)
        old = ctypes.create_string_buffer(128)
        if c_sigprocmask(how, mask, old) < 0:
            fail()
        return signums(old.raw)

    def sigpending(self) -> _set[int]:
        """sigpending(2)."""
        return {int(signum) for signum in signal.sigpending()}

    def sigtimedwait(self, set: Iterable[int], timeout_ns: int | None = None, /) -> tuple[int, int, int, int, int, int]:
        """sigtimedwait(2)."""
        raw = ctypes.create_string_buffer(SIGINFO_SIZE)
        if c_sigtimedwait(sigset(set), raw, None if timeout_ns is None else timespec(timeout_ns)) < 0:
            fail()
        signo, error, code, pid, uid, status = SIGINFO.unpack_from(raw)
        # What SIGALRM of a timer has there is something else.
        return (signo, code, error, pid, uid, status if signo == signal.SIGCHLD else 0)

    def pause(self) -> None:
        """pause(2)."""
        c_pause()
        fail()

    def alarm(self, seconds: int, /) -> int:
        """alarm(2)."""
        check_ints(seconds)
        if seconds < 0:
            raise ValueError(f"seconds must not be negative: {seconds}")
        left: int = c_alarm(seconds)
        return left

    def getitimer(self, which: int, /) -> tuple[int, int]:
        """getitimer(2), in microseconds."""
        check_ints(which)
        old = ctypes.create_string_buffer(2 * TIME.size)
        if c_getitimer(which, old) < 0:
            fail()
        return _itimerval(old.raw)

    def setitimer(self, which: int, value_us: int, interval_us: int = 0, /) -> tuple[int, int]:
        """setitimer(2), in microseconds."""
        check_ints(which)
        old = ctypes.create_string_buffer(2 * TIME.size)
        if c_setitimer(which, two_words(*divmod(interval_us, 1_000_000)) + two_words(*divmod(value_us, 1_000_000)), old) < 0:
            fail()
        return _itimerval(old.raw)

    def signalfd(self, fd: int, mask: Iterable[int], flags: int = 0, /) -> int:
        """signalfd(2)."""
        check_ints(fd, flags)
        got: int = c_signalfd(fd, sigset(mask), flags)
        if got < 0:
            fail()
        return got

    def timerfd_create(self, clockid: int, flags: int = 0, /) -> int:
        """timerfd_create(2)."""
        check_ints(clockid, flags)
        fd: int = c_timerfd_create(clockid, flags)
        if fd < 0:
            fail()
        return fd

    def timerfd_settime(self, fd: int, flags: int, initial_ns: int, interval_ns: int = 0, /) -> tuple[int, int]:
        """timerfd_settime(2), in nanoseconds."""
        check_ints(fd, flags)
        old = ctypes.create_string_buffer(2 * TIME.size)
        if c_timerfd_settime(fd, flags, timespec(interval_ns) + timespec(initial_ns), old) < 0:
            fail()
        return _itimerspec(old.raw)

    def timerfd_gettime(self, fd: int, /) -> tuple[int, int]:
        """timerfd_gettime(2), in nanoseconds."""
        check_ints(fd)
        old = ctypes.create_string_buffer(2 * TIME.size)
        if c_timerfd_gettime(fd, old) < 0:
            fail()
        return _itimerspec(old.raw)

    def getpid(self) -> int:
        """getpid(2)."""
        return os.getpid()

    def getppid(self) -> int:
        """getppid(2)."""
        return os.getppid()

    def getpgid(self, pid: int, /) -> int:
        """getpgid(2)."""
        return os.getpgid(pid)

    def setpgid(self, pid: int, pgid: int, /) -> None:
        """setpgid(2)."""
        os.setpgid(pid, pgid)

    def getsid(self, pid: int, /) -> int:
        """getsid(2)."""
        return os.getsid(pid)

    def setsid(self) -> int:
        """setsid(2)."""
        os.setsid()
        return os.getpid()

    def exit(self, status: int, /) -> NoReturn:
        """_exit(2) of the whole process, after Python's own stdout and stderr were flushed."""
        if status >> 31:
            check_ints(status)
        flush_stdio()
        os._exit(status & 0xFF)

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        """getrlimit(2): (soft, hard), RLIM_INFINITY as -1."""
        if resource >> 31:
            check_ints(resource)
        limits = ctypes.create_string_buffer(RLIMIT.size)
        if c_getrlimit(resource, limits) < 0:
            fail()
        soft, hard = RLIMIT.unpack(limits)
        return (-1 if soft == RLIM64_INFINITY else soft, -1 if hard == RLIM64_INFINITY else hard)

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        """setrlimit(2): (soft, hard), each -1 (RLIM_INFINITY) to 2**64 - 1."""
        if resource >> 31:
            check_ints(resource)
        soft, hard = limits
        for limit in (soft, hard):
            if limit >> 64 and limit != -1:
                raise OverflowError(f"the limit {limit} does not fit a C rlim_t")
        if c_setrlimit(resource, RLIMIT.pack(soft & RLIM64_INFINITY, hard & RLIM64_INFINITY)) < 0:
            fail()
