"""The twin of broken/signal_race: SIGTERM is blocked but while ppoll sleeps, so it comes before the look, or interrupts."""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SIG_BLOCK, SIGTERM, SOCK_NONBLOCK

CONTRACT = "sigterm"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    stopping: list[int] = []
    mask = sys.sigprocmask(SIG_BLOCK, {SIGTERM})
    sys.sigaction(SIGTERM, stopping.append)
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, bytes] = {}  # each with what it has still to get
    while not stopping:
        watched = [(listener, POLLIN), *((fd, POLLOUT if rest else POLLIN) for fd, rest in connections.items())]
        try:
            ready = sys.ppoll(watched, None, mask)
        except InterruptedError:
            continue
        for fd, _ in ready:
            if fd == listener:
                try:
                    connections[sys.accept4(listener, SOCK_NONBLOCK)[0]] = b""
                except OSError:
                    pass  # gone again, or no room now
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
                close(sys, fd)
    for fd in connections:
        close(sys, fd)


def close(sys: Syscalls, fd: int) -> None:
    try:
        sys.close(fd)
    except InterruptedError:
        pass  # it is closed all the same
