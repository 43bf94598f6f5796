"""Why a run stands still, in words: who sleeps where, what lies unread, and what would have woken the sleeper.

Works on a Kernel that has just stopped, with every task where it sleeps, and on its trace.  Knows kernels, not servers.
"""

from collections.abc import Iterator
from pathlib import Path
from types import CodeType

from simkernel.kernel.eventpoll import EP_PRIVATE_BITS, EpItem, EventPoll
from simkernel.kernel.file import File
from simkernel.kernel.machine import Kernel
from simkernel.kernel.net.socket import Sock
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.net.unix import UnixSock
from simkernel.kernel.sched import Task
from simkernel.kernel.trace import Trace, line_of
from simkernel.tools.strace import call_text, result_text
from simkernel.uapi import EPOLL_NAMES, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLONESHOT, flags

# At most so many fds of one epoll, and so many sleeping clients, are told about.
MANY = 6
# The longest cycle of calls that a spin is recognised by.
LONGEST_CYCLE = 24


class Calls:
    """The finished system calls of a trace, numbered by step: step n is the nth call that any process but ``harness`` began.

    Process 1 of a check is the check itself; a test's own process 1 counts (``harness`` 0).
    """

    def __init__(self, trace: Trace, harness: int = 1) -> None:
        self.trace = trace
        self.step_of: dict[int, int] = {}
        self.exits: dict[int, int] = {}
        for seq, ((_t, pid, _ctx), ev, _fn, _code, _lasti, _cause, fields) in enumerate(trace.unpacked()):
            if ev == "sys_enter" and pid != harness:
                self.step_of[seq] = len(self.step_of) + 1
            elif ev == "sys_exit":
                self.exits[fields[1]] = seq

    def __len__(self) -> int:
        return len(self.step_of)

    def step_at(self, seq: int) -> int:
        """The step during which event ``seq`` happened."""
        last = 0
        for enter, step in self.step_of.items():
            if enter > seq:
                break
            last = step
        return last

    def show(self, enter: int) -> str:
        """One call with its result and place: ``recv(7, 1024) = 1024, server.py:44``."""
        _where, _ev, fn, code, lasti, _cause, fields = self.trace.event(enter)
        text = call_text(fn, fields[1])
        exit_seq = self.exits.get(enter)
        if exit_seq is not None:
            f = self.trace.event(exit_seq)[6]
            value = f[3]
            if f[2] == "error":
                text += f" = -1 {value}"
            elif fn in ("recv", "read"):
                text += f" = {len(value)}"
            else:
                text += f" = {result_text(fn, value)}"
        return f"{text}, {place_of(code, lasti)}" if code is not None else text

    def last_of(self, pid: int) -> str:
        """The last finished call of a task, shown; "" if it made none."""
        for enter in sorted(self.exits, reverse=True):
            if self.trace.event(enter)[0][1] == pid:
                return self.show(enter)
        return ""

    def last_on_fd(self, pids: set[int], fd: int, names: tuple[str, ...], after: int) -> int | None:
        """The last call among ``names`` that a task in ``pids`` made on ``fd`` after event ``after``."""
        found = None
        for enter in self.step_of:
            (_t, pid, _ctx), _ev, fn, _code, _lasti, _cause, fields = self.trace.event(enter)
            if enter > after and pid in pids and fn in names and fields[1] and fields[1][0] == fd:
                found = enter
        return found


def place_of(code: CodeType, lasti: int) -> str:
    """``file.py:line`` without folders."""
    return f"{Path(code.co_filename).name}:{line_of(code, lasti)}"


def explain_stop(kernel: Kernel, harness: int = 1) -> list[str]:
    """Why nothing moves: a few lines for each task that matters, without that of the ``harness``."""
    calls = Calls(kernel.sched.trace, harness)
    lines: list[str] = []
    clients = 0
    told: set[int] = set()
    for pid in sorted(kernel.sched.tasks):
        if pid == harness:
            continue
        task = kernel.sched.tasks[pid]
        if task.process.comm == "client_main":
            clients += 1
            if clients > MANY:
                continue
        lines += list(_explain_task(kernel, task, calls, told))
    if clients > MANY:
        lines.append(f"... and {clients - MANY} more clients")
    return lines


def name_of(task: Task) -> str:
    """A task by what it is in a check: server, client, or its main's name."""
    comm = {"server_main": "server", "client_main": "client"}.get(task.process.comm, task.process.comm)
    thread = f", thread {task.pid}" if task.pid != task.process.pid else ""
    return f"{comm} (pid {task.process.pid}{thread})"


def _explain_task(kernel: Kernel, task: Task, calls: Calls, told: set[int]) -> Iterator[str]:
    call = kernel.call_of(task)
    if call is None or task.state != "S":
        yield f"{name_of(task)} is runnable"
        return
    function, fd, at = call
    inside = "" if fd is None else str(fd)
    fds = task.process.files.open_fds()
    file = fds.get(fd) if fd is not None else None
    line = f"{name_of(task)} sleeps in {function}({inside}), {at}"
    if isinstance(file, EventPoll):
        yield line + f", on the wait queue of epoll fd {fd}"
        if file.ino not in told:
            told.add(file.ino)
            yield from _explain_epoll(file, fds, task, calls)
    elif file is not None:
        yield line + _explain_file(file, function)
        yield from _explain_neglected(fds, told, fd)
    else:
        yield line
        yield from _explain_neglected(fds, told, fd)


def _explain_neglected(fds: dict[int, File], told: set[int], waits_on: int | None) -> Iterator[str]:
    """What lies there for a sleeper that waits for something else."""
    shown = 0
    for fd, file in fds.items():
        sk = file.sk
        if sk is None or fd == waits_on or file.ino in told or not (_unread(sk) or _pending(sk)):
            continue
        told.add(file.ino)
        shown += 1
        if shown <= MANY:
            yield f"  fd {fd}  {sk.describe()}   {_what(sk)}"


def _explain_file(file: File, function: str) -> str:
    """What a blocking call on one file waits for."""
    sk = file.sk
    if isinstance(sk, TcpSock) and function in ("recv", "read") and sk.rport:
        owed = sk.write_seq - sk.copied_seq - sk.rmem
        if owed > 0:
            return f", for the {owed} bytes that the server has not sent: it wrote {sk.write_seq} and got {sk.copied_seq} back"
        return f", for more bytes or the end of the stream: it wrote {sk.write_seq} and got {sk.copied_seq}"
    if isinstance(sk, TcpSock) and function in ("send", "write"):
        return f", for space: {sk.wmem_queued} bytes wait for the peer to read"
    if isinstance(sk, TcpSock) and function == "connect":
        return ", for an answer to its SYN: the listener's backlog is full"
    if isinstance(sk, UdpSock) and function in ("recv", "recvfrom", "recvmsg", "read", "readv"):
        drops = f"; {sk.drops} that came were dropped, since its receive buffer was full" if sk.drops else ""
        return f", for a datagram on {sk.describe()}{drops}"
    return f", on {'an' if file.kind[0] in 'aeiou' else 'a'} {file.kind}"


def _unread(sk: Sock) -> int:
    if isinstance(sk, TcpSock):
        return sk.rmem
    if isinstance(sk, UdpSock):
        return sk.unread()
    return sk.unread() if isinstance(sk, UnixSock) else 0


def _pending(sk: Sock) -> int:
    if isinstance(sk, TcpSock):
        return len(sk.acceptq)
    return len(sk.connq) if isinstance(sk, UnixSock) else 0


def _explain_epoll(ep: EventPoll, fds: dict[int, File], task: Task, calls: Calls) -> Iterator[str]:
    """The fds of this epoll's interest list on which something waits although nobody is woken, then those nobody watches."""
    pids = {thread.pid for thread in task.process.threads}
    shown = 0
    watched = {(epi.file.ino, epi.fd) for epi in ep.rbr.values()}
    for epi in ep.rbr.values():
        sk = epi.file.sk
        if sk is None or not (_unread(sk) or _pending(sk) or epi.poll(None) & (EPOLLHUP | EPOLLERR)):
            continue
        shown += 1
        if shown <= MANY:
            yield from _explain_item(epi, sk, pids, calls)
    if shown > MANY:
        yield f"  ... and {shown - MANY} more fds with something unread"
    for fd, file in fds.items():
        sk = file.sk
        if sk is not None and (file.ino, fd) not in watched and not shown and (_unread(sk) or _pending(sk)):
            shown += 1
            if shown <= MANY:
                yield f"  fd {fd}  {sk.describe()}   {_what(sk)}   watched by nobody"
                yield "        no epoll has it in its interest list: EPOLL_CTL_ADD it, or read it"


def _what(sk: Sock) -> str:
    pending = _pending(sk)
    if pending:
        return f"{pending} connection{'s' if pending > 1 else ''} to accept"
    unread = _unread(sk)
    return f"{unread} bytes unread" if unread else "at its end"


def _explain_item(epi: EpItem, sk: Sock, pids: set[int], calls: Calls) -> Iterator[str]:
    yield f"  fd {epi.fd}  {sk.describe()}   {_what(sk)}   {flags(epi.events & ~(EPOLLHUP | EPOLLERR), EPOLL_NAMES)}"
    if not epi.events & ~EP_PRIVATE_BITS:
        yield "        disarmed: EPOLLONESHOT has given its one event; EPOLL_CTL_MOD arms it again"
        return
    if not epi.events & EPOLLIN and (_unread(sk) or _pending(sk)):
        yield "        EPOLLIN is not asked for, so what lies there wakes nobody: EPOLL_CTL_MOD asks for it"
        return
    if epi.events & EPOLLET:
        names = ("accept4",) if _pending(sk) else ("recv", "read", "readv")
        used = calls.last_on_fd(pids, epi.fd, names, epi.last_edge)
        edge = f"its last edge came at step {calls.step_at(epi.last_edge)}"
        if used is not None:
            yield f"        {edge} and was used up at step {calls.step_of[used]}: {calls.show(used)}"
        elif epi.used_up >= epi.last_edge:
            yield f"        {edge}; epoll_wait reported it, and no {names[0]} followed"
        else:
            yield f"        {edge}"
        if _pending(sk):
            yield "        only another connection or EPOLL_CTL_MOD wakes it now: accept until EAGAIN before sleeping again"
        elif _unread(sk):
            yield "        only new data, a FIN or EPOLL_CTL_MOD wakes it now: read until EAGAIN before sleeping again"
        else:
            yield "        nothing new will come on it: handle the end when EPOLLIN, EPOLLHUP or EPOLLERR is reported"
    elif epi.events & EPOLLONESHOT:
        yield "        armed once; its event has not come"


def explain_spin(kernel: Kernel, harness: int = 1) -> tuple[list[str], int]:
    """The cycle of calls that a spinning task repeats, and the event with which its first turn ends."""
    trace = kernel.sched.trace
    calls = Calls(trace, harness)
    pid = kernel.sched.current.pid
    mine = [seq for seq in calls.step_of if trace.events[seq][0][1] == pid and seq in calls.exits]

    def key(enter: int) -> tuple[object, ...]:
        event = trace.event(enter)
        return event[2], event[6], trace.event(calls.exits[enter])[6][2:]

    keys = [key(seq) for seq in mine]
    period = next((p for p in range(1, LONGEST_CYCLE + 1) if len(keys) >= 2 * p and keys[-p:] == keys[-2 * p : -p]), 0)
    if not period:
        period = min(len(keys), MANY)
        first = len(keys) - period
    else:
        first = len(keys) - period
        while first > 0 and keys[first - 1] == keys[first - 1 + period]:
            first -= 1
    cycle = mine[first : first + period]
    lines = [f"{name_of(kernel.sched.current)} spins: these {period} calls again and again, and nothing moves"]
    lines += [f"  step {calls.step_of[seq]}: {calls.show(seq)}" for seq in cycle]
    lines += _spin_hints([(trace.event(seq)[2], trace.event(calls.exits[seq])[6][2:]) for seq in cycle])
    return lines, calls.exits[cycle[-1]] + 1 if cycle else len(trace)


def _spin_hints(cycle: list[tuple[str, tuple[object, ...]]]) -> list[str]:
    """What the facts say of such a cycle."""
    hints = []
    if any(fn in ("recv", "read") and out == ("ret", b"") for fn, out in cycle):
        hints.append("  an empty read is the end of the stream, and readable for ever: close the fd, or stop watching it")
    if any(fn == "accept4" and out in (("error", "EMFILE"), ("error", "ENFILE")) for fn, out in cycle):
        hints.append("  with no fd left the connection stays pending and the listener readable: stop watching it until an fd is free")
    waits = [out for fn, out in cycle if fn in ("epoll_wait", "epoll_pwait2", "poll")]
    if len(waits) == len(cycle) and waits:
        hints.append("  the wait reports what nobody acts on: read, write or close it, or take it out of the interest list")
    return hints
