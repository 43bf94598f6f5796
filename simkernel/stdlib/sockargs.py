"""Arguments of socket methods, checked as CPython checks them: the same exceptions with the same texts."""

import math
import operator
from typing import Any, Final

from simkernel.api import Address, Cmsg
from simkernel.stdlib.hosts import AF_INET, AF_INET6, Hosts
from simkernel.stdlib.resolve import AI_PASSIVE, SOCK_DGRAM, getaddrinfo, numeric

AF_UNIX: Final = 1
INT_MAX: Final = 2**31 - 1
INT_MIN: Final = -(2**31)
UINT_MAX: Final = 2**32 - 1
SSIZE_MAX: Final = 2**63 - 1
SSIZE_MIN: Final = -(2**63)
SUN_PATH: Final = 108
NS: Final = 10**9


def c_long(value: Any) -> int:
    """An int that fits a C long."""
    number = operator.index(value)
    if not SSIZE_MIN <= number <= SSIZE_MAX:
        raise OverflowError("Python int too large to convert to C long")
    return number


def c_int(value: Any) -> int:
    """An argument of format "i"."""
    if type(value) is int and INT_MIN <= value <= INT_MAX:
        return value
    number = c_long(value)
    if number > INT_MAX:
        raise OverflowError("signed integer is greater than maximum")
    if number < INT_MIN:
        raise OverflowError("signed integer is less than minimum")
    return number


def c_ssize(value: Any) -> int:
    """An argument of format "n"."""
    number = operator.index(value)
    if not SSIZE_MIN <= number <= SSIZE_MAX:
        raise OverflowError("Python int too large to convert to C ssize_t")
    return number


def contents(data: Any) -> bytes:
    """The bytes of an argument of format "y*"."""
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not '{type(data).__name__}'") from None
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return view.tobytes()


def writable(buffer: Any, text: str) -> memoryview:
    """The bytes of an argument of format "w*", to be written to.  ``text`` is TypeError's."""
    try:
        view = memoryview(buffer)
    except TypeError:
        raise TypeError(text) from None
    if view.readonly or not view.c_contiguous:
        raise TypeError(text)
    # Nothing can be cast that has a dimension of 0.
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def plain(view: memoryview) -> bool:
    """Whether a memoryview is one of bytes, to be written to as it is."""
    return not view.readonly and view.c_contiguous and view.ndim == 1 and view.format == "B"


def seconds_ns(value: Any) -> int:
    """A timeout in nanoseconds, rounded away from zero; None is -1, without a limit."""
    if value is None:
        return -1
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("Invalid value NaN (not a number)")
        exact = value * NS if math.isfinite(value) else value
        if not SSIZE_MIN <= exact < -float(SSIZE_MIN):
            raise OverflowError("timestamp out of range for platform time_t")
        ns = math.ceil(exact) if exact >= 0 else math.floor(exact)
    else:
        seconds = operator.index(value)
        if not SSIZE_MIN <= seconds <= SSIZE_MAX or not SSIZE_MIN <= seconds * NS <= SSIZE_MAX:
            raise OverflowError("timestamp too large to convert to C _PyTime_t")
        ns = seconds * NS
    if ns < 0:
        raise ValueError("Timeout value out of range")
    return ns


def poll_ms(ns: int) -> int:
    """Nanoseconds as milliseconds for poll(2), rounded up; negative is without a limit."""
    return -1 if ns < 0 else min(-(-ns // 1_000_000), INT_MAX)


# --- addresses ---
def host_text(host: Any) -> str:
    """A host name of an address: international names are encoded."""
    if isinstance(host, str):
        if not host.isascii():
            try:
                host = host.encode("idna").decode("ascii")
            except UnicodeError:
                raise TypeError("encoding of hostname failed") from None
        text: str = host
    elif isinstance(host, (bytes, bytearray)):
        text = host.decode("latin-1")
    else:
        raise TypeError(f"str, bytes or bytearray expected, not {type(host).__name__}")
    if "\0" in text:
        raise TypeError("host name must not contain null character")
    return text


def set_ip_addr(hosts: Hosts, name: str, family: int) -> tuple[int, str, int]:
    """The (family, numeric address, scope) of a host: setipaddr of CPython's socketmodule.c."""
    if not name:
        found = getaddrinfo(hosts, None, "0", family, SOCK_DGRAM, 0, AI_PASSIVE)
        if len(found) > 1:
            raise OSError("wildcard resolved to multiple address")
    elif name in ("255.255.255.255", "<broadcast>"):
        if family not in (AF_INET, 0):
            raise OSError("address family mismatched")
        return AF_INET, "255.255.255.255", 0
    else:
        known = numeric(name)
        if known is not None and family in (0, known[0]):
            return known
        found = getaddrinfo(hosts, name, None, family, 0, 0, 0)
    addr = found[0][4]
    return found[0][0], addr[0], addr[3] if len(addr) == 4 else 0


def sockaddr(hosts: Hosts, family: int, addr: Any, caller: str) -> Address:
    """An address argument for a socket of ``family``, numeric: getsockaddrarg."""
    if family == AF_INET:
        if not isinstance(addr, tuple):
            raise TypeError(f"{caller}(): AF_INET address must be tuple, not {type(addr).__name__}")
        if len(addr) != 2:
            raise TypeError("AF_INET address must be a pair (host, port)")
        host, port = addr
        if host != "127.0.0.1":
            name = host_text(host)
            port = port_number(port, caller)
            host = set_ip_addr(hosts, name, AF_INET)[1]
        else:
            port = port_number(port, caller)
        if not 0 <= port <= 0xFFFF:
            raise OverflowError(f"{caller}(): port must be 0-65535.")
        return host, port
    if family == AF_INET6:
        return _sockaddr_in6(hosts, addr, caller)
    if family == AF_UNIX:
        return sockaddr_un(addr)
    raise OSError(f"{caller}(): bad family")


def port_number(port: Any, caller: str) -> int:
    """A port, which must be a C int."""
    try:
        return c_int(port)
    except OverflowError:
        raise OverflowError(f"{caller}(): port must be 0-65535.") from None


def _sockaddr_in6(hosts: Hosts, addr: Any, caller: str) -> Address:
    if not isinstance(addr, tuple):
        raise TypeError(f"{caller}(): AF_INET6 address must be tuple, not {type(addr).__name__}")
    if not 2 <= len(addr) <= 4:
        raise TypeError("AF_INET6 address must be a tuple (host, port[, flowinfo[, scopeid]])")
    name = host_text(addr[0])
    port = port_number(addr[1], caller)
    # Format "I" takes any number, and the low 32 bits of it.
    flowinfo, scope = (operator.index(value) & UINT_MAX for value in (*addr[2:], 0, 0)[:2])
    _, host, _ = set_ip_addr(hosts, name, AF_INET6)
    if not 0 <= port <= 0xFFFF:
        raise OverflowError(f"{caller}(): port must be 0-65535.")
    if flowinfo > 0xFFFFF:
        raise OverflowError(f"{caller}(): flowinfo must be 0-1048575.")
    return host, port, flowinfo, scope


def sockaddr_un(addr: Any) -> bytes:
    """sun_path of an AF_UNIX address: a path ends at its first zero byte, an abstract name begins with one."""
    path = addr.encode("utf-8", "surrogateescape") if isinstance(addr, str) else contents(addr)
    if len(path) > SUN_PATH or (len(path) == SUN_PATH and path[0]):
        raise OSError("AF_UNIX path too long")
    return path if not path or not path[0] else path.partition(b"\0")[0]


# --- messages ---
def buffers_of(buffers: Any) -> list[bytes]:
    """The first argument of sendmsg."""
    try:
        parts = list(buffers)
    except TypeError:
        raise TypeError("sendmsg() argument 1 must be an iterable") from None
    return [part if type(part) is bytes else contents(part) for part in parts]


def cmsgs_of(ancdata: Any) -> list[Cmsg]:
    """The control messages of sendmsg."""
    try:
        items = list(ancdata)
    except TypeError:
        raise TypeError("sendmsg() argument 2 must be an iterable") from None
    found: list[Cmsg] = []
    for item in items:
        if not isinstance(item, (tuple, list)):
            raise TypeError(f"[sendmsg() ancillary data items]() argument must be 3-item sequence, not {type(item).__name__}")
        if len(item) != 3:
            raise TypeError(f"[sendmsg() ancillary data items]() argument must be sequence of length 3, not {len(item)}")
        level, kind, data = item
        found.append((c_int(level), c_int(kind), contents(data)))
    return found
