"""What oracles may say of an ordinary test: who is under test there, and which of his deeds are wrong whatever he is for.

A test is process 1, with its threads: it may do what it likes, also to see what comes of it.  Each process that it spawns is a program.

always       stale-fd: a program calls with a number that it has closed (also to close it again), or one of its threads with a number of
             which an event had told it, and which is another file's by now
with limits  starvation (``served_within_ns``) and memory (``memory_per_connection``), of the connections that a program has accepted
when asked   leak: ``leaks(sys)`` tells which accepted connections are open although the other side has gone

What can't be said without knowing the test:
- fds that are open when a program returns: its exit closes them, and many a client relies on that; that a connection is kept when the test
  ends: it may be in the middle of something.  So a test asks for leaks where none may be.
- how long is too long, how much too much: the limits are the test's.
- a herd: several programs that wait for one thing may be just what the test is about.
- a lost wake-up: when all sleep that is a hang, and is found; when others go on, nobody knows whether the sleeper should.
"""

from typing import Any

from simkernel.api import Syscalls
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_states import TCP_LISTEN
from simkernel.kernel.sched import Process
from simkernel.kernel.syscalls import SimSyscalls
from simkernel.testing.oracles import SETTLE_NS, Oracles


class Spawned(Oracles):
    """Oracles for the processes that a test spawns.  ``may_use_closed``: it is no finding when one calls with a closed number."""

    __slots__ = ("_accepted", "may_use_closed")

    def __init__(self, served_within_ns: int | None = None, memory: int | None = None, may_use_closed: bool = False) -> None:
        super().__init__(served_within_ns, memory)
        self.may_use_closed = may_use_closed
        self._accepted: set[int] = set()

    def _is_server(self, process: Process) -> bool:
        return process.pid != 1

    def called(self, process: Process) -> str:
        return f"{process.comm} (pid {process.pid})"

    def _bad_fd(self, call: str, args: tuple[Any, ...]) -> None:
        if not self.may_use_closed:
            super()._bad_fd(call, args)

    def _server_sockets(self) -> list[tuple[Process, int, TcpSock]]:
        return [found for found in super()._server_sockets() if found[2].state == TCP_LISTEN or found[2].ino in self._accepted]

    def sample(self) -> None:
        if self.served_within_ns is not None or self.memory is not None:
            super().sample()

    def idle(self, expires: int | None) -> None:
        if self.served_within_ns is not None or self.memory is not None:
            super().idle(expires)

    def accepted(self, listener: Any, fd: int) -> None:
        super().accepted(listener, fd)
        file = self.sched.current.files.fd[fd]
        if file is not None and file.sk is not None:
            self._accepted.add(file.sk.ino)


def leaks(sys: Syscalls, after: int = SETTLE_NS) -> list[str]:
    """The TCP connections that programs have accepted and still have open although the other side went at least ``after`` ago, a line each.

    Sleeps twice ``after`` (virtual nanoseconds) before it answers.  It knows of those whose program was spawned in a run of @simulate; on
    the real kernel nobody can look, and the answer is always [].

        assert not leaks(sys)
    """
    watch = sys.sched.watch if isinstance(sys, SimSyscalls) else None
    if not isinstance(watch, Spawned):
        return []
    sys.nanosleep(after)
    before = watch.gone()
    sys.nanosleep(after)
    return [str(finding["message"]) for finding in watch.kept(before)]
