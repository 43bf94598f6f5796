"""Pipes: masks, capacity counted in pages, atomic writes, and what either end's close does."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    F_GETFD,
    F_GETFL,
    F_GETPIPE_SZ,
    F_SETPIPE_SZ,
    FD_CLOEXEC,
    FIONREAD,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    PIPE_BUF,
)

from .helpers import World, err, fill, mask, nonblocking, settle, start

PAGE = 4096


def pipe(sys: Syscalls, size: int = 0) -> tuple[int, int]:
    """A non-blocking pipe."""
    r, w = sys.pipe2(O_NONBLOCK)
    if size:
        sys.fcntl(w, F_SETPIPE_SZ, size)
    return r, w


def test_empty_pipe(world: World) -> None:
    """Raw values: reader 0, writer OUT; a non-blocking read is EAGAIN."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        assert (mask(sys, r), mask(sys, w)) == ("0", "OUT|WRNORM")
        assert err(sys.read, r, 9) == "EAGAIN"

    world.run(main)


def test_pipe_with_data(world: World) -> None:
    """Raw values: reader IN, writer OUT; FIONREAD counts, on either end."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        sys.write(w, b"abc")
        assert (mask(sys, r), mask(sys, w)) == ("IN|RDNORM", "OUT|WRNORM")
        assert (sys.ioctl(r, FIONREAD), sys.ioctl(w, FIONREAD)) == (3, 3)
        assert sys.read(r, 9) == b"abc"
        assert sys.ioctl(r, FIONREAD) == 0

    world.run(main)


def test_reader_after_the_writers_close(world: World) -> None:
    """Fact 107: IN|HUP while data is left, then HUP alone and b''."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        sys.write(w, b"x")
        sys.close(w)
        assert mask(sys, r) == "IN|HUP|RDNORM"
        assert sys.read(r, 9) == b"x"
        assert mask(sys, r) == "HUP"
        assert [sys.read(r, 9), sys.read(r, 9)] == [b"", b""]

    world.run(main)


def test_writer_after_the_readers_close(world: World) -> None:
    """Fact 108: OUT|ERR, and a write is EPIPE, even when data was left unread."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        sys.write(w, b"x")
        sys.close(r)
        assert mask(sys, w) == "OUT|ERR|WRNORM"
        assert err(sys.write, w, b"x") == "EPIPE"

    world.run(main)


def test_full_pipe_after_the_readers_close(world: World) -> None:
    """Fact 108: of a full pipe the mask is ERR without OUT."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        fill(sys, w)
        sys.close(r)
        assert mask(sys, w) == "ERR"
        assert err(sys.write, w, b"x") == "EPIPE"

    world.run(main)


def test_dups_keep_a_pipe_open(world: World) -> None:
    """Raw values: no HUP until the last write end is closed."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        twin = sys.dup(w)
        sys.close(w)
        assert mask(sys, r) == "0"
        assert err(sys.read, r, 9) == "EAGAIN"
        sys.close(twin)
        assert mask(sys, r) == "HUP"

    world.run(main)


@pytest.mark.parametrize("chunk", [4096, 65536, 100, 64])
def test_capacity(world: World, chunk: int) -> None:
    """Fact 109: 65,536 bytes, in pieces of whole pages, or of any size that fills up pages; the full pipe's mask is 0."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        expected = 65536 if chunk != 100 else 16 * (4096 // 100 * 100)
        assert fill(sys, w, chunk) == expected
        assert mask(sys, w) == "0"
        assert sys.ioctl(r, FIONREAD) == expected

    world.run(main)


def test_one_byte_writes_are_merged(world: World) -> None:
    """Fact 109: single bytes share pages, so that as many fit as in one write (two pages here)."""

    def main(sys: Syscalls) -> None:
        _, w = pipe(sys, 2 * PAGE)
        assert fill(sys, w, 1) == 2 * PAGE

    world.run(main)


def test_pieces_of_4095_bytes(world: World) -> None:
    """Fact 109: each needs a page of its own, so only 16 of them fit."""

    def main(sys: Syscalls) -> None:
        _, w = pipe(sys)
        assert fill(sys, w, 4095) == 16 * 4095

    world.run(main)


def test_pollout_needs_a_free_page(world: World) -> None:
    """Fact 110: one byte read from a full pipe frees no page: no OUT, EAGAIN; the page's last byte does."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        fill(sys, w)
        sys.read(r, 1)
        assert mask(sys, w) == "0"
        assert err(sys.write, w, b"x") == "EAGAIN"
        sys.read(r, PAGE - 1)
        assert mask(sys, w) == "OUT|WRNORM"
        assert err(sys.write, w, bytes(PAGE)) == PAGE
        assert err(sys.write, w, b"x") == "EAGAIN"

    world.run(main)


def test_pollout_is_pessimistic(world: World) -> None:
    """Fact 111: a pipe of one page with 100 bytes in it isn't OUT, yet 10 more fit into the page."""

    def main(sys: Syscalls) -> None:
        _, w = pipe(sys, PAGE)
        sys.write(w, bytes(100))
        assert mask(sys, w) == "0"
        assert err(sys.write, w, bytes(10)) == 10
        assert err(sys.write, w, bytes(PAGE - 110)) == PAGE - 110
        assert err(sys.write, w, b"x") == "EAGAIN"

    world.run(main)


def test_small_writes_are_atomic(world: World) -> None:
    """Fact 112: a write of at most PIPE_BUF bytes is taken whole or not at all."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        sys.write(w, bytes(15 * PAGE + 100))
        assert mask(sys, w) == "0"
        assert err(sys.write, w, bytes(PIPE_BUF)) == "EAGAIN"
        assert err(sys.write, w, bytes(3997)) == "EAGAIN"
        assert err(sys.write, w, bytes(3996)) == 3996
        assert sys.ioctl(r, FIONREAD) == 65536

    world.run(main)


def test_large_nonblocking_write_is_partial(world: World) -> None:
    """Fact 112: a larger one takes what fits."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        sys.write(w, bytes(14 * PAGE))
        assert err(sys.write, w, bytes(3 * PAGE)) == 2 * PAGE
        assert err(sys.write, w, bytes(3 * PAGE)) == "EAGAIN"
        sys.read(r, PAGE)
        assert err(sys.write, w, bytes(PAGE + 1)) == PAGE

    world.run(main)


def test_blocked_write_when_the_reader_closes(world: World) -> None:
    """Fact 113: the partial count; the next write is EPIPE."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.write, w, bytes(100_000))))
        assert got == []
        sys.close(r)
        sys.join(tid)
        assert got == [65536]
        assert err(sys.write, w, b"x") == "EPIPE"

    world.run(main)


def test_blocked_write_of_nothing_yet_when_the_reader_closes(world: World) -> None:
    """Fact 113: EPIPE at once when nothing had been taken."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        sys.write(w, bytes(65536))
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.write, w, b"x")))
        sys.close(r)
        sys.join(tid)
        assert got == ["EPIPE"]

    world.run(main)


def test_blocked_write_goes_on_when_read(world: World) -> None:
    """A blocking write returns when all of it is taken."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.write(w, bytes(150_000))))
        total = 0
        while total < 150_000:
            total += len(sys.read(r, 30_000))
        sys.join(tid)
        assert got == [150_000]

    world.run(main)


def test_blocked_read_wakes_with_data_or_eof(world: World) -> None:
    """A blocking read returns what there is, and b'' once the last writer has closed."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.read(r, 9)))
        sys.write(w, b"abc")
        sys.join(tid)
        tid = start(sys, lambda sys: got.append(sys.read(r, 9)))
        sys.close(w)
        sys.join(tid)
        assert got == [b"abc", b""]

    world.run(main)


def test_wrong_end(world: World) -> None:
    """Raw values: a read of the write end, and a write to the read end, are EBADF."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        assert (err(sys.read, w, 9), err(sys.write, r, b"x")) == ("EBADF", "EBADF")

    world.run(main)


def test_write_of_nothing(world: World) -> None:
    """Raw values: returns 0, even when the pipe is full or has no reader."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        assert sys.write(w, b"") == 0
        assert mask(sys, r) == "0"
        fill(sys, w)
        assert err(sys.write, w, b"") == 0
        sys.close(r)
        assert err(sys.write, w, b"") == 0

    world.run(main)


def test_pipe_size(world: World) -> None:
    """F_SETPIPE_SZ rounds up to a power of two of pages, returns the size, and is EBUSY below what is queued."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        assert (sys.fcntl(r, F_GETPIPE_SZ), sys.fcntl(w, F_GETPIPE_SZ)) == (65536, 65536)
        assert sys.fcntl(w, F_SETPIPE_SZ, 1) == PAGE
        assert sys.fcntl(r, F_SETPIPE_SZ, 3 * PAGE) == 4 * PAGE
        assert fill(sys, w) == 4 * PAGE
        assert err(sys.fcntl, w, F_SETPIPE_SZ, 2 * PAGE) == "EBUSY"
        assert sys.fcntl(w, F_GETPIPE_SZ) == 4 * PAGE
        assert err(sys.fcntl, sys.eventfd(), F_GETPIPE_SZ) == "EBADF"

    world.run(main)


def test_growing_a_full_pipe(world: World) -> None:
    """A larger size makes room at once."""

    def main(sys: Syscalls) -> None:
        _, w = pipe(sys, PAGE)
        fill(sys, w)
        assert mask(sys, w) == "0"
        sys.fcntl(w, F_SETPIPE_SZ, 2 * PAGE)
        assert mask(sys, w) == "OUT|WRNORM"
        assert fill(sys, w) == PAGE

    world.run(main)


def test_pipe2_flags(world: World) -> None:
    """O_NONBLOCK is for both ends, O_CLOEXEC too; another flag is EINVAL."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        assert (sys.fcntl(r, F_GETFL), sys.fcntl(w, F_GETFL)) == (O_RDONLY, O_WRONLY)
        assert (sys.fcntl(r, F_GETFD), sys.fcntl(w, F_GETFD)) == (0, 0)
        r, w = sys.pipe2(O_NONBLOCK | O_CLOEXEC)
        assert (sys.fcntl(r, F_GETFL), sys.fcntl(w, F_GETFL)) == (O_RDONLY | O_NONBLOCK, O_WRONLY | O_NONBLOCK)
        assert (sys.fcntl(r, F_GETFD), sys.fcntl(w, F_GETFD)) == (FD_CLOEXEC, FD_CLOEXEC)
        assert err(sys.pipe2, 1) == "EINVAL"

    world.run(main)


def test_nonblocking_is_each_ends_own(world: World) -> None:
    """O_NONBLOCK set on one end leaves the other blocking."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        nonblocking(sys, w)
        assert sys.fcntl(r, F_GETFL) == O_RDONLY

    world.run(main)


def test_sockets_calls_on_a_pipe(world: World) -> None:
    """send and recv on what is no socket are ENOTSOCK."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        assert (err(sys.recv, r, 9), err(sys.send, w, b"x")) == ("ENOTSOCK", "ENOTSOCK")
        assert (err(sys.accept4, r), err(sys.listen, r, 1)) == ("ENOTSOCK", "ENOTSOCK")

    world.run(main)


def test_child_keeps_a_pipe_open(world: World) -> None:
    """Fact 24, of pipes: a child's inherited write end keeps the reader without HUP until the child's exit."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        go_r, go_w = sys.pipe2()
        pid = sys.spawn(lambda sys: sys.read(go_r, 1))
        sys.close(w)
        settle(sys)
        assert mask(sys, r) == "0"
        sys.write(go_w, b"!")
        sys.waitpid(pid)
        assert mask(sys, r) == "HUP"

    world.run(main)


def test_writev_is_one_write(world: World) -> None:
    """A writev of at most PIPE_BUF bytes in all is atomic as well."""

    def main(sys: Syscalls) -> None:
        r, w = pipe(sys)
        assert sys.writev(w, [b"ab", b"cd"]) == 4
        assert sys.readv(r, [1, 9]) == [b"a", b"bcd"]
        sys.write(w, bytes(15 * PAGE + 4000))
        assert err(sys.writev, w, [bytes(50), bytes(50)]) == "EAGAIN"

    world.run(main)
