"""Servers and tests that are written on Python's own modules: on the fake kernel they run in a world (simkernel.stdlib).

``needs_world(function)`` tells whether a function refers to something that no_escape() would forbid: a socket, a selector, an event loop, a
clock, a lock, whether by its own name, through functions and classes of its own, or deep in a library.  Such a function is taken into a
world, where the same names are others; one that is written on ``sys`` alone runs as it is.
"""

import dis
import gc
import importlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from io import StringIO
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TextIO

from simkernel.kernel.entry import EnteredSyscalls
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import TaskExit
from simkernel.stdlib.here import here, machine
from simkernel.stdlib.order import numbers
from simkernel.stdlib.process import before, begin, finish
from simkernel.stdlib.world import SHARED, World
from simkernel.testing.escapes import HARMLESS, TOOLS, Uses, is_program

# What they do with files they do in a world as well: files are real.
# Of what a server wrote, a story has so many lines.
SAID_LINES = 30
FILES = ("fileinput", "genericpath", "glob", "pathlib", "posixpath", "shutil", "tempfile", "zipfile")
_SKIPPED = frozenset({*SHARED, *TOOLS, *HARMLESS, *FILES, "simkernel", "builtins", "sys"})
_LOCALS = ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW")
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")
_CELLS = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_STORES = ("STORE_FAST", "STORE_DEREF", "STORE_GLOBAL")
_UNKNOWN: Any = object()


def needs_world(function: Callable[..., object], allow_real: Collection[str] = ()) -> bool:
    """Whether a function uses what a world has and no_escape() forbids.  What the author allows, by kinds of escapes.py, is no reason."""
    uses = Uses(allow_real)
    seen: set[int] = set()
    kept: list[Any] = [function]
    stack: list[Any] = [function]
    while stack:
        value = stack.pop()
        if uses.kind_of(value) is not None:
            return True
        for found in _referred(value):
            if id(found) not in seen:
                seen.add(id(found))
                # Not collected while its number counts.
                kept.append(found)
                stack.append(found)
    return False


def _referred(value: Any) -> Iterator[Any]:
    """What a function, a class or an object refers to, as far as that can be told without running it."""
    if isinstance(value, partial):
        yield value.func
        return
    if isinstance(value, (MethodType, staticmethod, classmethod)):
        yield value.__func__
        return
    if isinstance(value, property):
        yield from (f for f in (value.fget, value.fset) if f is not None)
        return
    if isinstance(value, ModuleType) or _skipped(value):
        return
    if isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, type):
        yield from value.__mro__[1:-1]
        for held in list(vars(value).values()):
            if isinstance(held, (FunctionType, staticmethod, classmethod, property, BuiltinFunctionType, type)):
                yield held
    elif not isinstance(value, (BuiltinFunctionType, CodeType, str, bytes, int, float, dict, list, tuple, set, frozenset)):
        yield type(value)


def _skipped(value: Any) -> bool:
    """Whether it belongs to what a world shares, or to what uses the clock only for its own books."""
    name = getattr(value, "__module__", None)
    if not isinstance(name, str):
        return not isinstance(value, FunctionType)
    while name:
        if name in _SKIPPED:
            return True
        name = name.rpartition(".")[0]
    return False


def _of_function(function: FunctionType) -> Iterator[Any]:
    wrapped = vars(function).get("__wrapped__")
    if wrapped is not None:
        yield wrapped
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    cells: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            cells[name] = cell.cell_contents
        except ValueError:
            # Not bound yet.
            continue
    yield from _of_code(function.__code__, function.__globals__, cells)


def _of_code(code: CodeType, globals_: dict[str, Any], cells: dict[str, Any]) -> Iterator[Any]:
    """What names and chains of attributes in a code stand for: ``os.path.join`` is one function, not all of os."""
    bound: dict[str, Any] = {}
    chain = module = part = _UNKNOWN
    level: Any = 0
    names: Any = None
    for instruction in dis.get_instructions(code):
        op, arg = instruction.opname, instruction.argval
        if op in _ATTRIBUTES and isinstance(chain, (ModuleType, type)):
            chain = getattr(chain, arg, _UNKNOWN)
            continue
        if chain is not _UNKNOWN:
            yield chain
            chain = _UNKNOWN
        if op in _GLOBALS:
            chain = globals_.get(arg, _UNKNOWN)
        elif op in _CELLS:
            chain = bound.get(arg, cells.get(arg, _UNKNOWN))
        elif op in _LOCALS:
            chain = bound.get(arg, _UNKNOWN)
        elif op == "IMPORT_NAME":
            module = _imported(arg, level, bool(names), globals_)
        elif op == "IMPORT_FROM":
            part = getattr(module, arg, _UNKNOWN)
            if part is not _UNKNOWN:
                yield part
        elif op in _STORES and module is not _UNKNOWN:
            bound[arg] = part if part is not _UNKNOWN else module
            if part is _UNKNOWN:
                module = _UNKNOWN
            part = _UNKNOWN
        elif isinstance(arg, CodeType):
            yield from _of_code(arg, globals_, {**cells, **bound})
        if op == "LOAD_CONST":
            level, names = names, arg


def _imported(name: str, level: int, whole: bool, globals_: dict[str, Any]) -> Any:
    """What an import statement finds: the module, or (not ``whole``: without a from) the package in which it is."""
    if level:
        package = (globals_.get("__package__") or "").split(".")
        name = ".".join([*package[: len(package) - level + 1], *([name] if name else [])])
    if name not in sys.modules and is_program(globals_.get("__file__") or ""):
        # A library's own late imports are not for us to make.
        try:
            importlib.import_module(name)
        except ImportError:
            return _UNKNOWN
    return sys.modules.get(name if whole else name.partition(".")[0], _UNKNOWN)


class Housed:
    """A function that takes ``sys``, in a world: called as it is, in the process that is to be it.

    The world is kept over runs; ``begin`` makes it new for each process.  What the process writes to stdout and stderr is kept in
    ``written``, or goes to ``output``, where it is seen as it comes.
    """

    made = False
    # Whose process began last.
    last: "Housed | None" = None

    def __init__(self, function: Callable[..., object], output: tuple[TextIO, TextIO] | None = None) -> None:
        Housed.made = True
        self.world = World()
        before(self.world, function)
        self.inside = self.world.inside(function)
        self.output = output
        self.written = StringIO()

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.written = StringIO()
        Housed.last = self
        stdout, stderr = self.output or (self.written, self.written)
        begin(self.world, stdio=(StringIO(), stdout, stderr))
        try:
            result = self.inside(*args, **kwargs)
        except (Exception, SystemExit):
            finish(self.world)
            raise
        finish(self.world)
        return result

    def stderr(self) -> TextIO:
        """Where the process complains."""
        return self.output[1] if self.output else self.written

    def said(self) -> list[str]:
        """The end of what the process wrote, for the story of a failure."""
        lines = self.written.getvalue().splitlines()
        return ["the server wrote:", *(f"  {line}" for line in lines[-SAID_LINES:])] if lines else []


def housed(
    function: Callable[..., object], allow_real: Collection[str] = (), output: tuple[TextIO, TextIO] | None = None
) -> Callable[..., object]:
    """``function``, or if it needs a world, the same in one."""
    return Housed(function, output) if needs_world(function, allow_real) else function


@contextmanager
def no_last_words() -> Iterator[None]:
    """What processes that were killed have left behind is collected between runs; what its finalizers complain of is no matter.

    What Python says of a coroutine that nobody awaits, and does not say twice otherwise, goes to where the process writes.
    """
    if not Housed.made:
        yield
        return
    hook, show = sys.unraisablehook, warnings.showwarning

    def only_of_the_living(unraisable: "sys.UnraisableHookArgs") -> None:
        if here.sched is not None and not here.dying() and unraisable.exc_type is not TaskExit:
            hook(unraisable)

    def told(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        if category is not RuntimeWarning:
            show(message, category, filename, lineno, *rest)
        elif here.sched is not None and Housed.last is not None:
            Housed.last.stderr().write(f"{category.__name__}: {message}\n")

    sys.unraisablehook = only_of_the_living
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RuntimeWarning)
            warnings.showwarning = told  # type: ignore[assignment]  # it is called so
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook


def runs_in(function: Callable[..., object]) -> dict[str, Any]:
    """Options of a Kernel that is to run ``function``: in a world the real files are there."""
    return {"hostfs": True} if isinstance(function, Housed) else {}


def machine_of(kernel: Kernel, function: Callable[..., object]) -> AbstractContextManager[None]:
    """What a run of ``function`` on this kernel has to be in."""
    if not isinstance(function, Housed):
        return nullcontext()
    numbers.restart()
    if isinstance(kernel.sys, EnteredSyscalls) and kernel.sys.faults is not None:
        # Python takes a close that was interrupted for one that failed (PEP 475), and its own modules have no answer to that.
        kernel.sys.faults.spare("close")
    return machine(kernel.sys, kernel.sched)
