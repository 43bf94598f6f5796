"""Character devices (fs/char_dev.c, drivers/tty): a node of /dev knows how to open its driver's file; and the console behind 0, 1 and 2."""

import errno
import sys
from collections.abc import Callable
from typing import TypeAlias

from simkernel.errors import UsageError, oserror
from simkernel.kernel.file import File
from simkernel.kernel.namei import DirNode, Node, Vfs
from simkernel.kernel.sched import Sched
from simkernel.kernel.shmem import ShmemDir

# A driver's open: the machine's scheduler and the flags of open(2), as the new file keeps them.
OpenDevice: TypeAlias = Callable[[Sched, int], File]


class ChrNode(Node):
    """The inode of a device: an open of it is the driver's."""

    __slots__ = ("driver",)

    def __init__(self, i_ino: int, driver: OpenDevice) -> None:
        super().__init__(i_ino)
        self.driver = driver

    def open(self, sched: Sched, f_flags: int) -> File:
        return self.driver(sched, f_flags)


class LinkNode(Node):
    """A symbolic link with a fixed target: /dev/fd, /dev/stdin."""

    __slots__ = ("path", "vfs")

    def __init__(self, i_ino: int, vfs: Vfs, path: bytes) -> None:
        super().__init__(i_ino)
        self.vfs = vfs
        self.path = path

    def get_link(self) -> Node | None:
        target = self.vfs.path_lookup(self.path).node
        if target is None:
            raise oserror(errno.ENOENT)
        return target


def dev_directory(vfs: Vfs) -> ShmemDir:
    """/dev of a tree: devtmpfs, so that programs may make files there too."""
    dev = vfs.root.lookup(b"dev")
    assert isinstance(dev, ShmemDir)
    return dev


def register_chrdev(vfs: Vfs, name: str, driver: OpenDevice) -> None:
    """Make /dev/``name``; each open of it calls ``driver(sched, f_flags)``, which returns the new File.

    UsageError for a name that is there, or is no single component.
    """
    dev: DirNode = dev_directory(vfs)
    raw = name.encode()
    if not raw or b"/" in raw or raw in (b".", b"..") or dev.lookup(raw) is not None:
        raise UsageError(f"/dev/{name} can't be registered: the name is taken, or is none")
    dev.mknod(raw, ChrNode(vfs.get_next_ino(), driver))


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
        return ChrNode(0, lambda sched, f_flags: Console(sched, f_flags, stderr))
