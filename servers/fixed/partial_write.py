"""The twin of broken/partial_write: what send did not take is kept, and sent when poll says POLLOUT; until then nothing more is read."""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CONTRACT = "plain"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
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
