"""_posixsubprocess: a program of Python's is started as a process of the machine; others are real ones, which is Unsupported."""

import _posixsubprocess as real
import itertools
import sys
from collections.abc import Callable, Sequence
from signal import SIGPIPE, SIGXFSZ
from typing import TYPE_CHECKING, Any

from simkernel.api import Syscalls
from simkernel.errors import SimulationError, Unsupported
from simkernel.kernel.sched import TaskExit
from simkernel.stdlib import execve
from simkernel.stdlib.here import here
from simkernel.uapi import F_DUPFD, F_GETFD, F_SETFD, FD_CLOEXEC, SIG_DFL

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
CANNOT_EXEC = 255
# What subprocess makes of a failure before exec.
FROM_CHDIR = "noexec:chdir" if sys.version_info >= (3, 13) else "noexec"


def fork_exec(
    process_args: Any,
    executable_list: Sequence[bytes],
    close_fds: bool,
    pass_fds: Sequence[int],
    cwd: Any,
    env: Sequence[bytes] | None,
    p2cread: int,
    p2cwrite: int,
    c2pread: int,
    c2pwrite: int,
    errread: int,
    errwrite: int,
    errpipe_read: int,
    errpipe_write: int,
    restore_signals: bool,
    call_setsid: bool,
    pgid_to_set: int,
    gid: Any,
    extra_groups: Any,
    uid: Any,
    child_umask: int,
    preexec_fn: Callable[[], object] | None,
    allow_vfork: bool = True,
    /,
) -> int:
    """Start a program in a new process; returns its pid.  Why it could not be started is written to ``errpipe_write``."""
    if close_fds and errpipe_write < 3:
        raise ValueError("errpipe_write must be >= 3")
    if any(not isinstance(fd, int) or fd < 0 for fd in pass_fds) or any(fd >= following for fd, following in itertools.pairwise(pass_fds)):
        raise ValueError("bad value(s) in fds_to_keep")
    if (gid, extra_groups, uid) != (None, None, None):
        raise Unsupported("subprocess with user, group or extra_groups is not modelled: there is one user, root")
    posix: Any = world.modules["posix"]
    argv = [posix.fs_bytes(word) for word in process_args]
    if any(b"\0" in word for word in [*argv, *(env or ())]):
        raise ValueError("embedded null byte")
    executables = [posix.fs_bytes(path) for path in executable_list]
    if cwd is None:
        execve.check(executables, argv)

    def prepare(sys: Syscalls) -> str:
        """What is done between fork and exec; how a failure is reported is returned step by step."""
        for fd in pass_fds:
            if fd != errpipe_write:
                sys.fcntl(fd, F_SETFD, sys.fcntl(fd, F_GETFD) & ~FD_CLOEXEC)
        for fd in (p2cwrite, c2pread, errread, errpipe_read):
            if fd >= 0:
                sys.close(fd)
        ends = [p2cread, c2pwrite, errwrite]
        for target, fd in enumerate(ends):
            # None of them may lie where another one goes.
            if 0 <= fd < target:
                ends[target] = sys.fcntl(fd, F_DUPFD, 3)
        for target, fd in enumerate(ends):
            if fd == target:
                sys.fcntl(fd, F_SETFD, sys.fcntl(fd, F_GETFD) & ~FD_CLOEXEC)
            elif fd >= 0:
                sys.dup2(fd, target)
        return ""

    def child(sys: Syscalls) -> None:
        where = "noexec"
        try:
            prepare(sys)
            if cwd is not None:
                where = FROM_CHDIR
                sys.chdir(posix.fs_bytes(cwd))
                where = "noexec"
            if child_umask >= 0:
                sys.umask(child_umask)
            if restore_signals:
                for signum in (SIGPIPE, SIGXFSZ):
                    sys.sigaction(signum, SIG_DFL)
            if call_setsid:
                sys.setsid()
            if pgid_to_set >= 0:
                sys.setpgid(0, pgid_to_set)
            before = dict(posix.environ)
            if preexec_fn is not None:
                try:
                    preexec_fn()
                except (SimulationError, TaskExit):
                    raise
                except BaseException:
                    sys.write(errpipe_write, b"SubprocessError:0:Exception occurred in preexec_fn.")
                    sys.exit(CANNOT_EXEC)
            environment = dict(posix.environ) if env is None else execve.environment_of(env)
            if before != posix.environ:
                # The child of a fork has a copy of it.
                posix.environ.clear()
                posix.environ.update(before)
            if close_fds:
                for fd in execve.open_fds():
                    if fd >= 3 and fd not in pass_fds:
                        sys.close(fd)
            where = ""
            execve.execve(world, executables, argv, environment)
        except OSError as error:
            sys.write(errpipe_write, f"OSError:{error.errno or 0:X}:{where}".encode())
            sys.exit(CANNOT_EXEC)

    name = argv[0] if argv else b"python"
    child.__name__ = name.rpartition(b"/")[2].decode(errors="backslashreplace")
    return here.sys.spawn(child)
