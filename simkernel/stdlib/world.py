"""A world: Python's modules imported a second time, over fakes of the C modules that reach the operating system.

Patching what is imported already is unsound: selectors captures its system call when its classes are made, trio captures methods when it
is imported, multiprocessing os.write.  So a program gets modules of its own.  ``socket``, ``selectors``, ``asyncio``, ``trio`` and whatever
imports them are executed afresh, unmodified, beside the real ones, and find the fakes of simkernel.stdlib.fakes beneath them: ``_socket``,
``select``, ``posix``, ``time``, ``_thread``...  What reaches nothing (re, json, collections, C extensions) is shared with the real world.

The means is Python's own import system, executed a second time as well: importlib._bootstrap and its external half, over a ``sys`` whose
``modules`` are the world's.  Each module's ``__builtins__`` are the world's too, so an import statement, ``open`` and ``print`` stay inside
for ever, also in a function that is called later.  Outside of a world nothing is changed.
"""

import ast
import builtins
import datetime
import functools
import importlib.util
import io
import itertools
import re
import sys
from collections.abc import Callable, Collection, Iterable
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from simkernel.errors import UsageError
from simkernel.stdlib.hosts import Hosts
from simkernel.stdlib.order import OrderedSet, build_class, order_dataclasses, settle

FAKES: Final = Path(__file__).parent / "fakes"
# The fakes: each file there, under the name of the module that it stands for.
FAKED: Final = tuple(sorted(path.stem for path in FAKES.glob("*.py") if path.stem != "__init__"))

# C modules that would reach past the fakes.  Each has a Python twin, which is used where it is not there.
ABSENT: Final = ("_pickle", "_uuid", "_zoneinfo", "readline")

# Python modules that reach nothing below them, and those that belong to the tools around a test: one copy is enough, and their classes are
# the same inside and outside.
SHARED: Final = frozenset(
    """__future__ _collections_abc abc ast asyncio.exceptions base64 bisect codecs collections colorsys contextlib contextvars copy copyreg
    csv decimal difflib dis encodings errno fnmatch fractions functools gettext graphlib hashlib heapq hmac html inspect ipaddress
    json keyword linecache locale numbers opcode operator plistlib pprint pyexpat quopri re reprlib sre_compile sre_constants
    sre_parse stat statistics string stringprep struct symtable sysconfig textwrap token tokenize tomllib types typing unicodedata
    warnings xml OpenSSL _pytest _hypothesis_pytestplugin attr attrs certifi cffi charset_normalizer click cryptography execnet
    greenlet hypothesis idna lxml mypy numpy orjson outcome packaging pandas pluggy pydantic pydantic_core pygments pytest rich
    scipy simkernel sortedcontainers typing_extensions xdist importlib.metadata importlib.resources importlib._abc importlib.abc
    importlib.machinery urllib.parse""".split()
)


# Modules of a world that hand dates to a shared one (cryptography), which takes those of the real datetime only.  They read no clock.
REAL_DATES: Final = ("trustme",)


COUNTER: Final = re.compile(r"count\((-?\d+)(?:, (-?\d+))?\)")


def _no_handlers() -> None:
    """Without Python's signal handlers there is nothing to check."""


class Faked:
    """The loader of a fake, for who imports one anew after it was taken out of sys.modules."""


class Shared:
    """The loader of what a world shares with the real one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_code(self, name: str) -> CodeType:
        """For runpy: what is run as __main__ is executed in the world, whoever shares the module."""
        return code_of(name)


class SysModule(ModuleType):
    """A world's ``sys``: what C reads of the real one is set there as well."""

    THROUGH = ("unraisablehook",)

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.THROUGH:
            setattr(sys, name, value)
        super().__setattr__(name, value)


class BuiltIn(staticmethod):  # type: ignore[type-arg]  # not to be subscripted
    """A function of a fake, which like one of C does not become a method where a class has it (logging.Formatter.converter)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<built-in function {self.__name__}>"


class World:
    """One set of modules: the memory of one program.

    fakes   which C modules are faked (default: all that are in simkernel.stdlib.fakes)
    shared  more top-level modules to share with the real world, such as packages whose C extensions can't be loaded twice
    """

    # The script that is being imported a second time, if one is.
    importing: str | None = None

    def __init__(self, fakes: Iterable[str] = FAKED, shared: Iterable[str] = ()) -> None:
        self.fakes = tuple(fakes)
        self.shared = SHARED | frozenset(shared)
        self.modules: dict[str, ModuleType] = {}
        # The fakes, by name.
        self._made: dict[str, ModuleType] = {}
        # What a call does that a signal has interrupted, before it goes on (PEP 475): the fake of _signal puts its own here.
        self.check_signals: Callable[[], None] = _no_handlers
        # The names that its programs know addresses by.
        self.hosts = Hosts()
        self.builtins: dict[str, Any] = dict(vars(builtins))
        self.sys: Any = self._make_sys()
        # The globals of its modules as they were when all imports were done, and how many modules there were; their counters apart.
        self._memory: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._counters: list[tuple[dict[str, Any], str, list[int]]] = []
        self._remembered = 0
        # The function that was taken into it last.
        self.prepared_for: Callable[..., Any] | None = None
        self._bootstrap = self._import_system()
        for name in ABSENT:
            # None in sys.modules: the import fails, and whoever has a Python twin uses that.
            self.modules[name] = None  # type: ignore[assignment]
        for name in self.fakes:
            self._load_fake(name)
        self._bootstrap._thread = getattr(self.modules.get("_thread"), "for_imports", sys.modules["_thread"])
        self.import_module("_weakrefset").set = OrderedSet
        order_dataclasses(self.import_module("dataclasses"))

    def _make_sys(self) -> Any:
        made: Any = SysModule("sys", sys.__doc__)
        vars(made).update(vars(sys))
        # Not what a run, or a test around it, has set.
        vars(made)["unraisablehook"] = sys.__unraisablehook__
        made.modules = self.modules
        made.path = list(sys.path)
        made.argv = list(sys.argv)
        made.path_importer_cache = {}
        self.modules["sys"] = made
        hooks: list[Callable[[str, tuple[Any, ...]], object]] = []

        def audit(event: str, *args: Any) -> None:
            """What Python's modules report here is no deed of the real process: only hooks of this world hear of it."""
            for hook in hooks:
                hook(event, args)

        made.audit, made.addaudithook = audit, hooks.append
        made_builtins = ModuleType("builtins", builtins.__doc__)
        vars(made_builtins).update(vars(builtins))
        self.builtins = vars(made_builtins)
        self.builtins["__import__"] = self._import
        self.builtins["__build_class__"] = build_class
        self.modules["builtins"] = made_builtins
        return made

    def _import_system(self) -> Any:
        """importlib._bootstrap and _bootstrap_external, executed over this world's sys; they find the files of modules on the real disk."""
        for name in ("_imp", "_io", "_warnings", "_weakref", "_thread", "marshal", "posix"):
            self.modules[name] = sys.modules.get(name) or importlib.import_module(name)
        bootstrap, external = (self._execute(name) for name in ("importlib._bootstrap", "importlib._bootstrap_external"))
        for name in ("posix", "_thread"):
            del self.modules[name]
        for module in (bootstrap, external):
            module.sys = self.sys
            module._imp = sys.modules["_imp"]
        bootstrap._thread, bootstrap._warnings, bootstrap._weakref = (sys.modules[name] for name in ("_thread", "_warnings", "_weakref"))
        if hasattr(bootstrap, "_WeakValueDictionary"):
            # From Python 3.12 on it is made when the interpreter starts.
            bootstrap._blocking_on = bootstrap._WeakValueDictionary()
        bootstrap._bootstrap_external = external
        external._set_bootstrap_module(bootstrap)
        self.modules["_frozen_importlib"] = self.modules["importlib._bootstrap"] = bootstrap
        self.modules["_frozen_importlib_external"] = self.modules["importlib._bootstrap_external"] = external

        load = bootstrap._load_unlocked

        def _load_unlocked(spec: ModuleSpec) -> ModuleType:
            if isinstance(spec.loader, Shared):
                module = self.modules[spec.name] = importlib.import_module(spec.name)
                return module
            if isinstance(spec.loader, Faked):
                module = self.modules[spec.name] = self._made[spec.name]
                return module
            loaded: ModuleType = load(spec)
            if vars(loaded).get("__builtins__") is self.builtins:
                settle(loaded)
            return loaded

        bootstrap._load_unlocked = _load_unlocked
        source = (external.SourceFileLoader, external.SOURCE_SUFFIXES)
        sourceless = (external.SourcelessFileLoader, external.BYTECODE_SUFFIXES)
        self.sys.path_hooks = [external.FileFinder.path_hook(source, sourceless)]
        self.sys.meta_path = [self, external.PathFinder, Leftovers(self, external)]
        return bootstrap

    def _execute(self, name: str) -> Any:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        module = ModuleType(name)
        module.__spec__ = spec
        module.__package__ = name.rpartition(".")[0]
        module.__builtins__ = self.builtins  # type: ignore[attr-defined]
        exec(code_of(name), vars(module))  # noqa: S102  # an import system is made of this
        return module

    def _load_fake(self, name: str) -> None:
        module = ModuleType(name)
        module.__file__ = str(FAKES / f"{name}.py")
        module.__package__ = ""
        module.world = self  # type: ignore[attr-defined]
        module.__builtins__ = {**vars(builtins), "__build_class__": build_class}  # type: ignore[attr-defined]
        self.modules[name] = self._made[name] = module
        exec(code_of(f"simkernel.stdlib.fakes.{name}"), vars(module))  # noqa: S102
        for attribute, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__globals__ is vars(module):
                setattr(module, attribute, BuiltIn(value))

    def retried(self, call: Callable[..., Any], *args: Any) -> Any:
        """PEP 475: a call that a signal has interrupted is made again, unless a handler raises."""
        while True:
            try:
                return call(*args)
            except InterruptedError:
                self.check_signals()

    # --- imports ---
    def _import(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        """__import__ of this world."""
        if name == "datetime" and globals is not None and globals.get("__name__") in REAL_DATES:
            return datetime
        if not level and not fromlist and self.modules.get(name) is not None:
            top = self.modules.get(name.partition(".")[0])
            if top is not None:
                return top
        module = self._bootstrap.__import__(name, globals, locals, fromlist, level)
        if fromlist:
            # In a circle of imports the interpreter looks for a half-made submodule in the real sys.modules (ceval.c, import_from), so it
            # is bound here already.
            for attribute in fromlist:
                part = self.modules.get(f"{module.__name__}.{attribute}")
                if part is not None and not hasattr(module, attribute):
                    setattr(module, attribute, part)
        return module

    def import_module(self, name: str) -> Any:
        """The world's module ``name``.  ImportError as usual."""
        return self._bootstrap._gcd_import(name)

    def is_shared(self, name: str) -> bool:
        """Whether this world has the real module ``name``."""
        while name:
            if name in self.shared:
                return True
            name = name.rpartition(".")[0]
        return False

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """What is faked or shared, as the first finder on meta_path (importlib.abc.MetaPathFinder)."""
        if name in self._made:
            return ModuleSpec(name, Faked())  # type: ignore[arg-type]  # _load_unlocked knows it
        if name in ABSENT:
            # Taken out of sys.modules, as tests of both twins do, it is absent all the same.
            raise ModuleNotFoundError(f"{name} reaches past the fakes of this world; its twin is in Python", name=name)
        if self.is_shared(name) or name in sys.builtin_module_names or ("." not in name and is_extension(name)):
            return ModuleSpec(name, Shared(name))  # type: ignore[arg-type]  # _load_unlocked knows it
        return None

    # --- memory ---
    def remember(self) -> None:
        """Note what the globals of its modules are, if there are new ones since it did so last."""
        if len(self.modules) == self._remembered:
            return
        self._remembered = len(self.modules)
        self._memory, self._counters = [], []
        for name in self.fakes:
            note = getattr(self.modules[name], "remember", None)
            if note is not None:
                note()
        for name, module in self.modules.items():
            if module is None or module is sys.modules.get(name) or name in self.fakes or name in ("sys", "builtins"):
                continue
            names = vars(module)
            self._memory.append((names, dict(names)))
            for key, value in names.items():
                counter = getattr(value, "__self__", value)
                # Its repr is all that tells how far it is.
                if isinstance(counter, itertools.count) and (found := COUNTER.fullmatch(repr(counter))):
                    self._counters.append((names, key, [int(number) for number in found.groups() if number]))

    def recall(self) -> None:
        """Bind the globals of its modules to what they were: a new process knows nothing of what was done in one before.

        What a module keeps in containers stays.
        """
        for names, remembered in self._memory:
            names.update(remembered)
        for names, key, numbers in self._counters:
            fresh = itertools.count(*numbers)
            names[key] = fresh if isinstance(names[key], itertools.count) else fresh.__next__

    # --- functions of the real world ---
    def inside(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as it is in this world: its module is imported here, and its globals are that module's.

        A function that was made in another one keeps what it has closed over; modules among these are exchanged for the world's.
        """
        if isinstance(function, functools.partial):
            return functools.partial(self.inside(function.func), *function.args, **function.keywords)
        if isinstance(function, MethodType):
            return MethodType(self.inside(function.__func__), function.__self__)
        if not isinstance(function, FunctionType):
            raise UsageError(f"{function!r} can't be taken into a world: give a Python function")
        if function.__globals__.get("__builtins__") is self.builtins:
            return function
        home = self.home_of(function)
        found: Any = home
        for part in function.__qualname__.split("."):
            found = getattr(found, part, None)
        if isinstance(found, FunctionType) and same_code(found.__code__, function.__code__):
            return found
        for name, value in function.__globals__.items():
            if name.startswith("@"):
                # What the assertions that pytest has rewritten refer to.
                vars(home).setdefault(name, value)
        closure = function.__closure__
        if closure is not None:
            closure = tuple(type(cell)(self._twin(cell.cell_contents)) if self._has_twin(cell) else cell for cell in closure)
        made = FunctionType(function.__code__, vars(home), function.__name__, function.__defaults__, closure)
        made.__kwdefaults__, made.__dict__, made.__qualname__ = function.__kwdefaults__, dict(vars(function)), function.__qualname__
        return made

    def home_of(self, function: FunctionType) -> ModuleType:
        """The world's copy of the module in which a function was written."""
        name = function.__module__
        if name == "__main__":
            # Under the name that multiprocessing gives it in its children: what is under `if __name__ == "__main__"` is not done again.
            if "__mp_main__" not in self.modules:
                filename = getattr(sys.modules["__main__"], "__file__", None)
                if filename is None:
                    raise UsageError(f"{function.__qualname__} can't be taken into a world: it was typed in, and has no file")
                World.importing = filename
                try:
                    self.load_file("__mp_main__", filename)
                finally:
                    World.importing = None
            return self.modules["__mp_main__"]
        if name not in self.modules and name in sys.modules:
            real = sys.modules[name]
            filename = getattr(real, "__file__", None)
            spec = getattr(real, "__spec__", None)
            if spec is None or importlib_cannot_find(name):
                # A script, or a test that pytest imported by its path.
                if filename is None:
                    raise UsageError(f"{function.__qualname__} can't be taken into a world: its module {name} has no file")
                return self.load_file(name, filename)
            if type(spec.loader).__name__ == "AssertionRewritingHook" and filename is not None:
                return self.load_file(name, filename)
        found: ModuleType = self.import_module(name)
        return found

    def load_file(self, name: str, filename: str) -> ModuleType:
        """Execute a file as module ``name`` of this world."""
        external: Any = self.modules["_frozen_importlib_external"]
        spec = self._bootstrap.spec_from_loader(name, external.SourceFileLoader(name, filename))
        spec = external.spec_from_file_location(name, filename, loader=spec.loader)
        module: ModuleType = self._bootstrap.module_from_spec(spec)
        self.modules[name] = module
        try:
            code = rewritten(name, filename)
            if code is None:
                spec.loader.exec_module(module)
            else:
                module.__builtins__ = self.builtins  # type: ignore[attr-defined]
                exec(code, vars(module))  # noqa: S102  # as its loader does
        except BaseException:
            del self.modules[name]
            raise
        settle(module)
        return module

    def _has_twin(self, cell: Any) -> bool:
        try:
            return isinstance(cell.cell_contents, ModuleType) and not self.is_shared(cell.cell_contents.__name__)
        except ValueError:
            # Not bound yet.
            return False

    def _twin(self, module: ModuleType) -> ModuleType:
        found: ModuleType = self.import_module(module.__name__)
        return found


class Leftovers:
    """The last finder: modules that only the real finders know (editable installs), and C extensions, which can't be loaded twice."""

    def __init__(self, world: World, external: Any) -> None:
        self.world = world
        self.external = external

    def find_spec(self, name: str, path: Any = None, target: object = None) -> Any:
        """importlib.abc.MetaPathFinder.find_spec."""
        for finder in sys.meta_path:
            if getattr(finder, "__name__", "") in ("BuiltinImporter", "FrozenImporter") or "_pytest" in type(finder).__module__:
                continue
            spec = finder.find_spec(name, path)
            if spec is None or spec.loader is None:
                continue
            if isinstance(spec.loader, ExtensionFileLoader):
                top = name.partition(".")[0]
                raise ImportError(f"{name} is a C extension, which can't be loaded twice: share {top!r} with the real world", name=name)
            if spec.origin is not None and spec.origin.endswith(".py"):
                loader = self.external.SourceFileLoader(name, spec.origin)
                return self.external.spec_from_file_location(
                    name, spec.origin, loader=loader, submodule_search_locations=spec.submodule_search_locations
                )
        return None


@functools.cache
def code_of(name: str) -> CodeType:
    """The compiled code of a module that has a source."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None or spec.origin is None:
        raise UsageError(f"there is no source of {name}")
    if not spec.origin.endswith(".py"):
        # Frozen: its source lies beside the others'.
        origin = Path(io.__file__).parent.joinpath(*name.split(".")).with_suffix(".py")
        return compile(origin.read_bytes(), str(origin), "exec", dont_inherit=True)
    # (Whoever else loads such modules, as pytest does to rewrite assertions, is passed by.)
    found = SourceFileLoader(name, spec.origin).get_code(name)
    assert isinstance(found, CodeType)
    return found


@functools.cache
def is_extension(name: str) -> bool:
    """Whether a top-level module is a C extension."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)


def importlib_cannot_find(name: str) -> bool:
    """Whether a module that is loaded could not be imported by its name."""
    real = sys.modules.pop(name)
    try:
        spec = importlib.util.find_spec(name)
        return spec is None or spec.origin != getattr(real, "__file__", None)
    except (ImportError, ValueError):
        return True
    finally:
        sys.modules[name] = real


def rewritten(name: str, filename: str) -> CodeType | None:
    """The code of a test module whose assert statements pytest has rewritten, so that a failed one tells its values; None for others."""
    loader: Any = getattr(sys.modules.get(name), "__loader__", None)
    if type(loader).__name__ != "AssertionRewritingHook":
        return None
    rewrite = importlib.import_module("_pytest.assertion.rewrite")
    source = Path(filename).read_bytes()
    tree = ast.parse(source, filename)
    rewrite.rewrite_asserts(tree, source, filename, loader.config)
    return compile(tree, filename, "exec", dont_inherit=True)


def same_code(one: CodeType, other: CodeType) -> bool:
    """Whether two functions were compiled from the same lines."""
    return (one.co_filename, one.co_firstlineno, one.co_name) == (other.co_filename, other.co_firstlineno, other.co_name)


def names_of(modules: Collection[str]) -> str:
    """Module names in words."""
    return ", ".join(sorted(modules))
