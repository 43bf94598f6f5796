"""Why an oracle or a client complains: which calls of the server led to it, and the facts behind it."""

from collections.abc import Callable, Iterator
from typing import Any

from simkernel.kernel.machine import Kernel
from simkernel.kernel.trace import Trace
from simkernel.testing.explain.calls import WAITS, Call, Calls, gave
from simkernel.testing.explain.facts import SIGPIPE_HINT, hint
from simkernel.testing.explain.spin import cycle_of
from simkernel.testing.explain.stop import MANY, explain_stop
from simkernel.testing.oracles import Oracles, Waiting
from simkernel.uapi import SIGPIPE

Finding = dict[str, Any]

SENDS = ("send", "sendto", "write")
RECVS = ("recv", "recvfrom", "read")
# Where the calls that wait have their timeout.
_TIMEOUTS = {"poll": 1, "ppoll": 1, "epoll_wait": 2, "epoll_pwait": 2, "epoll_pwait2": 2, "select": 3, "pselect": 3}


# --- while every task is still where it stopped ---
def explain_starvation(kernel: Kernel, waiting: Waiting, message: str, harness: int = 1) -> tuple[list[str], int]:
    """What the server did while a client waited, and the event with which the story may end."""
    calls = Calls(kernel.sched.trace, harness)
    lines = [message]
    since = waiting.seq
    lines.append(f"  it waits since step {calls.step_at(since)}, fd {waiting.fd}  {waiting.sk.describe()}")
    mine = [call for call in calls.of_server() if call.enter > since and call.exit is not None]
    turn = _turn(mine)
    if turn and len(mine) > len(turn):
        lines.append(f"  meanwhile the server makes these {len(turn)} calls again and again:")
        lines += [f"    {call.line()}" for call in turn]
        lines.append("  one busy client must not hold up the others: do a bounded piece of work for one fd, then look at the next")
        end = turn[-1].exit
        return lines, len(kernel.sched.trace) if end is None else end + 1
    lines += [f"  {line}" for line in explain_stop(kernel, harness)]
    lines.append("  whoever waits for one client alone, or for a while, keeps all others waiting: wait for all of them at once")
    return lines, len(kernel.sched.trace)


def _turn(calls: list[Call]) -> list[Call]:
    """The first turn of a loop that goes on with other data each time: the same calls at the same places on the same fds."""
    keys = [(call.name, call.fd if call.name != "epoll_wait" else None, call.at) for call in calls]
    for period in range(1, len(keys) // 2 + 1):
        if period > 24:
            break
        for first in range(min(len(keys) - 2 * period, 64) + 1):
            if keys[first : first + period] == keys[first + period : first + 2 * period]:
                return calls[first : first + period]
    return cycle_of(calls)[0]


def explain_memory(kernel: Kernel, message: str, harness: int = 1) -> list[str]:
    """Where the bytes came in, and what went out."""
    calls = Calls(kernel.sched.trace, harness)
    lines = [message]
    mine = [call for call in calls.of_server() if call.exit is not None]
    last_recv = next((call for call in reversed(mine) if call.name in RECVS and call.result), None)
    if last_recv is not None:
        lines.append(f"  it goes on reading: {last_recv.line()}")
        sent = next((call for call in reversed(mine) if call.name in SENDS and call.fd == last_recv.fd), None)
        if sent is not None:
            lines.append(f"  and its last send to that client: {sent.line()}")
    lines.append("  stop reading from a client (no EPOLLIN) while much of what it is owed is unsent: TCP then stops the client")
    return lines


# --- when the run is over: from its trace alone ---
def explain_finding(trace: Trace, finding: Finding, oracles: Oracles, harness: int = 1) -> list[str]:
    """What led to a finding that did not end the run."""
    calls = Calls(trace, harness)
    known: dict[str, Callable[[Calls, Finding], Iterator[str]]] = {
        "crash": _crash,
        "corruption": _corruption,
        "stale-fd": _stale,
        "leak": _leak,
        "herd": _herd,
    }
    lines = [finding["message"]]
    explain = known.get(finding["kind"])
    if explain is not None:
        lines += [f"  {line}" for line in explain(calls, finding)]
    if finding["kind"] == "corruption":
        lines += [f"  {line}" for line in _dropped(calls, oracles)]
    return lines + explain_before(calls, oracles, finding)


def explain_before(calls: Calls, oracles: Oracles, finding: Finding | None = None) -> list[str]:
    """What an oracle noticed before the failure (the ``finding``, if it is an oracle's): often the cause."""
    for other in oracles.findings:
        if other is not finding and other["kind"] == "stale-fd":
            return [f"  before that: {other['message']}", *(f"    {line}" for line in _stale(calls, other))]
    return []


def _crash(calls: Calls, finding: Finding) -> Iterator[str]:
    """The call that failed, if that is what ended the server; else its last calls."""
    killed = _killed_by(calls)
    mine = list(calls.of_server())
    if killed is not None:
        unfinished = next((call for call in reversed(mine) if call.exit is None and call.name in (*SENDS, "sendmsg", "writev")), None)
        if unfinished is not None:
            yield unfinished.line()
        if killed == SIGPIPE:
            yield SIGPIPE_HINT
        return
    failed = next((call for call in reversed(mine[-MANY:]) if call.error is not None), None)
    if failed is not None and failed.error is not None and ("Errno" in finding["message"] or "Error" not in finding["message"]):
        yield failed.line()
        if (text := hint(failed)) is not None:
            yield text
        return
    for call in mine[-3:]:
        yield call.line()


def _killed_by(calls: Calls) -> int | None:
    """The signal that ended a process of the server."""
    for (_t, _pid, _ctx), ev, _fn, _code, _lasti, _cause, fields in calls.trace.unpacked():
        if ev == "sched_process_exit" and fields[3] & 0x7F and calls.is_server(fields[1]):
            signum: int = fields[3] & 0x7F
            return signum
    return None


def _corruption(calls: Calls, finding: Finding) -> Iterator[str]:
    """Which of the server's calls the client's complaint may come from."""
    mine = [call for call in calls.of_server() if call.exit is not None]
    for i, call in enumerate(mine):
        if call.name not in SENDS or call.error not in (None, "EAGAIN"):
            continue
        data = call.args[1]
        taken = call.result if call.error is None else 0
        if not isinstance(data, bytes) or not isinstance(taken, int) or taken >= len(data):
            continue
        rest = data[taken:]
        after = next((c for c in mine[i + 1 :] if c.name in (*SENDS, "close") and c.fd == call.fd), None)
        if after is None or after.name == "close" or not _goes_on(rest, after.args[1]):
            yield call.line()
            yield f"it took {taken} of {len(data)} bytes, and the rest was never sent: keep it, and send it when EPOLLOUT says so"
            return
    if stale := list(_stale_event(mine)):
        yield from stale
        return
    for call in mine:
        if call.name in ("close", "shutdown") and _resets(calls, call):
            yield call.line()
            yield "closing a socket with unread bytes resets it, and what was sent may be lost: read to the end before closing"
            return
    for call in mine:
        if call.error is not None and call.error != "EAGAIN" and (text := hint(call)) is not None:
            yield call.line()
            yield text
            return
    yield from _pieces(calls, mine)


def _dropped(calls: Calls, oracles: Oracles) -> Iterator[str]:
    """Connections that were closed while the server still owed them something."""
    for fd, n, seq in oracles.dropped[:1]:
        call = next((call for call in reversed(calls.list) if call.enter <= seq and call.name == "close" and call.fd == fd), None)
        if call is not None:
            yield f"{call.line()}: {n} bytes that it had read from this connection were not written back"


def _stale_event(mine: list[Call]) -> Iterator[str]:
    """A call on account of an event whose connection was closed meanwhile, by the same turn of the loop, and its number given again."""
    batches: dict[int, Call] = {}
    # Of each task: the numbers that were closed and given again since its last wait.
    closed: dict[int, dict[int, Call]] = {}
    again: dict[int, dict[int, Call]] = {}
    for call in mine:
        pid, fd = call.pid, call.fd
        if call.name in WAITS:
            batches[pid], closed[pid], again[pid] = call, {}, {}
        elif pid not in batches:
            continue
        elif call.name == "accept4" and isinstance(call.result, tuple):
            if call.result[0] in closed[pid]:
                again[pid][call.result[0]] = call
        elif fd in again[pid] and call.name in ("close", "shutdown"):
            yield f"fd {fd} was reported at {batches[pid].line()}"
            yield f"and closed at {closed[pid][fd].line()}"
            yield f"its number was given to another connection at {again[pid][fd].line()}"
            yield f"which {call.line()} ends, on account of the old event"
            yield "an event of a batch may be stale: drop what was queued for a number that is closed (or close after the batch)"
            return
        elif call.name == "close" and isinstance(fd, int):
            closed[pid][fd] = call


def _goes_on(rest: bytes, data: Any) -> bool:
    return isinstance(data, bytes) and bool(data) and (rest.startswith(data) or data.startswith(rest))


def _resets(calls: Calls, call: Call) -> bool:
    """Whether a call sent a reset."""
    trace = calls.trace
    for seq in range(call.enter, (call.exit or call.enter) + 1):
        _where, ev, _fn, _code, _lasti, _cause, fields = trace.event(seq)
        if ev == "net_dev_xmit" and "RST" in fields[1]:
            return True
    return False


def _pieces(calls: Calls, mine: list[Call]) -> Iterator[str]:
    """A recv that got a part of what one send wrote, or more than one."""
    sent = {len(call.args[1]) for call in calls.list if not calls.is_server(call.pid) and call.name == "send"}
    for call in mine:
        if call.name in RECVS and isinstance(call.result, bytes) and call.result and len(call.result) not in sent:
            yield call.line()
            yield "a stream has no message boundaries: one recv may get a part of what a send wrote, or more than one"
            return


def _stale(calls: Calls, finding: Finding) -> Iterator[str]:
    """Who closed the number, who got it next, and the call on it."""
    fd, seq, closed_at = finding["fd"], finding["seq"], finding["closed_at"]
    closes = (call for call in calls.list if call.name == "close" and call.args[0] == fd)
    closer = next((call for call in closes if call.enter <= closed_at <= (call.exit or 0)), None)
    if closer is not None:
        yield f"fd {fd} was closed at {closer.line()}"
        process = calls.process_of(finding["pid"])
        for call in calls.list:
            if closer.enter < call.enter < seq and calls.process_of(call.pid) == process and gave(call, fd):
                yield f"the number was given again at {call.line()}"
    acting = next((call for call in reversed(calls.list) if call.enter <= seq and call.pid == finding["pid"]), None)
    if acting is not None:
        yield f"and used at {acting.line()}"
    yield "a number may be another file's as soon as it is closed: take it out of every table before, and drop what was queued for it"


def _leak(calls: Calls, finding: Finding) -> Iterator[str]:
    """Where the fd came from, and what the server last heard of it."""
    fd = finding.get("fd")
    if fd is None or "seq" not in finding:
        if finding["who"].startswith("client") and "pid" in finding:
            yield from _kept(calls, finding["pid"], finding["end"])
        return
    mine = [call for call in calls.of_server() if call.exit is not None and call.enter < finding["seq"]]
    made = next((call for call in reversed(mine) if gave(call, fd)), None)
    if made is not None:
        yield f"it comes from {made.line()}"
    last = next((call for call in reversed(mine) if call.fd == fd and call is not made), None)
    if last is not None:
        yield f"the last call on it: {last.line()}"
    waits = (call for call in reversed(mine) if call.name.startswith("epoll_") and isinstance(call.result, tuple))
    told = next((call for call in waits if any(data == fd for data, _events in call.result)), None)
    if told is not None and (last is None or told.enter > last.enter):
        yield f"the last that was heard of it: {told.line()}"
    yield "an empty recv, an error, EPOLLHUP or EPOLLERR is the end of a connection: close it then"


def _kept(calls: Calls, client: int, end: int) -> Iterator[str]:
    """A client says, at event ``end``, that its connection is kept: what the server did with it, and which timer might have ended it."""
    port = next((fields[3] for fields in reversed(_connects(calls.trace, client, end))), None)
    mine = [call for call in calls.of_server() if call.enter < end]
    made = next((c for c in reversed(mine) if c.name == "accept4" and isinstance(c.result, tuple) and c.result[1][1:2] == (port,)), None)
    if made is None or made.exit is None or made.exit > end:
        yield "the server has not accepted it"
        return
    fd, since = made.result[0], made.exit
    yield f"it is fd {fd} of the server, from {made.line()}"
    last = next((call for call in reversed(mine) if call.fd == fd and call.enter > since and call.done), None)
    if last is not None and last.exit is not None:
        yield f"the last call on it: {last.line()}"
        since = last.exit
    timed = [call for call in mine if _timeout(call)]
    ended = [call for call in timed if call.enter > since and call.exit is not None and call.exit < end and _ran_out(call)]
    if ended:
        often = "once" if len(ended) == 1 else f"{len(ended)} times"
        yield f"since then a timeout ran out {often} and it was not closed, the last time at {ended[-1].line()}"
    for call in mine:
        if call.exit is None or call.exit > end:
            if call in timed:
                yield f"the server sleeps with a timeout: {call.begun()}"
            elif call.name in WAITS:
                yield f"the server sleeps without a timeout: {call.begun()}"
                before = next((c for c in reversed(timed) if c.pid == call.pid and c.enter < call.enter), None)
                yield f"the last call with one was {before.line()}" if before is not None else "no call before had one"
    for call in [call for call in mine if call.name == "timerfd_settime"][-1:]:
        yield f"its timer was last set at {call.line()}"
    yield "time must end a connection whatever it waits for, to read or to write: count from what moved last"


def _connects(trace: Trace, client: int, end: int) -> list[tuple[Any, ...]]:
    """The fields of the state changes with which a task began to connect, until event ``end``."""
    return [
        fields
        for (_t, pid, _ctx), ev, _fn, _code, _lasti, _cause, fields in trace.unpacked(end)
        if ev == "inet_sock_set_state" and pid == client and fields[9] == "SYN_SENT"
    ]


def _timeout(call: Call) -> bool:
    """Whether a call sleeps until a certain time at the latest."""
    if call.name == "nanosleep":
        return True
    at = _TIMEOUTS.get(call.name)
    given = call.args[at] if at is not None and len(call.args) > at else None
    return given is not None and given >= 0


def _ran_out(call: Call) -> bool:
    """Whether such a call came to that time."""
    return call.error is None and (call.result is None or not any(call.result))


def _herd(calls: Calls, finding: Finding) -> Iterator[str]:
    """Who was woken and found nothing."""
    for pid, seq, _calls in finding["vain"][:MANY]:
        call = next((call for call in reversed(calls.list) if call.pid == pid and call.enter < seq), None)
        if call is not None:
            what = (
                call.line() if call.exit is not None and call.exit < seq else f"step {call.step}: {call.name} goes on sleeping, {call.at}"
            )
            yield f"pid {pid}, {what}"
    yield "EPOLLEXCLUSIVE wakes one of those who wait, SO_REUSEPORT gives each its own queue, or let one alone accept"
