"""The system calls: one method a call, from arguments to the fd table to the file.

    base -> files -> vfs -> sockets -> waiting -> processes -> SimSyscalls

Each module adds the calls of one part of Linux to those of the one before.
"""

from simkernel.kernel.syscalls.base import NR_OPEN
from simkernel.kernel.syscalls.processes import ProcessCalls

__all__ = ["NR_OPEN", "SimSyscalls"]


class SimSyscalls(ProcessCalls):
    """api.Syscalls on the fake kernel."""

    __slots__ = ()
