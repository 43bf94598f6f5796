"""``atexit``: what a program has done at its end, which is that of its process and not of the interpreter (Modules/atexitmodule.c).

The functions that modules have registered when they were imported are for each process of a world that is used again.
"""

import atexit as real
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from simkernel.stdlib.unraisable import write_unraisable

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
F = TypeVar("F", bound=Callable[..., Any])
Callback = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_callbacks: list[Callback] = []
# Those of modules.
_imported: list[Callback] = []


def register(func: F, /, *args: Any, **kwargs: Any) -> F:
    """Call ``func`` at the end."""
    if not callable(func):
        raise TypeError("the first argument must be callable")
    _callbacks.append((func, args, kwargs))
    return func


def unregister(func: object, /) -> None:
    """Do not call it."""
    _callbacks[:] = [callback for callback in _callbacks if not callback[0] == func]  # noqa: SIM201  # as it asks


def _clear() -> None:
    _callbacks.clear()


def _ncallbacks() -> int:
    return len(_callbacks)


def _run_exitfuncs() -> None:
    """The last first; what one raises is told, and the others are called."""
    while _callbacks:
        func, args, kwargs = _callbacks.pop()
        try:
            func(*args, **kwargs)
        except BaseException as error:
            write_unraisable(world.sys, error, "Exception ignored in atexit callback", func)


def reset() -> None:
    """A new process begins; one before may have been killed, and have called nothing."""
    _callbacks[:] = _imported


def remember() -> None:
    """Modules have been imported."""
    _imported[:] = _callbacks
