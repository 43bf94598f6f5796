"""Echo with level-triggered epoll: the plain fast server.

Shows how little is needed.  An event costs one recv and one send; only what send did not take is kept, and then the connection is
watched for EPOLLOUT instead of EPOLLIN until it is gone.  So nothing is read for a client that doesn't read (back-pressure, 64 KiB at
most), EPOLLOUT is never left armed, and at the end of the input nothing is left to send.  Level-triggered means that a spurious event,
EINTR or EAGAIN needs no care: what is still true is said again.  A connection is closed only on its own event, and an fd has at most
one event in a batch, so no event of a batch is stale.
"""

from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    F_GETFL,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

GONE = (EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, take the next
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    epoll_wait, recv, send = sys.epoll_wait, sys.recv, sys.send
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    unsent: dict[int, bytes] = {}  # each connection, and the bytes it has still to get
    full = False  # no fd left: the listener isn't watched for a while
    running = True
    while running:
        try:
            ready = epoll_wait(ep, 256, 100 if full else -1)
        except InterruptedError:
            continue
        if full:  # a pause, or a turn in which a connection may have ended: try again
            full = False
            sys.epoll_ctl(ep, EPOLL_CTL_MOD, listener, EPOLLIN)
        for fd, _ in ready:  # EPOLLERR and EPOLLHUP need no branch: recv or send says what they mean
            waiting = unsent.get(fd)
            if waiting is None:
                if fd == stop:
                    running = False
                    break
                full = accept(sys, ep, listener, unsent)
                if full:
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, listener, 0)
                continue
            data = waiting
            sent = 0
            try:
                data = waiting or recv(fd, 65536)
                if data:
                    sent = send(fd, data, MSG_NOSIGNAL)
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
    for fd in unsent:
        sys.close(fd)
    sys.close(ep)


def accept(sys: Syscalls, ep: int, listener: int, unsent: dict[int, bytes]) -> bool:
    """Take some of those who wait; not all, for others wait too.  True if there is no room for more."""
    for _ in range(64):
        try:
            fd, _peer = sys.accept4(listener, SOCK_NONBLOCK)
        except OSError as error:
            if error.errno in GONE:
                continue
            if error.errno == EAGAIN or error.errno in FULL:
                return error.errno != EAGAIN
            raise
        try:
            sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)
        except OSError:  # no memory, or too many watches (epoll(7)): it is turned away
            sys.close(fd)
            return True
        unsent[fd] = b""
    return False
