"""TCP: who may bind which port when, what listen does with an unbound socket, and what accept hands over."""

import pytest

from simkernel.api import Address, Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    F_GETFD,
    F_GETFL,
    FD_CLOEXEC,
    IP_BIND_ADDRESS_NO_PORT,
    IPPROTO_IP,
    IPPROTO_TCP,
    O_NONBLOCK,
    RLIMIT_NOFILE,
    SO_BINDTODEVICE,
    SO_KEEPALIVE,
    SO_RCVBUF,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
)

from .helpers import World, bound, client, err, inet_name, listener, mask, nonblocking, settle


def rebind(sys: Syscalls, addr: tuple[str, int], reuse: bool) -> object:
    """What a new socket gets for bind and listen."""
    fd = sys.socket(AF_INET, SOCK_STREAM)
    if reuse:
        sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    result = err(sys.bind, fd, addr)
    if result is None:
        result = err(sys.listen, fd, 1)
    sys.close(fd)
    return result


def test_families_and_types_that_there_are_not(world: World) -> None:
    """AF_SECURITY and AF_SNA have a number and no module; a type of no protocol is ESOCKTNOSUPPORT."""

    def main(sys: Syscalls) -> None:
        assert err(sys.socket, 14, SOCK_STREAM) == "EAFNOSUPPORT"
        assert err(sys.socket, 22, SOCK_RAW) == "EAFNOSUPPORT"
        assert err(sys.socket, AF_INET, SOCK_SEQPACKET) == "ESOCKTNOSUPPORT"
        assert err(sys.socket, AF_INET6, SOCK_SEQPACKET) == "ESOCKTNOSUPPORT"

    world.run(main)


def test_listen_without_bind_autobinds(world: World) -> None:
    """Fact 44: listen chooses a port on 0.0.0.0; a bind after that is EINVAL."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.listen(fd, 1)
        host, port = inet_name(sys, fd)
        assert host == "0.0.0.0" and port != 0
        assert err(sys.bind, fd, ("127.0.0.1", 0)) == "EINVAL"
        client(sys, ("127.0.0.1", port))
        assert sys.accept4(fd)[0] > 0

    world.run(main)


def test_bind_twice(world: World) -> None:
    """Raw values: the second bind is EINVAL."""

    def main(sys: Syscalls) -> None:
        fd, addr = bound(sys)
        assert err(sys.bind, fd, addr) == "EINVAL"
        assert err(sys.bind, fd, ("127.0.0.1", 0)) == "EINVAL"

    world.run(main)


def test_bind_chooses_odd_ports(world: World) -> None:
    """Fact 45: bind to port 0 takes odd ports of 32768..60999."""

    def main(sys: Syscalls) -> None:
        ports = [bound(sys)[1][1] for _ in range(20)]
        assert all(port % 2 == 1 and 32768 <= port <= 60999 for port in ports)
        assert len(set(ports)) == 20

    world.run(main)


def test_connect_chooses_even_ports(world: World) -> None:
    """Fact 45: connect takes even ports of the same range."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys, backlog=20)
        ports = [inet_name(sys, client(sys, addr))[1] for _ in range(20)]
        assert all(port % 2 == 0 and 32768 <= port <= 60999 for port in ports)
        assert len(set(ports)) == 20

    world.run(main)


@pytest.mark.parametrize("reuse_before", [False, True])
def test_rebind_when_the_server_closed_first(world: World, reuse_before: bool) -> None:
    """Fact 46: TIME_WAIT on the server's port: bind is EADDRINUSE, and fine when both the old and the new socket have REUSEADDR."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys, reuse=reuse_before)
        ours = client(sys, addr)
        theirs, _ = sys.accept4(listening)
        sys.close(theirs)
        settle(sys)
        sys.close(ours)
        sys.close(listening)
        settle(sys)
        assert rebind(sys, addr, reuse=False) == "EADDRINUSE"
        assert rebind(sys, addr, reuse=True) == (None if reuse_before else "EADDRINUSE")

    world.run(main)


def test_rebind_when_the_client_closed_first(world: World) -> None:
    """Fact 47: TIME_WAIT is at the client, so the server binds again freely."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        ours = client(sys, addr)
        theirs, _ = sys.accept4(listening)
        sys.close(ours)
        settle(sys)
        sys.close(theirs)
        sys.close(listening)
        settle(sys)
        assert rebind(sys, addr, reuse=False) is None

    world.run(main)


@pytest.mark.parametrize("reuse_before", [False, True])
def test_rebind_when_a_connection_is_left(world: World, reuse_before: bool) -> None:
    """Fact 48: the listener is gone but an accepted connection lives: EADDRINUSE, and fine when both have REUSEADDR."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys, reuse=reuse_before)
        client(sys, addr)
        sys.accept4(listening)
        sys.close(listening)
        settle(sys)
        assert rebind(sys, addr, reuse=False) == "EADDRINUSE"
        assert rebind(sys, addr, reuse=True) == (None if reuse_before else "EADDRINUSE")

    world.run(main)


def test_rebind_of_a_port_that_nobody_holds(world: World) -> None:
    """A closed listener without connections gives its port back at once."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        assert rebind(sys, addr, reuse=False) == "EADDRINUSE"
        sys.close(listening)
        assert rebind(sys, addr, reuse=False) is None

    world.run(main)


def test_two_reuseaddr_binds(world: World) -> None:
    """Fact 49: both bind the same port while nobody listens; the second to listen gets EADDRINUSE."""

    def main(sys: Syscalls) -> None:
        one, addr = bound(sys, reuse=True)
        two, _ = bound(sys, reuse=True, port=addr[1])
        assert err(sys.listen, one, 1) is None
        assert err(sys.listen, two, 1) == "EADDRINUSE"

    world.run(main)


def test_bind_while_another_listens(world: World) -> None:
    """Raw values: REUSEADDR does not help while another socket listens on the port."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys, reuse=True)
        assert rebind(sys, addr, reuse=True) == "EADDRINUSE"

    world.run(main)


def test_two_reuseport_listeners(world: World) -> None:
    """Raw values: SO_REUSEPORT on both lets both listen on one port."""

    def main(sys: Syscalls) -> None:
        one = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(one, SOL_SOCKET, SO_REUSEPORT, 1)
        sys.bind(one, ("127.0.0.1", 0))
        two = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(two, SOL_SOCKET, SO_REUSEPORT, 1)
        sys.bind(two, sys.getsockname(one))
        assert (err(sys.listen, one, 1), err(sys.listen, two, 1)) == (None, None)

    world.run(main)


def test_reuseport_listeners_share_out(world: World) -> None:
    """Each connection goes to one of the listeners; with enough of them all have some."""

    def main(sys: Syscalls) -> None:
        fds = []
        addr: Address = ("127.0.0.1", 0)
        for _ in range(3):
            fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
            sys.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1)
            sys.bind(fd, addr)
            sys.listen(fd, 100)
            addr = sys.getsockname(fd)
            fds.append(fd)
        clients = set()
        for _ in range(90):
            fd = sys.socket(AF_INET, SOCK_STREAM)
            sys.connect(fd, addr)
            clients.add(sys.getsockname(fd))
        got = []
        for fd in fds:
            accepted = []
            while (one := err(sys.accept4, fd)) != "EAGAIN":
                accepted.append(one[1])
            assert accepted
            got += accepted
        assert len(got) == 90 and set(got) == clients

    world.run(main)


def test_bind_to_loopback_when_any_is_bound(world: World) -> None:
    """Raw values: 0.0.0.0:p holds 127.0.0.1:p too."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(fd, ("0.0.0.0", 0))
        _, port = inet_name(sys, fd)
        assert rebind(sys, ("127.0.0.1", port), reuse=False) == "EADDRINUSE"

    world.run(main)


def test_bind_to_a_foreign_address(world: World) -> None:
    """Raw values: an address that this host doesn't have is EADDRNOTAVAIL."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.bind, fd, ("192.0.2.1", 0)) == "EADDRNOTAVAIL"

    world.run(main)


def test_accepted_socket_is_blocking(world: World) -> None:
    """Fact 50: O_NONBLOCK of the listener is not inherited; accept4's flags set O_NONBLOCK and FD_CLOEXEC."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        nonblocking(sys, listening)
        client(sys, addr)
        client(sys, addr)
        settle(sys)
        plain, _ = sys.accept4(listening)
        assert sys.fcntl(plain, F_GETFL) & O_NONBLOCK == 0
        assert sys.fcntl(plain, F_GETFD) == 0
        flagged, _ = sys.accept4(listening, SOCK_NONBLOCK | SOCK_CLOEXEC)
        assert sys.fcntl(flagged, F_GETFL) & O_NONBLOCK == O_NONBLOCK
        assert sys.fcntl(flagged, F_GETFD) == FD_CLOEXEC
        assert err(sys.accept4, listening) == "EAGAIN"

    world.run(main)


def test_accepted_socket_inherits_options(world: World) -> None:
    """Fact 50: TCP_NODELAY, SO_KEEPALIVE and SO_RCVBUF come from the listener."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        sys.setsockopt(listening, IPPROTO_TCP, TCP_NODELAY, 1)
        sys.setsockopt(listening, SOL_SOCKET, SO_KEEPALIVE, 1)
        sys.setsockopt(listening, SOL_SOCKET, SO_RCVBUF, 8192)
        client(sys, addr)
        fd, _ = sys.accept4(listening)
        assert sys.getsockopt(fd, IPPROTO_TCP, TCP_NODELAY) == 1
        assert sys.getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE) == 1
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVBUF) == 16384

    world.run(main)


def test_accept_with_a_full_fd_table(world: World) -> None:
    """Fact 51: EMFILE; the connection stays pending, the listener IN, and a later accept has it."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        fd = client(sys, addr)
        _, hard = sys.getrlimit(RLIMIT_NOFILE)
        soft = sys.getrlimit(RLIMIT_NOFILE)[0]
        # One past the highest fd in use, and no lower one is free: fds are given out from below.
        sys.setrlimit(RLIMIT_NOFILE, (fd + 1, hard))
        assert err(sys.accept4, listening) == "EMFILE"
        assert mask(sys, listening) == "IN|RDNORM"
        sys.setrlimit(RLIMIT_NOFILE, (soft, hard))
        assert sys.accept4(listening)[1] == sys.getsockname(fd)

    world.run(main)


def test_connections_are_accepted_in_order(world: World) -> None:
    """The queue of pending connections is first in, first out."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        names = [sys.getsockname(client(sys, addr)) for _ in range(3)]
        assert [sys.accept4(listening)[1] for _ in range(3)] == names

    world.run(main)


def test_listen_again_changes_the_backlog(world: World) -> None:
    """listen on a listener is no error; it sets the backlog anew."""

    def main(sys: Syscalls) -> None:
        fd, addr = listener(sys, backlog=0)
        sys.listen(fd, 1)
        masks = [mask(sys, client(sys, addr, SOCK_NONBLOCK)) for _ in range(3)]
        assert masks == ["OUT|WRNORM", "OUT|WRNORM", "0"]

    world.run(main)


@pytest.mark.parametrize(("family", "host"), [(AF_INET, "127.0.0.1"), (AF_INET6, "::1")], ids=["inet", "inet6"])
@pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM], ids=["tcp", "udp"])
def test_bind_to_an_address_without_a_port(world: World, kind: int, family: int, host: str) -> None:
    """IP_BIND_ADDRESS_NO_PORT: bind with port 0 takes none, connect does; a port that is asked for is taken at once."""

    def main(sys: Syscalls) -> None:
        rest = (0, 0) if family == AF_INET6 else ()
        peer = sys.socket(family, kind)
        sys.bind(peer, (host, 0, *rest))
        if kind == SOCK_STREAM:
            sys.listen(peer, 1)
        fd = sys.socket(family, kind)
        assert sys.getsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT) == 0
        sys.setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 7)
        assert sys.getsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT) == 1
        sys.bind(fd, (host, 0, *rest))
        assert sys.getsockname(fd) == (host, 0, *rest)
        # Without a port it may be bound again.
        sys.bind(fd, (host, 0, *rest))
        sys.connect(fd, sys.getsockname(peer))
        assert sys.getsockname(fd)[0] == host
        assert sys.getsockname(fd)[1] != 0
        other = sys.socket(family, kind)
        sys.setsockopt(other, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        assert err(sys.bind, other, sys.getsockname(peer)) == "EADDRINUSE"

    world.run(main)


def test_no_device(world: World) -> None:
    """SO_BINDTODEVICE without a name unbinds, which changes nothing."""

    def main(sys: Syscalls) -> None:
        sys.setsockopt(sys.socket(AF_INET, SOCK_STREAM), SOL_SOCKET, SO_BINDTODEVICE, b"")

    world.run(main)
