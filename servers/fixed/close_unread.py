"""The twin of broken/close_unread: after the reply the sending side is shut, and all that comes is dropped, until the client closes."""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SHUT_WR, SOCK_NONBLOCK

CONTRACT = "question"


class Connection:
    __slots__ = ("answered", "question", "reply")

    def __init__(self) -> None:
        self.answered = False
        self.question = b""
        self.reply = b""


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, Connection] = {}
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, POLLOUT if c.reply else POLLIN) for fd, c in connections.items())]
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
    """Read a part of the question, or send a part of the reply.  False when the connection is at its end."""
    try:
        if not connection.reply:
            data = sys.recv(fd, 1024)
            if not data:
                return False
            if connection.answered:
                return True
            connection.question += data
            line, newline, _ = connection.question.partition(b"\n")
            if not newline:
                return True
            connection.reply = b"%d %s\n" % (len(line), line)
        connection.reply = connection.reply[sys.send(fd, connection.reply, MSG_NOSIGNAL) :]
        if not connection.reply:
            connection.answered = True
            sys.shutdown(fd, SHUT_WR)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
