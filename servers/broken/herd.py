"""A prefork echo server whose workers all watch the one listener, each in an epoll of its own.

A connection wakes every worker that sleeps; one accepts it, the others find nothing and sleep again.  Nothing is wrong but the work: with
N workers it is N wake-ups a connection (herd).
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

CLASS = "thundering herd"
SEEN_IN = "gunicorn#792; gevent#1536; uwsgi#1224"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 65536
WORKERS = 4


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    for pid in [sys.spawn(work, listener, stop) for _ in range(WORKERS)]:
        sys.waitpid(pid)


def work(sys: Syscalls, listener: int, stop: int) -> None:
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)  # bug: each connection wakes all workers, and one gets it
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


def accept(sys: Syscalls, listener: int) -> int:
    """The next connection, or -1: nobody waits, or there is no room for more."""
    try:
        return sys.accept4(listener, SOCK_NONBLOCK)[0]
    except OSError as error:
        if error.errno in FULL:
            sys.nanosleep(PAUSE_NS)  # whoever waits makes the listener readable still: a loop without a pause would spin
        return -1
