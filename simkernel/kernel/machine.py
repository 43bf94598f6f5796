"""The machine: boot, run, and a look inside."""

from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from types import FrameType
from typing import Any, Final

from simkernel.api import Syscalls
from simkernel.errors import Deadlock, Killed, Livelock, UsageError, Verdict
from simkernel.kernel.chardev import Console, OpenDevice, register_chrdev
from simkernel.kernel.choice import Choice, Plain
from simkernel.kernel.debug import check_books, check_sleepers
from simkernel.kernel.entry import COMPILED, EnteredSyscalls
from simkernel.kernel.eventfd import EventFd
from simkernel.kernel.eventpoll import EventPoll
from simkernel.kernel.exit import do_exit
from simkernel.kernel.fault_inject import FaultAttr
from simkernel.kernel.fdtable import DeadFiles
from simkernel.kernel.file import File
from simkernel.kernel.fork import Crash, copy_process, print_crash, wake_up_new_task
from simkernel.kernel.hostfs import host_umask
from simkernel.kernel.liberties import check_profile
from simkernel.kernel.namei import PosFile
from simkernel.kernel.net.socket import Sock, Socket, Sysctl
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.net.unix import UnixSock
from simkernel.kernel.pipe import Pipe
from simkernel.kernel.place import library_call, program_frame
from simkernel.kernel.sched import KSigAction, Sched, Task, TaskExit
from simkernel.kernel.signal import do_group_exit, send_sigpipe
from simkernel.kernel.syscalls import NR_OPEN, SimSyscalls
from simkernel.kernel.trace import Trace
from simkernel.kernel.tracepoint import Probe, ProbedSyscalls
from simkernel.kernel.wait import TaskWait
from simkernel.kernel.watch import Watch
from simkernel.uapi import EPOLL_NAMES, O_RDONLY, O_WRONLY, RLIMIT_NOFILE, SIG_IGN, SIGKILL, SIGPIPE, SOCK_NAMES, flags

KERNEL_DIR: Final = str(Path(__file__).parent)

# What a choice may give to buffers: the bytes of a socket's receive and of its send buffer, or None for Linux's defaults.  4608 is the
# least that Linux leaves a send buffer when memory is short (SOCK_MIN_SNDBUF, sk_stream_moderate_sndbuf).
BUFFER_SIZES: Final = (None, (4608, 4608), (16384, 16384), (65536, 65536), (131072, 4608))


class Kernel:
    """A fake machine, booted and ready for one run.

    choice       where nondeterministic decisions come from (default: Plain, always the plain behaviour)
    trace        a Trace to record into (default: none)
    deadline_ns  virtual time, in nanoseconds since boot, at which the run ends with Deadlock (default: none)
    max_stalled  calls without progress, while virtual time stands still, that are a Livelock
    nofile       (soft, hard) RLIMIT_NOFILE of process 1
    file_max     fs.file-max: open files on the whole machine, above which calls fail with ENFILE, as for a program without CAP_SYS_ADMIN
                 (default: None, no limit: programs run as root, which Linux exempts; so on Linux ENFILE is not seen as root either)
    debug        check the kernel's own books after each call, and look for lost wake-ups (slow): InvariantViolation
    hostfs       whether its root is the real file system: paths are real, every fd is simulated (hostfs.py)
    profile      what the machine may do of its own accord: "linux", "network" or "posix" (liberties.py)
    watch        who looks on, for bugs of the programs (watch.py)
    harsh        under "posix", whether the program may be stopped while it waits (epoll_wait: EINTR), and memory, fds and processes may run
                 out for more than accept and a send that has to wait
    on_crash     called with (task, exception) when a process other than 1 ends by an exception (default: print it to stderr)
    probes       called with ("sys_enter" or "sys_exit", name of the call) around each system call (tracepoint.py)
    on_stop      called with this Kernel when the run has ended by Deadlock, Livelock, Verdict or a probe\'s AssertionError, while every
                 task is still where it slept
    """

    __slots__ = ("on_stop", "result", "sched", "sys", "sysctl")

    def __init__(
        self,
        choice: Choice | None = None,
        trace: Trace | None = None,
        *,
        deadline_ns: int | None = None,
        max_stalled: int = 10_000,
        nofile: tuple[int, int] = (1024, NR_OPEN),
        file_max: int | None = None,
        debug: bool = False,
        hostfs: bool = False,
        profile: str = "linux",
        harsh: bool = True,
        watch: Watch | None = None,
        on_crash: Crash = print_crash,
        on_stop: "Callable[[Kernel], None] | None" = None,
        probes: Sequence[Probe] = (),
    ) -> None:
        soft, hard = nofile
        if not 3 <= soft <= hard <= NR_OPEN:
            raise UsageError(f"nofile must be (soft, hard) with 3 <= soft <= hard <= {NR_OPEN}, not {nofile}")
        if max_stalled < 100:
            raise UsageError(f"max_stalled must be at least 100, not {max_stalled}: epoll loops make a few calls between progress")
        if file_max is not None and file_max < 3:
            raise UsageError(f"file_max must be at least 3, for stdin, stdout and stderr, or None for no limit, not {file_max}")
        check_profile(profile)
        self.sched = Sched(choice or Plain(), trace if trace is not None else Trace(on=False), deadline_ns, max_stalled)
        sched = self.sched
        sched.dead_files = DeadFiles(sched)
        sched.watch = watch
        if file_max is not None:
            sched.max_files = file_max
            sched.cap_sys_admin = False
        self.sysctl = Sysctl()
        if sched.explore:
            self._choose_buffers()
        if debug:

            def check(ev: str, call: str) -> None:
                if ev == "sys_exit":
                    check_books(sched, call)

            probes = (*probes, check)
            sched.check_sleepers = lambda: check_sleepers(sched)
        self.sys: SimSyscalls
        if probes:
            self.sys = ProbedSyscalls(sched, self.sysctl, on_crash, probes)
        elif sched.explore or sched.trace.on or COMPILED:
            self.sys = EnteredSyscalls(sched, self.sysctl, on_crash)
        else:
            self.sys = SimSyscalls(sched, self.sysctl, on_crash)
        sched.ticks = profile != "linux"
        if profile == "posix" and sched.explore and isinstance(self.sys, EnteredSyscalls):
            self.sys.faults = FaultAttr(self.sys, harsh)
        self.result: Any = None
        self.on_stop = on_stop
        sched.send_sigpipe = lambda: send_sigpipe(sched)
        sched.exit_to_user = self.sys._exit_to_user
        init = copy_process(sched, None, "main")
        # As Python starts a program.
        init.process.action[SIGPIPE] = KSigAction(SIG_IGN)
        init.process.rlimits[RLIMIT_NOFILE] = nofile
        self.sys.hostfs = hostfs
        if hostfs:
            init.process.umask = host_umask()
        for fd in range(3):
            init.files.fd_install(fd, Console(sched, O_WRONLY if fd else O_RDONLY, stderr=fd == 2), cloexec=False)

    def _choose_buffers(self) -> None:
        """How much buffer a connection has is Linux's choice (tcp_mem, autotuning; tcp(7)), so it is one of the run's."""
        sizes = BUFFER_SIZES[self.sched.choice.pick(len(BUFFER_SIZES), "buffers")]
        if sizes is not None:
            sysctl = self.sysctl
            rmem, wmem = sizes
            sysctl.tcp_rmem = (4096, rmem, rmem)
            sysctl.tcp_wmem = (4096, wmem, wmem)
            sysctl.unix_wmem = wmem
            sysctl.rmem_default, sysctl.wmem_default = rmem, wmem

    def register_chrdev(self, name: str, driver: OpenDevice) -> None:
        """Make /dev/``name``: each open(2) of it calls ``driver(sched, f_flags)``, which returns a new File.  UsageError if it is there."""
        register_chrdev(self.sys.vfs, name, driver)

    def run(self, main: Callable[..., object], *args: object) -> Any:
        """Run ``main(sys, *args)`` as process 1 and return what it returns, or raise what it raised.

        When it returns, everything else is killed, as when init exits.  Raises Deadlock, Livelock or another SimulationError if the run
        could not go on, Killed if a signal ended process 1.
        """
        sched = self.sched
        init = sched.tasks[1]
        sched.current = init
        outcome: list[BaseException] = []

        def body(sys: SimSyscalls, *args: object) -> None:
            try:
                self.result = main(sys, *args)
            except TaskExit:
                raise
            except BaseException as error:
                outcome.append(error)

        wake_up_new_task(sched, init, body, (self.sys, *args), print_crash)
        sched.runqueue.clear()
        assert init.greenlet is not None
        try:
            init.greenlet.switch()
            while 1 in sched.tasks and sched.fatal is None:
                # A task has ended: run the next one.
                self._run_next()
            if sched.fatal is not None:
                if isinstance(sched.fatal, (Deadlock, Livelock, Verdict, AssertionError)):
                    sched.fatal.add_note(self.report())
                    if self.on_stop is not None:
                        self.on_stop(self)
                raise sched.fatal
        finally:
            self._kill_all()
            if self.sys.vfs.umount is not None:
                self.sys.vfs.umount()
        if outcome:
            raise outcome[0]
        code = init.process.exit_code
        if code & 0x7F:
            raise Killed(code & 0x7F)
        if code:
            raise SystemExit(code >> 8)
        return self.result

    def _run_next(self) -> None:
        """The hub's part of schedule(): the task that ran is gone."""
        sched = self.sched
        if sched.undying is not None:
            task, sched.undying = sched.undying, None
            do_exit(sched, task, 9)
            return
        while not sched.runqueue and sched.fatal is None:
            try:
                sched.idle()
            except TaskExit:
                return
        if sched.fatal is None:
            sched.context_switch(sched.pick_next_task())

    def _kill_all(self) -> None:
        """init has exited: end every task that is left, in order of pid."""
        sched = self.sched
        trace_on, sched.trace.on = sched.trace.on, False
        sched.explore = sched.explored = False
        for process in sorted(sched.processes.values(), key=lambda p: p.pid):
            if process.threads and not process.exiting:
                do_group_exit(sched, process, SIGKILL)
        sched.fatal = sched.fatal or TaskExit()
        while sched.tasks:
            task = sched.tasks[min(sched.tasks)]
            sched.current = task
            if task.greenlet is None or not task.greenlet:
                do_exit(sched, task, 9)
                continue
            task.greenlet.throw(TaskExit)
            if task.pid in sched.tasks:
                # It caught even this and is parked for good.
                do_exit(sched, task, 9)
        sched.trace.on = trace_on

    def dismantle(self) -> None:
        """Take a machine apart whose run is over and at which nobody will look again.

        Its parts refer to each other in circles, which the garbage collector would have to find: a twentieth of the time of short runs.
        """
        self.sched.dismantle()
        self.sys.dismantle()

    # --- a look inside ---
    def report(self) -> str:
        """Who sleeps where: a line for each task."""
        tasks = self.sched.tasks
        return "\n".join(f"  {self.where(tasks[pid])}" for pid in sorted(tasks)) or "  no task is left"

    def where(self, task: Task) -> str:
        """One task in words: ``main (pid 1) sleeps in recv(3), file.py:12``."""
        thread = f", thread {task.pid}" if task.pid != task.process.pid else ""
        name = f"{task.process.comm} (pid {task.process.pid}{thread})"
        call = self.call_of(task)
        if call is None:
            return f"{name} is runnable" if task.state == "R" else f"{name} has not begun"
        function, fd, at = call
        verb = "sleeps in" if task.state == "S" else "is in"
        through, what = self.lock_of(task)
        return f"{name} {verb} {function}({'' if fd is None else fd}){through}, {at}{what}"

    def lock_of(self, task: Task) -> tuple[str, str]:
        """Of a thread that sleeps on a lock: through which operation of a library it came there, and whose the lock is; else two ""."""
        wq = task.wchan
        if wq is None or wq.label != "futex":
            return "", ""
        describe = getattr(wq.owner, "describe", None)
        frame = task.greenlet.gr_frame if task.greenlet else None
        through = library_call(frame) if frame is not None and self.sched.trace.indirect else ""
        return f" in {through}" if through else "", f", for {describe(task.pid)}" if describe is not None else ""

    def call_of(self, task: Task) -> tuple[str, int | None, str] | None:
        """The system call that a parked task is in: its name, its fd if it has one, and the program's ``file:line``."""
        frame: FrameType | None = task.greenlet.gr_frame if task.greenlet else None
        found: tuple[str, int | None] | None = None
        sched = self.sched
        noted = isinstance(self.sys, EnteredSyscalls)
        if noted and task.call:
            found = task.call, task.call_fd if takes_fd(task.call) and isinstance(task.call_fd, int) else None
        while frame is not None:
            filename = frame.f_code.co_filename
            if not filename.startswith(KERNEL_DIR):
                if found is not None:
                    if sched.trace.indirect:
                        frame = program_frame(frame)
                    return found[0], found[1], f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            elif not noted and isinstance(frame.f_locals.get("self"), SimSyscalls) and not frame.f_code.co_name.startswith("_"):
                # Where nobody takes notes the kernel's own frames tell; compiled it has none, and takes notes.
                fd = frame.f_locals.get("fd", frame.f_locals.get("epfd"))
                found = frame.f_code.co_name, fd if isinstance(fd, int) else None
            frame = frame.f_back
        return None

    def snapshot(self) -> dict[str, Any]:
        """The state of the machine in plain values: tasks, fds, files, and what waits where.  Equal for equal states."""
        sched = self.sched
        files: dict[int, File] = {}
        processes: dict[int, Any] = {}
        for pid, process in sorted(sched.processes.items()):
            open_fds = process.files.open_fds() if process.threads else {}
            files.update({file.ino: file for file in open_fds.values()})
            processes[pid] = {
                "comm": process.comm,
                "parent": process.parent.pid if process.parent else 0,
                "zombie": process.zombie,
                "fds": {fd: file.ino for fd, file in open_fds.items()},
                "threads": {task.pid: task.state for task in process.threads},
            }
        return {
            "t_ns": sched.clock.now,
            "processes": processes,
            "files": {ino: describe_file(file) for ino, file in sorted(files.items())},
            "runqueue": [task.pid for task in sched.runqueue],
        }


def takes_fd(call: str) -> bool:
    """Whether the first argument of a system call is an fd."""
    return list(signature(getattr(Syscalls, call)).parameters)[1:2] in (["fd"], ["epfd"])


def describe_file(file: File) -> dict[str, Any]:
    """A file in plain values."""
    out: dict[str, Any] = {"kind": file.kind, "flags": file.f_flags, "count": file.f_count}
    if isinstance(file, EventPoll):
        out["items"] = [(epi.fd, epi.file.ino, flags(epi.events, EPOLL_NAMES)) for epi in file.rbr.values()]
        out["ready"] = [epi.fd for epi in file.rdllist]
        out["sleepers"] = [entry.task.pid for entry in file.wq.entries if isinstance(entry, TaskWait)]
    elif isinstance(file, EventFd):
        out["count_value"] = file.count
    elif isinstance(file, PosFile):
        out["pos"], out["size"] = file.f_pos, file.size()
    elif isinstance(file, Pipe):
        out["queued"] = file.pipe.queued()
        out["readers"], out["writers"] = file.pipe.readers, file.pipe.writers
    elif isinstance(file, Socket):
        out |= describe_sock(file.proto)
    return out


def describe_sock(sk: Sock) -> dict[str, Any]:
    """A socket's end in plain values."""
    out: dict[str, Any] = {
        "kind": sk.name,
        "state": sk.state_names[sk.state],
        "err": sk.err,
        "shutdown": sk.shutdown_mask,
        "waiters": len(sk.wq.entries),
    }
    if isinstance(sk, TcpSock):
        out |= {"local": (sk.laddr, sk.sport), "peer": (sk.raddr, sk.rport), "rmem": sk.rmem, "wmem": sk.wmem_queued}
        out |= {"accept_queue": len(sk.acceptq), "snd_wnd": sk.snd_wnd, "rcv_wnd": sk.rcv_wnd}
    elif isinstance(sk, UdpSock):
        out |= {"local": (sk.laddr, sk.sport), "peer": (sk.raddr, sk.rport), "rmem": sk.rmem, "wmem": sk.wmem_alloc()}
        out |= {"queued": [len(skb.data) for queue in (sk.reader_queue, sk.receive_queue) for skb in queue], "drops": sk.drops}
    elif isinstance(sk, UnixSock):
        out |= {"type": SOCK_NAMES[sk.type], "name": sk.addr, "peer": sk.peer.ino if sk.peer is not None else 0}
        out |= {"rmem": sk.unread(), "wmem": sk.wmem_alloc, "accept_queue": len(sk.connq), "queued": len(sk.receive_queue)}
        out |= {"files": [[file.ino for file in skb.cb.fp.fp] for skb in sk.receive_queue if skb.cb is not None and skb.cb.fp is not None]}
    return out


def run(main: Callable[..., object], *args: object, choice: Choice | None = None, trace: Trace | None = None, **options: Any) -> Any:
    """Boot a Kernel and run ``main(sys, *args)`` as process 1; returns what it returns and raises what it raised.

    ``choice`` and ``trace`` and the other options are Kernel's.
    """
    return Kernel(choice, trace, **options).run(main, *args)
