"""UDP: datagrams, their errors, their queues, and whom they reach."""

import pytest

from simkernel.api import Address, Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    FIONREAD,
    IP_TTL,
    IPPROTO_ICMP,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SCM_RIGHTS,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SIOCATMARK,
    SIOCOUTQ,
    SO_ACCEPTCONN,
    SO_BROADCAST,
    SO_ERROR,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_TYPE,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    UDP_CORK,
)

from .helpers import ONE, UNIX_DATA, UNIX_FIN, UNIX_FULL, UNIX_IDLE, World, err, inet_name, mask, ready, start, timeval, watch

# The masks are AF_UNIX's, with WRBAND.
IDLE, DATA = UNIX_IDLE, UNIX_DATA
LOOPBACK: dict[int, Address] = {AF_INET: ("127.0.0.1", 0), AF_INET6: ("::1", 0, 0, 0)}


def receiver(sys: Syscalls, family: int = AF_INET, flags: int = SOCK_NONBLOCK) -> tuple[int, Address]:
    """A bound socket, non-blocking unless ``flags`` say otherwise, and its address."""
    fd = sys.socket(family, SOCK_DGRAM | flags)
    sys.bind(fd, LOOPBACK[family])
    return fd, sys.getsockname(fd)


def sender(sys: Syscalls, addr: Address | None = None, family: int = AF_INET) -> int:
    """A non-blocking socket, connected if there is an ``addr``."""
    fd = sys.socket(family, SOCK_DGRAM | SOCK_NONBLOCK)
    if addr is not None:
        sys.connect(fd, addr)
    return fd


def dead_port(sys: Syscalls) -> Address:
    """An address at which nobody is."""
    fd, addr = receiver(sys)
    sys.close(fd)
    return addr


def everything(sys: Syscalls, fd: int) -> list[bytes]:
    """All datagrams that wait."""
    got = []
    while (data := err(sys.recv, fd, 65536, MSG_DONTWAIT)) != "EAGAIN":
        got.append(data)
    return got


def test_fresh_socket(world: World) -> None:
    """Raw values: the mask of a fresh UDP socket is OUT with WRBAND and no HUP; it has a type, a protocol and no connections."""

    def main(sys: Syscalls) -> None:
        fd = sender(sys)
        assert mask(sys, fd) == IDLE
        assert sys.getsockopt(fd, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM
        assert sys.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0
        assert sys.getsockname(fd) == ("0.0.0.0", 0)
        assert err(sys.getpeername, fd) == "ENOTCONN"

    world.run(main)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_protocol_numbers(world: World, family: int) -> None:
    """UDP is protocol 17 or 0 of SOCK_DGRAM; another's number is EPROTONOSUPPORT, no number at all EINVAL."""

    def main(sys: Syscalls) -> None:
        assert sys.socket(family, SOCK_DGRAM, IPPROTO_UDP) >= 0
        for proto in (IPPROTO_TCP, 255, IPPROTO_ICMP if family == AF_INET6 else 58):
            assert err(sys.socket, family, SOCK_DGRAM, proto) == "EPROTONOSUPPORT"
        assert err(sys.socket, family, SOCK_DGRAM, -1) == "EINVAL"
        assert err(sys.socket, family, SOCK_DGRAM, 263) == "EINVAL"

    world.run(main)


def test_default_buffer_sizes(world: World) -> None:
    """Fact 53: 212992 to receive and to send."""

    def main(sys: Syscalls) -> None:
        fd = sender(sys)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVBUF) == 212992
        assert sys.getsockopt(fd, SOL_SOCKET, SO_SNDBUF) == 212992

    world.run(main)


def test_datagrams_keep_their_bounds(world: World) -> None:
    """Fact 123, raw values: a datagram is read whole or cut, never joined with the next; one of no bytes is one too."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys)
        for data in (b"hello", b"", b"z"):
            assert sys.sendto(out, data, 0, addr) == len(data)
        assert mask(sys, fd) == DATA
        assert sys.recv(fd, 2) == b"he"
        assert sys.recv(fd, 100) == b""
        assert sys.recv(fd, 100) == b"z"
        assert err(sys.recv, fd, 100) == "EAGAIN"

    world.run(main)


def test_a_recv_of_nothing_takes_a_datagram(world: World) -> None:
    """recv of 0 bytes takes the datagram away and cuts it to nothing; a read of 0 bytes returns at once and takes none."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys)
        assert err(sys.recv, fd, 0) == "EAGAIN"
        sys.sendto(out, b"a", 0, addr)
        sys.sendto(out, b"b", 0, addr)
        assert sys.read(fd, 0) == b""
        assert sys.recvmsg(fd, 0) == (b"", [], MSG_TRUNC, ("127.0.0.1", inet_name(sys, out)[1]))
        assert sys.recv(fd, 10) == b"b"

    world.run(main)


def test_write_and_read(world: World) -> None:
    """write(2) of nothing sends an empty datagram, writev(2) of nothing does not; read and readv take one each."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys, addr)
        assert sys.write(out, b"") == 0
        assert sys.writev(out, [b"", b""]) == 0
        assert sys.writev(out, [b"ab", b"cd"]) == 4
        assert sys.read(fd, 10) == b""
        assert sys.readv(fd, [3, 3]) == [b"abc", b"d"]
        assert err(sys.read, fd, 10) == "EAGAIN"

    world.run(main)


def test_sender_address(world: World) -> None:
    """recvfrom and recvmsg name the sender, whose port was chosen at its first send."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys)
        sys.sendto(out, b"x", 0, addr)
        sys.sendmsg(out, [b"y", b"z"], (), 0, addr)
        host, port = inet_name(sys, out)
        assert host == "0.0.0.0" and port != 0
        assert sys.recvfrom(fd, 10) == (b"x", ("127.0.0.1", port))
        assert sys.recvmsg(fd, 10) == (b"yz", [], 0, ("127.0.0.1", port))

    world.run(main)


def test_the_source_is_the_bound_address(world: World) -> None:
    """A socket bound to 127.0.0.2 sends from there, and 0.0.0.0 as a destination means that address; unbound it is 127.0.0.1."""

    def main(sys: Syscalls) -> None:
        fd = sender(sys)
        sys.bind(fd, ("127.0.0.2", 0))
        port = inet_name(sys, fd)[1]
        sys.sendto(fd, b"x", 0, ("0.0.0.0", port))
        assert sys.recvfrom(fd, 10) == (b"x", ("127.0.0.2", port))
        out = sender(sys, ("127.0.0.2", port))
        assert inet_name(sys, out)[0] == "127.0.0.1"

    world.run(main)


def test_msg_trunc_out(world: World) -> None:
    """msg_flags say MSG_TRUNC when the buffer was too small, and only then."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys)
        for _ in range(2):
            sys.sendto(out, b"abc", 0, addr)
        assert sys.recvmsg(fd, 2)[:3] == (b"ab", [], MSG_TRUNC)
        assert sys.recvmsg(fd, 3)[:3] == (b"abc", [], 0)

    world.run(main)


def test_receive_flags(world: World) -> None:
    """MSG_PEEK leaves the datagram; MSG_WAITALL, MSG_OOB and MSG_TRUNC change nothing of what is copied; no error is queued."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys, flags=0)
        out = sender(sys)
        assert err(sys.recv, fd, 10, MSG_DONTWAIT) == "EAGAIN"
        sys.sendto(out, b"abc", 0, addr)
        assert sys.recv(fd, 2, MSG_PEEK) == b"ab"
        assert sys.recv(fd, 10, MSG_PEEK) == b"abc"
        assert err(sys.recv, fd, 10, MSG_ERRQUEUE) == "EAGAIN"
        assert sys.recv(fd, 10, MSG_WAITALL) == b"abc"
        for flag in (MSG_OOB, MSG_NOSIGNAL):
            sys.sendto(out, b"q", 0, addr)
            assert sys.recv(fd, 10, flag) == b"q"
        assert err(sys.sendto, out, b"x", MSG_OOB, addr) == "EOPNOTSUPP"

    world.run(main)


def test_a_receive_timeout(world: World) -> None:
    """Fact 31: SO_RCVTIMEO ends a blocked recv with EAGAIN.  SO_RCVLOWAT is nothing to a datagram."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys, flags=0)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval(20))
        assert err(sys.recv, fd, 10) == "EAGAIN"
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, 10)
        sys.sendto(sender(sys), b"x", 0, addr)
        assert mask(sys, fd) == DATA
        assert sys.recv(fd, 10) == b"x"

    world.run(main)


def test_fionread_is_the_next_datagram(world: World) -> None:
    """Raw values: FIONREAD tells the size of the next datagram, not the sum."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        assert sys.ioctl(fd, FIONREAD) == 0
        out = sender(sys)
        for data in (b"sixsix", b"", b"xy"):
            sys.sendto(out, data, 0, addr)
        sizes = []
        for _ in range(3):
            sizes.append(sys.ioctl(fd, FIONREAD))
            sys.recv(fd, 100)
        assert sizes == [6, 0, 2]

    world.run(main)


@pytest.mark.parametrize(("family", "largest"), [(AF_INET, 65507), (AF_INET6, 65527)])
def test_the_largest_datagram(world: World, family: int, largest: int) -> None:
    """Fact 123: more than 65507 bytes is EMSGSIZE; over IPv6, whose header does not count, more than 65527."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys, family)
        out = sender(sys, None, family)
        assert err(sys.sendto, out, bytes(largest + 1), 0, addr) == "EMSGSIZE"
        assert sys.sendto(out, bytes(largest), 0, addr) == largest
        assert len(sys.recv(fd, 70000)) == largest

    world.run(main)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
@pytest.mark.parametrize("buf", [0, 4096, 65536, 212992])
def test_overflow_drops_silently(world: World, family: int, buf: int) -> None:
    """Fact 123: sends go on succeeding, and what the receive buffer does not hold is lost.

    What counts is the buffer's memory (truesize), not its bytes: the steps of the heads are at 198, 646 ... (IPv6: 185, 633 ...), and an
    empty queue takes a datagram of any size.
    """

    def main(sys: Syscalls) -> None:
        for size in (0, 184, 185, 197, 198, 632, 633, 645, 646, 1657, 1670, 7813, 7814, 15991, 15992, 16004, 16005, 65480, 65488, 65500):
            fd, addr = receiver(sys, family)
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, buf)
            out = sender(sys, None, family)
            total = max(2 * buf, 4608)
            linear = size <= (16004 if family == AF_INET else 15991)
            room = 59 if family == AF_INET else 72
            head = next(h for h in (256, 704, 1728, 3776, 7872, 16064) if h >= (size if linear else 0) + room) + 320 + 256
            truesize = head + (0 if linear else size)
            if family == AF_INET6 and size > 65488:
                # In two fragments, which count with their own heads.
                truesize = 65480 + 2 * 832
            if buf == 0:
                total = 2304
            fits = max(total // truesize, 1)
            for _ in range(fits + 3):
                assert sys.sendto(out, bytes(size), 0, addr) == size
            assert len(everything(sys, fd)) == fits, size
            sys.close(fd)
            sys.close(out)

    world.run(main)


def test_what_was_read_is_uncharged_in_lots(world: World) -> None:
    """A reader gives memory back when a quarter of the buffer is read, or all that had come: until then new datagrams are dropped."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 4160)
        out = sender(sys)
        for _ in range(10):
            sys.sendto(out, b"o", 0, addr)
        for new in (b"1", b"2", b"3"):
            sys.recv(fd, 1)
            sys.sendto(out, new, 0, addr)
        for new in (b"4", b"5", b"6"):
            sys.sendto(out, new, 0, addr)
        assert everything(sys, fd) == [b"o"] * 7 + [b"3", b"4", b"5"]

    world.run(main)


def test_dead_port_connected(world: World) -> None:
    """Fact 122: the send is fine, then ERR; ECONNREFUSED once, by recv, by send or by SO_ERROR, and it clears."""

    def main(sys: Syscalls) -> None:
        fd = sender(sys, dead_port(sys))
        assert sys.send(fd, b"a") == 1
        assert mask(sys, fd) == "OUT|ERR|WRNORM|WRBAND"
        assert err(sys.recv, fd, 10) == "ECONNREFUSED"
        assert mask(sys, fd) == IDLE
        assert err(sys.recv, fd, 10) == "EAGAIN"
        assert sys.send(fd, b"a") == 1
        assert err(sys.send, fd, b"a") == "ECONNREFUSED"
        assert sys.send(fd, b"a") == 1
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) == 111
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) == 0
        assert mask(sys, fd) == IDLE

    world.run(main)


def test_dead_port_unconnected(world: World) -> None:
    """Fact 122: an unconnected socket does not hear of it."""

    def main(sys: Syscalls) -> None:
        fd = sender(sys)
        addr = dead_port(sys)
        assert [sys.sendto(fd, b"a", 0, addr) for _ in range(2)] == [1, 1]
        assert mask(sys, fd) == IDLE

    world.run(main)


def test_a_refusal_comes_before_data(world: World) -> None:
    """A pending error is reported first, even if datagrams wait; those stay."""

    def main(sys: Syscalls) -> None:
        peer, addr = receiver(sys)
        fd = sender(sys, addr)
        sys.sendto(peer, b"data", 0, ("127.0.0.1", inet_name(sys, fd)[1]))
        sys.close(peer)
        sys.send(fd, b"x")
        assert mask(sys, fd) == "IN|OUT|ERR|RDNORM|WRNORM|WRBAND"
        assert err(sys.recv, fd, 10) == "ECONNREFUSED"
        assert sys.recv(fd, 10) == b"data"

    world.run(main)


def test_a_refusal_wakes_a_reader(world: World) -> None:
    """A blocked recv ends with ECONNREFUSED."""

    def main(sys: Syscalls) -> list[object]:
        fd = sys.socket(AF_INET, SOCK_DGRAM)
        sys.connect(fd, dead_port(sys))
        got: list[object] = []

        def read(sys: Syscalls) -> None:
            got.append(err(sys.recv, fd, 10))

        tid = start(sys, read)
        sys.send(fd, b"x")
        sys.join(tid)
        return got

    assert world.run(main) == ["ECONNREFUSED"]


def test_port_zero(world: World) -> None:
    """Nothing is sent to port 0: EINVAL.  connect takes it, though: there is no peer's name, and what is sent is refused."""

    def main(sys: Syscalls) -> None:
        fd = sender(sys)
        assert err(sys.sendto, fd, b"x", 0, ("127.0.0.1", 0)) == "EINVAL"
        sys.connect(fd, ("127.0.0.1", 0))
        assert err(sys.getpeername, fd) == "ENOTCONN"
        assert sys.send(fd, b"") == 0
        assert err(sys.recv, fd, 1) == "ECONNREFUSED"

    world.run(main)


def test_destination_required(world: World) -> None:
    """Raw values: send without a peer is EDESTADDRREQ; it has chosen a port all the same."""

    def main(sys: Syscalls) -> None:
        fd = sender(sys)
        assert err(sys.send, fd, b"x") == "EDESTADDRREQ"
        assert err(sys.write, fd, b"x") == "EDESTADDRREQ"
        assert err(sys.sendto, fd, b"x", 0, None) == "EDESTADDRREQ"
        assert inet_name(sys, fd)[1] != 0

    world.run(main)


def test_addresses_of_other_families(world: World) -> None:
    """AF_UNIX: too short is EINVAL, long enough EAFNOSUPPORT; AF_INET6: EAFNOSUPPORT; for bind, connect and sendto alike."""

    def main(sys: Syscalls) -> None:
        for addr, code in (("/x", "EINVAL"), ("/tmp/long-enough", "EAFNOSUPPORT"), (("::1", 9, 0, 0), "EAFNOSUPPORT")):
            fd = sender(sys)
            assert err(sys.bind, fd, addr) == code
            assert err(sys.connect, fd, addr) == code
            assert err(sys.sendto, fd, b"x", 0, addr) == code

    world.run(main)


def test_connected_filters_senders(world: World) -> None:
    """Fact 123: only the peer's datagrams arrive; others are refused as if nobody were there; what had come before stays."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        peer, peer_addr = receiver(sys)
        other = sender(sys)
        sys.sendto(other, b"before", 0, addr)
        sys.connect(fd, peer_addr)
        assert sys.getpeername(fd) == peer_addr
        sys.sendto(other, b"x", 0, addr)
        sys.sendto(peer, b"peer", 0, addr)
        assert everything(sys, fd) == [b"before", b"peer"]
        sys.connect(other, addr)
        sys.send(other, b"x")
        assert err(sys.recv, other, 10) == "ECONNREFUSED"

    world.run(main)


def test_connect_again(world: World) -> None:
    """A second connect changes the peer; the port and the local address that the first has chosen stay.  sendto elsewhere is fine."""

    def main(sys: Syscalls) -> None:
        one, one_addr = receiver(sys)
        two, two_addr = receiver(sys)
        fd = sender(sys, one_addr)
        name = sys.getsockname(fd)
        assert inet_name(sys, fd)[0] == "127.0.0.1"
        sys.send(fd, b"1")
        sys.connect(fd, two_addr)
        sys.send(fd, b"2")
        sys.sendto(fd, b"3", 0, one_addr)
        assert sys.getsockname(fd) == name
        assert (everything(sys, one), everything(sys, two)) == ([b"1", b"3"], [b"2"])

    world.run(main)


def test_a_failed_connect_spoils_the_flow(world: World) -> None:
    """After a connect that fails the old peer stays, and gets the next send; those after it are lost on the way to the other.

    The flow of a connected socket is written before the route is looked up, and read again once there is one.
    """

    def main(sys: Syscalls) -> None:
        peer, addr = receiver(sys)
        fd = sender(sys, addr)
        assert err(sys.connect, fd, ("127.255.255.255", 9)) == "EACCES"
        assert sys.getpeername(fd) == addr
        for data in (b"1", b"2", b"3"):
            assert sys.send(fd, data) == 1
        assert everything(sys, peer) == [b"1"]
        sys.connect(fd, addr)
        sys.send(fd, b"4")
        sys.send(fd, b"5")
        assert everything(sys, peer) == [b"4", b"5"]

    world.run(main)


def test_a_connected_socket_scores_higher(world: World) -> None:
    """Of sockets that share a port the connected one gets its peer's datagrams, then the one bound to the address, then the wildcard."""

    def main(sys: Syscalls) -> None:
        wild = sender(sys)
        sys.setsockopt(wild, SOL_SOCKET, SO_REUSEADDR, 1)
        sys.bind(wild, ("0.0.0.0", 0))
        port = inet_name(sys, wild)[1]
        fds = []
        for _ in range(3):
            fd = sender(sys)
            sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
            sys.bind(fd, ("127.0.0.1", port))
            fds.append(fd)
        peer, peer_addr = receiver(sys)
        sys.connect(fds[0], peer_addr)
        sys.sendto(peer, b"peer", 0, ("127.0.0.1", port))
        out = sender(sys)
        sys.sendto(out, b"other", 0, ("127.0.0.1", port))
        sys.sendto(out, b"wild", 0, ("127.0.0.2", port))
        # Of equals the last to bind.
        assert [everything(sys, fd) for fd in (*fds, wild)] == [[b"peer"], [], [b"other"], [b"wild"]]

    world.run(main)


def test_reuseport_shares_out(world: World) -> None:
    """SO_REUSEPORT: each sender always reaches the same one of the group, and only one."""

    def main(sys: Syscalls) -> None:
        fds = []
        addr: Address = ("127.0.0.1", 0)
        for _ in range(3):
            fd = sender(sys)
            sys.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1)
            sys.bind(fd, addr)
            addr = sys.getsockname(fd)
            fds.append(fd)
        for _ in range(8):
            out = sender(sys)
            for _ in range(3):
                sys.sendto(out, b"x", 0, addr)
            assert sorted(len(everything(sys, fd)) for fd in fds) == [0, 0, 3]

    world.run(main)


def test_sharing_a_port(world: World) -> None:
    """Both need SO_REUSEADDR, or both SO_REUSEPORT; different addresses never conflict, the wildcard with all; TCP's ports are others."""

    def main(sys: Syscalls) -> None:
        def bind(host: str, port: int, *options: int) -> object:
            fd = sender(sys)
            for option in options:
                sys.setsockopt(fd, SOL_SOCKET, option, 1)
            result = err(sys.bind, fd, (host, port))
            sys.close(fd)
            return result

        plain, addr = receiver(sys)
        port = inet_name(sys, plain)[1]
        assert bind("127.0.0.1", port) == "EADDRINUSE"
        assert bind("0.0.0.0", port) == "EADDRINUSE"
        assert bind("127.0.0.2", port) is None
        assert bind("127.0.0.1", port, SO_REUSEADDR, SO_REUSEPORT) == "EADDRINUSE"
        sys.setsockopt(plain, SOL_SOCKET, SO_REUSEADDR, 1)
        assert bind("127.0.0.1", port, SO_REUSEADDR) is None
        assert bind("127.0.0.1", port, SO_REUSEPORT) == "EADDRINUSE"
        sys.setsockopt(plain, SOL_SOCKET, SO_REUSEPORT, 1)
        assert bind("127.0.0.1", port, SO_REUSEPORT) is None
        sys.close(plain)
        assert bind("127.0.0.1", port) is None
        assert addr

    world.run(main)


def test_bind_rules(world: World) -> None:
    """A second bind, or one after the port was chosen, is EINVAL; a foreign address EADDRNOTAVAIL."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        assert err(sys.bind, fd, addr) == "EINVAL"
        out = sender(sys)
        sys.sendto(out, b"x", 0, addr)
        assert err(sys.bind, out, ("127.0.0.1", 0)) == "EINVAL"
        assert err(sys.bind, sender(sys), ("0.0.0.1", 0)) == "EADDRNOTAVAIL"

    world.run(main)


def test_a_closed_port_is_free_at_once(world: World) -> None:
    """There is no TIME_WAIT."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys, addr)
        sys.send(out, b"x")
        sys.close(fd)
        fd = sender(sys)
        sys.bind(fd, addr)
        assert everything(sys, fd) == []

    world.run(main)


def test_broadcast_needs_permission(world: World) -> None:
    """Without SO_BROADCAST a broadcast address is EACCES, for sendto and for connect."""

    def main(sys: Syscalls) -> None:
        fd = sender(sys)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_BROADCAST) == 0
        assert err(sys.sendto, fd, b"x", 0, ("127.255.255.255", 9)) == "EACCES"
        assert err(sys.connect, fd, ("127.255.255.255", 9)) == "EACCES"
        sys.setsockopt(fd, SOL_SOCKET, SO_BROADCAST, 7)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_BROADCAST) == 1

    world.run(main)


def test_broadcast_reaches_all(world: World) -> None:
    """A broadcast on lo's network: all that are bound to its address or to any get it, IPv6's too; no others, and nobody is no error."""

    def main(sys: Syscalls) -> None:
        port = 0
        fds = []
        for host in ("0.0.0.0", "127.0.0.1", "127.255.255.255", "::", "::1", "0.0.0.0"):
            fd = sys.socket(AF_INET6 if ":" in host else AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
            sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
            sys.bind(fd, (host, port, 0, 0) if ":" in host else (host, port))
            port = port or inet_name(sys, fd)[1]
            fds.append(fd)
        assert sys.getsockname(fds[2]) == ("127.255.255.255", port)
        out = sender(sys)
        sys.setsockopt(out, SOL_SOCKET, SO_BROADCAST, 1)
        sys.sendto(out, b"a", 0, ("127.255.255.255", port))
        name = ("127.0.0.1", inet_name(sys, out)[1])
        assert sys.recvfrom(fds[2], 9) == (b"a", name)
        assert [everything(sys, fd) for fd in fds] == [[b"a"], [], [], [b"a"], [], [b"a"]]
        sys.connect(out, ("127.255.255.255", port))
        assert sys.getsockname(out) == name
        sys.send(out, b"b")
        assert [everything(sys, fd) for fd in fds] == [[b"b"], [], [b"b"], [b"b"], [], [b"b"]]
        sys.sendto(fds[2], b"c", 0, ("127.0.0.1", port))
        assert sys.recvfrom(fds[1], 9) == (b"c", ("127.0.0.1", port))
        for fd in fds:
            sys.close(fd)
        assert sys.send(out, b"d") == 1
        assert mask(sys, out) == IDLE

    world.run(main)


def test_no_listening(world: World) -> None:
    """Raw values: listen and accept are EOPNOTSUPP."""

    def main(sys: Syscalls) -> None:
        fd, _ = receiver(sys)
        assert err(sys.listen, fd, 1) == "EOPNOTSUPP"
        assert err(sys.accept4, fd) == "EOPNOTSUPP"

    world.run(main)


@pytest.mark.parametrize(("how", "shown"), [(SHUT_RD, UNIX_FIN), (SHUT_WR, UNIX_IDLE), (SHUT_RDWR, UNIX_FULL)])
def test_shutdown(world: World, how: int, shown: str) -> None:
    """Fact 123: SHUT_RDWR gives FULL.  (SHUT_RD alone has no HUP.)  A non-blocking recv is EAGAIN still, a blocking one ends."""

    def main(sys: Syscalls) -> None:
        peer, addr = receiver(sys)
        fd = sender(sys, addr)
        sys.shutdown(fd, how)
        assert mask(sys, fd) == shown
        assert err(sys.recv, fd, 10) == "EAGAIN"
        assert err(sys.send, fd, b"x") == (1 if how == SHUT_RD else "EPIPE")
        sys.sendto(peer, b"late", 0, ("127.0.0.1", inet_name(sys, fd)[1]))
        assert sys.recv(fd, 10) == b"late"

    world.run(main)


def test_shutdown_ends_a_blocked_recv(world: World) -> None:
    """SHUT_RD wakes a blocked recvfrom with b'' and no name; a recv that would block later returns b'' at once."""

    def main(sys: Syscalls) -> list[object]:
        fd = sys.socket(AF_INET, SOCK_DGRAM)
        sys.connect(fd, dead_port(sys))
        got: list[object] = []

        def read(sys: Syscalls) -> None:
            got.append(err(sys.recvfrom, fd, 10))

        tid = start(sys, read)
        sys.shutdown(fd, SHUT_RD)
        sys.join(tid)
        got.append(err(sys.recv, fd, 10))
        return got

    assert world.run(main) == [(b"", ""), b""]


def test_shutdown_without_a_peer(world: World) -> None:
    """Raw values: ENOTCONN; yet the socket is shut."""

    def main(sys: Syscalls) -> None:
        fd, _ = receiver(sys)
        assert err(sys.shutdown, fd, SHUT_RD) == "ENOTCONN"
        assert mask(sys, fd) == UNIX_FIN
        assert err(sys.shutdown, fd, SHUT_WR) == "ENOTCONN"
        assert mask(sys, fd) == UNIX_FULL

    world.run(main)


def test_edge_in(world: World) -> None:
    """Fact 75, raw values: each datagram is an edge, read or not."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys)
        epfd = watch(sys, fd, EPOLLIN | EPOLLET)
        assert ready(sys, epfd) == []
        for _ in range(2):
            sys.sendto(out, b"x", 0, addr)
            assert ready(sys, epfd) == [(fd, "IN")]
            assert ready(sys, epfd) == []

    world.run(main)


def test_edge_out_on_every_send(world: World) -> None:
    """Fact 84: each send is an OUT edge for the sender, since the datagram is its no more; that it is read is none."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys, addr)
        epfd = watch(sys, out, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(out, "OUT")]
        assert ready(sys, epfd) == []
        for _ in range(2):
            sys.send(out, b"x")
            assert ready(sys, epfd) == [(out, "OUT")]
            assert ready(sys, epfd) == []
        everything(sys, fd)
        assert ready(sys, epfd) == []

    world.run(main)


def test_edge_of_a_failed_send(world: World) -> None:
    """A send that fails before there is a datagram is no edge; a bigger send buffer is one."""

    def main(sys: Syscalls) -> None:
        _, addr = receiver(sys)
        out = sender(sys)
        epfd = watch(sys, out, EPOLLOUT | EPOLLET)
        ready(sys, epfd)
        assert err(sys.send, out, b"x") == "EDESTADDRREQ"
        assert err(sys.sendto, out, bytes(65508), 0, addr) == "EMSGSIZE"
        assert ready(sys, epfd) == []
        sys.setsockopt(out, SOL_SOCKET, SO_SNDBUF, 100000)
        assert ready(sys, epfd) == [(out, "OUT")]

    world.run(main)


def test_a_refusal_is_an_edge(world: World) -> None:
    """The OUT of the send and the ERR of its refusal are one event, or two wake-ups that coalesce."""

    def main(sys: Syscalls) -> None:
        out = sender(sys, dead_port(sys))
        epfd = watch(sys, out, EPOLLIN | EPOLLET)
        assert ready(sys, epfd) == []
        sys.send(out, b"x")
        assert ready(sys, epfd) == [(out, "ERR")]

    world.run(main)


def test_blocked_readers_wake_in_turn(world: World) -> None:
    """Fact 93: blocked readers are served first come, first served, one for each datagram; a send of their own does not mix them up."""

    def main(sys: Syscalls) -> list[tuple[int, bytes]]:
        fd, addr = receiver(sys, flags=0)
        got: list[tuple[int, bytes]] = []
        woken = sys.eventfd()

        def read(sys: Syscalls, i: int) -> None:
            got.append((i, sys.recv(fd, 10)))
            sys.write(woken, ONE)

        tids = [start(sys, read, i) for i in range(3)]
        peer, peer_addr = receiver(sys)
        sys.sendto(fd, b"out", 0, peer_addr)
        assert everything(sys, peer) == [b"out"]
        for i in range(3):
            sys.sendto(peer, b"%d" % i, 0, addr)
            sys.read(woken, 8)
        for tid in tids:
            sys.join(tid)
        return got

    assert world.run(main) == [(0, b"0"), (1, b"1"), (2, b"2")]


def test_cork(world: World) -> None:
    """MSG_MORE and UDP_CORK hold a datagram back, and what comes next joins it; taking the cork out sends it, closing loses it."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys, addr)
        assert sys.send(out, b"a", MSG_MORE) == 1
        assert everything(sys, fd) == []
        assert sys.send(out, b"b") == 1
        assert everything(sys, fd) == [b"ab"]
        sys.setsockopt(out, IPPROTO_UDP, UDP_CORK, 1)
        assert sys.getsockopt(out, IPPROTO_UDP, UDP_CORK) == 1
        sys.send(out, b"c")
        sys.send(out, b"d")
        assert everything(sys, fd) == []
        sys.setsockopt(out, IPPROTO_UDP, UDP_CORK, 0)
        assert everything(sys, fd) == [b"cd"]
        sys.send(out, b"e", MSG_MORE)
        sys.close(out)
        assert everything(sys, fd) == []

    world.run(main)


def test_options_of_other_levels(world: World) -> None:
    """Levels that are not its own: ENOPROTOOPT to set; to get EOPNOTSUPP, on AF_INET6 ENOPROTOOPT again.  Unknown names are ENOPROTOOPT."""

    def main(sys: Syscalls) -> None:
        for family, code in ((AF_INET, "EOPNOTSUPP"), (AF_INET6, "ENOPROTOOPT")):
            fd = sys.socket(family, SOCK_DGRAM)
            assert err(sys.setsockopt, fd, IPPROTO_TCP, 1, 1) == "ENOPROTOOPT"
            assert err(sys.getsockopt, fd, IPPROTO_TCP, 1) == code
            assert err(sys.setsockopt, fd, IPPROTO_UDP, 2, 1) == "ENOPROTOOPT"
            assert err(sys.getsockopt, fd, IPPROTO_UDP, 2) == "ENOPROTOOPT"
            assert err(sys.setsockopt, fd, IPPROTO_UDP, UDP_CORK, b"\1") == "EINVAL"
            sys.setsockopt(fd, IPPROTO_IP, IP_TTL, 3)
            assert sys.getsockopt(fd, IPPROTO_IP, IP_TTL) == 3

    world.run(main)


def test_control_messages(world: World) -> None:
    """What AF_UNIX sends along, and what is of another protocol, is ignored; an unknown message of IP, UDP or SOL_SOCKET is EINVAL."""

    def main(sys: Syscalls) -> None:
        for family, ignored, unknown in ((AF_INET, (IPPROTO_IPV6, 99), (IPPROTO_IP, 99)), (AF_INET6, (IPPROTO_IP, 99), (IPPROTO_IPV6, 99))):
            fd, addr = receiver(sys, family)
            out = sender(sys, None, family)
            for level, kind in (ignored, (SOL_SOCKET, SCM_RIGHTS), (IPPROTO_TCP, 1), (99, 1)):
                assert sys.sendmsg(out, [b"x"], [(level, kind, b"abcd")], 0, addr) == 1
            for level, kind in (unknown, (SOL_SOCKET, 99), (IPPROTO_UDP, 99)):
                assert err(sys.sendmsg, out, [b"x"], [(level, kind, b"abcd")], 0, addr) == "EINVAL"
            assert sys.recvmsg(fd, 9, 100)[:3] == (b"x", [], 0)
            assert len(everything(sys, fd)) == 3

    world.run(main)


def test_siocoutq(world: World) -> None:
    """SIOCOUTQ counts the memory of what MSG_MORE holds back, and nothing once it is sent; there is no urgent mark."""

    def main(sys: Syscalls) -> None:
        _, addr = receiver(sys)
        out = sender(sys, addr)
        sys.send(out, b"x")
        assert sys.ioctl(out, SIOCOUTQ) == 0
        sys.send(out, b"x", MSG_MORE)
        assert sys.ioctl(out, SIOCOUTQ) == 832
        sys.send(out, bytes(100), MSG_MORE)
        assert sys.ioctl(out, SIOCOUTQ) == 932
        sys.send(out, b"")
        assert sys.ioctl(out, SIOCOUTQ) == 0
        assert err(sys.ioctl, out, SIOCATMARK) == "ENOTTY"

    world.run(main)


def test_cork_too_much(world: World) -> None:
    """More than fits is EMSGSIZE, and all that was held back is gone."""

    def main(sys: Syscalls) -> None:
        fd, addr = receiver(sys)
        out = sender(sys, addr)
        sys.send(out, bytes(65000), MSG_MORE)
        assert err(sys.send, out, bytes(508)) == "EMSGSIZE"
        sys.send(out, b"x")
        assert everything(sys, fd) == [b"x"]

    world.run(main)


def test_cork_and_a_small_send_buffer(world: World) -> None:
    """What is held back is the sender's: more than half a send buffer of it is not writable, and sending it is an OUT edge."""

    def main(sys: Syscalls) -> None:
        _, addr = receiver(sys)
        out = sender(sys, addr)
        sys.setsockopt(out, SOL_SOCKET, SO_SNDBUF, 4096)
        epfd = watch(sys, out, EPOLLOUT | EPOLLET)
        ready(sys, epfd)
        sys.send(out, bytes(5000), MSG_MORE)
        assert mask(sys, out) == "0"
        assert ready(sys, epfd) == []
        sys.send(out, b"x")
        assert mask(sys, out) == IDLE
        assert ready(sys, epfd) == [(out, "OUT")]

    world.run(main)


def test_cork_and_another_peer(world: World) -> None:
    """What is held back goes to where the socket is connected when it is sent, not when it was written."""

    def main(sys: Syscalls) -> None:
        one, one_addr = receiver(sys)
        two, two_addr = receiver(sys)
        out = sender(sys, one_addr)
        sys.send(out, b"a", MSG_MORE)
        sys.connect(out, two_addr)
        sys.send(out, b"b")
        assert (everything(sys, one), everything(sys, two)) == ([], [b"ab"])

    world.run(main)
