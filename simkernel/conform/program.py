"""Programs in plain data, and what their calls gave.

A call is a tuple: a method's name of Syscalls and its arguments.  What can't be known beforehand is written so that it stands for itself:

    ("of", fd)       the address that fd is bound to                  ("name", n), ("path", n)   an AF_UNIX name, abstract or a path
    an int where bytes are wanted: so many bytes, numbered through the program, so one lost, doubled or moved is seen
    ("rights", fd, ...)  a control message SCM_RIGHTS                 ("add", fd, n)   write n to an eventfd, as a call

In a program of several tasks a call begins with the number of the task that makes it; SETUP is before they start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Call = tuple[Any, ...]
Result = Any
SETUP = -1
"""The task number of calls that are made before the tasks are forked, so that all inherit what they open."""

CLOCK = -2
"""The task number of the call ("sleep", ns): nobody does anything for so long."""

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEF"
PATTERN = "".join(
    _LETTERS[v & 31] + _LETTERS[v >> 5 & 31] + _LETTERS[v >> 10 & 31] + _LETTERS[v >> 15 & 31]
    for v in (i * 643_021 % 2**20 for i in range(1 << 17))
).encode()
_STARTS = 65_521


def numbered(start: int, n: int) -> bytes:
    """``n`` bytes of a stream in which each place looks different, from ``start`` on."""
    start %= _STARTS
    return PATTERN[start : start + n]


@dataclass(frozen=True)
class Program:
    """The calls of one program.

    ``observe``: whether every open fd is polled, and asked for FIONREAD, after each call (polling can itself change what comes: it asks
    for a wake-up when there is room again), or only at the end.  ``tasks``: how many threads each process has; () is one task.
    """

    calls: tuple[Call, ...]
    observe: bool = True
    tasks: tuple[int, ...] = ()
    kind: str = field(default="calls", compare=False)

    def with_calls(self, calls: Sequence[Call]) -> "Program":
        """The same program of other calls."""
        return replace(self, calls=tuple(calls))


FD_PLACES = {
    "epoll_ctl": (0, 2), "dup2": (0, 1), "dup3": (0, 1), "sendfile": (0, 1), "splice": (0, 2),
    "eventfd": (), "pipe2": (), "socket": (), "socketpair": (), "epoll_create1": (), "timerfd_create": (), "memfd_create": (),
    "open": (), "unlink": (), "mkdir": (), "poll": (), "ppoll": (), "select": (), "pselect": (), "nanosleep": (), "sigaction": (),
    "sigprocmask": (), "sigpending": (), "kill": (), "waitpid": (), "sleep": (), "pidfd_open": (), "exit": (), "alarm": (),
    "getpid": (), "spawn": (0,), "sigtimedwait": (), "pause": (), "tgkill": (),
}  # fmt: skip
"""Which arguments of a call are fds: their places; of those not named, the first is."""


def first_fd(call: Call) -> int | None:
    """The fd that a call (without a task's number) is about."""
    places = FD_PLACES.get(call[0], (0,))
    return call[1 + places[0]] if places and len(call) > 1 + places[0] else None


def renumber(call: Call, new: dict[int, int]) -> Call:
    """The call with other fds."""
    name, *args = call
    for i in FD_PLACES.get(name, (0,)):
        args[i] = new.get(args[i], args[i])
    for i, arg in enumerate(args):
        if isinstance(arg, tuple) and arg and arg[0] in ("of", "rights"):
            args[i] = (arg[0], *(new.get(fd, fd) for fd in arg[1:]))
    if name in ("poll", "ppoll"):
        args[0] = tuple((new.get(fd, fd), events) for fd, events in args[0])
    elif name in ("select", "pselect"):
        args[:3] = [tuple(new.get(fd, fd) for fd in fds) for fds in args[:3]]
    return (name, *args)
