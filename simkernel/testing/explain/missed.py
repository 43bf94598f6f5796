"""What a sleeper missed: what came after it had looked for the last time, and before it slept.

Between two system calls a task's own code runs at once; who goes first is decided on the way into the next.  So what a trace shows between
the end of one call of a task and the beginning of its next came after the code in between had looked at its flags and queues.
"""

from collections.abc import Iterator

from simkernel.kernel.eventfd import EventFd
from simkernel.kernel.eventpoll import EventPoll
from simkernel.kernel.file import File
from simkernel.kernel.net.unix import UnixSock
from simkernel.kernel.pipe import Pipe
from simkernel.kernel.sched import Task
from simkernel.kernel.signal import action_of
from simkernel.testing.explain.calls import Calls, gave
from simkernel.uapi import SIG_DFL, SIG_IGN, SIGNAL_NAMES

READS = ("read", "readv", "recv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "send", "sendto", "sendmsg")


def waits_for(task: Task, calls: Calls) -> set[int]:
    """The fds of which a sleeping task would be told, or for which it sleeps."""
    call = calls.sleep_of(task.pid)
    if call is None or not call.args:
        return set()
    first = call.args[0]
    if call.name in ("poll", "ppoll"):
        asked = {fd for fd, _events in first}
    elif call.name in ("select", "pselect"):
        asked = {fd for fds in call.args[:3] for fd in fds}
    else:
        asked = {first} if isinstance(first, int) else set()
    fds = task.process.files.open_fds()
    for fd in tuple(asked):
        file = fds.get(fd)
        if isinstance(file, EventPoll):
            asked |= {epi.fd for epi in file.rbr.values()}
    return asked


def missed_signal(task: Task, calls: Calls) -> Iterator[str]:
    """A handler that ran just before the sleep began, or within it; a signal that is blocked meanwhile."""
    sleep = calls.sleep_of(task.pid)
    if sleep is None:
        return
    before = calls.before(sleep)
    since = -1 if before is None or before.exit is None else before.exit
    for seq, signum in calls.delivered.get(task.pid, ()):
        if seq < since or action_of(task.process, signum).handler in (SIG_DFL, SIG_IGN):
            continue
        name = SIGNAL_NAMES.get(signum, f"signal {signum}")
        if seq > sleep.enter:
            yield f"  {name} came while it slept: its handler ran, {sleep.name} went on (SA_RESTART), and nobody looks at what it left"
        else:
            where = f"after {before.line()}, and before" if before is not None else "before"
            yield f"  {name} came {where} {sleep.name} at {sleep.at}: its handler ran between the two"
            yield f"        what was looked at before is old, and a handler that has run interrupts no {sleep.name} that begins later:"
            yield "        block it, and let ppoll, pselect or epoll_pwait unblock it in their sleep; or use signalfd, or a self-pipe"
    pending = (task.pending.signal | task.process.shared_pending.signal) & task.blocked
    for signum in range(1, pending.bit_length() + 1):
        if pending >> (signum - 1) & 1:
            yield f"  {SIGNAL_NAMES.get(signum, f'signal {signum}')} has come and is blocked: its handler does not run"


def missed_notice(task: Task, calls: Calls) -> Iterator[str]:
    """A thread's notice that was taken away by a read which the code before it did not know to be about anything new."""
    others = {thread.pid for thread in task.process.threads} - {task.pid}
    for fd, writers in _told_through(task, calls):
        read = calls.last_on_fd({task.pid}, fd, READS, -1)
        before = calls.before(read) if read is not None else None
        if read is None or not read.done or before is None:
            continue
        notices = (call for call in calls.between(before, read, others) if call.fd in writers and call.name in WRITES)
        if (call := next(notices, None)) is not None:
            yield f"  fd {fd}: its last notice is that of thread {call.pid}, {call.line()}"
            yield f"        it came after this thread's {before.line()}"
            yield f"        and was taken away by its next call, {read.line()}"
            yield "        what was looked at before that read is older than the notice: take the notice away first, then look"


def missed_acts(task: Task, calls: Calls) -> Iterator[str]:
    """Of a thread that other threads have a way to tell: what each of them did last, and what this one did around it."""
    sleep = calls.sleep_of(task.pid)
    told_through = [fd for fd, _writers in _told_through(task, calls)]
    if sleep is None or not told_through:
        return
    for thread in task.process.threads:
        last = next((call for call in reversed(calls.list) if call.pid == thread.pid and call.done), None)
        if thread is task or last is None or last.exit is None:
            continue
        if last.exit > sleep.enter:
            fds = ", ".join(map(str, told_through))
            yield f"  since it sleeps, thread {thread.pid} has gone on, and has told it nothing through fd {fds}"
            yield f"        its last call: {last.line()}"
        elif where := calls.around(task.pid, last):
            yield f"  thread {thread.pid} went on for the last time from {last.line()}"
            yield f"        this one was then {where}"
            yield "        what it looked at before that is old: look once more after saying that it sleeps, or have it told each time"


def unserved(fd: int, task: Task, calls: Calls) -> Iterator[str]:
    """An fd on which something lies and of which none of the process's threads will be told: who had it last, and where the others were."""
    threads = {thread.pid: thread for thread in task.process.threads}
    if any(fd in waits_for(thread, calls) for thread in threads.values()):
        return
    last = next((call for call in reversed(calls.list) if call.pid in threads and call.done and (call.fd == fd or gave(call, fd))), None)
    if last is None:
        return
    what = "nothing was done with it since" if gave(last, fd) else "the last call on it was"
    yield f"        nobody waits for it; {what} {last.line()}"
    for pid in sorted(threads):
        if pid != last.pid and (where := calls.around(pid, last)):
            yield f"        thread {pid} was then {where}"


def _told_through(task: Task, calls: Calls) -> Iterator[tuple[int, set[int]]]:
    """The fds that a thread waits for and that its process made for such an end, each with those that are written to for it."""
    process = task.process
    fds = process.files.open_fds()
    pids = {thread.pid for thread in process.threads} | {process.pid}
    for fd in sorted(waits_for(task, calls)):
        file = fds.get(fd)
        if file is not None and (writers := _writers(fds, file)) and any(call.pid in pids and gave(call, fd) for call in calls.list):
            yield fd, writers


def _writers(fds: dict[int, File], file: File) -> set[int]:
    """The process's fds through which a thread tells one that reads ``file``: an eventfd's own, a pipe's or a pair's other end."""
    if isinstance(file, EventFd):
        return {fd for fd, other in fds.items() if other is file}
    if isinstance(file, Pipe):
        return {fd for fd, other in fds.items() if isinstance(other, Pipe) and other.pipe is file.pipe and other is not file}
    sk = file.sk
    return {fd for fd, other in fds.items() if other.sk is sk.peer} if isinstance(sk, UnixSock) and sk.peer is not None else set()
