"""Why a run stands still, in words: who sleeps where, what lies unread, and what would have woken the sleeper.

Works on a Kernel that has just stopped, with every task where it sleeps, and on its trace.  Knows kernels, not servers.
"""

from collections.abc import Iterator

from simkernel.kernel.eventfd import EventFd
from simkernel.kernel.eventpoll import EP_PRIVATE_BITS, EpItem, EventPoll
from simkernel.kernel.file import File
from simkernel.kernel.machine import Kernel
from simkernel.kernel.net.socket import Sock
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.net.unix import UnixSock
from simkernel.kernel.pipe import Pipe
from simkernel.kernel.sched import Task
from simkernel.testing.explain.calls import Calls
from simkernel.testing.explain.missed import missed_acts, missed_notice, missed_signal, unserved, waits_for
from simkernel.testing.oracles import CLIENT, SERVER
from simkernel.uapi import EPOLL_NAMES, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLRDHUP, flags

# At most so many fds of one epoll, and so many sleeping clients, are told about.
MANY = 6
HELD = "bytes read and not written back"


def explain_stop(kernel: Kernel, harness: int = 1) -> list[str]:
    """Why nothing moves: a few lines for each task that matters, without that of the ``harness``."""
    calls = Calls(kernel.sched.trace, harness)
    lines: list[str] = []
    clients = 0
    told: set[int] = set()
    for pid in sorted(kernel.sched.tasks):
        if pid == harness:
            continue
        task = kernel.sched.tasks[pid]
        if task.process.comm == CLIENT:
            clients += 1
            if clients > MANY:
                continue
        lines += list(_explain_task(kernel, task, calls, told))
    if clients > MANY:
        lines.append(f"... and {clients - MANY} more clients")
    return lines


def name_of(task: Task) -> str:
    """A task by what it is in a check: server, client, or its main's name."""
    comm = {SERVER: "server", CLIENT: "client"}.get(task.process.comm, task.process.comm)
    thread = f", thread {task.pid}" if task.pid != task.process.pid else ""
    return f"{comm} (pid {task.process.pid}{thread})"


def _explain_task(kernel: Kernel, task: Task, calls: Calls, told: set[int]) -> Iterator[str]:
    call = kernel.call_of(task)
    if call is None or task.state != "S":
        yield f"{name_of(task)} is runnable"
        return
    function, fd, at = call
    inside = "" if fd is None else str(fd)
    fds = task.process.files.open_fds()
    file = fds.get(fd) if fd is not None else None
    through, what = kernel.lock_of(task)
    line = f"{name_of(task)} sleeps in {function}({inside}){through}, {at}{what}"
    if isinstance(file, EventPoll):
        yield line + f", on the wait queue of epoll fd {fd}"
    else:
        yield line + (_explain_file(file, function) if file is not None else "")
    yield from _explain_missed(task, calls)
    if not isinstance(file, EventPoll):
        yield from _explain_neglected(fds, told, fd, task, calls)
    elif file.ino not in told:
        told.add(file.ino)
        yield from _explain_epoll(file, fds, task, calls)


def _explain_missed(task: Task, calls: Calls) -> Iterator[str]:
    """What came between the sleeper's last look and its sleep."""
    missed = [*missed_signal(task, calls), *missed_notice(task, calls)]
    if not missed and len(task.process.threads) > 1:
        watched = {fd for thread in task.process.threads for fd in waits_for(thread, calls)}
        lies = [fd for fd, file in task.process.files.open_fds().items() if file.sk is not None and (_unread(file.sk) or _pending(file.sk))]
        # Where it is enough to look at what a thread waits for, what others did is beside the point.
        if not lies or any(fd not in watched for fd in lies):
            missed = list(missed_acts(task, calls))
    yield from missed


def _explain_neglected(fds: dict[int, File], told: set[int], waits_on: int | None, task: Task, calls: Calls) -> Iterator[str]:
    """What lies there for a sleeper that waits for something else."""
    shown = 0
    for fd, file in fds.items():
        sk = file.sk
        if sk is None or fd == waits_on or file.ino in told:
            continue
        what = _what(sk) if _unread(sk) or _pending(sk) else _held(file)
        if not what:
            continue
        told.add(file.ino)
        shown += 1
        if shown <= MANY:
            yield f"  fd {fd}  {sk.describe()}   {what}"
            yield from unserved(fd, task, calls)
            if what.endswith(HELD):
                yield "        what a program has read is in no buffer of the kernel: no wait tells of it, so use it up before sleeping"


def _explain_file(file: File, function: str) -> str:
    """What a blocking call on one file waits for."""
    sk = file.sk
    if isinstance(sk, TcpSock) and function in ("recv", "read") and sk.rport:
        owed = sk.write_seq - sk.copied_seq - sk.rmem
        if owed > 0:
            wrote = f"it wrote {sk.write_seq} and got {sk.copied_seq} back"
            return f", for the {owed} bytes that the server has not sent: {wrote}{_whereabouts(sk)}"
        return f", for more bytes or the end of the stream: it wrote {sk.write_seq} and got {sk.copied_seq}"
    if isinstance(sk, TcpSock) and function in ("send", "write"):
        return f", for space: {sk.wmem_queued} bytes wait for the peer to read"
    if isinstance(sk, TcpSock) and function == "connect":
        return ", for an answer to its SYN: the listener's backlog is full"
    if isinstance(sk, UdpSock) and function in ("recv", "recvfrom", "recvmsg", "read", "readv"):
        drops = f"; {sk.drops} that came were dropped, since its receive buffer was full" if sk.drops else ""
        return f", for a datagram on {sk.describe()}{drops}"
    return f", on {'an' if file.kind[0] in 'aeiou' else 'a'} {file.kind}"


def _whereabouts(sk: TcpSock) -> str:
    """Where the bytes are that a client has written and not got back."""
    peer = sk.peer
    if peer is None or peer.write_seq < sk.copied_seq:
        return ""
    places = []
    if sk.unsent:
        places.append(f"{sk.unsent} have not left the client")
    if peer.rmem:
        places.append(f"{peer.rmem} are in the server's receive buffer")
    if (held := peer.copied_seq - peer.write_seq) > 0:
        places.append(f"{held} were read by the server and not written back")
    if peer.unsent:
        places.append(f"{peer.unsent} are in the server's send buffer")
    return f" ({', '.join(places)})" if places else ""


def _unread(sk: Sock) -> int:
    if isinstance(sk, TcpSock):
        return sk.rmem
    if isinstance(sk, UdpSock):
        return sk.unread()
    return sk.unread() if isinstance(sk, UnixSock) else 0


def _pending(sk: Sock) -> int:
    if isinstance(sk, TcpSock):
        return len(sk.acceptq)
    return len(sk.connq) if isinstance(sk, UnixSock) else 0


def _explain_epoll(ep: EventPoll, fds: dict[int, File], task: Task, calls: Calls) -> Iterator[str]:
    """The fds of this epoll's interest list on which something waits although nobody is woken, then those nobody watches."""
    pids = {thread.pid for thread in task.process.threads}
    shown = 0
    watched = {(epi.file.ino, epi.fd) for epi in ep.rbr.values()}
    for epi in ep.rbr.values():
        if (what := _there(epi.file)) or (what := _held(epi.file)):
            shown += 1
            if shown <= MANY:
                yield from _explain_item(epi, what, pids, calls)
    if shown > MANY:
        yield f"  ... and {shown - MANY} more fds with something unread"
    for fd, file in fds.items():
        sk = file.sk
        if sk is not None and (file.ino, fd) not in watched and not shown and (_unread(sk) or _pending(sk)):
            shown += 1
            if shown <= MANY:
                yield f"  fd {fd}  {sk.describe()}   {_what(sk)}   watched by nobody"
                yield "        no epoll has it in its interest list: EPOLL_CTL_ADD it, or read it"
                yield from unserved(fd, task, calls)


def _there(file: File) -> str:
    """What waits in a file to be read, accepted or noticed; "" if nothing does."""
    sk = file.sk
    if sk is not None:
        mask = file.poll(None) & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)
        return _what(sk) if _unread(sk) or _pending(sk) or mask else ""
    if isinstance(file, EventFd):
        return f"its count is {file.count}" if file.count else ""
    if isinstance(file, EventPoll) or not file.can_poll or not file.poll(None) & EPOLLIN:
        return ""
    return f"{file.pipe.queued()} bytes unread" if isinstance(file, Pipe) and file.pipe.queued() else "readable"


def _held(file: File) -> str:
    """What a server has read from a connection and not written back although there is room; "" if that is nothing."""
    sk = file.sk
    if isinstance(sk, TcpSock) and sk.rport and sk.copied_seq > sk.write_seq and sk.writable():
        return f"{sk.copied_seq - sk.write_seq} {HELD}"
    return ""


def _what(sk: Sock) -> str:
    pending = _pending(sk)
    if pending:
        return f"{pending} connection{'s' if pending > 1 else ''} to accept"
    unread = _unread(sk)
    return f"{unread} bytes unread" if unread else "at its end"


def _explain_item(epi: EpItem, what: str, pids: set[int], calls: Calls) -> Iterator[str]:
    file = epi.file
    sk = file.sk
    asked = epi.events & ~(EPOLLHUP | EPOLLERR)
    yield f"  fd {epi.fd}  {sk.describe() if sk is not None else file.kind}   {what}   {flags(asked, EPOLL_NAMES) or 'no events asked for'}"
    if not epi.events & ~EP_PRIVATE_BITS:
        yield "        disarmed: EPOLLONESHOT has given its one event; EPOLL_CTL_MOD arms it again"
        return
    if not _there(file):
        yield from _explain_unwritten(epi)
        return
    pending = sk is not None and _pending(sk)
    unread = sk is None or bool(_unread(sk))
    if not epi.events & EPOLLIN and (unread or pending):
        yield "        EPOLLIN is not asked for, so what lies there wakes nobody: EPOLL_CTL_MOD asks for it"
        return
    if epi.events & EPOLLET:
        names = ("accept4",) if pending else ("recv", "read", "readv")
        used = calls.last_on_fd(pids, epi.fd, names, epi.last_edge)
        edge = f"its last edge came at step {calls.step_at(epi.last_edge)}"
        if used is not None:
            yield f"        {edge} and was used up at {used.line()}"
        elif epi.used_up >= epi.last_edge:
            told = "one thread was told by epoll_wait" if len(pids) > 1 else "epoll_wait reported it"
            yield f"        {edge}; {told}, and no {names[0]} followed"
        else:
            yield f"        {edge}"
        if pending:
            yield "        only another connection or EPOLL_CTL_MOD wakes it now: accept until EAGAIN before sleeping again"
        elif sk is None:
            yield "        an edge is told to one sleeper, once: read it empty, or watch what all must see without EPOLLET"
        elif unread:
            yield "        only new data, a FIN or EPOLL_CTL_MOD wakes it now: read until EAGAIN before sleeping again"
        else:
            yield "        the end of the stream came in the same edge as what was read, or before: only EAGAIN says that nothing is left"
    elif epi.events & EPOLLONESHOT:
        yield "        armed once; its event has not come"


def _explain_unwritten(epi: EpItem) -> Iterator[str]:
    """There is room for what the server holds, and yet it sleeps."""
    if not epi.events & EPOLLOUT:
        yield "        there is room for them, but EPOLLOUT is not asked for: EPOLL_CTL_MOD asks for it while something is unsent"
    elif epi.events & EPOLLET:
        yield "        there is room for them, and its edge has gone: send until EAGAIN before sleeping, or EPOLL_CTL_MOD"
