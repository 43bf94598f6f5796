"""Linux's user-space API: the constants of a program's calls, and their names for printing.

The numbers are those of x86-64 and of every other architecture with the generic ABI
(include/uapi in the Linux tree).  They are written out, not taken from the host's modules,
so that a run prints the same text on any machine.
"""

from collections.abc import Iterable, Mapping
from typing import Final

# --- poll(2), epoll(7): include/uapi/asm-generic/poll.h, linux/eventpoll.h ---
POLLIN: Final = 0x001
POLLPRI: Final = 0x002
POLLOUT: Final = 0x004
POLLERR: Final = 0x008
POLLHUP: Final = 0x010
POLLNVAL: Final = 0x020
POLLRDNORM: Final = 0x040
POLLRDBAND: Final = 0x080
POLLWRNORM: Final = 0x100
POLLWRBAND: Final = 0x200
POLLMSG: Final = 0x400
POLLRDHUP: Final = 0x2000

EPOLLIN: Final = POLLIN
EPOLLPRI: Final = POLLPRI
EPOLLOUT: Final = POLLOUT
EPOLLERR: Final = POLLERR
EPOLLHUP: Final = POLLHUP
EPOLLRDNORM: Final = POLLRDNORM
EPOLLRDBAND: Final = POLLRDBAND
EPOLLWRNORM: Final = POLLWRNORM
EPOLLWRBAND: Final = POLLWRBAND
EPOLLMSG: Final = POLLMSG
EPOLLRDHUP: Final = POLLRDHUP
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLWAKEUP: Final = 1 << 29
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31

EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3
EPOLL_CLOEXEC: Final = 0o2000000

# --- open(2), fcntl(2), ioctl(2) ---
O_RDONLY: Final = 0o0
O_WRONLY: Final = 0o1
O_RDWR: Final = 0o2
O_ACCMODE: Final = 0o3
O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
O_ASYNC: Final = 0o20000
O_DIRECT: Final = 0o40000
O_NOATIME: Final = 0o1000000
O_CLOEXEC: Final = 0o2000000

F_DUPFD: Final = 0
F_GETFD: Final = 1
F_SETFD: Final = 2
F_GETFL: Final = 3
F_SETFL: Final = 4
F_DUPFD_CLOEXEC: Final = 1030
F_SETPIPE_SZ: Final = 1031
F_GETPIPE_SZ: Final = 1032
FD_CLOEXEC: Final = 1

FIONREAD: Final = 0x541B
FIONBIO: Final = 0x5421

# --- socket(2) ---
AF_UNSPEC: Final = 0
AF_UNIX: Final = 1
AF_INET: Final = 2
AF_INET6: Final = 10
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_SEQPACKET: Final = 5
SOCK_NONBLOCK: Final = O_NONBLOCK
SOCK_CLOEXEC: Final = O_CLOEXEC
SOMAXCONN: Final = 4096
SHUT_RD: Final = 0
SHUT_WR: Final = 1
SHUT_RDWR: Final = 2
INADDR_ANY: Final = "0.0.0.0"
INADDR_LOOPBACK: Final = "127.0.0.1"

MSG_OOB: Final = 0x1
MSG_PEEK: Final = 0x2
MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
MSG_WAITALL: Final = 0x100
MSG_NOSIGNAL: Final = 0x4000
MSG_MORE: Final = 0x8000

IPPROTO_IP: Final = 0
IPPROTO_TCP: Final = 6
SOL_SOCKET: Final = 1
SO_REUSEADDR: Final = 2
SO_TYPE: Final = 3
SO_ERROR: Final = 4
SO_SNDBUF: Final = 7
SO_RCVBUF: Final = 8
SO_KEEPALIVE: Final = 9
SO_LINGER: Final = 13
SO_REUSEPORT: Final = 15
SO_RCVLOWAT: Final = 18
SO_RCVTIMEO: Final = 20
SO_SNDTIMEO: Final = 21
SO_ACCEPTCONN: Final = 30
SO_PROTOCOL: Final = 38
SO_DOMAIN: Final = 39
TCP_NODELAY: Final = 1

# --- eventfd(2) ---
EFD_SEMAPHORE: Final = 1
EFD_NONBLOCK: Final = O_NONBLOCK
EFD_CLOEXEC: Final = O_CLOEXEC

# --- clocks, processes, signals, limits ---
CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_BOOTTIME: Final = 7
WNOHANG: Final = 1
SIGKILL: Final = 9
SIGPIPE: Final = 13
SIGTERM: Final = 15
RLIMIT_NOFILE: Final = 7
RLIM_INFINITY: Final = -1
FD_SETSIZE: Final = 1024
PAGE_SIZE: Final = 4096
PIPE_BUF: Final = 4096
NSEC_PER_SEC: Final = 1_000_000_000
NSEC_PER_MSEC: Final = 1_000_000

_HERE: Final[Mapping[str, object]] = globals()


def _table(names: Iterable[str]) -> dict[int, str]:
    table: dict[int, str] = {}
    for name in names:
        value = _HERE[name]
        assert isinstance(value, int)
        table[value] = name
    return table


POLL_NAMES: Final = _table(
    "POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDNORM POLLRDBAND POLLWRNORM POLLWRBAND POLLMSG POLLRDHUP".split()
)
EPOLL_NAMES: Final = _table(
    (
        "EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDNORM EPOLLRDBAND EPOLLWRNORM EPOLLWRBAND EPOLLMSG "
        "EPOLLRDHUP EPOLLEXCLUSIVE EPOLLWAKEUP EPOLLONESHOT EPOLLET"
    ).split()
)
OPEN_NAMES: Final = _table("O_WRONLY O_RDWR O_APPEND O_NONBLOCK O_DIRECT O_CLOEXEC".split())
MSG_NAMES: Final = _table("MSG_OOB MSG_PEEK MSG_TRUNC MSG_DONTWAIT MSG_WAITALL MSG_NOSIGNAL MSG_MORE".split())
EPOLL_CTL_NAMES: Final = _table("EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD".split())
FCNTL_NAMES: Final = _table("F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ".split())
IOCTL_NAMES: Final = _table("FIONREAD FIONBIO".split())
FAMILY_NAMES: Final = _table("AF_UNSPEC AF_UNIX AF_INET AF_INET6".split())
SOCK_NAMES: Final = _table("SOCK_STREAM SOCK_DGRAM SOCK_SEQPACKET".split())
SHUT_NAMES: Final = _table("SHUT_RD SHUT_WR SHUT_RDWR".split())
SO_NAMES: Final = _table(
    (
        "SO_REUSEADDR SO_TYPE SO_ERROR SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_LINGER SO_REUSEPORT SO_RCVLOWAT "
        "SO_RCVTIMEO SO_SNDTIMEO SO_ACCEPTCONN SO_PROTOCOL SO_DOMAIN"
    ).split()
)
SIGNAL_NAMES: Final = _table("SIGKILL SIGPIPE SIGTERM".split())
CLOCK_NAMES: Final = _table("CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_BOOTTIME".split())


def flags(value: int, names: Mapping[int, str]) -> str:
    """Print a set of flags as Linux's names joined by ``|``; bits without a name in hexadecimal; no bit at all as ``0``.

    >>> flags(EPOLLIN | EPOLLET, EPOLL_NAMES)
    'EPOLLIN|EPOLLET'
    """
    out = [name for bit, name in names.items() if bit and value & bit]
    rest = value
    for bit in names:
        rest &= ~bit
    if rest:
        out.append(hex(rest))
    return "|".join(out) or "0"


def sock_type(value: int) -> str:
    """Print the type argument of socket(2): ``SOCK_STREAM|SOCK_NONBLOCK``."""
    out = [SOCK_NAMES.get(value & 0xF, str(value & 0xF))]
    if value & SOCK_NONBLOCK:
        out.append("SOCK_NONBLOCK")
    if value & SOCK_CLOEXEC:
        out.append("SOCK_CLOEXEC")
    return "|".join(out)
