"""socket and select: the same bodies on CPython's own modules and on ours, over Linux and over the fake kernel."""

import errno

import pytest

from simkernel.errors import Unsupported
from tests.stdlib.sides import run, three_ways


@three_ways
def test_a_pair_says_what_it_is_told(m):
    a, b = m.socket.socketpair()
    with a, b:
        assert a.send(b"hello") == 5
        assert b.recv(2) == b"he"
        buffer = bytearray(8)
        assert b.recv_into(buffer) == 3
        assert buffer[:3] == b"llo"
        a.close()
        assert b.recv(1) == b""


@three_ways
def test_tcp_with_timeouts(m):
    with m.socket.create_server(("127.0.0.1", 0)) as listener, m.socket.create_connection(listener.getsockname(), timeout=5) as client:
        server, address = listener.accept()
        with server:
            assert address == client.getsockname()
            client.sendall(b"x" * 1000)
            assert server.recv(4096) == b"x" * 1000
            server.settimeout(0.01)
            with pytest.raises(TimeoutError, match="timed out"):
                server.recv(1)
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.recv(1)


@three_ways
def test_refused(m):
    with m.socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()
    with m.socket.socket() as client:
        assert client.connect_ex(address) == errno.ECONNREFUSED
    with m.socket.socket() as client:
        client.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            client.connect(address)


@three_ways
def test_the_type_of_an_fd_is_found_out(m):
    with m.socket.socket(m.socket.AF_INET, m.socket.SOCK_DGRAM) as made:
        twin = m.socket.socket(fileno=made.detach())
        with twin:
            assert (twin.family, twin.type, twin.proto) == (m.socket.AF_INET, m.socket.SOCK_DGRAM, m.socket.IPPROTO_UDP)
    with m.select.epoll() as epoll, pytest.raises(OSError) as caught:
        m.socket.socket(fileno=epoll.fileno())
    assert caught.value.errno == errno.ENOTSOCK


@three_ways
def test_each_way_to_wait_sees_the_same(m):
    a, b = m.socket.socketpair()
    with a, b:
        assert m.select.select([a, b], [a], [], 0) == ([], [a], [])
        b.send(b"x")
        assert m.select.select([a.fileno(), b], [], [], 5) == ([a.fileno()], [], [])
        poll = m.select.poll()
        poll.register(a, m.select.POLLIN)
        assert poll.poll(5000) == [(a.fileno(), m.select.POLLIN)]
        with m.select.epoll() as epoll:
            epoll.register(a, m.select.EPOLLIN)
            assert epoll.poll(5) == [(a.fileno(), m.select.EPOLLIN)]
        for kind in (m.selectors.SelectSelector, m.selectors.PollSelector, m.selectors.EpollSelector):
            with kind() as selector:
                key = selector.register(a, m.selectors.EVENT_READ, "data")
                assert selector.select(5) == [(key, m.selectors.EVENT_READ)]


def test_families_that_are_modules_elsewhere():
    """A kernel that has none of them says so as Linux does, and programs that look for them find out."""

    def body(m):
        for family in (m.socket.AF_CAN, m.socket.AF_TIPC):
            with pytest.raises(OSError) as caught:
                m.socket.socket(family, m.socket.SOCK_RAW)
            assert caught.value.errno == errno.EAFNOSUPPORT
        with pytest.raises(OSError) as caught:
            m.socket.socket(m.socket.AF_INET, m.socket.SOCK_SEQPACKET)
        assert caught.value.errno == errno.ESOCKTNOSUPPORT
        with pytest.raises(Unsupported):
            m.socket.socket(m.socket.AF_PACKET, m.socket.SOCK_RAW)

    run("fake", body)
