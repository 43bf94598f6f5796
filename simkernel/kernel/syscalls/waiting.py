"""The calls that wait for many files (fs/eventpoll.c, select.c)."""

import errno
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from simkernel.errors import oserror
from simkernel.kernel.eventpoll import EventPoll
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.select import do_poll, do_select
from simkernel.kernel.syscalls.base import EP_MAX_EVENTS, c_int, sigset, timespec
from simkernel.kernel.syscalls.sockets import SocketCalls
from simkernel.uapi import (
    FD_SETSIZE,
    NSEC_PER_MSEC,
    O_CLOEXEC,
)


def pollfds(fds: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pollfds of a poll: (fd, events) pairs."""
    pairs: list[tuple[int, int]] = []
    for pair in fds:
        fd, events = pair
        c_int(fd, "fd")
        if not isinstance(events, int):
            raise TypeError(f"events must be an int, not {type(events).__name__}")
        if not 0 <= events <= 0xFFFF:
            raise OverflowError(f"events do not fit a C unsigned short: {events}")
        pairs.append((fd, events))
    return pairs


def fd_sets(*groups: Iterable[int]) -> list[list[int]]:
    """The fd_sets of a select.  ValueError for an fd that they can't hold."""
    sets = [list(group) for group in groups]
    for group in sets:
        for fd in group:
            c_int(fd, "fd")
            if not 0 <= fd < FD_SETSIZE:
                raise ValueError(f"filedescriptor out of range in select(): {fd} is not in range({FD_SETSIZE})")
    return sets


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
        try:
            got = self._epoll_wait(epfd, maxevents, None if timeout < 0 else timeout * NSEC_PER_MSEC)
        except OSError as error:
            # It is never started again: EINTR.
            self._restarts(error)
            raise
        if self.sched.sigwork:
            self._exit_to_user()
        return got

    def epoll_pwait2(
        self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[Any, int]]:
        c_int(epfd, "epfd")
        c_int(maxevents, "maxevents")
        mask = None if sigmask is None else sigset(sigmask)
        if timeout_ns is not None:
            timespec(timeout_ns, "timeout_ns")
        return self._epoll_pwait(epfd, maxevents, timeout_ns, mask)

    def epoll_pwait(self, epfd: int, maxevents: int, timeout: int = -1, sigmask: Iterable[int] | None = None, /) -> list[tuple[Any, int]]:
        c_int(epfd, "epfd")
        c_int(maxevents, "maxevents")
        c_int(timeout, "timeout")
        mask = None if sigmask is None else sigset(sigmask)
        return self._epoll_pwait(epfd, maxevents, None if timeout < 0 else timeout * NSEC_PER_MSEC, mask)

    def _epoll_pwait(self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: int | None) -> list[tuple[Any, int]]:
        got: list[tuple[Any, int]] = self._masked(sigmask, self._epoll_wait, epfd, maxevents, timeout_ns)
        return got

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
        ep.f_count += 1
        try:
            return ep.ep_poll(maxevents, timeout_ns)
        finally:
            ep.fput()

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        c_int(timeout, "timeout")
        return self._do_poll(pollfds(fds), None if timeout < 0 else timeout * NSEC_PER_MSEC, None)

    def ppoll(
        self, fds: Sequence[tuple[int, int]], timeout_ns: int | None = None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[int, int]]:
        pairs = pollfds(fds)
        mask = None if sigmask is None else sigset(sigmask)
        if timeout_ns is not None:
            timespec(timeout_ns, "timeout_ns")
        return self._do_poll(pairs, timeout_ns, mask)

    def _do_poll(self, pairs: list[tuple[int, int]], timeout_ns: int | None, sigmask: int | None) -> list[tuple[int, int]]:
        if len(pairs) > self._nofile():
            raise oserror(errno.EINVAL)
        sched = self.sched
        files = sched.current.files
        deadline = None if timeout_ns is None else sched.clock.now + timeout_ns
        got: list[tuple[int, int]] = self._masked(
            sigmask, self._holding, files, [fd for fd, _ in pairs], lambda: do_poll(sched, files, pairs, deadline)
        )
        return got

    def select(
        self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /
    ) -> tuple[list[int], list[int], list[int]]:
        sets = fd_sets(r, w, x)
        timeout_ns: int | None = None
        if timeout is not None:
            if not isinstance(timeout, (int, float)):
                raise TypeError(f"timeout must be a number or None, not {type(timeout).__name__}")
            # struct timeval has microseconds; rounded up, so that it is never early.
            timeout_ns = math.ceil(timeout * 1e6) * 1000
            if timeout < 0:
                raise oserror(errno.EINVAL)
        return self._do_select(sets, timeout_ns, None)

    def pselect(
        self,
        r: Iterable[int],
        w: Iterable[int],
        x: Iterable[int],
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | None = None,
        /,
    ) -> tuple[list[int], list[int], list[int]]:
        sets = fd_sets(r, w, x)
        mask = None if sigmask is None else sigset(sigmask)
        if timeout_ns is not None:
            timespec(timeout_ns, "timeout_ns")
        return self._do_select(sets, timeout_ns, mask)

    def _do_select(self, sets: list[list[int]], timeout_ns: int | None, sigmask: int | None) -> tuple[list[int], list[int], list[int]]:
        sched = self.sched
        files = sched.current.files
        a, b, c = sets
        deadline = None if timeout_ns is None else sched.clock.now + timeout_ns
        got: tuple[list[int], list[int], list[int]] = self._masked(
            sigmask, self._holding, files, a + b + c, lambda: do_select(sched, files, a, b, c, deadline)
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
