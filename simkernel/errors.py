"""What only a bug can cause.  What a program may see is an OSError with Linux's errno, never one of these.

Exception
├── SimulationError         the run can't go on, or must not be believed
│   ├── Deadlock            every task sleeps and no timer is left (or the virtual deadline has passed)
│   ├── Livelock            calls without progress while virtual time stands still
│   ├── Unsupported         a call, flag or option that is not modelled
│   ├── InvariantViolation  the kernel's own books don't balance: a bug in simkernel
│   ├── Escape              a simulated program reached for the real world
│   ├── Nondeterminism      two runs of one tape differ: the program decides by something that is not on it
│   └── Verdict             an oracle has seen enough of a program: kind and message
├── Killed                  process 1 was ended by a signal, so run() has no result to return
├── Timeout                 simkernel.linux.run: the deadline in real seconds has passed
└── UsageError              a user's argument makes no sense; the text names it and the remedy
"""

import os
import traceback


class SimulationError(Exception):
    """A run of the fake kernel that can't go on.  Never raised for what Linux reports by errno."""


class Deadlock(SimulationError):
    """Every task sleeps and nothing can wake one.  The text says who sleeps in which call, at which line."""


class Livelock(SimulationError):
    """A task calls and calls, nothing moves, and virtual time stands still.  The text names the calls."""


class Unsupported(SimulationError):
    """A call, flag, option or address family that simkernel does not model.  It is never a silent success."""


class InvariantViolation(SimulationError):
    """The kernel's books don't balance (reference counts, queued bytes, ready lists): a bug in simkernel."""


class Escape(SimulationError):
    """A simulated program used the real world (a real socket, clock or random number) inside a run."""


class Verdict(SimulationError):
    """An oracle ends the run: what it has seen will not become better.  ``kind`` is the kind of failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Nondeterminism(SimulationError):
    """Two runs of one tape differ.  The text says at which call."""


class Killed(Exception):
    """Process 1 was ended by signal ``signum``, so its main returned nothing."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    def __str__(self) -> str:
        return f"process 1 was killed by signal {self.signum}"


class Timeout(Exception):
    """A run on the real kernel passed its deadline; its processes were killed."""


class UsageError(Exception):
    """An argument that can't be used.  The text names the argument and the remedy; commands print it and exit with 2."""


def is_ours(filename: str) -> bool:
    """Whether a frame is simkernel's own.  Those of the compiled build name their file from the package's parent on."""
    return filename.startswith((os.path.dirname(__file__), "simkernel/"))


def program_traceback(error: BaseException) -> str:
    """An exception's traceback as a program's author wants to see it: without the frames of simkernel's own."""
    formatted = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = formatted
    while link is not None:
        link.stack = traceback.StackSummary.from_list([frame for frame in link.stack if not is_ours(frame.filename)])
        link = link.__cause__ or link.__context__
    return "".join(formatted.format()).rstrip()


def oserror(errno: int) -> OSError:
    """The OSError (BlockingIOError, ConnectionResetError, ...) of an errno, with the C library's text."""
    return OSError(errno, os.strerror(errno))
