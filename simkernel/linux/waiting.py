"""The calls that wait for many files."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from simkernel.linux.epoll_data import PLAIN, events_of, token_of
from simkernel.linux.libc import (
    EP_MAX_EVENTS,
    EPOLL_EVENT,
    EPOLL_EVENT_SIZE,
    FD_SETSIZE,
    POLLFD,
    byref,
    c_epoll_create1,
    c_epoll_ctl,
    c_epoll_pwait,
    c_epoll_pwait2,
    c_epoll_wait,
    c_poll,
    c_ppoll,
    c_pselect,
    c_select,
    char,
    check_ints,
    fail,
    sigset,
    timespec,
    two_words,
)
from simkernel.linux.sockets import SocketCalls


def _ready(fds: list[int], fd_set: bytearray | None) -> list[int]:
    """The fds of a select's list whose bit is set, in the order given."""
    if fd_set is None:
        return []
    flip = 56 if sys.byteorder == "big" else 0
    return [fd for fd in fds if fd_set[(fd ^ flip) >> 3] >> (fd & 7) & 1]


class WaitingCalls(SocketCalls):
    """epoll, poll and select."""

    __slots__ = ()

    def epoll_create1(self, flags: int = 0, /) -> int:
        """epoll_create1(2)."""
        if flags >> 31:
            check_ints(flags)
        fd: int = c_epoll_create1(flags)
        if fd < 0:
            fail()
        return fd

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: Any = None, /) -> None:
        """epoll_ctl(2).  ``events``: 0 to 2**32 - 1.

        Objects as ``data`` are known to this process and to those forked from it afterwards.
        """
        if (epfd | op | fd) >> 31:
            check_ints(epfd, op, fd)
        if events >> 32:
            raise OverflowError(f"events {events} do not fit a C uint32_t")
        if data is None:
            token = fd & 0xFFFFFFFF
        elif type(data) is int and 0 <= data < PLAIN:
            token = data
        else:
            token = token_of(data)
        if c_epoll_ctl(epfd, op, fd, EPOLL_EVENT.pack(events, token)) < 0:
            fail()

    def epoll_wait(self, epfd: int, maxevents: int, timeout: int = -1, /) -> list[tuple[Any, int]]:
        """epoll_wait(2).  ``timeout`` in milliseconds."""
        if (epfd | maxevents) >> 31 or (timeout + 0x80000000) >> 32:
            check_ints(epfd, maxevents, timeout)
        buf = bytes(EPOLL_EVENT_SIZE * maxevents if 0 < maxevents <= EP_MAX_EVENTS else EPOLL_EVENT_SIZE)
        n: int = c_epoll_wait(epfd, buf, maxevents, timeout)
        if n < 0:
            fail()
        return events_of(buf, n) if n else []

    def epoll_pwait2(
        self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[Any, int]]:
        """epoll_pwait2(2).  ``timeout_ns`` in nanoseconds, None without a limit; ``sigmask``: signal numbers, 1 to 64."""
        if (epfd | maxevents) >> 31:
            check_ints(epfd, maxevents)
        timeout = None if timeout_ns is None else timespec(timeout_ns)
        mask = None if sigmask is None else sigset(sigmask)
        buf = bytes(EPOLL_EVENT_SIZE * maxevents if 0 < maxevents <= EP_MAX_EVENTS else EPOLL_EVENT_SIZE)
        n: int = c_epoll_pwait2(epfd, buf, maxevents, timeout, mask)
        if n < 0:
            fail()
        return events_of(buf, n) if n else []

    def epoll_pwait(self, epfd: int, maxevents: int, timeout: int = -1, sigmask: Iterable[int] | None = None, /) -> list[tuple[Any, int]]:
        """epoll_pwait(2).  ``timeout`` in milliseconds."""
        check_ints(epfd, maxevents, timeout)
        mask = None if sigmask is None else sigset(sigmask)
        buf = bytes(EPOLL_EVENT_SIZE * maxevents if 0 < maxevents <= EP_MAX_EVENTS else EPOLL_EVENT_SIZE)
        n: int = c_epoll_pwait(epfd, buf, maxevents, timeout, mask)
        if n < 0:
            fail()
        return events_of(buf, n) if n else []

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        """poll(2).  ``events``: 0 to 65535; ``timeout`` in milliseconds."""
        if (timeout + 0x80000000) >> 32:
            check_ints(timeout)
        array = _pollfds(fds)
        n: int = c_poll(byref(char.from_buffer(array)) if fds else None, len(fds), timeout)
        if n < 0:
            fail()
        return [(fd, revents) for fd, _, revents in POLLFD.iter_unpack(array) if revents] if n else []

    def ppoll(
        self, fds: Sequence[tuple[int, int]], timeout_ns: int | None = None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[int, int]]:
        """ppoll(2).  ``timeout_ns`` in nanoseconds, None without a limit."""
        timeout = None if timeout_ns is None else timespec(timeout_ns)
        mask = None if sigmask is None else sigset(sigmask)
        array = _pollfds(fds)
        n: int = c_ppoll(byref(char.from_buffer(array)) if fds else None, len(fds), timeout, mask)
        if n < 0:
            fail()
        return [(fd, revents) for fd, _, revents in POLLFD.iter_unpack(array) if revents] if n else []

    def select(
        self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /
    ) -> tuple[list[int], list[int], list[int]]:
        """select(2).  ``timeout`` in seconds or None, rounded up to a microsecond so that it never ends early.

        ValueError for an fd outside range(1024): it would be written past the end of libc's fd_set.
        """
        tv: bytes | None = None
        if timeout is not None:
            us = -(-math.ceil(timeout * 1e9) // 1000)
            tv = two_words(*divmod(us if us or timeout >= 0 else -1, 1_000_000))  # however small, a negative one is EINVAL
        return _fd_sets((r, w, x), lambda top, *refs: c_select(top, *refs, tv))

    def pselect(
        self,
        r: Iterable[int],
        w: Iterable[int],
        x: Iterable[int],
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | None = None,
        /,
    ) -> tuple[list[int], list[int], list[int]]:
        """pselect(2).  ``timeout_ns`` in nanoseconds, None without a limit."""
        timeout = None if timeout_ns is None else timespec(timeout_ns)
        mask = None if sigmask is None else sigset(sigmask)
        return _fd_sets((r, w, x), lambda top, *refs: c_pselect(top, *refs, timeout, mask))


def _pollfds(fds: Sequence[tuple[int, int]]) -> bytearray:
    """An array of struct pollfd."""
    array = bytearray(POLLFD.size * len(fds))
    offset = 0
    for fd, events in fds:
        if fd >> 31:
            check_ints(fd)
        if events >> 16:
            raise OverflowError(f"events {events} do not fit a C unsigned short")
        POLLFD.pack_into(array, offset, fd, events, 0)
        offset += 8
    return array


def _fd_sets(groups: Sequence[Iterable[int]], call: Callable[..., int]) -> tuple[list[int], list[int], list[int]]:
    """``call(nfds, r, w, x)`` with the fd_sets of three lists; those of each list that are ready."""
    top = -1
    lists: list[list[int]] = []
    sets: list[bytearray | None] = []
    for fds in groups:
        fds = list(fds)
        lists.append(fds)
        if not fds:
            sets.append(None)
            continue
        fd_set = bytearray(FD_SETSIZE // 8)
        for fd in fds:
            if not 0 <= fd < FD_SETSIZE:
                raise ValueError(f"filedescriptor out of range in select(): {fd}")
            if sys.byteorder == "big":  # the set is an array of longs
                fd ^= 56
            fd_set[fd >> 3] |= 1 << (fd & 7)
        top = max(top, max(fds))
        sets.append(fd_set)
    refs = [byref(char.from_buffer(fd_set)) if fd_set else None for fd_set in sets]
    if call(top + 1, *refs) < 0:
        fail()
    return _ready(lists[0], sets[0]), _ready(lists[1], sets[1]), _ready(lists[2], sets[2])
