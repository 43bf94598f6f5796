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

    main: Callable[[], None]

    def run(self) -> None:
        """Wait for a task and do its ``main``, which returns when the task has ended; then give the processor to the hub, and so on."""
        cached = cached_stacks.free
        hub = self.parent
        while hub is not None:
            # Whoever ran it may be gone before it is used again.
            self.parent = cached_stacks.root
            try:
                hub.switch()
            except TaskExit:
                # The task is killed before it has begun: its main sees to it.
                pass
            self.main()
            # Nothing of the task is left to the next one.
            del self.main
            self.gr_context = None
            hub = self.parent
            if len(cached) >= NR_CACHED_STACKS:
                return
            cached.append(self)


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
    else:
        # It begins here and now: begun by whoever gives it the processor, task after task would begin further down Python's stack, and the
        # hundredth overflow it.
        stack = ThreadStack(None, getcurrent())
        stack.switch()
    stack.main = main
    stack.parent = hub
    return stack
