"""An echo server with a control socket in the file system, which can't be started again after a crash.

bind makes a file, close does not remove it, and a process that is killed removes nothing: the next bind to the path fails with
EADDRINUSE although nobody listens there (unix(7); fact 121).  A clean stop unlinks it, so every test passes; after the first crash the
server does not come back (crash).  The socket is /tmp/control-PORT, PORT being the listener's; whoever writes "quit" there ends the server.
"""

from simkernel.api import Syscalls
from simkernel.uapi import AF_UNIX, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_DGRAM, SOCK_NONBLOCK

CLASS = "stale unix socket path"
SEEN_IN = "nginx#851; neovim#37378"
CONTRACT = "restarted"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    path = f"/tmp/control-{sys.getsockname(listener)[1]}"
    control = sys.socket(AF_UNIX, SOCK_DGRAM)
    sys.bind(control, path)  # bug: EADDRINUSE when the last server was killed: unlink what nobody listens to
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
