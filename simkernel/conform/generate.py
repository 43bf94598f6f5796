"""Makes programs of one task: each call is chosen when the fake kernel has made the one before, for only it knows which fds are open."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from simkernel.api import Syscalls
from simkernel.conform.dice import Dice
from simkernel.conform.machine import Machine
from simkernel.conform.program import Call, Program, Result, first_fd
from simkernel.conform.verbs import LISTENER, MAKERS, PROBES, TYPE, VERBS, Script
from simkernel.errors import SimulationError, Unsupported
from simkernel.kernel.machine import run
from simkernel.uapi import F_DUPFD, F_DUPFD_CLOEXEC, SOCK_NONBLOCK

Tally = dict[tuple[str, str, str], int]
"""(call, type of its fd, outcome) -> how often it was compared."""

MOST_OPEN = 14


@cache
def families() -> tuple[str, ...]:
    """The families of files that the fake kernel models, found by asking it."""
    found: list[str] = []
    for name in MAKERS:
        probe = PROBES.get(name)
        if probe is not None:
            try:
                run(lambda sys, call=probe: Machine(sys).step(call))
            except Unsupported:
                continue
        found.append(name)
    return tuple(found)


class Generator:
    """Chooses calls, and keeps the table of what each fd is.

    ``families`` restricts what files there are; ``nonblock`` is O_NONBLOCK, or 0 for files that block; ``wild`` also chooses flags and
    options that are rare; ``messages`` also sendto, recvfrom, sendmsg and recvmsg.
    """

    def __init__(
        self, dice: Dice, families: Sequence[str], nonblock: int = SOCK_NONBLOCK, wild: bool = True, messages: bool = True
    ) -> None:
        self.dice = dice
        self.families = families
        self.nonblock = nonblock
        self.wild = wild
        self.messages = messages
        self.open: dict[int, str] = {}
        self.script: Script | None = None
        self.last: Result = None
        self.known: Counter[str] = Counter()

    # --- choosing ---
    def fd(self, *kinds: str) -> int:
        """An open fd of one of the kinds, or seldom any number."""
        fds = [fd for fd, kind in self.open.items() if kind.startswith(kinds)] if kinds else [*self.open]
        if not fds or self.dice.chance(0.02):
            return self.dice.pick((*self.open, -1, 999, 3 + self.dice.below(17)))
        return self.dice.pick(fds)

    def address_for(self, fd: int) -> Any:
        """Where a datagram may go: to a bound socket of the family, mostly."""
        kind = self.open.get(fd, "")
        there = [other for other, its in self.open.items() if its == kind]
        return ("of", self.dice.pick(there)) if there and not self.dice.chance(0.05) else ("name", self.dice.below(3))

    def call(self) -> Call:
        """The next call."""
        if self.script is not None:
            try:
                return self.script.send(self.last)
            except StopIteration:
                self.script = None
        dice = self.dice
        if len(self.open) < 3 or (len(self.open) < MOST_OPEN and dice.chance(0.12)):
            made = MAKERS[dice.pick(self.families)](self)
            if isinstance(made, tuple):
                return made
            self.script = made
            return next(made)
        fd = self.fd()
        return dice.pick(VERBS[self.open.get(fd) or dice.pick([*self.open.values()])])(self, fd)

    # --- what has become of it ---
    def note(self, call: Call, result: Result) -> None:
        """Keep the table of what each fd is."""
        if isinstance(result, tuple) and result and result[0] == "caught":
            # A handler ran meanwhile: what the call itself returned comes after.
            result = result[2]
        self.last = result
        if isinstance(result, str):
            return
        name, table = call[0], self.open
        if name == "close":
            table.pop(call[1], None)
        elif name in ("dup", "dup2", "dup3") or (name == "fcntl" and call[2] in (F_DUPFD, F_DUPFD_CLOEXEC)):
            table[result] = table.get(call[1], "none")
        elif name == "socketpair":
            table.update(dict.fromkeys(result, TYPE.get((call[1], call[2] & 15), "none")))
        elif name == "pipe2":
            table[result[0]], table[result[1]] = "pipe-r", "pipe-w"
        elif name in ("eventfd", "timerfd_create", "memfd_create"):
            table[result] = {"eventfd": "eventfd", "timerfd_create": "timerfd", "memfd_create": "file"}[name]
        elif name == "open":
            table[result] = {"/dev/null": "null", "/dev/zero": "zero"}.get(call[1] if isinstance(call[1], str) else "", "file")
        elif name == "epoll_create1":
            table[result] = "epoll"
        elif name == "socket":
            kind = TYPE.get((call[1], call[2] & 15), "none")
            if kind.startswith("tcp"):
                self.known["nagle"] += 1
            table[result] = kind
        elif name == "accept4":
            table[result[0]] = table.get(call[1], "none").removesuffix(LISTENER)
        elif name == "listen":
            kind = table.get(call[1], "none").removesuffix(LISTENER)
            table[call[1]] = kind + LISTENER if kind + LISTENER in VERBS else kind
        elif name == "recvmsg":
            for message in result[2]:
                if message[0] == "rights":
                    table.update(dict.fromkeys(message[1:], "none"))


def outcome_name(result: Result) -> str:
    """What a table says of an outcome: ok, or the errno."""
    if isinstance(result, tuple) and result and result[0] == "caught":
        result = result[2]
    return result if isinstance(result, str) else "ok"


def make(
    dice: Dice, length: int, only: Sequence[str] = (), tally: Tally | None = None, missing: Counter[str] | None = None
) -> tuple[Program, list[Result], Counter[str]]:
    """A program of ``length`` calls, its results on the fake kernel, and how often a known difference was avoided.

    A call that is Unsupported is left out, and counted in ``missing`` with its text.
    """
    observe = not dice.chance(0.33)
    wanted = tuple(only) or families()
    if not only and dice.chance(0.8):
        wanted = tuple(dict.fromkeys([dice.pick(wanted), dice.pick(wanted), dice.pick(wanted), "epoll"]))
    wild = not only or dice.chance(0.5)
    generator = Generator(dice, wanted, wild=wild)
    program: list[Call] = []
    results: list[Result] = []

    def main(sys: Syscalls) -> None:
        machine = Machine(sys)
        attempts = 0
        while len(program) < length and attempts < 4 * length:
            attempts += 1
            call = generator.call()
            fd = first_fd(call)
            kind = "" if fd is None else generator.open.get(fd, "none")
            written = machine.written
            try:
                outcome = machine.step(call)
            except Unsupported as error:
                machine.written = written
                generator.script, generator.last = None, None
                if missing is not None:
                    missing[str(error)] += 1
                continue
            except SimulationError:
                raise
            except Exception as error:
                outcome = f"the fake kernel raised {error!r}"
            program.append(call)
            results.append((outcome, machine.look() if observe else None))
            generator.note(call, outcome)
            if tally is not None:
                key = call[0], kind, outcome_name(outcome)
                tally[key] = tally.get(key, 0) + 1
        results.append((None, machine.look()))

    run(main)
    return Program(tuple(program), observe), results, generator.known
