"""Echo by a server whose patience has an end."""

from simkernel.api import Address, Syscalls
from simkernel.testing.contracts.base import MIB, MS, READ_SIZE, Plan, Violation, pattern
from simkernel.testing.contracts.echo import Echo
from simkernel.testing.contracts.flood import SMALL, STUCK_MS, congested
from simkernel.uapi import MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, POLLOUT

# Milliseconds between two reads of a leisurely client.
SLOW_MS = 200
# How much a lazy client sends, and for how long it sleeps then.
LAZY_SIZE = 150_000
LAZY_MS = 700


class Patience(Echo):
    """Echo; a client that neither sends nor takes anything is cut off, after 500 ms at the earliest and 1,200 ms at the latest.

    Whoever is slower than that gets all the same exactly its bytes, and whoever is cut off holds a beginning of them.  Behaviours:
    "turns" of Echo, "leisurely" (reads all there is, and sleeps 200 ms), "quiet" (one message, and no more), "lazy" (sends 150 kB,
    and reads nothing for 700 ms, which the server may bear or not), "congested" (sends until nothing moves, and reads nothing).
    """

    name = "patience"
    # On a network a partition, or a lost segment, is longer than this patience.
    profiles = ("linux", "posix")
    behaviours = ("turns", "turns", "leisurely", "quiet", "lazy", "congested")
    stays = frozenset()
    crowd = ""
    within_ms = 1200
    send_buffer = SMALL

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.behaviour == "turns":
            super().play(sys, addr, plan)
            return
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        if plan.behaviour in ("lazy", "congested"):
            fd = congested(sys, addr, plan)
            self._lazy(sys, fd, plan) if plan.behaviour == "lazy" else self._congested(sys, fd, plan)
        else:
            fd = self._connect(sys, addr, plan)
            data = pattern(plan.number, sum(plan.sizes))
            if plan.behaviour == "leisurely":
                self._leisurely(sys, fd, plan, data)
            else:
                message = data[: min(plan.sizes[0], 1000)]
                self._send_all(sys, fd, plan, message)
                self._expect_cut(sys, fd, plan, message, self.within_ms)
        sys.close(fd)

    def _leisurely(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
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

    def _lazy(self, sys: Syscalls, fd: int, plan: Plan) -> None:
        data = pattern(plan.number, LAZY_SIZE)
        sent = sys.send(fd, data, MSG_DONTWAIT | MSG_NOSIGNAL)
        sys.nanosleep(LAZY_MS * MS)
        got = 0
        while got < sent and (chunk := self._take(sys, fd)):
            if not data.startswith(chunk, got):
                raise self._wrong(plan, chunk, data, got)
            got += len(chunk)

    def _congested(self, sys: Syscalls, fd: int, plan: Plan) -> None:
        data = pattern(plan.number, MIB + 100)
        sent = 0
        while sent < MIB:
            try:
                sent += sys.send(fd, data[sent:MIB], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Violation("corruption", f"{plan}: the server broke off while it sent: {error.strerror}") from None
            if not sys.poll([(fd, POLLOUT)], STUCK_MS):
                break
        if not sys.poll([(fd, 0)], self.within_ms):
            # No reset has come: has the end, behind all that is still to be read?
            try:
                sent += sys.send(fd, data[sent : sent + 100], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                raise self._kept(plan) from None
            except (ConnectionResetError, BrokenPipeError):
                pass
        self._expect_cut(sys, fd, plan, data, STUCK_MS)

    def _expect_cut(self, sys: Syscalls, fd: int, plan: Plan, data: bytes, within_ms: int) -> None:
        """Take what still comes, a beginning of ``data``, until the end, with no pause longer than ``within_ms``."""
        got = 0
        while sys.poll([(fd, POLLIN)], within_ms):
            chunk = self._take(sys, fd)
            if not chunk:
                return
            if not data.startswith(chunk, got):
                raise self._wrong(plan, chunk, data, got)
            got += len(chunk)
        raise self._kept(plan)

    def _take(self, sys: Syscalls, fd: int) -> bytes:
        """Some bytes, or none at the end, which a reset is, too."""
        try:
            return sys.recv(fd, READ_SIZE)
        except ConnectionResetError:
            return b""

    def _kept(self, plan: Plan) -> Violation:
        return Violation("leak", f"{plan}: it neither sent nor took anything for {self.within_ms} ms, and the server keeps the connection")
