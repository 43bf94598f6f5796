"""Open file descriptions (fs/file_table.c, struct file and its f_op).

Several fds, of several processes, may share one; it is released when the last reference goes.  O_NONBLOCK belongs to it, FD_CLOEXEC to
the fd.
"""

import errno
from typing import TYPE_CHECKING, Final, Protocol

from mypy_extensions import mypyc_attr

from simkernel.errors import oserror
from simkernel.kernel.poll import Pollable, PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.stat import ANON_DEV, ANON_INO, Kstat
from simkernel.uapi import O_NONBLOCK, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM

if TYPE_CHECKING:
    from simkernel.kernel.net.socket import Sock

DEFAULT_POLLMASK: Final = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM


class ReleaseHook(Protocol):
    """Somebody to tell when a file goes away: epoll, which the file itself must not know."""

    def release_file(self, file: "File") -> None:
        """The last reference to ``file`` has gone."""
        ...


class Inode(Protocol):
    """struct inode, as far as a file must know it."""

    i_ino: int

    def open(self, sched: Sched, f_flags: int) -> "File":
        """A new open file description."""
        ...

    def getattr(self) -> Kstat:
        """What stat(2) tells."""
        ...


@mypyc_attr(allow_interpreted_subclasses=True)
class File(Pollable):
    """struct file.  Kinds of file derive from it and define what they can do; the rest fails as in Linux."""

    __slots__ = ("f_count", "f_flags", "f_inode", "f_pos", "hooks", "ino", "nonblock", "sched", "sk")
    kind = "file"
    can_poll = True
    # FMODE_LSEEK: whether there is a position to move; where there is none to speak of it stays 0 (noop_llseek).
    can_seek = True
    # Whether there is f_op->splice_write.
    can_splice_write = False
    # FMODE_PREAD and FMODE_PWRITE.
    can_pread = False
    can_pwrite = False
    # FMODE_CAN_READ and FMODE_CAN_WRITE: whether there are operations for it.
    can_read = True
    can_write = True
    # Whether there is f_op->write_iter, which takes all buffers of a writev at once.
    write_iter = True

    def __init__(self, sched: Sched, f_flags: int) -> None:
        self.sched = sched
        self.ino = sched.alloc_empty_file()
        self.f_flags = f_flags
        self.nonblock = bool(f_flags & O_NONBLOCK)
        self.f_count = 0
        self.f_pos = 0
        # The inode of a device, which its driver need not know.
        self.f_inode: Inode | None = None
        self.hooks: list[ReleaseHook] | None = None
        self.sk: Sock | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} {self.ino}>"

    # --- f_op ---
    def read(self, n: int) -> bytes:
        """read(2) of at most ``n`` bytes."""
        raise oserror(errno.EINVAL)

    def write(self, data: bytes) -> int:
        """write(2)."""
        raise oserror(errno.EINVAL)

    def poll(self, table: PollTable | None) -> int:
        """The mask of events that are true now; registers on the file's wait queues when a table is given."""
        return DEFAULT_POLLMASK

    def poll_op(self) -> Pollable:
        """Whose poll epoll calls for each ready item."""
        return self

    def fionread(self) -> int:
        """ioctl FIONREAD: how many bytes can be read at once."""
        raise oserror(errno.ENOTTY)

    def llseek(self, offset: int, whence: int) -> int:
        """lseek(2), for what can_seek; the new position."""
        return self.f_pos

    def pread(self, n: int, pos: int) -> bytes:
        """pread(2), for what can_pread."""
        raise oserror(errno.EINVAL)

    def pwrite(self, data: bytes, pos: int) -> int:
        """pwrite(2), for what can_pwrite."""
        raise oserror(errno.EINVAL)

    def splice_wait(self, flags: int) -> None:
        """Sleep until splice_read finds a byte, the end or an error.  EAGAIN if that is not wanted."""

    def splice_read(self, n: int, pos: int, slots: int, flags: int) -> list[bytes]:
        """f_op->splice_read: at most ``n`` bytes from ``pos`` on, as at most ``slots`` pieces, each a pipe's buffer.

        ``flags`` are splice(2)'s.
        """
        raise oserror(errno.EINVAL)

    def splice_write(self, data: bytes, pos: int, flags: int) -> int:
        """f_op->splice_write: what comes out of a pipe, ``flags`` being splice(2)'s.  How many bytes were taken."""
        raise oserror(errno.EINVAL)

    def inode(self) -> "Inode | None":
        """What an open of /proc/self/fd/N opens anew; None for what can't be (ENXIO)."""
        return None

    def d_path(self) -> bytes:
        """What /proc/self/fd/N leads to, as text."""
        return b"anon_inode:[%b]" % self.kind.encode()

    def fdinfo(self) -> str:
        """show_fdinfo: the lines that this kind of file adds to /proc/self/fdinfo/N."""
        return ""

    def getattr(self) -> Kstat:
        """What fstat(2) tells: of what has no inode of its own, a number and rights without a type."""
        return self.f_inode.getattr() if self.f_inode is not None else Kstat(0o600, ANON_DEV, ANON_INO)

    def ioctl(self, request: int) -> int:
        """ioctl of a kind's own requests, which give a number.  ENOTTY for what it does not know, a terminal's above all."""
        raise oserror(errno.ENOTTY)

    def release(self) -> None:
        """The last reference has gone."""

    # --- common ---
    def set_nonblock(self, on: bool) -> None:
        """Set or clear O_NONBLOCK for everybody who shares this description."""
        self.nonblock = on
        self.f_flags = self.f_flags | O_NONBLOCK if on else self.f_flags & ~O_NONBLOCK

    @property
    def readable(self) -> bool:
        """Whether it was opened for reading (FMODE_READ)."""
        return not self.f_flags & 1

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing (FMODE_WRITE)."""
        return bool((self.f_flags + 1) & 2)

    def add_hook(self, hook: ReleaseHook) -> None:
        """Ask to be told when the file goes."""
        if self.hooks is None:
            self.hooks = []
        self.hooks.append(hook)

    def remove_hook(self, hook: ReleaseHook) -> None:
        """Take one such request back."""
        assert self.hooks is not None
        self.hooks.remove(hook)

    def fput(self) -> None:
        """Drop a reference; the last one releases the file."""
        self.f_count -= 1
        if self.f_count == 0:
            self.sched.nr_files -= 1
            if self.hooks is not None:
                for hook in self.hooks[:]:
                    hook.release_file(self)
            self.release()
