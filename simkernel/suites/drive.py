"""Starts the workers of a suite and watches them: a test that is stuck is killed, and the rest goes on in a new process."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any, Final

from simkernel.errors import UsageError
from simkernel.suites.catalog import Suite
from simkernel.suites.worker import Job

# Seconds that importing a suite's modules may take above a test's limit.
IMPORTS: Final = 60.0
# Characters of a worker's output that are kept to explain its death.
TAIL: Final = 3000


@dataclass
class Ran:
    """One test on one kernel.  ``outcome``: "passed", "skipped" or "failed"; ``seconds``: of real time."""

    outcome: str
    why: str = ""
    seconds: float = 0.0


@dataclass
class Side:
    """A suite on one kernel: its tests by id; ``skipped`` or ``broken`` if none of it could run, and why."""

    tests: dict[str, Ran] = field(default_factory=dict)
    skipped: str = ""
    broken: str = ""
    seconds: float = 0.0

    def count(self, outcome: str) -> int:
        """How many tests had an outcome."""
        return sum(ran.outcome == outcome for ran in self.tests.values())


Tick = Callable[[str, int, int], None]


class Watched:
    """A worker that runs: its process group, its events and its output."""

    def __init__(self, job: Job, limit: float, directory: str, log: IO[bytes]) -> None:
        read, write = os.pipe()
        self.events = read
        self.log = log
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
        # The test that runs, and how many seconds it may take.
        self.current: str | None = None
        self.limit = limit
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "simkernel.suites.worker", str(write), job.as_json()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[write],
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
        os.close(write)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its events until it ends.  TimeoutError when none comes for too long."""
        rest = b""
        while True:
            if not select.select([self.events], [], [], self.limit + (IMPORTS if self.current is None else 0))[0]:
                raise TimeoutError
            data = os.read(self.events, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    raise RuntimeError(f"the worker said {line[:300]!r} while {self.current} ran") from None
                yield event

    def stop(self) -> None:
        """SIGABRT, for which faulthandler says where it was; then the end of its whole process group."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(5)

    def close(self) -> int:
        """Leave nothing of it; returns its exit status."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        status = self.popen.wait()
        os.close(self.events)
        return status

    def output(self) -> str:
        """The end of what it wrote."""
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - TAIL))
        return self.log.read().decode(errors="replace")


class Crew:
    """The workers that run now, for who wants to stop them all."""

    def __init__(self) -> None:
        self.workers: list[Watched] = []
        self.dismissed = False

    def dismiss(self) -> None:
        """End them, and let none begin."""
        self.dismissed = True
        for worker in self.workers[:]:
            worker.popen.kill()


def run_side(
    suite: Suite, on: str, pattern: str, seed: int | None, limit: float, tick: Tick | None = None, crew: Crew | None = None
) -> Side:
    """Run a suite on one kernel ("sim" or "linux"), in as many workers as it takes.  ``limit``: real seconds a test may take."""
    crew = crew or Crew()
    side = Side()
    began = time.monotonic()
    job = Job(list(suite.modules), suite.kind, suite.only, list(suite.uses), on, seed, pattern)
    known: list[str] = []
    over = False
    while not over and not crew.dismissed:
        before = len(side.tests)
        with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as log:
            worker = Watched(job, limit, directory, log)
            crew.workers.append(worker)
            over = _watch(worker, side, known, lambda: tick and tick(f"{suite.name} on {on}", len(side.tests), len(known)))
            crew.workers.remove(worker)
        job.done = list(side.tests)
        if not over and len(side.tests) == before:
            # Nothing comes of it.
            over = True
    side.tests = {test: side.tests[test] for test in known if test in side.tests}
    side.seconds = time.monotonic() - began
    return side


def _watch(worker: Watched, side: Side, known: list[str], tick: Callable[[], object]) -> bool:
    """One worker, from start to end; whether the suite is over."""
    over = again = stuck = False
    try:
        for event in worker.lines():
            if "tests" in event:
                known[:] = known or event["tests"]
            elif "start" in event:
                worker.current = event["start"]
            elif "id" in event:
                side.tests[event["id"]] = Ran(event["outcome"], event["why"], event["seconds"])
                worker.current = None
                tick()
            elif "skipped" in event or "broken" in event:
                side.skipped, side.broken = event.get("skipped", ""), event.get("broken", "")
                over = True
            else:
                over, again = "end" in event, "again" in event
    except TimeoutError:
        stuck = True
        worker.stop()
    finally:
        status = worker.close()
    if over or again:
        return over
    why = f"stuck for {worker.limit:g} s of real time" if stuck else f"the worker ended with status {status}"
    why += ":\n" + worker.output()
    if worker.current is None:
        if len(side.tests) < len(known) or not known:
            side.broken = why
        return True
    side.tests[worker.current] = Ran("failed", why, worker.limit if stuck else 0.0)
    return False


def run_suites(
    suites: Iterable[Suite],
    on: str = "both",
    pattern: str = "",
    seed: int | None = None,
    limit: float = 60.0,
    jobs: int = 1,
    tick: Tick | None = None,
) -> dict[str, dict[str, Side]]:
    """Run suites: for each by name, its sides "linux" and "sim", or the one that ``on`` names.

    pattern  which tests: part of an id, or with ``*`` a shell pattern of it (default: all)
    seed     of the schedules on the fake kernel (default: the plain schedule)
    limit    real seconds after which a test is stuck
    jobs     how many suites run at a time
    """
    if on not in ("sim", "linux", "both"):
        raise UsageError(f"on must be sim, linux or both, not {on!r}")
    sides = ("linux", "sim") if on == "both" else (on,)
    crew = Crew()
    with ThreadPoolExecutor(jobs) as pool:
        running = {
            (suite.name, side): pool.submit(run_side, suite, side, pattern, seed, limit, tick, crew) for suite in suites for side in sides
        }
        try:
            return {name: {side: running[name, side].result() for side in sides} for name in dict.fromkeys(name for name, _side in running)}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            crew.dismiss()
            raise
