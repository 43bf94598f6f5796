"""Why a run goes round in circles: the calls that are made again and again."""

from simkernel.kernel.machine import Kernel
from simkernel.testing.explain.calls import WAITS, Call, Calls
from simkernel.testing.explain.stop import MANY, name_of
from simkernel.uapi import EPOLLERR, EPOLLHUP, EPOLLOUT

# The longest cycle of calls that a spin is recognised by.
LONGEST_CYCLE = 24


def cycle_of(calls: list[Call]) -> tuple[list[Call], bool]:
    """The first turn of the cycle with which ``calls`` end, and whether it is one: the same calls with the same results."""
    keys = [(call.name, call.args, call.error, call.result) for call in calls]
    period = next((p for p in range(1, LONGEST_CYCLE + 1) if len(keys) >= 2 * p and keys[-p:] == keys[-2 * p : -p]), 0)
    if not period:
        return calls[-MANY:], False
    first = len(keys) - period
    while first > 0 and keys[first - 1] == keys[first - 1 + period]:
        first -= 1
    return calls[first : first + period], True


def explain_spin(kernel: Kernel, harness: int = 1) -> tuple[list[str], int]:
    """The cycle of calls that a spinning task repeats, and the event with which its first turn ends.

    Somebody else may have had a turn in between, so it is not always the last that ran.
    """
    trace = kernel.sched.trace
    done: dict[int, list[Call]] = {}
    for call in Calls(trace, harness).list:
        if call.exit is not None:
            done.setdefault(call.pid, []).append(call)
    task = kernel.sched.current
    cycle = cycle_of(done.get(task.pid, []))[0]
    for pid in sorted(done, key=lambda pid: -len(done[pid])):
        first, same = cycle_of(done[pid])
        if same and pid in kernel.sched.tasks and kernel.sched.tasks[pid].state == "R":
            task, cycle = kernel.sched.tasks[pid], first
            break
    lines = [f"{name_of(task)} spins: these {len(cycle)} calls again and again, and nothing moves"]
    lines += [f"  {call.line()}" for call in cycle]
    lines += _spin_hints(cycle)
    end = cycle[-1].exit if cycle else None
    return lines, len(trace) if end is None else end + 1


def _spin_hints(cycle: list[Call]) -> list[str]:
    """What the facts say of such a cycle."""
    hints = []
    if any(call.name in ("recv", "read") and call.result == b"" for call in cycle):
        hints.append("  an empty read is the end of the stream, and readable for ever: close the fd, or stop watching it")
    if any(call.name == "accept4" and call.error in ("EMFILE", "ENFILE") for call in cycle):
        hints.append("  with no fd left the connection stays pending and the listener readable: stop watching it until an fd is free")
    if any(call.error == "EINTR" for call in cycle):
        hints.append("  EINTR says that a handler has run: call again, and let the loop look at what the handler left")
    if cycle and all(call.name in WAITS for call in cycle):
        hints.append("  the wait reports what nobody acts on: read, write or close it, or take it out of the interest list")
    # What the wait at the end of each turn reports, when nothing came of it.
    if cycle and all(call.name in (*WAITS, "clock_gettime_ns") or call.error == "EAGAIN" for call in cycle):
        hints += _reported(next(call for call in reversed(cycle) if call.name in WAITS))
    return hints


def _reported(wait: Call) -> list[str]:
    """What such a wait reports, and why it goes on reporting it."""
    if not wait.name.startswith("epoll") or not isinstance(wait.result, tuple):
        return []
    lines = []
    union = 0
    for _data, events in wait.result:
        union |= events
    if union & (EPOLLHUP | EPOLLERR):
        lines.append("  EPOLLHUP and EPOLLERR are reported whatever is asked for, even nothing: only closing or removing ends that")
    elif union == EPOLLOUT:
        lines.append("  a socket with room is writable all the time: ask for EPOLLOUT only while something waits to be sent")
    return lines
