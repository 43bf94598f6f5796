"""The twin of broken/close_under_waiter: shutdown wakes whoever sleeps on the socket, and it is closed when nobody does any more."""

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    POLLIN,
    SHUT_RDWR,
)

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
    stopped: list[int] = []
    while connections:
        conn = connections.pop()  # now it is ours to close
        stopped.append(conn)
        try:
            sys.shutdown(conn, SHUT_RDWR)
        except OSError:
            pass  # ENOTCONN: it has been reset, and that has woken the thread
    for tid in threads:
        sys.join(tid)
    for conn in stopped:
        sys.close(conn)


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
