"""Each connection has two fds, one to read and its dup to write, and both are in the epoll: an echo server that closes both at once.

When a client resets its connection, both have an event in the same batch.  The first closes both, accept gives their numbers to the
next client, and the second, which tells of the reset, ends that one's connection (corruption).  epoll_wait has copied its events; neither
close nor EPOLL_CTL_DEL takes any of them back.
"""

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

CLASS = "stale event in same batch after close, fd reused"
SEEN_IN = "joyent/libuv#968; creytiv/re#266; redis#4877"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 65536
GONE = EPOLLERR | EPOLLHUP


class Connection:
    __slots__ = ("r", "unsent", "w")

    def __init__(self, r: int, w: int) -> None:
        self.r = r
        self.w = w
        self.unsent = b""  # received, not yet sent


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)

    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    connections: dict[int, Connection] = {}  # by both numbers
    running = True
    while running:
        for fd, events in sys.epoll_wait(ep, 64):
            if fd == stop:
                running = False
            elif fd == listener:
                add(sys, ep, listener, connections)
            elif connection := connections.get(fd):
                waited = bool(connection.unsent)
                if events & GONE or not echo(sys, connection):
                    for end in (connection.r, connection.w):
                        del connections[end]
                        sys.close(end)  # bug: the other end's event may be in this batch, and accept may give its number away
                    add(sys, ep, listener, connections)  # there may be room again for one who waits
                elif bool(connection.unsent) != waited:
                    # One of the two is watched for more than its end: no room means no reading.
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, connection.r, EPOLLIN if waited else 0)
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, connection.w, 0 if waited else EPOLLOUT)
    for fd in connections:
        sys.close(fd)
    sys.close(ep)


def add(sys: Syscalls, ep: int, listener: int, connections: dict[int, Connection]) -> None:
    """Take one of those who wait, if there is room for both of its fds."""
    r = accept(sys, listener)
    if r < 0:
        return
    try:
        w = sys.dup(r)
    except OSError:
        sys.close(r)  # turned away
        return
    connections[r] = connections[w] = Connection(r, w)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, w, 0)


def echo(sys: Syscalls, connection: Connection) -> bool:
    """At most one recv and one send.  False when the connection is at its end."""
    try:
        if not connection.unsent:
            connection.unsent = sys.recv(connection.r, CHUNK)
            if not connection.unsent:
                return False  # the client's SHUT_WR, and all of it has been sent back
        connection.unsent = connection.unsent[sys.send(connection.w, connection.unsent, MSG_NOSIGNAL) :]
    except BlockingIOError:
        pass
    except OSError:
        return False  # reset
    return True


def accept(sys: Syscalls, listener: int) -> int:
    """The next connection, or -1: nobody waits, or there is no room for more."""
    try:
        return sys.accept4(listener, SOCK_NONBLOCK)[0]
    except OSError as error:
        if error.errno in FULL:
            sys.nanosleep(PAUSE_NS)  # whoever waits makes the listener readable still: a loop without a pause would spin
        return -1
