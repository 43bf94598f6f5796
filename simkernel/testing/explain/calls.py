"""The system calls of a trace, numbered by step, and how they are shown."""

from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from simkernel.errors import is_ours
from simkernel.kernel.place import PROGRAM, kind_of_file
from simkernel.kernel.trace import Trace, line_of
from simkernel.testing.oracles import SERVER
from simkernel.tools.strace import call_text, result_text

# The calls that wait for several fds at once.
WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect")
# What calls of the check itself are made from, in the server's process.
_OURS = tuple(str(Path(__file__).parent.parent / name) for name in ("scenario.py", "worlds.py"))


class Call:
    """One system call: ``enter`` and ``exit`` are the events' numbers (exit None: it has not returned)."""

    __slots__ = ("args", "at", "enter", "error", "exit", "name", "pid", "result", "step")

    def __init__(self, step: int, enter: int, pid: int, name: str, args: tuple[Any, ...], at: str) -> None:
        self.step = step
        self.enter = enter
        self.pid = pid
        self.name = name
        self.args = args
        self.at = at
        self.exit: int | None = None
        self.error: str | None = None
        self.result: Any = None

    @property
    def fd(self) -> Any:
        """The fd that it is about: epoll_ctl's is the one that it registers."""
        return (self.args[2] if self.name == "epoll_ctl" else self.args[0]) if self.args else None

    @property
    def done(self) -> bool:
        """Whether it has returned."""
        return self.exit is not None

    def show(self) -> str:
        """The call with its result and place: ``recv(7, 1024) = 1024, server.py:44``."""
        text = call_text(self.name, self.args)
        if self.error is not None:
            text += f" = -1 {self.error}"
        elif self.exit is not None:
            text += f" = {len(self.result)}" if self.name in ("recv", "read") else f" = {result_text(self.name, self.result)}"
        return f"{text}, {self.at}" if self.at else text

    def line(self) -> str:
        """The same with its step."""
        return f"step {self.step}: {self.show()}"

    def begun(self) -> str:
        """The same without what became of it."""
        return f"step {self.step}: {call_text(self.name, self.args)}, {self.at}"


class Calls:
    """The calls of a trace by step: step n is the nth call that any process but ``harness`` began.

    Process 1 of a check is the check itself; a test's own process 1 counts (``harness`` 0).  Where programs call through Python's own
    modules, all that one line of a task calls in a row is one step, and with it what a library calls of its own accord before the next:
    asyncio.run alone makes a dozen calls before it runs anything.
    """

    def __init__(self, trace: Trace, harness: int = 1) -> None:
        self.trace = trace
        self.harness = harness
        self.list: list[Call] = []
        # Of each process: its main's name, and who forked it.
        self.comm: dict[int, str] = {}
        self.parent: dict[int, int] = {}
        # Of each thread but a process's first: which process it is of.
        self.thread_of: dict[int, int] = {}
        # And the signals that it took: event and number of each.
        self.delivered: dict[int, list[tuple[int, int]]] = {}
        # When each ran for the first time: the event.
        self.began: dict[int, int] = {}
        by_enter = self.by_enter = dict[int, Call]()
        step = 0
        # Of each task: the place of its last call.
        last: dict[int, tuple[CodeType | None, int]] = {}
        for seq, ((_t, pid, _ctx), ev, fn, code, lasti, _cause, fields) in enumerate(trace.unpacked()):
            if ev == "sys_enter":
                # The check's own calls, in the server's process as in the first, are no steps.
                if pid != harness and not (harness and code is not None and code.co_filename in _OURS):
                    at = place_of(code, lasti) if code is not None else ""
                    if not trace.indirect or pid not in last or (last[pid] != (code, lasti) and not is_library(code)):
                        step += 1
                        last[pid] = code, lasti
                    call = by_enter[seq] = Call(step, seq, pid, fn, fields[1], at)
                    self.list.append(call)
            elif ev == "sys_exit":
                done = by_enter.get(fields[1])
                if done is not None:
                    done.exit = seq
                    if fields[2] == "error":
                        done.error = fields[3]
                    else:
                        done.result = fields[3]
                        if done.name == "thread":
                            self.thread_of[done.result] = self.process_of(pid)
            elif ev == "sched_process_fork":
                self.comm[fields[1]] = fields[3]
                self.parent[fields[1]] = pid
            elif ev == "signal_deliver":
                self.delivered.setdefault(pid, []).append((seq, fields[1]))
            elif ev == "sched_switch":
                self.began.setdefault(fields[5], seq)

    def __len__(self) -> int:
        return len(self.list)

    def step_at(self, seq: int) -> int:
        """The step during which event ``seq`` happened: the last that had begun."""
        step = 0
        for call in self.list:
            if call.enter > seq:
                break
            step = call.step
        return step

    def is_server(self, pid: int) -> bool:
        """Whether a task is the server's, or descends from it; of a test's own run: whether the test has made it."""
        if not self.harness:
            return pid in self.comm
        while pid in self.comm:
            if self.parent[pid] == 1:
                return self.comm[pid] == SERVER
            pid = self.parent[pid]
        return False

    def process_of(self, pid: int) -> int:
        """The process of a task."""
        return self.thread_of.get(pid, pid)

    def of_server(self) -> Iterator[Call]:
        """The server's own calls."""
        for call in self.list:
            if self.is_server(call.pid):
                yield call

    def last_of(self, pid: int) -> str:
        """The last finished call of a task, shown; "" if it made none."""
        return next((call.show() for call in reversed(self.list) if call.pid == pid and call.exit is not None), "")

    def sleep_of(self, pid: int) -> Call | None:
        """The call in which a task is, or None."""
        return next((call for call in reversed(self.list) if call.pid == pid and not call.done), None)

    def before(self, call: Call) -> Call | None:
        """The call that the same task made before."""
        return next((c for c in reversed(self.list) if c.enter < call.enter and c.pid == call.pid), None)

    def between(self, first: Call, then: Call, pids: set[int]) -> Iterator[Call]:
        """The calls of ``pids`` that returned after ``first`` had, and before ``then`` began."""
        for call in self.list:
            if call.enter >= then.enter:
                return
            if call.pid in pids and (first.exit or 0) < (call.exit or 0) < then.enter:
                yield call

    def around(self, pid: int, moment: Call) -> str:
        """Between which two of its calls a task was when ``moment`` returned, in words; "" if it was within one, or not yet born."""
        end = moment.exit or 0
        mine = [call for call in self.list if call.pid == pid]
        before = next((call for call in reversed(mine) if call.enter < end), None)
        after = next((call for call in mine if call.enter > end), None)
        if after is None or self.began.get(pid, end) >= end or (before is not None and (before.exit is None or before.exit > end)):
            return ""
        return f"between {before.line() if before is not None else 'its beginning'} and {after.line()}"

    def last_on_fd(self, pids: set[int], fd: int, names: tuple[str, ...], after: int) -> Call | None:
        """The last call among ``names`` that a task in ``pids`` made on ``fd`` after event ``after``."""
        found = None
        for call in self.list:
            if call.enter > after and call.pid in pids and call.name in names and call.args and call.args[0] == fd:
                found = call
        return found


def gave(call: Call, fd: int) -> bool:
    """Whether a call returned this fd number as a new one."""
    if call.name == "accept4":
        return isinstance(call.result, tuple) and call.result[0] == fd
    if call.name in ("pipe2", "socketpair"):
        return isinstance(call.result, tuple) and fd in call.result
    return call.name in ("socket", "dup", "dup2", "dup3", "open", "eventfd", "epoll_create1") and call.result == fd


def is_library(code: CodeType | None) -> bool:
    """Whether a line is Python's own, or of a package that is installed; the lines of our clients are not."""
    return code is not None and not is_ours(code.co_filename) and kind_of_file(code.co_filename) != PROGRAM


def place_of(code: CodeType, lasti: int) -> str:
    """``file.py:line`` without folders."""
    return f"{Path(code.co_filename).name}:{line_of(code, lasti)}"
