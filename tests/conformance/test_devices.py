"""/dev/null, zero, full, random and urandom."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLL_CTL_ADD,
    F_GETFL,
    F_SETFL,
    FIONREAD,
    O_APPEND,
    O_LARGEFILE,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    POLLIN,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
)

from .helpers import DATA, World, err, mask, ready

DEVICES = ["null", "zero", "full", "urandom", "random"]


def test_null(world: World) -> None:
    """Whatever is written is gone, and there is nothing to read."""

    def main(sys: Syscalls) -> None:
        fd = sys.open("/dev/null", O_RDWR)
        assert sys.write(fd, b"abc") == 3
        assert sys.writev(fd, [b"a", b"", b"bc"]) == 3
        assert sys.read(fd, 10) == b""
        assert sys.fcntl(fd, F_GETFL) == O_RDWR | O_LARGEFILE
        sys.fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND)
        assert sys.fcntl(fd, F_GETFL) == O_RDWR | O_LARGEFILE | O_NONBLOCK | O_APPEND

    world.run(main)


def test_zero_and_full(world: World) -> None:
    """Both read zeros without end; /dev/full takes not even nothing: ENOSPC."""

    def main(sys: Syscalls) -> None:
        zero, full = sys.open("/dev/zero", O_RDWR), sys.open("/dev/full", O_RDWR)
        assert sys.read(zero, 5) == sys.read(full, 5) == sys.pread(zero, 5, 2**40) == bytes(5)
        assert len(sys.read(zero, 100_000)) == 100_000
        assert sys.readv(zero, [2, 3]) == [bytes(2), bytes(3)]
        assert sys.write(zero, b"abc") == 3
        assert [err(sys.write, full, data) for data in (b"x", b"")] == ["ENOSPC"] * 2
        assert err(sys.writev, full, [b"a", b"b"]) == "ENOSPC"
        assert err(sys.pwrite, full, b"x", 0) == "ENOSPC"

    world.run(main)


def test_urandom(world: World) -> None:
    """As many bytes as asked for, and others each time; what is written counts as entropy."""

    def main(sys: Syscalls) -> None:
        for name in ("random", "urandom"):
            fd = sys.open(f"/dev/{name}", O_RDWR)
            a, b = sys.read(fd, 64), sys.read(fd, 64)
            assert len(a) == len(b) == 64
            assert a != b
            assert sys.read(fd, 0) == b""
            assert sys.write(fd, b"abc") == 3
            assert sys.pwrite(fd, b"abc", 7) == 3

    world.run(main)


@pytest.mark.parametrize("name", DEVICES)
def test_positions(world: World, name: str) -> None:
    """Their position is 0, whatever lseek is told; there is nothing to truncate."""

    def main(sys: Syscalls) -> None:
        fd = sys.open(f"/dev/{name}", O_RDWR)
        assert [sys.lseek(fd, *where) for where in ((5, SEEK_SET), (-5, SEEK_SET), (0, SEEK_END))] == [0, 0, 0]
        sys.read(fd, 3)
        assert sys.lseek(fd, 0, SEEK_CUR) == 0
        assert err(sys.lseek, fd, 0, 9) == "EINVAL"
        assert err(sys.pread, fd, 1, -1) == "EINVAL"
        assert err(sys.ftruncate, fd, 0) == "EINVAL"

    world.run(main)


@pytest.mark.parametrize("name", DEVICES)
def test_polls(world: World, name: str) -> None:
    """Fact 56: epoll takes none of them (EPERM) and poll says IN|OUT; but /dev/random has a poll of its own, and says IN."""

    def main(sys: Syscalls) -> None:
        fd, ep = sys.open(f"/dev/{name}", O_RDWR), sys.epoll_create1()
        if name == "random":
            sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, POLLIN)
            assert ready(sys, ep) == [(fd, "IN")]
            assert mask(sys, fd) == "IN|RDNORM"
        else:
            assert err(sys.epoll_ctl, ep, EPOLL_CTL_ADD, fd, POLLIN) == "EPERM"
            assert mask(sys, fd) == DATA

    world.run(main)


@pytest.mark.parametrize("name", DEVICES)
def test_fionread(world: World, name: str) -> None:
    """No device knows FIONREAD: ENOTTY, and EINVAL of those that have commands of their own."""

    def main(sys: Syscalls) -> None:
        assert err(sys.ioctl, sys.open(f"/dev/{name}", O_RDWR), FIONREAD) == ("EINVAL" if "random" in name else "ENOTTY")

    world.run(main)


def test_access_modes(world: World) -> None:
    """Devices are EBADF, too, when not open that way."""

    def main(sys: Syscalls) -> None:
        assert err(sys.write, sys.open("/dev/full", O_RDONLY), b"x") == "EBADF"
        assert err(sys.read, sys.open("/dev/zero", O_WRONLY), 1) == "EBADF"
        assert err(sys.pread, sys.open("/dev/zero", O_WRONLY), 1, 0) == "EBADF"

    world.run(main)


def test_open_again(world: World) -> None:
    """/dev/fd/N and /proc/self/fd/N open the device anew."""

    def main(sys: Syscalls) -> None:
        fd = sys.open("/dev/zero", O_RDONLY)
        assert sys.read(sys.open(f"/dev/fd/{fd}", O_RDONLY), 2) == bytes(2)
        assert err(sys.read, sys.open(f"/proc/self/fd/{fd}", O_WRONLY), 2) == "EBADF"

    world.run(main)
