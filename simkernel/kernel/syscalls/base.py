"""What all system calls share: checks of arguments, the fd table, the machine that they work on.

Arguments of the wrong Python type raise TypeError, numbers that fit no C int OverflowError; everything else is Linux's errno.
"""

import errno
from collections.abc import Callable, Sequence
from typing import Any

from simkernel.api import UnmodelledCalls
from simkernel.errors import oserror
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.file import File
from simkernel.kernel.fork import Crash
from simkernel.kernel.namei import Vfs
from simkernel.kernel.namespace import init_mount_tree
from simkernel.kernel.net.inet import InetTable
from simkernel.kernel.net.loopback import Loopback
from simkernel.kernel.net.proc import register_proc_net
from simkernel.kernel.net.socket import Sock, Sysctl
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_input import tcp_v4_rcv
from simkernel.kernel.net.unix import UnixTable
from simkernel.kernel.sched import Sched
from simkernel.sockaddr import inet_addr, unix_path
from simkernel.uapi import (
    NSEC_PER_SEC,
    O_APPEND,
    O_ASYNC,
    O_DIRECT,
    O_NOATIME,
    O_NONBLOCK,
    RLIM_INFINITY,
    RLIMIT_NOFILE,
)

INT_MAX = 2**31 - 1
EP_MAX_EVENTS = INT_MAX // 12
IOV_MAX = 1024
SSIZE_MAX = 2**63 - 1
NR_OPEN = 1048576
SETFL_MASK = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME
# Numbers of net/socket.c: NPROTO and SOCK_MAX.
AF_MAX = 46
SOCK_MAX = 11
SOCK_TYPE_MASK = 0xF
IPPROTO_MAX = 263


def c_int(value: object, what: str) -> int:
    """An argument that Linux takes as a C int."""
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not -INT_MAX - 1 <= value <= INT_MAX:
        raise OverflowError(f"{what} does not fit a C int: {value}")
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


def timespec(ns: object, what: str) -> None:
    """Check a time that Linux takes as a struct timespec: EINVAL if it is negative."""
    if not isinstance(ns, int):
        raise TypeError(f"{what} must be an int, not {type(ns).__name__}")
    if not -(2**63) <= ns // NSEC_PER_SEC < 2**63:
        raise OverflowError(f"{what} does not fit a struct timespec: {ns}")
    if ns < 0:
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


def move_addr_to_kernel(fd: object, addr: object) -> tuple[str, int] | bytes:
    """An address argument, its family told by its Python type: (host, port) of AF_INET, or sun_path of AF_UNIX."""
    c_int(fd, "fd")
    return inet_addr(addr) if isinstance(addr, tuple) else unix_path(addr)


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


class BaseSyscalls(UnmodelledCalls):
    """The machine that the calls work on.  One object serves all tasks: each call is made by the running one."""

    __slots__ = ("crash", "inet", "lo", "sched", "sysctl", "unix", "vfs")

    def __init__(self, sched: Sched, sysctl: Sysctl, crash: Crash) -> None:
        self.sched = sched
        self.sysctl = sysctl
        self.crash = crash
        self.inet: InetTable[TcpSock] = InetTable(sched, sysctl)
        self.lo = Loopback(sched, tcp_v4_rcv)
        self.inet.device = self.lo
        self.vfs = Vfs(sched, self._mount)
        self.unix = UnixTable(self.vfs)

    def _mount(self, vfs: Vfs) -> None:
        register_proc_net(init_mount_tree(vfs), self.sysctl, self.inet, self.unix)

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
        if files.count == 1:
            return call(*args)
        file.f_count += 1
        try:
            return call(*args)
        finally:
            file.fput()
