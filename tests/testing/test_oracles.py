"""The oracles see what is wrong with a server without knowing it."""

import pytest

from simkernel.testing import Echo, Plan, check
from simkernel.testing.contracts.base import MS
from simkernel.uapi import (
    AF_INET,
    EPOLL_CTL_ADD,
    EPOLLIN,
    F_GETFL,
    F_SETFL,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    O_NONBLOCK,
    POLLIN,
    SOCK_NONBLOCK,
    SOCK_STREAM,
)


class Fixed(Echo):
    """The same clients in every example."""

    def __init__(self, *plans, **limits):
        self.fixed = plans
        for name, value in limits.items():
            setattr(self, name, value)

    def plans(self, choice):
        return list(self.fixed)


def found(serve, contract, examples=30):
    report = check(serve, contract, examples=examples)
    assert report.failure is not None, "nothing was found"
    return report.failure


def loop(sys, listener, stop, on_data, limit=64):
    """poll over all connections; ``on_data(fd)`` says whether the connection stays."""
    conns: list[int] = []
    while True:
        for fd, _ in sys.poll([(fd, POLLIN) for fd in (stop, listener, *conns)]):
            if fd == stop:
                for conn in conns:
                    sys.close(conn)
                return
            if fd == listener:
                conns.append(sys.accept4(listener, SOCK_NONBLOCK)[0])
            elif not on_data(fd):
                conns.remove(fd)


def echo_once(sys, fd):
    try:
        data = sys.recv(fd, 65536)
    except BlockingIOError:
        return True
    except OSError:
        data = b""
    sent = 0
    while sent < len(data):
        try:
            sent += sys.send(fd, data[sent:], MSG_NOSIGNAL)
        except BlockingIOError:
            sys.nanosleep(1 * MS)
        except OSError:
            data = b""
    if not data:
        sys.close(fd)
    return bool(data)


def test_a_server_that_sleeps_while_a_client_waits_starves_it():
    def serve(sys, listener, stop):
        def on_data(fd):
            if len(sys.recv(fd, 1, MSG_DONTWAIT | MSG_PEEK)) and not slept:
                slept.append(fd)
                sys.nanosleep(60_000 * MS)
            return echo_once(sys, fd)

        slept: list[int] = []
        loop(sys, listener, stop, on_data)

    failure = found(serve, Fixed(Plan(0, "turns", (16,)), Plan(1, "turns", (16,))))
    assert failure.kind == "starvation"
    assert "although the server has nothing else to do" in failure.message


def test_a_limit_that_is_lower_is_met_earlier():
    def serve(sys, listener, stop):
        def on_data(fd):
            sys.nanosleep(300 * MS)
            return echo_once(sys, fd)

        loop(sys, listener, stop, on_data)

    plans = (Plan(0, "turns", (16,)), Plan(1, "turns", (16,)))
    assert check(serve, Fixed(*plans), examples=10).ok
    assert found(serve, Fixed(*plans, served_within_ns=200 * MS)).kind == "starvation"


def test_a_double_close_is_a_stale_fd():
    def serve(sys, listener, stop):
        def on_data(fd):
            stays = echo_once(sys, fd)
            if not stays:
                try:
                    sys.close(fd)
                except OSError:
                    pass
            return stays

        loop(sys, listener, stop, on_data)

    failure = found(serve, Fixed(Plan(0, "turns", (16,))))
    assert failure.kind == "stale-fd"
    assert "double close" in failure.message


def test_a_call_on_a_closed_number_is_a_stale_fd():
    def serve(sys, listener, stop):
        def on_data(fd):
            stays = echo_once(sys, fd)
            if not stays:
                try:
                    sys.send(fd, b"bye")
                except OSError:
                    pass
            return stays

        loop(sys, listener, stop, on_data)

    failure = found(serve, Fixed(Plan(0, "turns", (16,))))
    assert failure.kind == "stale-fd"
    assert "send on fd" in failure.message


def test_asking_whether_a_number_is_open_is_no_stale_fd():
    def serve(sys, listener, stop):
        def on_data(fd):
            stays = echo_once(sys, fd)
            if not stays:
                try:
                    sys.fcntl(fd, F_GETFL)
                except OSError:
                    pass
            return stays

        loop(sys, listener, stop, on_data)

    assert check(serve, Fixed(Plan(0, "turns", (16,))), examples=20).ok


def test_a_connection_that_is_kept_after_its_client_has_gone_leaks():
    def serve(sys, listener, stop):
        kept: list[int] = []

        def on_data(fd):
            try:
                data = sys.recv(fd, 65536)
                if data:
                    sys.send(fd, data, MSG_NOSIGNAL)
                    return True
            except OSError:
                pass
            kept.append(fd)
            return False

        loop(sys, listener, stop, on_data)
        for fd in kept:
            sys.close(fd)

    failure = found(serve, Fixed(Plan(0, "vanish", (16,))))
    assert failure.kind == "leak"
    assert "open, tcp" in failure.message and "although" in failure.message


def test_a_server_that_reads_for_a_client_that_does_not_holds_too_much():
    class Deaf(Fixed):
        memory_per_connection = 20_000

        def play(self, sys, addr, plan):
            fd = sys.socket(AF_INET, SOCK_STREAM)
            sys.connect(fd, addr)
            for _ in range(60):
                try:
                    sys.send(fd, bytes(4096), MSG_DONTWAIT | MSG_NOSIGNAL)
                except BlockingIOError:
                    pass
                sys.nanosleep(1 * MS)
            sys.close(fd)

    def serve(sys, listener, stop):
        unsent: dict[int, bytes] = {}

        def on_data(fd):
            try:
                data = sys.recv(fd, 65536)
                unsent[fd] = unsent.get(fd, b"") + data
                if unsent[fd]:
                    unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL | MSG_DONTWAIT) :]
            except BlockingIOError:
                return True
            except OSError:
                data = b""
            if not data:
                sys.close(fd)
            return bool(data)

        loop(sys, listener, stop, on_data)

    failure = found(serve, Deaf(Plan(0, "deaf", (16,))))
    assert failure.kind == "memory"
    assert "holds" in failure.message


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_workers_that_all_wake_for_one_connection_are_a_herd(workers):
    def work(sys, listener, stop):
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
        while True:
            for fd, _ in sys.epoll_wait(ep, 64):
                if fd == stop:
                    return
                if fd != listener:
                    echo_once(sys, fd)
                    continue
                try:
                    conn = sys.accept4(listener, SOCK_NONBLOCK)[0]
                except BlockingIOError:
                    continue
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN)

    def serve(sys, listener, stop):
        sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
        for pid in [sys.spawn(work, listener, stop) for _ in range(workers)]:
            sys.waitpid(pid)

    contract = Fixed(*(Plan(i, "turns", (16,), start_ms=1 + i) for i in range(3)))
    report = check(serve, contract, examples=20)
    if workers == 2:
        assert report.ok, report.failure
    else:
        assert report.failure is not None and report.failure.kind == "herd"
