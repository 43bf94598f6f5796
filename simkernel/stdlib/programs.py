"""Programs that nobody changed, as the processes of one simulated machine: ``simkernel exec`` and simkernel.programs."""

import contextlib
import os
import shlex
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, BinaryIO, Final

from simkernel.api import Main, Syscalls
from simkernel.errors import Deadlock, UsageError
from simkernel.kernel.choice import Choice
from simkernel.kernel.hostio import HostInput, HostOutput
from simkernel.kernel.machine import Kernel
from simkernel.kernel.net.inet import TCP_LISTEN
from simkernel.kernel.net.socket import Socket
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.sched import Process
from simkernel.kernel.trace import Trace
from simkernel.stdlib.hosts import LOCAL, Hosts
from simkernel.stdlib.process import host_kernel, run_machine, run_program
from simkernel.stdlib.world import World
from simkernel.uapi import POLLIN, SOCK_STREAM

# Called with (program, its name, 1 for stdout or 2 for stderr, what it wrote).
Output = Callable[[int, str, int, bytes], None]
# A program's arguments: a line as a shell has it, or a list.
Command = str | Sequence[str]

# Longer than any timer of a program: what is past it comes only when nothing else will.
FOREVER_NS: Final = 2**62
# How long servers have, in virtual time, when the last program has ended; and after SIGTERM.
GRACE_NS: Final = 1_000_000_000
# As a shell gives the status of a process that a signal ended.
KILLED_STATUS: Final = 128


@dataclass
class Program:
    """One program of a run: its command, and what became of it.

    ``status`` is its exit status as a shell has it, None if it was not over.
    """

    name: str
    argv: list[str]
    status: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass
class Run:
    """What became of the programs of a machine.

    status   as of a pipeline with ``pipefail``: the last status that is not 0.  A program that was still serving at the end has none.
    serving  those that still slept as servers when all others had ended, in words: where each was
    """

    programs: list[Program] = field(default_factory=list)
    serving: list[str] = field(default_factory=list)
    trace: Trace | None = None

    @property
    def status(self) -> int:
        """The exit status of the whole."""
        return next((program.status for program in reversed(self.programs) if program.status), 0)


def parse(command: Command) -> Program:
    """A program from its command.  UsageError when there is no such script or module."""
    argv = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    if argv and os.path.basename(argv[0]).startswith("python") and len(argv) > 1:
        # As one would start it without us.
        del argv[0]
    if not argv:
        raise UsageError("a program is a script, or -m and a module, with its arguments; this one is empty")
    if argv[0] in ("-m", "-c"):
        if len(argv) < 2:
            raise UsageError(f"after {argv[0]} comes {'a module' if argv[0] == '-m' else 'a program as text'}")
        if argv[0] == "-m":
            sys.path.insert(0, os.getcwd())
            try:
                if find_spec(argv[1]) is None:
                    raise UsageError(f"there is no module {argv[1]!r}")
            except ModuleNotFoundError as error:
                raise UsageError(f"there is no module {argv[1]!r}: {error}") from None
            finally:
                del sys.path[0]
            return Program(argv[1], argv)
        return Program("-c", argv)
    if argv[0].startswith("-"):
        raise UsageError(f"{argv[0]} is no option of a program: begin with a script, -m MODULE or -c CODE")
    if not os.path.isfile(argv[0]):
        raise UsageError(f"there is no script {argv[0]!r}")
    return Program(os.path.basename(argv[0]), argv)


def programs(
    *commands: Command,
    stdin: bytes | BinaryIO = b"",
    seed: int | None = None,
    choice: Choice | None = None,
    trace: Trace | None = None,
    output: Output | None = None,
    hosts: str = "",
    **options: Any,
) -> Run:
    """Run programs as the processes of one fake machine; each is started when those before it have fallen asleep.

    commands  ``"server.py"``, ``"client.py --port 9000"``, ``"-m http.server 8000"``, or lists of arguments
    stdin     what the last program reads: bytes, or a file object of the real world.  The others read /dev/null.
    output    called with (program's index, its name, 1 or 2, bytes) for what they write, as it is written; ``Run`` has all of it too
    hosts     more names of hosts, in the format of /etc/hosts; a name that is in no table does not exist
    seed, choice, trace, options: as for ``simkernel.run``; ``profile`` and the others are Kernel's

    The run is over when every program has ended, or when all that are left are servers that sleep (they listen): these get SIGTERM.
    Raises Deadlock when programs that are no servers sleep for good, and UsageError for a command that makes no sense.
    """
    if not commands:
        raise UsageError("give at least one program")
    run = Run([parse(command) for command in commands], trace=trace)
    kernel = host_kernel(seed, choice, trace, **options)
    inputs = [*[None] * (len(commands) - 1), stdin]
    table = LOCAL + hosts
    Hosts(table)
    mains = [process_main(kernel, i, program, inputs[i], output, table) for i, program in enumerate(run.programs)]
    run_machine(kernel, _init, kernel, run, mains)
    return run


def process_main(kernel: Kernel, i: int, program: Program, stdin: bytes | BinaryIO | None, output: Output | None, hosts: str) -> Main:
    """The main of the process in which a program runs."""

    def write(fd: int, data: bytes) -> None:
        if fd == 1:
            program.stdout += data
        else:
            program.stderr += data
        if output is not None:
            output(i, program.name, fd, data)

    def main(sys: Syscalls) -> None:
        sched = kernel.sched
        files = sched.current.process.files
        for fd in range(3):
            sys.close(fd)
        if stdin is None:
            sys.open("/dev/null", os.O_RDONLY)
        else:
            data, more = source_of(stdin)
            files.fd_install(0, HostInput(sched, data, more), cloexec=False)
        files.fd_install(1, HostOutput(sched, lambda data: write(1, data)), cloexec=False)
        files.fd_install(2, HostOutput(sched, lambda data: write(2, data)), cloexec=False)
        world = World()
        world.hosts = Hosts(hosts)
        sys.exit(run_program(world, program.argv))

    main.__name__ = program.name
    return main


def source_of(stdin: bytes | BinaryIO) -> tuple[bytes, Callable[[], bytes] | None]:
    """What is there to read from the start, and how to wait for more: a file is read now, a terminal or a pipe line by line."""
    if isinstance(stdin, bytes):
        return stdin, None
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.fstat(stdin.fileno()).st_mode):
            return b"", stdin.readline
    return stdin.read(), None


def _init(sys: Syscalls, kernel: Kernel, run: Run, mains: list[Main]) -> None:
    """Process 1: start the programs, and wait for them."""
    alive: dict[int, Program] = {}
    pid = 0
    for main, program in zip(mains, run.programs, strict=True):
        if alive:
            # Time moves on, even by so little, only when everybody sleeps.
            sys.nanosleep(1)
        pid = sys.spawn(main)
        alive[pid] = program
    last = pid
    while alive:
        ended = reap(sys, alive, FOREVER_NS)
        if not ended and not all_serve(kernel, alive):
            kernel.sched.stop(Deadlock("every program sleeps and no timer is left"))
        if not ended or (last not in alive and all_serve(kernel, alive)):
            break
    if alive:
        # What they still do for those who have gone.
        reap(sys, alive, GRACE_NS)
    for pid in alive:
        run.serving += [kernel.where(task) for task in kernel.sched.processes[pid].threads]
        sys.kill(pid, signal.SIGTERM)
    while alive and reap(sys, alive, GRACE_NS, note=False):
        pass


def reap(sys: Syscalls, alive: dict[int, Program], timeout_ns: int, note: bool = True) -> bool:
    """Wait until a program has ended and take its exit status.  False at the timeout."""
    pidfds = {sys.pidfd_open(pid): pid for pid in alive}
    ready = sys.ppoll([(fd, POLLIN) for fd in pidfds], timeout_ns)
    for fd in pidfds:
        sys.close(fd)
    for fd, _ in ready:
        pid, status = sys.waitpid(pidfds[fd])
        program = alive.pop(pid)
        if note:
            code = os.waitstatus_to_exitcode(status)
            program.status = code if code >= 0 else KILLED_STATUS - code
    return bool(ready)


def all_serve(kernel: Kernel, alive: dict[int, Program]) -> bool:
    """Whether each program that is left is a server: others may come to a socket of it."""
    return all(serves(kernel.sched.processes[pid]) for pid in alive)


def serves(process: Process) -> bool:
    """Whether a process has a socket that listens, or takes datagrams from anyone."""
    for file in process.files.open_fds().values():
        if isinstance(file, Socket):
            sk = file.proto
            if (sk.type == SOCK_STREAM and sk.state == TCP_LISTEN) or (isinstance(sk, UdpSock) and sk.sport and not sk.rport):
                return True
    return False
