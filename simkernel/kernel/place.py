"""Where a program is, for people: of all the frames between its own line and a system call, the one that they wrote.

A server on Python's modules calls send deep in asyncio.  Its own line is what counts; but what an event loop calls of its own accord, it
does for nobody's line, and there the library's is all there is.
"""

import os
import sysconfig
from types import FrameType
from typing import Final

_OURS: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
# What stands between a program and the kernel: no place to be shown.
_BELOW: Final = (os.path.join(_OURS, "kernel", ""), os.path.join(_OURS, "stdlib", ""))
_STDLIB: Final = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__)})
_SITE: Final = ("site-packages", "dist-packages")
# Whoever calls tasks and callbacks: beyond it lies only the line that started it.  The files, and the functions in them.
_LOOPS: Final = (os.path.join("asyncio", "base_events.py"), os.path.join("trio", "_core", "_run.py"))
_TURNS: Final = ("_run_once", "run", "unrolled_run")
# What a loop's own function calls before its first turn.
_BEGINNINGS: Final = ("setup_runner",)

# What a program is called that has no file.
_TYPED: Final = ("<string>", "<stdin>")

PROGRAM: Final = 0
LIBRARY: Final = 1
LOOP: Final = 2
BELOW: Final = 3

_kinds: Final[dict[str, int]] = {}


def kind_of_file(filename: str) -> int:
    """PROGRAM; LIBRARY: Python's, another's or ours; LOOP: an event loop, if the function is; BELOW: the kernel and what leads to it."""
    kind = _kinds.get(filename)
    if kind is None:
        kind = PROGRAM
        if filename.startswith(_BELOW):
            kind = BELOW
        elif filename.endswith(_LOOPS):
            kind = LOOP
        elif filename.startswith((*_STDLIB, _OURS, "simkernel/")) or any(site in filename for site in _SITE):
            kind = LIBRARY
        elif filename.startswith("<") and filename not in _TYPED:
            # Made by a library.
            kind = LIBRARY
        _kinds[filename] = kind
    return kind


def program_frame(frame: FrameType) -> FrameType:
    """The innermost frame of the program from ``frame`` on outwards; if there is none on this side of an event loop, the library's."""
    first: FrameType | None = None
    begins = False
    at: FrameType | None = frame
    while at is not None:
        kind = kind_of_file(at.f_code.co_filename)
        if kind == PROGRAM:
            return at
        if kind != BELOW and first is None:
            first = at
        if kind == LOOP and not begins:
            name = at.f_code.co_name
            begins = name in _BEGINNINGS
            if name in _TURNS:
                break
        at = at.f_back
    return first if first is not None else frame


def library_call(frame: FrameType) -> str:
    """What the program has called, of the functions from ``frame`` on outwards: ``Queue.get``, ``lock.acquire``; "" if nothing."""
    through = ""
    at: FrameType | None = frame
    while at is not None:
        kind = kind_of_file(at.f_code.co_filename)
        name = at.f_code.co_qualname
        # A thread may have been started with a library's function.
        if kind in (PROGRAM, LOOP) or name == "Thread.run":
            break
        through = name
        at = at.f_back
    return through
