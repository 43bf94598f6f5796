"""Path lookup (fs/namei.c, fs/open.c): the one tree of directories, and what opens, makes and removes the names in it.

Each file system brings its own kinds of node (shmem.py, chardev.py, procfs.py).  There are no links but procfs's, no permissions (the
caller is root), and the current directory is the root.
"""

import errno
from collections.abc import Callable
from typing import Final

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.file import File
from simkernel.kernel.sched import Sched
from simkernel.kernel.stat import PROC_BLKSIZE, PROC_DEV, S_IFDIR, S_IFSOCK, TMPFS_DEV, Kstat
from simkernel.uapi import (
    O_ACCMODE,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOCTTY,
    O_NOFOLLOW,
    O_RDONLY,
    O_TMPFILE_BIT,
    O_TRUNC,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
)

PATH_MAX: Final = 4096
NAME_MAX: Final = 255
SLASH: Final = 0x2F
MAXSYMLINKS: Final = 40
LOFF_MAX: Final = 2**63 - 1
# What of open's flags a file does not remember.
NOT_KEPT: Final = O_TMPFILE_BIT | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC


class Node:
    """struct inode: what a name stands for."""

    __slots__ = ("i_ino",)

    def __init__(self, i_ino: int) -> None:
        self.i_ino = i_ino

    def open(self, sched: Sched, f_flags: int) -> File:
        """A new open file description.  ENXIO for what can't be opened: a socket."""
        raise oserror(errno.ENXIO)

    def truncate(self) -> None:
        """O_TRUNC: what has no size takes no notice."""

    def get_link(self) -> "Node | None":
        """Where a link leads; None if this is no link."""
        return None

    def readlink(self) -> bytes:
        """The text of a link.  EINVAL for what is none."""
        raise oserror(errno.EINVAL)

    def getattr(self) -> Kstat:
        """What stat(2) tells."""
        return Kstat(0o600, TMPFS_DEV, self.i_ino)

    def chmod(self, mode: int) -> None:
        """Other rights."""
        raise oserror(errno.EPERM)


class SocketNode(Node):
    """The name of an AF_UNIX socket, which outlives it."""

    __slots__ = ("i_mode",)

    def __init__(self, i_ino: int, i_mode: int) -> None:
        super().__init__(i_ino)
        self.i_mode = i_mode

    def getattr(self) -> Kstat:
        return Kstat(S_IFSOCK | self.i_mode, TMPFS_DEV, self.i_ino)

    def chmod(self, mode: int) -> None:
        self.i_mode = mode


class DirNode(Node):
    """A directory.  Here nothing can be made or removed (procfs): file systems that can derive from it."""

    __slots__ = ("parent",)

    def __init__(self, i_ino: int, parent: "DirNode | None") -> None:
        super().__init__(i_ino)
        self.parent = self if parent is None else parent

    def open(self, sched: Sched, f_flags: int) -> File:
        return DirFile(sched, self, f_flags)

    def getattr(self) -> Kstat:
        return Kstat(S_IFDIR | 0o555, PROC_DEV, self.i_ino, nlink=2, blksize=PROC_BLKSIZE)

    def lookup(self, name: bytes) -> Node | None:
        """The node called ``name``, or None."""
        raise NotImplementedError

    def iterate(self) -> list[tuple[int, int, bytes]]:
        """What is in it: (i_ino, type as in S_IFMT >> 12, name) of each."""
        raise Unsupported("this directory of a simulated file system can't be listed")

    def path_name(self) -> bytes:
        """d_path: what leads to it from the root.  ENOENT if nothing does any more."""
        if self.parent is self:
            return b"/"
        for _, _, name in self.parent.iterate():
            if self.parent.lookup(name) is self:
                return self.parent.path_name().rstrip(b"/") + b"/" + name
        raise oserror(errno.ENOENT)

    def create(self, name: bytes, vfs: "Vfs", mode: int) -> Node:
        """A new regular file."""
        raise oserror(errno.ENOENT)

    def tmpfile(self, vfs: "Vfs", f_flags: int, mode: int) -> File:
        """O_TMPFILE: a new regular file without a name."""
        raise oserror(errno.EOPNOTSUPP)

    def mkdir(self, name: bytes, vfs: "Vfs", mode: int) -> None:
        """A new directory."""
        raise oserror(errno.ENOENT)

    def mknod(self, name: bytes, node: Node) -> None:
        """A name for ``node``."""
        raise oserror(errno.ENOENT)

    def unlink(self, name: bytes) -> None:
        """Remove a name; the node lives on while it is open."""
        raise oserror(errno.EPERM)

    def rmdir(self, name: bytes) -> None:
        """Remove an empty directory.  ENOTEMPTY."""
        raise oserror(errno.EPERM)

    def rename(self, old: bytes, new_dir: "DirNode", new: bytes) -> None:
        """Move a name, over what is there.  EXDEV to another file system."""
        raise oserror(errno.EPERM)


class PosFile(File):
    """A file with a position, which read and write move; it is always ready, and epoll does not take it.

    ``f_name`` in ``f_parent`` is what it was opened by; without a parent it never had a name, and shows this one.
    """

    __slots__ = ("f_name", "f_parent", "node")
    can_poll = False
    can_pread = True
    can_pwrite = True

    def __init__(self, sched: Sched, node: Node, f_flags: int) -> None:
        super().__init__(sched, f_flags)
        self.node = node
        self.f_name = b""
        self.f_parent: DirNode | None = None

    def read(self, n: int) -> bytes:
        if not self.readable:
            raise oserror(errno.EBADF)
        rw_verify_area(self.f_pos, n)
        data = self.pread(n, self.f_pos)
        self.f_pos += len(data)
        return data

    def write(self, data: bytes) -> int:
        if not self.writable:
            raise oserror(errno.EBADF)
        rw_verify_area(self.f_pos, len(data))
        n = self.pwrite(data, self.f_pos)
        self.f_pos += n
        return n

    def size(self) -> int:
        """i_size, in bytes."""
        return 0

    def llseek(self, offset: int, whence: int) -> int:
        """generic_file_llseek.  EINVAL for a position below 0 or above LOFF_MAX."""
        if whence == SEEK_CUR:
            offset += self.f_pos
        elif whence == SEEK_END:
            offset += self.size()
        elif whence != SEEK_SET:
            raise oserror(errno.EINVAL)
        if not 0 <= offset <= LOFF_MAX:
            raise oserror(errno.EINVAL)
        self.f_pos = offset
        return offset

    def ftruncate(self, length: int) -> None:
        """ftruncate(2): regular files alone have a length."""
        raise oserror(errno.EINVAL)

    def inode(self) -> Node:
        return self.node

    def d_path(self) -> bytes:
        parent = self.f_parent
        path = (b"" if parent is None else parent.path_name().rstrip(b"/")) + b"/" + self.f_name
        found = parent.lookup(self.f_name) if parent is not None else None
        return path if found is self.node else path + b" (deleted)"

    def getattr(self) -> Kstat:
        return self.node.getattr()


class DirFile(PosFile):
    """An open directory.  ``f_pos`` counts the entries that getdents64 has given; they are looked up at the first of it."""

    __slots__ = ("dir", "entries")
    kind = "dir"

    def __init__(self, sched: Sched, node: DirNode, f_flags: int) -> None:
        super().__init__(sched, node, f_flags)
        self.dir = node
        self.entries: list[tuple[int, int, bytes]] = []

    def iterate_dir(self, n: int) -> list[tuple[int, int, bytes]]:
        """getdents64: what fits ``n`` bytes of (i_ino, type, name).  EINVAL if the first does not."""
        if not self.f_pos:
            node = self.dir
            self.entries = [(node.i_ino, 4, b"."), (node.parent.i_ino, 4, b".."), *node.iterate()]
        at = self.f_pos
        while at < len(self.entries):
            # struct linux_dirent64, up to a multiple of 8.
            n -= (19 + len(self.entries[at][2]) + 1 + 7) // 8 * 8
            if n < 0:
                break
            at += 1
        if at == self.f_pos and at < len(self.entries):
            raise oserror(errno.EINVAL)
        got = self.entries[self.f_pos : at]
        self.f_pos = at
        return got

    def d_path(self) -> bytes:
        return self.dir.path_name()

    def read(self, n: int) -> bytes:
        return self.pread(n, 0)

    def pread(self, n: int, pos: int) -> bytes:
        raise oserror(errno.EISDIR)


def rw_verify_area(pos: int, count: int) -> None:
    """EINVAL for a range that no loff_t holds."""
    if pos < 0 or pos + count > LOFF_MAX:
        raise oserror(errno.EINVAL)


class Nameidata:
    """How far a lookup has come: ``last`` in ``parent`` is ``node``, or nothing yet.  ``last`` is empty for ``/``, ``.`` and ``..``."""

    __slots__ = ("last", "node", "parent", "slash")

    def __init__(self, parent: DirNode, last: bytes, node: Node | None, slash: bool) -> None:
        self.parent = parent
        self.last = last
        self.node = node
        self.slash = slash


def nothing_mounted(vfs: "Vfs") -> None:
    """What a machine mounts that is off."""


class Vfs:
    """The tree, from its root, and open, unlink, mkdir on it.

    ``mount`` makes the tree; it is called when somebody first uses a path, which few programs do.
    """

    __slots__ = ("blocked_locks", "flocks", "links", "made", "mount", "next_ino", "open_fifo", "pwd", "record_locks", "sched", "umount")

    def __init__(self, sched: Sched, mount: Callable[["Vfs"], None]) -> None:
        self.sched = sched
        self.mount = mount
        self.next_ino = 1
        # The locks of flock, by device and inode (locks.py).
        self.flocks: dict[tuple[int, int], object] = {}
        # Those of fcntl; and which table of fds waits for which.
        self.record_locks: dict[tuple[int, int], object] = {}
        self.blocked_locks: dict[object, object] = {}
        self.made: DirNode | None = None
        # How many symbolic links the lookup that goes on has followed.
        self.links = 0
        # Where processes are that have not gone anywhere else; None: at the root.
        self.pwd: DirNode | None = None
        # Opens a named pipe, which a file system itself does not know how to.
        self.open_fifo: Callable[[Node, int], File] | None = None
        # What gives back to the real system what was taken from it.
        self.umount: Callable[[], None] | None = None

    def dismantle(self) -> None:
        """Forget the files, and who would make them."""
        self.mount = nothing_mounted
        self.made = None
        self.pwd = None
        self.flocks.clear()
        self.record_locks.clear()

    def current_dir(self) -> DirNode:
        """Where the running process is."""
        root = self.root
        pwd = self.sched.current.process.pwd or self.pwd
        assert pwd is None or isinstance(pwd, DirNode)
        return pwd or root

    def umask(self, mode: int) -> int:
        """What the running process's umask leaves of a mode."""
        return mode & ~self.sched.current.process.umask

    @property
    def root(self) -> DirNode:
        """The root directory."""
        if self.made is None:
            self.mount(self)
        assert self.made is not None
        return self.made

    def get_next_ino(self) -> int:
        """A number for a new node; they are counted apart from those of files, which a program makes whether or not it uses paths."""
        self.next_ino += 1
        return self.next_ino

    # --- lookup ---
    def path_lookup(self, path: bytes, at: DirNode | None = None) -> Nameidata:
        """link_path_walk: to the last component, which is looked up but not followed.  A relative path begins at ``at``, or where the
        process is.

        ENOENT for an empty path or a missing directory, ENOTDIR, ENAMETOOLONG.
        """
        if at is None:
            self.links = 0
        if not path:
            raise oserror(errno.ENOENT)
        if len(path) >= PATH_MAX:
            raise oserror(errno.ENAMETOOLONG)
        slash = path.endswith(b"/")
        names = [name for name in path.split(b"/") if name]
        if not names:
            return Nameidata(self.root, b"", self.root, slash)
        if path[0] == SLASH:
            at = self.root
        elif at is None:
            at = self.current_dir()
        for name in names[:-1]:
            at = self._directory(self._step(at, name))
        name = names[-1]
        node = self._step(at, name)
        return Nameidata(at, b"" if name in (b".", b"..") else name, node, slash)

    def _step(self, at: DirNode, name: bytes) -> Node | None:
        if name == b".":
            return at
        if name == b"..":
            return at.parent
        if len(name) > NAME_MAX:
            raise oserror(errno.ENAMETOOLONG)
        return at.lookup(name)

    def _directory(self, node: Node | None) -> DirNode:
        if node is None:
            raise oserror(errno.ENOENT)
        node = follow(node)
        if not isinstance(node, DirNode):
            raise oserror(errno.ENOTDIR)
        return node

    # --- calls ---
    def open(self, path: bytes, flags: int, mode: int) -> File:
        """do_filp_open: find or make the node, then open it."""
        nd = self.path_lookup(path)
        node = nd.node
        if flags & O_TMPFILE_BIT:
            if flags & O_ACCMODE == O_RDONLY or not flags & O_DIRECTORY:
                raise oserror(errno.EINVAL)
            return self._directory(node).tmpfile(self, flags & ~(NOT_KEPT | O_DIRECTORY) | O_LARGEFILE, self.umask(mode))
        if flags & O_CREAT and (not nd.last or nd.slash):
            raise oserror(errno.EEXIST if flags & O_EXCL and not nd.last else errno.EISDIR)
        created = False
        if node is None:
            if not flags & O_CREAT:
                raise oserror(errno.ENOENT)
            self.sched.check_files(1)
            node = nd.parent.create(nd.last, self, self.umask(mode))
            created = True
        elif flags & O_CREAT and flags & O_EXCL:
            raise oserror(errno.EEXIST)
        if flags & O_NOFOLLOW and not nd.slash and node.get_link() is not None:
            raise oserror(errno.ENOTDIR if flags & O_DIRECTORY else errno.ELOOP)
        node = follow(node)
        if isinstance(node, DirNode):
            if flags & (O_ACCMODE | O_CREAT | O_TRUNC):
                raise oserror(errno.EISDIR)
        elif nd.slash or flags & O_DIRECTORY:
            raise oserror(errno.ENOTDIR)
        file = node.open(self.sched, flags & ~NOT_KEPT | O_LARGEFILE)
        if isinstance(file, PosFile):
            file.f_parent, file.f_name = nd.parent, nd.last
        if flags & O_TRUNC and not created:
            node.truncate()
        return file

    def stat(self, path: bytes, follow_link: bool) -> Kstat:
        """vfs_statx.  ENOTDIR for a file with a slash at the end."""
        nd = self.path_lookup(path)
        if nd.node is None:
            raise oserror(errno.ENOENT)
        node = follow(nd.node) if follow_link or nd.slash else nd.node
        if nd.slash and not isinstance(node, DirNode):
            raise oserror(errno.ENOTDIR)
        return node.getattr()

    def unlink(self, path: bytes) -> None:
        """do_unlinkat.  EISDIR for a directory."""
        nd = self.path_lookup(path)
        if not nd.last:
            raise oserror(errno.EISDIR)
        if nd.node is None:
            raise oserror(errno.ENOENT)
        if nd.slash:
            raise oserror(errno.EISDIR if isinstance(nd.node, DirNode) else errno.ENOTDIR)
        if isinstance(nd.node, DirNode):
            raise oserror(errno.EISDIR)
        nd.parent.unlink(nd.last)

    def mkdir(self, path: bytes, mode: int) -> None:
        """do_mkdirat.  EEXIST for any name that is there."""
        nd = self.path_lookup(path)
        if not nd.last or nd.node is not None:
            raise oserror(errno.EEXIST)
        nd.parent.mkdir(nd.last, self, self.umask(mode))

    def rmdir(self, path: bytes) -> None:
        """do_rmdir.  EBUSY for the root, EINVAL for ``.``, ENOTEMPTY for ``..``."""
        nd = self.path_lookup(path)
        if not nd.last:
            names = [name for name in path.split(b"/") if name]
            raise oserror(errno.EBUSY if not names else errno.EINVAL if names[-1] == b"." else errno.ENOTEMPTY)
        if nd.node is None:
            raise oserror(errno.ENOENT)
        if not isinstance(nd.node, DirNode):
            raise oserror(errno.ENOTDIR)
        self._not_mounted_on(nd)
        nd.parent.rmdir(nd.last)

    def _not_mounted_on(self, nd: Nameidata) -> None:
        """EBUSY for a directory that is another file system's root."""
        if isinstance(nd.node, DirNode) and nd.node.getattr().dev != nd.parent.getattr().dev:
            raise oserror(errno.EBUSY)

    def rename(self, old: bytes, new: bytes) -> None:
        """do_renameat2.  EBUSY for ``.``, ``..`` and the root, EINVAL into itself, EISDIR and ENOTDIR."""
        nd, to = self.path_lookup(old), self.path_lookup(new)
        if not nd.last or not to.last:
            raise oserror(errno.EBUSY)
        if nd.node is None:
            raise oserror(errno.ENOENT)
        self._not_mounted_on(nd)
        self._not_mounted_on(to)
        at = to.parent
        while at is not nd.node and at is not at.parent and at.i_ino != nd.node.i_ino:
            at = at.parent
        if isinstance(nd.node, DirNode):
            if at.i_ino == nd.node.i_ino:
                raise oserror(errno.EINVAL)
        elif nd.slash or to.slash:
            raise oserror(errno.ENOTDIR)
        if to.node is not None and to.node is not nd.node:
            if isinstance(to.node, DirNode) and not isinstance(nd.node, DirNode):
                raise oserror(errno.EISDIR)
            if isinstance(nd.node, DirNode) and not isinstance(to.node, DirNode):
                raise oserror(errno.ENOTDIR)
        nd.parent.rename(nd.last, to.parent, to.last)

    def readlink(self, path: bytes) -> bytes:
        """do_readlinkat.  EINVAL for what is no link."""
        nd = self.path_lookup(path)
        if nd.node is None:
            raise oserror(errno.ENOENT)
        return (follow(nd.node) if nd.slash else nd.node).readlink()

    def chmod(self, path: bytes, mode: int) -> None:
        """do_fchmodat."""
        nd = self.path_lookup(path)
        if nd.node is None:
            raise oserror(errno.ENOENT)
        follow(nd.node).chmod(mode & 0o7777)

    def chdir(self, path: bytes) -> None:
        """Where the running process is from now on."""
        self.sched.current.process.pwd = self.directory(path)

    def directory(self, path: bytes) -> DirNode:
        """The directory of a path.  ENOTDIR, ENOENT."""
        return self._directory(self.path_lookup(path).node)

    # --- names of sockets ---
    def may_mknod(self, path: bytes) -> Nameidata:
        """filename_create for a socket: EEXIST if the name is there, ENOENT and ENOTDIR as in open."""
        nd = self.path_lookup(path)
        if not nd.last or nd.node is not None:
            raise oserror(errno.EEXIST)
        if nd.slash:
            raise oserror(errno.ENOENT)
        return nd

    def mknod_socket(self, path: bytes) -> SocketNode:
        """Make the name of a socket."""
        nd = self.may_mknod(path)
        node = SocketNode(self.get_next_ino(), self.umask(0o777))
        nd.parent.mknod(nd.last, node)
        return node

    def find_socket(self, path: bytes) -> SocketNode:
        """unix_find_bsd: ECONNREFUSED for what is no socket, ENOENT, ENOTDIR."""
        nd = self.path_lookup(path)
        if nd.node is None:
            raise oserror(errno.ENOENT)
        node = follow(nd.node)
        if nd.slash and not isinstance(node, DirNode):
            raise oserror(errno.ENOTDIR)
        if not isinstance(node, SocketNode):
            raise oserror(errno.ECONNREFUSED)
        return node


def follow(node: Node) -> Node:
    """Where a chain of links ends.  ELOOP if it does not."""
    for _ in range(MAXSYMLINKS):
        target = node.get_link()
        if target is None:
            return node
        node = target
    raise oserror(errno.ELOOP)
