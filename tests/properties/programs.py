"""Random single-task, non-blocking programs, and what each of their calls returns: the same on both kernels.

A program is a list of calls, tuples of a method's name and its arguments.  It is made by running it on the fake kernel (the generator
has to know which fds are open and of which kind), and is then only replayed: on the fake kernel again, and on the real one.
After every call all fds are polled, so a result is what the call returned and the whole masks that it left.

    python -m tests.properties.programs --programs 20000 --seed 1       a campaign; prints the shortest program that differs

Kept out of the programs, since the model says it is simplified there (the docstring of kernel/net/tcp.py): how many bytes TCP's
buffers hold, so nothing ever fills one up; and Nagle's algorithm, so every TCP socket has TCP_NODELAY.  Linux may acknowledge a FIN
only after 40 ms (the model does at once), and an edge comes with that: a program that differs is tried again with pauses for it.
"""

import argparse
import errno
import random
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from collections.abc import Generator as CallGenerator
from typing import Any

import simkernel
import simkernel.linux
from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    EFD_NONBLOCK,
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
    FIONREAD,
    IPPROTO_TCP,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_WAITALL,
    O_CLOEXEC,
    O_DIRECT,
    O_NONBLOCK,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    SO_ACCEPTCONN,
    SO_DOMAIN,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_REUSEADDR,
    SO_SNDBUF,
    SO_TYPE,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
)

Call = tuple[Any, ...]
Program = list[Call]
Result = Any
Script = CallGenerator[Call, Result, None]

DELAYED_ACK_NS = 45_000_000
FDS = range(3, 40)
ALL = 0x27FF & ~POLLNVAL & ~0x18  # whatever poll can be asked for
EPOLL_BITS = (EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLPRI, EPOLLRDNORM, EPOLLWRNORM, EPOLLWRBAND, EPOLLET, EPOLLONESHOT)


PATTERN = b"".join((i * 2654435761 % 2**32).to_bytes(4, "little") for i in range(1 << 17))


class Machine:
    """One program's view of a kernel: addresses that stand for others, and names in the order in which they came up."""

    def __init__(self, sys: Syscalls, settle: bool = False) -> None:
        self.sys = sys
        self.settle = settle
        self.seen: dict[Any, int] = {}
        self.written = 0

    def run(self, program: Program, polls: bool) -> list[Result]:
        """The results of all calls; the machine is then as before."""
        results = [self.step(call, polls) for call in program]
        results.append(self.masks())
        for fd in FDS:
            try:
                self.sys.close(fd)
            except OSError:
                pass
        return results

    def step(self, call: Call, polls: bool) -> Result:
        name, *args = call
        try:
            result = self.do(name, args)
        except OSError as error:
            result = errno.errorcode[error.errno or 0]
        if self.settle and name in ("shutdown", "close", "dup2", "dup3"):
            self.sys.nanosleep(DELAYED_ACK_NS)
        return result, self.masks() if polls else None

    def masks(self) -> list[tuple[int, int]]:
        """(fd, mask) of every open fd."""
        got = dict(self.sys.poll([(fd, ALL) for fd in FDS], 0))
        return [(fd, got.get(fd, 0)) for fd in FDS if got.get(fd, 0) != POLLNVAL]

    def do(self, name: str, args: list[Any]) -> Result:
        if name in ("write", "send", "writev"):
            # The bytes are numbered: one lost, doubled or moved is seen.
            args[1] = [self.bytes(n) for n in args[1]] if name == "writev" else self.bytes(args[1])
        elif name in ("bind", "connect"):
            args[1] = self.address(args[1])
        elif name == "add":
            name, args = "write", [args[0], args[1].to_bytes(8, "little")]
        result = getattr(self.sys, name)(*args)
        if name == "socket" and args[0] == AF_INET:
            self.sys.setsockopt(result, IPPROTO_TCP, TCP_NODELAY, 1)
        if name == "readv":
            return [(len(part), zlib.crc32(part)) for part in result]
        if name == "accept4":
            return result[0]
        if name in ("getsockname", "getpeername"):
            return self.named(result)
        if isinstance(result, bytes):
            return len(result), zlib.crc32(result)
        return result

    def bytes(self, n: int) -> bytes:
        start = self.written % 65521
        self.written += n
        return PATTERN[start : start + n]

    def address(self, what: Any) -> Any:
        """("of", fd) is the address that fd is bound to, ("name", n) an abstract name; anything else stands for itself."""
        if isinstance(what, tuple) and what[0] == "of":
            return self.sys.getsockname(what[1])
        if isinstance(what, tuple) and what[0] == "name":
            return b"\0programs-%07d-%d" % (self.sys.getpid(), what[1])
        return what

    def named(self, addr: Any) -> Any:
        """An address without what differs from run to run."""
        if isinstance(addr, tuple):
            return addr[0], addr[1] and 1 + self.seen.setdefault(addr[1], len(self.seen))
        return addr and ("abstract", self.seen.setdefault(addr, len(self.seen)))


class Generator:
    """Makes programs.  ``kinds`` restricts what fds there are: of pipe, eventfd, unix, tcp, epoll."""

    def __init__(self, seed: int, kinds: Sequence[str] = ("pipe", "eventfd", "unix", "tcp", "epoll")) -> None:
        self.random = random.Random(seed)
        self.kinds = kinds
        self.open: dict[int, str] = {}

    def make(self, length: int, polls: bool) -> tuple[Program, list[Result]]:
        """A program of ``length`` calls, and its results on the fake kernel."""
        program: Program = []
        results: list[Result] = []

        def main(sys: Syscalls) -> None:
            machine = Machine(sys)
            script: Script | None = None
            last: Result = None
            while len(program) < length:
                try:
                    call = script.send(last) if script is not None else self.call()
                except StopIteration:
                    script = None
                    continue
                if not isinstance(call, tuple):
                    script = call
                    call = next(script)
                result = machine.step(call, polls)
                program.append(call)
                results.append(result)
                last = result[0]
                self.note(call, last)
            results.append(machine.masks())

        self.open = {}
        simkernel.run(main)
        return program, results

    def note(self, call: Call, result: Result) -> None:
        """Keep the table of kinds."""
        name = call[0]
        if isinstance(result, str):
            return
        if name == "close":
            self.open.pop(call[1], None)
        elif name in ("dup", "dup2", "dup3") or (name == "fcntl" and call[2] in (F_DUPFD, F_DUPFD_CLOEXEC)):
            self.open[result] = self.open.get(call[1], "none")
        elif name == "socketpair":
            self.open.update(dict.fromkeys(result, "unix"))
        elif name == "pipe2":
            self.open[result[0]] = "pipe-r"
            self.open[result[1]] = "pipe-w"
        elif name == "eventfd":
            self.open[result] = "eventfd"
        elif name == "epoll_create1":
            self.open[result] = "epoll"
        elif name == "socket":
            self.open[result] = "tcp" if call[1] == AF_INET else "unix"
        elif name == "accept4":
            self.open[result] = self.open.get(call[1], "none")
        elif name == "listen":
            self.open[call[1]] = self.open[call[1]].removesuffix("-listener") + "-listener"

    # --- choosing ---
    def fd(self, *kinds: str) -> int:
        """An open fd of one of the kinds, or seldom any number."""
        r = self.random
        fds = [fd for fd, kind in self.open.items() if not kinds or kind.startswith(kinds)]
        if not fds or r.random() < 0.03:
            return r.choice([*self.open, -1, 999, r.randrange(3, 20)])
        return r.choice(fds)

    def call(self) -> "Call | Script":
        r = self.random
        if len(self.open) < 3 or (len(self.open) < 14 and r.random() < 0.12):
            return self.new()
        return r.choice(self.verbs())()

    def new(self) -> "Call | Script":
        r = self.random
        kind = r.choice(self.kinds)
        cloexec = r.choice([0, 0, O_CLOEXEC])
        if kind == "pipe":
            return "pipe2", O_NONBLOCK | cloexec | r.choice([0, 0, 0, O_DIRECT])
        if kind == "eventfd":
            return "eventfd", r.choice([0, 0, 1, 3, 2**32 - 1]), EFD_NONBLOCK | r.choice([0, EFD_SEMAPHORE])
        if kind == "epoll":
            return "epoll_create1", cloexec
        if r.random() < (0.6 if kind == "tcp" else 0.15):
            return self.pair(AF_INET if kind == "tcp" else AF_UNIX)
        if kind == "unix" and r.random() < 0.6:
            return "socketpair", AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | cloexec
        return "socket", AF_UNIX if kind == "unix" else AF_INET, SOCK_STREAM | SOCK_NONBLOCK | cloexec

    def pair(self, family: int) -> "Script":
        """A listener, or all of the way to a connection."""
        r = self.random
        listener = yield "socket", family, SOCK_STREAM | SOCK_NONBLOCK
        if family == AF_UNIX:
            yield "bind", listener, ("name", r.randrange(3))
        elif r.random() < 0.2:
            yield "setsockopt", listener, *r.choice([(SOL_SOCKET, SO_RCVLOWAT, 20), (SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))])
        yield "listen", listener, r.choice([0, 1, 5])
        if r.random() < 0.1:
            return
        connecting = yield "socket", family, SOCK_STREAM | SOCK_NONBLOCK
        if "epoll" in self.kinds and r.random() < 0.3:
            yield "epoll_ctl", self.fd("epoll"), EPOLL_CTL_ADD, r.choice([listener, connecting]), self.events(), None
        yield "connect", connecting, ("of", listener)
        if r.random() < 0.1:
            yield r.choice([("close", connecting), ("close", listener), ("write", connecting, 10), ("shutdown", connecting, 1)])
        yield "accept4", listener, SOCK_NONBLOCK
        if r.random() < 0.6:
            yield "close", listener

    def verbs(self) -> list[Callable[[], Call]]:
        """Each verb as often as it should come."""
        verbs: list[Callable[[], Call]] = [self.read] * 4 + [self.write] * 4 + [self.close] * 2 + [self.dup, self.fcntl, self.poll]
        if "epoll" in self.kinds:
            verbs += [self.epoll_ctl] * 4 + [self.epoll_wait] * 4
        if "unix" in self.kinds or "tcp" in self.kinds:
            verbs += [self.connection] * 6 + [self.shutdown] * 2 + [self.option] * 2
        return verbs

    # --- verbs ---
    def read(self) -> Call:
        r = self.random
        fd = self.fd("pipe", "unix", "tcp", "eventfd", "eventfd")
        n = r.choice([0, 1, 3, 8, 8, 100, 1000, 4096, 5000, 65536, 300_000])
        kind = self.open.get(fd, "")
        if kind.startswith(("unix", "tcp")) and r.random() < 0.8:
            return "recv", fd, n, r.choice([0, 0, 0, MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL, MSG_PEEK | MSG_WAITALL])
        if r.random() < 0.1:
            return "readv", fd, [n, 10, r.choice([0, 7])]
        return "read", fd, n

    def write(self) -> Call:
        r = self.random
        fd = self.fd("pipe", "unix", "tcp", "eventfd")
        kind = self.open.get(fd, "")
        if kind == "eventfd":
            return ("add", fd, r.choice([0, 1, 2, 2**63, 2**64 - 2, 2**64 - 1])) if r.random() < 0.9 else ("write", fd, r.choice([0, 4, 9]))
        # TCP's buffers must not fill up: see above.
        n = r.choice([0, 1, 3, 10, 100, 400] if kind.startswith("tcp") else [0, 1, 100, 4096, 4097, 10_000, 70_000, 300_000])
        if kind.startswith(("unix", "tcp")) and r.random() < 0.7:
            return "send", fd, n, r.choice([0, MSG_NOSIGNAL, MSG_DONTWAIT])
        if r.random() < 0.1:
            return "writev", fd, [n, 0, 5]
        return "write", fd, n

    def close(self) -> Call:
        return "close", self.fd()

    def dup(self) -> Call:
        r = self.random
        which = r.randrange(4)
        if which < 2:
            return "dup", self.fd()
        new = r.choice([min(self.fd(), 24), r.randrange(3, 24)])
        if which == 2:
            return "dup2", self.fd(), new
        return "dup3", self.fd(), new, r.choice([0, O_CLOEXEC, 1])

    def fcntl(self) -> Call:
        r = self.random
        fd = self.fd()
        cmd: Any
        cmd, arg = r.choice(
            [
                (F_DUPFD, r.randrange(3, 30)),
                (F_DUPFD_CLOEXEC, r.randrange(3, 30)),
                (F_DUPFD, -1),
                (F_GETFD, 0),
                (F_SETFD, r.randrange(2)),
                (F_GETFL, 0),
                (F_SETFL, O_NONBLOCK | r.choice([0, 0, O_DIRECT])),
                (F_GETPIPE_SZ, 0),
                (F_SETPIPE_SZ, r.choice([-1, 0, 1, 4096, 5000, 8192, 65536, 100_000])),
                ("FIONREAD", 0),
            ]
        )
        if cmd == "FIONREAD":
            return "ioctl", fd, FIONREAD
        return "fcntl", fd, cmd, arg

    def poll(self) -> Call:
        r = self.random
        if r.random() < 0.5:
            return "poll", [(self.fd(), r.choice([0, POLLIN, POLLOUT, POLLIN | POLLOUT, POLLPRI])) for _ in range(r.randrange(4))], 0
        sets = [[max(self.fd(), 3) for _ in range(r.randrange(3))] for _ in range(3)]
        return ("select", *sets, 0)

    def events(self) -> int:
        r = self.random
        if r.random() < 0.08:
            return EPOLLEXCLUSIVE | r.choice([0, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLET, EPOLLERR | EPOLLHUP, EPOLLRDHUP, EPOLLONESHOT])
        common = r.choice([0, EPOLLIN, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLOUT | EPOLLRDHUP])
        events: int = common | r.choice([0, 0, EPOLLET, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT])
        if r.random() < 0.1:
            events ^= r.choice(EPOLL_BITS)
        return events

    def epoll_ctl(self) -> Call:
        r = self.random
        op = r.choice([EPOLL_CTL_ADD] * 4 + [EPOLL_CTL_MOD] * 3 + [EPOLL_CTL_DEL] + [r.choice([0, 9])] * (r.random() < 0.05))
        return "epoll_ctl", self.fd("epoll"), op, self.fd(), self.events(), r.choice([None, r.randrange(1000)])

    def epoll_wait(self) -> Call:
        r = self.random
        return "epoll_wait", self.fd("epoll"), r.choice([1, 1, 2, 3, 16, 16, 16, 0, -1] if r.random() < 0.3 else [1, 2, 16]), 0

    def connection(self) -> Call:
        """bind, listen, connect, accept4, names; with what is there to make a connection of it."""
        r = self.random
        listeners = [fd for fd, kind in self.open.items() if kind.endswith("-listener")]
        plain = [fd for fd, kind in self.open.items() if kind in ("unix", "tcp")][-3:]
        which = r.random()
        if which < 0.06:
            return r.choice(["getsockname", "getpeername"]), self.fd("unix", "tcp")
        if listeners and which < 0.4:
            return "accept4", r.choice(listeners) if r.random() < 0.95 else self.fd(), SOCK_NONBLOCK
        if listeners and plain and which < 0.75:
            to = r.choice(listeners)
            family = self.open[to].removesuffix("-listener")
            return "connect", r.choice([fd for fd in plain if self.open[fd] == family] or plain), ("of", to)
        fd = self.fd("unix", "tcp")
        kind = self.open.get(fd, "")
        if which < 0.78 and plain:
            # To somebody who doesn't listen: nobody, or itself.
            return "connect", fd, ("of", r.choice(plain))
        if which < 0.9:
            return "bind", fd, ("name", r.randrange(3)) if kind.startswith("unix") else ("127.0.0.1", 0)
        return "listen", fd, r.choice([0, 1, 2, 5, -1])

    def shutdown(self) -> Call:
        return "shutdown", self.fd("unix", "tcp"), self.random.choice([0, 1, 1, 2, 2, 3])

    def option(self) -> Call:
        r = self.random
        fd = self.fd("unix", "tcp")
        if r.random() < 0.4:
            level, name = r.choice(
                [(SOL_SOCKET, n) for n in (SO_ERROR, SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_REUSEADDR, SO_LINGER)]
                + [(SOL_SOCKET, SO_RCVLOWAT), (IPPROTO_TCP, TCP_NODELAY)]
            )
            return "getsockopt", fd, level, name, r.choice([0, 0, 8])
        level, name, value = r.choice(
            [
                (SOL_SOCKET, SO_LINGER, struct.pack("ii", r.randrange(2), 0)),
                (SOL_SOCKET, SO_LINGER, b"abc"),
                (SOL_SOCKET, SO_KEEPALIVE, 1),
                (SOL_SOCKET, SO_RCVLOWAT, r.choice([0, 1, 5, 50, 2000])),
                (SOL_SOCKET, SO_ERROR, 1),
                (SOL_SOCKET, SO_SNDBUF, self.buffer(fd)),
                (SOL_SOCKET, SO_RCVBUF, self.buffer(fd)),
                (IPPROTO_TCP, TCP_NODELAY, 1),
            ]
        )
        return "setsockopt", fd, level, name, value

    def buffer(self, fd: int) -> int:
        """A buffer size; large ones for TCP, whose programs must not fill them."""
        return self.random.choice([0, 1, 4096, 5000, 20_000, 100_000] if self.open.get(fd, "").startswith("unix") else [65536, 100_000])


# --- comparing ---


def on_linux(programs: Sequence[tuple[Program, bool]], settle: bool = False) -> list[list[Result]]:
    """The results of many programs, all in one run on the real kernel."""

    def main(sys: Syscalls) -> list[list[Result]]:
        return [Machine(sys, settle).run(program, polls) for program, polls in programs]

    results: list[list[Result]] = simkernel.linux.run(main, timeout=300)
    return results


def on_sim(program: Program, polls: bool) -> list[Result]:
    """The results of one program on the fake kernel."""
    results: list[Result] = simkernel.run(lambda sys: Machine(sys).run(program, polls))
    return results


def differs(program: Program, polls: bool) -> bool:
    return on_sim(program, polls) != on_linux([(program, polls)], settle=True)[0]


def shrink(program: Program, polls: bool) -> Program:
    """Leave out calls as long as the two kernels still differ."""
    size = max(len(program) // 2, 1)
    while True:
        i = 0
        while i < len(program):
            shorter = program[:i] + program[i + size :]
            if differs(shorter, polls):
                program = shorter
            else:
                i += size
        if size == 1:
            return program
        size //= 2


def story(program: Program, polls: bool) -> str:
    """A program that differs, call by call."""
    sim, real = on_sim(program, polls), on_linux([(program, polls)], settle=True)[0]
    lines = []
    for i, call in enumerate(program):
        lines.append(f"  {'' if sim[i] == real[i] else '!!'} {call[0]}({', '.join(map(repr, call[1:]))})")
        lines.append(f"        sim   {sim[i]}"[:400])
        if sim[i] != real[i]:
            lines.append(f"        linux {real[i]}"[:400])
    if sim[-1] != real[-1]:
        lines += [f"  !! masks at the end: sim {sim[-1]}", f"        linux {real[-1]}"]
    return "\n".join(lines)


def campaign(programs: int, seed: int, length: int = 60, kinds: Sequence[str] = ("pipe", "eventfd", "unix", "tcp", "epoll")) -> list[str]:
    """Compare so many programs; returns the stories of those that differ, shrunk (at most ten)."""
    stories: list[str] = []
    batch = 100
    for first in range(0, programs, batch):
        made: list[tuple[Program, bool, list[Result]]] = []
        for i in range(first, min(first + batch, programs)):
            polls = i % 3 != 0
            program, results = Generator(seed * 1_000_003 + i, kinds).make(length, polls)
            made.append((program, polls, results))
        for (program, polls, sim), real in zip(made, on_linux([(p, polls) for p, polls, _ in made]), strict=True):
            if sim != real:
                # What Linux doesn't do each time is its own choice (a timer, an acknowledgement that comes later).
                if all(differs(program, polls) for _ in range(3)):
                    stories.append(story(shrink(program, polls), polls))
                if len(stories) == 10:
                    return stories
    return stories


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--kinds", default="pipe,eventfd,unix,tcp,epoll")
    options = parser.parse_args()
    start = time.monotonic()
    stories = campaign(options.programs, options.seed, options.length, options.kinds.split(","))
    for text in stories:
        print(text, end="\n\n")
    print(
        f"{options.programs} programs, {options.programs * options.length} calls, {time.monotonic() - start:.1f} s, {len(stories)} differ"
    )


if __name__ == "__main__":
    main()
