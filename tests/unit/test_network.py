"""Hosts and links: what a program sees of a network, in virtual time.

What one host alone shows was seen in a network namespace with a veth device on Linux 6.18: ENETUNREACH at once, EHOSTUNREACH after
3.05 s, EINVAL from a socket bound to 127.0.0.1, the source address of a connection to oneself, nothing for a UDP socket.
"""

import errno
from collections.abc import Callable
from typing import Any

import pytest

import simkernel
from simkernel import Choice, Plain, Seeded, Syscalls, Trace, UsageError
from simkernel.kernel.machine import Kernel
from simkernel.testing import Network, disturbed, network
from simkernel.uapi import (
    AF_INET,
    CLOCK_MONOTONIC,
    IPPROTO_TCP,
    MSG_DONTWAIT,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    SHUT_WR,
    SIGKILL,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_RCVTIMEO,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_USER_TIMEOUT,
)

MS = 1_000_000
SECOND = 1000 * MS
SERVER, CLIENT = "10.0.0.1", "10.0.0.2"
PORT = 9000


def now(sys: Syscalls) -> int:
    return sys.clock_gettime_ns(CLOCK_MONOTONIC)


def two_hosts(sys: Syscalls, **link: Any) -> Network:
    net = network(sys)
    net.host("server", SERVER)
    net.host("client", CLIENT)
    net.link("server", "client", **link)
    return net


def listening(sys: Syscalls, addr: str = "0.0.0.0") -> int:
    fd = sys.socket(AF_INET, SOCK_STREAM)
    sys.bind(fd, (addr, PORT))
    sys.listen(fd, 8)
    return fd


def connected(sys: Syscalls, addr: str = SERVER) -> int:
    fd = sys.socket(AF_INET, SOCK_STREAM)
    sys.connect(fd, (addr, PORT))
    return fd


def code_of(call: Callable[..., object], *args: object) -> int:
    with pytest.raises(OSError) as info:
        call(*args)
    assert info.value.errno is not None
    return info.value.errno


def echo(sys: Syscalls) -> None:
    """One client at a time, for ever."""
    fd = listening(sys)
    while True:
        conn, _ = sys.accept4(fd)
        try:
            while data := sys.recv(conn, 65536):
                sys.send(conn, data)
        except OSError:
            pass
        sys.close(conn)


def run(main: Callable[..., object], choice: Choice | None = None, **link: Any) -> Any:
    """``main(sys, net)`` on the client, with an echo server on the server."""

    def init(sys: Syscalls) -> object:
        net = two_hosts(sys, **link)
        net.spawn("server", echo)
        net.enter("client")
        sys.nanosleep(1000)
        return main(sys, net)

    return Kernel(choice, debug=True).run(init)


def test_a_round_trip_takes_two_latencies() -> None:
    def main(sys: Syscalls, net: Network) -> tuple[int, int]:
        began = now(sys)
        fd = connected(sys)
        middle = now(sys)
        sys.send(fd, b"x")
        assert sys.recv(fd, 10) == b"x"
        return middle - began, now(sys) - middle

    assert run(main, latency_ns=10 * MS) == (20 * MS, 20 * MS)
    assert run(main) == (0, 0)


def test_bits_take_their_time() -> None:
    def main(sys: Syscalls, net: Network) -> int:
        fd = connected(sys)
        # The last segment of the handshake leaves first.
        sys.nanosleep(100 * MS)
        began = now(sys)
        sys.send(fd, bytes(1000))
        sys.recv(fd, 1000)
        return now(sys) - began

    # 1000 bytes and 66 of headers at a megabit a second, there and back.
    assert run(main, latency_ns=5 * MS, bandwidth_bps=1_000_000) == 2 * (5 * MS + 1066 * 8 * 1000)


def test_a_host_has_its_own_addresses_and_ports() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        listening(sys)
        listening_again = sys.socket(AF_INET, SOCK_STREAM)
        assert code_of(sys.bind, listening_again, (SERVER, 1)) == errno.EADDRNOTAVAIL
        sys.bind(listening_again, (CLIENT, PORT + 1))
        far = connected(sys)
        assert sys.getsockname(far)[0] == CLIENT and sys.getpeername(far) == (SERVER, PORT)
        own = connected(sys, CLIENT)
        assert sys.getsockname(own)[0] == CLIENT
        lo = connected(sys, "127.0.0.1")
        assert sys.getsockname(lo)[0] == "127.0.0.1"

    run(main)


def test_who_is_not_there() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert code_of(sys.connect, fd, ("10.0.1.1", 1)) == errno.ENETUNREACH
        began = now(sys)
        assert code_of(sys.connect, fd, ("10.0.0.77", 1)) == errno.EHOSTUNREACH
        assert now(sys) - began == 3060 * MS
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        assert code_of(sys.connect, fd, ("10.0.0.77", 1)) == errno.EINPROGRESS
        assert sys.poll([(fd, POLLOUT)], 10_000) == [(fd, POLLOUT | POLLERR | POLLHUP)]
        assert sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) == errno.EHOSTUNREACH
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(fd, ("127.0.0.1", 0))
        assert code_of(sys.connect, fd, (SERVER, PORT)) == errno.EINVAL
        udp = sys.socket(AF_INET, SOCK_DGRAM)
        sys.connect(udp, ("10.0.0.77", 1))
        assert sys.send(udp, b"x") == 1
        assert sys.poll([(udp, POLLIN)], 5000) == []

    run(main)


def test_refused_after_a_round_trip() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        began = now(sys)
        assert code_of(sys.connect, fd, (SERVER, PORT + 1)) == errno.ECONNREFUSED
        assert now(sys) - began == 20 * MS

    run(main, latency_ns=10 * MS)


def test_what_is_sent_into_a_partition_comes_when_it_heals() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        fd = connected(sys)
        net.partition("server", "client")
        began = now(sys)
        assert sys.send(fd, b"one") == 3
        sys.send(fd, b"two")
        sys.shutdown(fd, SHUT_WR)
        assert sys.poll([(fd, POLLIN)], 2000) == []
        net.heal("server", "client")
        got = b""
        while data := sys.recv(fd, 100):
            got += data
        assert got == b"onetwo"
        # Sent again 220 ms (200, and a round trip) after the first try, then twice that, then four times: the first after two seconds.
        assert now(sys) - began == (1 + 2 + 4 + 8) * 220 * MS + 20 * MS

    run(main, latency_ns=10 * MS)


def test_connecting_into_a_partition() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        net.partition("client", "server")
        began = now(sys)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert code_of(sys.connect, fd, (SERVER, PORT)) == errno.ETIMEDOUT
        assert 127 * SECOND <= now(sys) - began <= 140 * SECOND
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        assert code_of(sys.connect, fd, (SERVER, PORT)) == errno.EINPROGRESS
        sys.nanosleep(2500 * MS)
        net.heal("client", "server")
        began = now(sys)
        assert sys.poll([(fd, POLLOUT)], -1) == [(fd, POLLOUT)]
        assert now(sys) - began == 500 * MS

    run(main)


def test_a_slow_answer_to_a_syn_makes_one_connection() -> None:
    """The SYN is sent again before the answer comes: Linux finds the request that it has begun already."""

    def init(sys: Syscalls) -> None:
        net = two_hosts(sys, latency_ns=3 * SECOND)

        def patient(sys: Syscalls) -> None:
            fd = sys.socket(AF_INET, SOCK_STREAM)
            sys.bind(fd, (SERVER, PORT))
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, (30).to_bytes(8, "little") + bytes(8))
            sys.listen(fd, 8)
            conn, _ = sys.accept4(fd)
            sys.send(conn, sys.recv(conn, 9))
            assert code_of(sys.accept4, fd) == errno.EAGAIN

        pid = net.spawn("server", patient)
        net.enter("client")
        sys.nanosleep(1000)
        fd = connected(sys)
        sys.send(fd, b"x")
        assert sys.recv(fd, 9) == b"x"
        assert sys.waitpid(pid)[1] == 0

    Kernel(debug=True).run(init)


@pytest.mark.parametrize(("timeout_ms", "low", "high"), [(0, 924 * SECOND, 1100 * SECOND), (30_000, 30 * SECOND, 30 * SECOND)])
def test_tcp_gives_up(timeout_ms: int, low: int, high: int) -> None:
    """tcp_retries2: "924.6 seconds is a lower bound for the effective timeout" (ip-sysctl.rst); TCP_USER_TIMEOUT is exact."""

    def main(sys: Syscalls, net: Network) -> None:
        fd = connected(sys)
        if timeout_ms:
            sys.setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, timeout_ms)
        net.partition("server", "client")
        began = now(sys)
        sys.send(fd, b"x")
        assert code_of(sys.recv, fd, 9) == errno.ETIMEDOUT
        assert low <= now(sys) - began <= high
        assert sys.recv(fd, 9) == b""
        assert code_of(sys.send, fd, b"x", 0x4000) == errno.EPIPE

    run(main)


def test_keepalive_finds_a_dead_link() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        fd, without = connected(sys), connected(sys)
        sys.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
        for name, value in ((TCP_KEEPIDLE, 10), (TCP_KEEPINTVL, 5), (TCP_KEEPCNT, 3)):
            sys.setsockopt(fd, IPPROTO_TCP, name, value)
        net.partition("server", "client")
        sys.nanosleep(20 * SECOND)
        net.heal("server", "client")
        net.partition("server", "client")
        began = now(sys)
        assert code_of(sys.recv, fd, 9) == errno.ETIMEDOUT
        assert now(sys) - began == 25 * SECOND
        assert sys.poll([(without, POLLIN)], 3600_000) == []

    run(main)


def test_a_reset_behind_a_lost_fin_comes_all_the_same() -> None:
    """The server closes into a partition, with bytes unread that come after its FIN: the client must not stay half-open."""

    def main(sys: Syscalls, net: Network) -> None:
        fd = connected(sys)
        # The server is one that closes at once.
        net.partition("server", "client", one_way=True)
        sys.nanosleep(30 * MS)
        sys.send(fd, b"x")
        sys.nanosleep(2 * SECOND)
        net.heal("server", "client")
        assert code_of(sys.recv, fd, 9) == errno.ECONNRESET

    def rude(sys: Syscalls) -> None:
        fd = listening(sys)
        conn, _ = sys.accept4(fd)
        sys.close(conn)
        sys.nanosleep(60 * SECOND)

    def init(sys: Syscalls) -> None:
        net = two_hosts(sys, latency_ns=10 * MS)
        net.spawn("server", rude)
        net.enter("client")
        sys.nanosleep(1000)
        main(sys, net)

    Kernel(debug=True).run(init)


def test_one_way() -> None:
    """The request arrives, its answer does not."""

    def main(sys: Syscalls, net: Network) -> None:
        fd = connected(sys)
        net.partition("server", "client", one_way=True)
        sys.send(fd, b"x")
        assert sys.poll([(fd, POLLIN)], 1000) == []
        net.heal("server", "client")
        assert sys.recv(fd, 9) == b"x"

    run(main)


def test_a_reset_by_the_network_comes_to_both_ends() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        fd = connected(sys)
        sys.send(fd, b"x")
        assert sys.recv(fd, 9) == b"x" and disturbed(sys) == ""
        assert net.reset("client", "server", PORT + 1) == 0
        assert net.reset("client", "server", PORT) == 1
        assert code_of(sys.recv, fd, 9) == errno.ECONNRESET
        assert "reset" in disturbed(sys)
        # The server goes on.
        fd = connected(sys)
        sys.send(fd, b"y")
        assert sys.recv(fd, 9) == b"y"

    run(main, latency_ns=MS)


def test_who_ends_while_the_network_kills_it_is_no_mistake() -> None:
    def brief(sys: Syscalls) -> None:
        sys.getpid()

    def init(sys: Syscalls) -> set[int]:
        net = two_hosts(sys, latency_ns=MS)

        def storm(sys: Syscalls, pids: list[int]) -> None:
            for pid in pids:
                net.kill(pid)

        pids = [net.spawn("client", brief) for _ in range(3)]
        sys.spawn(storm, pids)
        return {sys.waitpid(-1)[1] for _ in range(4)}

    ends = [simkernel.run(init, choice=Seeded(seed)) for seed in range(100)]
    assert {0, SIGKILL} in ends and all(end <= {0, SIGKILL} for end in ends)


def test_a_killed_server_and_the_next_one() -> None:
    def init(sys: Syscalls) -> None:
        net = two_hosts(sys, latency_ns=MS)
        pid = net.spawn("server", echo)
        net.enter("client")
        sys.nanosleep(1000)
        fd = connected(sys)
        early = net.restart(pid)
        # The handshake was not done when its listener went.
        assert code_of(sys.recv, fd, 9) == errno.ECONNRESET
        fd = connected(sys)
        sys.nanosleep(10 * MS)
        again = net.restart(early)
        assert again != early
        assert sys.recv(fd, 9) == b""
        # TIME_WAIT is on the side that closed first: the server can't bind, until the minute is over, without SO_REUSEADDR.
        assert sys.waitpid(again)[1] >> 8 == 1
        sys.close(fd)
        sys.nanosleep(61 * SECOND)
        net.restart(again)
        sys.nanosleep(1000)
        fd = connected(sys)
        sys.send(fd, b"x")
        assert sys.recv(fd, 9) == b"x"
        with pytest.raises(UsageError, match="was not started by this network"):
            net.restart(pid)

    Kernel(debug=True, on_crash=lambda task, error: None).run(init)


def test_a_host_that_loses_power_leaves_its_peers_half_open() -> None:
    def init(sys: Syscalls) -> None:
        net = two_hosts(sys, latency_ns=MS)
        pid = net.spawn("server", echo)
        net.enter("client")
        sys.nanosleep(1000)
        fd = connected(sys)
        sys.send(fd, b"x")
        assert sys.recv(fd, 9) == b"x"
        net.crash("server")
        assert sys.waitpid(pid) == (pid, 9)
        assert sys.poll([(fd, POLLIN)], 3600_000) == []
        net.boot("server")
        net.spawn("server", echo)
        assert sys.poll([(fd, POLLIN)], 3600_000) == []
        # It learns of it with what it sends.
        sys.send(fd, b"y")
        assert code_of(sys.recv, fd, 9) == errno.ECONNRESET
        fd = connected(sys)
        sys.send(fd, b"z")
        assert sys.recv(fd, 9) == b"z"

    Kernel(debug=True).run(init)


def datagrams(choice: Choice, count: int, **link: Any) -> list[bytes]:
    def init(sys: Syscalls) -> list[bytes]:
        net = two_hosts(sys, **link)
        net.enter("server")
        r = sys.socket(AF_INET, SOCK_DGRAM)
        sys.bind(r, (SERVER, PORT))

        def sender(sys: Syscalls) -> None:
            w = sys.socket(AF_INET, SOCK_DGRAM)
            for i in range(count):
                sys.sendto(w, b"%d" % i, 0, (SERVER, PORT))

        net.spawn("client", sender)
        sys.nanosleep(10 * SECOND)
        got = []
        while True:
            try:
                got.append(sys.recv(r, 100, MSG_DONTWAIT))
            except BlockingIOError:
                return got

    result: list[bytes] = Kernel(choice).run(init)
    return result


def test_datagrams_are_lost_doubled_and_out_of_order() -> None:
    want = [b"%d" % i for i in range(50)]
    assert datagrams(Plain(), 50, latency_ns=MS, jitter_ns=MS, loss=0.3, duplicate=0.3) == want
    lossy = datagrams(Seeded(1), 50, loss=0.3)
    assert 10 < len(lossy) < 50 and sorted(lossy, key=int) == lossy
    double = datagrams(Seeded(1), 50, duplicate=0.3)
    assert 50 < len(double) < 100 and set(double) == set(want)
    mixed = datagrams(Seeded(1), 50, jitter_ns=MS)
    assert mixed != want and sorted(mixed, key=int) == want


def test_nobody_listens_to_a_datagram() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        fd = sys.socket(AF_INET, SOCK_DGRAM)
        sys.connect(fd, (SERVER, 1))
        began = now(sys)
        sys.send(fd, b"x")
        assert code_of(sys.recv, fd, 9) == errno.ECONNREFUSED
        assert now(sys) - began == 20 * MS
        net.partition("server", "client")
        sys.send(fd, b"x")
        assert sys.poll([(fd, POLLIN)], 1000) == []

    run(main, latency_ns=10 * MS)


def test_the_network_shows_in_the_trace_and_in_proc() -> None:
    trace = Trace()

    def init(sys: Syscalls) -> None:
        net = two_hosts(sys)
        listening(sys)
        net.partition("server", "client")
        net.enter("client")
        assert sys.pread(sys.open("/proc/net/tcp", 0), 4096, 0).count(b"\n") == 1

    Kernel(trace=trace).run(init)
    assert [e["f"] for e in trace.records() if e["ev"] == "netif_carrier"] == [
        {"from": "server", "to": "client"},
        {"from": "client", "to": "server"},
    ]


def test_a_mistake_is_told_in_words() -> None:
    def main(sys: Syscalls, net: Network) -> None:
        for match, call in (
            ("must be IPv4", lambda: net.host("x", "fe80::1")),
            ("can't be a host's", lambda: net.host("x", "127.0.0.1")),
            ("host 'server' already", lambda: net.host("server", "10.0.0.9")),
            ("needs a name", lambda: net.host("", "10.0.0.9")),
            ("address of host 'server'", lambda: net.host("x", SERVER)),
            ("no host 'x': the hosts are 'server', 'client'", lambda: net.enter("x")),
            ("two hosts", lambda: net.link("server", "server")),
            ("latency_ns must be", lambda: net.link("server", "client", latency_ns=-1)),
            ("loss must be", lambda: net.link("server", "client", loss=0.9)),
            ("no link between", lambda: net.partition("server", "")),
        ):
            with pytest.raises(UsageError, match=match):
                call()

    run(main)


def test_the_real_kernel_has_no_such_network() -> None:
    with pytest.raises(simkernel.Unsupported, match="fake kernel alone"):
        simkernel.linux.run(lambda sys: network(sys))
