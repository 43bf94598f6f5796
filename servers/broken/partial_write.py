"""An echo server that takes it for granted that send takes everything.

A non-blocking send takes what fits into the socket's buffer and says how much that was; when nothing fits it fails with EAGAIN (send(2)).
This server drops the rest, and ends the connection at EAGAIN: a client that reads slowly gets a stream with holes, or a part of it
(corruption).  It never shows with small messages, and with big ones only when the reader is late.
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, SOCK_NONBLOCK

CLASS = "partial write dropped / EAGAIN fatal"
SEEN_IN = "uzbl#400; anyrpc#51"
CONTRACT = "plain"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    connections: set[int] = set()
    while True:
        watched = [(stop, POLLIN), (listener, POLLIN), *((fd, POLLIN) for fd in sorted(connections))]
        for fd, _ in sys.poll(watched):
            if fd == stop:
                for conn in connections:
                    sys.close(conn)
                return
            if fd == listener:
                try:
                    connections.add(sys.accept4(listener, SOCK_NONBLOCK)[0])
                except OSError:
                    sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
                continue
            try:
                data = sys.recv(fd, 65536)
                if data:
                    sys.send(fd, data, MSG_NOSIGNAL)  # bug: it may take a part, or nothing (EAGAIN): keep the rest, wait for POLLOUT
            except OSError:
                data = b""
            if not data:
                connections.remove(fd)
                sys.close(fd)
