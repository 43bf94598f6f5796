"""The servers on both kernels: every body is written on api.Syscalls alone, and runs on the fake one and on the real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import h11
import pytest

from servers import (
    blocking_echo,
    client,
    epoll_et_echo,
    epoll_lt_echo,
    http_h11,
    poll_echo,
    prefork_echo,
    select_echo,
    threads_echo,
)
from servers.broken import article_epoll, article_select, et_read_once
from simkernel.api import Syscalls
from simkernel.testing.plugin import World
from simkernel.uapi import (
    AF_INET,
    CLOCK_MONOTONIC,
    F_GETFD,
    F_GETFL,
    F_SETFL,
    MSG_NOSIGNAL,
    O_NONBLOCK,
    POLLIN,
    POLLOUT,
    RLIMIT_NOFILE,
    SHUT_WR,
    SO_LINGER,
    SO_RCVBUF,
    SO_SNDBUF,
    SOCK_STREAM,
    SOL_SOCKET,
    WNOHANG,
)

MS = 1_000_000
SPIN = 42  # exit status of a server that spins
Serve = Callable[[Syscalls, int, int], None]

ECHO = [blocking_echo, select_echo, poll_echo, epoll_lt_echo, epoll_et_echo, prefork_echo, threads_echo]
ALL = [*ECHO, http_h11]


def short(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def every(modules: Sequence[ModuleType]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", modules, ids=short)


# --- what a client says to get its payload back, and what it then hears ---


def ask(module: ModuleType, payload: bytes) -> bytes:
    if module is not http_h11:
        return payload
    return b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (len(payload), payload)


def heard(module: ModuleType, reply: bytes) -> bytes:
    return reply if module is not http_h11 else b"".join(body for _, body in responses(reply))


def responses(stream: bytes, method: str = "GET") -> list[tuple[int, bytes]]:
    """All the responses of a stream, which must end with the last of them."""
    found = []
    while stream:
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method=method, target="/", headers=[("host", "test")]))
        http.send(h11.EndOfMessage())
        http.receive_data(stream)
        response = http.next_event()
        assert isinstance(response, h11.Response), response
        body = b""
        while isinstance(event := http.next_event(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        found.append((response.status_code, body))
        stream = http.trailing_data[0]
    return found


# --- the server's side ---


class Proxy:
    """A Syscalls that stands before another, in this process and in those that it spawns."""

    def __init__(self, sys: Syscalls) -> None:
        self.sys = sys

    def again(self, sys: Syscalls) -> Proxy:
        return type(self)(sys)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.sys, name)

        def proxied(*args: Any) -> Any:
            if name in ("spawn", "thread"):
                main, *rest = args
                return call(lambda sys, *a: main(self if name == "thread" else self.again(sys), *a), *rest)
            return self.call(name, call, args)

        return proxied

    def call(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return call(*args)


class Metered(Proxy):
    """Ends the process that makes more than `budget` calls: it spins."""

    budget = 3_000

    def __init__(self, sys: Syscalls) -> None:
        super().__init__(sys)
        self.calls = 0

    def call(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self.calls += 1
        if self.calls > self.budget:
            self.sys.exit(SPIN)
        return call(*args)


class Faulty(Proxy):
    """What Linux may do at any time: EINTR, ECONNABORTED, EMFILE for a while, a send that takes one part."""

    def __init__(self, sys: Syscalls) -> None:
        super().__init__(sys)
        self.calls = 0

    def call(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self.calls += 1
        if name in ("epoll_wait", "poll", "select", "waitpid", "recv", "send", "accept4") and self.calls % 5 == 0:
            raise InterruptedError(4, "injected")
        if name == "accept4" and self.calls % 7 == 0:
            raise ConnectionAbortedError(103, "injected")
        if name == "accept4" and self.calls % 11 == 0:
            raise OSError(24 if self.calls % 2 else 105, "injected")
        if name == "send" and self.calls % 3 == 0:
            fd, data, flags = args
            return call(fd, data[: 1 + self.calls % 999], flags)
        return call(*args)


class Server:
    """A server in a process of its own, its address, and the way to stop it."""

    def __init__(self, sys: Syscalls, serve: Serve, *, room: int = 0, proxy: type[Proxy] = Proxy, buffers: int = 0) -> None:
        self.sys = sys
        self.listener = sys.socket(AF_INET, SOCK_STREAM)
        if buffers:
            for option in (SO_SNDBUF, SO_RCVBUF):
                sys.setsockopt(self.listener, SOL_SOCKET, option, buffers)
        sys.bind(self.listener, ("127.0.0.1", 0))
        sys.listen(self.listener, 4096)
        self.addr: Any = sys.getsockname(self.listener)
        self.stop_fd = sys.eventfd(0)
        self.pid = sys.spawn(host, serve, self.listener, self.stop_fd, room, proxy)

    def stop(self) -> None:
        """It ends within a second, with nothing left open, and no child."""
        self.sys.write(self.stop_fd, (1).to_bytes(8, "little"))
        assert self.status(1000) == 0

    def status(self, ms: int) -> int:
        end = self.sys.clock_gettime_ns(CLOCK_MONOTONIC) + ms * MS
        while self.sys.clock_gettime_ns(CLOCK_MONOTONIC) < end:
            pid, status = self.sys.waitpid(self.pid, WNOHANG)
            if pid:
                return status
            self.sys.nanosleep(2 * MS)
        raise AssertionError(f"the server has not ended after {ms} ms")


def host(sys: Syscalls, serve: Serve, listener: int, stop: int, room: int, proxy: type[Proxy]) -> None:
    before = open_fds(sys)
    limits = sys.getrlimit(RLIMIT_NOFILE)
    if room:
        sys.setrlimit(RLIMIT_NOFILE, (max(before) + 1 + room, limits[1]))
    seen: Any = proxy(sys)
    serve(seen, listener, stop)
    if not room:
        assert sys.getrlimit(RLIMIT_NOFILE) == limits
    assert open_fds(sys) == before
    with pytest.raises(ChildProcessError):
        sys.waitpid(-1, WNOHANG)


def open_fds(sys: Syscalls) -> list[int]:
    found = []
    for fd in range(1200):
        try:
            sys.fcntl(fd, F_GETFD)
            found.append(fd)
        except OSError:
            pass
    return found


# --- the clients' side ---


def connect(sys: Syscalls, addr: Any, buffers: int = 0) -> int:
    fd = sys.socket(AF_INET, SOCK_STREAM)
    if buffers:
        for option in (SO_SNDBUF, SO_RCVBUF):
            sys.setsockopt(fd, SOL_SOCKET, option, buffers)
    sys.connect(fd, addr)
    return fd


def exchange(
    sys: Syscalls, fd: int, request: bytes, *, shut: bool = True, ms: int = 5000, piece: int = 65536, want: int = 1 << 62
) -> bytes:
    """Send all, SHUT_WR, and receive to the end (or `want` bytes, or for `ms` of silence), both at once."""
    sys.fcntl(fd, F_SETFL, sys.fcntl(fd, F_GETFL) | O_NONBLOCK)
    unsent = memoryview(request)
    reply = bytearray()
    if shut and not unsent:
        sys.shutdown(fd, SHUT_WR)
    while len(reply) < want:
        ready = sys.poll([(fd, POLLIN | (POLLOUT if unsent else 0))], ms)
        if not ready:
            break
        if ready[0][1] & POLLOUT and unsent:
            try:
                unsent = unsent[sys.send(fd, unsent[:piece], MSG_NOSIGNAL) :]
            except BlockingIOError:
                pass
            if not unsent and shut:
                sys.shutdown(fd, SHUT_WR)
        if ready[0][1] & ~POLLOUT:
            data = sys.recv(fd, piece)
            if not data:
                return bytes(reply)
            reply += data
    assert not shut, f"{len(reply)} bytes, then {ms} ms of silence"
    return bytes(reply)


def served(sys: Syscalls, module: ModuleType, addr: Any, payload: bytes, piece: int = 65536, buffers: int = 0) -> None:
    fd = connect(sys, addr, buffers)
    reply = heard(module, exchange(sys, fd, ask(module, payload), piece=piece))
    assert len(reply) == len(payload)
    assert reply == payload
    sys.close(fd)


def together(sys: Syscalls, clients: Sequence[tuple[Any, ...]]) -> None:
    """Run each (main, *args) as a process; all must end well."""
    pids = [sys.spawn(*c) for c in clients]
    assert [sys.waitpid(pid)[1] for pid in pids] == [0] * len(pids)


def reset(sys: Syscalls, fd: int) -> None:
    sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
    sys.close(fd)


def pattern(n: int, seed: int = 1) -> bytes:
    """No two pieces of it are alike, so that a byte lost, doubled or moved is seen."""
    return b"".join((i * 2654435761 + seed).to_bytes(8, "little") for i in range(n // 8 + 1))[:n]


# --- the good ones ---


@every(ALL)
def test_twenty_clients(world: World, module: ModuleType) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve)
        together(sys, [(served, module, server.addr, pattern(5000 * i, i), 700) for i in range(20)])
        server.stop()

    world.run(main)


@every([m for m in ALL if m is not blocking_echo])
def test_a_thousand_connections(world: World, module: ModuleType) -> None:
    def crowd(sys: Syscalls, addr: Any) -> None:
        fds = [connect(sys, addr) for _ in range(1000)]
        for _ in range(2):
            for fd in fds:
                sys.send(fd, ask(module, b"line %6d" % fd))
            for fd in fds:
                want = len(exchange(sys, fd, b"", shut=False, want=11))
                assert want >= 11
        for fd in fds:
            sys.close(fd)

    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve)
        together(sys, [(crowd, server.addr)])
        served(sys, module, server.addr, b"after")
        server.stop()

    world.run(main)


@every(ALL)
@pytest.mark.parametrize(("size", "buffers"), [(1 << 20, 0), (1 << 18, 4608)], ids=["1MiB", "256KiB-small-buffers"])
def test_a_big_client(world: World, module: ModuleType, size: int, buffers: int) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve, buffers=buffers)
        served(sys, module, server.addr, pattern(size), buffers=buffers)
        server.stop()

    world.run(main)


@every(ALL)
def test_half_close(world: World, module: ModuleType) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve)
        for payload in (b"", b"x", pattern(100_000)):
            fd = connect(sys, server.addr)
            assert sys.send(fd, ask(module, payload)) == len(ask(module, payload))
            sys.shutdown(fd, SHUT_WR)
            sys.nanosleep(20 * MS)  # it has long seen the end when we begin to read
            assert heard(module, exchange(sys, fd, b"", shut=False)) == payload
            assert sys.recv(fd, 1) == b""  # by its close, not by our patience
            sys.close(fd)
        silent = connect(sys, server.addr)
        assert exchange(sys, silent, b"") == b""
        server.stop()

    world.run(main)


@every(ALL)
def test_clients_that_vanish(world: World, module: ModuleType) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve)
        for i in range(30):
            fd = connect(sys, server.addr)
            if i % 3:
                exchange(sys, fd, ask(module, pattern(50_000)), shut=False, want=i)
            if i % 2:
                reset(sys, fd)
            else:
                sys.close(fd)  # with the echo unread: a reset too
        served(sys, module, server.addr, pattern(10_000))
        server.stop()

    world.run(main)


@every(ALL)
def test_a_client_that_never_reads(world: World, module: ModuleType) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve, buffers=8192, proxy=Metered)
        fd = connect(sys, server.addr, 8192)
        sys.fcntl(fd, F_SETFL, O_NONBLOCK)
        flood = ask(module, pattern(30_000)) * 50
        sent = 0
        while sys.poll([(fd, POLLOUT)], 200):
            sent += sys.send(fd, flood[sent % len(flood) :])
            assert sent < 1 << 20, "it takes and takes: no back-pressure"
        together(sys, [(served, module, server.addr, pattern(20_000, i)) for i in range(3)])
        assert exchange(sys, fd, b"", shut=False, want=60_000, ms=1000)  # when it reads after all, the rest comes
        server.stop()

    world.run(main)


@every(ALL)
def test_no_fd_left(world: World, module: ModuleType) -> None:
    """EMFILE: those who don't fit in wait, at no cost, and are served when others go."""

    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve, room=8, proxy=Metered)
        silent = [connect(sys, server.addr) for _ in range(40)]
        sys.nanosleep(700 * MS)
        late = connect(sys, server.addr)
        sys.send(late, ask(module, b"late"))
        for fd in silent:
            sys.close(fd)
        assert heard(module, exchange(sys, late, b"")) == b"late"
        together(sys, [(served, module, server.addr, pattern(5000 + i)) for i in range(20)])
        server.stop()

    world.run(main)


def test_a_full_worker_leaves_the_client_to_another(world: World) -> None:
    """Whoever EPOLLEXCLUSIVE wakes, room for 12 is room for 12."""

    def main(sys: Syscalls) -> None:
        server = Server(sys, prefork_echo.serve, room=1 + 1 + 2, proxy=Metered)  # epoll, spare, and 2 (3 without the spare)
        fds = [connect(sys, server.addr) for _ in range(12)]
        for fd in fds:
            assert exchange(sys, fd, b"hello", shut=False, want=5, ms=1000) == b"hello"
        server.stop()

    world.run(main)


@every(ALL)
def test_faults_that_linux_may_raise(world: World, module: ModuleType) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve, proxy=Faulty)
        together(sys, [(served, module, server.addr, pattern(20_000, i), 3000) for i in range(10)])
        server.stop()

    world.run(main)


@every(ALL)
def test_stop_at_once(world: World, module: ModuleType) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, module.serve, buffers=8192)
        fds = [connect(sys, server.addr, 8192) for _ in range(12)]
        for fd in fds[:4]:
            exchange(sys, fd, ask(module, pattern(30_000)) * 4, shut=False, ms=30, want=1)
        for fd in fds[4:8]:
            sys.send(fd, ask(module, b"half a request")[:-3])
        sys.shutdown(fds[8], SHUT_WR)
        sys.nanosleep(20 * MS)
        server.stop()

    world.run(main)


@every(ALL)
def test_stop_before_anyone_came(world: World, module: ModuleType) -> None:
    def main(sys: Syscalls) -> None:
        Server(sys, module.serve).stop()

    world.run(main)


@every(ECHO)
def test_the_client(world: World, module: ModuleType) -> None:
    def main(sys: Syscalls) -> list[str]:
        server = Server(sys, module.serve)
        replies = client.main(sys, *server.addr)
        server.stop()
        return replies

    assert world.run(main) == ["hello", "world"]


def test_blocking_leaves_no_zombies_while_it_serves(world: World) -> None:
    """The pids that waitpid gave, seen while nobody connects any more."""
    reaped: list[int] = []

    class Reaping(Proxy):
        def call(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            if name == "poll" and len(args[0]) == 3 and len(reaped) >= 5:
                self.sys.exit(7)  # the way out to the test
            result = call(*args)
            if name == "waitpid":
                reaped.append(args[0])
            return result

    def main(sys: Syscalls) -> None:
        server = Server(sys, blocking_echo.serve, proxy=Reaping)
        for _ in range(5):
            served(sys, blocking_echo, server.addr, b"hello")
        assert server.status(2000) == 7 << 8

    world.run(main)


# --- HTTP ---


def http(world: World, request: bytes, *, shut: bool = False, ms: int = 300, buffers: int = 0) -> tuple[bytes, bool]:
    """What the server answers, and whether it has closed by itself."""

    def main(sys: Syscalls) -> tuple[bytes, bool]:
        server = Server(sys, http_h11.serve, buffers=buffers)
        fd = connect(sys, server.addr, buffers)
        reply = exchange(sys, fd, request, shut=shut, ms=ms)
        closed = bool(sys.poll([(fd, POLLIN)], 0)) and sys.recv(fd, 1) == b""
        server.stop()
        return reply, closed

    result: tuple[bytes, bool] = world.run(main)
    return result


GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
HELLO = (200, b"hello from simkernel\n")


@pytest.mark.parametrize(
    ("request_", "answers", "closes"),
    [
        (GET, [HELLO], False),
        (GET * 3, [HELLO] * 3, False),
        (b"GET / HTTP/1.0\r\n\r\n", [HELLO], True),
        (b"GET /?q=1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n" + GET, [HELLO], True),
        (ask(http_h11, b"abc") + GET, [(200, b"abc"), HELLO], False),
        (
            b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            [(200, b"abcde")],
            False,
        ),
        (b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n" + GET, [(404, b"not found\n"), HELLO], False),
        (b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx" + GET, [(405, b"method not allowed\n"), HELLO], False),
        (b"GET / HTTP/1.1\r\n\r\n", [(400, b"bad request\n")], True),
        (GET + b"nonsense\r\n\r\n", [HELLO, (400, b"bad request\n")], True),
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * 40_000, [(431, b"bad request\n")], True),
        (ask(http_h11, bytes((1 << 20) + 1)), [(413, b"too large\n")], True),
        (b"nonsense\r\n\r\n" + bytes(1 << 20), [(400, b"bad request\n")], True),  # a close would reset, and lose the answer
    ],
    ids="get keep-alive http10 close echo chunked 404 405 no-host malformed 431 413 lingering".split(),
)
def test_http(world: World, request_: bytes, answers: list[tuple[int, bytes]], closes: bool) -> None:
    reply, closed = http(world, request_)
    assert responses(reply) == answers
    assert closed == closes


def test_http_head(world: World) -> None:
    reply, closed = http(world, GET.replace(b"GET", b"HEAD"))
    assert responses(reply, "HEAD") == [(200, b"")]
    assert not closed


def test_http_pipelining_with_small_buffers(world: World) -> None:
    """Far more answers than 64 KiB: those that waited inside h11 come too, and after them the end."""
    reply, closed = http(world, GET * 3000, shut=True, ms=5000, buffers=4608)
    assert responses(reply) == [HELLO] * 3000
    assert closed


def test_http_a_slow_reader_of_many_answers(world: World) -> None:
    """What it has asked and not got is bounded: the requests may not pile up inside h11 either."""

    class Trickle(Proxy):
        def call(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            return call(args[0], args[1][:100], args[2]) if name == "send" else call(*args)

    def main(sys: Syscalls) -> None:
        server = Server(sys, http_h11.serve, buffers=8192, proxy=Trickle)
        fd = connect(sys, server.addr, 8192)
        sys.fcntl(fd, F_SETFL, O_NONBLOCK)
        flood = GET * 5000
        answer = len(responses_to_one(sys, server.addr))
        sent = got = 0
        while got < 200_000:
            events = sys.poll([(fd, POLLIN | POLLOUT)], 1000)[0][1]
            if events & POLLOUT:
                sent += sys.send(fd, flood[sent % len(flood) :])
            if events & POLLIN:
                got += len(sys.recv(fd, 1000))
            assert sent - got // answer * len(GET) < 150_000
        server.stop()

    world.run(main)


def responses_to_one(sys: Syscalls, addr: Any) -> bytes:
    fd = connect(sys, addr)
    reply = exchange(sys, fd, GET)
    sys.close(fd)
    return reply


def test_http_a_client_that_never_closes_is_hung_up_on(world: World) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, http_h11.serve)
        fd = connect(sys, server.addr)
        sys.send(fd, b"nonsense\r\n\r\n")
        start = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        while True:  # its FIN came long ago; what we send is thrown away, until it closes, which resets
            try:
                sys.send(fd, b"more", MSG_NOSIGNAL)
            except OSError:
                break
            sys.nanosleep(50 * MS)
        assert 1900 * MS < sys.clock_gettime_ns(CLOCK_MONOTONIC) - start < 4000 * MS
        server.stop()

    world.run(main)


# --- the broken ones ---


def test_article_epoll_leaves_one_of_two_waiting(world: World) -> None:
    def main(sys: Syscalls) -> list[bytes]:
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(listener, ("127.0.0.1", 0))
        sys.listen(listener, 10)
        addr: Any = sys.getsockname(listener)
        first, second = connect(sys, addr), connect(sys, addr)  # two, one edge
        stop = sys.eventfd(0)
        pid = sys.spawn(article_epoll.serve, listener, stop)
        replies = [exchange(sys, fd, b"hello", shut=False, want=5, ms=300) for fd in (first, second)]
        third = connect(sys, addr)  # an edge, and the second is served
        replies += [exchange(sys, fd, b"again", shut=False, want=5, ms=300) for fd in (third,)]
        replies.append(exchange(sys, second, b"again", shut=False, want=10, ms=300))
        sys.write(stop, (1).to_bytes(8, "little"))
        assert sys.waitpid(pid)[1] == 0
        return replies

    assert world.run(main) == [b"hello", b"", b"", b"helloagain"]


def test_article_epoll_leaks_the_fds_of_those_who_reset(world: World) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, article_epoll.serve, room=8)
        for _ in range(10):
            fd = connect(sys, server.addr)
            exchange(sys, fd, b"hello", shut=False, want=5, ms=300)
            reset(sys, fd)
        assert server.status(1000) == 1 << 8  # EMFILE: one epoll and seven clients, all of them gone

    world.run(main)


def long_line(sys: Syscalls, serve: Serve) -> int:
    """How much comes back to a client that sends 1,500 bytes and waits."""
    server = Server(sys, serve)
    reply = exchange(sys, connect(sys, server.addr), pattern(1500), shut=False, want=1500, ms=300)
    server.stop()
    return len(reply)


def test_article_epoll_is_saved_by_its_mods(world: World) -> None:
    assert world.run(long_line, article_epoll.serve) == 1500


def test_et_read_once_hangs(world: World) -> None:
    assert world.run(long_line, et_read_once.serve) == 1024


def test_article_select_serves_a_polite_client(world: World) -> None:
    def main(sys: Syscalls) -> bytes:
        server = Server(sys, article_select.serve)
        reply = exchange(sys, connect(sys, server.addr), b"hello", shut=False, want=5)
        server.stop()
        return reply

    assert world.run(main) == b"hello"


def test_article_select_spins_after_a_half_close(world: World) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, article_select.serve, proxy=Metered)
        fd = connect(sys, server.addr)
        assert exchange(sys, fd, b"hello", shut=False, want=5) == b"hello"
        sys.shutdown(fd, SHUT_WR)
        assert server.status(5000) == SPIN << 8

    world.run(main)


def test_article_select_loses_bytes_or_dies(world: World) -> None:
    def main(sys: Syscalls) -> None:
        server = Server(sys, article_select.serve, buffers=4608)
        fd = connect(sys, server.addr, 4608)
        sys.fcntl(fd, F_SETFL, O_NONBLOCK)
        payload = pattern(1 << 18)
        sent = 0
        try:
            while sent < len(payload) and sys.poll([(fd, POLLOUT)], 1000):  # read nothing yet: its send buffer fills up
                sent += sys.send(fd, payload[sent : sent + 4096], MSG_NOSIGNAL)
            assert exchange(sys, fd, b"", shut=False, want=sent, ms=300) != payload[:sent]
        except OSError:
            pass  # reset: send raised EAGAIN, and the server is dead
        sys.kill(server.pid, 9)

    world.run(main)
