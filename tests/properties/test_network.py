"""Over any link, whatever it loses and however often it fails: bytes come in order and once, in no less time than they need."""

import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simkernel import Plain, Syscalls, Tape, Trace
from simkernel.kernel.machine import Kernel
from simkernel.testing import Network, network
from simkernel.uapi import AF_INET, CLOCK_MONOTONIC, MSG_NOSIGNAL, SHUT_WR, SIGKILL, SO_RCVBUF, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET

MS = 1_000_000
ADDR = ("10.0.0.1", 9000)
PATTERN = b"".join((i * 2654435761 % 2**32).to_bytes(4, "little") for i in range(1 << 17))

LINKS = st.fixed_dictionaries(
    {
        "latency_ns": st.sampled_from([0, 1, MS, 40 * MS, 1500 * MS]),
        "jitter_ns": st.sampled_from([0, 3 * MS]),
        "bandwidth_bps": st.sampled_from([0, 10_000_000, 1_000_000_000]),
        "loss": st.sampled_from([0.0, 0.01, 0.25, 0.5]),
        "duplicate": st.sampled_from([0.0, 0.5]),
    }
)
SIZES = st.lists(st.sampled_from([1, 7, 100, 1448, 4096, 9000, 70_000]), min_size=1, max_size=6)
# (after how long, for how long) the link fails, in ms.
PARTITIONS = st.lists(st.tuples(st.sampled_from([0, 1, 5, 300]), st.sampled_from([1, 250, 3000])), max_size=3)
SETTINGS: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


def hosts(sys: Syscalls, link: dict[str, Any]) -> Network:
    net = network(sys)
    net.host("server", "10.0.0.1")
    net.host("client", "10.0.0.2")
    net.link("server", "client", **link)
    return net


def transfer(
    link: dict[str, Any], sizes: list[int], rcvbuf: int, partitions: list[tuple[int, int]], got: bytearray
) -> Callable[[Syscalls], None]:
    """A main that sends over such a link and puts what arrives into ``got``.  TimeoutError if TCP has given up."""

    def sender(sys: Syscalls) -> None:
        try:
            send_all(sys)
        except TimeoutError as error:
            # With half of all segments lost, it may.
            gave_up.append(error)
            sys.kill(sys.getppid(), SIGKILL)

    def send_all(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(fd, ADDR)
        at = 0
        for size in sizes:
            done = 0
            while done < size:
                done += sys.send(fd, PATTERN[at + done : at + size], MSG_NOSIGNAL)
            at += size
        sys.shutdown(fd, SHUT_WR)
        answer = b""
        while data := sys.recv(fd, 10):
            answer += data
        assert answer == b"bye"

    def weather(sys: Syscalls, net: Network) -> None:
        for after, long in partitions:
            sys.nanosleep(after * MS)
            net.partition("server", "client")
            sys.nanosleep(long * MS)
            net.heal("server", "client")

    gave_up: list[TimeoutError] = []

    def main(sys: Syscalls) -> None:
        net = hosts(sys, link)
        net.enter("server")
        pid = sys.spawn(receiver, net)
        child = -1
        while child != pid:
            child, status = sys.waitpid(-1)
            if gave_up:
                raise gave_up[0]
            assert status == 0

    def receiver(sys: Syscalls, net: Network) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        if rcvbuf:
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, rcvbuf)
        sys.bind(fd, ADDR)
        sys.listen(fd, 1)
        pid = net.spawn("client", sender)
        sys.spawn(weather, net)
        conn, _ = sys.accept4(fd)
        while data := sys.recv(conn, 5000):
            got.extend(data)
        sys.send(conn, b"bye")
        sys.close(conn)
        assert sys.waitpid(pid)[1] == 0

    return main


@settings(max_examples=150, **SETTINGS)
@given(link=LINKS, sizes=SIZES, rcvbuf=st.sampled_from([0, 2304, 16384]), partitions=PARTITIONS, tape=st.binary(max_size=400))
def test_bytes_arrive_in_order_and_once(
    link: dict[str, Any], sizes: list[int], rcvbuf: int, partitions: list[tuple[int, int]], tape: bytes
) -> None:
    sent = PATTERN[: sum(sizes)]
    got = bytearray()
    try:
        Kernel(Tape(tape), debug=len(tape) % 4 == 0).run(transfer(link, sizes, rcvbuf, partitions, got))
        assert got == sent
    except TimeoutError:
        assert sent.startswith(bytes(got))


@settings(max_examples=40, **SETTINGS)
@given(link=LINKS, sizes=SIZES, partitions=PARTITIONS, tape=st.binary(max_size=400))
def test_the_same_tape_gives_the_same_trace(link: dict[str, Any], sizes: list[int], partitions: list[tuple[int, int]], tape: bytes) -> None:
    digests = set()
    for _ in range(2):
        trace = Trace()
        with contextlib.suppress(TimeoutError):
            Kernel(Tape(tape), trace).run(transfer(link, sizes, 0, partitions, bytearray()))
        digests.add(trace.digest())
    assert len(digests) == 1


@settings(max_examples=60, **SETTINGS)
@given(
    latency=st.integers(0, 100 * MS),
    bandwidth=st.sampled_from([0, 9600, 1_000_000, 10**10]),
    sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=8),
)
def test_datagrams_arrive_when_latency_and_bandwidth_say(latency: int, bandwidth: int, sizes: list[int]) -> None:
    """Sent at once: each leaves when those before it have left."""

    def main(sys: Syscalls) -> list[int]:
        net = hosts(sys, {"latency_ns": latency, "bandwidth_bps": bandwidth})
        net.enter("server")
        fd = sys.socket(AF_INET, SOCK_DGRAM)
        sys.bind(fd, ADDR)

        def sender(sys: Syscalls) -> None:
            w = sys.socket(AF_INET, SOCK_DGRAM)
            for size in sizes:
                sys.sendto(w, bytes(size), 0, ADDR)

        net.spawn("client", sender)
        times = []
        for size in sizes:
            assert len(sys.recv(fd, 10_000)) == size
            times.append(sys.clock_gettime_ns(CLOCK_MONOTONIC))
        return times

    leaves = 0
    want = []
    for size in sizes:
        if bandwidth:
            leaves += -(-(size + 42) * 8 * 1_000_000_000 // bandwidth)
        want.append(leaves + latency)
    assert Kernel(Plain()).run(main) == want


@settings(max_examples=60, **SETTINGS)
@given(link=LINKS, tape=st.binary(max_size=200))
def test_a_segment_is_never_early(link: dict[str, Any], tape: bytes) -> None:
    """A round trip takes at least two latencies, and a connection one more."""

    def main(sys: Syscalls) -> int:
        net = hosts(sys, link)

        def server(sys: Syscalls) -> None:
            fd = sys.socket(AF_INET, SOCK_STREAM)
            sys.bind(fd, ADDR)
            sys.listen(fd, 1)
            conn, _ = sys.accept4(fd)
            sys.send(conn, sys.recv(conn, 10))

        net.spawn("server", server)
        net.enter("client")
        sys.nanosleep(MS)
        began = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(fd, ADDR)
        sys.send(fd, b"x")
        assert sys.recv(fd, 10) == b"x"
        return sys.clock_gettime_ns(CLOCK_MONOTONIC) - began

    assert Kernel(Tape(tape)).run(main) >= 4 * link["latency_ns"]
