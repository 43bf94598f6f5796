"""An echo server on a tiny loop in which a receive is an operation: it puts a callback on the fd, which gives the bytes to whoever waits.

After a while without bytes the server cancels the receive (to look after idle connections, say) and starts another.  The cancelled one
leaves its callback on the fd, in front of the new one's: it takes the next bytes, and gives them to nobody (hang).
"""

from collections import deque
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

CLASS = "cancelled operation leaves callback on fd"
SEEN_IN = "cpython#74250"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 65536
IDLE_MS = 10


class Receive:
    """An operation: receive once on ``fd``."""

    def __init__(self, readers: dict[int, deque["Receive"]], fd: int) -> None:
        self.readers = readers
        self.fd = fd
        self.cancelled = False
        readers[fd].append(self)

    def cancel(self) -> None:
        self.cancelled = True  # bug: the callback stays, and the next bytes are its


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    readers: dict[int, deque[Receive]] = {}  # the callbacks of each connection: the first gets the next bytes
    unsent: dict[int, bytes] = {}  # each connection, and the bytes it has still to get
    running = busy = True
    while running:
        ready = sys.epoll_wait(ep, 64, IDLE_MS if busy else -1)
        busy = bool(ready)
        if not busy:
            for fd, waiting in readers.items():
                if waiting and not unsent[fd]:
                    waiting[-1].cancel()
                    Receive(readers, fd)
        for fd, _ in ready:
            if fd == stop:
                running = False
            elif fd == listener:
                conn = accept(sys, listener)
                if conn >= 0:
                    unsent[conn] = b""
                    readers[conn] = deque()
                    Receive(readers, conn)
                    sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN)
            else:
                waited = bool(unsent[fd])
                if not echo(sys, fd, unsent, readers):
                    del unsent[fd], readers[fd]
                    sys.close(fd)
                elif bool(unsent[fd]) != waited:
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN if waited else EPOLLOUT)
    for fd in unsent:
        sys.close(fd)
    sys.close(ep)


def echo(sys: Syscalls, fd: int, unsent: dict[int, bytes], readers: dict[int, deque[Receive]]) -> bool:
    """At most one recv and one send.  False when the connection is at its end."""
    try:
        if not unsent[fd]:
            data = sys.recv(fd, CHUNK)
            receive = readers[fd].popleft()
            if not data:
                return False  # the client's SHUT_WR, and all of it has been sent back
            if receive.cancelled:
                return True  # nobody wants the bytes any more
            unsent[fd] = data
            Receive(readers, fd)
        unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL) :]
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
