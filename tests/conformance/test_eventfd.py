"""eventfd: a counter of 64 bits."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, F_GETFD, F_GETFL, FD_CLOEXEC, O_NONBLOCK, O_RDWR

from .helpers import World, err, mask, settle, start

MAX = 2**64 - 2


def u64(value: int) -> bytes:
    """The 8 bytes that eventfd reads and writes; every machine this runs on is little-endian."""
    return value.to_bytes(8, "little")


def test_masks(world: World) -> None:
    """Fact 114: 0 is OUT, anything else IN|OUT, the greatest value IN only."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd(0, EFD_NONBLOCK)
        masks = [mask(sys, fd)]
        sys.write(fd, u64(1))
        masks.append(mask(sys, fd))
        sys.write(fd, u64(MAX - 1))
        masks.append(mask(sys, fd))
        assert masks == ["OUT", "IN|OUT", "IN"]

    world.run(main)


def test_overflow(world: World) -> None:
    """Fact 114: a write that would pass 2^64-2 is EAGAIN and changes nothing; 2^64-1 is never a value: EINVAL."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd(5, EFD_NONBLOCK)
        assert err(sys.write, fd, u64(MAX)) == "EAGAIN"
        assert err(sys.write, fd, u64(2**64 - 1)) == "EINVAL"
        assert sys.read(fd, 8) == u64(5)
        assert err(sys.write, fd, u64(MAX)) == 8
        assert err(sys.write, fd, u64(1)) == "EAGAIN"
        assert err(sys.write, fd, u64(0)) == 8
        assert sys.read(fd, 8) == u64(MAX)

    world.run(main)


def test_sizes(world: World) -> None:
    """Fact 114: fewer than 8 bytes are EINVAL; a read of more returns 8; a write of more is EINVAL on this kernel."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd(1, EFD_NONBLOCK)
        assert err(sys.write, fd, b"1234567") == "EINVAL"
        assert err(sys.read, fd, 7) == "EINVAL"
        assert err(sys.write, fd, bytes(16)) == "EINVAL"
        assert sys.read(fd, 16) == u64(1)

    world.run(main)


def test_read_resets(world: World) -> None:
    """A read returns the sum of the writes and makes it 0; of 0 it is EAGAIN."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd(3, EFD_NONBLOCK)
        sys.write(fd, u64(4))
        assert sys.read(fd, 8) == u64(7)
        assert err(sys.read, fd, 8) == "EAGAIN"
        sys.write(fd, u64(0))
        assert err(sys.read, fd, 8) == "EAGAIN"

    world.run(main)


def test_semaphore(world: World) -> None:
    """Raw values: with EFD_SEMAPHORE each read takes 1."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd(3, EFD_NONBLOCK | EFD_SEMAPHORE)
        assert [err(sys.read, fd, 8) for _ in range(4)] == [u64(1)] * 3 + ["EAGAIN"]

    world.run(main)


def test_blocked_read_wakes(world: World) -> None:
    """A blocking read of 0 sleeps until a write; a write of 0 doesn't end it."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.read(fd, 8)))
        sys.write(fd, u64(0))
        settle(sys)
        assert got == []
        sys.write(fd, u64(9))
        sys.join(tid)
        assert got == [u64(9)]

    world.run(main)


def test_blocked_write_wakes(world: World) -> None:
    """A blocking write that would overflow sleeps until a read makes room."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        sys.write(fd, u64(MAX))
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.write(fd, u64(2))))
        assert got == []
        assert sys.read(fd, 8) == u64(MAX)
        sys.join(tid)
        assert got == [8]
        assert sys.read(fd, 8) == u64(2)

    world.run(main)


def test_initial_value(world: World) -> None:
    """The initial value is a C unsigned int."""

    def main(sys: Syscalls) -> None:
        assert sys.read(sys.eventfd(2**32 - 1), 8) == u64(2**32 - 1)

    world.run(main)


@pytest.mark.parametrize(
    ("flags", "status", "fd_flags"),
    [(0, O_RDWR, 0), (EFD_NONBLOCK, O_RDWR | O_NONBLOCK, 0), (EFD_CLOEXEC, O_RDWR, FD_CLOEXEC), (EFD_SEMAPHORE, O_RDWR, 0)],
)
def test_flags(world: World, flags: int, status: int, fd_flags: int) -> None:
    """What fcntl says of each flag; an unknown one is EINVAL."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd(0, flags)
        assert (sys.fcntl(fd, F_GETFL), sys.fcntl(fd, F_GETFD)) == (status, fd_flags)
        assert err(sys.eventfd, 0, 2) == "EINVAL"

    world.run(main)


def test_eventfd_is_shared_over_fork(world: World) -> None:
    """A child's write is seen by the parent."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        pid = sys.spawn(lambda sys: sys.write(fd, u64(6)))
        assert sys.read(fd, 8) == u64(6)
        sys.waitpid(pid)

    world.run(main)
