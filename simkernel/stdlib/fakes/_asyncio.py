"""``_asyncio``: the C futures and tasks, with the running loop of a simulated thread.

The C code keeps what it knows of a task by the task's loop, so many loops may live in one thread of the real world.  Only the running loop
is that thread's own; so nothing here lets the C code ask for it: a future and a task are always given their loop.  The exceptions are those
of the real asyncio.exceptions, which every world shares.
"""

import _asyncio as real
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from simkernel.stdlib.here import here
from simkernel.stdlib.order import OrderedSet

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

_real: Final[Any] = real
_enter_task: Final = _real._enter_task
_leave_task: Final = _real._leave_task
_current_tasks: Final[dict[Any, Any]] = _real._current_tasks

# By thread.
_running: dict[int, Any] = {}


def reset() -> None:
    """No loop runs."""
    _running.clear()


def _get_running_loop() -> Any:
    """The loop that runs in this thread, or None."""
    return _running.get(here.thread_id())


def _set_running_loop(loop: Any) -> None:
    """For loops alone."""
    if loop is None:
        _running.pop(here.thread_id(), None)
    else:
        _running[here.thread_id()] = loop


def get_running_loop() -> Any:
    """The loop that runs in this thread.  RuntimeError if there is none."""
    loop = _running.get(here.thread_id())
    if loop is None:
        raise RuntimeError("no running event loop")
    return loop


def get_event_loop() -> Any:
    """The same, or what the policy says: as asyncio.events has it, written in Python."""
    return _running.get(here.thread_id()) or world.modules["asyncio.events"]._py_get_event_loop()


def current_task(loop: Any = None) -> Any:
    """The task that runs in a loop (default: the running one), or None."""
    return _current_tasks.get(get_running_loop() if loop is None else loop)


_future: Final[Callable[..., None]] = real.Future.__init__
_task: Final[Callable[..., None]] = real.Task.__init__
_tasks: Final[Any] = WeakSet()
_tasks.data = OrderedSet()


class Future(real.Future):  # type: ignore[type-arg]  # as the C one
    """A C future of a given loop."""

    __slots__ = ()

    def __init__(self, *, loop: Any = None) -> None:
        _future(self, loop=get_event_loop() if loop is None else loop)


class Task(real.Task, Future):  # type: ignore[type-arg]  # as the C one
    """A C task of a given loop, with a name that does not count the tasks of other worlds."""

    __slots__ = ()

    def __init__(self, coro: Any, *, loop: Any = None, name: Any = None, **options: Any) -> None:
        if loop is None:
            loop = get_event_loop()
        if name is None:
            name = f"Task-{world.modules['asyncio.tasks']._task_name_counter()}"
        _task(self, coro, loop=loop, name=name, **options)
        if not self.done():
            _tasks.add(self)


if sys.version_info >= (3, 12):
    _scheduled_tasks = _tasks
    _eager_tasks: Final[set[Any]] = _real._eager_tasks
    _swap_current_task: Final = _real._swap_current_task
    _register_eager_task: Final = _real._register_eager_task
    _unregister_eager_task: Final = _real._unregister_eager_task
else:
    _all_tasks = _tasks

    def _get_event_loop(stacklevel: int = 3) -> Any:
        return _running.get(here.thread_id()) or world.modules["asyncio.events"]._py__get_event_loop(stacklevel + 1)


_register_task = _tasks.add
_unregister_task = _tasks.discard
