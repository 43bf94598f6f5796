"""Faults of the profile ``posix`` (lib/fault-inject.c): calls fail, or do less, as their man pages permit and Linux seldom does.

As in Linux, a process is marked for it (/proc/PID/make-it-fail) and its children are too, a fault is rare, and there are only so many of
them in a run (``times``).  Each must leave a right server a way to keep its promise, or excuse the client that it hit (``disturb``).
liberties.py has the table of them, with their sources.
"""

import errno
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

from simkernel.errors import oserror
from simkernel.kernel.eventpoll import EP_PRIVATE_BITS, EpItem, EventPoll
from simkernel.kernel.file import File
from simkernel.kernel.net.socket import SEND_SHUTDOWN
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_states import TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_LISTEN
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.sched import Process, Sched
from simkernel.kernel.syscalls import SimSyscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLIN,
    EPOLLONESHOT,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_WAITALL,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
)

# A call that may fail does so once in so many.
INTERVAL: Final = 8
# The most faults in a run.
TIMES: Final = 3

# accept(2): a connection that was aborted or failed, out of numbers, out of memory.
ACCEPT_ERRORS: Final = (errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPROTO)
FD_ERRORS: Final = (errno.EMFILE, errno.ENFILE)
# What makes an fd, beside accept4.
FD_MAKERS: Final = ("dup", "open", "pipe2", "eventfd", "timerfd_create", "epoll_create1", "memfd_create")
SOCKET_MAKERS: Final = ("socket", "socketpair")

Call: TypeAlias = "Callable[..., Any]"
F = TypeVar("F", bound=Call)


class FaultAttr:
    """struct fault_attr: ``times`` is how many faults are left in this run; ``serving`` are the processes that have begun to accept.

    ``harsh`` says whether the program may be stopped while it waits, and the machine short of memory, numbers and processes for more than
    accept and a send that has to wait.
    """

    __slots__ = ("_kinds", "harsh", "sched", "serving", "sys", "times")

    def __init__(self, sys: SimSyscalls, harsh: bool) -> None:
        self.sys = sys
        self.sched: Sched = sys.sched
        self.harsh = harsh
        self.times = self.sched.choice.pick(TIMES + 1, "faults")
        self.serving: set[int] = set()
        kinds: dict[str, Callable[[tuple[Any, ...], Call], Call]] = {
            "accept4": self.accept,
            "close": self.close,
        }
        if harsh:
            kinds |= {"epoll_ctl": self.epoll_ctl, "spawn": self.fork, "thread": self.fork}
            kinds |= dict.fromkeys((*FD_MAKERS, *SOCKET_MAKERS), self.make_fd)
        kinds |= dict.fromkeys(("epoll_wait", "epoll_pwait", "epoll_pwait2"), self.epoll_wait)
        kinds |= dict.fromkeys(("poll", "ppoll"), self.poll)
        kinds |= dict.fromkeys(("select", "pselect"), self.select)
        kinds |= dict.fromkeys(("recv", "read", "recvfrom"), self.recv)
        kinds |= dict.fromkeys(("send", "write", "sendto"), self.send)
        self._kinds = kinds

    def spare(self, call: str) -> None:
        """This call does not fail any more."""
        self._kinds.pop(call, None)

    def inject(self, name: str, function: F, args: tuple[Any, ...]) -> F:
        """What is called instead of ``function``, which is the call ``name`` with ``args``: itself, most often."""
        if not self.times or not self.sched.current.process.make_it_fail:
            return function
        kind = self._kinds.get(name)
        if kind is None:
            return function
        if name == "accept4":
            self.serving.add(self.sched.current.process.pid)
        elif self.sched.current.process.pid not in self.serving and (name in FD_MAKERS or name in SOCKET_MAKERS):
            # A program that does not get what it needs to begin may end.
            return function
        instead: Any = kind((name, *args), function)
        called: F = instead
        return called

    def should_fail(self, label: str) -> bool:
        """should_fail: whether it is time for a fault of this kind."""
        if not self.times or self.sched.choice.pick(INTERVAL, label) != INTERVAL - 1:
            return False
        self.times -= 1
        trace = self.sched.trace
        if trace.on:
            trace.emit("fault", "should_fail", ("liberty", label))
        return True

    # --- helpers ---
    def file(self, fd: object) -> File | None:
        """The file behind an argument, if it is a good fd."""
        fds = self.sched.current.files.fd
        return fds[fd] if isinstance(fd, int) and 0 <= fd < len(fds) else None

    def fails(self, errors: tuple[int, ...], label: str) -> Call:
        """A call that fails with one of the ``errors``."""
        code = errors[self.sched.choice.pick(len(errors), label)]

        def failing(*args: object) -> object:
            raise oserror(code)

        return failing

    def family(self) -> list[Process]:
        """The processes that may be hit: the running one, and its relatives that are marked."""
        return [process for process in self.sched.processes.values() if process.make_it_fail and process.threads]

    def disturb_all(self, why: str) -> None:
        """Excuse every client: which of them the program could not serve for it is the program's choice."""
        for process in self.family():
            for file in process.files.open_fds().values():
                if isinstance(file.sk, TcpSock):
                    for sk in (file.sk, *file.sk.acceptq):
                        self.sys.disturb(sk, why)

    # --- each kind ---
    def accept(self, call: tuple[Any, ...], function: Call) -> Call:
        """The connection that waits goes on waiting."""
        file = self.file(call[1])
        if file is None or not isinstance(file.sk, TcpSock) or file.sk.state != TCP_LISTEN or not file.sk.acceptq:
            return function
        return self.fails(ACCEPT_ERRORS, "fault-accept") if self.should_fail("fault-accept") else function

    def make_fd(self, call: tuple[Any, ...], function: Call) -> Call:
        """No number, or no memory."""
        if not self.should_fail("fault-make-fd"):
            return function
        self.disturb_all(f"{call[0]} failed")
        return self.fails((*FD_ERRORS, errno.ENOBUFS, errno.ENOMEM) if call[0] in SOCKET_MAKERS else FD_ERRORS, "fault-make-fd")

    def fork(self, call: tuple[Any, ...], function: Call) -> Call:
        """No process or thread more."""
        if self.sched.current.process.pid not in self.serving or not self.should_fail("fault-fork"):
            return function
        self.disturb_all(f"{call[0]} failed")
        return self.fails((errno.EAGAIN, errno.ENOMEM) if call[0] == "spawn" else (errno.EAGAIN,), "fault-fork")

    def epoll_ctl(self, call: tuple[Any, ...], function: Call) -> Call:
        """A connection can't be watched."""
        file = self.file(call[3])
        if call[2] != EPOLL_CTL_ADD or file is None or not isinstance(file.sk, TcpSock) or file.sk.peer is None:
            return function
        if not self.should_fail("fault-epoll-ctl"):
            return function
        self.sys.disturb(file.sk, "epoll_ctl failed")
        return self.fails((errno.ENOMEM, errno.ENOSPC), "fault-epoll-ctl")

    def close(self, call: tuple[Any, ...], function: Call) -> Call:
        """Interrupted, with the fd gone; of a program that catches signals."""
        if self.file(call[1]) is None or not any(callable(action.handler) for action in self.sched.current.process.action.values()):
            return function
        if not self.should_fail("fault-close"):
            return function

        def interrupted(*args: object) -> object:
            function(*args)
            raise oserror(errno.EINTR)

        return interrupted

    def epoll_wait(self, call: tuple[Any, ...], function: Call) -> Call:
        """Interrupted by SIGSTOP and SIGCONT; or an event that is none."""
        ep = self.file(call[1])
        if not isinstance(ep, EventPoll) or ep.rdllist or not isinstance(call[2], int) or call[2] < 1 or call[3:4] == (0,):
            return function
        if self.harsh and self.should_fail("fault-eintr"):
            return self.fails((errno.EINTR,), "fault-eintr")
        items = [epi for epi in ep.rbr.values() if not epi.linked and epi.events & EPOLLIN and quiet(epi.file)]
        if not items or not self.should_fail("fault-spurious"):
            return function
        epi = items[self.sched.choice.pick(len(items), "fault-spurious")]
        if epi.events & EPOLLONESHOT:
            epi.events &= EP_PRIVATE_BITS
        return lambda *args: [(epi.data, EPOLLIN)]

    def poll(self, call: tuple[Any, ...], function: Call) -> Call:
        """A socket that has nothing to read is reported."""
        if not isinstance(call[1], (list, tuple)):
            return function
        pairs = list(call[1])
        quiets = [fd for fd, events in pairs if events & POLLIN and quiet(self.file(fd))]
        if not quiets or self.any_ready(pairs) or not self.should_fail("fault-spurious"):
            return function
        fd = quiets[self.sched.choice.pick(len(quiets), "fault-spurious")]
        return lambda *args: [(fd, POLLIN)]

    def select(self, call: tuple[Any, ...], function: Call) -> Call:
        """The same."""
        if not isinstance(call[1], (list, tuple, set)) or not isinstance(call[2], (list, tuple, set)):
            return function
        reads = sorted(call[1])
        quiets = [fd for fd in reads if quiet(self.file(fd))]
        pairs = [(fd, POLLIN) for fd in reads] + [(fd, POLLOUT) for fd in call[2]]
        if not quiets or self.any_ready(pairs) or not self.should_fail("fault-spurious"):
            return function
        fd = quiets[self.sched.choice.pick(len(quiets), "fault-spurious")]
        return lambda *args: ([fd], [], [])

    def any_ready(self, pairs: list[tuple[int, int]]) -> bool:
        """Whether there is something to report in earnest, or a bad fd."""
        for fd, events in pairs:
            file = self.file(fd)
            if file is None or file.poll(None) & (events | POLLERR | POLLHUP):
                return True
        return False

    def recv(self, call: tuple[Any, ...], function: Call) -> Call:
        """Fewer bytes than there are.  Not where epoll's edges are counted: there, fewer than asked for means that there are no more."""
        fd, n = call[1:3]
        flags = call[3] if len(call) > 3 else 0
        file = self.file(fd)
        if file is None or not isinstance(file.sk, TcpSock) or flags & (MSG_PEEK | MSG_WAITALL) or not isinstance(n, int):
            return function
        there = min(n, file.sk.rmem)
        if there < 2 or file.sk.urg_data or watched_for_edges(file) or not self.should_fail("fault-short-read"):
            return function
        less = (1, there >> 1)[self.sched.choice.pick(2, "fault-short-read")]
        return lambda sys, fd, n, *rest: function(sys, fd, less, *rest)

    def send(self, call: tuple[Any, ...], function: Call) -> Call:
        """No memory: fewer bytes are taken, or none now, or an error."""
        name, fd, data = call[:3]
        flags = call[3] if len(call) > 3 else 0
        file = self.file(fd)
        if file is None or not isinstance(data, bytes) or not (file.nonblock or flags & MSG_DONTWAIT):
            return function
        sk = file.sk
        if isinstance(sk, UdpSock):
            return self.fails((errno.EAGAIN, errno.ENOBUFS), "fault-send") if self.should_fail("fault-send") else function
        if not isinstance(sk, TcpSock) or sk.err or sk.shutdown_mask & SEND_SHUTDOWN or flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL):
            return function
        if sk.state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT) or sk.wmem_queued >= sk.sndbuf or len(data) < 2:
            return function
        if not self.should_fail("fault-send"):
            return function
        how = self.sched.choice.pick(4 if self.harsh else 3, "fault-send")
        if how == 3:
            self.sys.disturb(sk, f"{name} failed")
            return self.fails((errno.ENOBUFS, errno.ENOMEM), "fault-send")
        # tcp_sendmsg_locked, wait_for_space: there will be an event when memory is to be had.
        sk.nospace = True
        if how == 2:
            if not sk.wmem_queued:
                # "make sure we wake any epoll edge trigger waiter"
                sk.wakes_on_space()
            return self.fails((errno.EAGAIN,), "fault-send")
        less = (1, len(data) >> 1)[how]
        return lambda sys, fd, data, *rest: function(sys, fd, data[:less], *rest)

    def norestart(self) -> bool:
        """Whether a call that SA_RESTART would start again fails with EINTR all the same."""
        return self.times > 0 and self.sched.current.process.make_it_fail and self.should_fail("fault-no-restart")


def quiet(file: File | None) -> bool:
    """Whether it is an open socket of the network from which nothing can be read now."""
    if file is None:
        return False
    sk = file.sk
    if isinstance(sk, TcpSock):
        return sk.state in (TCP_ESTABLISHED, TCP_LISTEN) and not sk.poll(None) & POLLIN
    return isinstance(sk, UdpSock) and not sk.poll(None) & POLLIN


def watched_for_edges(file: File) -> bool:
    """Whether an epoll watches it with EPOLLET."""
    return file.hooks is not None and any(isinstance(hook, EpItem) and hook.events & EPOLLET for hook in file.hooks)
