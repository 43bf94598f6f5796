"""Interrupt context and softirqs (kernel/softirq.c).

Code that runs for no task: the receive side of the network, timers, drivers' handlers.  It must not sleep.  A softirq raised by a send
runs at once, as on loopback; a choice may leave it for later, as on a busy machine.
"""

from simkernel.kernel.sched import Sched


class Softirq:
    """One softirq vector; each has an ``action`` of its own."""

    __slots__ = ("pending", "running", "sched")

    def __init__(self, sched: Sched) -> None:
        self.sched = sched
        self.pending = False
        self.running = False
        sched.softirq = self

    def action(self) -> bool:
        """Do the work that waits; True if some is left."""
        raise NotImplementedError

    def raise_softirq(self) -> None:
        """There is work.  It is done now, unless this is called from the work itself, or a choice puts it off."""
        if self.running:
            return
        sched = self.sched
        self.pending = True
        if not (sched.explore and sched.choice.pick(2, "softirq-later")):
            self.do_softirq()

    def do_softirq(self) -> bool:
        """Do what is pending, in interrupt context; False if there was nothing to do."""
        if not self.pending or self.running:
            return False
        trace = self.sched.trace
        where, cause = trace.where, trace.cause
        if trace.on:
            trace.where = (where[0], where[1], "irq")
        self.running = True
        try:
            self.pending = self.action()
        finally:
            self.running = False
            trace.where, trace.cause = where, cause
        return True
