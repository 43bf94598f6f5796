"""api.Syscalls over libc, one call each."""

import ctypes
import errno
import itertools
import math
import os
import platform
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

from simkernel import sockaddr
from simkernel.api import Address, Buffer, Main, UnmodelledCalls
from simkernel.errors import Unsupported
from simkernel.uapi import AF_INET, AF_UNIX, AF_UNSPEC, FIONBIO, FIONREAD, NSEC_PER_SEC

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
prctl: Final = _bind("prctl", _int, _int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)

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
        if not isinstance(value, int):
            raise TypeError(f"an int is required, not {type(value).__name__}")
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


def forget_objects() -> None:
    """In process 1 of a run: the caller's registrations are not its own."""
    _objects.clear()
    _tokens.clear()


# --- threads ---

_threads: dict[int, threading.Thread] = {}
_thread_ids: Final = itertools.count(1)


class _Own(threading.local):
    tid = 0  # of the running thread; 0 for the first of a process


_own: Final = _Own()


def forget_threads() -> None:
    """In a child: fork copies the calling thread only, and that is the child's first."""
    _threads.clear()
    _own.tid = 0


def flush_stdio() -> None:
    """Write out what print has buffered; a broken stream is left alone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # none, a closed pipe, a closed file: as at exit, nobody is left to tell
            pass


def fork_process() -> int:
    """fork(2): 0 in the child."""
    flush_stdio()  # or both processes would print what is still buffered
    if sys.version_info < (3, 12):
        return os.fork()
    with warnings.catch_warnings():
        # Python 3.12 warns that a child of a threaded process may find locks taken.  fork(2) with threads is what was asked for.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def exit_code(e: SystemExit) -> int:
    """The exit status that sys.exit(x) stands for."""
    if e.code is None:
        return 0
    if isinstance(e.code, int):
        return e.code & 0xFF
    print(e.code, file=sys.stderr)
    return 1


_OPTION_MAX: Final = 65536


class LinuxSyscalls(UnmodelledCalls):
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
        buf = ctypes.create_string_buffer(min(buflen, _OPTION_MAX) or 4)  # no option is longer
        length = _uint(len(buf))
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
        if not isinstance(request, int):
            raise TypeError(f"request must be an int, not {type(request).__name__}")
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
        pid = fork_process()
        if pid:
            return pid
        status = 1
        try:
            forget_threads()
            main(self, *args)
            status = 0
        except SystemExit as e:
            status = exit_code(e)
        except BaseException:
            traceback.print_exc()
        finally:
            flush_stdio()
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
            except BaseException:
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
        flush_stdio()
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
