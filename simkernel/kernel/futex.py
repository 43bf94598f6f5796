"""Fast user-space mutexes (kernel/futex): a thread sleeps until another says that a word has changed.

The word is the program's, and so is what its values mean; the kernel only compares and keeps the queue, for as long as somebody sleeps on
it.  A word belongs to one process (FUTEX_PRIVATE_FLAG).
"""

import errno

from simkernel.api import FutexWord
from simkernel.errors import oserror
from simkernel.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Sched
from simkernel.kernel.wait import StayingWait, WaitQueue, add_wait_queue_exclusive, remove_wait_queue
from simkernel.uapi import ERESTART_RESTARTBLOCK, ERESTARTSYS


def futex_match(futexes: list[WaitQueue], word: FutexWord) -> WaitQueue | None:
    """The queue of a word, which is told from others by where it is, not by its value."""
    for wq in futexes:
        if wq.owner is word:
            return wq
    return None


def futex_wait(sched: Sched, word: FutexWord, expected: int, deadline: int | None) -> None:
    """Sleep until woken by futex_wake.  EAGAIN if the word is not ``expected``, ETIMEDOUT at ``deadline`` (ns)."""
    if word.value != expected:
        sched.stall("futex_wait")
        raise oserror(errno.EAGAIN)
    task = sched.current
    futexes = task.process.futexes
    wq = futex_match(futexes, word)
    if wq is None:
        wq = WaitQueue(word, "futex")
        futexes.append(wq)
    entry = StayingWait(task)
    add_wait_queue_exclusive(wq, entry)
    task.condition = lambda: entry.wq is None
    try:
        while True:
            timed_out = False
            if not task.sigpending:
                task.wchan = wq
                task.state = TASK_INTERRUPTIBLE
                if deadline is None:
                    sched.schedule()
                else:
                    left = deadline - sched.clock.now
                    # A limit that has passed is a timer that fires at once: the others do not get their turn in between.
                    timed_out = left <= 0 or sched.schedule_timeout(left)
            if entry.wq is None:
                return
            if timed_out:
                raise oserror(errno.ETIMEDOUT)
            if task.sigpending:
                raise oserror(ERESTARTSYS if deadline is None else ERESTART_RESTARTBLOCK)
    finally:
        task.state = TASK_RUNNING
        task.wchan = None
        task.condition = None
        remove_wait_queue(entry)
        if not wq.entries and wq.owner is not None:
            wq.owner = None
            futexes.remove(wq)


def futex_wake(sched: Sched, word: FutexWord, n: int) -> int:
    """Wake the first ``n`` that sleep on the word, at least one; how many there were."""
    wq = futex_match(sched.current.process.futexes, word)
    if wq is None or not wq.entries:
        sched.stall("futex_wake")
        return 0
    sched.stalled = 0
    woken = 0
    while wq.entries and woken < max(n, 1):
        entry = wq.entries[0]
        # Off the queue it counts as woken, even if a timer or a signal was faster.
        remove_wait_queue(entry)
        entry.func(0)
        woken += 1
    return woken
