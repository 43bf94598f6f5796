"""Five echo servers with bugs of which no list of ours speaks, each of another kind: what the check must find without having been told."""

from __future__ import annotations

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_DONTWAIT, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SA_RESTART, SIGCHLD, SOCK_NONBLOCK, WNOHANG


def accept(sys: Syscalls, listener: int, flags: int = 0) -> int:
    """A new connection, -1 if there is none."""
    try:
        return sys.accept4(listener, flags)[0]
    except OSError:
        sys.nanosleep(1_000_000)  # no room now, perhaps: a pause, not a spin
        return -1


# --- corruption: threads that share one buffer ---
def scratch(sys: Syscalls, listener: int, stop: int) -> None:
    """A thread for each client, and one buffer for all: between recv and send another thread puts its client's bytes there."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    buffer = bytearray()
    threads = []
    while sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] != stop:
        if (conn := accept(sys, listener)) >= 0:
            threads.append(sys.thread(scratch_client, conn, stop, buffer))
    for tid in threads:
        sys.join(tid)


def scratch_client(sys: Syscalls, conn: int, stop: int, buffer: bytearray) -> None:
    try:
        while sys.poll([(stop, POLLIN), (conn, POLLIN)])[0][0] != stop:
            buffer[:] = sys.recv(conn, 1024)
            if not buffer:
                break
            if sys.poll([(stop, POLLIN), (conn, POLLOUT)])[0][0] == stop:
                break
            sys.send(conn, bytes(buffer), MSG_NOSIGNAL)  # the socket blocks: all of it is taken
    except OSError:
        pass
    sys.close(conn)


# --- crash: what is being looked through is changed ---
def sweep(sys: Syscalls, listener: int, stop: int) -> None:
    """Clients that were reset are noted, and thrown out of the table after the round, while it is being looked through."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    unsent: dict[int, bytes] = {}
    dead: set[int] = set()
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, POLLOUT if rest else POLLIN) for fd, rest in unsent.items())]
        for fd, _ in sys.poll(watched):
            if fd == stop:
                for conn in unsent:
                    sys.close(conn)
                return
            if fd == listener:
                if (conn := accept(sys, listener, SOCK_NONBLOCK)) >= 0:
                    unsent[conn] = b""
                continue
            try:
                unsent[fd] = unsent[fd] or sys.recv(fd, 65536)
                if unsent[fd]:
                    unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL) :]
                else:
                    del unsent[fd]
                    sys.close(fd)
            except BlockingIOError:
                pass
            except OSError:
                dead.add(fd)
        for fd in unsent:
            if fd in dead:
                dead.remove(fd)
                del unsent[fd]
                sys.close(fd)


# --- spin: a lock that is held while its holder sleeps ---
def spinlock(sys: Syscalls, listener: int, stop: int) -> None:
    """Threads take turns by a lock in memory, for which they wait awake, and one sends to a client that does not read while it has it."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    locked: list[int] = []
    threads = []
    while sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] != stop:
        if (conn := accept(sys, listener)) >= 0:
            threads.append(sys.thread(spinlock_client, conn, stop, locked))
    for tid in threads:
        sys.join(tid)


def spinlock_client(sys: Syscalls, conn: int, stop: int, locked: list[int]) -> None:
    while sys.poll([(stop, POLLIN), (conn, POLLIN)])[0][0] != stop:
        while locked:
            sys.getpid()  # as pthread_spin_lock: look again, and again
        locked.append(conn)
        try:
            data = sys.recv(conn, 65536)
            sent = 0
            while sent < len(data):
                sent += sys.send(conn, data[sent:], MSG_NOSIGNAL)
        except OSError:
            data = b""
        locked.remove(conn)
        if not data:
            break
    sys.close(conn)


# --- hang: what was taken is not given back when something goes wrong ---
def tokens(sys: Syscalls, listener: int, stop: int) -> None:
    """At most two clients at a time, by two tokens in a pipe; a client that is reset takes its token along."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    take, give = sys.pipe2()
    sys.write(give, b"..")
    threads = []
    while sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] != stop:
        if (conn := accept(sys, listener)) >= 0:
            sys.read(take, 1)
            threads.append(sys.thread(tokens_client, conn, stop, give))
    for tid in threads:
        sys.join(tid)
    sys.close(take)
    sys.close(give)


def tokens_client(sys: Syscalls, conn: int, stop: int, give: int) -> None:
    unsent = b""
    while sys.poll([(stop, POLLIN), (conn, POLLOUT if unsent else POLLIN)])[0][0] != stop:
        try:
            unsent = unsent or sys.recv(conn, 65536, MSG_DONTWAIT)
            if not unsent:
                break
            unsent = unsent[sys.send(conn, unsent, MSG_DONTWAIT | MSG_NOSIGNAL) :]
        except BlockingIOError:
            continue
        except OSError:
            sys.close(conn)
            return
    sys.close(conn)
    sys.write(give, b".")


# --- leak: one signal, several children ---
def one_child(sys: Syscalls, listener: int, stop: int) -> None:
    """A process for each client, and one waitpid for each SIGCHLD; but several children that end together make one signal."""
    children: set[int] = set()

    def reap(_signum: int) -> None:
        pid, _status = sys.waitpid(-1, WNOHANG)
        children.discard(pid)

    sys.sigaction(SIGCHLD, reap, SA_RESTART)
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    while True:
        try:
            if sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] == stop:
                break
        except InterruptedError:
            continue
        if (conn := accept(sys, listener)) >= 0:
            children.add(sys.spawn(one_child_client, conn, stop))
            sys.close(conn)
    while any(alive(sys, pid) for pid in list(children)):
        try:
            sys.poll([], 10)
        except InterruptedError:
            pass


def alive(sys: Syscalls, pid: int) -> bool:
    """Whether a child still runs, a zombie not counted."""
    try:
        fd = sys.pidfd_open(pid)
    except ProcessLookupError:
        return False
    ended = sys.poll([(fd, POLLIN)], 0)
    sys.close(fd)
    return not ended


def one_child_client(sys: Syscalls, conn: int, stop: int) -> None:
    unsent = b""
    while sys.poll([(stop, POLLIN), (conn, POLLOUT if unsent else POLLIN)])[0][0] != stop:
        try:
            unsent = unsent or sys.recv(conn, 65536, MSG_DONTWAIT)
            if not unsent:
                return
            unsent = unsent[sys.send(conn, unsent, MSG_DONTWAIT | MSG_NOSIGNAL) :]
        except BlockingIOError:
            continue
        except OSError:
            return
