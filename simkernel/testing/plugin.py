"""The pytest plugin: fixtures ``world`` and ``kernel``, and the story of a run in the report of a failed test.

def test_echo(world):              # runs twice: on the fake kernel and on the real one
    def main(sys): ...
    world.run(main)

def test_order(kernel):            # a booted fake machine with a trace
    kernel.run(main)
"""

from collections.abc import Callable, Generator
from typing import Any

import pytest

from simkernel import linux
from simkernel.kernel.choice import Choice, Recording
from simkernel.kernel.machine import Kernel
from simkernel.kernel.trace import Trace
from simkernel.testing.replay import Token
from simkernel.tools.strace import strace_lines

# How much of a trace a failed test shows.
STORY_LINES = 40


class World:
    """A kernel to run a test's body on: ``name`` is "sim" or "linux"."""

    name = ""

    def run(self, main: Callable[..., object], *args: object, **options: Any) -> Any:
        """Run ``main(sys, *args)`` as process 1; returns what it returns and raises what it raised."""
        raise NotImplementedError


class SimWorld(World):
    """The fake kernel.  ``run`` takes Kernel's options; ``trace`` and ``tape`` are those of the last run."""

    name = "sim"

    def __init__(self) -> None:
        self.trace: Trace | None = None
        self.recording: Recording | None = None

    def run(self, main: Callable[..., object], *args: object, choice: Choice | None = None, **options: Any) -> Any:
        self.trace = Trace()
        self.recording = Recording(choice) if choice is not None and not choice.plain else None
        return Kernel(self.recording, self.trace, **options).run(main, *args)

    def tape(self) -> bytes:
        """The choices of the last run; none for the plain one."""
        return self.recording.tape() if self.recording is not None else b""


class LinuxWorld(World):
    """The real kernel.  ``run`` takes ``timeout`` in seconds (default 30); Kernel's options mean nothing there."""

    name = "linux"

    def run(self, main: Callable[..., object], *args: object, timeout: float = 30, **options: Any) -> Any:
        return linux.run(main, *args, timeout=timeout)


@pytest.fixture(params=["sim", "linux"])
def world(request: pytest.FixtureRequest) -> World:
    """The two kernels, one after the other.  ``@pytest.mark.parametrize("world", ["sim"], indirect=True)`` picks one."""
    if request.param not in ("sim", "linux"):
        raise pytest.UsageError(f"world must be 'sim' or 'linux', not {request.param!r}")
    made = SimWorld() if request.param == "sim" else LinuxWorld()
    request.node.stash[_WORLD] = made
    return made


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """A booted fake machine with the plain choices and a trace: ``kernel.run(main)``, once."""
    made = Kernel(trace=Trace())
    request.node.stash[_KERNEL] = made
    return made


_WORLD = pytest.StashKey[World]()
_KERNEL = pytest.StashKey[Kernel]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of the trace, and how to see that run again, to the report of a failed test."""
    report = yield
    if report.when == "call" and report.failed:
        used = item.stash.get(_WORLD, None)
        tape = b""
        trace: Trace | None = None
        if isinstance(used, SimWorld):
            trace, tape = used.trace, used.tape()
        booted = item.stash.get(_KERNEL, None)
        if booted is not None:
            trace = booted.sched.trace
        if trace is not None and len(trace):
            lines = strace_lines(trace)
            shown = lines[-STORY_LINES:]
            if len(lines) > len(shown):
                shown.insert(0, f"... {len(lines) - len(shown)} lines before")
            shown.append(f"the same run again: choice=simkernel.testing.tape({str(Token('', '', tape))!r})")
            report.sections.append(("simkernel: the end of the trace", "\n".join(shown)))
    return report
