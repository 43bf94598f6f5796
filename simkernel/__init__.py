"""simkernel: a deterministic, in-memory fake Linux kernel, and servers that run unchanged on it and on real Linux.

    import simkernel
    simkernel.run(main)          main(sys) is process 1 of a fake machine
    simkernel.linux.run(main)    the same function on the real kernel

A map of the code, from the program down to the bytes:

    api        Syscalls: what a server is written against       uapi      Linux's constants and their names
    linux      Syscalls over the real kernel                    errors    SimulationError and its children
    cli        the simkernel command                            testing   check, contracts, exploration, the pytest plugin
    stdlib     Python's own modules on the fake kernel, for programs nobody changed; asyncio, trio: run a coroutine there
    conform    proof against the running kernel, call by call
    kernel/    the fake kernel, a file a Linux noun:
      machine  boot, run, snapshot          entry, syscalls    into the kernel: arguments -> fd table -> file
      fork exit signal task_work   processes sched wait clock irq choice trace   tasks, sleeping, time, interrupts
      file fdtable poll select eventpoll    pipe eventfd timerfd signalfd pidfd itimer splice
      namei shmem namespace    paths, files in memory       chardev mem procfs    /dev and /proc
      net/     socket unix unix_stream unix_dgram scm garbage tcp udp inet skbuff loopback; net_namespace veth tcp_timer: hosts and links
      liberties fault_inject   what the machine may do of its own accord
    tools/     readers of a trace
"""

import importlib
from typing import TYPE_CHECKING, Any

from simkernel.api import Syscalls
from simkernel.errors import (
    Deadlock,
    Escape,
    InvariantViolation,
    Killed,
    Livelock,
    Nondeterminism,
    SimulationError,
    Timeout,
    Unsupported,
    UsageError,
)

if TYPE_CHECKING:
    from simkernel import asyncio, linux, testing, trio
    from simkernel.kernel.choice import Choice, Plain, Recording, Seeded, Swarm, Tape
    from simkernel.kernel.exhaustive import Exhaustive
    from simkernel.kernel.machine import Kernel, run
    from simkernel.kernel.pct import Pct
    from simkernel.kernel.trace import Trace
    from simkernel.stdlib.programs import programs

__version__ = "0.1.0"

__all__ = [
    "Choice",
    "Deadlock",
    "Escape",
    "Exhaustive",
    "InvariantViolation",
    "Kernel",
    "Killed",
    "Livelock",
    "Nondeterminism",
    "Pct",
    "Plain",
    "Recording",
    "Seeded",
    "SimulationError",
    "Swarm",
    "Syscalls",
    "Tape",
    "Timeout",
    "Trace",
    "Unsupported",
    "UsageError",
    "asyncio",
    "linux",
    "programs",
    "run",
    "testing",
    "trio",
]


# Imported when first used: the pytest plugin is loaded by every pytest, and a run on one kernel does not need the other.
_HOMES = {
    **dict.fromkeys(("Choice", "Plain", "Recording", "Seeded", "Swarm", "Tape"), "choice"),
    "Exhaustive": "exhaustive",
    **dict.fromkeys(("Kernel", "run"), "machine"),
    "Pct": "pct",
    "Trace": "trace",
}


def __getattr__(name: str) -> Any:
    if name in ("asyncio", "linux", "testing", "trio"):
        return importlib.import_module(f"simkernel.{name}")
    if name == "programs":
        return importlib.import_module("simkernel.stdlib.programs").programs
    if name not in _HOMES:
        raise AttributeError(f"module 'simkernel' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"simkernel.kernel.{_HOMES[name]}"), name)
    return value
