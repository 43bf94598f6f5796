"""An echo server that takes at most so many messages a second from a client, and in between wants no events of it: EPOLL_CTL_MOD to 0.

EPOLLERR and EPOLLHUP come all the same.  A client that resets its connection in that time is reported again and again until the pause
is over (spin).
"""

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    CLOCK_MONOTONIC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

CLASS = "interest 0 still reports HUP/ERR"
SEEN_IN = "seastar#64; apple/cups#4605"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 65536
PACE_NS = 20_000_000  # after each message


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)

    resting: dict[int, int] = {}  # until when
    unsent: dict[int, bytes] = {}  # each connection, and the bytes it has still to get
    running = True
    while running:
        timeout = -1
        if resting:
            now = sys.clock_gettime_ns(CLOCK_MONOTONIC)
            for fd in [fd for fd, until in resting.items() if until <= now]:
                del resting[fd]
                sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLOUT if unsent[fd] else EPOLLIN)
            timeout = max((min(resting.values()) - now) // 1_000_000 + 1, 0) if resting else -1
        for fd, _ in sys.epoll_wait(ep, 64, timeout):
            if fd == stop:
                running = False
            elif fd == listener:
                conn = accept(sys, listener)
                if conn >= 0:
                    unsent[conn] = b""
                    sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN)
            elif fd in resting:
                continue  # not now
            elif echo(sys, fd, unsent):
                resting[fd] = sys.clock_gettime_ns(CLOCK_MONOTONIC) + PACE_NS
                sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, 0)  # bug: EPOLLERR and EPOLLHUP are still reported
            else:
                del unsent[fd]
                sys.close(fd)
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
