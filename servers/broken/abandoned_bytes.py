"""An echo server that gives up what a client does not take, and goes on as if it had been sent.

When nothing has moved for half a second, what is unsent is dropped, so that it does not lie there for ever, and the client is kept.  It
holds a beginning of its bytes, with no error and no end after it; when it reads on, it gets later ones (corruption).  A stream in which
something is missing is worth nothing: whoever gives up bytes must give up the connection with them.
"""

from simkernel.api import Syscalls
from simkernel.uapi import CLOCK_MONOTONIC, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "bytes abandoned after give-up timer"
SEEN_IN = "EternalTerminal#796"
CONTRACT = "patience"

PATIENCE_NS = 500_000_000


class Connection:
    __slots__ = ("moved", "unsent")

    def __init__(self, now: int) -> None:
        self.moved = now  # when something was last received or sent
        self.unsent = b""

    def ends(self) -> int:
        """When the server's patience ends, if nothing moves until then."""
        return self.moved + PATIENCE_NS


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, Connection] = {}
    now = 0
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, POLLOUT if c.unsent else POLLIN) for fd, c in connections.items())]
        ends = [connection.ends() for connection in connections.values()]
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
            if now < connection.ends():
                continue
            if connection.unsent:
                connection.unsent = b""  # bug: the client has got what was before, and will get what comes after: close
                connection.moved = now
            else:
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
