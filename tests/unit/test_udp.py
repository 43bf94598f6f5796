"""UDP in the fake kernel: what a trace, a snapshot and a report show of it, and what a choice may do."""

import pytest

import simkernel
from simkernel.api import Syscalls
from simkernel.kernel.choice import Seeded
from simkernel.kernel.machine import Kernel
from simkernel.kernel.trace import Trace
from simkernel.testing.explain import explain_stop
from simkernel.tools.strace import strace_lines
from simkernel.uapi import AF_INET, AF_INET6, SO_RCVBUF, SO_REUSEPORT, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET


def receiver(sys: Syscalls, flags: int = SOCK_NONBLOCK) -> int:
    fd = sys.socket(AF_INET, SOCK_DGRAM | flags)
    sys.bind(fd, ("127.0.0.1", 9000))
    return fd


def everything(sys: Syscalls, fd: int) -> list[bytes]:
    got = []
    while True:
        try:
            got.append(sys.recv(fd, 100))
        except BlockingIOError:
            return got


def test_a_trace_tells_datagrams_from_segments() -> None:
    trace = Trace()

    def main(sys: Syscalls) -> None:
        fd = receiver(sys)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 0)
        out = sys.socket(AF_INET6, SOCK_DGRAM)
        for _ in range(3):
            sys.sendto(out, b"hello", 0, ("::ffff:127.0.0.1", 9000, 0, 0))
        sys.close(fd)
        sys.sendto(out, b"hello", 0, ("127.0.0.1", 9000))

    simkernel.run(main, trace=trace)
    text = "\n".join(strace_lines(trace))
    assert "socket(AF_INET6, SOCK_DGRAM)" in text
    assert "sendto(4, 'hello', 0, ('::ffff:127.0.0.1', 9000, 0, 0))" in text
    assert "irq: datagram, 5 bytes" in text
    assert "irq: datagram dropped: the receive buffer is full" in text
    assert "irq: ICMP port unreachable, 0 bytes" in text


def test_a_snapshot_shows_addresses_and_queues() -> None:
    kernel = Kernel(debug=True)

    def main(sys: Syscalls) -> list[dict[str, object]]:
        receiver(sys)
        out = sys.socket(AF_INET, SOCK_DGRAM)
        sys.connect(out, ("127.0.0.1", 9000))
        sys.send(out, b"hello")
        sys.send(out, b"")
        six = sys.socket(AF_INET6, SOCK_STREAM)
        sys.bind(six, ("::1", 9000, 0, 0))
        return [file for file in kernel.snapshot()["files"].values() if file["kind"] in ("udp", "tcp")]

    one, two, six = kernel.run(main)
    assert (one["local"], one["state"], one["queued"], one["rmem"]) == (("127.0.0.1", 9000), "CLOSE", [5, 0], 2 * 832)
    assert (two["peer"], two["state"], two["queued"]) == (("127.0.0.1", 9000), "ESTABLISHED", [])
    assert six["local"] == ("::1", 9000)


def test_sockets_describe_themselves() -> None:
    kernel = Kernel()

    def main(sys: Syscalls) -> list[str]:
        fd = receiver(sys)
        six = sys.socket(AF_INET6, SOCK_DGRAM)
        sys.bind(six, ("::1", 7, 0, 0))
        sys.connect(six, ("::1", 9, 0, 0))
        tcp = sys.socket(AF_INET6, SOCK_STREAM)
        sys.bind(tcp, ("::", 8, 0, 0))
        sys.listen(tcp, 1)
        files = kernel.sched.current.files.fd
        return [sk.describe() for sk in (files[n].sk for n in (fd, six, tcp))]

    assert kernel.run(main) == ["udp 127.0.0.1:9000 unconnected", "udp [::1]:7 <- [::1]:9", "tcp [::]:8 listening"]


def test_a_report_tells_of_dropped_datagrams() -> None:
    """Whoever waits for a datagram that was dropped is told so."""
    told: list[str] = []

    def main(sys: Syscalls) -> None:
        fd = receiver(sys, 0)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 0)
        out = sys.socket(AF_INET, SOCK_DGRAM)
        for _ in range(3):
            sys.sendto(out, b"x", 0, ("127.0.0.1", 9000))
        sys.waitpid(sys.spawn(read, fd))

    def read(sys: Syscalls, fd: int) -> None:
        for _ in range(3):
            sys.recv(fd, 1)

    def look(kernel: Kernel) -> None:
        told.extend(explain_stop(kernel))

    with pytest.raises(simkernel.Deadlock):
        Kernel(trace=Trace(), on_stop=look).run(main)
    assert any(
        "for a datagram on udp 127.0.0.1:9000 unconnected; 1 that came were dropped, since its receive buffer was full" in line
        for line in told
    )


def test_a_choice_may_delay_datagrams_but_loses_none() -> None:
    """Delivery is NET_RX's work, which a choice may put off; the order stays, and a sleeping reader gets them in the end."""
    late = 0
    for seed in range(60):

        def main(sys: Syscalls) -> tuple[int, list[bytes]]:
            fd = receiver(sys)
            out = sys.socket(AF_INET, SOCK_DGRAM)
            for i in range(5):
                sys.sendto(out, b"%d" % i, 0, ("127.0.0.1", 9000))
            early = everything(sys, fd)
            sys.nanosleep(1000)
            return len(early), early + everything(sys, fd)

        early, got = Kernel(Seeded(seed), debug=True).run(main)
        assert got == [b"0", b"1", b"2", b"3", b"4"]
        late += early < 5
    assert 0 < late < 60


def test_a_choice_shares_out_a_reuseport_group() -> None:
    """The key of the hash is chance on Linux; all of the group are reached in one run or another."""
    reached = set()
    for seed in range(40):

        def main(sys: Syscalls) -> int:
            fds = []
            for _ in range(3):
                fd = sys.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
                sys.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1)
                sys.bind(fd, ("127.0.0.1", 9000))
                fds.append(fd)
            out = sys.socket(AF_INET, SOCK_DGRAM)
            sys.sendto(out, b"x", 0, ("127.0.0.1", 9000))
            sys.nanosleep(1000)
            (one,) = [i for i, fd in enumerate(fds) if everything(sys, fd)]
            return one

        reached.add(Kernel(Seeded(seed)).run(main))
    assert reached == {0, 1, 2}
