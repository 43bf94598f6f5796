"""Errors that nobody can catch, told as the interpreter tells them (PyErr_WriteUnraisable)."""

import sys
import traceback
from types import SimpleNamespace
from typing import Any

from simkernel.errors import SimulationError
from simkernel.kernel.sched import TaskExit


def write_unraisable(world_sys: Any, error: BaseException, message: str | None, thing: object = None) -> None:
    """Give ``error`` to the program's sys.unraisablehook, or print it to its stderr.  What ends a run or its process is raised again."""
    if isinstance(error, (SimulationError, TaskExit)):
        raise error
    hook = world_sys.unraisablehook
    # (The interpreter's own, and what stands before it during a run, are those of the real process.)
    if hook is not sys.__unraisablehook__ and not str(getattr(hook, "__module__", "")).startswith("simkernel."):
        args = {"exc_type": type(error), "exc_value": error, "exc_traceback": error.__traceback__, "err_msg": message, "object": thing}
        hook(SimpleNamespace(**args))
        return
    print(f"{message or 'Exception ignored in'}{': ' + repr(thing) if thing is not None else ':'}", file=world_sys.stderr)
    traceback.print_exception(error, file=world_sys.stderr)
