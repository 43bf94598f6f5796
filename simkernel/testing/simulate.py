"""@simulate: an ordinary test function as process 1 of a fake machine, over many schedules.

    @simulate(examples=200)
    def test_nothing_is_lost(sys):
        listener = listen(sys, ("127.0.0.1", 9000))
        sys.spawn(serve, listener)
        ...
        assert got == sent

A failure is an assertion or any other exception of the test, a process that dies of an exception, Deadlock, Livelock, a Violation of a
contract's client, an assertion of temporal.py, or what an oracle sees of the processes that the test spawns: a call on a number that is
closed or another file's and, with limits, starvation and memory; spawned.py tells why no more.  It is shrunk, explained, and ends in one
command that shows it again.

Hypothesis's settings count: ``max_examples``, ``derandomize``, ``phases`` and ``database``, of ``@settings(...)`` on the test (below
@simulate, or above it where the pytest plugin is on) or else of the active profile.  The database remembers what failed: the next run
begins with that.
"""

import functools
import inspect
import random
import shlex
import sys
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any

from hypothesis import Phase, settings
from hypothesis.database import ExampleDatabase
from hypothesis.errors import UnsatisfiedAssumption

from simkernel import linux
from simkernel.api import Syscalls
from simkernel.errors import Deadlock, Killed, Livelock, Nondeterminism, SimulationError, UsageError, Verdict, is_ours
from simkernel.kernel.choice import Choice, Tape
from simkernel.kernel.liberties import check_profile
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import Task
from simkernel.kernel.trace import Trace
from simkernel.stdlib.process import collector_rests
from simkernel.testing.contracts import Violation
from simkernel.testing.determinism import KIND, Sampled, confirmed
from simkernel.testing.escapes import check_seen, kinds_of, no_escape
from simkernel.testing.example import DEADLINE_NS, Failure
from simkernel.testing.explain import (
    Calls,
    explain_before,
    explain_finding,
    explain_memory,
    explain_spin,
    explain_starvation,
    explain_stop,
)
from simkernel.testing.explore import Found, explore
from simkernel.testing.replay import Token, parse
from simkernel.testing.scenario import program_place
from simkernel.testing.session import Session
from simkernel.testing.spawned import Spawned
from simkernel.testing.temporal import Broken, Conditions, watched
from simkernel.testing.worlds import Housed, housed, machine_of, no_last_words, runs_in
from simkernel.tools.strace import strace_lines

# Calls without progress that are a spin.
MAX_STALLED = 1000
# A story in a report: at most so many lines, the last ones.
STORY_LINES = 60
STORY_EVENTS = 300


class Simulation:
    """A test function and how to run it.  ``test.simulation.replay("sk1-...")`` is one run again."""

    def __init__(
        self,
        test: Callable[..., object],
        examples: int | None,
        profile: str,
        seed: int | None,
        strategy: str,
        on: str,
        allow_real: bool | Collection[str],
        may_crash: bool,
        oracles: Callable[[], Spawned],
        timeout: float,
        machine: dict[str, Any],
    ) -> None:
        self.test = test
        self.examples = examples
        self.profile = check_profile(profile)
        self.seed = seed
        self.strategy = strategy
        self.on = on
        self.allow_real = allow_real
        self.may_crash = may_crash
        self.oracles = oracles
        self.timeout = timeout
        self.machine = {"deadline_ns": DEADLINE_NS, "max_stalled": MAX_STALLED, **machine}
        self.settings: settings | None = None
        # The test, in a world if it needs one: known when it runs first.
        self.body: Callable[..., object] | None = None
        self.reached: dict[str, bool] = {}

    # --- one run ---
    def example(self, choice: Choice, trace: Trace | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Failure | None:
        """Run the test once on the fake kernel."""
        conditions = Conditions()
        crashes: list[tuple[Task, BaseException]] = []
        explanation: list[str] = []
        end: list[int] = []
        oracles = self.oracles()

        body = self.body or self.test

        def main(sys: Syscalls) -> None:
            body(*args, sys=sys, **kwargs)

        def on_crash(task: Task, error: BaseException) -> None:
            crashes.append((task, error))

        def on_stop(kernel: Kernel) -> None:
            if trace is None:
                return
            fatal = kernel.sched.fatal
            if isinstance(fatal, Livelock):
                lines, last = explain_spin(kernel, harness=0)
                end.append(last)
            elif oracles.starved is not None:
                lines, last = explain_starvation(kernel, oracles.starved, str(fatal), harness=0)
                end.append(last)
            elif isinstance(fatal, Verdict):
                lines = explain_memory(kernel, str(fatal), harness=0)
            else:
                lines = explain_stop(kernel, harness=0)
            explanation.extend(lines)

        kernel = Kernel(
            choice,
            trace,
            profile=self.profile,
            watch=oracles,
            on_crash=on_crash,
            on_stop=on_stop,
            probes=[conditions],
            **{**runs_in(body), **self.machine},
        )
        oracles.sched = kernel.sched
        failure: Failure | None = None
        error: BaseException | None = None
        try:
            with collector_rests(), machine_of(kernel, body):
                kernel.run(main)
        except UnsatisfiedAssumption:
            return None
        except BaseException as caught:
            error = caught
            if not is_failure(caught):
                raise
        finally:
            check_seen()
            for name, held in conditions.reached.items():
                self.reached[name] = self.reached.get(name, False) or held
        if isinstance(error, Violation):
            failure = Failure(error.kind, str(error), "sim")
        elif crashes and not self.may_crash and not isinstance(error, Broken):
            # The others may hang or fail for it.
            task, error = crashes[0]
            place = program_place(error)
            what = f"{task.process.comm} (pid {task.process.pid}) died of {type(error).__name__}: {error}"
            failure = Failure(f"crash at {place.partition(' in ')[0]}", what, "sim")
            if isinstance(error, Violation):
                failure.kind = error.kind
        elif isinstance(error, Verdict):
            failure = Failure(error.kind, str(error), "sim")
        elif isinstance(error, Deadlock):
            failure = Failure("hang", str(error), "sim")
        elif isinstance(error, Livelock):
            failure = Failure("spin", str(error), "sim")
        elif isinstance(error, Broken):
            failure = Failure(f"broken promise at {error.where}", str(error), "sim")
        elif error is not None:
            place = program_place(error).partition(" in ")[0]
            failure = Failure(f"{type(error).__name__} at {place}", str(error) or type(error).__name__, "sim")
        stale = oracles.findings[0] if oracles.findings else None
        if failure is None and stale is not None:
            failure = Failure(stale["kind"], stale["message"], "sim")
            end.append(stale["end"])
        if failure is None:
            return None
        failure.error = error
        failure.harness = 0
        failure.calls = conditions.calls
        failure.explanation = explanation or [failure.message]
        if trace is not None:
            failure.trace = trace
            failure.end = end[0] if end else None
            failure.calls = Calls(trace, harness=0).step_at((end[0] if end else len(trace)) - 1)
            if explanation and failure.kind not in ("hang", "spin") and not isinstance(error, Verdict):
                failure.explanation = [failure.message, *explanation]
            if stale is not None and failure.kind == stale["kind"]:
                failure.explanation = explain_finding(trace, stale, oracles, harness=0)
            elif stale is not None:
                failure.explanation = [*failure.explanation, *explain_before(Calls(trace, harness=0), oracles)]
        return failure

    # --- all runs ---
    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the test as asked; raise what it fails with."""
        __tracebackhide__ = True
        if Session.replay is not None:
            self.replay(Session.replay, *args, **kwargs)
            return
        on = getattr(kwargs.get("world"), "name", self.on)
        if on in ("sim", "both"):
            self.settle()
            with no_escape(self.allow_real), no_last_words():
                failure, tape = self.search(args, kwargs)
            if failure is not None:
                throw(failure, self.report(failure, Token("", "", tape, self.profile)))
        if on in ("linux", "both"):
            linux.run(watched(lambda sys: self.test(*args, sys=sys, **kwargs)), timeout=self.timeout)

    def settle(self) -> None:
        """Take the test into a world, if it is written on Python's own modules."""
        if self.body is None:
            self.body = housed(self.test, kinds_of(self.allow_real), (sys.stdout, sys.stderr))
        elif isinstance(self.body, Housed):
            # Whoever captures what a test writes has others each time.
            self.body.output = sys.stdout, sys.stderr

    def replay(self, token: str, *args: Any, **kwargs: Any) -> None:
        """Run once with the choices of a token, and raise what it fails with; nothing, if it no longer fails."""
        __tracebackhide__ = True
        parsed = parse(token)
        if parsed.target:
            raise UsageError(f"this token is of the server {parsed.target}, not of a test: see it with simkernel replay")
        self.profile = parsed.profile
        self.settle()
        with no_escape(self.allow_real), no_last_words():
            failure = self.example(Tape(parsed.tape), Trace(), args, kwargs)
        if failure is not None:
            throw(failure, self.report(failure, parsed))

    def search(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Failure | None, bytes]:
        """What failed, told from a run with a trace, and its tape."""
        active = self.settings or settings()
        examples = self.examples if self.examples is not None else active.max_examples
        seed = self.seed
        if seed is None:
            seed = 0 if active.derandomize else random.SystemRandom().getrandbits(32)
        self.reached = {}

        def example(choice: Choice, trace: Trace | None = None) -> Failure | None:
            return self.example(choice, trace, args, kwargs)

        memory = Memory(active.database if Phase.reuse in active.phases else None, self.key())
        found = memory.recall(example)
        sampled = Sampled(example, harness=0)
        if found is None and Phase.generate in active.phases:
            found = explore(sampled, examples, seed, lambda ran: None, self.strategy)
        if found is None:
            return self.unreached(examples), b""
        if sampled.parted is not None:
            sampled.parted.example = found.example
            return sampled.parted, sampled.tape
        memory.save(found.tape)
        failure = confirmed(example, found.tape, found.kind, harness=0)
        failure.example = found.example
        return failure, found.tape

    def unreached(self, examples: int) -> Failure | None:
        """A ``sometimes`` that never was."""
        missed = [name for name, held in self.reached.items() if not held]
        if not missed:
            return None
        return Failure("unreached", f"never true in {examples} examples: {'; '.join(missed)}", "sim", harness=0)

    def key(self) -> bytes:
        """What the database knows this test by: its name, its parameters and its profile."""
        test = self.test
        parameters = Session.nodeid.partition("[")[2]
        return f"simkernel {test.__module__}.{test.__qualname__} [{parameters} {self.profile}".encode()

    def report(self, failure: Failure, token: Token) -> list[str]:
        """The lines below the failure: kind, explanation, and how to see it again."""
        head = f"simkernel: {failure.kind}"
        if failure.example:
            head += f"   example {failure.example}, shrunk to {failure.calls} calls"
        elif failure.calls:
            head += f"   {failure.calls} calls"
        # The message stands above.
        lines = [head, *("  " + line for line in failure.explanation if line != failure.message or "crash" in failure.kind)]
        if failure.trace is not None:
            lines.append(f"replay: {self.command(str(token))}")
        return lines

    def command(self, token: str) -> str:
        """One line that shows the run again."""
        if Session.nodeid:
            return f"pytest {shlex.quote(Session.nodeid)} --simkernel-replay {token}"
        test = self.test
        return f'python -c "from {test.__module__} import {test.__qualname__} as test; test.simulation.replay({token!r})"'


class Memory:
    """What failed before, in Hypothesis's database."""

    def __init__(self, database: ExampleDatabase | None, key: bytes) -> None:
        self.database = database
        self.key = key

    def recall(self, example: Callable[[Choice], Failure | None]) -> Found | None:
        """The first of the remembered tapes, the shortest first, that still fails; those that do not are forgotten."""
        if self.database is None:
            return None
        for tape in sorted(self.database.fetch(self.key), key=lambda tape: (len(tape), tape)):
            failure = example(Tape(tape))
            if failure is not None:
                return Found(failure.kind, tape, 0)
            self.database.delete(self.key, tape)
        return None

    def save(self, tape: bytes) -> None:
        """Remember a tape that fails."""
        if self.database is not None:
            self.database.save(self.key, tape)


def is_failure(error: BaseException) -> bool:
    """Whether an exception is the test's failure, and no matter of simkernel's, pytest's or the user's at the keyboard."""
    if isinstance(error, (Deadlock, Livelock, Verdict, Killed)):
        return True
    if isinstance(error, (SimulationError, UsageError)):
        return False
    # pytest.fail raises no Exception, as pytest.skip and exit don't.
    return isinstance(error, (Exception, SystemExit)) or type(error).__name__ == "Failed"


def throw(failure: Failure, report: list[str]) -> None:
    """Raise what the test failed with, with the report as a note.  ``simkernel_failure`` is for the plugin."""
    __tracebackhide__ = True
    error = failure.error
    if error is None:
        error = (Nondeterminism if failure.kind == KIND else AssertionError)(failure.message)
    error.__notes__ = ["\n".join(report)]
    if not Session.plugin and failure.trace is not None:
        error.add_note("\n".join(story(failure)))
    error.simkernel_failure = failure  # type: ignore[attr-defined]
    tb = programs_part(error.__traceback__)
    failure.traced = tb is not None
    raise error.with_traceback(tb)


def story(failure: Failure) -> list[str]:
    """The end of the run, call by call."""
    if failure.trace is None:
        return []
    end = len(failure.trace) if failure.end is None else failure.end
    begin = max(0, end - STORY_EVENTS)
    lines = strace_lines(failure.trace, end, begin)
    if begin or len(lines) > STORY_LINES:
        lines = ["... what came before is left out", *lines[-STORY_LINES:]]
    return lines


def programs_part(tb: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of simkernel's own."""
    if tb is None:
        return None
    rest = programs_part(tb.tb_next)
    if is_ours(tb.tb_frame.f_code.co_filename):
        return rest
    return TracebackType(rest, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)


def simulate(
    test: Callable[..., object] | None = None,
    /,
    *,
    examples: int | None = None,
    profile: str = "linux",
    seed: int | None = 0,
    strategy: str = "portfolio",
    on: str = "sim",
    allow_real: bool | Collection[str] = (),
    may_crash: bool = False,
    may_use_closed: bool = False,
    served_within_ns: int | None = None,
    memory_per_connection: int | None = None,
    timeout: float = 30,
    **machine: Any,
) -> Any:
    """Run a test function as process 1 of a fake machine, over many schedules.  It takes ``sys``, and pytest's fixtures and parameters.

    examples    schedules to try (default: Hypothesis's max_examples, from @settings or the active profile)
    profile     what the machine may do of its own accord: "linux", "network" or "posix"
    seed        which schedules; None: others each time, unless Hypothesis's settings say derandomize
    strategy    how schedules are chosen: "portfolio" (a bit of each), "random", "pct" or "exhaustive"
    on          "sim"; "linux": once on the real kernel; or "both", the fake one first.  With the fixture ``world`` the test runs on that
    allow_real  kinds of escapes.py that are meant, or True: by default a use of the real clock, network or chance raises Escape
    may_crash   a process that dies of an exception is no failure: the test looks at its wait status
    may_use_closed
                a spawned process that calls with a number it has closed is no failure: it means to see EBADF
    served_within_ns, memory_per_connection
                limits for the connections that spawned processes have accepted: virtual time for which bytes may wait to be read while
                nothing else is to be done, and bytes read and not yet written back; None: none
    timeout     seconds that the test may take on the real kernel
    machine     options of simkernel.Kernel: nofile, file_max, deadline_ns (default: 600 s), max_stalled, debug

    A fixture's value is the same in all examples, so a test should leave it as it was.  UsageError for a function without ``sys``.
    """

    def decorate(test: Callable[..., object]) -> Callable[..., None]:
        signature = inspect.signature(test)
        name = getattr(test, "__name__", str(test))
        if "sys" not in signature.parameters:
            raise UsageError(f"@simulate: {name}{signature} must take sys, the system calls")
        if inspect.iscoroutinefunction(test):
            raise UsageError(f"@simulate: {name} is a coroutine function; process 1 is a plain function")
        simulation = Simulation(test, examples, profile, seed, strategy, on, allow_real, may_crash, oracles, timeout, machine)
        take_settings(test, simulation)

        @functools.wraps(test)
        def wrapper(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            simulation.run(args, kwargs)

        wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[p for p in signature.parameters.values() if p.name != "sys"]
        )
        wrapper.simulation = simulation  # type: ignore[attr-defined]
        return wrapper

    if examples is not None and examples < 1:
        raise UsageError(f"@simulate: examples must be at least 1, not {examples}")
    if on not in ("sim", "linux", "both"):
        raise UsageError(f"@simulate: on must be 'sim', 'linux' or 'both', not {on!r}")
    kinds_of(allow_real)
    check_profile(profile)
    oracles = functools.partial(Spawned, served_within_ns, memory_per_connection, may_use_closed)
    return decorate if test is None else decorate(test)


def take_settings(test: Callable[..., object], simulation: Simulation) -> None:
    """Take what @settings has left on a function, so that Hypothesis's own plugin does not ask for a @given."""
    if hasattr(test, "_hypothesis_internal_settings_applied"):
        simulation.settings = test.__dict__.pop("_hypothesis_internal_use_settings")
        del test.__dict__["_hypothesis_internal_settings_applied"]
