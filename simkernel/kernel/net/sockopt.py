"""Socket options as tables (net/core/sock.c, sk_setsockopt and sk_getsockopt; net/ipv4/ip_sockglue.c).

Each entry says how an option is set and read, and whether it is `simulated` (it does here what it does in Linux) or `stored` (it is
checked, clamped, kept and read back as in Linux, and has no effect: a loopback peer always answers, routes and priorities do not
exist).  The other levels' tables are with their protocols; options.py lists them all, for documentation.

What Linux does not know is ENOPROTOOPT; what it knows and this kernel does not raises Unsupported.
"""

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from simkernel.errors import Unsupported, oserror
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    IP_BIND_ADDRESS_NO_PORT,
    IP_TOS,
    IP_TTL,
    IPPROTO_IP,
    NSEC_PER_SEC,
    SO_ACCEPTCONN,
    SO_BINDTODEVICE,
    SO_BROADCAST,
    SO_DEBUG,
    SO_DOMAIN,
    SO_DONTROUTE,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_OOBINLINE,
    SO_PASSCRED,
    SO_PEERCRED,
    SO_PRIORITY,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDLOWAT,
    SO_SNDTIMEO,
    SO_TYPE,
    SOCK_STREAM,
    SOL_SOCKET,
)

if TYPE_CHECKING:
    from simkernel.kernel.net.socket import Sock

SIMULATED: Final = "simulated"
STORED: Final = "stored"

SOCK_MIN_RCVBUF: Final = 2304
SOCK_MIN_SNDBUF: Final = 4608
INT_MAX: Final = 2**31 - 1
IP_DEFAULT_TTL: Final = 64
# A jiffy (CONFIG_HZ=250), which SO_RCVTIMEO and SO_SNDTIMEO are rounded up to, and the longest sleep there is.
HZ: Final = 250
JIFFY: Final = NSEC_PER_SEC // HZ
MAX_SCHEDULE_TIMEOUT: Final = 2**63 - 1
INET_ECN_MASK: Final = 3

# Numbers that mean nothing to Linux 6.18; there is nothing beyond the last either.
SO_UNKNOWN: Final = frozenset((0, 22, 23, 24, 54, 58, 78, 79, 81))
SO_LAST: Final = 84
IP_UNKNOWN: Final = frozenset((0, 27, 28, 29, 30, 31))
IP_LAST: Final = 52
# Those of the packet filter (iptables, arptables) and of multicast routing, which come from modules.
IP_NETFILTER: Final = frozenset((*range(64, 68), *range(80, 84), *range(96, 100), *range(200, 213)))


class Option:
    """One option: a C int, or a struct of ``size`` bytes.

    ``set`` and ``get`` work on a Sock and an int (bytes, for a struct); without ``set`` the option is read-only, which is ENOPROTOOPT.
    ``where`` says in words whom the option is for, ``""``: every socket.
    """

    __slots__ = ("get", "level", "name", "number", "set", "size", "tag", "where")

    def __init__(
        self,
        level: int,
        number: int,
        name: str,
        tag: str,
        get: Callable[[Any], Any],
        set: Callable[[Any, Any], None] | None = None,
        size: int = 4,
        where: str = "",
    ) -> None:
        self.level = level
        self.number = number
        self.name = name
        self.tag = tag
        self.get = get
        self.set = set
        self.size = size
        self.where = where


def stored(level: int, number: int, name: str, default: int, check: Callable[[int], int], where: str = "") -> Option:
    """An option that is a number of ``sk.stored``, as ``check`` makes it of what was given (or raises)."""
    key = (level, number)

    def read(sk: "Sock") -> int:
        return sk.stored.get(key, default) if sk.stored else default

    def write(sk: "Sock", val: int) -> None:
        store(sk, level, number, check(val))

    return Option(level, number, name, STORED, read, write, where=where)


def store(sk: "Sock", level: int, number: int, val: int) -> None:
    """Keep a number for getsockopt to read back."""
    if sk.stored is None:
        sk.stored = {}
    sk.stored[level, number] = val


def switch(val: int) -> int:
    """On or off: any number but 0 is on."""
    return int(val != 0)


def in_range(low: int, high: int) -> Callable[[int], int]:
    """A number from ``low`` to ``high``, else EINVAL."""

    def check(val: int) -> int:
        if not low <= val <= high:
            raise oserror(errno.EINVAL)
        return val

    return check


def int_option(value: int | bytes) -> int:
    """The C int that setsockopt was given; EINVAL if it was given less."""
    if isinstance(value, int):
        return value
    if len(value) < 4:
        raise oserror(errno.EINVAL)
    return int.from_bytes(value[:4], "little", signed=True)


def option_value(value: int | bytes, buflen: int) -> int | bytes:
    """An option as getsockopt gives it back: cut to ``buflen`` bytes, or with ``buflen`` 0 the C int it starts with."""
    if isinstance(value, int):
        return value.to_bytes(4, "little", signed=True)[:buflen] if buflen else value
    return value[:buflen] if buflen else int.from_bytes(value[:4], "little", signed=True)


# --- SOL_SOCKET ---
def set_reuseaddr(sk: "Sock", val: int) -> None:
    """SO_REUSEADDR."""
    sk.reuseaddr = switch(val)


def set_reuseport(sk: "Sock", val: int) -> None:
    """EOPNOTSUPP where there are no ports."""
    if val and sk.family not in (AF_INET, AF_INET6):
        raise oserror(errno.EOPNOTSUPP)
    sk.reuseport = switch(val)


def set_keepalive(sk: "Sock", val: int) -> None:
    """SO_KEEPALIVE."""
    sk.keepalive = switch(val)


def set_broadcast(sk: "Sock", val: int) -> None:
    """SO_BROADCAST."""
    sk.broadcast = switch(val)


def set_oobinline(sk: "Sock", val: int) -> None:
    """SO_OOBINLINE."""
    sk.urginline = val != 0


def set_sndbuf(sk: "Sock", val: int) -> None:
    """The kernel doubles it, for its own overhead (socket(7))."""
    sk.sndbuf = max(min(val & 0xFFFFFFFF, sk.sysctl.wmem_max) * 2, SOCK_MIN_SNDBUF)
    sk.sndbuf_locked = True
    sk.wakes_on_space()


def set_rcvbuf(sk: "Sock", val: int) -> None:
    """Doubled as well."""
    sk.rcvbuf = max(min(val & 0xFFFFFFFF, sk.sysctl.rmem_max) * 2, SOCK_MIN_RCVBUF)
    sk.rcvbuf_locked = True


def set_rcvlowat(sk: "Sock", val: int) -> None:
    """SO_RCVLOWAT: a negative number is the most there can be."""
    sk.set_rcvlowat(INT_MAX if val < 0 else val)


def get_linger(sk: "Sock") -> bytes:
    """SO_LINGER: a struct linger."""
    onoff, seconds = sk.linger
    return onoff.to_bytes(4, "little") + (seconds & 0xFFFFFFFF).to_bytes(4, "little")


def set_linger(sk: "Sock", raw: bytes) -> None:
    """struct linger: on, seconds.  Switched off, the seconds stay what they were; negative ones are as long as can be."""
    if not int.from_bytes(raw[:4], "little"):
        sk.linger = (0, sk.linger[1])
        return
    seconds = int.from_bytes(raw[4:8], "little", signed=True)
    sk.linger = (1, MAX_SCHEDULE_TIMEOUT // HZ if seconds < 0 else seconds)


def timeval_bytes(ns: int | None) -> bytes:
    """A struct timeval of nanoseconds; none is 0."""
    ns = ns or 0
    return (ns // NSEC_PER_SEC).to_bytes(8, "little") + (ns % NSEC_PER_SEC // 1000).to_bytes(8, "little")


def sock_set_timeout(raw: bytes) -> int | None:
    """A struct timeval, in jiffies: no limit when it is 0, no waiting at all when it is negative, EDOM when it is not one."""
    seconds = int.from_bytes(raw[:8], "little", signed=True)
    micros = int.from_bytes(raw[8:16], "little", signed=True)
    if not 0 <= micros < 1_000_000:
        raise oserror(errno.EDOM)
    if seconds < 0:
        return 0
    if not (seconds or micros) or seconds >= MAX_SCHEDULE_TIMEOUT // HZ - 1:
        return None
    ns = seconds * NSEC_PER_SEC + micros * 1000
    return -(-ns // JIFFY) * JIFFY


def set_rcvtimeo(sk: "Sock", raw: bytes) -> None:
    """SO_RCVTIMEO."""
    sk.rcvtimeo = sock_set_timeout(raw)


def set_sndtimeo(sk: "Sock", raw: bytes) -> None:
    """SO_SNDTIMEO."""
    sk.sndtimeo = sock_set_timeout(raw)


def set_passcred(sk: "Sock", val: int) -> None:
    """EOPNOTSUPP but for sockets that carry credentials (sk_may_scm_recv)."""
    if not sk.may_scm_recv():
        raise oserror(errno.EOPNOTSUPP)
    sk.passcred = val != 0


def get_passcred(sk: "Sock") -> int:
    """SO_PASSCRED, of those who may."""
    if not sk.may_scm_recv():
        raise oserror(errno.EOPNOTSUPP)
    return int(sk.passcred)


SOL_SOCKET_TABLE: Final[Sequence[Option]] = (
    stored(SOL_SOCKET, SO_DEBUG, "SO_DEBUG", 0, switch),
    Option(SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR", SIMULATED, lambda sk: sk.reuseaddr, set_reuseaddr),
    Option(SOL_SOCKET, SO_TYPE, "SO_TYPE", SIMULATED, lambda sk: sk.type),
    Option(SOL_SOCKET, SO_ERROR, "SO_ERROR", SIMULATED, lambda sk: sk.sock_error()),
    stored(SOL_SOCKET, SO_DONTROUTE, "SO_DONTROUTE", 0, switch),
    Option(SOL_SOCKET, SO_BROADCAST, "SO_BROADCAST", SIMULATED, lambda sk: sk.broadcast, set_broadcast),
    Option(SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF", SIMULATED, lambda sk: sk.sndbuf, set_sndbuf),
    Option(SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF", SIMULATED, lambda sk: sk.rcvbuf, set_rcvbuf),
    Option(SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE", STORED, lambda sk: sk.keepalive, set_keepalive),
    Option(SOL_SOCKET, SO_OOBINLINE, "SO_OOBINLINE", SIMULATED, lambda sk: int(sk.urginline), set_oobinline),
    stored(SOL_SOCKET, SO_PRIORITY, "SO_PRIORITY", 0, lambda val: val),
    Option(SOL_SOCKET, SO_LINGER, "SO_LINGER", SIMULATED, get_linger, set_linger, 8),
    Option(SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT", SIMULATED, lambda sk: sk.reuseport, set_reuseport, where="AF_INET, AF_INET6"),
    Option(SOL_SOCKET, SO_PASSCRED, "SO_PASSCRED", SIMULATED, get_passcred, set_passcred, where="AF_UNIX"),
    Option(SOL_SOCKET, SO_PEERCRED, "SO_PEERCRED", SIMULATED, lambda sk: sk.peercred(), None, 12, where="AF_UNIX; of others nobody's"),
    Option(SOL_SOCKET, SO_RCVLOWAT, "SO_RCVLOWAT", SIMULATED, lambda sk: sk.rcvlowat, set_rcvlowat),
    Option(SOL_SOCKET, SO_SNDLOWAT, "SO_SNDLOWAT", SIMULATED, lambda sk: 1),
    Option(SOL_SOCKET, SO_RCVTIMEO, "SO_RCVTIMEO", SIMULATED, lambda sk: timeval_bytes(sk.rcvtimeo), set_rcvtimeo, 16),
    Option(SOL_SOCKET, SO_SNDTIMEO, "SO_SNDTIMEO", SIMULATED, lambda sk: timeval_bytes(sk.sndtimeo), set_sndtimeo, 16),
    Option(SOL_SOCKET, SO_ACCEPTCONN, "SO_ACCEPTCONN", SIMULATED, lambda sk: int(sk.listening())),
    Option(SOL_SOCKET, SO_PROTOCOL, "SO_PROTOCOL", SIMULATED, lambda sk: sk.protocol),
    Option(SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN", SIMULATED, lambda sk: sk.family),
)
SOL_SOCKET_OPTIONS: Final = {option.number: option for option in SOL_SOCKET_TABLE}


def sk_setsockopt(sk: "Sock", name: int, value: int | bytes) -> None:
    """Level SOL_SOCKET: what is shorter than an int is EINVAL before the option is looked at."""
    if name == SO_BINDTODEVICE and value == b"":
        # No socket is bound to a device.
        return
    val = int_option(value)
    option = SOL_SOCKET_OPTIONS.get(name)
    if option is None:
        if name in SO_UNKNOWN or not 0 <= name <= SO_LAST:
            raise oserror(errno.ENOPROTOOPT)
        raise Unsupported(f"setsockopt(SOL_SOCKET, {name}) is not modelled")
    set_option(sk, option, val, value)


def set_option(sk: "Sock", option: Option, val: int, value: int | bytes) -> None:
    """Set one: ``val`` is the int that ``value`` starts with, which for a struct is not enough."""
    if option.set is None:
        raise oserror(errno.ENOPROTOOPT)
    if option.size == 4:
        option.set(sk, val)
    elif isinstance(value, int) or len(value) < option.size:
        raise oserror(errno.EINVAL)
    else:
        option.set(sk, value)


def sk_getsockopt(sk: "Sock", name: int) -> int | bytes:
    """Level SOL_SOCKET: an int, or the bytes of a struct."""
    option = SOL_SOCKET_OPTIONS.get(name)
    if option is None:
        if name in SO_UNKNOWN or not 0 <= name <= SO_LAST:
            raise oserror(errno.ENOPROTOOPT)
        raise Unsupported(f"getsockopt(SOL_SOCKET, {name}) is not modelled")
    value: int | bytes = option.get(sk)
    return value


# --- IPPROTO_IP ---
# The priority of a packet by its type of service (ip_tos2prio): best effort, bulk, interactive, interactive bulk.
TOS_PRIORITIES: Final = (0, 2, 6, 4)


def get_tos(sk: "Sock") -> int:
    """IP_TOS."""
    return sk.stored.get((IPPROTO_IP, IP_TOS), 0) if sk.stored else 0


def set_tos(sk: "Sock", val: int) -> None:
    """__ip_sock_set_tos: of a stream the bits of congestion notification are TCP's own; a new one sets SO_PRIORITY."""
    old = get_tos(sk)
    if sk.type == SOCK_STREAM:
        val = (val & ~INET_ECN_MASK) | (old & INET_ECN_MASK)
    if val != old:
        store(sk, IPPROTO_IP, IP_TOS, val & 0xFF)
        store(sk, SOL_SOCKET, SO_PRIORITY, TOS_PRIORITIES[(val & 0x1E) >> 3])


def check_ttl(val: int) -> int:
    """1 to 255; -1 is the default."""
    if val == -1:
        return IP_DEFAULT_TTL
    return in_range(1, 255)(val)


def bind_address_no_port(sk: "Sock") -> bool:
    """IP_BIND_ADDRESS_NO_PORT: bind without a port takes an address only, and connect the port."""
    return sk.stored is not None and sk.stored.get((IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 0) != 0


IPPROTO_IP_TABLE: Final[Sequence[Option]] = (
    Option(IPPROTO_IP, IP_TOS, "IP_TOS", STORED, get_tos, set_tos, where="AF_INET, AF_INET6"),
    stored(IPPROTO_IP, IP_TTL, "IP_TTL", IP_DEFAULT_TTL, check_ttl, "AF_INET, AF_INET6"),
    Option(
        IPPROTO_IP,
        IP_BIND_ADDRESS_NO_PORT,
        "IP_BIND_ADDRESS_NO_PORT",
        SIMULATED,
        lambda sk: int(bind_address_no_port(sk)),
        lambda sk, val: store(sk, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, switch(val)),
        where="AF_INET, AF_INET6",
    ),
)
IP_OPTIONS: Final = {option.number: option for option in IPPROTO_IP_TABLE}


def ip_option(name: int, call: str) -> Option:
    """The entry of an option of level IPPROTO_IP."""
    option = IP_OPTIONS.get(name)
    if option is None:
        if name in IP_UNKNOWN or not (0 <= name <= IP_LAST or name in IP_NETFILTER):
            raise oserror(errno.ENOPROTOOPT)
        raise Unsupported(f"{call}(IPPROTO_IP, {name}) is not modelled")
    return option


def do_ip_setsockopt(sk: "Sock", name: int, value: int | bytes) -> None:
    """Level IPPROTO_IP: one byte will do for a number, and none is 0."""
    option = ip_option(name, "setsockopt")
    if isinstance(value, bytes):
        value = int_option(value) if len(value) >= 4 else value[0] if value else 0
    set_option(sk, option, value, value)


def do_ip_getsockopt(sk: "Sock", name: int) -> int:
    """Level IPPROTO_IP."""
    value: int = ip_option(name, "getsockopt").get(sk)
    return value


def ip_option_value(value: int | bytes, buflen: int) -> int | bytes:
    """A buffer that is shorter than an int gets one byte, if that holds the number."""
    if isinstance(value, int) and 0 < buflen < 4 and 0 <= value <= 255:
        return bytes((value,))
    return option_value(value, buflen)
