"""A server of lines that takes what one recv gives for whole requests.

TCP carries a stream: what the client sent with one call may come with two, and two with one (tcp(7)).  This server answers each piece that
ends without a newline as if it were a line.  On one machine, with small requests, it goes well a thousand times; then a request is cut
in two by a buffer's end or a slow network, and two wrong replies come back (corruption).
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "one recv = one message (split)"
SEEN_IN = "httptools#21; opensomeip#255"
CONTRACT = "lines"


class Connection:
    __slots__ = ("unsent",)

    def __init__(self) -> None:
        self.unsent = b""

    def answer(self, data: bytes) -> bytes:
        lines = data.splitlines()  # bug: the last one may go on in the next recv: keep it until its newline has come
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
