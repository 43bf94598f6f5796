"""How tasks end, and how others learn of it (kernel/exit.c)."""

import errno

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.sched import TASK_DEAD, Process, Sched, Task
from simkernel.kernel.wait import wait_event, wake_up_all
from simkernel.uapi import WNOHANG


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
    del sched.tasks[task.pid]
    process.files.exit_files()
    wake_up_all(task.exited)
    sched.stalled = 0
    if not process.threads:
        exit_notify(sched, process)


def do_group_exit(sched: Sched, process: Process, code: int) -> None:
    """Every thread of the process has to end; ``code`` is its wait status."""
    process.exiting = True
    process.exit_code = code
    for thread in process.threads:
        thread.killed = True
        sched.wake_up_process(thread)


def exit_notify(sched: Sched, process: Process) -> None:
    """The last thread has gone: children go to init, the parent is told."""
    init = sched.processes.get(1)
    for child in process.children:
        child.parent = init
        if init is not None and init is not process:
            init.children.append(child)
            if child.zombie:
                wake_up_all(init.wait_chldexit)
    process.children.clear()
    process.zombie = True
    if process.parent is not None:
        wake_up_all(process.parent.wait_chldexit)


def do_wait(sched: Sched, pid: int, options: int) -> tuple[int, int]:
    """wait4: reap a child that has ended, the oldest first.  ECHILD if there is none to wait for."""
    if options & ~WNOHANG:
        raise Unsupported(f"waitpid options {options:#x} are not modelled, only WNOHANG")
    if pid < -1 or pid == 0:
        raise Unsupported(f"waitpid({pid}): process groups are not modelled")
    process = sched.current.process

    def mine() -> list[Process]:
        return process.children if pid == -1 else [child for child in process.children if child.pid == pid]

    def reapable() -> bool:
        children = mine()
        return not children or any(child.zombie for child in children)

    while True:
        children = mine()
        if not children:
            raise oserror(errno.ECHILD)
        for child in children:
            if child.zombie:
                process.children.remove(child)
                del sched.processes[child.pid]
                sched.stalled = 0
                return child.pid, child.exit_code
        if options & WNOHANG:
            sched.stall("waitpid")
            return 0, 0
        wait_event(sched, process.wait_chldexit, reapable)


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
