"""The environment of a simulated program, for libraries in C that look at that of the real process."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simkernel.stdlib.world import World


def getenv(world: "World", name: str) -> str | None:
    """A variable of the program's environment."""
    program: Any = world.modules.get("os") or os
    value: str | None = program.environ.get(name)
    return value


@contextlib.contextmanager
def c_environment(world: "World", *names: str, **values: str) -> Iterator[None]:
    """getenv(3) of ``names`` finds what the program has, and of those in ``values`` these.  Nobody else of the machine runs meanwhile."""
    inner = {**{name: getenv(world, name) for name in names}, **values}
    outer = {name: os.environ.get(name) for name in inner}
    try:
        _put(inner)
        yield
    finally:
        _put(outer)


def _put(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is not None:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
