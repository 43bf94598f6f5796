"""An echo server that listens with a backlog of zero.

listen on a listening socket changes its backlog, to what an old book or a framework's default says.  A burst of clients then finds it
full while the server is busy with the first; Linux drops their SYNs, and each tries again after 1, 3, 7 seconds (listen(2), fact 40).
Nothing fails, nothing is logged: some clients just wait a second (starvation), or longer than they care to (ETIMEDOUT).
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "backlog overflow"
SEEN_IN = "agentmail-mcp#46; dropwizard#2430"
CONTRACT = "burst"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.listen(listener, 0)  # bug: room for one (backlog + 1): ask for what a burst needs; Linux cuts it to net.core.somaxconn
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
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
