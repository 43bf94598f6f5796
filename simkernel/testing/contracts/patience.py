"""Echo by a server whose patience has an end."""

from simkernel.api import Address, Syscalls
from simkernel.testing.contracts.base import MIB, MS, READ_SIZE, Plan, Violation, pattern
from simkernel.testing.contracts.echo import Echo
from simkernel.uapi import AF_INET, MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, POLLOUT, SO_RCVBUF, SOCK_STREAM, SOL_SOCKET

# Milliseconds between two reads of a slow client, and for which nothing moves before a client calls itself stuck.
SLOW_MS = 200
STUCK_MS = 100
# The receive buffer of who takes nothing.
SMALL = 4608


class Patience(Echo):
    """Echo; a client that neither sends nor takes anything is cut off, after 500 ms at the earliest and 2,000 ms at the latest.

    Whoever is slower than that gets all the same exactly its bytes, and whoever is cut off holds a beginning of them.  Behaviours:
    "turns" of Echo, "slow" (reads all there is, and sleeps 200 ms), "silent" (one message, and no more), "congested" (sends until nothing
    moves, and reads nothing).
    """

    name = "patience"
    behaviours = ("turns", "turns", "slow", "silent", "congested")
    within_ms = 2000

    def connect(self, sys: Syscalls, addr: Address, plan: Plan) -> int:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        if plan.behaviour == "congested":
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, SMALL)
        sys.connect(fd, addr)
        return fd

    def _careless(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        if plan.behaviour == "slow":
            self._slow(sys, fd, plan, data)
        elif plan.behaviour == "silent":
            message = data[: min(plan.sizes[0], 1000)]
            self._send_all(sys, fd, plan, message)
            self._expect_cut(sys, fd, plan, message, self.within_ms)
        else:
            self._congested(sys, fd, plan)

    def _slow(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        sent = got = 0
        while got < len(data):
            try:
                while sent < len(data):
                    sent += sys.send(fd, data[sent:], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Violation("corruption", f"{plan}: the server broke off while it sent: {error.strerror}") from None
            sys.nanosleep(SLOW_MS * MS)
            while got < len(data) and sys.poll([(fd, POLLIN)], 0):
                got += len(self._recv(sys, fd, plan, READ_SIZE, data, got))

    def _congested(self, sys: Syscalls, fd: int, plan: Plan) -> None:
        data = pattern(plan.number, MIB)
        sent = 0
        while sent < len(data):
            try:
                sent += sys.send(fd, data[sent:], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Violation("corruption", f"{plan}: the server broke off while it sent: {error.strerror}") from None
            if sent < len(data) and not sys.poll([(fd, POLLOUT)], STUCK_MS):
                break
        if not sys.poll([(fd, 0)], self.within_ms):
            # No reset has come: has the end, behind all that is still to be read?
            try:
                sent += sys.send(fd, data[sent : sent + 100] or data[:100], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                raise self._kept(plan) from None
            except (ConnectionResetError, BrokenPipeError):
                pass
        self._expect_cut(sys, fd, plan, data, STUCK_MS)

    def _expect_cut(self, sys: Syscalls, fd: int, plan: Plan, data: bytes, within_ms: int) -> None:
        """Take what still comes, a beginning of ``data``, until the end or a reset, none of which may take longer than ``within_ms``."""
        got = 0
        while sys.poll([(fd, POLLIN)], within_ms):
            try:
                chunk = sys.recv(fd, READ_SIZE)
            except ConnectionResetError:
                return
            if not chunk:
                return
            self._compare(plan, chunk, data, got)
            got += len(chunk)
        raise self._kept(plan)

    def _kept(self, plan: Plan) -> Violation:
        return Violation("leak", f"{plan}: it neither sent nor took anything for {self.within_ms} ms, and the server keeps the connection")
