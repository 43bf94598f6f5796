"""AF_UNIX stream sockets: names, backlog, masks, and a send buffer that counts whole buffers."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    F_GETFD,
    F_GETFL,
    F_SETFL,
    FD_CLOEXEC,
    FIONREAD,
    MSG_DONTROUTE,
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    O_NONBLOCK,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SIGPIPE,
    SIOCOUTQ,
    SO_ACCEPTCONN,
    SO_ERROR,
    SO_SNDBUF,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import (
    UNIX_DATA,
    UNIX_FIN,
    UNIX_FULL,
    UNIX_FULL_ERR,
    UNIX_IDLE,
    World,
    abstract,
    err,
    fill,
    mask,
    settle,
    start,
)

FRESH = "OUT|HUP|WRNORM|WRBAND"
ECONNRESET = 104


def pair(sys: Syscalls) -> tuple[int, int]:
    return sys.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)


def unix(sys: Syscalls, flags: int = 0) -> int:
    return sys.socket(AF_UNIX, SOCK_STREAM | flags)


def unix_listener(sys: Syscalls, backlog: int = 16) -> tuple[int, bytes]:
    fd, name = unix(sys), abstract(sys)
    sys.bind(fd, name)
    sys.listen(fd, backlog)
    return fd, name


def test_fresh_socket(world: World) -> None:
    """Fact 116: a fresh stream socket is OUT|HUP; a bound one too; a listener 0, or IN with a connection pending."""

    def main(sys: Syscalls) -> None:
        fd, name = unix(sys), abstract(sys)
        assert mask(sys, fd) == FRESH
        sys.bind(fd, name)
        assert mask(sys, fd) == FRESH
        sys.listen(fd, 1)
        assert mask(sys, fd) == "0"
        sys.connect(unix(sys), name)
        assert mask(sys, fd) == "IN|RDNORM"

    world.run(main)


def test_pair(world: World) -> None:
    """Raw values: a pair is idle, OUT on both sides; data makes IN|OUT; FIONREAD counts."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        assert (mask(sys, ours), mask(sys, theirs)) == (UNIX_IDLE, UNIX_IDLE)
        sys.send(theirs, b"abc")
        assert mask(sys, ours) == UNIX_DATA
        assert sys.ioctl(ours, FIONREAD) == 3

    world.run(main)


def test_pair_flags(world: World) -> None:
    """SOCK_NONBLOCK and SOCK_CLOEXEC are for both; AF_INET has no pairs: EOPNOTSUPP."""

    def main(sys: Syscalls) -> None:
        for fd in sys.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC):
            assert sys.fcntl(fd, F_GETFL) & O_NONBLOCK
            assert sys.fcntl(fd, F_GETFD) == FD_CLOEXEC
        assert err(sys.socketpair, AF_INET, SOCK_STREAM) == "EOPNOTSUPP"

    world.run(main)


def test_peer_shut_wr(world: World) -> None:
    """Raw values: IN|OUT|RDHUP, recv b''; this side may still send."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.shutdown(theirs, SHUT_WR)
        assert mask(sys, ours) == UNIX_FIN
        assert sys.recv(ours, 9) == b""
        assert sys.send(ours, b"x") == 1
        assert sys.recv(theirs, 9) == b"x"
        assert err(sys.send, theirs, b"x") == "EPIPE"

    world.run(main)


def test_peer_shut_rd(world: World) -> None:
    """Unlike TCP, AF_UNIX tells the peer of a SHUT_RD: a send is EPIPE."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.shutdown(theirs, SHUT_RD)
        assert mask(sys, ours) == UNIX_IDLE
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert mask(sys, theirs) == UNIX_FIN

    world.run(main)


def test_peer_shut_rdwr(world: World) -> None:
    """Raw values: everything but ERR; send EPIPE, recv b''."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.shutdown(theirs, SHUT_RDWR)
        assert mask(sys, ours) == UNIX_FULL
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert sys.recv(ours, 9) == b""

    world.run(main)


def test_peer_closed(world: World) -> None:
    """Fact 117: with nothing unread: everything but ERR, end of file, EPIPE."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.close(theirs)
        assert mask(sys, ours) == UNIX_FULL
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert sys.recv(ours, 9) == b""

    world.run(main)


def test_peer_closed_with_unread_data(world: World) -> None:
    """Fact 117: ERR and ECONNRESET once, then b''; a send is EPIPE."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(ours, b"x")
        sys.close(theirs)
        assert mask(sys, ours) == UNIX_FULL_ERR
        assert [err(sys.recv, ours, 9), err(sys.recv, ours, 9)] == ["ECONNRESET", b""]
        assert err(sys.send, ours, b"x") == "EPIPE"

    world.run(main)


def test_peer_sent_then_closed(world: World) -> None:
    """Raw values: the data is read first, then b''."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(theirs, b"data")
        sys.close(theirs)
        assert mask(sys, ours) == UNIX_FULL
        assert [sys.recv(ours, 9), sys.recv(ours, 9)] == [b"data", b""]

    world.run(main)


@pytest.mark.parametrize(("chunk", "total"), [(65536, 233152), (4096, 180224), (1, 278), (1_000_000, 219264)])
def test_send_buffer_counts_whole_buffers(world: World, chunk: int, total: int) -> None:
    """Raw values: how much 212,992 bytes of SO_SNDBUF hold depends on the size of the sends: each has its overhead.

    The exact sums are this kernel's: a send is cut so that its linear part and its pages fit, and what is queued counts with
    the size of the buffers it occupies.
    """

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys)
        assert sys.getsockopt(ours, SOL_SOCKET, SO_SNDBUF) == 212992
        assert fill(sys, ours, chunk) == total
        assert mask(sys, ours) == "0"

    world.run(main)


def test_pollout_comes_back_when_most_is_read(world: World) -> None:
    """Fact 118: not after one byte, not after half, but once three quarters of the buffer are free."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        total = fill(sys, ours, 4096)
        masks = []
        for upto in (1, total // 2, total * 7 // 10, total * 8 // 10):
            sys.recv(theirs, upto - (total - sys.ioctl(theirs, FIONREAD)))
            masks.append(mask(sys, ours))
        assert masks == ["0", "0", "0", UNIX_IDLE]

    world.run(main)


def test_send_before_pollout(world: World) -> None:
    """Fact 118: POLLOUT is the stricter: with half read a send already succeeds."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        total = fill(sys, ours, 4096)
        assert len(sys.recv(theirs, total // 2)) == total // 2
        assert mask(sys, ours) == "0"
        assert err(sys.send, ours, bytes(4096)) == 4096

    world.run(main)


@pytest.mark.parametrize("backlog", [0, 1])
def test_backlog_full_is_eagain(world: World, backlog: int) -> None:
    """Fact 119: n + 1 connect, the next non-blocking connect is EAGAIN, and the socket is as fresh as before."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys, backlog)
        fds = [unix(sys, SOCK_NONBLOCK) for _ in range(backlog + 3)]
        assert [err(sys.connect, fd, name) for fd in fds] == [None] * (backlog + 1) + ["EAGAIN"] * 2
        assert [mask(sys, fd) for fd in fds] == [UNIX_IDLE] * (backlog + 1) + [FRESH] * 2
        sys.accept4(listening)
        assert err(sys.connect, fds[-1], name) is None

    world.run(main)


def test_blocking_connect_waits_for_the_backlog(world: World) -> None:
    """Fact 119: a blocking connect sleeps until an accept makes room."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys, 0)
        sys.connect(unix(sys), name)
        late = unix(sys)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.connect, late, name)))
        assert got == []
        sys.accept4(listening)
        sys.join(tid)
        assert got == [None]

    world.run(main)


def test_shutdown_does_not_wake_a_blocked_connect(world: World) -> None:
    """A listener's SHUT_RD refuses later connects at once; one that sleeps learns of it at the next accept."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys, 0)
        sys.connect(unix(sys), name)
        late = unix(sys)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.connect, late, name)))
        sys.shutdown(listening, SHUT_RD)
        settle(sys, 50)
        assert got == []
        assert err(sys.connect, unix(sys), name) == "ECONNREFUSED"
        sys.accept4(listening)
        sys.join(tid)
        assert got == ["ECONNREFUSED"]
        assert err(sys.accept4, listening) == "EINVAL"

    world.run(main)


def test_nobody_there(world: World, workdir: str) -> None:
    """Fact 121: an abstract name nobody has is ECONNREFUSED, a path ENOENT."""
    path = workdir + "/s"

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        fd = unix(sys)
        assert err(sys.connect, fd, abstract(sys)) == "ECONNREFUSED"
        assert err(sys.connect, fd, path) == "ENOENT"
        assert mask(sys, fd) == FRESH

    world.run(main)


def test_stale_path(world: World, workdir: str) -> None:
    """Fact 121: a closed listener leaves its path behind: connect is ECONNREFUSED, bind EADDRINUSE."""
    path = workdir + "/s"

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        listening = unix(sys)
        sys.bind(listening, path)
        assert err(sys.connect, unix(sys), path) == "ECONNREFUSED"
        sys.listen(listening, 1)
        sys.connect(unix(sys), path)
        sys.close(listening)
        assert err(sys.connect, unix(sys), path) == "ECONNREFUSED"
        assert err(sys.bind, unix(sys), path) == "EADDRINUSE"

    world.run(main)


def test_abstract_name_goes_with_its_socket(world: World) -> None:
    """Fact 121: an abstract name is in use while its socket is open, and free after the close."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys)
        assert err(sys.bind, unix(sys), name) == "EADDRINUSE"
        sys.close(listening)
        assert err(sys.bind, unix(sys), name) is None

    world.run(main)


def test_bind_and_listen_errors(world: World) -> None:
    """Raw values: connect to a bound socket that doesn't listen is ECONNREFUSED; listen unbound and bind twice are EINVAL."""

    def main(sys: Syscalls) -> None:
        fd, name = unix(sys), abstract(sys)
        assert err(sys.listen, fd, 1) == "EINVAL"
        assert err(sys.accept4, fd) == "EINVAL"
        sys.bind(fd, name)
        assert err(sys.connect, unix(sys), name) == "ECONNREFUSED"
        assert err(sys.bind, fd, abstract(sys, "b")) == "EINVAL"

    world.run(main)


def test_names(world: World, workdir: str) -> None:
    """Raw values: a client that didn't bind is unnamed; the accepted socket has the listener's name."""
    path = workdir + "/s"

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        for name in (path, abstract(sys)):
            listening = unix(sys)
            assert sys.getsockname(listening) == ""
            sys.bind(listening, name)
            sys.listen(listening, 1)
            assert sys.getsockname(listening) == name
            ours = unix(sys)
            sys.connect(ours, name)
            theirs, peer = sys.accept4(listening)
            assert peer == "" == sys.getpeername(theirs) == sys.getsockname(ours)
            assert sys.getpeername(ours) == name == sys.getsockname(theirs)
        one, two = pair(sys)
        assert sys.getsockname(one) == "" == sys.getpeername(two)

    world.run(main)


def test_early_data(world: World) -> None:
    """Raw values: what is sent before the accept is read after it."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys)
        ours = unix(sys)
        sys.connect(ours, name)
        assert mask(sys, ours) == UNIX_IDLE
        sys.send(ours, b"early")
        theirs, _ = sys.accept4(listening)
        assert sys.recv(theirs, 9) == b"early"

    world.run(main)


def test_listener_closed_with_a_pending_connection(world: World) -> None:
    """Raw values: the client has everything and ERR; SO_ERROR is ECONNRESET, and recv then b''."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys)
        ours = unix(sys, SOCK_NONBLOCK)
        sys.connect(ours, name)
        sys.close(listening)
        assert mask(sys, ours) == UNIX_FULL_ERR
        assert sys.getsockopt(ours, SOL_SOCKET, SO_ERROR) == ECONNRESET
        assert mask(sys, ours) == UNIX_FULL
        assert err(sys.recv, ours, 9) == b""

    world.run(main)


def test_calls_on_an_unconnected_socket(world: World) -> None:
    """recv is EINVAL, unlike TCP's ENOTCONN; send, getpeername and shutdown are ENOTCONN."""

    def main(sys: Syscalls) -> None:
        fd = unix(sys)
        assert err(sys.recv, fd, 9) == "EINVAL"
        assert err(sys.send, fd, b"x") == "ENOTCONN"
        assert err(sys.getpeername, fd) == "ENOTCONN"

    world.run(main)


def test_connect_twice(world: World) -> None:
    """A connected socket's connect is EISCONN, a listener's EINVAL."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys)
        ours = unix(sys)
        sys.connect(ours, name)
        assert err(sys.connect, ours, name) == "EISCONN"
        assert err(sys.connect, listening, name) == "EINVAL"

    world.run(main)


def test_nonblocking_accept(world: World) -> None:
    """EAGAIN while nothing is pending; accepted sockets come in the order of the connects."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys)
        sys.fcntl(listening, F_SETFL, O_NONBLOCK)
        assert err(sys.accept4, listening) == "EAGAIN"
        for letter in (b"a", b"b"):
            fd = unix(sys)
            sys.connect(fd, name)
            sys.send(fd, letter)
        assert [sys.recv(sys.accept4(listening)[0], 9) for _ in range(2)] == [b"a", b"b"]

    world.run(main)


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_blocked_send_when_the_peer_goes(world: World, how: str) -> None:
    """A send that sleeps returns what it has queued when the peer closes or shuts down; the next one is the error."""

    def main(sys: Syscalls) -> None:
        ours, theirs = sys.socketpair(AF_UNIX, SOCK_STREAM)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.send, ours, bytes(1_000_000))))
        assert got == []
        if how == "close":
            sys.close(theirs)
        else:
            sys.shutdown(theirs, SHUT_RDWR)
        sys.join(tid)
        assert len(got) == 1 and isinstance(got[0], int) and 0 < got[0] < 1_000_000
        assert err(sys.send, ours, b"x") == "EPIPE"

    world.run(main)


def test_recv_stops_at_nothing(world: World) -> None:
    """A recv takes what several sends have left, up to its size."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        for part in (b"ab", b"cd", b"ef"):
            sys.send(theirs, part)
        assert [sys.recv(ours, 3), sys.recv(ours, 9)] == [b"abc", b"def"]
        assert err(sys.recv, ours, 9) == "EAGAIN"

    world.run(main)


def test_own_shut_rd_wakes_a_blocked_recv(world: World) -> None:
    """Fact 26, of AF_UNIX: the sleeping recv returns b''."""

    def main(sys: Syscalls) -> None:
        ours, _ = sys.socketpair(AF_UNIX, SOCK_STREAM)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.recv, ours, 9)))
        sys.shutdown(ours, SHUT_RD)
        sys.join(tid)
        settle(sys)
        assert got == [b""]

    world.run(main)


def test_sigpipe_is_for_a_stream_that_finds_the_end(world: World) -> None:
    """Fact 126, finer: packets and datagrams give EPIPE without SIGPIPE, and so does a stream whose sender slept when the end came."""

    def main(sys: Syscalls) -> None:
        log: list[int] = []
        sys.sigaction(SIGPIPE, log.append)
        for kind in (SOCK_DGRAM, SOCK_SEQPACKET):
            ours, theirs = sys.socketpair(AF_UNIX, kind)
            sys.shutdown(theirs, SHUT_RD)
            assert err(sys.send, ours, b"x") == "EPIPE"
            sys.shutdown(ours, SHUT_WR)
            assert err(sys.write, ours, b"x") == "EPIPE"
        ours, theirs = sys.socketpair(AF_UNIX, SOCK_STREAM)
        while err(sys.send, ours, bytes(4096), MSG_DONTWAIT) == 4096:
            pass
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.send, ours, b"x")))
        sys.shutdown(theirs, SHUT_RDWR)
        sys.join(tid)
        assert (got, log) == (["EPIPE"], [])
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert log == [SIGPIPE]

    world.run(main)


def test_flags_of_other_protocols(world: World) -> None:
    """What AF_UNIX does not know it ignores: a stream's MSG_TRUNC, MSG_MORE, MSG_EOR, MSG_DONTROUTE."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        assert sys.send(theirs, b"abc", MSG_MORE | MSG_EOR | MSG_DONTROUTE) == 3
        assert sys.recvmsg(ours, 1, 0, MSG_TRUNC | MSG_ERRQUEUE) == (b"a", [], 0, "")
        assert sys.recv(ours, 9, MSG_TRUNC) == b"bc"

    world.run(main)


def test_what_a_stream_is_charged(world: World) -> None:
    """SIOCOUTQ is the charge for the buffers that are not read to their end, with their overhead, this kernel's."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        charges = []
        for size in (1, 192, 193, 3776, 3777, 7872, 36544, 36545):
            sys.send(ours, bytes(size))
            charges.append(sys.ioctl(ours, SIOCOUTQ))
            sys.recv(theirs, size - 1)
            assert sys.ioctl(ours, SIOCOUTQ) == (charges[-1] if size < 36545 else 768)
            sys.recv(theirs, 1)
            assert sys.ioctl(ours, SIOCOUTQ) == 0
        assert charges == [768, 768, 1280, 4352, 4864, 8448, 37120, 37888]

    world.run(main)


def test_peek(world: World) -> None:
    """MSG_PEEK looks at several buffers and leaves them; with MSG_WAITALL it does not wait for more."""

    def main(sys: Syscalls) -> None:
        ours, theirs = sys.socketpair(AF_UNIX, SOCK_STREAM)
        for part in (b"ab", b"cd"):
            sys.send(theirs, part)
        assert [sys.recv(ours, n, MSG_PEEK) for n in (1, 3, 9)] == [b"a", b"abc", b"abcd"]
        assert sys.recv(ours, 9, MSG_PEEK | MSG_WAITALL) == b"abcd"
        assert sys.recv(ours, 3) == b"abc"
        assert sys.recv(ours, 9, MSG_PEEK) == b"d"

    world.run(main)


def test_listening_again(world: World) -> None:
    """A second listen sets the backlog anew; a greater one lets those go on who wait for room."""

    def main(sys: Syscalls) -> None:
        listening, name = unix_listener(sys, 0)
        sys.connect(unix(sys), name)
        late = unix(sys)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.connect, late, name)))
        sys.listen(listening, 5)
        sys.join(tid)
        assert got == [None]
        assert sys.getsockopt(listening, SOL_SOCKET, SO_ACCEPTCONN) == 1
        assert sys.getsockopt(late, SOL_SOCKET, SO_ACCEPTCONN) == 0

    world.run(main)
