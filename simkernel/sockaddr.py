"""Socket addresses between Python's form and Linux's: shared by the fake kernel and by the binding to the real one."""

import socket
from collections.abc import Sequence
from typing import Final

from simkernel.api import Address

UNIX_PATH_MAX: Final = 108
FLOWINFO_MAX: Final = 0xFFFFF


def inet_addr(addr: object) -> tuple[str, int]:
    """Check an AF_INET address.  ``""`` is 0.0.0.0.

    TypeError unless it is (str, int); ValueError for a host that is not numeric; OverflowError for a port outside 0-65535.
    """
    if not isinstance(addr, tuple):
        raise TypeError(f"an AF_INET address must be a tuple (host, port), not {type(addr).__name__}")
    if len(addr) != 2:
        raise TypeError(f"an internet address must have two values (AF_INET) or four (AF_INET6), not {len(addr)}")
    host, port = addr
    if not isinstance(host, str):
        raise TypeError(f"the host of an AF_INET address must be a str, not {type(host).__name__}")
    if not isinstance(port, int):
        raise TypeError(f"the port of an AF_INET address must be an int, not {type(port).__name__}")
    if not 0 <= port <= 65535:
        raise OverflowError(f"port must be 0-65535, not {port}")
    if host == "127.0.0.1":
        return host, port
    if host == "":
        return "0.0.0.0", port
    parts: Sequence[str] = host.split(".")
    if len(parts) != 4 or not all(p.isascii() and p.isdigit() and len(p) <= 3 and int(p) <= 255 for p in parts):
        raise ValueError(f"host {host!r} is not a numeric IPv4 address; system calls take no names, use 127.0.0.1 for localhost")
    return ".".join(str(int(p)) for p in parts), port


def inet6_addr(addr: tuple[object, ...]) -> tuple[str, int, int, int]:
    """Check an AF_INET6 address, and write its host as inet_ntop(3) does.  ``""`` is ::.

    TypeError unless it is (str, int, int, int); ValueError for a host that is not numeric; OverflowError for a port outside 0-65535, a
    flowinfo outside 0-1048575 (20 bits) or a scope_id that is no 32-bit unsigned number.
    """
    host, port, flowinfo, scope_id = addr
    if not isinstance(host, str):
        raise TypeError(f"the host of an AF_INET6 address must be a str, not {type(host).__name__}")
    for name, value in (("port", port), ("flowinfo", flowinfo), ("scope_id", scope_id)):
        if not isinstance(value, int):
            raise TypeError(f"the {name} of an AF_INET6 address must be an int, not {type(value).__name__}")
    assert isinstance(port, int) and isinstance(flowinfo, int) and isinstance(scope_id, int)
    if not 0 <= port <= 65535:
        raise OverflowError(f"port must be 0-65535, not {port}")
    if not 0 <= flowinfo <= FLOWINFO_MAX:
        raise OverflowError(f"flowinfo must be 0-{FLOWINFO_MAX}, not {flowinfo}")
    if not 0 <= scope_id < 2**32:
        raise OverflowError(f"scope_id must be 0-{2**32 - 1}, not {scope_id}")
    if host == "":
        host = "::"
    elif host != "::1":
        host = inet6_text(inet6_bytes(host))
    return host, port, flowinfo, scope_id


def inet6_bytes(host: str) -> bytes:
    """The 16 bytes of a numeric IPv6 address; ValueError for anything else."""
    try:
        return socket.inet_pton(socket.AF_INET6, host)
    except (OSError, ValueError):
        raise ValueError(f"host {host!r} is not a numeric IPv6 address; system calls take no names, use ::1 for localhost") from None


def inet6_text(raw: bytes) -> str:
    """The address in 16 bytes, as inet_ntop(3) writes it."""
    return socket.inet_ntop(socket.AF_INET6, raw)


def unix_path(addr: object) -> bytes:
    """Check an AF_UNIX address and return sun_path: ``b""`` unnamed, a first zero byte for an abstract name.

    TypeError unless str or bytes; ValueError for a path with a zero byte inside; OSError(EINVAL)'s length check is the caller's.
    """
    if isinstance(addr, str):
        path = addr.encode("utf-8", "surrogateescape")
    elif isinstance(addr, (bytes, bytearray)):
        path = bytes(addr)
    else:
        raise TypeError(f"an AF_UNIX address must be str or bytes, not {type(addr).__name__}")
    if path and path[0] and b"\0" in path:
        raise ValueError("an AF_UNIX path must not contain a zero byte")
    if len(path) > UNIX_PATH_MAX or (len(path) == UNIX_PATH_MAX and path[0]):
        raise OverflowError(f"AF_UNIX path too long: {len(path)} bytes, at most {UNIX_PATH_MAX - 1}")
    return path


def path_name(path: object) -> bytes:
    """Check a file's path and return its bytes.  TypeError unless str or bytes; ValueError for a zero byte inside."""
    if isinstance(path, str):
        raw = path.encode("utf-8", "surrogateescape")
    elif isinstance(path, (bytes, bytearray)):
        raw = bytes(path)
    else:
        raise TypeError(f"a path must be str or bytes, not {type(path).__name__}")
    if b"\0" in raw:
        raise ValueError("a path must not contain a zero byte")
    return raw


def unix_name(path: bytes) -> Address:
    """sun_path as a program sees it: bytes for an abstract name, str for a path, ``""`` for unnamed."""
    if path and not path[0]:
        return path
    return path.decode("utf-8", "surrogateescape")
