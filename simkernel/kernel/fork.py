"""How tasks begin (kernel/fork.c): processes with a copy of the fd table, threads that share it."""

import sys
from collections.abc import Callable
from typing import Any

from simkernel.errors import SimulationError, program_traceback
from simkernel.kernel.exit import do_exit
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.sched import Process, Sched, Task, TaskExit
from simkernel.kernel.thread_stack import alloc_thread_stack
from simkernel.kernel.wait import WaitQueue

Crash = Callable[[Task, BaseException], None]


def copy_process(sched: Sched, parent: Process | None, comm: str) -> Task:
    """A new process with one task, not yet runnable."""
    pid = sched.new_pid()
    files = parent.files.dup_fd() if parent is not None else FilesStruct()
    process = Process(pid, comm, parent, files, WaitQueue(None, "wait_chldexit"))
    process.wait_chldexit.owner = process
    sched.processes[pid] = process
    if parent is not None:
        parent.children.append(process)
        process.forked_by = sched.current.pid
    return _new_task(sched, pid, process)


def copy_thread(sched: Sched, process: Process) -> Task:
    """A new task in a process, not yet runnable."""
    process.files.count += 1
    return _new_task(sched, sched.new_pid(), process)


def _new_task(sched: Sched, pid: int, process: Process) -> Task:
    task = Task(sched, pid, process, WaitQueue(None, "exited"))
    task.exited.owner = task
    if sched.current is not None:
        # A child and a new thread have the mask of whom they come from.
        task.blocked = sched.current.blocked
    process.threads.append(task)
    sched.tasks[pid] = task
    return task


def wake_up_new_task(sched: Sched, task: Task, main: Callable[..., object], args: tuple[Any, ...], crash: Crash) -> None:
    """Make a new task runnable: it will call ``main(*args)`` and exit."""

    def ret_from_fork() -> None:
        code = 0
        if not task.killed:
            try:
                main(*args)
            except TaskExit:
                code = task.process.exit_code
            except SystemExit as error:
                code = exit_status(error) << 8
            except (SimulationError, KeyboardInterrupt) as error:
                # Not the program's failure: the run ends, and run() raises it.
                if sched.fatal is None:
                    sched.fatal = error
            except BaseException as error:
                code = 1 << 8
                if not task.killed:
                    crash(task, error)
        do_exit(sched, task, code)

    task.greenlet = alloc_thread_stack(ret_from_fork, sched.hub)
    task.switch = task.greenlet.switch
    sched.runqueue.append(task)
    trace = sched.trace
    if trace.on:
        task.wake_seq = trace.emit("sched_process_fork", "copy_process", ("child_pid", task.pid, "comm", task.process.comm))


def exit_status(error: SystemExit) -> int:
    """The exit status that Python gives for a SystemExit; a text goes to stderr, as there."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def print_crash(task: Task, error: BaseException) -> None:
    """What a Python process does with an exception that nobody caught: print it."""
    print(f"simkernel: process {task.process.pid} ({task.process.comm}) ended by an exception:", file=sys.stderr)
    print(program_traceback(error), file=sys.stderr)
