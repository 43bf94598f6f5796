"""socket and select: the same bodies on CPython's own modules and on ours, over Linux and over the fake kernel."""

import errno

import pytest

from simkernel.errors import Unsupported
from simkernel.stdlib.here import here
from simkernel.uapi import F_GETFD, FD_CLOEXEC
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


@three_ways
def test_a_timeout_is_a_limit(m):
    """The call ends when it has passed, as does one that a signal's handler interrupts (PEP 475)."""
    calls = []
    m.signal.signal(m.signal.SIGALRM, lambda *args: calls.append(args[0]))
    a, b = m.socket.socketpair()
    with a, b:
        a.settimeout(0.2)
        m.signal.setitimer(m.signal.ITIMER_REAL, 0.05, 0.05)
        start = m.time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            a.recv(1)
        assert m.time.monotonic() - start >= 0.2
        start = m.time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            a.sendall(bytes(10_000_000))
        assert m.time.monotonic() - start >= 0.2
        assert m.select.select([], [a], [], 0.2) == ([], [], [])
        poll = m.select.poll()
        poll.register(a, m.select.POLLOUT)
        assert poll.poll(200) == []
        with m.select.epoll() as epoll:
            epoll.register(a, m.select.EPOLLOUT)
            assert epoll.poll(0.2) == []
        assert m.time.monotonic() - start >= 0.8
        m.signal.setitimer(m.signal.ITIMER_REAL, 0)
    assert len(calls) > 10 and set(calls) == {m.signal.SIGALRM}


@three_ways
def test_a_handler_that_raises_ends_the_call(m):
    class Enough(Exception):
        pass

    def handler(*args):
        raise Enough

    m.signal.signal(m.signal.SIGALRM, handler)
    a, b = m.socket.socketpair()
    with a, b, m.select.epoll() as epoll, m.socket.create_server(("127.0.0.1", 0)) as listener:
        epoll.register(a, m.select.EPOLLIN)
        for call in (
            lambda: a.recv(1),
            lambda: a.recv_into(bytearray(1)),
            lambda: a.recvmsg(1),
            lambda: a.sendall(bytes(10_000_000)),
            lambda: listener.accept(),
            lambda: m.select.select([a], [], []),
            lambda: epoll.poll(),
        ):
            m.signal.setitimer(m.signal.ITIMER_REAL, 0.01)
            with pytest.raises(Enough):
                call()


@three_ways
def test_a_listener_with_a_full_queue_lets_a_connect_time_out(m):
    with m.socket.create_server(("127.0.0.1", 0), backlog=0) as listener, m.contextlib.ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(m.socket.socket())
            client.setblocking(False)
            assert client.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        client = stack.enter_context(m.socket.socket())
        client.settimeout(0.05)
        with pytest.raises(TimeoutError, match="timed out"):
            client.connect(listener.getsockname())
        client = stack.enter_context(m.socket.socket())
        client.settimeout(0.05)
        assert client.connect_ex(listener.getsockname()) == errno.EAGAIN


@three_ways
def test_a_timeout_makes_the_fd_non_blocking(m):
    with m.socket.socket() as made:
        for value, blocking in ((None, True), (3, False), (0, False), (None, True)):
            made.settimeout(value)
            assert m.os.get_blocking(made.fileno()) is blocking
        made.setblocking(False)
        assert not m.os.get_blocking(made.fileno())
        assert not m.os.get_inheritable(made.fileno())
        assert not m.os.get_inheritable(made.dup().fileno())
    m.socket.setdefaulttimeout(3)
    with m.socket.create_server(("127.0.0.1", 0)) as listener, m.socket.create_connection(listener.getsockname()):
        server, _ = listener.accept()
        with server:
            assert server.gettimeout() == listener.gettimeout() == 3
            assert not m.os.get_blocking(server.fileno())
        listener.setblocking(False)
        m.socket.setdefaulttimeout(None)
        with m.socket.create_connection(listener.getsockname()):
            server, _ = listener.accept()
            with server:
                assert server.gettimeout() is None and m.os.get_blocking(server.fileno())


@three_ways
def test_datagrams_and_their_addresses(m):
    with m.socket.socket(type=m.socket.SOCK_DGRAM) as a, m.socket.socket(type=m.socket.SOCK_DGRAM) as b:
        a.bind(("localhost", 0))
        b.bind(("127.0.0.1", 0))
        assert a.sendto(b"hello", b.getsockname()) == 5
        assert b.recvfrom(3, m.socket.MSG_PEEK) == (b"hel", a.getsockname())
        assert b.recvmsg(3) == (b"hel", [], m.socket.MSG_TRUNC, a.getsockname())
        assert b.sendmsg(m.itertools.islice([b"one ", b"two", b"three"], 2), [], 0, a.getsockname()) == 7
        buffers = [bytearray(3), bytearray(9)]
        assert a.recvmsg_into(buffers) == (7, [], 0, b.getsockname())
        assert buffers == [bytearray(b"one"), bytearray(b" two\0\0\0\0\0")]
        b.connect(a.getsockname())
        b.send(b"")
        buffer = bytearray(3)
        assert a.recvfrom_into(buffer) == (0, b.getsockname())
        with pytest.raises(OSError) as caught:
            a.sendto(bytes(70_000), b.getsockname())
        assert caught.value.errno == errno.EMSGSIZE
    with m.socket.socket(m.socket.AF_UNIX, m.socket.SOCK_DGRAM) as a, m.socket.socket(m.socket.AF_UNIX, m.socket.SOCK_DGRAM) as b:
        a.bind(b"\0simkernel-test-a")
        b.sendto(b"from nobody", b"\0simkernel-test-a")
        assert a.recvfrom(99) == (b"from nobody", None)
        b.bind("")
        b.sendto(b"x", b"\0simkernel-test-a")
        assert a.recvfrom(99) == (b"x", b.getsockname())
        assert isinstance(b.getsockname(), bytes)


@three_ways
def test_fds_are_passed(m):
    a, b = m.socket.socketpair()
    r, w = m.socket.socketpair()
    with a, b, r, w:
        m.socket.send_fds(a, [b"fds"], [r.fileno(), w.fileno()])
        data, fds, flags, address = m.socket.recv_fds(b, 99, 2)
        assert (data, len(fds), flags & m.socket.MSG_CTRUNC, address) == (b"fds", 2, 0, None)
        with m.socket.socket(fileno=fds[0]) as one, m.socket.socket(fileno=fds[1]) as two:
            two.send(b"x")
            assert r.recv(1) == b"x"
            one.send(b"y")
            assert w.recv(1) == b"y"
        m.socket.send_fds(a, [b"fds"], [r.fileno(), w.fileno()])
        data, fds, flags, _ = m.socket.recv_fds(b, 99, 0)
        assert (data, fds, flags & m.socket.MSG_CTRUNC) == (b"fds", [], m.socket.MSG_CTRUNC)


@three_ways
def test_files_of_a_socket(m):
    a, b = m.socket.socketpair()
    with a, b, a.makefile("rw", encoding="utf-8", newline="\n") as text, b.makefile("rwb") as binary:
        text.write("one\ntwo\n")
        text.flush()
        assert binary.readline() == b"one\n"
        binary.write(b"\xc3\xa9\n")
        binary.flush()
        assert text.readline() == "\u00e9\n"
        b.settimeout(0.01)
        assert binary.readline() == b"two\n"
        with pytest.raises(TimeoutError):
            binary.read(1)
        with pytest.raises(OSError, match="cannot read from timed out object"):
            binary.read(1)


@three_ways
def test_ipv6_takes_ipv4(m):
    with m.socket.create_server(("", 0), family=m.socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        assert listener.getsockname() == ("::", port, 0, 0)
        for host, seen in (("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")):
            with m.socket.create_connection((host, port)) as client:
                server, address = listener.accept()
                with server:
                    assert address[0] == seen
                    assert server.family is m.socket.AF_INET6
                    client.sendall(b"x")
                    assert server.recv(1) == b"x"


@three_ways
def test_an_object_that_is_forgotten_is_closed(m):
    made, epoll = m.socket.socket(), m.select.epoll()
    fd, epfd = made.fileno(), epoll.fileno()
    with m.warnings.catch_warnings(record=True) as caught:
        m.warnings.simplefilter("always")
        text = repr(made)
        del made
        del epoll
    assert [(str(w.message), w.category, w.filename) for w in caught] == [(f"unclosed {text}", ResourceWarning, __file__)]
    for number in (fd, epfd):
        with pytest.raises(OSError) as failed:
            m.os.fstat(number)
        assert failed.value.errno == errno.EBADF


def test_an_object_that_another_process_forgets_is_not():
    """The number is that process's own fd, or nobody's."""

    def body(m):
        kept = [m.socket.socket(), m.select.epoll()]
        fds = [thing.fileno() for thing in kept]

        def child(sys):
            kept.clear()
            for fd in fds:
                assert sys.fcntl(fd, F_GETFD) == FD_CLOEXEC

        pid = here.sys.spawn(child)
        assert here.sys.waitpid(pid) == (pid, 0)
        for fd in fds:
            m._socket.close(fd)

    run("fake", body)


def test_an_object_of_the_run_before_is_not():
    kept = []

    def first(m):
        kept.extend((m.socket.socket(), m.select.epoll()))

    def second(m):
        pair = m.socket.socketpair()
        assert {one.fileno() for one in pair} == {one._sk_fd if hasattr(one, "_sk_fd") else one._epfd for one in kept}
        kept.clear()
        with pair[0], pair[1]:
            pair[0].send(b"x")
            assert pair[1].recv(1) == b"x"

    run("fake", first)
    run("fake", second)


def test_timeouts_are_rounded_up():
    """select's to a microsecond, those of poll, epoll and sockets to a millisecond."""

    def body(m):
        a, b = m.socket.socketpair()
        poll = m.select.poll()
        with a, b, m.select.epoll() as epoll:
            a.settimeout(1e-9)

            def timed_out():
                with pytest.raises(TimeoutError):
                    a.recv(1)

            for call, least in (
                (lambda: m.select.select([], [], [], 1e-9), 1000),
                (lambda: m.select.select([], [], [], 0.0001), 100_000),
                (lambda: poll.poll(1e-6), 1_000_000),
                (lambda: poll.poll(1), 1_000_000),
                (lambda: epoll.poll(0.0000001), 1_000_000),
                (lambda: epoll.poll(3600), 3600 * 10**9),
                (timed_out, 1_000_000),
            ):
                start = m.time.monotonic_ns()
                call()
                # Up to the slack of timers, 50 us (prctl(2)).
                assert least <= m.time.monotonic_ns() - start <= least + 50_000

    run("fake", body)
