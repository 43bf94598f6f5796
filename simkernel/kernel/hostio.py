"""The machine's own console, as seen from inside (arch/um/drivers/chan_user.c): characters that come from the host and go to it."""

import errno
from collections.abc import Callable
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import WaitQueue, wait_event, wake_up
from simkernel.uapi import O_RDONLY, O_WRONLY, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM

NOTHING: Final = b""


class HostInput(File):
    """What the host types.

    ``data`` is there from the start.  ``more()`` waits in real time for what comes next, ``b""`` at the end; it is called only when every
    task sleeps and somebody waits here, and virtual time stands still meanwhile: so the same input is the same run.
    """

    __slots__ = ("data", "more", "wq")
    kind = "tty"
    can_seek = False
    can_write = False

    def __init__(self, sched: Sched, data: bytes = NOTHING, more: Callable[[], bytes] | None = None) -> None:
        super().__init__(sched, O_RDONLY)
        self.data = data
        self.more = more
        self.wq = WaitQueue(self, "read_wait")
        if more is not None:
            sched.host_input = self.receive_chars

    def readable_now(self) -> bool:
        """Whether a read returns at once: there is something, or never will be."""
        return bool(self.data) or self.more is None

    def read(self, n: int) -> bytes:
        """n_tty_read: what is there; ``b""`` at the end."""
        if not self.readable_now():
            if self.nonblock:
                self.sched.stall("read of a terminal without input")
                raise oserror(errno.EAGAIN)
            wait_event(self.sched, self.wq, self.readable_now)
        got, self.data = self.data[:n], self.data[n:]
        if got:
            self.sched.stalled = 0
        return got

    def poll(self, table: PollTable | None) -> int:
        """n_tty_poll."""
        if table is not None:
            table.qproc(self.wq)
        return POLLIN | POLLRDNORM if self.readable_now() else 0

    def fionread(self) -> int:
        return len(self.data)

    def receive_chars(self) -> bool:
        """The interrupt of the terminal, when nobody can run: False if nobody waits for it."""
        if self.more is None or not self.wq.entries or self.readable_now():
            return False
        self.data = self.more()
        if not self.data:
            self.more = None
        wake_up(self.wq, POLLIN)
        return True

    def release(self) -> None:
        self.wq.owner = None


class HostOutput(File):
    """What the host sees: ``put`` is called with what is written."""

    __slots__ = ("put",)
    kind = "tty"
    can_seek = False
    can_read = False

    def __init__(self, sched: Sched, put: Callable[[bytes], object]) -> None:
        super().__init__(sched, O_WRONLY)
        self.put = put

    def write(self, data: bytes) -> int:
        self.put(bytes(data))
        self.sched.stalled = 0
        return len(data)

    def poll(self, table: PollTable | None) -> int:
        return POLLOUT | POLLWRNORM
