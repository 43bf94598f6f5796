"""sendfile and splice."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    F_SETFL,
    FIONREAD,
    O_APPEND,
    O_DIRECT,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    PAGE_SIZE,
    POLLIN,
    SEEK_CUR,
    SEEK_SET,
    SIGPIPE,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SPLICE_F_MORE,
    SPLICE_F_MOVE,
    SPLICE_F_NONBLOCK,
)

from .helpers import World, drain, err, fill, listener, mask, nonblocking, ready, settle, start, tcp_pair, watch

FULL = 16 * PAGE_SIZE


def memfd(sys: Syscalls, data: bytes = b"") -> int:
    """A file in memory that holds ``data``, at position 0."""
    fd = sys.memfd_create("test")
    sys.write(fd, data)
    sys.lseek(fd, 0, SEEK_SET)
    return fd


def pipe(sys: Syscalls, data: bytes = b"", flags: int = O_NONBLOCK) -> tuple[int, int]:
    """A pipe that holds ``data``."""
    r, w = sys.pipe2(flags)
    if data:
        sys.write(w, data)
    return r, w


def holds(sys: Syscalls, ends: tuple[int, int]) -> tuple[int, str, str]:
    """Bytes in a pipe, and the masks of its ends."""
    r, w = ends
    return sys.ioctl(r, FIONREAD), mask(sys, r), mask(sys, w)


def free_slots(sys: Syscalls, w: int) -> int:
    """How many buffers of a pipe are free: each one-byte splice takes one."""
    n = 0
    source = memfd(sys, b"1")
    while err(sys.splice, source, 0, w, None, 1, 0) == 1:
        n += 1
    return n


def stream(sys: Syscalls, kind: str, bufsize: int = 0) -> tuple[int, int]:
    """A non-blocking connection."""
    if kind == "unix":
        return sys.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)
    a, b = tcp_pair(sys, bufsize)
    nonblocking(sys, a, b)
    return a, b


def targets(sys: Syscalls) -> dict[str, int]:
    """A file of each kind to write to."""
    return {
        "pipe": pipe(sys)[1],
        "tcp": stream(sys, "tcp")[0],
        "unix": stream(sys, "unix")[0],
        "file": memfd(sys),
        "null": sys.open("/dev/null", O_RDWR),
        "urandom": sys.open("/dev/urandom", O_RDWR),
        "full": sys.open("/dev/full", O_RDWR),
        "eventfd": sys.eventfd(0, O_NONBLOCK),
        "epoll": sys.epoll_create1(),
        "dir": sys.open("/tmp", O_RDONLY),
        "sysctl": sys.open("/proc/sys/net/core/somaxconn", O_RDONLY),
    }


def sources(sys: Syscalls) -> dict[str, int]:
    """A file of each kind to read from, with five bytes if it can hold any."""
    a, b = stream(sys, "tcp")
    sys.send(a, b"hello")
    sys.poll([(b, POLLIN)], 1000)
    c, d = stream(sys, "unix")
    sys.send(c, b"hello")
    return {
        "pipe": pipe(sys, b"hello")[0],
        "tcp": b,
        "unix": d,
        "file": memfd(sys, b"hello"),
        "null": sys.open("/dev/null", O_RDWR),
        "zero": sys.open("/dev/zero", O_RDWR),
        "full": sys.open("/dev/full", O_RDWR),
        "random": sys.open("/dev/random", O_RDWR),
        "urandom": sys.open("/dev/urandom", O_RDWR),
        "eventfd": sys.eventfd(1, O_NONBLOCK),
        "epoll": sys.epoll_create1(),
        "dir": sys.open("/tmp", O_RDONLY),
        "fdinfo": sys.open("/proc/self/fdinfo/0", O_RDONLY),
        "tcptable": sys.open("/proc/net/tcp", O_RDONLY),
        "sysctl": sys.open("/proc/sys/net/ipv4/tcp_syn_retries", O_RDONLY),
    }


# --- sendfile ---
@pytest.mark.parametrize("kind", ["pipe", "tcp", "unix", "file", "null", "urandom", "full", "eventfd", "epoll", "dir", "sysctl"])
def test_sendfile_kinds(world: World, kind: str) -> None:
    """What sendfile takes from what, into each kind of file; a source that can't seek goes into a pipe only, and not from a pipe."""

    def main(sys: Syscalls) -> None:
        got = {name: err(sys.sendfile, targets(sys)[kind], fd, None, 8) for name, fd in sources(sys).items()}
        offset = {name: err(sys.sendfile, targets(sys)[kind], fd, 0, 8) for name, fd in sources(sys).items()}
        if kind in ("dir", "sysctl"):
            assert set(got.values()) == {"EBADF"}
            assert offset == {name: "ESPIPE" if name in ("pipe", "tcp", "unix", "eventfd", "epoll") else "EBADF" for name in got}
            return
        works = kind in ("pipe", "tcp", "unix", "file", "null", "urandom")
        few = 5 if works else "EINVAL"
        many = 8 if works else "EINVAL"
        assert got == {
            "pipe": "EINVAL",
            "tcp": 5 if kind == "pipe" else "EINVAL",
            "unix": 5 if kind == "pipe" else "EINVAL",
            "file": few,
            "null": "EINVAL",
            "zero": many,
            "full": many,
            "random": many,
            "urandom": many,
            "eventfd": "EINVAL",
            "epoll": "EINVAL",
            "dir": "EINVAL",
            "fdinfo": "EINVAL",
            "tcptable": "EINVAL",
            "sysctl": 2 if works else "EINVAL",
        }
        assert offset == got | dict.fromkeys(("pipe", "tcp", "unix", "eventfd", "epoll"), "ESPIPE")

    world.run(main)


def test_sendfile_offsets(world: World) -> None:
    """With an offset the source's position stays; without one it moves; the target's moves either way.  0 at the end."""

    def main(sys: Syscalls) -> None:
        source, target = memfd(sys, b"0123456789"), memfd(sys)

        def positions() -> tuple[int, int]:
            return sys.lseek(source, 0, SEEK_CUR), sys.lseek(target, 0, SEEK_CUR)

        assert (sys.sendfile(target, source, 8, 5), positions()) == (2, (0, 2))
        assert (sys.sendfile(target, source, None, 3), positions()) == (3, (3, 5))
        assert sys.pread(target, 9, 0) == b"89012"
        assert [sys.sendfile(target, source, 50, 5), sys.sendfile(target, source, None, 0), sys.sendfile(target, source, 0, 0)] == [0, 0, 0]
        assert err(sys.sendfile, target, source, -1, 5) == "EINVAL"
        assert err(sys.sendfile, target, source, 2**63 - 1, 5) == "EINVAL"
        assert sys.sendfile(target, source, 0, 2**63 - 1) == 10
        assert sys.sendfile(source, source, 0, 3) == 3
        assert sys.pread(source, 20, 0) == b"0120126789"

    world.run(main)


def test_sendfile_modes(world: World) -> None:
    """EBADF for what is not open that way, the source first; O_APPEND is EINVAL, even for nothing."""

    def main(sys: Syscalls) -> None:
        fd, target = memfd(sys, b"0123456789"), memfd(sys)
        name = f"/proc/self/fd/{fd}"
        ro, wo, append = sys.open(name, O_RDONLY), sys.open(name, O_WRONLY), sys.open(name, O_RDWR | O_APPEND)
        assert [err(sys.sendfile, ro, fd, 0, n) for n in (1, 0)] == ["EBADF"] * 2
        assert err(sys.sendfile, target, wo, 0, 1) == "EBADF"
        assert [err(sys.sendfile, append, fd, 0, n) for n in (1, 0)] == ["EINVAL"] * 2
        assert [err(sys.sendfile, 99, fd, 0, 1), err(sys.sendfile, target, 99, 0, 1)] == ["EBADF"] * 2
        # The source is judged before the target is looked at.
        assert err(sys.sendfile, 99, pipe(sys)[0], 0, 1) == "ESPIPE"
        assert err(sys.sendfile, 99, fd, -1, 1) == "EINVAL"

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_sendfile_to_a_full_socket(world: World, kind: str) -> None:
    """A non-blocking socket takes a part, then EAGAIN; the source's position tells how much, and every byte arrives."""

    def main(sys: Syscalls) -> None:
        data = bytes(i // 3 % 256 for i in range(1_000_000))
        source = memfd(sys, data)
        a, b = stream(sys, kind, 16384)
        sent = 0
        got = b""
        while len(got) < len(data):
            n = err(sys.sendfile, a, source, None, len(data))
            if n != "EAGAIN":
                sent += n
                assert sys.lseek(source, 0, SEEK_CUR) == sent
            sys.poll([(b, POLLIN)], 1000)
            part = err(sys.read, b, 50_000)
            got += b"" if part == "EAGAIN" else part
        assert got == data
        assert sys.sendfile(a, source, None, 5) == 0

    world.run(main)


def test_sendfile_to_nobody(world: World) -> None:
    """EPIPE for a socket whose peer has gone, and for a pipe without readers; the source stays where it was."""

    def main(sys: Syscalls) -> None:
        source = memfd(sys, b"hello")
        a, b = stream(sys, "unix")
        r, w = pipe(sys)
        sys.close(b)
        sys.close(r)
        assert [err(sys.sendfile, a, source, None, 5), err(sys.sendfile, w, source, None, 5)] == ["EPIPE"] * 2
        assert sys.lseek(source, 0, SEEK_CUR) == 0

    world.run(main)


def test_sendfile_fills_a_pipe(world: World) -> None:
    """A pipe takes what it has buffers for, one a page of the file: fewer bytes when the first is not whole.  It does not wait for more."""

    def main(sys: Syscalls) -> None:
        source = memfd(sys, bytes(300_000))
        for offset, n, wanted, slots in (
            (0, 1, 1, 15),
            (0, 4096, 4096, 15),
            (0, 5000, 5000, 14),
            (0, 10**5, FULL, 0),
            (100, FULL, FULL - 100, 0),
        ):
            ends = pipe(sys)
            assert sys.sendfile(ends[1], source, offset, n) == wanted
            assert holds(sys, ends) == (wanted, "IN|RDNORM", "OUT|WRNORM" if slots else "0")
            assert free_slots(sys, ends[1]) == slots
        _, w = pipe(sys, b"x")
        assert sys.sendfile(w, source, 0, FULL) == FULL - PAGE_SIZE
        assert err(sys.write, w, b"x") == "EAGAIN"
        # Even one that may sleep.
        _, w = pipe(sys, flags=0)
        assert sys.sendfile(w, source, 0, 200_000) == FULL

    world.run(main)


def test_small_pieces_fill_a_pipe(world: World) -> None:
    """Each sendfile takes a buffer, however small; and a write does not join a page that is the file's."""

    def main(sys: Syscalls) -> None:
        source = memfd(sys, bytes(10))
        r, w = pipe(sys)
        assert [err(sys.sendfile, w, source, 0, 10) for _ in range(17)] == [10] * 16 + ["EAGAIN"]
        assert err(sys.write, w, b"x") == "EAGAIN"
        r, w = pipe(sys)
        sys.sendfile(w, source, 0, 10)
        sys.write(w, b"q")
        assert free_slots(sys, w) == 14
        sys.fcntl(r, F_SETFL, O_NONBLOCK)
        assert drain(sys, r) == 25

    world.run(main)


def test_holes_take_buffers_too(world: World) -> None:
    """A hole is a page of zeros like any other; /dev/zero is read into fresh pages."""

    def main(sys: Syscalls) -> None:
        source = memfd(sys)
        sys.ftruncate(source, 10 * PAGE_SIZE)
        _, w = pipe(sys)
        assert sys.sendfile(w, source, 0, 200_000) == 10 * PAGE_SIZE
        assert free_slots(sys, w) == 6
        _, w = pipe(sys)
        assert sys.splice(sys.open("/dev/zero", O_RDONLY), None, w, None, 10_000) == 10_000
        assert free_slots(sys, w) == 13

    world.run(main)


# --- splice: what goes ---
@pytest.mark.parametrize("kind", ["pipe", "tcp", "unix", "file", "null", "urandom", "full", "eventfd", "epoll", "dir", "sysctl"])
def test_splice_out_of_a_pipe(world: World, kind: str) -> None:
    """From a pipe into each kind of file; what can't take it leaves the pipe as it was."""

    def main(sys: Syscalls) -> None:
        ends = pipe(sys, b"hello")
        out = targets(sys)[kind]
        wanted = {"full": "EINVAL", "eventfd": "EINVAL", "epoll": "EINVAL", "dir": "EBADF", "sysctl": "EBADF"}.get(kind, 5)
        assert err(sys.splice, ends[0], None, out, None, 8) == wanted
        assert holds(sys, ends)[:2] == ((0, "0") if wanted == 5 else (5, "IN|RDNORM"))
        assert err(sys.splice, ends[0], None, out, None, 8) == ("EAGAIN" if wanted == 5 else wanted)
        offset = err(sys.splice, pipe(sys, b"hello")[0], None, out, 0, 8)
        assert offset == {"pipe": "ESPIPE", "tcp": "EINVAL", "unix": "EINVAL"}.get(kind, wanted)

    world.run(main)


def test_splice_into_a_pipe(world: World) -> None:
    """From each kind of file into a pipe."""

    def main(sys: Syscalls) -> None:
        got = {}
        for name, fd in sources(sys).items():
            w = pipe(sys)[1]
            got[name] = [err(sys.splice, fd, None, w, None, 8), err(sys.splice, fd, None, w, None, 8), err(sys.splice, fd, 0, w, None, 8)]
        assert got == {
            "pipe": [5, "EAGAIN", "ESPIPE"],
            "tcp": [5, "EAGAIN", "EINVAL"],
            "unix": [5, "EAGAIN", "EINVAL"],
            "file": [5, 0, 5],
            "zero": [8, 8, 8],
            "full": [8, 8, 8],
            "random": [8, 8, 8],
            "urandom": [8, 8, 8],
            "sysctl": [2, 0, 2],
        } | {name: ["EINVAL"] * 3 for name in ("null", "eventfd", "epoll", "dir", "fdinfo", "tcptable")}

    world.run(main)


def test_splice_arguments(world: World) -> None:
    """One end is a pipe and has no offset; the two are not one; the flags are known, unless there is nothing to do."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys, b"hello")
        r2, w2 = pipe(sys)
        file, append = memfd(sys, b"0123456789"), memfd(sys)
        sys.fcntl(append, F_SETFL, O_APPEND)
        ro, wo = sys.open(f"/proc/self/fd/{file}", O_RDONLY), sys.open(f"/proc/self/fd/{file}", O_WRONLY)
        assert err(sys.splice, r, None, w, None, 5) == "EINVAL"
        assert [err(sys.splice, r, 0, w2, None, 5), err(sys.splice, r, None, w2, 0, 5)] == ["ESPIPE"] * 2
        assert [err(sys.splice, r, None, w2, None, 1, 16), err(sys.splice, r, None, w2, None, 0, 16)] == ["EINVAL", 0]
        assert err(sys.splice, 99, None, 98, None, 0) == 0
        assert [err(sys.splice, 99, None, w, None, 1), err(sys.splice, r, None, 99, None, 1)] == ["EBADF"] * 2
        assert [err(sys.splice, w, None, w2, None, 1), err(sys.splice, r, None, r2, None, 1)] == ["EBADF"] * 2
        assert [err(sys.splice, r, None, ro, None, 1), err(sys.splice, wo, None, w2, None, 1)] == ["EBADF"] * 2
        assert err(sys.splice, file, None, memfd(sys), None, 3) == "EINVAL"
        assert [err(sys.splice, file, -1, w2, None, 3), err(sys.splice, r, None, file, -1, 3)] == ["EINVAL"] * 2
        assert [err(sys.splice, r, None, append, offset, 1) for offset in (None, 0)] == ["EINVAL"] * 2
        assert sys.splice(r, None, w2, None, 1, SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE) == 1

    world.run(main)


def test_splice_positions(world: World) -> None:
    """An offset leaves the file's position alone; 0 at the end."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        file = memfd(sys, b"0123456789")
        assert [sys.splice(file, None, w, None, 3), sys.lseek(file, 0, SEEK_CUR)] == [3, 3]
        assert [sys.splice(file, 8, w, None, 5), sys.lseek(file, 0, SEEK_CUR)] == [2, 3]
        assert sys.splice(file, 50, w, None, 5) == 0
        assert sys.splice(r, None, file, None, 2) == 2
        assert sys.lseek(file, 0, SEEK_CUR) == 5
        assert sys.splice(r, None, file, 0, 9) == 3
        assert sys.pread(file, 20, 0) == b"2890156789"

    world.run(main)


# --- splice: ends, room, sleep ---
def test_splice_at_the_end_of_a_pipe(world: World) -> None:
    """An empty pipe without writers is the end: 0, wherever it goes.  With writers it is EAGAIN."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        outs = [pipe(sys)[1], memfd(sys), stream(sys, "unix")[0]]
        assert [err(sys.splice, r, None, out, None, 5) for out in outs] == ["EAGAIN"] * 3
        sys.close(w)
        assert [err(sys.splice, r, None, out, None, 5) for out in outs] == [0] * 3

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_splice_at_the_end_of_a_socket(world: World, kind: str) -> None:
    """A socket whose peer has gone is the end; one that was never connected an error."""

    def main(sys: Syscalls) -> None:
        a, b = stream(sys, kind)
        w = pipe(sys)[1]
        sys.close(b)
        sys.poll([(a, POLLIN)], 1000)
        assert err(sys.splice, a, None, w, None, 5) == 0
        if kind == "unix":
            assert err(sys.splice, sys.socket(AF_UNIX, SOCK_STREAM), None, w, None, 5) == "EINVAL"
            assert err(sys.splice, pipe(sys, b"x")[0], None, sys.socket(AF_UNIX, SOCK_STREAM), None, 5) == "ENOTCONN"
        else:
            listening, _ = listener(sys)
            assert err(sys.splice, listening, None, w, None, 5) == "ENOTCONN"

    world.run(main)


def test_splice_to_nobody(world: World) -> None:
    """EPIPE: a pipe without readers, once there is something to move; a socket without a peer.  The pipe keeps its bytes."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        sys.close(r)
        assert err(sys.splice, memfd(sys, b"hello"), 0, w, None, 5) == "EPIPE"
        assert err(sys.splice, pipe(sys, b"x")[0], None, w, None, 5) == "EPIPE"
        assert err(sys.splice, pipe(sys)[0], None, w, None, 5) == "EAGAIN"
        a, b = stream(sys, "unix")
        sys.close(b)
        ends = pipe(sys, b"hello")
        assert err(sys.splice, ends[0], None, a, None, 5) == "EPIPE"
        assert holds(sys, ends) == (5, "IN|RDNORM", "OUT|WRNORM")

    world.run(main)


def test_splice_to_a_full_pipe(world: World) -> None:
    """EAGAIN, whatever the source has; to a full socket too, and the pipe keeps its bytes."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        fill(sys, w)
        a, b = stream(sys, "unix")
        sys.send(a, b"x")
        assert [err(sys.splice, fd, None, w, None, 5) for fd in (memfd(sys, b"x"), b, pipe(sys, b"x")[0])] == ["EAGAIN"] * 3
        fill(sys, a)
        r, w = pipe(sys, b"abc")
        assert err(sys.splice, r, None, a, None, 3) == "EAGAIN"
        assert sys.read(r, 9) == b"abc"

    world.run(main)


def test_splice_moves_a_whole_pipe(world: World) -> None:
    """From pipe to pipe the buffers themselves move: a full one empties into an empty one at once."""

    def main(sys: Syscalls) -> None:
        a, b = pipe(sys), pipe(sys)
        fill(sys, a[1])
        assert sys.splice(a[0], None, b[1], None, 10**6) == FULL
        assert holds(sys, a) == (0, "0", "OUT|WRNORM")
        assert holds(sys, b) == (FULL, "IN|RDNORM", "0")

    world.run(main)


def test_splice_splits_a_buffer(world: World) -> None:
    """A part of a buffer leaves the rest, to which a write may add; what has moved is not added to."""

    def main(sys: Syscalls) -> None:
        a, b = pipe(sys, b"abcdef"), pipe(sys)
        assert sys.splice(a[0], None, b[1], None, 3) == 3
        sys.write(a[1], b"Y")
        sys.write(b[1], b"X")
        assert [free_slots(sys, a[1]), free_slots(sys, b[1])] == [15, 14]
        assert [sys.read(a[0], 4), sys.read(b[0], 4)] == [b"defY", b"abcX"]

    world.run(main)


def test_splice_of_packets(world: World) -> None:
    """Packets stay packets on their way to another pipe."""

    def main(sys: Syscalls) -> None:
        a, b = pipe(sys, flags=O_NONBLOCK | O_DIRECT), pipe(sys)
        sys.write(a[1], b"aa")
        sys.write(a[1], b"bb")
        assert sys.splice(a[0], None, b[1], None, 3) == 3
        assert [sys.read(b[0], 9), sys.read(b[0], 9), sys.read(a[0], 9)] == [b"aa", b"b", b"b"]

    world.run(main)


def test_splice_from_a_unix_socket_takes_its_buffers(world: World) -> None:
    """Each send is a buffer of the pipe: its head, and then pieces of 32 KiB; a pipe of 16 takes 16 single bytes."""

    def main(sys: Syscalls) -> None:
        for sizes, wanted, slots in (([1] * 40, 16, 0), ([5000], 5000, 14), ([10**5], FULL, 12), ([10, 20], 30, 14)):
            a, b = stream(sys, "unix")
            for size in sizes:
                sys.send(a, bytes(size))
            r, w = pipe(sys)
            assert sys.splice(b, None, w, None, 10**6) == wanted
            assert [sys.ioctl(r, FIONREAD), sys.ioctl(b, FIONREAD)] == [wanted, sum(sizes) - wanted]
            assert free_slots(sys, w) == slots

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_splice_socket_to_socket(world: World, kind: str) -> None:
    """A proxy's way: socket, pipe, socket; every byte arrives."""

    def main(sys: Syscalls) -> None:
        (a, b), (c, d) = stream(sys, kind), stream(sys, kind)
        r, w = pipe(sys)
        data = bytes(i // 5 % 256 for i in range(100_000))
        sent = 0
        got = b""
        while len(got) < len(data):
            n = err(sys.send, a, data[sent:])
            sent += 0 if n == "EAGAIN" else n
            sys.poll([(b, POLLIN)], 100)
            err(sys.splice, b, None, w, None, 10**6)
            err(sys.splice, r, None, c, None, 10**6)
            sys.poll([(d, POLLIN)], 100)
            part = err(sys.recv, d, 10**6)
            got += b"" if part == "EAGAIN" else part
        assert got == data

    world.run(main)


@pytest.mark.parametrize("kind", ["pipe", "file", "unix"])
def test_splice_sleeps_for_data(world: World, kind: str) -> None:
    """A splice from an empty pipe sleeps for the first bytes, and only for them."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        out = {"pipe": lambda: sys.pipe2()[1], "file": lambda: memfd(sys), "unix": lambda: sys.socketpair(AF_UNIX, SOCK_STREAM)[0]}[kind]()
        done: list[int] = []
        tid = start(sys, lambda sys: done.append(sys.splice(r, None, out, None, 10)))
        assert done == []
        sys.write(w, b"abc")
        sys.join(tid)
        assert done == [3]

    world.run(main)


def test_splice_sleeps_for_room(world: World) -> None:
    """A splice into a full pipe sleeps until a buffer is free."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        nonblocking(sys, w)
        fill(sys, w)
        sys.fcntl(w, F_SETFL, 0)
        source = memfd(sys, b"hello")
        done: list[int] = []
        tid = start(sys, lambda sys: done.append(sys.splice(source, None, w, None, 10)))
        sys.read(r, 1)
        settle(sys)
        assert done == []
        sys.read(r, PAGE_SIZE - 1)
        sys.join(tid)
        assert done == [5]

    world.run(main)


def test_splice_wakes_the_other_ends(world: World) -> None:
    """A reader sleeps until bytes are spliced in, a writer until they are spliced out."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        got: list[bytes] = []
        tid = start(sys, lambda sys: got.append(sys.read(r, 9)))
        sys.splice(memfd(sys, b"hello"), None, w, None, 5)
        sys.join(tid)
        assert got == [b"hello"]
        nonblocking(sys, w)
        fill(sys, w)
        sys.fcntl(w, F_SETFL, 0)
        tid = start(sys, lambda sys: got.append(bytes([sys.write(w, b"x")])))
        sys.splice(r, None, memfd(sys), None, PAGE_SIZE)
        sys.join(tid)
        assert got == [b"hello", b"\1"]

    world.run(main)


def test_splice_is_an_edge(world: World) -> None:
    """Every splice into a pipe is an edge for who reads it; one out of it is one for who writes, if it used a buffer up, full or not."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        source = memfd(sys, b"0123456789")
        ins, outs = watch(sys, r, EPOLLIN | EPOLLET), watch(sys, w, EPOLLOUT | EPOLLET)
        seen = [(ready(sys, ins), ready(sys, outs))]
        steps = [
            lambda: sys.splice(source, 0, w, None, 5),
            lambda: sys.splice(source, 0, w, None, 5),
            lambda: sys.splice(r, None, memfd(sys), None, 3),
            lambda: sys.splice(r, None, memfd(sys), None, 2),
            lambda: sys.splice(r, None, pipe(sys)[1], None, 3),
            lambda: sys.splice(r, None, pipe(sys)[1], None, 2),
            lambda: sys.sendfile(w, source, 0, 1),
            lambda: len(sys.read(r, 9)),
        ]
        for step in steps:
            step()
            seen.append((ready(sys, ins), ready(sys, outs)))
        read, write, none = [(r, "IN")], [(w, "OUT")], []
        assert seen == [
            (none, write),
            (read, none),
            (read, none),
            (none, none),
            (none, write),
            (none, none),
            (none, write),
            (read, none),
            (none, none),
        ]

    world.run(main)


@pytest.mark.parametrize("pipe_flags", [0, O_NONBLOCK])
def test_splice_nonblock_of_sockets(world: World, pipe_flags: int) -> None:
    """A blocking AF_UNIX stream heeds SPLICE_F_NONBLOCK and the pipe's O_NONBLOCK; a non-blocking socket never sleeps."""

    def main(sys: Syscalls) -> None:
        a, _ = sys.socketpair(AF_UNIX, SOCK_STREAM)
        w = sys.pipe2(pipe_flags)[1]
        assert err(sys.splice, a, None, w, None, 5, SPLICE_F_NONBLOCK) == "EAGAIN"
        if pipe_flags:
            assert err(sys.splice, a, None, w, None, 5) == "EAGAIN"
        for kind in ("unix", "tcp"):
            assert err(sys.splice, stream(sys, kind)[0], None, w, None, 5) == "EAGAIN"

    world.run(main)


def test_splice_of_tcp_ignores_nonblock(world: World) -> None:
    """A blocking TCP socket sleeps, whatever SPLICE_F_NONBLOCK and the pipe say."""

    def main(sys: Syscalls) -> None:
        a, b = tcp_pair(sys)
        r, w = sys.pipe2(O_NONBLOCK)
        done: list[int] = []
        tid = start(sys, lambda sys: done.append(sys.splice(b, None, w, None, 9, SPLICE_F_NONBLOCK)))
        assert done == []
        sys.send(a, b"abc")
        sys.join(tid)
        assert (done, sys.read(r, 9)) == ([3], b"abc")

    world.run(main)


def test_splice_more(world: World) -> None:
    """SPLICE_F_MORE holds back a short segment or a datagram, until more comes."""

    def main(sys: Syscalls) -> None:
        a, b = tcp_pair(sys)
        server, peer = sys.socket(AF_INET, SOCK_DGRAM), sys.socket(AF_INET, SOCK_DGRAM)
        sys.bind(server, ("127.0.0.1", 0))
        sys.connect(peer, sys.getsockname(server))
        for out, at in ((a, b), (peer, server)):
            assert sys.splice(pipe(sys, b"abc")[0], None, out, None, 3, SPLICE_F_MORE) == 3
            settle(sys)
            assert sys.ioctl(at, FIONREAD) == 0
            sys.send(out, b"d")
            settle(sys)
            assert sys.recv(at, 9) == b"abcd"
        # The end of a file is the end of a sendfile.
        assert sys.sendfile(peer, memfd(sys, b"hello"), 0, 100) == 5
        assert sys.recv(server, 9) == b"hello"

    world.run(main)


def test_splice_of_datagrams(world: World) -> None:
    """One datagram goes into the pipe, and what did not fit is lost; what comes out of the pipe is one datagram."""

    def main(sys: Syscalls) -> None:
        for kind in (SOCK_DGRAM, SOCK_SEQPACKET):
            a, b = sys.socketpair(AF_UNIX, kind | SOCK_NONBLOCK)
            sys.send(a, b"one")
            sys.send(a, b"two")
            r, w = pipe(sys)
            assert [sys.splice(b, None, w, None, 2), sys.read(r, 9)] == [2, b"on"]
            assert [sys.splice(b, None, w, None, 100), sys.read(r, 9)] == [3, b"two"]
            assert err(sys.splice, b, None, w, None, 100) == "EAGAIN"
            packets = pipe(sys, b"aa", O_NONBLOCK | O_DIRECT)
            sys.write(packets[1], b"bb")
            assert [sys.splice(packets[0], None, a, None, 100), sys.recv(b, 9)] == [4, b"aabb"]

    world.run(main)


def test_sigpipe(world: World) -> None:
    """EPIPE comes with SIGPIPE: into a pipe without readers and into a socket without a peer, even when there would be nothing to move."""

    def main(sys: Syscalls) -> None:
        got: list[int] = []
        sys.sigaction(SIGPIPE, got.append)
        source = memfd(sys, b"hello")
        r, w = pipe(sys)
        sys.close(r)
        a, b = stream(sys, "unix")
        sys.close(b)
        ended = pipe(sys)
        sys.close(ended[1])
        calls = [
            (sys.splice, source, 0, w, None, 5),
            (sys.sendfile, w, source, 0, 0),
            (sys.splice, pipe(sys, b"x")[0], None, w, None, 5),
            (sys.splice, ended[0], None, w, None, 5),
            (sys.splice, pipe(sys, b"x")[0], None, a, None, 5),
            (sys.sendfile, a, source, 0, 5),
        ]
        for n, (call, *args) in enumerate(calls, 1):
            assert err(call, *args) == "EPIPE"
            assert len(got) == n

    world.run(main)


def test_splice_one_end_nonblocking(world: World) -> None:
    """Between pipes, one O_NONBLOCK end is enough for EAGAIN."""

    def main(sys: Syscalls) -> None:
        slow, fast = sys.pipe2(), pipe(sys)
        assert err(sys.splice, slow[0], None, fast[1], None, 5) == "EAGAIN"
        assert err(sys.splice, fast[0], None, slow[1], None, 5) == "EAGAIN"
        assert err(sys.splice, fast[0], None, memfd(sys), None, 5) == "EAGAIN"

    world.run(main)
