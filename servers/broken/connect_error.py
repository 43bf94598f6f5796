"""A relay that takes a writable socket for a connected one.

A non-blocking connect is under way when it returns (EINPROGRESS), and over when poll says POLLOUT; whether it went well is a question that
SO_ERROR answers (connect(2); fact 35: a refused one is writable, too).  This relay does not ask: the first address of its upstream
refuses, and instead of trying the second it passes the client's bytes to a socket that is connected to nobody; the client is dropped
(corruption).  The upstream's addresses are 127.0.0.2 and 127.0.0.3, at the port on which the relay listens.
"""

from simkernel.api import Syscalls
from simkernel.uapi import AF_INET, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SHUT_WR, SOCK_NONBLOCK, SOCK_STREAM

CLASS = "non-blocking connect, SO_ERROR ignored"
SEEN_IN = "crystal#8565; 3proxy#1115"
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
        if sys.poll([(stop, POLLIN), (fd, POLLOUT)])[0][0] != stop:
            return fd  # bug: the end of connect may be an error, ask for SO_ERROR
        sys.close(fd)
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
