"""A trace as text, like strace(1), with the wake-ups between the calls.

0.000 ms  [2] epoll_wait(5, 64, -1) ...                                    epoll_et.py:31
                NET_RX: tcp segment of 276 bytes; ep_poll_callback: fd 7 is ready; wakes [2]
0.000 ms  [2] ... epoll_wait resumed = [(7, EPOLLIN)]
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from simkernel.kernel.trace import Trace, line_of
from simkernel.uapi import (
    CLOCK_NAMES,
    EPOLL_CTL_NAMES,
    EPOLL_NAMES,
    F_SETFL,
    FAMILY_NAMES,
    FCNTL_NAMES,
    IOCTL_NAMES,
    IP_NAMES,
    IPPROTO_IP,
    IPPROTO_TCP,
    ITIMER_NAMES,
    MSG_NAMES,
    O_ACCMODE,
    O_CREAT,
    OPEN_NAMES,
    POLL_NAMES,
    SA_NAMES,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SEEK_NAMES,
    SHUT_NAMES,
    SIG_HOW_NAMES,
    SIGNAL_NAMES,
    SO_NAMES,
    SOL_SOCKET,
    SPLICE_NAMES,
    TCP_NAMES,
    flags,
    sock_type,
)

SHOWN_BYTES = 16


def data(value: bytes) -> str:
    """A buffer: its first bytes, and its size when that is not all of it."""
    if len(value) <= SHOWN_BYTES:
        return repr(value)[1:]
    return f"{repr(value[:SHOWN_BYTES])[1:]}..., {len(value)} bytes"


def text(value: Any) -> str:
    """Any argument or result."""
    if isinstance(value, bytes):
        return data(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(text, value)) + ")"
    return str(value) if not isinstance(value, str) else repr(value)


def _rest(args: Sequence[Any], *named: str) -> str:
    return ", ".join([*named, *map(text, args[len(named) :])])


_FORMATS: dict[str, Callable[[Sequence[Any]], str]] = {
    "socket": lambda a: _rest(a, FAMILY_NAMES.get(a[0], str(a[0])), sock_type(a[1])) if len(a) < 3 or a[2] else _args_socket(a),
    "socketpair": lambda a: _args_socket(a),
    "epoll_ctl": lambda a: (
        f"{a[0]}, {EPOLL_CTL_NAMES.get(a[1], a[1])}, {a[2]}, {flags(a[3], EPOLL_NAMES)}"
        + ("" if a[4] is None or a[4] == a[2] else f", {text(a[4])}")
    ),
    "send": lambda a: f"{a[0]}, {data(a[1])}" + (f", {flags(a[2], MSG_NAMES)}" if a[2] else ""),
    "recv": lambda a: f"{a[0]}, {a[1]}" + (f", {flags(a[2], MSG_NAMES)}" if a[2] else ""),
    "sendto": lambda a: f"{a[0]}, {data(a[1])}, {flags(a[2], MSG_NAMES)}, {_name(a[3])}",
    "recvfrom": lambda a: f"{a[0]}, {a[1]}" + (f", {flags(a[2], MSG_NAMES)}" if a[2] else ""),
    "sendmsg": lambda a: (
        f"{a[0]}, {_buffers(a[1])}"
        + (f", {_cmsgs(a[2])}" if a[2] or a[3] or a[4] is not None else "")
        + (f", {flags(a[3], MSG_NAMES)}" if a[3] or a[4] is not None else "")
        + (f", {_name(a[4])}" if a[4] is not None else "")
    ),
    "recvmsg": lambda a: f"{a[0]}, {a[1]}, {a[2]}" + (f", {flags(a[3], MSG_NAMES)}" if a[3] else ""),
    "shutdown": lambda a: f"{a[0]}, {SHUT_NAMES.get(a[1], a[1])}",
    "accept4": lambda a: f"{a[0]}" + (f", {sock_type(a[1])[2:].lstrip('|')}" if a[1] else ""),
    "fcntl": lambda a: f"{a[0]}, {FCNTL_NAMES.get(a[1], a[1])}" + _fcntl_arg(a),
    "ioctl": lambda a: _rest(a, str(a[0]), IOCTL_NAMES.get(a[1], hex(a[1]))),
    "open": lambda a: f"{text(a[0])}, {_open_flags(a[1])}" + (f", 0o{a[2]:o}" if a[1] & O_CREAT else ""),
    "mkdir": lambda a: f"{text(a[0])}, 0o{a[1]:o}",
    "lseek": lambda a: f"{a[0]}, {a[1]}, {SEEK_NAMES.get(a[2], a[2])}",
    "splice": lambda a: ", ".join(map(text, a[:5])) + f", {flags(a[5], SPLICE_NAMES)}",
    "pipe2": lambda a: flags(a[0], OPEN_NAMES),
    "kill": lambda a: f"{a[0]}, {signal_name(a[1])}",
    "tgkill": lambda a: f"{a[0]}, {a[1]}, {signal_name(a[2])}",
    "pidfd_send_signal": lambda a: f"{a[0]}, {signal_name(a[1])}" + (f", {a[2]}" if a[2] else ""),
    "sigtimedwait": lambda a: f"{_signals(a[0])}, {text(a[1])}",
    "getitimer": lambda a: str(ITIMER_NAMES.get(a[0], a[0])),
    "setitimer": lambda a: f"{ITIMER_NAMES.get(a[0], a[0])}, {a[1]}, {a[2]}",
    "sigaction": lambda a: (
        f"{signal_name(a[0])}, {_handler(a[1])}" + (f", {flags(a[2], SA_NAMES)}, {_signals(a[3])}" if a[2] or a[3] else "")
    ),
    "sigprocmask": lambda a: f"{SIG_HOW_NAMES.get(a[0], a[0])}, {_signals(a[1])}",
    "signalfd": lambda a: f"{a[0]}, {_signals(a[1])}" + (f", {flags(a[2], OPEN_NAMES)}" if a[2] else ""),
    "timerfd_create": lambda a: str(CLOCK_NAMES.get(a[0], a[0])) + (f", {flags(a[1], OPEN_NAMES)}" if a[1] else ""),
    "clock_gettime_ns": lambda a: str(CLOCK_NAMES.get(a[0], a[0])),
    "poll": lambda a: "[" + ", ".join(f"({fd}, {flags(ev & 0xFFFF, POLL_NAMES)})" for fd, ev in a[0]) + f"], {a[1]}",
    "getsockopt": lambda a: _sockopt(a),
    "setsockopt": lambda a: _sockopt(a),
}


def signal_name(signum: int) -> str:
    """SIGTERM for 15, and so on; real-time signals by number."""
    return SIGNAL_NAMES.get(signum, str(signum))


def _handler(value: Any) -> str:
    return "NULL" if value is None else {0: "SIG_DFL", 1: "SIG_IGN"}.get(value, str(value))


def _signals(value: Any) -> str:
    return "[" + ", ".join(map(signal_name, value)) + "]" if isinstance(value, tuple) else text(value)


def _args_socket(a: Sequence[Any]) -> str:
    return f"{FAMILY_NAMES.get(a[0], a[0])}, {sock_type(a[1])}"


def _open_flags(value: int) -> str:
    """As strace: the access mode is always named."""
    return flags(value, OPEN_NAMES) if value & O_ACCMODE else "|".join(["O_RDONLY", *([flags(value, OPEN_NAMES)] if value else [])])


def _name(addr: Any) -> str:
    return "NULL" if addr is None else text(addr)


def _buffers(value: Any) -> str:
    return "[" + ", ".join(map(text, value)) + "]" if isinstance(value, tuple) else text(value)


def _cmsgs(value: Any) -> str:
    """Control messages: ``[SCM_RIGHTS [5, 6]]``, ``[SCM_CREDENTIALS {pid=2, uid=0, gid=0}]``, others as they are."""
    return "[" + ", ".join(map(_cmsg, value)) + "]" if isinstance(value, tuple) else text(value)


def _cmsg(cmsg: Any) -> str:
    level, kind, contents = cmsg
    if level == SOL_SOCKET and kind in (SCM_RIGHTS, SCM_CREDENTIALS):
        ints = [int.from_bytes(contents[i : i + 4], "little", signed=True) for i in range(0, len(contents) // 4 * 4, 4)]
        if kind == SCM_RIGHTS:
            return f"SCM_RIGHTS {ints}"
        return "SCM_CREDENTIALS {" + ", ".join(f"{name}={n}" for name, n in zip(("pid", "uid", "gid"), ints, strict=False)) + "}"
    return text(cmsg)


def _fcntl_arg(a: Sequence[Any]) -> str:
    if a[1] == F_SETFL:
        return f", {flags(a[2], OPEN_NAMES)}"
    return f", {a[2]}" if a[2] else ""


def _sockopt(a: Sequence[Any]) -> str:
    if a[1] == SOL_SOCKET:
        return _rest(a, str(a[0]), "SOL_SOCKET", str(SO_NAMES.get(a[2], a[2])))
    if a[1] == IPPROTO_TCP:
        return _rest(a, str(a[0]), "IPPROTO_TCP", str(TCP_NAMES.get(a[2], a[2])))
    if a[1] == IPPROTO_IP:
        return _rest(a, str(a[0]), "IPPROTO_IP", str(IP_NAMES.get(a[2], a[2])))
    return _rest(a)


def call_text(name: str, args: Sequence[Any]) -> str:
    """A call with its arguments, constants by their names."""
    try:
        inside = _FORMATS[name](args) if name in _FORMATS else _rest(args)
    except (TypeError, ValueError, IndexError):
        # Arguments that make no sense are shown as they were given.
        inside = _rest(args)
    return f"{name}({inside})"


def result_text(name: str, value: Any) -> str:
    """What a call returned."""
    if name in ("epoll_wait", "epoll_pwait", "epoll_pwait2") and isinstance(value, tuple):
        return "[" + ", ".join(f"({text(d)}, {flags(ev, EPOLL_NAMES)})" for d, ev in value) + "]"
    if name in ("poll", "ppoll") and isinstance(value, tuple):
        return "[" + ", ".join(f"({fd}, {flags(ev, POLL_NAMES)})" for fd, ev in value) + "]"
    if name == "recvmsg" and isinstance(value, tuple):
        received, control, msg_flags, addr = value
        return f"({data(received)}, {_cmsgs(control)}, {flags(msg_flags, MSG_NAMES)}, {text(addr)})"
    if name in ("recv", "read", "pread"):
        return data(value)
    if value is None:
        return "0"
    return text(value)


def strace_lines(trace: Trace, end: int | None = None, begin: int = 0) -> list[str]:
    """The trace from event ``begin`` to ``end`` (default: all of it), one line a call, an indented line a wake-up."""
    lines: list[str] = []
    names = {1: "main"}
    # The call that each task is in, and the line that shows it as long as nothing else has happened since.
    # A signal handler's calls are inside the one that it interrupted.
    inside: dict[int, list[tuple[str, int]]] = {}
    for (t_ns, pid, ctx), ev, fn, code, lasti, _cause, fields in trace.unpacked(end, begin):
        f = dict(zip(fields[::2], fields[1::2], strict=True))
        stamp = f"{t_ns / 1e6:10.3f} ms  [{pid}] "
        if ev == "sys_enter":
            at = f"{Path(code.co_filename).name}:{line_of(code, lasti)}" if code is not None else ""
            call = call_text(fn, f["args"])
            lines.append(f"{stamp}{call:<60}  {at}")
            inside.setdefault(pid, []).append((call, len(lines)))
        elif ev == "sys_exit":
            calls = inside.get(pid)
            call, line = calls.pop() if calls else (fn, -1)
            outcome = f"-1 {f['error']}" if "error" in f else result_text(fn, f["ret"])
            if line == len(lines):
                # Nothing came between: one line for call and result.
                at = lines[-1][len(stamp) + max(60, len(call)) :].strip()
                lines[-1] = f"{stamp}{call + ' = ' + outcome:<60}  {at}"
            else:
                lines.append(f"{stamp}... {fn} resumed = {outcome}")
        elif ev == "sched_waking":
            lines.append(f"{'':>16}{_who(ctx)}wakes [{f['pid']}]")
        elif ev in ("ep_poll_callback", "ep_ready"):
            lines.append(f"{'':>16}{_who(ctx)}fd {f['fd']} goes on the ready list of epoll {f['ep']}")
        elif ev == "netif_receive_skb":
            lines.append(f"{'':>16}{_who(ctx)}{_packet(f['flags'])}, {f['len']} bytes")
        elif ev == "udp_fail_queue_rcv_skb":
            lines.append(f"{'':>16}{_who(ctx)}datagram dropped: the receive buffer is full")
        elif ev == "signal_generate":
            lines.append(f"{'':>16}{_who(ctx)}{signal_name(f['sig'])} for process {f['pid']}")
        elif ev == "signal_deliver":
            lines.append(f"{'':>16}[{f['pid']}] takes {signal_name(f['sig'])}")
        elif ev == "hrtimer_expire_entry":
            lines.append(f"{'':>16}{_who(ctx)}timer expires")
        elif ev == "sched_process_fork":
            names[f["child_pid"]] = f["comm"]
            lines.append(f"{'':>16}[{f['child_pid']}] {f['comm']} is born")
        elif ev == "sched_process_exit":
            lines.append(f"{stamp}exits with {f['code'] >> 8}" + (f", killed by signal {f['code'] & 127}" if f["code"] & 127 else ""))
    return lines


def _packet(kind: str) -> str:
    return {"UDP": "datagram", "ICMP": "ICMP port unreachable"}.get(kind, f"segment {kind}")


def _who(ctx: str) -> str:
    return "irq: " if ctx == "irq" else ""
