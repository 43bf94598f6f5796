"""File descriptor tables (fs/file.c).

A process has one, its threads share it (``count``), a forked child gets a copy.  A new fd is always the lowest free one.
"""

import errno
from collections.abc import Callable
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.sched import Sched

FD_MAX: Final = 2**31 - 1


class FilesStruct:
    """files_struct.  ``fd[n]`` is the file behind fd n, or None; ``cloexec`` the set of fds with FD_CLOEXEC.

    ``reserved`` are numbers that a sleeping accept has taken, and not yet put a file behind.
    """

    __slots__ = ("cloexec", "count", "fd", "filp_close", "next_fd", "reserved")

    def __init__(self) -> None:
        # 0, 1 and 2 are taken, as a shell leaves them, so a program's first fd is 3 on both kernels.
        self.fd: list[File | None] = []
        self.next_fd = 0
        self.cloexec: set[int] = set()
        self.reserved: set[int] = set()
        self.count = 1
        # Called with the file of each fd that is closed, if somebody must know (locks.py).
        self.filp_close: Callable[[File], None] | None = None

    def fget(self, fd: int) -> File:
        """The file behind ``fd``.  EBADF if there is none; TypeError for what is no int, OverflowError for what fits no C int."""
        try:
            file = self.fd[fd] if fd >= 0 else None
        except (IndexError, TypeError):
            file = None
        if file is None:
            raise bad_fd(fd)
        return file

    def get_unused_fd(self, limit: int, start: int = 0) -> int:
        """The lowest free fd from ``start`` on.  EMFILE when it would reach ``limit`` (RLIMIT_NOFILE)."""
        fds = self.fd
        fd = self.next_fd if self.next_fd > start else start
        n = len(fds)
        while fd < n and fds[fd] is not None:
            fd += 1
        if self.reserved:
            while fd in self.reserved or (fd < n and fds[fd] is not None):
                fd += 1
        if start <= self.next_fd:
            self.next_fd = fd
        if fd >= limit:
            raise oserror(errno.EMFILE)
        return fd

    def put_unused_fd(self, fd: int) -> None:
        """Give back a reserved number."""
        self.reserved.discard(fd)
        if fd < self.next_fd:
            self.next_fd = fd

    def fd_install(self, fd: int, file: File, cloexec: bool) -> None:
        """Put ``file`` behind a free ``fd``."""
        fds = self.fd
        if fd >= len(fds):
            fds.extend([None] * (fd + 1 - len(fds)))
        fds[fd] = file
        file.f_count += 1
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)

    def max_fds(self) -> int:
        """fdtable.max_fds: how many slots the table has, a power of two.  select looks at no fd beyond."""
        return max(64, 1 << (len(self.fd) - 1).bit_length()) if self.fd else 64

    def close_fd(self, fd: int) -> None:
        """close(2): free the number at once, then drop the reference."""
        file = self.fget(fd)
        self.fd[fd] = None
        self.cloexec.discard(fd)
        if fd < self.next_fd:
            self.next_fd = fd
        if self.filp_close is not None:
            self.filp_close(file)
        file.fput()

    def dup_fd(self) -> "FilesStruct":
        """fork's copy: the same files behind the same numbers."""
        new = FilesStruct()
        new.fd = self.fd[:]
        while new.fd and new.fd[-1] is None:
            new.fd.pop()
        new.next_fd = self.next_fd
        new.cloexec = set(self.cloexec)
        for file in new.fd:
            if file is not None:
                file.f_count += 1
        return new

    def exit_files(self) -> None:
        """One user less; the last one closes everything, in order of number."""
        self.count -= 1
        if self.count == 0:
            for fd, file in enumerate(self.fd):
                if file is not None:
                    self.fd[fd] = None
                    if self.filp_close is not None:
                        self.filp_close(file)
                    file.fput()
            self.fd.clear()

    def open_fds(self) -> dict[int, File]:
        """The open fds, in order."""
        return {fd: file for fd, file in enumerate(self.fd) if file is not None}


class DeadFiles(FilesStruct):
    """The table of a task that has been killed and unwinds: whatever its `finally` blocks call, they get no further."""

    __slots__ = ("sched",)

    def __init__(self, sched: Sched) -> None:
        self.sched = sched
        self.count = 1

    @property
    def fd(self) -> list[File | None]:  # type: ignore[override]
        self.sched.refuse()


def bad_fd(fd: object) -> Exception:
    """What a call with a bad fd raises: TypeError, OverflowError or EBADF."""
    if not isinstance(fd, int):
        return TypeError(f"an fd must be an int, not {type(fd).__name__}")
    if not -FD_MAX - 1 <= fd <= FD_MAX:
        return OverflowError(f"fd {fd} does not fit a C int")
    return oserror(errno.EBADF)
