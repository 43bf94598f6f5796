"""What the oracles say of an ordinary test's processes, and what they leave to the test."""

import pytest
from hypothesis import settings

from simkernel.errors import Verdict
from simkernel.testing import eventually, leaks, listen, simulate
from simkernel.uapi import (
    AF_INET,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLLET,
    EPOLLIN,
    F_GETFD,
    MSG_NOSIGNAL,
    POLLIN,
    SOCK_NONBLOCK,
    SOCK_STREAM,
)

SEC = 1_000_000_000
ADDR = ("127.0.0.1", 9000)


def failing(test, **options):
    """What a simulated test fails with, and the report."""
    with pytest.raises((AssertionError, Verdict)) as caught:
        simulate(examples=60, **options)(settings(database=None)(test))()
    return caught.value, "\n".join(caught.value.__notes__)


def dial(sys):
    fd = sys.socket(AF_INET, SOCK_STREAM)
    sys.connect(fd, ADDR)
    return fd


def talk(sys, *messages):
    """A client that sends, gets as much back, and closes."""
    fd = dial(sys)
    for message in messages:
        sys.send(fd, message, MSG_NOSIGNAL)
        got = b""
        while len(got) < len(message):
            got += sys.recv(fd, 100)
    sys.close(fd)


def start(sys, serve, *args):
    listener = listen(sys, ADDR)
    return sys.spawn(serve, listener, *args)


# --- stale numbers ---
def double_close(sys, listener):
    fd, _peer = sys.accept4(listener)
    sys.send(fd, sys.recv(fd, 100))
    sys.close(fd)
    try:
        sys.close(fd)
    except OSError:
        pass


def test_a_double_close_of_a_spawned_process_is_found():
    def test(sys):
        start(sys, double_close)
        talk(sys, b"h")
        sys.waitpid(-1)

    error, report = failing(test)
    assert str(error) == "double close: double_close (pid 2) closes fd 4, which it has closed already"
    assert "simkernel: stale-fd" in report
    assert "fd 4 was closed at step" in report and "and used at step" in report
    lines = lines_with(double_close, "sys.close(fd)")
    assert all(f"test_spawned.py:{line}" in report for line in lines)
    # Whoever means it says so.
    simulate(examples=20, may_use_closed=True)(test)()


def lines_with(function, text):
    """The numbers of the lines of a function that have ``text`` in them."""
    code = function.__code__
    with open(code.co_filename) as file:
        numbered = list(enumerate(file, 1))
    first = code.co_firstlineno
    last = max(line for _start, _end, line in code.co_lines() if line)
    return [number for number, line in numbered if first <= number <= last and text in line]


def test_the_test_itself_may_close_twice_and_so_may_who_asks():
    def asks(sys):
        fd = sys.eventfd()
        sys.close(fd)
        with pytest.raises(OSError):
            sys.fcntl(fd, F_GETFD)
        # Never opened: no number of its own.
        with pytest.raises(OSError):
            sys.close(40)

    @simulate(examples=20)
    def test(sys):
        fd = sys.eventfd()
        sys.close(fd)
        with pytest.raises(OSError):
            sys.close(fd)
        sys.waitpid(sys.spawn(asks))

    test()


def handed_on(sys, listener):
    """One thread closes a connection of which another was told, and its number is given again at once."""
    ep, told = sys.epoll_create1(), sys.eventfd()
    conn, _peer = sys.accept4(listener)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN | EPOLLET)

    def work(sys):
        for fd, _events in sys.epoll_wait(ep, 8):
            sys.write(told, (1).to_bytes(8, "little"))
            try:
                sys.recv(fd, 100)
            except OSError:
                pass

    tid = sys.thread(work)
    sys.read(told, 8)
    sys.epoll_ctl(ep, EPOLL_CTL_DEL, conn, 0)
    sys.close(conn)
    sys.eventfd(1)
    sys.join(tid)


def test_a_thread_that_acts_on_another_ones_file():
    def test(sys):
        start(sys, handed_on)
        fd = dial(sys)
        sys.send(fd, b"h")
        sys.waitpid(-1)

    # The number may also be looked at while it is nobody's, which is another finding.
    error, report = failing(test, may_use_closed=True)
    assert "of handed_on (pid 2) calls recv on fd" in str(error) and "the number is another file's" in str(error)
    assert "the number was given again at" in report


def test_what_was_noticed_before_another_failure_is_told_with_it():
    def test(sys):
        start(sys, double_close)
        talk(sys, b"h")
        sys.waitpid(-1)
        raise AssertionError("something else")

    error, report = failing(test)
    assert "something else" in str(error)
    assert "before that: double close: double_close (pid 2)" in report


# --- limits ---
def deaf(sys, listener, calls):
    """Reads one message of each connection, and sleeps."""
    fds = []
    for _ in range(2):
        fd, _peer = sys.accept4(listener)
        fds.append(fd)
        sys.send(fd, sys.recv(fd, 100))
    sys.nanosleep(60 * SEC)


def test_starvation_is_the_tests_to_forbid():
    def test(sys):
        start(sys, deaf, 0)
        clients = [dial(sys) for _ in range(2)]
        for fd in clients:
            sys.send(fd, b"h")
            sys.recv(fd, 100)
        sys.send(clients[1], b"a")
        # The test's own: nobody has to read that.
        sys.waitpid(-1)

    simulate(examples=20)(test)()
    error, report = failing(test, served_within_ns=10 * SEC)
    assert isinstance(error, Verdict) and error.kind == "starvation"
    assert "1 bytes unread in fd" in str(error) and "simkernel: starvation" in report
    assert "deaf (pid 2) sleeps in nanosleep" in report


def test_only_who_has_accepted_is_a_server():
    def client(sys):
        fd = dial(sys)
        # It reads nothing of what it is sent.
        sys.nanosleep(60 * SEC)
        sys.close(fd)

    @simulate(examples=20, served_within_ns=10 * SEC)
    def test(sys):
        listener = listen(sys, ADDR)
        pid = sys.spawn(client)
        fd, _peer = sys.accept4(listener)
        sys.send(fd, b"h")
        sys.waitpid(pid)

    test()


def hoards(sys, listener):
    fd, _peer = sys.accept4(listener)
    while sys.recv(fd, 65536):
        pass


def test_memory_is_the_tests_to_limit():
    def test(sys):
        start(sys, hoards)
        fd = dial(sys)
        for _ in range(4):
            sys.send(fd, bytes(50_000))
        sys.close(fd)
        sys.waitpid(-1)

    simulate(examples=20)(test)()
    error, report = failing(test, memory_per_connection=100_000)
    assert isinstance(error, Verdict) and error.kind == "memory"
    assert "hoards (pid 2) holds" in str(error) and "it goes on reading" in report


# --- leaks ---
def echo(sys, listener, keep):
    """An echo server that closes what has ended, but ``keep`` of them."""
    connections = {}
    while True:
        for fd, _events in sys.poll([(listener, POLLIN), *((fd, POLLIN) for fd in connections)]):
            if fd == listener:
                connections[sys.accept4(listener, SOCK_NONBLOCK)[0]] = True
            elif fd in connections and (data := sys.recv(fd, 100)):
                sys.send(fd, data, MSG_NOSIGNAL)
            else:
                del connections[fd]
                if keep:
                    keep -= 1
                else:
                    sys.close(fd)


def test_leaks_are_told_when_asked_for():
    def test(sys, keep):
        start(sys, echo, keep)
        for pid in [sys.spawn(talk, b"a", b"b") for _ in range(3)]:
            sys.waitpid(pid)
        return leaks(sys)

    found = []
    simulate(examples=20)(lambda sys: found.append(test(sys, 0)))()
    assert len(found) >= 20 and not any(found)
    found.clear()
    simulate(examples=20)(lambda sys: found.append(test(sys, 1)))()
    assert len(found) >= 20 and all(len(told) == 1 for told in found)
    assert "echo (pid 2) keeps fd" in found[0][0] and "although its client has closed it" in found[0][0]


def test_what_is_still_in_use_is_no_leak():
    @simulate(examples=20, on="both")
    def test(sys):
        start(sys, echo, 0)
        fd = dial(sys)
        sys.send(fd, b"h")
        assert sys.recv(fd, 100) == b"h"
        assert leaks(sys) == []
        sys.close(fd)
        assert leaks(sys) == []

    test()


def test_nothing_is_said_of_those_who_are_right():
    seen = [0]

    def client(sys):
        talk(sys, b"h", b"w")
        seen[0] += 1

    @simulate(examples=100, served_within_ns=10 * SEC, memory_per_connection=1000)
    def test(sys):
        seen[0] = 0
        start(sys, echo, 0)
        for _ in range(4):
            sys.spawn(client)
        eventually(sys, lambda: seen[0] == 4, within=5 * SEC)
        assert not leaks(sys)

    test()
