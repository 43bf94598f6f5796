"""A server of lines whose parser keeps what it has not used, and whose caller keeps it, too.

When a request is not whole yet, the server saves the bytes and puts them before what comes next, as it is done with parsers that want
everything from the start.  This parser saves them as well, so the beginning of a request that comes in two pieces is fed twice:
"hehello" is answered (corruption).  Each half is right; who keeps the rest is a question with one answer.
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "buffered input re-fed / coalesced"
SEEN_IN = "inspircd#2227"
CONTRACT = "lines"


class Parser:
    """Bytes in, lines out; what is no whole line yet is kept."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self.rest = (self.rest + data).split(b"\n")
        return lines


class Connection:
    __slots__ = ("parser", "pending", "unsent")

    def __init__(self) -> None:
        self.parser = Parser()
        self.pending = b""
        self.unsent = b""

    def answer(self, data: bytes) -> bytes:
        self.pending += data
        lines = self.parser.feed(self.pending)
        if lines:  # bug: the parser has it also when there is no line yet: what was fed must not be fed again
            self.pending = b""
        return b"".join(b"%d %s\n" % (len(line), line) for line in lines)


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
                    connections[sys.accept4(listener, SOCK_NONBLOCK)[0]] = Connection()
                except OSError:
                    sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
            elif not turn(sys, fd, connections[fd]):
                del connections[fd]
                sys.close(fd)


def turn(sys: Syscalls, fd: int, connection: Connection) -> bool:
    """Read some requests, or send some of their replies.  False when the connection is at its end."""
    try:
        if not connection.unsent:
            data = sys.recv(fd, 4096)
            if not data:
                return False
            connection.unsent = connection.answer(data)
        if connection.unsent:
            connection.unsent = connection.unsent[sys.send(fd, connection.unsent, MSG_NOSIGNAL) :]
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True
