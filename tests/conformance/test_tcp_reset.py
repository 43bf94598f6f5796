"""TCP: what sends an RST, and what the other side then reads, writes and polls."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import SHUT_RD, SHUT_WR, SO_ERROR, SOL_SOCKET

from .helpers import FIN, FULL, FULL_ERR, IDLE, World, client, err, listener, mask, reset, settle, tcp_pair


def so_error(sys: Syscalls, fd: int) -> int | bytes:
    return sys.getsockopt(fd, SOL_SOCKET, SO_ERROR)


ECONNRESET = 104
EPIPE = 32


@pytest.mark.parametrize("read", [0, 2])
def test_close_with_unread_data_resets(world: World, read: int) -> None:
    """Fact 11: close with unread data, even part of it, sends an RST: the peer has everything and ERR, and recv ECONNRESET."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.send(ours, b"data")
        settle(sys)
        if read:
            sys.recv(theirs, read)
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert err(sys.recv, ours, 9) == "ECONNRESET"

    world.run(main)


def test_close_with_all_data_read_does_not_reset(world: World) -> None:
    """Fact 11, the other side: once everything was read, close sends a FIN."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.send(ours, b"data")
        settle(sys)
        sys.recv(theirs, 4)
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == FIN
        assert sys.recv(ours, 9) == b""

    world.run(main)


def test_recv_after_rst(world: World) -> None:
    """Fact 12: recv says ECONNRESET once, then b''; a send is EPIPE from then on."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        reset(sys, theirs)
        settle(sys)
        assert [err(sys.recv, ours, 9) for _ in range(3)] == ["ECONNRESET", b"", b""]
        assert mask(sys, ours) == FULL
        assert err(sys.send, ours, b"x") == "EPIPE"

    world.run(main)


def test_send_after_rst(world: World) -> None:
    """Fact 13: send says ECONNRESET once, then EPIPE; recv has b''."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        reset(sys, theirs)
        settle(sys)
        assert [err(sys.send, ours, b"x") for _ in range(3)] == ["ECONNRESET", "EPIPE", "EPIPE"]
        assert err(sys.recv, ours, 9) == b""

    world.run(main)


def test_so_error_after_rst(world: World) -> None:
    """Fact 14: SO_ERROR is ECONNRESET once, then 0; ERR leaves the mask, HUP stays; recv then has b'' and send EPIPE."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        reset(sys, theirs)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert [so_error(sys, ours), so_error(sys, ours)] == [ECONNRESET, 0]
        assert mask(sys, ours) == FULL
        assert err(sys.recv, ours, 9) == b""
        assert err(sys.send, ours, b"x") == "EPIPE"

    world.run(main)


def test_poll_does_not_consume_the_error(world: World) -> None:
    """Fact 14: only a call that reports the error clears it; poll may look twice."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        reset(sys, theirs)
        settle(sys)
        assert [mask(sys, ours), mask(sys, ours)] == [FULL_ERR, FULL_ERR]

    world.run(main)


def test_data_received_before_the_rst(world: World) -> None:
    """Fact 15: what had been received is read first, then ECONNRESET, then b''."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.send(theirs, b"data")
        settle(sys)
        reset(sys, theirs)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert [err(sys.recv, ours, 9) for _ in range(3)] == [b"data", "ECONNRESET", b""]

    world.run(main)


def test_response_then_close_with_an_unread_request(world: World) -> None:
    """Raw values: a server that answers and closes without having read all: the client has the answer, then ECONNRESET."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.send(ours, b"request")
        settle(sys)
        sys.send(theirs, b"resp")
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert [err(sys.recv, ours, 9) for _ in range(3)] == [b"resp", "ECONNRESET", b""]

    world.run(main)


def test_linger_zero_resets(world: World) -> None:
    """Fact 16: close with SO_LINGER (1, 0) sends an RST even with nothing unread."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        reset(sys, theirs)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert err(sys.recv, ours, 9) == "ECONNRESET"

    world.run(main)


def test_send_to_a_closed_peer(world: World) -> None:
    """Fact 17: the first send is taken and draws the RST; the second is EPIPE; recv stays b''."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.close(theirs)
        settle(sys)
        assert sys.recv(ours, 9) == b""
        assert sys.send(ours, b"x") == 1
        settle(sys)
        assert sys.recv(ours, 9) == b""
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert mask(sys, ours) == FULL
        assert sys.recv(ours, 9) == b""

    world.run(main)


def test_rst_after_a_fin_is_epipe(world: World) -> None:
    """Fact 18: an RST that comes after the peer's FIN sets EPIPE, not ECONNRESET; recv has b'' still."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.close(theirs)
        settle(sys)
        sys.send(ours, b"x")
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert [so_error(sys, ours), so_error(sys, ours)] == [EPIPE, 0]
        assert mask(sys, ours) == FULL

    world.run(main)


def test_recv_does_not_report_the_epipe(world: World) -> None:
    """Fact 18: after FIN and RST recv gives b'' and leaves the EPIPE for SO_ERROR."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.close(theirs)
        settle(sys)
        sys.send(ours, b"x")
        settle(sys)
        assert sys.recv(ours, 9) == b""
        assert so_error(sys, ours) == EPIPE

    world.run(main)


def test_shut_rd_data_read_close_is_a_fin(world: World) -> None:
    """Fact 19: SHUT_RD makes no RST of a close whose data was read."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.send(ours, b"x")
        settle(sys)
        sys.shutdown(theirs, SHUT_RD)
        assert sys.recv(theirs, 9) == b"x"
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == FIN

    world.run(main)


def test_rst_before_accept(world: World) -> None:
    """Fact 20: the listener stays IN, accept succeeds, and only the accepted socket tells."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        reset(sys, client(sys, addr))
        settle(sys)
        assert mask(sys, listening) == "IN|RDNORM"
        fd, _ = sys.accept4(listening)
        assert mask(sys, fd) == FULL_ERR
        assert err(sys.getpeername, fd) == "ENOTCONN"
        assert [err(sys.recv, fd, 9), err(sys.recv, fd, 9)] == ["ECONNRESET", b""]

    world.run(main)


def test_fin_before_accept(world: World) -> None:
    """Fact 21: a client that has closed is accepted, and recv gives b''."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        sys.close(client(sys, addr))
        settle(sys)
        assert mask(sys, listening) == "IN|RDNORM"
        fd, _ = sys.accept4(listening)
        assert mask(sys, fd) == FIN
        assert sys.recv(fd, 9) == b""

    world.run(main)


def test_data_and_fin_before_accept(world: World) -> None:
    """Fact 21: what the client had sent is there as well."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        ours = client(sys, addr)
        sys.send(ours, b"early")
        sys.close(ours)
        settle(sys)
        fd, _ = sys.accept4(listening)
        assert [sys.recv(fd, 9), sys.recv(fd, 9)] == [b"early", b""]

    world.run(main)


def test_listener_closed_with_a_pending_connection(world: World) -> None:
    """Fact 22: the client that was never accepted is reset."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        ours = client(sys, addr)
        assert mask(sys, ours) == IDLE
        sys.close(listening)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert [err(sys.recv, ours, 9), err(sys.recv, ours, 9)] == ["ECONNRESET", b""]

    world.run(main)


def test_listener_shut_down_with_a_pending_connection(world: World) -> None:
    """Fact 22: shutdown(listener) resets it too."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        ours = client(sys, addr)
        sys.shutdown(listening, SHUT_RD)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR

    world.run(main)


def test_shut_wr_then_close_with_unread_data(world: World) -> None:
    """Fact 11 and 18: a close with unread data resets after an own FIN too, and the peer, which has seen it, has EPIPE."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.shutdown(theirs, SHUT_WR)
        settle(sys)
        assert sys.send(ours, b"late") == 4
        settle(sys)
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == FULL_ERR
        assert so_error(sys, ours) == EPIPE

    world.run(main)


def test_blocked_recv_wakes_with_econnreset(world: World) -> None:
    """Fact 12: a recv that sleeps wakes with ECONNRESET."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        results: list[object] = []
        tid = sys.thread(lambda sys: results.append(err(sys.recv, ours, 9)))
        settle(sys)
        reset(sys, theirs)
        sys.join(tid)
        assert results == ["ECONNRESET"]
        assert sys.recv(ours, 9) == b""

    world.run(main)
