"""Echo, to clients that send much and take nothing."""

from simkernel.api import Address, Syscalls
from simkernel.testing.contracts.base import MIB, Plan
from simkernel.testing.contracts.echo import Echo
from simkernel.uapi import AF_INET, MSG_DONTWAIT, MSG_NOSIGNAL, POLLOUT, SO_RCVBUF, SOCK_STREAM, SOL_SOCKET

# Milliseconds without space for one more byte after which a client has been held back.
STUCK_MS = 100
# The receive buffer of who takes nothing: the less the kernel keeps, the sooner the server must.
SMALL = 4608


class Flood(Echo):
    """Echo; and of a client that sends and does not read the server holds at most 64 KiB, then holds it back.

    Behaviours: those of Echo, and "flood": send up to 4 MiB without reading, until nothing has moved for 100 ms; then close.
    """

    name = "flood"
    behaviours = ("turns", "turns", "stream", "flood", "vanish")
    memory_per_connection = 64 * 1024

    def connect(self, sys: Syscalls, addr: Address, plan: Plan) -> int:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        if plan.behaviour == "flood":
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, SMALL)
        sys.connect(fd, addr)
        return fd

    def _careless(self, sys: Syscalls, fd: int, plan: Plan, data: bytes) -> None:
        if plan.behaviour != "flood":
            super()._careless(sys, fd, plan, data)
            return
        block = bytes(MIB // 4)
        left = 16 * len(block)
        while left > 0:
            try:
                left -= sys.send(fd, block, MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except (ConnectionResetError, BrokenPipeError):
                # Cut off: that holds it back, too.
                break
            if left > 0 and not sys.poll([(fd, POLLOUT)], STUCK_MS):
                break
