"""The twin of broken/sigpipe: MSG_NOSIGNAL leaves EPIPE, an error of one connection, and no signal for the process."""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SIG_DFL, SIGPIPE, SOCK_NONBLOCK


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.sigaction(SIGPIPE, SIG_DFL)  # as every program starts that is not written in Python
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
                data = data or sys.recv(fd, 1024)
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
