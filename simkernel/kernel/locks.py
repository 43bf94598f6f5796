"""Locks on files (fs/locks.c): those of flock(2) belong to an open file description, records locked by fcntl(2) to a process."""

import errno
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.file import File
from simkernel.kernel.namei import LOFF_MAX, Vfs
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import WaitQueue, wait_event, wake_up_all
from simkernel.uapi import F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, SEEK_CUR, SEEK_END, SEEK_SET

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


# --- record locks ---
class PosixLock:
    """struct file_lock of fcntl(2): ``type`` from byte ``start`` to ``end``, both inclusive, taken by process ``pid``."""

    __slots__ = ("end", "pid", "start", "type")

    def __init__(self, type: int, start: int, end: int, pid: int) -> None:
        self.type = type
        self.start = start
        self.end = end
        self.pid = pid


class PosixContext:
    """The record locks of one inode, by their owner, a table of fds, in the order in which they came; each owner's by position."""

    __slots__ = ("held", "wq")

    def __init__(self) -> None:
        self.held: dict[FilesStruct, list[PosixLock]] = {}
        self.wq = WaitQueue(self, "record locks")

    def conflict(self, owner: FilesStruct, lock: PosixLock) -> tuple[FilesStruct, PosixLock] | None:
        """posix_test_lock: the first lock of another that overlaps and does not share."""
        for other, locks in self.held.items():
            for has in locks:
                if other is not owner and F_WRLCK in (lock.type, has.type) and has.start <= lock.end and lock.start <= has.end:
                    return other, has
        return None

    def set(self, owner: FilesStruct, lock: PosixLock) -> None:
        """posix_lock_inode, without a conflict: what the owner had there is replaced; neighbours of one type become one."""
        kept: list[PosixLock] = []
        for has in self.held.get(owner, []):
            if has.start < lock.start:
                kept.append(PosixLock(has.type, has.start, min(has.end, lock.start - 1), has.pid))
            if has.end > lock.end:
                kept.append(PosixLock(has.type, max(has.start, lock.end + 1), has.end, has.pid))
        if lock.type != F_UNLCK:
            kept.append(lock)
        kept.sort(key=lambda has: has.start)
        merged: list[PosixLock] = []
        for has in kept:
            if merged and merged[-1].type == has.type and merged[-1].end + 1 == has.start:
                merged[-1] = PosixLock(has.type, merged[-1].start, has.end, has.pid)
            else:
                merged.append(has)
        if merged:
            self.held[owner] = merged
        else:
            self.held.pop(owner, None)
        wake_up_all(self.wq)


def flock_to_posix_lock(file: File, type: int, whence: int, start: int, length: int, pid: int) -> PosixLock:
    """flock64_to_posix_lock.  EINVAL for a range that begins before the file, EOVERFLOW for one that no loff_t holds."""
    if whence == SEEK_CUR:
        start += file.f_pos
    elif whence == SEEK_END:
        start += file.getattr().size
    elif whence != SEEK_SET:
        raise oserror(errno.EINVAL)
    if start > LOFF_MAX:
        raise oserror(errno.EOVERFLOW)
    if length < 0:
        start, end = start + length, start - 1
    else:
        end = start + length - 1 if length else LOFF_MAX
    if start < 0:
        raise oserror(errno.EINVAL)
    if end > LOFF_MAX:
        raise oserror(errno.EOVERFLOW)
    if type not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise oserror(errno.EINVAL)
    return PosixLock(type, start, end, pid)


def posix_context(vfs: Vfs, file: File) -> PosixContext:
    """The record locks of a file's inode."""
    found = file.getattr()
    key = (found.dev, found.ino)
    context = vfs.record_locks.get(key)
    if not isinstance(context, PosixContext):
        context = vfs.record_locks[key] = PosixContext()
    return context


def fcntl_getlk(vfs: Vfs, owner: FilesStruct, file: File, lock: PosixLock) -> PosixLock | None:
    """fcntl_getlk: the lock that is in the way, if any."""
    if lock.type == F_UNLCK:
        raise oserror(errno.EINVAL)
    found = posix_context(vfs, file).conflict(owner, lock)
    return found[1] if found is not None else None


def fcntl_setlk(sched: Sched, vfs: Vfs, owner: FilesStruct, file: File, lock: PosixLock, wait: bool) -> None:
    """fcntl_setlk.  EBADF for a file that is not open that way, EAGAIN or a sleep when another has it, EDEADLK when he waits for us."""
    if (lock.type == F_RDLCK and not file.readable) or (lock.type == F_WRLCK and not file.writable):
        raise oserror(errno.EBADF)
    context = posix_context(vfs, file)
    while lock.type != F_UNLCK and (found := context.conflict(owner, lock)) is not None:
        if not wait:
            sched.stall("fcntl")
            raise oserror(errno.EAGAIN)
        other: object = found[0]
        while other is not None:
            if other is owner:
                raise oserror(errno.EDEADLK)
            other = vfs.blocked_locks.get(other)
        vfs.blocked_locks[owner] = found[0]
        try:
            wait_event(sched, context.wq, lambda: context.conflict(owner, lock) is None)
        finally:
            del vfs.blocked_locks[owner]
    context.set(owner, lock)
    if owner.filp_close is None:
        # From now on any close of the file gives its locks back.
        owner.filp_close = lambda closed: locks_remove_posix(vfs, owner, closed)


def locks_remove_posix(vfs: Vfs, owner: FilesStruct, file: File) -> None:
    """Somebody closes one of his fds of a file: whichever it is, all his locks on it are gone (fcntl(2))."""
    found = file.getattr()
    context = vfs.record_locks.get((found.dev, found.ino))
    if isinstance(context, PosixContext) and owner in context.held:
        context.set(owner, PosixLock(F_UNLCK, 0, LOFF_MAX, 0))
