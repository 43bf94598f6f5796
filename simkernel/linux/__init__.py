"""Syscalls over the real Linux kernel, and run(): the other half of "the same code, two kernels".

LinuxSyscalls binds each call of simkernel.api to libc, and adds nothing: the errno is Linux's, an interrupted call raises EINTR
instead of starting again (PEP 475 is what os.read and socket.send do, and what a program's author must see here), a timeout keeps
the unit of its man page.  That is why it is ctypes and not os and socket; where a function of Python's is one call without a retry
(close, pipe2, clock_gettime) it is used, because it is faster.

run() gives a program what the fake kernel gives it: a fresh process 1 with nothing but stdin, stdout and stderr, and an end after
which nothing is left.

    caller                    trio waits for the supervisor's end (a pidfd), or for the deadline
      └─ supervisor           a session of its own, subreaper; ends every process below it, then itself
           └─ main            a session of its own, subreaper as init is; runs main(sys, *args)
                └─ ...        what main spawned, and orphans
"""

from simkernel.linux.supervise import run
from simkernel.linux.syscalls import LinuxSyscalls

__all__ = ["LinuxSyscalls", "run"]
