"""Signals (kernel/signal.c): so far those whose default action ends a process, and kill(2)."""

import errno

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.exit import do_group_exit
from simkernel.kernel.sched import Sched
from simkernel.uapi import SIGKILL, SIGTERM

NSIG = 64


def do_kill(sched: Sched, pid: int, signum: int) -> None:
    """kill(2).  Signal 0 only asks whether the process exists; a zombie does, and takes no harm."""
    if pid <= 0:
        raise Unsupported(f"kill({pid}): process groups are not modelled")
    process = sched.processes.get(pid)
    if process is None:
        raise oserror(errno.ESRCH)
    if not 0 <= signum <= NSIG:
        raise oserror(errno.EINVAL)
    if signum == 0:
        return
    if signum not in (SIGKILL, SIGTERM):
        raise Unsupported(f"signal {signum} is not modelled, only SIGKILL and SIGTERM")
    if process.exiting:
        return
    do_group_exit(sched, process, signum)
    if process is sched.current.process:
        sched.refuse()
