"""An echo server that forks for each client, and dies when the first child has ended.

SIGCHLD interrupts the poll in which the parent sleeps: EINTR, which SA_RESTART does not change for poll, select and epoll_wait
(signal(7); fact 105).  In C the -1 that nobody looks at becomes a spin or a timeout that never was; in Python it is an exception (crash).
A child that ends while its parent is awake does no harm, so it takes two clients, or one that is quick.
"""

from simkernel.api import Syscalls
from simkernel.uapi import (
    F_SETFL,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    POLLIN,
    POLLOUT,
    SA_RESTART,
    SIG_BLOCK,
    SIGCHLD,
    WNOHANG,
)

CLASS = "EINTR/-1 not handled"
SEEN_IN = "tinymux#791"
CONTRACT = "plain"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    def reap(_signum: int) -> None:
        try:
            while sys.waitpid(-1, WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    sys.sigaction(SIGCHLD, reap, SA_RESTART)
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    while True:
        ready = sys.poll([(stop, POLLIN), (listener, POLLIN)])  # bug: EINTR when a child ends: poll again
        if ready[0][0] == stop:
            break
        try:
            conn, _peer = sys.accept4(listener)
        except OSError:
            continue  # gone again, or no room now
        try:
            sys.spawn(child, conn, stop)
        except OSError:
            pass  # no process for it: it is turned away
        try:
            sys.close(conn)
        except InterruptedError:
            pass  # it is closed all the same
    sys.sigprocmask(SIG_BLOCK, {SIGCHLD})
    try:
        while sys.waitpid(-1):
            pass
    except ChildProcessError:
        pass


def child(sys: Syscalls, conn: int, stop: int) -> None:
    unsent = b""
    while True:
        if sys.poll([(stop, POLLIN), (conn, POLLOUT if unsent else POLLIN)])[0][0] == stop:
            return
        try:
            unsent = unsent or sys.recv(conn, 65536, MSG_DONTWAIT)
            if not unsent:
                return
            unsent = unsent[sys.send(conn, unsent, MSG_DONTWAIT | MSG_NOSIGNAL) :]
        except BlockingIOError:
            continue
        except OSError:
            return
