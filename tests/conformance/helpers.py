"""The few verbs that the conformance tests share.

Masks are printed as names joined by ``|`` in the order of their bits, without the prefix: ``IN|OUT|RDNORM|WRNORM|RDHUP``.
They are whole: every bit is asked for, so a bit too many is seen like a bit too few.
"""

import errno
import struct
from collections.abc import Callable
from typing import Any, Protocol

from simkernel.api import Main, Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    EPOLL_CTL_ADD,
    F_GETFL,
    F_SETFL,
    O_NONBLOCK,
    POLL_NAMES,
    POLLIN,
    POLLMSG,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    SO_LINGER,
    SO_RCVBUF,
    SO_REUSEADDR,
    SO_SNDBUF,
    SOCK_STREAM,
    SOL_SOCKET,
)

MS = 1_000_000
"""Nanoseconds in a millisecond."""

ONE = (1).to_bytes(8, "little")
"""What adds one to an eventfd."""

ALL = POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLMSG | POLLRDHUP
"""Every bit that can be asked for (ERR, HUP and NVAL come unasked)."""

ERRNO_NAMES = {**errno.errorcode, errno.EAGAIN: "EAGAIN", errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP"}
"""The man pages' names; which of two names for one number Python's table has differs from version to version."""

IDLE = "OUT|WRNORM"
DATA = "IN|OUT|RDNORM|WRNORM"
FIN = "IN|OUT|RDNORM|WRNORM|RDHUP"
FULL = "IN|OUT|HUP|RDNORM|WRNORM|RDHUP"
FULL_ERR = "IN|OUT|ERR|HUP|RDNORM|WRNORM|RDHUP"
# AF_UNIX sockets add WRBAND to whatever is writable.
UNIX_IDLE = "OUT|WRNORM|WRBAND"
UNIX_DATA = "IN|OUT|RDNORM|WRNORM|WRBAND"
UNIX_FIN = "IN|OUT|RDNORM|WRNORM|WRBAND|RDHUP"
UNIX_FULL = "IN|OUT|HUP|RDNORM|WRNORM|WRBAND|RDHUP"
UNIX_FULL_ERR = "IN|OUT|ERR|HUP|RDNORM|WRNORM|WRBAND|RDHUP"


class World(Protocol):
    """A kernel to run a test's body on."""

    name: str
    run: Callable[..., Any]


def names(mask: int) -> str:
    """Print a poll mask."""
    return "|".join(name.removeprefix("POLL") for bit, name in sorted(POLL_NAMES.items()) if mask & bit) or "0"


def mask(sys: Syscalls, fd: int) -> str:
    """The whole mask of ``fd`` now, as poll(2) reports it."""
    return names(sum(revents for _, revents in sys.poll([(fd, ALL)], 0)))


def ready(sys: Syscalls, epfd: int, maxevents: int = 16) -> list[tuple[Any, str]]:
    """One epoll_wait that doesn't sleep: the events of ``epfd`` now."""
    return [(data, names(events)) for data, events in sys.epoll_wait(epfd, maxevents, 0)]


def who(sys: Syscalls, epfd: int, maxevents: int = 16) -> list[Any]:
    """Like ready(), the data alone."""
    return [data for data, _ in sys.epoll_wait(epfd, maxevents, 0)]


def watch(sys: Syscalls, fd: int, events: int) -> int:
    """A new epoll that watches ``fd``."""
    epfd = sys.epoll_create1()
    sys.epoll_ctl(epfd, EPOLL_CTL_ADD, fd, events)
    return epfd


def err(call: Callable[..., Any], *args: Any) -> Any:
    """The result of a call, or the name of its errno."""
    try:
        return call(*args)
    except OSError as error:
        return ERRNO_NAMES[error.errno or 0]


def settle(sys: Syscalls, ms: int = 20) -> None:
    """Sleep, so that the other tasks run until they sleep and what is on its way arrives."""
    sys.nanosleep(ms * MS)


def start(sys: Syscalls, main: Main, *args: object) -> int:
    """Start a thread and let it fall asleep, so that threads started one after another also sleep in this order."""
    started = sys.eventfd()

    def body(sys: Syscalls, *args: object) -> None:
        sys.write(started, ONE)
        main(sys, *args)

    tid = sys.thread(body, *args)
    # On a busy machine a thread may be long in coming; from here on it has one call to make.
    sys.read(started, 8)
    sys.close(started)
    settle(sys)
    return tid


def nonblocking(sys: Syscalls, *fds: int) -> None:
    """Set O_NONBLOCK."""
    for fd in fds:
        sys.fcntl(fd, F_SETFL, sys.fcntl(fd, F_GETFL) | O_NONBLOCK)


def fill(sys: Syscalls, fd: int, chunk: int = 4096) -> int:
    """Write to a non-blocking ``fd`` in pieces of ``chunk`` bytes until EAGAIN; the sum of what was taken."""
    total = 0
    while (n := err(sys.write, fd, bytes(chunk))) != "EAGAIN":
        total += n
    return total


def drain(sys: Syscalls, fd: int, chunk: int = 65536) -> int:
    """Read from a non-blocking ``fd`` until EAGAIN; the sum of what came."""
    total = 0
    while (data := err(sys.read, fd, chunk)) != "EAGAIN":
        assert data, "end of file instead of EAGAIN"
        total += len(data)
    return total


def inet_name(sys: Syscalls, fd: int) -> tuple[str, int]:
    """getsockname of an AF_INET socket: (host, port)."""
    name = sys.getsockname(fd)
    assert isinstance(name, tuple)
    return name


def bound(sys: Syscalls, reuse: bool = False, port: int = 0) -> tuple[int, tuple[str, int]]:
    """A TCP socket bound to 127.0.0.1, and its address.  Port 0 lets the kernel choose, so that runs never collide."""
    fd = sys.socket(AF_INET, SOCK_STREAM)
    if reuse:
        sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    sys.bind(fd, ("127.0.0.1", port))
    return fd, inet_name(sys, fd)


def listener(sys: Syscalls, backlog: int = 16, reuse: bool = False) -> tuple[int, tuple[str, int]]:
    """A listening TCP socket on 127.0.0.1, and its address."""
    fd, addr = bound(sys, reuse)
    sys.listen(fd, backlog)
    return fd, addr


def client(sys: Syscalls, addr: tuple[str, int] | str | bytes, flags: int = 0) -> int:
    """A socket connected to ``addr``.  ``flags``: SOCK_NONBLOCK, which makes EINPROGRESS no error here."""
    fd = sys.socket(AF_INET if isinstance(addr, tuple) else AF_UNIX, SOCK_STREAM | flags)
    assert err(sys.connect, fd, addr) in (None, "EINPROGRESS")
    return fd


def tcp_pair(sys: Syscalls, bufsize: int = 0) -> tuple[int, int]:
    """A TCP connection: (client's fd, server's fd).  With ``bufsize`` all four buffers are asked to be of this size."""
    listening, addr = listener(sys)
    connecting = sys.socket(AF_INET, SOCK_STREAM)
    if bufsize:
        # Before the handshake, since it fixes the scale of the window; the accepted socket inherits the listener's.
        for fd in (listening, connecting):
            sys.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, bufsize)
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, bufsize)
    sys.connect(connecting, addr)
    accepted, _ = sys.accept4(listening)
    sys.close(listening)
    return connecting, accepted


def channel(sys: Syscalls, kind: str) -> tuple[int, int]:
    """(reading fd, writing fd) of a byte stream; ``kind``: pipe, unix or tcp."""
    if kind == "pipe":
        return sys.pipe2()
    if kind == "unix":
        return sys.socketpair(AF_UNIX, SOCK_STREAM)
    return tcp_pair(sys)


def abstract(sys: Syscalls, name: str = "") -> bytes:
    """An abstract AF_UNIX name that no other process uses."""
    return f"\0simkernel-{sys.getpid()}-{name}".encode()


def reset(sys: Syscalls, fd: int) -> None:
    """Close a TCP socket by RST: a linger time of zero."""
    sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    sys.close(fd)


def timeval(ms: int) -> bytes:
    """A struct timeval, for SO_RCVTIMEO and SO_SNDTIMEO."""
    return struct.pack("qq", ms // 1000, ms % 1000 * 1000)
