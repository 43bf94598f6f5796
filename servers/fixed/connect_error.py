"""The twin of broken/connect_error: SO_ERROR says whether connect went well, and if it did not, the next address is tried."""

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    POLLIN,
    POLLOUT,
    SHUT_WR,
    SO_ERROR,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

CONTRACT = "relay"

UPSTREAM = ("127.0.0.2", "127.0.0.3")


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    threads = []
    while sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] != stop:
        try:
            client, _peer = sys.accept4(listener, SOCK_NONBLOCK)
        except OSError:
            sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
            continue
        try:
            threads.append(sys.thread(relay, client, sys.getsockname(listener)[1], stop))
        except OSError:
            sys.close(client)  # no thread for it: it is turned away
    for tid in threads:
        sys.join(tid)


def relay(sys: Syscalls, client: int, port: int, stop: int) -> None:
    """One client, from its upstream's connection to the end of both."""
    upstream = connect(sys, port, stop)
    if upstream >= 0:
        try:
            pump(sys, client, upstream, stop)
        except OSError:
            pass  # reset: the other side learns it by the close
        sys.close(upstream)
    sys.close(client)


def connect(sys: Syscalls, port: int, stop: int) -> int:
    """A connection to the first address that takes one; -1 if none does, or at `stop`."""
    for host in UPSTREAM:
        try:
            fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        except OSError:
            break  # no room for one
        try:
            sys.connect(fd, (host, port))
        except BlockingIOError:
            pass  # EINPROGRESS
        stopped = sys.poll([(stop, POLLIN), (fd, POLLOUT)])[0][0] == stop
        if not stopped and not sys.getsockopt(fd, SOL_SOCKET, SO_ERROR):
            return fd
        sys.close(fd)
        if stopped:
            break
    return -1


def pump(sys: Syscalls, client: int, upstream: int, stop: int) -> None:
    """Pass bytes and ends of stream on, both ways, until both have ended."""
    peer = {client: upstream, upstream: client}
    unsent = {client: b"", upstream: b""}  # read, and to be sent to this one
    reading = {client, upstream}
    while reading or any(unsent.values()):
        watched = [(stop, POLLIN)]
        watched += [(fd, POLLOUT) for fd in peer if unsent[fd]]
        watched += [(fd, POLLIN) for fd in peer if fd in reading and not unsent[peer[fd]]]
        for fd, events in sys.poll(watched):
            if fd == stop:
                return
            try:
                if unsent[fd] and events & ~POLLIN:
                    unsent[fd] = unsent[fd][sys.send(fd, unsent[fd], MSG_NOSIGNAL) :]
                elif fd in reading and not unsent[peer[fd]]:
                    unsent[peer[fd]] = sys.recv(fd, 65536)
                    if not unsent[peer[fd]]:
                        reading.remove(fd)
                        sys.shutdown(peer[fd], SHUT_WR)
            except BlockingIOError:
                continue
