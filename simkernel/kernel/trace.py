"""The trace: one event for each state change, in the order in which they happened.

An event is a tuple, so that tracing stays cheap:

    ((t_ns, pid, ctx), ev, fn, cause, name, value, name, value, ...)
    ((t_ns, pid, ctx), "sys_enter", call, cause, args, code, lasti)

``t_ns`` virtual nanoseconds; ``pid`` the task (0: nobody); ``ctx`` "task" or "irq": these three change seldom, so that events share
them; ``ev`` the name, Linux's tracepoint where there is one; ``fn`` the kernel function; ``cause`` the seq of the event that made this
one happen, or -1; ``code`` and ``lasti`` the program's place (resolved to file:line when someone reads it).
Its index in ``events`` is its seq.  Read events with ``event`` and ``unpacked``, or as dicts with ``records``.
"""

import hashlib
from collections.abc import Iterator
from types import CodeType
from typing import Any, TypeAlias

Where: TypeAlias = "tuple[int, int, str]"
# An event as it is kept, and as it is read: where, ev, fn, code, lasti, cause, fields (name, value, name, value...).
Event: TypeAlias = "tuple[Any, ...]"
Unpacked: TypeAlias = "tuple[Where, str, str, CodeType | None, int, int, tuple[Any, ...]]"


class Trace:
    """A trace kept in memory.  ``on`` is the one flag that the kernel tests; with it off nothing is recorded.

    ``indirect``: programs make their calls through Python's own modules, so their places have to be looked for (place.py).
    """

    __slots__ = ("cause", "events", "indirect", "limit", "on", "where")

    def __init__(self, on: bool = True, limit: int = 10_000_000) -> None:
        self.on = on
        self.indirect = False
        self.events: list[Event] = []
        self.limit = limit
        # Where the machine is: (virtual ns, pid, "task" or "irq"), and the event that is the cause of what happens now.
        self.where: Where = (0, 1, "task")
        self.cause = -1

    def emit(self, ev: str, fn: str, fields: tuple[Any, ...]) -> int:
        """Record an event of the running context, caused by ``self.cause``; returns its seq.  ``fields``: name, value, name, value..."""
        events = self.events
        events.append((self.where, ev, fn, self.cause, *fields))
        return len(events) - 1

    def __len__(self) -> int:
        return len(self.events)

    def event(self, seq: int) -> Unpacked:
        """One event, to be read."""
        return unpack(self.events[seq])

    def unpacked(self, end: int | None = None, begin: int = 0) -> Iterator[Unpacked]:
        """The events from ``begin`` to ``end`` (default: all), to be read."""
        return map(unpack, self.events[begin:end])

    def records(self) -> Iterator[dict[str, Any]]:
        """The events as dicts with the documented keys: seq, t_ns, pid, ctx, ev, fn, at, cause, f."""
        for seq, ((t_ns, pid, ctx), ev, fn, code, lasti, cause, fields) in enumerate(self.unpacked()):
            yield {
                "seq": seq,
                "t_ns": t_ns,
                "pid": pid,
                "ctx": ctx,
                "ev": ev,
                "fn": fn,
                "at": place(code, lasti) if code is not None else None,
                "cause": cause,
                "f": dict(zip(fields[::2], fields[1::2], strict=True)),
            }

    def digest(self) -> str:
        """A SHA-256 over all events but their places in files, equal for equal runs on any machine and any Python."""
        h = hashlib.sha256()
        for where, ev, fn, _code, _lasti, cause, fields in self.unpacked():
            h.update(repr((*where, ev, fn, cause, fields)).encode())
        return h.hexdigest()


def unpack(event: Event) -> Unpacked:
    """An event as it is read."""
    if event[1] == "sys_enter":
        where, ev, fn, cause, args, code, lasti = event
        return where, ev, fn, code, lasti, cause, ("args", args)
    return event[0], event[1], event[2], None, 0, event[3], event[4:]


def line_of(code: CodeType, lasti: int) -> int:
    """The source line of an instruction."""
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= lasti < end and number is not None:
            line = number
    return line


def place(code: CodeType, lasti: int) -> str:
    """``file:line`` of an instruction."""
    return f"{code.co_filename}:{line_of(code, lasti)}"
