"""Threads and forks of the real process."""

import itertools
import os
import sys
import threading
import warnings
from typing import Final

threads: dict[int, threading.Thread] = {}
thread_ids: Final = itertools.count(1)


class _Own(threading.local):
    tid = 0  # of the running thread; 0 for the first of a process


own: Final = _Own()


def forget_threads() -> None:
    """In a child: fork copies the calling thread only, and that is the child's first."""
    threads.clear()
    own.tid = 0


def flush_stdio() -> None:
    """Write out what print has buffered; a broken stream is left alone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # none, a closed pipe, a closed file: as at exit, nobody is left to tell
            pass


def fork_process() -> int:
    """fork(2): 0 in the child."""
    flush_stdio()  # or both processes would print what is still buffered
    if sys.version_info < (3, 12):
        return os.fork()
    with warnings.catch_warnings():
        # Python 3.12 warns that a child of a threaded process may find locks taken.  fork(2) with threads is what was asked for.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def exit_code(e: SystemExit) -> int:
    """The exit status that sys.exit(x) stands for."""
    if e.code is None:
        return 0
    if isinstance(e.code, int):
        return e.code & 0xFF
    print(e.code, file=sys.stderr)
    return 1
