"""One program's view of a kernel: makes its calls, and looks at every open fd after each."""

import errno
import fcntl
import struct
import zlib
from collections.abc import Callable
from typing import Any

from simkernel.api import Syscalls
from simkernel.conform.program import Call, Program, Result, numbered
from simkernel.errors import Unsupported
from simkernel.linux.libc import POLLFD, byref, c_poll, char
from simkernel.linux.syscalls import LinuxSyscalls
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    FIONREAD,
    IPPROTO_TCP,
    POLLNVAL,
    SCM_RIGHTS,
    SO_PROTOCOL,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
)

DELAYED_ACK_NS = 45_000_000
_A_MOMENT_NS = 20_000
FDS = range(3, 40)
"""The fds that are looked at."""
ALL = 0x27FF & ~POLLNVAL & ~0x18
"""Whatever poll can be asked for."""

ERRNO_NAMES = {**errno.errorcode, errno.EAGAIN: "EAGAIN", errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP"}
Observation = tuple[tuple[int, int, int | str], ...]
"""(fd, poll mask, FIONREAD or the name of its errno) of every open fd."""

UNOFFERED = "not offered"
"""The outcome of a call that the real kernel has, and simkernel.linux does not pass on: it is not compared."""

_DATA = {"write": 1, "send": 1, "sendto": 1, "pwrite": 1}
_VECTOR = {"writev": 1, "sendmsg": 1}
_ADDRESS = {"bind": 1, "connect": 1, "sendto": 3, "sendmsg": 4}
WAIT_FOR_ACK = ("shutdown", "close", "dup2", "dup3")


def observer(sys: Syscalls) -> Callable[[], Observation]:
    """What looks at every fd: on the real kernel one poll, and FIONREAD by ioctl, since this is most of a comparison's time."""
    if not isinstance(sys, LinuxSyscalls):
        pairs = [(fd, ALL) for fd in FDS]

        def look() -> Observation:
            seen = dict(sys.poll(pairs, 0))
            return tuple([(fd, mask, _fionread(sys, fd)) for fd in FDS if (mask := seen.get(fd, 0)) != POLLNVAL])

        return look

    array = bytearray(b"".join(POLLFD.pack(fd, ALL, 0) for fd in FDS))
    pointer = byref(char.from_buffer(array))
    masks = struct.Struct("=" + "6xH" * len(FDS)).unpack
    number = struct.Struct("=i").unpack
    n, ioctl, room = len(FDS), fcntl.ioctl, bytes(4)

    def look_on_linux() -> Observation:
        c_poll(pointer, n, 0)
        seen: list[tuple[int, int, int | str]] = []
        for fd, mask in zip(FDS, masks(array), strict=True):
            if mask != POLLNVAL:
                try:
                    seen.append((fd, mask, number(ioctl(fd, FIONREAD, room))[0]))
                except OSError as error:
                    seen.append((fd, mask, ERRNO_NAMES[error.errno or 0]))
        return tuple(seen)

    return look_on_linux


def _fionread(sys: Syscalls, fd: int) -> int | str:
    try:
        return sys.ioctl(fd, FIONREAD)
    except OSError as error:
        return ERRNO_NAMES[error.errno or 0]


class Machine:
    """Makes calls in plain data on a kernel.

    ``settle`` pauses after what ends a connection, until a delayed acknowledgement has come.  ``raw`` returns bytes, where otherwise
    their length and check sum are returned, and addresses as they are.
    """

    def __init__(self, sys: Syscalls, settle: bool = False, raw: bool = False, seed: int = 0) -> None:
        self.sys = sys
        self.settle = settle
        self.raw = raw
        self.seen: dict[Any, int] = {}
        self.pids: list[int] = []
        self.written = seed
        self.look = observer(sys)
        self.on_linux = isinstance(sys, LinuxSyscalls)
        self.paths: set[str] = set()
        self.id = sys.getpid()
        self.delays = False
        self.alone = True

    def run(self, program: Program) -> list[Result]:
        """(outcome, observation) of each call, and the last observation; the machine is then as before."""
        observe, look, settle = program.observe, self.look, self.settle
        results: list[Result] = []
        for call in program.calls:
            outcome = self.step(call)
            if settle and self.delays and call[0] in WAIT_FOR_ACK:
                self.sys.nanosleep(DELAYED_ACK_NS)
            results.append((outcome, look() if observe else None))
        results.append((None, look()))
        self.clean()
        return results

    def clean(self) -> None:
        """Close every fd, and remove the files."""
        for fd in FDS:
            try:
                self.sys.close(fd)
            except OSError:
                pass
        for path in sorted(self.paths):
            try:
                self.sys.unlink(path)
            except (OSError, Unsupported):
                pass
        self.paths.clear()

    def step(self, call: Call) -> Result:
        """The outcome of one call: its result in plain data, or the name of the errno or of Python's exception."""
        try:
            return self.do(call[0], list(call[1:]))
        except OSError as error:
            return ERRNO_NAMES.get(error.errno or 0, f"errno {error.errno}")
        except (TypeError, ValueError, OverflowError) as error:
            return type(error).__name__
        except Unsupported:
            if self.on_linux:
                return UNOFFERED
            raise

    def do(self, name: str, args: list[Any]) -> Result:
        """Make the call; raises what it raises."""
        if (i := _DATA.get(name)) is not None:
            args[i] = self.bytes(args[i])
        elif (i := _VECTOR.get(name)) is not None:
            args[i] = [self.bytes(n) for n in args[i]]
            if name == "sendmsg" and len(args) > 2:
                args[2] = [self.control(c) for c in args[2]]
        elif name == "add":
            name, args = "write", [args[0], args[1].to_bytes(8, "little")]
        if (i := _ADDRESS.get(name)) is not None and len(args) > i:
            args[i] = self.address(args[i])
        elif name in ("open", "unlink", "mkdir"):
            args[0] = self.address(args[0])
        result = getattr(self.sys, name)(*args)
        if name == "socket" and args[0] in (AF_INET, AF_INET6) and args[1] & ~(SOCK_NONBLOCK | SOCK_CLOEXEC) == SOCK_STREAM:
            self.sys.setsockopt(result, IPPROTO_TCP, TCP_NODELAY, 1)
            self.delays = True
        elif name == "timerfd_settime" and self.alone:
            self.sys.nanosleep(_A_MOMENT_NS)  # what has expired by then has expired on both kernels
        return self.plain(name, result, args)

    def plain(self, name: str, result: Any, args: list[Any]) -> Result:
        """A result without what differs from run to run."""
        if result is None or isinstance(result, int) or self.raw:
            return result
        if name in ("getsockname", "getpeername"):
            return self.named(result, args[0])
        if isinstance(result, bytes):
            return len(result), zlib.crc32(result)
        if name == "readv":
            return [(len(part), zlib.crc32(part)) for part in result]
        if name == "accept4":
            return result[0], self.named(result[1], args[0])
        if name in ("timerfd_settime", "timerfd_gettime"):
            return result[0] > 0, result[1]
        if name == "recvfrom":
            return len(result[0]), zlib.crc32(result[0]), self.named(result[1], args[0])
        if name == "recvmsg":
            data, control, flags, addr = result
            return len(data), zlib.crc32(data), [self.received(c) for c in control], flags, self.named(addr, args[0])
        if isinstance(result, set):
            return sorted(result)
        return result

    def bytes(self, n: Any) -> Any:
        """``n`` numbered bytes, or what it is if no number."""
        if not isinstance(n, int):
            return n
        start = self.written
        self.written += n
        return numbered(start, n)

    def address(self, what: Any) -> Any:
        """An address as the kernel is to be given it."""
        if isinstance(what, tuple) and what:
            if what[0] == "of":
                return self.sys.getsockname(what[1])
            if what[0] == "name":
                return b"\0conform-%07d-%d" % (self.id, what[1])
            if what[0] == "path":
                path = f"/tmp/conform-{self.id}-{what[1]}"
                self.paths.add(path)
                return path
        return what

    def control(self, message: Any) -> Any:
        """A control message as sendmsg is to be given it."""
        if message[0] == "rights":
            return SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(message) - 1}i", *message[1:])
        return message

    def received(self, message: Any) -> Any:
        """A control message that came."""
        level, kind, data = message
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            return ("rights", *struct.unpack(f"{len(data) // 4}i", data))
        return level, kind, len(data)

    def named(self, addr: Any, fd: int) -> Any:
        """An address without what differs from run to run: ports and names by the order in which they came up."""
        if isinstance(addr, tuple):
            host, port, *more = addr
            # Whether two protocols, or two families, happen to use the same number is chance.
            key = self.sys.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL), ":" in host.removeprefix("::ffff:"), port
            return (host, port and 1 + self.seen.setdefault(key, len(self.seen)), *more)
        return addr and ("name", self.seen.setdefault(addr, len(self.seen)))
