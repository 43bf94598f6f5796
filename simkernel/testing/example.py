"""One example: a server and its clients on one kernel, and what went wrong."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from simkernel import linux
from simkernel.errors import Deadlock, Livelock, Timeout, Verdict
from simkernel.kernel.choice import Choice
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import Task
from simkernel.kernel.trace import Trace
from simkernel.stdlib.process import collector_rests
from simkernel.testing.contracts import Contract, Plan
from simkernel.testing.escapes import check_seen
from simkernel.testing.explain import Calls, explain_finding, explain_memory, explain_spin, explain_starvation, explain_stop
from simkernel.testing.oracles import CLIENT, MOST_CALLS, Oracles
from simkernel.testing.scenario import Finding, Serve, crash_text, scenario
from simkernel.testing.weather import SERVER_ADDR, forecast
from simkernel.testing.worlds import Housed, housed, machine_of, runs_in
from simkernel.tools.strace import strace_lines

# In the simulator: how much virtual time an example may take, and how many calls may pass without progress.
DEADLINE_NS = 600_000_000_000
MAX_STALLED = 600
# So many calls a message an example may take, MOST_CALLS at least: fixed plans have up to 2,000,000 messages.  A small turn took 5 to 7
# calls with the reference servers; a big message up to 700, in small pieces, but plans with such are short.
CALLS_OF_A_MESSAGE = 100
# On the real kernel: seconds for one example.
LINUX_TIMEOUT = 20.0
# Where the servers of a simulated check listen; a shown address then says who is who.
SIM_ADDR = ("127.0.0.1", 9000)
# How bad a kind is: when an example shows several, the worst is the failure.
SEVERITY = ("crash", "corruption", "stale-fd", "spin", "hang", "starvation", "memory", "leak", "herd")


@dataclass
class Failure:
    """A broken promise: its kind, a line that says what was seen, and how to see it again.

    ``calls`` are those of the story; without a trace, which tells whose they are and where it ends, a few more.
    """

    kind: str
    message: str
    on: str
    example: int = 0
    calls: int = 0
    token: str = ""
    trace: Trace | None = None
    plans: Sequence[Plan] = ()
    explanation: list[str] = field(default_factory=list)
    # The story ends here: a spin's goes on as it began.
    end: int | None = None
    # The process of the check itself, whose calls are no part of the story (0: none, all are the test's own).
    harness: int = 1
    # What was raised, and whether a line of the program raised it.
    error: BaseException | None = None
    traced: bool = True

    def story(self) -> list[str]:
        """The run as strace-like text with its wake-ups, without the calls of the check itself."""
        if self.trace is None:
            return []
        return [line for line in strace_lines(self.trace, self.end) if f" [{self.harness}] " not in line[:24]]


class Example(Protocol):
    """A run that can be had again: what exploration, shrinking and replay know of a check or a test."""

    def __call__(self, choice: Choice, trace: Trace | None = None) -> Failure | None:
        """Run once with these choices; the failure, or None.  With a trace the failure has its explanation and story."""


def worst(findings: Sequence[Finding]) -> Finding | None:
    """The finding to report."""
    known = [f for f in findings if f["kind"] in SEVERITY]
    return min(known, key=lambda f: SEVERITY.index(f["kind"]), default=None)


def sim_example(serve: Serve, contract: Contract, profile: str = "linux", allow_real: Collection[str] = ()) -> Example:
    """``run_sim`` for one server, contract and profile; in a world of its own, if it needs one."""
    serve = housed(serve, allow_real)

    def example(choice: Choice, trace: Trace | None = None) -> Failure | None:
        try:
            with collector_rests():
                return run_sim(serve, contract, choice, trace, profile)
        finally:
            check_seen()

    return example


def run_sim(serve: Serve, contract: Contract, choice: Choice, trace: Trace | None = None, profile: str = "linux") -> Failure | None:
    """One example on the fake kernel.  With a trace the failure has its explanation and story."""
    crashes: list[Finding] = []
    explanation: list[str] = []
    end: list[int] = []
    oracles = Oracles(contract.served_within_ns, contract.memory_per_connection)

    def on_crash(task: Task, error: BaseException) -> None:
        if task.process.comm == CLIENT:
            # A client of ours must not fail but by a Violation: that is a bug of the contract, to be seen.
            raise error
        crashes.append({"kind": "crash", "who": f"pid {task.pid}", "message": f"{task.process.comm} died of {crash_text(error)}"})

    def on_stop(kernel: Kernel) -> None:
        if trace is None or crashes or oracles.findings:
            return
        error = kernel.sched.fatal
        if isinstance(error, Livelock):
            lines, last = explain_spin(kernel)
            end.append(last)
        elif oracles.starved is not None:
            lines, last = explain_starvation(kernel, oracles.starved, str(error))
            end.append(last)
        elif isinstance(error, Verdict):
            lines = explain_memory(kernel, str(error))
        else:
            lines = explain_stop(kernel)
        explanation.extend(lines)

    kernel = Kernel(
        choice,
        trace,
        profile=profile,
        harsh=contract.harsh,
        watch=oracles,
        deadline_ns=DEADLINE_NS,
        max_stalled=MAX_STALLED,
        nofile=(256, 4096),
        on_crash=on_crash,
        on_stop=on_stop,
        **runs_in(serve),
    )
    oracles.sched = sched = kernel.sched
    plans = contract.plans(choice)
    weather = None
    if profile == "network":
        weather = forecast(choice, len(plans), contract.restarts)
        # Where connections overtake each other, a client may wait for one that its own others keep the last fds from.
        plans = [replace(plan, tight=False) for plan in plans]
    oracles.most_calls = max(MOST_CALLS, CALLS_OF_A_MESSAGE * sum(len(plan.sizes) for plan in plans))
    oracles.tight = any(plan.tight for plan in plans)
    found: Finding | None
    try:
        addr = SIM_ADDR if weather is None else (SERVER_ADDR, SIM_ADDR[1])
        with machine_of(kernel, serve):
            findings: list[Finding] = kernel.run(scenario, serve, contract, plans, addr, weather)
        if profile != "posix":
            # There, whoever waits may be woken for nothing.
            findings += oracles.herd()
        found = worst([*crashes, *oracles.findings, *findings])
    except (Deadlock, Livelock, Verdict) as error:
        kind = error.kind if isinstance(error, Verdict) else "spin" if isinstance(error, Livelock) else "hang"
        # What was seen before is nearer to the cause.
        found = worst([*crashes, *oracles.findings]) or {"kind": kind, "who": "server", "message": str(error)}
    if found is None:
        kernel.dismantle()
        return None
    failure = Failure(found["kind"], found["message"], "sim", plans=plans, explanation=explanation)
    failure.calls = sched.calls
    if "calls" in found:
        failure.calls = found["calls"]
        end.append(found["end"])
    if trace is not None:
        failure.trace = trace
        failure.end = end[0] if end else None
        failure.calls = Calls(trace).step_at((end[0] if end else len(trace)) - 1)
        if not explanation:
            failure.explanation = explain_finding(trace, found, oracles)
        if weather is not None:
            failure.explanation = [*failure.explanation, str(weather)]
        if isinstance(serve, Housed):
            failure.explanation = [*failure.explanation, *serve.said()]
    return failure


def run_linux(serve: Serve, contract: Contract, plans: Sequence[Plan]) -> Failure | None:
    """One example on the real kernel, with a deadline."""
    try:
        findings: list[Finding] = linux.run(scenario, serve, contract, plans, timeout=LINUX_TIMEOUT)
    except Timeout as error:
        text = str(error)
        kind = "spin" if "is running" in text else "hang"
        return Failure(kind, f"not done after {LINUX_TIMEOUT:g} s", "linux", plans=plans, explanation=text.splitlines())
    found = worst(findings)
    if found is None:
        return None
    return Failure(found["kind"], found["message"], "linux", plans=plans, explanation=[found["message"]])
