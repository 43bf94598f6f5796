"""What stat(2) tells of an inode (fs/stat.c), and the devices that file systems have no disk for."""

import os
from typing import Final

from simkernel.kernel.clock import REALTIME_AT_BOOT
from simkernel.uapi import PAGE_SIZE

S_IFIFO: Final = 0o010000
S_IFCHR: Final = 0o020000
S_IFDIR: Final = 0o040000
S_IFREG: Final = 0o100000
S_IFLNK: Final = 0o120000
S_IFSOCK: Final = 0o140000
S_IFMT: Final = 0o170000

# Anonymous devices, major 0, numbered as they were seen on Linux 6.18.
SHM_DEV: Final = 1
PIDFS_DEV: Final = 5
DEVTMPFS_DEV: Final = 6
SOCKFS_DEV: Final = 9
PIPEFS_DEV: Final = 15
ANON_DEV: Final = 16
PROC_DEV: Final = 21
TMPFS_DEV: Final = 22
# eventfds, epolls and their like share one inode.
ANON_INO: Final = 1

PROC_BLKSIZE: Final = 1024
NSEC: Final = 1_000_000_000


class Kstat:
    """struct kstat, for root's files; ``time`` (ns) stands for all three.

    Nothing keeps a file's times: they are the machine's boot, or 0 as Linux has it for sockets.
    """

    __slots__ = ("blksize", "blocks", "dev", "ino", "mode", "nlink", "rdev", "size", "time")

    def __init__(
        self,
        mode: int,
        dev: int,
        ino: int,
        size: int = 0,
        nlink: int = 1,
        rdev: int = 0,
        blocks: int = 0,
        blksize: int = PAGE_SIZE,
        time: int = REALTIME_AT_BOOT,
    ) -> None:
        self.mode = mode
        self.dev = dev
        self.ino = ino
        self.size = size
        self.nlink = nlink
        self.rdev = rdev
        self.blocks = blocks
        self.blksize = blksize
        self.time = time

    def result(self) -> os.stat_result:
        """cp_new_stat: as Python has it."""
        s = self.time // NSEC
        times = (s, s, s, self.time / NSEC, self.time / NSEC, self.time / NSEC, self.time, self.time, self.time)
        return os.stat_result((self.mode, self.ino, self.dev, self.nlink, 0, 0, self.size, *times, self.blksize, self.blocks, self.rdev))
