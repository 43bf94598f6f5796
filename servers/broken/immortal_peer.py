"""An echo server with an idle timeout that spares the one who needs it.

A connection on which nothing has moved for half a second is closed, unless something is unsent: then it is not idle, it is written to.  A
client that has stopped reading makes it so for ever: its window is closed, no send goes on, and no timeout ends it (leak); TCP gives up
such a peer only when it does not even answer probes (tcp(7), TCP_USER_TIMEOUT).  What counts is what moves, not what is wanted.
"""

from simkernel.api import Syscalls
from simkernel.uapi import CLOCK_MONOTONIC, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "idle timeout never kills congested peer"
SEEN_IN = "jetty#11259; lori#329"
CONTRACT = "patience"

PATIENCE_NS = 500_000_000


class Connection:
    __slots__ = ("moved", "unsent")

    def __init__(self, now: int) -> None:
        self.moved = now  # when something was last received or sent
        self.unsent = b""

    def ends(self) -> int | None:
        """When it is closed, if nothing moves until then."""
        return None if self.unsent else self.moved + PATIENCE_NS  # bug: a client that never reads has always something unsent


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, Connection] = {}
    now = 0
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, POLLOUT if c.unsent else POLLIN) for fd, c in connections.items())]
        ends = [end for c in connections.values() if (end := c.ends()) is not None]
        ready = sys.poll(watched, max(0, min(ends) - now) // 1_000_000 + 1 if ends else -1)
        now = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        for fd, _ in ready:
            if fd == stop:
                for conn in connections:
                    sys.close(conn)
                return
            conn = fd
            if fd == listener:
                try:
                    conn, _peer = sys.accept4(listener, SOCK_NONBLOCK)
                except OSError:
                    sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
                    continue
                connections[conn] = Connection(now)  # and look at once what it has sent
            if not turn(sys, conn, connections[conn], now):
                del connections[conn]
                sys.close(conn)
        for fd, connection in list(connections.items()):
            end = connection.ends()
            if end is not None and now >= end:
                del connections[fd]
                sys.close(fd)


def turn(sys: Syscalls, fd: int, connection: Connection, now: int) -> bool:
    """Receive something, and send it.  False when the connection is at its end."""
    try:
        if not connection.unsent:
            connection.unsent = sys.recv(fd, 65536)
            connection.moved = now
            if not connection.unsent:
                return False
        connection.unsent = connection.unsent[sys.send(fd, connection.unsent, MSG_NOSIGNAL) :]
        connection.moved = now
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True
