"""run(): a program as process 1 of the real kernel, supervised, and nothing left of it."""

import faulthandler
import gc
import io
import logging
import math
import mmap
import os
import pickle
import platform
import select as _select
import signal
import struct
import sys
import threading
import traceback
from typing import Any, Final, NoReturn

from simkernel.api import Main
from simkernel.errors import Killed, Timeout, UsageError, program_traceback
from simkernel.linux.epoll_data import forget_objects
from simkernel.linux.libc import prctl
from simkernel.linux.signals import default_handlers, forget_handlers
from simkernel.linux.syscalls import LinuxSyscalls
from simkernel.linux.threads import flush_stdio, forget_threads, fork_process

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_GRACE: Final = 5.0  # seconds for the supervisor to end everything, before the caller does it
_RESULT_MAX: Final = 64 << 20

# What main returned comes back in a shared anonymous mapping and not through a pipe: no fd of the harness is then to be seen in main,
# so fds are numbered, run out (EMFILE) and are listed as on the fake kernel.  Untouched pages of it cost nothing.
_HEADER: Final = struct.Struct("@iiiiQ")  # main's pid; main ended; its wait status; what the body is; the length of the body
_NO_BODY, _RETURNED, _RAISED, _UNPICKLABLE = range(4)


class _RemoteTraceback(Exception):
    """The cause of an exception that comes from another process: its traceback there, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def run(main: Main, *args: object, timeout: float | None = 30) -> Any:
    """Run ``main(sys, *args)`` as a process of the real kernel and return what it returns, as simkernel.run does on the fake one.

    The process starts with fds 0, 1 and 2 and no others, default signal handlers (SIGPIPE ignored, as Python has it), a session of its
    own, and is the parent of orphans, as process 1 is.  When ``main`` ends, or ``timeout`` seconds have passed (None: no limit), every
    process below it is killed and reaped.  The result and exceptions are pickled, and may take up to 64 MiB.

    Raises what ``main`` raised, caused by an exception with the traceback's text; RuntimeError instead of an exception that can't be
    pickled; UsageError if the result can't; SystemExit(n) if it ended with status n other than 0; Killed if a signal ended it;
    Timeout, which names the processes and the system calls they slept in.

    The calling thread waits, so in a coroutine run() stops the event loop: call it in a thread there.
    """
    _import_trio()  # before the fork: the child is the poorer for it, the deadline is not
    shared = mmap.mmap(-1, _RESULT_MAX)
    caught = (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, caught)
    supervisor = 0
    try:
        caller = os.getpid()
        supervisor = fork_process()
        if not supervisor:
            _supervisor(shared, caller, main, args)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        late = _wait(supervisor, timeout)
        report = _report(supervisor) if late else ""
        if late:
            _stop(supervisor)
        else:
            _reap(supervisor)
        supervisor = 0
        if late:
            raise Timeout(f"main had not ended after {timeout} s of real time; these processes were killed:\n{report}")
        return _result(shared)
    finally:
        if supervisor:
            _stop(supervisor)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        shared.close()


def _import_trio() -> Any:
    import trio  # noqa: PLC0415  a tenth of a second that the syscall layer alone should not cost

    return trio


def _wait(supervisor: int, timeout: float | None) -> bool:
    """Wait until the supervisor has ended; True if the deadline came first."""
    trio = _import_trio()
    pidfd = os.pidfd_open(supervisor)

    async def supervise() -> bool:
        with trio.move_on_after(math.inf if timeout is None else timeout) as scope:
            await trio.lowlevel.wait_readable(pidfd)
        return bool(scope.cancelled_caught)

    def watch() -> None:
        try:
            late.append(trio.run(supervise))
        finally:
            os.close(pidfd)

    late: list[bool] = []
    asyncio = sys.modules.get("asyncio")
    if trio.lowlevel.in_trio_run() or (asyncio and asyncio._get_running_loop()):
        # One event loop inside another is not to be had; a thread may have its own.
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        thread.join()
    else:
        watch()
    return late[0]


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # the caller ignores SIGCHLD, or reaps every child it can find
        pass


def _stop(supervisor: int) -> None:
    """Tell the supervisor to end everything; do it from here if it doesn't."""
    try:
        pidfd = os.pidfd_open(supervisor)
    except OSError:
        pidfd = -1
    try:
        os.kill(supervisor, signal.SIGTERM)
        if pidfd >= 0:
            poller = _select.poll()
            poller.register(pidfd, _select.POLLIN)
            if not poller.poll(_GRACE * 1000):
                below = _tree(supervisor)
                for pid in [*below, supervisor]:
                    _try_kill(pid)
        _reap(supervisor)
    except ProcessLookupError:
        _reap(supervisor)
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _result(shared: mmap.mmap) -> Any:
    pid, ended, status, kind, length = _HEADER.unpack_from(shared)
    if not ended:  # not by us: the supervisor was killed.  PDEATHSIG has ended main; its session is what may be left
        if pid:
            _try_kill(-pid)
        raise RuntimeError("the process that supervises the run ended before main did: something killed it, or its traceback is on stderr")
    body = shared[_HEADER.size : _HEADER.size + length]
    if os.WIFSIGNALED(status):
        raise Killed(os.WTERMSIG(status))
    if kind == _UNPICKLABLE:
        raise UsageError(body.decode())
    if kind == _RETURNED:
        try:
            return pickle.loads(body)
        except Exception as e:
            raise UsageError(f"what main returned can't be unpickled: {e!r}; return plain data") from e
    if kind == _RAISED:
        exception, text = pickle.loads(body)
        if isinstance(exception, SystemExit):
            # Its code is its only argument, but who has registered another way to pickle exceptions (tblib) may have lost it.
            exception.code = exception.args[0] if exception.args else None
            if not exception.code:
                return None
        raise exception from _RemoteTraceback(text)
    code = os.WEXITSTATUS(status)
    if code:
        raise SystemExit(code)
    return None


# What follows runs in the supervisor and in main.  Neither ever returns into the frames of the caller.


def _supervisor(shared: mmap.mmap, caller: int, main: Main, args: tuple[object, ...]) -> NoReturn:
    """Start main, wait until it has ended or the caller says stop (SIGTERM), and leave no process behind."""
    try:
        gc.freeze()  # garbage of the caller's must not close fds by numbers that are main's by then
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # blocked; an ignored signal would not even wait to be taken
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != caller:
            os._exit(1)
        _own_stdio()
        _close_log_files()
        os.closerange(3, 2**31 - 1)
        me = os.getpid()
        pid = os.fork()
        if not pid:
            _process_1(shared, me, main, args)
        while signal.sigwait((signal.SIGTERM, signal.SIGCHLD)) == signal.SIGCHLD:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
        _kill_all(shared, pid)
    except BaseException:
        traceback.print_exc()
        flush_stdio()
    finally:
        os._exit(0)


def _close_log_files() -> None:
    """The caller's log files are not main's, which would write to them by numbers that are its own files' by then."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in [handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers]:
        if isinstance(handler, logging.FileHandler):
            handler.close()


def _kill_all(shared: mmap.mmap, pid: int) -> None:
    """Kill and reap every process below the supervisor.  Orphans become its children, so at ECHILD none is left."""
    _try_kill(-pid)  # the session, in one stroke that no fork outruns; main is not reaped yet, so the number is still its own
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                for child in _children(os.getpid()):  # those that left the session
                    _try_kill(child)
                child, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        if child == pid:
            _, _, _, kind, length = _HEADER.unpack_from(shared)
            _HEADER.pack_into(shared, 0, pid, 1, status, kind, length)


def _process_1(shared: mmap.mmap, supervisor: int, main: Main, args: tuple[object, ...]) -> NoReturn:
    """Run main, leave its result in ``shared``, and end."""
    status = 1
    try:
        os.setsid()
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)
        _HEADER.pack_into(shared, 0, os.getpid(), 0, 0, _NO_BODY, 0)
        signal.set_wakeup_fd(-1)
        default_handlers()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        forget_threads()
        forget_objects()
        forget_handlers()
        body = _call(main, args)
        status = 0
        flush_stdio()
        kind, raw = body
        if _HEADER.size + len(raw) > _RESULT_MAX:
            kind, raw = (
                _UNPICKLABLE,
                f"what main returned or raised takes {len(raw)} bytes when pickled, more than {_RESULT_MAX}".encode(),
            )
        shared[_HEADER.size : _HEADER.size + len(raw)] = raw
        _HEADER.pack_into(shared, 0, os.getpid(), 0, 0, kind, len(raw))
    except BaseException:
        traceback.print_exc()
        flush_stdio()
    finally:
        os._exit(status)


def _repr(thing: object) -> str:
    try:
        return repr(thing)
    except Exception:
        return object.__repr__(thing)


def _call(main: Main, args: tuple[object, ...]) -> tuple[int, bytes]:
    """Call main; what it returned or raised as (kind, body)."""
    try:
        result = main(LinuxSyscalls(), *args)
    except BaseException as e:
        text = program_traceback(e)
        try:
            raw = pickle.dumps((e, text))
            pickle.loads(raw)  # many a class can be pickled and not unpickled
        except Exception as why:
            text = f"main raised {_repr(e)}, which can't be pickled ({_repr(why)}):\n{text}"
            raw = pickle.dumps((RuntimeError(text), text))
        return _RAISED, raw
    try:
        return _RETURNED, pickle.dumps(result)
    except Exception as why:
        text = f"main returned {_repr(result)}, a {type(result).__name__}, which can't be pickled ({_repr(why)}); return plain data"
        return _UNPICKLABLE, text.encode("utf-8", "backslashreplace")


_kept: list[object] = []


def _own_stdio() -> None:
    """Make sys.stdout and sys.stderr write to fds 1 and 2.

    A test runner may have put a file of another fd there, which is about to be closed and whose number main will get again.
    """
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            if stream.fileno() == fd:
                continue
        except (AttributeError, OSError, ValueError):
            pass
        _kept.append(stream)  # or its end would close the fd that has its number by then
        try:
            raw = io.FileIO(fd, "w", closefd=False)
        except OSError:  # fd 1 or 2 is closed
            continue
        setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True))
    if faulthandler.is_enabled():
        faulthandler.enable(2)


# --- /proc ---


def _try_kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _parents() -> dict[int, int]:
    """The parent of each process, from /proc/PID/stat (proc(5))."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    parents[int(name)] = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):  # it has ended
                pass
    return parents


def _children(pid: int) -> list[int]:
    return [child for child, parent in _parents().items() if parent == pid]


def _tree(pid: int) -> list[int]:
    """Every process below ``pid``, itself left out."""
    parents = _parents()
    below = [pid]
    for parent in below:
        below += sorted(child for child, its in parents.items() if its == parent)
    return below[1:]


# The calls that a process sleeps in, by their x86-64 numbers, with how many arguments are worth showing.
_SLEEPS: Final = {
    0: ("read", 1), 1: ("write", 1), 7: ("poll", 0), 19: ("readv", 1), 20: ("writev", 1), 23: ("select", 0), 35: ("nanosleep", 0),
    42: ("connect", 1), 43: ("accept", 1), 44: ("sendto", 1), 45: ("recvfrom", 1), 46: ("sendmsg", 1), 47: ("recvmsg", 1),
    61: ("wait4", 0), 128: ("rt_sigtimedwait", 0), 202: ("futex", 0), 230: ("clock_nanosleep", 0), 232: ("epoll_wait", 1),
    247: ("waitid", 0), 270: ("pselect6", 0), 271: ("ppoll", 0), 281: ("epoll_pwait", 1), 288: ("accept4", 1), 441: ("epoll_pwait2", 1),
}  # fmt: skip


def _slurp(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _doing(task: str) -> str:
    """What a thread is doing, from /proc/PID/task/TID: the call it sleeps in, "running", or the kernel function it waits in."""
    state = "".join(_slurp(f"{task}/stat").rpartition(")")[2].split()[:1])
    if state == "Z":
        return "has ended, and was not waited for"
    words = _slurp(f"{task}/syscall").split()
    if words and words[0].isdigit():
        number = int(words[0])
        if platform.machine() != "x86_64" or number not in _SLEEPS:
            return f"sleeps in system call {number}"
        name, shown = _SLEEPS[number]
        fds = "".join(f"{struct.unpack_from('@i', int(word, 16).to_bytes(8, sys.byteorder))[0]}, " for word in words[1 : 1 + shown])
        return f"sleeps in {name}({fds}...)"
    if words == ["running"]:
        return "is running"
    wchan = _slurp(f"{task}/wchan")  # outside of a call (words[0] is -1: a page fault, a stop), or not allowed to see it
    return f"sleeps in the kernel function {wchan}" if wchan not in {"", "0"} else f"is in state {state or '?'}"


def _report(supervisor: int) -> str:
    """One line for each thread of each process below the supervisor."""
    lines: list[str] = []
    for i, pid in enumerate(_tree(supervisor)):
        try:
            tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
        except OSError:
            continue
        for tid in tids:
            thread = f", thread {tid}," if len(tids) > 1 else ""
            lines.append(f"  pid {pid}{' (main)' if i == 0 else ''}{thread} {_doing(f'/proc/{pid}/task/{tid}')}")
    return "\n".join(lines)
