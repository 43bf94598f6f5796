"""Work that a task does when it returns to its program (kernel/task_work.c).

The one user is Python's interpreter in a simulated process: its signal handlers run not in the kernel's signal frame, but when the call
that the signal came in is over.
"""

from collections.abc import Callable

from simkernel.kernel.sched import Sched, Task


def task_work_add(sched: Sched, task: Task, work: Callable[[], None]) -> None:
    """Have the task call ``work`` before it next goes on with its program.  It is not woken for that."""
    if task.task_works is None:
        task.task_works = []
        sched.sigwork += 1
    task.task_works.append(work)


def task_work_run(sched: Sched, task: Task, interrupted: OSError | None = None) -> None:
    """Do it, in the order in which it was added.  What is raised leaves the call, and the rest is done at the next one.

    ``interrupted``: how the call has failed, which the program will not see, and which is no part of the story of what is raised.
    """
    works = task.task_works
    try:
        while works:
            works.pop(0)()
    except BaseException as error:
        if interrupted is not None:
            forget(error, interrupted)
        raise
    finally:
        if works is task.task_works and not works:
            exit_task_work(sched, task)


def exit_task_work(sched: Sched, task: Task) -> None:
    """Nothing is left to do."""
    if task.task_works is not None:
        task.task_works = None
        sched.sigwork -= 1


def forget(error: BaseException, interrupted: OSError) -> None:
    """Take ``interrupted`` out of what ``error`` was raised after."""
    link: BaseException | None = error
    while link is not None:
        if link.__context__ is interrupted:
            link.__context__ = interrupted.__context__
        link = link.__context__
