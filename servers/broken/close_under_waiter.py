"""An echo server with a blocking thread for each connection; to stop, it closes the connections and joins the threads.

close takes the number away, not the socket: a thread that sleeps in recv on it holds the file, and sleeps on until the client sends or
goes.  The join waits with it (hang).
"""

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    POLLIN,
)

CLASS = "close while another task waits on fd"
SEEN_IN = "gevent#26, #191"

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 65536


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    threads: list[int] = []
    connections: set[int] = set()
    while True:
        if sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] == stop:
            break
        conn = accept(sys, listener)
        if conn >= 0:
            connections.add(conn)
            threads.append(sys.thread(talk, conn, connections))
    while connections:
        conn = connections.pop()  # now it is ours to close
        sys.close(conn)  # bug: whoever sleeps in recv on it is not woken
    for tid in threads:
        sys.join(tid)


def talk(sys: Syscalls, conn: int, connections: set[int]) -> None:
    """Serve one client to its end."""
    try:
        while data := sys.recv(conn, CHUNK):
            while data:
                data = data[sys.send(conn, data, MSG_NOSIGNAL) :]
    except OSError:
        pass  # reset
    if conn in connections:
        connections.discard(conn)
        sys.close(conn)


def accept(sys: Syscalls, listener: int) -> int:
    """The next connection, or -1: nobody waits, or there is no room for more."""
    try:
        return sys.accept4(listener)[0]
    except OSError as error:
        if error.errno in FULL:
            sys.nanosleep(PAUSE_NS)  # whoever waits makes the listener readable still: a loop without a pause would spin
        return -1
