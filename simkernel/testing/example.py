"""One example: a server and its clients on one kernel, and what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from simkernel import linux
from simkernel.errors import Deadlock, Livelock, Timeout, Verdict
from simkernel.kernel.choice import Choice
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import Task
from simkernel.kernel.trace import Trace
from simkernel.testing.contracts import Contract, Plan
from simkernel.testing.explain import Calls, explain_spin, explain_stop
from simkernel.testing.oracles import Oracles
from simkernel.testing.scenario import Finding, Serve, crash_text, scenario
from simkernel.tools.strace import strace_lines

# In the simulator: how much virtual time an example may take, and how many calls may pass without progress.
DEADLINE_NS = 600_000_000_000
MAX_STALLED = 600
# On the real kernel: seconds for one example.
LINUX_TIMEOUT = 20.0
# Where the servers of a simulated check listen; a shown address then says who is who.
SIM_ADDR = ("127.0.0.1", 9000)
# How bad a kind is: when an example shows several, the worst is the failure.
SEVERITY = ("crash", "corruption", "stale-fd", "spin", "hang", "starvation", "memory", "leak", "herd")


@dataclass
class Failure:
    """A broken promise: its kind, a line that says what was seen, and how to see it again."""

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

    def story(self) -> list[str]:
        """The run as strace-like text with its wake-ups, without the calls of the check itself (process 1)."""
        if self.trace is None:
            return []
        return [line for line in strace_lines(self.trace, self.end) if " [1] " not in line[:24]]


class Example(Protocol):
    """A run that can be had again: what exploration, shrinking and replay know of a check or a test."""

    def __call__(self, choice: Choice, trace: Trace | None = None) -> Failure | None:
        """Run once with these choices; the failure, or None.  With a trace the failure has its explanation and story."""


def worst(findings: Sequence[Finding]) -> Finding | None:
    """The finding to report."""
    known = [f for f in findings if f["kind"] in SEVERITY]
    return min(known, key=lambda f: SEVERITY.index(f["kind"]), default=None)


def sim_example(serve: Serve, contract: Contract, profile: str = "linux") -> Example:
    """``run_sim`` for one server, contract and profile."""

    def example(choice: Choice, trace: Trace | None = None) -> Failure | None:
        return run_sim(serve, contract, choice, trace, profile)

    return example


def run_sim(serve: Serve, contract: Contract, choice: Choice, trace: Trace | None = None, profile: str = "linux") -> Failure | None:
    """One example on the fake kernel.  With a trace the failure has its explanation and story."""
    crashes: list[Finding] = []
    explanation: list[str] = []

    def on_crash(task: Task, error: BaseException) -> None:
        if task.process.comm == "client_main":
            # A client of ours must not fail but by a Violation: that is a bug of the contract, to be seen.
            raise error
        crashes.append({"kind": "crash", "who": f"pid {task.pid}", "message": f"{task.process.comm} died of {crash_text(error)}"})

    end: list[int] = []

    def on_stop(kernel: Kernel) -> None:
        if trace is None:
            return
        if isinstance(kernel.sched.fatal, Livelock):
            lines, last = explain_spin(kernel)
            explanation.extend(lines)
            end.append(last)
        else:
            explanation.extend(explain_stop(kernel))

    oracles = Oracles(contract.served_within_ns, contract.memory_per_connection)
    kernel = Kernel(
        choice,
        trace,
        profile=profile,
        watch=oracles,
        deadline_ns=DEADLINE_NS,
        max_stalled=MAX_STALLED,
        nofile=(256, 4096),
        on_crash=on_crash,
        on_stop=on_stop,
    )
    oracles.sched = kernel.sched
    plans = contract.plans(choice)
    failure: Failure | None = None
    try:
        findings: list[Finding] = kernel.run(scenario, serve, contract, plans, SIM_ADDR)
        if profile != "posix":
            # There, whoever waits may be woken for nothing.
            findings += oracles.herd()
        if (found := worst([*crashes, *oracles.findings, *findings])) is not None:
            failure = Failure(found["kind"], found["message"], "sim")
    except Deadlock as error:
        found = worst([*crashes, *oracles.findings])
        if found is not None:
            failure = Failure(found["kind"], found["message"], "sim")
        else:
            failure = Failure("hang", str(error), "sim")
    except Livelock as error:
        failure = Failure("spin", str(error), "sim")
    except Verdict as error:
        failure = Failure(error.kind, str(error), "sim")
    if failure is not None:
        failure.plans = plans
        failure.explanation = explanation
        # A spin goes on until somebody stops it: what counts is how long it took to get there.
        failure.calls = kernel.sched.calls - (kernel.sched.stalled if failure.kind == "spin" else 0)
        if trace is not None:
            failure.trace = trace
            failure.end = end[0] if end else None
            failure.calls = Calls(trace).step_at(end[0] if end else len(trace))
            if not explanation:
                failure.explanation = [failure.message]
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
