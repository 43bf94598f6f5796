"""What can be done to each type of file: a table, from which the generators choose.

A verb is a function of the generator and an fd that returns a call (see program.py).  VERBS lists those of each type of file as often as
they should come; MAKERS what opens files of each family, as a call or as a script of several, which gets each call's outcome sent in.
A verb is mostly right, and sometimes wrong: fds of other types come from Generator.fd.
"""

import struct
from collections.abc import Callable
from collections.abc import Generator as CallGenerator
from typing import TYPE_CHECKING, Any, TypeAlias

from simkernel.conform.program import Call, Result
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    EFD_SEMAPHORE,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_GETPIPE_SZ,
    F_SETFD,
    F_SETFL,
    F_SETPIPE_SZ,
    FIONBIO,
    FIONREAD,
    IPPROTO_TCP,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECT,
    O_EXCL,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    POLLIN,
    POLLOUT,
    POLLPRI,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
    SIOCATMARK,
    SIOCOUTQ,
    SO_ACCEPTCONN,
    SO_BROADCAST,
    SO_DOMAIN,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_OOBINLINE,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SO_TYPE,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_CORK,
    TCP_DEFER_ACCEPT,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    TCP_QUICKACK,
    TCP_USER_TIMEOUT,
    TFD_TIMER_ABSTIME,
)  # fmt: skip

if TYPE_CHECKING:
    from simkernel.conform.generate import Generator

Script: TypeAlias = CallGenerator[Call, Result, None]
Verb: TypeAlias = "Callable[[Generator, int], Call]"
Maker: TypeAlias = "Callable[[Generator], Call | Script]"

LISTENER = "-listener"
STREAMS = ("unix", "tcp", "tcp6")
FAMILY = {
    "unix": (AF_UNIX, SOCK_STREAM),
    "unix-dgram": (AF_UNIX, SOCK_DGRAM),
    "unix-seq": (AF_UNIX, SOCK_SEQPACKET),
    "tcp": (AF_INET, SOCK_STREAM),
    "tcp6": (AF_INET6, SOCK_STREAM),
    "udp": (AF_INET, SOCK_DGRAM),
    "udp6": (AF_INET6, SOCK_DGRAM),
}
TYPE = {pair: name for name, pair in FAMILY.items()}
SOCKETS = tuple(FAMILY)
EPOLL_BITS = (EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLPRI, EPOLLRDNORM, EPOLLWRNORM, EPOLLWRBAND, EPOLLET, EPOLLONESHOT)


# --- sizes ---


def _size_in(g: "Generator", fd: int) -> int:
    if not g.nonblock and g.open.get(fd, "").startswith("tcp"):
        return g.dice.pick((0, 1, 3, 8, 100, 5000))
    return g.dice.pick((0, 1, 3, 8, 8, 100, 1000, 4096, 5000, 65536, 300_000))


def size_out(g: "Generator", fd: int) -> int:
    """How many bytes to write.  TCP's and UDP's buffers must not fill up: see known.py."""
    kind = g.open.get(fd, "")
    if kind.startswith("tcp"):
        g.known["tcp-capacity"] += 1
        return g.dice.pick((0, 1, 3, 10, 100, 400))
    if kind.startswith("udp") or kind in ("unix-dgram", "unix-seq"):
        return g.dice.pick((0, 1, 3, 10, 100, 400, 1400))
    if kind == "file":
        return g.dice.pick((0, 1, 3, 100, 4096, 5000))
    return g.dice.pick((0, 1, 100, 4096, 4097, 10_000, 70_000, 300_000))


# --- reading and writing ---


def read(g: "Generator", fd: int) -> Call:
    """read, or seldom readv."""
    if g.dice.chance(0.1):
        return "readv", fd, (_size_in(g, fd), 10, g.dice.pick((0, 7)))
    return "read", fd, _size_in(g, fd)


def write(g: "Generator", fd: int) -> Call:
    """write, or seldom writev."""
    if g.dice.chance(0.1):
        return "writev", fd, (size_out(g, fd), 0, 5)
    return "write", fd, size_out(g, fd)


def recv(g: "Generator", fd: int) -> Call:
    """recv, recvfrom or recvmsg."""
    flags = g.dice.pick((0, 0, 0, MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL, MSG_PEEK | MSG_WAITALL))
    if g.dice.chance(0.12) and g.wild:
        flags |= g.dice.pick((MSG_TRUNC, MSG_OOB, MSG_PEEK | MSG_TRUNC))
    which = g.dice.random() if g.messages else 0.0
    if which < 0.7:
        return "recv", fd, _size_in(g, fd), flags
    if which < 0.85:
        return "recvfrom", fd, _size_in(g, fd), flags
    return "recvmsg", fd, _size_in(g, fd), g.dice.pick((0, 24, 24, 64, 12)), flags | g.dice.pick((0, 0, MSG_CMSG_CLOEXEC))


def send(g: "Generator", fd: int) -> Call:
    """send, sendto or sendmsg."""
    flags = MSG_NOSIGNAL | g.dice.pick((0, 0, MSG_DONTWAIT))
    if g.dice.chance(0.08) and g.wild:
        if g.open.get(fd, "").startswith("tcp"):
            g.known["held-data"] += 1
            flags |= MSG_OOB
        else:
            flags |= g.dice.pick((MSG_OOB, MSG_MORE))
    which = g.dice.random() if g.messages else 0.0
    if which < 0.65:
        return "send", fd, size_out(g, fd), flags
    to = g.address_for(fd) if g.dice.chance(0.7 if g.open.get(fd) in ("udp", "udp6", "unix-dgram") else 0.1) else None
    if which < 0.85:
        return "sendto", fd, size_out(g, fd), flags, to
    rights: Any = ()
    if g.open.get(fd, "").startswith("unix") and g.dice.chance(0.5):
        g.known["in-flight"] += 1
        fds = [fd for fd, kind in g.open.items() if not kind.startswith(("unix", "none"))] or [-1]
        rights = (("rights", *(g.dice.pick(fds) for _ in range(g.dice.pick((1, 1, 2))))),)
    return "sendmsg", fd, (size_out(g, fd), g.dice.pick((0, 5))), rights, flags, to


def add(g: "Generator", fd: int) -> Call:
    """Write a number to an eventfd, or what is none."""
    if g.dice.chance(0.1):
        return "write", fd, g.dice.pick((0, 4, 9))
    return "add", fd, g.dice.pick((1, 0, 2, 2**63, 2**64 - 2, 2**64 - 1))


def pread(g: "Generator", fd: int) -> Call:
    """pread or pwrite."""
    at = g.dice.pick((0, 1, 50, 4096, 10_000, -1))
    if g.dice.chance(0.5):
        return "pwrite", fd, size_out(g, fd), at
    return "pread", fd, _size_in(g, fd), at


def seek(g: "Generator", fd: int) -> Call:
    """lseek or ftruncate."""
    if g.dice.chance(0.3):
        return "ftruncate", fd, g.dice.pick((0, 1, 100, 5000, -1))
    return "lseek", fd, g.dice.pick((0, 1, 10, 4096, -1, -100)), g.dice.pick((SEEK_SET, SEEK_CUR, SEEK_END, 9))


def sendfile(g: "Generator", fd: int) -> Call:
    """sendfile out of a file."""
    return (
        "sendfile",
        g.fd("tcp", "unix", "pipe-w", "file", "null"),
        fd,
        g.dice.pick((None, 0, 10, 5000, -1)),
        g.dice.pick((0, 1, 100, 5000)),
    )


def splice(g: "Generator", fd: int) -> Call:
    """splice into or out of a pipe."""
    other = g.fd("file", "unix", "tcp", "pipe")
    to = g.open.get(fd) == "pipe-w"
    if to and g.open.get(other, "").startswith("tcp"):
        g.known["tcp-frags"] += 1
        other = g.fd("file", "unix", "pipe")
    # (What goes into TCP is little: see size_out.)
    count = g.dice.pick((0, 1, 100, 400) if g.open.get(other, "").startswith("tcp") else (0, 1, 100, 5000, 70_000))
    off = g.dice.pick((None, None, None, 0, 10))
    return ("splice", other, off, fd, None, count, 2) if to else ("splice", fd, None, other, off, count, 2)


# --- any fd ---


def close(g: "Generator", fd: int) -> Call:
    """close."""
    return "close", fd


def dup(g: "Generator", fd: int) -> Call:
    """dup, dup2, dup3."""
    which = g.dice.below(4)
    if which < 2:
        return "dup", fd
    new = g.dice.pick((min(g.fd(), 24), 3 + g.dice.below(21)))
    if which == 2:
        return "dup2", fd, new
    return "dup3", fd, new, g.dice.pick((0, O_CLOEXEC, 1))


def fcntl(g: "Generator", fd: int) -> Call:
    """fcntl and ioctl."""
    pick = g.dice.pick
    which = g.dice.below(12)
    if which == 0:
        return "fcntl", fd, pick((F_DUPFD, F_DUPFD_CLOEXEC)), 3 + g.dice.below(27)
    if which == 1:
        return "fcntl", fd, F_DUPFD, -1
    if which == 2:
        return "fcntl", fd, F_GETFD, 0
    if which == 3:
        return "fcntl", fd, F_SETFD, g.dice.below(2)
    if which == 4:
        return "fcntl", fd, F_GETFL, 0
    if which == 5:
        if g.open.get(fd) == "file":
            g.known["o-direct"] += 1
            return "fcntl", fd, F_SETFL, g.nonblock
        return "fcntl", fd, F_SETFL, g.nonblock | pick((0, 0, O_DIRECT))
    if which == 6:
        return "fcntl", fd, F_GETPIPE_SZ, 0
    if which == 7:
        return "fcntl", fd, F_SETPIPE_SZ, pick((-1, 0, 1, 4096, 5000, 8192, 65536, 100_000))
    if which == 8 and g.nonblock:
        return "ioctl", fd, FIONBIO, 1
    if which == 9:
        return "ioctl", fd, pick((SIOCOUTQ, SIOCATMARK)) if g.open.get(fd, "").startswith("unix") else SIOCATMARK
    return "ioctl", fd, FIONREAD


def poll(g: "Generator", fd: int) -> Call:
    """poll or select of a few fds."""
    timeout = 0 if g.nonblock else g.dice.pick((-1, -1, -1, 0))
    if g.dice.chance(0.5):
        bits = (0, POLLIN, POLLOUT, POLLIN | POLLOUT, POLLPRI) if g.nonblock else (POLLIN, POLLIN, POLLOUT, POLLIN | POLLOUT)
        fds = [fd, *(g.fd() for _ in range(g.dice.below(3)))]
        return "poll", tuple((fd, g.dice.pick(bits)) for fd in fds), timeout
    sets = [tuple(max(g.fd(), 3) for _ in range(g.dice.below(3))) for _ in range(3)]
    if not g.nonblock:
        sets[0] += (max(fd, 3),)
    return ("select", *sets, 0 if timeout == 0 else None)


# --- epoll ---


def events(g: "Generator") -> int:
    """The events of an epoll_ctl."""
    pick = g.dice.pick
    if g.dice.chance(0.08):
        return EPOLLEXCLUSIVE | pick((0, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLET, EPOLLERR | EPOLLHUP, EPOLLRDHUP, EPOLLONESHOT))
    common = pick((EPOLLIN, 0, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLOUT | EPOLLRDHUP))
    bits: int = common | pick((0, 0, EPOLLET, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT))
    if g.dice.chance(0.1):
        bits ^= pick(EPOLL_BITS)
    return bits


def epoll_ctl(g: "Generator", fd: int) -> Call:
    """epoll_ctl of the epoll ``fd``."""
    op = 9 if g.dice.chance(0.005) else g.dice.pick((EPOLL_CTL_ADD,) * 4 + (EPOLL_CTL_MOD,) * 3 + (EPOLL_CTL_DEL,))
    return "epoll_ctl", fd, op, g.fd(), events(g), g.dice.pick((None, g.dice.below(1000)))


def epoll_wait(g: "Generator", fd: int) -> Call:
    """epoll_wait."""
    most = g.dice.pick((1, 2, 3, 16, 16, 16, 0, -1) if g.dice.chance(0.2) else (16, 1, 2))
    return "epoll_wait", fd, most, 0 if g.nonblock else g.dice.pick((-1, -1, -1, 0))


# --- sockets ---


def bind(g: "Generator", fd: int) -> Call:
    """bind to a name or to any port."""
    kind = g.open.get(fd, "")
    if kind.startswith("unix"):
        return "bind", fd, ("name", g.dice.below(3))
    return "bind", fd, ("::1", 0, 0, 0) if "6" in kind else ("127.0.0.1", 0)


def listen(g: "Generator", fd: int) -> Call:
    """listen."""
    return "listen", fd, g.dice.pick((5, 0, 1, 2, -1))


def connect(g: "Generator", fd: int) -> Call:
    """connect to a listener or a bound socket of the family, else to somebody who doesn't listen."""
    kind = g.open.get(fd, "").removesuffix(LISTENER)
    there = [other for other, its in g.open.items() if its.removesuffix(LISTENER) == kind and other != fd]
    listening = [other for other in there if g.open[other].endswith(LISTENER)]
    if listening and not g.dice.chance(0.15):
        there = listening
    return "connect", fd, ("of", g.dice.pick(there) if there else fd)


def accept(g: "Generator", fd: int) -> Call:
    """accept4."""
    return "accept4", fd, g.nonblock and SOCK_NONBLOCK


def name(g: "Generator", fd: int) -> Call:
    """getsockname or getpeername."""
    return g.dice.pick(("getsockname", "getpeername")), fd


def shutdown(g: "Generator", fd: int) -> Call:
    """shutdown."""
    return "shutdown", fd, g.dice.pick((1, 0, 1, 2, 2, 3))


_GET = (SO_ERROR, SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_REUSEADDR, SO_LINGER, SO_RCVLOWAT)
_GET_MORE = (SO_KEEPALIVE, SO_REUSEPORT, SO_BROADCAST, SO_OOBINLINE, SO_RCVTIMEO, SO_SNDTIMEO)
_TCP = (TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_DEFER_ACCEPT, TCP_QUICKACK)


def option(g: "Generator", fd: int) -> Call:
    """getsockopt or setsockopt."""
    pick = g.dice.pick
    kind = g.open.get(fd, "")
    if g.dice.chance(0.4):
        if g.dice.chance(0.12):
            return "getsockopt", fd, IPPROTO_TCP, pick((TCP_NODELAY, *(_TCP[1:6] if g.wild else ()))), pick((0, 0, 8))
        return "getsockopt", fd, SOL_SOCKET, pick(_GET + (_GET_MORE if g.wild else ())), pick((0, 0, 8, 16))
    which = g.dice.below(10 if g.wild else 7)
    if which == 0:
        return "setsockopt", fd, SOL_SOCKET, SO_LINGER, pick((struct.pack("ii", g.dice.below(2), 0), b"abc"))
    if which == 1:
        return "setsockopt", fd, SOL_SOCKET, SO_KEEPALIVE, 1
    if which == 2:
        return "setsockopt", fd, SOL_SOCKET, SO_RCVLOWAT, pick((1, 0, 5, 50, 2000))
    if which == 3:
        return "setsockopt", fd, SOL_SOCKET, SO_ERROR, 1
    if which in (4, 5):
        # Large ones for TCP, whose buffers must not fill up.
        sizes = (0, 1, 4096, 5000, 20_000, 100_000) if kind.startswith("unix") else (65536, 100_000)
        return "setsockopt", fd, SOL_SOCKET, SO_SNDBUF if which == 4 else SO_RCVBUF, pick(sizes)
    if which == 6:
        return "setsockopt", fd, IPPROTO_TCP, TCP_NODELAY, 1
    if which == 7:
        return "setsockopt", fd, SOL_SOCKET, pick((SO_REUSEADDR, SO_REUSEPORT, SO_BROADCAST)), pick((0, 1, 2))
    if which == 8:
        return (
            "setsockopt",
            fd,
            SOL_SOCKET,
            pick((SO_RCVTIMEO, SO_SNDTIMEO)),
            struct.pack("qq", pick((0, 1, 2)), pick((0, 500_000, 1_000_000))),
        )
    return "setsockopt", fd, IPPROTO_TCP, pick(_TCP[1:5]), pick((1, 0, 7, -1, 100_000))


# --- time ---


def settime(g: "Generator", fd: int) -> Call:
    """timerfd_settime, so that it has expired, will in an hour, or never."""
    hour = 3_600_000_000_000
    if g.dice.chance(0.4):
        # (What has expired is not periodic: how often would be a matter of the clock.)
        return "timerfd_settime", fd, g.dice.pick((0, TFD_TIMER_ABSTIME)), g.dice.pick((1, 1, -1)), 0
    return "timerfd_settime", fd, 0, g.dice.pick((hour, hour, 0)), g.dice.pick((0, hour))


# --- what there is ---

_ANY: tuple[Verb, ...] = (close, close, dup, fcntl, poll, poll)
_CONNECTION: tuple[Verb, ...] = (
    *(recv,) * 5, *(send,) * 5, read, write, shutdown, shutdown, option, option, connect, connect, name, bind, listen,
)  # fmt: skip
_LISTENING: tuple[Verb, ...] = (*(accept,) * 6, listen, shutdown, name, option, connect, recv, send)
_DATAGRAM: tuple[Verb, ...] = (*(recv,) * 5, *(send,) * 6, read, write, shutdown, option, connect, connect, name, bind, bind)

VERBS: dict[str, tuple[Verb, ...]] = {
    "pipe-r": (*(read,) * 6, write, splice, *_ANY),
    "pipe-w": (*(write,) * 6, read, splice, *_ANY),
    "eventfd": (*(read,) * 4, *(add,) * 5, *_ANY),
    "epoll": (*(epoll_ctl,) * 8, *(epoll_wait,) * 9, *_ANY),
    "timerfd": (*(read,) * 3, *(settime,) * 5, write, *_ANY),
    "file": (*(read,) * 3, *(write,) * 3, *(pread,) * 3, *(seek,) * 3, *(sendfile,) * 3, *_ANY),
    "null": (read, write, pread, seek, *_ANY),
    "zero": (read, write, pread, seek, *_ANY),
    **dict.fromkeys(("unix", "tcp", "tcp6", "unix-seq"), (*_CONNECTION, *_ANY)),
    **{kind + LISTENER: (*_LISTENING, *_ANY) for kind in ("unix", "tcp", "tcp6", "unix-seq")},
    **dict.fromkeys(("udp", "udp6", "unix-dgram"), (*_DATAGRAM, *_ANY)),
    "udp" + LISTENER: (listen, *_ANY),
    "none": _ANY,
}


def _cloexec(g: "Generator") -> int:
    return g.dice.pick((0, 0, O_CLOEXEC))


def _pipe(g: "Generator") -> Call:
    return "pipe2", g.nonblock | _cloexec(g) | g.dice.pick((0, 0, 0, O_DIRECT))


def _eventfd(g: "Generator") -> Call:
    return "eventfd", g.dice.pick((0, 0, 1, 3, 2**32 - 1)), g.nonblock | g.dice.pick((0, EFD_SEMAPHORE))


def _epoll(g: "Generator") -> Call:
    return "epoll_create1", _cloexec(g)


def _timerfd(g: "Generator") -> Call:
    return "timerfd_create", g.dice.pick((CLOCK_MONOTONIC, CLOCK_REALTIME)), g.nonblock | _cloexec(g)


def _file(g: "Generator") -> Call:
    which = g.dice.random()
    if which < 0.4:
        return "memfd_create", "conform", 0
    if which < 0.6:
        return "open", g.dice.pick(("/dev/null", "/dev/zero")), g.dice.pick((O_RDWR, O_RDONLY, O_WRONLY))
    flags = g.dice.pick((O_RDWR, O_RDONLY, O_WRONLY)) | g.dice.pick((O_CREAT, O_CREAT, O_CREAT | O_EXCL, O_CREAT | O_TRUNC, 0))
    return "open", ("path", g.dice.below(3)), flags | g.dice.pick((0, 0, O_APPEND)), 0o600


def _socket(kind: str) -> Maker:
    family, sort = FAMILY[kind]

    def make(g: "Generator") -> "Call | Script":
        stream = sort != SOCK_DGRAM
        if stream and g.dice.chance(0.15 if family == AF_UNIX else 0.6):
            return pair(g, kind)
        if family == AF_UNIX and g.dice.chance(0.6):
            return "socketpair", family, sort | g.nonblock | g.dice.pick((0, 0, SOCK_CLOEXEC))
        if not stream and g.dice.chance(0.7):
            return bound(g, kind)
        return "socket", family, sort | g.nonblock | g.dice.pick((0, 0, SOCK_CLOEXEC))

    return make


def bound(g: "Generator", kind: str) -> Script:
    """A datagram socket with an address."""
    family, sort = FAMILY[kind]
    fd = yield "socket", family, sort | g.nonblock
    if isinstance(fd, int):
        yield bind(g, fd)


def pair(g: "Generator", kind: str) -> Script:
    """A listener, or all of the way to a connection."""
    family, sort = FAMILY[kind]
    chance, pick = g.dice.chance, g.dice.pick
    listener = yield "socket", family, sort | g.nonblock
    if not isinstance(listener, int):
        return
    if family == AF_UNIX:
        yield bind(g, listener)
    elif chance(0.2):
        yield "setsockopt", listener, SOL_SOCKET, *pick(((SO_RCVLOWAT, 20), (SO_LINGER, struct.pack("ii", 1, 0))))
    yield "listen", listener, pick((5, 0, 1))
    if chance(0.1):
        return
    connecting = yield "socket", family, sort | g.nonblock
    if not isinstance(connecting, int):
        return
    if "epoll" in g.families and chance(0.3):
        yield "epoll_ctl", g.fd("epoll"), EPOLL_CTL_ADD, pick((listener, connecting)), events(g), None
    yield "connect", connecting, ("of", listener)
    if chance(0.1):
        yield pick((("close", connecting), ("close", listener), ("write", connecting, 10), ("shutdown", connecting, 1)))
    yield "accept4", listener, g.nonblock and SOCK_NONBLOCK
    if chance(0.6):
        yield "close", listener


MAKERS: dict[str, Maker] = {
    "pipe": _pipe,
    "eventfd": _eventfd,
    "unix": _socket("unix"),
    "tcp": _socket("tcp"),
    "epoll": _epoll,
    "udp": _socket("udp"),
    "unix-dgram": _socket("unix-dgram"),
    "unix-seq": _socket("unix-seq"),
    "tcp6": _socket("tcp6"),
    "udp6": _socket("udp6"),
    "timerfd": _timerfd,
    "file": _file,
}
"""What opens a file of each family."""

PROBES: dict[str, Call] = {
    "udp": ("socket", AF_INET, SOCK_DGRAM),
    "unix-dgram": ("socketpair", AF_UNIX, SOCK_DGRAM),
    "unix-seq": ("socketpair", AF_UNIX, SOCK_SEQPACKET),
    "tcp6": ("socket", AF_INET6, SOCK_STREAM),
    "udp6": ("socket", AF_INET6, SOCK_DGRAM),
    "timerfd": ("timerfd_create", CLOCK_MONOTONIC, O_NONBLOCK),
    "file": ("memfd_create", "conform", 0),
}
"""A call that tells whether a family is modelled."""
