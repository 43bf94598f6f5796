"""Work that a task does when it returns to its program (kernel/task_work.c).

The one user is Python's interpreter in a simulated process: its signal handlers run not in the kernel's signal frame, but when the call
that the signal came in is over.
"""

from collections.abc import Callable

from simkernel.kernel.sched import Sched, Task
from simkernel.uapi import ERESTARTSYS


def task_work_add(sched: Sched, task: Task, work: Callable[[], None]) -> None:
    """Have the task call ``work`` before it next goes on with its program.  It is not woken for that."""
    if task.task_works is None:
        task.task_works = []
        sched.sigwork += 1
    task.task_works.append(work)


def task_work_run(sched: Sched, task: Task) -> None:
    """Do it, in the order in which it was added.  What is raised leaves the call, and the rest is done at the next one."""
    works = task.task_works
    try:
        while works:
            works.pop(0)()
    except BaseException as error:
        forget_restart(error)
        raise
    finally:
        if works is task.task_works and not works:
            exit_task_work(sched, task)


def exit_task_work(sched: Sched, task: Task) -> None:
    """Nothing is left to do."""
    if task.task_works is not None:
        task.task_works = None
        sched.sigwork -= 1


def forget_restart(error: BaseException) -> None:
    """What interrupted a call is the kernel's own, and no part of the story of an error."""
    link: BaseException | None = error
    while link is not None:
        context = link.__context__
        if isinstance(context, OSError) and context.errno is not None and context.errno >= ERESTARTSYS:
            link.__context__ = None
        link = link.__context__
