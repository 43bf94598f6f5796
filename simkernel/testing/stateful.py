"""ServerMachine: Hypothesis's stateful testing for a server that runs in a simulated kernel between the rules.

    class Lines(ServerMachine):
        def serve(self, sys, listener, stop):
            my_server.serve(sys, listener, stop)

        def due(self, sent):
            return b"".join(line[::-1] + b"\\n" for line in sent.split(b"\\n")[:-1])

        @rule(client=ServerMachine.clients, word=st.sampled_from([b"a", b"bc"]))
        def ask(self, client, word):
            self.send_bytes(client, word + b"\\n")
            self.read(client)

    TestLines = Lines.TestCase

The machine is process 1 and plays all clients; the server is a process of its own.  Each rule is a step of process 1: its system calls let
the server run, as the scheduler (a tape that Hypothesis draws and shrinks) decides, and between two rules the whole machine stands still.

What must hold: each client gets exactly ``due(sent)``, a function of all bytes that it has sent so far; whoever waits for what is due
gets it within ``within`` of virtual time; after a client's shutdown the server answers what is left and closes; at the end, after
``boot``'s ``steps`` or Hypothesis's last step, it stops when it is told to and leaves nothing open.  Hypothesis's ``@invariant()`` adds
more, and ``self.do(lambda sys: ...)`` is a step of one's own.
A failure shows Hypothesis's steps, then the explanation and the story.
"""

import json
import sys as python
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from greenlet import getcurrent, greenlet
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.internal.conjecture.data import Status
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, precondition, rule

from simkernel.api import Address, Syscalls
from simkernel.errors import Livelock
from simkernel.kernel.choice import Choice
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import Task
from simkernel.kernel.trace import Trace
from simkernel.testing.contracts import Contract, Violation
from simkernel.testing.contracts.base import pattern
from simkernel.testing.escapes import check_seen, no_escape
from simkernel.testing.example import DEADLINE_NS, MAX_STALLED, SIM_ADDR, Failure
from simkernel.testing.explain import explain_spin, explain_stop
from simkernel.testing.explore import tapes
from simkernel.testing.oracles import Oracles
from simkernel.testing.scenario import crash_text, listen, server_main
from simkernel.testing.simulate import story
from simkernel.testing.temporal import Conditions
from simkernel.uapi import (
    AF_INET,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    POLLERR,
    POLLHUP,
    POLLIN,
    SHUT_WR,
    SO_LINGER,
    SOCK_STREAM,
    SOL_SOCKET,
)

T = TypeVar("T")

MS = 1_000_000
SEC = 1_000 * MS
READ_SIZE = 65536
# The most steps that ``boot`` may be given.  Hypothesis makes 50 unless told otherwise, so most examples are as long as it wants them.
MOST_STEPS = 150


@dataclass(eq=False)
class Client:
    """One client and what the model knows of it."""

    number: int
    fd: int
    sent: bytes = b""
    got: bytes = b""
    shut: bool = False
    ended: bool = False

    def __repr__(self) -> str:
        return f"client{self.number}"


@dataclass
class _Step:
    """What process 1 is to do next, and what became of it."""

    function: Callable[[Syscalls], Any]
    value: Any = None
    error: BaseException | None = None


class ServerMachine(RuleBasedStateMachine):
    """A server under test, with rules connect, send, recv, shutdown, close, reset and sleep.  Subclass it; give ``serve``, and ``due``."""

    clients: ClassVar[Bundle[Client]] = Bundle("clients")

    # How long, in virtual nanoseconds, a client waits for what it is due.
    within = 60 * SEC
    # What the fake kernel may do of its own accord.
    profile = "linux"
    # Kinds of escapes.py that the server may use, or True.
    allow_real: ClassVar[Any] = ()
    # Limits that the oracles hold it to; None: none.
    served_within_ns: int | None = None
    memory_per_connection: int | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Hypothesis's explain phase traces each line of the kernel, 20 times as slow; what failed is explained below.
        test_case: Any = cls.TestCase
        phases = [phase for phase in test_case.settings.phases if phase is not Phase.explain]
        test_case.settings = settings(test_case.settings, phases=phases)

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Kernel | None = None
        self.addr: Address = SIM_ADDR
        self.open: list[Client] = []
        self.trace = Trace()
        self._count = 0
        self._crashes: list[str] = []
        self._explanation: list[str] = []
        self._findings: list[dict[str, Any]] = []
        self._step: _Step | None = None
        self._machine: greenlet | None = None
        self._process1: greenlet | None = None
        self._rules: greenlet | None = None
        self._failed = False
        self._steps = 0

    # --- what a subclass says ---
    def serve(self, sys: Syscalls, listener: int, stop: int) -> object:
        """The server under test: as for check(), ``serve(sys, listener, stop)``."""
        raise NotImplementedError("a ServerMachine needs serve(self, sys, listener, stop)")

    def due(self, sent: bytes) -> bytes:
        """All that a client must get for all that it has ``sent`` so far.  Default: an echo."""
        return sent

    # --- the machine under the rules ---
    @initialize(steps=st.integers(0, MOST_STEPS), tape=tapes())
    def boot(self, steps: int, tape: Choice) -> None:
        """Boot the kernel with the schedule that Hypothesis has drawn, and start the server.  After so many ``steps`` all ends."""
        self._steps = steps

        def on_crash(task: Task, error: BaseException) -> None:
            self._crashes.append(f"{task.process.comm} (pid {task.pid}) died of {crash_text(error)}")

        def on_stop(kernel: Kernel) -> None:
            if isinstance(kernel.sched.fatal, Livelock):
                self._explanation = explain_spin(kernel, harness=0)[0]
            else:
                self._explanation = explain_stop(kernel, harness=0)

        def machine() -> None:
            # The greenlet that boots the kernel is where its tasks end, so it is made here.
            oracles = Oracles(self.served_within_ns, self.memory_per_connection)
            kernel = self.kernel = Kernel(
                tape,
                self.trace,
                profile=self.profile,
                watch=oracles,
                deadline_ns=DEADLINE_NS,
                max_stalled=MAX_STALLED,
                on_crash=on_crash,
                on_stop=on_stop,
                probes=[Conditions()],
            )
            oracles.sched = kernel.sched
            self._findings = oracles.findings
            with no_escape(self.allow_real):
                kernel.run(self._main)

        self._machine = greenlet(machine)
        self._switch(self._machine)

    def _main(self, sys: Syscalls) -> None:
        """Process 1: the server's start, then one step after the other as the rules give them."""
        self._process1 = getcurrent()
        listener = listen(sys, self.addr)
        self.addr = sys.getsockname(listener)
        self._stop = sys.eventfd(0)
        self._report, w = sys.pipe2(O_NONBLOCK)
        self._server = sys.spawn(server_main, self.serve, Contract(), listener, self._stop, w)
        sys.close(w)
        while True:
            assert self._rules is not None
            self._rules.switch()
            step = self._step
            if step is None:
                return
            try:
                step.value = step.function(sys)
            except Exception as error:
                # A server that has died is why a client waits in vain.
                step.error = next((found for found in self._reported(sys) if found.kind == "crash"), error)

    def _switch(self, to: greenlet) -> None:
        """Let the machine go on until process 1 wants its next step, or the run ends: what ends it is raised here."""
        assert self._machine is not None
        self._rules = getcurrent()
        # A greenlet's end, and its exception, go to its parent.
        self._machine.parent = self._rules
        try:
            to.switch()
            check_seen()
        except BaseException as error:
            raise self._told(error) from None

    def _runs(self) -> bool:
        """Whether the run goes on.  Process 1's greenlet does not tell: when it has ended, that is another task's."""
        return self._machine is not None and not self._machine.dead

    def do(self, function: Callable[[Syscalls], T]) -> T:
        """A step of one's own: ``function(sys)`` runs as process 1.  What it returns or raises is the result."""
        if self._process1 is None or not self._runs():
            raise RuntimeError("the machine has not booted, or its run has ended")
        step = self._step = _Step(function)
        self._switch(self._process1)
        if self._crashes:
            raise self._told(Violation("crash", self._crashes[0]))
        if step.error is not None:
            raise self._told(step.error)
        self._judge()
        value: T = step.value
        return value

    def _judge(self) -> None:
        """Raise what an oracle has found meanwhile."""
        for finding in self._findings:
            raise self._told(Violation(finding["kind"], finding["message"]))

    def _told(self, error: BaseException) -> BaseException:
        """The failure with its explanation and its story, once."""
        self._failed = True
        if isinstance(error, Exception) and not any("simkernel: " in note for note in getattr(error, "__notes__", [])):
            name = type(error).__name__
            kind = str(getattr(error, "kind", {"Deadlock": "hang", "Livelock": "spin"}.get(name, name)))
            failure = Failure(kind, str(error), "sim", trace=self.trace, harness=0)
            explanation = self._explanation
            if not explanation and self.kernel is not None and self.kernel.sched.tasks:
                explanation = explain_stop(self.kernel)
            error.__notes__ = ["\n".join([f"simkernel: {kind}: {error}", *("  " + line for line in explanation), *story(failure)])]
        return error

    # --- steps of a client ---
    def dial(self) -> Client:
        """A new connected client."""

        def step(sys: Syscalls) -> int:
            fd = sys.socket(AF_INET, SOCK_STREAM)
            sys.connect(fd, self.addr)
            return fd

        client = Client(self._count, self.do(step))
        self._count += 1
        self.open.append(client)
        return client

    def send_bytes(self, client: Client, data: bytes) -> int:
        """Send what fits without waiting; returns how much did.  A client that has shut its side sends nothing."""
        if client.shut or client not in self.open:
            return 0

        def step(sys: Syscalls) -> int:
            try:
                return sys.send(client.fd, data, MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                return 0
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Violation("corruption", f"{client}: the server broke off after {len(client.sent)} bytes: {error.strerror}") from None

        n = self.do(step)
        client.sent += data[:n]
        return n

    def read(self, client: Client, n: int = READ_SIZE, all: bool = False) -> bytes:
        """Read some of what the client is due (``all``: everything), waiting for it, and compare; nothing, if it has got all."""
        want = len(self.due(client.sent)) - len(client.got)
        if client not in self.open or client.ended or want <= 0:
            return b""
        before = len(client.got)
        while len(client.got) < before + (want if all else 1):
            chunk = self._receive(client, min(n, want))
            if not chunk:
                raise self._told(Violation("corruption", f"{client}: closed after {len(client.got)} of {before + want} bytes"))
        return client.got[before:]

    def _receive(self, client: Client, n: int) -> bytes:
        """One recv, with a limit in virtual time."""

        def step(sys: Syscalls) -> bytes:
            # A millisecond at least, rounded up.
            if not sys.poll([(client.fd, POLLIN | POLLHUP | POLLERR)], -(-self.within // MS)):
                missing = len(self.due(client.sent)) - len(client.got)
                what = f"{missing} bytes that it is due" if missing else "the end of its stream"
                raise Violation("hang", f"{client} waited {self.within / SEC:g} s for {what}")
            try:
                return sys.recv(client.fd, n, MSG_DONTWAIT)
            except ConnectionResetError:
                raise Violation("corruption", f"{client}: reset after {len(client.got)} bytes") from None

        chunk = self.do(step)
        client.got += chunk
        client.ended = not chunk
        due = self.due(client.sent)
        if not due.startswith(client.got):
            at = next((i for i, (a, b) in enumerate(zip(client.got, due, strict=False)) if a != b), len(due))
            said = f"{client}: byte {at} is wrong: got {client.got[at : at + 12]!r}, due {due[at : at + 12]!r}"
            raise self._told(Violation("corruption", said))
        return chunk

    def finish(self, client: Client) -> None:
        """Shut the sending side, read what is due and the end of the stream, and close."""
        if client not in self.open:
            return
        if not client.shut:
            self.shut(client)
        self.read(client, all=True)
        if not client.ended and self._receive(client, READ_SIZE):
            raise self._told(Violation("corruption", f"{client}: bytes after all that it was due"))
        self.hang_up(client)

    def shut(self, client: Client) -> None:
        """Shut the sending side."""
        if client in self.open and not client.shut:
            client.shut = True
            self.do(lambda sys: sys.shutdown(client.fd, SHUT_WR))

    def hang_up(self, client: Client, reset: bool = False) -> None:
        """Close, with whatever is unread; ``reset``: with a RST."""
        if client not in self.open:
            return
        self.open.remove(client)

        def step(sys: Syscalls) -> None:
            if reset:
                sys.setsockopt(client.fd, SOL_SOCKET, SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sys.close(client.fd)

        self.do(step)

    # --- rules ---
    @rule(target=clients)
    def connect(self) -> Client:
        """A client connects."""
        return self.dial()

    @rule(client=clients, size=st.sampled_from([1, 16, 1000, 1300, 4096, 20_000]))
    def send(self, client: Client, size: int) -> None:
        """A client sends, without waiting."""
        self.send_bytes(client, pattern(client.number, len(client.sent) + size)[len(client.sent) :])

    @rule(client=clients, n=st.sampled_from([READ_SIZE, 1, 100]), all=st.booleans())
    def recv(self, client: Client, n: int, all: bool) -> None:
        """A client reads some of what it is due, or all of it."""
        self.read(client, n, all)

    # One client at least stays as it is, or most steps would find nobody to talk to; teardown shuts and closes it.
    @precondition(lambda self: sum(not client.shut for client in self.open) > 1)
    @rule(client=clients)
    def shutdown(self, client: Client) -> None:
        """A client shuts its sending side."""
        self.shut(client)

    @precondition(lambda self: len(self.open) > 1)
    @rule(client=consumes(clients))
    def close(self, client: Client) -> None:
        """A client closes, with whatever is unread."""
        self.hang_up(client)

    @precondition(lambda self: len(self.open) > 1)
    @rule(client=consumes(clients))
    def reset(self, client: Client) -> None:
        """A client breaks off with a RST."""
        self.hang_up(client, reset=True)

    @rule(ms=st.sampled_from([0, 1, 50, 2000]))
    def sleep(self, ms: int) -> None:
        """All clients sleep."""
        self.do(lambda sys: sys.nanosleep(ms * MS))

    def check_invariants(self, *args: Any) -> None:
        """Called by Hypothesis after each step: after the last one that ``boot`` has been given, what teardown does is done at once.

        A failure in teardown has all of Hypothesis's steps before it, and it gives up before it has deleted them one by one.  One in a step
        has none behind it, and one number to shrink before it.
        """
        super().check_invariants(*args)
        if self._process1 is None or self._initialize_rules_to_run:
            return
        if self._steps:
            self._steps -= 1
            return
        self._finish_all()
        current_build_context().data.conclude_test(Status.VALID)

    def teardown(self) -> None:
        """Every client gets what it is due and the end of its stream; the server is told to stop, and leaves nothing behind."""
        process1 = self._process1
        try:
            # A rule that failed is the failure: what would come after it is none.
            if process1 is not None and not self._failed and python.exception() is None:
                self._finish_all()
        finally:
            if process1 is not None and self._runs():
                self._step = None
                self._switch(process1)

    def _finish_all(self) -> None:
        for client in list(self.open):
            self.finish(client)
        self.do(self._end)

    def _end(self, sys: Syscalls) -> None:
        sys.write(self._stop, (1).to_bytes(8, "little"))
        _pid, status = sys.waitpid(self._server)
        for found in self._reported(sys):
            raise found
        if status:
            raise Violation("crash", f"the server's process ended with wait status {status:#x}")

    def _reported(self, sys: Syscalls) -> list[Violation]:
        """What the server's process has said of itself."""
        text = b""
        while True:
            try:
                chunk = sys.read(self._report, READ_SIZE)
            except BlockingIOError:
                break
            if not chunk:
                break
            text += chunk
        findings = [json.loads(line) for line in text.splitlines()]
        return [Violation(finding["kind"], finding["message"]) for finding in findings]
