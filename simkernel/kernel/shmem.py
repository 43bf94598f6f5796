"""Files and directories in memory (mm/shmem.c: tmpfs and memfd_create).

A file is its pages; those that were never written are holes and read as zeros.
"""

import errno
from typing import Final

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.file import File
from simkernel.kernel.namei import DirFile, DirNode, Node, PosFile, Vfs
from simkernel.kernel.sched import Sched
from simkernel.kernel.stat import S_IFDIR, S_IFREG, SHM_DEV, TMPFS_DEV, Kstat
from simkernel.uapi import O_APPEND, O_LARGEFILE, O_RDWR, PAGE_SIZE, SEEK_DATA, SEEK_END

MAX_RW_COUNT: Final = 0x7FFFF000
ZERO_PAGE: Final = bytes(PAGE_SIZE)


class ShmemNode(Node):
    """The inode of a regular file: its pages by number, and its size in bytes.  ``i_nlink``: how many names lead to it."""

    __slots__ = ("i_dev", "i_mode", "i_nlink", "i_size", "pages")

    def __init__(self, i_ino: int, i_mode: int, i_nlink: int, i_dev: int = TMPFS_DEV) -> None:
        super().__init__(i_ino)
        self.i_mode = i_mode
        self.i_nlink = i_nlink
        self.i_dev = i_dev
        self.pages: dict[int, bytearray] = {}
        self.i_size = 0

    def open(self, sched: Sched, f_flags: int) -> File:
        return ShmemFile(sched, self, f_flags)

    def getattr(self) -> Kstat:
        return Kstat(S_IFREG | self.i_mode, self.i_dev, self.i_ino, self.i_size, self.i_nlink, blocks=len(self.pages) * PAGE_SIZE // 512)

    def chmod(self, mode: int) -> None:
        self.i_mode = mode

    def truncate(self) -> None:
        self.set_size(0)

    def set_size(self, length: int) -> None:
        """shmem_setattr: cut off, or make longer by a hole."""
        if length < self.i_size:
            last, inside = divmod(length, PAGE_SIZE)
            for index in [i for i in self.pages if i > last or (i == last and not inside)]:
                del self.pages[index]
            page = self.pages.get(last)
            if page is not None:
                page[inside:] = bytes(PAGE_SIZE - inside)
        self.i_size = length

    def pieces(self, pos: int, n: int) -> list[bytes]:
        """The bytes from ``pos`` on, cut where pages end."""
        n = min(n, self.i_size - pos)
        out: list[bytes] = []
        while n > 0:
            index, inside = divmod(pos, PAGE_SIZE)
            piece = bytes(self.pages.get(index, ZERO_PAGE)[inside : inside + n])
            out.append(piece)
            pos += len(piece)
            n -= len(piece)
        return out

    def fill(self, pos: int, data: bytes) -> None:
        """Write ``data`` at ``pos``."""
        done = 0
        while done < len(data):
            index, inside = divmod(pos + done, PAGE_SIZE)
            page = self.pages.get(index)
            if page is None:
                page = self.pages[index] = bytearray(PAGE_SIZE)
            chunk = data[done : done + PAGE_SIZE - inside]
            page[inside : inside + len(chunk)] = chunk
            done += len(chunk)
        self.i_size = max(self.i_size, pos + len(data))


class ShmemFile(PosFile):
    """An open regular file."""

    __slots__ = ("data",)
    kind = "file"
    can_splice_write = True

    def __init__(self, sched: Sched, node: ShmemNode, f_flags: int) -> None:
        super().__init__(sched, node, f_flags)
        self.data = node

    def size(self) -> int:
        return self.data.i_size

    def llseek(self, offset: int, whence: int) -> int:
        """shmem_file_llseek, which also finds pages (SEEK_DATA) and holes (SEEK_HOLE)."""
        if whence <= SEEK_END:
            return super().llseek(offset, whence)
        size = self.data.i_size
        if not 0 <= offset < size:
            raise oserror(errno.ENXIO)
        index = offset // PAGE_SIZE
        if whence == SEEK_DATA:
            index = min((i for i in self.data.pages if i >= index), default=-1)
            if index < 0:
                raise oserror(errno.ENXIO)
        else:
            while index in self.data.pages:
                index += 1
        self.f_pos = min(max(offset, index * PAGE_SIZE), size)
        return self.f_pos

    def pread(self, n: int, pos: int) -> bytes:
        """shmem_file_read_iter."""
        return b"".join(self.data.pieces(pos, min(n, MAX_RW_COUNT)))

    def pwrite(self, data: bytes, pos: int) -> int:
        """shmem_file_write_iter; with O_APPEND the position is the end, whatever was said (pwrite(2), bugs)."""
        if not data:
            return 0
        if self.f_flags & O_APPEND:
            pos = self.data.i_size
        self.data.fill(pos, data)
        return len(data)

    def write(self, data: bytes) -> int:
        n = super().write(data)
        if n and self.f_flags & O_APPEND:
            self.f_pos = self.data.i_size
        return n

    def ftruncate(self, length: int) -> None:
        self.data.set_size(length)

    def fionread(self) -> int:
        """What is left from the position on, as a C int: negative when the position is past the end."""
        left = (self.data.i_size - self.f_pos) & 0xFFFFFFFF
        return left - 2**32 if left >= 2**31 else left

    def splice_read(self, n: int, pos: int, slots: int, flags: int) -> list[bytes]:
        """shmem_file_splice_read: the file's own pages."""
        return self.data.pieces(pos, min(n, slots * PAGE_SIZE))[:slots]

    def splice_write(self, data: bytes, pos: int, flags: int) -> int:
        """iter_file_splice_write."""
        return self.pwrite(data, pos)


class ShmemDirFile(DirFile):
    """An open directory of tmpfs."""

    __slots__ = ()

    def llseek(self, offset: int, whence: int) -> int:
        """offset_dir_llseek.  Where a directory ends is each file system's own affair: programs that ask get Unsupported."""
        if whence >= SEEK_END:
            raise Unsupported("lseek to the end, to data or to a hole of a directory is not modelled")
        return super().llseek(offset, whence)


class ShmemDir(DirNode):
    """A directory of tmpfs."""

    __slots__ = ("entries", "i_dev", "i_mode")

    def __init__(self, i_ino: int, parent: DirNode | None, i_mode: int = 0o755, i_dev: int = TMPFS_DEV) -> None:
        super().__init__(i_ino, parent)
        self.i_mode = i_mode
        self.i_dev = i_dev
        self.entries: dict[bytes, Node] = {}

    def getattr(self) -> Kstat:
        """shmem_getattr: an entry is 20 bytes (BOGO_DIRENT_SIZE), and so are . and .. ."""
        below = sum([isinstance(node, ShmemDir) for node in self.entries.values()])
        return Kstat(S_IFDIR | self.i_mode, self.i_dev, self.i_ino, 40 + 20 * len(self.entries), 2 + below)

    def open(self, sched: Sched, f_flags: int) -> File:
        return ShmemDirFile(sched, self, f_flags)

    def lookup(self, name: bytes) -> Node | None:
        return self.entries.get(name)

    def chmod(self, mode: int) -> None:
        self.i_mode = mode

    def iterate(self) -> list[tuple[int, int, bytes]]:
        """The last made comes first, as on Linux."""
        return [(node.i_ino, node.getattr().mode >> 12, name) for name, node in reversed(self.entries.items())]

    def tmpfile(self, vfs: Vfs, f_flags: int, mode: int) -> File:
        node = ShmemNode(vfs.get_next_ino(), mode, 0, self.i_dev)
        file = ShmemFile(vfs.sched, node, f_flags)
        file.f_parent, file.f_name = self, b"#%d" % node.i_ino
        return file

    def rmdir(self, name: bytes) -> None:
        node = self.entries[name]
        if not isinstance(node, ShmemDir):
            raise oserror(errno.EBUSY)
        if node.entries:
            raise oserror(errno.ENOTEMPTY)
        del self.entries[name]

    def rename(self, old: bytes, new_dir: DirNode, new: bytes) -> None:
        if not isinstance(new_dir, ShmemDir):
            raise oserror(errno.EXDEV)
        node, there = self.entries[old], new_dir.entries.get(new)
        if node is there:
            return
        if isinstance(there, ShmemDir) and there.entries:
            raise oserror(errno.ENOTEMPTY)
        if isinstance(there, ShmemNode):
            there.i_nlink = 0
        del self.entries[old]
        new_dir.entries.pop(new, None)
        new_dir.entries[new] = node
        if isinstance(node, ShmemDir):
            node.parent = new_dir

    def create(self, name: bytes, vfs: Vfs, mode: int) -> Node:
        node = ShmemNode(vfs.get_next_ino(), mode, 1, self.i_dev)
        self.entries[name] = node
        return node

    def mkdir(self, name: bytes, vfs: Vfs, mode: int) -> None:
        self.entries[name] = ShmemDir(vfs.get_next_ino(), self, mode, self.i_dev)

    def mknod(self, name: bytes, node: Node) -> None:
        self.entries[name] = node

    def unlink(self, name: bytes) -> None:
        node = self.entries.pop(name)
        if isinstance(node, ShmemNode):
            node.i_nlink = 0


def shmem_file_setup(vfs: Vfs, name: bytes) -> File:
    """memfd_create's file: no path leads to it, ``name`` is only shown."""
    file = ShmemFile(vfs.sched, ShmemNode(vfs.get_next_ino(), 0o777, 0, SHM_DEV), O_RDWR | O_LARGEFILE)
    file.f_name = b"memfd:" + name
    return file


def ftruncate(file: File, length: int) -> None:
    """do_sys_ftruncate, with the file found: EINVAL for a negative length, and for what is not a regular file open for writing."""
    if not isinstance(file, PosFile) or not file.writable:
        raise oserror(errno.EINVAL)
    file.ftruncate(length)
