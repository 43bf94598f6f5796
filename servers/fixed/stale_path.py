"""The twin of broken/stale_path: what is left of the last server is unlinked before bind."""

from simkernel.api import Syscalls
from simkernel.uapi import AF_UNIX, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_DGRAM, SOCK_NONBLOCK

CONTRACT = "restarted"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    path = f"/tmp/control-{sys.getsockname(listener)[1]}"
    control = sys.socket(AF_UNIX, SOCK_DGRAM)
    try:
        sys.unlink(path)
    except FileNotFoundError:
        pass
    sys.bind(control, path)
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, bytes] = {}  # each with what it has still to get
    running = True
    while running:
        watched = [(stop, POLLIN), (control, POLLIN), (listener, POLLIN)]
        watched += [(fd, POLLOUT if rest else POLLIN) for fd, rest in connections.items()]
        for fd, _ in sys.poll(watched):
            if fd == stop or (fd == control and sys.recv(control, 16) == b"quit"):
                running = False
                break
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
    for fd in (*connections, control):
        sys.close(fd)
    sys.unlink(path)
