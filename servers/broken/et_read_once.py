"""An edge-triggered echo server that reads once for an edge; otherwise right.

A client that sends 1,500 bytes gets 1,024 back.  The other 476 lie in the receive buffer, and no edge will come for them: only new data,
a FIN or an EPOLL_CTL_MOD makes one.  The client waits for them, the server for the client (hang).  The twin is epoll_et_echo.
"""

from simkernel.api import Syscalls
from simkernel.uapi import EPOLL_CTL_ADD, EPOLLET, EPOLLIN, F_GETFL, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, sys.fcntl(listener, F_GETFL) | O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    connections: set[int] = set()
    running = True
    while running:
        for fd, _ in sys.epoll_wait(ep, 64):
            if fd == stop:
                running = False
            elif fd == listener:
                try:
                    conn, _peer = sys.accept4(listener)
                except BlockingIOError:
                    continue
                connections.add(conn)
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN | EPOLLET)
            else:
                try:
                    data = sys.recv(fd, 1024)  # bug: there may be more, and no edge will say so: read until EAGAIN
                    sent = 0
                    while sent < len(data):  # the sockets block: simple, and not what this file is about
                        sent += sys.send(fd, data[sent:], MSG_NOSIGNAL)
                except OSError:
                    data = b""
                if not data:
                    connections.remove(fd)
                    sys.close(fd)
    for fd in connections:
        sys.close(fd)
    sys.close(ep)
