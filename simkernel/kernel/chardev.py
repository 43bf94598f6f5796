"""Character devices (fs/char_dev.c, drivers/tty): a node of /dev knows how to open its driver's file; and the console behind 0, 1 and 2."""

import errno
import sys
from collections.abc import Callable
from typing import Final, TypeAlias

from simkernel.errors import UsageError, oserror
from simkernel.kernel.file import File
from simkernel.kernel.namei import DirNode, Node, Vfs
from simkernel.kernel.sched import Sched
from simkernel.kernel.shmem import ShmemDir
from simkernel.kernel.stat import DEVTMPFS_DEV, S_IFCHR, S_IFLNK, Kstat

# A driver's open: the machine's scheduler and the flags of open(2), as the new file keeps them.
OpenDevice: TypeAlias = Callable[[Sched, int], File]


def makedev(major: int, minor: int) -> int:
    """new_encode_dev, for the small numbers of here."""
    return major << 8 | minor


CONSOLE_RDEV: Final = makedev(5, 1)


class ChrNode(Node):
    """The inode of a device: an open of it is the driver's.  ``i_rdev`` is its number, as makedev(3) makes it."""

    __slots__ = ("driver", "i_rdev")

    def __init__(self, i_ino: int, driver: OpenDevice, i_rdev: int) -> None:
        super().__init__(i_ino)
        self.driver = driver
        self.i_rdev = i_rdev

    def open(self, sched: Sched, f_flags: int) -> File:
        file = self.driver(sched, f_flags)
        file.f_inode = self
        return file

    def getattr(self) -> Kstat:
        return Kstat(S_IFCHR | (0o600 if self.i_rdev == CONSOLE_RDEV else 0o666), DEVTMPFS_DEV, self.i_ino, rdev=self.i_rdev)


class LinkNode(Node):
    """A symbolic link with a fixed target: /dev/fd, /dev/stdin."""

    __slots__ = ("path", "vfs")

    def __init__(self, i_ino: int, vfs: Vfs, path: bytes) -> None:
        super().__init__(i_ino)
        self.vfs = vfs
        self.path = path

    def readlink(self) -> bytes:
        return self.path

    def getattr(self) -> Kstat:
        return Kstat(S_IFLNK | 0o777, DEVTMPFS_DEV, self.i_ino, len(self.path))

    def get_link(self) -> Node | None:
        target = self.vfs.path_lookup(self.path, self.vfs.root).node
        if target is None:
            raise oserror(errno.ENOENT)
        return target


def dev_directory(vfs: Vfs) -> ShmemDir:
    """/dev of a tree: devtmpfs, so that programs may make files there too."""
    dev = vfs.root.lookup(b"dev")
    assert isinstance(dev, ShmemDir)
    return dev


def register_chrdev(vfs: Vfs, name: str, driver: OpenDevice, rdev: int = 0) -> None:
    """Make /dev/``name``; each open of it calls ``driver(sched, f_flags)``, which returns the new File.

    ``rdev`` is the device's number; without one it gets the next of major 240, which is for local use.

    UsageError for a name that is there, or is no single component.
    """
    dev: DirNode = dev_directory(vfs)
    raw = name.encode()
    if not raw or b"/" in raw or raw in (b".", b"..") or dev.lookup(raw) is not None:
        raise UsageError(f"/dev/{name} can't be registered: the name is taken, or is none")
    ino = vfs.get_next_ino()
    dev.mknod(raw, ChrNode(ino, driver, rdev or makedev(240, ino)))


class Console(File):
    """/dev/console: what is written appears on the real stdout or stderr, a read is at the end."""

    __slots__ = ("stderr",)
    kind = "console"
    can_seek = False
    can_splice_write = True

    def __init__(self, sched: Sched, f_flags: int, stderr: bool) -> None:
        super().__init__(sched, f_flags)
        self.stderr = stderr

    def read(self, n: int) -> bytes:
        return b""

    def write(self, data: bytes) -> int:
        stream = sys.stderr if self.stderr else sys.stdout
        stream.write(data.decode("utf-8", "backslashreplace"))
        stream.flush()
        return len(data)

    def splice_write(self, data: bytes, pos: int, flags: int) -> int:
        """iter_file_splice_write, as for any tty."""
        return self.write(data)

    def inode(self) -> Node:
        stderr = self.stderr
        return ChrNode(0, lambda sched, f_flags: Console(sched, f_flags, stderr), CONSOLE_RDEV)

    def getattr(self) -> Kstat:
        return self.inode().getattr()

    def d_path(self) -> bytes:
        return b"/dev/console"
