"""AF_UNIX datagrams: nothing is lost, a full receiver holds its senders up; who may send to whom; truncation, names, charges."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    FIONREAD,
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SIOCATMARK,
    SIOCOUTQ,
    SO_ACCEPTCONN,
    SO_ERROR,
    SO_RCVTIMEO,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SO_TYPE,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import UNIX_DATA, UNIX_FULL, UNIX_IDLE, World, abstract, err, mask, ready, settle, start, timeval, watch

ECONNRESET = 104
IN = "IN|RDNORM"


def dgram(sys: Syscalls, name: str | bytes = "", flags: int = SOCK_NONBLOCK) -> int:
    """A datagram socket, bound to ``name`` if there is one."""
    fd = sys.socket(AF_UNIX, SOCK_DGRAM | flags)
    if name:
        sys.bind(fd, name)
    return fd


def pair(sys: Syscalls, flags: int = SOCK_NONBLOCK) -> tuple[int, int]:
    return sys.socketpair(AF_UNIX, SOCK_DGRAM | flags)


def flood(sys: Syscalls, fd: int, addr: bytes | None = None) -> int:
    """Send one-byte datagrams until EAGAIN; how many were taken."""
    count = 0
    while (n := err(sys.sendto, fd, b"x", 0, addr)) != "EAGAIN":
        assert n == 1
        count += 1
    return count


def test_fresh_socket(world: World) -> None:
    """Fact 116: a fresh datagram socket is OUT, bound or not, without HUP."""

    def main(sys: Syscalls) -> None:
        fd = dgram(sys)
        assert mask(sys, fd) == UNIX_IDLE
        sys.bind(fd, abstract(sys))
        assert mask(sys, fd) == UNIX_IDLE

    world.run(main)


def test_pair(world: World) -> None:
    """Raw values: a pair is idle, OUT; a datagram makes IN|OUT; FIONREAD is the length of the next one."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        assert (mask(sys, ours), mask(sys, theirs)) == (UNIX_IDLE, UNIX_IDLE)
        assert sys.ioctl(ours, FIONREAD) == 0
        for data in (b"abc", b"defgh", b"", b"i"):
            assert sys.send(theirs, data) == len(data)
        assert mask(sys, ours) == UNIX_DATA
        lengths = []
        for _ in range(4):
            lengths.append(sys.ioctl(ours, FIONREAD))
            sys.recv(ours, 9)
        assert lengths == [3, 5, 0, 1]

    world.run(main)


def test_boundaries_and_truncation(world: World) -> None:
    """One recv takes one datagram; what does not fit is lost, with MSG_TRUNC in msg_flags; a datagram may be empty."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        for data in (b"hello", b"", b"z", b"long", b"all"):
            sys.send(theirs, data)
        assert [sys.recv(ours, 2) for _ in range(3)] == [b"he", b"", b"z"]
        assert sys.recvmsg(ours, 2) == (b"lo", [], MSG_TRUNC, "")
        assert sys.recvmsg(ours, 3) == (b"all", [], 0, "")
        assert err(sys.recv, ours, 9) == "EAGAIN"

    world.run(main)


def test_recv_of_nothing_drops_a_datagram(world: World) -> None:
    """A recv of 0 bytes takes a datagram all the same, a read of 0 bytes none."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        for data in (b"a", b"b", b"c"):
            sys.send(theirs, data)
        assert sys.read(ours, 0) == b""
        assert sys.recv(ours, 0) == b""
        assert sys.recvmsg(ours, 0)[2] == MSG_TRUNC
        assert sys.recv(ours, 9) == b"c"

    world.run(main)


def test_flags(world: World) -> None:
    """MSG_PEEK leaves the datagram; MSG_TRUNC may be asked for; flags of other protocols are ignored; MSG_OOB is EOPNOTSUPP."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, 0)
        sys.send(theirs, b"abc", MSG_MORE | MSG_DONTWAIT)
        assert sys.recv(ours, 2, MSG_PEEK) == b"ab"
        assert sys.recvmsg(ours, 2, 0, MSG_PEEK) == (b"ab", [], MSG_TRUNC, "")
        assert sys.recv(ours, 2, MSG_TRUNC) == b"ab"
        assert err(sys.recv, ours, 2, MSG_DONTWAIT) == "EAGAIN"
        assert err(sys.recv, ours, 2, MSG_OOB) == "EOPNOTSUPP"
        assert err(sys.send, ours, b"x", MSG_OOB) == "EOPNOTSUPP"

    world.run(main)


def test_sender_names(world: World, workdir: str) -> None:
    """recvfrom names the sender: by path, by abstract name, or "" when it has none."""
    path = workdir + "/s"

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        here = abstract(sys, "here")
        fd = dgram(sys, here)
        for name in (path, abstract(sys, "from"), ""):
            sys.sendto(dgram(sys, name), b"x", 0, here)
            assert sys.recvfrom(fd, 9) == (b"x", name)
        assert sys.getsockname(fd) == here
        assert err(sys.getpeername, fd) == "ENOTCONN"

    world.run(main)


def test_autobind(world: World) -> None:
    """The empty name asks for an abstract one of five hexadecimal digits; who has a name keeps it."""

    def main(sys: Syscalls) -> None:
        fd = dgram(sys)
        sys.bind(fd, "")
        name = sys.getsockname(fd)
        assert isinstance(name, bytes) and len(name) == 6 and name[0] == 0 and int(name[1:], 16) >= 0
        sys.bind(fd, "")
        assert sys.getsockname(fd) == name
        assert err(sys.bind, fd, abstract(sys)) == "EINVAL"
        sys.sendto(dgram(sys), b"x", 0, name)
        assert sys.recv(fd, 9) == b"x"

    world.run(main)


def test_each_type_has_its_own_abstract_names(world: World, workdir: str) -> None:
    """An abstract name of another type's socket is nobody's: ECONNREFUSED; a path's socket of another type is EPROTOTYPE."""
    path = workdir + "/s"

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        name = abstract(sys)
        dgram(sys, name)
        dgram(sys, path)
        stream = sys.socket(AF_UNIX, SOCK_STREAM)
        packets = sys.socket(AF_UNIX, SOCK_SEQPACKET)
        assert [err(sys.connect, fd, name) for fd in (stream, packets)] == ["ECONNREFUSED"] * 2
        assert [err(sys.connect, fd, path) for fd in (stream, packets)] == ["EPROTOTYPE"] * 2
        assert err(sys.bind, stream, name) is None
        assert err(sys.bind, packets, path) == "EADDRINUSE"
        assert err(sys.bind, stream, path) == "EADDRINUSE"
        assert err(sys.bind, stream, abstract(sys, "b")) == "EINVAL"

    world.run(main)


def test_nobody_there(world: World, workdir: str) -> None:
    """Fact 121, of datagrams: an abstract name nobody has is ECONNREFUSED, a path ENOENT, a stale path ECONNREFUSED."""
    path = workdir + "/s"

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        fd = dgram(sys)
        for call in (lambda a: err(sys.connect, fd, a), lambda a: err(sys.sendto, fd, b"x", 0, a)):
            assert call(abstract(sys)) == "ECONNREFUSED"
            assert call(path + "-none") == "ENOENT"
        sys.close(dgram(sys, path))
        assert err(sys.connect, fd, path) == "ECONNREFUSED"
        assert err(sys.sendto, fd, b"x", 0, path) == "ECONNREFUSED"
        assert err(sys.bind, fd, path) == "EADDRINUSE"

    world.run(main)


def test_bad_addresses(world: World) -> None:
    """The unnamed address and one of AF_INET are EINVAL; without an address an unconnected socket is ENOTCONN."""

    def main(sys: Syscalls) -> None:
        fd = dgram(sys)
        for addr in ("", ("127.0.0.1", 1)):
            assert err(sys.connect, fd, addr) == "EINVAL"
            assert err(sys.sendto, fd, b"x", 0, addr) == "EINVAL"
        assert err(sys.bind, fd, ("127.0.0.1", 1)) == "EINVAL"
        assert err(sys.send, fd, b"x") == "ENOTCONN"
        assert err(sys.recv, fd, 9) == "EAGAIN"

    world.run(main)


def test_what_datagram_sockets_cannot(world: World) -> None:
    """listen, accept and SIOCATMARK are EOPNOTSUPP; SO_ACCEPTCONN is 0; SOCK_RAW is SOCK_DGRAM; other types there are none."""

    def main(sys: Syscalls) -> None:
        fd = dgram(sys, abstract(sys))
        assert err(sys.listen, fd, 1) == "EOPNOTSUPP"
        assert err(sys.accept4, fd) == "EOPNOTSUPP"
        assert err(sys.ioctl, fd, SIOCATMARK) == "EOPNOTSUPP"
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0
        assert sys.getsockopt(fd, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM
        assert sys.getsockopt(sys.socket(AF_UNIX, SOCK_RAW), SOL_SOCKET, SO_TYPE) == SOCK_DGRAM
        assert [err(sys.socket, AF_UNIX, kind) for kind in (0, 4, 6, 10, 11)] == ["ESOCKTNOSUPPORT"] * 4 + ["EINVAL"]
        assert err(sys.socketpair, AF_UNIX, 4) == "ESOCKTNOSUPPORT"
        assert err(sys.socket, AF_UNIX, SOCK_DGRAM, 2) == "EPROTONOSUPPORT"
        assert err(sys.socketpair, AF_INET, SOCK_STREAM) == "EOPNOTSUPP"

    world.run(main)


def test_a_connected_socket_takes_from_its_peer_alone(world: World) -> None:
    """unix_may_send: others get EPERM, for a sendto and for a connect; the peer itself need not be connected."""

    def main(sys: Syscalls) -> None:
        x, y, z = (dgram(sys, abstract(sys, name)) for name in "xyz")
        sys.connect(x, abstract(sys, "y"))
        assert sys.getpeername(x) == abstract(sys, "y")
        assert err(sys.sendto, z, b"no", 0, abstract(sys, "x")) == "EPERM"
        assert err(sys.connect, z, abstract(sys, "x")) == "EPERM"
        assert sys.sendto(y, b"yes", 0, abstract(sys, "x")) == 3
        assert sys.sendto(z, b"too", 0, abstract(sys, "y")) == 3
        assert sys.recvfrom(x, 9) == (b"yes", abstract(sys, "y"))
        sys.connect(y, abstract(sys, "z"))
        assert err(sys.send, x, b"no") == "EPERM"
        assert sys.getpeername(x) == abstract(sys, "y")

    world.run(main)


def test_connect_elsewhere(world: World) -> None:
    """A connected socket may connect again; what the old peer sent is lost, and the old peer, if connected to us, gets ECONNRESET."""

    def main(sys: Syscalls) -> None:
        x, y, z = (dgram(sys, abstract(sys, name)) for name in "xyz")
        sys.connect(x, abstract(sys, "y"))
        sys.connect(y, abstract(sys, "x"))
        epfd = watch(sys, y, EPOLLIN | EPOLLET)
        sys.send(y, b"lost")
        sys.connect(x, abstract(sys, "y"))
        assert mask(sys, x) == UNIX_DATA
        sys.connect(x, abstract(sys, "z"))
        assert err(sys.recv, x, 9) == "EAGAIN"
        assert ready(sys, epfd) == [(y, "ERR")]
        assert mask(sys, y) == "OUT|ERR|WRNORM|WRBAND"
        assert [sys.getsockopt(y, SOL_SOCKET, SO_ERROR) for _ in range(2)] == [ECONNRESET, 0]
        assert err(sys.send, y, b"x") == "EPERM"
        assert sys.send(x, b"to z") == 4
        assert sys.recv(z, 9) == b"to z"

    world.run(main)


def test_an_error_goes_before_datagrams(world: World) -> None:
    """ECONNRESET is reported once by a recv, even if there is a datagram, or by a send."""

    def main(sys: Syscalls) -> None:
        for call in ("recv", "send"):
            x, y, z = (dgram(sys, abstract(sys, name + call)) for name in "xyz")
            sys.connect(x, abstract(sys, "y" + call))
            sys.connect(y, abstract(sys, "x" + call))
            sys.send(x, b"data")
            sys.send(y, b"lost")
            sys.connect(x, abstract(sys, "z" + call))
            assert (err(sys.recv, y, 9) if call == "recv" else err(sys.send, y, b"q")) == "ECONNRESET"
            assert sys.recv(y, 9) == b"data"
            sys.close(z)

    world.run(main)


def test_queue_limit_of_an_unconnected_receiver(world: World) -> None:
    """Fact 120: max_dgram_qlen is 10: 11 datagrams, then EAGAIN, and an unconnected sender's mask is still OUT."""

    def main(sys: Syscalls) -> None:
        name = abstract(sys)
        fd, sender = dgram(sys, name), dgram(sys)
        assert flood(sys, sender, name) == 11
        assert mask(sys, sender) == UNIX_IDLE
        assert err(sys.sendto, dgram(sys), b"x", 0, name) == "EAGAIN"
        sys.recv(fd, 1)
        assert flood(sys, sender, name) == 1

    world.run(main)


def test_mask_of_a_sender_connected_to_a_full_receiver(world: World) -> None:
    """Raw values: a connected sender is not OUT while the receiver is full, and OUT again after one recv, by an edge."""

    def main(sys: Syscalls) -> None:
        name = abstract(sys)
        fd, sender = dgram(sys, name), dgram(sys)
        sys.connect(sender, name)
        epfd = watch(sys, sender, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(sender, "OUT")]
        assert flood(sys, sender) == 11
        assert mask(sys, sender) == "0"
        ready(sys, epfd)
        sys.recv(fd, 1)
        assert ready(sys, epfd) == [(sender, "OUT")]
        assert mask(sys, sender) == UNIX_IDLE

    world.run(main)


def test_poll_waits_for_a_full_receiver(world: World) -> None:
    """unix_dgram_peer_wake: a poll for OUT sleeps until the receiver reads, even if this sender has filled nothing itself."""

    def main(sys: Syscalls) -> None:
        name = abstract(sys)
        fd, other, sender = dgram(sys, name), dgram(sys), dgram(sys)
        sys.connect(sender, name)
        flood(sys, other, name)
        assert mask(sys, sender) == "0"
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.poll([(sender, EPOLLOUT)], 10_000)))
        assert got == []
        sys.recv(fd, 1)
        sys.join(tid)
        assert got == [[(sender, EPOLLOUT)]]

    world.run(main)


def test_poll_learns_that_a_full_receiver_has_gone(world: World) -> None:
    """The close of a full receiver makes its sender OUT; the send is ECONNREFUSED and dissolves the connection."""

    def main(sys: Syscalls) -> None:
        name = abstract(sys)
        fd, sender = dgram(sys, name), dgram(sys)
        sys.connect(sender, name)
        flood(sys, sender)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.poll([(sender, EPOLLOUT)], 10_000)))
        sys.close(fd)
        sys.join(tid)
        assert got == [[(sender, EPOLLOUT)]]
        assert [err(sys.send, sender, b"x") for _ in range(2)] == ["ECONNREFUSED", "ENOTCONN"]

    world.run(main)


def test_pair_is_limited_by_the_send_buffer(world: World) -> None:
    """Fact 120: of two connected to each other the queue has no limit but the sender's buffer: 278 one-byte datagrams."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        assert flood(sys, ours) == 278
        assert mask(sys, ours) == "0"
        sys.recv(theirs, 1)
        # Room to send comes before POLLOUT, which waits for three quarters.
        assert mask(sys, ours) == "0"
        assert flood(sys, ours) == 1
        for _ in range(208):
            sys.recv(theirs, 1)
        assert mask(sys, ours) == "0"
        sys.recv(theirs, 1)
        assert mask(sys, ours) == UNIX_IDLE

    world.run(main)


def test_oneself_is_no_full_receiver(world: World) -> None:
    """Sending to oneself knows no queue limit, connected or not."""

    def main(sys: Syscalls) -> None:
        name = abstract(sys)
        fd = dgram(sys, name)
        assert flood(sys, fd, name) == 278
        assert mask(sys, fd) == IN
        while err(sys.recv, fd, 1) != "EAGAIN":
            pass
        sys.connect(fd, name)
        assert flood(sys, fd) == 278

    world.run(main)


@pytest.mark.parametrize(
    ("size", "charge"),
    [
        (0, 768),
        (1, 768),
        (192, 768),
        (193, 1280),
        (704, 1280),
        (705, 2304),
        (3776, 4352),
        (3777, 8448),
        (7872, 8448),
        (7873, 16640),
        (16064, 16640),
        (16065, 16640 + 4096),
        (20160, 16640 + 4096),
        (85696, 16640 + 17 * 4096),
        (85697, 33024 + 17 * 4096),
        (212960, 262400 + 17 * 4096),
    ],
)
def test_what_a_datagram_is_charged(world: World, size: int, charge: int) -> None:
    """SIOCOUTQ is what the send buffer is charged: the buffers with all their overhead, this kernel's; 0 when it is read."""

    def main(sys: Syscalls) -> None:
        for kind in (SOCK_DGRAM, SOCK_SEQPACKET):
            ours, theirs = sys.socketpair(AF_UNIX, kind)
            assert sys.send(ours, bytes(size)) == size
            assert sys.ioctl(ours, SIOCOUTQ) == charge
            assert len(sys.recv(theirs, 300_000)) == size
            assert sys.ioctl(ours, SIOCOUTQ) == 0

    world.run(main)


def test_longest_datagram(world: World) -> None:
    """Longer than SO_SNDBUF less 32 is EMSGSIZE, before anybody looks who it is for."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys)
        assert err(sys.send, ours, bytes(212992 - 31)) == "EMSGSIZE"
        sys.setsockopt(ours, SOL_SOCKET, SO_SNDBUF, 4000)
        assert err(sys.send, ours, bytes(8000 - 31)) == "EMSGSIZE"
        assert err(sys.send, ours, bytes(8000 - 32)) == 8000 - 32
        fd = dgram(sys)
        assert err(sys.send, fd, bytes(300_000)) == "EMSGSIZE"
        assert err(sys.sendto, fd, bytes(300_000), 0, abstract(sys)) == "EMSGSIZE"

    world.run(main)


def test_peer_closed(world: World) -> None:
    """Raw values: a dead peer is not seen in the mask; a send is ECONNREFUSED, loses what was received, and then ENOTCONN."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(ours, b"unread")
        sys.send(theirs, b"a")
        sys.send(theirs, b"b")
        sys.close(theirs)
        assert mask(sys, ours) == UNIX_DATA
        assert sys.getsockopt(ours, SOL_SOCKET, SO_ERROR) == 0
        assert sys.recv(ours, 9) == b"a"
        assert err(sys.send, ours, b"x") == "ECONNREFUSED"
        assert mask(sys, ours) == UNIX_IDLE
        assert err(sys.recv, ours, 9) == "EAGAIN"
        assert err(sys.send, ours, b"x") == "ENOTCONN"

    world.run(main)


def test_a_refused_send_is_an_edge(world: World) -> None:
    """The buffer of a failed send is charged and freed again, so epoll sees a new OUT edge."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        epfd = watch(sys, ours, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(ours, "OUT")]
        sys.close(theirs)
        assert ready(sys, epfd) == []
        for code in ("ECONNREFUSED", "ENOTCONN"):
            assert err(sys.send, ours, b"x") == code
            assert ready(sys, epfd) == [(ours, "OUT")]

    world.run(main)


def test_edges(world: World) -> None:
    """Fact 75: each datagram is an edge, read or not; reading gives the sender an OUT edge (fact 83)."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        readers, writers = watch(sys, ours, EPOLLIN | EPOLLET), watch(sys, theirs, EPOLLOUT | EPOLLET)
        assert ready(sys, writers) == [(theirs, "OUT")]
        for _ in range(2):
            sys.send(theirs, b"x")
            assert ready(sys, readers) == [(ours, "IN")]
            assert ready(sys, readers) == []
        assert ready(sys, writers) == []
        sys.recv(ours, 1)
        assert ready(sys, readers) == []
        assert ready(sys, writers) == [(theirs, "OUT")]

    world.run(main)


def test_shutdown_is_ones_own(world: World) -> None:
    """The peer is not told of a shutdown; SHUT_RD makes its sends EPIPE, SHUT_WR one's own; an unconnected socket may be shut down."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(theirs, b"before")
        sys.shutdown(ours, SHUT_RD)
        assert mask(sys, ours) == UNIX_DATA + "|RDHUP"
        assert mask(sys, theirs) == UNIX_IDLE
        assert err(sys.send, theirs, b"x") == "EPIPE"
        assert sys.recv(ours, 9) == b"before"
        assert err(sys.recv, ours, 9) == "EAGAIN"
        sys.shutdown(ours, SHUT_WR)
        assert mask(sys, ours) == UNIX_FULL
        assert err(sys.send, ours, b"x") == "EPIPE"
        alone = dgram(sys)
        sys.shutdown(alone, SHUT_RDWR)
        assert err(sys.sendto, alone, b"x", 0, abstract(sys)) == "EPIPE"
        assert err(sys.shutdown, alone, 3) == "EINVAL"

    world.run(main)


def test_only_a_blocking_recv_sees_the_end(world: World) -> None:
    """After SHUT_RD a blocking recv returns b'', a non-blocking one EAGAIN; one that sleeps is woken by it."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys, 0)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.recv, ours, 9)))
        sys.shutdown(ours, SHUT_RD)
        sys.join(tid)
        assert got == [b""]
        assert sys.recv(ours, 9) == b""
        assert err(sys.recv, ours, 9, MSG_DONTWAIT) == "EAGAIN"

    world.run(main)


def test_blocking_send_waits_for_the_receiver(world: World) -> None:
    """Senders to a full receiver sleep, and go on one for each recv, in the order they came."""

    def main(sys: Syscalls) -> None:
        name = abstract(sys)
        fd = dgram(sys, name)
        flood(sys, dgram(sys), name)
        got: list[bytes] = []

        def send(sys: Syscalls, data: bytes) -> None:
            sys.sendto(dgram(sys, flags=0), data, 0, name)
            got.append(data)

        tids = [start(sys, send, data) for data in (b"0", b"1", b"2")]
        assert got == []
        for n, tid in enumerate(tids):
            sys.recv(fd, 1)
            sys.join(tid)
            assert len(got) == n + 1
        assert got == [b"0", b"1", b"2"]
        assert [sys.recv(fd, 1) for _ in range(11)] == [b"x"] * 8 + [b"0", b"1", b"2"]

    world.run(main)


@pytest.mark.parametrize(("how", "code"), [("close", "ECONNREFUSED"), ("shutdown", "EPIPE")])
def test_blocked_send_when_the_receiver_goes(world: World, how: str, code: str) -> None:
    """A sleeping sender learns that its receiver has closed, or takes no more."""

    def main(sys: Syscalls) -> None:
        name = abstract(sys)
        fd, sender = dgram(sys, name), dgram(sys, flags=0)
        sys.connect(sender, name)
        flood(sys, dgram(sys), name)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.send, sender, b"x")))
        if how == "close":
            sys.close(fd)
        else:
            sys.shutdown(fd, SHUT_RD)
            # Nobody is told: the sleeper finds it when the queue moves.
            assert got == []
            sys.recv(fd, 1)
        sys.join(tid)
        assert got == [code]

    world.run(main)


def test_blocked_send_for_the_send_buffer(world: World) -> None:
    """A sender whose own buffer is full sleeps until three quarters of it are free."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, 0)
        while err(sys.send, ours, b"x", MSG_DONTWAIT) == 1:
            pass
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.send, ours, b"last")))
        for _ in range(208):
            sys.recv(theirs, 9)
        assert got == []
        for _ in range(70):
            sys.recv(theirs, 9)
        sys.join(tid)
        assert got == [4]
        assert sys.recv(theirs, 9) == b"last"

    world.run(main)


def test_timeouts(world: World) -> None:
    """Fact 31, of AF_UNIX: SO_RCVTIMEO and SO_SNDTIMEO end in EAGAIN, for either reason to wait."""

    def main(sys: Syscalls) -> None:
        name = abstract(sys)
        fd, sender = dgram(sys, name, 0), dgram(sys, flags=0)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval(20))
        sys.setsockopt(sender, SOL_SOCKET, SO_SNDTIMEO, timeval(20))
        assert err(sys.recv, fd, 9) == "EAGAIN"
        assert flood(sys, sender, name) == 11
        ours, _ = pair(sys, 0)
        sys.setsockopt(ours, SOL_SOCKET, SO_SNDTIMEO, timeval(20))
        assert flood(sys, ours) == 278

    world.run(main)


def test_a_peek_uses_up_the_wake_up(world: World) -> None:
    """A datagram wakes one of the sleeping receivers; if that one only peeks the next sleeps on, with a datagram to be had."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, 0)
        got: list[object] = []
        peeking = start(sys, lambda sys: got.append(("peek", sys.recv(ours, 9, MSG_PEEK))))
        taking = start(sys, lambda sys: got.append(("take", sys.recv(ours, 9))))
        sys.send(theirs, b"a")
        sys.join(peeking)
        settle(sys, 50)
        assert got == [("peek", b"a")]
        sys.send(theirs, b"b")
        sys.join(taking)
        assert got[1:] == [("take", b"a")]

    world.run(main)


def test_blocked_receivers(world: World) -> None:
    """Fact 93, of AF_UNIX datagrams: sleeping receivers are served in the order they came; room to write does not disturb them."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, 0)
        got: list[tuple[int, bytes]] = []

        def receive(sys: Syscalls, n: int) -> None:
            got.append((n, sys.recv(ours, 9)))

        tids = [start(sys, receive, n) for n in range(3)]
        sys.send(ours, b"out")
        sys.recv(theirs, 9)
        for n, tid in enumerate(tids):
            sys.send(theirs, b"%d" % n)
            sys.join(tid)
        assert got == [(0, b"0"), (1, b"1"), (2, b"2")]

    world.run(main)
