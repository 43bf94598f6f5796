"""IPPROTO_TCP's options: what they read back as, and what they do."""

import struct
from typing import Any

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    CLOCK_MONOTONIC,
    EPOLLET,
    EPOLLIN,
    FIONREAD,
    IPPROTO_TCP,
    MSG_EOR,
    MSG_MORE,
    SHUT_WR,
    SIOCOUTQ,
    SIOCOUTQNSD,
    SO_LINGER,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_CORK,
    TCP_DEFER_ACCEPT,
    TCP_INFO,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_LINGER2,
    TCP_MAXSEG,
    TCP_NODELAY,
    TCP_NOTSENT_LOWAT,
    TCP_QUICKACK,
    TCP_SYNCNT,
    TCP_USER_TIMEOUT,
    TCP_WINDOW_CLAMP,
)

from .helpers import (
    DATA,
    FULL_ERR,
    IDLE,
    MS,
    World,
    bound,
    client,
    drain,
    err,
    fill,
    listener,
    mask,
    nonblocking,
    ready,
    settle,
    tcp_pair,
    watch,
)

EVERY = (0, 1, 2, 7, 88, 127, 128, 255, 32767, 32768, 100000, 2**31 - 1, -1, -(2**31))
NO = "EINVAL"

READ_BACK = [
    (TCP_NODELAY, 0, [0] + [1] * 13),
    (TCP_CORK, 0, [0] + [1] * 13),
    (TCP_MAXSEG, 536, [536, NO, NO, NO, 88, 127, 128, 255, 32767, NO, NO, NO, NO, NO]),
    (TCP_KEEPIDLE, 7200, [NO, 1, 2, 7, 88, 127, 128, 255, 32767, NO, NO, NO, NO, NO]),
    (TCP_KEEPINTVL, 75, [NO, 1, 2, 7, 88, 127, 128, 255, 32767, NO, NO, NO, NO, NO]),
    (TCP_KEEPCNT, 9, [NO, 1, 2, 7, 88, 127, *[NO] * 8]),
    (TCP_SYNCNT, 6, [NO, 1, 2, 7, 88, 127, *[NO] * 8]),
    (TCP_LINGER2, 60, [60, 1, 2, 7, 88, 120, 120, 120, 120, 120, 120, 120, -1, -1]),
    (TCP_DEFER_ACCEPT, 0, [0, 1, 3, 7, 127, 127, 247, 367, 29887, 29887, 29887, 29887, 0, 0]),
    (TCP_WINDOW_CLAMP, 0, [0, 1152, 1152, 1152, 1152, 1152, 1152, 1152, 32767, 32768, 100000, 2**31 - 1, 1152, 1152]),
    (TCP_QUICKACK, 1, [0] + [1] * 13),
    (TCP_NOTSENT_LOWAT, 0, list(EVERY)),
    (TCP_USER_TIMEOUT, 0, [0, 1, 2, 7, 88, 127, 128, 255, 32767, 32768, 100000, 2**31 - 1, NO, NO]),
]


@pytest.mark.parametrize(("name", "default", "expected"), READ_BACK)
def test_read_back(world: World, name: int, default: int, expected: list[Any]) -> None:
    """What each number reads back as on a fresh socket: switches, ranges (EINVAL), clamps, seconds turned into retries."""

    def main(sys: Syscalls) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        assert sys.getsockopt(fd, IPPROTO_TCP, name) == default
        assert err(sys.setsockopt, fd, IPPROTO_TCP, name, b"\1\0\0") == NO
        found = []
        for value in EVERY:
            fresh = sys.socket(AF_INET, SOCK_STREAM)
            found.append(err(sys.setsockopt, fresh, IPPROTO_TCP, name, value) or sys.getsockopt(fresh, IPPROTO_TCP, name))
            sys.close(fresh)
        assert found == expected

    world.run(main)


def test_what_accept_inherits(world: World) -> None:
    """An accepted socket has its listener's options of TCP, but for TCP_DEFER_ACCEPT; the segment's size both ends agree on."""

    def main(sys: Syscalls) -> None:
        listening, addr = bound(sys)
        given = {
            TCP_NODELAY: 1, TCP_CORK: 1, TCP_KEEPIDLE: 100, TCP_KEEPINTVL: 11, TCP_KEEPCNT: 3, TCP_SYNCNT: 4, TCP_LINGER2: 20,
            TCP_WINDOW_CLAMP: 40000, TCP_USER_TIMEOUT: 5000,
            TCP_NOTSENT_LOWAT: 100,
        }  # fmt: skip
        for name, value in given.items():
            sys.setsockopt(listening, IPPROTO_TCP, name, value)
        sys.setsockopt(listening, IPPROTO_TCP, TCP_DEFER_ACCEPT, 7)
        sys.setsockopt(listening, IPPROTO_TCP, TCP_MAXSEG, 1000)
        sys.listen(listening, 1)
        fd = client(sys, addr)
        sys.send(fd, b"x")
        child, _ = sys.accept4(listening)
        assert {name: sys.getsockopt(child, IPPROTO_TCP, name) for name in given} == given
        assert sys.getsockopt(child, IPPROTO_TCP, TCP_DEFER_ACCEPT) == 0
        sizes = [sys.getsockopt(each, IPPROTO_TCP, TCP_MAXSEG) for each in (listening, child, fd)]
        assert sizes == [1000, 988, 988]
        # Too late for this connection.
        sys.setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, 500)
        assert sys.getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG) == 988

    world.run(main)


def test_options_of_a_connection(world: World) -> None:
    """Of an established connection TCP_WINDOW_CLAMP can't be switched off, and TCP_MAXSEG is what its segments hold."""

    def main(sys: Syscalls) -> None:
        fd, accepted = tcp_pair(sys)
        # Half of the peer's first window, which a SYN-ACK tells less exactly.
        assert [sys.getsockopt(each, IPPROTO_TCP, TCP_MAXSEG) for each in (fd, accepted)] == [32741, 32768]
        assert sys.getsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP) == 65536
        assert err(sys.setsockopt, fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 0) == NO
        listening, _ = listener(sys)
        assert err(sys.setsockopt, listening, IPPROTO_TCP, TCP_WINDOW_CLAMP, 0) == NO
        assert sys.getsockopt(listening, IPPROTO_TCP, TCP_WINDOW_CLAMP) == 0

    world.run(main)


def test_tcp_info(world: World) -> None:
    """TCP_INFO: a struct that starts with the state; of a listener it tells how many wait to be accepted, and how many may."""

    def main(sys: Syscalls) -> None:
        fresh = sys.socket(AF_INET, SOCK_STREAM)
        info = sys.getsockopt(fresh, IPPROTO_TCP, TCP_INFO, 1000)
        assert isinstance(info, bytes)
        assert (len(info), info[0]) == (280, 7)
        assert sys.getsockopt(fresh, IPPROTO_TCP, TCP_INFO, 1) == b"\7"
        assert err(sys.setsockopt, fresh, IPPROTO_TCP, TCP_INFO, bytes(300)) == "ENOPROTOOPT"
        listening, addr = listener(sys, 5)
        fd = client(sys, addr)
        info = sys.getsockopt(listening, IPPROTO_TCP, TCP_INFO, 280)
        assert isinstance(info, bytes)
        assert (info[0], *struct.unpack_from("II", info, 24)) == (10, 1, 5)
        accepted, _ = sys.accept4(listening)

        def states() -> list[int]:
            return [sys.getsockopt(each, IPPROTO_TCP, TCP_INFO, 1)[0] for each in (fd, accepted)]  # type: ignore[index]

        assert states() == [1, 1]
        sys.shutdown(fd, SHUT_WR)
        # A FIN may be acknowledged a little later.
        settle(sys, 100)
        assert states() == [5, 8]
        sys.shutdown(accepted, SHUT_WR)
        assert states() == [7, 7]

    world.run(main)


# --- TCP_CORK, MSG_MORE ---
def test_msg_more_holds_the_bytes(world: World) -> None:
    """MSG_MORE: the bytes are taken and not sent; a send without it takes them along, as one event."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        epfd = watch(sys, reader, EPOLLIN | EPOLLET)
        assert sys.send(writer, b"a", MSG_MORE) == 1
        sys.send(writer, b"b", MSG_MORE)
        assert (mask(sys, reader), sys.ioctl(writer, SIOCOUTQ), sys.ioctl(writer, SIOCOUTQNSD)) == (IDLE, 2, 2)
        sys.send(writer, b"c")
        assert (ready(sys, epfd), ready(sys, epfd)) == ([(reader, "IN")], [])
        assert sys.recv(reader, 10) == b"abc"

    world.run(main)


@pytest.mark.parametrize("corked", [True, False])
def test_held_bytes_go_after_200_ms(world: World, corked: bool) -> None:
    """What TCP_CORK or MSG_MORE holds is sent after a fifth of a second, not earlier, and the next is held again."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, int(corked))
        for _ in range(2):
            before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
            sys.send(writer, b"a", 0 if corked else MSG_MORE)
            assert sys.recv(reader, 10) == b"a"
            assert 195 * MS < sys.clock_gettime_ns(CLOCK_MONOTONIC) - before < 400 * MS

    world.run(main)


def test_uncorking_sends(world: World) -> None:
    """TCP_CORK switched off sends what it held, also what MSG_MORE held; switched on again it sends nothing."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        nonblocking(sys, reader)
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 1)
        sys.send(writer, b"a")
        sys.send(writer, b"b")
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 1)
        assert err(sys.recv, reader, 10) == "EAGAIN"
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 0)
        assert sys.recv(reader, 10) == b"ab"
        sys.send(writer, b"c", MSG_MORE)
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 0)
        assert sys.recv(reader, 10) == b"c"

    world.run(main)


def test_nodelay_and_cork(world: World) -> None:
    """Setting TCP_NODELAY sends what TCP_CORK holds, once; a cork is stronger than TCP_NODELAY."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 1)
        sys.send(writer, b"a")
        sys.setsockopt(writer, IPPROTO_TCP, TCP_NODELAY, 0)
        assert mask(sys, reader) == IDLE
        sys.setsockopt(writer, IPPROTO_TCP, TCP_NODELAY, 1)
        assert sys.ioctl(reader, FIONREAD) == 1
        sys.send(writer, b"b")
        assert sys.ioctl(reader, FIONREAD) == 1
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 0)
        assert sys.ioctl(reader, FIONREAD) == 2

    world.run(main)


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_the_end_sends_what_is_held(world: World, how: str) -> None:
    """shutdown and close send what is held, with the FIN behind it."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 1)
        sys.send(writer, b"a")
        if how == "shutdown":
            sys.shutdown(writer, SHUT_WR)
        else:
            sys.close(writer)
        assert (sys.recv(reader, 10), sys.recv(reader, 10)) == (b"a", b"")

    world.run(main)


def test_full_segments_are_not_held(world: World) -> None:
    """A corked socket sends what fills a segment."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 1)
        sys.send(writer, bytes(32740))
        assert sys.ioctl(reader, FIONREAD) == 0
        sys.send(writer, bytes(2))
        assert sys.ioctl(reader, FIONREAD) == 32741
        assert sys.ioctl(writer, SIOCOUTQNSD) == 1

    world.run(main)


def test_what_comes_from_the_peer_pushes_msg_more(world: World) -> None:
    """Any segment of the peer's sends what MSG_MORE held, data or FIN; not so with TCP_CORK."""

    def main(sys: Syscalls) -> None:
        for fin in (False, True):
            for corked in (False, True):
                writer, reader = tcp_pair(sys)
                sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, int(corked))
                sys.send(writer, b"a", MSG_MORE)
                if fin:
                    sys.shutdown(reader, SHUT_WR)
                else:
                    sys.send(reader, b"hello")
                assert sys.ioctl(reader, FIONREAD) == (0 if corked else 1)

    world.run(main)


def test_the_acknowledgement_of_a_full_segment_pushes_msg_more(world: World) -> None:
    """MSG_MORE with more than a segment holds nothing back: the first segment's acknowledgement pushes the rest; a cork still holds."""

    def main(sys: Syscalls) -> None:
        for corked in (False, True):
            writer, reader = tcp_pair(sys)
            sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, int(corked))
            sys.send(writer, bytes(40000), MSG_MORE)
            assert sys.ioctl(reader, FIONREAD) == (32741 if corked else 40000)

    world.run(main)


def test_msg_eor(world: World) -> None:
    """MSG_EOR ends a segment: with something behind it, it is not the last and goes, and its acknowledgement pushes that too."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.send(writer, b"a", MSG_MORE | MSG_EOR)
        assert sys.ioctl(reader, FIONREAD) == 0
        sys.send(writer, b"b", MSG_MORE)
        assert sys.ioctl(reader, FIONREAD) == 2

    world.run(main)


def test_a_full_buffer_is_not_held(world: World) -> None:
    """When the send buffer is full, a cork holds nothing back: the reader gets everything."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys, 4096)
        nonblocking(sys, writer, reader)
        sys.setsockopt(writer, IPPROTO_TCP, TCP_CORK, 1)
        total = fill(sys, writer, 1000)
        got = 0
        while n := drain(sys, reader):
            got += n
            # What the window let in last may be held, as ever.
            settle(sys, 300)
        assert got == total

    world.run(main)


# --- TCP_DEFER_ACCEPT ---
def deferring(sys: Syscalls, seconds: int) -> tuple[int, tuple[str, int]]:
    """A listener with TCP_DEFER_ACCEPT, and its address."""
    fd, addr = listener(sys)
    sys.setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds)
    return fd, addr


def test_defer_accept_waits_for_data(world: World) -> None:
    """The connection can be accepted when its first data has come, and not before; the client is connected all the time."""

    def main(sys: Syscalls) -> None:
        listening, addr = deferring(sys, 5)
        nonblocking(sys, listening)
        fd = client(sys, addr)
        assert (mask(sys, fd), mask(sys, listening)) == (IDLE, "0")
        assert err(sys.accept4, listening) == "EAGAIN"
        sys.send(fd, b"x")
        assert mask(sys, listening) == "IN|RDNORM"
        accepted, _ = sys.accept4(listening)
        assert (mask(sys, accepted), sys.recv(accepted, 10)) == (DATA, b"x")
        assert sys.send(accepted, b"answer") == 6
        assert sys.recv(fd, 10) == b"answer"

    world.run(main)


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_defer_accept_and_a_fin(world: World, how: str) -> None:
    """A FIN will do as well."""

    def main(sys: Syscalls) -> None:
        listening, addr = deferring(sys, 5)
        fd = client(sys, addr)
        if how == "shutdown":
            sys.shutdown(fd, SHUT_WR)
        else:
            sys.close(fd)
        assert mask(sys, listening) == "IN|RDNORM"
        accepted, _ = sys.accept4(listening)
        assert sys.recv(accepted, 10) == b""

    world.run(main)


def test_defer_accept_and_a_reset(world: World) -> None:
    """A connection that is reset before its first data never was."""

    def main(sys: Syscalls) -> None:
        listening, addr = deferring(sys, 1)
        fd = client(sys, addr)
        sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        sys.close(fd)
        assert sys.poll([(listening, 1)], 1300) == []

    world.run(main)


@pytest.mark.parametrize(("seconds", "wait"), [(1, 1), (3, 3)])
def test_defer_accept_ends(world: World, seconds: int, wait: int) -> None:
    """Without data the connection can be accepted when the seconds have passed."""

    def main(sys: Syscalls) -> None:
        listening, addr = deferring(sys, seconds)
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        fd = client(sys, addr)
        accepted, _ = sys.accept4(listening)
        assert 0.95 * wait < (sys.clock_gettime_ns(CLOCK_MONOTONIC) - before) / 1e9 < wait + 0.5
        sys.send(fd, b"x")
        assert sys.recv(accepted, 10) == b"x"

    world.run(main)


def test_defer_accept_switched_off(world: World) -> None:
    """Switched off, TCP_DEFER_ACCEPT lets those who wait in when the SYN-ACK is sent again, after a second."""

    def main(sys: Syscalls) -> None:
        listening, addr = deferring(sys, 100)
        client(sys, addr)
        sys.setsockopt(listening, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0)
        assert sys.poll([(listening, 1)], 100) == []
        assert sys.poll([(listening, 1)], 1500) != []

    world.run(main)


def test_defer_accept_and_a_closed_listener(world: World) -> None:
    """The listener closes while it defers: the client learns of it with what it sends next."""

    def main(sys: Syscalls) -> None:
        listening, addr = deferring(sys, 5)
        fd = client(sys, addr)
        sys.close(listening)
        assert mask(sys, fd) == IDLE
        assert sys.send(fd, b"x") == 1
        assert mask(sys, fd) == FULL_ERR
        assert err(sys.recv, fd, 1) == "ECONNRESET"

    world.run(main)


# --- SO_LINGER ---
def lingering(sys: Syscalls, seconds: int, full: bool) -> tuple[int, int, int]:
    """(fd that lingers, its peer, bytes on the way): with ``full`` more than the peer's window takes."""
    fd, peer = tcp_pair(sys, 4096)
    nonblocking(sys, fd, peer)
    sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, seconds))
    return fd, peer, fill(sys, fd) if full else 0


@pytest.mark.parametrize("nonblock", [False, True])
def test_linger_ends(world: World, nonblock: bool) -> None:
    """close() of a lingering socket waits the given seconds for the peer to read, O_NONBLOCK or not; what was written still comes."""

    def main(sys: Syscalls) -> None:
        fd, peer, total = lingering(sys, 1, True)
        if not nonblock:
            sys.ioctl(fd, 0x5421, 0)
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        sys.close(fd)
        assert 0.99 < (sys.clock_gettime_ns(CLOCK_MONOTONIC) - before) / 1e9 < 2
        assert err(sys.write, fd, b"x") == "EBADF"
        sys.ioctl(peer, 0x5421, 0)
        got = 0
        while data := sys.recv(peer, 65536):
            got += len(data)
        assert got == total

    world.run(main)


def test_linger_with_nothing_to_send(world: World) -> None:
    """With nothing to be sent close() doesn't wait; the peer sees a FIN."""

    def main(sys: Syscalls) -> None:
        fd, peer, _ = lingering(sys, 5, False)
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        sys.close(fd)
        assert sys.clock_gettime_ns(CLOCK_MONOTONIC) - before < 500 * MS
        assert sys.recv(peer, 10) == b""

    world.run(main)


def test_linger_until_it_is_read(world: World) -> None:
    """close() returns as soon as the peer has everything."""

    def main(sys: Syscalls) -> None:
        fd, peer, total = lingering(sys, 30, True)

        def read(sys: Syscalls) -> None:
            sys.nanosleep(100 * MS)
            sys.ioctl(peer, 0x5421, 0)
            got = 0
            while data := sys.recv(peer, 65536):
                got += len(data)
            assert got == total

        tid = sys.thread(read)
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        sys.close(fd)
        assert 90 * MS < sys.clock_gettime_ns(CLOCK_MONOTONIC) - before < 10_000 * MS
        sys.join(tid)

    world.run(main)


def test_linger_ends_with_a_reset(world: World) -> None:
    """The peer resets the connection while close() waits for it: it waits no longer."""

    def main(sys: Syscalls) -> None:
        fd, peer, _ = lingering(sys, 30, True)

        def kill(sys: Syscalls) -> None:
            sys.nanosleep(100 * MS)
            sys.close(peer)

        tid = sys.thread(kill)
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        sys.close(fd)
        assert sys.clock_gettime_ns(CLOCK_MONOTONIC) - before < 5_000 * MS
        sys.join(tid)

    world.run(main)


def test_an_exiting_process_does_not_linger(world: World) -> None:
    """A process that ends closes its sockets without waiting."""

    def main(sys: Syscalls) -> None:
        fd, _, _ = lingering(sys, 30, True)
        go, told = sys.pipe2()

        def child(sys: Syscalls) -> None:
            sys.read(go, 1)

        pid = sys.spawn(child)
        # The child has the last reference.
        sys.close(fd)
        sys.write(told, b"x")
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        sys.waitpid(pid)
        assert sys.clock_gettime_ns(CLOCK_MONOTONIC) - before < 5_000 * MS

    world.run(main)


# --- TCP_SYNCNT, TCP_USER_TIMEOUT ---
@pytest.mark.parametrize(("name", "value", "seconds"), [(TCP_SYNCNT, 1, 3.0), (TCP_USER_TIMEOUT, 1500, 1.5), (TCP_USER_TIMEOUT, 2500, 2.5)])
def test_giving_up_to_connect(world: World, name: int, value: int, seconds: float) -> None:
    """Nobody answers the SYN: ETIMEDOUT after the time that TCP_SYNCNT's retries or TCP_USER_TIMEOUT give."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys, 0)
        first = client(sys, addr)
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(fd, IPPROTO_TCP, name, value)
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        assert err(sys.connect, fd, addr) == "ETIMEDOUT"
        assert seconds - 0.05 < (sys.clock_gettime_ns(CLOCK_MONOTONIC) - before) / 1e9 < seconds + 0.45
        sys.close(first)
        sys.close(listening)

    world.run(main)


@pytest.mark.parametrize("lowat", [20_000, 100_000])
def test_notsent_lowat(world: World, lowat: int) -> None:
    """With TCP_NOTSENT_LOWAT a sender is writable while less than half of that many bytes are unsent, and takes no more when all are."""

    def main(sys: Syscalls) -> None:
        a, b = tcp_pair(sys)
        nonblocking(sys, a, b)
        fill(sys, a)
        drain(sys, b)
        settle(sys)
        assert mask(sys, a) == IDLE
        sys.setsockopt(a, IPPROTO_TCP, TCP_NOTSENT_LOWAT, lowat)
        fill(sys, a)
        unsent = sys.ioctl(a, SIOCOUTQNSD)
        # The last segment is filled, whatever the limit.
        assert lowat <= unsent < lowat + 70_000
        assert mask(sys, a) == "0"
        sys.setsockopt(a, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 2 * unsent)
        assert mask(sys, a) == "0"
        sys.setsockopt(a, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 2 * unsent + 2)
        assert mask(sys, a) == IDLE
        sys.setsockopt(a, IPPROTO_TCP, TCP_NOTSENT_LOWAT, lowat)
        assert mask(sys, a) == "0"
        drain(sys, b)
        settle(sys)
        assert sys.ioctl(a, SIOCOUTQNSD) == 0 and mask(sys, a) == IDLE

    world.run(main)
