"""An echo server whose loop remembers which fds it has told epoll of, to choose between EPOLL_CTL_ADD and EPOLL_CTL_MOD.

It closes a connection without telling that table.  close takes the fd out of the epoll; the table says that it is in there, so the next
client, who gets the same number, is registered with EPOLL_CTL_MOD: ENOENT (crash).
"""

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

CLASS = "fd closed, loop still thinks it is registered (MOD on gone fd)"
SEEN_IN = "redis#8991"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 65536


class Loop:
    """What ae, libev and others do: one call to want events, whatever was wanted before."""

    def __init__(self, sys: Syscalls) -> None:
        self.sys = sys
        self.ep = sys.epoll_create1()
        self.known: set[int] = set()

    def want(self, fd: int, events: int) -> None:
        self.sys.epoll_ctl(self.ep, EPOLL_CTL_MOD if fd in self.known else EPOLL_CTL_ADD, fd, events)
        self.known.add(fd)

    def close(self, fd: int) -> None:
        self.sys.close(fd)  # bug: `known` keeps it


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    loop = Loop(sys)
    loop.want(stop, EPOLLIN)
    loop.want(listener, EPOLLIN)
    unsent: dict[int, bytes] = {}  # each connection, and the bytes it has still to get
    running = True
    while running:
        for fd, _ in sys.epoll_wait(loop.ep, 64):
            if fd == stop:
                running = False
            elif fd == listener:
                conn = accept(sys, listener)
                if conn >= 0:
                    unsent[conn] = b""
                    loop.want(conn, EPOLLIN)
            else:
                waited = bool(unsent[fd])
                if not echo(sys, fd, unsent):
                    del unsent[fd]
                    loop.close(fd)
                elif bool(unsent[fd]) != waited:
                    loop.want(fd, EPOLLIN if waited else EPOLLOUT)
    for fd in unsent:
        sys.close(fd)
    sys.close(loop.ep)


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


def accept(sys: Syscalls, listener: int) -> int:
    """The next connection, or -1: nobody waits, or there is no room for more."""
    try:
        return sys.accept4(listener, SOCK_NONBLOCK)[0]
    except OSError as error:
        if error.errno in FULL:
            sys.nanosleep(PAUSE_NS)  # whoever waits makes the listener readable still: a loop without a pause would spin
        return -1
