"""flock(2) (fs/locks.c): a lock on an inode belongs to an open file description, and goes with it."""

import errno
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.namei import Vfs
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import WaitQueue, wait_event, wake_up_all
from simkernel.uapi import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN

MODELLED: Final = (LOCK_SH, LOCK_EX, LOCK_UN)


class FlockContext:
    """The locks of one inode: (file, LOCK_SH or LOCK_EX), in the order in which they were granted."""

    __slots__ = ("held", "wq")

    def __init__(self) -> None:
        self.held: list[tuple[File, int]] = []
        self.wq = WaitQueue(self, "flock")

    def conflicts(self, file: File, kind: int) -> bool:
        """flock_locks_conflict with any other file's."""
        return any(other is not file and LOCK_EX in (kind, has) for other, has in self.held)

    def remove(self, file: File) -> None:
        """Give a file's lock back, and wake whoever waits for it."""
        left = [(other, has) for other, has in self.held if other is not file]
        if len(left) < len(self.held):
            self.held = left
            file.remove_hook(self)
            wake_up_all(self.wq)

    def release_file(self, file: File) -> None:
        """locks_remove_flock."""
        self.remove(file)


def flock_lock_inode_wait(sched: Sched, vfs: Vfs, file: File, operation: int) -> None:
    """flock_lock_inode_wait: EWOULDBLOCK with LOCK_NB.  What the file had of another kind is gone, whether or not."""
    kind = operation & ~LOCK_NB
    if kind not in MODELLED:
        raise oserror(errno.EINVAL)
    if kind != LOCK_UN and not file.readable and not file.writable:
        raise oserror(errno.EBADF)
    found = file.getattr()
    key = (found.dev, found.ino)
    context = vfs.flocks.get(key)
    if not isinstance(context, FlockContext):
        if kind == LOCK_UN:
            return
        context = vfs.flocks[key] = FlockContext()
    if (file, kind) in context.held:
        return
    context.remove(file)
    if kind == LOCK_UN:
        return
    here = context
    while here.conflicts(file, kind):
        if operation & LOCK_NB:
            sched.stall("flock")
            raise oserror(errno.EWOULDBLOCK)
        wait_event(sched, here.wq, lambda: not here.conflicts(file, kind))
    here.held.append((file, kind))
    file.add_hook(here)
