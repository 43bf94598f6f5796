"""Echo through a server that only passes bytes on."""

from simkernel.api import Address, Syscalls
from simkernel.testing.contracts.echo import Echo
from simkernel.uapi import AF_INET, MSG_NOSIGNAL, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET

# Where the upstream listens, at the port on which the server listens; nobody does at 127.0.0.2.
SERVES = "127.0.0.3"


class Relay(Echo):
    """The server connects each client on to an upstream that echoes, and passes all bytes and both ends of stream on: it looks like echo.

    The upstream has two addresses, to be tried in this order: 127.0.0.2 and 127.0.0.3, both at the port on which the server listens
    (getsockname tells).  Nobody listens on the first, so it refuses; the second serves.
    """

    name = "relay"
    # Not under posix: what fails between the server and its upstream fails for a client that the fault did not hit.
    profiles = ("linux", "network")
    behaviours = ("turns", "turns", "stream", "vanish", "deaf")
    # It needs two fds for each client, and may turn one away for want of the second.
    crowd = ""
    # What has been read from a client is the upstream's soon, not the server's.
    memory_per_connection = None

    def beside(self, sys: Syscalls, addr: Address) -> list[int]:
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, 1)
        assert isinstance(addr, tuple)
        sys.bind(listener, (SERVES, addr[1]))
        sys.listen(listener, 128)
        pid = sys.spawn(upstream, listener)
        sys.close(listener)
        return [pid]


def upstream(sys: Syscalls, listener: int) -> None:
    """Echo, a thread for each connection, until it is killed."""
    while True:
        conn, _peer = sys.accept4(listener)
        sys.thread(echo_one, conn)


def echo_one(sys: Syscalls, conn: int) -> None:
    """Echo one connection to its end."""
    try:
        while data := sys.recv(conn, 65536):
            sent = 0
            while sent < len(data):
                sent += sys.send(conn, data[sent:], MSG_NOSIGNAL)
    except OSError:
        # The server has broken off, because its client did.
        pass
    sys.close(conn)
