"""Runs one suite on one kernel, in a process of its own: ``python -m simkernel.suites.worker FD JOB``.

JOB is a Job as JSON.  What happens is told to file descriptor FD, a JSON object a line:

    {"tests": [ID, ...]}                                        once, what will run
    {"start": ID}                                               before a test
    {"id": ID, "outcome": "passed|skipped|failed", "why": TEXT, "seconds": S}    after it
    {"broken": TEXT} or {"skipped": TEXT}                       the modules can't be imported, or don't want to be tested here
    {"again": true}                                             go on in a new process: a test has left this one's pytest in pieces
    {"end": true}

On the fake kernel every test has a machine of its own, and on both its class's and its module's fixtures to itself.
"""

import contextlib
import ctypes
import faulthandler
import fnmatch
import importlib
import importlib.util
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any, Final

from simkernel.errors import Escape, Killed, SimulationError, Unsupported
from simkernel.stdlib import process
from simkernel.stdlib.world import World
from simkernel.suites.catalog import RESOURCES
from simkernel.uapi import NSEC_PER_SEC


@dataclass
class Job:
    """What a worker is to do.  ``done``: ids of tests that earlier workers have run.  ``pattern``: as unittest's -k."""

    modules: list[str]
    kind: str
    only: str
    uses: list[str]
    on: str
    seed: int | None = None
    pattern: str = ""
    done: list[str] = field(default_factory=list)

    def wants(self, test: str) -> bool:
        """Whether a test is one of those that were asked for."""
        if self.only and not re.search(self.only, test):
            return False
        return not self.pattern or (fnmatch.fnmatchcase(test, self.pattern) if "*" in self.pattern else self.pattern in test)

    def as_json(self) -> str:
        """The second argument of the command."""
        return json.dumps(asdict(self))


class Tell:
    """The lines to the process that watches."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __call__(self, **event: object) -> None:
        line = (json.dumps(event) + "\n").encode()
        while line:
            # A signal of a test may cut it short.
            line = line[os.write(self.fd, line) :]


class Real:
    """Python's own modules."""

    def import_module(self, name: str) -> Any:
        """The module ``name``."""
        return importlib.import_module(name)

    def prepare(self, function: Callable[[], None]) -> None:
        """Call what imports modules."""
        function()

    def run(self, function: Callable[[], None]) -> None:
        """Call what runs one test."""
        function()

    def caught(self, outcome: str) -> str:
        """Nothing is refused here."""
        return ""


# What nothing on the fake kernel does (Python's audit events).
REAL: Final = (
    "socket.__new__",
    "socket.bind",
    "socket.connect",
    "_thread.start_new_thread",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.kill",
)


# Who waits for a year waits for ever, though something wakes it from time to time; and some tests do much without a wait.
LIMITS: Final[dict[str, Any]] = {"deadline_ns": 366 * 24 * 3600 * NSEC_PER_SEC, "max_stalled": 1_000_000}


class Fake:
    """The modules of a world, and a machine for each test."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self.world = World()
        # What reached the real kernel in this run, and what was refused as not modelled, which a program may have caught.
        self.escaped: list[str] = []
        self.refused: list[str] = []
        refused = self.refused

        def note(error: Unsupported, *args: object) -> None:
            Exception.__init__(error, *args)
            refused.append(f"Unsupported: {' '.join(map(str, args))}")

        Unsupported.__init__ = note  # type: ignore[method-assign,assignment]
        self.inside = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[object, ...]) -> None:
        if self.inside and event in REAL:
            self.escaped.append(event)

    def import_module(self, name: str) -> Any:
        """The world's module ``name``."""
        return self.world.import_module(name)

    def prepare(self, function: Callable[[], None]) -> None:
        """Call what imports modules."""
        process.in_world(lambda world: function(), world=self.world)

    def run(self, function: Callable[[], None]) -> None:
        """Call what runs one test."""
        self.escaped.clear()
        self.refused.clear()
        self.inside = True
        try:
            process.in_world(lambda world: function(), world=self.world, seed=self.seed, **LIMITS)
        finally:
            self.inside = False
        if self.escaped:
            raise Escape(f"this test reached the real kernel: {', '.join(dict.fromkeys(self.escaped))}")

    def caught(self, outcome: str) -> str:
        """What was refused in a test that failed: the program may have caught it, and have failed later for want of it."""
        return "".join(f"\n(refused: {refusal})" for refusal in dict.fromkeys(self.refused)) if outcome == "failed" else ""


Kernel = Real | Fake
PR_SET_PDEATHSIG: Final = 1


def present(modules: list[str]) -> list[str]:
    """Those of the modules that this Python has."""
    found = []
    for name in modules:
        with contextlib.suppress(ImportError):
            if importlib.util.find_spec(name) is not None:
                found.append(name)
    return found


def settings(job: Job, kernel: Kernel) -> None:
    """What python -m test sets before it runs CPython's tests."""
    with contextlib.suppress(ImportError):
        support = kernel.import_module("test.support")
        support.use_resources = dict.fromkeys([*RESOURCES, *job.uses])
        support.verbose = False


def words(error: BaseException) -> str:
    """An exception that ended a test from outside of it, in words."""
    if isinstance(error, (SimulationError, Killed)):
        return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return "".join(traceback.format_exception(error))


# --- unittest ---
def cases(suite: Any) -> Iterator[Any]:
    """The test cases of a suite, one by one."""
    if hasattr(suite, "__iter__"):
        for part in suite:
            yield from cases(part)
    else:
        yield suite


def judge(result: Any) -> tuple[str, str]:
    """The outcome of one test and why, from its TestResult."""
    if wrong := [*result.errors, *result.failures]:
        return "failed", "\n".join(text for _test, text in wrong)
    if result.unexpectedSuccesses:
        return "failed", "unexpected success"
    # A part of a test (subTest) may be skipped where the test is not.
    if whole := [reason for test, reason in result.skipped if type(test).__name__ != "_SubTest"]:
        return "skipped", whole[0]
    return "passed", ""


def run_unittest(job: Job, kernel: Kernel, tell: Tell) -> None:
    """Run each test of unittest as a suite of its own."""
    found: dict[str, Any] = {}

    def load() -> None:
        settings(job, kernel)
        loader = kernel.import_module("unittest").TestLoader()
        for name in job.modules:
            for case in cases(loader.loadTestsFromModule(kernel.import_module(name))):
                if job.wants(case.id()):
                    found.setdefault(case.id(), case)

    try:
        kernel.prepare(load)
    except BaseException as error:
        if type(error).__name__ in ("SkipTest", "ResourceDenied"):
            tell(skipped=str(error))
        else:
            tell(broken=words(error))
        return
    tell(tests=list(found))
    unittest = kernel.import_module("unittest")
    for test, case in found.items():
        if test in job.done:
            continue
        tell(start=test)
        began = time.monotonic()
        result = unittest.TestResult()
        try:
            kernel.run(lambda case=case, result=result: unittest.TestSuite([case]).run(result))  # type: ignore[misc]
            outcome, why = judge(result)
        except BaseException as error:
            # A machine that came to a standstill, a process that was killed, or exit() in a test.
            outcome, why = "failed", "\n".join([words(error), *(text for _test, text in [*result.errors, *result.failures])])
        tell(id=test, outcome=outcome, why=why + kernel.caught(outcome), seconds=round(time.monotonic() - began, 3))
    tell(end=True)


# --- pytest ---
def pytest_hook(**options: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """pytest.hookimpl, without pytest."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        function.pytest_impl = options  # type: ignore[attr-defined]
        return function

    return mark


class Hooks:
    """A plugin of pytest: tells what happens, and on the fake kernel takes the world's modules and runs each test on a machine."""

    def __init__(self, job: Job, kernel: Kernel, tell: Tell) -> None:
        self.job = job
        self.kernel = kernel
        self.tell = tell
        self.names = {os.path.realpath(str(spec_file(name))): name for name in job.modules}
        self.broken: list[str] = []

    def pytest_pycollect_makemodule(self, module_path: Any, parent: Any) -> Any:
        """The world's module in place of the real one."""
        import pytest  # noqa: PLC0415  # only those who run trio's tests need it

        name = self.names.get(os.path.realpath(module_path), "")
        if isinstance(self.kernel, Real) or not name:
            return None
        kernel = self.kernel

        class WorldModule(pytest.Module):
            def _getobj(self) -> ModuleType:
                module: ModuleType = kernel.import_module(name)
                return module

        return WorldModule.from_parent(parent, path=module_path)

    @pytest_hook(hookwrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        """caplog hears what the world's logging says."""
        from _pytest.logging import caplog_handler_key  # noqa: PLC0415

        handler = item.stash.get(caplog_handler_key, None)
        root = self.kernel.import_module("logging").getLogger() if isinstance(self.kernel, Fake) else None
        if root is None or handler is None:
            yield
            return
        root.addHandler(handler)
        yield
        root.removeHandler(handler)

    def pytest_collectreport(self, report: Any) -> None:
        """Modules that can't be imported."""
        if report.failed:
            self.broken.append(str(report.longrepr))

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out what nobody asked for."""
        items[:] = [item for item in items if self.job.wants(item.nodeid)]
        self.tell(tests=[ident(item) for item in items])
        items[:] = [item for item in items if ident(item) not in self.job.done]

    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> bool:
        """One test, with its set-up and its end."""
        from _pytest.runner import runtestprotocol  # noqa: PLC0415

        self.tell(start=ident(item))
        began = time.monotonic()
        reports: list[Any] = []
        ended = None
        try:
            self.kernel.run(
                lambda: reports.extend(runtestprotocol(item, log=False, nextitem=None if isinstance(self.kernel, Fake) else nextitem))
            )
        except BaseException as error:
            ended = error
        outcome, why = "passed", ""
        for report in reports:
            if report.failed or (report.skipped and not hasattr(report, "wasxfail") and outcome == "passed"):
                outcome = "failed" if report.failed else "skipped"
                why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if ended is not None:
            outcome, why = "failed", words(ended)
        self.tell(id=ident(item), outcome=outcome, why=why + self.kernel.caught(outcome), seconds=round(time.monotonic() - began, 3))
        if ended is not None:
            # Fixtures are half made.
            self.tell(again=True)
            os._exit(0)
        return True


def ident(item: Any) -> str:
    """A pytest test's id without its directory, so that it does not depend on where it is installed."""
    return f"{item.path.stem}::{item.nodeid.partition('::')[2]}"


def spec_file(name: str) -> str:
    """The file of a module."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


def run_pytest(job: Job, kernel: Kernel, tell: Tell) -> None:
    """Run pytest, with the plugin that trio's tests have."""
    import pytest  # noqa: PLC0415

    hooks = Hooks(job, kernel, tell)
    plugins: list[Any] = [hooks]
    for package in dict.fromkeys(name.partition(".")[0] for name in job.modules):
        plugin = f"{package}._tests.pytest_plugin"
        if present([plugin]):
            try:
                kernel.prepare(lambda plugin=plugin: plugins.append(kernel.import_module(plugin)))  # type: ignore[misc]
            except BaseException as error:
                tell(broken=words(error))
                return

    def collect() -> None:
        for name in job.modules:
            kernel.import_module(name)

    if isinstance(kernel, Fake):
        try:
            kernel.prepare(collect)
        except BaseException as error:
            tell(broken=words(error))
            return
    args = [
        "-c",
        os.devnull,
        "--rootdir",
        os.getcwd(),
        "-p",
        "no:cacheprovider",
        "-p",
        "no:simkernel",
        "-p",
        "no:xdist",
        "--tb=native",
        "-q",
        "-m",
        "not redistributors_should_skip",
    ]
    if isinstance(kernel, Fake):
        # What would be captured is written to the console of the machine.
        args += ["-s"]
    pytest.main([*args, *map(spec_file, job.modules)], plugins=plugins)
    if hooks.broken:
        tell(broken="\n".join(hooks.broken))
    else:
        tell(end=True)


def main(argv: list[str]) -> None:
    """The command: FD JOB."""
    faulthandler.enable()
    # Whoever watches it may be killed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    tell = Tell(int(argv[0]))
    job = Job(**json.loads(argv[1]))
    modules = present(job.modules)
    if not modules:
        missing = f"this Python ({sys.executable}) has no {job.modules[0]}"
        package = job.modules[0].partition(".")[0]
        if present([package]):
            tell(skipped=missing)
        else:
            tell(broken=missing + (NO_TESTS if package == "test" else ""))
        return
    job.modules = modules
    kernel = Fake(job.seed) if job.on == "sim" else Real()
    (run_pytest if job.kind == "pytest" else run_unittest)(job, kernel, tell)


NO_TESTS = ": CPython's own tests are not installed with it (Debian has them in libpython3-testsuite, Fedora in python3-test)"

if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    # Threads that tests have left behind are not waited for.
    os._exit(0)
