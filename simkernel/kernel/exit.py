"""How tasks end, and how others learn of it (kernel/exit.c)."""

import errno
from typing import Final

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.sched import TASK_DEAD, Process, Sched, Task
from simkernel.kernel.signal import do_group_exit, do_notify_parent, exit_signals
from simkernel.kernel.task_work import exit_task_work
from simkernel.kernel.wait import wait_event, wake_up_all
from simkernel.uapi import POLLIN, POLLRDNORM, WALL, WCONTINUED, WNOHANG, WUNTRACED

KEY_EXITED: Final = POLLIN | POLLRDNORM
WAIT_CONTINUED: Final = 0xFFFF
WNOTHREAD: Final = 0x20000000
WCLONE: Final = -0x80000000


def do_exit(sched: Sched, task: Task, code: int) -> None:
    """The running task ends with wait status ``code``.  The first task of a process takes the others with it (exit_group)."""
    process = task.process
    trace = sched.trace
    if task.pid == process.pid and not process.exiting:
        do_group_exit(sched, process, code)
    if trace.on:
        trace.emit("sched_process_exit", "do_exit", ("pid", task.pid, "code", process.exit_code))
    task.state = TASK_DEAD
    process.threads.remove(task)
    if task.sigpending or process.shared_pending.signal:
        exit_signals(sched, task)
    if task.task_works is not None:
        exit_task_work(sched, task)
    if process.real_timer is not None and not process.threads:
        process.real_timer.cancel()
    del sched.tasks[task.pid]
    process.files.exit_files()
    wake_up_all(task.exited)
    task.exited.owner = None
    sched.stalled = 0
    if not process.threads:
        exit_notify(sched, process)


def exit_notify(sched: Sched, process: Process) -> None:
    """The last thread has gone: children go to init, the parent is told."""
    init = sched.processes.get(1)
    process.zombie = True
    for child in process.children:
        child.parent = init
        if init is not None and init is not process:
            init.children.append(child)
            if child.zombie and do_notify_parent(sched, child):
                release_task(sched, child)
    process.children.clear()
    if process.wait_pidfd is not None:
        wake_up_all(process.wait_pidfd, KEY_EXITED)
    if do_notify_parent(sched, process):
        release_task(sched, process)


def release_task(sched: Sched, process: Process) -> None:
    """The process has been waited for: nothing is left of it."""
    if process.parent is not None:
        process.parent.children.remove(process)
    del sched.processes[process.pid]
    process.parent = None
    process.wait_chldexit.owner = None
    if process.wait_pidfd is not None:
        wake_up_all(process.wait_pidfd)


def do_wait(sched: Sched, pid: int, options: int) -> tuple[int, int]:
    """wait4: a child that has ended, the oldest first, or one that has stopped or gone on.  ECHILD if there is none to wait for."""
    if options & (WNOTHREAD | WCLONE):
        raise Unsupported(f"waitpid options {options:#x} are not modelled, only WNOHANG, WUNTRACED, WCONTINUED and __WALL")
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | WALL):
        raise oserror(errno.EINVAL)
    if pid == -(2**31):
        raise oserror(errno.ESRCH)
    process = sched.current.process
    while True:
        children = eligible_children(process, pid)
        if not children:
            raise oserror(errno.ECHILD)
        for child in children if len(children) < 2 else do_wait_order(sched.current, children):
            if not reportable(child, options):
                continue
            sched.stalled = 0
            if child.zombie:
                release_task(sched, child)
                return child.pid, child.exit_code
            status, child.wait_status = child.wait_status, None
            assert status is not None
            return child.pid, status
        if options & WNOHANG:
            sched.stall("waitpid")
            return 0, 0
        wait_event(sched, process.wait_chldexit, lambda: do_wait_done(process, pid, options))


def eligible_children(process: Process, pid: int) -> list[Process]:
    """The children that waitpid(pid) waits for (eligible_pid): all, one, or a group's."""
    if pid == -1:
        return process.children
    if pid > 0:
        return [child for child in process.children if child.pid == pid]
    group = process.pgid if pid == 0 else -pid
    return [child for child in process.children if child.pgid == group]


def reportable(child: Process, options: int) -> bool:
    """Whether there is something to tell of a child."""
    status = child.wait_status
    return child.zombie or (status is not None and bool(options & (WCONTINUED if status == WAIT_CONTINUED else WUNTRACED)))


def do_wait_done(process: Process, pid: int, options: int) -> bool:
    """Whether a sleeper in do_wait may go on: there is something to tell, or nobody to wait for."""
    children = eligible_children(process, pid)
    return not children or any(reportable(child, options) for child in children)


def do_wait_order(task: Task, children: list[Process]) -> list[Process]:
    """do_wait goes from thread to thread, the caller first, and looks at the children that each has forked.

    Those of a thread that has ended are the first thread's.
    """
    threads = [thread.pid for thread in task.process.threads]
    if len(threads) < 2:
        return children
    place = {pid: (i - threads.index(task.pid)) % len(threads) for i, pid in enumerate(threads)}
    return sorted(children, key=lambda child: place.get(child.forked_by, place[threads[0]]))


def join_thread(sched: Sched, tid: int) -> None:
    """pthread_join: wait for a thread of this process.  ESRCH for any other or one that was joined, EDEADLK for oneself."""
    task = sched.current
    if tid == task.pid:
        raise oserror(errno.EDEADLK)
    joinable = task.process.joinable
    if tid not in joinable:
        raise oserror(errno.ESRCH)
    thread = joinable.pop(tid)
    if thread.state is not TASK_DEAD:
        wait_event(sched, thread.exited, lambda: thread.state is TASK_DEAD)
