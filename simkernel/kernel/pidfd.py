"""pidfd (kernel/pid.c, fs/pidfs.c): a process to wait for."""

from simkernel.kernel.file import File
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Process, Sched
from simkernel.kernel.stat import PIDFS_DEV, Kstat
from simkernel.kernel.wait import WaitQueue
from simkernel.uapi import O_RDWR, POLLHUP, POLLIN, POLLRDNORM


class PidFd(File):
    """A file that stands for ``process``, even when it is gone."""

    __slots__ = ("process",)
    kind = "pidfd"
    can_seek = False
    can_read = False
    can_write = False

    def __init__(self, sched: Sched, process: Process, f_flags: int) -> None:
        super().__init__(sched, f_flags | O_RDWR)
        self.process = process

    def getattr(self) -> Kstat:
        return Kstat(0o700, PIDFS_DEV, self.process.pid)

    def fdinfo(self) -> str:
        """pidfd_show_fdinfo: -1 for a process that has been waited for."""
        pid = self.process.pid if self.sched.processes.get(self.process.pid) is self.process else -1
        return f"Pid:\t{pid}\nNSpid:\t{pid}\n"

    def poll(self, table: PollTable | None) -> int:
        """pidfd_poll: IN when it has ended, HUP too when it has been waited for."""
        process = self.process
        if table is not None:
            if process.wait_pidfd is None:
                process.wait_pidfd = WaitQueue(process, "wait_pidfd")
            table.qproc(process.wait_pidfd)
        if not process.zombie:
            return 0
        mask = POLLIN | POLLRDNORM
        return mask if self.sched.processes.get(process.pid) is process else mask | POLLHUP
