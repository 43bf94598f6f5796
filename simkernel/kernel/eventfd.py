"""eventfd (fs/eventfd.c): a 64-bit counter to wait on."""

import errno
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import WaitQueue, wait_event_locked, wake_up
from simkernel.uapi import EFD_SEMAPHORE, O_RDWR, POLLERR, POLLIN, POLLOUT

ULLONG_MAX: Final = 2**64 - 1


class EventFd(File):
    """eventfd_ctx and its file."""

    __slots__ = ("count", "semaphore", "wqh")
    kind = "eventfd"
    write_iter = False

    def __init__(self, sched: Sched, initval: int, flags: int, f_flags: int) -> None:
        super().__init__(sched, f_flags | O_RDWR)
        self.count = initval
        self.semaphore = bool(flags & EFD_SEMAPHORE)
        self.wqh = WaitQueue(self, "wqh")

    def read(self, n: int) -> bytes:
        """eventfd_read: the counter, or 1 with EFD_SEMAPHORE, as 8 bytes of the host's order (little-endian here)."""
        if n < 8:
            raise oserror(errno.EINVAL)
        if not self.count:
            if self.nonblock:
                self.sched.stall("read of an eventfd at 0")
                raise oserror(errno.EAGAIN)
            wait_event_locked(self.sched, self.wqh, lambda: self.count > 0)
        got = 1 if self.semaphore else self.count
        self.count -= got
        self.sched.stalled = 0
        wake_up(self.wqh, POLLOUT)
        return got.to_bytes(8, "little")

    def write(self, data: bytes) -> int:
        """eventfd_write: add to the counter.  EAGAIN or sleep if it would overflow, EINVAL for 2**64-1."""
        if len(data) != 8:
            raise oserror(errno.EINVAL)
        n = int.from_bytes(data, "little")
        if n == ULLONG_MAX:
            raise oserror(errno.EINVAL)
        if ULLONG_MAX - self.count <= n:
            if self.nonblock:
                self.sched.stall("write to a full eventfd")
                raise oserror(errno.EAGAIN)
            wait_event_locked(self.sched, self.wqh, lambda: ULLONG_MAX - self.count > n)
        self.count += n
        self.sched.stalled = 0
        wake_up(self.wqh, POLLIN)
        return 8

    def release(self) -> None:
        self.wqh.owner = None

    def poll(self, table: PollTable | None) -> int:
        """eventfd_poll."""
        if table is not None:
            table.qproc(self.wqh)
        count = self.count
        mask = 0
        if count > 0:
            mask |= POLLIN
        if count == ULLONG_MAX:
            mask |= POLLERR
        if count < ULLONG_MAX - 1:
            mask |= POLLOUT
        return mask

    def fdinfo(self) -> str:
        """eventfd_show_fdinfo."""
        return f"eventfd-count: {self.count:16x}\neventfd-id: {self.ino}\neventfd-semaphore: {int(self.semaphore)}\n"
