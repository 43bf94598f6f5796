"""An edge-triggered echo server that goes on with a client until there is nothing more to read, as the rule of edges wants it.

A fast client sends while its last bytes are being echoed, so EAGAIN does not come as long as it likes; the others, and whoever wants to
connect, wait for all that time (starvation).
"""

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

CLASS = "ET drain loop starves others"
SEEN_IN = "twitter/twemproxy#416; dabeaz/curio#106; gnet#599"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 1024


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
    """False when the connection is at its end."""
    try:
        while True:  # bug: a peer that is fast enough keeps us here for as long as it likes
            if not unsent[fd]:
                unsent[fd] = sys.recv(fd, CHUNK)
                if not unsent[fd]:
                    return False  # the client's SHUT_WR, and all of it has been sent back
            unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL) :]
    except BlockingIOError:
        return True  # whichever it was, an edge will come
    except OSError:
        return False  # reset


def accept(sys: Syscalls, listener: int) -> int:
    """The next connection, or -1: nobody waits, or there is no room for more."""
    try:
        return sys.accept4(listener, SOCK_NONBLOCK)[0]
    except OSError as error:
        if error.errno in FULL:
            sys.nanosleep(PAUSE_NS)  # whoever waits makes the listener readable still: a loop without a pause would spin
        return -1
