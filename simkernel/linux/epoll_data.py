"""epoll's 64 bits of data, and the objects that they stand for."""

import itertools
import os
from typing import Any, Final

from simkernel.linux.libc import EPOLL_EVENT, EPOLL_EVENT_SIZE

#
# The kernel keeps 64 bits for each registration; we keep any object.  Small ints (and so the default, the fd) are stored as they are.
# Any other object gets a token: the number of the process that registered it, above a counter.  A token belongs to the object, not to
# the registration: what was registered once stays valid through dup, MOD and fork, and for the registration that lives on after
# its fd was closed while a dup was not.  A child has its parent's objects as of the fork.  An event whose data
# another process registered later can't be turned into its object: the memory isn't shared.  That raises RuntimeError.
#
# Nothing tells us when a registration ends, so from time to time we read what the kernel still knows (/proc/self/fdinfo lists the
# data of each registration) and drop the rest: at each doubling, and only what was gone at the previous look too, since another
# thread may hold an event it has fetched and not yet translated.

PLAIN: Final = 1 << 32
_SWEEP_AT: Final = 1024
_objects: dict[int, object] = {}  # token -> object
_tokens: dict[int, int] = {}  # id(object) -> token; the id is good as long as _objects holds the object
_counter: Final = itertools.count()
_gone: set[int] = set()
_sweep_at = _SWEEP_AT


def token_of(data: object) -> int:
    """The 64 bits that stand for an object that is no small int."""
    token = _tokens.get(id(data))
    if token is None or token not in _objects:
        if len(_objects) >= _sweep_at:
            _sweep()
        token = os.getpid() << 40 | next(_counter)
        _objects[token] = data
        _tokens[id(data)] = token
    else:
        _gone.discard(token)
    return token


def _object(token: int) -> object:
    try:
        return _objects[token]
    except KeyError:
        raise RuntimeError(
            f"an epoll event carries data that process {token >> 40} registered after the fork; process {os.getpid()} can't know that "
            "object: register fds, or small ints, where processes share an epoll instance"
        ) from None


def _sweep() -> None:
    """Drop objects that no epoll instance of this process has had a registration for, at this look and the one before."""
    global _gone, _sweep_at
    live: set[int] = set()
    try:
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                    with open(f"/proc/self/fdinfo/{name}") as info:
                        live.update(int(line.split("data:")[1].split()[0], 16) for line in info if line.startswith("tfd:"))
            except FileNotFoundError:  # closed by another thread, or the listing's own
                pass
    except OSError:  # no /proc, or no free fd to look with: try again later
        _sweep_at *= 2
        return
    gone = _objects.keys() - live
    for token in gone & _gone:
        data = _objects.pop(token)
        if _tokens.get(id(data)) == token:
            del _tokens[id(data)]
    _gone = gone & _objects.keys()
    _sweep_at = max(_SWEEP_AT, 2 * len(_objects))


def forget_objects() -> None:
    """In process 1 of a run: the caller's registrations are not its own."""
    _objects.clear()
    _tokens.clear()


def events_of(buf: bytes, n: int) -> list[tuple[Any, int]]:
    """The (data, events) of the first ``n`` epoll_events in ``buf``."""
    found = EPOLL_EVENT.iter_unpack(buf[: n * EPOLL_EVENT_SIZE])
    return [(token if token < PLAIN else _object(token), events) for events, token in found]
