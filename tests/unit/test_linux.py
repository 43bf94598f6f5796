"""The binding to the real kernel: each errno is the kernel's, nothing is tried again; and run() leaves nothing behind."""

import copyreg
import errno
import logging
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio

from simkernel import linux
from simkernel.api import Syscalls
from simkernel.errors import Killed, Timeout, Unsupported, UsageError
from simkernel.linux import LinuxSyscalls, epoll_data, supervise
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    CLOCK_MONOTONIC,
    EFD_NONBLOCK,
    EFD_SEMAPHORE,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    F_DUPFD,
    F_GETFL,
    F_SETFL,
    FIONBIO,
    FIONREAD,
    IPPROTO_TCP,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_TRUNC,
    O_NONBLOCK,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    RLIMIT_NOFILE,
    SHUT_WR,
    SIGKILL,
    SIGPIPE,
    SIGTERM,
    SO_LINGER,
    SO_RCVBUF,
    SO_REUSEADDR,
    SO_TYPE,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    WNOHANG,
)

NO_ERRNO = 0
BIG = 1 << 31


def processes() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def below(pid: int) -> set[int]:
    return set(supervise._tree(pid))


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def errno_of(call: Callable[..., object], *args: object) -> int:
    try:
        call(*args)
    except OSError as e:
        assert e.errno is not None
        return e.errno
    return NO_ERRNO


@pytest.fixture
def sys() -> Iterator[LinuxSyscalls]:
    """The binding in this process; what a test opens is closed."""
    before = open_fds()
    yield LinuxSyscalls()
    for fd in open_fds() - before:
        if errno_of(os.fstat, int(fd)) == NO_ERRNO:
            os.close(int(fd))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a process or an fd in the caller."""
    fds, children = open_fds(), below(os.getpid())
    yield
    assert below(os.getpid()) == children
    assert len(open_fds()) <= len(fds) + 1  # pytest may open a file of its own


def tcp(sys: Syscalls) -> tuple[int, int]:
    listener = sys.socket(AF_INET, SOCK_STREAM)
    sys.bind(listener, ("127.0.0.1", 0))
    sys.listen(listener, 1)
    client = sys.socket(AF_INET, SOCK_STREAM)
    sys.connect(client, sys.getsockname(listener))
    server, peer = sys.accept4(listener)
    assert peer == sys.getsockname(client)
    assert sys.getpeername(client) == sys.getsockname(server)
    sys.close(listener)
    return client, server


# --- errno, types and ranges ---


def test_it_is_syscalls() -> None:
    layer: Syscalls = LinuxSyscalls()
    for name in dir(Syscalls):
        assert name.startswith("_") or hasattr(layer, name)


def test_errno_is_exact(sys: LinuxSyscalls) -> None:
    r, w = sys.pipe2(O_NONBLOCK)
    s = sys.socket(AF_INET, SOCK_STREAM)
    assert errno_of(sys.read, r, 1) == errno.EAGAIN
    assert errno_of(sys.read, w, 1) == errno.EBADF
    assert errno_of(sys.read, 999, 1) == errno.EBADF
    assert errno_of(sys.close, 999) == errno.EBADF
    assert errno_of(sys.send, w, b"x") == errno.ENOTSOCK
    assert errno_of(sys.recv, s, 1) == errno.ENOTCONN
    assert errno_of(sys.getpeername, s) == errno.ENOTCONN
    assert errno_of(sys.accept4, s) == errno.EINVAL
    assert errno_of(sys.dup3, r, r, 0) == errno.EINVAL
    assert sys.dup2(r, r) == r
    assert errno_of(sys.epoll_ctl, r, EPOLL_CTL_ADD, w, 0) == errno.EINVAL
    assert errno_of(sys.epoll_wait, sys.epoll_create1(), 0, 0) == errno.EINVAL
    assert errno_of(sys.epoll_wait, sys.epoll_create1(), 0x7FFFFFFF, 0) == errno.EINVAL
    assert errno_of(sys.nanosleep, -1) == errno.EINVAL
    assert errno_of(sys.select, [], [], [], -0.5) == errno.EINVAL
    assert errno_of(sys.select, [], [], [], -1e-12) == errno.EINVAL
    assert errno_of(sys.epoll_pwait2, sys.epoll_create1(), 1, -1) == errno.EINVAL
    assert errno_of(sys.clock_gettime_ns, 999) == errno.EINVAL
    assert errno_of(sys.waitpid, 1) == errno.ECHILD
    assert errno_of(sys.kill, os.getpid(), 65) == errno.EINVAL
    assert errno_of(sys.getrlimit, 99) == errno.EINVAL
    assert errno_of(sys.setrlimit, RLIMIT_NOFILE, (2, 1)) == errno.EINVAL
    assert errno_of(sys.socket, 45, SOCK_STREAM) == errno.EAFNOSUPPORT
    assert errno_of(sys.bind, s, "/short") == errno.EINVAL  # less than a sockaddr_in
    assert errno_of(sys.bind, s, "/long/enough/for/one") == errno.EAFNOSUPPORT
    assert errno_of(sys.fcntl, r, 9999) == errno.EINVAL
    with pytest.raises(BlockingIOError, match="temporarily unavailable"):
        sys.read(r, 1)
    sys.close(r)
    with pytest.raises(BrokenPipeError):
        sys.write(w, b"x")


@pytest.mark.parametrize(
    ("error", "name", "args"),
    [
        (OverflowError, "read", (BIG, 1)),
        (OverflowError, "read", (-BIG - 1, 1)),
        (OverflowError, "read", (1 << 32, 1)),
        (OverflowError, "close", (1 << 40,)),
        (OverflowError, "recv", (0, 1, BIG)),
        (OverflowError, "recv", (0, 1 << 63)),
        (OverflowError, "socket", (AF_INET, BIG)),
        (OverflowError, "listen", (0, BIG)),
        (OverflowError, "epoll_ctl", (0, 1, 0, 1 << 32)),
        (OverflowError, "epoll_ctl", (0, 1, 0, -1)),
        (OverflowError, "epoll_wait", (0, 1, BIG)),
        (OverflowError, "poll", ([(0, 1 << 16)], 0)),
        (OverflowError, "poll", ([(BIG, 1)], 0)),
        (OverflowError, "setsockopt", (0, SOL_SOCKET, SO_RCVBUF, BIG)),
        (OverflowError, "eventfd", (1 << 32,)),
        (OverflowError, "nanosleep", (1 << 100,)),
        (OverflowError, "waitpid", (BIG,)),
        (OverflowError, "bind", (0, ("127.0.0.1", 65536))),
        (ValueError, "read", (0, -1)),
        (ValueError, "recv", (0, -1)),
        (ValueError, "readv", (0, [-1])),
        (ValueError, "getsockopt", (0, SOL_SOCKET, SO_TYPE, -1)),
        (ValueError, "select", ([1024], [], [], 0)),
        (ValueError, "select", ([], [-1], [], 0)),
        (ValueError, "select", ([], [], [], float("nan"))),
        (ValueError, "epoll_pwait2", (0, 1, 0, [65])),
        (TypeError, "read", (0.0, 1)),
        (TypeError, "read", ("0", 1)),
        (TypeError, "read", (None, 1)),
        (TypeError, "read", (0, 1.0)),
        (TypeError, "close", (0.5,)),
        (TypeError, "send", (0, "text")),
        (TypeError, "send", (0, 5)),
        (TypeError, "write", (0, [1, 2])),
        (TypeError, "epoll_wait", (0, 1, 1.0)),
        (TypeError, "poll", ([], 1.5)),
        (TypeError, "nanosleep", (1.0,)),
        (TypeError, "select", ([1.0], [], [], 0)),
        (TypeError, "bind", (0, 5)),
        (TypeError, "bind", (0, ("127.0.0.1", "80"))),
        (TypeError, "setsockopt", (0, 1, 2, "1")),
        (Unsupported, "ioctl", (0, 0x5402)),
        (Unsupported, "kill", (-1, 0)),
    ],
)
def test_arguments_that_c_could_not_hold(sys: LinuxSyscalls, error: type[Exception], name: str, args: tuple[object, ...]) -> None:
    with pytest.raises(error):
        getattr(sys, name)(*args)


def test_negative_fds_reach_the_kernel(sys: LinuxSyscalls) -> None:
    assert errno_of(sys.read, -1, 1) == errno.EBADF
    assert errno_of(sys.read, -BIG, 1) == errno.EBADF
    assert errno_of(sys.dup2, 0, -1) == errno.EBADF
    assert sys.poll([(-1, POLLIN)], 0) == []


# --- files ---


def test_pipes(sys: LinuxSyscalls) -> None:
    r, w = sys.pipe2()
    assert [sys.write(w, data) for data in (b"ab", bytearray(b"cd"), memoryview(b"xefx")[1:3])] == [2, 2, 2]
    assert sys.ioctl(r, FIONREAD) == 6
    assert [sys.read(r, n) for n in (0, 1, 2, 100)] == [b"", b"a", b"bc", b"def"]
    assert sys.writev(w, [b"one", b"", bytearray(b"two")]) == 6
    assert sys.readv(r, [2, 0, 2, 5, 5]) == [b"on", b"", b"et", b"wo"]
    assert sys.ioctl(r, FIONBIO, 1) == 0
    assert sys.fcntl(r, F_GETFL) == O_NONBLOCK
    sys.fcntl(r, F_SETFL, 0)
    assert sys.fcntl(r, F_GETFL) == 0
    assert sys.fcntl(r, F_DUPFD, 100) >= 100
    sys.close(w)
    assert sys.read(r, 10) == b""
    assert sys.readv(r, [10]) == []


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data)), lambda data: memoryview(data)[:]])
def test_big_buffers(sys: LinuxSyscalls, make: Callable[[bytes], Any]) -> None:
    data = bytes(i % 251 for i in range(30_000))
    r, w = sys.pipe2()
    assert sys.write(w, make(data)) == len(data)
    assert sys.read(r, 65536) == data
    with pytest.raises(BufferError):
        sys.write(w, memoryview(data)[::2])


def test_what_was_read_stays_as_it_is(sys: LinuxSyscalls) -> None:
    r, w = sys.pipe2()
    parts = [bytes([i]) * n for i, n in enumerate([1, 2, 3, 64, 1, 0, 64])]
    got = []
    for part in parts:
        sys.write(w, part)
        got.append(sys.read(r, len(part)))
    assert got == parts
    assert bytes(1) == b"\0"


def test_eventfd(sys: LinuxSyscalls) -> None:
    fd = sys.eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK)
    assert sys.read(fd, 8) == struct.pack("@Q", 1)
    assert errno_of(sys.read, fd, 7) == errno.EINVAL


# --- sockets ---


def test_tcp(sys: LinuxSyscalls) -> None:
    client, server = tcp(sys)
    assert sys.send(client, b"hello") == 5
    assert sys.recv(server, 2, MSG_PEEK) == b"he"
    assert sys.recv(server, 100) == b"hello"
    assert errno_of(sys.recv, server, 1, MSG_DONTWAIT) == errno.EAGAIN
    sys.shutdown(client, SHUT_WR)
    assert sys.recv(server, 1) == b""
    assert errno_of(sys.send, client, b"x", MSG_NOSIGNAL) == errno.EPIPE


def test_connect_in_progress_and_refused(sys: LinuxSyscalls) -> None:
    listener = sys.socket(AF_INET, SOCK_STREAM)
    sys.bind(listener, ("", 0))
    address = sys.getsockname(listener)
    assert address[0] == "0.0.0.0"
    client = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    assert errno_of(sys.connect, client, address) in (errno.EINPROGRESS, errno.ECONNREFUSED)
    blocking = sys.socket(AF_INET, SOCK_STREAM)
    assert errno_of(sys.connect, blocking, address) == errno.ECONNREFUSED


def test_options(sys: LinuxSyscalls) -> None:
    s = sys.socket(AF_INET, SOCK_STREAM)
    assert sys.getsockopt(s, SOL_SOCKET, SO_TYPE) == SOCK_STREAM
    assert sys.getsockopt(s, SOL_SOCKET, SO_REUSEADDR) == 0
    sys.setsockopt(s, SOL_SOCKET, SO_REUSEADDR, True)
    assert sys.getsockopt(s, SOL_SOCKET, SO_REUSEADDR) == 1
    sys.setsockopt(s, IPPROTO_TCP, TCP_NODELAY, 1)
    sys.setsockopt(s, SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 7))
    assert sys.getsockopt(s, SOL_SOCKET, SO_LINGER, 8) == struct.pack("ii", 1, 7)
    assert errno_of(sys.setsockopt, s, SOL_SOCKET, SO_LINGER, b"") == errno.EINVAL
    assert errno_of(sys.getsockopt, s, SOL_SOCKET, 9999) == errno.ENOPROTOOPT


def test_unix_addresses(sys: LinuxSyscalls, tmp_path: Any) -> None:
    a, b = sys.socketpair(AF_UNIX, SOCK_DGRAM)
    assert sys.getsockname(a) == sys.getpeername(a) == ""
    sys.send(a, b"datagram")
    assert sys.recv(b, 4, MSG_TRUNC) == b"data"
    sys.send(a, b"datagram")
    assert sys.recv(b, 0, MSG_TRUNC) == b""
    path = str(tmp_path / "s")
    abstract = b"\0simkernel-test-%d\0x" % os.getpid()
    for address in (path, abstract):
        listener = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.bind(listener, address)
        sys.listen(listener, 1)
        assert sys.getsockname(listener) == address
        client = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.connect(client, address)
        assert sys.getpeername(client) == address
        _, peer = sys.accept4(listener, SOCK_NONBLOCK)
        assert peer == ""
    autobound = sys.socket(AF_UNIX, SOCK_STREAM)
    sys.bind(autobound, "")
    name = sys.getsockname(autobound)
    assert isinstance(name, bytes)
    assert len(name) == 6
    assert name[0] == 0


def test_inet6_names(sys: LinuxSyscalls) -> None:
    try:
        s = sys.socket(AF_INET6, SOCK_STREAM)
    except OSError:
        pytest.skip("a kernel without IPv6")
    assert sys.getsockname(s) == ("::", 0, 0, 0)


# --- waiting ---


def test_epoll_data(sys: LinuxSyscalls) -> None:
    ep = sys.epoll_create1()
    r, w = sys.pipe2()
    sys.write(w, b"x")
    thing: object = ["any", "object"]
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN)
    assert sys.epoll_wait(ep, 8, 0) == [(r, EPOLLIN)]
    for data in (thing, 0, -1, 1 << 40, True, "text", (1, 2)):
        sys.epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN, data)
        [(got, events)] = sys.epoll_wait(ep, 8)
        assert got is data or (type(got), got) == (type(data), data)
        assert events == EPOLLIN
        assert sys.epoll_pwait2(ep, 8, None) == [(data, EPOLLIN)]
    sys.epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET, None)
    assert sys.epoll_wait(ep, 8, 0) == [(r, EPOLLIN)]
    assert sys.epoll_wait(ep, 8, 0) == []
    sys.epoll_ctl(ep, EPOLL_CTL_DEL, r)
    assert errno_of(sys.epoll_ctl, ep, EPOLL_CTL_DEL, r) == errno.ENOENT
    fds = [sys.eventfd(1) for _ in range(5)]
    for fd in fds:
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, f"fd {fd}")
    assert sorted(sys.epoll_wait(ep, 8)) == sorted((f"fd {fd}", EPOLLIN | EPOLLOUT) for fd in fds)
    assert len(sys.epoll_wait(ep, 2)) == 2


def test_epoll_data_of_a_registration_that_outlives_its_fd(sys: LinuxSyscalls) -> None:
    ep = sys.epoll_create1()
    r, w = sys.pipe2()
    copy = sys.dup(r)
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, "old")
    sys.close(r)
    r2, w2 = sys.pipe2()
    assert r2 == r
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, r2, EPOLLIN, "new")
    sys.write(w, b"x")
    assert sys.epoll_wait(sys.dup(ep), 8) == [("old", EPOLLIN)]
    sys.write(w2, b"x")
    assert {data for data, _ in sys.epoll_wait(ep, 8)} == {"old", "new"}
    sys.close(copy)


def test_epoll_data_does_not_grow_without_limit(sys: LinuxSyscalls) -> None:
    ep = sys.epoll_create1()
    kept, _ = sys.pipe2()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, kept, EPOLLIN, keeper := object())
    r, w = sys.pipe2()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN)
    for i in range(10_000):
        sys.epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN, ("data", i))
    assert len(epoll_data._objects) < 5000
    assert any(thing is keeper for thing in epoll_data._objects.values())
    assert len(epoll_data._tokens) == len(epoll_data._objects)
    sys.write(w, b"x")
    assert sys.epoll_wait(ep, 8) == [(("data", 9999), EPOLLIN)]


def test_epoll_data_across_fork(sys: LinuxSyscalls) -> None:
    ep = sys.epoll_create1()
    r, w = sys.pipe2()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN, ("of", "the parent"))
    sys.write(w, b"x")

    def child(sys: Syscalls) -> None:
        [(data, _)] = sys.epoll_wait(ep, 1)
        assert data == ("of", "the parent")
        sys.epoll_ctl(ep, EPOLL_CTL_MOD, r, EPOLLIN, "of the child")

    pid = sys.spawn(child)
    assert sys.waitpid(pid) == (pid, 0)
    with pytest.raises(RuntimeError, match=f"process {pid} registered after the fork"):
        sys.epoll_wait(ep, 1)


def test_poll(sys: LinuxSyscalls) -> None:
    r, w = sys.pipe2()
    assert sys.poll([], 0) == []
    assert sys.poll([(r, POLLIN)], 0) == []
    sys.write(w, b"x")
    sys.close(w)
    assert sys.poll([(999, POLLIN), (r, POLLIN), (r, POLLOUT), (-1, POLLIN)], -1) == [(999, POLLNVAL), (r, POLLIN | POLLHUP), (r, POLLHUP)]


def test_select(sys: LinuxSyscalls) -> None:
    r, w = sys.pipe2()
    r2, w2 = sys.pipe2()
    assert sys.select([r], [], [], 0) == ([], [], [])
    assert sys.select([], [], [], 0.001) == ([], [], [])
    sys.write(w, b"x")
    sys.write(w2, b"x")
    assert sys.select(iter([r2, r, r2]), [w2, w], [r]) == ([r2, r, r2], [w2, w], [])
    sys.dup2(r, 1023)
    assert sys.select([1023], [], []) == ([1023], [], [])
    assert errno_of(sys.select, [1022], [], [], 0) == errno.EBADF
    assert sys.dup2(r, 1024) == 1024
    with pytest.raises(ValueError, match=r"filedescriptor out of range in select\(\)"):
        sys.select([1024], [], [], 0)


@pytest.mark.parametrize("ns", [1, 1_500_000, 20_000_001])
def test_no_wait_is_shorter_than_asked(sys: LinuxSyscalls, ns: int) -> None:
    waits: list[Callable[[], object]] = [
        lambda: sys.nanosleep(ns),
        lambda: sys.select([], [], [], ns / 1e9),
        lambda: sys.epoll_pwait2(sys.epoll_create1(), 1, ns, []),
    ]
    for wait in waits:
        start = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        wait()
        assert sys.clock_gettime_ns(CLOCK_MONOTONIC) - start >= ns


def test_eintr_is_not_retried() -> None:
    def main(sys: LinuxSyscalls) -> dict[str, tuple[int, bool]]:
        signal.signal(signal.SIGALRM, lambda *_: None)
        r, _w = sys.pipe2()
        full = sys.pipe2()[1]
        sys.write(full, bytes(65536))
        a, _ = sys.socketpair(AF_UNIX, SOCK_STREAM)
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.listen(listener, 1)
        ep = sys.epoll_create1()
        sys.spawn(lambda sys: sys.read(r, 1))
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: sys.read(r, 1),
            "write": lambda: sys.write(full, b"x"),
            "recv": lambda: sys.recv(a, 1),
            "accept4": lambda: sys.accept4(listener),
            "epoll_wait": lambda: sys.epoll_wait(ep, 1),
            "epoll_pwait2": lambda: sys.epoll_pwait2(ep, 1, None),
            "poll": lambda: sys.poll([(r, POLLIN)]),
            "select": lambda: sys.select([r], [], []),
            "nanosleep": lambda: sys.nanosleep(10**10),
            "waitpid": lambda: sys.waitpid(-1),
        }
        # SA_RESTART is off, as signal.signal leaves it; so each of them must end.
        out = {}
        for name, call in calls.items():
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            start = time.monotonic()
            out[name] = (errno_of(call), time.monotonic() - start < 2)
        return out

    for name, got in linux.run(main, timeout=20).items():
        assert (name, *got) == (name, errno.EINTR, True)


# --- processes and threads ---


def test_spawn_and_waitpid(sys: LinuxSyscalls, capfd: pytest.CaptureFixture[str]) -> None:
    r, w = sys.pipe2()

    def child(sys: Syscalls, word: bytes) -> None:
        sys.write(w, word + b" %d %d" % (sys.getpid(), sys.getppid()))

    pid = sys.spawn(child, b"from")
    assert sys.waitpid(pid) == (pid, 0)
    assert sys.read(r, 100) == b"from %d %d" % (pid, os.getpid())

    def fail(sys: Syscalls) -> None:
        raise LookupError("to be seen")

    pid = sys.spawn(fail)
    assert os.waitstatus_to_exitcode(sys.waitpid(pid)[1]) == 1
    assert "LookupError: to be seen" in capfd.readouterr().err

    def leave(sys: Syscalls) -> NoReturn:
        raise SystemExit(7)

    assert os.waitstatus_to_exitcode(sys.waitpid(sys.spawn(leave))[1]) == 7
    assert os.waitstatus_to_exitcode(sys.waitpid(sys.spawn(lambda sys: sys.exit(258)))[1]) == 2
    assert errno_of(sys.waitpid, -1) == errno.ECHILD


def test_kill(sys: LinuxSyscalls) -> None:
    r, _ = sys.pipe2()
    pid = sys.spawn(lambda sys: sys.read(r, 1))
    assert sys.waitpid(pid, WNOHANG) == (0, 0)
    sys.kill(pid, 0)
    sys.kill(pid, SIGKILL)
    _, status = sys.waitpid(pid)
    assert os.WTERMSIG(status) == SIGKILL
    assert errno_of(sys.kill, pid, 0) == errno.ESRCH


def test_a_thread_blocks_alone(sys: LinuxSyscalls) -> None:
    r, w = sys.pipe2()
    got: list[bytes] = []
    tid = sys.thread(lambda sys, fd: got.append(sys.read(fd, 10)), r)
    time.sleep(0.01)
    assert got == []
    sys.write(w, b"now")
    sys.join(tid)
    assert got == [b"now"]
    assert errno_of(sys.join, tid) == errno.ESRCH


def test_threads_end_alone(sys: LinuxSyscalls, capfd: pytest.CaptureFixture[str]) -> None:
    own: list[int] = []
    ready = threading.Event()

    def body(sys: Syscalls) -> None:
        ready.wait()
        assert errno_of(sys.join, own[0]) == errno.EDEADLK
        raise LookupError("in a thread")

    own.append(sys.thread(body))
    ready.set()
    sys.join(own[0])
    assert "LookupError: in a thread" in capfd.readouterr().err


def test_limits() -> None:
    def main(sys: Syscalls) -> tuple[object, ...]:
        _, hard = sys.getrlimit(RLIMIT_NOFILE)
        sys.setrlimit(RLIMIT_NOFILE, (5, hard))
        return sys.getrlimit(RLIMIT_NOFILE)[0], sys.pipe2(), errno_of(sys.eventfd)

    assert linux.run(main) == (5, (3, 4), errno.EMFILE)


# --- run ---


def test_results_come_back() -> None:
    assert linux.run(lambda sys, *args: args, 1, "two") == (1, "two")
    assert linux.run(lambda sys: None) is None
    assert len(linux.run(lambda sys: bytes(10_000_000))) == 10_000_000


def test_process_1_starts_from_nothing() -> None:
    fd = os.dup(0)
    os.set_inheritable(fd, True)

    def main(sys: Syscalls) -> tuple[object, ...]:
        fds = sorted(set(map(int, os.listdir("/proc/self/fd"))) - {3})  # 3 is the listing's own
        own = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return fds, sys.socket(AF_INET, SOCK_STREAM), sys.getpid() == os.getsid(0) == os.getpgid(0), own

    try:
        assert linux.run(main) == ([0, 1, 2], 3, True, (signal.SIG_DFL, signal.SIG_DFL, set()))
    finally:
        os.close(fd)


def test_exceptions_come_back() -> None:
    def main(sys: Syscalls) -> None:
        sys.read(77, 1)

    with pytest.raises(OSError, match="Bad file descriptor") as e:
        linux.run(main)
    assert e.value.errno == errno.EBADF
    assert "sys.read(77, 1)" in str(e.value.__cause__)

    def compare(sys: Syscalls) -> None:
        assert sys.getpid() == 0, "not so"

    with pytest.raises(AssertionError, match="not so"):
        linux.run(compare)


def test_what_can_not_be_pickled() -> None:
    with pytest.raises(UsageError, match=r"main returned <function .*, a function, which can't be pickled"):
        linux.run(lambda sys: lambda: None)

    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__("odd")

    def main(sys: Syscalls) -> None:
        raise Odd(1, 2)

    with pytest.raises(RuntimeError, match=r"main raised Odd\('odd'\), which can't be pickled(.|\n)*raise Odd\(1, 2\)"):
        linux.run(main)

    class Mute:
        def __repr__(self) -> str:
            raise ValueError

    with pytest.raises(UsageError, match="Mute"):
        linux.run(lambda sys: Mute())
    with pytest.raises(UsageError, match="bytes when pickled"):
        linux.run(lambda sys: bytes(65 << 20))


def test_exit() -> None:
    def leave(sys: Syscalls, code: object) -> None:
        raise SystemExit(code)

    assert linux.run(lambda sys: sys.exit(0)) is None
    assert linux.run(leave, 0) is None
    assert linux.run(leave, None) is None
    for main in (lambda sys: sys.exit(3), lambda sys: leave(sys, 3)):
        with pytest.raises(SystemExit) as e:
            linux.run(main)
        assert e.value.code == 3


def bare_exit(args: tuple[object, ...]) -> SystemExit:
    """As tblib makes exceptions again: with its arguments, and without what __init__ makes of them."""
    made = SystemExit.__new__(SystemExit)
    made.args = args
    return made


def test_exit_where_exceptions_are_pickled_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, SystemExit, lambda e: (bare_exit, (e.args,)))
    test_exit()


@pytest.mark.parametrize("signum", [SIGTERM, SIGKILL, int(signal.SIGINT), int(signal.SIGSEGV)])
def test_killed(signum: int) -> None:
    with pytest.raises(Killed) as e:
        linux.run(lambda sys: sys.kill(sys.getpid(), signum))
    assert e.value.signum == signum


def test_sigpipe_is_ignored() -> None:
    linux.run(lambda sys: sys.kill(sys.getpid(), SIGPIPE))


def test_what_it_prints_is_flushed_once(capfd: pytest.CaptureFixture[str]) -> None:
    def main(sys: Syscalls) -> None:
        print("from main", end="")
        sys.waitpid(sys.spawn(lambda sys: print(" and child", end="")))

    linux.run(main)
    assert capfd.readouterr().out == "from main and child"


def test_the_deadline_kills_everything() -> None:
    def main(sys: Syscalls, depth: int = 0) -> None:
        if depth < 3:
            sys.spawn(main, depth + 1)
        if depth == 1:
            sys.thread(lambda sys: sys.poll([]))
        if depth == 2:
            return  # so that depth 3 is an orphan
        r, _ = sys.pipe2()
        sys.read(r, 1)

    def leaver(sys: Syscalls) -> None:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            pass

    def both(sys: Syscalls) -> None:
        sys.spawn(leaver)
        main(sys)

    start = time.monotonic()
    with pytest.raises(Timeout) as e:
        linux.run(both, timeout=1.5)
    assert time.monotonic() - start < 5
    text = str(e.value)
    assert "1.5 s of real time" in text
    assert text.count("(main)") == 1
    assert text.count("sleeps in read(") == 3
    assert text.count("sleeps in poll(") == 1
    assert text.count("is running") == 1
    assert text.count("has ended, and was not waited for") == 1
    pids = {int(line.split()[1].rstrip(",")) for line in text.splitlines() if line.startswith("  pid ")}
    assert len(pids) == 5
    assert not pids & processes()


def test_the_end_of_main_is_the_end_of_all() -> None:
    def main(sys: Syscalls) -> list[int]:
        r, _ = sys.pipe2()

        def child(sys: Syscalls) -> None:
            sys.spawn(lambda sys: sys.read(r, 1))
            os.setsid()
            sys.read(r, 1)

        sys.thread(lambda sys: sys.read(r, 1))
        pids = [sys.spawn(child) for _ in range(3)]
        while len(below(sys.getpid())) < 6:
            sys.nanosleep(1_000_000)
        return pids + sorted(below(sys.getpid()))

    pids = linux.run(main)
    assert len(pids) == 9
    assert not set(pids) & processes()


def test_orphans_belong_to_process_1() -> None:
    def main(sys: Syscalls) -> bool:
        r, w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            parent = sys.getpid()

            def orphan(sys: Syscalls) -> None:
                while sys.getppid() == parent:
                    sys.nanosleep(1_000_000)
                sys.write(w, b"%d" % sys.getppid())

            sys.spawn(orphan)

        sys.waitpid(sys.spawn(child))
        mine = sys.read(r, 100) == b"%d" % sys.getpid()
        sys.waitpid(-1)
        return mine and errno_of(sys.waitpid, -1) == errno.ECHILD

    assert linux.run(main) is True


def test_a_port_is_free_again() -> None:
    def main(sys: Syscalls, port: int) -> int:
        s = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(s, ("127.0.0.1", port))
        sys.listen(s, 1)
        sys.spawn(lambda sys: sys.accept4(s))
        name = sys.getsockname(s)
        assert isinstance(name, tuple)
        return name[1]

    port = linux.run(main, 0)
    for _ in range(3):
        assert linux.run(main, port) == port


def test_nothing_is_left_in_the_caller() -> None:
    linux.run(lambda sys: None)
    fds, threads, mask = open_fds(), threading.active_count(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    for _ in range(5):
        linux.run(lambda sys: sys.socketpair(AF_UNIX, SOCK_STREAM))
        with pytest.raises(Timeout):
            linux.run(lambda sys: sys.poll([]), timeout=0.01)
        with pytest.raises(OSError):
            linux.run(lambda sys: sys.close(99))
    assert open_fds() == fds
    assert threading.active_count() == threads
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert errno_of(os.waitpid, -1, os.WNOHANG) == errno.ECHILD


def test_runs_in_threads_at_the_same_time() -> None:
    out: list[int] = []
    threads = [threading.Thread(target=lambda i=i: out.append(linux.run(lambda sys: sys.pipe2()[0] + i))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(out) == list(range(3, 11))


def test_inside_an_event_loop() -> None:
    async def loop() -> None:
        assert linux.run(lambda sys: 5) == 5
        assert await trio.to_thread.run_sync(linux.run, lambda sys: 6) == 6
        with pytest.raises(Timeout):
            linux.run(lambda sys: sys.poll([]), timeout=0.05)

    trio.run(loop)


def test_an_interrupted_caller_leaves_nothing() -> None:
    def interrupt() -> None:
        time.sleep(0.2)
        signal.raise_signal(signal.SIGINT)

    # (Another test may have left Python's own helpers, such as multiprocessing's resource tracker.)
    before = below(os.getpid())
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        linux.run(lambda sys: sys.read(sys.pipe2()[0], 1), timeout=10)
    thread.join()
    assert below(os.getpid()) <= before


def test_a_killed_caller_leaves_nothing(tmp_path: Any) -> None:
    note = tmp_path / "pids"

    def main(sys: Syscalls) -> None:
        child = sys.spawn(lambda sys: sys.poll([]))
        (tmp_path / "part").write_text(f"{sys.getppid()} {sys.getpid()} {child}")
        (tmp_path / "part").rename(note)
        sys.poll([])

    def alive(pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] not in "ZX"  # a zombie waits for init only
        except OSError:
            return False

    caller = os.fork()
    if not caller:
        try:
            linux.run(main)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 10
    while not note.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pids = [int(word) for word in note.read_text().split()]
    assert all(map(alive, pids))
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)


def test_a_log_file_of_the_callers_is_not_mains(tmp_path: Path) -> None:
    """Its number is another file's in main: a line of the log must not go there."""
    log = logging.getLogger("simkernel.tests.log_file")
    log.addHandler(logging.FileHandler(tmp_path / "log", mode="w"))

    def main(sys: Syscalls) -> list[bytes]:
        pipes = [sys.pipe2() for _ in range(20)]
        log.error("not for them")
        found = []
        for r, w in pipes:
            sys.close(w)
            found.append(sys.read(r, 100))
        return found

    try:
        assert set(linux.run(main)) == {b""}
    finally:
        log.handlers.pop().close()
