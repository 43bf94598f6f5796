"""TCP: connect(2), blocking and not, refused, repeated, hanging; and the calls an unconnected socket refuses."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import AF_INET, MSG_DONTWAIT, SO_ERROR, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET

from .helpers import DATA, FULL, FULL_ERR, IDLE, World, bound, client, err, inet_name, listener, mask, settle, start

ECONNREFUSED = 111


def refusing(sys: Syscalls) -> tuple[str, int]:
    """An address where nobody listens; the port stays bound, so that nobody else can."""
    _, addr = bound(sys)
    return addr


def refused(sys: Syscalls) -> tuple[int, tuple[str, int]]:
    """A socket whose non-blocking connect was refused, and the address."""
    addr = refusing(sys)
    fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    assert err(sys.connect, fd, addr) == "EINPROGRESS"
    settle(sys)
    return fd, addr


def test_nonblocking_connect_is_einprogress(world: World) -> None:
    """Fact 33: EINPROGRESS even on loopback, although OUT is true at once."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys)
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        assert err(sys.connect, fd, addr) == "EINPROGRESS"
        assert mask(sys, fd) == IDLE
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) == 0

    world.run(main)


def test_connect_again(world: World) -> None:
    """Fact 34: the connect after EINPROGRESS tells success, the one after that EISCONN."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys)
        fd = client(sys, addr, SOCK_NONBLOCK)
        settle(sys)
        assert [err(sys.connect, fd, addr) for _ in range(3)] == [None, "EISCONN", "EISCONN"]

    world.run(main)


def test_connect_again_when_blocking(world: World) -> None:
    """Fact 34: a blocking connect has told its success, so the next one is EISCONN."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert [err(sys.connect, fd, addr) for _ in range(2)] == [None, "EISCONN"]

    world.run(main)


def test_nonblocking_connect_refused(world: World) -> None:
    """Fact 35: EINPROGRESS here as well; then everything and ERR; SO_ERROR is ECONNREFUSED once."""

    def main(sys: Syscalls) -> None:
        fd, _ = refused(sys)
        assert mask(sys, fd) == FULL_ERR
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) == ECONNREFUSED
        assert mask(sys, fd) == FULL
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) == 0

    world.run(main)


def test_refused_then_connect_again(world: World) -> None:
    """Fact 36: the next connect reports ECONNREFUSED."""

    def main(sys: Syscalls) -> None:
        fd, addr = refused(sys)
        assert err(sys.connect, fd, addr) == "ECONNREFUSED"

    world.run(main)


def test_refused_and_so_error_read_then_connect_again(world: World) -> None:
    """Fact 36: when SO_ERROR was read, the next connect is ECONNABORTED, and the one after it starts anew."""

    def main(sys: Syscalls) -> None:
        fd, addr = refused(sys)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) == ECONNREFUSED
        assert [err(sys.connect, fd, addr) for _ in range(2)] == ["ECONNABORTED", "EINPROGRESS"]

    world.run(main)


def test_refused_then_recv(world: World) -> None:
    """Fact 37: recv says ECONNREFUSED once, then b''."""

    def main(sys: Syscalls) -> None:
        fd, _ = refused(sys)
        assert [err(sys.recv, fd, 9) for _ in range(3)] == ["ECONNREFUSED", b"", b""]

    world.run(main)


def test_refused_then_send(world: World) -> None:
    """Fact 37, of send: ECONNREFUSED once, then EPIPE."""

    def main(sys: Syscalls) -> None:
        fd, _ = refused(sys)
        assert [err(sys.send, fd, b"x") for _ in range(3)] == ["ECONNREFUSED", "EPIPE", "EPIPE"]

    world.run(main)


def test_blocking_connect_refused_then_retried(world: World) -> None:
    """Fact 38: the same socket may try again, and succeeds once somebody listens."""

    def main(sys: Syscalls) -> None:
        listening, addr = bound(sys)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.connect, fd, addr) == "ECONNREFUSED"
        assert mask(sys, fd) == "OUT|HUP|WRNORM"
        sys.listen(listening, 1)
        sys.connect(fd, addr)
        assert mask(sys, fd) == IDLE

    world.run(main)


def test_syn_sent(world: World) -> None:
    """Fact 39: while the handshake hangs the mask is 0; connect is EALREADY, send and recv EAGAIN."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys, backlog=0)
        client(sys, addr)
        fd = client(sys, addr, SOCK_NONBLOCK)
        settle(sys)
        assert mask(sys, fd) == "0"
        assert err(sys.connect, fd, addr) == "EALREADY"
        assert err(sys.send, fd, b"x") == "EAGAIN"
        assert err(sys.recv, fd, 9) == "EAGAIN"
        assert err(sys.getpeername, fd) == "ENOTCONN"

    world.run(main)


@pytest.mark.parametrize("backlog", [0, 1, 2])
def test_backlog_n_holds_n_plus_one(world: World, backlog: int) -> None:
    """Fact 40: n + 1 connections are established, the others hang in SYN_SENT."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys, backlog)
        fds = [client(sys, addr, SOCK_NONBLOCK) for _ in range(backlog + 4)]
        settle(sys)
        assert [mask(sys, fd) for fd in fds] == [IDLE] * (backlog + 1) + ["0"] * 3

    world.run(main)


def test_accept_makes_room_in_the_backlog(world: World) -> None:
    """Fact 40: each accept lets one more in."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys, backlog=0)
        client(sys, addr)
        sys.accept4(listening)
        fd = client(sys, addr, SOCK_NONBLOCK)
        settle(sys)
        assert mask(sys, fd) == IDLE

    world.run(main)


def test_calls_on_an_unconnected_socket(world: World) -> None:
    """Fact 41: recv and getpeername are ENOTCONN, send is EPIPE; accept on what doesn't listen is EINVAL."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.recv, fd, 9) == "ENOTCONN"
        assert err(sys.read, fd, 9) == "ENOTCONN"
        assert err(sys.send, fd, b"x") == "EPIPE"
        assert err(sys.write, fd, b"x") == "EPIPE"
        assert err(sys.getpeername, fd) == "ENOTCONN"
        assert err(sys.accept4, fd) == "EINVAL"

    world.run(main)


def test_calls_on_a_listener(world: World) -> None:
    """Fact 42: recv is ENOTCONN, send EPIPE, connect EISCONN."""

    def main(sys: Syscalls) -> None:
        fd, addr = listener(sys)
        assert err(sys.recv, fd, 9, MSG_DONTWAIT) == "ENOTCONN"
        assert err(sys.send, fd, b"x") == "EPIPE"
        assert err(sys.connect, fd, addr) == "EISCONN"
        assert err(sys.getpeername, fd) == "ENOTCONN"

    world.run(main)


def test_self_connect(world: World) -> None:
    """Fact 43: a socket that connects to its own address is its own peer, and echoes."""

    def main(sys: Syscalls) -> None:
        fd, addr = bound(sys)
        sys.connect(fd, addr)
        assert sys.getpeername(fd) == sys.getsockname(fd) == addr
        assert sys.send(fd, b"hi") == 2
        settle(sys)
        assert mask(sys, fd) == DATA
        assert sys.recv(fd, 9) == b"hi"

    world.run(main)


def test_connect_to_any_reaches_loopback(world: World) -> None:
    """Fact 54: 0.0.0.0 as a destination is this host."""

    def main(sys: Syscalls) -> None:
        _, (_, port) = listener(sys)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(fd, ("0.0.0.0", port))
        assert sys.getpeername(fd) == ("127.0.0.1", port)
        assert inet_name(sys, fd)[0] == "127.0.0.1"

    world.run(main)


def test_connect_to_any_from_a_bound_address(world: World) -> None:
    """Fact 54: from a socket that is bound to an address, 0.0.0.0 is that very address."""

    def main(sys: Syscalls) -> None:
        listening = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(listening, ("0.0.0.0", 0))
        sys.listen(listening, 1)
        port = inet_name(sys, listening)[1]
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(fd, ("127.0.0.5", 0))
        sys.connect(fd, ("0.0.0.0", port))
        assert sys.getpeername(fd) == ("127.0.0.5", port)

    world.run(main)


def test_connect_to_a_broadcast_address(world: World) -> None:
    """TCP has no broadcast: ENETUNREACH."""

    def main(sys: Syscalls) -> None:
        assert err(sys.connect, sys.socket(AF_INET, SOCK_STREAM), ("127.255.255.255", 9)) == "ENETUNREACH"

    world.run(main)


def test_blocked_accept_wakes_with_the_connection(world: World) -> None:
    """accept sleeps until a client comes."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        results: list[object] = []
        tid = start(sys, lambda sys: results.append(sys.accept4(listening)[1]))
        assert results == []
        fd = client(sys, addr)
        sys.join(tid)
        assert results == [sys.getsockname(fd)]

    world.run(main)


def test_connect_gets_a_port_and_loopback_address(world: World) -> None:
    """An unbound socket is 0.0.0.0:0; connect gives it an address and a port."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert sys.getsockname(fd) == ("0.0.0.0", 0)
        sys.connect(fd, addr)
        host, port = inet_name(sys, fd)
        assert host == "127.0.0.1" and port not in (0, addr[1])

    world.run(main)
