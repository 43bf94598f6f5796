"""The calls that wait for many files (fs/eventpoll.c, select.c)."""

import errno
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.eventpoll import EventPoll
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.select import do_poll, do_select
from simkernel.kernel.syscalls.base import EP_MAX_EVENTS, c_int, timespec
from simkernel.kernel.syscalls.sockets import SocketCalls
from simkernel.uapi import (
    FD_SETSIZE,
    NSEC_PER_MSEC,
    O_CLOEXEC,
)


class WaitingCalls(SocketCalls):
    """epoll, poll and select."""

    __slots__ = ()

    def epoll_create1(self, flags: int = 0, /) -> int:
        c_int(flags, "flags")
        if flags & ~O_CLOEXEC:
            raise oserror(errno.EINVAL)
        return self._install(self.sched.current.files, EventPoll(self.sched, 0), bool(flags & O_CLOEXEC))

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: Any = None, /) -> None:
        if (epfd | op | fd) >> 31:
            c_int(epfd, "epfd")
            c_int(op, "op")
            c_int(fd, "fd")
        if not isinstance(events, int):
            raise TypeError(f"events must be an int, not {type(events).__name__}")
        if not 0 <= events < 2**32:
            raise OverflowError(f"events does not fit a C unsigned int: {events}")
        files = self.sched.current.files
        ep = files.fget(epfd)
        file = files.fget(fd)
        if not file.can_poll:
            raise oserror(errno.EPERM)
        if not isinstance(ep, EventPoll):
            raise oserror(errno.EINVAL)
        ep.ctl(op, file, fd, events, fd if data is None else data)

    def epoll_wait(self, epfd: int, maxevents: int, timeout: int = -1, /) -> list[tuple[Any, int]]:
        c_int(timeout, "timeout")
        return self._epoll_wait(epfd, maxevents, None if timeout < 0 else timeout * NSEC_PER_MSEC)

    def epoll_pwait2(
        self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[Any, int]]:
        c_int(epfd, "epfd")
        c_int(maxevents, "maxevents")
        if sigmask is not None:
            raise Unsupported("epoll_pwait2 with a signal mask is not modelled")
        if timeout_ns is not None:
            timespec(timeout_ns, "timeout_ns")
        return self._epoll_wait(epfd, maxevents, timeout_ns)

    def _epoll_wait(self, epfd: int, maxevents: int, timeout_ns: int | None) -> list[tuple[Any, int]]:
        c_int(maxevents, "maxevents")
        files = self.sched.current.files
        ep = files.fget(epfd)
        if not 0 < maxevents <= EP_MAX_EVENTS:
            raise oserror(errno.EINVAL)
        if not isinstance(ep, EventPoll):
            raise oserror(errno.EINVAL)
        if files.count == 1:
            return ep.ep_poll(maxevents, timeout_ns)
        got: list[tuple[Any, int]] = self._held(files, ep, ep.ep_poll, maxevents, timeout_ns)
        return got

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        c_int(timeout, "timeout")
        pairs: list[tuple[int, int]] = []
        for pair in fds:
            fd, events = pair
            c_int(fd, "fd")
            if not isinstance(events, int):
                raise TypeError(f"events must be an int, not {type(events).__name__}")
            if not 0 <= events <= 0xFFFF:
                raise OverflowError(f"events do not fit a C unsigned short: {events}")
            pairs.append((fd, events))
        if len(pairs) > self._nofile():
            raise oserror(errno.EINVAL)
        files = self.sched.current.files
        timeout_ns = None if timeout < 0 else timeout * NSEC_PER_MSEC
        got: list[tuple[int, int]] = self._holding(files, [fd for fd, _ in pairs], lambda: do_poll(self.sched, files, pairs, timeout_ns))
        return got

    def select(
        self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /
    ) -> tuple[list[int], list[int], list[int]]:
        sets = [list(r), list(w), list(x)]
        for group in sets:
            for fd in group:
                c_int(fd, "fd")
                if not 0 <= fd < FD_SETSIZE:
                    raise ValueError(f"filedescriptor out of range in select(): {fd} is not in range({FD_SETSIZE})")
        timeout_ns: int | None = None
        if timeout is not None:
            if not isinstance(timeout, (int, float)):
                raise TypeError(f"timeout must be a number or None, not {type(timeout).__name__}")
            # struct timeval has microseconds; rounded up, so that it is never early.
            timeout_ns = math.ceil(timeout * 1e6) * 1000
            if timeout < 0:
                raise oserror(errno.EINVAL)
        files = self.sched.current.files
        a, b, c = sets
        got: tuple[list[int], list[int], list[int]] = self._holding(
            files, a + b + c, lambda: do_select(self.sched, files, a, b, c, timeout_ns)
        )
        return got

    def _holding(self, files: FilesStruct, fds: list[int], call: Callable[[], Any]) -> Any:
        """The same as _held for poll and select: each file is kept while they may sleep."""
        if files.count == 1:
            return call()
        kept = [file for fd in fds if 0 <= fd < len(files.fd) and (file := files.fd[fd]) is not None]
        for file in kept:
            file.f_count += 1
        try:
            return call()
        finally:
            for file in kept:
                file.fput()
