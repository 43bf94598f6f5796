"""The zoo's servers that meet processes, signals, files and time: each bug is real on both kernels, is found, and its twin is right."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from simkernel.api import Syscalls
from simkernel.kernel.choice import Seeded
from simkernel.kernel.trace import Trace
from simkernel.testing import check
from simkernel.testing.contracts import CONTRACTS
from simkernel.testing.contracts.relay import Relay
from simkernel.testing.example import sim_example
from simkernel.testing.plugin import World
from simkernel.testing.scenario import listen, take_fds
from simkernel.uapi import (
    AF_INET,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    SHUT_WR,
    SIGCONT,
    SIGKILL,
    SIGPIPE,
    SIGSTOP,
    SIGTERM,
    SO_RCVBUF,
    SO_SNDBUF,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    WNOHANG,
)

MS = 1_000_000
Serve = Callable[[Syscalls, int, int], None]


class Delayed:
    """A Syscalls, in this process and in all that it starts, in which ``first(sys)`` comes before each call of ``name``."""

    def __init__(
        self, sys: Syscalls, name: str, first: Callable[[Syscalls], object], only: Callable[[Any], bool] = lambda fd: True
    ) -> None:
        self.sys, self.name, self.first, self.only = sys, name, first, only

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.sys, name)
        if name in ("spawn", "thread"):
            return lambda main, *args: call(lambda sys, *a: main(Delayed(sys, self.name, self.first), *a), *args)
        if name != self.name:
            return call

        def delayed(*args: Any) -> Any:
            self.first(self.sys)
            return call(*args)

        return delayed


class Stage:
    """A listener, and a server on it once it is started."""

    def __init__(self, sys: Syscalls, serve: Serve) -> None:
        self.sys, self.serve = sys, serve
        self.listener = listen(sys)
        for option in (SO_SNDBUF, SO_RCVBUF):  # of each accepted connection, too: the kernel keeps little
            sys.setsockopt(self.listener, SOL_SOCKET, option, 16384)
        self.addr = sys.getsockname(self.listener)
        self.stop = sys.eventfd(0)
        self.server = -1

    def start(self) -> None:
        self.server = self.sys.spawn(self.serve, self.listener, self.stop)

    def dial(self, small: bool = False) -> int:
        fd = self.sys.socket(AF_INET, SOCK_STREAM)
        if small:
            self.sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 4608)
        self.sys.connect(fd, self.addr)
        return fd

    def say(self, fd: int, data: bytes) -> None:
        assert self.sys.send(fd, data, MSG_NOSIGNAL) == len(data)

    def stuff(self, fd: int, n: int) -> int:
        """Send up to n bytes and read none, until nothing moves for 100 ms; returns how many went."""
        sent = 0
        while sent < n and self.sys.poll([(fd, POLLOUT)], 100):
            try:
                sent += self.sys.send(fd, bytes(min(n - sent, 65536)), MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                continue
            except OSError:
                break
        return sent

    def hear(self, fd: int, ms: int = 300) -> tuple[bytes, str]:
        """All that comes until the end, a reset, or nothing for so many milliseconds."""
        got = b""
        while self.sys.poll([(fd, POLLIN)], ms):
            try:
                data = self.sys.recv(fd, 65536)
            except ConnectionResetError:
                return got, "reset"
            if not data:
                return got, "end"
            got += data
        return got, "silence"

    def status(self, ms: int = 1000) -> int | None:
        """The server's wait status, None if it does not end in that time."""
        for _ in range(ms // 10):
            pid, status = self.sys.waitpid(self.server, WNOHANG)
            if pid:
                return status
            self.sys.nanosleep(10 * MS)
        return None

    def told_to_stop(self) -> int | None:
        self.sys.write(self.stop, (1).to_bytes(8, "little"))
        return self.status()


# --- one body for each bug: what is seen with it, and without it ---
def partial_write(stage: Stage) -> object:
    stage.start()
    fd = stage.dial(small=True)
    sent = stage.stuff(fd, 1 << 20)
    with suppress(OSError):
        # ENOTCONN: the server has broken off already.
        stage.sys.shutdown(fd, SHUT_WR)
    return len(stage.hear(fd)[0]) == sent


def sigpipe(stage: Stage) -> object:
    fd = stage.dial()
    stage.say(fd, bytes(3000))
    stage.sys.close(fd)
    stage.start()
    return stage.status()


def eintr(stage: Stage) -> object:
    stage.start()
    fd = stage.dial()
    # The parent sleeps in poll when its child ends.
    stage.sys.nanosleep(200 * MS)
    stage.sys.close(fd)
    return stage.status()


def lost_wakeup(stage: Stage) -> object:
    sys, serve = stage.sys, stage.serve
    # Between what stands before the read of the eventfd and the read, there is time for another client.
    stage.serve = lambda sys, listener, stop: serve(Delayed(sys, "read", lambda sys: sys.nanosleep(100 * MS)), listener, stop)  # type: ignore[arg-type]
    stage.start()
    stage.dial()
    sys.nanosleep(50 * MS)
    late = stage.dial()
    stage.say(late, b"hello")
    return stage.hear(late, 500)


def blocking_listener(stage: Stage) -> object:
    serve = stage.serve
    # Both workers have been told before one of them accepts.
    stage.serve = lambda sys, listener, stop: serve(Delayed(sys, "accept4", lambda sys: sys.nanosleep(50 * MS)), listener, stop)  # type: ignore[arg-type]
    stage.start()
    stage.sys.nanosleep(50 * MS)
    fd = stage.dial()
    stage.sys.nanosleep(200 * MS)
    stage.sys.close(fd)
    return stage.told_to_stop()


def signal_race(stage: Stage) -> object:
    serve = stage.serve

    def signalled(sys: Syscalls, listener: int, stop: int) -> None:
        me = sys.getpid()
        for name in ("poll", "ppoll"):
            sys = Delayed(sys, name, lambda sys: sys.kill(me, SIGTERM))  # type: ignore[assignment]
        serve(sys, listener, stop)

    stage.serve = signalled
    stage.start()
    return stage.status()


def select_1024(stage: Stage) -> object:
    take_fds(stage.sys, 1024)
    stage.start()
    stage.dial()
    return stage.status()


def backlog(stage: Stage) -> object:
    sys = stage.sys
    stage.start()
    sys.nanosleep(100 * MS)
    sys.kill(stage.server, SIGSTOP)
    fds = [sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK) for _ in range(4)]
    for fd in fds:
        with pytest.raises(BlockingIOError):
            sys.connect(fd, stage.addr)
    sys.nanosleep(200 * MS)
    connected = len(sys.poll([(fd, POLLOUT) for fd in fds], 0))
    sys.kill(stage.server, SIGCONT)
    return connected


def stale_path(stage: Stage) -> object:
    sys = stage.sys
    stage.start()
    fd = stage.dial()
    stage.say(fd, b"hello")
    assert sys.recv(fd, 100) == b"hello"
    sys.kill(stage.server, SIGKILL)
    sys.waitpid(stage.server)
    stage.start()
    status = stage.status(200)
    assert isinstance(stage.addr, tuple)
    sys.kill(stage.server, SIGKILL) if status is None else None
    sys.unlink(f"/tmp/control-{stage.addr[1]}")
    return status


def file_in_epoll(stage: Stage) -> object:
    stage.start()
    stage.dial()
    return stage.status()


def no_backpressure(stage: Stage) -> object:
    stage.start()
    return stage.stuff(stage.dial(small=True), 8 << 20) == 8 << 20


def one_line_in_two(stage: Stage) -> object:
    stage.start()
    fd = stage.dial()
    stage.say(fd, b"hel")
    stage.sys.nanosleep(50 * MS)
    stage.say(fd, b"lo\n")
    return stage.hear(fd, 100)[0]


def two_lines_in_one(stage: Stage) -> object:
    stage.start()
    fd = stage.dial()
    stage.say(fd, b"hello\nworld\n")
    return stage.hear(fd, 100)[0]


def close_unread(stage: Stage) -> object:
    fd = stage.dial()
    stage.say(fd, b"hello\n" + bytes(3000))
    stage.start()
    return stage.hear(fd)


def connect_error(stage: Stage) -> object:
    Relay().beside(stage.sys, stage.addr)
    stage.start()
    fd = stage.dial()
    stage.say(fd, b"hello")
    return stage.hear(fd)[0]


def nobody_reads(stage: Stage) -> object:
    """Of a client that reads nothing for a while: the end it meets then, or that its next bytes are answered by others, or not at all."""
    stage.start()
    fd = stage.dial(small=True)
    # More than the kernel keeps for a client that has so small a buffer, in digits that tell where they were.
    data = b"".join(b"%07d\n" % i for i in range(1 << 17))
    sent = 0
    while sent < len(data) and stage.sys.poll([(fd, POLLOUT)], 100):
        try:
            sent += stage.sys.send(fd, data[sent : sent + 65536], MSG_DONTWAIT | MSG_NOSIGNAL)
        except BlockingIOError:
            continue
    stage.sys.nanosleep(1500 * MS)
    got, end = stage.hear(fd)
    return end in ("end", "reset"), data.startswith(got)


BODIES: dict[str, tuple[Callable[[Stage], object], object, object]] = {
    "partial_write": (partial_write, False, True),
    "sigpipe": (sigpipe, SIGPIPE, None),
    "eintr": (eintr, 1 << 8, None),
    "lost_wakeup": (lost_wakeup, (b"", "silence"), (b"hello", "silence")),
    "blocking_listener": (blocking_listener, None, 0),
    "signal_race": (signal_race, None, 0),
    "select_1024": (select_1024, 1 << 8, None),
    "backlog": (backlog, 1, 4),
    "stale_path": (stale_path, 1 << 8, None),
    "file_in_epoll": (file_in_epoll, 1 << 8, None),
    "no_backpressure": (no_backpressure, True, False),
    "recv_is_message": (one_line_in_two, b"3 hel\n2 lo\n", b"5 hello\n"),
    "refed_input": (one_line_in_two, b"8 helhello\n", b"5 hello\n"),
    "hidden_records": (two_lines_in_one, b"5 hello\n", b"5 hello\n5 world\n"),
    "close_unread": (close_unread, (b"5 hello\n", "reset"), (b"5 hello\n", "end")),
    "connect_error": (connect_error, b"", b"hello"),
    "immortal_peer": (nobody_reads, (False, True), (True, True)),
    "abandoned_bytes": (nobody_reads, (False, False), (True, True)),
}

KINDS = {
    "partial_write": "corruption",
    "sigpipe": "crash",
    "eintr": "crash",
    "lost_wakeup": "hang",
    "blocking_listener": "hang",
    "signal_race": "hang",
    "select_1024": "crash",
    "backlog": "starvation",
    "stale_path": "crash",
    "file_in_epoll": "crash",
    "no_backpressure": "memory",
    "recv_is_message": "corruption",
    "refed_input": "corruption",
    "hidden_records": "hang",
    "close_unread": "corruption",
    "connect_error": "corruption",
    "immortal_peer": "leak",
    "abandoned_bytes": "corruption",
}


@pytest.mark.parametrize("name", BODIES)
def test_the_bug_is_real_and_the_twin_has_it_not(world: World, name: str) -> None:
    body, wrong, right = BODIES[name]
    for folder, expected in (("broken", wrong), ("fixed", right)):
        serve = importlib.import_module(f"servers.{folder}.{name}").serve
        assert world.run(lambda sys, serve=serve: body(Stage(sys, serve))) == expected, folder


@pytest.mark.parametrize("name", KINDS)
def test_the_bug_is_found_and_explained(name: str) -> None:
    module = importlib.import_module(f"servers.broken.{name}")
    example = sim_example(module.serve, CONTRACTS[getattr(module, "CONTRACT", "echo")](), getattr(module, "PROFILE", "linux"))
    seed = next(seed for seed in range(100) if example(Seeded(seed)) is not None)
    failure = example(Seeded(seed), Trace())
    assert failure is not None
    assert failure.kind == KINDS[name], failure.message
    assert failure.explanation
    source = Path(str(module.__file__)).read_text()
    assert source.count("# bug:") == 1
    assert module.CLASS and module.SEEN_IN


@pytest.mark.parametrize("name", KINDS)
def test_the_twin_passes(name: str) -> None:
    module = importlib.import_module(f"servers.fixed.{name}")
    contract = CONTRACTS[getattr(module, "CONTRACT", "echo")]()
    report = check(module.serve, contract, examples=30, on="both", linux_examples=2)
    assert report.ok, report.failure


def test_the_id_of_a_thread_is_no_fd() -> None:
    """The relay joins threads whose ids are numbers of connections, too, of which poll had told it."""
    module = importlib.import_module("servers.fixed.connect_error")
    report = check(module.serve, Relay(), examples=30, seed=7)
    assert report.ok, report.failure
