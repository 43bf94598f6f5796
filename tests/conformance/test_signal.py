"""Signals: actions, masks, who takes them, what a sleep becomes, and what a parent hears of its children."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    MSG_NOSIGNAL,
    NSEC_PER_SEC,
    O_NONBLOCK,
    POLLIN,
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SHUT_WR,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGALRM,
    SIGCHLD,
    SIGCONT,
    SIGINT,
    SIGKILL,
    SIGPIPE,
    SIGQUIT,
    SIGRTMIN,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGTTIN,
    SIGURG,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
    SO_RCVTIMEO,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    WCONTINUED,
    WNOHANG,
    WUNTRACED,
)

from .helpers import MS, World, channel, err, fill, listener, nonblocking, reset, settle, tcp_pair, timeval

Log = list[int]


def noted(sys: Syscalls, *signums: int, flags: int = 0) -> Log:
    """Handlers that note their signal."""
    log: Log = []
    for signum in signums:
        sys.sigaction(signum, log.append, flags)
    return log


def child(sys: Syscalls, body: Callable[[Syscalls], Any]) -> tuple[int, int]:
    """A process that writes the repr of what ``body`` returns to a pipe: (pid, reading end)."""
    r, w = sys.pipe2()

    def main(sys: Syscalls) -> None:
        sys.close(r)
        result = body(sys)
        sys.write(w, repr(result).encode())

    pid = sys.spawn(main)
    sys.close(w)
    settle(sys, 40)
    return pid, r


def result(sys: Syscalls, r: int) -> str:
    return sys.read(r, 4096).decode()


# --- actions ---
def test_sigaction_returns_what_was(world: World) -> None:
    """sigaction returns the old action; None only asks.  SIGPIPE is ignored, as Python starts a program."""

    def main(sys: Syscalls) -> None:
        assert sys.sigaction(SIGUSR1, SIG_IGN) == SIG_DFL
        assert sys.sigaction(SIGUSR1, None) == SIG_IGN
        log = noted(sys, SIGUSR1)
        assert callable(sys.sigaction(SIGUSR1, None))
        assert callable(sys.sigaction(SIGUSR1, SIG_DFL))
        assert sys.sigaction(SIGUSR1, None) == SIG_DFL
        assert sys.sigaction(SIGPIPE, None) == SIG_IGN
        assert sys.sigaction(SIGINT, None) == SIG_DFL
        assert log == []

    world.run(main)


@pytest.mark.parametrize("signum", [SIGKILL, SIGSTOP])
def test_kill_and_stop_have_no_handler(world: World, signum: int) -> None:
    """sigaction of SIGKILL and SIGSTOP is EINVAL; one may ask."""

    def main(sys: Syscalls) -> None:
        assert err(sys.sigaction, signum, SIG_IGN) == "EINVAL"
        assert err(sys.sigaction, signum, lambda signum: None) == "EINVAL"
        assert sys.sigaction(signum, None) == SIG_DFL

    world.run(main)


@pytest.mark.parametrize("signum", [-1, 0, 32, 33, 65, 1000])
def test_numbers_that_are_no_signals(world: World, signum: int) -> None:
    """EINVAL for what is no signal; 32 and 33 belong to the C library."""

    def main(sys: Syscalls) -> None:
        assert err(sys.sigaction, signum, SIG_IGN) == "EINVAL"
        assert err(sys.sigaction, signum, None) == "EINVAL"

    world.run(main)


@pytest.mark.parametrize("signum", [SIGINT, SIGTERM, SIGUSR1, SIGPIPE, SIGALRM, SIGQUIT, SIGRTMIN])
def test_default_action_ends_the_process(world: World, signum: int) -> None:
    """Without a handler most signals end the process; its status is the signal's number (no core: RLIMIT_CORE is 0 here)."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> None:
            sys.sigaction(signum, SIG_DFL)
            sys.nanosleep(60 * NSEC_PER_SEC)

        pid, r = child(sys, body)
        sys.kill(pid, signum)
        got, status = sys.waitpid(pid)
        assert (got, status & 0x7F) == (pid, signum)
        assert result(sys, r) == ""

    world.run(main)


@pytest.mark.parametrize("signum", [SIGCHLD, SIGURG, SIGWINCH, SIGCONT])
def test_default_action_that_is_nothing(world: World, signum: int) -> None:
    """SIGCHLD, SIGURG, SIGWINCH and SIGCONT do nothing by default, and do not end a sleep."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> Any:
            return err(sys.nanosleep, 150 * MS)

        pid, r = child(sys, body)
        sys.kill(pid, signum)
        assert result(sys, r) == "None"
        sys.waitpid(pid)

    world.run(main)


def test_ignored(world: World) -> None:
    """An ignored signal does nothing, and what is pending of it is forgotten."""

    def main(sys: Syscalls) -> None:
        sys.sigaction(SIGTERM, SIG_IGN)
        sys.kill(sys.getpid(), SIGTERM)
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
        sys.kill(sys.getpid(), SIGUSR1)
        assert sys.sigpending() == {SIGUSR1}
        sys.sigaction(SIGUSR1, SIG_IGN)
        assert sys.sigpending() == set()
        # One that is blocked waits even if it is ignored.
        sys.kill(sys.getpid(), SIGUSR1)
        assert sys.sigpending() == {SIGUSR1}
        log = noted(sys, SIGUSR1)
        sys.sigprocmask(SIG_UNBLOCK, [SIGUSR1])
        assert log == [SIGUSR1]

    world.run(main)


@pytest.mark.parametrize("signum", [SIGTSTP, SIGTTIN])
def test_an_orphaned_group_is_not_stopped_by_a_terminal(world: World, signum: int) -> None:
    """SIGTSTP, SIGTTIN and SIGTTOU stop nobody in an orphaned process group."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> Any:
            return err(sys.nanosleep, 100 * MS)

        pid, _r = child(sys, body)
        sys.kill(pid, signum)
        settle(sys)
        assert sys.waitpid(pid, WNOHANG | WUNTRACED) == (0, 0)
        sys.waitpid(pid)

    world.run(main)


def test_resethand(world: World) -> None:
    """SA_RESETHAND: the handler runs once, then the default action is back."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR1, flags=SA_RESETHAND)
        sys.kill(sys.getpid(), SIGUSR1)
        assert log == [SIGUSR1]
        assert sys.sigaction(SIGUSR1, None) == SIG_DFL

    world.run(main)


def test_a_handler_runs_before_kill_returns(world: World) -> None:
    """A signal to oneself, not blocked, is delivered before kill returns."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR1)
        for i in range(1, 4):
            sys.kill(sys.getpid(), SIGUSR1)
            assert len(log) == i

    world.run(main)


# --- masks ---
def test_blocked_signals_wait(world: World) -> None:
    """A blocked signal is pending until it is unblocked; a standard one once, however often it was sent."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR1, SIGUSR2)
        assert sys.sigprocmask(SIG_BLOCK, [SIGUSR1, SIGUSR2]) == set()
        for _ in range(3):
            sys.kill(sys.getpid(), SIGUSR1)
        assert sys.sigpending() == {SIGUSR1}
        assert log == []
        assert sys.sigprocmask(SIG_UNBLOCK, [SIGUSR1]) == {SIGUSR1, SIGUSR2}
        assert log == [SIGUSR1]
        assert sys.sigpending() == set()
        assert sys.sigprocmask(SIG_SETMASK, []) == {SIGUSR2}

    world.run(main)


def test_real_time_signals_queue(world: World) -> None:
    """A real-time signal is pending as often as it was sent."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGRTMIN + 1)
        sys.sigprocmask(SIG_BLOCK, [SIGRTMIN + 1])
        for _ in range(3):
            sys.kill(sys.getpid(), SIGRTMIN + 1)
        sys.sigprocmask(SIG_UNBLOCK, [SIGRTMIN + 1])
        # (Python notes a signal once until its function has run, so the handler may run less often there.)
        assert log == [SIGRTMIN + 1] * len(log)
        assert len(log) == (3 if world.name == "sim" else 1)

    world.run(main)


def test_kill_and_stop_can_not_be_blocked(world: World) -> None:
    """SIGKILL and SIGSTOP in a mask are left out, silently; so are the C library's own."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_SETMASK, range(1, 65))
        mask = sys.sigprocmask(SIG_SETMASK, [])
        assert set(range(1, 65)) - mask == {SIGKILL, SIGSTOP, 32, 33}
        assert err(sys.sigprocmask, 5, [SIGUSR1]) == "EINVAL"

    world.run(main)


def test_the_signal_is_blocked_while_its_handler_runs(world: World) -> None:
    """The mask in a handler has the signal itself and sa_mask; afterwards it is as before.  SA_NODEFER leaves the signal out."""

    def main(sys: Syscalls) -> None:
        masks: list[set[int]] = []

        def handler(signum: int) -> None:
            masks.append(sys.sigprocmask(SIG_BLOCK))

        sys.sigaction(SIGUSR1, handler, 0, [SIGTERM])
        sys.kill(sys.getpid(), SIGUSR1)
        sys.sigaction(SIGUSR1, handler, SA_NODEFER, [SIGTERM])
        sys.kill(sys.getpid(), SIGUSR1)
        assert masks == [{SIGUSR1, SIGTERM}, {SIGTERM}]
        assert sys.sigprocmask(SIG_BLOCK) == set()

    world.run(main)


def test_a_signal_sent_in_its_own_handler_comes_after_it(world: World) -> None:
    """A signal that its own handler sends again is delivered when the handler has returned."""

    def main(sys: Syscalls) -> None:
        log: list[str] = []

        def handler(signum: int) -> None:
            log.append("in")
            if len(log) == 1:
                sys.kill(sys.getpid(), SIGUSR1)
            log.append("out")

        sys.sigaction(SIGUSR1, handler)
        sys.kill(sys.getpid(), SIGUSR1)
        assert log == ["in", "out", "in", "out"]

    world.run(main)


def test_a_child_has_the_actions_and_the_mask_but_no_pending_signals(world: World) -> None:
    """fork copies actions and mask; pending signals are the parent's."""

    def main(sys: Syscalls) -> None:
        sys.sigaction(SIGUSR2, SIG_IGN)
        log = noted(sys, SIGUSR1)
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
        sys.kill(sys.getpid(), SIGUSR1)

        def body(sys: Syscalls) -> Any:
            found = sys.sigpending(), sys.sigprocmask(SIG_BLOCK), sys.sigaction(SIGUSR2, None), callable(sys.sigaction(SIGUSR1, None))
            sys.sigprocmask(SIG_SETMASK, [])
            return *found, log

        pid, r = child(sys, body)
        assert result(sys, r) == repr((set(), {SIGUSR1}, SIG_IGN, True, []))
        sys.waitpid(pid)
        assert sys.sigpending() == {SIGUSR1}

    world.run(main)


def test_the_order_of_handlers(kernel: Any) -> None:
    """Signals are taken by number, real-time ones last and as they came; each gets its frame on top of the one before, so the last
    taken runs first: 36, 35, 35, 12, 10.  (Measured on Linux with handlers in C; Python runs its functions by number.)
    """

    def main(sys: Syscalls) -> None:
        log = noted(sys, 10, 12, 35, 36)
        sys.sigprocmask(SIG_BLOCK, [10, 12, 35, 36])
        for signum in (12, 36, 10, 35, 35, 10):
            sys.kill(sys.getpid(), signum)
        sys.sigprocmask(SIG_UNBLOCK, [10, 12, 35, 36])
        assert log == [36, 35, 35, 12, 10]

    kernel.run(main)


# --- what a sleep becomes ---
def sleeps() -> dict[str, Callable[[Syscalls], Any]]:
    """Calls that sleep: each returns what the call returns, or its errno, when it was woken."""

    def accept(sys: Syscalls) -> Any:
        fd, _ = listener(sys)
        return err(sys.accept4, fd)

    def recv(sys: Syscalls) -> Any:
        a, _b = tcp_pair(sys)
        return err(sys.recv, a, 10)

    def unix_recv(sys: Syscalls) -> Any:
        a, _b = sys.socketpair(AF_UNIX, SOCK_STREAM)
        return err(sys.recv, a, 10)

    def send(sys: Syscalls, kind: str = "unix") -> Any:
        _a, b = channel(sys, kind)
        nonblocking(sys, b)
        fill(sys, b)
        sys.fcntl(b, 4, 0)
        return err(sys.write, b, b"x")

    def pipe_read(sys: Syscalls) -> Any:
        r, _w = sys.pipe2()
        return err(sys.read, r, 1)

    def eventfd(sys: Syscalls) -> Any:
        return err(sys.read, sys.eventfd(), 8)

    def timerfd(sys: Syscalls) -> Any:
        fd = sys.timerfd_create(1)
        return err(sys.read, fd, 8)

    def signalfd(sys: Syscalls) -> Any:
        return err(sys.read, sys.signalfd(-1, [SIGUSR2]), 128)

    def waitpid(sys: Syscalls) -> Any:
        pid = sys.spawn(lambda sys: sys.nanosleep(60 * NSEC_PER_SEC))
        try:
            return err(sys.waitpid, pid)
        finally:
            sys.kill(pid, SIGKILL)

    def epoll(sys: Syscalls) -> Any:
        return err(sys.epoll_wait, sys.epoll_create1(), 1)

    return {
        "accept4": accept,
        "tcp recv": recv,
        "udp recvfrom": lambda sys: err(sys.recvfrom, sys.socket(AF_INET, SOCK_DGRAM), 1),
        "unix recv": unix_recv,
        "unix write": send,
        "pipe read": pipe_read,
        "pipe write": lambda sys: send(sys, "pipe"),
        "eventfd read": eventfd,
        "timerfd read": timerfd,
        "signalfd read": signalfd,
        "waitpid": waitpid,
        "epoll_wait": epoll,
        "poll": lambda sys: err(sys.poll, [], -1),
        "ppoll": lambda sys: err(sys.ppoll, [], None),
        "select": lambda sys: err(sys.select, [], [], []),
        "pselect": lambda sys: err(sys.pselect, [], [], []),
        "nanosleep": lambda sys: err(sys.nanosleep, 60 * NSEC_PER_SEC),
        "epoll_pwait": lambda sys: err(sys.epoll_pwait, sys.epoll_create1(), 1, -1, []),
        "poll with a timeout": lambda sys: err(sys.poll, [], 60_000),
        "epoll_wait with a timeout": lambda sys: err(sys.epoll_wait, sys.epoll_create1(), 1, 60_000),
    }


NEVER_RESTART = {
    *("epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "pselect", "nanosleep", "poll with a timeout", "epoll_wait with a timeout"),
}


@pytest.mark.parametrize("name", sleeps())
def test_a_handler_ends_a_sleep(world: World, name: str) -> None:
    """A handler without SA_RESTART ends each of these calls with EINTR."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> Any:
            log = noted(sys, SIGUSR1)
            return sleeps()[name](sys), set(log)

        pid, r = child(sys, body)
        sys.kill(pid, SIGUSR1)
        while not sys.poll([(r, POLLIN)], 500):
            # On a busy machine it may not have been asleep yet.
            sys.kill(pid, SIGUSR1)
        assert result(sys, r) == repr(("EINTR", {SIGUSR1}))
        sys.waitpid(pid)

    world.run(main)


@pytest.mark.parametrize("name", sleeps())
def test_restart(world: World, name: str) -> None:
    """Fact 105: with SA_RESTART these calls start again and go on sleeping, but epoll_wait, poll, select and nanosleep are EINTR."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> Any:
            noted(sys, SIGUSR1, flags=SA_RESTART)
            return sleeps()[name](sys)

        pid, r = child(sys, body)
        sys.kill(pid, SIGUSR1)
        settle(sys, 40)
        if name in NEVER_RESTART:
            assert result(sys, r) == "'EINTR'"
        else:
            assert sys.poll([(r, POLLIN)], 0) == []
            sys.kill(pid, SIGKILL)
        sys.waitpid(pid)

    world.run(main)


@pytest.mark.parametrize("name", sleeps())
def test_stopped_and_continued(world: World, name: str) -> None:
    """SIGSTOP and SIGCONT, without any handler: every call goes on, but epoll_wait is EINTR (signal(7))."""

    def main(sys: Syscalls) -> None:
        pid, r = child(sys, sleeps()[name])
        sys.kill(pid, SIGSTOP)
        assert sys.waitpid(pid, WUNTRACED) == (pid, SIGSTOP << 8 | 0x7F)
        sys.kill(pid, SIGCONT)
        settle(sys, 40)
        if name.startswith("epoll"):
            assert result(sys, r) == "'EINTR'"
        else:
            assert sys.poll([(r, POLLIN)], 0) == []
            sys.kill(pid, SIGKILL)
        sys.waitpid(pid)

    world.run(main)


def test_restart_with_a_timeout_is_eintr(world: World) -> None:
    """With SO_RCVTIMEO a recv is EINTR even with SA_RESTART (signal(7))."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> Any:
            noted(sys, SIGUSR1, flags=SA_RESTART)
            a, _b = tcp_pair(sys)
            sys.setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, timeval(60_000))
            return err(sys.recv, a, 10)

        pid, r = child(sys, body)
        sys.kill(pid, SIGUSR1)
        assert result(sys, r) == "'EINTR'"
        sys.waitpid(pid)

    world.run(main)


def test_a_restarted_read_gets_its_data(world: World) -> None:
    """A read that started again returns what comes later, and the handler has run."""

    def main(sys: Syscalls) -> None:
        a, b = sys.pipe2()

        def body(sys: Syscalls) -> Any:
            log = noted(sys, SIGUSR1, flags=SA_RESTART)
            return sys.read(a, 10), log

        pid, r = child(sys, body)
        sys.kill(pid, SIGUSR1)
        settle(sys)
        sys.write(b, b"data")
        assert result(sys, r) == repr((b"data", [SIGUSR1]))
        sys.waitpid(pid)

    world.run(main)


@pytest.mark.parametrize("kind", ["pipe", "unix", "tcp"])
def test_an_interrupted_write_returns_what_was_taken(world: World, kind: str) -> None:
    """A big write that a signal interrupts returns a partial count."""

    def main(sys: Syscalls) -> None:
        fds = channel(sys, kind)

        def body(sys: Syscalls) -> Any:
            noted(sys, SIGUSR1)
            n = sys.write(fds[1], bytes(50_000_000))
            return 0 < n < 50_000_000

        pid, r = child(sys, body)
        sys.kill(pid, SIGUSR1)
        assert result(sys, r) == "True"
        sys.waitpid(pid)

    world.run(main)


def test_poll_that_found_something_is_not_interrupted(world: World) -> None:
    """A signal that waits, blocked, leaves ppoll alone when something is ready: the mask is put back first."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR1)
        r, w = sys.pipe2()
        sys.write(w, b"x")
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
        sys.kill(sys.getpid(), SIGUSR1)
        assert sys.ppoll([(r, POLLIN)], None, []) == [(r, POLLIN)]
        assert log == []
        # Nothing ready: EINTR, even if the call was not to sleep.
        assert err(sys.ppoll, [], 0, []) == "EINTR"
        assert log == [SIGUSR1]
        assert sys.sigprocmask(SIG_BLOCK) == {SIGUSR1}

    world.run(main)


def test_epoll_pwait_that_does_not_sleep_is_not_interrupted(world: World) -> None:
    """epoll_pwait with timeout 0 returns nothing and leaves a blocked signal pending; with a limit it is EINTR at once."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR1)
        ep = sys.epoll_create1()
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
        sys.kill(sys.getpid(), SIGUSR1)
        assert err(sys.epoll_pwait, ep, 1, 0, []) == []
        assert log == []
        assert err(sys.epoll_pwait, ep, 1, 1000, []) == "EINTR"
        assert log == [SIGUSR1]
        sys.kill(sys.getpid(), SIGUSR1)
        assert err(sys.epoll_pwait2, ep, 1, 1000, []) == "EINTR"
        assert log == [SIGUSR1] * 2
        assert sys.sigprocmask(SIG_BLOCK) == {SIGUSR1}

    world.run(main)


def test_pselect_opens_the_door_for_a_signal(world: World) -> None:
    """The reason for pselect: a signal, blocked until then, that comes before the call is not lost in it."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGTERM)
        r, _w = sys.pipe2()
        sys.sigprocmask(SIG_BLOCK, [SIGTERM])
        sys.kill(sys.getpid(), SIGTERM)
        assert err(sys.pselect, [r], [], [], None, []) == "EINTR"
        assert log == [SIGTERM]
        assert sys.pselect([], [], [], 1000) == ([], [], [])
        assert err(sys.pselect, [], [], [], -1) == "EINVAL"
        assert err(sys.ppoll, [], -1) == "EINVAL"

    world.run(main)


def test_a_blocked_signal_does_not_end_a_sleep(world: World) -> None:
    """A blocked signal lets the sleeper sleep, and its handler runs when it is unblocked."""

    def main(sys: Syscalls) -> None:
        a, b = sys.pipe2()

        def body(sys: Syscalls) -> Any:
            log = noted(sys, SIGUSR1)
            sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
            data = sys.read(a, 10)
            before = list(log)
            sys.sigprocmask(SIG_SETMASK, [])
            return data, before, log

        pid, r = child(sys, body)
        sys.kill(pid, SIGUSR1)
        settle(sys)
        sys.write(b, b"x")
        assert result(sys, r) == repr((b"x", [], [SIGUSR1]))
        sys.waitpid(pid)

    world.run(main)


def test_an_exception_in_a_handler_leaves_the_call(world: World) -> None:
    """What a handler raises comes out of the interrupted call, as in Python."""

    def main(sys: Syscalls) -> None:
        def handler(signum: int) -> None:
            raise KeyError(signum)

        sys.sigaction(SIGUSR1, handler)
        with pytest.raises(KeyError):
            sys.kill(sys.getpid(), SIGUSR1)
        assert sys.sigprocmask(SIG_BLOCK) == set()

    world.run(main)


def test_a_handler_may_make_calls(world: World) -> None:
    """The self-pipe: a handler writes, the loop reads; errno of the interrupted call is its own."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2(O_NONBLOCK)

        def handler(signum: int) -> None:
            sys.write(w, bytes([signum]))
            assert err(sys.close, 999) == "EBADF"

        sys.sigaction(SIGUSR1, handler)

        def body(sys: Syscalls) -> Any:
            return err(sys.poll, [], -1), sys.read(r, 10)

        pid, out = child(sys, body)
        sys.kill(pid, SIGUSR1)
        assert result(sys, out) == repr(("EINTR", bytes([SIGUSR1])))
        sys.waitpid(pid)

    world.run(main)


def test_a_sleeping_thread_that_does_not_block_it_takes_the_signal(world: World) -> None:
    """A signal to the process goes to its first thread, unless that blocks it; then to another, whose sleep it ends."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> Any:
            noted(sys, SIGUSR1)
            got: list[Any] = []
            r, _w = sys.pipe2()
            tid = sys.thread(lambda sys: got.append(err(sys.read, r, 1)))
            settle(sys)
            sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
            sys.kill(sys.getpid(), SIGUSR1)
            sys.join(tid)
            return got, sys.sigpending()

        pid, out = child(sys, body)
        assert result(sys, out) == repr((["EINTR"], set()))
        sys.waitpid(pid)

    world.run(main)


# --- SIGPIPE ---
def test_sigpipe_of_a_pipe(world: World) -> None:
    """Fact 126: a write without a reader is EPIPE, and SIGPIPE comes with it."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGPIPE)
        r, w = sys.pipe2()
        sys.close(r)
        assert err(sys.write, w, b"x") == "EPIPE"
        assert log == [SIGPIPE]
        assert err(sys.writev, w, [b"x", b"y"]) == "EPIPE"
        assert log == [SIGPIPE] * 2

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_sigpipe_of_a_socket(world: World, kind: str) -> None:
    """Fact 126: EPIPE on a stream comes with SIGPIPE, unless MSG_NOSIGNAL."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGPIPE)
        _a, b = channel(sys, kind)
        sys.shutdown(b, SHUT_WR)
        assert err(sys.send, b, b"x", MSG_NOSIGNAL) == "EPIPE"
        assert log == []
        assert err(sys.send, b, b"x") == "EPIPE"
        assert log == [SIGPIPE]
        assert err(sys.write, b, b"x") == "EPIPE"
        assert log == [SIGPIPE] * 2

    world.run(main)


def test_a_reset_is_not_sigpipe(world: World) -> None:
    """ECONNRESET comes without a signal; the EPIPE after it with one."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGPIPE)
        a, b = tcp_pair(sys)
        reset(sys, a)
        assert err(sys.send, b, b"x") == "ECONNRESET"
        assert log == []
        assert err(sys.send, b, b"x") == "EPIPE"
        assert log == [SIGPIPE]

    world.run(main)


def test_sigpipe_ends_a_process_by_default(world: World) -> None:
    """With the default action, SIGPIPE is the end of a program that writes to a closed pipe."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> None:
            sys.sigaction(SIGPIPE, SIG_DFL)
            a, b = sys.pipe2()
            sys.close(a)
            sys.write(b, b"x")

        pid, _r = child(sys, body)
        assert sys.waitpid(pid) == (pid, SIGPIPE)

    world.run(main)


def test_a_blocked_writer_gets_sigpipe_with_its_partial_count(world: World) -> None:
    """Fact 113: a blocked write to a pipe whose reader goes returns what was taken; SIGPIPE comes all the same."""

    def main(sys: Syscalls) -> None:
        a, b = sys.pipe2()

        def body(sys: Syscalls) -> Any:
            sys.close(a)
            log = noted(sys, SIGPIPE)
            return sys.write(b, bytes(100_000)), log, err(sys.write, b, b"x"), log

        pid, r = child(sys, body)
        sys.close(a)
        assert result(sys, r) == repr((65536, [SIGPIPE] * 2, "EPIPE", [SIGPIPE] * 2))
        sys.waitpid(pid)

    world.run(main)


# --- children ---
def test_sigchld(world: World) -> None:
    """A child's end sends SIGCHLD to its parent, whose sleep it ends."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGCHLD)
        pid = sys.spawn(lambda sys: sys.nanosleep(50 * MS))
        assert err(sys.nanosleep, 60 * NSEC_PER_SEC) == "EINTR"
        assert log == [SIGCHLD]
        assert sys.waitpid(pid) == (pid, 0)

    world.run(main)


def test_nobody_waits_for_children_whose_parent_ignores_sigchld(world: World) -> None:
    """SIGCHLD ignored: a child that ends is gone at once, and waitpid waits for all and is ECHILD."""

    def main(sys: Syscalls) -> None:
        sys.sigaction(SIGCHLD, SIG_IGN)
        pid = sys.spawn(lambda sys: sys.nanosleep(30 * MS))
        assert err(sys.waitpid, -1) == "ECHILD"
        assert err(sys.kill, pid, 0) == "ESRCH"

    world.run(main)


def test_nocldwait(world: World) -> None:
    """SA_NOCLDWAIT: no zombie, but the handler runs."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGCHLD, flags=SA_NOCLDWAIT)
        pid = sys.spawn(lambda sys: sys.nanosleep(30 * MS))
        assert err(sys.nanosleep, 60 * NSEC_PER_SEC) == "EINTR"
        settle(sys)
        assert log == [SIGCHLD]
        assert err(sys.waitpid, pid) == "ECHILD"

    world.run(main)


def test_waitpid_of_a_stopped_child(world: World) -> None:
    """WUNTRACED reports a stop once, WCONTINUED a continuation once; without them waitpid waits for the end."""

    def main(sys: Syscalls) -> None:
        pid, _r = child(sys, lambda sys: sys.nanosleep(60 * NSEC_PER_SEC))
        sys.kill(pid, SIGSTOP)
        assert sys.waitpid(-1, WUNTRACED) == (pid, SIGSTOP << 8 | 0x7F)
        assert sys.waitpid(pid, WUNTRACED | WNOHANG) == (0, 0)
        sys.kill(pid, SIGCONT)
        assert sys.waitpid(pid, WCONTINUED) == (pid, 0xFFFF)
        assert sys.waitpid(pid, WCONTINUED | WNOHANG) == (0, 0)
        sys.kill(pid, SIGSTOP)
        settle(sys)
        assert sys.waitpid(pid, WNOHANG) == (0, 0)
        # A stopped process can be killed.
        sys.kill(pid, SIGKILL)
        assert sys.waitpid(pid) == (pid, SIGKILL)

    world.run(main)


def test_a_stopped_process_takes_no_other_signal(world: World) -> None:
    """A signal with a handler waits until SIGCONT."""

    def main(sys: Syscalls) -> None:
        def body(sys: Syscalls) -> Any:
            log = noted(sys, SIGUSR1)
            return err(sys.nanosleep, 60 * NSEC_PER_SEC), log

        pid, r = child(sys, body)
        sys.kill(pid, SIGSTOP)
        sys.waitpid(pid, WUNTRACED)
        sys.kill(pid, SIGUSR1)
        settle(sys)
        assert sys.poll([(r, POLLIN)], 0) == []
        sys.kill(pid, SIGCONT)
        assert result(sys, r) == repr(("EINTR", [SIGUSR1]))
        sys.waitpid(pid)

    world.run(main)


@pytest.mark.parametrize(("flags", "expected"), [(0, [SIGCHLD] * 3), (SA_NOCLDSTOP, [SIGCHLD])])
def test_sigchld_for_stops(world: World, flags: int, expected: Log) -> None:
    """A child's stop and continuation send SIGCHLD as well, unless SA_NOCLDSTOP."""

    def main(sys: Syscalls) -> None:
        pid, _r = child(sys, lambda sys: sys.nanosleep(60 * NSEC_PER_SEC))
        log = noted(sys, SIGCHLD, flags=flags | SA_RESTART)
        for signum in (SIGSTOP, SIGCONT, SIGKILL):
            sys.kill(pid, signum)
            for _ in range(3):
                err(sys.nanosleep, 20 * MS)
        assert log == expected
        assert sys.waitpid(pid) == (pid, SIGKILL)

    world.run(main)


def test_waitpid_options(world: World) -> None:
    """Unknown options are EINVAL; pid 0 and the group's number stand for all children, another group's for none."""

    def main(sys: Syscalls) -> None:
        assert err(sys.waitpid, -1, 4) == "EINVAL"
        assert err(sys.waitpid, 0) == "ECHILD"
        pid = sys.spawn(lambda sys: sys.exit(3))
        assert sys.waitpid(0) == (pid, 3 << 8)
        pid = sys.spawn(lambda sys: sys.exit(4))
        assert err(sys.waitpid, -pid) == "ECHILD"
        assert sys.waitpid(-sys.getpid()) == (pid, 4 << 8)
        assert err(sys.waitpid, -(2**31)) == "ESRCH"

    world.run(main)


def test_kill_the_group(world: World) -> None:
    """kill(0, ...) reaches every process of the group, oneself included."""

    def main(sys: Syscalls) -> None:
        log = noted(sys, SIGUSR1)
        pids = [sys.spawn(lambda sys: sys.nanosleep(60 * NSEC_PER_SEC)) for _ in range(2)]
        settle(sys)
        sys.kill(0, SIGUSR1)
        assert log == [SIGUSR1]
        settle(sys)
        for pid in pids:
            # Their handler ran, their sleep is over.
            assert os.waitstatus_to_exitcode(sys.waitpid(pid)[1]) == 1
        assert err(sys.kill, -pids[0], SIGTERM) == "ESRCH"
        assert err(sys.kill, -(2**31), SIGTERM) == "ESRCH"

    world.run(main)


def test_eintr_is_errno_4(world: World) -> None:
    """An interrupted call raises InterruptedError: nothing starts it again behind the program's back (PEP 475 does not apply)."""

    def main(sys: Syscalls) -> None:
        noted(sys, SIGCHLD)
        pid = sys.spawn(lambda sys: sys.nanosleep(100 * MS))
        with pytest.raises(InterruptedError) as caught:
            sys.nanosleep(60 * NSEC_PER_SEC)
        assert caught.value.errno == errno.EINTR
        sys.waitpid(pid)

    world.run(main)
