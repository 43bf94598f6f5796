"""Echo with poll.

Shows one table, fd -> events: a connection is watched for POLLIN, or for POLLOUT while it has bytes to get, never for both.  That is
back-pressure with one buffer of at most 64 KiB, and it makes a stale event impossible: an fd is ready once in a round, and only there
closed.  The kernel walks the whole table at every call, as we do to hand it over: what epoll was made to end.
"""

from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO

from simkernel.api import Syscalls
from simkernel.uapi import F_GETFL, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CHUNK = 65536
GONE = (EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, take the next
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    watched = {stop: POLLIN, listener: POLLIN}
    unsent: dict[int, bytes] = {}  # each connection, and the bytes it has still to get
    full = False  # no fd left: the listener isn't watched for a while
    while True:
        watched[listener] = 0 if full else POLLIN
        try:
            ready = sys.poll(list(watched.items()), 100 if full else -1)
        except InterruptedError:
            continue
        full = False  # a pause, or a turn in which a connection may have ended: try again
        if ready and ready[0][0] == stop:
            break
        for fd, _ in ready:  # POLLERR and POLLHUP need no branch: recv or send says what they mean
            if fd == listener:
                full = accept(sys, listener, watched, unsent)
                continue
            data = unsent[fd]
            try:
                data = data or sys.recv(fd, CHUNK)
                sent = sys.send(fd, data, MSG_NOSIGNAL) if data else 0
            except (BlockingIOError, InterruptedError):
                sent = 0  # whatever poll said; if it was recv, there is no data either
                if not data:
                    continue
            except OSError:
                data = b""  # reset: nothing to do for it any more
                sent = 0
            if not data:  # the client's SHUT_WR, and all of it has been sent back
                del watched[fd], unsent[fd]
                sys.close(fd)
            else:
                unsent[fd] = data[sent:]
                watched[fd] = POLLOUT if sent < len(data) else POLLIN
    for fd in unsent:
        sys.close(fd)


def accept(sys: Syscalls, listener: int, watched: dict[int, int], unsent: dict[int, bytes]) -> bool:
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
        watched[fd] = POLLIN
        unsent[fd] = b""
    return False
