"""What an explanation names: the guilty lines of the server, from the trace alone."""

import importlib
import inspect
from pathlib import Path

import pytest

from simkernel.kernel.choice import Seeded
from simkernel.kernel.trace import Trace
from simkernel.testing.contracts import Patience, Plain, Sigterm
from simkernel.testing.example import sim_example
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    POLLIN,
    SA_RESTART,
    SIG_BLOCK,
    SIGTERM,
    SOCK_NONBLOCK,
    TFD_NONBLOCK,
)

SEEDS = 300


def explained(serve, contract, kind, said):
    """The first explanation of a failure of that kind that says so."""
    example = sim_example(serve, contract)
    text = ""
    for seed in range(SEEDS):
        found = example(Seeded(seed))
        if found is not None and found.kind == kind:
            failure = example(Seeded(seed), Trace())
            assert failure is not None and failure.kind == kind
            text = "\n".join(failure.explanation)
            if said in text:
                return text
    raise AssertionError(f"no {kind} with {SEEDS} seeds says {said!r}; the last one: {text}")


def line_of(source, marked, start=1):
    """``file.py:line`` of the one line of a module or function that has ``marked`` in it."""
    lines = inspect.getsource(source).splitlines()
    first = inspect.getsourcelines(source)[1] if inspect.isfunction(source) else 1
    (at,) = [first + i for i, text in enumerate(lines) if marked in text]
    return f"{Path(inspect.getsourcefile(source)).name}:{at}"


def echo(sys, fd, data=b""):
    """Serve a connection to its end, one at a time."""
    try:
        while data := sys.recv(fd, 4096):
            while data:
                data = data[sys.send(fd, data, MSG_NOSIGNAL) :]
    except ConnectionError:
        pass
    sys.close(fd)


# --- of the zoo ---
@pytest.mark.parametrize(
    ("name", "contract", "said"),
    [
        ("lost_wakeup", Plain(), "was taken away by its next call"),
        ("signal_race", Sigterm(), "SIGTERM came after"),
    ],
)
def test_the_line_of_the_bug_is_named(name, contract, said):
    module = importlib.import_module(f"servers.broken.{name}")
    text = explained(module.serve, contract, "hang", said)
    assert line_of(module, "# bug:") in text


def test_who_keeps_a_congested_client_is_named():
    module = importlib.import_module("servers.broken.immortal_peer")
    text = explained(module.serve, Patience(), "leak", "without a timeout")
    (made,) = [line for line in text.splitlines() if "of the server, from step" in line]
    assert line_of(module, "sys.accept4") in made
    (last,) = [line for line in text.splitlines() if "the last call on it" in line]
    assert line_of(module, "sys.send") in last
    (sleep,) = [line for line in text.splitlines() if "without a timeout" in line]
    fd = made.split("fd ")[1].split()[0]
    assert f"({fd}, POLLOUT)" in sleep and ", -1)" in sleep and line_of(module, "sys.poll") in sleep


# --- threads ---
def asleep_flag(sys, listener, stop):
    """A worker that says that it sleeps when it is too late: whoever gave it work meanwhile did not wake it."""
    queue, asleep, wake = [], [], sys.eventfd()

    def work(sys):
        while True:
            if not queue:
                sys.clock_gettime_ns(1)
                asleep.append(True)
                sys.read(wake, 8)
            fd = queue.pop(0)
            if fd < 0:
                return
            echo(sys, fd)

    def give(fd):
        queue.append(fd)
        if asleep:
            asleep.clear()
            sys.write(wake, (1).to_bytes(8, "little"))

    tid = sys.thread(work)
    while sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] != stop:
        give(sys.accept4(listener)[0])
    give(-1)
    sys.join(tid)
    sys.close(wake)


def self_pipe(sys, listener, stop):
    """The worker empties its pipe after it has emptied the queue."""
    queue = []
    r, w = sys.pipe2()

    def work(sys):
        while True:
            sys.poll([(r, POLLIN)])
            got = list(queue)
            queue.clear()
            sys.read(r, 4096)
            for fd in got:
                if fd < 0:
                    return
                echo(sys, fd)

    tid = sys.thread(work)
    while sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] != stop:
        queue.append(sys.accept4(listener)[0])
        sys.write(w, b".")  # more
    queue.append(-1)
    sys.write(w, b".")  # the end
    sys.join(tid)
    sys.close(r)
    sys.close(w)


def test_where_a_thread_was_when_another_went_on_for_the_last_time():
    text = explained(asleep_flag, Plain(), "hang", "went on for the last time")
    accept, look = line_of(asleep_flag, "sys.accept4"), line_of(asleep_flag, "sys.clock")
    lines = text.splitlines()
    (at,) = [i for i, line in enumerate(lines) if "went on for the last time" in line]
    assert accept in lines[at]
    assert "then between" in lines[at + 1] and lines[at + 1].endswith(look)
    # The same of the connection that lies there.
    at = next(i for i, line in enumerate(lines) if "nothing was done with it since" in line)
    assert " tcp 127.0.0.1:9000 <- " in lines[at - 1] and lines[at].endswith(accept)
    assert "then between" in lines[at + 1] and lines[at + 1].endswith(look)


def never_told(sys, listener, stop):
    """The worker is told of its first connection alone."""
    queue, wake = [], sys.eventfd()

    def work(sys):
        while True:
            sys.read(wake, 8)
            while queue:
                fd = queue.pop(0)
                if fd < 0:
                    return
                echo(sys, fd)

    tid = sys.thread(work)
    first = True
    while sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] != stop:
        queue.append(sys.accept4(listener)[0])
        if first:
            sys.write(wake, (1).to_bytes(8, "little"))
        first = False
    queue.append(-1)
    sys.write(wake, (1).to_bytes(8, "little"))
    sys.join(tid)
    sys.close(wake)


def test_who_goes_on_while_a_thread_sleeps_and_does_not_tell_it():
    text = explained(never_told, Plain(), "hang", "has told it nothing")
    lines = text.splitlines()
    at = lines.index("  since it sleeps, thread 2 has gone on, and has told it nothing through fd 7")
    assert line_of(never_told, "sys.accept4") in lines[at + 1]


def test_a_notice_in_a_pipe_that_was_read_away():
    text = explained(self_pipe, Plain(), "hang", "its last notice is that of thread")
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if "its last notice is that of thread" in line)
    assert any(line_of(self_pipe, f'sys.write(w, b".")  # {what}') in lines[at] for what in ("more", "the end"))
    assert line_of(self_pipe, "sys.poll([(r") in lines[at + 1]
    assert line_of(self_pipe, "sys.read(r") in lines[at + 2]


# --- signals ---
def restarted(sys, listener, stop):
    """Looks at its flag after each connection, and lets the system restart accept."""
    stopping = []
    sys.sigaction(SIGTERM, stopping.append, SA_RESTART)
    while not stopping:
        echo(sys, sys.accept4(listener)[0])


def blocked(sys, listener, stop):
    """Blocks the signal, and waits with what does not unblock it."""
    stopping = []
    sys.sigprocmask(SIG_BLOCK, {SIGTERM})
    sys.sigaction(SIGTERM, stopping.append)
    while not stopping:
        sys.poll([(listener, POLLIN)])
        echo(sys, sys.accept4(listener)[0])


def test_a_signal_after_which_a_call_goes_on():
    said = "SIGTERM came while it slept: its handler ran, accept4 went on (SA_RESTART)"
    assert line_of(restarted, "sys.accept4") in explained(restarted, Sigterm(), "hang", said)


def test_a_signal_that_came_before_the_call():
    text = explained(restarted, Sigterm(), "hang", "and before accept4 at")
    assert line_of(restarted, "sys.accept4") in text


def test_a_signal_that_is_blocked():
    text = explained(blocked, Sigterm(), "hang", "SIGTERM has come and is blocked")
    assert line_of(blocked, "sys.poll") in text.splitlines()[0]


# --- timers ---
def rearmed(sys, listener, stop):
    """Ends who is idle, by a timerfd that whatever happens sets anew: also a wait for room that never comes."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep, timer = sys.epoll_create1(), sys.timerfd_create(1, TFD_NONBLOCK)
    for fd in (stop, listener, timer):
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)
    unsent = {}
    while True:
        for fd, _ in sys.epoll_wait(ep, 8, 300):
            if fd == stop:
                for open_fd in (*unsent, ep, timer):
                    sys.close(open_fd)
                return
            if fd == timer:
                sys.read(timer, 8)
                for conn in [conn for conn, data in unsent.items() if not data]:
                    del unsent[conn]
                    sys.close(conn)
            elif fd == listener:
                try:
                    conn = sys.accept4(listener, SOCK_NONBLOCK)[0]
                except OSError:
                    continue
                unsent[conn] = b""
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN)
                sys.timerfd_settime(timer, 0, 600_000_000)
            elif fd in unsent:
                try:
                    data = unsent[fd] or sys.recv(fd, 65536)
                    unsent[fd] = data[sys.send(fd, data, MSG_NOSIGNAL) :]
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    del unsent[fd]
                    sys.close(fd)
                    continue
                sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLOUT if unsent[fd] else EPOLLIN)
                sys.timerfd_settime(timer, 0, 600_000_000)


def test_which_timers_ran_out_and_which_was_set():
    text = explained(rearmed, Patience(), "leak", "a timeout ran out")
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    assert line_of(rearmed, "sys.accept4") in lines[0]
    assert any("a timeout ran out" in line and line_of(rearmed, "sys.epoll_wait") in line for line in lines)
    assert any("its timer was last set at" in line and "timerfd_settime(8, 0, 600000000, 0)" in line for line in lines)
