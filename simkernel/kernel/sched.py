"""Tasks and who runs next (kernel/sched/core.c, kernel/fork.c, kernel/exit.c).

A task is a greenlet.  One runs at a time; a task that goes to sleep switches straight to the next runnable one.  Greenlets are parked
and resumed here and nowhere else.  The hub is the greenlet that called Kernel.run: it only sees the ends of tasks.
"""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from greenlet import GreenletExit, getcurrent, greenlet
from mypy_extensions import mypyc_attr

from simkernel.api import Handler
from simkernel.errors import Deadlock, Livelock, SimulationError, oserror
from simkernel.kernel.choice import Choice, Plain
from simkernel.kernel.clock import Clock
from simkernel.kernel.trace import Trace
from simkernel.kernel.watch import Watch

if TYPE_CHECKING:
    from simkernel.kernel.coverage import Coverage
    from simkernel.kernel.fdtable import FilesStruct
    from simkernel.kernel.file import File
    from simkernel.kernel.irq import Softirq
    from simkernel.kernel.itimer import RealTimer
    from simkernel.kernel.wait import WaitQueue

TASK_RUNNING: Final = "R"
TASK_INTERRUPTIBLE: Final = "S"
TASK_STOPPED: Final = "T"
TASK_DEAD: Final = "X"

# A task that calls without progress gives way to the others after this many calls, as at the end of its time slice.
TIMESLICE_CALLS: Final = 64
# The same for one that makes no calls at all, in what it tells of itself (Sched.user_time); and after how many such slices time passes.
TIMESLICE_USER: Final = 1000
SPIN_SLICES: Final = 1000
# fs.file-max as systemd sets it, LONG_MAX: no limit but memory.
MAX_FILES: Final = 2**63 - 1
# How long, in ns, tasks may take to run where time passes meanwhile.
TICK_NS: Final = 2_000_000
# A dead task's `finally` and `except BaseException` blocks may try this many calls before its greenlet is left where it is.
DYING_CALLS: Final = 100
# Greenlets that refuse to die.  Kept, because dropping one would throw GreenletExit into it once more.
_abandoned: list[greenlet] = []


class TaskExit(GreenletExit):
    """Unwinds a task that has been killed or has called exit.  A program must let it pass, as it can't catch SIGKILL."""


@mypyc_attr(allow_interpreted_subclasses=True)
class PreemptNotifier:
    """preempt_notifier: hears when its task gets the processor and when it loses it.  It may do neither call nor switch."""

    __slots__ = ()

    def sched_in(self) -> None:
        """The task goes on."""

    def sched_out(self, following: "Task") -> None:
        """The task has lost the processor to ``following``."""


class SigInfo:
    """kernel_siginfo: a signal that was sent.  ``status`` is a child's, for SIGCHLD."""

    __slots__ = ("code", "pid", "signo", "status")

    def __init__(self, signo: int, code: int, pid: int, status: int = 0) -> None:
        self.signo = signo
        self.code = code
        self.pid = pid
        self.status = status


class SigPending:
    """struct sigpending: the signals that wait, in the order in which they came, and the set of their numbers (bit signum - 1)."""

    __slots__ = ("queue", "signal")

    def __init__(self) -> None:
        self.queue: list[SigInfo] = []
        self.signal = 0


class KSigAction:
    """struct k_sigaction: SIG_DFL, SIG_IGN or a function; SA_* flags; what is blocked while it runs."""

    __slots__ = ("flags", "handler", "mask")

    def __init__(self, handler: Handler, flags: int = 0, mask: int = 0) -> None:
        self.handler = handler
        self.flags = flags
        self.mask = mask


class Process:
    """What the threads of a process share: signal_struct and sighand_struct, with the family links of the leader's task_struct.

    ``action`` holds what is not SIG_DFL; ``curr_target`` the thread that got the last signal.  ``stop_signal`` is the signal that stops
    it (0: none), ``stopped`` says that all threads have, ``continued`` that its parent is still to be told that it goes on;
    ``wait_status`` is what waitpid may report of a stop or a continuation, or None.
    """

    __slots__ = (
        "action",
        "calls",
        "children",
        "comm",
        "continued",
        "curr_target",
        "exit_code",
        "exiting",
        "files",
        "forked_by",
        "futexes",
        "joinable",
        "make_it_fail",
        "net_ns",
        "parent",
        "pgid",
        "pid",
        "pwd",
        "real_timer",
        "rlimits",
        "shared_pending",
        "sid",
        "signalfd_wqh",
        "stop_signal",
        "stopped",
        "threads",
        "umask",
        "wait_chldexit",
        "wait_pidfd",
        "wait_status",
        "zombie",
    )

    def __init__(
        self,
        pid: int,
        comm: str,
        parent: "Process | None",
        files: "FilesStruct",
        wait_chldexit: "WaitQueue",
    ) -> None:
        self.pid = pid
        self.pgid: int = parent.pgid if parent is not None else pid
        self.sid: int = parent.sid if parent is not None else pid
        self.comm = comm
        self.parent = parent
        self.files = files
        self.children: list[Process] = []
        # How many system calls it has made, where choices are made.
        self.calls = 0
        # The thread that forked it: its own children are the first that a thread waits for.
        self.forked_by = 0
        # The queues of those who sleep on a word (futex.py).
        self.futexes: list[WaitQueue] = []
        self.threads: list[Task] = []
        self.joinable: dict[int, Task] = {}
        self.exit_code = 0
        self.exiting = False
        self.zombie = False
        self.wait_chldexit = wait_chldexit
        # Made when the first signalfd or pidfd is polled.
        self.wait_pidfd: WaitQueue | None = None
        self.signalfd_wqh: WaitQueue | None = None
        self.shared_pending = SigPending()
        # Made by the first alarm or setitimer.
        self.real_timer: RealTimer | None = None
        # An action is never changed, only replaced, so that a child can share it.
        self.action: dict[int, KSigAction] = dict(parent.action) if parent is not None else {}
        self.curr_target: Task | None = None
        self.stop_signal = 0
        self.stopped = False
        self.continued = False
        self.wait_status: int | None = None
        self.rlimits: dict[int, tuple[int, int]] = dict(parent.rlimits) if parent is not None else {}
        # fs_struct: a directory, or None where it began; and what is taken off the mode of what it makes.
        self.pwd: object = parent.pwd if parent is not None else None
        self.umask: int = parent.umask if parent is not None else 0o022
        # nsproxy->net_ns: the number of its host; and whether faults are injected into its calls.
        self.net_ns: int = parent.net_ns if parent is not None else 0
        self.make_it_fail: bool = parent.make_it_fail if parent is not None else False


class Task:
    """A thread of a process: task_struct.

    ``blocked`` is its signal mask (bit signum - 1), ``real_blocked`` that which sigtimedwait has put aside; ``sigpending`` is
    TIF_SIGPENDING: it has to look for signals before it goes on.
    """

    __slots__ = (
        "blocked",
        "call",
        "call_fd",
        "condition",
        "covered",
        "dying_calls",
        "entered",
        "exited",
        "files",
        "greenlet",
        "killed",
        "learnt",
        "pending",
        "pid",
        "preempt_notifiers",
        "process",
        "real_blocked",
        "sched",
        "sigpending",
        "state",
        "stopping",
        "switch",
        "task_works",
        "timed_out",
        "wake_seq",
        "wchan",
        "woken",
    )

    def __init__(self, sched: "Sched", pid: int, process: Process, exited: "WaitQueue") -> None:
        self.sched = sched
        self.pid = pid
        self.process = process
        # The table of the process, here to be found at once; a dying task has one that refuses.
        self.files = process.files
        self.state = TASK_RUNNING
        # What it runs on, and how to get there, looked up once.
        self.greenlet: greenlet | None = None
        self.switch: Callable[[], object] | None = None
        self.killed = False
        self.dying_calls = 0
        self.exited = exited
        self.timed_out = False
        # The call that it is in, and its first argument, as EnteredSyscalls notes them.
        self.call = ""
        self.call_fd: object = None
        # What Sched.switches and the clock said then, and the last point (coverage.py), if somebody collects what is covered.
        self.entered = 0
        self.covered = 0
        self.blocked = 0
        self.real_blocked = 0
        # What it does before it goes on with its program (task_work.py), if there is anything.
        self.task_works: list[Callable[[], None]] | None = None
        self.pending = SigPending()
        self.sigpending = False
        self.stopping = False
        self.wchan: WaitQueue | None = None
        # What a sleeper waits for, as long as it sleeps: for the kernel's checks of itself.
        self.condition: Callable[[], bool] | None = None
        self.wake_seq = -1
        self.preempt_notifiers: list[PreemptNotifier] = []
        # For a Watch: whether it was woken since the Watch last asked; the files behind the numbers that it was last told of.
        self.woken = False
        self.learnt: dict[int, File] | None = None

    def __repr__(self) -> str:
        return f"<Task {self.pid} {self.state}>"


def _no_signals() -> None:
    """Before boot nobody can be signalled."""


class Sched:
    """The run queue, the running task, and what the whole machine shares: clock, choice, trace."""

    __slots__ = (
        "calls",
        "cap_sys_admin",
        "check_sleepers",
        "choice",
        "clock",
        "coverage",
        "current",
        "dead_files",
        "deadline",
        "exit_to_user",
        "explore",
        "explored",
        "fatal",
        "host_input",
        "hub",
        "max_files",
        "max_stalled",
        "next_ino",
        "next_pid",
        "nr_files",
        "preempt_notifier_key",
        "processes",
        "runqueue",
        "send_sigpipe",
        "sigwork",
        "softirq",
        "stalled",
        "switches",
        "tasks",
        "ticks",
        "trace",
        "undying",
        "user_slice",
        "user_switches",
        "user_time",
        "watch",
    )

    def __init__(self, choice: Choice, trace: Trace, deadline: int | None, max_stalled: int) -> None:
        self.choice = choice
        # Whether choices are made, and whether they were at boot: a source that is spent is not asked any more.
        self.explore = self.explored = not isinstance(choice, Plain)
        # Whether time may pass while tasks run.
        self.ticks = False
        self.trace = trace
        self.clock = Clock()
        self.runqueue: list[Task] = []
        self.current: Task = None  # type: ignore[assignment]  # set before the first task runs
        self.hub = getcurrent()
        self.softirq: Softirq | None = None
        self.deadline = deadline
        self.max_stalled = max_stalled
        self.stalled = 0
        self.calls = 0
        self.switches = 0
        # What programs do between calls, where they tell of it: sched_tick is due when user_time is above user_slice.
        self.user_time = 0
        self.user_slice = 0 if self.explore else TIMESLICE_USER
        self.user_switches = 0
        # How many preempt notifiers there are.
        self.preempt_notifier_key = 0
        self.next_ino = 0
        # files_stat: open files on the whole machine, and fs.file-max, which holds for those without CAP_SYS_ADMIN.
        self.nr_files = 0
        self.max_files = MAX_FILES
        self.cap_sys_admin = True
        self.next_pid = 0
        self.tasks: dict[int, Task] = {}
        self.processes: dict[int, Process] = {}
        self.dead_files: FilesStruct = None  # type: ignore[assignment]  # set at boot
        self.fatal: BaseException | None = None
        # How many tasks have TIF_SIGPENDING set, or work to do: the one number that a call looks at on its way out.
        self.sigwork = 0
        # Called when nobody can run, if the kernel checks itself.
        self.check_sleepers: Callable[[], None] | None = None
        # What a file that is written to without a reader calls; set at boot, since files know no signals.
        self.send_sigpipe: Callable[[], None] = _no_signals
        # The same for what an interrupted program does before it goes on, if the running task has signals.
        self.exit_to_user: Callable[[], None] = _no_signals
        # Who looks on, if anybody does.
        self.watch: Watch | None = None
        # A killed task that would not unwind: the hub ends it in its place.
        self.undying: Task | None = None
        # Asks the host for input, if a terminal of the machine is the host's: whether there was some.
        self.host_input: Callable[[], bool] | None = None
        # What the run has covered, if a choice source wants to know.
        self.coverage: Coverage | None = None
        choice.bind(self)

    def new_ino(self) -> int:
        """A number for a new kernel object: small, and the same in every run of one tape."""
        self.next_ino += 1
        return self.next_ino

    def alloc_empty_file(self) -> int:
        """alloc_empty_file (fs/file_table.c): count one more open file and number it.  ENFILE at fs.file-max, unless CAP_SYS_ADMIN."""
        if self.nr_files >= self.max_files and not self.cap_sys_admin:
            raise oserror(errno.ENFILE)
        self.nr_files += 1
        self.next_ino += 1
        return self.next_ino

    def check_files(self, n: int) -> None:
        """Whether ``n`` files can be opened: for what makes several, and must make none if they do not all fit."""
        if self.nr_files + n > self.max_files and not self.cap_sys_admin:
            raise oserror(errno.ENFILE)

    def new_pid(self) -> int:
        """The next process or thread id; they are never used again."""
        self.next_pid += 1
        return self.next_pid

    # --- switching ---
    def schedule(self) -> None:
        """The running task sleeps or has given way: run the next one, and return when it is this task's turn again."""
        prev = self.current
        if prev.killed:
            self.refuse()
        nxt = self.pick_next_task()
        if nxt is not prev:
            self.context_switch(nxt)
        elif self.trace.on:
            self.trace.cause = prev.wake_seq

    def context_switch(self, nxt: Task) -> None:
        """Park this greenlet and resume that of ``nxt``."""
        trace = self.trace
        if trace.on:
            prev = self.current
            trace.cause = nxt.wake_seq
            trace.emit("sched_switch", "schedule", ("prev_pid", prev.pid, "prev_state", prev.state, "next_pid", nxt.pid))
            trace.where = (self.clock.now, nxt.pid, "task")
        if self.preempt_notifier_key:
            self.fire_preempt_notifiers(nxt)
        self.current = nxt
        self.switches += 1
        assert nxt.switch is not None
        nxt.switch()

    def fire_preempt_notifiers(self, nxt: Task) -> None:
        """Tell those of the task that had the processor, and those of ``nxt``."""
        prev = self.current
        for notifier in prev.preempt_notifiers:
            notifier.sched_out(nxt)
        for notifier in nxt.preempt_notifiers:
            notifier.sched_in()
        if prev.state is TASK_DEAD:
            self.preempt_notifier_key -= len(prev.preempt_notifiers)
            prev.preempt_notifiers.clear()

    def preempt_notifier_register(self, notifier: PreemptNotifier, task: Task | None = None) -> None:
        """It is the running task's from now on, or that of ``task``, until that ends."""
        (task or self.current).preempt_notifiers.append(notifier)
        self.preempt_notifier_key += 1

    def pick_next_task(self) -> Task:
        """Take the next task off the run queue; with nobody runnable, time moves on until somebody is."""
        runqueue = self.runqueue
        while not runqueue:
            self.idle()
        if self.explore and len(runqueue) > 1:
            i = self.choice.pick(len(runqueue), "sched")
            return runqueue.pop(i)
        # Off the end of a list is cheaper.
        return runqueue.pop() if len(runqueue) == 1 else runqueue.pop(0)

    def idle(self) -> None:
        """do_idle: deliver what interrupts have left, else jump to the next timer; with neither, it is a deadlock."""
        if self.softirq is not None and self.softirq.do_softirq():
            return
        if self.host_input is not None and self.host_input():
            return
        if self.check_sleepers is not None:
            try:
                self.check_sleepers()
            except SimulationError as error:
                self.stop(error)
        clock = self.clock
        expires = clock.next_expiry()
        if self.watch is not None:
            self.watch.idle(expires)
        if expires is None:
            self.stop(Deadlock("every task sleeps and no timer is left"))
        if expires > clock.now:
            if self.deadline is not None and expires > self.deadline:
                self.stop(Deadlock(f"the virtual deadline of {self.deadline} ns has passed"))
            clock.now = expires
            self.stalled = 0
        self.run_timers()

    def due_soon(self) -> bool:
        """Whether a timer is due within the time that tasks may take to run."""
        expires = self.clock.next_expiry()
        return expires is not None and expires - self.clock.now <= TICK_NS

    def tick(self) -> None:
        """Time has passed while tasks ran: the next timers fire."""
        expires = self.clock.next_expiry()
        if expires is not None:
            self.clock.now = max(expires, self.clock.now)
            self.run_timers()

    def run_timers(self) -> None:
        """The timer interrupt: call everything that is due, in order."""
        trace = self.trace
        (_, pid, ctx), cause = trace.where, trace.cause
        trace.where, trace.cause = (self.clock.now, 0, "irq"), -1
        while (timer := self.clock.pop_expired()) is not None:
            if trace.on:
                trace.cause = -1
                trace.cause = trace.emit("hrtimer_expire_entry", "run_timers", ("expires", timer.expires))
            timer.function()
        trace.where, trace.cause = (self.clock.now, pid, ctx), cause

    def yield_cpu(self, i: int = 0) -> None:
        """The running task stays runnable but lets the task at place ``i`` of the run queue go first: preempt_schedule."""
        prev = self.current
        runqueue = self.runqueue
        nxt = runqueue.pop(i)
        runqueue.append(prev)
        # Not a wake-up: what it did before is still the cause of what it does next.
        if self.trace.on:
            prev.wake_seq = self.trace.cause
        self.context_switch(nxt)
        if prev.killed:
            self.refuse()

    def stall(self, call: str) -> None:
        """A call ended without progress and without sleeping.  Others get the processor in turn; too many are a livelock."""
        self.stalled += 1
        if self.stalled >= self.max_stalled:
            self.stop(Livelock(f"{self.stalled} calls without progress while virtual time stands still, the last one {call}"))
        if self.stalled % TIMESLICE_CALLS == 0:
            if self.runqueue:
                self.yield_cpu()
                return
            if self.softirq is not None:
                self.softirq.do_softirq()
            # So many calls take time: who waits for the clock to be past a moment, and calls without a sleep until it is, gets there.
            expires = self.clock.next_expiry()
            if expires is None or expires > self.clock.now + 1:
                self.clock.now += 1

    def sched_tick(self) -> None:
        """The timer interrupt of a program that makes no calls: it comes when it comes, and the next task may go first.

        Who can run without calls (locks that are free cost none) counts in ``user_time`` what it does, and calls this when that is above
        ``user_slice``: in the plain run at the end of a time slice, else at each of these moments.  If there is ``sigwork`` afterwards, it
        calls ``exit_to_user``, where it can have a signal handler run.
        """
        if self.current.killed:
            return
        if self.explore:
            if self.choice.spent():
                self.explore = False
            elif self.runqueue and (i := self.choice.pick(len(self.runqueue) + 1, "preempt")):
                self.yield_cpu(i - 1)
        else:
            self.user_slice = TIMESLICE_USER
        if self.user_time > TIMESLICE_USER:
            self.end_of_slice()

    def end_of_slice(self) -> None:
        """The running task has used up its time slice without a system call."""
        self.user_time = 0
        if self.user_switches != self.switches:
            # Others had the processor since.
            self.user_switches = self.switches
            return
        # However little, so that who waits for the clock to move does not wait for ever.
        self.clock.now += 1
        self.stalled += 1
        if self.stalled >= self.max_stalled:
            self.stop(Livelock(f"{self.stalled} time slices without a system call"))
        if self.stalled >= SPIN_SLICES and self.clock.next_expiry() is not None:
            # Whoever waits so busily waits for another one's timer.
            self.stalled = 0
            self.tick()
        if self.runqueue:
            self.user_switches += 1
            self.yield_cpu()

    # --- states ---
    def wake_up_process(self, task: Task, stopped: bool = False) -> int:
        """try_to_wake_up: 1 if the task slept (or was ``stopped``, where that is asked for) and is runnable now, else 0."""
        if task.state is not TASK_INTERRUPTIBLE and not (stopped and task.state is TASK_STOPPED):
            return 0
        task.state = TASK_RUNNING
        task.woken = True
        self.runqueue.append(task)
        trace = self.trace
        if trace.on:
            task.wake_seq = trace.emit("sched_waking", "try_to_wake_up", ("pid", task.pid))
        return 1

    def schedule_timeout(self, timeout_ns: int | None, wheel: bool = False) -> bool:
        """Sleep until woken or until the timeout (None: no limit).  True if the timeout has passed.  Never early."""
        if timeout_ns is None:
            self.schedule()
            return False
        task = self.current
        task.timed_out = False
        if self.explore and timeout_ns > 0:
            # Timers may be late, never early (nanosleep(2), timer slack in prctl(2)).
            timeout_ns += self.choice.pick(4, "timer-slack") * 50_000

        def process_timeout() -> None:
            task.timed_out = True
            if self.wake_up_process(task) == 0:
                task.timed_out = False

        timer = self.clock.add_timer(timeout_ns, process_timeout, wheel)
        try:
            self.schedule()
        finally:
            self.clock.del_timer(timer)
        return task.timed_out

    # --- ends ---
    def dismantle(self) -> None:
        """Let go of all that knows the scheduler."""
        self.clock.dismantle()
        for process in self.processes.values():
            process.wait_chldexit.owner = None
        self.choice = Plain()
        self.send_sigpipe = self.exit_to_user = _no_signals
        self.softirq = self.watch = self.coverage = self.fatal = self.check_sleepers = self.host_input = None
        self.current = self.dead_files = None  # type: ignore[assignment]  # as before boot

    def stop(self, error: BaseException) -> NoReturn:
        """End the run with ``error``, raised in the hub.  The running task stays parked where it is, to be looked at."""
        self.fatal = error
        self.hub.switch()
        # Only teardown comes back here, to unwind this greenlet.
        raise TaskExit

    def refuse(self) -> NoReturn:
        """A killed task makes no more calls.  One that catches even this, again and again, is parked for good."""
        task = self.current
        task.files = self.dead_files
        task.dying_calls += 1
        if task.dying_calls > DYING_CALLS:
            assert task.greenlet is not None
            _abandoned.append(task.greenlet)
            self.undying = task
            self.hub.switch()
        raise TaskExit
