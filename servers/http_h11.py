"""A small HTTP/1.1 server: h11 knows the protocol, level-triggered epoll the clients.

GET / greets, POST /echo sends the body back.  Shows what TCP leaves to the server: requests come cut anywhere or several at once
(keep-alive, pipelining), answers go out in parts, nothing is read or answered for a client that has 64 KiB of answers to read, and
a body has a limit.  And how to hang up: close with unread input sends a RST, which may overtake the last answer; so after it the server
shuts down its own side only, and throws away what comes until the client closes, for two seconds at most.
"""

from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO

import h11

from simkernel.api import Syscalls
from simkernel.uapi import (
    CLOCK_MONOTONIC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    F_GETFL,
    F_SETFL,
    MSG_NOSIGNAL,
    NSEC_PER_SEC,
    O_NONBLOCK,
    SHUT_WR,
    SOCK_NONBLOCK,
)

CONTRACT = "http"  # what `simkernel check` holds this server to
HIGH = 65536  # neither read nor answer more for a client while it has more than this to get
MAX_BODY = 1 << 20
LINGER_NS = 2 * NSEC_PER_SEC
METHODS = {b"/": (b"GET", b"HEAD"), b"/echo": (b"POST",)}
GONE = (EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, take the next
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now


class Connection:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.http = h11.Connection(h11.SERVER)
        self.method = self.target = b""
        self.body = bytearray()  # of the request that is coming in
        self.out = bytearray()  # answers, not yet sent
        self.mask = EPOLLIN
        self.hungry = True  # h11 has nothing left to answer; if it has, requests must not pile up in it
        self.eof = False  # the client will send no more
        self.last = False  # no answer follows those in `out`
        self.linger_until = 0  # our side is shut down

    def turn(self, sys: Syscalls, events: int) -> bool:
        """At most one recv and one send.  False when the connection is at its end."""
        if self.linger_until:
            return bool(sys.recv(self.fd, 65536))
        if self.mask & EPOLLIN and events & ~EPOLLOUT:
            try:
                data = sys.recv(self.fd, 8192)
                self.http.receive_data(data)
                self.eof = not data
            except (BlockingIOError, InterruptedError):
                pass
        self.advance()
        if self.out:  # if requests wait inside h11, more than HIGH is here, one send leaves some, and EPOLLOUT brings us back to them
            try:
                del self.out[: sys.send(self.fd, self.out[:HIGH], MSG_NOSIGNAL)]
            except (BlockingIOError, InterruptedError):
                pass
        if self.last and not self.out:
            if self.eof:
                return False
            sys.shutdown(self.fd, SHUT_WR)
            self.linger_until = sys.clock_gettime_ns(CLOCK_MONOTONIC) + LINGER_NS
        return True

    def interest(self) -> int:
        reading = bool(self.linger_until) or (self.hungry and not self.eof and not self.last)
        return (EPOLLIN if reading else 0) | (EPOLLOUT if self.out else 0)

    def advance(self) -> None:
        """Answer what has come, as far as the client has read the answers before."""
        self.hungry = False
        while not self.last and len(self.out) <= HIGH:
            try:
                event = self.http.next_event()
            except h11.RemoteProtocolError as error:
                if self.http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    self.answer(error.error_status_hint, b"bad request\n", [("connection", "close")])
                self.last = True
                return
            if isinstance(event, h11.Request):
                self.method, self.target, self.body = event.method, event.target, bytearray()
            elif isinstance(event, h11.Data):
                self.body += event.data
                if len(self.body) > MAX_BODY:
                    self.answer(413, b"too large\n", [("connection", "close")])
            elif isinstance(event, h11.EndOfMessage):
                self.route()
            elif isinstance(event, h11.ConnectionClosed):
                self.last = True
            else:  # NEED_DATA
                self.hungry = True
                return

    def route(self) -> None:
        methods = METHODS.get(self.target.partition(b"?")[0])
        if methods is None:
            self.answer(404, b"not found\n")
        elif self.method not in methods:
            self.answer(405, b"method not allowed\n", [("allow", b", ".join(methods).decode())])
        else:
            self.answer(200, bytes(self.body) if self.method == b"POST" else b"hello from simkernel\n")

    def answer(self, status: int, body: bytes, more: list[tuple[str, str]] | None = None) -> None:
        headers = [("content-type", "text/plain"), ("content-length", str(len(body))), *(more or [])]
        self.out += self.http.send(h11.Response(status_code=status, headers=headers)) or b""
        if self.method != b"HEAD":
            self.out += self.http.send(h11.Data(data=body)) or b""
        self.out += self.http.send(h11.EndOfMessage()) or b""
        if self.http.our_state is h11.DONE:
            self.http.start_next_cycle()  # keep-alive
            self.method = b""
        else:
            self.last = True


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    connections: dict[int, Connection] = {}
    lingering: dict[int, Connection] = {}  # the oldest first

    def hang_up(fd: int) -> None:
        del connections[fd]
        lingering.pop(fd, None)
        sys.close(fd)

    full = False  # no fd left: the listener isn't watched for a while
    running = True
    while running:
        try:
            ready = sys.epoll_wait(ep, 256, 100 if full or lingering else -1)
        except InterruptedError:
            continue
        if full:  # a pause, or a turn in which a connection may have ended: try again
            full = False
            sys.epoll_ctl(ep, EPOLL_CTL_MOD, listener, EPOLLIN)
        for fd, events in ready:  # EPOLLERR and EPOLLHUP need no branch: recv or send says what they mean
            if fd == stop:
                running = False
                break
            if fd == listener:
                full = accept(sys, ep, listener, connections)
                if full:
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, listener, 0)
                continue
            connection = connections[fd]
            try:
                alive = connection.turn(sys, events)
            except (BlockingIOError, InterruptedError):
                alive = True
            except OSError:
                alive = False  # reset
            if not alive:
                hang_up(fd)
                continue
            if connection.linger_until:
                lingering[fd] = connection
            if connection.mask != (mask := connection.interest()):
                connection.mask = mask
                sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, mask)
        now = sys.clock_gettime_ns(CLOCK_MONOTONIC) if lingering else 0
        while lingering and (oldest := next(iter(lingering.values()))).linger_until <= now:
            hang_up(oldest.fd)
    for fd in connections:
        sys.close(fd)
    sys.close(ep)


def accept(sys: Syscalls, ep: int, listener: int, connections: dict[int, Connection]) -> bool:
    """Take some of those who wait; not all, for others wait too.  True if there is no room for more."""
    for _ in range(64):
        try:
            fd, _peer = sys.accept4(listener, SOCK_NONBLOCK)
        except OSError as error:
            if error.errno in GONE:
                continue
            if error.errno == EAGAIN or error.errno in FULL:
                return error.errno != EAGAIN
            raise
        try:
            sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)
        except OSError:  # no memory, or too many watches (epoll(7)): it is turned away
            sys.close(fd)
            return True
        connections[fd] = Connection(fd)
    return False
