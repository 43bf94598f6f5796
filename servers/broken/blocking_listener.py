"""An echo server with two workers that accept on one listener, and take poll's word for it that there is somebody.

Both are woken for one client; one gets it, and the other's accept sleeps, since the listener blocks: deaf to its own clients and to `stop`
(hang).  One worker alone can meet this too where a client that gives up leaves the queue (accept(2), "the connection may have been
removed"); on Linux it stays there (fact 20).  Readiness is a hint: the listener must not block.
"""

from simkernel.api import Syscalls
from simkernel.uapi import MSG_NOSIGNAL, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "blocking listener after readiness (client reset)"
SEEN_IN = "libfabric#6501; connectedhomeip#8400"

WORKERS = 2


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    for pid in [sys.spawn(work, listener, stop) for _ in range(WORKERS)]:
        sys.waitpid(pid)


def work(sys: Syscalls, listener: int, stop: int) -> None:
    connections: dict[int, bytes] = {}  # each with what it has still to get
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, POLLOUT if rest else POLLIN) for fd, rest in connections.items())]
        for fd, _ in sys.poll(watched):
            if fd == stop:
                for conn in connections:
                    sys.close(conn)
                return
            if fd == listener:
                try:
                    conn, _peer = sys.accept4(listener, SOCK_NONBLOCK)  # bug: sleeps when another worker was quicker
                except OSError:
                    sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
                    continue
                connections[conn] = b""
                continue
            data = connections[fd]
            try:
                data = data or sys.recv(fd, 65536)
                if data:
                    connections[fd] = data
                    connections[fd] = data[sys.send(fd, data, MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                del connections[fd]
                sys.close(fd)
