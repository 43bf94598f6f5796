"""Functions as those of C are: a class that has one as an attribute does not make a method of it."""

import functools
from collections.abc import Callable
from typing import Any


class Builtin:
    """A function that is bound to nothing."""

    def __repr__(self) -> str:
        return f"<built-in function {vars(self)['__name__']}>"

    def __reduce__(self) -> str:
        # By its name in its module, as functions are pickled and copied.
        name: str = vars(self)["__name__"]
        return name


def as_builtin(function: Callable[..., Any], module: str) -> Any:
    """``function`` as C would have it in ``module``.  Its calls cost no frame more."""
    kind = type(function.__name__, (Builtin,), {"__call__": staticmethod(function)})
    made = functools.update_wrapper(kind(), function)
    made.__module__ = module
    return made
