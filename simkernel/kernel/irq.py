"""Interrupt context and softirqs (kernel/softirq.c).

Code that runs for no task: the receive side of the network, timers, drivers' handlers.  It must not sleep.  A softirq raised by a send
runs at once, as on loopback; a choice may leave it for later, as on a busy machine.
"""

from collections.abc import Callable

from simkernel.kernel.sched import Sched


class Softirq:
    """One softirq vector: ``action`` handles the oldest piece of pending work and says whether more is left."""

    __slots__ = ("action", "name", "pending", "running", "sched")

    def __init__(self, sched: Sched, name: str, action: Callable[[], bool]) -> None:
        self.sched = sched
        self.name = name
        self.action = action
        self.pending = False
        self.running = False
        sched.softirq = self.do_softirq

    def raise_softirq(self) -> None:
        """There is work.  It is done now, unless this is called from the work itself, or a choice puts it off."""
        if self.running:
            return
        sched = self.sched
        if sched.explore or sched.trace.on:
            self.pending = True
            if not (sched.explore and sched.choice.pick(2, "softirq-later")):
                self.do_softirq()
            return
        # The plain case: nobody watches and nothing is chosen.
        action = self.action
        self.running = True
        try:
            while action():
                pass
        finally:
            self.running = False

    def do_softirq(self) -> bool:
        """Do what is pending, in interrupt context; False if there was nothing.  A choice may stop it after any piece."""
        if not self.pending or self.running:
            return False
        sched = self.sched
        trace = sched.trace
        action = self.action
        self.running = True
        try:
            if trace.on:
                where, cause = trace.where, trace.cause
                trace.where = (where[0], where[1], "irq")
                while action():
                    if sched.explore and sched.choice.pick(2, "softirq-stop"):
                        break
                else:
                    self.pending = False
                trace.where, trace.cause = where, cause
            else:
                while action():
                    if sched.explore and sched.choice.pick(2, "softirq-stop"):
                        break
                else:
                    self.pending = False
        finally:
            self.running = False
        return True
