"""_socket: CPython's socket objects on the system calls of the machine that runs (socketmodule.c).

socket.py above it stays as it is.  A socket with a timeout is O_NONBLOCK and polled before each call, as CPython's is; names are resolved
by the world's table of hosts; pure conversions (htons, inet_pton, ...) and the exceptions are the real module's own.
"""

import _socket as real
import errno
import operator
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from simkernel.api import Address
from simkernel.errors import oserror
from simkernel.stdlib.here import here
from simkernel.stdlib.hosts import AF_INET, AF_INET6, protocol_number, service_name, service_port
from simkernel.stdlib.resolve import AI_NUMERICHOST, SOCK_DGRAM, AddrInfo
from simkernel.stdlib.resolve import getaddrinfo as resolve
from simkernel.stdlib.resolve import getnameinfo as reverse
from simkernel.stdlib.sockargs import (
    AF_UNIX,
    NS,
    SSIZE_MAX,
    buffers_of,
    c_int,
    c_long,
    c_ssize,
    cmsgs_of,
    contents,
    plain,
    poll_ms,
    seconds_ns,
    set_ip_addr,
    sockaddr,
    writable,
)

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

# The constants, the exceptions, and what reaches no further than its arguments.
globals().update({name: value for name, value in vars(real).items() if isinstance(value, int)})
error = OSError
timeout = TimeoutError
gaierror = real.gaierror
herror = real.herror
CMSG_LEN = real.CMSG_LEN
CMSG_SPACE = real.CMSG_SPACE
htonl = real.htonl
htons = real.htons
inet_aton = real.inet_aton
inet_ntoa = real.inet_ntoa
inet_ntop = real.inet_ntop
inet_pton = real.inet_pton
ntohl = real.ntohl
ntohs = real.ntohs

SOCK_CLOEXEC: Final = real.SOCK_CLOEXEC
SOCK_NONBLOCK: Final = real.SOCK_NONBLOCK
SOL_SOCKET: Final = real.SOL_SOCKET
SO_DOMAIN: Final = real.SO_DOMAIN
SO_ERROR: Final = real.SO_ERROR
SO_PROTOCOL: Final = real.SO_PROTOCOL
SO_BINDTODEVICE: Final = real.SO_BINDTODEVICE
SO_TYPE: Final = real.SO_TYPE
F_DUPFD_CLOEXEC: Final = 1030
FIONBIO: Final = 0x5421
CLOCK_MONOTONIC: Final = 1
POLLIN: Final = 1
POLLOUT: Final = 4
POLLERR: Final = 8
# What listen() takes when it is given nothing, and what getsockopt() gives at most.
DEFAULT_BACKLOG: Final = min(real.SOMAXCONN, 128)
OPTION_MAX: Final = 1024
# What a Syscalls method takes as it is; other buffers are copied to bytes first.
PLAIN: Final = frozenset((bytes, bytearray))

# The state of this program.
_default_timeout = -1
_run = 0


def reset() -> None:
    """A new process begins: what the one before left behind is not its own."""
    global _default_timeout, _run
    _default_timeout = -1
    _run += 1


class socket:  # noqa: N801
    """socket(family=AF_INET, type=SOCK_STREAM, proto=0) -> socket object
    socket(family=-1, type=-1, proto=-1, fileno=None) -> socket object

    Open a socket of the given type, or take that of a file descriptor.
    """

    # No weak references: the subclass of socket.py adds them, which works once.
    __slots__ = ("_sk_family", "_sk_fd", "_sk_owner", "_sk_proto", "_sk_timeout", "_sk_type")
    _sk_fd: int
    _sk_family: int
    _sk_type: int
    _sk_proto: int
    # Nanoseconds; 0 for a non-blocking socket, -1 for a blocking one.
    _sk_timeout: int
    # Whose fd it is: in another run or another process the number is someone else's.
    _sk_owner: tuple[int, int]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        self._sk_fd = -1
        self._sk_family = self._sk_type = self._sk_proto = 0
        self._sk_timeout = -1
        return self

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None) -> None:
        family, kind, proto = c_int(family), c_int(type), c_int(proto)
        if fileno is not None:
            fd = c_int(fileno)
            if fd < 0:
                raise ValueError("negative file descriptor")
            domain = here.sys.getsockopt(fd, SOL_SOCKET, SO_DOMAIN)
            if family == -1:
                family = int(domain)
            if kind == -1:
                kind = int(here.sys.getsockopt(fd, SOL_SOCKET, SO_TYPE))
            if proto == -1:
                proto = int(here.sys.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL))
        else:
            family = AF_INET if family == -1 else family
            kind = real.SOCK_STREAM if kind == -1 else kind
            proto = 0 if proto == -1 else proto
            fd = here.sys.socket(family, kind | SOCK_CLOEXEC, proto)
        self._sk_fd = fd
        self._sk_owner = (_run, here.process_id())
        self._sk_family = family
        self._sk_type = kind & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)
        self._sk_proto = proto
        if kind & SOCK_NONBLOCK:
            self._sk_timeout = 0
        else:
            self._sk_timeout = _default_timeout
            if _default_timeout >= 0:
                here.sys.ioctl(fd, FIONBIO, 1)

    def __repr__(self) -> str:
        return f"<socket object, fd={self._sk_fd}, family={self._sk_family}, type={self._sk_type}, proto={self._sk_proto}>"

    def __del__(self) -> None:
        fd = self._sk_fd
        if fd < 0:
            return
        if self._sk_owner != (_run, here.process_id()) or here.dying():
            # The process that had it has ended, or sleeps and the number is another file's here; or its end closes all that it had.
            self._sk_fd = -1
            return
        try:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        finally:
            self._sk_fd = -1
            try:
                here.sys.close(fd)
            except OSError:
                pass

    @property
    def family(self) -> int:
        """The socket family."""
        return self._sk_family

    @property
    def type(self) -> int:
        """The socket type."""
        return self._sk_type

    @property
    def proto(self) -> int:
        """The socket protocol."""
        return self._sk_proto

    @property
    def timeout(self) -> float | None:
        """The socket timeout in seconds."""
        return None if self._sk_timeout < 0 else self._sk_timeout / NS

    # --- calls that may wait ---
    def _sk_wait(self, events: int, limit: int) -> bool:
        """Poll it for ``limit`` nanoseconds, negative without a limit; False at the timeout.  A closed one does not wait."""
        return self._sk_fd < 0 or bool(here.sys.poll([(self._sk_fd, events)], poll_ms(limit)))

    def _sk_ready(self, events: int, deadline: int | None) -> None:
        """Wait until a call can be tried.  TimeoutError when ``deadline`` (CLOCK_MONOTONIC, nanoseconds; None: never) has passed."""
        while True:
            limit = -1
            if deadline is not None:
                limit = deadline - here.clock_gettime_ns(CLOCK_MONOTONIC)
                if limit < 0:
                    raise TimeoutError("timed out")
            try:
                if self._sk_wait(events, limit):
                    return
            except InterruptedError:
                world.check_signals()
                continue
            raise TimeoutError("timed out")

    def _sk_call(self, events: int, call: Callable[[], Any], limit: int) -> Any:
        """sock_call_ex: make a system call, after waiting for it if there is a timeout, and again after a signal."""
        deadline = here.clock_gettime_ns(CLOCK_MONOTONIC) + limit if limit > 0 else None
        while True:
            if deadline is not None:
                self._sk_ready(events, deadline)
            try:
                return call()
            except InterruptedError:
                world.check_signals()
            except BlockingIOError:
                # Poll was wrong: someone else took it.
                if deadline is None:
                    raise

    # --- connections ---
    def _accept(self) -> tuple[int, Any]:
        """_accept() -> (integer, address info)"""
        if self._sk_timeout > 0:
            new, addr = self._sk_call(POLLIN, lambda: here.sys.accept4(self._sk_fd, SOCK_CLOEXEC), self._sk_timeout)
            return new, addr
        while True:
            try:
                return here.sys.accept4(self._sk_fd, SOCK_CLOEXEC)
            except InterruptedError:
                world.check_signals()

    def bind(self, address: Any, /) -> None:
        """bind(address)"""
        here.sys.bind(self._sk_fd, sockaddr(world.hosts, self._sk_family, address, "bind"))

    def close(self) -> None:
        """close(): Close the socket.  It cannot be used after this call."""
        fd = self._sk_fd
        if fd != -1:
            self._sk_fd = -1
            if self._sk_owner[0] != _run:
                # A finalizer of another run: the number is someone else's.
                return
            try:
                here.sys.close(fd)
            except ConnectionResetError:
                pass

    def _sk_connect(self, addr: Address) -> None:
        """internal_connect: a connection that is under way is waited for, if the socket is not a non-blocking one."""
        try:
            here.sys.connect(self._sk_fd, addr)
            return
        except InterruptedError:
            # It goes on without us.
            world.check_signals()
            if self._sk_timeout == 0:
                raise
        except BlockingIOError as busy:
            if self._sk_timeout <= 0 or busy.errno != errno.EINPROGRESS:
                raise
        limit = self._sk_timeout
        self._sk_ready(POLLOUT | POLLERR, here.clock_gettime_ns(CLOCK_MONOTONIC) + limit if limit > 0 else None)
        code = int(here.sys.getsockopt(self._sk_fd, SOL_SOCKET, SO_ERROR))
        if code not in (0, errno.EISCONN):
            raise oserror(code)

    def connect(self, address: Any, /) -> None:
        """connect(address)"""
        self._sk_connect(sockaddr(world.hosts, self._sk_family, address, "connect"))

    def connect_ex(self, address: Any, /) -> int:
        """connect_ex(address) -> errno"""
        addr = sockaddr(world.hosts, self._sk_family, address, "connect_ex")
        try:
            self._sk_connect(addr)
        except OSError as failed:
            # A timeout of ours has no number.
            return failed.errno or errno.EWOULDBLOCK
        return 0

    def detach(self) -> int:
        """detach(): Close the socket object without closing the underlying file descriptor, which is returned."""
        fd, self._sk_fd = self._sk_fd, -1
        return fd

    def fileno(self) -> int:
        """fileno() -> integer"""
        return self._sk_fd

    def getpeername(self) -> Any:
        """getpeername() -> address info"""
        return here.sys.getpeername(self._sk_fd)

    def getsockname(self) -> Any:
        """getsockname() -> address info"""
        return here.sys.getsockname(self._sk_fd)

    def listen(self, backlog: int = DEFAULT_BACKLOG, /) -> None:
        """listen([backlog])"""
        here.sys.listen(self._sk_fd, max(c_int(backlog), 0))

    def shutdown(self, how: int, /) -> None:
        """shutdown(flag)"""
        here.sys.shutdown(self._sk_fd, c_int(how))

    # --- options ---
    def getsockopt(self, level: int, option: int, buflen: int = 0, /) -> int | bytes:
        """getsockopt(level, option[, buffersize]) -> value"""
        level, option, buflen = c_int(level), c_int(option), c_int(buflen)
        if not 0 <= buflen <= OPTION_MAX:
            raise OSError("getsockopt buflen out of range")
        return here.sys.getsockopt(self._sk_fd, level, option, buflen)

    def setsockopt(self, level: int, option: int, value: Any, optlen: int | None = None, /) -> None:
        """setsockopt(level, option, value: int)
        setsockopt(level, option, value: buffer)
        setsockopt(level, option, None, optlen: int)
        """
        level, option = c_int(level), c_int(option)
        if optlen is not None:
            if value is not None:
                raise TypeError(f"socket.setsockopt() argument 3 must be None, not {type(value).__name__}")
            self._sk_null_option(level, option, c_long(optlen) & 0xFFFFFFFF)
        elif hasattr(value, "__index__"):
            try:
                number = c_int(value)
            except OverflowError:
                raise TypeError("a bytes-like object is required, not 'int'") from None
            here.sys.setsockopt(self._sk_fd, level, option, number)
        else:
            here.sys.setsockopt(self._sk_fd, level, option, contents(value))

    def _sk_null_option(self, level: int, option: int, optlen: int) -> None:
        """A null pointer and a length, which are for AF_ALG: other sockets look at what it points at, unless it is nothing of a name."""
        if level == SOL_SOCKET and option == SO_BINDTODEVICE and not optlen:
            here.sys.setsockopt(self._sk_fd, level, option, b"")
            return
        here.sys.getsockopt(self._sk_fd, SOL_SOCKET, SO_TYPE)
        raise oserror(errno.EINVAL if optlen < 4 and level == SOL_SOCKET else errno.EFAULT)

    def setblocking(self, flag: Any, /) -> None:
        """setblocking(flag)"""
        blocking = bool(flag) if sys.version_info >= (3, 12) else c_long(flag) != 0
        self._sk_timeout = -1 if blocking else 0
        here.sys.ioctl(self._sk_fd, FIONBIO, 0 if blocking else 1)

    def getblocking(self) -> bool:
        """getblocking()"""
        return self._sk_timeout != 0

    def settimeout(self, value: Any, /) -> None:
        """settimeout(timeout)"""
        limit = seconds_ns(value)
        self._sk_timeout = limit
        here.sys.ioctl(self._sk_fd, FIONBIO, 0 if limit < 0 else 1)

    def gettimeout(self) -> float | None:
        """gettimeout() -> timeout"""
        return None if self._sk_timeout < 0 else self._sk_timeout / NS

    # --- receiving ---
    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """recv(buffersize[, flags]) -> data"""
        if type(bufsize) is not int or not 0 < bufsize <= SSIZE_MAX:
            bufsize = c_ssize(bufsize)
            if bufsize < 0:
                raise ValueError("negative buffersize in recv")
            if not bufsize:
                c_int(flags)
                return b""
        if flags:
            flags = c_int(flags)
        if self._sk_timeout > 0:
            data: bytes = self._sk_call(POLLIN, lambda: here.sys.recv(self._sk_fd, bufsize, flags), self._sk_timeout)
            return data
        while True:
            try:
                return here.sys.recv(self._sk_fd, bufsize, flags)
            except InterruptedError:
                world.check_signals()

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """recv_into(buffer, [nbytes[, flags]]) -> nbytes_read"""
        view: Any = buffer
        if type(buffer) is not bytearray and not (type(buffer) is memoryview and plain(buffer)):
            view = writable(buffer, f"recv_into() argument 1 must be read-write bytes-like object, not {type(buffer).__name__}")
        size = len(view)
        if nbytes:
            nbytes = c_ssize(nbytes)
            if nbytes < 0:
                raise ValueError("negative buffersize in recv_into")
            if nbytes > size:
                raise ValueError("buffer too small for requested bytes")
            size = nbytes
        # Not the method of a subclass.
        data = socket.recv(self, size, flags)
        view[: len(data)] = data
        return len(data)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """recvfrom(buffersize[, flags]) -> (data, address info)"""
        bufsize = c_ssize(bufsize)
        if flags:
            flags = c_int(flags)
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        return self._sk_recvfrom(bufsize, flags)

    def _sk_recvfrom(self, bufsize: int, flags: int) -> tuple[bytes, Any]:
        if self._sk_timeout > 0:
            data, addr = self._sk_call(POLLIN, lambda: here.sys.recvfrom(self._sk_fd, bufsize, flags), self._sk_timeout)
            return data, addr or None
        while True:
            try:
                data, addr = here.sys.recvfrom(self._sk_fd, bufsize, flags)
            except InterruptedError:
                world.check_signals()
            else:
                # What came without an address has none.
                return data, addr or None

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """recvfrom_into(buffer[, nbytes[, flags]]) -> (nbytes, address info)"""
        view = writable(buffer, f"recvfrom_into() argument 1 must be read-write bytes-like object, not {type(buffer).__name__}")
        nbytes, flags = c_ssize(nbytes), c_int(flags)
        if nbytes < 0:
            raise ValueError("negative buffersize in recvfrom_into")
        if nbytes > len(view):
            raise ValueError("nbytes is greater than the length of the buffer")
        data, addr = self._sk_recvfrom(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), addr

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """recvmsg(bufsize[, ancbufsize[, flags]]) -> (data, ancdata, msg_flags, address)"""
        bufsize, ancbufsize, flags = c_ssize(bufsize), c_ssize(ancbufsize), c_int(flags)
        if bufsize < 0:
            raise ValueError("negative buffer size in recvmsg()")
        return self._sk_recvmsg(bufsize, ancbufsize, flags)

    def _sk_recvmsg(self, bufsize: int, ancbufsize: int, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        if not 0 <= ancbufsize <= 0x7FFFFFFF:
            raise ValueError("invalid ancillary data buffer length")
        data, ancdata, msg_flags, addr = self._sk_call(
            POLLIN, lambda: here.sys.recvmsg(self._sk_fd, bufsize, ancbufsize, flags), self._sk_timeout
        )
        return data, ancdata, msg_flags, addr or None

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        """recvmsg_into(buffers[, ancbufsize[, flags]]) -> (nbytes, ancdata, msg_flags, address)"""
        ancbufsize, flags = c_ssize(ancbufsize), c_int(flags)
        try:
            items = list(buffers)
        except TypeError:
            raise TypeError("recvmsg_into() argument 1 must be an iterable") from None
        views = [writable(item, "recvmsg_into() argument 1 must be an iterable of single-segment read-write buffers") for item in items]
        data, ancdata, msg_flags, addr = self._sk_recvmsg(sum(map(len, views)), ancbufsize, flags)
        start = 0
        for view in views:
            part = data[start : start + len(view)]
            view[: len(part)] = part
            start += len(part)
        return len(data), ancdata, msg_flags, addr

    # --- sending ---
    def send(self, data: Any, flags: int = 0, /) -> int:
        """send(data[, flags]) -> count"""
        if type(data) not in PLAIN:
            data = contents(data)
        if flags:
            flags = c_int(flags)
        if self._sk_timeout > 0:
            sent: int = self._sk_call(POLLOUT, lambda: here.sys.send(self._sk_fd, data, flags), self._sk_timeout)
            return sent
        while True:
            try:
                return here.sys.send(self._sk_fd, data, flags)
            except InterruptedError:
                world.check_signals()

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """sendall(data[, flags])"""
        rest = data if type(data) is bytes else contents(data)
        if flags:
            flags = c_int(flags)
        limit = self._sk_timeout
        if limit <= 0:
            self._sk_sendall(rest, flags)
            return
        deadline = here.clock_gettime_ns(CLOCK_MONOTONIC) + limit
        while True:
            limit = deadline - here.clock_gettime_ns(CLOCK_MONOTONIC)
            if limit <= 0:
                raise TimeoutError("timed out")
            piece = rest
            n: int = self._sk_call(POLLOUT, lambda: here.sys.send(self._sk_fd, piece, flags), limit)  # noqa: B023
            # A send that a signal cut short succeeds.
            world.check_signals()
            if n >= len(rest):
                return
            rest = rest[n:]

    def _sk_sendall(self, rest: bytes, flags: int) -> None:
        """Send everything, waiting in the calls themselves."""
        while True:
            try:
                n = here.sys.send(self._sk_fd, rest, flags)
            except InterruptedError:
                world.check_signals()
                continue
            world.check_signals()
            if n >= len(rest):
                return
            rest = rest[n:]

    def sendto(self, data: Any, *args: Any) -> int:
        """sendto(data[, flags], address) -> count"""
        if len(args) not in (1, 2):
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args) + 1} given)")
        if type(data) not in PLAIN:
            data = contents(data)
        flags = c_int(args[0]) if len(args) == 2 else 0
        addr = sockaddr(world.hosts, self._sk_family, args[-1], "sendto")
        if self._sk_timeout > 0:
            sent: int = self._sk_call(POLLOUT, lambda: here.sys.sendto(self._sk_fd, data, flags, addr), self._sk_timeout)
            return sent
        while True:
            try:
                return here.sys.sendto(self._sk_fd, data, flags, addr)
            except InterruptedError:
                world.check_signals()

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """sendmsg(buffers[, ancdata[, flags[, address]]]) -> count"""
        flags = c_int(flags)
        addr = None if address is None else sockaddr(world.hosts, self._sk_family, address, "sendmsg")
        parts = buffers_of(buffers)
        control = cmsgs_of(ancdata) if ancdata != () else ()
        if self._sk_timeout > 0:
            sent: int = self._sk_call(POLLOUT, lambda: here.sys.sendmsg(self._sk_fd, parts, control, flags, addr), self._sk_timeout)
            return sent
        while True:
            try:
                return here.sys.sendmsg(self._sk_fd, parts, control, flags, addr)
            except InterruptedError:
                world.check_signals()

    def sendmsg_afalg(self, *args: Any, **kwargs: Any) -> int:
        """sendmsg_afalg([msg], *, op[, iv[, assoclen[, flags=MSG_MORE]]])"""
        raise OSError("algset is only supported for AF_ALG")


SocketType = socket


# --- functions on file descriptors ---
def socketpair(family: int = AF_UNIX, type: int = real.SOCK_STREAM, proto: int = 0, /) -> tuple[socket, socket]:
    """socketpair([family[, type [, proto]]]) -> (socket object, socket object)"""
    family, kind, proto = c_int(family), c_int(type), c_int(proto)
    pair: list[socket] = []
    for fd in here.sys.socketpair(family, kind | SOCK_CLOEXEC, proto):
        made: socket = socket.__new__(socket)
        made._sk_fd = fd
        made._sk_owner = (_run, here.process_id())
        made._sk_family, made._sk_proto = family, proto
        made._sk_type = kind & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)
        made._sk_timeout = 0 if kind & SOCK_NONBLOCK else _default_timeout
        if made._sk_timeout >= 0 and not kind & SOCK_NONBLOCK:
            here.sys.ioctl(fd, FIONBIO, 1)
        pair.append(made)
    return pair[0], pair[1]


def close(fd: int, /) -> None:
    """close(integer) -> None"""
    try:
        here.sys.close(c_int(fd))
    except ConnectionResetError:
        pass


def dup(fd: int, /) -> int:
    """dup(integer) -> integer"""
    return here.sys.fcntl(c_int(fd), F_DUPFD_CLOEXEC, 0)


def getdefaulttimeout() -> float | None:
    """getdefaulttimeout() -> timeout"""
    return None if _default_timeout < 0 else _default_timeout / NS


def setdefaulttimeout(timeout: Any, /) -> None:
    """setdefaulttimeout(timeout)"""
    global _default_timeout
    _default_timeout = seconds_ns(timeout)


# --- names ---
def _host_arg(host: Any, function: str) -> str:
    """A host name of format "et", encoded as idna."""
    if isinstance(host, str):
        text: str = host if host.isascii() else host.encode("idna").decode("ascii")
        if "\0" in text:
            raise TypeError(f"{function}() argument 1 must be encoded string without null bytes, not str")
        return text
    if isinstance(host, (bytes, bytearray)):
        if 0 in host:
            raise TypeError(f"{function}() argument 1 must be encoded string without null bytes, not {type(host).__name__}")
        return host.decode("latin-1")
    raise TypeError(f"{function}() argument 1 must be str, bytes or bytearray, not {type(host).__name__}")


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[AddrInfo]:
    """getaddrinfo(host, port [, family, type, proto, flags]) -> list of (family, type, proto, canonname, sockaddr)"""
    family, kind, proto, flags = c_int(family), c_int(type), c_int(proto), c_int(flags)
    name: str | None
    if host is None:
        name = None
    elif isinstance(host, str):
        # C's string ends at a zero byte.
        name = host.encode("idna").decode("ascii").partition("\0")[0] or host[:0]
    elif isinstance(host, bytes):
        name = host.decode("latin-1").partition("\0")[0]
    else:
        raise TypeError("getaddrinfo() argument 1 must be string or None")
    service: str | None
    if port is None:
        service = None
    elif hasattr(port, "__index__"):
        service = str(operator.index(port) if sys.version_info >= (3, 12) else c_long(port))
    elif isinstance(port, str):
        service = port.encode().partition(b"\0")[0].decode()
    elif isinstance(port, bytes):
        service = port.decode("latin-1").partition("\0")[0]
    else:
        raise OSError("Int or String expected")
    return resolve(world.hosts, name, service, family, kind, proto, flags)


def getnameinfo(sockaddr: Any, flags: int, /) -> tuple[str, str]:
    """getnameinfo(sockaddr, flags) --> (host, port)"""
    flags = c_int(flags)
    if not isinstance(sockaddr, tuple):
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    if not 2 <= len(sockaddr) <= 4 or not isinstance(sockaddr[0], str):
        raise TypeError("getnameinfo(): illegal sockaddr argument")
    host = sockaddr[0]
    port = c_int(sockaddr[1])
    flowinfo, scope = (operator.index(value) & 0xFFFFFFFF for value in (*sockaddr[2:], 0, 0)[:2])
    if flowinfo > 0xFFFFF:
        raise OverflowError("getnameinfo(): flowinfo must be 0-1048575.")
    found = resolve(world.hosts, host, str(port), 0, SOCK_DGRAM, 0, AI_NUMERICHOST)
    if len(found) > 1:
        raise OSError("sockaddr resolved to multiple addresses")
    if found[0][0] == AF_INET and len(sockaddr) != 2:
        raise OSError("IPv4 sockaddr must be 2 tuple")
    addr = found[0][4]
    return reverse(world.hosts, addr[0], addr[1], scope if found[0][0] == AF_INET6 else 0, flags)


def gethostbyname(hostname: Any, /) -> str:
    """gethostbyname(host) -> address"""
    return set_ip_addr(world.hosts, _host_arg(hostname, "gethostbyname"), AF_INET)[1]


def gethostbyname_ex(hostname: Any, /) -> tuple[str, list[str], list[str]]:
    """gethostbyname_ex(host) -> (name, aliaslist, addresslist)"""
    name = _host_arg(hostname, "gethostbyname_ex")
    _, addr, _ = set_ip_addr(world.hosts, name, AF_INET)
    lines = world.hosts.lookup(name, AF_INET)
    if not lines:
        return name, [], [addr]
    names = world.hosts.names_of(lines[0][1])
    canonical = lines[0][2]
    return canonical, [alias for alias in names if alias != canonical], [addr for _, addr, _ in lines]


def gethostbyaddr(ip_address: Any, /) -> tuple[str, list[str], list[str]]:
    """gethostbyaddr(host) -> (name, aliaslist, addresslist)"""
    _, addr, _ = set_ip_addr(world.hosts, _host_arg(ip_address, "gethostbyaddr"), 0)
    names = world.hosts.names_of(addr)
    if not names:
        raise herror(1, "Unknown host")
    return names[0], list(names[1:]), [addr]


def gethostname() -> str:
    """gethostname() -> string"""
    return world.hosts.name


def sethostname(name: Any, /) -> None:
    """sethostname(name): the programs of a machine are not its administrator."""
    if not isinstance(name, bytes):
        os.fsencode(name)
    raise oserror(errno.EPERM)


def getservbyname(servicename: Any, protocolname: Any = None, /) -> int:
    """getservbyname(servicename[, protocolname]) -> integer"""
    for i, value in enumerate((servicename, protocolname), 1):
        if not isinstance(value, str) and not (i == 2 and value is None):
            raise TypeError(f"getservbyname() argument {i} must be str, not {type(value).__name__}")
    port = service_port(servicename, protocolname)
    if port is None:
        raise OSError("service/proto not found")
    return port


def getservbyport(port: Any, protocolname: Any = None, /) -> str:
    """getservbyport(port[, protocolname]) -> string"""
    port = c_int(port)
    if not isinstance(protocolname, str) and protocolname is not None:
        raise TypeError(f"getservbyport() argument 2 must be str, not {type(protocolname).__name__}")
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("getservbyport: port must be 0-65535.")
    name = service_name(port, protocolname)
    if name is None:
        raise OSError("port/proto not found")
    return name


def getprotobyname(protocolname: Any, /) -> int:
    """getprotobyname(name) -> integer"""
    if not isinstance(protocolname, str):
        raise TypeError(f"getprotobyname() argument 1 must be str, not {type(protocolname).__name__}")
    number = protocol_number(protocolname)
    if number is None:
        raise OSError("protocol not found")
    return number


# --- interfaces: a machine has lo ---
def if_nameindex() -> list[tuple[int, str]]:
    """if_nameindex() -> list of (index, name)"""
    return [(1, "lo")]


def if_nametoindex(name: Any, /) -> int:
    """if_nametoindex(if_name) -> index"""
    if os.fsencode(name) != b"lo":
        raise OSError("no interface with this name")
    return 1


def if_indextoname(index: Any, /) -> str:
    """if_indextoname(if_index) -> name"""
    if not hasattr(index, "__index__"):
        raise TypeError("an integer is required")
    number = operator.index(index)
    if number < 0:
        raise OverflowError("can't convert negative value to unsigned int")
    if number > 2**64 - 1:
        raise OverflowError("Python int too large to convert to C unsigned long")
    if number != 1:
        raise oserror(errno.ENXIO)
    return "lo"


__all__ = [name for name in dir(real) if not name.startswith("_") and name != "CAPI"]
