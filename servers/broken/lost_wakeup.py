"""An echo server in which one thread accepts and the other serves, and the second misses what the first tells it.

The acceptor puts a connection into a queue, and writes an eventfd unless the flag `told` says that it has done so already.  The other
clears the flag, empties the queue, and then reads the eventfd: what was handed over and told between the last two is read away.  The
connection stays in the queue, the flag stays set, and no later one wakes the thread either (hang).  The window is one call wide.  Read
first, clear then, look last: then the worst is a wake-up for nothing (eventfd(2)).
"""

from simkernel.api import Syscalls
from simkernel.uapi import F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN, POLLOUT, SOCK_NONBLOCK

CLASS = "lost wake-up (flag/eventfd/self-pipe)"
SEEN_IN = "trafficserver#3449"
CONTRACT = "plain"

ONE = (1).to_bytes(8, "little")


class Handover:
    """What the acceptor tells the other thread: new connections, -1 for the end."""

    def __init__(self, sys: Syscalls) -> None:
        self.sys = sys
        self.wake = sys.eventfd()
        self.queue: list[int] = []
        self.told = False

    def put(self, fd: int) -> None:
        self.queue.append(fd)
        if not self.told:
            self.told = True
            self.sys.write(self.wake, ONE)

    def take(self) -> list[int]:
        self.told = False
        fds = list(self.queue)
        self.queue.clear()
        self.sys.read(self.wake, 8)  # bug: it may have been written since the queue was emptied: read it before `told` is cleared
        return fds


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    handover = Handover(sys)
    tid = sys.thread(work, handover)
    while sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] != stop:
        try:
            handover.put(sys.accept4(listener, SOCK_NONBLOCK)[0])
        except OSError:
            sys.nanosleep(1_000_000)  # gone again, or no room now: a pause, not a spin
    handover.put(-1)
    sys.join(tid)
    sys.close(handover.wake)


def work(sys: Syscalls, handover: Handover) -> None:
    connections: dict[int, bytes] = {}  # each with what it has still to get
    while True:
        watched = [(handover.wake, POLLIN), *((fd, POLLOUT if rest else POLLIN) for fd, rest in connections.items())]
        for fd, _ in sys.poll(watched):
            if fd == handover.wake:
                for conn in handover.take():
                    if conn < 0:
                        for open_fd in connections:
                            sys.close(open_fd)
                        return
                    connections[conn] = b""
                continue
            data = connections[fd]
            try:
                data = data or sys.recv(fd, 65536)
                if data:
                    connections[fd] = data
                    connections[fd] = data[sys.send(fd, data, MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                del connections[fd]
                sys.close(fd)
