"""What a server promises, and the clients that hold it to that.

A contract draws a plan for each client from a choice source, and plays a plan as a process of its own.  Everything here is written on
api.Syscalls, so the same clients run on both kernels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import h11

from simkernel.api import Address, Syscalls
from simkernel.kernel.choice import Choice
from simkernel.uapi import (
    AF_INET,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    SHUT_WR,
    SOCK_STREAM,
)

MS = 1_000_000
MIB = 1 << 20
READ_SIZE = 65536
# Sizes of a message, the plain one first.  On both sides of what servers like to read at once.
SIZES = (16, 1, 1000, 1300, 2500, 4096, 10_000, 70_000)
DELAYS_MS = (0, 0, 1, 30)


class Violation(Exception):
    """A client saw the contract broken: ``kind`` is the kind of failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Plan:
    """What one client does.

    ``behaviour``  "turns" (send a message, read its echo, next), "stream" (send all, shut the sending side, read meanwhile),
                   "vanish" (send and close without reading), "deaf" (send as much as fits, never read, then close)
    ``sizes``      bytes of each message; ``start_ms``, ``pause_ms`` virtual or real milliseconds before connecting and between messages
    ``read_size``  how much it reads at once
    """

    number: int
    behaviour: str
    sizes: tuple[int, ...]
    start_ms: int = 0
    pause_ms: int = 0
    read_size: int = READ_SIZE

    def __str__(self) -> str:
        what = ", ".join(f"{k} {v}" for k, v in asdict(self).items() if k not in ("number", "behaviour", "read_size") and v)
        return f"client {self.number}: {self.behaviour}, {what}"


class Contract:
    """A promise to check.  Subclasses draw plans and play them."""

    name = "contract"
    behaviours: tuple[str, ...] = ("turns",)
    max_clients = 8

    def plans(self, choice: Choice) -> list[Plan]:
        """The clients of one example: one, with one small message, when all choices are 0."""
        count = 1 + choice.pick(self.max_clients, "clients")
        return [self.plan(choice, number) for number in range(count)]

    def plan(self, choice: Choice, number: int) -> Plan:
        """One client's plan."""
        behaviour = self.behaviours[choice.pick(len(self.behaviours), "behaviour")]
        sizes = tuple(SIZES[choice.pick(len(SIZES), "size")] for _ in range(1 + choice.pick(4, "messages")))
        if behaviour == "stream" and choice.pick(24, "big") == 23:
            sizes = (MIB,)
        start = DELAYS_MS[choice.pick(len(DELAYS_MS), "start")]
        pause = DELAYS_MS[choice.pick(len(DELAYS_MS), "pause")]
        read_size = (READ_SIZE, 1000, 100)[choice.pick(3, "read-size")] if sum(sizes) < 20_000 else READ_SIZE
        return Plan(number, behaviour, sizes, start, pause, read_size)

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        """Be that client, from connect to close.  Raises Violation."""
        raise NotImplementedError


@lru_cache(maxsize=256)
def pattern(number: int, n: int) -> bytes:
    """``n`` bytes that differ between clients and along the stream, so that any mix-up shows."""
    block = b"".join(b"<%d:%d>" % (number, i) for i in range(min(n // 4 + 1, 4000)))
    return (block * (n // len(block) + 1))[:n]


class Echo(Contract):
    """Each client gets back exactly its bytes, in order; after its SHUT_WR the server finishes echoing and closes."""

    name = "echo"
    behaviours = ("turns", "turns", "stream", "vanish", "deaf")

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        try:
            sys.connect(fd, addr)
        except OSError as error:
            raise Violation("corruption", f"{plan}: connect failed: {error.strerror}") from None
        data = pattern(plan.number, sum(plan.sizes))
        if plan.behaviour == "turns":
            self._turns(sys, fd, plan, data)
        elif plan.behaviour == "stream":
            self._stream(sys, fd, plan, data)
        else:
            self._careless(sys, fd, plan, data)
        sys.close(fd)

    def _turns(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        done = 0
        for i, size in enumerate(plan.sizes):
            if i and plan.pause_ms:
                sys.nanosleep(plan.pause_ms * MS)
            message = data[done : done + size]
            if size > READ_SIZE // 4:
                # Too much to write without reading: both sides could wait for each other.
                self._pump(sys, fd, plan, message, done, shut=False)
            else:
                self._send_all(sys, fd, plan, message)
                got = 0
                while got < size:
                    got += len(self._recv(sys, fd, plan, min(plan.read_size, size - got), data, done + got))
            done += size
        sys.shutdown(fd, SHUT_WR)
        self._expect_end(sys, fd, plan, done, data)

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
                raise Violation("corruption", f"{plan}: the server broke off after {sent} bytes: {error.strerror}") from None
        if plan.behaviour == "deaf":
            sys.nanosleep(50 * MS)

    def _send_all(self, sys: Syscalls, fd: int, plan: Plan, message: bytes) -> None:
        sent = 0
        while sent < len(message):
            try:
                sent += sys.send(fd, message[sent:], MSG_NOSIGNAL)
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Violation("corruption", f"{plan}: the server broke off while it sent: {error.strerror}") from None

    def _recv(self, sys: Syscalls, fd: int, plan: Plan, n: int, data: bytes, at: int) -> bytes:
        """Receive, and compare with the bytes of ``data`` from ``at`` on."""
        try:
            got = sys.recv(fd, n)
        except ConnectionResetError:
            raise Violation("corruption", f"{plan}: reset by the server after {at} of {len(data)} bytes") from None
        if not got:
            raise Violation("corruption", f"{plan}: the server closed after {at} of {len(data)} bytes")
        self._compare(plan, got, data, at)
        return got

    def _compare(self, plan: Plan, got: bytes, data: bytes, at: int) -> None:
        want = data[at : at + len(got)]
        if got != want:
            first = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), len(want))
            raise Violation(
                "corruption",
                f"{plan}: byte {at + first} came back wrong: sent {want[first : first + 12]!r}, got {got[first : first + 12]!r}",
            )

    def _pump(self, sys: Syscalls, fd: int, plan: Plan, data: bytes, base: int, shut: bool) -> None:
        """Send and receive at the same time, as poll allows, until all has come back."""
        total = len(data)
        sent = got = 0
        whole = pattern(plan.number, sum(plan.sizes))
        while got < total:
            want = POLLIN | (POLLOUT if sent < total else 0)
            sys.poll([(fd, want)], -1)
            if sent < total:
                try:
                    sent += sys.send(fd, data[sent : sent + READ_SIZE], MSG_DONTWAIT | MSG_NOSIGNAL)
                except BlockingIOError:
                    pass
                except (ConnectionResetError, BrokenPipeError) as error:
                    raise Violation("corruption", f"{plan}: the server broke off while it sent: {error.strerror}") from None
                if sent == total and shut:
                    sys.shutdown(fd, SHUT_WR)
            try:
                chunk = sys.recv(fd, min(plan.read_size, total - got), MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                raise Violation("corruption", f"{plan}: reset by the server after {base + got} bytes") from None
            if not chunk:
                raise Violation("corruption", f"{plan}: the server closed after {base + got} of {base + total} bytes")
            self._compare(plan, chunk, whole, base + got)
            got += len(chunk)

    def _expect_end(self, sys: Syscalls, fd: int, plan: Plan, done: int, data: bytes) -> None:
        try:
            rest = sys.recv(fd, 100)
        except ConnectionResetError:
            raise Violation("corruption", f"{plan}: reset by the server instead of a clean end") from None
        if rest:
            raise Violation("corruption", f"{plan}: {len(rest)} bytes came back that it never sent: {rest[:12]!r}")


class Http(Contract):
    """HTTP/1.1 with keep-alive: GET / is answered 200, POST /echo with its own body, in order, until the client closes."""

    name = "http"
    behaviours = ("turns", "pipeline", "close", "vanish")

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        try:
            sys.connect(fd, addr)
        except OSError as error:
            raise Violation("corruption", f"{plan}: connect failed: {error.strerror}") from None
        # The first request is a GET, the others send a body that has to come back.
        bodies: list[bytes | None] = [pattern(plan.number, min(size, 20_000)) if i else None for i, size in enumerate(plan.sizes)]
        requests = [self._request(body, last=plan.behaviour == "close" and i == len(bodies) - 1) for i, body in enumerate(bodies)]
        conn = h11.Connection(h11.CLIENT)
        try:
            if plan.behaviour == "vanish":
                sys.send(fd, requests[0][: len(requests[0]) // 2], MSG_NOSIGNAL)
            elif plan.behaviour == "pipeline":
                self._exchange(sys, fd, plan, conn, requests, bodies)
            else:
                for i, (request, body) in enumerate(zip(requests, bodies, strict=True)):
                    if i and plan.pause_ms:
                        sys.nanosleep(plan.pause_ms * MS)
                    self._exchange(sys, fd, plan, conn, [request], [body])
                if plan.behaviour == "close" and sys.recv(fd, 100):
                    raise Violation("corruption", f"{plan}: bytes after the answer to a request with Connection: close")
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Violation("corruption", f"{plan}: the server broke off: {error.strerror}") from None
        sys.close(fd)

    def _request(self, body: bytes | None, last: bool) -> bytes:
        end = b"Connection: close\r\n\r\n" if last else b"\r\n"
        if body is None:
            return b"GET / HTTP/1.1\r\nHost: sim\r\n" + end
        return b"POST /echo HTTP/1.1\r\nHost: sim\r\nContent-Length: %d\r\n" % len(body) + end + body

    def _exchange(
        self, sys: Syscalls, fd: int, plan: Plan, conn: h11.Connection, requests: Sequence[bytes], bodies: Sequence[bytes | None]
    ) -> None:
        """Send while reading, so that neither side waits for the other, and check each answer."""
        out = b"".join(requests)
        sent = 0
        for number, body in enumerate(bodies):
            if conn.our_state is h11.DONE:
                conn.start_next_cycle()
            # h11 wants to know the request that an answer belongs to; the bytes on the wire are ours.
            conn.send(h11.Request(method="GET" if body is None else "POST", target="/", headers=[("Host", "sim"), ("Content-Length", "0")]))
            conn.send(h11.EndOfMessage())
            status, got = 0, bytearray()
            while True:
                try:
                    event = conn.next_event()
                except h11.RemoteProtocolError as error:
                    raise Violation("corruption", f"{plan}: the server's answer is no HTTP: {error}") from None
                if event is h11.NEED_DATA:
                    sys.poll([(fd, POLLIN | (POLLOUT if sent < len(out) else 0))], -1)
                    if sent < len(out):
                        try:
                            sent += sys.send(fd, out[sent:], MSG_DONTWAIT | MSG_NOSIGNAL)
                        except BlockingIOError:
                            pass
                    try:
                        conn.receive_data(sys.recv(fd, plan.read_size, MSG_DONTWAIT))
                    except BlockingIOError:
                        continue
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    got += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif isinstance(event, h11.ConnectionClosed):
                    raise Violation("corruption", f"{plan}: the server closed after {number} of {len(bodies)} answers")
            if status != 200:
                raise Violation("corruption", f"{plan}: answer {number} has status {status}, not 200")
            if body is not None and bytes(got) != body:
                raise Violation("corruption", f"{plan}: answer {number} has a body of {len(got)} bytes that is not the request's")


CONTRACTS: dict[str, type[Contract]] = {"echo": Echo, "http": Http}
