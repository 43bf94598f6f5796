"""/dev/null, zero, full (drivers/char/mem.c), random and urandom (drivers/char/random.c)."""

import errno
from hashlib import sha256, shake_256

from simkernel.errors import oserror
from simkernel.kernel.chardev import CONSOLE_RDEV, Console, LinkNode, OpenDevice, dev_directory, makedev, register_chrdev
from simkernel.kernel.file import File
from simkernel.kernel.namei import Node, PosFile, Vfs
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.shmem import MAX_RW_COUNT
from simkernel.uapi import PAGE_SIZE, POLLIN, POLLRDNORM


class MemDevice(PosFile):
    """What these have in common: the position is always 0 (null_lseek), and there is nothing to truncate."""

    __slots__ = ()
    kind = "null"
    can_splice_write = True

    def read(self, n: int) -> bytes:
        if not self.readable:
            raise oserror(errno.EBADF)
        return self.pread(n, 0)

    def write(self, data: bytes) -> int:
        if not self.writable:
            raise oserror(errno.EBADF)
        return self.pwrite(data, 0)

    def llseek(self, offset: int, whence: int) -> int:
        """null_lseek: whatever is asked, the position is 0."""
        return 0

    def pread(self, n: int, pos: int) -> bytes:
        """read_null: at the end at once."""
        return b""

    def pwrite(self, data: bytes, pos: int) -> int:
        """write_null: all of it, gone."""
        return len(data)

    def splice_write(self, data: bytes, pos: int, flags: int) -> int:
        return self.pwrite(data, pos)

    def pages(self, n: int, slots: int) -> list[bytes]:
        """copy_splice_read: a read into fresh pages."""
        data = self.pread(min(n, slots * PAGE_SIZE), 0)
        return [data[i : i + PAGE_SIZE] for i in range(0, len(data), PAGE_SIZE)]


class ZeroDevice(MemDevice):
    """/dev/zero."""

    __slots__ = ()
    kind = "zero"

    def pread(self, n: int, pos: int) -> bytes:
        return bytes(min(n, MAX_RW_COUNT))

    def splice_read(self, n: int, pos: int, slots: int, flags: int) -> list[bytes]:
        return self.pages(n, slots)


class FullDevice(ZeroDevice):
    """/dev/full: zeros to read, and no room even for nothing."""

    __slots__ = ()
    kind = "full"
    can_splice_write = False

    def pwrite(self, data: bytes, pos: int) -> int:
        raise oserror(errno.ENOSPC)


class Crng:
    """The machine's random numbers: a key, stirred by a choice at each read, and SHAKE256 where Linux has ChaCha20.

    A run with the same choices reads the same bytes; without choices they are the same in every run, yet no read repeats another, so
    that whoever draws until a name is free gets there.
    """

    __slots__ = ("key", "sched")

    def __init__(self, sched: Sched) -> None:
        self.sched = sched
        self.key = b""

    def get_random_bytes(self, n: int) -> bytes:
        """``n`` bytes."""
        self.key = sha256(self.key + bytes([self.sched.choice.pick(256, "random")])).digest()
        return shake_256(self.key).digest(n)


class UrandomDevice(ZeroDevice):
    """/dev/urandom.  What is written to it is taken for entropy, of which there is enough."""

    __slots__ = ("crng",)
    kind = "urandom"

    def __init__(self, sched: Sched, node: Node, f_flags: int, crng: Crng) -> None:
        super().__init__(sched, node, f_flags)
        self.crng = crng

    def pread(self, n: int, pos: int) -> bytes:
        return self.crng.get_random_bytes(min(n, MAX_RW_COUNT)) if n else b""

    def fionread(self) -> int:
        """random_ioctl knows no such command."""
        raise oserror(errno.EINVAL)

    def ioctl(self, request: int) -> int:
        raise oserror(errno.EINVAL)


class RandomDevice(UrandomDevice):
    """/dev/random: the same, but it can be polled."""

    __slots__ = ()
    kind = "random"
    can_poll = True

    def poll(self, table: PollTable | None) -> int:
        """random_poll: ready since boot."""
        return POLLIN | POLLRDNORM


def no_tty(sched: Sched, f_flags: int) -> File:
    """tty_open_current_tty: no process has a controlling terminal."""
    raise oserror(errno.ENXIO)


def chr_dev_init(vfs: Vfs, crng: Crng) -> None:
    """Make the nodes of /dev."""
    dev = dev_directory(vfs)

    def register(name: str, minor: int, driver: OpenDevice) -> None:
        register_chrdev(vfs, name, driver, makedev(1, minor))

    def node(name: bytes) -> Node:
        found = dev.lookup(name)
        assert found is not None
        return found

    register("null", 3, lambda sched, f_flags: MemDevice(sched, node(b"null"), f_flags))
    register("zero", 5, lambda sched, f_flags: ZeroDevice(sched, node(b"zero"), f_flags))
    register("full", 7, lambda sched, f_flags: FullDevice(sched, node(b"full"), f_flags))
    register("random", 8, lambda sched, f_flags: RandomDevice(sched, node(b"random"), f_flags, crng))
    register("urandom", 9, lambda sched, f_flags: UrandomDevice(sched, node(b"urandom"), f_flags, crng))
    register_chrdev(vfs, "console", lambda sched, f_flags: Console(sched, f_flags, False), CONSOLE_RDEV)
    register_chrdev(vfs, "tty", no_tty, makedev(5, 0))
    links = ((b"fd", b""), (b"stdin", b"/0"), (b"stdout", b"/1"), (b"stderr", b"/2"))
    for name, path in links:
        dev.mknod(name, LinkNode(vfs.get_next_ino(), vfs, b"/proc/self/fd" + path))
