"""One body, two kernels: a test that uses a library as its users do, on real sockets and on the fake machine.

    @both_ways
    def test_echo(): ...                # on threads and blocking sockets
    @both_ways
    async def test_echo(): ...          # by asyncio.run and simkernel.asyncio.run
    @both_ways(runner="trio")
    async def test_echo(): ...

On the real kernel nothing is left over: no fd, no thread, no child.  On the fake machine the body runs under SEEDS seeds, each twice, and
both runs have the same digest; nothing real is used meanwhile.  SIMKERNEL_SEEDS=50 in the environment asks for that many seeds.
"""

import contextlib
import functools
import gc
import importlib
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import simkernel.asyncio
import simkernel.trio
from simkernel.kernel.trace import Trace
from simkernel.stdlib.process import run_function
from simkernel.testing.determinism import parting

SEEDS = int(os.environ.get("SIMKERNEL_SEEDS", "3"))
# How long a body may take on the real kernel, in seconds.
LIMIT = 60
# And in virtual time: whoever waits for ever is found.
DEADLINE_NS = 3600 * 10**9
# How long what ends in the background may take to, in seconds.
GRACE = 5.0
# Threads that libraries keep for a while in case they need one again.
KEPT = ("Trio thread",)

# What a body on the fake machine must not do, in Python's audit events.
FORBIDDEN = frozenset(
    "socket.__new__ socket.bind socket.connect socket.getaddrinfo socket.gethostbyname _thread.start_new_thread os.fork os.posix_spawn "
    "subprocess.Popen time.sleep".split()
)
_escapes: list[str] | None = None


@functools.cache
def watch_escapes() -> None:
    """Note what is FORBIDDEN in _escapes, if that is a list.  A hook is there for ever."""

    def hook(event: str, args: object) -> None:
        if _escapes is not None and event in FORBIDDEN:
            _escapes.append(event)

    sys.addaudithook(hook)


def resources() -> tuple[set[str], set[str], str]:
    """What this process holds of the real kernel: fds with what they are, threads by name, children."""
    fds = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            fds.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
    threads = {thread.name for thread in threading.enumerate() if not thread.name.startswith(KEPT)}
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        children = file.read()
    return {fd for fd in fds if "/proc/" not in fd}, threads, children


@contextlib.contextmanager
def limit(seconds: int) -> Iterator[None]:
    """TimeoutError where the main thread is by then."""

    def too_long(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the body has taken more than {seconds} s")

    was = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, was)


def runner_of(body: Callable[..., Any], runner: str) -> str:
    """How a body is run: "function", "asyncio" or "trio"."""
    return runner or ("asyncio" if inspect.iscoroutinefunction(body) else "function")


def on_real(body: Callable[..., Any], runner: str) -> None:
    """Run a body on the real kernel, which is as it was before."""
    gc.collect()
    before = resources()
    with limit(LIMIT):
        if runner == "asyncio":
            importlib.import_module("asyncio").run(body())
        elif runner == "trio":
            importlib.import_module("trio").run(body)
        else:
            body()
    until = time.monotonic() + GRACE
    while (after := resources()) != before and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert after == before, f"left over: {after} instead of {before}"


def on_fake(body: Callable[..., Any], runner: str, seed: int | None) -> Trace:
    """Run a body on a fake machine, and give its trace."""
    trace = Trace()
    {"function": run_function, "asyncio": simkernel.asyncio.run, "trio": simkernel.trio.run}[runner](
        body, seed=seed, trace=trace, deadline_ns=DEADLINE_NS
    )
    return trace


def under_seeds(body: Callable[..., Any], runner: str) -> None:
    """Run a body under each seed, twice, with nothing real used."""
    global _escapes
    watch_escapes()
    on_fake(body, runner, None)
    before = resources()
    _escapes = []
    try:
        for seed in range(SEEDS):
            one, other = on_fake(body, runner, seed), on_fake(body, runner, seed)
            assert one.digest() == other.digest(), f"seed {seed}: {parting(one, other)}"
    finally:
        used, _escapes = _escapes, None
    assert used == []
    assert resources() == before


def both_ways(body: Callable[..., Any] | None = None, *, runner: str = "") -> Any:
    """Make a test of a body: one on each kernel."""
    if body is None:
        return functools.partial(both_ways, runner=runner)
    how = runner_of(body, runner)

    @pytest.mark.parametrize("kernel", ["real", "fake"])
    def test(kernel: str) -> None:
        on_real(body, how) if kernel == "real" else under_seeds(body, how)

    test.__name__, test.__qualname__, test.__doc__, test.__module__ = body.__name__, body.__qualname__, body.__doc__, body.__module__
    test.body, test.runner = body, how  # type: ignore[attr-defined]  # for those who run it otherwise
    return test
