"""The faults of the profile posix: each by itself, in the marked process alone, with what its man page promises afterwards."""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from simkernel import Choice, Syscalls
from simkernel.kernel.machine import Kernel
from simkernel.testing import disturbed, listen, under_test
from simkernel.uapi import (
    AF_INET,
    CLOCK_MONOTONIC,
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    POLLIN,
    SA_RESTART,
    SIGUSR1,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
)

ADDR = ("127.0.0.1", 9000)


class Fire(Choice):
    """Plain, but for one liberty: it is taken ``times`` times, every time or every ``other``, and then ``then`` decides."""

    __slots__ = ("label", "other", "step", "then", "times")

    def __init__(self, label: str, times: int = 1, then: int = 0, other: bool = False) -> None:
        self.label = label
        self.times = times
        self.then = then
        self.other = other
        self.step = 0

    def pick(self, n: int, label: str) -> int:
        if label == "faults":
            return self.times
        if label != self.label:
            return 0
        # Whether it happens, then which; then not.
        self.step = (self.step + 1) % (3 if self.other else 2)
        return n - 1 if self.step == 1 else self.then % n if self.step == 2 or not self.other else 0


def run(main: Callable[[Syscalls], Any], label: str, then: int = 0, times: int = 1, profile: str = "posix", other: bool = False) -> Any:
    def init(sys: Syscalls) -> Any:
        under_test(sys)
        return main(sys)

    return Kernel(Fire(label, times, then, other), profile=profile, debug=True).run(init)


def code_of(call: Callable[..., object], *args: object) -> int:
    with pytest.raises(OSError) as info:
        call(*args)
    assert info.value.errno is not None
    return info.value.errno


def pair(sys: Syscalls, flags: int = 0) -> tuple[int, int, int]:
    """(listener, accepted end, connected end)."""
    listener = listen(sys, ADDR)
    b = sys.socket(AF_INET, SOCK_STREAM)
    sys.connect(b, ADDR)
    a, _ = sys.accept4(listener, flags)
    return listener, a, b


@pytest.mark.parametrize(
    "code", [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPROTO], ids=errno.errorcode.get
)
def test_accept_fails_and_the_client_still_waits(code: int) -> None:
    def main(sys: Syscalls) -> int:
        listener = listen(sys, ADDR)
        sys.connect(sys.socket(AF_INET, SOCK_STREAM), ADDR)
        failed = code_of(sys.accept4, listener)
        assert sys.poll([(listener, POLLIN)], 0) == [(listener, POLLIN)]
        sys.accept4(listener)
        assert disturbed(sys) == ""
        return failed

    codes = [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPROTO]
    assert run(main, "fault-accept", codes.index(code)) == code


def test_nothing_fails_elsewhere() -> None:
    """In the profile linux, and in a process that is not marked, whatever the choices are."""

    def main(sys: Syscalls) -> None:
        listener = listen(sys, ADDR)
        for _ in range(20):
            sys.connect(sys.socket(AF_INET, SOCK_STREAM), ADDR)
            sys.accept4(listener)

    run(main, "fault-accept", profile="linux")
    Kernel(Fire("fault-accept"), profile="posix").run(main)


def test_at_most_so_many_faults_a_run() -> None:
    def main(sys: Syscalls) -> int:
        listener = listen(sys, ADDR)
        sys.connect(sys.socket(AF_INET, SOCK_STREAM), ADDR)
        failed = 0
        while True:
            try:
                sys.accept4(listener)
                return failed
            except ConnectionAbortedError:
                failed += 1

    assert run(main, "fault-accept", times=3) == 3
    assert run(main, "fault-accept", times=0) == 0


def test_a_socket_is_reported_that_has_nothing() -> None:
    def main(sys: Syscalls) -> None:
        listener, a, _b = pair(sys, SOCK_NONBLOCK)
        assert sys.poll([(a, POLLIN)], -1) == [(a, POLLIN)]
        assert code_of(sys.recv, a, 9) == errno.EAGAIN
        assert sys.select([listener, a], [], [], None)[0] in ([listener], [a])
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN | EPOLLET)
        assert sys.epoll_wait(ep, 8) == [(a, EPOLLIN)]
        assert sys.epoll_wait(ep, 8, 10) == []

    run(main, "fault-spurious", times=3)


def test_what_is_ready_is_not_hidden() -> None:
    def main(sys: Syscalls) -> None:
        listener, a, b = pair(sys)
        sys.send(b, b"x")
        for _ in range(4):
            assert sys.poll([(listener, POLLIN), (a, POLLIN)]) == [(a, POLLIN)]
            assert sys.select([listener, a], [], [])[0] == [a]

    run(main, "fault-spurious")


def test_epoll_wait_is_interrupted_and_sockets_are_not() -> None:
    def main(sys: Syscalls) -> None:
        _, a, b = pair(sys)
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN)
        assert sys.epoll_wait(ep, 8, 0) == []
        assert code_of(sys.epoll_wait, ep, 8) == errno.EINTR
        sys.send(b, b"x")
        assert sys.epoll_wait(ep, 8) == [(a, EPOLLIN)]

    run(main, "fault-eintr")


def test_a_handler_with_sa_restart_is_no_promise() -> None:
    def main(sys: Syscalls) -> list[int]:
        seen: list[int] = []
        sys.sigaction(SIGUSR1, seen.append, SA_RESTART)
        r, _w = sys.pipe2()

        def killer(sys: Syscalls) -> None:
            sys.kill(1, SIGUSR1)

        sys.spawn(killer)
        assert code_of(sys.read, r, 9) == errno.EINTR
        return seen

    assert run(main, "fault-no-restart") == [SIGUSR1]


def test_close_is_interrupted_and_the_fd_is_gone() -> None:
    def main(sys: Syscalls) -> None:
        sys.close(sys.eventfd(0))
        sys.sigaction(SIGUSR1, lambda signum: None)
        fd = sys.eventfd(0)
        assert code_of(sys.close, fd) == errno.EINTR
        assert code_of(sys.close, fd) == errno.EBADF

    run(main, "fault-close")


def test_a_short_read_loses_nothing() -> None:
    def main(sys: Syscalls) -> None:
        _, a, b = pair(sys)
        sys.send(b, b"abcdef")
        assert sys.recv(a, 100) == b"a"
        assert sys.recv(a, 100) == b"bcdef"
        # epoll(7): a read that gives less than was asked for has taken all.
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN | EPOLLET)
        sys.send(b, b"abcdef")
        assert sys.recv(a, 100) == b"abcdef"

    run(main, "fault-short-read", times=2, other=True)


@pytest.mark.parametrize(("how", "sent"), [(0, 1), (1, 3), (2, -errno.EAGAIN)])
def test_a_send_takes_less_and_an_edge_says_when_to_go_on(how: int, sent: int) -> None:
    """tcp_sendmsg_locked: for want of memory as for want of room, EPOLLOUT comes again."""

    def main(sys: Syscalls) -> None:
        _, a, b = pair(sys, SOCK_NONBLOCK)
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, a, EPOLLOUT | EPOLLET)
        assert sys.epoll_wait(ep, 8, 0) == [(a, EPOLLOUT)]
        if sent > 0:
            assert sys.send(a, b"abcdef", MSG_NOSIGNAL) == sent
        else:
            assert code_of(sys.send, a, b"abcdef") == -sent
        assert sys.epoll_wait(ep, 8, 0) == [(a, EPOLLOUT)]
        done = max(sent, 0)
        assert sys.send(a, b"abcdef"[done:]) == 6 - done
        assert sys.epoll_wait(ep, 8, 0) == []
        got = b""
        while len(got) < 6:
            got += sys.recv(b, 9)
        assert got == b"abcdef" and disturbed(sys) == ""

    run(main, "fault-send", how)


def test_a_send_fails_and_its_client_is_excused() -> None:
    def main(sys: Syscalls) -> None:
        _, a, _b = pair(sys, SOCK_NONBLOCK)
        assert code_of(sys.send, a, b"abcdef") in (errno.ENOBUFS, errno.ENOMEM)
        assert disturbed(sys) == "send failed"

    run(main, "fault-send", 3)


def test_a_blocking_send_takes_all() -> None:
    def main(sys: Syscalls) -> None:
        _, a, _b = pair(sys)
        assert sys.send(a, b"abcdef") == 6

    run(main, "fault-send")


def test_a_datagram_does_not_fit() -> None:
    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
        assert code_of(sys.sendto, fd, b"x", 0, ADDR) == errno.EAGAIN
        assert sys.sendto(fd, b"x", 0, ADDR) == 1

    run(main, "fault-send")


def test_numbers_run_out_once_the_program_serves() -> None:
    def main(sys: Syscalls) -> None:
        for _ in range(3):
            sys.eventfd(0)
        pair(sys)
        for call in (lambda: sys.socket(AF_INET, SOCK_STREAM), lambda: sys.eventfd(0), lambda: sys.pipe2(O_NONBLOCK)):
            assert code_of(call) in (errno.EMFILE, errno.ENFILE)
            call()
        assert disturbed(sys) == "socket failed"

    run(main, "fault-make-fd", times=3, other=True)


def test_no_process_and_no_thread() -> None:
    def main(sys: Syscalls) -> None:
        sys.spawn(lambda sys: None)
        pair(sys)
        assert code_of(sys.spawn, lambda sys: None) == errno.EAGAIN
        sys.thread(lambda sys: None)

    run(main, "fault-fork")


def test_a_connection_can_not_be_watched() -> None:
    def main(sys: Syscalls) -> None:
        listener, a, _b = pair(sys)
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
        assert code_of(sys.epoll_ctl, ep, EPOLL_CTL_ADD, a, EPOLLIN) == errno.ENOMEM
        assert disturbed(sys) == "epoll_ctl failed"
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, a, EPOLLIN)

    run(main, "fault-epoll-ctl")


@pytest.mark.parametrize(("profile", "times"), [("linux", 0), ("posix", 1), ("network", 1)])
def test_time_passes_while_tasks_run(profile: str, times: int) -> None:
    """A timer that is due within 2 ms fires before a call; never a later one."""

    def main(sys: Syscalls) -> int:
        ran = []

        def sleeper(sys: Syscalls, ns: int) -> None:
            sys.nanosleep(ns)
            ran.append(ns)

        for ns in (1_000_000, 3_000_000):
            sys.spawn(sleeper, ns)
        sys.nanosleep(500_000)
        assert not ran
        for _ in range(50):
            sys.getpid()
        passed = sys.clock_gettime_ns(CLOCK_MONOTONIC) - 500_000
        assert passed == 500_000 * times
        return times

    class Tick(Choice):
        """Time passes once."""

        def __init__(self) -> None:
            self.done = False

        def pick(self, n: int, label: str) -> int:
            if label != "tick" or self.done:
                return 0
            self.done = True
            return n - 1

    class Late(Tick):
        def pick(self, n: int, label: str) -> int:
            return 0 if label != "tick" else super().pick(n, label)

    # Let the sleepers sleep first.
    choice = Late()
    choice.done = True

    def init(sys: Syscalls) -> int:
        def later(sys: Syscalls) -> None:
            sys.nanosleep(400_000)
            choice.done = False

        sys.spawn(later)
        return main(sys)

    assert Kernel(choice, profile=profile).run(init) == times
