"""A process that is a Python program: what the interpreter does before its first line and after its last (Python/pylifecycle.c, main.c).

Each process of a program has a World, its memory.  A world for functions of tests is kept and used again, run after run: what a new process
begins with is made new by ``begin``.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from simkernel.api import Main, Syscalls
from simkernel.errors import SimulationError, UsageError, is_ours
from simkernel.kernel.choice import Choice, Plain, Seeded
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import TaskExit
from simkernel.kernel.trace import Trace
from simkernel.stdlib.here import here, machine
from simkernel.stdlib.hosts import LOCAL, Hosts
from simkernel.stdlib.order import numbers
from simkernel.stdlib.world import World
from simkernel.uapi import SIG_DFL, SIGINT

# What a program ends with that nobody has kept from Ctrl-C.
UNHANDLED_INTERRUPT = -SIGINT
# Worlds that wait for a function to run in them.
_worlds: list[World] = []


@contextlib.contextmanager
def kept_world() -> Iterator[World]:
    """A world to run functions in, which was made for an earlier run if there was one."""
    world = _worlds.pop() if _worlds else World()
    yield world
    # Not after an exception of ours: who knows what it is like.
    _worlds.append(world)


@contextlib.contextmanager
def collector_rests() -> Iterator[None]:
    """Python's cyclic collector comes at times that two runs do not share, and calls finalizers; so it waits for the end of a run."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextlib.contextmanager
def quiet_ends() -> Iterator[None]:
    """A finalizer that is called when its process has ended makes no more calls, and that is nothing to be told."""
    was = sys.unraisablehook

    def hook(unraisable: Any, /) -> None:
        if not isinstance(unraisable.exc_value, TaskExit):
            was(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = was


class HostInterrupt(KeyboardInterrupt):
    """Ctrl-C of the real terminal: it ends the run.  A program's own KeyboardInterrupt, by a simulated SIGINT, ends that program."""


@contextlib.contextmanager
def host_interrupts() -> Iterator[None]:
    """Ctrl-C raises HostInterrupt in this block, if it would raise KeyboardInterrupt."""

    def interrupt(signum: int, frame: object) -> None:
        raise HostInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def boot(
    main: Callable[[Syscalls], Any], *, seed: int | None = None, choice: Choice | None = None, trace: Trace | None = None, **options: Any
) -> Any:
    """Run ``main(sys)`` as process 1 of a machine whose programs are Python's: the calls of the modules of any world are this machine's.

    ``seed`` chooses schedule, buffer sizes and chance; ``choice`` is another source of choices.  Options: Kernel's.
    """
    return run_machine(host_kernel(seed, choice, trace, **options), main)


def host_kernel(seed: int | None, choice: Choice | None, trace: Trace | None, **options: Any) -> Kernel:
    """A machine whose files are the real ones; ``seed`` counts if there is no ``choice``, and neither is the plain choices."""
    if choice is None:
        choice = Plain() if seed is None else Seeded(seed)
    options.setdefault("hostfs", True)
    return Kernel(choice, trace, **options)


def run_machine(kernel: Kernel, main: Main, *args: object) -> Any:
    """Run ``main(sys, *args)`` as process 1 of a machine; the calls of the modules of any world are this machine's."""
    numbers.restart()
    with machine(kernel.sys, kernel.sched), quiet_ends(), collector_rests(), host_interrupts():
        return kernel.run(main, *args)


def in_world(
    body: Callable[[World], Any],
    function: Callable[..., Any] | None = None,
    *,
    world: World | None = None,
    hosts: str = "",
    **options: Any,
) -> Any:
    """Run ``body(world)`` on a fake machine, as process 1; returns what it returns and raises what it raised.

    The module of ``function`` is imported into the world before, so that a run does not depend on whether it was the first.  ``hosts`` are
    more names of hosts, in the format of /etc/hosts.  Options: those of ``boot``.
    """
    table = Hosts(LOCAL + hosts)
    if World.importing is not None:
        raise UsageError(
            f"{World.importing} begins a run when it is imported, as it is once more for a run: begin it under if __name__ == '__main__'"
        )
    with contextlib.nullcontext(world) if world is not None else kept_world() as home:
        home.hosts = table
        if home.prepared_for is not function:
            before(home, function)
            home.prepared_for = function

        def main(sys: Syscalls) -> Any:
            begin(home)
            try:
                result = body(home)
            except (TaskExit, SimulationError, HostInterrupt):
                raise
            except BaseException:
                finish(home)
                raise
            finish(home)
            return result

        return boot(main, **options)


def run_function(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run ``function(*args)`` in a world on a fake machine, as process 1; returns what it returns and raises what it raised.

    ``function`` is taken into the world (World.inside): its module is imported there.  Options: those of ``in_world``.
    """
    return in_world(lambda world: world.inside(function)(*args), function, **options)


# What Python imports when it is first needed.
LAZY = ("concurrent.futures.thread", "encodings.idna", "io", "logging", "random", "threading")
# What a library imports when it is first used with another: what that does would be part of the first run only.
PLUGINS = (("anyio", "asyncio", "anyio._backends._asyncio"), ("anyio", "trio", "anyio._backends._trio"))


def before(world: World, function: Callable[..., Any] | None) -> None:
    """Import what a run will need, on a machine of its own: what a module does when it is imported is not part of the run."""

    def main(sys: Syscalls) -> None:
        world.recall()
        for name in LAZY:
            world.import_module(name)
        if function is not None:
            world.inside(function)
        for library, backend, plugin in PLUGINS:
            if library in world.modules and backend in world.modules:
                world.import_module(plugin)
        world.remember()

    boot(main)


def begin(world: World, stdio: tuple[TextIO, TextIO, TextIO] | None = None) -> None:
    """A new process: no thread but this one, no handlers, no random state of another run.

    stdin, stdout and stderr are fds 0, 1 and 2, or those of ``stdio``.
    """
    world.recall()
    for name, reset_module in RESETS.items():
        module = world.modules.get(name)
        if module is not None:
            reset_module(module)
    _reset_fakes(world)
    if stdio is not None:
        for name, stream in zip(("stdin", "stdout", "stderr"), stdio, strict=True):
            setattr(world.sys, name, stream)
            setattr(world.sys, f"__{name}__", stream)
        return
    standard: dict[str, tuple[str, dict[str, Any]]] = {
        "stdin": ("r", {}),
        # As on a terminal, a line is seen when it is written.
        "stdout": ("w", {"buffering": 1}),
        "stderr": ("w", {"buffering": 1, "errors": "backslashreplace"}),
    }
    io = world.import_module("io")
    for fd, (name, (mode, options)) in enumerate(standard.items()):
        try:
            made: TextIO | None = io.open(fd, mode, encoding="utf-8", closefd=False, **options)
        except OSError:
            # Its parent has closed it.
            made = None
        setattr(world.sys, name, made)
        setattr(world.sys, f"__{name}__", made)


def _reset_fakes(world: World) -> None:
    for name in world.fakes:
        reset = getattr(world.modules[name], "reset", None)
        if reset is not None:
            reset()


def _reset_environment(world_os: Any) -> None:
    """The environment is that of simkernel's own process, without what a program has changed in a run before."""
    vars(world_os.environ)["_data"] = vars(world_os.environb)["_data"] = dict(vars(os.environ)["_data"])


def _reset_trio(run: Any) -> None:
    """trio's scheduler shuffles what is runnable by its Random, and not from an order in which a set happened to be."""
    run._ALLOW_DETERMINISTIC_SCHEDULING = True


def _reset_thread_cache(thread_cache: Any) -> None:
    """No worker threads that ended with the machine before."""
    thread_cache.THREAD_CACHE._idle_workers.clear()


def _reset_logging(logging: Any) -> None:
    """No logger knows what it would log: it learns that under a lock, when it is asked first."""
    logging.root.manager._clear_cache()


def _reset_finalizers(weakref: Any) -> None:
    """No finalizers of the run before wait for the end of this one."""
    weakref.finalize._registry.clear()
    weakref.finalize._registered_with_atexit = weakref.finalize._shutdown = False


# What modules hold in objects that a new process has not.
RESETS: dict[str, Callable[[Any], None]] = {
    "logging": _reset_logging,
    "os": _reset_environment,
    "trio._core._run": _reset_trio,
    "trio._core._thread_cache": _reset_thread_cache,
    "weakref": _reset_finalizers,
}


def finish(world: World) -> None:
    """The end of a process: its threads are waited for, its exit functions called, its output written (Py_FinalizeEx)."""
    threading = world.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit = world.modules.get("atexit")
    if atexit is not None and "atexit" in world.fakes:
        atexit._run_exitfuncs()
    for stream in (world.sys.stdout, world.sys.stderr):
        # A program may have closed it, or it may be a pipe that nobody reads any more.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            stream.flush()


def run_program(world: World, argv: Sequence[str]) -> int:
    """Run a program in this process, as ``python ARGV`` would: a script, ``-m MODULE`` or ``-c CODE``, and arguments.

    Returns its exit status.
    """
    begin(world)
    status = _status_of(world, lambda: _run_main(world, argv))
    _status_of(world, lambda: finish(world))
    if status == UNHANDLED_INTERRUPT:
        # exit_sigint (Modules/main.c): whoever waits for it sees that Ctrl-C has ended it.
        here.sys.sigaction(SIGINT, SIG_DFL)
        here.sys.kill(here.process_id(), SIGINT)
        return 128 + SIGINT
    return status


def _run_main(world: World, argv: Sequence[str]) -> None:
    first, *rest = argv
    if first == "-m":
        world.sys.argv = [rest[0], *rest[1:]]
        world.sys.path.insert(0, os.fsdecode(here.sys.getcwd()))
        world.import_module("runpy").run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        world.sys.argv = ["-c", *rest[1:]]
        world.sys.path.insert(0, "")
        main = type(sys)("__main__")
        main.__builtins__ = world.builtins  # type: ignore[attr-defined]
        world.modules["__main__"] = main
        exec(compile(rest[0], "<string>", "exec", dont_inherit=True), vars(main))  # noqa: S102  # as python -c
    else:
        world.sys.argv = [first, *rest]
        path = os.path.normpath(os.path.join(os.fsdecode(here.sys.getcwd()), first))
        world.sys.path.insert(0, os.path.dirname(path))
        world.load_file("__main__", path)


def _status_of(world: World, function: Callable[[], None]) -> int:
    """Call it, and give the exit status that Python would: what nobody caught is printed."""
    try:
        function()
    except (TaskExit, SimulationError, HostInterrupt):
        raise
    except SystemExit as error:
        code = error.code
        if code is None:
            return 0
        if isinstance(code, int):
            return code & 0xFF
        print(code, file=world.sys.stderr)
        return 1
    except BaseException as error:
        _print_exception(world, error)
        return UNHANDLED_INTERRUPT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _print_exception(world: World, error: BaseException) -> None:
    """sys.excepthook, with the traceback from the program's first frame on."""
    tb = error.__traceback__
    while tb is not None and (is_ours(tb.tb_frame.f_code.co_filename) or "importlib" in tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    error = error.with_traceback(tb)
    if world.sys.excepthook is not sys.__excepthook__:
        world.sys.excepthook(type(error), error, tb)
    else:
        world.import_module("traceback").print_exception(error, file=world.sys.stderr)
