"""The twin of broken/no_backpressure: nothing is read from a client that has more than 16 KiB still to take."""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CONTRACT = "flood"


HIGH = 16384


class Connection:
    __slots__ = ("eof", "unsent")

    def __init__(self) -> None:
        self.unsent = bytearray()
        self.eof = False

    def events(self) -> int:
        """What to wait for."""
        events = POLLIN if not self.eof and len(self.unsent) <= HIGH else 0
        return events | POLLOUT if self.unsent else events


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, Connection] = {}
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, connection.events()) for fd, connection in connections.items())]
        for fd, ready in sys.poll(watched):
            if fd == stop:
                for conn in connections:
                    sys.close(conn)
                return
            if fd == listener:
                try:
                    connections[sys.accept4(listener, SOCK_NONBLOCK)[0]] = Connection()
                except OSError:
                    sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
            elif not turn(sys, fd, connections[fd], ready):
                del connections[fd]
                sys.close(fd)


def turn(sys: Syscalls, fd: int, connection: Connection, ready: int) -> bool:
    """Send what goes, and read what came.  False when the connection is at its end."""
    unsent = connection.unsent
    try:
        if unsent and ready & ~POLLIN:
            del unsent[: sys.send(fd, unsent, MSG_NOSIGNAL)]
        if ready & POLLIN and len(unsent) <= HIGH:
            data = sys.recv(fd, 32768)
            unsent += data
            connection.eof = not data
    except BlockingIOError:
        pass
    except OSError:
        return False
    return bool(unsent) or not connection.eof
