"""Echo with threads that share one epoll.

Shows EPOLLONESHOT: an event disarms its entry, so the thread that gets it owns the connection until it re-arms it with MOD (which looks
again, so what came in between isn't lost) or closes it.  No lock is needed.  The order matters at both ends: a connection is complete
before ADD and left alone after it, for another thread may serve or even end it at once; and it is out of the table before close, for
afterwards its number may be another thread's new connection.  The listener is ONESHOT too: one thread accepts at a time.
`stop` is plain level-triggered, and wakes all.
"""

from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    F_GETFL,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

THREADS = 4
GONE = (EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, take the next
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now


class Connection:
    __slots__ = ("fd", "unsent")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.unsent = b""  # received, not yet sent; at most 64 KiB, for nothing is read before it is gone


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLONESHOT)
    connections: dict[int, Connection] = {}  # set and popped by any thread: both are atomic in Python
    tids: list[int] = []
    for _ in range(THREADS):
        try:
            tids.append(sys.thread(work, ep, listener, stop, connections))
        except OSError:
            if not tids:
                raise
            break  # fewer will do
    for tid in tids:
        sys.join(tid)
    for fd in connections:  # nobody else is left
        sys.close(fd)
    sys.close(ep)


def work(sys: Syscalls, ep: int, listener: int, stop: int, connections: dict[int, Connection]) -> None:
    full = False  # no fd left: this thread holds the listener, and re-arms it after a pause
    while True:
        try:
            ready = sys.epoll_wait(ep, 8, 100 if full else -1)  # few: what one thread takes, the others can't
        except InterruptedError:
            continue
        if full:
            full = False
            sys.epoll_ctl(ep, EPOLL_CTL_MOD, listener, EPOLLIN | EPOLLONESHOT)
        for data, _ in ready:
            if data == stop:
                return
            if data == listener:
                full = accept(sys, ep, listener, connections)
                if not full:
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, listener, EPOLLIN | EPOLLONESHOT)
                continue
            fd = data.fd
            if echo(sys, data):
                sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, (EPOLLOUT if data.unsent else EPOLLIN) | EPOLLONESHOT, data)
            else:
                connections.pop(fd)
                sys.close(fd)


def echo(sys: Syscalls, connection: Connection) -> bool:
    """At most one recv and one send.  False when the connection is at its end."""
    try:
        if not connection.unsent:
            connection.unsent = sys.recv(connection.fd, 65536)
            if not connection.unsent:
                return False  # the client's SHUT_WR, and all of it has been sent back
        sent = sys.send(connection.fd, connection.unsent, MSG_NOSIGNAL)
        connection.unsent = connection.unsent[sent:]
    except (BlockingIOError, InterruptedError):
        pass
    except OSError:
        return False  # reset
    return True


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
        connections[fd] = connection = Connection(fd)
        try:
            sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, connection)
        except OSError:  # no memory, or too many watches (epoll(7)): it is turned away
            connections.pop(fd)
            sys.close(fd)
            return True
    return False
