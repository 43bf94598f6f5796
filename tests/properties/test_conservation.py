"""Bytes are conserved on any schedule, and the kernel's books balance at every step."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from simkernel.api import Syscalls
from simkernel.kernel.machine import Kernel
from simkernel.kernel.net.socket import Socket
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_states import TCP_CLOSE
from simkernel.kernel.net.unix import UnixSock
from simkernel.kernel.pipe import Pipe
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    F_SETFL,
    F_SETPIPE_SZ,
    O_NONBLOCK,
    PAGE_SIZE,
    POLLIN,
    POLLOUT,
    SHUT_WR,
    SO_RCVBUF,
    SO_SNDBUF,
    SOCK_STREAM,
    SOL_SOCKET,
)
from tests.properties import CHOICES, source

SIZES = st.lists(st.sampled_from([1, 2, 7, 100, 1000, 2304, 4095, 4096, 4097, 9000, 70_000]), min_size=1, max_size=6)
PATTERN = b"".join((i * 2654435761 % 2**32).to_bytes(4, "little") for i in range(1 << 16))


def books(kernel: Kernel) -> None:
    """What must hold between any two calls."""
    wire: list[Any] = []
    skb: Any = kernel.sys.lo.first
    while skb is not None:
        wire.append(skb)
        skb = skb.next
    socks: list[Any] = []
    for process in kernel.sched.processes.values():
        for file in process.files.fd:
            if isinstance(file, Socket) and file.sk not in socks:
                socks += [file.sk, *file.sk.acceptq] if isinstance(file.sk, TcpSock) else [file.sk]
            if isinstance(file, Pipe):
                assert len(file.pipe.bufs) <= file.pipe.max_usage
                assert all(buf.offset < buf.end == len(buf.page) <= PAGE_SIZE for buf in file.pipe.bufs)
    for sk in socks:
        if isinstance(sk, TcpSock):
            in_flight = sum(len(skb.data) for skb in wire if skb.sk is sk)
            in_flight += sum(len(skb.data) for skb in sk.peer.backlog if skb.sk is sk) if sk.peer else 0
            assert sk.rmem == sum(map(len, sk.receive_queue)) - sk.queue_offset
            assert sk.unsent == sum(map(len, sk.write_queue))
            assert sk.wmem_queued == sk.unsent + in_flight
            assert sk.rmem <= sk.window_clamp, "it was sent more than it had offered"
            if sk.peer is not None and sk.peer in socks and sk.state != TCP_CLOSE:
                assert sk.peer.copied_seq + sk.peer.rmem + in_flight + sk.unsent == sk.write_seq
        elif isinstance(sk, UnixSock) and sk.peer is not None:
            assert sk.wmem_alloc == sum(skb.truesize for skb in sk.peer.receive_queue)
            assert all(skb.offset < len(skb.data) or not skb.data for skb in sk.peer.receive_queue)


def make(sys: Syscalls, kind: str, bufsize: int) -> tuple[int, int]:
    """(reading fd, writing fd) of a stream."""
    if kind == "pipe":
        r, w = sys.pipe2()
        if bufsize:
            sys.fcntl(w, F_SETPIPE_SZ, bufsize)
        return r, w
    if kind == "unix":
        a, b = sys.socketpair(AF_UNIX, SOCK_STREAM)
        if bufsize:
            sys.setsockopt(b, SOL_SOCKET, SO_SNDBUF, bufsize)
        return a, b
    listener, client = sys.socket(AF_INET, SOCK_STREAM), sys.socket(AF_INET, SOCK_STREAM)
    if bufsize:
        for fd in (listener, client):
            sys.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, bufsize)
            sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, bufsize)
    sys.bind(listener, ("127.0.0.1", 9000))
    sys.listen(listener, 1)
    sys.connect(client, ("127.0.0.1", 9000))
    accepted, _ = sys.accept4(listener)
    sys.close(listener)
    return accepted, client


def write_all(sys: Syscalls, fd: int, total: int, sizes: list[int], nonblock: bool, check: Callable[[], None]) -> None:
    sent = turn = 0
    while sent < total:
        data = PATTERN[sent : min(sent + sizes[turn % len(sizes)], total)]
        turn += 1
        if nonblock:
            assert sys.poll([(fd, POLLOUT)])
        try:
            n = sys.write(fd, data)
        except BlockingIOError:
            # A pipe that has room takes a whole page at most: what poll said need not hold for more.
            n = 0
        assert 0 <= n <= len(data)
        if not nonblock:
            assert n == len(data)
        sent += n
        check()


def read_all(sys: Syscalls, fd: int, sizes: list[int], nonblock: bool, check: Callable[[], None]) -> bytes:
    got = bytearray()
    turn = 0
    while True:
        n = sizes[turn % len(sizes)]
        turn += 1
        if nonblock:
            assert sys.poll([(fd, POLLIN)])
        data = sys.read(fd, n)
        assert len(data) <= n
        if not data:
            return bytes(got)
        got += data
        check()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    choices=CHOICES,
    kind=st.sampled_from(["tcp", "unix", "pipe"]),
    bufsize=st.sampled_from([0, 0, 1, 4096, 20_000]),
    total=st.sampled_from([1, 5000, 30_000, 200_000]),
    writes=SIZES,
    reads=SIZES,
    writer_nonblock=st.booleans(),
    reader_nonblock=st.booleans(),
)
# Once the window was counted anew from each segment, whatever was still in flight, and nobody sent what it then allowed.
@example(b"\x01" * 256, "tcp", 1, 30_000, [9000], [70_000], False, False)
@example(bytes([3, 1, 1, 1]) * 64, "tcp", 4096, 200_000, [70_000], [7, 9000], True, True)
def test_bytes_are_conserved(
    choices: bytes | int,
    kind: str,
    bufsize: int,
    total: int,
    writes: list[int],
    reads: list[int],
    writer_nonblock: bool,
    reader_nonblock: bool,
) -> None:
    if total // min(min(writes), min(reads)) > 3000:
        total = 3000 * min(min(writes), min(reads))
    steps = 0

    def check() -> None:
        nonlocal steps
        steps += 1
        books(kernel)

    def writer(sys: Syscalls, r: int, w: int) -> None:
        sys.close(r)
        write_all(sys, w, total, writes, writer_nonblock, check)
        sys.close(w) if kind == "pipe" else sys.shutdown(w, SHUT_WR)

    def main(sys: Syscalls) -> bytes:
        r, w = make(sys, kind, bufsize)
        for fd, nonblock in ((r, reader_nonblock), (w, writer_nonblock)):
            if nonblock:
                sys.fcntl(fd, F_SETFL, O_NONBLOCK)
        pid = sys.spawn(writer, r, w)
        sys.close(w)
        got = read_all(sys, r, reads, reader_nonblock, check)
        assert sys.waitpid(pid) == (pid, 0)
        return got

    kernel = Kernel(source(choices))
    got = kernel.run(main)
    assert len(got) == total
    assert got == PATTERN[:total]
    assert steps >= 2
    event(kind)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(choices=CHOICES, kind=st.sampled_from(["tcp", "unix"]), bufsize=st.sampled_from([0, 1, 4096]), sizes=SIZES)
def test_bytes_are_conserved_in_both_directions(choices: bytes | int, kind: str, bufsize: int, sizes: list[int]) -> None:
    """Both ends send and receive at once, each with one loop over poll, and sockets that don't block."""
    total = min(60_000, 2000 * min(sizes))

    def exchange(sys: Syscalls, fd: int) -> bytes:
        sys.fcntl(fd, F_SETFL, O_NONBLOCK)
        sent = turn = 0
        got = bytearray()
        while True:
            for _, revents in sys.poll([(fd, POLLIN | (POLLOUT if sent < total else 0))]):
                if revents & POLLOUT and sent < total:
                    turn += 1
                    try:
                        sent += sys.write(fd, PATTERN[sent : min(sent + sizes[turn % len(sizes)], total)])
                    except BlockingIOError:
                        pass
                    if sent == total:
                        sys.shutdown(fd, SHUT_WR)
                if revents & POLLIN:
                    data = sys.read(fd, 5000)
                    if not data:
                        assert sent == total or len(got) == total
                        if sent == total:
                            return bytes(got)
                    got += data
            books(kernel)

    def other(sys: Syscalls, keep: int, drop: int) -> None:
        sys.close(drop)
        assert exchange(sys, keep) == PATTERN[:total]

    def main(sys: Syscalls) -> bytes:
        a, b = make(sys, kind, bufsize)
        pid = sys.spawn(other, a, b)
        sys.close(a)
        got = exchange(sys, b)
        assert sys.waitpid(pid) == (pid, 0)
        return got

    kernel = Kernel(source(choices))
    assert kernel.run(main) == PATTERN[:total]
