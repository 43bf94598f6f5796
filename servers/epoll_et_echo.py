"""Echo with edge-triggered epoll.

Shows the rule of edges: an edge is a fact to remember, not a permission for one call.  Each connection keeps `readable` and `writable`;
an event sets them and only EAGAIN clears them, never a short read or a partial send.  A connection that can go on stands in a queue and
gets one recv and one send a turn, so a fast client can't starve the rest, and no edge is lost by leaving early, also not when reading
stops because 64 KiB wait for a client that doesn't read.  Nothing is ever MODified.  The listener is edge-triggered too.  Connections
are closed only in the turns, after the whole batch of events is noted, so no event of a batch is stale.
"""

from collections import deque
from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    F_GETFL,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

HIGH = 65536  # read no more for a client while it has more than this to get
GONE = (EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, take the next
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now


class Connection:
    __slots__ = ("eof", "fd", "out", "queued", "readable", "writable")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.out = bytearray()  # received, not yet sent
        self.readable = False
        self.writable = True  # ADD makes an edge of it too
        self.eof = False
        self.queued = False

    def can_go_on(self) -> bool:
        return (self.readable and len(self.out) <= HIGH) or (self.writable and bool(self.out))


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLET)
    connections: dict[int, Connection] = {}
    queue: deque[Connection] = deque()  # those who can go on without an event
    pending = True  # the listener's `readable`
    full = False  # no fd left: try again later, for no edge will tell us
    while True:
        try:
            ready = sys.epoll_wait(ep, 256, 0 if queue or pending else 100 if full else -1)
        except InterruptedError:
            continue
        if full:  # a pause, or a turn in which a connection may have ended
            full, pending = False, True
        for data, events in ready:
            if data == stop:
                for fd in connections:
                    sys.close(fd)
                sys.close(ep)
                return
            if data == listener:
                pending = True
                continue
            if events & ~EPOLLOUT:
                data.readable = True
            if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
                data.writable = True
            if not data.queued and data.can_go_on():
                data.queued = True
                queue.append(data)
        if pending:
            pending, full = accept(sys, ep, listener, connections)
        for _ in range(len(queue)):
            connection = queue.popleft()
            if not turn(sys, connection):
                del connections[connection.fd]
                sys.close(connection.fd)
            elif connection.can_go_on():
                queue.append(connection)
            else:
                connection.queued = False


def turn(sys: Syscalls, connection: Connection) -> bool:
    """At most one recv and one send.  False when the connection is at its end."""
    out = connection.out
    try:
        if connection.readable and len(out) <= HIGH:
            try:
                data = sys.recv(connection.fd, 65536)
                out += data
                if not data:
                    connection.eof, connection.readable = True, False
            except BlockingIOError:
                connection.readable = False
        if out and connection.writable:
            try:
                del out[: sys.send(connection.fd, out, MSG_NOSIGNAL)]
            except BlockingIOError:
                connection.writable = False
    except InterruptedError:
        return True
    except OSError:
        return False  # reset
    return bool(out) or not connection.eof


def accept(sys: Syscalls, ep: int, listener: int, connections: dict[int, Connection]) -> tuple[bool, bool]:
    """Take some of those who wait.  Returns (there may be more, there is no room for more)."""
    for _ in range(64):
        try:
            fd, _peer = sys.accept4(listener, SOCK_NONBLOCK)
        except OSError as error:
            if error.errno in GONE:
                continue
            if error.errno == EAGAIN or error.errno in FULL:
                return False, error.errno != EAGAIN
            raise
        connection = Connection(fd)
        try:
            sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, connection)
        except OSError:  # no memory, or too many watches (epoll(7)): it is turned away
            sys.close(fd)
            return False, True
        connections[fd] = connection
    return True, False
