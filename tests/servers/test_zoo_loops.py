"""The zoo's servers that live in event loops and threads: each bug is real on both kernels, is found, and its twin is right."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simkernel.api import Syscalls
from simkernel.kernel.choice import Seeded
from simkernel.kernel.trace import Trace
from simkernel.testing import check
from simkernel.testing.contracts import CONTRACTS
from simkernel.testing.example import sim_example
from simkernel.testing.plugin import World
from simkernel.uapi import RLIMIT_NOFILE, SHUT_WR, SO_LINGER, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from tests.servers.test_zoo_protocols import MS, Stage

RESET = (1).to_bytes(4, "little") + bytes(4)
MUCH = 40_000  # more than a small window and a small send buffer hold
WAITS = 150


class Spun(Exception):
    """The server has waited very often."""


class Counted:
    """A Syscalls whose epoll_wait gives up after so many calls: a loop that is right makes a few."""

    def __init__(self, sys: Syscalls) -> None:
        self.sys, self.waits = sys, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sys, name)

    def epoll_wait(self, *args: Any) -> Any:
        self.waits += 1
        if self.waits > WAITS:
            raise Spun
        return self.sys.epoll_wait(*args)


def counted(stage: Stage) -> None:
    serve = stage.serve
    stage.serve = lambda sys, listener, stop: serve(Counted(sys), listener, stop)  # type: ignore[arg-type]


def reset(stage: Stage, fd: int) -> None:
    stage.sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, RESET)
    stage.sys.close(fd)


def much(stage: Stage) -> int:
    """A client that has sent much, with a server that has read it all at once and could not send all of it back."""
    stage.sys.setsockopt(stage.listener, SOL_SOCKET, SO_RCVBUF, 4 * MUCH)
    stage.sys.setsockopt(stage.listener, SOL_SOCKET, SO_SNDBUF, 4608)
    fd = stage.dial(small=True)
    stage.say(fd, bytes(MUCH))
    stage.start()
    stage.sys.nanosleep(50 * MS)
    return fd


# --- one body for each bug: what is seen with it, and without it ---
def et_read_once(stage: Stage) -> object:
    stage.start()
    fd = stage.dial()
    stage.say(fd, bytes(1300))
    return len(stage.hear(fd)[0])


def et_accept_once(stage: Stage) -> object:
    fds = [stage.dial() for _ in range(3)]
    stage.start()
    for fd in fds:
        stage.say(fd, b"x")
    return [stage.hear(fd, 100)[0] for fd in fds]


def long_write_loop(stage: Stage) -> object:
    stage.start()
    stage.stuff(stage.dial(small=True), 1 << 23)
    fd = stage.dial()
    stage.say(fd, b"x")
    return stage.hear(fd)[0]


def short_read_is_drained(stage: Stage) -> object:
    fd = stage.dial()
    stage.say(fd, b"x")
    stage.sys.shutdown(fd, SHUT_WR)
    stage.start()
    return stage.hear(fd)


def stale_event(stage: Stage) -> object:
    gone, *others = [stage.dial() for _ in range(3)]
    stage.say(gone, b"x")
    reset(stage, gone)
    stage.start()
    for fd in others:
        stage.say(fd, b"x")
    return [stage.hear(fd) for fd in others]


def zombie_fork(stage: Stage) -> object:
    counted(stage)
    stage.start()
    fd = stage.dial()
    stage.sys.shutdown(fd, SHUT_WR)
    return stage.hear(fd), stage.status()


def mod_of_closed(stage: Stage) -> object:
    stage.start()
    for _ in range(2):
        fd = stage.dial()
        stage.sys.shutdown(fd, SHUT_WR)
        stage.hear(fd)
    return stage.status(200)


def late_finalizer(stage: Stage) -> object:
    stage.start()
    first, second = stage.dial(), stage.dial()
    for fd in (first, second):
        stage.say(fd, b"x")
        stage.hear(fd, 50)
    stage.sys.shutdown(first, SHUT_WR)
    stage.hear(first)
    third = stage.dial()  # the server gives it the first one's number
    stage.say(third, b"x")
    stage.hear(third, 50)
    stage.sys.shutdown(second, SHUT_WR)
    stage.hear(second)
    stage.say(third, b"y")
    return stage.hear(third)[0]


def cancelled_callback(stage: Stage) -> object:
    stage.start()
    fd = stage.dial()
    stage.sys.nanosleep(50 * MS)
    stage.say(fd, b"x")
    return stage.hear(fd)[0]


def emfile_spin(stage: Stage) -> object:
    serve = stage.serve

    def few(sys: Syscalls, listener: int, stop: int) -> None:
        taken = []
        sys.setrlimit(RLIMIT_NOFILE, (64, sys.getrlimit(RLIMIT_NOFILE)[1]))
        try:
            while True:
                taken.append(sys.dup(stop))
        except OSError:
            for fd in taken[-2:]:
                sys.close(fd)  # for the epoll and for one client
        serve(Counted(sys), listener, stop)  # type: ignore[arg-type]

    stage.serve = few
    stage.start()
    fds = [stage.dial() for _ in range(2)]
    first = stage.status()
    for fd in fds:
        stage.say(fd, b"x")
    return first, [stage.hear(fd, 50)[0] for fd in fds] if first is None else []


def eagain_not_rearmed(stage: Stage) -> object:
    fd = much(stage)
    got = len(stage.hear(fd)[0])
    stage.say(fd, b"x")
    return got, stage.hear(fd)[0]


def hup_unhandled(stage: Stage) -> object:
    counted(stage)
    fd = stage.dial()
    reset(stage, fd)
    stage.start()
    return stage.status()


def interest_zero_spin(stage: Stage) -> object:
    counted(stage)
    stage.start()
    fd = stage.dial()
    stage.say(fd, b"x")
    stage.sys.recv(fd, 1)
    reset(stage, fd)
    return stage.status()


def epollout_armed(stage: Stage) -> object:
    counted(stage)
    stage.hear(much(stage))
    return stage.status()


def told(stage: Stage) -> object:
    stage.start()
    fd = stage.dial()
    stage.say(fd, b"x")
    return stage.hear(fd, 50)[0], stage.told_to_stop()


def foreign_writer(stage: Stage) -> object:
    return len(stage.hear(much(stage))[0]) == MUCH


BODIES: dict[str, tuple[Callable[[Stage], object], object, object]] = {
    "et_read_once": (et_read_once, 1024, 1300),
    "et_accept_once": (et_accept_once, [b"x", b"", b""], [b"x", b"x", b"x"]),
    "long_write_loop": (long_write_loop, b"", b"x"),
    "short_read_is_drained": (short_read_is_drained, (b"x", "silence"), (b"x", "end")),
    "stale_event": (stale_event, [(b"x", "silence"), (b"", "reset")], [(b"x", "silence"), (b"x", "silence")]),
    "zombie_fork": (zombie_fork, ((b"", "silence"), 1 << 8), ((b"", "end"), None)),
    "mod_of_closed": (mod_of_closed, 1 << 8, None),
    "late_finalizer": (late_finalizer, b"", b"y"),
    "cancelled_callback": (cancelled_callback, b"", b"x"),
    "emfile_spin": (emfile_spin, (1 << 8, []), (None, [b"x", b""])),
    "eagain_not_rearmed": (eagain_not_rearmed, (MUCH, b""), (MUCH, b"x")),
    "hup_unhandled": (hup_unhandled, 1 << 8, None),
    "interest_zero_spin": (interest_zero_spin, 1 << 8, None),
    "epollout_armed": (epollout_armed, 1 << 8, None),
    "eventfd_et_wakes_one": (told, (b"x", None), (b"x", 0)),
    "close_under_waiter": (told, (b"x", None), (b"x", 0)),
    "foreign_writer": (foreign_writer, False, True),
}
# What is found is one of these: the bug shows in more than one way, and the example decides.
KINDS = {
    "et_read_once": {"hang"},
    "et_accept_once": {"hang", "starvation"},
    "et_drain_starves": {"starvation"},
    "long_write_loop": {"hang", "starvation"},
    "short_read_is_drained": {"hang", "starvation"},
    "stale_event": {"corruption"},
    "zombie_fork": {"spin"},
    "mod_of_closed": {"crash"},
    "late_finalizer": {"stale-fd"},
    "cancelled_callback": {"hang", "corruption"},
    "emfile_spin": {"spin"},
    "eagain_not_rearmed": {"hang", "starvation"},
    "hup_unhandled": {"spin", "hang", "starvation"},
    "interest_zero_spin": {"spin", "starvation"},
    "epollout_armed": {"spin"},
    "eventfd_et_wakes_one": {"hang"},
    "shared_epoll_lt": {"crash", "corruption", "stale-fd"},
    "herd": {"herd"},
    "close_under_waiter": {"hang"},
    "foreign_writer": {"hang", "leak", "starvation"},
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
    seed = next(seed for seed in range(300) if example(Seeded(seed)) is not None)
    failure = example(Seeded(seed), Trace())
    assert failure is not None
    assert failure.kind in KINDS[name], failure.message
    assert failure.explanation
    assert Path(str(module.__file__)).read_text().count("# bug:") == 1
    assert module.CLASS and module.SEEN_IN


@pytest.mark.parametrize("name", KINDS)
def test_the_twin_passes(name: str) -> None:
    module = importlib.import_module(f"servers.fixed.{name}")
    contract = CONTRACTS[getattr(module, "CONTRACT", "echo")]()
    report = check(module.serve, contract, examples=30, on="both", linux_examples=2)
    assert report.ok, report.failure
