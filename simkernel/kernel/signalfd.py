"""signalfd (fs/signalfd.c): signals to be read.

It holds no signals itself: a read takes them from the queues of whoever reads, and so does poll look at those of whoever polls.
"""

import errno
import struct
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Process, Sched, SigInfo
from simkernel.kernel.signal import SIG_KERNEL_ONLY_MASK, dequeue_signal, next_signal
from simkernel.kernel.wait import WaitQueue, wait_event_locked, wake_up
from simkernel.uapi import O_RDWR, POLLIN

SIGINFO_SIZE: Final = 128
# ssi_signo, ssi_errno, ssi_code, ssi_pid, ssi_uid, ssi_fd, ssi_tid, ssi_band, ssi_overrun, ssi_trapno, ssi_status.
_SIGINFO: Final = struct.Struct("<IiiIIiIIIIi")
ALL_SIGNALS: Final = 2**64 - 1


def siginfo(info: SigInfo) -> bytes:
    """struct signalfd_siginfo.  Times of a child are 0: processors are not modelled; the user is root."""
    return _SIGINFO.pack(info.signo, 0, info.code, info.pid, 0, 0, 0, 0, 0, 0, info.status).ljust(SIGINFO_SIZE, b"\0")


def signalfd_wqh(process: Process) -> WaitQueue:
    """The wait queue of a process that its signals wake (sighand_struct)."""
    if process.signalfd_wqh is None:
        process.signalfd_wqh = WaitQueue(process, "signalfd_wqh")
    return process.signalfd_wqh


class SignalFd(File):
    """signalfd_ctx and its file; ``sigmask`` are the signals that it is for."""

    __slots__ = ("sigmask",)
    kind = "signalfd"
    can_write = False

    def __init__(self, sched: Sched, sigmask: int, f_flags: int) -> None:
        super().__init__(sched, f_flags | O_RDWR)
        self.sigmask = sigmask

    def fdinfo(self) -> str:
        """signalfd_show_fdinfo."""
        return f"sigmask:\t{self.sigmask:016x}\n"

    def set_mask(self, sigmask: int) -> None:
        """signalfd(2) of an existing one."""
        self.sigmask = sigmask
        wake_up(signalfd_wqh(self.sched.current.process))

    def read(self, n: int) -> bytes:
        """signalfd_read_iter: as many as there are and as fit, 128 bytes each; EAGAIN or sleep when there is none."""
        count = n // SIGINFO_SIZE
        if not count:
            raise oserror(errno.EINVAL)
        sched = self.sched
        task = sched.current
        blocked = ~self.sigmask & ALL_SIGNALS
        got = bytearray()
        while count:
            info = dequeue_signal(sched, task, blocked)
            if info is None:
                if got:
                    break
                if self.nonblock:
                    sched.stall("read of a signalfd without signals")
                    raise oserror(errno.EAGAIN)
                wait_event_locked(sched, signalfd_wqh(task.process), lambda: self.poll(None) != 0, head=True)
                continue
            got += siginfo(info)
            count -= 1
        sched.stalled = 0
        return bytes(got)

    def poll(self, table: PollTable | None) -> int:
        """signalfd_poll."""
        task = self.sched.current
        if table is not None:
            table.qproc(signalfd_wqh(task.process))
        blocked = ~self.sigmask | SIG_KERNEL_ONLY_MASK
        return POLLIN if next_signal(task.pending, blocked) or next_signal(task.process.shared_pending, blocked) else 0
