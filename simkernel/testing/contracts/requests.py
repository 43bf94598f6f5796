"""Requests and their replies: a contract to subclass for a protocol of one's own.

class Upper(RequestReply):
    name = "upper"
    memory_per_connection = 64 * 1024

    def request(self, i):
        return b"hello %d\\n" % i

    def check(self, request, reply):
        return reply == request.upper()

report = check(serve, contract=Upper())
"""

from simkernel.api import Address, Syscalls
from simkernel.kernel.choice import Choice
from simkernel.kernel.syscalls import SimSyscalls
from simkernel.testing.contracts.base import DELAYS_MS, MS, READ_SIZE, Contract, Plan, Violation
from simkernel.uapi import AF_INET, CLOCK_MONOTONIC, MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, POLLOUT, SHUT_WR, SOCK_STREAM

# At most so many requests of one client.
MOST = 4
# How long an idle client lets half a request lie, in times of what others may wait.
PATIENCE = 3
# Replies are read a byte at a time only where a plan's requests are few bytes.
SMALL = 500


class RequestReply(Contract):
    """Each request gets its own reply, in the order of the requests, whatever pieces they come in; after SHUT_WR the server closes.

    Subclasses say what a request is, ``request(i)``; whether a reply is right, ``check(request, reply)``; and where a reply ends: with
    the bytes ``end``, or as ``take(data)`` says.  Behaviours: "turns" (a request, its reply, the next), "pipeline" (all requests at once),
    "split" (each request in two pieces with a pause between), "idle" (half a request, a long pause, the rest), "vanish" (half a request,
    then close).

    ``within_ns`` is how long a client may wait for a reply in virtual time, while others idle: more is "starvation"; None: no limit.  On
    the real kernel, where it would depend on how busy the machine is, and over a network it is not judged.  ``memory_per_connection`` and
    ``served_within_ns`` are Contract's.
    """

    name = "request-reply"
    behaviours = ("turns", "pipeline", "split", "idle", "vanish")
    end = b"\n"
    within_ns: int | None = 300 * MS

    def request(self, i: int) -> bytes:
        """The bytes of a request; ``i`` is another for each request of an example."""
        raise NotImplementedError

    def check(self, request: bytes, reply: bytes) -> bool:
        """Whether ``reply`` is right.  An AssertionError or a Violation says more than False."""
        raise NotImplementedError

    def take(self, data: bytes) -> int:
        """How many bytes of ``data`` are its first whole reply; 0 when it is not there yet."""
        return data.find(self.end) + len(self.end) if self.end in data else 0

    def plan(self, choice: Choice, number: int) -> Plan:
        behaviour = self.behaviours[choice.pick(len(self.behaviours), "behaviour")]
        count = 1 + choice.pick(MOST, "messages")
        sizes = tuple(len(self.request(number * MOST + i)) for i in range(count))
        start = DELAYS_MS[choice.pick(len(DELAYS_MS), "start")]
        pause = DELAYS_MS[choice.pick(len(DELAYS_MS), "pause")]
        if behaviour == "idle":
            pause = PATIENCE * (self.within_ns or 100 * MS) // MS
        read_size = (READ_SIZE, 100, 1)[choice.pick(3, "read-size")] if sum(sizes) < SMALL else READ_SIZE
        return Plan(number, behaviour, sizes, start, pause, read_size)

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        try:
            sys.connect(fd, addr)
        except OSError as error:
            raise Violation("corruption", f"{plan}: connect failed: {error.strerror}") from None
        requests = [self.request(plan.number * MOST + i) for i in range(len(plan.sizes))]
        talk = _Talk(sys, fd, plan, self)
        if plan.behaviour == "vanish":
            talk.exchange(requests[0][: len(requests[0]) // 2], [])
            sys.close(fd)
            return
        if plan.behaviour == "pipeline":
            talk.exchange(b"".join(requests), requests)
        else:
            for i, request in enumerate(requests):
                rest = request
                if plan.behaviour in ("split", "idle"):
                    talk.exchange(request[: len(request) // 2], [])
                    rest = request[len(request) // 2 :]
                if plan.pause_ms and (i or rest is not request):
                    sys.nanosleep(plan.pause_ms * MS)
                talk.exchange(rest, [request])
        sys.shutdown(fd, SHUT_WR)
        talk.expect_end()
        sys.close(fd)


class _Talk:
    """A client's connection, and what has come that belongs to no reply yet."""

    def __init__(self, sys: Syscalls, fd: int, plan: Plan, contract: RequestReply) -> None:
        self.sys = sys
        self.fd = fd
        self.plan = plan
        self.contract = contract
        self.data = b""

    def exchange(self, out: bytes, requests: list[bytes]) -> None:
        """Send ``out``, reading meanwhile so that neither side waits for the other, until all ``requests`` are answered."""
        sys, sent, answered = self.sys, 0, 0
        since = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        while sent < len(out) or answered < len(requests):
            sys.poll([(self.fd, POLLIN | (POLLOUT if sent < len(out) else 0))])
            if sent < len(out):
                try:
                    sent += sys.send(self.fd, out[sent:], MSG_DONTWAIT | MSG_NOSIGNAL)
                except BlockingIOError:
                    pass
                except (ConnectionResetError, BrokenPipeError) as error:
                    raise Violation("corruption", f"{self.plan}: the server broke off while it sent: {error.strerror}") from None
            if not self._receive(MSG_DONTWAIT):
                raise Violation("corruption", f"{self.plan}: the server closed, and {len(requests) - answered} requests have no reply")
            while answered < len(requests) and (n := self.contract.take(self.data)):
                reply, self.data = self.data[:n], self.data[n:]
                self._judge(requests[answered], reply)
                answered += 1
        limit = self.contract.within_ns
        waited = sys.clock_gettime_ns(CLOCK_MONOTONIC) - since
        if requests and limit is not None and waited > limit and isinstance(sys, SimSyscalls) and len(sys.nets) == 1:
            raise Violation("starvation", f"{self.plan}: waited {waited / MS:g} ms for a reply, more than {limit / MS:g} ms")

    def expect_end(self) -> None:
        """Nothing more comes but the end of the stream."""
        while not self.data and self._receive(0):
            pass
        if self.data:
            raise Violation("corruption", f"{self.plan}: {len(self.data)} bytes that belong to no reply: {self.data[:16]!r}")

    def _receive(self, flags: int) -> bool:
        """One recv.  False at the end of the stream."""
        try:
            chunk = self.sys.recv(self.fd, self.plan.read_size, flags)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            raise Violation("corruption", f"{self.plan}: reset by the server") from None
        self.data += chunk
        return bool(chunk)

    def _judge(self, request: bytes, reply: bytes) -> None:
        try:
            right, said = self.contract.check(request, reply), ""
        except AssertionError as error:
            right, said = False, f": {error}"
        if not right:
            raise Violation("corruption", f"{self.plan}: {request[:40]!r} was answered {reply[:40]!r}{said}")
