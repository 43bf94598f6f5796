"""Alarms and interval timers, waiting for signals, and signals to one thread or through a pidfd."""

from typing import Any

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    ITIMER_REAL,
    NSEC_PER_SEC,
    O_DIRECTORY,
    SA_RESTART,
    SIG_BLOCK,
    SIG_IGN,
    SIGALRM,
    SIGCHLD,
    SIGKILL,
    SIGRTMIN,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    WNOHANG,
)

from .helpers import MS, World, err, settle, start
from .test_signal import child, noted, result


def test_alarm(world: World) -> None:
    """SIGALRM once, after so many seconds; the next alarm returns what was left, rounded but not to 0."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGALRM)
        assert sys.alarm(100) == 0
        assert sys.alarm(1) == 100
        assert err(sys.nanosleep, 60 * NSEC_PER_SEC) == "EINTR"
        assert log == [SIGALRM]
        assert sys.alarm(0) == 0
        sys.alarm(2)
        settle(sys, 700)
        assert sys.alarm(0) == 1
        settle(sys, 10)
        assert log == [SIGALRM]
        sys.setitimer(ITIMER_REAL, 100_000)
        assert sys.alarm(0) == 1

    world.run(main)


def test_setitimer(world: World) -> None:
    """It repeats, tells what is left, and is disarmed by 0, its interval too."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGALRM)
        assert sys.getitimer(ITIMER_REAL) == (0, 0)
        assert sys.setitimer(ITIMER_REAL, 10_000_000, 5_000_000) == (0, 0)
        value, interval = sys.getitimer(ITIMER_REAL)
        assert 9_000_000 < value <= 10_000_000
        assert interval == 5_000_000
        assert sys.setitimer(ITIMER_REAL, 30_000, 30_000)[1] == 5_000_000
        for _ in range(3):
            assert err(sys.nanosleep, 60 * NSEC_PER_SEC) == "EINTR"
        assert log == [SIGALRM] * 3
        assert sys.setitimer(ITIMER_REAL, 0, 30_000)[1] == 30_000
        assert sys.getitimer(ITIMER_REAL) == (0, 0)
        settle(sys, 70)
        assert len(log) == 3

    world.run(main)


def test_setitimer_errors(world: World) -> None:
    """EINVAL for no timer and for negative times."""

    def main(sys: Syscalls) -> None:
        assert err(sys.setitimer, 3, 1) == "EINVAL"
        assert err(sys.setitimer, -1, 1) == "EINVAL"
        assert err(sys.getitimer, 7) == "EINVAL"
        assert err(sys.setitimer, ITIMER_REAL, -1) == "EINVAL"
        assert err(sys.setitimer, ITIMER_REAL, 1, -1) == "EINVAL"
        assert sys.getitimer(ITIMER_REAL) == (0, 0)

    world.run(main)


def test_a_blocked_alarm_waits_and_its_timer_rests(world: World) -> None:
    """A periodic timer goes on when its signal is taken, at the next time of its own."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGALRM])
        sys.setitimer(ITIMER_REAL, 20_000, 20_000)
        settle(sys, 90)
        assert sys.sigpending() == {SIGALRM}
        assert sys.getitimer(ITIMER_REAL) == (0, 20_000)
        signo, code, error, _pid, _uid, status = sys.sigtimedwait([SIGALRM], 0)
        assert (signo, code, error, status) == (SIGALRM, 0x80, 0, 0)
        value, interval = sys.getitimer(ITIMER_REAL)
        assert 0 < value <= 20_000
        assert interval == 20_000
        sys.setitimer(ITIMER_REAL, 0)

    world.run(main)


def test_an_ignored_alarm(world: World) -> None:
    """What becomes of a periodic timer whose signal is ignored: nobody takes it, so it is not started again."""

    def main(sys: Syscalls) -> None:
        sys.sigaction(SIGALRM, SIG_IGN)
        sys.setitimer(ITIMER_REAL, 20_000, 20_000)
        settle(sys, 50)
        assert sys.getitimer(ITIMER_REAL) == (0, 20_000)

    world.run(main)


def test_a_child_has_no_timer_of_its_parents(world: World) -> None:
    """Timers are not inherited, and end with their process."""

    def main(sys: Syscalls) -> None:
        noted(sys, SIGALRM)
        sys.setitimer(ITIMER_REAL, 10_000_000)
        pid, r = child(sys, lambda sys: (sys.getitimer(ITIMER_REAL), sys.alarm(50)))
        assert result(sys, r) == "((0, 0), 0)"
        sys.waitpid(pid)
        assert sys.alarm(0) in (9, 10)

    world.run(main)


@pytest.mark.parametrize("flags", [0, SA_RESTART])
def test_pause(world: World, flags: int) -> None:
    """It ends with a handler, whatever SA_RESTART says, and not by a signal that is ignored."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR1, flags=flags)
        sys.sigaction(SIGUSR2, SIG_IGN)
        me = sys.getpid()

        def other(sys: Syscalls) -> None:
            settle(sys, 20)
            sys.kill(me, SIGUSR2)
            settle(sys, 20)
            assert log == []
            sys.kill(me, SIGUSR1)

        pid = sys.spawn(other)
        assert err(sys.pause) == "EINTR"
        assert log == [SIGUSR1]
        assert sys.waitpid(pid) == (pid, 0)

    world.run(main)


def test_sigtimedwait_takes_what_is_pending(world: World) -> None:
    """Lowest first; of what kind and from whom; EAGAIN when there is none."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1, SIGUSR2, SIGRTMIN])
        me = sys.getpid()
        assert err(sys.sigtimedwait, [SIGUSR1], 0) == "EAGAIN"
        assert err(sys.sigtimedwait, [SIGUSR1], 5 * MS) == "EAGAIN"
        assert err(sys.sigtimedwait, [], 5 * MS) == "EAGAIN"
        assert err(sys.sigtimedwait, [SIGUSR1], -1) == "EINVAL"
        sys.kill(me, SIGUSR2)
        sys.kill(me, SIGUSR1)
        sys.kill(me, SIGRTMIN)
        sys.kill(me, SIGRTMIN)
        assert sys.sigtimedwait([SIGUSR1, SIGUSR2], 0)[:4] == (SIGUSR1, 0, 0, me)
        assert sys.sigtimedwait([SIGUSR1, SIGUSR2], None)[:4] == (SIGUSR2, 0, 0, me)
        assert sys.sigtimedwait([SIGRTMIN], 0)[0] == SIGRTMIN
        assert sys.sigtimedwait([SIGRTMIN], 0)[0] == SIGRTMIN
        assert err(sys.sigtimedwait, [SIGRTMIN], 0) == "EAGAIN"
        assert sys.sigpending() == set()

    world.run(main)


def test_sigtimedwait_waits(world: World) -> None:
    """It sleeps until one comes, also for a signal whose default action would end the process, and the mask is as it was."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGTERM])
        me = sys.getpid()

        def other(sys: Syscalls) -> None:
            settle(sys, 30)
            sys.kill(me, SIGTERM)

        pid = sys.spawn(other)
        assert sys.sigtimedwait([SIGTERM], 20 * NSEC_PER_SEC)[:4] == (SIGTERM, 0, 0, pid)
        assert SIGTERM in sys.sigprocmask(SIG_BLOCK)
        sys.waitpid(pid)

    world.run(main)


def test_sigtimedwait_and_the_end_of_a_child(world: World) -> None:
    """SIGCHLD, ignored by default, is kept for who waits for it, with the child's pid and status."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> None:
            settle(sys, 20)
            sys.exit(7)

        sys.sigprocmask(SIG_BLOCK, [SIGCHLD])
        pid = sys.spawn(body)
        signo, code, _, who, _, status = sys.sigtimedwait([SIGCHLD], None)
        assert (signo, code, who, status) == (SIGCHLD, 1, pid, 7)
        sys.waitpid(pid)

    world.run(main)


@pytest.mark.parametrize("flags", [0, SA_RESTART])
def test_sigtimedwait_is_interrupted_by_another_signal(world: World, flags: int) -> None:
    """EINTR after the handler of a signal that is not waited for, also with SA_RESTART."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR2, flags=flags)
        me = sys.getpid()

        def other(sys: Syscalls) -> None:
            settle(sys, 20)
            sys.kill(me, SIGUSR2)

        pid = sys.spawn(other)
        assert err(sys.sigtimedwait, [SIGUSR1], None) == "EINTR"
        assert log == [SIGUSR2]
        sys.waitpid(pid)

    world.run(main)


def test_tgkill(world: World) -> None:
    """A signal for one thread waits for it alone."""

    def main(sys: Syscalls) -> None:
        me = sys.getpid()
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
        got: list[Any] = []

        def thread(sys: Syscalls) -> None:
            got.append(sys.sigtimedwait([SIGUSR1], 5 * NSEC_PER_SEC))

        tid = start(sys, thread)
        sys.tgkill(me, me, SIGUSR1)
        assert sys.sigpending() == {SIGUSR1}
        settle(sys, 20)
        assert got == []
        sys.tgkill(me, tid, SIGUSR1)
        sys.join(tid)
        assert got[0][:4] == (SIGUSR1, 0, 0, me)
        assert sys.sigtimedwait([SIGUSR1], 0)[:4] == (SIGUSR1, 0, 0, me)
        sys.tgkill(me, me, 0)
        assert err(sys.tgkill, me, 2**31 - 1, SIGUSR1) == "ESRCH"
        assert err(sys.tgkill, 2**31 - 1, me, SIGUSR1) == "ESRCH"
        assert err(sys.tgkill, 0, me, SIGUSR1) == "EINVAL"
        assert err(sys.tgkill, me, me, 65) == "EINVAL"
        assert err(sys.tgkill, me, me, -1) == "EINVAL"

    world.run(main)


def test_tgkill_of_a_zombie(world: World) -> None:
    """A process that has ended and was not waited for takes it, to no effect."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(lambda sys: None)
        settle(sys, 60)
        sys.tgkill(pid, pid, SIGUSR1)
        assert err(sys.tgkill, pid, pid, 65) == "EINVAL"
        assert sys.waitpid(pid) == (pid, 0)
        assert err(sys.tgkill, pid, pid, SIGUSR1) == "ESRCH"

    world.run(main)


def test_pidfd_send_signal(world: World) -> None:
    """As kill; ESRCH when the process has been waited for."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(lambda sys: sys.nanosleep(60 * NSEC_PER_SEC))
        fd = sys.pidfd_open(pid)
        sys.pidfd_send_signal(fd, 0)
        assert err(sys.pidfd_send_signal, fd, 65) == "EINVAL"
        assert err(sys.pidfd_send_signal, fd, SIGKILL, 64) == "EINVAL"
        assert err(sys.pidfd_send_signal, 999, SIGKILL) == "EBADF"
        assert err(sys.pidfd_send_signal, sys.eventfd(), SIGKILL) == "EBADF"
        assert sys.waitpid(pid, WNOHANG) == (0, 0)
        sys.pidfd_send_signal(fd, SIGKILL)
        _, status = sys.waitpid(pid)
        assert status == SIGKILL
        assert err(sys.pidfd_send_signal, fd, 0) == "ESRCH"

    world.run(main)


def test_clocks_of_processors(world: World) -> None:
    """The clocks of a process, and of a thread of one's own; EINVAL for one that there is not."""

    def main(sys: Syscalls) -> None:
        me = sys.getpid()
        for clock in (2, 3, ~me << 3 | 2, ~me << 3 | 6, ~0 << 3 | 2, ~0 << 3 | 6):
            assert sys.clock_gettime_ns(clock) >= 0
        pid = sys.spawn(lambda sys: sys.nanosleep(60 * NSEC_PER_SEC))
        assert sys.clock_gettime_ns(~pid << 3 | 2) >= 0
        for clock in (12, 15, 99, ~pid << 3 | 6, ~(2**22 + 1) << 3 | 2, ~(2**22 + 1) << 3 | 6):
            assert err(sys.clock_gettime_ns, clock) == "EINVAL"
        sys.kill(pid, SIGKILL)
        sys.waitpid(pid)

    world.run(main)


def test_a_directory_of_proc_is_a_pidfd_for_signals(world: World) -> None:
    """pidfd_send_signal takes /proc/PID, too."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR1)
        fd = sys.open(f"/proc/{sys.getpid()}", O_DIRECTORY)
        sys.pidfd_send_signal(fd, SIGUSR1)
        assert log == [SIGUSR1]
        assert err(sys.pidfd_send_signal, sys.open("/proc", O_DIRECTORY), SIGUSR1) == "EBADF"

    world.run(main)
