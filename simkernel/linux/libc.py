"""libc, one ctypes function a system call, and the structs that they take."""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from ctypes import c_int, c_void_p
from typing import Any, Final, NoReturn

from simkernel import sockaddr
from simkernel.api import Address, Buffer
from simkernel.errors import Unsupported
from simkernel.uapi import AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, NSEC_PER_SEC, NSIG

_libc: Final = ctypes.CDLL(None, use_errno=True)
uint = ctypes.c_uint
_long, _size_t, _ssize_t = (ctypes.c_long, ctypes.c_size_t, ctypes.c_ssize_t)


def _bind(name: str, restype: Any, *argtypes: Any) -> Any:
    function = _libc[name]
    function.restype = restype
    function.argtypes = argtypes
    return function


c_socket: Final = _bind("socket", c_int, c_int, c_int, c_int)
c_socketpair: Final = _bind("socketpair", c_int, c_int, c_int, c_int, c_void_p)
c_bind: Final = _bind("bind", c_int, c_int, c_void_p, uint)
c_listen: Final = _bind("listen", c_int, c_int, c_int)
c_connect: Final = _bind("connect", c_int, c_int, c_void_p, uint)
c_accept4: Final = _bind("accept4", c_int, c_int, c_void_p, c_void_p, c_int)
c_getsockname: Final = _bind("getsockname", c_int, c_int, c_void_p, c_void_p)
c_getpeername: Final = _bind("getpeername", c_int, c_int, c_void_p, c_void_p)
c_shutdown: Final = _bind("shutdown", c_int, c_int, c_int)
c_setsockopt: Final = _bind("setsockopt", c_int, c_int, c_int, c_int, c_void_p, uint)
c_getsockopt: Final = _bind("getsockopt", c_int, c_int, c_int, c_int, c_void_p, c_void_p)
c_send: Final = _bind("send", _ssize_t, c_int, c_void_p, _size_t, c_int)
c_recv: Final = _bind("recv", _ssize_t, c_int, c_void_p, _size_t, c_int)
c_sendto: Final = _bind("sendto", _ssize_t, c_int, c_void_p, _size_t, c_int, c_void_p, uint)
c_recvfrom: Final = _bind("recvfrom", _ssize_t, c_int, c_void_p, _size_t, c_int, c_void_p, c_void_p)
c_sendmsg: Final = _bind("sendmsg", _ssize_t, c_int, c_void_p, c_int)
c_recvmsg: Final = _bind("recvmsg", _ssize_t, c_int, c_void_p, c_int)
c_read: Final = _bind("read", _ssize_t, c_int, c_void_p, _size_t)
c_write: Final = _bind("write", _ssize_t, c_int, c_void_p, _size_t)
c_readv: Final = _bind("readv", _ssize_t, c_int, c_void_p, c_int)
c_writev: Final = _bind("writev", _ssize_t, c_int, c_void_p, c_int)
c_dup: Final = _bind("dup", c_int, c_int)
c_dup2: Final = _bind("dup2", c_int, c_int, c_int)
c_dup3: Final = _bind("dup3", c_int, c_int, c_int, c_int)
c_fcntl: Final = _bind("fcntl", c_int, c_int, c_int, _long)
c_ioctl: Final = _bind("ioctl", c_int, c_int, ctypes.c_ulong, c_void_p)
_loff_t = ctypes.c_int64
c_open: Final = _bind("open64", c_int, ctypes.c_char_p, c_int, uint)
c_getdents64: Final = _bind("getdents64", _ssize_t, c_int, c_void_p, _size_t)
c_flock: Final = _bind("flock", c_int, c_int, c_int)
c_unlink: Final = _bind("unlink", c_int, ctypes.c_char_p)
c_mkdir: Final = _bind("mkdir", c_int, ctypes.c_char_p, uint)
c_memfd_create: Final = _bind("memfd_create", c_int, ctypes.c_char_p, uint)
c_lseek: Final = _bind("lseek64", _loff_t, c_int, _loff_t, c_int)
c_ftruncate: Final = _bind("ftruncate64", c_int, c_int, _loff_t)
c_pread: Final = _bind("pread64", _ssize_t, c_int, c_void_p, _size_t, _loff_t)
c_pwrite: Final = _bind("pwrite64", _ssize_t, c_int, c_void_p, _size_t, _loff_t)
c_sendfile: Final = _bind("sendfile64", _ssize_t, c_int, c_int, c_void_p, _size_t)
c_splice: Final = _bind("splice", _ssize_t, c_int, c_void_p, c_int, c_void_p, _size_t, uint)
c_eventfd: Final = _bind("eventfd", c_int, uint, c_int)
c_epoll_create1: Final = _bind("epoll_create1", c_int, c_int)
c_epoll_ctl: Final = _bind("epoll_ctl", c_int, c_int, c_int, c_int, c_void_p)
c_epoll_wait: Final = _bind("epoll_wait", c_int, c_int, c_void_p, c_int, c_int)
c_poll: Final = _bind("poll", c_int, c_void_p, ctypes.c_ulong, c_int)
c_select: Final = _bind("select", c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p)
c_epoll_pwait: Final = _bind("epoll_pwait", c_int, c_int, c_void_p, c_int, c_int, c_void_p)
c_ppoll: Final = _bind("ppoll", c_int, c_void_p, ctypes.c_ulong, c_void_p, c_void_p)
c_pselect: Final = _bind("pselect", c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
c_timerfd_create: Final = _bind("timerfd_create", c_int, c_int, c_int)
c_timerfd_settime: Final = _bind("timerfd_settime", c_int, c_int, c_int, c_void_p, c_void_p)
c_timerfd_gettime: Final = _bind("timerfd_gettime", c_int, c_int, c_void_p)
c_signalfd: Final = _bind("signalfd", c_int, c_int, c_void_p, c_int)
c_sigaction: Final = _bind("sigaction", c_int, c_int, c_void_p, c_void_p)
c_sigprocmask: Final = _bind("sigprocmask", c_int, c_int, c_void_p, c_void_p)
c_nanosleep: Final = _bind("nanosleep", c_int, c_void_p, c_void_p)
c_alarm: Final = _bind("alarm", uint, uint)
c_getitimer: Final = _bind("getitimer", c_int, c_int, c_void_p)
c_pause: Final = _bind("pause", c_int)
c_setitimer: Final = _bind("setitimer", c_int, c_int, c_void_p, c_void_p)
c_sigtimedwait: Final = _bind("sigtimedwait", c_int, c_void_p, c_void_p, c_void_p)
c_tgkill: Final = _bind("tgkill", c_int, c_int, c_int, c_int)
c_waitpid: Final = _bind("waitpid", c_int, c_int, c_void_p, c_int)
c_kill: Final = _bind("kill", c_int, c_int, c_int)
c_getrlimit: Final = _bind("getrlimit", c_int, c_int, c_void_p)
c_setrlimit: Final = _bind("setrlimit", c_int, c_int, c_void_p)
prctl: Final = _bind("prctl", c_int, c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
c_syscall: Final = _bind("syscall", _long, _long, c_void_p, c_int, uint, c_void_p, c_void_p, uint)
# futex(2) has no function in libc, and a number of its own on each architecture (arch/*/entry/syscalls).
_SYS_futex: Final = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98, "ppc64le": 221, "s390x": 238}


def c_futex(word: Any, op: int, value: int, timeout: bytes | None) -> int:
    """futex(2) on a ctypes.c_uint32."""
    number = _SYS_futex.get(platform.machine())
    if number is None:
        raise Unsupported(f"futex(2) on {platform.machine()}: its number is not known")
    r: int = c_syscall(number, byref(word), op, value, timeout, None, 0)
    return r


_SYS_epoll_pwait2: Final = 441  # the same number on every architecture, as for all calls since Linux 5.2
c_epoll_pwait2: Any
if hasattr(_libc, "epoll_pwait2"):
    c_epoll_pwait2 = _bind("epoll_pwait2", c_int, c_int, c_void_p, c_int, c_void_p, c_void_p)
else:  # glibc before 2.35, musl
    _syscall: Final = _bind("syscall", _long, _long, _long, c_void_p, _long, c_void_p, c_void_p, _long)

    def c_epoll_pwait2(epfd: int, events: Any, maxevents: int, timeout: Any, sigmask: Any) -> int:
        r: int = _syscall(_SYS_epoll_pwait2, epfd, events, maxevents, timeout, sigmask, 8)
        return r


# struct epoll_event is packed on x86-64 only (include/uapi/linux/eventpoll.h).
EPOLL_EVENT: Final = struct.Struct("=IQ" if platform.machine() == "x86_64" else "@IxxxxQ")
EPOLL_EVENT_SIZE: Final = EPOLL_EVENT.size
EP_MAX_EVENTS: Final = 0x7FFFFFFF // EPOLL_EVENT_SIZE
POLLFD: Final = struct.Struct("=iHH")
TIME: Final = struct.Struct("@qq")  # struct timespec and struct timeval
# struct siginfo: si_signo, si_errno, si_code, and of what follows si_pid, si_uid, si_status.
SIGINFO: Final = struct.Struct("@iii4xiIi")
SIGINFO_SIZE: Final = 128
_DIRENT: Final = struct.Struct("=QqHB")
_PAIR: Final = struct.Struct("@ii")
INT: Final = struct.Struct("@i")
RLIMIT: Final = struct.Struct("@QQ")
_SOCKADDR_IN: Final = struct.Struct("!2sH4s8x")
_SOCKADDR_IN6: Final = struct.Struct("!2sHI16s")
_SA_INET6: Final = struct.pack("@H", AF_INET6)
_SA_INET: Final = struct.pack("@H", AF_INET)
_SA_UNIX: Final = struct.pack("@H", AF_UNIX)
SOCKADDR_STORAGE: Final = 128
FD_SETSIZE: Final = 1024
RLIM64_INFINITY: Final = 2**64 - 1

_get_errno: Final = ctypes.get_errno
addressof: Final = ctypes.addressof
byref: Final = ctypes.byref
char: Final = ctypes.c_char


class IoVec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class Flock(ctypes.Structure):
    """struct flock, of 64-bit systems."""

    _fields_ = (
        ("type", ctypes.c_short),
        ("whence", ctypes.c_short),
        ("start", ctypes.c_int64),
        ("len", ctypes.c_int64),
        ("pid", ctypes.c_int),
    )


def address_of(data: bytes) -> int | None:
    """Where the bytes lie, for as long as the caller holds them; a null pointer for none."""
    return ctypes.cast(ctypes.c_char_p(data), c_void_p).value if data else None


def io_vec(parts: list[bytes]) -> Any:
    """An array of struct iovec over ``parts``, which the caller must hold."""
    return (IoVec * len(parts))(*[IoVec(address_of(part), len(part)) for part in parts])


def sigset(signums: Iterable[int]) -> bytes:
    """A libc sigset_t, which is larger than the kernel's.  ValueError for a number that is no signal."""
    bits = 0
    for signum in signums:
        check_ints(signum)
        if not 1 <= signum <= NSIG:
            raise ValueError(f"signal number {signum} out of range [1; {NSIG}]")
        bits |= 1 << signum - 1
    return bits.to_bytes(8, sys.byteorder).ljust(128, b"\0")


def signums(raw: bytes) -> set[int]:
    """The signal numbers in a sigset_t."""
    bits = int.from_bytes(raw[:8], sys.byteorder)
    return {signum for signum in range(1, NSIG + 1) if bits >> (signum - 1) & 1}


class SigAction(ctypes.Structure):
    """libc's struct sigaction."""

    _fields_ = (("handler", c_void_p), ("mask", ctypes.c_char * 128), ("flags", c_int), ("restorer", c_void_p))


class MsgHdr(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


def fail() -> NoReturn:
    """Raise the OSError of errno."""
    e = _get_errno()
    raise OSError(e, os.strerror(e))


def check_ints(*values: int) -> None:
    """OverflowError for what a C int can't hold, which ctypes would cut to 32 bits.

    Callers ask only when ``(a | b) >> 31`` is not 0: that is one test for the usual small numbers, and TypeError for a float.
    """
    for value in values:
        if not isinstance(value, int):
            raise TypeError(f"an int is required, not {type(value).__name__}")
        if not -0x80000000 <= value <= 0x7FFFFFFF:
            raise OverflowError(f"{value} does not fit a C int")


def check_size(n: int) -> None:
    """ValueError for a negative size, OverflowError for one that no ssize_t holds."""
    if n < 0:
        raise ValueError(f"the size must not be negative, not {n}")
    if n >> 63:
        raise OverflowError(f"the size {n} does not fit a C ssize_t")


def check_offset(value: int) -> None:
    """OverflowError for what no loff_t holds."""
    if not isinstance(value, int):
        raise TypeError(f"an offset must be an int, not {type(value).__name__}")
    if not -(2**63) <= value < 2**63:
        raise OverflowError(f"the offset {value} does not fit a C loff_t")


def loff(value: int | None) -> Any:
    """A pointer to a loff_t that the kernel may move, or a null pointer."""
    if value is not None:
        check_offset(value)
    return None if value is None else byref(_loff_t(value))


def dirents(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The entries in what getdents64 has filled in: struct linux_dirent64."""
    at = 0
    while at < len(raw):
        ino, _, length, kind = _DIRENT.unpack_from(raw, at)
        yield ino, kind, raw[at + _DIRENT.size : at + length].split(b"\0", 1)[0]
        at += length


def path_name(path: object) -> bytes:
    """A path argument as C takes it."""
    return sockaddr.path_name(path)


_COPY_MAX: Final = 4096


def pin(data: Buffer) -> tuple[Any, int]:
    """A pointer for ctypes to the bytes of a bytearray or memoryview, and their number.

    A copy if they are few, which takes less time than a reference to them, or read-only, since ctypes refers to writable ones only.
    """
    if isinstance(data, bytearray):
        if len(data) > _COPY_MAX:
            return byref(char.from_buffer(data)), len(data)
    elif isinstance(data, memoryview) and data.nbytes > _COPY_MAX and not data.readonly and data.c_contiguous:
        return byref(char.from_buffer(data)), data.nbytes
    data = contents(data)
    return data, len(data)


def contents(data: Buffer) -> bytes:
    """The bytes of any buffer."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray):
        return bytes(data)
    if isinstance(data, memoryview):
        if not data.c_contiguous:
            raise BufferError("the memoryview must be contiguous")
        return bytes(data)
    raise TypeError(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")


def pack_addr(addr: Address) -> bytes:
    """struct sockaddr of an address, its family told by its Python type."""
    if isinstance(addr, tuple):
        if len(addr) == 4:
            host6, port, flowinfo, scope_id = sockaddr.inet6_addr(addr)
            # The scope alone is in the machine's byte order.
            return _SOCKADDR_IN6.pack(_SA_INET6, port, flowinfo, sockaddr.inet6_bytes(host6)) + struct.pack("@I", scope_id)
        host, port = sockaddr.inet_addr(addr)
        return _SOCKADDR_IN.pack(_SA_INET, port, bytes(map(int, host.split("."))))
    path = sockaddr.unix_path(addr)
    # A path ends with a zero byte; an abstract name is exactly as long as it says; the empty name is the family alone (unix(7)).
    return _SA_UNIX + path + b"\0" if path and path[0] else _SA_UNIX + path


def unpack_addr(raw: bytes, length: int) -> Address:
    """The address in a struct sockaddr of ``length`` bytes."""
    if length < 2:  # accept(2) of a peer without a name may say 0
        return ""
    family = int.from_bytes(raw[:2], sys.byteorder)
    if family == AF_INET:
        return f"{raw[4]}.{raw[5]}.{raw[6]}.{raw[7]}", int.from_bytes(raw[2:4], "big")
    if family == AF_INET6:
        scope_id = int.from_bytes(raw[24:28], sys.byteorder)
        flowinfo = int.from_bytes(raw[4:8], "big")
        return sockaddr.inet6_text(raw[8:24]), int.from_bytes(raw[2:4], "big"), flowinfo, scope_id
    if family == AF_UNIX:
        path = raw[2:length]
        if path and path[0]:
            path = path.split(b"\0", 1)[0]
        return sockaddr.unix_name(path)
    if family == AF_UNSPEC:
        return ""
    raise Unsupported(f"an address of family {family}")


def two_words(a: int, b: int) -> bytes:
    """struct timespec or struct timeval."""
    if not -(2**63) <= a < 2**63:
        raise OverflowError("the time does not fit a C time_t")
    return TIME.pack(a, b)


def timespec(ns: int) -> bytes:
    """struct timespec.  A negative time becomes a negative tv_sec, which the kernel answers with EINVAL."""
    if not isinstance(ns, int):
        raise TypeError(f"nanoseconds must be an int, not {type(ns).__name__}")
    return two_words(*divmod(ns, NSEC_PER_SEC))
