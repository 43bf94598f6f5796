"""The twin of broken/hidden_records: the layer is asked until no whole record is left in it; the rest is in the socket, for poll to see."""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CONTRACT = "lines"


class Records:
    """A record layer: each record is a line.  It stands for TLS, whose records are encrypted, and hide in the same way."""

    __slots__ = ("_buffer", "_fd", "_sys")

    def __init__(self, sys: Syscalls, fd: int) -> None:
        self._sys = sys
        self._fd = fd
        self._buffer = b""

    def pending(self) -> bool:
        """Whether a whole record is here, so that read will not ask the socket."""
        return b"\n" in self._buffer

    def read(self) -> bytes:
        """The next record, "" at the end.  BlockingIOError when no whole one has come yet."""
        while not self.pending():
            data = self._sys.recv(self._fd, 4096)
            if not data:
                return b""
            self._buffer += data
        record, newline, self._buffer = self._buffer.partition(b"\n")
        return record + newline


class Connection:
    __slots__ = ("records", "unsent")

    def __init__(self, sys: Syscalls, fd: int) -> None:
        self.records = Records(sys, fd)
        self.unsent = b""


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, Connection] = {}
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, POLLOUT if c.unsent else POLLIN) for fd, c in connections.items())]
        for fd, _ in sys.poll(watched):
            if fd == stop:
                for conn in connections:
                    sys.close(conn)
                return
            if fd == listener:
                try:
                    conn, _peer = sys.accept4(listener, SOCK_NONBLOCK)
                except OSError:
                    sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
                    continue
                connections[conn] = Connection(sys, conn)
            elif not turns(sys, fd, connections[fd]):
                del connections[fd]
                sys.close(fd)


def turns(sys: Syscalls, fd: int, connection: Connection) -> bool:
    """Turns until nothing is left that poll can't see.  False when the connection is at its end."""
    while turn(sys, fd, connection):
        if connection.unsent or not connection.records.pending():
            return True
    return False


def turn(sys: Syscalls, fd: int, connection: Connection) -> bool:
    """Read a request, or send its reply.  False when the connection is at its end."""
    try:
        if not connection.unsent:
            line = connection.records.read()
            if not line:
                return False
            connection.unsent = b"%d %s" % (len(line) - 1, line)
        connection.unsent = connection.unsent[sys.send(fd, connection.unsent, MSG_NOSIGNAL) :]
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True
