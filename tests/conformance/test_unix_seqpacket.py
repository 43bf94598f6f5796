"""AF_UNIX SOCK_SEQPACKET: connected like a stream, sent and received like datagrams."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_UNIX,
    EPOLLET,
    EPOLLIN,
    FIONREAD,
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SIOCATMARK,
    SO_ACCEPTCONN,
    SO_ERROR,
    SO_TYPE,
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
    mask,
    ready,
    start,
    watch,
)

FRESH = "OUT|HUP|WRNORM|WRBAND"
ECONNRESET = 104


def packets(sys: Syscalls, flags: int = SOCK_NONBLOCK) -> int:
    return sys.socket(AF_UNIX, SOCK_SEQPACKET | flags)


def pair(sys: Syscalls, flags: int = SOCK_NONBLOCK) -> tuple[int, int]:
    return sys.socketpair(AF_UNIX, SOCK_SEQPACKET | flags)


def listener(sys: Syscalls, backlog: int = 16, flags: int = SOCK_NONBLOCK) -> tuple[int, bytes]:
    fd, name = packets(sys, flags), abstract(sys)
    sys.bind(fd, name)
    sys.listen(fd, backlog)
    return fd, name


def test_masks(world: World) -> None:
    """Raw values: fresh OUT|HUP, a listener 0 or IN, a connection OUT even before the accept, data IN|OUT."""

    def main(sys: Syscalls) -> None:
        ours = packets(sys)
        assert mask(sys, ours) == FRESH
        listening, name = listener(sys)
        assert mask(sys, listening) == "0"
        sys.connect(ours, name)
        assert mask(sys, listening) == "IN|RDNORM"
        assert mask(sys, ours) == UNIX_IDLE
        theirs, peer = sys.accept4(listening)
        assert peer == ""
        assert mask(sys, theirs) == UNIX_IDLE
        sys.send(ours, b"x")
        assert mask(sys, theirs) == UNIX_DATA

    world.run(main)


def test_boundaries_and_truncation(world: World) -> None:
    """Raw values: one recv takes one packet, the rest of it is lost, an empty one is received as b''; FIONREAD is the sum."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        for data in (b"abc", b"", b"z", b"long"):
            sys.send(theirs, data)
        assert sys.ioctl(ours, FIONREAD) == 8
        assert [sys.recv(ours, 2), sys.recv(ours, 9), sys.recv(ours, 9, MSG_PEEK), sys.recv(ours, 9)] == [b"ab", b"", b"z", b"z"]
        assert sys.recvmsg(ours, 3) == (b"lon", [], MSG_TRUNC, "")
        assert err(sys.recv, ours, 9) == "EAGAIN"

    world.run(main)


def test_end_of_record(world: World) -> None:
    """MSG_EOR may be given and is not reported: AF_UNIX does not know it; MSG_OOB is EOPNOTSUPP, and so is SIOCATMARK."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        assert sys.send(theirs, b"abc", MSG_EOR) == 3
        assert sys.recvmsg(ours, 9) == (b"abc", [], 0, "")
        assert err(sys.send, theirs, b"x", MSG_OOB) == "EOPNOTSUPP"
        assert err(sys.recv, theirs, 9, MSG_OOB) == "EOPNOTSUPP"
        assert err(sys.ioctl, theirs, SIOCATMARK) == "EOPNOTSUPP"

    world.run(main)


def test_unconnected(world: World) -> None:
    """send and recv are ENOTCONN, the latter unlike a stream's EINVAL; accept and listen are EINVAL unless bound."""

    def main(sys: Syscalls) -> None:
        fd = packets(sys)
        assert err(sys.send, fd, b"x") == "ENOTCONN"
        assert err(sys.sendto, fd, b"x", 0, abstract(sys)) == "ENOTCONN"
        assert err(sys.recv, fd, 9) == "ENOTCONN"
        assert err(sys.getpeername, fd) == "ENOTCONN"
        assert err(sys.listen, fd, 1) == "EINVAL"
        assert err(sys.accept4, fd) == "EINVAL"
        assert err(sys.connect, fd, abstract(sys)) == "ECONNREFUSED"
        assert err(sys.connect, fd, "") == "EINVAL"

    world.run(main)


def test_on_a_listener(world: World) -> None:
    """recv and send on a listener are ENOTCONN, connect and FIONREAD EINVAL; SO_ACCEPTCONN is 1."""

    def main(sys: Syscalls) -> None:
        listening, name = listener(sys)
        assert err(sys.recv, listening, 9) == "ENOTCONN"
        assert err(sys.send, listening, b"x") == "ENOTCONN"
        assert err(sys.connect, listening, name) == "EINVAL"
        assert err(sys.ioctl, listening, FIONREAD) == "EINVAL"
        assert err(sys.accept4, listening) == "EAGAIN"
        assert sys.getsockopt(listening, SOL_SOCKET, SO_ACCEPTCONN) == 1
        assert sys.getsockopt(listening, SOL_SOCKET, SO_TYPE) == SOCK_SEQPACKET

    world.run(main)


def test_an_address_is_ignored(world: World) -> None:
    """sendto sends to the peer, whatever the address: one of nobody, the unnamed one."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        for addr in (abstract(sys), "", ("127.0.0.1", 9)):
            assert sys.sendto(ours, b"x", 0, addr) == 1
        assert sys.sendmsg(ours, [b"a", b"b"], (), 0, abstract(sys)) == 2
        assert [sys.recvfrom(theirs, 9) for _ in range(4)] == [(b"x", "")] * 3 + [(b"ab", "")]

    world.run(main)


def test_sender_names(world: World, workdir: str) -> None:
    """The accepted end has the listener's name, which recvfrom shows; accept shows the client's."""
    path = workdir + "/s"

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        listening = packets(sys)
        sys.bind(listening, path)
        sys.listen(listening, 1)
        ours = packets(sys)
        sys.bind(ours, abstract(sys))
        sys.connect(ours, path)
        theirs, peer = sys.accept4(listening)
        assert peer == abstract(sys) == sys.getpeername(theirs)
        assert sys.getsockname(theirs) == path == sys.getpeername(ours)
        sys.send(theirs, b"x")
        sys.send(ours, b"y")
        assert sys.recvfrom(ours, 9) == (b"x", path)
        assert sys.recvfrom(theirs, 9) == (b"y", abstract(sys))

    world.run(main)


def test_connect_to_another_type(world: World) -> None:
    """An abstract name of a stream is ECONNREFUSED; a bound one that does not listen too; connected twice EISCONN."""

    def main(sys: Syscalls) -> None:
        stream = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.bind(stream, abstract(sys, "stream"))
        sys.listen(stream, 1)
        fd = packets(sys)
        assert err(sys.connect, fd, abstract(sys, "stream")) == "ECONNREFUSED"
        deaf = packets(sys)
        sys.bind(deaf, abstract(sys, "deaf"))
        assert err(sys.connect, fd, abstract(sys, "deaf")) == "ECONNREFUSED"
        _, name = listener(sys)
        sys.connect(fd, name)
        assert err(sys.connect, fd, name) == "EISCONN"

    world.run(main)


def test_backlog_full(world: World) -> None:
    """Fact 119, of packets: backlog n takes n + 1, then a non-blocking connect is EAGAIN, a blocking one sleeps."""

    def main(sys: Syscalls) -> None:
        listening, name = listener(sys, 0)
        fds = [packets(sys) for _ in range(2)]
        assert [err(sys.connect, fd, name) for fd in fds] == [None, "EAGAIN"]
        got: list[object] = []
        late = packets(sys, 0)
        tid = start(sys, lambda sys: got.append(err(sys.connect, late, name)))
        assert got == []
        sys.accept4(listening)
        sys.join(tid)
        assert got == [None]

    world.run(main)


def test_early_packets(world: World) -> None:
    """What is sent before the accept is read after it; there is no limit to the queue but the send buffer."""

    def main(sys: Syscalls) -> None:
        listening, name = listener(sys)
        ours = packets(sys)
        sys.connect(ours, name)
        count = 0
        while err(sys.send, ours, b"x") == 1:
            count += 1
        assert count == 278
        theirs, _ = sys.accept4(listening)
        assert sys.ioctl(theirs, FIONREAD) == 278

    world.run(main)


@pytest.mark.parametrize("how", [SHUT_RD, SHUT_WR, SHUT_RDWR])
def test_shutdown_is_at_both_ends(world: World, how: int) -> None:
    """Unlike datagrams, and like a stream: SHUT_WR is the peer's end of file, SHUT_RD its EPIPE."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(theirs, b"before")
        sys.shutdown(theirs, how)
        expected = {SHUT_RD: UNIX_DATA, SHUT_WR: UNIX_FIN, SHUT_RDWR: UNIX_FULL}
        assert mask(sys, ours) == expected[how]
        assert sys.recv(ours, 9) == b"before"
        assert err(sys.recv, ours, 9) == ("EAGAIN" if how == SHUT_RD else b"")
        assert err(sys.send, ours, b"x") == (1 if how == SHUT_WR else "EPIPE")
        assert err(sys.send, theirs, b"x") == (1 if how == SHUT_RD else "EPIPE")

    world.run(main)


def test_peer_closed(world: World) -> None:
    """Raw values: with nothing unread everything but ERR, b'', EPIPE; what the peer sent before is read first."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(theirs, b"last")
        sys.close(theirs)
        assert mask(sys, ours) == UNIX_FULL
        assert [sys.recv(ours, 9) for _ in range(3)] == [b"last", b"", b""]
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert mask(sys, ours) == UNIX_FULL

    world.run(main)


@pytest.mark.parametrize("first", ["recv", "send", "SO_ERROR"])
def test_peer_closed_with_unread_packets(world: World, first: str) -> None:
    """ECONNRESET once, and, unlike a stream's, before what the peer has sent."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(ours, b"unread")
        sys.send(theirs, b"last")
        sys.close(theirs)
        assert mask(sys, ours) == UNIX_FULL_ERR
        if first == "SO_ERROR":
            assert sys.getsockopt(ours, SOL_SOCKET, SO_ERROR) == ECONNRESET
        else:
            assert (err(sys.recv, ours, 9) if first == "recv" else err(sys.send, ours, b"x")) == "ECONNRESET"
        assert mask(sys, ours) == UNIX_FULL
        assert err(sys.send, ours, b"x") == "EPIPE"
        assert [sys.recv(ours, 9), sys.recv(ours, 9)] == [b"last", b""]

    world.run(main)


@pytest.mark.parametrize(("unread", "first"), [([b""], b""), ([b"", b""], "ECONNRESET"), ([b"x", b""], "ECONNRESET")])
def test_peer_closed_with_an_empty_packet_unread(world: World, unread: list[bytes], first: object) -> None:
    """One empty packet is not missed: Linux 6.18 takes it for the place of an urgent byte."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        for data in unread:
            sys.send(ours, data)
        sys.close(theirs)
        assert err(sys.recv, ours, 9) == first

    world.run(main)


def test_listener_closed_with_a_pending_connection(world: World) -> None:
    """The client has everything and ERR: ECONNRESET, then b''."""

    def main(sys: Syscalls) -> None:
        listening, name = listener(sys)
        ours = packets(sys)
        sys.connect(ours, name)
        sys.close(listening)
        assert mask(sys, ours) == UNIX_FULL_ERR
        assert [err(sys.recv, ours, 9) for _ in range(2)] == ["ECONNRESET", b""]

    world.run(main)


def test_sleepers_see_the_end(world: World) -> None:
    """A blocked recv returns b'' when the peer closes; a blocked send is EPIPE, without the partial count of a stream."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, 0)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.recv, ours, 9)))
        sys.close(theirs)
        sys.join(tid)
        ours, theirs = pair(sys, 0)
        while err(sys.send, ours, b"x", MSG_DONTWAIT) == 1:
            pass
        tid = start(sys, lambda sys: got.append(err(sys.send, ours, b"x")))
        sys.shutdown(theirs, SHUT_RD)
        sys.join(tid)
        assert got == [b"", "EPIPE"]

    world.run(main)


def test_edges(world: World) -> None:
    """Fact 89, of packets: SHUT_WR is an edge, and the close another."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLET)
        sys.send(theirs, b"x")
        sys.send(theirs, b"y")
        assert ready(sys, epfd) == [(ours, "IN")]
        sys.recv(ours, 1)
        assert ready(sys, epfd) == []
        sys.shutdown(theirs, SHUT_WR)
        assert ready(sys, epfd) == [(ours, "IN")]
        sys.close(theirs)
        assert ready(sys, epfd) == [(ours, "IN|HUP")]

    world.run(main)


def test_a_closed_client_can_be_accepted(world: World) -> None:
    """A client that has gone before the accept leaves its packets and then the end."""

    def main(sys: Syscalls) -> None:
        listening, name = listener(sys)
        ours = packets(sys)
        sys.bind(ours, abstract(sys, "client"))
        sys.connect(ours, name)
        sys.send(ours, b"bye")
        sys.close(ours)
        theirs, peer = sys.accept4(listening)
        assert peer == abstract(sys, "client")
        assert [sys.recv(theirs, 9), sys.recv(theirs, 9)] == [b"bye", b""]
        assert mask(sys, theirs) == UNIX_FULL

    world.run(main)
