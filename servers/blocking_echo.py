"""Echo with blocking calls: one process a connection.

Shows the oldest design, and what it needs to be right: the parent waits for `stop`, for the listener and for the pipe on which a
child writes its pid as its last act, so that no zombie is left lying; a child runs straight down, and sleeps in poll alone, on its
client and on `stop`.  So neither a silent client nor one that never reads can keep a child from `stop`.
"""

from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO

from simkernel.api import Syscalls
from simkernel.uapi import F_GETFL, F_SETFL, MSG_DONTWAIT, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT

GONE = (EAGAIN, EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, or none was there
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PID_BYTES = 4


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    # Between poll and accept a client may vanish: a blocking accept would then sleep, deaf to `stop`.
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    ended, end = sys.pipe2()
    children: set[int] = set()
    full = False
    while True:
        watched = [(stop, POLLIN), (ended, POLLIN)]
        if not full:
            watched.append((listener, POLLIN))
        try:
            ready = dict(sys.poll(watched, 100 if full else -1))
        except InterruptedError:
            continue
        full = False  # a pause, or a child that ended: try again
        if stop in ready:
            break
        if ended in ready:
            pids = sys.read(ended, 1024 * PID_BYTES)  # whole pids: a write this short is atomic
            for i in range(0, len(pids), PID_BYTES):
                pid = int.from_bytes(pids[i : i + PID_BYTES], "little")
                children.remove(pid)
                reap(sys, pid)
        if listener in ready:
            try:
                conn, _ = sys.accept4(listener)
            except OSError as error:
                if error.errno in GONE:
                    continue
                if error.errno not in FULL:
                    raise
                full = True
                continue
            try:
                children.add(sys.spawn(child, conn, stop, listener, ended, end))
            except OSError as error:
                if error.errno not in (EAGAIN, ENOMEM):
                    raise
                full = True  # no process for it: it is turned away
            sys.close(conn)  # the child has its own; else the client would never see the end
    for pid in children:
        reap(sys, pid)
    sys.close(ended)
    sys.close(end)


def reap(sys: Syscalls, pid: int) -> None:
    """Wait for a child that ends now."""
    while True:
        try:
            sys.waitpid(pid)
            return
        except InterruptedError:
            continue


def child(sys: Syscalls, conn: int, stop: int, listener: int, ended: int, end: int) -> None:
    sys.close(listener)
    sys.close(ended)
    echo(sys, conn, stop)
    sys.close(conn)
    sys.write(end, sys.getpid().to_bytes(PID_BYTES, "little"))


def echo(sys: Syscalls, conn: int, stop: int) -> None:
    """Serve one client to its end.  The socket blocks, these calls don't: poll is the only place to sleep."""
    unsent = b""
    while True:
        try:
            if sys.poll([(stop, POLLIN), (conn, POLLOUT if unsent else POLLIN)])[0][0] == stop:
                return
            if not unsent:
                unsent = sys.recv(conn, 65536, MSG_DONTWAIT)
                if not unsent:
                    return  # the client's SHUT_WR, and all of it has been sent back
            unsent = unsent[sys.send(conn, unsent, MSG_DONTWAIT | MSG_NOSIGNAL) :]
        except (BlockingIOError, InterruptedError):
            continue
        except OSError:
            return  # reset
