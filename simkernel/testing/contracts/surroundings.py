"""Echo, where the server runs under other conditions: how it is stopped, what it finds when it starts, how many come at once."""

from simkernel.api import Address, Syscalls
from simkernel.kernel.choice import Choice
from simkernel.testing.contracts.base import MS, Plan, Violation
from simkernel.testing.contracts.echo import Echo
from simkernel.uapi import AF_INET, CLOCK_MONOTONIC, FD_SETSIZE, SIGTERM, SOCK_STREAM


class Sigterm(Echo):
    """Echo, by a server that SIGTERM stops, as service managers do, and starts again: serve returns, and ``stop`` stays unreadable."""

    name = "sigterm"
    stop_signal = SIGTERM
    restarts = 2


class Restarted(Echo):
    """Echo, by a server that was killed (SIGKILL) after it had served a client, and is started again on the same listener."""

    name = "restarted"
    restarts = 1


class Crowded(Echo):
    """Echo, by a server that has much else open: the next fd but one is FD_SETSIZE, and the limit of open files is far away."""

    name = "crowded"
    open_fds = FD_SETSIZE - 2


class Burst(Echo):
    """Echo, to clients that come all at once: each is connected within ``within_ms``, before a lost SYN would be sent again (1 s)."""

    name = "burst"
    within_ms = 500

    def plan(self, choice: Choice, number: int) -> Plan:
        plan = super().plan(choice, number)
        return Plan(number, plan.behaviour, plan.sizes, 0, plan.pause_ms, plan.read_size)

    def connect(self, sys: Syscalls, addr: Address, plan: Plan) -> int:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        began = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        sys.connect(fd, addr)
        took = (sys.clock_gettime_ns(CLOCK_MONOTONIC) - began) // MS
        if took > self.within_ms:
            raise Violation(
                "starvation", f"{plan}: connected after {took} ms, not within {self.within_ms}: its SYN was dropped, and sent again"
            )
        return fd
