"""Syscalls over the real Linux kernel, and run(): the other half of "the same code, two kernels".

LinuxSyscalls binds each call of simkernel.api to libc, and adds nothing: the errno is Linux's, an interrupted call raises EINTR
instead of starting again (PEP 475 is what os.read and socket.send do, and what a program's author must see here), a timeout keeps
the unit of its man page.  That is why it is ctypes and not os and socket; where a function of Python's is one call without a retry
(close, pipe2, clock_gettime) it is used, because it is faster.

run() gives a program what the fake kernel gives it: a fresh process 1 with nothing but stdin, stdout and stderr, and an end after
which nothing is left.

    caller                    trio waits for the supervisor's end (a pidfd), or for the deadline
      └─ supervisor           a session of its own, subreaper; ends every process below it, then itself
           └─ main            a session of its own, subreaper as init is; runs main(sys, *args)
                └─ ...        what main spawned, and orphans
"""

import ctypes
import errno
import faulthandler
import gc
import io
import itertools
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
import time
import traceback
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

from simkernel import sockaddr
from simkernel.api import Address, Buffer, Main
from simkernel.errors import Killed, Timeout, Unsupported, UsageError
from simkernel.uapi import AF_INET, AF_UNIX, AF_UNSPEC, FIONBIO, FIONREAD, NSEC_PER_SEC

__all__ = ["LinuxSyscalls", "run"]

# --- libc ---

_libc: Final = ctypes.CDLL(None, use_errno=True)
_int, _long, _size_t, _ssize_t, _ptr = (ctypes.c_int, ctypes.c_long, ctypes.c_size_t, ctypes.c_ssize_t, ctypes.c_void_p)
_uint = ctypes.c_uint


def _bind(name: str, restype: Any, *argtypes: Any) -> Any:
    function = _libc[name]
    function.restype = restype
    function.argtypes = argtypes
    return function


_socket: Final = _bind("socket", _int, _int, _int, _int)
_socketpair: Final = _bind("socketpair", _int, _int, _int, _int, _ptr)
_bind_: Final = _bind("bind", _int, _int, _ptr, _uint)
_listen: Final = _bind("listen", _int, _int, _int)
_connect: Final = _bind("connect", _int, _int, _ptr, _uint)
_accept4: Final = _bind("accept4", _int, _int, _ptr, _ptr, _int)
_getsockname: Final = _bind("getsockname", _int, _int, _ptr, _ptr)
_getpeername: Final = _bind("getpeername", _int, _int, _ptr, _ptr)
_shutdown: Final = _bind("shutdown", _int, _int, _int)
_setsockopt: Final = _bind("setsockopt", _int, _int, _int, _int, _ptr, _uint)
_getsockopt: Final = _bind("getsockopt", _int, _int, _int, _int, _ptr, _ptr)
_send: Final = _bind("send", _ssize_t, _int, _ptr, _size_t, _int)
_recv: Final = _bind("recv", _ssize_t, _int, _ptr, _size_t, _int)
_read: Final = _bind("read", _ssize_t, _int, _ptr, _size_t)
_write: Final = _bind("write", _ssize_t, _int, _ptr, _size_t)
_readv: Final = _bind("readv", _ssize_t, _int, _ptr, _int)
_writev: Final = _bind("writev", _ssize_t, _int, _ptr, _int)
_dup: Final = _bind("dup", _int, _int)
_dup2: Final = _bind("dup2", _int, _int, _int)
_dup3: Final = _bind("dup3", _int, _int, _int, _int)
_fcntl: Final = _bind("fcntl", _int, _int, _int, _long)
_ioctl: Final = _bind("ioctl", _int, _int, ctypes.c_ulong, _ptr)
_eventfd: Final = _bind("eventfd", _int, _uint, _int)
_epoll_create1: Final = _bind("epoll_create1", _int, _int)
_epoll_ctl: Final = _bind("epoll_ctl", _int, _int, _int, _int, _ptr)
_epoll_wait: Final = _bind("epoll_wait", _int, _int, _ptr, _int, _int)
_poll: Final = _bind("poll", _int, _ptr, ctypes.c_ulong, _int)
_select_: Final = _bind("select", _int, _int, _ptr, _ptr, _ptr, _ptr)
_nanosleep: Final = _bind("nanosleep", _int, _ptr, _ptr)
_waitpid: Final = _bind("waitpid", _int, _int, _ptr, _int)
_kill: Final = _bind("kill", _int, _int, _int)
_getrlimit: Final = _bind("getrlimit", _int, _int, _ptr)
_setrlimit: Final = _bind("setrlimit", _int, _int, _ptr)
_prctl: Final = _bind("prctl", _int, _int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)

_SYS_epoll_pwait2: Final = 441  # the same number on every architecture, as for all calls since Linux 5.2
_epoll_pwait2: Any
if hasattr(_libc, "epoll_pwait2"):
    _epoll_pwait2 = _bind("epoll_pwait2", _int, _int, _ptr, _int, _ptr, _ptr)
else:  # glibc before 2.35, musl
    _syscall: Final = _bind("syscall", _long, _long, _long, _ptr, _long, _ptr, _ptr, _long)

    def _epoll_pwait2(epfd: int, events: Any, maxevents: int, timeout: Any, sigmask: Any) -> int:
        r: int = _syscall(_SYS_epoll_pwait2, epfd, events, maxevents, timeout, sigmask, 8)
        return r


# struct epoll_event is packed on x86-64 only (include/uapi/linux/eventpoll.h).
_EPOLL_EVENT: Final = struct.Struct("=IQ" if platform.machine() == "x86_64" else "@IxxxxQ")
_EPOLL_EVENT_SIZE: Final = _EPOLL_EVENT.size
_EP_MAX_EVENTS: Final = 0x7FFFFFFF // _EPOLL_EVENT_SIZE
_POLLFD: Final = struct.Struct("=iHH")
_TIME: Final = struct.Struct("@qq")  # struct timespec and struct timeval
_PAIR: Final = struct.Struct("@ii")
_INT: Final = struct.Struct("@i")
_RLIMIT: Final = struct.Struct("@QQ")
_SOCKADDR_IN: Final = struct.Struct("!2sH4s8x")
_SA_INET: Final = struct.pack("@H", AF_INET)
_SA_UNIX: Final = struct.pack("@H", AF_UNIX)
_SOCKADDR_STORAGE: Final = 128
_FD_SETSIZE: Final = 1024
_RLIM64_INFINITY: Final = 2**64 - 1

_get_errno: Final = ctypes.get_errno
_addressof: Final = ctypes.addressof
_byref: Final = ctypes.byref
_char: Final = ctypes.c_char


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


def _fail() -> NoReturn:
    e = _get_errno()
    raise OSError(e, os.strerror(e))


def _check_ints(*values: int) -> None:
    """OverflowError for what a C int can't hold, which ctypes would cut to 32 bits.

    Callers ask only when ``(a | b) >> 31`` is not 0: that is one test for the usual small numbers, and TypeError for a float.
    """
    for value in values:
        if not -0x80000000 <= value <= 0x7FFFFFFF:
            raise OverflowError(f"{value} does not fit a C int")


def _check_size(n: int) -> None:
    if n < 0:
        raise ValueError(f"the size must not be negative, not {n}")
    if n >> 63:
        raise OverflowError(f"the size {n} does not fit a C ssize_t")


_COPY_MAX: Final = 4096


def _pin(data: Buffer) -> tuple[Any, int]:
    """A pointer for ctypes to the bytes of a bytearray or memoryview, and their number.

    A copy if they are few, which takes less time than a reference to them, or read-only, since ctypes refers to writable ones only.
    """
    if isinstance(data, bytearray):
        if len(data) > _COPY_MAX:
            return _byref(_char.from_buffer(data)), len(data)
    elif isinstance(data, memoryview) and data.nbytes > _COPY_MAX and not data.readonly and data.c_contiguous:
        return _byref(_char.from_buffer(data)), data.nbytes
    data = _contents(data)
    return data, len(data)


def _contents(data: Buffer) -> bytes:
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


def _pack_addr(addr: Address) -> bytes:
    """struct sockaddr of an address, its family told by its Python type."""
    if isinstance(addr, tuple):
        host, port = sockaddr.inet_addr(addr)
        return _SOCKADDR_IN.pack(_SA_INET, port, bytes(map(int, host.split("."))))
    path = sockaddr.unix_path(addr)
    # A path ends with a zero byte; an abstract name is exactly as long as it says; the empty name is the family alone (unix(7)).
    return _SA_UNIX + path + b"\0" if path and path[0] else _SA_UNIX + path


def _unpack_addr(raw: bytes, length: int) -> Address:
    if length < 2:  # accept(2) of a peer without a name may say 0
        return ""
    family = int.from_bytes(raw[:2], sys.byteorder)
    if family == AF_INET:
        return f"{raw[4]}.{raw[5]}.{raw[6]}.{raw[7]}", int.from_bytes(raw[2:4], "big")
    if family == AF_UNIX:
        path = raw[2:length]
        if path and path[0]:
            path = path.split(b"\0", 1)[0]
        return sockaddr.unix_name(path)
    if family == AF_UNSPEC:
        return ""
    raise Unsupported(f"an address of family {family}")


# --- epoll's data ---
#
# The kernel keeps 64 bits for each registration; we keep any object.  Small ints (and so the default, the fd) are stored as they are.
# Any other object gets a token: the number of the process that registered it, above a counter.  A token belongs to the object, not to
# the registration: what was registered once stays valid through dup, MOD and fork, and for the registration that lives on after
# its fd was closed while a dup was not.  A child has its parent's objects as of the fork.  An event whose data
# another process registered later can't be turned into its object: the memory isn't shared.  That raises RuntimeError.
#
# Nothing tells us when a registration ends, so from time to time we read what the kernel still knows (/proc/self/fdinfo lists the
# data of each registration) and drop the rest: at each doubling, and only what was gone at the previous look too, since another
# thread may hold an event it has fetched and not yet translated.

_PLAIN: Final = 1 << 32
_SWEEP_AT: Final = 1024
_objects: dict[int, object] = {}  # token -> object
_tokens: dict[int, int] = {}  # id(object) -> token; the id is good as long as _objects holds the object
_counter: Final = itertools.count()
_gone: set[int] = set()
_sweep_at = _SWEEP_AT


def _token(data: object) -> int:
    """The 64 bits that stand for an object that is no small int."""
    token = _tokens.get(id(data))
    if token is None or token not in _objects:
        if len(_objects) >= _sweep_at:
            _sweep()
        token = os.getpid() << 40 | next(_counter)
        _objects[token] = data
        _tokens[id(data)] = token
    else:
        _gone.discard(token)
    return token


def _object(token: int) -> object:
    try:
        return _objects[token]
    except KeyError:
        raise RuntimeError(
            f"an epoll event carries data that process {token >> 40} registered after the fork; process {os.getpid()} can't know that "
            "object: register fds, or small ints, where processes share an epoll instance"
        ) from None


def _sweep() -> None:
    """Drop objects that no epoll instance of this process has had a registration for, at this look and the one before."""
    global _gone, _sweep_at
    live: set[int] = set()
    try:
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                    with open(f"/proc/self/fdinfo/{name}") as info:
                        live.update(int(line.split("data:")[1].split()[0], 16) for line in info if line.startswith("tfd:"))
            except FileNotFoundError:  # closed by another thread, or the listing's own
                pass
    except OSError:  # no /proc, or no free fd to look with: try again later
        _sweep_at *= 2
        return
    gone = _objects.keys() - live
    for token in gone & _gone:
        data = _objects.pop(token)
        if _tokens.get(id(data)) == token:
            del _tokens[id(data)]
    _gone = gone & _objects.keys()
    _sweep_at = max(_SWEEP_AT, 2 * len(_objects))


# --- threads ---

_threads: dict[int, threading.Thread] = {}
_thread_ids: Final = itertools.count(1)


class _Own(threading.local):
    tid = 0  # of the running thread; 0 for the first of a process


_own: Final = _Own()


def _forget_threads() -> None:
    """In a child: fork copies the calling thread only, and that is the child's first."""
    _threads.clear()
    _own.tid = 0


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # none, a closed pipe, a closed file: as at exit, nobody is left to tell
            pass


def _fork() -> int:
    _flush()  # or both processes would print what is still buffered
    if threading.active_count() == 1:
        return os.fork()
    with warnings.catch_warnings():
        # Python 3.12 warns that a child of a threaded process may find locks taken.  fork(2) with threads is what was asked for.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _exit_code(e: SystemExit) -> int:
    """The exit status that sys.exit(x) stands for."""
    if e.code is None:
        return 0
    if isinstance(e.code, int):
        return e.code & 0xFF
    print(e.code, file=sys.stderr)
    return 1


class LinuxSyscalls:
    """simkernel.api.Syscalls over the real kernel: each method is one call of libc.

    OSError with the kernel's errno; TypeError for what is no int, OverflowError for what a C int can't hold, ValueError for a negative
    size.  Nothing is tried again: EINTR is raised, as a timeout is an empty result.
    """

    __slots__ = ()

    # --- sockets ---
    def socket(self, family: int, type: int, proto: int = 0, /) -> int:
        """socket(2).  Any family and type that the kernel has; addresses are AF_INET's and AF_UNIX's."""
        if (family | type | proto) >> 31:
            _check_ints(family, type, proto)
        fd: int = _socket(family, type, proto)
        if fd < 0:
            _fail()
        return fd

    def socketpair(self, family: int, type: int, proto: int = 0, /) -> tuple[int, int]:
        """socketpair(2)."""
        if (family | type | proto) >> 31:
            _check_ints(family, type, proto)
        fds = (_int * 2)()
        if _socketpair(family, type, proto, fds) < 0:
            _fail()
        return fds[0], fds[1]

    def bind(self, fd: int, addr: Address, /) -> None:
        """bind(2).  A tuple is an AF_INET address, str and bytes are AF_UNIX ones."""
        if fd >> 31:
            _check_ints(fd)
        raw = _pack_addr(addr)
        if _bind_(fd, raw, len(raw)) < 0:
            _fail()

    def listen(self, fd: int, backlog: int, /) -> None:
        """listen(2)."""
        if (fd | backlog) >> 31:
            _check_ints(fd, backlog)
        if _listen(fd, backlog) < 0:
            _fail()

    def connect(self, fd: int, addr: Address, /) -> None:
        """connect(2)."""
        if fd >> 31:
            _check_ints(fd)
        raw = _pack_addr(addr)
        if _connect(fd, raw, len(raw)) < 0:
            _fail()

    def accept4(self, fd: int, flags: int = 0, /) -> tuple[int, Address]:
        """accept4(2)."""
        if (fd | flags) >> 31:
            _check_ints(fd, flags)
        raw = bytes(_SOCKADDR_STORAGE)
        length = _uint(_SOCKADDR_STORAGE)
        new: int = _accept4(fd, raw, _addressof(length), flags)
        if new < 0:
            _fail()
        try:
            return new, _unpack_addr(raw, length.value)
        except Unsupported:
            os.close(new)
            raise

    def getsockname(self, fd: int, /) -> Address:
        """getsockname(2)."""
        return self._name(_getsockname, fd)

    def getpeername(self, fd: int, /) -> Address:
        """getpeername(2)."""
        return self._name(_getpeername, fd)

    def _name(self, call: Any, fd: int) -> Address:
        if fd >> 31:
            _check_ints(fd)
        raw = bytes(_SOCKADDR_STORAGE)
        length = _uint(_SOCKADDR_STORAGE)
        if call(fd, raw, _addressof(length)) < 0:
            _fail()
        return _unpack_addr(raw, length.value)

    def shutdown(self, fd: int, how: int, /) -> None:
        """shutdown(2)."""
        if (fd | how) >> 31:
            _check_ints(fd, how)
        if _shutdown(fd, how) < 0:
            _fail()

    def setsockopt(self, fd: int, level: int, name: int, value: int | bytes, /) -> None:
        """setsockopt(2).  An int is passed as a C int, bytes as they are."""
        if (fd | level | name) >> 31:
            _check_ints(fd, level, name)
        if isinstance(value, int):
            _check_ints(value)
            raw = _INT.pack(value)
        else:
            raw = _contents(value)
        if _setsockopt(fd, level, name, raw, len(raw)) < 0:
            _fail()

    def getsockopt(self, fd: int, level: int, name: int, buflen: int = 0, /) -> int | bytes:
        """getsockopt(2).  A C int, or up to ``buflen`` bytes when ``buflen`` is not 0."""
        if (fd | level | name | buflen) >> 31:
            _check_ints(fd, level, name, buflen)
            if buflen < 0:
                _check_size(buflen)
        buf = ctypes.create_string_buffer(buflen or 4)
        length = _uint(buflen or 4)
        if _getsockopt(fd, level, name, buf, _addressof(length)) < 0:
            _fail()
        if buflen:
            return buf.raw[: length.value]
        value: int = _INT.unpack(buf.raw)[0]
        return value

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        """send(2).  SIGPIPE is ignored, as Python starts a process: a broken pipe is EPIPE, with or without MSG_NOSIGNAL."""
        if (fd | flags) >> 31:
            _check_ints(fd, flags)
        if data.__class__ is bytes:
            n: int = _send(fd, data, len(data), flags)
        else:
            n = _send(fd, *_pin(data), flags)
        if n < 0:
            _fail()
        return n

    # recv, read and epoll_wait let the kernel write into a bytes object that nothing else refers to yet, and return its head: no
    # faster way was found, and unlike a buffer that each thread keeps, a signal handler in between can't overwrite it.  Python
    # shares the objects of length 0 and, in places, 1, so those take a buffer.

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        """recv(2).  ValueError for a negative ``n``."""
        if (fd | flags) >> 31:
            _check_ints(fd, flags)
        if n >> 63:
            _check_size(n)
        buf: Any = bytes(n) if n > 1 else ctypes.create_string_buffer(n)
        got: int = _recv(fd, buf, n, flags)
        if got < 0:
            _fail()
        data: bytes = buf[:got]  # MSG_TRUNC may return more than was asked for, a slice not
        return data

    # --- files ---
    def read(self, fd: int, n: int, /) -> bytes:
        """read(2).  ValueError for a negative ``n``."""
        if fd >> 31:
            _check_ints(fd)
        if n >> 63:
            _check_size(n)
        buf: Any = bytes(n) if n > 1 else ctypes.create_string_buffer(n)
        got: int = _read(fd, buf, n)
        if got < 0:
            _fail()
        data: bytes = buf[:got]
        return data

    def write(self, fd: int, data: Buffer, /) -> int:
        """write(2)."""
        if fd >> 31:
            _check_ints(fd)
        if data.__class__ is bytes:
            n: int = _write(fd, data, len(data))
        else:
            n = _write(fd, *_pin(data))
        if n < 0:
            _fail()
        return n

    def readv(self, fd: int, sizes: Sequence[int], /) -> list[bytes]:
        """readv(2) into buffers of ``sizes`` bytes.  Returns their contents, trailing empty buffers left out."""
        if fd >> 31:
            _check_ints(fd)
        for size in sizes:
            if size >> 63:
                _check_size(size)
        buffers = [ctypes.create_string_buffer(size or 1) for size in sizes]
        iov = (_IoVec * len(sizes))(*[_IoVec(_addressof(buffer), size) for buffer, size in zip(buffers, sizes, strict=True)])
        got: int = _readv(fd, iov, len(iov))
        if got < 0:
            _fail()
        out: list[bytes] = []
        for buffer, size in zip(buffers, sizes, strict=True):
            if got <= 0:
                break
            out.append(buffer.raw[: min(size, got)])
            got -= size
        return out

    def writev(self, fd: int, buffers: Sequence[Buffer], /) -> int:
        """writev(2)."""
        if fd >> 31:
            _check_ints(fd)
        parts = [_contents(buffer) for buffer in buffers]
        iov = (_IoVec * len(parts))(*[_IoVec(ctypes.cast(ctypes.c_char_p(part), _ptr).value, len(part)) for part in parts])
        n: int = _writev(fd, iov, len(iov))
        if n < 0:
            _fail()
        return n

    def close(self, fd: int, /) -> None:
        """close(2)."""
        os.close(fd)

    def dup(self, fd: int, /) -> int:
        """dup(2)."""
        if fd >> 31:
            _check_ints(fd)
        new: int = _dup(fd)
        if new < 0:
            _fail()
        return new

    def dup2(self, old: int, new: int, /) -> int:
        """dup2(2)."""
        if (old | new) >> 31:
            _check_ints(old, new)
        fd: int = _dup2(old, new)
        if fd < 0:
            _fail()
        return fd

    def dup3(self, old: int, new: int, flags: int, /) -> int:
        """dup3(2)."""
        if (old | new | flags) >> 31:
            _check_ints(old, new, flags)
        fd: int = _dup3(old, new, flags)
        if fd < 0:
            _fail()
        return fd

    def fcntl(self, fd: int, cmd: int, arg: int = 0, /) -> int:
        """fcntl(2) with an int argument."""
        if (fd | cmd | arg) >> 31:
            _check_ints(fd, cmd, arg)
        value: int = _fcntl(fd, cmd, arg)
        if value < 0:
            _fail()
        return value

    def ioctl(self, fd: int, request: int, arg: int = 0, /) -> int:
        """ioctl(2): FIONREAD and FIONBIO.  Others, whose argument may be anything, raise Unsupported."""
        if (fd | arg) >> 31:
            _check_ints(fd, arg)
        if request not in (FIONREAD, FIONBIO):
            raise Unsupported(f"ioctl request {request:#x}")
        value = _int(arg)
        if _ioctl(fd, request, _addressof(value)) < 0:
            _fail()
        return value.value if request == FIONREAD else 0

    def pipe2(self, flags: int = 0, /) -> tuple[int, int]:
        """pipe2(2)."""
        return os.pipe2(flags)

    def eventfd(self, initval: int = 0, flags: int = 0, /) -> int:
        """eventfd(2).  ``initval``: 0 to 2**32 - 1."""
        if flags >> 31:
            _check_ints(flags)
        if initval >> 32:
            raise OverflowError(f"initval {initval} does not fit a C unsigned int")
        fd: int = _eventfd(initval, flags)
        if fd < 0:
            _fail()
        return fd

    # --- waiting for many files ---
    def epoll_create1(self, flags: int = 0, /) -> int:
        """epoll_create1(2)."""
        if flags >> 31:
            _check_ints(flags)
        fd: int = _epoll_create1(flags)
        if fd < 0:
            _fail()
        return fd

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: Any = None, /) -> None:
        """epoll_ctl(2).  ``events``: 0 to 2**32 - 1.

        Objects as ``data`` are known to this process and to those forked from it afterwards.
        """
        if (epfd | op | fd) >> 31:
            _check_ints(epfd, op, fd)
        if events >> 32:
            raise OverflowError(f"events {events} do not fit a C uint32_t")
        if data is None:
            token = fd & 0xFFFFFFFF
        elif type(data) is int and 0 <= data < _PLAIN:
            token = data
        else:
            token = _token(data)
        if _epoll_ctl(epfd, op, fd, _EPOLL_EVENT.pack(events, token)) < 0:
            _fail()

    def epoll_wait(self, epfd: int, maxevents: int, timeout: int = -1, /) -> list[tuple[Any, int]]:
        """epoll_wait(2).  ``timeout`` in milliseconds."""
        if (epfd | maxevents) >> 31 or (timeout + 0x80000000) >> 32:
            _check_ints(epfd, maxevents, timeout)
        buf = bytes(_EPOLL_EVENT_SIZE * maxevents if 0 < maxevents <= _EP_MAX_EVENTS else _EPOLL_EVENT_SIZE)
        n: int = _epoll_wait(epfd, buf, maxevents, timeout)
        if n < 0:
            _fail()
        return _events(buf, n) if n else []

    def epoll_pwait2(
        self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[Any, int]]:
        """epoll_pwait2(2).  ``timeout_ns`` in nanoseconds, None without a limit; ``sigmask``: signal numbers, 1 to 64."""
        if (epfd | maxevents) >> 31:
            _check_ints(epfd, maxevents)
        timeout = None if timeout_ns is None else _timespec(timeout_ns)
        mask: bytes | None = None
        if sigmask is not None:
            bits = 0
            for signum in sigmask:
                if not 1 <= signum <= 64:
                    raise ValueError(f"signal number {signum} out of range")
                bits |= 1 << signum - 1
            mask = bits.to_bytes(8, sys.byteorder).ljust(128, b"\0")  # libc's sigset_t is larger than the kernel's
        buf = bytes(_EPOLL_EVENT_SIZE * maxevents if 0 < maxevents <= _EP_MAX_EVENTS else _EPOLL_EVENT_SIZE)
        n: int = _epoll_pwait2(epfd, buf, maxevents, timeout, mask)
        if n < 0:
            _fail()
        return _events(buf, n) if n else []

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        """poll(2).  ``events``: 0 to 65535; ``timeout`` in milliseconds."""
        if (timeout + 0x80000000) >> 32:
            _check_ints(timeout)
        array = bytearray(_POLLFD.size * len(fds))
        offset = 0
        for fd, events in fds:
            if fd >> 31:
                _check_ints(fd)
            if events >> 16:
                raise OverflowError(f"events {events} do not fit a C unsigned short")
            _POLLFD.pack_into(array, offset, fd, events, 0)
            offset += 8
        n: int = _poll(_byref(_char.from_buffer(array)) if fds else None, len(fds), timeout)
        if n < 0:
            _fail()
        return [(fd, revents) for fd, _, revents in _POLLFD.iter_unpack(array) if revents] if n else []

    def select(
        self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /
    ) -> tuple[list[int], list[int], list[int]]:
        """select(2).  ``timeout`` in seconds or None, rounded up to a microsecond so that it never ends early.

        ValueError for an fd outside range(1024): it would be written past the end of libc's fd_set.
        """
        tv: bytes | None = None
        if timeout is not None:
            us = -(-math.ceil(timeout * 1e9) // 1000)
            tv = _two_words(*divmod(us if us or timeout >= 0 else -1, 1_000_000))  # however small, a negative one is EINVAL
        top = -1
        lists: list[list[int]] = []
        sets: list[bytearray | None] = []
        for fds in (r, w, x):
            fds = list(fds)
            lists.append(fds)
            if not fds:
                sets.append(None)
                continue
            fd_set = bytearray(_FD_SETSIZE // 8)
            for fd in fds:
                if not 0 <= fd < _FD_SETSIZE:
                    raise ValueError(f"filedescriptor out of range in select(): {fd}")
                if sys.byteorder == "big":  # the set is an array of longs
                    fd ^= 56
                fd_set[fd >> 3] |= 1 << (fd & 7)
            top = max(top, max(fds))
            sets.append(fd_set)
        refs = [_byref(_char.from_buffer(fd_set)) if fd_set else None for fd_set in sets]
        n: int = _select_(top + 1, *refs, tv)
        if n < 0:
            _fail()
        return (_ready(lists[0], sets[0]), _ready(lists[1], sets[1]), _ready(lists[2], sets[2]))

    # --- time ---
    def clock_gettime_ns(self, clockid: int, /) -> int:
        """clock_gettime(2) in nanoseconds."""
        return time.clock_gettime_ns(clockid)

    def nanosleep(self, ns: int, /) -> None:
        """nanosleep(2), once: EINTR when a signal came."""
        if _nanosleep(_timespec(ns), None) < 0:
            _fail()

    # --- processes and threads ---
    def spawn(self, main: Main, /, *args: object) -> int:
        """fork(2), and run ``main(sys, *args)`` in the child.

        The child ends with status 0, with 1 and a traceback on stderr if ``main`` raises, and as SystemExit says.
        """
        pid = _fork()
        if pid:
            return pid
        status = 1
        try:
            _forget_threads()
            main(self, *args)
            status = 0
        except SystemExit as e:
            status = _exit_code(e)
        except BaseException:  # noqa: BLE001 - whatever it is, it ends here: the frames above are the parent's
            traceback.print_exc()
        finally:
            _flush()
            os._exit(status)

    def thread(self, main: Main, /, *args: object) -> int:
        """clone(2) of a thread that runs ``main(sys, *args)``.  Returns a small number for join.

        An exception ends the thread with a traceback on stderr; the process goes on.
        """

        def body() -> None:
            _own.tid = tid
            try:
                main(self, *args)
            except SystemExit:
                pass
            except BaseException:  # noqa: BLE001 - as the docstring says
                traceback.print_exc()

        tid = next(_thread_ids)
        thread = _threads[tid] = threading.Thread(target=body, name=f"thread {tid}", daemon=True)
        try:
            thread.start()
        except BaseException:
            del _threads[tid]
            raise
        return tid

    def join(self, tid: int, /) -> None:
        """Wait until thread ``tid`` has ended.  ESRCH if there is none or it was joined already, EDEADLK for oneself."""
        if tid >> 31:
            _check_ints(tid)
        if tid and tid == _own.tid:
            raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
        thread = _threads.pop(tid, None)
        if thread is None:
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
        thread.join()

    def waitpid(self, pid: int, options: int = 0, /) -> tuple[int, int]:
        """waitpid(2)."""
        if (pid + 0x80000000) >> 32 or options >> 31:
            _check_ints(pid, options)
        status = _int()
        child: int = _waitpid(pid, _addressof(status), options)
        if child < 0:
            _fail()
        return child, status.value

    def kill(self, pid: int, signum: int, /) -> None:
        """kill(2).  Unsupported for pid -1, every process that the user may signal: that is no test's business."""
        if (pid | signum) >> 31:
            _check_ints(pid, signum)
            if pid == -1:
                raise Unsupported("kill(-1, ...) on the real kernel")
        if _kill(pid, signum) < 0:
            _fail()

    def getpid(self) -> int:
        """getpid(2)."""
        return os.getpid()

    def getppid(self) -> int:
        """getppid(2)."""
        return os.getppid()

    def exit(self, status: int, /) -> NoReturn:
        """_exit(2) of the whole process, after Python's own stdout and stderr were flushed."""
        if status >> 31:
            _check_ints(status)
        _flush()
        os._exit(status & 0xFF)

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        """getrlimit(2): (soft, hard), RLIM_INFINITY as -1."""
        if resource >> 31:
            _check_ints(resource)
        limits = ctypes.create_string_buffer(_RLIMIT.size)
        if _getrlimit(resource, limits) < 0:
            _fail()
        soft, hard = _RLIMIT.unpack(limits)
        return (-1 if soft == _RLIM64_INFINITY else soft, -1 if hard == _RLIM64_INFINITY else hard)

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        """setrlimit(2): (soft, hard), each -1 (RLIM_INFINITY) to 2**64 - 1."""
        if resource >> 31:
            _check_ints(resource)
        soft, hard = limits
        for limit in (soft, hard):
            if limit >> 64 and limit != -1:
                raise OverflowError(f"the limit {limit} does not fit a C rlim_t")
        if _setrlimit(resource, _RLIMIT.pack(soft & _RLIM64_INFINITY, hard & _RLIM64_INFINITY)) < 0:
            _fail()


def _events(buf: bytes, n: int) -> list[tuple[Any, int]]:
    found = _EPOLL_EVENT.iter_unpack(buf[: n * _EPOLL_EVENT_SIZE])
    return [(token if token < _PLAIN else _object(token), events) for events, token in found]


def _ready(fds: list[int], fd_set: bytearray | None) -> list[int]:
    """The fds of a select's list whose bit is set, in the order given."""
    if fd_set is None:
        return []
    flip = 56 if sys.byteorder == "big" else 0
    return [fd for fd in fds if fd_set[(fd ^ flip) >> 3] >> (fd & 7) & 1]


def _two_words(a: int, b: int) -> bytes:
    if not -(2**63) <= a < 2**63:
        raise OverflowError("the time does not fit a C time_t")
    return _TIME.pack(a, b)


def _timespec(ns: int) -> bytes:
    """struct timespec.  A negative time becomes a negative tv_sec, which the kernel answers with EINVAL."""
    if not isinstance(ns, int):
        raise TypeError(f"nanoseconds must be an int, not {type(ns).__name__}")
    return _two_words(*divmod(ns, NSEC_PER_SEC))


# --- run ---

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
        supervisor = _fork()
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
    import trio  # a tenth of a second that the syscall layer alone should not cost

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
        if isinstance(exception, SystemExit) and not exception.code:
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
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != caller:
            os._exit(1)
        _own_stdio()
        os.closerange(3, 2**31 - 1)
        me = os.getpid()
        pid = os.fork()
        if not pid:
            _process_1(shared, me, main, args)
        while signal.sigwait((signal.SIGTERM, signal.SIGCHLD)) == signal.SIGCHLD:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
        _kill_all(shared, pid)
    except BaseException:  # noqa: BLE001 - the frames above are the caller's
        traceback.print_exc()
        _flush()
    finally:
        os._exit(0)


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
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)
        _HEADER.pack_into(shared, 0, os.getpid(), 0, 0, _NO_BODY, 0)
        signal.set_wakeup_fd(-1)
        for signum in range(1, signal.SIGSYS + 1):  # asking for all 64 takes half a millisecond
            if callable(signal.getsignal(signum)):
                signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _forget_threads()
        _objects.clear()
        _tokens.clear()
        body = _call(main, args)
        status = 0
        _flush()
        kind, raw = body
        if _HEADER.size + len(raw) > _RESULT_MAX:
            kind, raw = (
                _UNPICKLABLE,
                f"what main returned or raised takes {len(raw)} bytes when pickled, more than {_RESULT_MAX}".encode(),
            )
        shared[_HEADER.size : _HEADER.size + len(raw)] = raw
        _HEADER.pack_into(shared, 0, os.getpid(), 0, 0, kind, len(raw))
    except BaseException:  # noqa: BLE001 - the frames above are the caller's
        traceback.print_exc()
        _flush()
    finally:
        os._exit(status)


def _repr(thing: object) -> str:
    try:
        return repr(thing)
    except Exception:  # noqa: BLE001 - the message about an odd object must not fail by its oddness
        return object.__repr__(thing)


def _call(main: Main, args: tuple[object, ...]) -> tuple[int, bytes]:
    """Call main; what it returned or raised as (kind, body)."""
    try:
        result = main(LinuxSyscalls(), *args)
    except BaseException as e:  # noqa: BLE001 - the caller raises it again
        text = "".join(traceback.format_exception(e))
        try:
            raw = pickle.dumps((e, text))
            pickle.loads(raw)  # many a class can be pickled and not unpickled
        except Exception as why:  # noqa: BLE001 - __reduce__ may raise anything
            text = f"main raised {_repr(e)}, which can't be pickled ({_repr(why)}):\n{text}"
            raw = pickle.dumps((RuntimeError(text), text))
        return _RAISED, raw
    try:
        return _RETURNED, pickle.dumps(result)
    except Exception as why:  # noqa: BLE001 - so may it here
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
        fds = "".join(f"{_INT.unpack_from(int(word, 16).to_bytes(8, sys.byteorder))[0]}, " for word in words[1 : 1 + shown])
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
