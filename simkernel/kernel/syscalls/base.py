"""What all system calls share: checks of arguments, the fd table, the machine that they work on.

Arguments of the wrong Python type raise TypeError, numbers that fit no C int OverflowError; everything else is Linux's errno.
"""

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from simkernel.errors import oserror
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.file import File
from simkernel.kernel.fork import Crash
from simkernel.kernel.mem import Crng
from simkernel.kernel.namei import Vfs
from simkernel.kernel.namespace import init_mount_tree
from simkernel.kernel.net.loopback import Loopback
from simkernel.kernel.net.net_namespace import Net
from simkernel.kernel.net.proc import register_proc_net
from simkernel.kernel.net.socket import Sock, Sysctl
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_input import TcpProtocol
from simkernel.kernel.net.unix import UnixTable
from simkernel.kernel.procfs import constant
from simkernel.kernel.sched import Sched
from simkernel.kernel.signal import do_signal, set_current_blocked
from simkernel.kernel.task_work import task_work_run
from simkernel.sockaddr import inet6_addr, inet_addr, unix_path
from simkernel.uapi import (
    ERESTARTNOINTR,
    ERESTARTSYS,
    NSEC_PER_SEC,
    NSIG,
    O_APPEND,
    O_ASYNC,
    O_DIRECT,
    O_NOATIME,
    O_NONBLOCK,
    RLIM_INFINITY,
    RLIMIT_NOFILE,
    SA_RESTART,
)

INT_MAX: Final = 2**31 - 1
EP_MAX_EVENTS: Final = INT_MAX // 12
IOV_MAX: Final = 1024
SSIZE_MAX: Final = 2**63 - 1
NR_OPEN: Final = 1048576
SETFL_MASK: Final = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME
# Numbers of net/socket.c: NPROTO and SOCK_MAX.
AF_MAX: Final = 46
SOCK_MAX: Final = 11
SOCK_TYPE_MASK: Final = 0xF
IPPROTO_MAX: Final = 263


def c_int(value: object, what: str) -> int:
    """An argument that Linux takes as a C int."""
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not -INT_MAX - 1 <= value <= INT_MAX:
        raise OverflowError(f"{what} does not fit a C int: {value}")
    return value


def c_uint(value: object, what: str) -> int:
    """An argument that Linux takes as a C unsigned int."""
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not 0 <= value < 2**32:
        raise OverflowError(f"{what} does not fit a C unsigned int: {value}")
    return value


def size(value: object, what: str = "the size") -> int:
    """An argument that Linux takes as a size_t."""
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{what} must not be negative: {value}")
    if value > 2**63 - 1:
        raise OverflowError(f"{what} does not fit a C ssize_t: {value}")
    return value


def timespec_range(ns: object, what: str) -> int:
    """Check that a time fits a struct timespec."""
    if not isinstance(ns, int):
        raise TypeError(f"{what} must be an int, not {type(ns).__name__}")
    if not -(2**63) <= ns // NSEC_PER_SEC < 2**63:
        raise OverflowError(f"{what} does not fit a struct timespec: {ns}")
    return ns


def timespec(ns: object, what: str) -> None:
    """Check a time that Linux takes as a struct timespec: EINVAL if it is negative."""
    if timespec_range(ns, what) < 0:
        raise oserror(errno.EINVAL)


def as_bytes(data: object) -> bytes:
    """A buffer argument as bytes."""
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    if isinstance(data, memoryview):
        if not data.c_contiguous:
            raise BufferError("the memoryview must be contiguous")
        return data.tobytes()
    raise TypeError(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")


def move_addr_to_kernel(fd: object, addr: object) -> tuple[str, int] | tuple[str, int, int, int] | bytes:
    """An address argument, its family told by its Python type: two values of AF_INET, four of AF_INET6, or sun_path of AF_UNIX."""
    c_int(fd, "fd")
    if not isinstance(addr, tuple):
        return unix_path(addr)
    return inet6_addr(addr) if len(addr) == 4 else inet_addr(addr)


def do_loop_writev(file: File, buffers: Sequence[bytes]) -> int:
    """do_loop_readv_writev: a write for each buffer, until one fails; an empty one is skipped, unless it is the first."""
    done = 0
    for i, data in enumerate(buffers):
        if i and not data:
            continue
        try:
            done += file.write(data)
        except OSError:
            if not done:
                raise
            break
    return done


def sigset(signums: Iterable[int]) -> int:
    """A signal mask argument as bits.  ValueError for a number that is no signal."""
    mask = 0
    for signum in signums:
        c_int(signum, "a signal number")
        if not 1 <= signum <= NSIG:
            raise ValueError(f"signal number {signum} out of range [1; {NSIG}]")
        mask |= 1 << (signum - 1)
    return mask


def signals(mask: int) -> set[int]:
    """A signal mask as numbers."""
    return {signum for signum in range(1, NSIG + 1) if mask >> (signum - 1) & 1}


class BaseSyscalls:
    """The machine that the calls work on.  One object serves all tasks: each call is made by the running one."""

    __slots__ = ("crash", "crng", "disturbed", "hostfs", "inet", "lo", "nets", "sched", "sysctl", "udp", "unix", "vfs")

    def __init__(self, sched: Sched, sysctl: Sysctl, crash: Crash) -> None:
        self.sched = sched
        self.sysctl = sysctl
        self.crash = crash
        # What was done to the connections of a process, by pid: for whoever judges a run.
        self.disturbed: dict[int, str] = {}
        self.lo = Loopback(sched, TcpProtocol())
        # The machine itself is the first of the hosts, and the only one unless a network is made.
        net = Net(sched, sysctl, self.lo, "")
        self.lo.net = net
        self.nets = [net]
        self.inet = net.inet
        self.udp = net.udp
        self.crng = Crng(sched)
        # Whether the real file system is mounted; set at boot.
        self.hostfs = False
        self.vfs = Vfs(sched, self._mount)
        self.unix = UnixTable(self.vfs)

    def dismantle(self) -> None:
        """Let go of the parts that know each other."""
        self.lo.dismantle()
        for net in self.nets:
            net.dismantle()
        self.nets.clear()
        self.vfs.dismantle()

    def _mount(self, vfs: Vfs) -> None:
        proc = init_mount_tree(vfs, self.crng, self.hostfs)
        proc.register_sysctl("fs/nr_open", constant("fs.nr_open", NR_OPEN))
        register_proc_net(proc, self.sysctl, self.nets)

    # --- helpers ---
    def _install(self, files: FilesStruct, file: File, cloexec: bool) -> int:
        try:
            fd = files.get_unused_fd(self._nofile())
        except OSError:
            # As if it had never been opened: nobody has seen it.
            file.f_count = 1
            file.fput()
            raise
        files.fd_install(fd, file, cloexec)
        self.sched.stalled = 0
        return fd

    def _install2(self, a: File, b: File, cloexec: bool) -> tuple[int, int]:
        files = self.sched.current.files
        try:
            fd = self._install(files, a, cloexec)
        except OSError:
            b.f_count = 1
            b.fput()
            raise
        try:
            return fd, self._install(files, b, cloexec)
        except OSError:
            files.close_fd(fd)
            raise

    def _nofile(self) -> int:
        soft = self.sched.current.process.rlimits[RLIMIT_NOFILE][0]
        return NR_OPEN if soft == RLIM_INFINITY else min(soft, NR_OPEN)

    def _sock(self, fd: int) -> Sock:
        file = self.sched.current.files.fget(fd)
        sk = file.sk
        if sk is None:
            raise oserror(errno.ENOTSOCK)
        return sk

    def _held(self, files: FilesStruct, file: File, call: Callable[..., Any], *args: Any) -> Any:
        """Do an operation that may sleep.  In a table that threads share, close must not release the file under it (fdget)."""
        while True:
            try:
                if files.count == 1:
                    result = call(*args)
                else:
                    file.f_count += 1
                    try:
                        result = call(*args)
                    finally:
                        file.fput()
            except OSError as error:
                if not self._restarts(error):
                    raise
                if file.f_count == 0:
                    # A handler has closed it, so that the call, made again, does not find it.
                    raise oserror(errno.EBADF) from None
                continue
            if self.sched.sigwork:
                self._exit_to_user()
            return result

    def _interruptible(self, call: Callable[..., Any], *args: Any) -> Any:
        """Do an operation that may sleep and is not one of a file."""
        while True:
            try:
                result = call(*args)
            except OSError as error:
                if not self._restarts(error):
                    raise
                continue
            if self.sched.sigwork:
                self._exit_to_user()
            return result

    def _exit_to_user(self) -> None:
        """exit_to_user_mode: the signals that wait for the running thread are dealt with before the program goes on."""
        task = self.sched.current
        if task.sigpending:
            do_signal(self.sched, task)
        if task.task_works is not None:
            task_work_run(self.sched, task)

    def _restarts(self, error: OSError, saved_mask: int | None = None) -> bool:
        """A call has failed: run signal handlers; True if it was interrupted and starts again, EINTR if it was and does not.

        ``saved_mask`` is the mask to go back to, of a call that had put another in its place.
        """
        sched = self.sched
        code = error.errno
        assert code is not None
        if code < ERESTARTSYS and not sched.sigwork and saved_mask is None:
            return False
        task = sched.current
        if code < ERESTARTSYS and code != errno.EINTR and saved_mask is not None:
            # Only an interrupted call leaves its mask in force until the handlers have run (restore_saved_sigmask_unless).
            set_current_blocked(sched, task, saved_mask)
            saved_mask = None
        flags = do_signal(sched, task, saved_mask) if task.sigpending or saved_mask is not None else None
        if code < ERESTARTSYS:
            if task.task_works is not None:
                task_work_run(sched, task, error)
            return False
        if flags is None or code == ERESTARTNOINTR or (code == ERESTARTSYS and flags & SA_RESTART and not self.norestart()):
            return True
        if task.task_works is not None:
            task_work_run(sched, task, error)
        raise oserror(errno.EINTR) from None

    def norestart(self) -> bool:
        """Whether a call that SA_RESTART would start again fails with EINTR all the same: never on Linux."""
        return False

    def disturb(self, sk: Sock, why: str) -> None:
        """Note for the processes that hold either end of a connection that it was hit by what is not the other end's fault."""
        ends = (sk, sk.peer) if isinstance(sk, TcpSock) else (sk,)
        for process in self.sched.processes.values():
            if process.threads and any(file.sk in ends for file in process.files.open_fds().values() if file.sk is not None):
                self.disturbed.setdefault(process.pid, why)

    def _masked(self, sigmask: int | None, call: Callable[..., Any], *args: Any) -> Any:
        """Do an operation that may sleep with another signal mask for its duration (set_user_sigmask)."""
        if sigmask is None:
            return self._interruptible(call, *args)
        sched = self.sched
        task = sched.current
        while True:
            saved = task.blocked
            set_current_blocked(sched, task, sigmask)
            try:
                result = call(*args)
            except OSError as error:
                if not self._restarts(error, saved):
                    raise
                continue
            set_current_blocked(sched, task, saved)
            if sched.sigwork:
                self._exit_to_user()
            return result
