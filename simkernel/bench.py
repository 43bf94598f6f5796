"""simkernel bench: the fake kernel and the real one, side by side in one run, on the same server code.

    a  round trips   servers/epoll_lt_echo.py and a client that drives all connections by epoll: sim, sim with a trace in memory, linux
    b  small tests   a whole test with set-up and tear-down: sim, linux (processes), linux (one thread, no fork: the fastest known way)
    c  one ready     epoll_wait with one ready fd of n, and select: what a call costs as n grows
    d  check         simkernel check with a fixed plan: examples a second, each another schedule, oracles on, no trace; and on linux
    e  asyncio       servers/asyncio_pair.py, on Python's own modules: round trips, and whole small tests, one event loop for both sides

Every function that is measured gets the syscall layer as its argument and runs unchanged on either kernel; only ``one_thread`` is for
Linux alone, as an upper bound.  The kernels take turns, each is warmed up before the clock starts, and before each measured interval
the garbage is collected and the collector stopped, on both sides.  Shown are the median and the extremes of the rounds; a ratio is
taken in each round, and its median counts.
"""

import contextlib
import functools
import gc
import importlib.util
import itertools
import json as json_
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import simkernel
from simkernel import linux
from simkernel.api import Syscalls
from simkernel.errors import UsageError
from simkernel.kernel.entry import COMPILED
from simkernel.stdlib.process import run_function
from simkernel.testing.checker import check
from simkernel.testing.contracts import Echo
from simkernel.uapi import (
    AF_INET,
    EPOLL_CTL_ADD,
    EPOLLIN,
    F_GETFL,
    F_SETFL,
    FD_SETSIZE,
    IPPROTO_TCP,
    O_NONBLOCK,
    RLIMIT_NOFILE,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    TCP_NODELAY,
)

__all__ = ["bench"]

PARTS: Final = {"a": "round trips", "b": "small tests", "c": "one ready of n", "d": "check", "e": "asyncio"}
SERVER: Final = "epoll_lt_echo.py"
PAIR: Final = "asyncio_pair.py"
MESSAGE: Final = b"x" * 64
CONNECTIONS, ROUND_TRIPS, WARM_UP = 200, 100, 10
CLIENTS, ECHOES = 10, 10
CHECK_EXAMPLES, CHECK_EXAMPLES_LINUX = 400, 10
EPOLL_SIZES: Final = (10, 1_000, 100_000)
SELECT_SIZES: Final = (10, 100, 1_000)
CALLS: Final = {"epoll_wait": EPOLL_SIZES, "select": SELECT_SIZES}
# File descriptors that a process has besides those it is told to open.
SPARE_FDS: Final = 32
BATCHES: Final = 10
# Measured loops call and call while virtual time stands still, which is no livelock here.
MAX_STALLED: Final = 10**9

Serve = Callable[[Syscalls, int, int], None]
Samples = dict[str, list[float]]
Step = Callable[[], None]


# --- what is measured: the same functions on both kernels ---


def quiet() -> None:
    """Collect the garbage and stop the collector, as both sides do before a measured interval."""
    gc.collect()
    gc.disable()


def listening(sys: Syscalls) -> tuple[int, tuple[str, int]]:
    """A listener with TCP_NODELAY, which those accepted from it inherit, and its address."""
    listener = sys.socket(AF_INET, SOCK_STREAM)
    sys.setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, 1)
    sys.bind(listener, ("127.0.0.1", 0))
    sys.listen(listener, 1024)
    addr = sys.getsockname(listener)
    assert isinstance(addr, tuple) and len(addr) == 2
    return listener, addr


def connected(sys: Syscalls, addr: tuple[str, int]) -> int:
    """A connection to the server, with TCP_NODELAY."""
    fd = sys.socket(AF_INET, SOCK_STREAM)
    sys.connect(fd, addr)
    sys.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, 1)
    return fd


def round_trips(sys: Syscalls, serve: Serve, connections: int, rounds: int) -> float:
    """Round trips a second, from the first send to the last reply: a server process, and one client process with all connections."""
    quiet()
    listener, addr = listening(sys)
    stop = sys.eventfd(0)
    server = sys.spawn(serve, listener, stop)
    fds = [connected(sys, addr) for _ in range(connections)]
    ep = sys.epoll_create1()
    for fd in fds:
        sys.fcntl(fd, F_SETFL, sys.fcntl(fd, F_GETFL) | O_NONBLOCK)
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)
    drive(sys, ep, fds, WARM_UP)
    start = time.perf_counter()
    drive(sys, ep, fds, rounds)
    seconds = time.perf_counter() - start
    for fd in fds:
        sys.close(fd)
    sys.write(stop, (1).to_bytes(8, "little"))
    sys.waitpid(server)
    return connections * rounds / seconds


def drive(sys: Syscalls, ep: int, fds: list[int], rounds: int) -> None:
    """Each connection sends a message when the echo of the one before is back, until it has had ``rounds`` of them."""
    send, recv, epoll_wait = sys.send, sys.recv, sys.epoll_wait
    left = dict.fromkeys(fds, rounds)
    for fd in fds:
        send(fd, MESSAGE)
    busy = len(fds)
    while busy:
        for fd, _ in epoll_wait(ep, 256):
            if recv(fd, 65536) != MESSAGE:
                raise AssertionError("the echo is not what was sent, or came in pieces")
            left[fd] -= 1
            if left[fd]:
                send(fd, MESSAGE)
            else:
                busy -= 1


def small_test(sys: Syscalls, serve: Serve) -> int:
    """A whole test: a server process, and client processes that are waited for.  Returns how many of them failed."""
    listener, addr = listening(sys)
    stop = sys.eventfd(0)
    server = sys.spawn(serve, listener, stop)
    clients = [sys.spawn(echo_client, addr) for _ in range(CLIENTS)]
    failed = sum(sys.waitpid(client)[1] != 0 for client in clients)
    sys.write(stop, (1).to_bytes(8, "little"))
    return failed + (sys.waitpid(server)[1] != 0)


def echo_client(sys: Syscalls, addr: tuple[str, int]) -> None:
    """One client of the small test."""
    fd = connected(sys, addr)
    for _ in range(ECHOES):
        sys.send(fd, MESSAGE)
        if sys.recv(fd, 65536) != MESSAGE:
            raise AssertionError("the echo is not what was sent, or came in pieces")
    sys.close(fd)


def one_thread(sys: Syscalls, tests: int) -> float:
    """Small tests a second without processes: all sends, the server's step, all receives, in one thread of real Linux.

    The same set-up, messages and tear-down as small_test, by the calls of the same layer.  Nothing is waited for that has not been
    sent, so no call sleeps for long; the clients' sockets block, which saves the errors of a non-blocking connect.
    """
    quiet()
    start = time.perf_counter()
    for _ in range(tests):
        listener, addr = listening(sys)
        sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
        clients = [connected(sys, addr) for _ in range(CLIENTS)]
        accepted: list[int] = []
        while len(accepted) < CLIENTS:
            for _ in sys.epoll_wait(ep, 256):
                fd, _ = sys.accept4(listener, SOCK_NONBLOCK)
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)
                accepted.append(fd)
        for _ in range(ECHOES):
            for fd in clients:
                sys.send(fd, MESSAGE)
            echoed = 0
            while echoed < CLIENTS:
                for fd, _ in sys.epoll_wait(ep, 256):
                    sys.send(fd, sys.recv(fd, 65536))
                    echoed += 1
            for fd in clients:
                if sys.recv(fd, 65536) != MESSAGE:
                    raise AssertionError("the echo is not what was sent, or came in pieces")
        for fd in clients:
            sys.close(fd)
        left = CLIENTS
        while left:
            for fd, _ in sys.epoll_wait(ep, 256):
                if sys.recv(fd, 65536) == b"":
                    sys.close(fd)
                    left -= 1
        sys.close(ep)
        sys.close(listener)
    return tests / (time.perf_counter() - start)


def epoll_one_ready(sys: Syscalls, n: int, calls: int, per_process: int) -> float:
    """Nanoseconds of an epoll_wait(0) that finds one ready level-triggered eventfd of ``n``.

    RLIMIT_NOFILE limits a process, not an epoll: what one process may not open, others open and register for it.
    """
    sys.setrlimit(RLIMIT_NOFILE, (per_process + SPARE_FDS, sys.getrlimit(RLIMIT_NOFILE)[1]))
    ep = sys.epoll_create1()
    told, tell = sys.pipe2()
    others = n - 1
    while others:
        share = min(others, per_process)
        sys.spawn(watch_idle, ep, tell, share)
        if sys.read(told, 1) != b"+":
            raise MemoryError(f"no room for {n} watched files")
        others -= share
    ready = sys.eventfd(1)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, ready, EPOLLIN)
    return per_call(lambda: sys.epoll_wait(ep, 64, 0), [(ready, EPOLLIN)], calls)


def watch_idle(sys: Syscalls, ep: int, tell: int, share: int) -> None:
    """A process that registers ``share`` idle eventfds, says so, and sleeps until the run ends."""
    try:
        for _ in range(share):
            sys.epoll_ctl(ep, EPOLL_CTL_ADD, sys.eventfd(0), EPOLLIN)
    except OSError:
        sys.write(tell, b"-")
        return
    sys.write(tell, b"+")
    sys.read(sys.eventfd(0), 8)


def select_one_ready(sys: Syscalls, n: int, calls: int) -> float:
    """Nanoseconds of a select(0) that finds one ready eventfd of ``n``."""
    fds = [sys.eventfd(1 if i == n // 2 else 0) for i in range(n)]
    assert fds[-1] < FD_SETSIZE
    return per_call(lambda: sys.select(fds, (), (), 0), ([fds[n // 2]], [], []), calls)


def per_call(call: Callable[[], object], expected: object, calls: int) -> float:
    """Nanoseconds of ``call``, which has to return ``expected``: the best of ten batches, since all that can disturb only adds to it."""
    batch = max(calls // BATCHES, 1)
    for _ in range(batch):
        if call() != expected:
            raise AssertionError(f"{call()} is not {expected}")
    quiet()
    times: list[int] = []
    for _ in range(BATCHES):
        start = time.perf_counter_ns()
        for _ in range(batch):
            call()
        times.append(time.perf_counter_ns() - start)
    return min(times) / batch


def row(call: str, kernel: str, n: int) -> str:
    """The name of one line of part c."""
    return f"{call}, {kernel}, {n:,}"


# --- the plan: each step adds a sample, the kernels take turns ---


def on_sim(main: Callable[..., float], *args: object, trace: simkernel.Trace | None = None) -> float:
    """A measured main on the fake kernel; its figure."""
    result: float = simkernel.run(main, *args, trace=trace, max_stalled=MAX_STALLED)
    gc.enable()
    return result


def on_linux(main: Callable[..., float], *args: object) -> float:
    """The same on the real one."""
    result: float = linux.run(main, *args)
    return result


def repeated(run: Callable[..., Any], serve: Serve, tests: int) -> float:
    """Small tests a second, one after the other."""
    run(small_test, serve)
    quiet()
    start = time.perf_counter()
    failed = sum(run(small_test, serve) for _ in range(tests))
    seconds = time.perf_counter() - start
    gc.enable()
    if failed:
        raise AssertionError(f"{failed} processes of the small test failed")
    return tests / seconds


def plan_a(serve: Serve, samples: Samples, rounds: int, quick: bool) -> list[Step]:
    """Steps of part a: round trips."""
    trips = ROUND_TRIPS // 5 if quick else ROUND_TRIPS
    args = (round_trips, serve, CONNECTIONS, trips)
    return [
        lambda: samples["sim"].append(on_sim(*args)),
        lambda: samples["linux"].append(on_linux(*args)),
        lambda: samples["sim, traced"].append(on_sim(*args, trace=simkernel.Trace())),
    ] * rounds


def plan_b(serve: Serve, samples: Samples, rounds: int) -> list[Step]:
    """Steps of part b: small tests."""
    tests = 20
    return [
        lambda: samples["sim"].append(repeated(simkernel.run, serve, tests)),
        lambda: samples["linux, one thread"].append(on_linux(one_thread, tests)),
        lambda: samples["linux, processes"].append(repeated(linux.run, serve, 1)),
    ] * rounds


def plan_c(samples: Samples, notes: list[str], rounds: int, quick: bool) -> list[Step]:
    """Steps of part c: one ready fd of many."""
    calls = 2_000 if quick else 10_000
    per_process = linux.LinuxSyscalls().getrlimit(RLIMIT_NOFILE)[1]
    per_process = min(max(EPOLL_SIZES), (max(EPOLL_SIZES) if per_process < 0 else per_process) - SPARE_FDS)

    def epoll(kernel: str, run: Callable[..., float], n: int) -> None:
        try:
            samples[row("epoll_wait", kernel, n)].append(run(epoll_one_ready, n, calls, per_process))
        except (OSError, MemoryError) as error:
            note = f"epoll_wait with {n:,} fds was skipped on {kernel}: {error} (RLIMIT_NOFILE, fs.epoll.max_user_watches or fs.file-max)"
            if note not in notes:
                notes.append(note)

    def select(kernel: str, run: Callable[..., float], n: int) -> None:
        samples[row("select", kernel, n)].append(run(select_one_ready, n, max(calls * 10 // n, 20)))

    kernels: tuple[tuple[str, Callable[..., float]], ...] = (("sim", on_sim), ("linux", on_linux))
    steps: list[Step] = []
    for _ in range(rounds):
        for n in EPOLL_SIZES:
            steps += [lambda k=k, r=r, n=n: epoll(k, r, n) for k, r in kernels]  # type: ignore[misc]
        for n in SELECT_SIZES:
            steps += [lambda k=k, r=r, n=n: select(k, r, n) for k, r in kernels]  # type: ignore[misc]
    return steps


def plan_d(serve: Serve, samples: Samples, rounds: int, quick: bool) -> list[Step]:
    """Steps of part d: the check itself, as the command runs it."""
    examples = CHECK_EXAMPLES // 4 if quick else CHECK_EXAMPLES
    seeds = itertools.count()

    def checked(kernel: str) -> None:
        gc.collect()
        report = check(serve, Echo(CLIENTS, ECHOES), examples, on=kernel, seed=next(seeds), linux_examples=CHECK_EXAMPLES_LINUX)
        if report.failure is not None:
            raise AssertionError(f"the check of {SERVER} failed: {report.failure.kind}: {report.failure.message}")
        rate = report.rate(kernel)
        assert rate is not None
        samples[kernel].append(rate)

    return [lambda: checked("sim"), lambda: checked("linux")] * rounds


def plan_e(pair: ModuleType, samples: Samples, rounds: int, quick: bool) -> list[Step]:
    """Steps of part e: asyncio in this very process, on real sockets and in a world."""
    trips = ROUND_TRIPS // 5 if quick else ROUND_TRIPS
    tests = 20
    in_world = functools.partial(run_function, max_stalled=MAX_STALLED)

    def trip(kernel: str, run: Callable[..., Any]) -> None:
        quiet()
        samples[f"round trips, {kernel}"].append(run(pair.round_trips, CONNECTIONS, trips, time.perf_counter))
        gc.enable()

    def test(kernel: str, run: Callable[..., Any]) -> None:
        run(pair.small_test, CLIENTS, ECHOES)
        quiet()
        start = time.perf_counter()
        for _ in range(tests):
            run(pair.small_test, CLIENTS, ECHOES)
        samples[f"tests, {kernel}"].append(tests / (time.perf_counter() - start))
        gc.enable()

    def as_it_is(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    kernels: tuple[tuple[str, Callable[..., Any]], ...] = (("sim", in_world), ("linux", as_it_is))
    steps: list[Step] = [functools.partial(measure, kernel, run) for measure in (trip, test) for kernel, run in kernels]
    return steps * rounds


# --- the report ---


def server(name: str) -> ModuleType:
    """A server's module, which lives beside the package in the repository."""
    path = Path(simkernel.__file__).parent.parent / "servers" / name
    if not path.is_file():
        raise UsageError(f"{path} is not there: simkernel bench measures the repository's servers; run it in a clone (pip install -e .)")
    spec = importlib.util.spec_from_file_location(f"simkernel_bench_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def summary(samples: list[float]) -> dict[str, float]:
    """The median and the extremes of some samples."""
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples)}


def ratio(samples: Samples, a: str, *b: str) -> float | None:
    """The median, over the rounds, of ``a`` by the one of ``b`` with the largest median.

    Round by round, because what is measured side by side suffers alike when the machine is busy.
    """
    if not samples[a] or not all(samples[name] for name in b):
        return None
    largest = max((samples[name] for name in b), key=statistics.median)
    return statistics.median(x / y for x, y in zip(samples[a], largest, strict=False))


def ratios(part: str, samples: Samples) -> dict[str, tuple[float | None, str]]:
    """What the figures are taken for: the name of each ratio, its value, and the range it should be in, as text."""
    if part == "a":
        return {
            "sim / linux": (ratio(samples, "sim", "linux"), ">= 2"),
            "sim, traced / linux": (ratio(samples, "sim, traced", "linux"), ">= 1"),
        }
    if part == "b":
        return {"sim / the faster linux": (ratio(samples, "sim", "linux, one thread", "linux, processes"), ">= 1.5")}
    if part == "d":
        return {"sim / linux": (ratio(samples, "sim", "linux"), "")}
    if part == "e":
        return {
            "round trips, sim / linux": (ratio(samples, "round trips, sim", "round trips, linux"), ">= 1"),
            "tests, sim / linux": (ratio(samples, "tests, sim", "tests, linux"), ">= 2"),
        }
    out: dict[str, tuple[float | None, str]] = {}
    for kernel in ("sim", "linux"):
        for call, sizes in CALLS.items():
            value = ratio(samples, row(call, kernel, sizes[-1]), row(call, kernel, sizes[0]))
            wanted = "<= 1.3" if call == "epoll_wait" else ">= 20"
            out[f"{call}, {kernel}: {sizes[-1]:,} / {sizes[0]}"] = value, wanted if kernel == "sim" else ""
    return out


def met(value: float | None, wanted: str) -> bool | None:
    """Whether a ratio is in its range; None if there is none."""
    if value is None or not wanted:
        return None
    limit = float(wanted[3:])
    return value >= limit if wanted.startswith(">=") else value <= limit


def environment() -> dict[str, object]:
    """What was measured on."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "build": "compiled" if COMPILED else "interpreted",
    }


UNITS: Final = {"a": "round trips/s", "b": "tests/s", "c": "ns/call", "d": "examples/s", "e": "a second"}
TITLES: Final = {
    "a": f"a. {CONNECTIONS} connections, {len(MESSAGE)}-byte echoes through {SERVER}",
    "b": f"b. whole tests: {CLIENTS} clients x {ECHOES} echoes, set up and torn down",
    "c": "c. one ready fd of n",
    "d": f"d. simkernel check: {CLIENTS} clients x {ECHOES} echoes",
    "e": f"e. asyncio's streams: {CONNECTIONS} connections x {ROUND_TRIPS} round trips, and tests of {CLIENTS} clients x {ECHOES} echoes",
}


def show(console: Console, part: str, samples: Samples) -> None:
    """The table of one part."""
    table = Table(title=TITLES[part], title_justify="left", title_style="bold")
    table.add_column("")
    for heading in ("median", "min", "max"):
        table.add_column(heading, justify="right")
    table.add_column(UNITS[part])
    for name, values in samples.items():
        if values:
            table.add_row(name, *(f"{value:,.0f}" for value in summary(values).values()), "")
    table.add_section()
    for name, (value, wanted) in ratios(part, samples).items():
        ok = met(value, wanted)
        colour = "dim" if ok is None else "green" if ok else "red"
        table.add_row(f"[bold]{name}", "-" if value is None else f"[bold {colour}]{value:.2f}", "", "", wanted and f"wanted {wanted}")
    console.print(table)


def bench(json: bool = False, only: Sequence[str] = (), quick: bool = False) -> int:
    """Measure the parts ``only`` (default: all), and print tables, or with ``json`` one JSON object.  Always 0: figures, no verdict."""
    parts = tuple(only) or tuple(PARTS)
    for part in parts:
        if part not in PARTS:
            known = ", ".join(f"{letter} ({what})" for letter, what in PARTS.items())
            raise UsageError(f"there is no part {part!r} of the benchmark; the parts are {known}")
    serve: Serve = server(SERVER).serve
    notes: list[str] = []
    names = {
        "a": ["sim", "sim, traced", "linux"],
        "b": ["sim", "linux, one thread", "linux, processes"],
        "c": [row(call, kernel, n) for call, sizes in CALLS.items() for kernel in ("sim", "linux") for n in sizes],
        "d": ["sim", "linux"],
        "e": [f"{what}, {kernel}" for what in ("round trips", "tests") for kernel in ("sim", "linux")],
    }
    samples: dict[str, Samples] = {part: {name: [] for name in names[part]} for part in parts}
    plans: dict[str, list[Step]] = {}
    if "a" in parts:
        plans["a"] = plan_a(serve, samples["a"], 3 if quick else 9, quick)
    if "b" in parts:
        plans["b"] = plan_b(serve, samples["b"], 5 if quick else 25)
    if "c" in parts:
        plans["c"] = plan_c(samples["c"], notes, 1 if quick else 3, quick)
    if "d" in parts:
        plans["d"] = plan_d(serve, samples["d"], 2 if quick else 7, quick)
    if "e" in parts:
        plans["e"] = plan_e(server(PAIR), samples["e"], 3 if quick else 9, quick)
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        stack.callback(gc.enable)
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        for part, steps in plans.items():
            for step in progress.track(steps, description=f"{part}. {PARTS[part]}"):
                step()
    seconds = time.perf_counter() - started
    if json:
        results = {
            part: {
                "unit": UNITS[part],
                "samples": {name: summary(values) for name, values in samples[part].items() if values},
                "ratios": {
                    name: {"value": value, "wanted": wanted or None, "met": met(value, wanted)}
                    for name, (value, wanted) in ratios(part, samples[part]).items()
                },
            }
            for part in parts
        }
        print(json_.dumps({**environment(), "quick": quick, "seconds": round(seconds, 1), "notes": notes, "parts": results}, indent=2))
        return 0
    console = Console()
    where = environment()
    console.print(f"{where['python']}, {where['kernel']}, {where['cores']} cores, {where['build']}")
    for part in parts:
        show(console, part, samples[part])
    for note in notes:
        console.print(note, style="yellow")
    console.print(f"{seconds:.0f} seconds", style="dim")
    return 0
