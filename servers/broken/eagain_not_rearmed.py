"""An echo server that arms each connection for one event (EPOLLONESHOT), and does not arm it again when the event was for nothing.

An event is a hint.  Here a connection with bytes still to send is watched for both directions; when it is writable the rest is sent, and
the recv that follows finds nothing: EAGAIN.  The entry stays disarmed, and what the client sends next is never read (hang).
"""

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

CLASS = "spurious readiness: EAGAIN after event not re-armed"
SEEN_IN = "nginx/unit#164"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000
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
                conn = accept(sys, listener)
                if conn >= 0:
                    unsent[conn] = b""
                    sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN | EPOLLONESHOT)

            elif not echo(sys, ep, fd, unsent):
                del unsent[fd]
                sys.close(fd)
    for fd in unsent:
        sys.close(fd)
    sys.close(ep)


def echo(sys: Syscalls, ep: int, fd: int, unsent: dict[int, bytes]) -> bool:
    """Send what is left, and one recv and send if nothing is.  False when the connection is at its end."""
    try:
        if unsent[fd]:
            unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL) :]
        if not unsent[fd]:
            unsent[fd] = sys.recv(fd, CHUNK)
            if not unsent[fd]:
                return False  # the client's SHUT_WR, and all of it has been sent back
            unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL) :]
    except BlockingIOError:
        return True  # bug: nothing to do, and disarmed
    except OSError:
        return False  # reset
    sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, (EPOLLOUT if unsent[fd] else EPOLLIN) | EPOLLONESHOT)
    return True


def accept(sys: Syscalls, listener: int) -> int:
    """The next connection, or -1: nobody waits, or there is no room for more."""
    try:
        return sys.accept4(listener, SOCK_NONBLOCK)[0]
    except OSError as error:
        if error.errno in FULL:
            sys.nanosleep(PAUSE_NS)  # whoever waits makes the listener readable still: a loop without a pause would spin
        return -1
