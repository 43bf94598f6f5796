"""Echo, to clients that send much and take nothing."""

from simkernel.api import Address, Syscalls
from simkernel.testing.contracts.base import MIB, MS, Plan, Violation
from simkernel.testing.contracts.echo import Echo
from simkernel.uapi import AF_INET, MSG_DONTWAIT, MSG_NOSIGNAL, POLLOUT, SO_RCVBUF, SOCK_STREAM, SOL_SOCKET

# Milliseconds without space for one more byte after which a client has been held back.
STUCK_MS = 100
# In bytes: the receive buffer of who takes nothing, and the send buffer of the server's connections.
WINDOW = 8192
SMALL = 4608


class Flood(Echo):
    """Echo; and of a client that sends and does not read the server holds at most 64 KiB, then holds it back.

    Behaviours: some of Echo's, and "pour": send up to 4 MiB without reading, until nothing has moved for 100 ms; then close.
    """

    name = "flood"
    behaviours = ("turns", "turns", "stream", "pour", "vanish")
    stays = frozenset()
    crowd = ""
    memory_per_connection = 64 * 1024
    send_buffer = SMALL

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        if plan.behaviour != "pour":
            super().play(sys, addr, plan)
            return
        if plan.start_ms:
            sys.nanosleep(plan.start_ms * MS)
        fd = congested(sys, addr, plan)
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
        sys.close(fd)


def congested(sys: Syscalls, addr: Address, plan: Plan) -> int:
    """A connection for which the kernel keeps little."""
    fd = sys.socket(AF_INET, SOCK_STREAM)
    sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, WINDOW)
    try:
        sys.connect(fd, addr)
    except OSError as error:
        raise Violation("corruption", f"{plan}: connect failed: {error.strerror}") from None
    return fd
