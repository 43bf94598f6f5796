"""The profiles network and posix find what linux does not show, and blame nobody for what they did themselves."""

from collections.abc import Callable, Collection

import pytest

from servers import blocking_echo, epoll_et_echo, epoll_lt_echo, prefork_echo, threads_echo
from simkernel.api import Syscalls
from simkernel.kernel.choice import Recording, Seeded, Tape
from simkernel.kernel.trace import Trace
from simkernel.testing import Contract, Echo, Failure, check
from simkernel.testing.example import sim_example
from simkernel.testing.replay import parse
from simkernel.testing.scenario import Serve
from simkernel.testing.weather import forecast
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLIN,
    F_SETFL,
    O_CREAT,
    O_EXCL,
    O_NONBLOCK,
    O_RDWR,
    POLLIN,
)


def search(serve: Serve, profile: str, runs: int, contract: Contract | None = None) -> tuple[Failure, bytes] | None:
    """The first failing run of so many, told in words, and its tape."""
    example = sim_example(serve, contract or Roomy(), profile)
    for seed in range(runs):
        recording = Recording(Seeded(seed))
        if example(recording) is None:
            continue
        digests = set()
        for _ in range(2):
            trace = Trace()
            failure = example(Tape(recording.tape()), trace)
            digests.add(trace.digest())
        assert failure is not None and len(digests) == 1
        return failure, recording.tape()
    return None


def finds(serve: Serve, profile: str, kind: str, *words: str, contract: Contract | None = None) -> None:
    """The profile finds it, and linux does not."""
    assert search(serve, "linux", 60, contract) is None
    got = search(serve, profile, 300, contract)
    assert got is not None and got[0].kind == kind, got
    failure = got[0]
    text = "\n".join([failure.message, *failure.explanation, *failure.story()])
    assert all(word in text for word in words), text


class Roomy(Echo):
    """Echo of a server that has fds enough."""

    crowd = ""


class Harsh(Roomy):
    """Echo of a server that goes on whatever the machine is short of."""

    harsh = True


class Restarts(Roomy):
    """Echo of a server that may be killed and started again."""

    name = "restarts"
    restarts = True


def echo(sys: Syscalls, conn: int, stop: int) -> None:
    """A thread for each client."""
    blocking_echo.echo(sys, conn, stop)
    sys.close(conn)


def serve(sys: Syscalls, stop: int, wait: Callable[[], Collection[int]], accept: Callable[[], list[int]]) -> None:
    """Echo with threads; what may go wrong is ``wait``, which gives the fds that are ready, and ``accept``, which gives connections."""
    tids = []
    while stop not in wait():
        for conn in accept():
            try:
                tids.append(sys.thread(echo, conn, stop))
            except OSError:
                sys.close(conn)
    for tid in tids:
        sys.join(tid)


def one(sys: Syscalls, listener: int) -> list[int]:
    """At most one connection, whatever accept says."""
    try:
        return [sys.accept4(listener)[0]]
    except OSError:
        return []


def accept_is_safe(sys: Syscalls, listener: int, stop: int) -> None:
    """accept says EAGAIN or gives a connection, it thinks."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)

    def accept() -> list[int]:
        try:
            return [sys.accept4(listener)[0]]
        except BlockingIOError:
            return []

    serve(sys, stop, lambda: dict(sys.poll([(stop, POLLIN), (listener, POLLIN)])), accept)


def trusts_select(sys: Syscalls, listener: int, stop: int) -> None:
    """The listener blocks: what select said is taken for a promise."""
    serve(sys, stop, lambda: sys.select([stop, listener], [], [])[0], lambda: one(sys, listener))


def edge_and_aborted(sys: Syscalls, listener: int, stop: int) -> None:
    """An aborted connection ends the round of accepts, and the edge is used up."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLET)

    def wait() -> list[int]:
        try:
            return [fd for fd, _ in sys.epoll_wait(ep, 8)]
        except InterruptedError:
            return []

    def accept() -> list[int]:
        found = []
        while got := one(sys, listener):
            found += got
        return found

    serve(sys, stop, wait, accept)
    sys.close(ep)


def no_eintr(sys: Syscalls, listener: int, stop: int) -> None:
    """epoll_wait is never interrupted, it thinks, since it has no handler."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    serve(sys, stop, lambda: [fd for fd, _ in sys.epoll_wait(ep, 8)], lambda: one(sys, listener))
    sys.close(ep)


def lock_file(sys: Syscalls, listener: int, stop: int) -> None:
    """A lock file that outlives the process that made it."""
    fd = sys.open("/tmp/lock", O_CREAT | O_EXCL | O_RDWR)
    epoll_lt_echo.serve(sys, listener, stop)
    sys.unlink("/tmp/lock")
    sys.close(fd)


def test_accept_may_fail() -> None:
    finds(accept_is_safe, "posix", "crash", "in accept")


def test_select_promises_nothing() -> None:
    finds(trusts_select, "posix", "hang", "sleeps in accept4")


def test_an_edge_that_an_aborted_connection_used_up() -> None:
    finds(edge_and_aborted, "posix", "hang", "accept4")


def test_a_stopped_process_is_interrupted() -> None:
    assert search(no_eintr, "posix", 30) is None
    finds(no_eintr, "posix", "crash", "epoll_wait", "EINTR", contract=Harsh())


def test_a_server_that_is_started_again() -> None:
    assert search(lock_file, "network", 30) is None
    finds(lock_file, "network", "crash", "File exists", "the server restarted", contract=Restarts())


def test_the_check_takes_a_profile() -> None:
    report = check(accept_is_safe, examples=200, profile="posix")
    assert report.failure is not None and parse(report.failure.token).profile == "posix"


@pytest.mark.parametrize("serve", [epoll_lt_echo.serve, prefork_echo.serve], ids=lambda serve: serve.__module__)
def test_right_servers_take_what_is_harsh(serve: Serve) -> None:
    assert search(serve, "posix", 60, Harsh()) is None


@pytest.mark.parametrize("serve", [epoll_et_echo.serve, threads_echo.serve], ids=lambda serve: serve.__module__)
def test_right_servers_are_started_again(serve: Serve) -> None:
    assert search(serve, "network", 60, Restarts()) is None


def test_a_forecast_is_plain_without_choices() -> None:
    weather = forecast(Tape(b""), 3, restarts=True)
    assert str(weather) == "the network: latency 0.1 ms" and not weather.storms
    stormy = forecast(Tape(b"\3\3\3\3\2" + b"\1\2\3\4" * 4), 3, restarts=True)
    assert len(stormy.storms) == 2 and "5 Mbit/s" in str(stormy)
