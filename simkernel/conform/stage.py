"""Programs of several tasks, which may block: who wakes, in which order, with what.

A controller forks the program's processes and tells one task at a time to make one call.  It hears of what has returned through one pipe,
so in the order in which it did.  A step is over when every task sleeps, in its call or for the next one (see settle.py).  The pipes have
numbers above those of the fds that are compared.  Each process has one more thread, which looks at its fds.
"""

import marshal
from collections.abc import Callable
from typing import Any

from simkernel.api import Syscalls
from simkernel.conform.machine import DELAYED_ACK_NS, ERRNO_NAMES, FDS, WAIT_FOR_ACK, Machine, Observation
from simkernel.conform.program import CLOCK, SETUP, Call, Program, Result
from simkernel.conform.settle import Platform, platform_of
from simkernel.uapi import F_SETFL, O_NONBLOCK, SIG_SETMASK, SIGKILL

_RESULTS = 60  # (reading end, writing end)
_COMMANDS = 64  # and two for each task

Step = tuple[list[tuple[int, Result]], tuple[Observation | None, ...] | None]
"""What returned in a step, as (task, outcome) in order; and what each process's fds look like, if that was asked for."""


class Stage:
    """The processes of one program, on one kernel.

    ``idle`` are the tasks that wait for a command.  ``pids`` are the processes in the order in which they came up.
    """

    def __init__(self, sys: Syscalls, tasks: tuple[int, ...]) -> None:
        self.sys = sys
        self.tasks = tasks
        self.platform: Platform = platform_of(sys)
        self.setup = Machine(sys)
        self.n = sum(tasks)
        self.process_of = [p for p, n in enumerate(tasks) for _ in range(n)]
        self.idle: set[int] = set()
        self.pids: list[int] = []
        self.started = False
        for at, flags in [(_RESULTS, O_NONBLOCK)] + [(_COMMANDS + 2 * i, 0) for i in range(self.n + len(tasks))]:
            r, w = sys.pipe2()
            sys.dup2(r, at)
            sys.dup2(w, at + 1)
            sys.close(r)
            sys.close(w)
            if flags:
                sys.fcntl(at, F_SETFL, flags)

    # --- the processes ---
    def start(self) -> None:
        """Fork them; what the setup opened is theirs."""
        self.started = True
        self.platform.pin()
        for p in range(len(self.tasks)):
            self.pids.append(self.sys.spawn(_process, self, p))
        ready: dict[int, int] = {}
        while len(ready) < self.n + len(self.tasks):
            self.sys.nanosleep(20_000)
            ready.update(self._drain())
        for fd in FDS:
            try:
                self.sys.close(fd)
            except OSError:
                pass
        for i, tid in sorted(ready.items()):
            self.platform.watch(self.pids[self._process(i)], tid)
        self.idle = set(range(self.n))
        self.platform.settle(0)

    def _process(self, i: int) -> int:
        return self.process_of[i] if i < self.n else i - self.n

    def _drain(self) -> list[tuple[int, Result]]:
        """What tasks have sent since the last time."""
        raw = b""
        while True:
            try:
                raw += self.sys.read(_RESULTS, 65536)
            except BlockingIOError:
                break
        got: list[tuple[int, Result]] = []
        while raw:
            size = int.from_bytes(raw[:4], "little")
            got.append(marshal.loads(raw[4 : 4 + size]))
            raw = raw[4 + size :]
        return got

    # --- a step ---
    def step(self, call: Call, observe: bool) -> Step:
        """Let a task make a call (or let time pass), and tell what returned.  A task that is not idle does nothing."""
        who, *rest = call
        if who == SETUP:
            return [(SETUP, self.setup.step(tuple(rest)))], None
        if not self.started:
            self.start()
        ns = 0
        if who == CLOCK:
            ns = rest[1]
        elif who in self.idle:
            self.idle.discard(who)
            self._tell(who, tuple(self._pid(arg) for arg in rest))
        else:
            return [], None
        done: list[tuple[int, Result]] = []
        while True:
            self.platform.settle(ns)
            ns = 0
            got = self._drain()
            if not got:
                break
            for task, outcome in got:
                self.idle.add(task)
                done.append((task, self._named(outcome)))
        return done, self.look() if observe else None

    def look(self) -> tuple[Observation | None, ...]:
        """What the fds of each process look like; None for one that has ended."""
        if not self.started:
            self.start()
        for p in range(len(self.tasks)):
            self._tell(self.n + p, ("look",))
        self.platform.settle(0)
        seen = dict(self._drain())
        return tuple(seen.get(self.n + p) for p in range(len(self.tasks)))

    def _tell(self, i: int, call: Call) -> None:
        self.sys.write(_COMMANDS + 2 * i + 1, marshal.dumps(call))

    def _pid(self, arg: Any) -> Any:
        """("pid", n) is the process that came up n-th."""
        if isinstance(arg, tuple) and arg and arg[0] == "pid":
            return self.pids[arg[1]] if arg[1] < len(self.pids) else 2**22 + 1
        return arg

    def _named(self, outcome: Result) -> Result:
        """Process ids by the order in which they came up."""
        if isinstance(outcome, tuple) and outcome and outcome[0] == "caught":
            return (*outcome[:2], self._named(outcome[2]))
        if isinstance(outcome, tuple) and outcome and outcome[0] in ("spawned", "waited"):
            pid = outcome[1]
            if pid and pid not in self.pids:
                self.pids.append(pid)
                self.platform.watch(pid, pid)
            return (outcome[0], ("pid", self.pids.index(pid)) if pid else 0, *outcome[2:])
        return outcome

    def end(self) -> None:
        """Kill and reap every process."""
        self.platform.forget()
        try:
            for pid in self.pids:
                try:
                    self.sys.kill(pid, SIGKILL)
                except ProcessLookupError:
                    pass
            while self.pids:
                # Children of those that are gone are ours now.
                for pid in self.platform.children():
                    self.sys.kill(pid, SIGKILL)
                self.sys.waitpid(-1)
        except ChildProcessError:
            pass
        for fd in (_RESULTS, _RESULTS + 1, *(_COMMANDS + i for i in range(2 * (self.n + len(self.tasks))))):
            self.sys.close(fd)
        self.setup.clean()


def _process(sys: Syscalls, stage: Stage, p: int) -> None:
    """One process of the program: a thread for each task but the first, one that looks, and the first task."""
    stage.platform.enter()
    mine = [i for i in range(stage.n) if stage.process_of[i] == p]
    for i in (*mine[1:], stage.n + p):
        sys.thread(_task, stage, i)
    _task(sys, stage, mine[0])


def _task(sys: Syscalls, stage: Stage, i: int) -> None:
    """Make the calls that are told, and tell what they gave."""
    if i >= stage.n:
        # The signals are for the others.
        sys.sigprocmask(SIG_SETMASK, range(1, 32))
    machine = TaskMachine(sys, seed=i * 1009)
    machine.id = stage.setup.id
    outcome: Result = stage.platform.tid()
    while True:
        raw = marshal.dumps((i, outcome))
        _uninterrupted(sys.write, _RESULTS + 1, len(raw).to_bytes(4, "little") + raw)
        call = marshal.loads(_uninterrupted(sys.read, _COMMANDS + 2 * i, 4096))
        outcome = machine.look() if call[0] == "look" else machine.step(call)
        if machine.caught:
            # Which signals came, not in which order: Python runs their handlers in order of their numbers.
            outcome = ("caught", tuple(sorted(machine.caught)), outcome)
            machine.caught.clear()


def _uninterrupted(call: Callable[..., Any], *args: Any) -> Any:
    while True:
        try:
            return call(*args)
        except InterruptedError:
            pass


class TaskMachine(Machine):
    """A machine that also has processes and signals: its handlers note which came."""

    def __init__(self, sys: Syscalls, seed: int) -> None:
        super().__init__(sys, seed=seed)
        self.caught: set[int] = set()
        self.alone = False
        self.pid = sys.getpid()

    def note(self, signum: int) -> None:
        """The handler of signals.  A forked child has it too, and on the fake kernel the same memory."""
        if self.sys.getpid() == self.pid:
            self.caught.add(signum)

    def do(self, name: str, args: list[Any]) -> Result:
        """Make the call; raises what it raises."""
        if name == "spawn":
            return "spawned", self.sys.spawn(_child, *args)
        if name == "waitpid":
            pid, status = self.sys.waitpid(*args)
            return "waited", pid, status
        if name == "sigtimedwait":
            signo, code, _errno, _pid, _uid, status = self.sys.sigtimedwait(*args)
            return "taken", signo, code, status
        if name == "sigaction":
            if args[1] == "note":
                args[1] = self.note
            was = self.sys.sigaction(*args)
            return "note" if callable(was) else was
        return super().do(name, args)


def _child(sys: Syscalls, fd: int, status: int) -> None:
    """A child that waits until it can read a byte, and ends."""
    try:
        sys.read(fd, 1)
    except OSError as error:
        status += len(ERRNO_NAMES.get(error.errno or 0, "")) + 32
    sys.exit(status)


def play_tasks(sys: Syscalls, program: Program, /, *, settle: bool = False, raw: bool = False) -> list[Result]:
    """Run a program of several tasks; (what returned, observations) of each step, and the last observations."""
    stage = Stage(sys, program.tasks)
    try:
        results: list[Result] = []
        for call in program.calls:
            done, seen = stage.step(call, program.observe)
            if settle and call[0] >= 0 and call[1] in WAIT_FOR_ACK and program.kind != "timers":
                # (Where calls have time limits a pause would be no small thing.)
                later, seen = stage.step((CLOCK, "sleep", DELAYED_ACK_NS), program.observe)
                done += later
            results.append((done, seen))
        results.append((None, stage.look()))
    finally:
        stage.end()
    return results
