"""A level-triggered echo server that goes on when accept fails for want of an fd.

The connection stays in the backlog, so the listener stays readable, and epoll_wait reports it at once, again and again: all of the
processor, and nobody gets in before some other client leaves (spin).
"""

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

CLASS = "EMFILE accept spin"
SEEN_IN = "joyent/libuv#690; bun#32705; node#45242"

CHUNK = 65536


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
                try:
                    conn, _peer = sys.accept4(listener, SOCK_NONBLOCK)
                except OSError:
                    continue  # bug: for want of an fd nothing was accepted, and the listener is as ready as before
                unsent[conn] = b""
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN)
            else:
                waited = bool(unsent[fd])
                if not echo(sys, fd, unsent):
                    del unsent[fd]
                    sys.close(fd)
                elif bool(unsent[fd]) != waited:
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN if waited else EPOLLOUT)
    for fd in unsent:
        sys.close(fd)
    sys.close(ep)


def echo(sys: Syscalls, fd: int, unsent: dict[int, bytes]) -> bool:
    """At most one recv and one send.  False when the connection is at its end."""
    try:
        if not unsent[fd]:
            unsent[fd] = sys.recv(fd, CHUNK)
            if not unsent[fd]:
                return False  # the client's SHUT_WR, and all of it has been sent back
        unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL) :]
    except BlockingIOError:
        pass
    except OSError:
        return False  # reset
    return True
