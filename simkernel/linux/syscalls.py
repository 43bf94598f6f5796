"""api.Syscalls over libc, one call each.

    libc -> files -> sockets -> waiting -> processes -> LinuxSyscalls

Each module adds the calls of one part of Linux to those of the one before, as simkernel/kernel/syscalls does.
"""

from simkernel.linux.processes import ProcessCalls


class LinuxSyscalls(ProcessCalls):
    """simkernel.api.Syscalls over the real kernel: each method is one call of libc.

    OSError with the kernel's errno; TypeError for what is no int, OverflowError for what a C int can't hold, ValueError for a negative
    size.  Nothing is tried again: EINTR is raised, as a timeout is an empty result.
    """

    __slots__ = ()
