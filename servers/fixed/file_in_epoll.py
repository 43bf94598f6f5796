"""The twin of broken/file_in_epoll: where epoll refuses the log, it is a file, always ready, and written at once."""

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
    log = sys.memfd_create("log")  # a file, without a name so that it is gone afterwards
    lines = bytearray()  # for the log, when it can be written
    unsent: dict[int, bytes] = {}  # each connection, and what it has still to get
    while True:
        try:
            ready = sys.epoll_wait(ep, 64)
        except InterruptedError:
            continue
        for fd, _ in ready:
            if fd == stop:
                for open_fd in (*unsent, log, ep):
                    sys.close(open_fd)
                return
            if fd == log:
                del lines[: sys.write(log, lines)]
                if not lines:
                    sys.epoll_ctl(ep, EPOLL_CTL_DEL, log)
                continue
            if fd == listener:
                try:
                    conn, _peer = sys.accept4(listener, SOCK_NONBLOCK)
                except OSError:
                    sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
                    continue
                try:
                    sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN)
                except OSError:
                    sys.close(conn)  # no memory: it is turned away
                    continue
                unsent[conn] = b""
                lines += b"accepted %d\n" % conn
                try:
                    sys.epoll_ctl(ep, EPOLL_CTL_ADD, log, EPOLLOUT)
                except FileExistsError:
                    pass  # it waits already
                except PermissionError:
                    del lines[: sys.write(log, lines)]
                continue
            data = unsent[fd]
            try:
                data = data or sys.recv(fd, 65536)
                if data:
                    unsent[fd] = data
                    unsent[fd] = data[sys.send(fd, data, MSG_NOSIGNAL) :]
            except BlockingIOError:
                if not data:
                    continue  # it was recv
            except OSError:
                data = b""
            if data:
                sys.epoll_ctl(ep, EPOLL_CTL_MOD, fd, EPOLLOUT if unsent[fd] else EPOLLIN)
            else:
                del unsent[fd]
                sys.close(fd)
