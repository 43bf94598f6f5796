"""One example: a server, its clients, and what became of them.  The same function runs on both kernels."""

import json
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from errno import ECONNRESET, ENOTCONN, EPIPE, ETIMEDOUT
from pathlib import Path
from typing import Any, TypeAlias

from simkernel.api import Address, Syscalls
from simkernel.errors import SimulationError, is_ours
from simkernel.kernel.place import PROGRAM, kind_of_file
from simkernel.kernel.syscalls import SimSyscalls
from simkernel.testing.contracts import Contract, Plan, Violation
from simkernel.testing.hosts import disturbed, under_test
from simkernel.testing.oracles import SETTLE_NS, Oracles
from simkernel.testing.weather import CALM_NS, CLIENTS, Weather, make_network, network_main
from simkernel.uapi import (
    AF_INET,
    O_NONBLOCK,
    O_RDONLY,
    POLLIN,
    RLIMIT_NOFILE,
    SIGKILL,
    SIGNAL_NAMES,
    SO_REUSEADDR,
    SO_SNDBUF,
    SOCK_STREAM,
    SOL_SOCKET,
    WNOHANG,
)

Serve: TypeAlias = Callable[[Syscalls, int, int], object]
Finding: TypeAlias = dict[str, Any]

BACKLOG = 128
# What calls of a client say whose connection is broken.
BROKEN = (ECONNRESET, EPIPE, ENOTCONN, ETIMEDOUT)


def listen(sys: Syscalls, addr: Address = ("127.0.0.1", 0), backlog: int = BACKLOG) -> int:
    """A listening TCP socket on ``addr``; port 0 takes a free one (getsockname tells which)."""
    fd = sys.socket(AF_INET, SOCK_STREAM)
    sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    sys.bind(fd, addr)
    sys.listen(fd, backlog)
    return fd


def open_fds(sys: Syscalls) -> dict[int, str]:
    """The open fds of the calling process, each with what it is, on either kernel."""
    if isinstance(sys, SimSyscalls):
        files = sys.sched.current.process.files.open_fds()
        return {fd: file.sk.describe() if file.sk is not None else file.kind for fd, file in files.items()}
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            # The fd of this very listing.
            continue
    return found


def scenario(
    sys: Syscalls,
    serve: Serve,
    contract: Contract,
    plans: Sequence[Plan],
    addr: Address = ("127.0.0.1", 0),
    weather: Weather | None = None,
) -> list[Finding]:
    """Run ``serve`` and a client for each plan; returns what broke the contract: {kind, message, who}.  Empty means all is well.

    The first client that sees it broken ends the example, and so does the server's end before its time.  ``weather`` puts the clients on
    another host, on the fake kernel alone.
    """
    net = None if weather is None else make_network(sys, weather)

    def start(plan: Plan) -> int:
        args = contract, addr, plan, w
        return sys.spawn(client_main, *args) if net is None else net.spawn(CLIENTS, client_main, *args)

    listener = listen(sys, addr)
    if contract.send_buffer:
        # A connection has what its listener had.
        sys.setsockopt(listener, SOL_SOCKET, SO_SNDBUF, contract.send_buffer)
    addr = sys.getsockname(listener)
    stop = sys.eventfd(0)
    r, w = sys.pipe2(O_NONBLOCK)
    helpers = contract.beside(sys, addr)
    take_fds(sys, contract.open_fds)
    server = sys.spawn(server_main, serve, contract, listener, stop, w)
    servers = [server]
    failed = False
    for _ in range(contract.lives - 1):
        # It has lived when it has served somebody.
        first = next((plan for plan in plans if plan.behaviour not in contract.stays), replace(plans[0], behaviour="turns"))
        failed = failed or sys.waitpid(start(first))[1] != 0
        sys.kill(server, contract.stop_signal or SIGKILL)
        sys.waitpid(server)
        server = sys.spawn(server_main, serve, contract, listener, stop, w)
        servers.append(server)
    clients = [start(plan) for plan in plans]
    waiting = set(clients)
    if net is not None and weather is not None and weather.storms:
        sys.spawn(network_main, net, weather, clients, servers)
    status = None
    while waiting and status is None and not failed:
        pid, code = sys.waitpid(-1)
        waiting.discard(pid)
        if pid == server:
            if weather is not None and weather.restarts(code):
                server = sys.spawn(server_main, serve, contract, listener, stop, w)
                servers.append(server)
            else:
                status = code
        elif code and not (weather is not None and weather.kills(code)):
            failed = True
    early = status is not None
    findings: list[Finding] = []
    if failed and not early:
        # What the client saw may come from the server's death.
        pid, code = sys.waitpid(server, WNOHANG)
        status = code if pid else None
    elif not early:
        findings = settle(sys, SETTLE_NS if weather is None else CALM_NS)
        if contract.stop_signal:
            sys.kill(server, contract.stop_signal)
        else:
            sys.write(stop, (1).to_bytes(8, "little"))
        _pid, status = sys.waitpid(server)
        if weather is not None and weather.restarts(status):
            # Nobody is left for whom it would be started again.
            status = 0
    for pid in helpers:
        sys.kill(pid, SIGKILL)
        sys.waitpid(pid)
    contract.after(sys, addr)
    sys.close(w)
    text = b""
    while True:
        try:
            chunk = sys.read(r, 65536)
        except BlockingIOError:
            # Somebody whom the server has left behind still holds the other end.
            break
        if not chunk:
            break
        text += chunk
    findings += [json.loads(line) for line in text.splitlines()]
    if contract.stop_signal:
        if early and not status:
            findings.append({"kind": "crash", "who": "server", "message": "serve returned before it was told to stop"})
        elif not early and status == contract.stop_signal:
            # Nobody came for whom it had to be ready, and the signal found it without a handler.
            status = 0
    if status and not any(f["who"] == "server" for f in findings):
        findings.append({"kind": "crash", "who": "server", "message": f"the server's process {ended(status)}"})
    return findings


def ended(status: int) -> str:
    """A wait status in words."""
    signum = status & 0x7F
    return f"was killed by {SIGNAL_NAMES.get(signum, f'signal {signum}')}" if signum else f"exited with status {status >> 8}"


def settle(sys: Syscalls, while_ns: int) -> list[Finding]:
    """All clients have gone: what the server keeps of them after a while, on the fake kernel, where a while costs nothing."""
    watch = sys.sched.watch if isinstance(sys, SimSyscalls) else None
    if not isinstance(watch, Oracles):
        return []
    before = watch.gone()
    if not before:
        return []
    sys.nanosleep(while_ns)
    return watch.kept(before)


def report(sys: Syscalls, w: int, kind: str, who: str, message: str) -> None:
    """Tell the parent.  A line of at most PIPE_BUF bytes is written whole, whoever else writes."""
    finding: Finding = {"kind": kind, "who": who, "message": message[:1000]}
    if isinstance(sys, SimSyscalls):
        # The story ends here: after how many calls, and at which event; and who told it.
        finding |= {"calls": sys.sched.calls, "end": len(sys.sched.trace), "pid": sys.sched.current.pid}
    sys.write(w, json.dumps(finding).encode() + b"\n")


def take_fds(sys: Syscalls, count: int) -> None:
    """Open files until ``count`` fds are taken, as in a process that has much to do, and may have as many as the hard limit says."""
    if count:
        _soft, hard = sys.getrlimit(RLIMIT_NOFILE)
        sys.setrlimit(RLIMIT_NOFILE, (hard, hard))
        while sys.open("/dev/null", O_RDONLY) < count - 1:
            pass


def server_main(sys: Syscalls, serve: Serve, contract: Contract, listener: int, stop: int, w: int) -> None:
    """The server's process: serve, then look what it left behind."""
    before = open_fds(sys)
    under_test(sys)
    try:
        serve(sys, listener, stop)
    except SimulationError:
        raise
    except Exception as error:
        report(sys, w, "crash", "server", crash_text(error))
        sys.exit(1)
    under_test(sys, False)
    if not contract.stop_signal and not sys.poll([(stop, POLLIN)], 0):
        report(sys, w, "crash", "server", "serve returned before it was told to stop")
    after = open_fds(sys)
    left = [f"fd {fd} ({what})" for fd, what in after.items() if fd not in before]
    gone = [f"fd {fd}" for fd in before if fd not in after]
    if left:
        report(sys, w, "leak", "server", f"serve returned and left open: {', '.join(left)}")
    if gone:
        report(sys, w, "leak", "server", f"serve closed what is not its own: {', '.join(gone)}")
    try:
        pid, _status = sys.waitpid(-1, WNOHANG)
    except ChildProcessError:
        return
    report(sys, w, "leak", "server", f"serve returned and left a child, {'running' if pid == 0 else f'pid {pid} never waited for'}")


def client_main(sys: Syscalls, contract: Contract, addr: Address, plan: Plan, w: int) -> None:
    """A client's process."""
    try:
        contract.play(sys, addr, plan)
    except (Violation, OSError) as error:
        # What broke its connection may not have been the server.
        if not disturbed(sys):
            if not isinstance(error, Violation):
                if error.errno not in BROKEN:
                    raise
                error = Violation("corruption", f"{plan}: the server broke off: {error.strerror}")
            report(sys, w, error.kind, f"client {plan.number}", str(error))
            sys.exit(1)
    if plan.behaviour in contract.stays:
        sys.spawn(stay)


def stay(sys: Syscalls) -> None:
    """A client that has done its part: it sleeps until the example ends, and its connection is open."""
    sys.poll([])


def program_place(error: BaseException) -> str:
    """Where in the program an exception came from: ``file.py:line in function``; where in a library if none is the program's, or ""."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_ours(frame.filename)]
    # The command itself is the outermost frame of ours.
    frames = [frame for frame in frames if not frame.filename.endswith("bin/simkernel")]
    frames = [frame for frame in frames if kind_of_file(frame.filename) == PROGRAM] or frames
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def crash_text(error: BaseException) -> str:
    """An exception in one line: what, and where in the server it came from."""
    place = program_place(error)
    return f"{type(error).__name__}: {error}" + (f", at {place}" if place else "")
