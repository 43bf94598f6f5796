"""Echo with selectors: Python's own socket objects, and whatever the system has to wait for many of them.

Shows how little of epoll_lt_echo is left to write: `data` of a key holds what its connection has still to get, and modify changes it with
the events.  A connection waits either for bytes or for room, never for both: that is the back-pressure, with at most 64 KiB.  The
listener belongs to somebody else, so the server has a duplicate, which it may close.
"""

import os
import selectors
import socket
from errno import EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO
from selectors import EVENT_READ, EVENT_WRITE

from simkernel.api import Syscalls

CHUNK = 65536
PAUSE = 0.1  # seconds
GONE = (EINTR, ECONNABORTED, EPROTO)  # accept: this client has gone, take the next
FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    with socket.socket(fileno=os.dup(listener)) as own, selectors.DefaultSelector() as selector:
        own.setblocking(False)
        selector.register(stop, EVENT_READ)
        selector.register(own, EVENT_READ)
        full = False  # no fd left: the listener isn't watched for a while
        while True:
            ready = selector.select(PAUSE if full else None)
            if full:  # a pause, or a turn in which a connection may have ended: try again
                full = False
                selector.register(own, EVENT_READ)
            for key, _events in ready:
                if key.fd == stop:
                    for open_key in list(selector.get_map().values()):
                        if isinstance(open_key.fileobj, socket.socket):
                            open_key.fileobj.close()
                    return
                if key.fileobj is own:
                    full = accept(selector, own)
                    if full:
                        selector.unregister(own)
                else:
                    echo(selector, key)


def accept(selector: selectors.BaseSelector, own: socket.socket) -> bool:
    """Take some of those who wait; not all, for others wait too.  True if there is no room for more."""
    for _ in range(64):
        try:
            conn, _peer = own.accept()
        except OSError as error:
            if error.errno in GONE:
                continue
            if error.errno == EAGAIN or error.errno in FULL:
                return error.errno != EAGAIN
            raise
        conn.setblocking(False)
        try:
            selector.register(conn, EVENT_READ, b"")
        except OSError:  # no memory, or too many watches (epoll(7)): it is turned away
            conn.close()
            return True
    return False


def echo(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """At most one recv and one send.  At its end a connection is forgotten, then closed."""
    conn, unsent = key.fileobj, key.data
    assert isinstance(conn, socket.socket)
    try:
        unsent = unsent or conn.recv(CHUNK)
        sent = conn.send(unsent) if unsent else 0
    except BlockingIOError:
        sent = 0
        if not unsent:
            return  # it was recv
    except OSError:
        unsent, sent = b"", 0  # reset: nothing to do for it any more
    if not unsent:  # the client's SHUT_WR, and all of it has been sent back
        selector.unregister(conn)
        conn.close()
    elif sent < len(unsent) or key.data:
        unsent = unsent[sent:]
        selector.modify(conn, EVENT_WRITE if unsent else EVENT_READ, unsent)
