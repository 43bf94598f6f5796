"""Programs from files: ``FILE.py[:function]``."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from simkernel.errors import UsageError


def load(target: str, default: str, parameters: int) -> tuple[ModuleType, Callable[..., Any], str]:
    """The module, the function and the full name of ``FILE.py[:function]``.

    ``default`` names the function when the target does not; it must take ``parameters`` arguments.  UsageError says what is wrong.
    """
    path_text, _, name = target.partition(":")
    name = name or default
    path = Path(path_text)
    if path.is_dir():
        raise UsageError(f"{path_text} is a folder: name one Python file in it")
    if not path.is_file():
        raise UsageError(f"there is no file {path_text}")
    if path.suffix != ".py":
        raise UsageError(f"{path_text} is not a Python file: its name must end in .py")
    # As for a script: its own folder comes first, and the current one is there for packages.
    for folder in (str(Path.cwd()), str(path.resolve().parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    module_name = f"simkernel_target_{path.resolve().parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UsageError(f"{Path(error.filename or path_text).name}:{error.lineno}: {error.msg}") from None
    except Exception as error:
        line = next((f.lineno for f in reversed(inspect.trace()) if Path(f.filename) == path.resolve()), None)
        where = f"{path_text}:{line}" if line is not None else path_text
        raise UsageError(f"{where} can't be imported: {type(error).__name__}: {error}") from None
    function = getattr(module, name, None)
    if function is None:
        raise UsageError(f"{path_text} has no function {name}: name one with {path_text}:FUNCTION")
    if not callable(function):
        raise UsageError(f"{name} in {path_text} is not a function")
    try:
        inspect.signature(function).bind(*range(parameters))
    except TypeError:
        wanted = {1: "(sys)", 3: "(sys, listener, stop)"}[parameters]
        raise UsageError(f"{name}{inspect.signature(function)} in {path_text} can't be called with {wanted}") from None
    return module, function, f"{path_text}:{name}"
