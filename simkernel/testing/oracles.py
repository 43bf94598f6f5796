"""Oracles: what is wrong with a server whatever it serves, seen from the kernel.

hang, spin    the kernel itself says so: Deadlock, Livelock
starvation    a client's bytes, or its wish to be accepted, wait for longer than is decent, while the server has nothing better to do, or
              serves others over and over
memory        bytes that the server has read from a connection and not yet written back to it, more than the contract allows
stale-fd      a call on an fd number that the process has closed, or whose file is another than the one this thread was told of; and
              closing what is closed
leak          a connection whose client has gone, and which the server keeps open; what is left when it returns (scenario.py)
herd          one connection wakes many tasks, and all but one find nothing

The limits are such that a right server never meets them under any schedule that Linux may choose.
"""

from errno import EAGAIN, EBADF, EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Any

from mypy_extensions import mypyc_attr

from simkernel.errors import Deadlock, Verdict
from simkernel.kernel.file import File
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_states import TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LISTEN
from simkernel.kernel.sched import Process, Sched
from simkernel.kernel.watch import Watch
from simkernel.uapi import F_GETFD, F_GETFL, NSEC_PER_SEC, RLIMIT_NOFILE

# Who is who in a check: the mains of the server's process and of the clients' (scenario.py).
SERVER = "server_main"
CLIENT = "client_main"
# The server's own calls, while one of its connections waits and it serves others; and how many more for each of its open fds, since all
# may have their turn first.
STARVED_CALLS = 400
TURN_CALLS = 10
# How many fds more a server may open when they are few.
ROOM = 1
# How long (virtual ns) a server may stay away from a listener when there was no room for one more, whatever it does meanwhile.
PAUSE_NS = 1 * NSEC_PER_SEC
_FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
# The most calls of an example of few messages.
MOST_CALLS = 100_000
# How long the server may take to close a connection whose client has gone, once all is quiet.
SETTLE_NS = 1 * NSEC_PER_SEC
# A herd: at least so many woken tasks found nothing, for each connection that one of them got.
HERD_TASKS = 2
# Calls that may ask about a number that is closed, since asking is what they are for.
_ASKS = (F_GETFD, F_GETFL)
# Calls whose first argument is a number, but no fd's.
_NO_FD = frozenset(
    "alarm clock_gettime_ns epoll_create1 eventfd exit futex_wait futex_wake getitimer getrlimit join kill nanosleep pidfd_open pipe2 "
    "setitimer setrlimit sigaction sigprocmask socket socketpair tgkill timerfd_create waitpid".split()
)


class Waiting:
    """Something that waits to be served: since when, at which of the process's calls, and how far its stream was read then."""

    __slots__ = ("calls", "fd", "process", "progress", "seq", "since", "sk")

    def __init__(self, sk: TcpSock, process: Process, fd: int, progress: int, sched: Sched) -> None:
        self.sk = sk
        self.process = process
        self.fd = fd
        self.progress = progress
        self.since = sched.clock.now
        self.calls = process.calls
        self.seq = len(sched.trace)


@mypyc_attr(allow_interpreted_subclasses=True)
class Oracles(Watch):
    """Looks at one run of a check.  ``findings`` are those that did not end it; the others are raised as Verdict.

    ``served_within_ns``  virtual time that a client may wait while the server has time; None: no limit
    ``memory``            bytes that the server may hold for one connection; None: no limit
    ``most_calls``        an example that is not done after so many is a hang
    ``tight``             each process of the server has room for ROOM more fds after its first accept, to see what it does without
    """

    __slots__ = (
        "_accepts",
        "_closes",
        "_limited",
        "_pauses",
        "_servers",
        "_useless",
        "_waiting",
        "dropped",
        "findings",
        "memory",
        "most_calls",
        "sched",
        "served_within_ns",
        "starved",
        "tight",
    )

    def __init__(self, served_within_ns: int | None, memory: int | None) -> None:
        self.sched: Sched = None  # type: ignore[assignment]  # set by watch()
        self.served_within_ns = served_within_ns
        self.memory = memory
        self.tight = False
        self.most_calls = MOST_CALLS
        self._limited: set[int] = set()
        # When a process last had no room for a connection.
        self._pauses: dict[int, int] = {}
        self.findings: list[dict[str, Any]] = []
        # Bytes that the server had read and not written back when it closed the connection: fd, how many, when.
        self.dropped: list[tuple[int, int, int]] = []
        # For the explanation: who starved.
        self.starved: Waiting | None = None
        self._servers: dict[int, bool] = {1: False}
        self._waiting: dict[int, Waiting] = {}
        self._closes: dict[tuple[int, int], int] = {}
        self._accepts = 0
        # Who was woken for nothing: pid, event, call.
        self._useless: list[tuple[int, int, int]] = []

    # --- who is the server ---
    def _is_server(self, process: Process) -> bool:
        """Whether a process is the server under test or descends from it."""
        known = self._servers.get(process.pid)
        if known is None:
            parent = process.parent
            if parent is None or parent.pid == 1:
                known = process.comm == SERVER
            else:
                known = self._is_server(parent)
            self._servers[process.pid] = known
        return known

    def called(self, process: Process) -> str:
        """What a process of the server is called in a message."""
        return f"the server (pid {process.pid})"

    def _server_sockets(self) -> list[tuple[Process, int, TcpSock]]:
        """The TCP sockets behind the server's fds, listeners too; one that several processes have comes several times."""
        found: list[tuple[Process, int, TcpSock]] = []
        for process in self.sched.processes.values():
            if process.threads and not process.exiting and self._is_server(process):
                for fd, file in enumerate(process.files.fd):
                    sk = file.sk if file is not None else None
                    if isinstance(sk, TcpSock):
                        found.append((process, fd, sk))
        return found

    # --- starvation and memory ---
    def idle(self, expires: int | None) -> None:
        if expires is None:
            return
        self._look()
        limit = self.served_within_ns
        if limit is None:
            return
        for waiting in self._waiting.values():
            waited = expires - waiting.since
            if waited > limit:
                self._starves(waiting, f"waits for {waited / NSEC_PER_SEC:g} s, although the server has nothing else to do")

    def sample(self) -> None:
        if self.sched.calls > self.most_calls:
            # Timers may keep a hopeless run alive for as long as the virtual deadline lets them.
            self.sched.stop(Deadlock(f"not done after {self.most_calls} system calls"))
        self._look()
        if self.served_within_ns is None:
            return
        for waiting in self._waiting.values():
            process = waiting.process
            if len(process.threads) > 1 or (waiting.sk.state == TCP_LISTEN and self._pausing(process)):
                # Which of its threads would serve this one, and whether that one had a chance to run, is not known.  A pause is measured
                # in time, which stands still while a program works.
                waiting.calls = process.calls
            calls = process.calls - waiting.calls
            if calls > STARVED_CALLS:
                limit = STARVED_CALLS + TURN_CALLS * sum(file is not None for file in process.files.fd)
                if calls > limit:
                    self._starves(waiting, f"waits while {self.called(process)} makes {limit} calls for others")

    def _starves(self, waiting: Waiting, how: str) -> None:
        self.starved = waiting
        sk = waiting.sk
        if sk.state == TCP_LISTEN:
            what = f"a client that wants to be accepted from fd {waiting.fd}"
        else:
            what = f"the client of port {sk.rport}, {sk.rmem} bytes unread in fd {waiting.fd},"
        self.sched.stop(Verdict("starvation", f"{what} {how}"))

    def _look(self) -> None:
        """Note what waits, and forget what has been served."""
        before = self._waiting
        now: dict[int, Waiting] = {}
        memory = self.memory
        for process, fd, sk in self._server_sockets():
            if sk.state == TCP_LISTEN:
                if not sk.acceptq or not self._has_room(process):
                    continue
                key, progress = sk.acceptq[0].ino, 0
            else:
                if memory is not None and sk.copied_seq - sk.write_seq > memory:
                    held = sk.copied_seq - sk.write_seq
                    self.sched.stop(Verdict("memory", f"{self.called(process)} holds {held} bytes of fd {fd}, {sk.describe()}"))
                if not sk.rmem or not sk.writable() or (memory is not None and sk.copied_seq > sk.write_seq):
                    # Nothing to read, or reasons not to: no room for the answer, or it waits to be told of room.
                    continue
                key, progress = sk.ino, sk.copied_seq
            waiting = before.get(key)
            if waiting is None or waiting.progress != progress:
                waiting = Waiting(sk, process, fd, progress, self.sched)
            now.setdefault(key, waiting)
        self._waiting = now

    def _has_room(self, process: Process) -> bool:
        """Whether it could accept: with no fd left, a client must wait."""
        soft = process.rlimits[RLIMIT_NOFILE][0]
        return sum(file is not None for file in process.files.fd) < soft

    def _pausing(self, process: Process) -> bool:
        since = self._pauses.get(process.pid)
        return since is not None and self.sched.clock.now - since <= PAUSE_NS

    # --- leak ---
    def gone(self) -> dict[int, tuple[Process, int, TcpSock]]:
        """The connections of the server whose client has gone, by number."""
        found: dict[int, tuple[Process, int, TcpSock]] = {}
        for process, fd, sk in self._server_sockets():
            if sk.rport and sk.state in (TCP_CLOSE_WAIT, TCP_CLOSE):
                found.setdefault(sk.ino, (process, fd, sk))
        return found

    def kept(self, before: dict[int, tuple[Process, int, TcpSock]]) -> list[dict[str, Any]]:
        """Findings: those of ``gone()`` some time ago that are open still."""
        out = []
        for ino, (process, fd, sk) in self.gone().items():
            if ino in before:
                how = "its client has closed it" if sk.state == TCP_CLOSE_WAIT else "it has been reset"
                text = f"{self.called(process)} keeps fd {fd} open, {sk.describe()}, although {how}"
                seq = len(self.sched.trace)
                out.append({"kind": "leak", "who": "server", "message": text, "pid": process.pid, "fd": fd, "seq": seq})
        return out

    # --- stale numbers ---
    def closed(self, fd: int, file: Any) -> None:
        task = self.sched.current
        if not self._is_server(task.process):
            return
        self._closes[task.process.pid, fd] = len(self.sched.trace)
        sk = file.sk
        if self.memory is not None and isinstance(sk, TcpSock) and sk.rport and sk.copied_seq > sk.write_seq and file.f_count == 1:
            self.dropped.append((fd, sk.copied_seq - sk.write_seq, len(self.sched.trace)))
        if task.learnt is not None:
            task.learnt.pop(fd, None)

    def failed(self, call: str, args: tuple[Any, ...], errno: int) -> None:
        task = self.sched.current
        if errno == EBADF:
            if self._is_server(task.process):
                self._bad_fd(call, args)
        elif errno in _FULL and call == "accept4":
            self._pauses[task.process.pid] = self.sched.clock.now
        elif errno == EAGAIN and call == "accept4" and self._is_server(task.process):
            if task.woken:
                # It slept, was woken, and this is the first that it finds: nothing.
                self._useless.append((task.pid, len(self.sched.trace), self.sched.calls))
            task.woken = False

    def _bad_fd(self, call: str, args: tuple[Any, ...]) -> None:
        """EBADF: of a number that was open once?"""
        process = self.sched.current.process
        if call == "fcntl" and args[1] in _ASKS:
            return
        fds = process.files.fd
        for fd in (args[2], args[0]) if call == "epoll_ctl" else args[:1]:
            if (process.pid, fd) not in self._closes or (fd < len(fds) and fds[fd] is not None):
                continue
            if call == "close":
                message = f"double close: {self.called(process)} closes fd {fd}, which it has closed already"
            else:
                message = f"{self.called(process)} calls {call} on fd {fd}, which it has closed"
            # The call that failed has ended.
            self._stale(message, fd, self._closes[process.pid, fd], len(self.sched.trace) - 1)
            return

    def acts(self, call: str, args: tuple[Any, ...]) -> None:
        task = self.sched.current
        learnt = task.learnt
        if not learnt or not args or call in _NO_FD:
            return
        fd = args[2] if call == "epoll_ctl" else args[0]
        was = learnt.get(fd) if isinstance(fd, int) else None
        fds = task.files.fd
        if was is None or fd >= len(fds):
            return
        now: File | None = fds[fd]
        if now is not None and now is not was and self._is_server(task.process):
            message = (
                f"thread {task.pid} of {self.called(task.process)} calls {call} on fd {fd}, of which an event told it; "
                "meanwhile another thread has closed it, and the number is another file's"
            )
            self._stale(message, fd, self._closes.get((task.process.pid, fd), -1), len(self.sched.trace))
            del learnt[fd]

    def _stale(self, message: str, fd: int, closed_at: int, seq: int) -> None:
        task = self.sched.current
        finding = {"kind": "stale-fd", "who": "server", "message": message, "pid": task.pid, "fd": fd}
        self.findings.append({**finding, "seq": seq, "closed_at": closed_at, "calls": self.sched.calls, "end": seq + 1})

    # --- herd ---
    def vain(self, owner: Any) -> None:
        task = self.sched.current
        if task.woken and isinstance(owner, TcpSock) and owner.state == TCP_LISTEN and self._is_server(task.process):
            self._useless.append((task.pid, len(self.sched.trace), self.sched.calls))
            task.woken = False

    def accepted(self, listener: Any, fd: int) -> None:
        task = self.sched.current
        if self._is_server(task.process):
            self._accepts += 1
            task.woken = False
            if task.learnt is not None and (file := task.files.fd[fd]) is not None:
                task.learnt[fd] = file
            if self.tight and task.process.pid not in self._limited:
                # As prlimit(2) by somebody else would: not before it runs, so that what it opened to begin with had room.
                self._limited.add(task.process.pid)
                fds = task.files.fd
                free = limit = 0
                while free < ROOM:
                    free += limit >= len(fds) or fds[limit] is None
                    limit += 1
                hard = task.process.rlimits[RLIMIT_NOFILE][1]
                task.process.rlimits[RLIMIT_NOFILE] = (limit, hard)

    def herd(self) -> list[dict[str, Any]]:
        """Findings, when the run is over."""
        pids = sorted({pid for pid, _seq, _calls in self._useless})
        if len(pids) < HERD_TASKS or len(self._useless) < self._accepts * HERD_TASKS:
            return []
        text = (
            f"{self._accepts} connections, and {len(self._useless)} wake-ups that found none, by {len(pids)} tasks: "
            "each connection wakes them all, and one gets it"
        )
        # The first herd is story enough.
        _pid, end, calls = self._useless[HERD_TASKS - 1]
        return [{"kind": "herd", "who": "server", "message": text, "vain": self._useless, "calls": calls, "end": end}]
