"""The stacks that tasks run on (kernel/fork.c: alloc_thread_stack_node, cached_stacks).

A stack is a greenlet.  Python maps memory for the frames of each new one and unmaps it at its end, which costs more than all that a short
task does.  So, as in Linux, those whose task has ended wait for the next.

This file is never compiled: it is the frame of ``run`` that keeps the mapping.
"""

import threading
from collections.abc import Callable

from greenlet import getcurrent, greenlet

from simkernel.kernel.sched import TaskExit

# NR_CACHED_STACKS, for each thread of Python; Linux has two for each processor.
NR_CACHED_STACKS = 64


class ThreadStack(greenlet):
    """A greenlet for one task after another."""

    main: Callable[[], None] | None = None

    def run(self) -> None:
        """Call ``main``, which returns when the task has ended; then give the processor to the hub, and wait for another."""
        cached = cached_stacks.free
        while self.main is not None:
            main, self.main = self.main, None
            main()
            # Nothing of the task is left to the next one.
            del main
            self.gr_context = None
            hub = self.parent
            if hub is None or len(cached) >= NR_CACHED_STACKS:
                return
            self.parent = cached_stacks.root
            cached.append(self)
            try:
                hub.switch()
            except TaskExit:
                # A task that is killed before it has begun: main sees to it.
                continue


class CachedStacks(threading.local):
    """``free`` stacks, the one that was used last at the end; ``root`` is the greenlet of the thread itself."""

    def __init__(self) -> None:
        self.free: list[ThreadStack] = []
        root = getcurrent()
        while root.parent is not None:
            root = root.parent
        self.root = root


cached_stacks = CachedStacks()


def alloc_thread_stack(main: Callable[[], None], hub: greenlet) -> greenlet:
    """A greenlet that will call ``main``, and give the processor to ``hub`` when that returns."""
    free = cached_stacks.free
    if free:
        stack = free.pop()
        stack.parent = hub
    else:
        stack = ThreadStack(None, hub)
    stack.main = main
    return stack
