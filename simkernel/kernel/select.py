"""select and poll (fs/select.c).

Both poll every file each time: once to find what is ready and to register on each wait queue, and all of them again after a wake-up.
"""

import errno
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from simkernel.errors import oserror
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.file import File
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Sched, Task
from simkernel.kernel.wait import WaitEntry, WaitQueue, add_wait_queue, remove_wait_queue
from simkernel.uapi import (
    ERESTARTNOHAND,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
)

POLLIN_SET: Final = POLLNVAL | POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR
POLLOUT_SET: Final = POLLNVAL | POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR
POLLEX_SET: Final = POLLNVAL | POLLPRI

# Polls all files of a call, registering on their wait queues if a table is given; returns what is ready.
Scan: TypeAlias = "Callable[[PollTable | None], list[tuple[int, int]]]"


class PollWqueues(PollTable):
    """poll_wqueues: the entries of one sleeping select or poll, and whether one of them was triggered."""

    __slots__ = ("by", "entries", "key", "sched", "task", "triggered")

    def __init__(self, sched: Sched) -> None:
        self.sched = sched
        self.task: Task = sched.current
        self.entries: list[WaitEntry] = []
        self.triggered = False
        # Who woke it last.
        self.by: WaitQueue | None = None
        self.key = 0

    def qproc(self, wq: WaitQueue) -> None:
        """__pollwait: join the queue at its head, non-exclusive, interested in the events of the file polled now."""
        entry = PollTableEntry(self, self.key)
        add_wait_queue(wq, entry)
        self.entries.append(entry)

    def freewait(self) -> None:
        """poll_freewait: leave all the queues."""
        for entry in self.entries:
            remove_wait_queue(entry)
        self.entries.clear()


class PollTableEntry(WaitEntry):
    """poll_table_entry: a sleeping select or poll on the queue of one of its files, which is to tell of the events ``key``."""

    __slots__ = ("key", "pwq")

    def __init__(self, pwq: PollWqueues, key: int) -> None:
        super().__init__()
        self.pwq = pwq
        self.key = key

    def func(self, key: int) -> int:
        """pollwake: if the event is of interest, the sleeper scans all files again."""
        if key and not key & self.key:
            return 0
        pwq = self.pwq
        pwq.triggered = True
        pwq.by = self.wq
        return pwq.sched.wake_up_process(pwq.task)


def do_poll(sched: Sched, files: FilesStruct, fds: Sequence[tuple[int, int]], deadline: int | None) -> list[tuple[int, int]]:
    """do_poll: the (fd, revents) pairs with any event; fd -1 is skipped, a closed fd is POLLNVAL."""
    pwq = PollWqueues(sched)

    def scan(table: PollTable | None) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        table_fd = files.fd
        n = len(table_fd)
        for fd, events in fds:
            if fd < 0:
                continue
            file = table_fd[fd] if fd < n else None
            if file is None:
                found.append((fd, POLLNVAL))
                continue
            wanted = events | POLLERR | POLLHUP
            pwq.key = wanted
            # Once something is ready nobody will sleep, so the rest is not registered.
            mask = file.poll(None if found else table) & wanted
            if mask:
                found.append((fd, mask))
        return found

    return _poll_loop(sched, files, [fd for fd, _ in fds if fd >= 0], pwq, scan, deadline, "poll")


def do_select(
    sched: Sched, files: FilesStruct, r: list[int], w: list[int], x: list[int], deadline: int | None
) -> tuple[list[int], list[int], list[int]]:
    """do_select: scans the fds in order of number, as the bitmap has them.  EBADF for a closed one."""
    wanted: dict[int, int] = {}
    for group, bit in ((r, 1), (w, 2), (x, 4)):
        for fd in group:
            wanted[fd] = wanted.get(fd, 0) | bit
    # core_sys_select copies no bits beyond the fd table, in or out: an fd up there stays set, whatever it is.
    max_fds = files.max_fds()
    order = sorted(fd for fd in wanted if fd < max_fds)
    for fd in order:
        # A number that a sleeping accept has taken counts as open (max_select_fd), and then as POLLNVAL.
        if (fd >= len(files.fd) or files.fd[fd] is None) and fd not in files.reserved:
            raise oserror(errno.EBADF)
    pwq = PollWqueues(sched)

    def scan(table: PollTable | None) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for fd in order:
            file: File | None = files.fd[fd] if fd < len(files.fd) else None
            bits = wanted[fd]
            # A file closed by another thread during the sleep is POLLNVAL, which belongs to all three sets.
            mask = POLLNVAL
            if file is not None:
                pwq.key = (bits & 1 and POLLIN_SET) | (bits & 2 and POLLOUT_SET) | POLLEX_SET
                mask = file.poll(None if found else table)
            ready = bits & ((1 if mask & POLLIN_SET else 0) | (2 if mask & POLLOUT_SET else 0) | (4 if mask & POLLEX_SET else 0))
            if ready:
                found.append((fd, ready))
        return found

    ready = dict(_poll_loop(sched, files, order, pwq, scan, deadline, "select"))
    ready.update((fd, bits) for fd, bits in wanted.items() if fd >= max_fds)
    return (
        [fd for fd in r if ready.get(fd, 0) & 1],
        [fd for fd in w if ready.get(fd, 0) & 2],
        [fd for fd in x if ready.get(fd, 0) & 4],
    )


def _poll_loop(
    sched: Sched, files: FilesStruct, fds: list[int], pwq: PollWqueues, scan: Scan, deadline: int | None, call: str
) -> list[tuple[int, int]]:
    """Scan, sleep unless something is ready, scan all again.  A ``deadline`` (virtual ns) that has passed means one look and no sleep."""
    task = pwq.task
    table: PollTable | None = None if deadline is not None and deadline <= sched.clock.now else pwq

    def condition() -> bool:
        # A file that was closed meanwhile wakes nobody (poll(2) tells at the timeout).
        return all(fd < len(files.fd) and files.fd[fd] is not None for fd in fds) and bool(scan(None))

    try:
        while True:
            task.state = TASK_INTERRUPTIBLE
            found = scan(table)
            table = None
            if not found and task.sigpending:
                # Even a call that was not to sleep says so (do_poll).
                raise oserror(ERESTARTNOHAND)
            if found or (deadline is not None and sched.clock.now >= deadline):
                task.state = TASK_RUNNING
                if task.wchan is None:
                    sched.stall(call)
                return found
            if pwq.by is not None:
                if sched.watch is not None:
                    sched.watch.vain(pwq.by.owner)
                pwq.by = None
            if not pwq.triggered:
                task.wchan = pwq.entries[0].wq if pwq.entries else None
                task.condition = condition
                if deadline is None:
                    sched.schedule()
                else:
                    sched.schedule_timeout(deadline - sched.clock.now)
            pwq.triggered = False
    finally:
        task.state = TASK_RUNNING
        task.wchan = None
        task.condition = None
        pwq.freewait()
