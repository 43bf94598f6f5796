"""The twin of broken/late_finalizer: a connection leaves the loop where its fd is closed, and its finalizer has nothing left to do."""

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 65536
GARBAGE = 2


class Connection:
    def __init__(self, sys: Syscalls, ep: int, fd: int) -> None:
        self.sys = sys
        self.ep = ep
        self.fd = fd
        self.unsent = b""  # received, not yet sent
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)

    def close(self) -> None:
        self.sys.epoll_ctl(self.ep, EPOLL_CTL_DEL, self.fd)
        self.sys.close(self.fd)
        self.fd = -1

    def finalize(self) -> None:
        """What __del__ would do."""
        if self.fd >= 0:
            self.close()


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    connections: dict[int, Connection] = {}
    garbage: list[Connection] = []
    running = True
    while running:
        for fd, _ in sys.epoll_wait(ep, 64):
            if fd == stop:
                running = False
            elif fd == listener:
                conn = accept(sys, listener)
                if conn >= 0:
                    connections[conn] = Connection(sys, ep, conn)
            else:
                waited = bool(connections[fd].unsent)
                if not echo(sys, connections[fd]):
                    connections[fd].close()
                    garbage.append(connections.pop(fd))
                elif bool(connections[fd].unsent) != waited:
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN if waited else EPOLLOUT)
        if len(garbage) >= GARBAGE:
            while garbage:
                garbage.pop().finalize()
    for connection in connections.values():
        connection.close()
    sys.close(ep)


def echo(sys: Syscalls, connection: Connection) -> bool:
    """At most one recv and one send.  False when the connection is at its end."""
    try:
        if not connection.unsent:
            connection.unsent = sys.recv(connection.fd, CHUNK)
            if not connection.unsent:
                return False  # the client's SHUT_WR, and all of it has been sent back
        connection.unsent = connection.unsent[sys.send(connection.fd, connection.unsent, MSG_NOSIGNAL) :]
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
