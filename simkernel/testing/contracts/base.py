"""What a server promises, and the clients that hold it to that.

A contract draws a plan for each client from a choice source, and plays a plan as a process of its own.  Everything here is written on
api.Syscalls, so the same clients run on both kernels.
"""

from dataclasses import asdict, dataclass, replace
from functools import lru_cache

from simkernel.api import Address, Syscalls
from simkernel.errors import UsageError
from simkernel.kernel.choice import Choice
from simkernel.kernel.liberties import PROFILES

MS = 1_000_000
MIB = 1 << 20
READ_SIZE = 65536
# Sizes of a message, the plain one first.  On both sides of what servers like to read at once.
SIZES = (16, 1, 1000, 1300, 2500, 4096, 10_000, 70_000)
# What a client with a small receive window sends at once, at least: more than fits into it and a small send buffer of the server.
SLOW_SIZE = 12_000
# One example in so many has a server with few fds.
TIGHT = 8
DELAYS_MS = (0, 0, 1, 30)


class Violation(Exception):
    """A client saw the contract broken: ``kind`` is the kind of failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Plan:
    """What one client does.

    ``behaviour``  "turns" (send a message, read its echo, next), "stream" (send all, shut the sending side, read meanwhile),
                   "vanish" (send and close without reading), "deaf" (send as much as fits, never read, then close); more: see the contract
    ``sizes``      bytes of each message; ``start_ms``, ``pause_ms`` virtual or real milliseconds before connecting and between messages
    ``read_size``  how much it reads at once
    ``tight``      the server has few fds (on the fake kernel somebody lowers its RLIMIT_NOFILE): it may let clients wait, or turn one
                   away before it has served it at all
    """

    number: int
    behaviour: str
    sizes: tuple[int, ...]
    start_ms: int = 0
    pause_ms: int = 0
    read_size: int = READ_SIZE
    tight: bool = False

    def __str__(self) -> str:
        what = ", ".join(f"{k} {v}" for k, v in asdict(self).items() if k not in ("number", "behaviour", "read_size") and v)
        return f"client {self.number}: {self.behaviour}, {what}"


# The most clients that a plan may ask for, so that the server has fds for all, and the most messages of each.
MAX_CLIENTS = 200
MAX_ECHOES = 10_000


class Contract:
    """A promise to check.  Subclasses draw plans and play them.

    ``clients`` and ``echoes``, given together: not drawn, but always so many clients that take so many small turns each.  What is
    explored then is the schedule alone.
    """

    name = "contract"
    clients: int | None = None
    echoes: int | None = None
    behaviours: tuple[str, ...] = ("turns",)
    # Those who are still connected when the server is told to stop: what ``play`` leaves open stays so.
    stays: frozenset[str] = frozenset()
    # Who makes many connections at one moment: when the server has few fds, it has too few for them.
    crowd = ""
    max_clients = 8
    # What the server runs in: the signal that stops it (0: the eventfd becomes readable instead); how many lives it has, each but the last
    # ended by that signal, or SIGKILL, when it has served a client; how many fds are taken when it starts, so that its own have high
    # numbers; its connections' SO_SNDBUF, so that they are soon full (0: what Linux gives).
    stop_signal = 0
    lives = 1
    open_fds = 0
    send_buffer = 0
    # The profiles under which a right server can keep it.
    profiles: tuple[str, ...] = PROFILES
    # How long (virtual ns) what a client sent may wait to be read while the server has time; None: the contract does not say.
    served_within_ns: int | None = 10_000 * MS
    # How many bytes the server may have read from a connection and not yet written back to it; None: the contract does not say.
    memory_per_connection: int | None = None

    # Whether the server must go on when it is stopped and continued (epoll_wait: EINTR), and when memory, fds or processes run out for more
    # than accept (profile "posix"): it may turn clients away.
    harsh = False
    # Whether the server may be killed and started again while clients are served (profile "network"): it keeps what it must elsewhere.
    restarts = False

    def __init__(self, clients: int | None = None, echoes: int | None = None) -> None:
        if clients is None and echoes is None:
            return
        if clients is None or echoes is None:
            given, missing = ("clients", "echoes") if echoes is None else ("echoes", "clients")
            raise UsageError(f"{given} is given and {missing} is not: a fixed plan needs both")
        if "turns" not in self.behaviours or type(self).plans is not Contract.plans:
            raise UsageError(f"the contract {self.name} has plans of its own: leave out clients and echoes")
        if not 1 <= clients <= MAX_CLIENTS:
            raise UsageError(f"clients must be 1 to {MAX_CLIENTS}, not {clients}")
        if not 1 <= echoes <= MAX_ECHOES:
            raise UsageError(f"echoes must be 1 to {MAX_ECHOES}, not {echoes}")
        self.clients = clients
        self.echoes = echoes
        self._fixed = [Plan(number, "turns", SIZES[:1] * echoes) for number in range(clients)]
        # As a token names it, and contract_of finds it again.
        self.name = f"{self.name}:{clients}x{echoes}"

    def plans(self, choice: Choice) -> list[Plan]:
        """The clients of one example: one, with one small message, when all choices are 0."""
        if self.clients is not None and self.echoes is not None:
            return self._fixed
        tight = bool(self.crowd) and choice.pick(TIGHT, "tight") == TIGHT - 1
        count = 1 + choice.pick(self.max_clients, "clients")
        plans = [self.plan(choice, number) for number in range(count)]
        if tight:
            # Without those who stay: they keep the server's fds, so nobody else might ever be served.
            plans = [replace(plan, behaviour=self.crowd if plan.behaviour in self.stays else plan.behaviour, tight=True) for plan in plans]
            plans[0] = replace(plans[0], behaviour=self.crowd)
        return plans

    def plan(self, choice: Choice, number: int) -> Plan:
        """One client's plan."""
        behaviour = self.behaviours[choice.pick(len(self.behaviours), "behaviour")]
        sizes = tuple(SIZES[choice.pick(len(SIZES), "size")] for _ in range(1 + choice.pick(4, "messages")))
        if behaviour == "stream" and choice.pick(24, "big") == 23:
            sizes = (MIB,)
        elif behaviour == "torrent":
            sizes = (MIB // 2,)
        elif behaviour == "slow":
            sizes = (max(SLOW_SIZE, sizes[0]), *sizes[1:])
        start = DELAYS_MS[choice.pick(len(DELAYS_MS), "start")]
        pause = DELAYS_MS[choice.pick(len(DELAYS_MS), "pause")]
        read_size = (READ_SIZE, 1000, 100)[choice.pick(3, "read-size")] if sum(sizes) < SLOW_SIZE else READ_SIZE
        return Plan(number, behaviour, sizes, start, pause, read_size)

    def beside(self, sys: Syscalls, addr: Address) -> list[int]:
        """Start the processes that the server at ``addr`` needs beside it; returns their pids.  They are killed at the end."""
        return []

    def after(self, sys: Syscalls, addr: Address) -> None:
        """Remove what a server that did not come to its end may have left in the file system."""

    def play(self, sys: Syscalls, addr: Address, plan: Plan) -> None:
        """Be that client, from connect to close.  Raises Violation."""
        raise NotImplementedError


@lru_cache(maxsize=256)
def pattern(number: int, n: int) -> bytes:
    """``n`` bytes that differ between clients and along the stream, so that any mix-up shows."""
    block = b"".join(b"<%d:%d>" % (number, i) for i in range(min(n // 4 + 1, 4000)))
    return (block * (n // len(block) + 1))[:n]
