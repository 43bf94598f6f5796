"""The calls on processes, threads and time (kernel/fork.c, exit.c, signal.c, sys.c, time/)."""

import errno
from collections.abc import Iterable
from typing import Final

from simkernel.api import FutexWord, Handler, Main
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.exit import do_wait, join_thread
from simkernel.kernel.file import File
from simkernel.kernel.fork import copy_process, copy_thread, wake_up_new_task
from simkernel.kernel.futex import futex_wait, futex_wake
from simkernel.kernel.itimer import alarm_setitimer, do_getitimer, do_setitimer
from simkernel.kernel.namei import DirFile
from simkernel.kernel.pidfd import PidFd
from simkernel.kernel.procfs import ProcPidDir
from simkernel.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, KSigAction, Process, Sched, SigInfo, Task
from simkernel.kernel.signal import (
    SI_TKILL,
    SI_USER,
    SIG_KERNEL_ONLY_MASK,
    do_group_exit,
    do_kill,
    do_pause,
    do_sigaction,
    do_sigtimedwait,
    do_tkill,
    send_signal,
    sigprocmask,
)
from simkernel.kernel.signalfd import SignalFd
from simkernel.kernel.syscalls.base import NR_OPEN, c_int, c_uint, signals, sigset, timespec, timespec_range
from simkernel.kernel.syscalls.waiting import WaitingCalls
from simkernel.kernel.timerfd import TimerFd
from simkernel.uapi import (
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    ERESTART_RESTARTBLOCK,
    NSEC_PER_USEC,
    NSIG,
    O_CLOEXEC,
    O_NONBLOCK,
    PIDFD_NONBLOCK,
    RLIM_INFINITY,
    RLIMIT_NOFILE,
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SIG_DFL,
    SIG_IGN,
    TFD_TIMER_ABSTIME,
    TFD_TIMER_CANCEL_ON_SET,
)

SA_MODELLED: Final = SA_RESTART | SA_NODEFER | SA_RESETHAND | SA_NOCLDSTOP | SA_NOCLDWAIT
# A clock below 0 (include/linux/posix-timers.h): ~pid << 3, and which.
CPUCLOCK_PERTHREAD_MASK: Final = 4
CPUCLOCK_CLOCK_MASK: Final = 3
CLOCKFD_MASK: Final = 7
CLOCKFD: Final = 3
CLOCK_REALTIME_ALARM: Final = 8
CLOCK_BOOTTIME_ALARM: Final = 9


def hrtimer_nanosleep(sched: Sched, deadline: int) -> None:
    """do_nanosleep: sleep until ``deadline``.  A signal ends it; without a handler it goes on for what is left."""
    task = sched.current
    while sched.clock.now < deadline:
        if task.sigpending:
            raise oserror(ERESTART_RESTARTBLOCK)
        task.state = TASK_INTERRUPTIBLE
        try:
            sched.schedule_timeout(deadline - sched.clock.now)
        finally:
            task.state = TASK_RUNNING


def posix_cpu_clock_get(sched: Sched, clockid: int) -> int:
    """The processor time of a process or of a thread of one's own, as pthread_getcpuclockid and clock_getcpuclockid name them: none.

    EINVAL if there is no such process or thread.
    """
    if clockid & CLOCKFD_MASK == CLOCKFD:
        raise Unsupported(f"clock {clockid}, that of a device which an fd is, is not modelled")
    me, pid = sched.current, ~(clockid >> 3)
    if clockid & CPUCLOCK_PERTHREAD_MASK:
        there = not pid or (pid in sched.tasks and sched.tasks[pid].process is me.process)
    else:
        there = not pid or pid in sched.processes
    if not there or clockid & CPUCLOCK_CLOCK_MASK == 3:
        raise oserror(errno.EINVAL)
    return 0


def pidfd_to_pid(file: File) -> Process:
    """The process that an fd stands for: a pidfd's, or that of a directory /proc/PID (tgid_pidfd_to_pid).  EBADF for any other."""
    if isinstance(file, PidFd):
        return file.process
    if isinstance(file, DirFile) and isinstance(file.node, ProcPidDir):
        return file.node.process
    raise oserror(errno.EBADF)


class ProcessCalls(WaitingCalls):
    """spawn, thread, waitpid, kill, the clock, limits."""

    __slots__ = ()

    # --- time ---
    def clock_gettime_ns(self, clockid: int, /) -> int:
        c_int(clockid, "clockid")
        self.sched.stall("clock_gettime")
        if self.sched.sigwork:
            self._exit_to_user()
        return self.sched.clock.gettime(clockid) if clockid >= 0 else posix_cpu_clock_get(self.sched, clockid)

    def nanosleep(self, ns: int, /) -> None:
        timespec(ns, "ns")
        sched = self.sched
        # A sleep takes time, even one of 0 ns.
        self._interruptible(hrtimer_nanosleep, sched, sched.clock.now + max(ns, 1))

    # --- processes and threads ---
    def _start(self, task: Task, main: Main, args: tuple[object, ...]) -> int:
        self.sched.stalled = 0
        wake_up_new_task(self.sched, task, main, (self, *args), self.crash)
        return task.pid

    def spawn(self, main: Main, /, *args: object) -> int:
        if not callable(main):
            raise TypeError(f"main must be callable, not {type(main).__name__}")
        self._alive()
        return self._start(copy_process(self.sched, self.sched.current.process, getattr(main, "__name__", "main")), main, args)

    def thread(self, main: Main, /, *args: object) -> int:
        if not callable(main):
            raise TypeError(f"main must be callable, not {type(main).__name__}")
        self._alive()
        process = self.sched.current.process
        task = copy_thread(self.sched, process)
        if self.sched.watch is not None:
            for thread in process.threads:
                thread.learnt = thread.learnt or {}
        process.joinable[task.pid] = task
        return self._start(task, main, args)

    def _alive(self) -> None:
        """A task that unwinds after SIGKILL or exit starts nothing any more."""
        if self.sched.current.killed:
            self.sched.refuse()

    def join(self, tid: int, /) -> None:
        self._interruptible(join_thread, self.sched, c_int(tid, "tid"))

    def futex_wait(self, word: FutexWord, expected: int, timeout_ns: int | None = None, /) -> None:
        c_uint(expected, "expected")
        deadline: int | None = None
        if timeout_ns is not None:
            timespec(timeout_ns, "timeout_ns")
            deadline = self.sched.clock.now + timeout_ns
        self._interruptible(futex_wait, self.sched, word, expected, deadline)

    def futex_wake(self, word: FutexWord, n: int, /) -> int:
        c_int(n, "n")
        woken = futex_wake(self.sched, word, n)
        if self.sched.sigwork:
            self._exit_to_user()
        return woken

    def waitpid(self, pid: int, options: int = 0, /) -> tuple[int, int]:
        got: tuple[int, int] = self._interruptible(do_wait, self.sched, c_int(pid, "pid"), c_int(options, "options"))
        return got

    def kill(self, pid: int, signum: int, /) -> None:
        self._alive()
        c_int(pid, "pid")
        c_int(signum, "signum")
        if pid == -1:
            raise Unsupported("kill(-1, ...), to all processes, is not modelled")
        do_kill(self.sched, pid, signum)
        self.sched.stall("kill")
        self._exit_to_user()
        if self.sched.current.killed:
            self.sched.refuse()

    def tgkill(self, tgid: int, tid: int, signum: int, /) -> None:
        self._alive()
        for value, what in ((tgid, "tgid"), (tid, "tid"), (signum, "signum")):
            c_int(value, what)
        do_tkill(self.sched, tgid, tid, signum)
        self.sched.stall("tgkill")
        self._exit_to_user()

    def pidfd_send_signal(self, pidfd: int, signum: int, flags: int = 0, /) -> None:
        self._alive()
        for value, what in ((pidfd, "pidfd"), (signum, "signum"), (flags, "flags")):
            c_int(value, what)
        if flags:
            raise oserror(errno.EINVAL)
        process = pidfd_to_pid(self.sched.current.files.fget(pidfd))
        if not 0 <= signum <= NSIG:
            raise oserror(errno.EINVAL)
        if self.sched.processes.get(process.pid) is not process:
            raise oserror(errno.ESRCH)
        if signum:
            send_signal(self.sched, process, SigInfo(signum, SI_USER, self.sched.current.process.pid))
        self._exit_to_user()

    def pidfd_open(self, pid: int, flags: int = 0, /) -> int:
        c_int(pid, "pid")
        c_int(flags, "flags")
        if flags & ~PIDFD_NONBLOCK or pid <= 0:
            raise oserror(errno.EINVAL)
        process = self.sched.processes.get(pid)
        if process is None:
            raise oserror(errno.ENOENT if pid in self.sched.tasks else errno.ESRCH)
        return self._install(self.sched.current.files, PidFd(self.sched, process, flags), True)

    # --- signals ---
    def sigaction(self, signum: int, handler: Handler | None, flags: int = 0, mask: Iterable[int] = (), /) -> Handler:
        c_int(signum, "signum")
        if not isinstance(flags, int):
            raise TypeError(f"flags must be an int, not {type(flags).__name__}")
        if not 0 <= flags < 2**32:
            raise OverflowError(f"flags do not fit a C unsigned int: {flags}")
        blocked = sigset(mask)
        if handler is None:
            return do_sigaction(self.sched, signum, None)
        if isinstance(handler, int):
            if handler not in (SIG_DFL, SIG_IGN):
                raise ValueError(f"handler must be SIG_DFL, SIG_IGN or a function, not {handler}")
        elif not callable(handler):
            raise TypeError(f"handler must be SIG_DFL, SIG_IGN or a function, not {type(handler).__name__}")
        if flags & ~SA_MODELLED:
            raise Unsupported(f"sigaction with flags {flags & ~SA_MODELLED:#x} is not modelled")
        self.sched.stall("sigaction")
        return do_sigaction(self.sched, signum, KSigAction(handler, flags, blocked))

    def sigprocmask(self, how: int, set: Iterable[int] | None = None, /) -> set[int]:
        c_int(how, "how")
        old = sigprocmask(self.sched, how, None if set is None else sigset(set))
        self._exit_to_user()
        return signals(old)

    def sigpending(self) -> set[int]:
        task = self.sched.current
        return signals((task.pending.signal | task.process.shared_pending.signal) & task.blocked)

    def sigtimedwait(self, set: Iterable[int], timeout_ns: int | None = None, /) -> tuple[int, int, int, int, int, int]:
        mask = sigset(set)
        if timeout_ns is not None:
            timespec(timeout_ns, "timeout_ns")
        info: SigInfo = self._interruptible(do_sigtimedwait, self.sched, mask, timeout_ns)
        # (The C library hides that tkill is used for raise(3).)
        return info.signo, SI_USER if info.code == SI_TKILL else info.code, 0, info.pid, 0, info.status

    def pause(self) -> None:
        self._interruptible(do_pause, self.sched)

    def alarm(self, seconds: int, /) -> int:
        c_int(seconds, "seconds")
        if seconds < 0:
            raise ValueError(f"seconds must not be negative: {seconds}")
        return alarm_setitimer(self.sched, seconds)

    def getitimer(self, which: int, /) -> tuple[int, int]:
        value, interval = do_getitimer(self.sched, c_int(which, "which"))
        return value // NSEC_PER_USEC, interval // NSEC_PER_USEC

    def setitimer(self, which: int, value_us: int, interval_us: int = 0, /) -> tuple[int, int]:
        c_int(which, "which")
        for us, what in ((value_us, "value_us"), (interval_us, "interval_us")):
            timespec(us * NSEC_PER_USEC, what)
        value, interval = do_setitimer(self.sched, which, value_us * NSEC_PER_USEC, interval_us * NSEC_PER_USEC)
        return value // NSEC_PER_USEC, interval // NSEC_PER_USEC

    def signalfd(self, fd: int, mask: Iterable[int], flags: int = 0, /) -> int:
        c_int(fd, "fd")
        c_int(flags, "flags")
        sigmask = sigset(mask) & ~SIG_KERNEL_ONLY_MASK
        if flags & ~(O_CLOEXEC | O_NONBLOCK):
            raise oserror(errno.EINVAL)
        files = self.sched.current.files
        if fd == -1:
            return self._install(files, SignalFd(self.sched, sigmask, flags & O_NONBLOCK), bool(flags & O_CLOEXEC))
        file = files.fget(fd)
        if not isinstance(file, SignalFd):
            raise oserror(errno.EINVAL)
        file.set_mask(sigmask)
        return fd

    # --- timers ---
    def timerfd_create(self, clockid: int, flags: int = 0, /) -> int:
        c_int(clockid, "clockid")
        c_int(flags, "flags")
        if flags & ~(O_CLOEXEC | O_NONBLOCK):
            raise oserror(errno.EINVAL)
        if clockid in (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM):
            raise Unsupported(f"clock {clockid}, which wakes a machine that is suspended, is not modelled")
        if clockid not in (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME):
            raise oserror(errno.EINVAL)
        return self._install(self.sched.current.files, TimerFd(self.sched, clockid, flags & O_NONBLOCK), bool(flags & O_CLOEXEC))

    def timerfd_settime(self, fd: int, flags: int, initial_ns: int, interval_ns: int = 0, /) -> tuple[int, int]:
        c_int(fd, "fd")
        c_int(flags, "flags")
        for ns, what in ((initial_ns, "initial_ns"), (interval_ns, "interval_ns")):
            timespec_range(ns, what)
        if flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) or initial_ns < 0 or interval_ns < 0:
            raise oserror(errno.EINVAL)
        return self._timerfd(fd).settime(flags, initial_ns, interval_ns)

    def timerfd_gettime(self, fd: int, /) -> tuple[int, int]:
        return self._timerfd(fd).gettime()

    def _timerfd(self, fd: int) -> TimerFd:
        file = self.sched.current.files.fget(fd)
        if not isinstance(file, TimerFd):
            raise oserror(errno.EINVAL)
        return file

    def getpid(self) -> int:
        return self.sched.current.process.pid

    def getppid(self) -> int:
        parent = self.sched.current.process.parent
        return parent.pid if parent is not None else 0

    def _process(self, pid: int) -> Process:
        """The process of a pid, 0 for the running one.  ESRCH if there is none."""
        process = self.sched.processes.get(c_int(pid, "pid")) if pid else self.sched.current.process
        if process is None:
            raise oserror(errno.ESRCH)
        return process

    def getpgid(self, pid: int, /) -> int:
        return self._process(pid).pgid

    def getsid(self, pid: int, /) -> int:
        return self._process(pid).sid

    def setpgid(self, pid: int, pgid: int, /) -> None:
        c_int(pid, "pid")
        if c_int(pgid, "pgid") < 0:
            raise oserror(errno.EINVAL)
        process = self._process(pid)
        me = self.sched.current.process
        if process is not me and process.parent is not me:
            raise oserror(errno.ESRCH)
        if process.sid != me.sid or process.pid == process.sid:
            raise oserror(errno.EPERM)
        pgid = pgid or process.pid
        if pgid != process.pid and not any(other.pgid == pgid and other.sid == me.sid for other in self.sched.processes.values()):
            raise oserror(errno.EPERM)
        process.pgid = pgid

    def setsid(self) -> int:
        me = self.sched.current.process
        if any(other.pgid == me.pid for other in self.sched.processes.values()):
            raise oserror(errno.EPERM)
        me.sid = me.pgid = me.pid
        return me.pid

    def exit(self, status: int, /) -> None:
        c_int(status, "status")
        sched = self.sched
        do_group_exit(sched, sched.current.process, (status & 0xFF) << 8)
        sched.refuse()

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        c_int(resource, "resource")
        if resource != RLIMIT_NOFILE:
            raise Unsupported(f"resource {resource} is not modelled, only RLIMIT_NOFILE")
        return self.sched.current.process.rlimits[RLIMIT_NOFILE]

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        c_int(resource, "resource")
        soft, hard = limits
        for limit in (soft, hard):
            if not isinstance(limit, int):
                raise TypeError(f"a limit must be an int, not {type(limit).__name__}")
            if not -1 <= limit < 2**64:
                raise OverflowError(f"a limit does not fit a C unsigned long: {limit}")
        if resource != RLIMIT_NOFILE:
            raise Unsupported(f"resource {resource} is not modelled, only RLIMIT_NOFILE")
        if hard == RLIM_INFINITY or hard > NR_OPEN:
            raise oserror(errno.EPERM)
        if soft == RLIM_INFINITY or soft > hard:
            raise oserror(errno.EINVAL)
        self.sched.current.process.rlimits[RLIMIT_NOFILE] = (soft, hard)
