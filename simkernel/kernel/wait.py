"""Wait queues (kernel/sched/wait.c): where tasks sleep, and the only place from which they are woken.

An entry's func is the whole difference between a reader (TaskWait), a select or poll (PollTableEntry, select.py) and an epoll item
(EppollEntry, eventpoll.py), so each has a class of its own.
"""

from collections.abc import Callable
from errno import EINTR
from typing import Any, Final

from simkernel.errors import oserror
from simkernel.kernel.clock import calc_wheel_expiry
from simkernel.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Sched, Task
from simkernel.uapi import ERESTARTSYS

WQ_FLAG_EXCLUSIVE: Final = 0x01


class WaitEntry:
    """wait_queue_entry."""

    __slots__ = ("flags", "wq")

    def __init__(self) -> None:
        self.flags = 0
        self.wq: WaitQueue | None = None

    def func(self, key: int) -> int:
        """Its queue is woken: ``key`` is the poll mask of the event (0: unknown).  1 if it counts as an exclusive wake-up, else 0."""
        raise NotImplementedError


class TaskWait(WaitEntry):
    """A task that sleeps.  Woken, it leaves the queue, so that a second event finds the next (autoremove_wake_function)."""

    __slots__ = ("task",)

    def __init__(self, task: Task) -> None:
        self.flags = 0
        self.wq = None
        self.task = task

    def func(self, key: int) -> int:
        woken = self.task.sched.wake_up_process(self.task)
        if woken:
            remove_wait_queue(self)
        return woken


class StayingWait(TaskWait):
    """A task that sleeps and stays on the queue (default_wake_function)."""

    __slots__ = ()

    def func(self, key: int) -> int:
        return self.task.sched.wake_up_process(self.task)


class WaitQueue:
    """wait_queue_head.  ``owner``, as long as that is in use, and ``label`` say whose it is, for explanations."""

    __slots__ = ("entries", "label", "owner")

    def __init__(self, owner: Any, label: str) -> None:
        self.entries: list[WaitEntry] = []
        self.owner = owner
        self.label = label

    def __repr__(self) -> str:
        return f"<WaitQueue {self.label} of {self.owner!r}: {len(self.entries)} entries>"


def add_wait_queue(wq: WaitQueue, entry: WaitEntry) -> None:
    """A non-exclusive waiter joins at the head."""
    entry.wq = wq
    wq.entries.insert(0, entry)


def add_wait_queue_exclusive(wq: WaitQueue, entry: WaitEntry) -> None:
    """An exclusive waiter joins at the tail: the first to come is the first to be woken."""
    entry.flags |= WQ_FLAG_EXCLUSIVE
    entry.wq = wq
    wq.entries.append(entry)


def remove_wait_queue(entry: WaitEntry) -> None:
    """Take an entry off its queue, if it is on one."""
    wq = entry.wq
    if wq is not None:
        wq.entries.remove(entry)
        entry.wq = None


def wake_up(wq: WaitQueue, key: int = 0, nr_exclusive: int = 1) -> None:
    """__wake_up_common: call each entry's func in order, until ``nr_exclusive`` exclusive ones have woken somebody (0: no limit)."""
    entries = wq.entries
    if len(entries) == 1:
        entries[0].func(key)
        return
    for entry in entries[:]:
        if entry.wq is not wq:
            continue
        if entry.func(key) and entry.flags & WQ_FLAG_EXCLUSIVE:
            nr_exclusive -= 1
            if nr_exclusive == 0:
                break


def wake_up_all(wq: WaitQueue, key: int = 0) -> None:
    """Wake everybody, exclusive or not."""
    wake_up(wq, key, 0)


def prepare_to_wait(sched: Sched, wq: WaitQueue, entry: WaitEntry, exclusive: bool) -> None:
    """Join the queue, then count as asleep: only then may the condition be tested, or a wake-up between the two is lost."""
    if entry.wq is None:
        if exclusive:
            add_wait_queue_exclusive(wq, entry)
        else:
            add_wait_queue(wq, entry)
    task = sched.current
    task.wchan = wq
    task.state = TASK_INTERRUPTIBLE


def finish_wait(sched: Sched, entry: WaitEntry) -> None:
    """Awake again, and off the queue."""
    task = sched.current
    if task.state is TASK_INTERRUPTIBLE:
        task.state = TASK_RUNNING
    task.wchan = None
    task.condition = None
    remove_wait_queue(entry)


def wait_event(
    sched: Sched,
    wq: WaitQueue,
    condition: Callable[[], bool],
    timeout_ns: int | None = None,
    exclusive: bool = False,
    entry: TaskWait | None = None,
    promise: Callable[[], bool] | None = None,
) -> bool:
    """wait_event_interruptible_timeout: sleep until ``condition()`` holds.  False if ``timeout_ns`` passed first (None: no limit),
    by the clock of schedule_timeout, which counts in jiffies.

    A signal ends the sleep: OSError with ERESTARTSYS, or EINTR where there is a limit, since the call can't start again with what is left
    of it (sock_intr_errno).  ``entry`` decides which wake-ups count (default: all).  ``promise`` says when the sleeper is sure to be woken,
    where that is less often than ``condition`` holds: only the kernel's checks of itself ask.
    """
    task = sched.current
    if entry is None:
        entry = TaskWait(task)
    deadline: int | None = None
    if timeout_ns is not None:
        now = sched.clock.now
        deadline = calc_wheel_expiry(now, timeout_ns) if timeout_ns > 0 else now
    task.condition = promise or condition
    try:
        while True:
            prepare_to_wait(sched, wq, entry, exclusive)
            if condition():
                return True
            if deadline is None:
                if task.sigpending:
                    raise oserror(ERESTARTSYS)
                sched.schedule()
            else:
                left = deadline - sched.clock.now
                if left <= 0:
                    return False
                if task.sigpending:
                    raise oserror(EINTR)
                sched.schedule_timeout(left, wheel=True)
            # Linux joins the queue again before it looks; here nobody can come in between.
            if condition():
                return True
    finally:
        finish_wait(sched, entry)


def wait_event_hrtimeout(sched: Sched, wq: WaitQueue, condition: Callable[[], bool], timeout_ns: int) -> bool:
    """wait_event_hrtimeout: sleep until ``condition()`` holds.  False if ``timeout_ns`` passed first, by an exact timer.

    A signal does not end it: it is for whoever waits on the machine's behalf, not in a system call.
    """
    entry = TaskWait(sched.current)
    deadline = sched.clock.now + timeout_ns
    try:
        while not condition():
            left = deadline - sched.clock.now
            if left <= 0:
                return False
            prepare_to_wait(sched, wq, entry, exclusive=False)
            sched.schedule_timeout(left)
        return True
    finally:
        finish_wait(sched, entry)


def wait_event_locked(sched: Sched, wq: WaitQueue, condition: Callable[[], bool], head: bool = False) -> None:
    """wait_event_interruptible_locked_irq: sleep until ``condition()`` holds, on the queue (at its tail, non-exclusive) all the while.

    ``head``: joined by add_wait_queue instead.  OSError with ERESTARTSYS for a signal.
    """
    task = sched.current
    entry = StayingWait(task)
    if head:
        add_wait_queue(wq, entry)
    else:
        entry.wq = wq
        wq.entries.append(entry)
    task.condition = condition
    try:
        while not condition():
            if task.sigpending:
                raise oserror(ERESTARTSYS)
            task.wchan = wq
            task.state = TASK_INTERRUPTIBLE
            sched.schedule()
    finally:
        task.state = TASK_RUNNING
        task.wchan = None
        task.condition = None
        remove_wait_queue(entry)
