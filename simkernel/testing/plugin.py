"""The pytest plugin: fixtures ``world``, ``kernel`` and ``programs``, marks for async tests, and a failed test's story in its report.

def test_echo(world):              # runs twice: on the fake kernel and on the real one
    def main(sys): ...
    world.run(main)

def test_order(kernel):            # a booted fake machine with a trace
    kernel.run(main)

def test_server(programs):         # programs that nobody changed, on a fake machine
    assert programs("server.py", "client.py --port 9000").status == 0

@pytest.mark.simkernel_asyncio(seeds=20)      # or simkernel_trio: an async test on a fake machine, for each seed
async def test_streams(): ...

    pytest tests/test_echo.py::test_order --simkernel-replay sk1-...      a test under @simulate, with the choices of that token

What a test simulates may not use the real clock, network or chance (escapes.py).  Nothing but this module is imported until a test does.
"""

import os
from collections.abc import Callable, Collection, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from simkernel.testing.session import Session

if TYPE_CHECKING:
    from simkernel.kernel.choice import Choice, Recording
    from simkernel.kernel.machine import Kernel
    from simkernel.kernel.trace import Trace
    from simkernel.stdlib.programs import Command, Run

# How much of a trace a failed test shows.
STORY_LINES = 40


class World:
    """A kernel to run a test's body on: ``name`` is "sim" or "linux"."""

    name = ""

    def run(self, main: Callable[..., object], *args: object, **options: Any) -> Any:
        """Run ``main(sys, *args)`` as process 1; returns what it returns and raises what it raised.  always() and its kin work on both."""
        raise NotImplementedError


class SimWorld(World):
    """The fake kernel.  ``run`` takes Kernel's options; ``trace`` and ``tape`` are those of the last run."""

    name = "sim"

    def __init__(self) -> None:
        self.trace: Trace | None = None
        self.recording: Recording | None = None

    def run(
        self,
        main: Callable[..., object],
        *args: object,
        choice: "Choice | None" = None,
        allow_real: bool | Collection[str] = (),
        timeout: float = 30,
        **options: Any,
    ) -> Any:
        from simkernel.kernel.choice import Recording  # noqa: PLC0415
        from simkernel.kernel.machine import Kernel  # noqa: PLC0415
        from simkernel.kernel.trace import Trace  # noqa: PLC0415
        from simkernel.testing.escapes import no_escape  # noqa: PLC0415
        from simkernel.testing.temporal import Conditions  # noqa: PLC0415

        self.trace = Trace()
        self.recording = Recording(choice) if choice is not None and not choice.plain else None
        options["probes"] = [*options.get("probes", ()), Conditions()]
        with no_escape(allow_real):
            return Kernel(self.recording, self.trace, **options).run(main, *args)

    def tape(self) -> bytes:
        """The choices of the last run; none for the plain one."""
        return self.recording.tape() if self.recording is not None else b""


class LinuxWorld(World):
    """The real kernel.  ``run`` takes ``timeout`` in seconds (default 30); Kernel's options mean nothing there."""

    name = "linux"

    def run(self, main: Callable[..., object], *args: object, timeout: float = 30, **options: Any) -> Any:
        from simkernel import linux  # noqa: PLC0415
        from simkernel.testing.temporal import watched  # noqa: PLC0415

        return linux.run(watched(main), *args, timeout=timeout)


@pytest.fixture(params=["sim", "linux"])
def world(request: pytest.FixtureRequest) -> World:
    """The two kernels, one after the other.  ``@pytest.mark.parametrize("world", ["sim"], indirect=True)`` picks one."""
    if request.param not in ("sim", "linux"):
        raise pytest.UsageError(f"world must be 'sim' or 'linux', not {request.param!r}")
    made = SimWorld() if request.param == "sim" else LinuxWorld()
    request.node.stash[_WORLD] = made
    return made


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> "Iterator[Kernel]":
    """A booted fake machine with the plain choices and a trace: ``kernel.run(main)``, once."""
    from simkernel.kernel.machine import Kernel  # noqa: PLC0415
    from simkernel.kernel.trace import Trace  # noqa: PLC0415
    from simkernel.testing.escapes import no_escape  # noqa: PLC0415
    from simkernel.testing.temporal import Conditions  # noqa: PLC0415

    made = Kernel(trace=Trace(), probes=[Conditions()])
    request.node.stash[_KERNEL] = made
    with no_escape():
        yield made


@pytest.fixture
def programs(request: pytest.FixtureRequest) -> "Callable[..., Run]":
    """simkernel.programs with a trace: ``programs("server.py", "client.py")`` runs them as processes of one fake machine."""
    from simkernel.kernel.trace import Trace  # noqa: PLC0415
    from simkernel.stdlib.programs import programs  # noqa: PLC0415
    from simkernel.testing.escapes import no_escape  # noqa: PLC0415

    def run(*commands: "Command", **options: Any) -> "Run":
        trace = options.setdefault("trace", Trace())
        request.node.stash[_TRACE] = trace
        with no_escape(options.pop("allow_real", ())):
            return programs(*commands, **options)

    return run


_TRACE: "pytest.StashKey[Trace]" = pytest.StashKey()
_WORLD = pytest.StashKey[World]()
_KERNEL: "pytest.StashKey[Kernel]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's one option."""
    group = parser.getgroup("simkernel", "tests under @simkernel.testing.simulate")
    group.addoption("--simkernel-replay", metavar="TOKEN", help="run each chosen test once, with the choices of this token")


def pytest_configure(config: pytest.Config) -> None:
    """Tell simulated tests how they are run."""
    config.addinivalue_line("markers", "simkernel_asyncio(seeds=0, **options): run an async test on a fake machine, by asyncio")
    config.addinivalue_line("markers", "simkernel_trio(seeds=0, **options): run an async test on a fake machine, by trio")
    Session.plugin = True
    Session.replay = config.getoption("--simkernel-replay")
    if Session.replay is not None:
        from simkernel.errors import UsageError  # noqa: PLC0415
        from simkernel.testing.replay import parse  # noqa: PLC0415

        try:
            parse(Session.replay)
        except UsageError as error:
            raise pytest.UsageError(f"--simkernel-replay: {error}") from None


def pytest_unconfigure() -> None:
    """Another pytest in this process begins anew."""
    Session.plugin = False
    Session.replay = None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """@settings above @simulate; and a token is replayed by simulated tests only."""
    simulated = []
    for item in items:
        test: Any = getattr(item, "obj", None)
        simulation = getattr(test, "simulation", None)
        if simulation is not None:
            from simkernel.testing.simulate import take_settings  # noqa: PLC0415

            take_settings(getattr(test, "__func__", test), simulation)
            simulated.append(item)
    if Session.replay is not None and len(simulated) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in simulated])
        items[:] = simulated


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run what is marked simkernel_asyncio or simkernel_trio on a fake machine."""
    for name in ("simkernel_asyncio", "simkernel_trio"):
        mark = pyfuncitem.get_closest_marker(name)
        if mark is not None:
            from simkernel.testing.coroutines import run_test  # noqa: PLC0415

            arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
            run_test(name, pyfuncitem.obj, arguments, **mark.kwargs)
            return True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Name the test that runs as its user would, from where pytest was started."""
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    before, Session.nodeid = Session.nodeid, "::".join([path, *item.nodeid.split("::")[1:]])
    try:
        return (yield)
    finally:
        Session.nodeid = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of the trace, and how to see that run again, to the report of a failed test."""
    report = yield
    if report.when != "call" or not report.failed or call.excinfo is None:
        return report
    error = call.excinfo.value
    failure = getattr(error, "simkernel_failure", None)
    if failure is not None:
        from simkernel.testing.simulate import story  # noqa: PLC0415

        if failure.traced is False:
            # No line of the test's failed: pytest would show one of ours.
            report.longrepr = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
        if failure.trace is not None:
            report.sections.append(("simkernel: the story", "\n".join(story(failure))))
        return report
    trace: Trace | None = None
    tape = b""
    used = item.stash.get(_WORLD, None)
    if isinstance(used, SimWorld):
        trace, tape = used.trace, used.tape()
    booted = item.stash.get(_KERNEL, None)
    if booted is not None:
        trace = booted.sched.trace
    trace = getattr(error, "simkernel_trace", item.stash.get(_TRACE, trace))
    if trace is not None and len(trace):
        from simkernel.testing.replay import Token  # noqa: PLC0415
        from simkernel.tools.strace import strace_lines  # noqa: PLC0415

        lines = strace_lines(trace)
        shown = lines[-STORY_LINES:]
        if len(lines) > len(shown):
            shown.insert(0, f"... {len(lines) - len(shown)} lines before")
        if used is not None or booted is not None:
            shown.append(f"the same run again: choice=simkernel.testing.tape({str(Token('', '', tape))!r})")
        report.sections.append(("simkernel: the end of the trace", "\n".join(shown)))
    return report
