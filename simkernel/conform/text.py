"""A difference as a test to paste into tests/conformance: it fails on the fake kernel and passes on Linux."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from simkernel import uapi
from simkernel.conform.machine import DELAYED_ACK_NS, Observation
from simkernel.conform.program import PATTERN, Call, Program, Result
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    EPOLL_CTL_NAMES,
    EPOLL_NAMES,
    FAMILY_NAMES,
    FCNTL_NAMES,
    IOCTL_NAMES,
    MSG_NAMES,
    OPEN_NAMES,
    POLL_NAMES,
    SHUT_NAMES,
    SO_NAMES,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)  # fmt: skip

_SHORT = 40  # bytes that are written out
_TCP_NAMES = {value: name for name, value in vars(uapi).items() if re.fullmatch("TCP_[A-Z0-9]+", name) and isinstance(value, int)}
_SOCK_FLAGS = {SOCK_NONBLOCK: "SOCK_NONBLOCK", SOCK_CLOEXEC: "SOCK_CLOEXEC"}
_EFD_FLAGS = {uapi.EFD_SEMAPHORE: "EFD_SEMAPHORE", uapi.EFD_NONBLOCK: "EFD_NONBLOCK", uapi.EFD_CLOEXEC: "EFD_CLOEXEC"}


def _flags(value: int, names: Mapping[int, str]) -> str:
    text = uapi.flags(value, names)
    return text.replace("|", " | ") if value > 0 else str(value)


def _sock_type(value: int) -> str:
    return uapi.sock_type(value).replace("|", " | ")


def _one_of(value: int, names: Mapping[int, str]) -> str:
    return names.get(value, str(value))


def _args(call: Call, written: list[int]) -> list[str]:
    """The arguments as Python text."""
    name, *args = call
    out = [repr(arg) for arg in args]
    if name in ("socket", "socketpair"):
        out[:2] = [_one_of(args[0], FAMILY_NAMES), _sock_type(args[1])]
    elif name in ("setsockopt", "getsockopt"):
        out[1] = {SOL_SOCKET: "SOL_SOCKET", uapi.IPPROTO_TCP: "IPPROTO_TCP"}.get(args[1], out[1])
        out[2] = _one_of(args[2], SO_NAMES if args[1] == SOL_SOCKET else _TCP_NAMES)
    elif name == "epoll_ctl":
        out[1] = _one_of(args[1], EPOLL_CTL_NAMES)
        out[3] = _flags(args[3], EPOLL_NAMES)
    elif name == "fcntl":
        out[1] = _one_of(args[1], FCNTL_NAMES)
        if args[1] == uapi.F_SETFL:
            out[2] = _flags(args[2], OPEN_NAMES)
    elif name == "ioctl":
        out[1] = _one_of(args[1], IOCTL_NAMES)
    elif name == "shutdown":
        out[1] = _one_of(args[1], SHUT_NAMES)
    elif name in ("recv", "recvfrom", "send", "sendto") and len(args) > 2:
        out[2] = _flags(args[2], MSG_NAMES)
    elif name in ("recvmsg", "sendmsg") and len(args) > 3:
        out[3] = _flags(args[3], MSG_NAMES)
    elif name == "pipe2" and args:
        out[0] = _flags(args[0], OPEN_NAMES)
    elif name == "eventfd" and len(args) > 1:
        out[1] = _flags(args[1], _EFD_FLAGS)
    elif name == "accept4" and len(args) > 1:
        out[1] = _flags(args[1], _SOCK_FLAGS)
    elif name == "poll":
        out[0] = "[" + ", ".join(f"({fd}, {_flags(events, POLL_NAMES)})" for fd, events in args[0]) + "]"
    if name in ("write", "send", "sendto", "pwrite"):
        out[1] = _data(args[1], written)
    elif name in ("writev", "sendmsg"):
        out[1] = "[" + ", ".join(_data(n, written) for n in args[1]) + "]"
    elif name == "add":
        out[1] = f'({args[1]}).to_bytes(8, "little")'
    for i, arg in enumerate(args):
        out[i] = _special(arg) or out[i]
    return out


def _special(arg: Any) -> str:
    """What stands for itself, as Python text."""
    if isinstance(arg, tuple) and arg:
        if arg[0] == "of":
            return f"sys.getsockname({arg[1]})"
        if arg[0] == "name":
            return f'b"\\0conform-%07d-{arg[1]}" % sys.getpid()'
        if arg[0] == "path":
            return f'"/tmp/conform-%07d-{arg[1]}" % sys.getpid()'
        if isinstance(arg[0], tuple) and arg[0][0] == "rights":
            return f'[(SOL_SOCKET, SCM_RIGHTS, struct.pack("{len(arg[0]) - 1}i", {", ".join(map(str, arg[0][1:]))}))]'
    return ""


def _data(n: Any, written: list[int]) -> str:
    """The bytes that a machine writes for ``n``."""
    if not isinstance(n, int):
        return repr(n)
    start, written[0] = written[0] % 65_521, written[0] + n
    return repr(PATTERN[start : start + n]) if n <= _SHORT else f"numbered({start}, {n})"


def _value(result: Any) -> str:
    """A result as Python text; long bytes as the part of the stream that they are."""
    if isinstance(result, str):
        return f'"{result}"'
    if isinstance(result, bytes):
        start = PATTERN.find(result) if len(result) > _SHORT else -1
        return f"numbered({start}, {len(result)})" if 0 <= start < 65_521 else repr(result)
    if isinstance(result, list):
        return f"[{', '.join(map(_value, result))}]"
    if isinstance(result, tuple):
        return f"({', '.join(map(_value, result))}{',' if len(result) == 1 else ''})"
    return repr(result)


def _masks(sim: Observation, real: Observation) -> list[str]:
    """What Linux shows at the fds where the two differ."""
    lines: list[str] = []
    fake = {fd: (mask, n) for fd, mask, n in sim}
    for fd, mask, n in real:
        its = fake.get(fd)
        if its is None or its[0] != mask:
            names = "|".join(name.removeprefix("POLL") for bit, name in sorted(POLL_NAMES.items()) if mask & bit) or "0"
            lines.append(f'assert mask(sys, {fd}) == "{names}"')
        if its is None or its[1] != n:
            lines.append(f"assert err(sys.ioctl, {fd}, FIONREAD) == {n!r}")
    lines += [f'assert mask(sys, {fd}) == "NVAL"' for fd in sorted(fake.keys() - {fd for fd, _, _ in real})]
    return lines


def as_test(name: str, program: Program, sim: Sequence[Result], real: Sequence[Result], raw: Sequence[Result]) -> str:
    """The test.  ``sim`` and ``real`` are the results that differ, ``raw`` Linux's with bytes and addresses as they are."""
    if program.tasks:
        return _as_test_of_tasks(name, program, real)
    body: list[str] = []
    written = [0]
    if len(sim) != len(real):
        sim = [*[real[i] for i in range(len(real))]]
    for i, call in enumerate(program.calls):
        args = _args(call, written)
        method = "write" if call[0] == "add" else call[0]
        text = f"err({', '.join([f'sys.{method}', *args])})"
        result = raw[i][0]
        if isinstance(result, str) and result in ("TypeError", "ValueError", "OverflowError"):
            body += [f"with pytest.raises({result}):", f"    sys.{method}({', '.join(args)})"]
        elif call[0] in ("accept4", "getsockname", "getpeername") and isinstance(result, tuple):
            body.append(f"assert {text}[0] == {result[0]!r}")
        elif call[0] == "getsockname" or result is None:
            body.append(f"assert {text} is None" if result is None else text)
        else:
            body.append(f"assert {text} == {_value(result)}")
        if call[0] == "socket" and isinstance(result, int) and call[1] in (AF_INET, AF_INET6) and call[2] & 15 == SOCK_STREAM:
            body.append(f"sys.setsockopt({result}, IPPROTO_TCP, TCP_NODELAY, 1)")
        if call[0] in ("shutdown", "close", "dup2", "dup3") and any(c[0] == "connect" for c in program.calls):
            body.append(f"sys.nanosleep({DELAYED_ACK_NS})  # Linux may acknowledge a FIN only then")
        if program.observe:
            different = _masks(sim[i][1], real[i][1])
            body += different or [f"mask(sys, {fd})" for fd, _, _ in real[i][1]]
    body += _masks(sim[-1][1], real[-1][1])
    return _module(name, program, [f"        {line}" for line in body])


def _as_test_of_tasks(name: str, program: Program, real: Sequence[Result]) -> str:
    lines = [f"        program = Program({_value(())}, observe={program.observe}, tasks={program.tasks!r}).with_calls([  # fmt: skip"]
    lines += [f"            {call!r}," for call in program.calls]
    lines += ["        ])", "        assert play_tasks(sys, program) == ["]
    lines += [f"            {result!r}," for result in real]
    lines += ["        ]"]
    return _module(name, program, lines)


def _module(name: str, program: Program, lines: list[str]) -> str:
    """The whole file: what the lines need is imported."""
    text = "\n".join(lines)
    words = set(re.findall(r"\b[A-Z]+[A-Z0-9]*_[A-Z0-9_]+\b|\bE?POLL[A-Z]+\b|\bFION[A-Z]+\b|\bSIOC[A-Z]+\b", text))
    consts = sorted(word for word in words if hasattr(uapi, word))
    out = [module for module in ("pytest", "struct") if f"{module}." in text]
    head = [f"import {module}" for module in sorted(out)]
    head += ["from simkernel.api import Syscalls"]
    if program.tasks:
        head += ["from simkernel.conform.program import Program", "from simkernel.conform.stage import play_tasks"]
    elif "numbered(" in text:
        head += ["from simkernel.conform.program import numbered"]
    if consts:
        head += [f"from simkernel.uapi import {', '.join(consts)}"]
    helpers = [helper for helper in ("World", "err", "mask") if helper == "World" or f"{helper}(" in text]
    head += ["", f"from .helpers import {', '.join(helpers)}"]
    doc = "Found by simkernel conform: say here what Linux does."
    return "\n".join(
        [*head, "", "", f"def test_{name}(world: World) -> None:", f'    """{doc}"""', "", "    def main(sys: Syscalls) -> None:", text, "",
         "    world.run(main)", ""]
    )  # fmt: skip
