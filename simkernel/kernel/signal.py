"""Signals (kernel/signal.c, arch/x86/kernel/signal.c).

Sending puts a signal on a queue, of a thread or of all of a process, and sets TIF_SIGPENDING of a thread that will take it: if that
thread sleeps, the sleep ends with ERESTARTSYS.  On its way back to the program the thread takes its signals (get_signal), runs the
handlers, and the interrupted call starts again or fails with EINTR, as the handler's SA_RESTART says.

Simplified: every process is in one process group, which is an orphaned one, so SIGTSTP, SIGTTIN and SIGTTOU stop nobody; there are no
core dumps (RLIMIT_CORE is 0), no ptrace, no alternate stacks.
"""

import errno
from typing import Final

from simkernel.api import Handler
from simkernel.errors import oserror
from simkernel.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, TASK_STOPPED, KSigAction, Process, Sched, SigInfo, SigPending, Task
from simkernel.kernel.wait import wake_up, wake_up_all
from simkernel.uapi import (
    ERESTARTNOHAND,
    NSIG,
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SA_NODEFER,
    SA_RESETHAND,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGALRM,
    SIGBUS,
    SIGCHLD,
    SIGCONT,
    SIGFPE,
    SIGILL,
    SIGKILL,
    SIGPIPE,
    SIGSEGV,
    SIGSTOP,
    SIGSYS,
    SIGTRAP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGURG,
    SIGWINCH,
)

# Real-time signals queue, the others are pending once or not.
SIGRTMIN: Final = 32
# siginfo's si_code (include/uapi/asm-generic/siginfo.h).
SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_TKILL: Final = -6
CLD_EXITED: Final = 1
CLD_KILLED: Final = 2
CLD_STOPPED: Final = 5
CLD_CONTINUED: Final = 6


def sigmask(*signums: int) -> int:
    """A set of signals as bits."""
    mask = 0
    for signum in signums:
        mask |= 1 << (signum - 1)
    return mask


SIG_KERNEL_ONLY_MASK: Final = sigmask(SIGKILL, SIGSTOP)
SIG_KERNEL_STOP_MASK: Final = sigmask(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
SIG_KERNEL_IGNORE_MASK: Final = sigmask(SIGCONT, SIGCHLD, SIGWINCH, SIGURG)
SYNCHRONOUS_MASK: Final = sigmask(SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS)
# The C library keeps these for its threads: sigaction refuses them, sigprocmask leaves them out (nptl(7)).
NPTL_MASK: Final = sigmask(32, 33)

_DEFAULT: Final = KSigAction(SIG_DFL)


def action_of(process: Process, signum: int) -> KSigAction:
    """What a signal does to the process."""
    return process.action.get(signum, _DEFAULT)


# --- TIF_SIGPENDING ---
def set_sigpending(sched: Sched, task: Task) -> None:
    """Set TIF_SIGPENDING: the task looks for signals before it goes on."""
    if not task.sigpending:
        task.sigpending = True
        sched.sigwork += 1


def clear_sigpending(sched: Sched, task: Task) -> None:
    """Clear TIF_SIGPENDING."""
    if task.sigpending:
        task.sigpending = False
        sched.sigwork -= 1


def recalc_sigpending(sched: Sched, task: Task) -> None:
    """Set or clear TIF_SIGPENDING, as there is something to do or not."""
    process = task.process
    if task.killed or task.stopping or process.continued or (task.pending.signal | process.shared_pending.signal) & ~task.blocked:
        set_sigpending(sched, task)
    else:
        clear_sigpending(sched, task)


def signal_wake_up(sched: Sched, task: Task) -> None:
    """Have the task look for signals, and end its sleep."""
    set_sigpending(sched, task)
    sched.wake_up_process(task)


# --- sending ---
def send_signal(sched: Sched, process: Process, info: SigInfo, thread: Task | None = None) -> None:
    """send_signal_locked: to a process, or to one thread of it.  A standard signal that is pending already is not sent again."""
    signo = info.signo
    if not prepare_signal(sched, process, signo):
        return
    if signo == SIGKILL:
        do_group_exit(sched, process, SIGKILL)
        return
    pending = process.shared_pending if thread is None else thread.pending
    bit = 1 << (signo - 1)
    if signo < SIGRTMIN and pending.signal & bit:
        return
    pending.queue.append(info)
    pending.signal |= bit
    if sched.trace.on:
        sched.trace.emit("signal_generate", "send_signal_locked", ("sig", signo, "code", info.code, "pid", process.pid))
    if process.signalfd_wqh is not None:
        wake_up(process.signalfd_wqh)
    complete_signal(sched, process, signo, thread)


def prepare_signal(sched: Sched, process: Process, signo: int) -> bool:
    """What a signal does when it is sent, even if it is blocked: stop signals and SIGCONT cancel each other.  False if it is ignored."""
    if process.exiting:
        return False
    bit = 1 << (signo - 1)
    if bit & SIG_KERNEL_STOP_MASK:
        flush_sigqueue(sched, process, sigmask(SIGCONT))
    elif signo == SIGCONT:
        flush_sigqueue(sched, process, SIG_KERNEL_STOP_MASK)
        if process.stopped:
            process.stopped = False
            process.continued = True
            process.wait_status = 0xFFFF
        process.stop_signal = 0
        for thread in process.threads:
            thread.stopping = False
            recalc_sigpending(sched, thread)
            if thread.state is TASK_STOPPED:
                sched.wake_up_process(thread, stopped=True)
    leader = process.threads[0]
    return bool((leader.blocked | leader.real_blocked) & bit) or not sig_ignored(process, signo)


def sig_ignored(process: Process, signo: int) -> bool:
    """sig_handler_ignored: SIG_IGN, or SIG_DFL where that means nothing."""
    handler = action_of(process, signo).handler
    return handler == SIG_IGN or (handler == SIG_DFL and bool(1 << (signo - 1) & SIG_KERNEL_IGNORE_MASK))


def wants_signal(sched: Sched, task: Task, signo: int) -> bool:
    """Whether the signal should be left to this thread: not blocked, and no other one is on its way to it."""
    if task.blocked >> (signo - 1) & 1 or task.killed or task.state is TASK_STOPPED:
        return False
    return task is sched.current or not task.sigpending


def complete_signal(sched: Sched, process: Process, signo: int, thread: Task | None) -> None:
    """Find a thread that takes the signal, the first thread of the process before the others; a fatal one ends the process at once."""
    threads = process.threads
    target = thread if thread is not None else threads[0]
    if not wants_signal(sched, target, signo):
        if thread is not None or len(threads) == 1:
            return
        start = threads.index(process.curr_target) if process.curr_target in threads else 0
        for i in range(len(threads)):
            target = threads[(start + i) % len(threads)]
            if wants_signal(sched, target, signo):
                process.curr_target = target
                break
        else:
            return
    if sig_fatal(process, signo) and not target.real_blocked >> (signo - 1) & 1:
        do_group_exit(sched, process, signo)
        return
    signal_wake_up(sched, target)


def sig_fatal(process: Process, signo: int) -> bool:
    """Whether the signal's default action, which ends the process, is in force."""
    return not 1 << (signo - 1) & (SIG_KERNEL_IGNORE_MASK | SIG_KERNEL_STOP_MASK) and action_of(process, signo).handler == SIG_DFL


def flush_sigqueue(sched: Sched, process: Process, mask: int) -> None:
    """flush_sigqueue_mask: forget the signals of ``mask`` that are pending anywhere in the process."""
    for pending in (process.shared_pending, *[thread.pending for thread in process.threads]):
        if pending.signal & mask:
            pending.signal &= ~mask
            pending.queue = [info for info in pending.queue if not mask >> (info.signo - 1) & 1]


def do_group_exit(sched: Sched, process: Process, code: int) -> None:
    """Every thread of the process has to end; ``code`` is its wait status."""
    process.exiting = True
    process.exit_code = code
    for thread in process.threads:
        thread.killed = True
        # Its call ends as an interrupted one does, and it never returns from it.
        set_sigpending(sched, thread)
        sched.wake_up_process(thread, stopped=True)


def do_kill(sched: Sched, pid: int, signum: int) -> None:
    """kill(2): a process, or with 0 or a negative number a process group.  Signal 0 only asks; a zombie exists, and takes no harm."""
    if pid == -(2**31):
        raise oserror(errno.ESRCH)
    if pid > 0:
        found = [sched.processes[pid]] if pid in sched.processes else []
    else:
        group = -pid or sched.current.process.pgid
        found = [process for process in sched.processes.values() if process.pgid == group]
    if not found:
        raise oserror(errno.ESRCH)
    if not 0 <= signum <= NSIG:
        raise oserror(errno.EINVAL)
    if signum:
        for process in found:
            send_signal(sched, process, SigInfo(signum, SI_USER, sched.current.process.pid))


def do_tkill(sched: Sched, tgid: int, tid: int, signum: int) -> None:
    """tgkill(2): one thread of a process.  Signal 0 only asks."""
    if tgid <= 0 or tid <= 0:
        raise oserror(errno.EINVAL)
    task = sched.tasks.get(tid)
    # (The first thread of a process is there until that has been waited for.)
    if (task is None or task.process.pid != tgid) and (tid != tgid or tgid not in sched.processes):
        raise oserror(errno.ESRCH)
    if not 0 <= signum <= NSIG:
        raise oserror(errno.EINVAL)
    if signum and task is not None:
        send_signal(sched, task.process, SigInfo(signum, SI_TKILL, sched.current.process.pid), task)


def send_sigpipe(sched: Sched) -> None:
    """send_sig(SIGPIPE, current): the running thread has written to where nobody reads."""
    task = sched.current
    send_signal(sched, task.process, SigInfo(SIGPIPE, SI_USER, task.process.pid), task)
    if task.killed:
        # Nobody sees the EPIPE.
        sched.refuse()


# --- SIGCHLD ---
def do_notify_parent(sched: Sched, process: Process) -> bool:
    """The process has ended: SIGCHLD for its parent.  True if the parent does not want to wait for it (SIG_IGN, SA_NOCLDWAIT)."""
    parent = process.parent
    if parent is None:
        return False
    action = action_of(parent, SIGCHLD)
    ignored = action.handler == SIG_IGN
    # (Sent for nothing, mostly: by default SIGCHLD is ignored, unless it is blocked.)
    if not ignored and parent.threads and (action.handler != SIG_DFL or parent.threads[0].blocked or parent.threads[0].real_blocked):
        signum = process.exit_code & 0x7F
        status = signum or process.exit_code >> 8
        send_signal(sched, parent, SigInfo(SIGCHLD, CLD_KILLED if signum else CLD_EXITED, process.pid, status))
    wake_up_all(parent.wait_chldexit)
    return ignored or bool(action.flags & SA_NOCLDWAIT)


def do_notify_parent_cldstop(sched: Sched, process: Process, code: int) -> None:
    """The process has stopped, or goes on."""
    parent = process.parent
    if parent is None or not parent.threads:
        return
    action = action_of(parent, SIGCHLD)
    if action.handler != SIG_IGN and not action.flags & SA_NOCLDSTOP:
        status = SIGCONT if code == CLD_CONTINUED else process.stop_signal
        send_signal(sched, parent, SigInfo(SIGCHLD, code, process.pid, status))
    wake_up_all(parent.wait_chldexit)


# --- taking ---
def next_signal(pending: SigPending, blocked: int) -> int:
    """The signal to take next, or 0: those of a fault first, then by number."""
    mask = pending.signal & ~blocked
    if mask & SYNCHRONOUS_MASK:
        mask &= SYNCHRONOUS_MASK
    return (mask & -mask).bit_length()


def dequeue_signal(sched: Sched, task: Task, blocked: int) -> SigInfo | None:
    """Take a signal off the thread's own queue, or else the process's; of several alike the oldest."""
    for pending in (task.pending, task.process.shared_pending):
        signo = next_signal(pending, blocked)
        if signo:
            i = next(i for i, info in enumerate(pending.queue) if info.signo == signo)
            info = pending.queue.pop(i)
            if not any(other.signo == signo for other in pending.queue):
                pending.signal &= ~(1 << (signo - 1))
            if signo == SIGALRM and pending is task.process.shared_pending and task.process.real_timer is not None:
                task.process.real_timer.rearm()
            recalc_sigpending(sched, task)
            return info
    return None


def get_signal(sched: Sched, task: Task) -> tuple[int, KSigAction] | None:
    """The next signal that has a handler, as (number, action); what has a default action is done with here."""
    process = task.process
    while True:
        if task.killed:
            sched.refuse()
        if process.continued:
            process.continued = False
            do_notify_parent_cldstop(sched, process, CLD_CONTINUED)
        if task.stopping:
            stop_here(sched, task)
            continue
        info = dequeue_signal(sched, task, task.blocked)
        if info is None:
            recalc_sigpending(sched, task)
            return None
        signo = info.signo
        action = action_of(process, signo)
        if sched.trace.on:
            sched.trace.emit("signal_deliver", "get_signal", ("sig", signo, "pid", task.pid))
        if action.handler == SIG_IGN:
            continue
        if action.handler != SIG_DFL:
            if action.flags & SA_RESETHAND:
                process.action.pop(signo)
            return signo, action
        bit = 1 << (signo - 1)
        if bit & SIG_KERNEL_IGNORE_MASK:
            continue
        if bit & SIG_KERNEL_STOP_MASK:
            if signo == SIGSTOP:
                do_signal_stop(sched, task, signo)
            continue
        do_group_exit(sched, process, signo)
        sched.refuse()


def do_signal_stop(sched: Sched, task: Task, signo: int) -> None:
    """Every thread of the process has to stop."""
    process = task.process
    process.stop_signal = signo
    for thread in process.threads:
        thread.stopping = True
        if thread is not task:
            signal_wake_up(sched, thread)


def stop_here(sched: Sched, task: Task) -> None:
    """Stop until SIGCONT or SIGKILL; the last thread to stop tells the parent."""
    process = task.process
    task.stopping = False
    task.state = TASK_STOPPED
    task.wchan = None
    if all(thread.state is TASK_STOPPED for thread in process.threads):
        process.stopped = True
        process.wait_status = process.stop_signal << 8 | 0x7F
        do_notify_parent_cldstop(sched, process, CLD_STOPPED)
    sched.stalled = 0
    sched.schedule()


def do_signal(sched: Sched, task: Task, saved_mask: int | None = None) -> int | None:
    """arch_do_signal_or_restart: run the handlers of all signals that wait.  The SA_* flags of the first, or None if there was none.

    Each signal gets its frame before any handler runs, so the last one taken is the first to run.  ``saved_mask`` is the mask to go back
    to, if the call had put another in its place.
    """
    first: int | None = None
    error: Exception | None = None
    frames: list[tuple[Handler, int, int]] = []
    while True:
        while task.sigpending and (got := get_signal(sched, task)) is not None:
            signo, action = got
            if first is None:
                first = action.flags
            frames.append((action.handler, signo, task.blocked if saved_mask is None else saved_mask))
            saved_mask = None
            blocked = task.blocked | action.mask
            set_current_blocked(sched, task, blocked if action.flags & SA_NODEFER else blocked | 1 << (signo - 1))
        if not frames:
            break
        handler, signo, saved = frames.pop()
        assert not isinstance(handler, int)
        call, call_fd = task.call, task.call_fd
        try:
            handler(signo)
        except Exception as raised:
            # It leaves the call, as in Python, but not before the other handlers have run.
            error = error or raised
        task.call, task.call_fd = call, call_fd
        set_current_blocked(sched, task, saved)
    if saved_mask is not None:
        set_current_blocked(sched, task, saved_mask)
    if error is not None:
        raise error
    return first


# --- masks and actions ---
def set_current_blocked(sched: Sched, task: Task, blocked: int) -> None:
    """Set the running thread's mask.  What it blocks from now on is for other threads to take."""
    blocked &= ~SIG_KERNEL_ONLY_MASK
    process = task.process
    newly = process.shared_pending.signal & blocked & ~task.blocked
    task.blocked = blocked
    if newly:
        # retarget_shared_pending
        for thread in process.threads:
            if thread is not task and newly & ~thread.blocked and not thread.sigpending:
                signal_wake_up(sched, thread)
                newly &= thread.blocked
    recalc_sigpending(sched, task)


def sigprocmask(sched: Sched, how: int, mask: int | None) -> int:
    """sigprocmask(2): the old mask."""
    task = sched.current
    old = task.blocked
    if mask is not None:
        mask &= ~NPTL_MASK
        if how == SIG_BLOCK:
            set_current_blocked(sched, task, old | mask)
        elif how == SIG_UNBLOCK:
            set_current_blocked(sched, task, old & ~mask)
        elif how == SIG_SETMASK:
            set_current_blocked(sched, task, mask)
        else:
            raise oserror(errno.EINVAL)
    return old


def do_sigtimedwait(sched: Sched, mask: int, timeout_ns: int | None) -> SigInfo:
    """sigtimedwait(2): take a signal of ``mask``, waiting for one.  EAGAIN at the timeout, EINTR for a signal that is not of them."""
    task = sched.current
    mask &= ~SIG_KERNEL_ONLY_MASK
    info = dequeue_signal(sched, task, ~mask)
    timed_out = True
    if info is None and timeout_ns != 0:
        task.real_blocked = task.blocked
        task.blocked &= ~mask
        recalc_sigpending(sched, task)
        try:
            if not task.sigpending:
                task.state = TASK_INTERRUPTIBLE
                timed_out = sched.schedule_timeout(timeout_ns)
            else:
                timed_out = False
        finally:
            task.state = TASK_RUNNING
            set_current_blocked(sched, task, task.real_blocked)
            task.real_blocked = 0
        info = dequeue_signal(sched, task, ~mask)
    if info is None:
        if timed_out:
            sched.stall("sigtimedwait")
            raise oserror(errno.EAGAIN)
        raise oserror(errno.EINTR)
    sched.stalled = 0
    return info


def do_pause(sched: Sched) -> None:
    """pause(2): sleep until a handler has run."""
    task = sched.current
    while not task.sigpending:
        task.state = TASK_INTERRUPTIBLE
        try:
            sched.schedule()
        finally:
            task.state = TASK_RUNNING
    raise oserror(ERESTARTNOHAND)


def flush_signal_handlers(process: Process) -> set[int]:
    """What execve does to signals: those with a handler get their default action, what is ignored stays so.  Returns the ignored ones."""
    process.action = {signum: action for signum, action in process.action.items() if action.handler == SIG_IGN}
    return set(process.action)


def do_sigaction(sched: Sched, signum: int, new: KSigAction | None) -> Handler:
    """sigaction(2): what the signal did.  If it is ignored from now on, what is pending of it is forgotten."""
    process = sched.current.process
    if not 1 <= signum <= NSIG or NPTL_MASK >> (signum - 1) & 1:
        raise oserror(errno.EINVAL)
    old = action_of(process, signum).handler
    if new is not None:
        if 1 << (signum - 1) & SIG_KERNEL_ONLY_MASK:
            raise oserror(errno.EINVAL)
        new.mask &= ~SIG_KERNEL_ONLY_MASK
        process.action[signum] = new
        if sig_ignored(process, signum):
            flush_sigqueue(sched, process, 1 << (signum - 1))
            for thread in process.threads:
                recalc_sigpending(sched, thread)
    return old


def exit_signals(sched: Sched, task: Task) -> None:
    """A thread ends: it takes no signal any more, and what only it would have taken is for the others."""
    clear_sigpending(sched, task)
    for thread in task.process.threads:
        if task.process.shared_pending.signal & ~thread.blocked and not thread.sigpending and not thread.killed:
            set_sigpending(sched, thread)
            if thread.state is TASK_INTERRUPTIBLE:
                sched.wake_up_process(thread)
            break
