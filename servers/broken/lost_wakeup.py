"""An echo server whose worker thread tells the event loop through an eventfd, and whose loop forgets what it was told.

The loop takes what is done, and then resets the eventfd.  What the worker finishes between the two is in the queue, and the wake-up for it
has just been read away: the loop sleeps, the client waits, until somebody else's work wakes them (hang).  The window is one call wide.
Reset first, look afterwards: then the worst is a wake-up for nothing (eventfd(2); the rule is "try, register, try again, wait").
"""

from collections import deque

from simkernel.api import Syscalls
from simkernel.uapi import F_GETFL, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "lost wake-up (flag/eventfd/self-pipe)"
SEEN_IN = "trafficserver#3449"

ONE = (1).to_bytes(8, "little")


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    asked, answered = sys.eventfd(), sys.eventfd()
    todo: deque[tuple[int, bytes]] = deque()
    done: deque[tuple[int, bytes]] = deque()
    worker = sys.thread(work, asked, answered, todo, done)
    unsent: dict[int, bytes] = {}  # each connection, and what it has still to get; those whose bytes the worker has are not in it
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, POLLOUT if rest else POLLIN) for fd, rest in unsent.items())]
        for fd, _ in sys.poll([*watched, (answered, POLLIN)]):
            if fd == stop:
                todo.append((-1, b""))
                sys.write(asked, ONE)
                sys.join(worker)
                for conn in (*unsent, *(conn for conn, _ in done), asked, answered):
                    sys.close(conn)
                return
            if fd == listener:
                try:
                    unsent[sys.accept4(listener, SOCK_NONBLOCK)[0]] = b""
                except OSError:
                    pass  # gone again, or no room now
            elif fd == answered:
                for conn, data in taken(done):
                    send(sys, conn, data, unsent)
                sys.read(answered, 8)  # bug: this forgets who was done since we looked: read first, then look
            elif unsent[fd]:
                send(sys, fd, unsent[fd], unsent)
            else:
                try:
                    data = sys.recv(fd, 65536)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                del unsent[fd]
                if data:
                    todo.append((fd, data))
                    sys.write(asked, ONE)
                else:
                    sys.close(fd)


def taken(done: deque[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """All that is done until now."""
    return [done.popleft() for _ in range(len(done))]


def send(sys: Syscalls, fd: int, data: bytes, unsent: dict[int, bytes]) -> None:
    """Send what goes now, and keep the rest."""
    try:
        unsent[fd] = data[sys.send(fd, data, MSG_NOSIGNAL) :]
    except BlockingIOError:
        unsent[fd] = data
    except OSError:
        unsent[fd] = b""  # recv will say it again


def work(sys: Syscalls, asked: int, answered: int, todo: deque[tuple[int, bytes]], done: deque[tuple[int, bytes]]) -> None:
    """What takes long elsewhere; here the answer is the question."""
    while True:
        sys.read(asked, 8)
        while todo:
            conn, data = todo.popleft()
            if conn < 0:
                return
            done.append((conn, data))
            sys.write(answered, ONE)
