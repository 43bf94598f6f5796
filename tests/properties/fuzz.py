"""Hostile arguments: wrong types, huge and negative numbers, fds that are closed or of another kind, strange buffers.

    python -m tests.properties.fuzz --calls 1000000 [--seed 1]

Nothing but what the documentation says may come out: OSError, TypeError, ValueError (also OverflowError), BufferError, Unsupported.
The calls depend on the seed alone, never on results, so the same can be made on the real kernel: the outcomes are equal there, but
for what is Unsupported on one side.
"""

import argparse
import array
import ctypes
import errno
import glob
import math
import os
import random
import shutil
import sys as python
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import simkernel
import simkernel.linux
from simkernel.api import Syscalls
from simkernel.kernel.machine import Kernel
from simkernel.uapi import F_SETFL, O_NONBLOCK, RLIMIT_NOFILE

ALLOWED = (OSError, TypeError, ValueError, OverflowError, BufferError, simkernel.Unsupported)
# Of a call with several bad arguments any one may be named.
ARGUMENT_ERRORS = frozenset({"TypeError", "ValueError", "OverflowError", "BufferError", "UnicodeEncodeError"})
CALLS_PER_RUN = 500
FDS = range(3, 18)


class Strange(int):
    """An int of a class of its own."""


def released() -> memoryview:
    view = memoryview(b"released")
    view.release()
    return view


HOSTILE_INTS: list[Any] = [-1, 0, 1, 2, 100, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64, -(2**31), -(2**31) - 1, -(2**64)]
NO_INTS: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 1.5,
    lambda: math.nan,
    lambda: math.inf,
    lambda: "3",
    lambda: b"3",
    lambda: (3,),
    lambda: [3],
    dict,
    lambda: object(),
    lambda: Ellipsis,
    lambda: 3j,
]
BUFFERS: list[Callable[[], Any]] = [
    lambda: b"",
    lambda: b"x",
    lambda: bytes(100),
    lambda: bytearray(8),
    lambda: bytearray(5000),
    lambda: memoryview(bytes(20)),
    lambda: memoryview(bytearray(8192)),
    lambda: memoryview(bytes(20))[::2],
    lambda: memoryview(bytes(20))[::-1],
    lambda: memoryview(bytes(24)).cast("I"),
    lambda: memoryview(bytes(24)).cast("B", (4, 6)),
    lambda: released(),
    lambda: (1).to_bytes(8, "little"),
    lambda: b"\xff" * 8,
]
NO_BUFFERS: list[Callable[[], Any]] = [
    lambda: "text",
    lambda: None,
    lambda: 5,
    lambda: [1, 2],
    lambda: array.array("i", [1]),
    lambda: object(),
    lambda: iter(b"abc"),
]
ADDRESSES: list[Callable[[], Any]] = [
    lambda: ("127.0.0.1", 0),
    lambda: ("", 0),
    lambda: ("0.0.0.0", 7),
    lambda: ("127.0.0.1", 7),
    lambda: ("127.9.9.9", 9),
    lambda: ("256.0.0.1", 1),
    lambda: ("1.2.3", 1),
    lambda: ("localhost", 1),
    lambda: ("127.0.0.1", -1),
    lambda: ("127.0.0.1", 65536),
    lambda: ("127.0.0.1", 2**70),
    lambda: ("127.0.0.1", "80"),
    lambda: ("127.0.0.1",),
    lambda: ("127.0.0.1", 1, 2),
    lambda: (b"127.0.0.1", 1),
    lambda: ("127.0.0.1", 1.0),
    lambda: ("\u0661.0.0.1", 1),
    lambda: ("::1", 0, 0, 0),
    lambda: ("::1", 0, 0, 0),
    lambda: ("::", 7, 0, 0),
    lambda: ("::ffff:127.0.0.1", 7, 2**20 - 1, 2**32 - 1),
    lambda: ("fe80::1", 7, 0, 0),
    lambda: ("::1%lo", 0, 0, 0),
    lambda: ("::1", 0, -1, 0),
    lambda: ("::1", 0, 0, 2**32),
    lambda: ("::1", 0, 0, None),
    lambda: ("127.0.0.1", 0, 0, 0),
    lambda: ("::1", 0, 0, 0, 0),
    lambda: "",
    lambda: b"",
    lambda: b"\0a-name-that-no-one-has-ever-bound",
    lambda: "/nowhere/at/all",
    lambda: "a\0b",
    lambda: b"\0" + bytes(106),
    lambda: b"\0" + bytes(107),
    lambda: b"\0" + bytes(108),
    lambda: "/" + "x" * 106,
    lambda: "/" + "x" * 107,
    lambda: "/" + "x" * 300,
    lambda: "\ud800",
    lambda: None,
    lambda: 5,
    lambda: [("127.0.0.1", 0)],
    lambda: bytearray(b"\0x"),
]


PATHS: list[Callable[[], Any]] = [
    lambda: "/tmp/simkernel-fuzz-a",
    lambda: "/tmp/simkernel-fuzz-b",
    lambda: "/tmp/simkernel-fuzz-d",
    lambda: "/tmp/simkernel-fuzz-d/c",
    lambda: "/dev/null",
    lambda: "/dev/zero",
    lambda: "/proc/self/fdinfo/3",
    lambda: "/proc/sys/fs/file-max",
    lambda: "/tmp",
    lambda: "/",
    lambda: "/tmp/.",
    lambda: "/tmp/../tmp/simkernel-fuzz-a",
    lambda: "/nowhere/at/all",
    lambda: "/tmp/simkernel-fuzz-a/below",
    lambda: "/tmp/" + "x" * 300,
    lambda: "/" + "x/" * 3000,
    lambda: "",
    lambda: b"/tmp/simkernel-fuzz-a",
    lambda: "/tmp/a\0b",
    lambda: "\ud800",
    lambda: None,
    lambda: 5,
    lambda: bytearray(b"/tmp"),
]
FIXED_PORTS: list[Any] = [
    ("0.0.0.0", 7),
    ("127.0.0.1", 7),
    ("127.9.9.9", 9),
    ("::", 7, 0, 0),
    ("::ffff:127.0.0.1", 7, 2**20 - 1, 2**32 - 1),
]
LIMITS: list[Any] = [
    (1024, 4096),
    (64, 4096),
    (5, 4),
    (-1, 4096),
    (-2, 5),
    (1024, 2**40),
    (1.0, 5),
    (1,),
    5,
    None,
    (2**64, 2**64),
    ("5", 5),
]


class Fuzzer:
    """Makes calls from a seed.  ``real``: they are also made on the real kernel, so nothing that would be slow or large there."""

    def __init__(self, seed: int, real: bool) -> None:
        self.random = random.Random(seed)
        self.real = real
        self.verbs: list[tuple[str, tuple[Callable[[], Any], ...]]] = [
            (
                "socket",
                (self.one(1, 1, 2, 2, 10, 0, 45, 46), self.one(1, 2, 5, 0x801, 0x80802, 0, 11, 16), self.one(0, 0, 0, 6, 17, 1, 255)),
            ),
            ("socketpair", (self.one(1, 1, 1, 2, 10), self.one(1, 2, 5, 0x801, 0x80801, 15), self.one(0, 0, 1, 2))),
            ("bind", (self.fd, self.unused)),
            ("listen", (self.fd, self.one(0, 1, -1, 5000))),
            ("connect", (self.fd, self.unused)),
            ("accept4", (self.fd, self.one(0, 0x800, 0x80000, 1))),
            ("getsockname", (self.fd,)),
            ("getpeername", (self.fd,)),
            ("shutdown", (self.fd, self.one(0, 1, 2, 3))),
            ("setsockopt", (self.fd, self.one(1, 1, 1, 6, 17, 41), self.option, self.option_value)),
            ("getsockopt", (self.fd, self.one(1, 1, 1, 6, 17, 41), self.option, self.one(0, 0, 1, 3, 4, 8, 16, 100))),
            ("send", (self.fd, self.buffer, self.one(0, 0, 0x40, 0x4000))),
            ("recv", (self.fd, self.size, self.msg_flags)),
            ("sendto", (self.fd, self.buffer, self.msg_flags, self.destination)),
            ("recvfrom", (self.fd, self.size, self.msg_flags)),
            ("sendmsg", (self.fd, self.buffers, self.ancdata, self.msg_flags, self.destination)),
            ("recvmsg", (self.fd, self.size, self.one(0, 0, 20, 24, 100), self.msg_flags)),
            ("open", (self.path, self.one(0, 0, 1, 2, 0x42, 0x241, 0x442, 0xC2, 0x10000, 0x80000), self.one(0o600))),
            ("unlink", (self.own_path,)),
            ("mkdir", (self.own_path, self.one(0o700))),
            ("memfd_create", (self.name, self.one(0, 1, 2, 8))),
            ("lseek", (self.fd, self.offset, self.one(0, 1, 2, 3, 5))),
            ("ftruncate", (self.fd, self.offset)),
            ("pread", (self.fd, self.size, self.offset)),
            ("pwrite", (self.fd, self.buffer, self.offset)),
            ("sendfile", (self.fd, self.fd, self.maybe_offset, self.size)),
            ("splice", (self.fd, self.maybe_offset, self.fd, self.maybe_offset, self.size, self.one(0, 2, 1, 15, 16))),
            ("timerfd_create", (self.one(0, 1, 7, 2, 11), self.one(0, 0x800, 0x80800, 1))),
            ("timerfd_settime", (self.fd, self.one(0, 1, 2, 3, 4), self.time, self.time)),
            ("timerfd_gettime", (self.fd,)),
            ("signalfd", (self.signalfd, self.signals, self.one(0x800, 0x800, 0x80800, 1))),
            ("epoll_pwait", (self.fd, self.one(1, 5, 0), self.timeout, self.maybe_signals)),
            ("ppoll", (self.pollfds, self.timeout_ns, self.maybe_signals)),
            ("pselect", (self.fds, self.fds, self.fds, self.timeout_ns, self.maybe_signals)),
            ("pidfd_open", (self.nobody, self.one(0, 0x800, 1))),
            ("sigaction", (self.signum, self.handler, self.one(0, 0x10000000, 0x40000000, 0x80000000, 3), self.signals)),
            ("sigprocmask", (self.one(0, 1, 2, 3), self.maybe_signals)),
            ("sigpending", ()),
            ("read", (self.fd, self.size)),
            ("write", (self.fd, self.buffer)),
            ("readv", (self.fd, self.sizes)),
            ("writev", (self.fd, self.buffers)),
            ("close", (self.fd,)),
            ("dup", (self.fd,)),
            ("dup2", (self.fd, self.fd)),
            ("dup3", (self.fd, self.fd, self.one(0, 0x80000, 1))),
            ("fcntl", (self.fd, self.one(0, 1, 2, 3, 4, 1030, 1031, 1032), self.one(0, 3, 10, 0x800, 0x4800, 4096, 100_000))),
            ("ioctl", (self.fd, self.one(0x541B, 0x5421), self.one(0, 1))),
            ("pipe2", (self.one(0, 0x800, 0x4800, 0x80800, 1),)),
            ("eventfd", (self.one(0, 1, 2**32 - 1), self.one(0, 1, 0x800, 0x80801, 2))),
            ("epoll_create1", (self.one(0, 0x80000, 1),)),
            ("epoll_ctl", (self.fd, self.one(1, 1, 1, 2, 3, 0, 4), self.fd, self.events, self.data)),
            ("epoll_wait", (self.fd, self.one(1, 5, 0, 1000), self.timeout)),
            ("epoll_pwait2", (self.fd, self.one(1, 5, 0), self.timeout_ns)),
            ("poll", (self.pollfds, self.timeout)),
            ("select", (self.fds, self.fds, self.fds, self.seconds)),
            ("clock_gettime_ns", (self.one(0, 1, 7),)),
            ("nanosleep", (self.timeout_ns,)),
            ("join", (self.nobody,)),
            ("waitpid", (self.one(-1, 5, 9999999), self.one(1))),
            ("kill", (self.nobody, self.one(0, 9, 15, 64, 65, -1))),
            ("getrlimit", (self.one(7),)),
            ("setrlimit", (self.resource, self.limits)),
            ("futex_wait", (self.word, self.one(0, 7, 2**32), self.limit)),
            ("futex_wake", (self.word, self.one(1, 0, -1))),
        ]

    def call(self) -> tuple[str, list[Any]]:
        name, spec = self.random.choice(self.verbs)
        args = [make() for make in spec]
        r = self.random.random()
        if r < 0.01 and name not in ("poll", "select", "epoll_wait", "futex_wait"):
            args = args[:-1]
        elif r < 0.02:
            args.append(0)
        return name, args

    # --- arguments ---
    def one(self, *good: int) -> Callable[[], Any]:
        """An int: mostly a good one."""

        def make() -> Any:
            r = self.random.random()
            if r < 0.85:
                return self.random.choice(good)
            return self.hostile_int() if r < 0.93 else self.random.choice(NO_INTS)()

        return make

    def hostile_int(self) -> Any:
        value = self.random.choice(HOSTILE_INTS)
        return Strange(value) if self.random.random() < 0.1 else value

    def word(self) -> Any:
        """A futex nobody else knows, on the real kernel one that has an address."""
        return ctypes.c_uint32(self.random.choice([0, 0, 7, 2**32 - 1]))

    def limit(self) -> Any:
        """Nanoseconds, few enough that whom nobody wakes comes back."""
        return self.random.choice([0, 0, 1000, -1, -(10**18), 2**100, "1", 0.5])

    def fd(self) -> Any:
        r = self.random.random()
        if r < 0.88:
            return self.random.choice(FDS)
        if r < 0.94:
            return self.random.choice([-1, 60, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**64, Strange(3)])
        return self.random.choice(NO_INTS)()

    def address(self) -> Any:
        return self.random.choice(ADDRESSES[: 4 if self.random.random() < 0.3 else len(ADDRESSES)])()

    def unused(self) -> Any:
        """The same for bind: on the real kernel no path, which would make a file, and no port that another run may still hold."""
        addr = self.address()
        if self.real and ((isinstance(addr, str) and addr.startswith("/")) or addr in FIXED_PORTS):
            return ADDRESSES[0]()
        return addr

    def destination(self) -> Any:
        return None if self.random.random() < 0.4 else self.unused()

    def ancdata(self) -> Any:
        r = self.random.random()
        if r < 0.5:
            return ()
        if r < 0.8:
            return [(1, self.random.choice([1, 1, 2, 3]), self.random.choice([b"", b"abc", b"\3\0\0\0", b"\4\0\0\0\5\0\0\0", bytes(12)]))]
        return self.random.choice(
            [5, None, [5], [(1, 1)], [(1, 1, None)], [(1, 2**40, b"")], [("1", 1, b"")], "ab", [(1, 1, bytes(4 * 254))]]
        )

    def msg_flags(self) -> Any:
        return self.one(0, 0, 0, 0x2, 0x40, 0x100, 0x4000, 0x20, 0x1, 0x8000, 0x80, 0x40000000, 0x2000, 0x10, 0x4)()

    def path(self) -> Any:
        """On the real kernel no sysctl, which would be written to."""
        path = self.random.choice(PATHS[: 8 if self.random.random() < 0.6 else len(PATHS)])()
        return PATHS[0]() if self.real and isinstance(path, str) and path.startswith("/proc/sys") else path

    def own_path(self) -> Any:
        """The same for what removes and makes names: on the real kernel root may unlink even /dev/null, so nothing of the machine's."""
        path = self.path()
        return PATHS[0]() if self.real and isinstance(path, str) and path.startswith(("/dev", "/proc")) else path

    def name(self) -> Any:
        return self.random.choice(["a", "name", "", "x" * 249, "x" * 250, "a\0b", b"bytes", None, 5, "\ud800"])

    def offset(self) -> Any:
        return self.one(0, 0, 1, 5, 100, 4096, -1, -5)()

    def maybe_offset(self) -> Any:
        return None if self.random.random() < 0.6 else self.offset()

    def time(self) -> Any:
        return self.one(0, 1, 10**6, 60 * 10**9, -1)()

    def signum(self) -> Any:
        return self.one(10, 12, 17, 23, 34, 40, 64, 9, 19, 0, 65, 32)()

    def signals(self) -> Any:
        if self.random.random() < 0.85:
            return [self.random.choice([10, 12, 17, 34, 64]) for _ in range(self.random.randrange(4))]
        return self.random.choice([(9,), {19}, [0], [65], [-1], ["1"], 5, None, [2**70], [1.5], range(1, 65), "ab"])

    def maybe_signals(self) -> Any:
        return None if self.random.random() < 0.4 else self.signals()

    def handler(self) -> Any:
        return self.random.choice([0, 1, None, int, 2, -1, "x", 2**70, 1.5, [], abs])

    def signalfd(self) -> Any:
        return -1 if self.random.random() < 0.5 else self.fd()

    def option(self) -> Any:
        return self.one(*range(1, 26), 30, 38, 39)()

    def option_value(self) -> Any:
        r = self.random.random()
        if r < 0.4:
            return self.random.choice([0, 1, 5000])
        return self.buffer() if r < 0.8 else self.hostile_int()

    def buffer(self) -> Any:
        return self.random.choice(BUFFERS if self.random.random() < 0.85 else NO_BUFFERS)()

    def buffers(self) -> Any:
        r = self.random.random()
        if r < 0.9:
            return [self.buffer() for _ in range(self.random.randrange(4))]
        return self.random.choice([[b"x"] * 1025, 5, None, (b"a", b"b"), "ab"])

    def size(self) -> Any:
        r = self.random.random()
        if r < 0.8:
            return self.random.choice([0, 1, 7, 8, 100, 70_000])
        if r < 0.9:
            return self.random.choice([-1, 2**63, -(2**63), 2**64] if self.real else HOSTILE_INTS)
        return self.random.choice(NO_INTS)()

    def sizes(self) -> Any:
        if self.random.random() < 0.9:
            return [self.size() for _ in range(self.random.randrange(4))]
        return self.random.choice([[1] * 1025, 5, None, (1, 2), b"\1\2"])

    def events(self) -> Any:
        if self.random.random() < 0.8:
            return self.random.choice([0, 1, 4, 5, 0x80000001, 0x40000001, 0x10000001])
        return self.one(1)()

    def data(self) -> Any:
        return self.random.choice([None, None, 5, "text", (1, 2), 2**70, -1])

    def timeout(self) -> Any:
        """Never infinite: nobody would end the sleep."""
        if self.random.random() < 0.8:
            return 0
        value = self.random.choice([0, 2**31, 2**64, -(2**31) - 1, *(make() for make in NO_INTS)])
        return value if self.real or self.random.random() < 0.7 else self.random.choice([1, 1000, 2**31 - 1])

    def timeout_ns(self) -> Any:
        if self.random.random() < 0.7:
            return 0
        value = self.random.choice([0, -1, -(2**64), *(make() for make in NO_INTS[1:])])
        return value if self.real or self.random.random() < 0.7 else self.random.choice([1, 10**9, 2**40, 2**62])

    def seconds(self) -> Any:
        if self.random.random() < 0.7:
            return 0
        return self.random.choice([0, 0.0, -1, -0.5, -1e-12, math.nan, "1", b"", [], 3j])

    def pollfds(self) -> Any:
        if self.random.random() < 0.9:
            return [(self.fd(), self.one(0, 1, 4, 5, 0x2000)()) for _ in range(self.random.randrange(4))]
        return self.random.choice([5, None, [5], [(3,)], [(3, 1, 1)], ((3, 1),), "ab"])

    def fds(self) -> Any:
        if self.random.random() < 0.9:
            return [self.fd() for _ in range(self.random.randrange(3))]
        return self.random.choice([(), {3, 4}, iter([3]), 5, None, [1024], "ab"])

    def nobody(self) -> Any:
        """A pid that no process has, on either kernel."""
        return self.random.choice([9999999, 9999999, 2**31 - 1, 2**31, -(2**31) - 1, 2**64, "1", None, 1.5])

    def resource(self) -> Any:
        """Not one of the real process's memory or processor time."""
        return self.random.choice([7, 7, 7, 100, -1, 2**31, "7", None])

    def limits(self) -> Any:
        return self.random.choice(LIMITS)


MAY_BLOCK = frozenset("connect accept4 send sendto sendmsg recv recvfrom recvmsg read write readv writev sendfile splice".split())


def calls(sys: Syscalls, seed: int, n: int, real: bool) -> list[tuple[str, str, str]]:
    """Make ``n`` calls; (name, arguments, outcome) of each.  An outcome is "ok", an errno or the class of an exception."""
    fuzzer = Fuzzer(seed, real)
    out: list[tuple[str, str, str]] = []
    sys.setrlimit(RLIMIT_NOFILE, (1024, 4096))
    for _ in range(n):
        name, args = fuzzer.call()
        if name in MAY_BLOCK:
            for fd in FDS:
                try:
                    sys.fcntl(fd, F_SETFL, O_NONBLOCK)
                except OSError:
                    pass
        shown = repr(args)[:200] if real else ""
        try:
            result = getattr(sys, name)(*args)
            outcome = "ok"
            new_fd = name in ("dup", "dup2", "dup3", "socket") or (name == "fcntl" and args[1] in (0, 1030))
            if new_fd and result > 17:
                # Numbers stay low, so that most fds that are tried are open.
                sys.close(result)
        except OSError as error:
            outcome = errno.errorcode.get(error.errno or 0, str(error.errno))
        except ALLOWED as error:
            outcome = type(error).__name__
        except BaseException as error:
            raise AssertionError(f"{name}{tuple(args)!r} raised {type(error).__name__}: {error}") from error
        out.append((name, shown, outcome))
    return out


def fuzz(total: int, seed: int) -> Counter[str]:
    """``total`` calls on the fake kernel; how often there was which outcome.  AssertionError for any that may not be."""
    outcomes: Counter[str] = Counter()
    for i in range(0, total, CALLS_PER_RUN):
        kernel = Kernel(max_stalled=1_000_000, debug=True)
        done = kernel.run(calls, seed * 1_000_003 + i, min(CALLS_PER_RUN, total - i), False)
        outcomes.update(outcome for _, _, outcome in done)
    return outcomes


def remove_files() -> None:
    """Each run begins without the files of the one before."""
    for path in glob.glob("/tmp/simkernel-fuzz-*"):
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def differences(runs: int, seed: int, length: int = 200) -> list[str]:
    """Where the fake and the real kernel answer the same hostile calls differently, at most the first of each run."""
    seeds = [seed * 1_000_003 + i for i in range(runs)]

    def on_real(sys: Syscalls) -> list[list[tuple[str, str, str]]]:
        out = []
        for one in seeds:
            out.append(calls(sys, one, length, True))
            for fd in range(3, 1100):
                try:
                    sys.close(fd)
                except OSError:
                    pass
            remove_files()
        return out

    remove_files()
    try:
        real_runs = simkernel.linux.run(on_real, timeout=300)
    finally:
        remove_files()
    found: list[str] = []
    for one, real in zip(seeds, real_runs, strict=True):
        sim = Kernel(max_stalled=1_000_000).run(calls, one, length, True)
        for a, b in zip(sim, real, strict=True):
            if a[2] != b[2] and not (a[2] in ARGUMENT_ERRORS and b[2] in ARGUMENT_ERRORS):
                if "Unsupported" not in (a[2], b[2]):
                    found.append(f"seed {one}: {a[0]}{a[1]}: sim {a[2]}, linux {b[2]}")
                # From here on the two may be in different states.
                break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compare", type=int, default=0, help="so many runs of 200 calls are also compared with the real kernel")
    options = parser.parse_args()
    start = time.monotonic()
    outcomes = fuzz(options.calls, options.seed)
    print(f"{options.calls} calls in {time.monotonic() - start:.1f} s on Python {python.version.split()[0]}, nothing else came out:")
    for outcome, n in outcomes.most_common():
        print(f"  {n:8} {outcome}")
    if options.compare:
        found = differences(options.compare, options.seed)
        print(f"{options.compare} runs compared with Linux: {len(found)} differ")
        for line in found:
            print("  " + line)


if __name__ == "__main__":
    main()
