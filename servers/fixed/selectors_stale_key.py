"""The twin of broken/selectors_stale_key: first unregistered, then closed."""

import os
import selectors
import socket
from selectors import EVENT_READ, EVENT_WRITE

from simkernel.api import Syscalls

CHUNK = 65536
PAUSE = 0.1  # seconds


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    connections: set[socket.socket] = set()
    with socket.socket(fileno=os.dup(listener)) as own, selectors.DefaultSelector() as selector:
        own.setblocking(False)
        selector.register(stop, EVENT_READ)
        selector.register(own, EVENT_READ)
        paused = False
        while True:
            ready = selector.select(PAUSE if paused else None)
            if paused:
                paused = False
                selector.register(own, EVENT_READ)
            for key, _events in ready:
                if key.fd == stop:
                    for conn in connections:
                        conn.close()
                    return
                if key.fileobj is own:
                    try:
                        conn, _peer = own.accept()
                    except BlockingIOError:
                        continue
                    except OSError:
                        paused = True  # no fd for it
                        selector.unregister(own)
                        continue
                    conn.setblocking(False)
                    connections.add(conn)
                    selector.register(conn, EVENT_READ, b"")
                elif not echo(selector, key):
                    assert isinstance(key.fileobj, socket.socket)
                    connections.remove(key.fileobj)
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def echo(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> bool:
    """At most one recv and one send.  False when the connection is at its end."""
    conn, unsent = key.fileobj, key.data
    assert isinstance(conn, socket.socket)
    try:
        unsent = unsent or conn.recv(CHUNK)
        sent = conn.send(unsent) if unsent else 0
    except BlockingIOError:
        sent = 0
        if not unsent:
            return True
    except OSError:
        return False  # reset
    if not unsent:
        return False  # the client's SHUT_WR, and all of it has been sent back
    if sent < len(unsent) or key.data:
        selector.modify(conn, EVENT_WRITE if unsent[sent:] else EVENT_READ, unsent[sent:])
    return True
