"""Requests and replies that are lines, sent in all the ways in which a stream may be cut; and one question, one answer, end."""

from collections.abc import Sequence

from simkernel.api import Address, Syscalls
from simkernel.kernel.choice import Choice
from simkernel.testing.contracts.base import MS, READ_SIZE, SIZES, Contract, Plan, Violation, pattern
from simkernel.uapi import AF_INET, MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, POLLOUT, SHUT_WR, SOCK_STREAM

# The longest line of a request, its newline left out.
LONGEST = 2500


def reply_to(line: bytes) -> bytes:
    """The right reply: ``5 hello`` to ``hello``."""
    return b"%d %s\n" % (len(line), line)


class Lines(Contract):
    """Each request is a line of at most 2,500 bytes; its reply is a line with their number and the bytes, ``5 hello`` to ``hello``.

    Replies come in the order of the requests, whatever pieces these came in; after the client's SHUT_WR the server answers what it has
    got and closes.  Behaviours: "turns" (a request, its reply, the next), "pipeline" (all requests at once), "split" (each request in two
    pieces, with a pause between them), "vanish" (half a request, then close).
    """

    name = "lines"
    behaviours = ("turns", "pipeline", "split", "vanish")

    def plan(self, choice: Choice, number: int) -> Plan:
        behaviour = self.behaviours[choice.pick(len(self.behaviours), "behaviour")]
        sizes = tuple(min(SIZES[choice.pick(len(SIZES), "size")], LONGEST) for _ in range(1 + choice.pick(4, "messages")))
        return Plan(number, behaviour, sizes, (0, 0, 1, 30)[choice.pick(4, "start")], (1, 0, 1, 30)[choice.pick(4, "pause")])

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        talk = Talk(sys, addr, plan)
        requests = self.requests(plan)
        want = b"".join(reply_to(line) for line in requests)
        if plan.behaviour == "vanish":
            talk.say(requests[0][: len(requests[0]) // 2 + 1])
            sys.close(talk.fd)
            return
        if plan.behaviour == "pipeline":
            talk.say(b"".join(line + b"\n" for line in requests), want)
        else:
            due = 0
            for line in requests:
                due += len(reply_to(line))
                if plan.behaviour == "split":
                    talk.say(line[: len(line) // 2], want)
                    sys.nanosleep(plan.pause_ms * MS)
                    talk.say(line[len(line) // 2 :] + b"\n", want)
                else:
                    talk.say(line + b"\n", want)
                talk.hear(want, due if plan.behaviour == "turns" else 0)
        talk.hear(want, len(want))
        talk.shut()
        talk.hear_end(want)
        sys.close(talk.fd)

    def requests(self, plan: Plan) -> Sequence[bytes]:
        """The lines of a plan, each of its own bytes, without their newlines."""
        data = pattern(plan.number, sum(plan.sizes))
        ends = [sum(plan.sizes[: i + 1]) for i in range(len(plan.sizes))]
        return [data[end - size : end] for end, size in zip(ends, plan.sizes, strict=True)]


class Question(Contract):
    """One line, one reply as in "lines", and the server closes, whatever more the client has sent: it sees the reply and a clean end.

    As HTTP does with ``Connection: close`` and a body that nobody wants.  Behaviours: "ask" (a line, and no more), "talkative" (a line,
    and more bytes of which the server wants none), "vanish" (half a line, then close).
    """

    name = "question"
    behaviours = ("ask", "talkative", "vanish")

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        talk = Talk(sys, addr, plan)
        data = pattern(plan.number, sum(plan.sizes))
        line, rest = data[: min(plan.sizes[0], LONGEST)], data[plan.sizes[0] :]
        if plan.behaviour == "vanish":
            talk.say(line[: len(line) // 2 + 1])
        else:
            want = reply_to(line)
            talk.say(line + b"\n" + (rest if plan.behaviour == "talkative" else b""), want)
            talk.hear_end(want)
        sys.close(talk.fd)


class Talk:
    """A client's connection: what it says and hears, compared with what it wants to hear.  Raises Violation."""

    def __init__(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        self.sys = sys
        self.plan = plan
        self.got = bytearray()
        self.ended = False
        self.fd = sys.socket(AF_INET, SOCK_STREAM)
        try:
            sys.connect(self.fd, addr)
        except OSError as error:
            raise Violation("corruption", f"{plan}: connect failed: {error.strerror}") from None

    def say(self, data: bytes, want: bytes = b"") -> None:
        """Send all of it, and take what comes meanwhile: else both sides could wait for each other."""
        sent = 0
        while sent < len(data):
            self.sys.poll([(self.fd, POLLOUT if self.ended else POLLIN | POLLOUT)])
            try:
                sent += self.sys.send(self.fd, data[sent:], MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Violation("corruption", f"{self.plan}: the server broke off while it sent: {error.strerror}") from None
            if sent < len(data) and not self.ended and not self._take(want, MSG_DONTWAIT):
                # It may have said all before it has heard all.
                self.ended = True
                self.hear(want, len(want))

    def hear(self, want: bytes, until: int) -> None:
        """Receive until ``until`` bytes of ``want`` have come."""
        while len(self.got) < until:
            if not self._take(want, 0):
                raise Violation("corruption", f"{self.plan}: the server closed after {len(self.got)} of {len(want)} bytes")

    def hear_end(self, want: bytes) -> None:
        """Receive the rest of ``want``, and then the end of the stream."""
        self.hear(want, len(want))
        while not self.ended:
            self.ended = not self._take(want, 0)

    def shut(self) -> None:
        """SHUT_WR."""
        try:
            self.sys.shutdown(self.fd, SHUT_WR)
        except OSError:
            # ENOTCONN: it is gone already.
            raise Violation("corruption", f"{self.plan}: the server broke off after {len(self.got)} bytes of replies") from None

    def _take(self, want: bytes, flags: int) -> bool:
        """One recv, compared with what is wanted.  False at the end of the stream."""
        at = len(self.got)
        try:
            chunk = self.sys.recv(self.fd, READ_SIZE, flags)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            raise Violation("corruption", f"{self.plan}: reset by the server after {at} of {len(want)} bytes of replies") from None
        self.got += chunk
        expected = want[at : at + len(chunk)]
        if chunk != expected:
            first = next((i for i, (a, b) in enumerate(zip(chunk, expected, strict=False)) if a != b), len(expected))
            raise Violation(
                "corruption",
                f"{self.plan}: byte {at + first} of the replies is wrong: {chunk[first : first + 16]!r}, not "
                f"{expected[first : first + 16]!r}",
            )
        return bool(chunk)
