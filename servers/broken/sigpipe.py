"""An echo server that dies of a client's departure.

A send on a connection that the peer has reset, or that was shut down for sending, fails with EPIPE and raises SIGPIPE, whose default is
to end the process, with all its other clients (send(2), signal(7); fact 126).  A client that sends and closes without reading is enough:
the first send is answered with a reset, the second one kills (fact 17).  Nobody sees it in a test where clients wait for their answers.
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, O_NONBLOCK, POLLIN, POLLOUT, SIG_DFL, SIGPIPE, SOCK_NONBLOCK

CLASS = "SIGPIPE"
SEEN_IN = "nng#338; ecl_core#34"


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
                    connections[fd] = data[sys.send(fd, data) :]  # bug: kills us when the peer is gone: MSG_NOSIGNAL
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                del connections[fd]
                sys.close(fd)
