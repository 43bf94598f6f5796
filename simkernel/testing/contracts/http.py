"""HTTP/1.1, by h11."""

from collections.abc import Sequence

import h11

from simkernel.api import Address, Syscalls
from simkernel.testing.contracts.base import MS, Contract, Plan, Violation, pattern
from simkernel.uapi import AF_INET, MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, POLLOUT, SOCK_STREAM


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
