"""A server that answers one line and closes, while more bytes lie unread that it never wanted.

close with unread data in the receive buffer is no clean end: TCP sends RST at once, so that the sender learns that its bytes were lost
(RFC 2525, 2.17; fact 11).  What was not yet sent of the reply is thrown away, and the client sees ECONNRESET instead of the end, if not
instead of the reply (corruption).  HTTP servers that refuse a big upload meet it.  Shut the sending side, read until the client closes, and
close then (a "lingering close").
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "close with unread data -> RST"
SEEN_IN = "h2o#2534; hyper#3078; sledge PR 389"
CONTRACT = "question"


class Connection:
    __slots__ = ("question", "reply")

    def __init__(self) -> None:
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
            connection.question += data
            line, newline, _ = connection.question.partition(b"\n")
            if not newline:
                return True
            connection.reply = b"%d %s\n" % (len(line), line)
        connection.reply = connection.reply[sys.send(fd, connection.reply, MSG_NOSIGNAL) :]
    except BlockingIOError:
        return True
    except OSError:
        return False
    return bool(connection.reply)  # bug: all is sent, but not all is read: SHUT_WR, and read to the end before closing
