"""An edge-triggered echo server that saves a call: a read that gives less than was asked for has emptied the socket.

epoll(7) says so, and of data it is true.  But the end of the stream that has come with the last bytes is no byte: it is still to be
read, it was part of the same edge, and no other will come.  The connection is never closed, and its client waits for that (hang).
"""

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

CLASS = "short-read = drained assumption"
SEEN_IN = "netty#7788"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 4096
ROUNDS = 16


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)

    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    unsent: dict[int, bytes] = {}  # each connection, and the bytes it has still to get
    running = True
    while running:
        for fd, _ in sys.epoll_wait(ep, 64):
            if fd == stop:
                running = False
            elif fd == listener:
                conn = accept(sys, listener)
                if conn >= 0:
                    unsent[conn] = b""
                    sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN | EPOLLOUT | EPOLLET)
            elif not echo(sys, ep, fd, unsent):
                del unsent[fd]
                sys.close(fd)
    for fd in unsent:
        sys.close(fd)
    sys.close(ep)


def echo(sys: Syscalls, ep: int, fd: int, unsent: dict[int, bytes]) -> bool:
    """Some rounds of recv and send.  False when the connection is at its end."""
    try:
        for _ in range(ROUNDS):
            short = False
            if not unsent[fd]:
                unsent[fd] = sys.recv(fd, CHUNK)
                if not unsent[fd]:
                    return False  # the client's SHUT_WR, and all of it has been sent back
                short = len(unsent[fd]) < CHUNK
            unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL) :]
            if short and not unsent[fd]:
                return True  # bug: the end of the stream may be there, and was in the same edge
    except BlockingIOError:
        return True  # whichever it was, an edge will come
    except OSError:
        return False  # reset
    sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT | EPOLLET)  # not at the end yet: an event behind those of the others
    return True


def accept(sys: Syscalls, listener: int) -> int:
    """The next connection, or -1: nobody waits, or there is no room for more."""
    try:
        return sys.accept4(listener, SOCK_NONBLOCK)[0]
    except OSError as error:
        if error.errno in FULL:
            sys.nanosleep(PAUSE_NS)  # whoever waits makes the listener readable still: a loop without a pause would spin
        return -1
