"""The kernel's checks of itself, as CONFIG_DEBUG_LIST, CONFIG_DEBUG_SG and their kin are Linux's: slow, and off unless asked for.

``Kernel(debug=True)`` checks the books after each system call, and looks for lost wake-ups whenever nobody can run.  What does not
balance raises InvariantViolation, which is a bug in simkernel and never a program's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from simkernel.errors import InvariantViolation
from simkernel.kernel.eventpoll import EpItem, EventPoll
from simkernel.kernel.fdtable import FilesStruct
from simkernel.kernel.file import File
from simkernel.kernel.net.socket import Sock
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.net.unix import UnixSock
from simkernel.kernel.pipe import Pipe
from simkernel.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, TASK_STOPPED, Process, Sched, Task
from simkernel.kernel.wait import WaitQueue
from simkernel.uapi import SOCK_DGRAM, SOCK_STREAM


def check_books(sched: Sched, after: str) -> None:
    """Raise InvariantViolation with the first thing that is wrong after the call ``after``."""
    for wrong in audit(sched):
        raise InvariantViolation(f"after {after}: {wrong}")


def check_sleepers(sched: Sched) -> None:
    """Called when nobody can run and nothing is on its way: whoever sleeps must have a reason to."""
    current = sched.current
    try:
        for pid in sorted(sched.tasks):
            task = sched.tasks[pid]
            if task.state is not TASK_INTERRUPTIBLE:
                continue
            # Some conditions are about the task that looks.
            sched.current = task
            if task.sigpending:
                raise InvariantViolation(f"lost wake-up: task {pid} sleeps on {task.wchan!r} although a signal waits for it")
            if task.condition is not None and task.condition():
                raise InvariantViolation(f"lost wake-up: task {pid} sleeps on {task.wchan!r} although what it waits for is true")
            ep = task.wchan.owner if task.wchan is not None else None
            if isinstance(ep, EventPoll) and task.wchan is ep.wq and ep.rdllist:
                raise InvariantViolation(f"lost wake-up: task {pid} sleeps in epoll_wait with {ep.rdllist[0]!r} on the ready list")
    finally:
        sched.current = current


def audit(sched: Sched) -> Iterator[str]:
    """Everything that is wrong, in words."""
    yield from audit_tasks(sched)
    tables = {table: None for process in sched.processes.values() if process.threads for table in [process.files]}
    references: Counter[File] = Counter()
    exact = True
    for table in tables:
        # In a table that threads share, a call that sleeps holds its file as well.
        exact = exact and table.count == 1
        yield from audit_fdtable(table)
        references.update(file for file in table.fd if file is not None)
    messages = in_flight(references)
    for file, n in references.items():
        if file.f_count < n + messages[file] or (exact and file.f_count > n + messages[file]):
            yield f"{file!r} is counted {file.f_count} times, and found {n} times in fd tables"
        yield from audit_file(file)
    if sched.nr_files < len(references):
        yield f"{sched.nr_files} open files are counted, and there are {len(references)}"


def in_flight(files: Iterable[File]) -> "Counter[File]":
    """How many messages in the queues of AF_UNIX sockets carry each file."""
    for file in files:
        if isinstance(file.sk, UnixSock):
            return Counter(carried for fpl in file.sk.table.inflight.edges for carried in fpl.fp)
    return Counter()


def audit_fdtable(table: FilesStruct) -> Iterator[str]:
    """An fd table: next_fd is no higher than the lowest free number, and only open fds have FD_CLOEXEC."""
    fds = table.fd
    if any(fds[fd] is None for fd in range(min(table.next_fd, len(fds)))):
        yield f"next_fd is {table.next_fd}, and a lower fd is free"
    for fd in sorted(table.cloexec):
        if fd >= len(fds) or fds[fd] is None:
            yield f"fd {fd} has FD_CLOEXEC and is not open"


def audit_tasks(sched: Sched) -> Iterator[str]:
    """Tasks, processes and signals."""
    queued = Counter(sched.runqueue)
    for task, n in queued.items():
        if n > 1:
            yield f"task {task.pid} is {n} times on the run queue"
        if task.state is not TASK_RUNNING:
            yield f"task {task.pid} is on the run queue in state {task.state}"
        if task is sched.current:
            yield f"task {task.pid} runs, and is on the run queue"
    for pid, task in sched.tasks.items():
        if task.state is TASK_RUNNING and task is not sched.current and task not in queued:
            yield f"task {pid} is runnable, and not on the run queue"
        if task.pid != pid or task not in task.process.threads:
            yield f"task {pid} is not among the threads of its process"
        yield from audit_signals(task)
    flagged = sum(task.sigpending + (task.task_works is not None) for task in sched.tasks.values())
    if flagged != sched.sigwork:
        yield f"tasks have {flagged} times signals or work to look for, and {sched.sigwork} are counted"
    for pid, process in sched.processes.items():
        yield from audit_process(sched, pid, process)


def audit_process(sched: Sched, pid: int, process: Process) -> Iterator[str]:
    """The family of a process, and its end."""
    if process.zombie == bool(process.threads) and pid != 1:
        yield f"process {pid} has {len(process.threads)} threads, and zombie is {process.zombie}"
    for child in process.children:
        if child.parent is not process or sched.processes.get(child.pid) is not child:
            yield f"process {pid} has a child {child.pid} that does not know it"
    if process.stopped and any(task.state is not TASK_STOPPED for task in process.threads if not task.killed):
        yield f"process {pid} counts as stopped, and has a thread that is not"


def audit_signals(task: Task) -> Iterator[str]:
    """Pending signals: queue and set agree, and none that is not blocked is overlooked."""
    for pending in (task.pending, task.process.shared_pending):
        bits = 0
        for info in pending.queue:
            bits |= 1 << (info.signo - 1)
        if bits != pending.signal:
            yield f"task {task.pid} has pending signals {pending.signal:#x}, and {bits:#x} are queued"
    if task.pending.signal & ~task.blocked and not task.sigpending and not task.killed:
        yield f"task {task.pid} has signals {task.pending.signal & ~task.blocked:#x} to take, and does not know"


def audit_file(file: File) -> Iterator[str]:
    """The books of one open file."""
    if file.hooks is not None:
        for hook in file.hooks:
            if isinstance(hook, EpItem) and hook.ep.rbr.get((file, hook.fd)) is not hook:
                yield f"{file!r} would tell {hook!r}, which is not in the interest list"
    if isinstance(file, EventPoll):
        yield from audit_eventpoll(file)
    elif isinstance(file, Pipe):
        yield from audit_pipe(file)
    elif file.sk is not None:
        yield from audit_wait_queue(file.sk.wq)
        yield from audit_sock(file.sk)


def audit_wait_queue(wq: WaitQueue) -> Iterator[str]:
    """Each entry knows its queue."""
    for entry in wq.entries:
        if entry.wq is not wq:
            yield f"{wq!r} has an entry that is not on it"


def audit_eventpoll(ep: EventPoll) -> Iterator[str]:
    """The ready list is within the interest list, without doubles; each item is on the wait queues that it registered on."""
    yield from audit_wait_queue(ep.wq)
    yield from audit_wait_queue(ep.poll_wait)
    ready = Counter(ep.rdllist)
    for epi, n in ready.items():
        if n > 1 or not epi.linked or ep.rbr.get((epi.file, epi.fd)) is not epi:
            yield f"{epi!r} is {n} times on the ready list, linked {epi.linked}"
    for (file, fd), epi in ep.rbr.items():
        if epi.file is not file or epi.fd != fd or epi.ep is not ep:
            yield f"{epi!r} is in the interest list under ({file!r}, {fd})"
        if epi.linked and epi not in ready:
            yield f"{epi!r} counts as linked, and is not on the ready list"
        if file.f_count <= 0:
            yield f"{epi!r} watches {file!r}, which is gone"
        if file.hooks is None or epi not in file.hooks:
            yield f"{file!r} does not know that {epi!r} watches it"
        for entry in epi.pwqlist:
            if entry.wq is None or entry not in entry.wq.entries:
                yield f"{epi!r} has an entry on no wait queue"


def audit_pipe(file: Pipe) -> Iterator[str]:
    """A pipe's buffers hold what their ends say, and are no more than there may be."""
    pipe = file.pipe
    for buf in pipe.bufs:
        if not 0 <= buf.offset < buf.end <= len(buf.page):
            yield f"{file!r} has a buffer with bytes {buf.offset} to {buf.end} of {len(buf.page)}"
    if len(pipe.bufs) > pipe.max_usage:
        yield f"{file!r} has {len(pipe.bufs)} buffers, and room for {pipe.max_usage}"
    if file.readable and not pipe.readers:
        yield f"{file!r} is open for reading, and no reader is counted"
    if file.writable and not pipe.writers:
        yield f"{file!r} is open for writing, and no writer is counted"


def audit_sock(sk: Sock) -> Iterator[str]:
    """The queues of a socket: bytes received, to be sent, and on their way."""
    if isinstance(sk, TcpSock):
        yield from audit_tcp(sk)
    elif isinstance(sk, UnixSock):
        yield from audit_wait_queue(sk.peer_wait)
        yield from audit_unix(sk)
    elif isinstance(sk, UdpSock):
        yield from audit_udp(sk)


def audit_udp(sk: UdpSock) -> Iterator[str]:
    """rmem is what is in the queues, and what was read and not given back yet."""
    queued = sum(skb.truesize for queue in (sk.reader_queue, sk.receive_queue) for skb in queue)
    if queued + sk.forward_deficit != sk.rmem:
        yield f"{sk!r} is charged {sk.rmem}, and has {queued} queued and {sk.forward_deficit} to give back"
    if sk.lport and sk not in sk.table.hash.get(sk.lport, ()):
        yield f"{sk!r} holds port {sk.lport}, which is not its own"


def audit_tcp(sk: TcpSock) -> Iterator[str]:
    """rmem and unsent are what is in the queues, and no byte is lost between two ends that are connected."""
    unread = sum(map(len, sk.receive_queue)) - sk.queue_offset
    if unread != sk.rmem:
        yield f"{sk!r} counts {sk.rmem} unread bytes, and has {unread}"
    unsent = sum(map(len, sk.write_queue))
    if unsent != sk.unsent:
        yield f"{sk!r} counts {sk.unsent} bytes to be sent, and has {unsent}"
    if not 0 <= sk.unsent <= sk.wmem_queued:
        yield f"{sk!r} has {sk.unsent} bytes to be sent of {sk.wmem_queued}"


def audit_unix(sk: UnixSock) -> Iterator[str]:
    """What a socket is charged for is in the queue of its peer; who waits for a full peer is on that peer's queue; names lead home."""
    for skb in sk.receive_queue:
        if not 0 <= skb.offset <= len(skb.data) or (skb.offset and sk.type != SOCK_STREAM):
            yield f"{sk!r} has a buffer with {skb.offset} of {len(skb.data)} bytes read"
    charged: Counter[UnixSock] = Counter()
    for skb in sk.receive_queue:
        charged[skb.sk] += skb.truesize
    for sender, truesize in charged.items():
        if sender.wmem_alloc < truesize:
            yield f"{sender!r} is charged {sender.wmem_alloc}, and has sent {truesize} to {sk!r}"
    if sk.peer is not None and sk.type != SOCK_DGRAM and sk.peer.peer is sk and sk.peer.wmem_alloc != charged[sk.peer]:
        yield f"{sk.peer!r} is charged {sk.peer.wmem_alloc}, and {charged[sk.peer]} waits to be read"
    if sk.peer_wake.wq is not None and (sk.peer is None or sk.peer_wake.wq is not sk.peer.peer_wait):
        yield f"{sk!r} waits for room at a socket that is not its peer"
    if sk.addr and sk.addr[0] == 0 and sk.listener is None and sk.table.abstract.get((sk.type, sk.addr)) is not sk:
        yield f"{sk!r} is not found by its name"
