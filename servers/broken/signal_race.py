"""An echo server that SIGTERM stops, unless it comes at the wrong moment.

The handler sets a flag; the loop looks at it, and then sleeps in poll.  A signal between the two has run its handler before poll began, so
poll is not interrupted: the server sleeps until somebody connects, and the service manager kills it after a minute and a half (hang).
Block the signal, and let ppoll unblock it for as long as it sleeps (ppoll(2), select_tut(2)); a self-pipe or signalfd(2) do as well.
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SIGTERM, SOCK_NONBLOCK

CLASS = "signal between check and wait"
SEEN_IN = "perl5#11458; radvd#12; cyrus-imapd#5309"
CONTRACT = "sigterm"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    stopping: list[int] = []
    sys.sigaction(SIGTERM, stopping.append)
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: dict[int, bytes] = {}  # each with what it has still to get
    while not stopping:
        watched = [(listener, POLLIN), *((fd, POLLOUT if rest else POLLIN) for fd, rest in connections.items())]
        try:
            ready = sys.poll(watched)  # bug: SIGTERM may have come since the loop looked: block it, and use ppoll
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
