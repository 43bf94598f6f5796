"""TCP: what poll says in each state, and what reads, writes and shutdowns do there."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    CLOCK_MONOTONIC,
    F_SETFL,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_WAITALL,
    O_RDWR,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import (
    DATA,
    FIN,
    FULL,
    IDLE,
    MS,
    World,
    bound,
    channel,
    client,
    err,
    fill,
    inet_name,
    listener,
    mask,
    nonblocking,
    reset,
    settle,
    start,
    tcp_pair,
    timeval,
)

CHANNELS = ["pipe", "unix", "tcp"]


def test_fresh_socket_is_writable_and_hung_up(world: World) -> None:
    """Fact 1: a fresh socket says OUT|HUP; so select finds it readable and writable."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert mask(sys, fd) == "OUT|HUP|WRNORM"
        assert sys.select([fd], [fd], [fd], 0) == ([fd], [fd], [])

    world.run(main)


def test_bound_socket_is_writable_and_hung_up(world: World) -> None:
    """Fact 1: bind changes nothing of it."""

    def main(sys: Syscalls) -> None:
        fd, _ = bound(sys)
        assert mask(sys, fd) == "OUT|HUP|WRNORM"
        assert sys.select([fd], [fd], [fd], 0) == ([fd], [fd], [])

    world.run(main)


def test_listener_says_in_while_a_connection_is_pending(world: World) -> None:
    """Fact 2: a listener's mask is 0, or IN while a connection waits, and never OUT."""

    def main(sys: Syscalls) -> None:
        fd, addr = listener(sys)
        assert mask(sys, fd) == "0"
        client(sys, addr)
        assert mask(sys, fd) == "IN|RDNORM"
        sys.accept4(fd)
        assert mask(sys, fd) == "0"

    world.run(main)


def test_connected_idle_says_out(world: World) -> None:
    """Fact 3: both ends of a connection say OUT, the client's even before accept."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        ours = client(sys, addr)
        assert mask(sys, ours) == IDLE
        theirs, peer = sys.accept4(listening)
        assert peer == sys.getsockname(ours)
        assert sys.getpeername(ours) == addr == sys.getsockname(theirs)
        assert (mask(sys, ours), mask(sys, theirs)) == (IDLE, IDLE)

    world.run(main)


def test_connection_outlives_its_listener(world: World) -> None:
    """Raw values: an accepted connection is untouched by the close of its listener."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        assert mask(sys, ours) == IDLE
        sys.send(ours, b"x")
        assert sys.recv(theirs, 9) == b"x"

    world.run(main)


def test_data_says_in(world: World) -> None:
    """Raw values: a connection with data says IN|OUT."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.send(theirs, b"x")
        settle(sys)
        assert mask(sys, ours) == DATA

    world.run(main)


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_peers_fin_says_rdhup_and_not_hup(world: World, how: str) -> None:
    """Fact 4: after the peer's SHUT_WR, and alike after its clean close, IN|OUT|RDHUP; recv gives b''."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        if how == "shutdown":
            sys.shutdown(theirs, SHUT_WR)
        else:
            sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == FIN
        assert [sys.recv(ours, 9), sys.recv(ours, 9)] == [b"", b""]
        assert mask(sys, ours) == FIN

    world.run(main)


def test_own_shut_wr_says_out(world: World) -> None:
    """Fact 5: one's own SHUT_WR leaves OUT, so that a send finds its EPIPE.  A second one is no error."""

    def main(sys: Syscalls) -> None:
        ours, _ = tcp_pair(sys)
        sys.shutdown(ours, SHUT_WR)
        settle(sys)
        assert mask(sys, ours) == IDLE
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert err(sys.shutdown, ours, SHUT_WR) is None

    world.run(main)


def test_both_sides_shut_says_everything(world: World) -> None:
    """Fact 6: IN|OUT|HUP|RDHUP on both sides once both have shut; the first to shut is then in TIME_WAIT."""

    def main(sys: Syscalls) -> None:
        first, second = tcp_pair(sys)
        sys.shutdown(first, SHUT_WR)
        settle(sys)
        sys.shutdown(second, SHUT_WR)
        settle(sys)
        assert (mask(sys, first), mask(sys, second)) == (FULL, FULL)

    world.run(main)


def test_own_shut_rd_says_rdhup(world: World) -> None:
    """Fact 7: one's own SHUT_RD says IN|OUT|RDHUP and recv gives b''; the peer sees nothing of it."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.shutdown(ours, SHUT_RD)
        settle(sys)
        assert mask(sys, ours) == FIN
        assert sys.recv(ours, 9) == b""
        assert mask(sys, theirs) == IDLE

    world.run(main)


def test_data_after_own_shut_rd_is_readable(world: World) -> None:
    """Fact 8: SHUT_RD refuses nothing: what arrives later is read as ever."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.shutdown(ours, SHUT_RD)
        assert sys.send(theirs, b"zz") == 2
        settle(sys)
        assert [sys.recv(ours, 9), sys.recv(ours, 9)] == [b"zz", b""]
        assert mask(sys, theirs) == IDLE

    world.run(main)


def test_own_shut_rdwr_says_everything(world: World) -> None:
    """Fact 9: one's own SHUT_RDWR says IN|OUT|HUP|RDHUP while the peer is still open, and has seen a FIN."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.shutdown(ours, SHUT_RDWR)
        settle(sys)
        assert (mask(sys, ours), mask(sys, theirs)) == (FULL, FIN)

    world.run(main)


@pytest.mark.parametrize("how", [SHUT_RD, SHUT_RDWR])
def test_shutdown_of_a_listener(world: World, how: int) -> None:
    """Fact 10: shutdown(SHUT_RD or SHUT_RDWR) takes a listener back to unconnected; listen() again works."""

    def main(sys: Syscalls) -> None:
        fd, _ = listener(sys)
        sys.shutdown(fd, how)
        assert mask(sys, fd) == "OUT|HUP|WRNORM"
        assert err(sys.accept4, fd) == "EINVAL"
        sys.listen(fd, 1)
        assert mask(sys, fd) == "0"
        # The port may be another one now: the kernel had chosen it, and took it back.
        client(sys, inet_name(sys, fd))
        assert sys.accept4(fd)[0] > 0

    world.run(main)


def test_shutdown_of_a_listener_keeps_a_port_asked_for(world: World) -> None:
    """Fact 10: listen() after the shutdown has the same port again when bind had named it."""

    def main(sys: Syscalls) -> None:
        fd, addr = bound(sys)
        sys.close(fd)
        fd, _ = bound(sys, port=addr[1])
        sys.listen(fd, 1)
        sys.shutdown(fd, SHUT_RDWR)
        assert sys.getsockname(fd) == addr
        sys.listen(fd, 1)
        assert sys.getsockname(fd) == addr

    world.run(main)


def test_shut_wr_of_a_listener_does_nothing(world: World) -> None:
    """Fact 10: shutdown(SHUT_WR) succeeds and the listener goes on listening."""

    def main(sys: Syscalls) -> None:
        fd, addr = listener(sys)
        sys.shutdown(fd, SHUT_WR)
        client(sys, addr)
        assert sys.accept4(fd)[0] > 0

    world.run(main)


def test_shutdown_of_a_listener_wakes_accept(world: World) -> None:
    """Fact 10: an accept blocked on the listener wakes with EINVAL."""

    def main(sys: Syscalls) -> None:
        fd, _ = listener(sys)
        results = []
        tid = start(sys, lambda sys: results.append(err(sys.accept4, fd)))
        sys.shutdown(fd, SHUT_RDWR)
        sys.join(tid)
        assert results == ["EINVAL"]

    world.run(main)


def test_half_closed_peer_still_receives(world: World) -> None:
    """Fact 23: after the client's SHUT_WR the server reads b'', still sends, and the client receives."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.shutdown(ours, SHUT_WR)
        settle(sys)
        assert sys.recv(theirs, 9) == b""
        assert sys.send(theirs, b"resp") == 4
        settle(sys)
        assert mask(sys, ours) == DATA
        assert sys.recv(ours, 9) == b"resp"
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == FULL
        assert sys.recv(ours, 9) == b""

    world.run(main)


def test_dup_keeps_the_connection_open(world: World) -> None:
    """Fact 24: no FIN until the last descriptor is closed."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        twin = sys.dup(theirs)
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == IDLE
        sys.close(twin)
        settle(sys)
        assert mask(sys, ours) == FIN

    world.run(main)


def test_child_keeps_the_connection_open(world: World) -> None:
    """Fact 24: a child's inherited descriptor counts too; its exit is the last close."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        go_r, go_w = sys.pipe2()
        pid = sys.spawn(lambda sys: sys.read(go_r, 1))
        sys.close(theirs)
        settle(sys)
        assert mask(sys, ours) == IDLE
        sys.write(go_w, b"!")
        sys.waitpid(pid)
        settle(sys)
        assert mask(sys, ours) == FIN

    world.run(main)


def test_shutdown_ignores_dups(world: World) -> None:
    """Fact 24: shutdown acts on the connection at once, whoever else holds a descriptor."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.dup(theirs)
        sys.shutdown(theirs, SHUT_WR)
        settle(sys)
        assert mask(sys, ours) == FIN

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_close_under_a_blocked_read(world: World, kind: str) -> None:
    """Fact 25: a read that sleeps goes on after another thread closed its fd, and gets the data."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        results = []
        tid = start(sys, lambda sys: results.append(err(sys.read, r, 9)))
        sys.close(r)
        settle(sys)
        assert results == []
        assert err(sys.read, r, 9) == "EBADF"
        sys.write(w, b"q")
        sys.join(tid)
        assert results == [b"q"]

    world.run(main)


def test_own_shut_rd_wakes_a_blocked_recv(world: World) -> None:
    """Fact 26: the sleeping recv returns b''; a poll then says RDHUP."""

    def main(sys: Syscalls) -> None:
        ours, _ = tcp_pair(sys)
        results = []
        tid = start(sys, lambda sys: results.append(err(sys.recv, ours, 9)))
        assert mask(sys, ours) == IDLE
        sys.shutdown(ours, SHUT_RD)
        sys.join(tid)
        assert results == [b""]
        assert mask(sys, ours) == FIN

    world.run(main)


def test_shutdown_needs_a_connection(world: World) -> None:
    """Fact 27: ENOTCONN on an unconnected socket, and once both sides have shut."""

    def main(sys: Syscalls) -> None:
        assert err(sys.shutdown, sys.socket(AF_INET, SOCK_STREAM), SHUT_WR) == "ENOTCONN"
        ours, theirs = tcp_pair(sys)
        sys.shutdown(ours, SHUT_WR)
        settle(sys)
        sys.shutdown(theirs, SHUT_WR)
        settle(sys)
        assert err(sys.shutdown, ours, SHUT_RDWR) == "ENOTCONN"
        assert err(sys.shutdown, theirs, SHUT_RDWR) == "ENOTCONN"

    world.run(main)


def test_shutdown_of_a_wrong_how(world: World) -> None:
    """shutdown(2): ``how`` outside 0..2 is EINVAL."""

    def main(sys: Syscalls) -> None:
        ours, _ = tcp_pair(sys)
        assert err(sys.shutdown, ours, 3) == "EINVAL"

    world.run(main)


def test_blocked_send_returns_the_partial_count_on_rst(world: World) -> None:
    """Fact 28: a send that has queued part of its data returns the count when an RST comes; the next one has the error."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys, 4096)
        results = []
        tid = start(sys, lambda sys: results.append(err(sys.send, ours, bytes(1_000_000))))
        assert results == []
        reset(sys, theirs)
        sys.join(tid)
        assert len(results) == 1 and 0 < results[0] < 1_000_000
        assert err(sys.send, ours, b"x") == "ECONNRESET"

    world.run(main)


def test_rcvlowat_holds_back_pollin(world: World) -> None:
    """Fact 30: SO_RCVLOWAT 10 with 3 bytes is not IN, yet a non-blocking recv returns the 3; with 10 bytes it is IN."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.setsockopt(ours, SOL_SOCKET, SO_RCVLOWAT, 10)
        sys.send(theirs, b"abc")
        settle(sys)
        assert mask(sys, ours) == IDLE
        assert sys.recv(ours, 9, MSG_DONTWAIT) == b"abc"
        sys.send(theirs, b"0123456789")
        settle(sys)
        assert mask(sys, ours) == DATA

    world.run(main)


@pytest.mark.parametrize("call", ["recv", "accept"])
def test_rcvtimeo_ends_a_wait_with_eagain(world: World, call: str) -> None:
    """Fact 31: after SO_RCVTIMEO a blocking recv, and accept as well, is EAGAIN."""

    def main(sys: Syscalls) -> None:
        if call == "recv":
            fd, _ = tcp_pair(sys)
        else:
            fd, _ = listener(sys)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval(30))
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        assert (err(sys.recv, fd, 9) if call == "recv" else err(sys.accept4, fd)) == "EAGAIN"
        # SO_RCVTIMEO counts in jiffies, and a running one is counted whole.
        assert sys.clock_gettime_ns(CLOCK_MONOTONIC) - before >= 20 * MS

    world.run(main)


def test_sndtimeo_ends_a_blocked_send(world: World) -> None:
    """Fact 31, of SO_SNDTIMEO: the partial count when something was taken."""

    def main(sys: Syscalls) -> None:
        ours, _ = tcp_pair(sys, 4096)
        sys.setsockopt(ours, SOL_SOCKET, SO_SNDTIMEO, timeval(30))
        assert 0 < sys.send(ours, bytes(1_000_000)) < 1_000_000

    world.run(main)


def test_sndtimeo_with_nothing_sent(world: World) -> None:
    """Fact 31, of SO_SNDTIMEO: EAGAIN when nothing was taken."""

    def main(sys: Syscalls) -> None:
        ours, _ = tcp_pair(sys, 4096)
        sys.setsockopt(ours, SOL_SOCKET, SO_SNDTIMEO, timeval(30))
        nonblocking(sys, ours)
        fill(sys, ours)
        settle(sys)
        fill(sys, ours)
        sys.fcntl(ours, F_SETFL, O_RDWR)
        assert err(sys.send, ours, b"x") == "EAGAIN"

    world.run(main)


def test_loopback_delivers_at_once(world: World) -> None:
    """Fact 32: data, FIN and RST are at the peer when the call that sent them returns."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        sys.send(theirs, b"x")
        assert mask(sys, ours) == DATA
        sys.close(theirs)
        assert mask(sys, ours) == FIN
        ours, theirs = tcp_pair(sys)
        reset(sys, theirs)
        assert "ERR" in mask(sys, ours)

    world.run(main)


def test_full_socket_is_not_writable(world: World) -> None:
    """Raw values: a socket whose buffers are full has mask 0; the peer, idle in the other direction, says IN|OUT."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys, 4096)
        nonblocking(sys, ours)
        assert fill(sys, ours) > 4096
        settle(sys)
        fill(sys, ours)
        assert (mask(sys, ours), mask(sys, theirs)) == ("0", DATA)

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_peek_leaves_the_data(world: World, kind: str) -> None:
    """Raw values: MSG_PEEK shows what recv then takes; MSG_DONTWAIT on an empty socket is EAGAIN."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, kind)
        sys.send(theirs, b"abcdef")
        settle(sys)
        assert sys.recv(ours, 3, MSG_PEEK) == b"abc"
        assert sys.recv(ours, 9, MSG_PEEK) == b"abcdef"
        assert sys.recv(ours, 9) == b"abcdef"
        assert err(sys.recv, ours, 9, MSG_DONTWAIT) == "EAGAIN"
        assert err(sys.recv, ours, 9, MSG_DONTWAIT | MSG_PEEK) == "EAGAIN"

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_stream_has_no_message_boundaries(world: World, kind: str) -> None:
    """Raw values: two writes come as one read, and one write as many."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        sys.write(w, b"ab")
        sys.write(w, b"cd")
        settle(sys)
        assert sys.read(r, 9) == b"abcd"
        sys.write(w, b"efgh")
        settle(sys)
        assert [sys.read(r, 3), sys.read(r, 3)] == [b"efg", b"h"]

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_waitall_waits_for_everything(world: World, kind: str) -> None:
    """Raw values: MSG_WAITALL sleeps until all of it has come, or the stream ends."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, kind)
        results = []
        tid = start(sys, lambda sys: results.append(sys.recv(ours, 5, MSG_WAITALL)))
        sys.send(theirs, b"123")
        settle(sys)
        assert results == []
        sys.send(theirs, b"4567")
        sys.join(tid)
        assert results == [b"12345"]
        sys.shutdown(theirs, SHUT_WR)
        settle(sys)
        assert sys.recv(ours, 5, MSG_WAITALL) == b"67"

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_read_of_nothing(world: World, kind: str) -> None:
    """read(fd, 0) returns b'' at once, even from an idle blocking file, and takes nothing."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        assert sys.read(r, 0) == b""
        sys.write(w, b"x")
        settle(sys)
        assert sys.read(r, 0) == b""
        assert sys.read(r, 9) == b"x"

    world.run(main)


def test_recv_of_nothing(world: World) -> None:
    """Raw values, and the kernel differs: recv(fd, 0) of an idle TCP socket waits for data (EAGAIN here), and takes nothing of it.

    Only Python's socket.recv(0) returns b'' at once: it doesn't make the call.
    """

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        assert err(sys.recv, ours, 0, MSG_DONTWAIT) == "EAGAIN"
        sys.send(theirs, b"x")
        settle(sys)
        assert sys.recv(ours, 0) == b""
        assert sys.recv(ours, 9) == b"x"

    world.run(main)


def test_send_of_nothing(world: World) -> None:
    """A send of no bytes returns 0 and the peer sees nothing."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        assert sys.send(theirs, b"") == 0
        settle(sys)
        assert mask(sys, ours) == IDLE

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_sigpipe_is_an_errno_when_ignored(world: World, kind: str) -> None:
    """Fact 126: with SIGPIPE ignored, as in every Python process, EPIPE is all there is, with or without MSG_NOSIGNAL."""

    def main(sys: Syscalls) -> None:
        ours, _ = channel(sys, kind)
        sys.shutdown(ours, SHUT_WR)
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert err(sys.send, ours, b"x", MSG_NOSIGNAL) == "EPIPE"
        assert err(sys.write, ours, b"x") == "EPIPE"

    world.run(main)


def test_readv_and_writev(world: World) -> None:
    """readv fills its buffers one after another, writev sends them as one."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        assert sys.writev(theirs, [b"ab", b"", b"cde"]) == 5
        settle(sys)
        assert sys.readv(ours, [2, 2, 9]) == [b"ab", b"cd", b"e"]
        assert sys.writev(theirs, [b"x", b"yz"]) == 3
        settle(sys)
        assert sys.readv(ours, [4, 4]) == [b"xyz"]

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_blocked_recv_ends_with_the_fin(world: World, kind: str) -> None:
    """A recv that sleeps returns b'' when the peer closes."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, kind)
        results = []
        tid = start(sys, lambda sys: results.append(err(sys.recv, ours, 9)))
        sys.close(theirs)
        sys.join(tid)
        assert results == [b""]

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_blocked_send_goes_on_when_read(world: World, kind: str) -> None:
    """A send that sleeps goes on while the peer reads, and returns the whole count."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys, 4096) if kind == "tcp" else channel(sys, kind)
        results = []
        tid = start(sys, lambda sys: results.append(err(sys.send, ours, bytes(400_000))))
        assert results == []
        got = 0
        while got < 400_000:
            got += len(sys.recv(theirs, 65536))
        sys.join(tid)
        assert results == [400_000]

    world.run(main)
