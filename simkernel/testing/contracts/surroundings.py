"""Echo, where the server runs under other conditions: how it is stopped, what it finds when it starts, how many come at once."""

from simkernel.api import Address, Syscalls
from simkernel.kernel.choice import Choice
from simkernel.testing.contracts.base import Plan, Violation
from simkernel.testing.contracts.echo import Echo
from simkernel.uapi import AF_INET, F_SETFL, FD_SETSIZE, POLLOUT, SIGTERM, SOCK_NONBLOCK, SOCK_STREAM


class Plain(Echo):
    """Echo to clients that come, talk and go by themselves, by a server that has fds for all of them."""

    name = "plain"
    behaviours = ("turns", "turns", "stream", "vanish", "deaf", "reset", "early")
    stays = frozenset()
    crowd = ""


class Sigterm(Plain):
    """Echo, by a server that SIGTERM stops, as service managers do, and starts again: serve returns, and ``stop`` stays unreadable."""

    name = "sigterm"
    stop_signal = SIGTERM
    lives = 3


class Restarted(Plain):
    """Echo, by a server that was killed (SIGKILL) after it had served a client, and is started again on the same listener.

    If it needs a path, it is /tmp/control-PORT, PORT being the listener's (getsockname): at the end it is removed.
    """

    name = "restarted"
    lives = 2

    def after(self, sys: Syscalls, addr: Address) -> None:
        try:
            sys.unlink(f"/tmp/control-{addr[1]}")
        except FileNotFoundError:
            pass


class Crowded(Plain):
    """Echo, by a server that has much else open: its second connection gets the number FD_SETSIZE; the limit of open files is far off."""

    name = "crowded"
    open_fds = FD_SETSIZE - 1


class Burst(Plain):
    """Echo, to clients that come all at once: each is connected within ``within_ms``, before a lost SYN would be sent again (1 s)."""

    name = "burst"
    # A network loses a SYN of its own accord.
    profiles = ("linux", "posix")
    within_ms = 500

    def plan(self, choice: Choice, number: int) -> Plan:
        plan = super().plan(choice, number)
        return Plan(number, plan.behaviour, plan.sizes, 0, plan.pause_ms, plan.read_size)

    def _connect(self, sys: Syscalls, addr: Address, plan: Plan) -> int:
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        try:
            sys.connect(fd, addr)
        except BlockingIOError:
            pass
        if not sys.poll([(fd, POLLOUT)], self.within_ms):
            raise Violation("starvation", f"{plan}: not connected after {self.within_ms} ms: its SYN was dropped, for the backlog is full")
        sys.fcntl(fd, F_SETFL, 0)
        return fd
