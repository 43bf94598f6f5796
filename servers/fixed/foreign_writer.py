"""The twin of broken/foreign_writer: whoever wants to know asks the transport, not its fd."""

from collections.abc import Callable
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    SOCK_NONBLOCK,
)

FULL = (EMFILE, ENFILE, ENOBUFS, ENOMEM)  # accept: no room for anyone now
PAUSE_NS = 10_000_000

CHUNK = 65536


class Loop:
    """One reader and one writer for each fd, each a function without arguments."""

    def __init__(self, sys: Syscalls) -> None:
        self.sys = sys
        self.ep = sys.epoll_create1()
        self.readers: dict[int, Callable[[], object]] = {}
        self.writers: dict[int, Callable[[], object]] = {}

    def watch(self, fd: int, reader: Callable[[], object] | None, writer: Callable[[], object] | None) -> None:
        """Set both, None for none."""
        known = fd in self.readers or fd in self.writers
        for table, callback in ((self.readers, reader), (self.writers, writer)):
            table.pop(fd, None)
            if callback:
                table[fd] = callback
        events = (EPOLLIN if reader else 0) | (EPOLLOUT if writer else 0)
        if known and not events:
            self.sys.epoll_ctl(self.ep, EPOLL_CTL_DEL, fd)
        elif known or events:
            self.sys.epoll_ctl(self.ep, EPOLL_CTL_MOD if known else EPOLL_CTL_ADD, fd, events)

    def run_once(self) -> None:
        for fd, events in self.sys.epoll_wait(self.ep, 64):
            table = self.writers if fd in self.writers and events & (EPOLLOUT | EPOLLERR | EPOLLHUP) else self.readers
            if fd in table:
                table[fd]()


class Transport:
    def __init__(self, loop: Loop, fd: int, open_: dict[int, "Transport"]) -> None:
        self.loop = loop
        self.fd = fd
        self.open = open_
        self.unsent = b""  # received, not yet sent
        self.waits = 0  # how often it had to wait for room
        open_[fd] = self
        loop.watch(fd, self.go_on, None)

    def go_on(self) -> None:
        """At most one recv and one send."""
        sys, fd = self.loop.sys, self.fd
        waited = bool(self.unsent)
        try:
            if not self.unsent:
                self.unsent = sys.recv(fd, CHUNK)
                if not self.unsent:
                    self.close()  # the client's SHUT_WR, and all of it has been sent back
                    return
            self.unsent = self.unsent[sys.send(fd, self.unsent, MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()  # reset
            return
        if bool(self.unsent) != waited:
            self.loop.watch(fd, self.go_on if waited else None, None if waited else self.go_on)
            if self.unsent:
                count_wait(self)

    def close(self) -> None:
        del self.open[self.fd]
        self.loop.watch(self.fd, None, None)
        self.loop.sys.close(self.fd)


def count_wait(transport: Transport) -> None:
    """The statistics' own code: how often do clients keep us waiting, and until when?"""
    transport.waits += 1


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    loop = Loop(sys)
    transports: dict[int, Transport] = {}
    stopped: list[bool] = []

    def welcome() -> None:
        conn = accept(sys, listener)
        if conn >= 0:
            Transport(loop, conn, transports)

    loop.watch(stop, lambda: stopped.append(True), None)
    loop.watch(listener, welcome, None)
    while not stopped:
        loop.run_once()
    for transport in list(transports.values()):
        transport.close()
    sys.close(loop.ep)


def accept(sys: Syscalls, listener: int) -> int:
    """The next connection, or -1: nobody waits, or there is no room for more."""
    try:
        return sys.accept4(listener, SOCK_NONBLOCK)[0]
    except OSError as error:
        if error.errno in FULL:
            sys.nanosleep(PAUSE_NS)  # whoever waits makes the listener readable still: a loop without a pause would spin
        return -1
