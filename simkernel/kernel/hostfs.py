"""The real file system below the machine's (as fs/hostfs of User-mode Linux): paths are real, fds are not.

A directory of it is looked up by name like any other, so sockets can be bound in it and other file systems mounted on it; neither is seen
from outside.  Files are read and written at the machine's own positions.  A named pipe is one of the machine's own.  Devices and sockets
of the real system are not opened.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.clock import REALTIME_AT_BOOT
from simkernel.kernel.file import File
from simkernel.kernel.namei import MAXSYMLINKS, DirFile, DirNode, Node, PosFile, Vfs
from simkernel.kernel.sched import Sched
from simkernel.kernel.shmem import MAX_RW_COUNT
from simkernel.kernel.stat import Kstat
from simkernel.uapi import O_ACCMODE, O_APPEND, O_DSYNC, O_NOATIME, O_SYNC, PAGE_SIZE, SEEK_DATA

# What of open's flags the real file must know.
PASSED_ON = O_ACCMODE | O_DSYNC | O_SYNC | O_NOATIME


def host(call: Callable[..., Any], *args: Any) -> Any:
    """A real call; its errno is the program's, its text may name paths that the program did not."""
    try:
        return call(*args)
    except OSError as error:
        raise oserror(error.errno or errno.EIO) from None


def as_asked(call: Callable[..., Any], *args: Any) -> Any:
    """A real call that makes a file with a mode that the machine's own umask has been taken off already."""
    umask = os.umask(0)
    try:
        return host(call, *args)
    finally:
        os.umask(umask)


class HostStat(Kstat):
    """What the real stat tells."""

    __slots__ = ("found",)

    def __init__(self, found: os.stat_result) -> None:
        super().__init__(found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_nlink)
        self.found = found

    def result(self) -> os.stat_result:
        return self.found


class HostFs:
    """A mounted host file system: its real fds, and the names that exist in the machine only, by directory."""

    __slots__ = ("fds", "names", "vfs")

    def __init__(self, vfs: Vfs) -> None:
        self.vfs = vfs
        # In order, so that they are closed in order.
        self.fds: dict[int, None] = {}
        self.names: dict[bytes, dict[bytes, Node]] = {}

    def open(self, path: bytes, flags: int, mode: int = 0) -> int:
        """A real fd, to be closed when the machine is."""
        flags |= os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            # A read inside is none outside: no file looks as if it had been read at a time that the machine does not know.
            fd: int = as_asked(os.open, path, flags | os.O_NOATIME, mode)
        except PermissionError:
            fd = as_asked(os.open, path, flags, mode)
        self.fds[fd] = None
        return fd

    def close(self, fd: int) -> None:
        """Close a real fd, unless the machine has been taken down since."""
        if fd in self.fds:
            del self.fds[fd]
            os.close(fd)

    def moved(self, old: bytes, new: bytes) -> None:
        """A directory has another name: what is in it, and who is in it, come along."""
        below = old + b"/"
        for path in [path for path in self.names if path == old or path.startswith(below)]:
            self.names[new + path[len(old) :]] = self.names.pop(path)
        for process in self.vfs.sched.processes.values():
            at = process.pwd
            while isinstance(at, HostDir):
                if at.path == old or at.path.startswith(below):
                    at.path = new + at.path[len(old) :]
                at = at.parent if at.parent is not at else None

    def kill_sb(self) -> None:
        """Unmount: whatever is open yet is closed."""
        for fd in list(self.fds):
            self.close(fd)
        self.names.clear()


def host_node(sb: HostFs, parent: "HostDir", path: bytes, found: os.stat_result) -> Node:
    """The node of a path that is there."""
    if stat.S_ISDIR(found.st_mode):
        return HostDir(sb, found.st_ino, parent, path)
    if stat.S_ISLNK(found.st_mode):
        return HostLink(found.st_ino, sb, parent, path)
    return HostNode(found.st_ino, sb, path, found.st_mode)


class HostNode(Node):
    """A file.  ``create`` is the mode to make it with, of one that is not there yet."""

    __slots__ = ("create", "i_mode", "path", "sb")

    def __init__(self, i_ino: int, sb: HostFs, path: bytes, i_mode: int, create: int | None = None) -> None:
        super().__init__(i_ino)
        self.sb = sb
        self.path = path
        self.i_mode = i_mode
        self.create = create

    def open(self, sched: Sched, f_flags: int) -> File:
        if stat.S_ISSOCK(self.i_mode):
            raise oserror(errno.ENXIO)
        if stat.S_ISFIFO(self.i_mode) and self.sb.vfs.open_fifo is not None:
            return self.sb.vfs.open_fifo(self, f_flags)
        if not stat.S_ISREG(self.i_mode):
            raise Unsupported(f"{os.fsdecode(self.path)} is a device of the real system, which a simulated program can't open")
        flags = f_flags & PASSED_ON
        if self.create is None:
            return HostFile(sched, self, f_flags, self.sb.open(self.path, flags))
        file = HostFile(sched, self, f_flags, self.sb.open(self.path, flags | os.O_CREAT | os.O_EXCL, self.create))
        self.create = None
        file.file_modified()
        return file

    def truncate(self) -> None:
        if stat.S_ISREG(self.i_mode):
            host(os.truncate, self.path, 0)

    def getattr(self) -> Kstat:
        return HostStat(host(os.lstat, self.path))

    def chmod(self, mode: int) -> None:
        host(os.chmod, self.path, mode)


class HostLink(Node):
    """A symbolic link."""

    __slots__ = ("parent", "path", "sb")

    def __init__(self, i_ino: int, sb: HostFs, parent: "HostDir", path: bytes) -> None:
        super().__init__(i_ino)
        self.sb = sb
        self.parent = parent
        self.path = path

    def get_link(self) -> Node | None:
        vfs = self.sb.vfs
        vfs.links += 1
        if vfs.links > MAXSYMLINKS:
            raise oserror(errno.ELOOP)
        target = vfs.path_lookup(self.readlink(), self.parent).node
        if target is None:
            raise oserror(errno.ENOENT)
        return target

    def readlink(self) -> bytes:
        target: bytes = host(os.readlink, self.path)
        return target

    def getattr(self) -> Kstat:
        return HostStat(host(os.lstat, self.path))


class HostDir(DirNode):
    """A directory: the real one, and the names that only the machine knows."""

    __slots__ = ("path", "sb")

    def __init__(self, sb: HostFs, i_ino: int, parent: DirNode | None, path: bytes) -> None:
        super().__init__(i_ino, parent)
        self.sb = sb
        self.path = path

    def below(self, name: bytes) -> bytes:
        """The path of a name in it."""
        return self.path.rstrip(b"/") + b"/" + name

    def own(self) -> dict[bytes, Node]:
        """The names that only the machine knows, in order of their making."""
        return self.sb.names.get(self.path, {})

    def open(self, sched: Sched, f_flags: int) -> File:
        return DirFile(sched, self, f_flags)

    def getattr(self) -> Kstat:
        return HostStat(host(os.stat, self.path))

    def path_name(self) -> bytes:
        return self.path

    def lookup(self, name: bytes) -> Node | None:
        own = self.own().get(name)
        if own is not None:
            return own
        path = self.below(name)
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise oserror(error.errno or errno.EIO) from None
        return host_node(self.sb, self, path, found)

    def iterate(self) -> list[tuple[int, int, bytes]]:
        """In order of name: the real order is another on each disk."""
        with host(os.scandir, self.path) as entries:
            found = sorted([(entry.name, entry.inode(), entry.stat(follow_symlinks=False).st_mode >> 12) for entry in entries])
        own = self.own()
        return [(ino, kind, name) for name, ino, kind in found if name not in own] + [
            (node.i_ino, node.getattr().mode >> 12, name) for name, node in own.items()
        ]

    def create(self, name: bytes, vfs: Vfs, mode: int) -> Node:
        return HostNode(0, self.sb, self.below(name), stat.S_IFREG, mode)

    def tmpfile(self, vfs: Vfs, f_flags: int, mode: int) -> File:
        fd = self.sb.open(self.path, f_flags & PASSED_ON | os.O_TMPFILE, mode)
        return HostFile(vfs.sched, HostNode(os.fstat(fd).st_ino, self.sb, self.path, stat.S_IFREG), f_flags, fd)

    def mkdir(self, name: bytes, vfs: Vfs, mode: int) -> None:
        as_asked(os.mkdir, self.below(name), mode)

    def mknod(self, name: bytes, node: Node) -> None:
        """A socket, or what is mounted here: in the machine alone."""
        self.sb.names.setdefault(self.path, {})[name] = node

    def unlink(self, name: bytes) -> None:
        if name in self.own():
            del self.sb.names[self.path][name]
        else:
            host(os.unlink, self.below(name))

    def rmdir(self, name: bytes) -> None:
        if self.sb.names.get(self.below(name)):
            raise oserror(errno.ENOTEMPTY)
        host(os.rmdir, self.below(name))

    def rename(self, old: bytes, new_dir: DirNode, new: bytes) -> None:
        if not isinstance(new_dir, HostDir):
            raise oserror(errno.EXDEV)
        names = self.own()
        node = names.get(old)
        if node is not None:
            if isinstance(node, DirNode):
                raise oserror(errno.EBUSY)
            if new_dir.lookup(new) is not None:
                new_dir.unlink(new)
            del names[old]
            new_dir.mknod(new, node)
            return
        host(os.rename, self.below(old), new_dir.below(new))
        new_dir.own().pop(new, None)
        self.sb.moved(self.below(old), new_dir.below(new))

    def chmod(self, mode: int) -> None:
        host(os.chmod, self.path, mode)


class HostFile(PosFile):
    """An open regular file, over a real fd."""

    __slots__ = ("fd", "sb")
    kind = "file"
    can_splice_write = True

    def __init__(self, sched: Sched, node: HostNode, f_flags: int, fd: int) -> None:
        super().__init__(sched, node, f_flags)
        self.sb = node.sb
        self.fd = fd

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def llseek(self, offset: int, whence: int) -> int:
        if whence < SEEK_DATA:
            return super().llseek(offset, whence)
        self.f_pos = host(os.lseek, self.fd, offset, whence)
        return self.f_pos

    def pread(self, n: int, pos: int) -> bytes:
        data: bytes = host(os.pread, self.fd, min(n, MAX_RW_COUNT), pos)
        return data

    def file_modified(self) -> None:
        """What was written has the time of the machine's clock, so that a program finds its own files as old as they are to it."""
        now = REALTIME_AT_BOOT + self.sched.clock.now
        # Another's file can be written and not be dated.
        with contextlib.suppress(PermissionError):
            os.utime(self.fd, ns=(now, now))

    def pwrite(self, data: bytes, pos: int) -> int:
        if self.f_flags & O_APPEND:
            # fcntl may take the flag away later, so the real file does not have it.
            pos = self.size()
        n: int = host(os.pwrite, self.fd, data, pos)
        if n:
            self.file_modified()
        return n

    def write(self, data: bytes) -> int:
        n = super().write(data)
        if n and self.f_flags & O_APPEND:
            self.f_pos = self.size()
        return n

    def ftruncate(self, length: int) -> None:
        host(os.ftruncate, self.fd, length)
        self.file_modified()

    def fionread(self) -> int:
        left = (self.size() - self.f_pos) & 0xFFFFFFFF
        return left - 2**32 if left >= 2**31 else left

    def getattr(self) -> Kstat:
        return HostStat(os.fstat(self.fd))

    def inode(self) -> Node:
        """Another open of it, even if it has no name any more."""
        return HostNode(os.fstat(self.fd).st_ino, self.sb, b"/proc/self/fd/%d" % self.fd, stat.S_IFREG)

    def d_path(self) -> bytes:
        path: bytes = os.readlink(b"/proc/self/fd/%d" % self.fd)
        return path

    def splice_read(self, n: int, pos: int, slots: int, flags: int) -> list[bytes]:
        data = self.pread(min(n, slots * PAGE_SIZE), pos)
        return [data[i : i + PAGE_SIZE] for i in range(0, len(data), PAGE_SIZE)]

    def splice_write(self, data: bytes, pos: int, flags: int) -> int:
        return self.pwrite(data, pos)

    def release(self) -> None:
        self.sb.close(self.fd)


def mount_host(vfs: Vfs) -> HostDir:
    """Make the real file system the machine's root."""
    sb = HostFs(vfs)
    root = HostDir(sb, os.stat("/").st_ino, None, b"/")
    vfs.made = root
    vfs.umount = sb.kill_sb
    return root


def host_umask() -> int:
    """The umask of the real process, which can only be had by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
