"""getaddrinfo(3) and getnameinfo(3) as glibc has them, over a table of hosts (hosts.py)."""

import _socket
from typing import Final, TypeAlias

from simkernel.stdlib.hosts import AF_INET, AF_INET6, Hosts, service_name, service_port

AF_UNSPEC: Final = 0
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_RAW: Final = 3
SOCK_DCCP: Final = 6
SOCK_SEQPACKET: Final = 5

AI_PASSIVE: Final = 0x0001
AI_CANONNAME: Final = 0x0002
AI_NUMERICHOST: Final = 0x0004
AI_V4MAPPED: Final = 0x0008
AI_ALL: Final = 0x0010
AI_ADDRCONFIG: Final = 0x0020
AI_NUMERICSERV: Final = 0x0400
# Also those of international names (AI_IDN, ...), which Python has encoded already.
AI_KNOWN: Final = 0x07FF

NI_NUMERICHOST: Final = 1
NI_NUMERICSERV: Final = 2
NI_NAMEREQD: Final = 8
NI_DGRAM: Final = 16
NI_KNOWN: Final = 0xFF

EAI_BADFLAGS: Final = -1
EAI_NONAME: Final = -2
EAI_FAMILY: Final = -6
EAI_SOCKTYPE: Final = -7
EAI_SERVICE: Final = -8
EAI_ADDRFAMILY: Final = -9
# gai_strerror(3).
EAI_TEXTS: Final = {
    EAI_BADFLAGS: "Bad value for ai_flags",
    EAI_NONAME: "Name or service not known",
    EAI_FAMILY: "ai_family not supported",
    EAI_SOCKTYPE: "ai_socktype not supported",
    EAI_SERVICE: "Servname not supported for ai_socktype",
    EAI_ADDRFAMILY: "Address family for hostname not supported",
}

# (type, protocol, its name in the table of services, whether it is taken when nothing was asked for); a raw socket has no services, and any
# protocol.
KINDS: Final = (
    (SOCK_STREAM, 6, "tcp", True),
    (SOCK_DGRAM, 17, "udp", True),
    (SOCK_DCCP, 33, "dccp", False),
    (SOCK_DGRAM, 136, "udplite", False),
    (SOCK_STREAM, 132, "sctp", False),
    (SOCK_SEQPACKET, 132, "sctp", False),
    (SOCK_RAW, 0, "raw", True),
)

SockAddr: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
AddrInfo: TypeAlias = tuple[int, int, int, str, SockAddr]
# (family, address, scope)
Found: TypeAlias = tuple[int, str, int]


def gai_error(code: int) -> _socket.gaierror:
    """The gaierror of one of the EAI_* numbers."""
    return _socket.gaierror(code, EAI_TEXTS[code])


def getaddrinfo(hosts: Hosts, host: str | None, service: str | None, family: int, type: int, protocol: int, flags: int) -> list[AddrInfo]:
    """(family, type, protocol, canonical name, address) of each answer.  gaierror as glibc gives it."""
    host = None if host == "*" else host
    service = None if service == "*" else service
    if host is None and service is None:
        raise gai_error(EAI_NONAME)
    if flags & ~AI_KNOWN or (flags & AI_CANONNAME and host is None):
        raise gai_error(EAI_BADFLAGS)
    if family not in (AF_UNSPEC, AF_INET, AF_INET6):
        raise gai_error(EAI_FAMILY)
    port = None if service is None else number(service)
    if service is not None and port is None and flags & AI_NUMERICSERV:
        raise gai_error(EAI_NONAME)
    kinds = _kinds(service, port, type, protocol)
    canonical, found = _addresses(hosts, host, family, flags)
    found = sorted((addr for addr in found if family in (AF_UNSPEC, addr[0])), key=lambda addr: _precedence(addr[1]))
    answers: list[AddrInfo] = []
    for kind, addr, scope in found:
        for socktype, proto, number_ in kinds:
            name = canonical if flags & AI_CANONNAME and not answers else ""
            answers.append((kind, socktype, proto, name, (addr, number_) if kind == AF_INET else (addr, number_, 0, scope)))
    return answers


def number(text: str) -> int | None:
    """A whole number as strtoul(3) reads it, then taken for a C int: blanks and a sign before it are allowed.  None if it is negative."""
    digits = text.lstrip(" \t\n\v\f\r")
    if not digits:
        return 0 if not text else None
    sign = digits[0] if digits[0] in "+-" else ""
    digits = digits.removeprefix(sign)
    if not (digits.isascii() and digits.isdigit()) or sign == "-":
        return None
    low = min(int(digits), 2**64 - 1) & 0xFFFFFFFF
    return low if low < 2**31 else None


def _kinds(service: str | None, port: int | None, type: int, protocol: int) -> list[tuple[int, int, int]]:
    """(type, protocol, port) of each kind of socket that was asked for."""
    if not type and not protocol:
        if service is None or port is not None:
            return [(kind, proto, (port or 0) & 0xFFFF) for kind, proto, _, usual in KINDS if usual]
        asked = [(kind, proto, name) for kind, proto, name, _ in KINDS if name != "raw"]
    else:
        match = next(((kind, proto, name) for kind, proto, name, _ in KINDS if _suits(kind, proto, type, protocol)), None)
        if match is None:
            raise gai_error(EAI_SOCKTYPE if type else EAI_SERVICE)
        if service is not None and match[2] == "raw":
            raise gai_error(EAI_SERVICE)
        if service is None or port is not None:
            return [(match[0], protocol if match[2] == "raw" else match[1], (port or 0) & 0xFFFF)]
        asked = [(kind, proto, name) for kind, proto, name, _ in KINDS if name != "raw" and _suits(kind, proto, type, protocol)]
    found = [(kind, proto, port) for kind, proto, name in asked if (port := service_port(service, name)) is not None]
    if not found:
        raise gai_error(EAI_SERVICE)
    return found


def _suits(kind: int, proto: int, type: int, protocol: int) -> bool:
    return type in (0, kind) and (protocol in (0, proto) or kind == SOCK_RAW)


def _addresses(hosts: Hosts, host: str | None, family: int, flags: int) -> tuple[str, list[Found]]:
    """The canonical name, and the addresses of a host."""
    if host is None:
        inet, inet6 = ("0.0.0.0", "::") if flags & AI_PASSIVE else ("127.0.0.1", "::1")
        return "", [(AF_INET, inet, 0), (AF_INET6, inet6, 0)]
    addr = numeric(host)
    if addr is not None:
        if family == AF_INET6 and addr[0] == AF_INET and flags & AI_V4MAPPED:
            addr = (AF_INET6, f"::ffff:{addr[1]}", 0)
        if family not in (AF_UNSPEC, addr[0]):
            raise gai_error(EAI_ADDRFAMILY)
        return host, [addr]
    if flags & AI_NUMERICHOST:
        raise gai_error(EAI_NONAME)
    lines = hosts.lookup(host, family)
    found = [(kind, text, 0) for kind, text, _ in lines]
    if family == AF_INET6 and flags & AI_V4MAPPED and (not found or flags & AI_ALL):
        mapped = hosts.lookup(host, AF_INET)
        lines += mapped
        found += [(AF_INET6, f"::ffff:{text}", 0) for _, text, _ in mapped]
    if not found:
        raise gai_error(EAI_NONAME)
    return lines[0][2], found


def _precedence(addr: str) -> int:
    """The order of RFC 6724 on a machine whose only IPv6 address is ::1: that before IPv4, and what can't be reached last."""
    return 0 if addr in ("::1", "0.0.0.0") else 2 if ":" in addr and not addr.startswith("::ffff:") else 1


def numeric(host: str) -> Found | None:
    """A numeric address, IPv4 in any form that inet_aton(3) knows, IPv6 with a %scope; None for a name."""
    if host and host == host.rstrip():
        try:
            return AF_INET, _socket.inet_ntoa(_socket.inet_aton(host)), 0
        except (OSError, UnicodeError, ValueError):
            pass
    addr, percent, scope = host.partition("%")
    try:
        packed = _socket.inet_pton(AF_INET6, addr)
    except (OSError, UnicodeError, ValueError):
        return None
    if not percent:
        return AF_INET6, _socket.inet_ntop(AF_INET6, packed), 0
    # Names of interfaces are for addresses of a link; a number is for any.
    of_a_link = (packed[0] == 0xFE and packed[1] & 0xC0 == 0x80) or (packed[0] == 0xFF and packed[1] & 0x0F == 2)
    index = 1 if scope == "lo" and of_a_link else number(scope)
    return None if index is None else (AF_INET6, _socket.inet_ntop(AF_INET6, packed), index)


def getnameinfo(hosts: Hosts, addr: str, port: int, scope: int, flags: int) -> tuple[str, str]:
    """(host, service) of a numeric address.  gaierror as glibc gives it."""
    if flags & ~NI_KNOWN:
        raise gai_error(EAI_BADFLAGS)
    names = () if flags & NI_NUMERICHOST else hosts.names_of(addr)
    if not names and flags & NI_NAMEREQD:
        raise gai_error(EAI_NONAME)
    host = names[0] if names else addr if not scope else f"{addr}%{'lo' if scope == 1 else scope}"
    service = None if flags & NI_NUMERICSERV else service_name(port, "udp" if flags & NI_DGRAM else "tcp")
    return host, str(port) if service is None else service
