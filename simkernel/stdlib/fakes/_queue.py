"""_queue: the queue of queue.SimpleQueue, whose readers sleep in a lock of the machine that runs."""

import _queue as real
from collections import deque
from types import GenericAlias
from typing import TYPE_CHECKING, Any

from simkernel.stdlib.here import here
from simkernel.uapi import CLOCK_MONOTONIC, NSEC_PER_SEC

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

Empty = real.Empty
__doc__ = real.__doc__


class SimpleQueue:
    """Simple, unbounded, reentrant FIFO queue."""

    __slots__ = ("__weakref__", "_bell", "_items", "_readers")

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        # Rung, that is released, when there is something for one of the readers that sleep.
        self._bell = world.modules["_thread"].allocate_lock()
        self._bell.acquire()
        self._readers = 0

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put the item on the queue.  It never blocks: the arguments are those of Queue.put."""
        self._items.append(item)
        self._ring()

    def put_nowait(self, item: Any) -> None:
        """put, which never blocks."""
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Remove and return an item.  Empty if there is none at once, or when ``timeout`` seconds have passed."""
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        items = self._items
        deadline = None if timeout is None or items else here.sys.clock_gettime_ns(CLOCK_MONOTONIC) + int(timeout * NSEC_PER_SEC)
        while not items:
            if not block:
                raise Empty
            self._readers += 1
            try:
                if deadline is None:
                    self._bell.acquire()
                else:
                    left = max(deadline - here.sys.clock_gettime_ns(CLOCK_MONOTONIC), 0)
                    if not self._bell.acquire(True, left / NSEC_PER_SEC):
                        raise Empty
            finally:
                self._readers -= 1
        item = items.popleft()
        # The bell rings once for two items that come before a reader wakes.
        self._ring()
        return item

    def get_nowait(self) -> Any:
        """get without blocking."""
        return self.get(False)

    def empty(self) -> bool:
        """Whether nothing is in it now."""
        return not self._items

    def qsize(self) -> int:
        """How many items are in it now."""
        return len(self._items)

    def _ring(self) -> None:
        if self._readers and self._items and self._bell.locked():
            self._bell.release()

    __class_getitem__: Any = classmethod(GenericAlias)
