"""Echo with select.

Shows the two sets: a connection is in `reading`, or in `writing` while it has bytes to get, never in both.  That is back-pressure
with one buffer of at most 64 KiB, and it makes a stale event impossible: a connection is ready once in a round, and only there closed.
select knows no fd from 1024 on; the soft limit of open files is lowered to that, so that accept says EMFILE before it is too late.
"""

from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO

from simkernel.api import Syscalls
from simkernel.uapi import F_GETFL, F_SETFL, FD_SETSIZE, MSG_NOSIGNAL, O_NONBLOCK, RLIM_INFINITY, RLIMIT_NOFILE, SOCK_NONBLOCK

CHUNK = 65536
GONE = (EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, take the next
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    limits = soft, hard = sys.getrlimit(RLIMIT_NOFILE)
    if soft > FD_SETSIZE or soft == RLIM_INFINITY:
        sys.setrlimit(RLIMIT_NOFILE, (FD_SETSIZE, hard))
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    reading = {stop, listener}
    writing: set[int] = set()
    unsent: dict[int, bytes] = {}  # each connection, and the bytes it has still to get
    full = False  # no fd left: the listener isn't watched for a while
    while True:
        try:
            readable, writable, _ = sys.select(reading - {listener} if full else reading, writing, (), 0.1 if full else None)
        except InterruptedError:
            continue
        full = False  # a pause, or a turn in which a connection may have ended: try again
        if stop in readable:
            break
        for fd in readable + writable:
            if fd == listener:
                full = accept(sys, listener, reading, unsent)
                continue
            data = unsent[fd]
            try:
                data = data or sys.recv(fd, CHUNK)
                sent = sys.send(fd, data, MSG_NOSIGNAL) if data else 0
            except (BlockingIOError, InterruptedError):
                sent = 0  # whatever select said; if it was recv, there is no data either
                if not data:
                    continue
            except OSError:
                data = b""  # reset: nothing to do for it any more
                sent = 0
            if not data:  # the client's SHUT_WR, and all of it has been sent back
                reading.discard(fd)
                writing.discard(fd)
                del unsent[fd]
                sys.close(fd)
            elif sent < len(data):
                unsent[fd] = data[sent:]
                reading.discard(fd)
                writing.add(fd)
            else:
                unsent[fd] = b""
                writing.discard(fd)
                reading.add(fd)
    for fd in unsent:
        sys.close(fd)
    sys.setrlimit(RLIMIT_NOFILE, limits)


def accept(sys: Syscalls, listener: int, reading: set[int], unsent: dict[int, bytes]) -> bool:
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
        reading.add(fd)
        unsent[fd] = b""
    return False
