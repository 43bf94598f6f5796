"""epoll (fs/eventpoll.c).

An EventPoll holds an interest list, keyed by (file, fd), and a ready list.  Each item sits on the wait queues of its file; when the file
wakes them, EppollEntry.func puts the item on the ready list and wakes one sleeper.  The ready list is a hint: ep_send_events polls each
item on it again.  A level-triggered item that is still ready goes back to the tail, an edge-triggered one does not: that one branch is the
whole difference.

Left out against Linux: the overflow list (no callback can run while events are copied, one task runs at a time), busy polling, wake-up
sources, and the limits on wake-up paths (reverse_path_check).
"""

import errno
from typing import Any, Final

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Sched
from simkernel.kernel.wait import (
    WQ_FLAG_EXCLUSIVE,
    TaskWait,
    WaitEntry,
    WaitQueue,
    add_wait_queue,
    add_wait_queue_exclusive,
    remove_wait_queue,
    wake_up,
)
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLWAKEUP,
    O_RDWR,
    POLLIN,
    POLLRDNORM,
)

EP_MAX_NESTS: Final = 4
# Not poll(2) events, and kept when EPOLLONESHOT disarms an item.
EP_PRIVATE_BITS: Final = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
EPOLLINOUT_BITS: Final = EPOLLIN | EPOLLOUT
EPOLLEXCLUSIVE_OK_BITS: Final = EPOLLINOUT_BITS | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE


class EpItem:
    """struct epitem: one (file, fd) of the interest list."""

    __slots__ = ("data", "ep", "events", "fd", "file", "last_edge", "linked", "polled", "pwqlist", "used_up")

    def __init__(self, ep: "EventPoll", file: File, fd: int, events: int, data: Any) -> None:
        self.ep = ep
        self.file = file
        self.fd = fd
        self.events = events
        self.data = data
        self.polled = file.poll_op()
        self.linked = False
        self.pwqlist: list[WaitEntry] = []
        # For explanations: seq of the trace event that was its last edge, and of the wait that took it.
        self.last_edge = -1
        self.used_up = -1

    def __repr__(self) -> str:
        return f"<EpItem fd {self.fd} of {self.ep!r}>"

    def release_file(self, file: File) -> None:
        """eventpoll_release_file: the last reference to the watched file has gone."""
        self.ep.remove(self)


class EppollEntry(WaitEntry):
    """struct eppoll_entry: an item on a wait queue of its file."""

    __slots__ = ("epi",)

    def __init__(self, epi: EpItem) -> None:
        super().__init__()
        self.epi = epi

    def func(self, key: int) -> int:
        """ep_poll_callback: put the item on the ready list and wake a sleeper."""
        epi = self.epi
        events = epi.events
        # Without any poll(2) event the item is disarmed (EPOLLONESHOT).
        if not events & ~EP_PRIVATE_BITS or (key and not key & events):
            return 0 if events & EPOLLEXCLUSIVE else 1
        ep = epi.ep
        if not epi.linked:
            epi.linked = True
            ep.rdllist.append(epi)
        trace = ep.sched.trace
        if trace.on:
            epi.last_edge = len(trace.events)
            trace.events.append((trace.where, "ep_poll_callback", "ep_poll_callback", trace.cause, "ep", ep.ino, "fd", epi.fd, "key", key))
        ewake = 0
        if ep.wq.entries:
            if events & EPOLLEXCLUSIVE:
                inout = key & EPOLLINOUT_BITS
                if (inout == EPOLLIN and events & EPOLLIN) or (inout == EPOLLOUT and events & EPOLLOUT) or inout == 0:
                    ewake = 1
            wake_up(ep.wq)
        if ep.poll_wait.entries:
            wake_up(ep.poll_wait, POLLIN)
        return ewake if events & EPOLLEXCLUSIVE else 1


class EpPqueue(PollTable):
    """ep_pqueue: registers an item on the wait queues that its file's poll names (ep_ptable_queue_proc)."""

    __slots__ = ("epi",)

    def __init__(self, epi: EpItem) -> None:
        self.epi = epi

    def qproc(self, wq: WaitQueue) -> None:
        epi = self.epi
        entry = EppollEntry(epi)
        if epi.events & EPOLLEXCLUSIVE:
            add_wait_queue_exclusive(wq, entry)
        else:
            add_wait_queue(wq, entry)
        epi.pwqlist.append(entry)


ULLONG_MAX: Final = 2**64 - 1
# The device number of the anonymous files' file system, as it often comes out.
SDEV: Final = 0xF


class EventPoll(File):
    """struct eventpoll and its file."""

    __slots__ = ("poll_wait", "rbr", "rdllist", "refs", "wq")
    kind = "epoll"
    can_read = False
    can_write = False

    def __init__(self, sched: Sched, f_flags: int) -> None:
        super().__init__(sched, f_flags | O_RDWR)
        self.rbr: dict[tuple[File, int], EpItem] = {}
        self.rdllist: list[EpItem] = []
        self.wq = WaitQueue(self, "wq")
        self.poll_wait = WaitQueue(self, "poll_wait")
        # Items of other epolls that watch this one, for the check of nesting.
        self.refs: list[EpItem] = []

    def d_path(self) -> bytes:
        return b"anon_inode:[eventpoll]"

    def fdinfo(self) -> str:
        """ep_show_fdinfo.  Data that is no number, which Linux has not, is shown as the fd."""
        lines = []
        for epi in self.rbr.values():
            file = epi.file
            node = file.inode()
            data = epi.data & ULLONG_MAX if isinstance(epi.data, int) else epi.fd
            ino = file.ino if node is None else node.i_ino
            lines.append(f"tfd: {epi.fd:8} events: {epi.events:8x} data: {data:16x}  pos:{file.f_pos} ino:{ino:x} sdev:{SDEV:x}\n")
        return "".join(lines)

    # --- epoll_ctl ---
    def ctl(self, op: int, file: File, fd: int, events: int, data: Any) -> None:
        """do_epoll_ctl, after both fds have been looked up."""
        if not file.can_poll:
            raise oserror(errno.EPERM)
        if file is self:
            raise oserror(errno.EINVAL)
        if op != EPOLL_CTL_DEL and events & EPOLLEXCLUSIVE:
            if op == EPOLL_CTL_MOD:
                raise oserror(errno.EINVAL)
            if op == EPOLL_CTL_ADD and (isinstance(file, EventPoll) or events & ~EPOLLEXCLUSIVE_OK_BITS):
                raise oserror(errno.EINVAL)
        if op == EPOLL_CTL_ADD and isinstance(file, EventPoll) and not ep_loop_check(self, file):
            raise oserror(errno.ELOOP)
        epi = self.rbr.get((file, fd))
        if op == EPOLL_CTL_ADD:
            if epi is not None:
                raise oserror(errno.EEXIST)
            self.insert(file, fd, events | EPOLLERR | EPOLLHUP, data)
        elif op == EPOLL_CTL_DEL:
            if epi is None:
                raise oserror(errno.ENOENT)
            self.remove(epi)
        elif op == EPOLL_CTL_MOD:
            if epi is None:
                raise oserror(errno.ENOENT)
            if epi.events & EPOLLEXCLUSIVE:
                raise oserror(errno.EINVAL)
            epi.data = data
            epi.events = events | EPOLLERR | EPOLLHUP
            if epi.polled.poll(None) & epi.events:
                self.make_ready(epi)
        else:
            raise oserror(errno.EINVAL)

    def insert(self, file: File, fd: int, events: int, data: Any) -> None:
        """ep_insert: register on the file's wait queues, and take what is ready already."""
        epi = EpItem(self, file, fd, events, data)
        self.rbr[file, fd] = epi
        file.add_hook(epi)
        if isinstance(file, EventPoll):
            file.refs.append(epi)
        if epi.polled.poll(EpPqueue(epi)) & events:
            self.make_ready(epi)

    def make_ready(self, epi: EpItem) -> None:
        """An item was found ready while it was added or changed."""
        if epi.linked:
            return
        epi.linked = True
        self.rdllist.append(epi)
        trace = self.sched.trace
        if trace.on:
            epi.last_edge = trace.emit("ep_ready", "ep_insert", ("ep", self.ino, "fd", epi.fd))
        if self.wq.entries:
            wake_up(self.wq)
        if self.poll_wait.entries:
            # ep_poll_safewake: IN alone, without RDNORM.
            wake_up(self.poll_wait, POLLIN)

    def remove(self, epi: EpItem) -> None:
        """ep_remove."""
        for entry in epi.pwqlist:
            remove_wait_queue(entry)
        epi.pwqlist.clear()
        file = epi.file
        file.remove_hook(epi)
        if isinstance(file, EventPoll):
            file.refs.remove(epi)
        if epi.linked:
            rdllist = self.rdllist
            # What was added last is often the first to go.
            if rdllist[-1] is epi:
                rdllist.pop()
            else:
                rdllist.remove(epi)
            epi.linked = False
        del self.rbr[file, epi.fd]

    def fionread(self) -> int:
        """ep_eventpoll_ioctl knows the parameters of busy polling alone."""
        raise oserror(errno.EINVAL)

    def ioctl(self, request: int) -> int:
        """The same for whatever sockets know."""
        raise oserror(errno.EINVAL)

    def release(self) -> None:
        for epi in list(self.rbr.values()):
            self.remove(epi)
        self.wq.owner = self.poll_wait.owner = None

    # --- epoll_wait ---
    def ep_poll(self, maxevents: int, timeout_ns: int | None) -> list[tuple[Any, int]]:
        """Wait for events.  ``timeout_ns`` 0 never sleeps, None has no limit."""
        sched = self.sched
        if self.rdllist:
            got = self.send_events(maxevents)
            if got:
                sched.stall("epoll_wait")
                return got
        if timeout_ns == 0:
            sched.stall("epoll_wait")
            return []
        deadline = None if timeout_ns is None else sched.clock.now + timeout_ns
        task = sched.current
        wq = self.wq
        while True:
            if task.sigpending:
                raise oserror(errno.EINTR)
            entry = TaskWait(task)
            # As in Linux: exclusive, yet at the head, so the last to sleep is the first to be woken.
            entry.flags = WQ_FLAG_EXCLUSIVE
            add_wait_queue(wq, entry)
            task.wchan = wq
            task.state = TASK_INTERRUPTIBLE
            timed_out = False
            try:
                if deadline is None:
                    sched.schedule()
                else:
                    timed_out = sched.schedule_timeout(max(deadline - sched.clock.now, 0))
            finally:
                task.state = TASK_RUNNING
                task.wchan = None
                remove_wait_queue(entry)
            if self.rdllist:
                got = self.send_events(maxevents)
                if got:
                    return got
            if timed_out:
                return []

    def send_events(self, maxevents: int) -> list[tuple[Any, int]]:
        """ep_send_events: poll each item of the ready list again and report those with events."""
        txlist = self.rdllist
        rdllist: list[EpItem] = []
        self.rdllist = rdllist
        got: list[tuple[Any, int]] = []
        trace = self.sched.trace
        learnt = self.sched.current.learnt
        vain: EpItem | None = None
        if learnt:
            learnt.clear()
        left = maxevents
        taken = 0
        for epi in txlist:
            if not left:
                break
            taken += 1
            epi.linked = False
            events = epi.events
            revents = epi.polled.poll(None) & events
            if not revents:
                vain = epi
                continue
            got.append((epi.data, revents))
            if learnt is not None:
                learnt[epi.fd] = epi.file
            left -= 1
            if events & EPOLLONESHOT:
                epi.events = events & EP_PRIVATE_BITS
            elif not events & EPOLLET:
                epi.linked = True
                rdllist.append(epi)
            if trace.on:
                epi.used_up = len(trace.events)
                trace.events.append(
                    (trace.where, "ep_send_event", "ep_send_events", trace.cause, "ep", self.ino, "fd", epi.fd, "events", revents)
                )
        if taken < len(txlist):
            self.rdllist = txlist[taken:] + rdllist
        if vain is not None and not got and self.sched.watch is not None:
            self.sched.watch.vain(vain.file.sk)
        if self.rdllist and self.wq.entries:
            wake_up(self.wq)
        return got

    # --- as a file ---
    def poll(self, table: PollTable | None) -> int:
        """ep_eventpoll_poll: IN if an item of the ready list is really ready; those that are not leave it."""
        if table is not None:
            table.qproc(self.poll_wait)
        rdllist = self.rdllist
        while rdllist:
            epi = rdllist[0]
            if epi.polled.poll(None) & epi.events:
                if self.wq.entries:
                    # ep_done_scan: whoever looks at the ready list and leaves something there wakes a sleeper, even if it only polled.
                    wake_up(self.wq)
                return POLLIN | POLLRDNORM
            rdllist.pop(0)
            epi.linked = False
        return 0


def ep_loop_check(ep: EventPoll, to: EventPoll) -> bool:
    """Whether ``ep`` may watch ``to``: no cycle, and at most EP_MAX_NESTS epolls in one another, counted up and down."""
    down = _depth_down(to, ep, 0)
    if down > EP_MAX_NESTS:
        return False
    return down + 1 + _depth_up(ep) <= EP_MAX_NESTS


def _depth_down(ep: EventPoll, inserting_into: EventPoll, depth: int) -> int:
    """ep_loop_check_proc."""
    result = 0
    for epi in ep.rbr.values():
        inner = epi.file
        if isinstance(inner, EventPoll):
            if inner is inserting_into or depth > EP_MAX_NESTS:
                return EP_MAX_NESTS + 1
            result = max(result, _depth_down(inner, inserting_into, depth + 1) + 1)
            if result > EP_MAX_NESTS:
                break
    # Watching itself through `to` is the shortest cycle of all.
    return EP_MAX_NESTS + 1 if ep is inserting_into else result


def _depth_up(ep: EventPoll) -> int:
    """ep_get_upwards_depth_proc."""
    return max((_depth_up(epi.ep) + 1 for epi in ep.refs), default=0)
