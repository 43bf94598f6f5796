"""Echo: each client gets back exactly its bytes."""

from simkernel.api import Address, Syscalls
from simkernel.testing.contracts.base import MIB, MS, READ_SIZE, Contract, Plan, Violation, pattern
from simkernel.uapi import (
    AF_INET,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    SHUT_WR,
    SO_LINGER,
    SO_RCVBUF,
    SOCK_STREAM,
    SOL_SOCKET,
)

# struct linger {l_onoff 1, l_linger 0}: close sends a reset (socket(7)).
RESET = (1).to_bytes(4, "little") + bytes(4)
# A crowd has so many connections, and one more for each of its messages, and one more again where fds are few: more than a server has room
# for that can have ROOM more (oracles.py).  All crowds together are fewer than a backlog.
CROWD = 1
# What each of them sends at most: it has to fit into the receive buffer of a connection that is not accepted yet.
CROWD_BYTES = 1000
# A client that never reads gives up sending when there was no room for so long.
STUCK_MS = 20
# The receive buffer of those who are slow, so that their server is soon stuck.
SMALL_WINDOW = 4096


# The most that a client sends before it reads any of it back.
AT_ONCE = READ_SIZE // 4


class TurnedAway(Exception):
    """The server, which has few fds, ended this connection before it had echoed anything."""


def broken_off(plan: Plan, done: int, how: str) -> Exception:
    """What to raise when the server ended a connection on which ``done`` bytes had come back."""
    return TurnedAway() if plan.tight and not done else Violation("corruption", f"{plan}: {how}")


def sending_broke(plan: Plan, done: int, error: OSError) -> Exception:
    """The same, noticed by a send."""
    return broken_off(plan, done, f"the server broke off while it sent: {error.strerror}")


def reset_by_server(plan: Plan, at: int, data: bytes) -> Exception:
    """The same, noticed by a recv."""
    return broken_off(plan, at, f"reset by the server after {at} of {len(data)} bytes")


class Echo(Contract):
    """Each client gets back exactly its bytes, in order; after its SHUT_WR the server finishes echoing and closes.

    A client may do what real ones do, and the others are served all the same: "reset" (as "turns", but instead of reading the last
    echo it closes with a reset), "probe" (connects, and closes with a reset, as health checks do), "crowd" (many connections at one
    moment, each with a message), "torrent" (a "stream" as fast as it comes back), "early" (SHUT_WR before it has sent anything), "slow"
    ("turns" with a small receive window, and it reads only when it can't send), "silent" (never sends), "idle" ("turns", then nothing),
    "stuck" (sends as much as the server takes and never reads).
    The last three stay until the server, told to stop, has closed their connections.
    """

    name = "echo"
    memory_per_connection: int | None = 512 * 1024
    # In this order since shrinking tries the first few.
    behaviours: tuple[str, ...] = (
        "turns",
        "slow",
        "reset",
        "idle",
        "stuck",
        "stream",
        "crowd",
        "torrent",
        "vanish",
        "deaf",
        "silent",
        "early",
        "probe",
        "turns",
    )
    stays = frozenset({"idle", "silent", "stuck"})
    crowd = "crowd"

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        if plan.behaviour == "crowd":
            self._crowd(sys, addr, plan)
            return
        fd = self._connect(sys, addr, plan)
        data = pattern(plan.number, sum(plan.sizes))
        try:
            if plan.behaviour in ("turns", "idle", "reset", "slow"):
                self._turns(sys, fd, plan, data)
            elif plan.behaviour in ("stream", "torrent"):
                self._stream(sys, fd, plan, data)
            elif plan.behaviour == "early":
                self._shut(sys, fd, plan, 0)
                self._expect_end(sys, fd, plan, 0, b"")
            elif plan.behaviour == "stuck":
                self._stuck(sys, fd, pattern(plan.number, MIB))
            elif plan.behaviour in ("vanish", "deaf"):
                self._careless(sys, fd, plan, data)
        except TurnedAway:
            pass
        if plan.behaviour in ("reset", "probe"):
            sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, RESET)
        # The end of the client's process closes it.

    def _connect(self, sys: Syscalls, addr: Address, plan: Plan) -> int:
        try:
            return self.connect(sys, addr, plan)
        except OSError as error:
            raise Violation("corruption", f"{plan}: connect failed: {error.strerror}") from None

    def _crowd(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        fds = [self._connect(sys, addr, plan) for _ in range(CROWD + plan.tight + len(plan.sizes))]
        data = pattern(plan.number, min(plan.sizes[0], CROWD_BYTES))
        if plan.pause_ms:
            sys.nanosleep(plan.pause_ms * MS)
        for fd in fds:
            try:
                self._send_all(sys, fd, plan, data)
            except TurnedAway:
                # Its recv will tell.
                pass
        # In the order in which they connected: a server that has room for some only serves the others as these end.
        for fd in fds:
            try:
                got = 0
                while got < len(data):
                    got += len(self._recv(sys, fd, plan, len(data) - got, data, got))
            except TurnedAway:
                pass
            sys.close(fd)

    def connect(self, sys: Syscalls, addr: Address, plan: Plan) -> int:
        """A connected socket."""
        fd = sys.socket(AF_INET, SOCK_STREAM)
        if plan.behaviour in ("stuck", "slow"):
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, SMALL_WINDOW)
        sys.connect(fd, addr)
        return fd

    def _turns(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        send, recv, pause_ms, read_size = sys.send, sys.recv, plan.pause_ms, plan.read_size
        slow, reset = plan.behaviour == "slow", plan.behaviour == "reset"
        done = 0
        sizes = plan.sizes
        if not pause_ms and not slow and not reset and max(sizes) <= min(AT_ONCE, read_size):
            done = self._small_turns(sys, fd, plan, data)
            sizes = ()
        for size in sizes:
            if pause_ms and done:
                sys.nanosleep(pause_ms * MS)
            message = data[done : done + size]
            if slow or size > AT_ONCE:
                # Too much to write without reading: both sides could wait for each other.
                self._pump(sys, fd, plan, message, done, shut=False)
                done += size
                continue
            try:
                sent = send(fd, message, MSG_NOSIGNAL)
            except (ConnectionResetError, BrokenPipeError) as error:
                raise sending_broke(plan, done, error) from None
            if sent < size:
                self._send_all(sys, fd, plan, message[sent:], done)
            if reset and done + size == len(data):
                return
            try:
                chunk = recv(fd, size if size < read_size else read_size)
            except ConnectionResetError:
                raise reset_by_server(plan, done, data) from None
            if chunk != message:
                self._part(sys, fd, plan, chunk, size, data, done)
            done += size
        if plan.behaviour == "idle":
            return
        self._shut(sys, fd, plan, done)
        self._expect_end(sys, fd, plan, done, data)

    def _small_turns(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> int:
        """Turns of messages that are sent and received with one call each, as a rule: most of what clients do, so no look-up too many."""
        send, recv = sys.send, sys.recv
        done = 0
        for size in plan.sizes:
            message = data[done : done + size]
            try:
                sent = send(fd, message, MSG_NOSIGNAL)
            except (ConnectionResetError, BrokenPipeError) as error:
                raise sending_broke(plan, done, error) from None
            if sent < size:
                self._send_all(sys, fd, plan, message[sent:], done)
            try:
                chunk = recv(fd, size)
            except ConnectionResetError:
                raise reset_by_server(plan, done, data) from None
            if chunk != message:
                self._part(sys, fd, plan, chunk, size, data, done)
            done += size
        return done

    def _part(self, sys: Syscalls, fd: int, plan: Plan, chunk: bytes, size: int, data: bytes, done: int) -> None:
        """``chunk`` is a part of the message of ``size`` bytes that begins at ``done``, or something is wrong: receive the rest."""
        self._check(plan, chunk, data, done)
        got = len(chunk)
        while got < size:
            got += len(self._recv(sys, fd, plan, min(plan.read_size, size - got), data, done + got))

    def _stream(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        self._pump(sys, fd, plan, data, 0, shut=True)
        self._expect_end(sys, fd, plan, len(data), data)

    def _careless(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        """Send without ever reading; the server must survive it."""
        sent = 0
        while sent < len(data):
            try:
                sent += sys.send(fd, data[sent:], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except (ConnectionResetError, BrokenPipeError) as error:
                raise broken_off(plan, 0, f"the server broke off after {sent} bytes: {error.strerror}") from None
        if plan.behaviour == "deaf":
            sys.nanosleep(50 * MS)

    def _stuck(self, sys: Syscalls, fd: int, data: bytes) -> None:
        """Send as long as there is room, and never read.  What the server does with such a client is its own affair."""
        sent = 0
        while sent < len(data):
            try:
                sent += sys.send(fd, data[sent:], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                if not sys.poll([(fd, POLLOUT)], STUCK_MS):
                    break
            except OSError:
                break

    def _send_all(self, sys: Syscalls, fd: int, plan: Plan, message: bytes, done: int = 0) -> None:
        left = message
        while left:
            try:
                left = left[sys.send(fd, left, MSG_NOSIGNAL) :]
            except (ConnectionResetError, BrokenPipeError) as error:
                raise sending_broke(plan, done, error) from None

    def _recv(self, sys: Syscalls, fd: int, plan: Plan, n: int, data: bytes, at: int) -> bytes:
        """Receive, and compare with the bytes of ``data`` from ``at`` on."""
        try:
            got = sys.recv(fd, n)
        except ConnectionResetError:
            raise reset_by_server(plan, at, data) from None
        self._check(plan, got, data, at)
        return got

    def _check(self, plan: Plan, got: bytes, data: bytes, at: int) -> None:
        """Raise what is wrong with what was received, if anything is."""
        if not got:
            raise broken_off(plan, at, f"the server closed after {at} of {len(data)} bytes")
        if not data.startswith(got, at):
            raise self._wrong(plan, got, data, at)

    def _wrong(self, plan: Plan, got: bytes, data: bytes, at: int) -> Violation:
        """What to raise when what was received is not what ``data`` has from ``at`` on."""
        want = data[at : at + len(got)]
        first = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), len(want))
        return Violation(
            "corruption",
            f"{plan}: byte {at + first} came back wrong: sent {want[first : first + 12]!r}, got {got[first : first + 12]!r}",
        )

    def _pump(self, sys: Syscalls, fd: int, plan: Plan, data: bytes, base: int, shut: bool) -> None:
        """Send and receive at the same time until all has come back."""
        total = len(data)
        sent = got = 0
        whole = pattern(plan.number, sum(plan.sizes))
        while got < total:
            if sent < total:
                try:
                    sent += sys.send(fd, data[sent : sent + READ_SIZE], MSG_DONTWAIT | MSG_NOSIGNAL)
                except BlockingIOError:
                    sys.poll([(fd, POLLIN | POLLOUT)], -1)
                except (ConnectionResetError, BrokenPipeError) as error:
                    raise broken_off(plan, base + got, f"the server broke off while it sent: {error.strerror}") from None
                else:
                    if sent == total and shut:
                        self._shut(sys, fd, plan, base + got)
                    if plan.behaviour == "slow":
                        continue
            try:
                chunk = sys.recv(fd, min(plan.read_size, total - got), MSG_DONTWAIT if sent < total else 0)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                raise broken_off(plan, base + got, f"reset by the server after {base + got} bytes") from None
            if not chunk:
                raise broken_off(plan, base + got, f"the server closed after {base + got} of {base + total} bytes")
            if not whole.startswith(chunk, base + got):
                raise self._wrong(plan, chunk, whole, base + got)
            got += len(chunk)

    def _shut(self, sys: Syscalls, fd: int, plan: Plan, done: int) -> None:
        try:
            sys.shutdown(fd, SHUT_WR)
        except OSError:
            # ENOTCONN: it is gone already.
            raise broken_off(plan, done, f"the server broke off after {done} bytes") from None

    def _expect_end(self, sys: Syscalls, fd: int, plan: Plan, done: int, data: bytes) -> None:
        try:
            rest = sys.recv(fd, 100)
        except ConnectionResetError:
            raise broken_off(plan, done, "reset by the server instead of a clean end") from None
        if rest:
            raise Violation("corruption", f"{plan}: {len(rest)} bytes came back that it never sent: {rest[:12]!r}")
