"""Echo with worker processes that share the listener.

Shows EPOLLEXCLUSIVE: every worker has its own epoll (made after the fork: a shared one would hand a worker events of sockets that only
another has), all watch one listener, and a connection wakes one of them, not the herd.  That wake-up is then nobody else's.  A worker
that is woken and can't accept, having no fd left, would keep the client from its idle fellows; so each holds a spare fd, gives it up
for that client, and stays away from the listener until it has a spare again.  A connection is served as in epoll_lt_echo.
"""

from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLEXCLUSIVE,
    EPOLLIN,
    EPOLLOUT,
    F_GETFL,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

WORKERS = 4
GONE = (EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, take the next
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept, dup: no room now


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)  # of the description: the workers' too
    failed = 0
    for pid in [sys.spawn(work, listener, stop) for _ in range(WORKERS)]:  # they end at `stop`, which is what we wait for
        while True:
            try:
                failed += sys.waitpid(pid)[1] != 0
                break
            except InterruptedError:
                continue
    if failed:
        raise RuntimeError(f"{failed} of {WORKERS} workers failed")


def work(sys: Syscalls, listener: int, stop: int) -> None:
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE)
    spare = sys.dup(stop)  # -1 while there is none: then the listener isn't watched
    unsent: dict[int, bytes] = {}  # each connection, and the bytes it has still to get
    while True:
        try:
            ready = sys.epoll_wait(ep, 256, 100 if spare < 0 else -1)
        except InterruptedError:
            continue
        if spare < 0:  # a pause, or a turn in which a connection may have ended: try again
            try:
                spare = sys.dup(stop)
            except OSError as error:
                if error.errno not in FULL:
                    raise
            else:
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE)
        for fd, _ in ready:
            if fd == stop:
                for open_fd in (*unsent, ep, *([spare] if spare >= 0 else [])):
                    sys.close(open_fd)
                return
            if fd == listener:
                spare = accept(sys, ep, listener, unsent, spare)
                if spare < 0:
                    sys.epoll_ctl(ep, EPOLL_CTL_DEL, listener)  # MOD is not for EPOLLEXCLUSIVE
                continue
            data = waiting = unsent[fd]
            sent = 0
            try:
                data = waiting or sys.recv(fd, 65536)
                if data:
                    sent = sys.send(fd, data, MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                if not data:
                    continue  # it was recv
            except OSError:
                data = b""  # reset: nothing to do for it any more
            if not data:  # the client's SHUT_WR, and all of it has been sent back
                del unsent[fd]
                sys.close(fd)
            elif sent < len(data):
                unsent[fd] = data[sent:]
                if not waiting:
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLOUT)
            elif waiting:
                unsent[fd] = b""
                sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN)


def accept(sys: Syscalls, ep: int, listener: int, unsent: dict[int, bytes], spare: int) -> int:
    """Take some of those who wait; few, for the other workers are there too.  Returns the spare fd, or -1 if there is no room for more."""
    for _ in range(8):
        try:
            fd, _peer = sys.accept4(listener, SOCK_NONBLOCK)
        except OSError as error:
            if error.errno in GONE:
                continue
            if error.errno == EAGAIN:
                return spare
            if error.errno not in FULL:
                raise
            if spare < 0:
                return spare
            sys.close(spare)
            spare = -1
            continue
        try:
            sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)
        except OSError:  # no memory, or too many watches (epoll(7)): it is turned away
            sys.close(fd)
        else:
            unsent[fd] = b""
        if spare < 0:
            break
    return spare
