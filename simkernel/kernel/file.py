"""Open file descriptions (fs/file_table.c, struct file and its f_op).

Several fds, of several processes, may share one; it is released when the last reference goes.  O_NONBLOCK belongs to it, FD_CLOEXEC to
the fd.
"""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from simkernel.errors import oserror
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.uapi import O_ACCMODE, O_NONBLOCK, O_RDONLY, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM

if TYPE_CHECKING:
    from simkernel.kernel.net.socket import Sock

DEFAULT_POLLMASK = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM


class ReleaseHook(Protocol):
    """Somebody to tell when a file goes away: epoll, which the file itself must not know."""

    def release_file(self, file: "File") -> None:
        """The last reference to ``file`` has gone."""
        ...


class File:
    """struct file.  Kinds of file derive from it and define what they can do; the rest fails as in Linux."""

    __slots__ = ("f_count", "f_flags", "hooks", "ino", "nonblock", "sched", "sk")
    kind = "file"
    can_poll = True
    # FMODE_CAN_READ and FMODE_CAN_WRITE: whether there are operations for it.
    can_read = True
    can_write = True
    # Whether there is f_op->write_iter, which takes all buffers of a writev at once.
    write_iter = True

    def __init__(self, sched: Sched, f_flags: int) -> None:
        self.sched = sched
        self.ino = sched.new_ino()
        self.f_flags = f_flags
        self.nonblock = bool(f_flags & O_NONBLOCK)
        self.f_count = 0
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

    def poll_op(self) -> Callable[[PollTable | None], int]:
        """The function that polls this file: what epoll calls for each ready item, so it is looked up once."""
        return self.poll

    def fionread(self) -> int:
        """ioctl FIONREAD: how many bytes can be read at once."""
        raise oserror(errno.ENOTTY)

    def ioctl(self, request: int) -> int:
        """ioctl of a socket's own requests, which give a number."""
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
        return self.f_flags & O_ACCMODE != 1

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing (FMODE_WRITE)."""
        return self.f_flags & O_ACCMODE != O_RDONLY

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
            if self.hooks is not None:
                for hook in self.hooks[:]:
                    hook.release_file(self)
            self.release()
