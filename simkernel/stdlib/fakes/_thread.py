"""_thread: threads are those of the machine that runs, and a lock that is taken sleeps in futex_wait.

A lock that is free costs no system call, as in glibc, so the program tells the scheduler what it does between calls (Sched.user_time):
where choices are made, another thread may go first at each lock.  The value of a lock is the thread that took it, 0 when it is free:
whoever explains a deadlock can say so.

``_excepthook`` says nothing of a thread that is killed with its process, which threading.py takes for an exception.
"""

import _thread as real
import itertools
import math
import sys
import weakref
from collections.abc import Callable
from functools import partial
from types import FrameType, SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, Final

from simkernel.errors import SimulationError, Unsupported, UsageError
from simkernel.kernel.place import BELOW, kind_of_file
from simkernel.kernel.sched import PreemptNotifier, Task, TaskExit
from simkernel.stdlib.here import here
from simkernel.stdlib.order import counted
from simkernel.stdlib.unraisable import write_unraisable
from simkernel.uapi import NSIG

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

TIMEOUT_MAX = real.TIMEOUT_MAX
error = RuntimeError
# The owner of a lock that is taken while no machine runs.
NOBODY: Final = 0x3FFFFFFF
# What a lock that could not be had at once counts for: whoever asks again and again is not to go on for ever.
REFUSED: Final = 16
INT_MAX: Final = 2**31 - 1

# Checks the arguments of acquire as this Python does.
_checker: Final = real.allocate_lock()


def nanoseconds(timeout: float) -> int:
    """A timeout in ns, rounded up to a microsecond (acquire_timed)."""
    return -(-math.ceil(timeout * 1e9) // 1000) * 1000


class Word:
    """A word to sleep on, and how many do: a wake-up that nobody waits for is not made."""

    __slots__ = ("__weakref__", "sleepers", "value")

    def __init__(self) -> None:
        self.value = 0
        self.sleepers = 0

    def wait(self, timeout: float | None, interruptible: bool = True) -> bool:
        """Sleep until the value is 0, for at most ``timeout`` seconds; False if they passed."""
        sched = here.sched
        if sched is None:
            raise UsageError("a lock of a world is waited for, and no machine runs: whoever has it can never release it")
        deadline = None if timeout is None else sched.clock.now + nanoseconds(timeout)
        left: int | None = None
        self.sleepers += 1
        try:
            while self.value:
                if deadline is not None:
                    left = deadline - sched.clock.now
                    if left <= 0:
                        return False
                try:
                    here.sys.futex_wait(self, self.value, left)
                except BlockingIOError:
                    # It has changed hands.
                    continue
                except TimeoutError:
                    return False
                except InterruptedError:
                    if interruptible:
                        world.check_signals()
            return True
        finally:
            self.sleepers -= 1

    def describe(self, tid: int) -> str:
        """What it is to thread ``tid``, which waits for it, in words."""
        if self.value == tid:
            return "a lock that it took itself: another thread is to release it"
        threading: Any = world.modules.get("threading")
        thread = threading._active.get(self.value) if threading is not None else None
        return f"a lock that thread {self.value}{f' ({thread.name})' if thread is not None else ''} holds"

    def wake(self, n: int) -> None:
        """Wake those who sleep."""
        if self.sleepers:
            here.sys.futex_wake(self, n)


class LockMeta(type):
    """Before Python 3.13 locks come from allocate_lock alone."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if sys.version_info < (3, 13):
            raise TypeError("cannot create '_thread.lock' instances")
        if args or kwargs:
            raise TypeError("lock expected 0 arguments, got 1")
        return super().__call__()


class lock(Word, metaclass=LockMeta):  # noqa: N801  # its name
    """A lock: ``value`` is the thread that took it, 0 when it is free."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        raise TypeError("type '_thread.lock' is not an acceptable base type")

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it.  ``timeout`` in seconds, -1 without a limit; False if it could not be had."""
        sched = here.sched
        if sched is not None:
            sched.user_time += 1
            if sched.user_time > sched.user_slice:
                sched.sched_tick()
        if blocking is not True or timeout != -1:
            _checker.acquire(blocking, timeout)
            _checker.release()
        if self.value:
            if not blocking or timeout == 0:
                if sched is not None:
                    sched.user_time += REFUSED
                return False
            if not self.wait(None if timeout == -1 else timeout):
                return False
        if sched is None:
            self.value = NOBODY
            return True
        self.value = sched.current.pid
        if sched.sigwork:
            # What a handler raises is raised when the lock is taken, as by the interpreter.
            sched.exit_to_user()
        return True

    def release(self) -> None:
        """Let go of it, whoever took it; who has waited longest is woken."""
        if not self.value:
            raise RuntimeError("release unlocked lock")
        self.value = 0
        if self.sleepers:
            here.sys.futex_wake(self, 1)
            return
        sched = here.sched
        if sched is not None and sched.explore:
            sched.sched_tick()
            if sched.sigwork:
                sched.exit_to_user()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self.value != 0

    def _at_fork_reinit(self) -> None:
        self.value = 0
        self.sleepers = 0

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{'locked' if self.value else 'unlocked'} _thread.lock object at {id(self):#x}>"

    __enter__ = acquire_lock = acquire
    release_lock = release
    locked_lock = locked


LockType = lock
# Neither a function, which a class would bind, nor before Python 3.13 the class.
allocate_lock: Any = partial(type.__call__, lock)
allocate_lock.__module__ = "_thread"
allocate_lock.__name__ = "allocate_lock"
allocate = allocate_lock


class ImportLock(Word):
    """A lock of the import system, of which the scheduler hears nothing: whether a module has been imported before is not to matter."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""
        if self.value and (not blocking or not self.wait(None)):
            return False
        self.value = _me()
        return True

    def release(self) -> None:
        """Let go of it."""
        self.value = 0
        self.wake(1)

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    __enter__ = acquire


class RLock(Word):
    """A lock that its owner may take again: ``value`` is the owner."""

    __slots__ = ("_count",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, or take it once more.  ``timeout`` in seconds, -1 without a limit; False if it could not be had."""
        sched = here.sched
        if sched is None:
            me = NOBODY
        else:
            me = sched.current.pid
            sched.user_time += 1
            if sched.user_time > sched.user_slice:
                sched.sched_tick()
        if blocking is not True or timeout != -1:
            _checker.acquire(blocking, timeout)
            _checker.release()
        if self.value == me:
            self._count += 1
            return True
        if self.value:
            if not blocking or timeout == 0:
                if sched is not None:
                    sched.user_time += REFUSED
                return False
            if not self.wait(None if timeout == -1 else timeout):
                return False
        self.value = me
        self._count = 1
        if sched is not None and sched.sigwork:
            sched.exit_to_user()
        return True

    def release(self) -> None:
        """Let go of it once; RuntimeError for who is not its owner."""
        sched = here.sched
        if self.value != (NOBODY if sched is None else sched.current.pid):
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._free()

    def _free(self) -> None:
        self.value = 0
        if self.sleepers:
            here.sys.futex_wake(self, 1)
            return
        sched = here.sched
        if sched is not None and sched.explore:
            sched.sched_tick()
            if sched.sigwork:
                sched.exit_to_user()

    def _is_owned(self) -> bool:
        return self.value == _me()

    def _recursion_count(self) -> int:
        return self._count if self.value == _me() else 0

    def _release_save(self) -> tuple[int, int]:
        if not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        state = self._count, self.value
        self._count = 0
        self._free()
        return state

    def _acquire_restore(self, state: tuple[int, int]) -> None:
        count, owner = state
        if self.value:
            self.wait(None, interruptible=False)
        self.value, self._count = owner, count

    def _at_fork_reinit(self) -> None:
        self.value = 0
        self.sleepers = 0
        self._count = 0

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def __repr__(self) -> str:
        kind = type(self)
        state = f"{kind.__module__}.{kind.__qualname__} object owner={self.value} count={self._count} at {id(self):#x}"
        return f"<{'locked' if self._count else 'unlocked'} {state}>"

    __enter__ = acquire


class ImportRLock(RLock):
    """The same, to be taken again."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, or take it once more."""
        me = _me()
        if self.value and self.value != me:
            return super().acquire(blocking, timeout)
        self.value = me
        self._count += 1
        return True

    def _free(self) -> None:
        self.value = 0
        self.wake(1)

    __enter__ = acquire


def _me() -> int:
    sched = here.sched
    return NOBODY if sched is None else sched.current.pid


# --- what belongs to a thread ---
class ThreadState(PreemptNotifier):
    """PyThreadState: what goes with a thread.

    ``locals`` has the parts of thread-local objects, ``sentinel`` the lock that is released at its end; ``hooks`` is what C keeps for the
    thread of the operating system, and so has to be exchanged when another goes on, None as long as nothing was set.
    """

    __slots__ = ("handle", "hooks", "locals", "sentinel", "tid")

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self.locals: dict[int, weakref.ref[Part]] = {}
        self.sentinel: weakref.ref[lock] | None = None
        self.handle: _ThreadHandle | None = None
        self.hooks: Hooks | None = None

    def sched_in(self) -> None:
        if self.hooks is not None:
            self.hooks.install()

    def sched_out(self, following: Task) -> None:
        if self.hooks is not None and not following.preempt_notifiers:
            _nothing.install()

    def clear(self) -> None:
        """PyThreadState_Clear: the thread is gone, and what it had with it."""
        for ref in list(self.locals.values()):
            part = ref()
            if part is not None:
                part.forget(self.tid)
        self.locals.clear()
        if self.sentinel is not None:
            sentinel = self.sentinel()
            if sentinel is not None and sentinel.value:
                sentinel.release()


_threads: dict[int, ThreadState] = {}
_running = 0
_stack_size = 0


def _state(tid: int) -> ThreadState:
    """The state of a thread."""
    state = _threads.get(tid)
    if state is None:
        state = _threads[tid] = ThreadState(tid)
    return state


class Part:
    """What a thread-local object has in each thread: ``dicts`` by thread, ``tid`` whose is its __dict__ now."""

    __slots__ = ("__weakref__", "args", "dicts", "kwargs", "owner", "tid")

    def __init__(self, owner: "_local", args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.owner = weakref.ref(owner)
        self.args = args
        self.kwargs = kwargs
        self.dicts: dict[int, dict[str, Any]] = {}
        self.tid = -1

    def enter(self, owner: "_local", tid: int) -> None:
        """Give the object the __dict__ that it has in thread ``tid``; made, and ``__init__`` called, at its first access there."""
        found = self.dicts.get(tid)
        self.tid = tid
        if found is not None:
            object.__setattr__(owner, "__dict__", found)
            return
        self.add(owner, tid)
        kind = type(owner)
        if kind.__init__ is not object.__init__:
            try:
                kind.__init__(owner, *self.args, **self.kwargs)
            except BaseException:
                self.forget(tid)
                raise

    def add(self, owner: "_local", tid: int) -> None:
        """A new __dict__."""
        made: dict[str, Any] = {}
        self.tid = tid
        self.dicts[tid] = made
        object.__setattr__(owner, "__dict__", made)
        parts, key = _state(tid).locals, id(self)
        parts[key] = weakref.ref(self, partial(parts.pop, key))

    def forget(self, tid: int) -> None:
        """The thread is gone."""
        self.dicts.pop(tid, None)
        if self.tid == tid:
            self.tid = -1
            owner = self.owner()
            if owner is not None:
                object.__setattr__(owner, "__dict__", {})


class _local:  # noqa: N801  # its name
    """Thread-local data: the object has a __dict__ in each thread, put in place when another thread than the last one looks."""

    __slots__ = ("__dict__", "__weakref__", "_local__part")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> "_local":
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError("Initialization arguments are not supported")
        self = object.__new__(cls)
        part = Part(self, args, kwargs)
        _set_part(self, part)
        # type.__call__ calls __init__ for the thread that makes it.
        part.add(self, here.thread_id())
        return self

    def __getattribute__(self, name: str) -> Any:
        part = _part_of(self)
        sched = here.sched
        tid = sched.current.pid if sched is not None else 0
        if part.tid != tid:
            part.enter(self, tid)
        return _get(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "__dict__":
            raise AttributeError(f"{_type_name(self)!r} object attribute '__dict__' is read-only")
        part = _part_of(self)
        tid = here.thread_id()
        if part.tid != tid:
            part.enter(self, tid)
        _set(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name == "__dict__":
            raise AttributeError(f"{_type_name(self)!r} object attribute '__dict__' is read-only")
        part = _part_of(self)
        tid = here.thread_id()
        if part.tid != tid:
            part.enter(self, tid)
        object.__delattr__(self, name)


def _type_name(thing: _local) -> str:
    """tp_name."""
    return "_thread._local" if type(thing) is _local else type(thing).__name__


_part_of: Callable[[_local], Part] = vars(_local)["_local__part"].__get__
_set_part: Callable[[_local, Part], None] = vars(_local)["_local__part"].__set__
_get = object.__getattribute__
_set = object.__setattr__


# --- threads ---
def get_ident() -> int:
    """The running thread."""
    return _me()


def get_native_id() -> int:
    """gettid(2)."""
    return _me()


def start_new_thread(function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, /) -> int:
    """Start a thread that calls ``function(*args, **kwargs)``; returns its identity."""
    if not callable(function):
        raise TypeError("first arg must be callable")
    if not isinstance(args, tuple):
        raise TypeError("2nd arg must be a tuple")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError("optional 3rd arg must be a dictionary")
    return _start(function, args, kwargs or {}, None)


start_new = start_new_thread


def _start(function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any], handle: "_ThreadHandle | None") -> int:
    global _running
    sched = here.sched
    if sched is None:
        raise UsageError("a thread of a world was to start, and no fake machine runs: the real kernel's threads are Python's own _thread's")
    threading: Any = world.modules.get("threading")
    if (3, 12) <= sys.version_info < (3, 13) and threading is not None and threading._SHUTTING_DOWN:
        raise RuntimeError("can't create new thread at interpreter shutdown")
    _running += 1
    tid = here.sys.thread(_bootstrap, function, args, kwargs, handle)
    # pthread_detach: nobody joins it by its number.
    sched.current.process.joinable.pop(tid, None)
    return tid


def _bootstrap(
    _sys: Any, function: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any], handle: "_ThreadHandle | None"
) -> None:
    """thread_run: what a new thread does."""
    global _running
    state = _state(here.thread_id())
    state.handle = handle
    if handle is not None:
        handle.ident = state.tid
    try:
        function(*args, **kwargs)
    except SystemExit:
        pass
    except (TaskExit, SimulationError):
        raise
    except BaseException as exc:
        if sys.version_info >= (3, 13):
            write_unraisable(world.sys, exc, f"Exception ignored in thread started by {function!r}")
        else:
            write_unraisable(world.sys, exc, "Exception ignored in thread started by", function)
    finally:
        # Nothing of what it was called with outlives it.
        del function, args, kwargs
        _running -= 1
        state.clear()
        _threads.pop(state.tid, None)
        if handle is not None:
            handle.done()


def exit() -> None:  # noqa: A001  # its name
    """End the running thread."""
    raise SystemExit


exit_thread = exit


def _count() -> int:
    return _running


def stack_size(size: int = 0, /) -> int:
    """The size of the stacks of threads to come; kept, and of no other effect.  Returns what it was."""
    global _stack_size
    before = real.stack_size(size)
    real.stack_size(before)
    before, _stack_size = _stack_size, size
    return before


def interrupt_main(signum: int = 2, /) -> None:
    """As if the signal had come."""
    if not 1 <= signum <= NSIG:
        raise ValueError("signal number out of range")
    module: Any = world.modules.get("_signal")
    if module is None or "_signal" not in world.fakes:
        raise Unsupported("_thread.interrupt_main without the fake of _signal: make the World with it")
    module.set_interrupt(signum)
    if _me() == here.process_id():
        world.check_signals()


def _is_main_interpreter() -> bool:
    return True


def daemon_threads_allowed() -> bool:
    """Whether daemon threads may be started."""
    return True


def _set_sentinel() -> lock:
    """A lock that is released when the running thread has ended (before Python 3.13)."""
    made: lock = allocate_lock()
    _state(here.thread_id()).sentinel = weakref.ref(made)
    return made


class _ThreadHandle(Word):
    """A thread to wait for (since Python 3.13): ``value`` is 1 from its start to its end."""

    __slots__ = ("begun", "ident")

    def __init__(self) -> None:
        super().__init__()
        self.ident = 0
        self.begun = False

    def is_done(self) -> bool:
        """Whether it has begun and ended."""
        return self.begun and not self.value

    def join(self, timeout: float | None = None, /) -> None:
        """Wait until it has ended, for at most ``timeout`` seconds."""
        if not self.begun:
            raise RuntimeError("thread not started")
        if self.value and self.ident == _me():
            raise RuntimeError("Cannot join current thread")
        if self.value:
            self.wait(None if timeout is None or timeout < 0 else timeout)

    def describe(self, tid: int) -> str:
        return f"the end of thread {self.ident}"

    def done(self) -> None:
        """It has ended."""
        self.value = 0
        _joinable.pop(self, None)
        self.wake(INT_MAX)

    def _set_done(self) -> None:
        if not self.begun:
            raise RuntimeError("thread not started")
        self.done()

    def __repr__(self) -> str:
        return f"<_ThreadHandle object: ident={self.ident}>"


# Those that the end of the process waits for, in the order in which they began.
_joinable: dict[_ThreadHandle, None] = {}


def start_joinable_thread(function: Callable[[], object], handle: _ThreadHandle | None = None, daemon: bool = True) -> _ThreadHandle:
    """Start a thread that calls ``function()``."""
    if not callable(function):
        raise TypeError("thread function must be callable")
    if handle is None:
        handle = _ThreadHandle()
    elif not isinstance(handle, _ThreadHandle):
        raise TypeError("'handle' must be a _ThreadHandle")
    if handle.begun:
        raise RuntimeError("thread already started")
    handle.begun = True
    handle.value = 1
    if not daemon:
        _joinable[handle] = None
    try:
        handle.ident = _start(function, (), {}, handle)
    except BaseException:
        handle.begun = False
        handle.value = 0
        _joinable.pop(handle, None)
        raise
    return handle


def _make_thread_handle(ident: int, /) -> _ThreadHandle:
    handle = _ThreadHandle()
    handle.ident = ident
    handle.begun = True
    handle.value = 1
    return handle


def _get_main_thread_ident() -> int:
    return here.process_id() or NOBODY


def _shutdown() -> None:
    """Wait for the threads that are not daemons."""
    me = _me()
    while True:
        handle = next((handle for handle in _joinable if handle.ident != me), None)
        if handle is None:
            return
        handle.join()


# The _thread of importlib._bootstrap.
for_imports = SimpleNamespace(allocate_lock=ImportLock, RLock=ImportRLock, get_ident=get_ident)


# --- exceptions of threads ---
_ExceptHookArgs = real._ExceptHookArgs


def _excepthook(args: Any, /) -> None:
    """threading.excepthook: say what ended a thread, to the world's stderr."""
    if type(args) is not _ExceptHookArgs:
        raise TypeError("_thread.excepthook argument type must be ExceptHookArgs")
    if args.exc_type is SystemExit or issubclass(args.exc_type, TaskExit):
        return
    if issubclass(args.exc_type, SimulationError) and here.sched is not None:
        # Not the program's failure, and not for it to deal with: the run ends.
        here.sched.stop(args.exc_value or args.exc_type())
    thread: Any = args.thread
    stderr = world.sys.stderr
    if stderr is None:
        stderr = thread._stderr if thread is not None else None
        if stderr is None:
            return
    name = thread.name if thread is not None else _me()
    stderr.write(f"Exception in thread {name}:\n")
    world.import_module("traceback").print_exception(args.exc_type, args.exc_value, args.exc_traceback, file=stderr)
    stderr.flush()


# --- what C keeps for a thread of the operating system ---
class Hooks:
    """What a thread has set in its ``sys``: asyncgen hooks (firstiter, finalizer), depth of coroutine origins, functions that trace."""

    __slots__ = ("asyncgen", "origin", "profile", "trace")

    def __init__(self) -> None:
        self.asyncgen: Any = (None, None)
        self.origin = 0
        self.trace: Tracer | None = None
        self.profile: Tracer | None = None

    def install(self) -> None:
        """From now on they are in force."""
        sys.set_asyncgen_hooks(*self.asyncgen)
        if sys.get_coroutine_origin_tracking_depth() != self.origin:
            sys.set_coroutine_origin_tracking_depth(self.origin)
        self.install_tracers()

    def install_tracers(self) -> None:
        """Where there is none, one from outside (a coverage tool's) is left alone."""
        trace, profile = sys.gettrace(), sys.getprofile()
        if trace is not self.trace and (self.trace is not None or isinstance(trace, Tracer)):
            sys.settrace(self.trace)
        if profile is not self.profile and (self.profile is not None or isinstance(profile, Tracer)):
            sys.setprofile(self.profile)


class Tracer:
    """A trace or profile function, for which the machine's own frames are not there."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if kind_of_file(frame.f_code.co_filename) == BELOW:
            return None
        return self.function(frame, event, arg)


# What is in force where a thread has set nothing.
_nothing: Final = Hooks()


def _hooks(task: Task | None = None) -> Hooks:
    """Those of a thread, to be changed; of the running one, if no other is named.

    What was in force outside comes back when the machine's run has ended.
    """
    sched = here.sched
    if sched is None:
        raise UsageError("hooks of a world's sys were to be set, and no machine runs")
    state = _state(task.pid if task is not None else here.thread_id())
    if state.hooks is None:
        if not any(thread.hooks is not None for thread in _threads.values()):
            here.on_exit.append(partial(sys.set_asyncgen_hooks, *sys.get_asyncgen_hooks()))
            here.on_exit.append(partial(sys.set_coroutine_origin_tracking_depth, sys.get_coroutine_origin_tracking_depth()))
            here.on_exit.append(_nothing.install_tracers)
        state.hooks = Hooks()
        sched.preempt_notifier_register(state, task)
    return state.hooks


def set_asyncgen_hooks(*args: Any, **kwargs: Any) -> None:
    """sys.set_asyncgen_hooks for the running thread."""
    hooks = _hooks()
    sys.set_asyncgen_hooks(*args, **kwargs)
    hooks.asyncgen = sys.get_asyncgen_hooks()


def set_coroutine_origin_tracking_depth(depth: int) -> None:
    """sys.set_coroutine_origin_tracking_depth for the running thread."""
    hooks = _hooks()
    sys.set_coroutine_origin_tracking_depth(depth)
    hooks.origin = depth


def settrace(function: Callable[..., Any] | None, /) -> None:
    """sys.settrace for the running thread."""
    hooks = _hooks()
    hooks.trace = Tracer(function) if function is not None else None
    hooks.install_tracers()


def setprofile(function: Callable[..., Any] | None, /) -> None:
    """sys.setprofile for the running thread."""
    hooks = _hooks()
    hooks.profile = Tracer(function) if function is not None else None
    hooks.install_tracers()


def _hooks_of_all() -> list[Hooks]:
    assert here.sched is not None
    return [_hooks(task) for task in here.sched.current.process.threads]


def _settraceallthreads(function: Callable[..., Any] | None, /) -> None:
    """sys._settraceallthreads (since Python 3.12)."""
    for hooks in _hooks_of_all():
        hooks.trace = Tracer(function) if function is not None else None
    _hooks().install_tracers()


def _setprofileallthreads(function: Callable[..., Any] | None, /) -> None:
    """sys._setprofileallthreads (since Python 3.12)."""
    for hooks in _hooks_of_all():
        hooks.profile = Tracer(function) if function is not None else None
    _hooks().install_tracers()


def gettrace() -> Any:
    """sys.gettrace."""
    found = sys.gettrace()
    return found.function if isinstance(found, Tracer) else found


def getprofile() -> Any:
    """sys.getprofile."""
    found = sys.getprofile()
    return found.function if isinstance(found, Tracer) else found


def _current_frames() -> dict[int, FrameType]:
    """sys._current_frames: the innermost frame of each thread of this process."""
    frames: dict[int, FrameType] = {}
    sched = here.sched
    for task in sched.current.process.threads if sched is not None else ():
        frame = sys._getframe(1) if sched is not None and task is sched.current else task.greenlet.gr_frame if task.greenlet else None
        while frame is not None and kind_of_file(frame.f_code.co_filename) == BELOW:
            frame = frame.f_back
        if frame is not None:
            frames[task.pid] = frame
    return frames


def _current_exceptions() -> Any:
    """sys._current_exceptions."""
    raise Unsupported("sys._current_exceptions is not modelled: what a thread handles while another one runs is greenlet's own")


def setswitchinterval(interval: float, /) -> None:
    """sys.setswitchinterval: kept, and of no other effect, since threads are not preempted by time."""
    global _switch_interval
    if interval <= 0:
        raise ValueError("switch interval must be strictly positive")
    _switch_interval = float(interval)


def getswitchinterval() -> float:
    """sys.getswitchinterval."""
    return _switch_interval


def setrecursionlimit(limit: int, /) -> None:
    """sys.setrecursionlimit; what it was comes back when the machine's run has ended."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    if here.sched is not None:
        here.on_exit.append(partial(sys.setrecursionlimit, before))


_switch_interval = 0.005
_of_sys: list[Callable[..., Any]] = [set_asyncgen_hooks, set_coroutine_origin_tracking_depth, settrace, setprofile, gettrace, getprofile]
_of_sys += [_current_frames, _current_exceptions, setswitchinterval, getswitchinterval, setrecursionlimit]
if sys.version_info >= (3, 12):
    _of_sys += [_settraceallthreads, _setprofileallthreads]
for _function in _of_sys:
    setattr(world.sys, _function.__name__, _function)


# --- a new process ---
def reset() -> None:
    """A new process: the running thread is its only one."""
    global _running, _stack_size, _switch_interval
    for state in list(_threads.values()):
        state.sentinel = None
        state.clear()
    _threads.clear()
    _joinable.clear()
    _running = 0
    _stack_size = 0
    _switch_interval = 0.005
    if here.sched is not None and sys.get_asyncgen_hooks() != (None, None):
        # Those of an event loop around the machine.
        set_asyncgen_hooks(None, None)
    threading: Any = world.modules.get("threading")
    if threading is None:
        return
    threading._active_limbo_lock = RLock()
    threading._active.clear()
    threading._limbo.clear()
    threading._dangling.clear()
    threading._counter = itertools.count(1).__next__
    threading._profile_hook = threading._trace_hook = None
    threading._SHUTTING_DOWN = False
    threading.excepthook = threading.__excepthook__
    if sys.version_info < (3, 13):
        threading._shutdown_locks_lock = allocate_lock()
        threading._shutdown_locks = set()
    # What a module has registered when it was imported is still to be called.
    threading._threading_atexits[:] = [call for call in threading._threading_atexits if "concurrent.futures" in _module_of(call)]
    threading._main_thread = threading._MainThread()
    base: Any = world.modules.get("concurrent.futures._base")
    if base is not None:
        # Several futures are locked in the order of their addresses.
        base.id = counted
    futures: Any = world.modules.get("concurrent.futures.thread")
    if futures is not None:
        futures._threads_queues.clear()
        futures._shutdown = False
        futures._global_shutdown_lock._at_fork_reinit()
        futures.ThreadPoolExecutor._counter = itertools.count().__next__


def _module_of(call: Any) -> str:
    return str(getattr(getattr(call, "func", call), "__module__", ""))


if sys.version_info >= (3, 13):
    del _set_sentinel
else:
    del start_joinable_thread, _make_thread_handle, _get_main_thread_ident, _shutdown
    if sys.version_info < (3, 12):
        del _is_main_interpreter, daemon_threads_allowed
