"""An echo server with select, which meets fd 1024.

An fd_set has FD_SETSIZE bits, 1,024, whatever the limit of open files is.  FD_SET beyond them writes over the stack in C (select(2):
"undefined behavior"); Python refuses with ValueError (fact 101), which ends the server (crash).  It takes as many clients as that, or a
process that has much else open.  poll and epoll know no such limit.
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, SOCK_NONBLOCK

CLASS = "fd >= FD_SETSIZE in select"
SEEN_IN = "weechat#465; microsoft/omi#625"
CONTRACT = "crowded"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, bytes] = {}  # each with what it has still to get
    while True:
        reading = [fd for fd, rest in connections.items() if not rest]
        writing = [fd for fd, rest in connections.items() if rest]
        readable, writable, _ = sys.select([stop, listener, *reading], writing, [])  # bug: an fd of 1024 or more is not for select
        for fd in (*readable, *writable):
            if fd == stop:
                for conn in connections:
                    sys.close(conn)
                return
            if fd == listener:
                try:
                    connections[sys.accept4(listener, SOCK_NONBLOCK)[0]] = b""
                except OSError:
                    sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
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
