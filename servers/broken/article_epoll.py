"""The edge-triggered epoll echo server of a well-known article on I/O multiplexing, rebuilt with its bugs.

It takes turns with each connection: wait for EPOLLIN, read, wait for EPOLLOUT, send, wait for EPOLLIN.  But:
  1. it accepts once for an edge of the listener: of two clients who come together the second waits for a third (hang);
  2. it reads once for an edge.  Alone that would leave the rest of a longer message lying; the EPOLL_CTL_MODs save it, for MOD looks
     again, and what lies there is a new event.  Only luck: no line says so (see et_read_once.py for the same without the luck);
  3. it compares `events == EPOLLIN`: an event with more bits, as a reset's EPOLLIN|EPOLLERR|EPOLLHUP, matches no branch, and
     edge-triggered it comes once: the fd is never closed (leak);
  4. its sockets block, the listener too: one event that isn't true, and the whole server sleeps in accept, recv or send (starvation).
     On Linux EPOLLOUT promises room for these 1,024 bytes, and so luck saves it again;
  5. it knows no errors: a client that resets at the wrong moment ends the server for all (crash).
"""

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
)


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLET)
    replies: dict[int, bytes] = {}
    running = True
    while running:
        for fd, events in sys.epoll_wait(ep, 64):
            if fd == stop:
                running = False
            elif fd == listener:
                conn, _peer = sys.accept4(listener)  # bug: once for an edge, which may stand for many; and the new socket blocks
                replies[conn] = b""
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN | EPOLLET)
            elif events == EPOLLIN:  # bug: a set of bits, compared as one value
                data = sys.recv(fd, 1024)  # bug: once for an edge, not until EAGAIN; a reset raises
                if data:
                    replies[fd] = data
                    sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLOUT | EPOLLET)
                else:
                    sys.epoll_ctl(ep, EPOLL_CTL_DEL, fd)
                    sys.close(fd)
                    del replies[fd]
            elif events == EPOLLOUT:  # bug: the same
                sys.send(fd, replies[fd])  # bug: may sleep, for all; raises if the client has gone
                sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET)
            elif events == EPOLLHUP:  # bug: never true, EPOLLHUP doesn't come alone
                sys.epoll_ctl(ep, EPOLL_CTL_DEL, fd)
                sys.close(fd)
                del replies[fd]
    for fd in replies:
        sys.close(fd)
    sys.close(ep)


def main(sys: Syscalls) -> None:
    listener = sys.socket(AF_INET, SOCK_STREAM)
    sys.setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, 1)
    sys.bind(listener, ("127.0.0.1", 9000))
    sys.listen(listener, 10)
    serve(sys, listener, sys.eventfd())
