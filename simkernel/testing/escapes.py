"""Escapes: the real clock, network or chance used inside a simulated run.

A program that reaches past its ``sys`` sees a world that is not simulated: it may hang for real, and two runs of one tape differ.  Inside
``no_escape()`` such a use raises Escape with the program's file and line, and the run ends with it even if the program catches it.

    seen as      what
    time         time.time, monotonic, perf_counter, process_time, thread_time and their _ns twins, clock_gettime; localtime, gmtime, ctime,
                 asctime and strftime of now; datetime.now, utcnow and today, date.today
    sleep        time.sleep
    random       the functions of module random, random.Random() and seed() without a seed, os.urandom, getrandom (so uuid4, secrets)
    socket       a new socket.socket, connect, bind, sendto, name resolution (Python's audit events, so from C code as well)
    select       select.select, poll, epoll, and selectors on them (so asyncio with its own loop)
    fd           os.read, write (but to fds 1 and 2), close, dup, dup2, pipe, pipe2, readv, writev, sendfile, eventfd, set_blocking
    lock         threading.Lock and RLock, made inside the run, that another task holds: the whole machine would sleep
    thread       a new real thread
    process      os.fork, posix_spawn, exec, system, os.kill, waitpid, subprocess
    signal       signal.signal, alarm, setitimer, pause, sigwait

A server for check() and a @simulate test that refer to one of these run in a world, where the same names are the machine's (worlds.py):
there it is what reaches past the world that is an escape.

The modules that are loaded when the run begins are searched for what they have bound: ``from time import monotonic``, class attributes,
and the defaults and closures of their functions and methods, so also ``field(default_factory=time.time)``.  There, datetime and date are
bound to classes that make, and count as, the real ones; only ``type(x) is datetime`` is false, and they can't be pickled themselves.

Not seen: what C extensions do (uvloop, numpy.random, psycopg); datetime imported within a function; functions and classes kept before the
run in objects, containers, partials, or in functions that no module holds (inner ones); locks made before the run; dicts and sets ordered
by hash or id.  What these change is found as nondeterminism, where two runs differ for it.

Only what a simulated task does counts, and in it not what Python's logging and imports, Hypothesis, pytest and simkernel do.  Outside of
``no_escape()`` nothing is patched; there is one audit hook, which Python can't take back, and it looks at one flag.
"""

import _thread
import contextlib
import datetime
import os
import random
import select
import selectors
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

from greenlet import getcurrent

from simkernel.errors import Escape, UsageError

KINDS = ("time", "sleep", "random", "socket", "select", "fd", "lock", "thread", "process", "signal")

# What to use instead.
REMEDIES = {
    "time": "use sys.clock_gettime_ns(CLOCK_MONOTONIC), whose time is the machine's",
    "sleep": "use sys.nanosleep(ns), which takes no real time",
    "random": "use random.Random(seed), so that two runs of one tape are the same",
    "socket": "use sys.socket and its kin",
    "select": "use sys.epoll_create1, sys.poll or sys.select",
    "fd": "the fds of a simulated process are not those of this one: use sys.read, sys.write, sys.close, ...",
    "lock": "all tasks of a run share one thread, so it would wait for ever: use a pipe or an eventfd",
    "thread": "use sys.thread",
    "process": "use sys.spawn, sys.kill, sys.waitpid",
    "signal": "use sys.sigaction, sys.kill, sys.timerfd_create",
}

_STDLIB = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__)})
_SITE = ("site-packages", "dist-packages")
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_RUN = os.path.join("kernel", "machine.py")
# Tools that run beside a test, in its tasks: what they do is not the program's doing.
TOOLS = ("hypothesis", "_hypothesis_pytestplugin", "pytest", "_pytest", "pluggy", "xdist", "execnet", "coverage", "greenlet")
# Parts of the standard library that use the clock only for their own books.
HARMLESS = ("logging", "importlib", "warnings", "linecache", "traceback", "faulthandler")

_AUDITED = {
    "socket.__new__": "socket",
    "socket.connect": "socket",
    "socket.bind": "socket",
    "socket.sendto": "socket",
    "socket.sendmsg": "socket",
    "socket.getaddrinfo": "socket",
    "socket.gethostbyname": "socket",
    "socket.gethostbyaddr": "socket",
    "socket.getnameinfo": "socket",
    "subprocess.Popen": "process",
    "os.system": "process",
    "os.fork": "process",
    "os.forkpty": "process",
    "os.exec": "process",
    "os.posix_spawn": "process",
    "os.kill": "process",
    "os.killpg": "process",
    "time.sleep": "sleep",
}


class Guard:
    """What is forbidden now, and what was seen: one for each ``no_escape()``."""

    __slots__ = ("allowed", "seen", "thread")

    def __init__(self, allowed: frozenset[str]) -> None:
        self.allowed = allowed
        self.thread = _thread.get_ident()
        self.seen: Escape | None = None


_guard: Guard | None = None
_hooked = False


def kinds_of(allow_real: bool | Collection[str]) -> frozenset[str]:
    """The kinds that an author allows: True for all.  UsageError for a name that is none."""
    if isinstance(allow_real, bool):
        return frozenset(KINDS) if allow_real else frozenset()
    if isinstance(allow_real, str):
        allow_real = (allow_real,)
    for kind in allow_real:
        if kind not in KINDS:
            raise UsageError(f"allow_real: there is no kind {kind!r}: choose of {', '.join(KINDS)}, or True for all")
    return frozenset(allow_real)


@contextlib.contextmanager
def no_escape(allow_real: bool | Collection[str] = ()) -> Iterator[None]:
    """Simulated runs inside this block may not use the real world: Escape, with the program's line.

    ``allow_real`` names the kinds that are meant (True: all).  Blocks nest; the innermost counts.
    """
    global _guard
    allowed = kinds_of(allow_real)
    if len(allowed) == len(KINDS):
        yield
        return
    outer, _guard = _guard, Guard(allowed)
    guard = _guard
    if outer is None:
        _hook()
        _install()
    try:
        yield
        check_seen(guard)
    finally:
        _guard = outer
        if outer is None:
            _uninstall()


def check_seen(guard: Guard | None = None) -> None:
    """Raise what a program has done and caught; what its run has raised is told already.  For the end of each run."""
    guard = guard or _guard
    if guard is not None and guard.seen is not None:
        seen, guard.seen = guard.seen, None
        if not _left_the_run(seen):
            raise seen


def _left_the_run(error: BaseException) -> bool:
    """Whether Kernel.run has raised it."""
    tb = error.__traceback__
    while tb is not None:
        code = tb.tb_frame.f_code
        if code.co_name == "run" and code.co_filename.endswith(_RUN):
            return True
        tb = tb.tb_next
    return False


def _escape(what: str, kind: str, guard: Guard, frame: FrameType | None) -> None:
    """Raise Escape if it is the program that does this, in a simulated task."""
    __tracebackhide__ = True
    if kind in guard.allowed or _thread.get_ident() != guard.thread:
        return
    place = _program(frame)
    if place is None:
        return
    error = Escape(f"{what} inside a simulated run, at {place}: {REMEDIES[kind]}")
    guard.seen = guard.seen or error
    raise error


def _program(frame: FrameType | None) -> str | None:
    """``file.py:line in function`` of the program that did it; None if a tool did."""
    while frame is not None:
        filename = frame.f_code.co_filename
        name = frame.f_globals.get("__name__", "")
        top = name.partition(".")[0]
        if filename.startswith("<frozen ") or top in HARMLESS or frame.f_code.co_name == "__del__":
            # Code that runs because it is imported, a line in a log, or garbage, which may be anyone's.
            return None
        generated = filename.startswith("<") and top != "__main__"
        inside = generated or (filename.startswith(_STDLIB) and not any(site in filename for site in _SITE))
        if not inside:
            if filename.startswith(_OURS) or top in TOOLS:
                return None
            return f"{os.path.basename(filename)}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    __tracebackhide__ = True
    guard = _guard
    if guard is None:
        return
    kind = _AUDITED.get(event)
    if kind is not None and getcurrent().parent is not None:
        _escape("the real " + event.replace(".__new__", ".socket"), kind, guard, sys._getframe(1))


def _hook() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(_audit)


def _forbidden(module: str, name: str, real: Any, kind: str, when: Callable[..., bool] | None = None) -> Callable[..., Any]:
    """A function that does as ``real``, except where a simulated task calls it (and ``when`` says so)."""
    what = f"the real {module}.{name}"

    def guarded(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        guard = _guard
        if guard is not None and getcurrent().parent is not None and (when is None or when(*args, **kwargs)):
            _escape(what, kind, guard, sys._getframe(1))
        return real(*args, **kwargs)

    guarded.__name__ = guarded.__qualname__ = name
    guarded.__doc__ = real.__doc__
    return guarded


# --- dates ---


class _Stands(type):
    """The class of a class that stands for ``real``: what is an instance of one is one of the other."""

    real: type

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.real)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.real

    def __hash__(cls) -> int:
        return hash(cls.real)


def _standing_for(real: type, *clocks: str) -> _Stands:
    """A class that makes ``real`` objects, and that tells nobody what time it is."""

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        made: Any = real.__new__
        return made(real if cls is stand else cls, *args, **kwargs)

    def clock(name: str) -> Any:
        def now(cls: type, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            guard = _guard
            if guard is not None and getcurrent().parent is not None:
                _escape(f"the real {real.__name__}.{name}", "time", guard, sys._getframe(1))
            return getattr(super(stand, cls), name)(*args, **kwargs)

        return classmethod(now)

    names: dict[str, Any] = {"__module__": real.__module__, "__doc__": real.__doc__, "__new__": new, "__slots__": (), "real": real}
    stand = _Stands(real.__name__, (real,), {**names, **{name: clock(name) for name in clocks}})
    return stand


def _dates() -> tuple[ModuleType, dict[str, _Stands]]:
    """What a program is to have instead of the module datetime, and of its two classes that know what time it is."""
    stands = {"datetime": _standing_for(datetime.datetime, "now", "utcnow", "today"), "date": _standing_for(datetime.date, "today")}
    module = ModuleType(datetime.__name__, datetime.__doc__)
    vars(module).update({**vars(datetime), **stands})
    return module, stands


# --- locks ---


def _made_by_a_task(frame: FrameType | None) -> bool:
    return _guard is not None and "lock" not in _guard.allowed and getcurrent().parent is not None and _program(frame) is not None


def _would_block(holder: Any) -> None:
    """A task waits for what another task, or it itself, holds."""
    guard = _guard
    if guard is not None and getcurrent().parent is not None:
        who = "this task itself" if holder is getcurrent() else "another task"
        _escape(f"waiting for a threading.Lock that {who} holds", "lock", guard, _caller())


def _caller() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame


class TaskLock:
    """threading.Lock for simulated tasks: one that would make the only real thread wait for itself is an Escape."""

    def __init__(self) -> None:
        self._lock = _real_lock()
        self._holder: Any = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As threading.Lock.acquire."""
        if not self._lock.acquire(False):
            if blocking:
                _would_block(self._holder)
            if not (self._lock.acquire(blocking, timeout) if blocking else False):
                return False
        self._holder = getcurrent()
        return True

    def release(self) -> None:
        """As threading.Lock.release."""
        self._holder = None
        self._lock.release()

    def locked(self) -> bool:
        """As threading.Lock.locked."""
        return self._lock.locked()

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class TaskRLock:
    """threading.RLock that belongs to a task, not to the thread that all tasks share."""

    def __init__(self) -> None:
        self._lock = TaskLock()
        self._count = 0

    def _is_owned(self) -> bool:
        return self._lock._holder is getcurrent()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As threading.RLock.acquire."""
        if not self._is_owned() and not self._lock.acquire(blocking, timeout):
            return False
        self._count += 1
        return True

    def release(self) -> None:
        """As threading.RLock.release."""
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._lock.release()

    # What threading.Condition wants of a lock.
    def _release_save(self) -> int:
        count, self._count = self._count, 0
        self._lock.release()
        return count

    def _acquire_restore(self, count: int) -> None:
        self._lock.acquire()
        self._count = count

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


_real_lock = _thread.allocate_lock


def _lock_factory(real: Any, made: type) -> Callable[..., Any]:
    def factory() -> Any:
        return made() if _made_by_a_task(sys._getframe(1)) else real()

    return factory


# --- what is patched ---


# What is patched: (owner, attribute) -> its kind, what it is called in a message ("": by its name), and, if only some uses count, which.
Rules = dict[tuple[Any, str], tuple[str, str, Callable[..., bool] | None]]


def _rules() -> Rules:
    out: Rules = {}

    def put(module: Any, kind: str, names: str, when: Callable[..., bool] | None = None) -> None:
        for name in names.split():
            if hasattr(module, name):
                out[module, name] = kind, "", when

    clocks = "time monotonic perf_counter process_time thread_time"
    put(time, "time", f"{clocks} {' '.join(f'{clock}_ns' for clock in clocks.split())} clock_gettime clock_gettime_ns")
    put(time, "time", "localtime gmtime ctime", lambda secs=None: secs is None)
    put(time, "time", "asctime", lambda t=None: t is None)
    put(time, "time", "strftime", lambda form, t=None: t is None)
    put(time, "sleep", "sleep")
    put(
        random,
        "random",
        "random uniform triangular randint choice randrange sample shuffle choices normalvariate lognormvariate expovariate "
        "vonmisesvariate gammavariate gauss betavariate binomialvariate paretovariate weibullvariate getrandbits randbytes",
    )
    put(random, "random", "seed", lambda a=None, version=2: a is None)
    out[random.Random, "seed"] = "random", "random.Random", lambda self, a=None, version=2: a is None
    put(os, "random", "urandom getrandom")
    out[random, "_urandom"] = "random", "os.urandom", None
    put(select, "select", "select poll epoll")
    for name in ("SelectSelector", "_PollLikeSelector"):
        out[getattr(selectors, name), "__init__"] = "select", "selectors.DefaultSelector", None
    put(os, "fd", "read close dup dup2 pipe pipe2 readv writev pread pwrite preadv pwritev sendfile eventfd eventfd_read eventfd_write")
    put(os, "fd", "set_blocking set_inheritable splice")
    put(os, "fd", "write", lambda fd, *data: fd not in (1, 2))
    put(os, "process", "waitpid wait wait3 wait4 waitid")
    put(signal, "signal", "signal alarm setitimer pause sigwait sigwaitinfo sigtimedwait")
    put(_thread, "thread", "start_new_thread start_joinable_thread")
    put(threading, "thread", "_start_new_thread _start_joinable_thread")
    put(threading, "lock", "Lock _allocate_lock RLock")
    put(_thread, "lock", "allocate_lock")
    return out


def _table() -> dict[tuple[Any, str], Any]:
    """(object, attribute) -> what stands there while runs are guarded."""
    out: dict[tuple[Any, str], Any] = {}
    for (owner, name), (kind, called, when) in _rules().items():
        real = getattr(owner, name)
        if kind == "lock":
            out[owner, name] = _lock_factory(real, TaskRLock if name == "RLock" else TaskLock)
        else:
            what, _, attribute = (called or f"{owner.__name__}.{name.removeprefix('_')}").rpartition(".")
            out[owner, name] = _forbidden(what, attribute, real, kind, when)
    return out


# Of the audited and of what makes threads, which no function of Python's stands for in the table.
_C_FUNCTIONS = {
    "_socket": ("socket", "socketpair getaddrinfo gethostbyname gethostbyname_ex gethostbyaddr getnameinfo dup close"),
    "posix": ("process", "fork forkpty posix_spawn execv execve system kill killpg"),
}
# What their Python twins are made of in a world.
_LOOPS = frozenset({"_asyncio", "_queue"})
_CLOCKS = {"datetime": ("now", "utcnow", "today"), "date": ("today",)}


class Uses:
    """What would be an escape if a simulated task did it."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self.allowed = frozenset(allowed)
        real = {(id(owner), name): value for owner, name, value, _guarded in _placed}
        self._kinds: dict[int, str] = {}
        for (owner, name), (kind, _called, when) in _rules().items():
            if when is None:
                self._kinds[id(real.get((id(owner), name), vars(owner).get(name)))] = kind

    def kind_of(self, value: Any) -> str | None:
        """The kind that a use of ``value``, a function or a class, would be; None if it is none, or allowed."""
        kind = self._kinds.get(id(value)) or self._of_c(value)
        return None if kind in self.allowed else kind

    def _of_c(self, value: Any) -> str | None:
        module = getattr(value, "__module__", None)
        if isinstance(value, type):
            if module in _LOOPS:
                return "select"
            return "socket" if module == "_socket" and value.__name__ == "socket" else None
        if not isinstance(value, BuiltinFunctionType):
            return None
        if module in _LOOPS:
            return "select"
        if isinstance(value.__self__, type):
            return "time" if value.__name__ in _CLOCKS.get(value.__self__.__name__, ()) else None
        kind, names = _C_FUNCTIONS.get(module or "", ("", ""))
        return kind if value.__name__ in names.split() else None


# What was put in place: owner, name, the real thing, the guarded one.
_placed: list[tuple[Any, str, Any, Any]] = []


class _Twins:
    """Finds the guarded twin of what a program has bound: a function, or a method of a C class, which is another object each time."""

    def __init__(self) -> None:
        self.by_id: dict[int, tuple[Any, Any]] = {}
        self.methods: dict[Any, Any] = {}

    def put(self, real: Any, guarded: Any) -> None:
        self.by_id[id(real)] = real, guarded
        if isinstance(guarded, _Stands):
            for name in vars(guarded).keys() & vars(real).keys():
                if isinstance(getattr(real, name), BuiltinFunctionType):
                    self.methods[getattr(real, name)] = getattr(guarded, name)

    def of(self, value: Any) -> Any:
        """The twin, or None."""
        found = self.by_id.get(id(value))
        if found is not None:
            return found[1]
        return self.methods.get(value) if type(value) is BuiltinFunctionType else None

    def at(self, owner: Any, value: Any) -> Any:
        """What has to stand where ``owner`` has ``value``, or None: that may stay."""
        kind = type(value)
        if isinstance(owner, type):
            twin = self.of(value.__func__ if kind is staticmethod or kind is classmethod else value)
            # A C function in a class is no method; what stands for it must not become one.
            return twin if twin is None or isinstance(twin, type) else staticmethod(twin)
        if kind is tuple and isinstance(owner, FunctionType):
            return tuple([self.of(item) or item for item in value]) if any(self.of(item) is not None for item in value) else None
        if kind is dict and isinstance(owner, FunctionType):
            twins = {name: self.of(item) for name, item in value.items()}
            return {name: twins[name] or item for name, item in value.items()} if any(twins.values()) else None
        return self.of(value)


# Where a function, a class or a module may have bound something: the owner and its attribute.
Place = tuple[Any, str]


def _places(module: ModuleType) -> Iterator[Place]:
    for name, value in list(vars(module).items()):
        yield module, name
        if getattr(value, "__module__", None) == module.__name__:
            if isinstance(value, FunctionType):
                yield from _function_places(value)
            elif isinstance(value, type):
                for attribute, held in list(vars(value).items()):
                    yield value, attribute
                    function = held.__func__ if isinstance(held, (staticmethod, classmethod)) else held
                    if isinstance(function, FunctionType):
                        yield from _function_places(function)


def _function_places(function: FunctionType) -> Iterator[Place]:
    if function.__defaults__:
        yield function, "__defaults__"
    if function.__kwdefaults__:
        yield function, "__kwdefaults__"
    for cell in function.__closure__ or ():
        yield cell, "cell_contents"


def _held(owner: Any, name: str) -> Any:
    if isinstance(owner, (ModuleType, type)):
        return vars(owner).get(name)
    try:
        return getattr(owner, name)
    except ValueError:
        # A cell that is not bound yet.
        return None


def _install() -> None:
    """Put the guarded functions in place, also where a module of the program has bound a real one by its own name."""
    twins = _Twins()
    for (owner, name), guarded in _table().items():
        real = vars(owner)[name]
        twins.put(real, guarded)
        _placed.append((owner, name, real, guarded))
        setattr(owner, name, guarded)
    # A C class can't be changed, and Python's own modules (pickle) need the module datetime as it is: the program alone has others.
    dates, stands = _dates()
    twins.put(datetime, dates)
    for name, stand in stands.items():
        twins.put(getattr(datetime, name), stand)
    for module in _modules():
        known = _known.get(module.__name__)
        fresh = known is not None and known[:2] == (module, len(vars(module)))
        places = list[Place]()
        for owner, name in known[2] if known is not None and fresh else _places(module):
            real = _held(owner, name)
            guarded = twins.at(owner, real)
            # A class may refuse.
            with contextlib.suppress(AttributeError, TypeError):
                if guarded is not None:
                    setattr(owner, name, guarded)
                    _placed.append((owner, name, real, guarded))
                    places.append((owner, name))
        _known[module.__name__] = module, len(vars(module)), places


def _uninstall() -> None:
    """Put everything back, also what a module that was imported meanwhile has bound."""
    by_id = {}
    for owner, name, real, guarded in reversed(_placed):
        by_id[id(guarded)] = real
        setattr(owner, name, real)
    for module in _modules():
        for name, value in list(vars(module).items()):
            if id(value) in by_id:
                setattr(module, name, by_id[id(value)])
    _placed.clear()


# The modules that were looked through, by name: which one it was, how many names it had, and where something of ours has to stand.
_known: dict[str, tuple[ModuleType, int, list[Place]]] = {}


def _modules() -> Iterator[ModuleType]:
    """The loaded modules that may belong to the program: neither Python's own, nor ours, nor a tool's, nor known to bind nothing of it."""
    for name, module in list(sys.modules.items()):
        if type(module) is not ModuleType or _known.get(name) == (module, len(vars(module)), []):
            continue
        if name == "__main__" or _is_programs(name, getattr(module, "__file__", None)):
            yield module
        else:
            _known[name] = module, len(vars(module)), []


def _is_programs(name: str, filename: str | None) -> bool:
    if filename is None or name.partition(".")[0] in TOOLS or filename.startswith(_OURS):
        return False
    return not filename.startswith(_STDLIB) or any(site in filename for site in _SITE)


def is_program(filename: str) -> bool:
    """Whether a file is the program's: neither Python's own, nor ours, nor installed as others' are."""
    return not filename.startswith((*_STDLIB, _OURS, "<")) and not any(site in filename for site in _SITE)
