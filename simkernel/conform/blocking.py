"""Makes programs of several tasks that block."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from simkernel.api import Syscalls
from simkernel.conform import verbs
from simkernel.conform.dice import Dice
from simkernel.conform.generate import Generator, Tally, outcome_name
from simkernel.conform.program import CLOCK, SETUP, Call, Program, Result, first_fd
from simkernel.conform.stage import Stage
from simkernel.conform.verbs import LISTENER, Script, Verb
from simkernel.errors import SimulationError, Unsupported
from simkernel.kernel.machine import run
from simkernel.uapi import EFD_SEMAPHORE, EPOLL_CTL_ADD, SHUT_RD, SHUT_WR, WNOHANG

if TYPE_CHECKING:
    pass

LAYOUTS = ((3,), (2,), (1, 1), (2, 1), (1, 1, 1), (4,), (2, 2), (5,))
"""How many tasks each process has."""


def _close(g: Generator, fd: int) -> Call:
    return "close", fd


def _shut(g: Generator, fd: int) -> Call:
    return "shutdown", fd, g.dice.pick((SHUT_WR, SHUT_RD, 2))


def _spawn(g: Generator, fd: int) -> Call:
    return "spawn", g.fd("pipe-r", "eventfd", "unix"), g.dice.below(4)


def _wait(g: Generator, fd: int) -> Call:
    return "waitpid", -1, g.dice.pick((0, 0, 0, WNOHANG))


def _add(g: Generator, fd: int) -> Call:
    return "add", fd, g.dice.pick((1, 1, 2, 0, 2**64 - 2))


def _read_one(g: Generator, fd: int) -> Call:
    return "read", fd, g.dice.pick((1, 8, 100, 5000))


_SLEEPS: dict[str, tuple[Verb, ...]] = {
    "pipe-r": (*(verbs.read,) * 3, _read_one, _read_one, verbs.poll),
    "pipe-w": (*(verbs.write,) * 4, verbs.poll),
    "eventfd": (*(verbs.read,) * 3, verbs.poll),
    "epoll": (*(verbs.epoll_wait,) * 5, verbs.poll),
    **dict.fromkeys(verbs.SOCKETS, (*((verbs.recv,) * 4), _read_one, verbs.poll)),
    **{kind + LISTENER: (*(verbs.accept,) * 5, verbs.poll) for kind in verbs.SOCKETS},
}
_WAKES: dict[str, tuple[Verb, ...]] = {
    "pipe-r": (_read_one, _read_one, _close),
    "pipe-w": (*(verbs.write,) * 5, _close),
    "eventfd": (*(_add,) * 5, verbs.read),
    "epoll": (verbs.epoll_ctl,),
    **dict.fromkeys(verbs.SOCKETS, (*((verbs.send,) * 5), _shut, _close, verbs.connect)),
    **{kind + LISTENER: (_shut, _close) for kind in verbs.SOCKETS},
}
_PROCESSES: tuple[Verb, ...] = (_spawn, _wait, _wait)


class TaskGenerator(Generator):
    """Chooses calls that block, and those that wake who does."""

    def sleep_or_wake(self, last: bool) -> Call:
        """A call for an idle task; for the last one, something that wakes others."""
        if self.dice.chance(0.06):
            return self.dice.pick(_PROCESSES)(self, -1)
        if self.dice.chance(0.08):
            return self.connecting()
        fd = self.fd()
        kind = self.open.get(fd) or self.dice.pick([*self.open.values()] or ["eventfd"])
        table = _WAKES if self.dice.chance(0.9 if last else 0.5) else _SLEEPS
        return self.dice.pick(table.get(kind) or (_close,))(self, fd)

    def connecting(self) -> Call:
        """Half of the way to a connection: a socket, or its connect."""
        listeners = [fd for fd, kind in self.open.items() if kind.endswith(LISTENER)]
        if not listeners:
            return "dup", self.fd()
        to = self.dice.pick(listeners)
        kind = self.open[to].removesuffix(LISTENER)
        fresh = [fd for fd, its in self.open.items() if its == kind][-2:]
        if fresh and self.dice.chance(0.7):
            return "connect", self.dice.pick(fresh), ("of", to)
        return "socket", *verbs.FAMILY[kind]


def _setup(g: Generator) -> Script:
    """What the tasks inherit: two or three things, often in an epoll."""
    pick, chance = g.dice.pick, g.dice.chance
    for _ in range(pick((2, 1, 2, 3))):
        kind = pick([family for family in g.families if family not in ("epoll", "file", "timerfd")])
        if kind == "pipe":
            yield "pipe2", 0
        elif kind == "eventfd":
            yield "eventfd", pick((0, 0, 2)), pick((0, EFD_SEMAPHORE))
        elif kind in ("unix", "unix-dgram", "unix-seq") and chance(0.6):
            yield "socketpair", *verbs.FAMILY[kind]
        elif kind in ("udp", "udp6", "unix-dgram"):
            yield from verbs.bound(g, kind)
        else:
            yield from verbs.pair(g, kind)
    while chance(0.5):
        epoll = yield "epoll_create1", 0
        for _ in range(pick((1, 1, 2))):
            yield "epoll_ctl", epoll, EPOLL_CTL_ADD, g.fd(), verbs.events(g), None


def make_tasks(
    dice: Dice, length: int, families: Sequence[str], tally: Tally | None = None, missing: Counter[str] | None = None
) -> tuple[Program, list[Result], Counter[str]]:
    """A program of up to ``length`` steps, its results on the fake kernel, and how often a known difference was avoided.

    It ends early when every task sleeps.
    """
    tasks = dice.pick(LAYOUTS)
    observe = dice.chance(0.5)
    program: list[Call] = []
    results: list[Result] = []
    known: Counter[str] = Counter()

    def main(sys: Syscalls) -> None:
        stage = Stage(sys, tasks)
        first = TaskGenerator(dice, families, nonblock=0, wild=False, messages=False)

        def step(generator: TaskGenerator, call: Call, who: int) -> Result:
            fd = first_fd(call)
            kind = "" if fd is None else generator.open.get(fd, "none")
            done, seen = stage.step((who, *call), observe)
            program.append((who, *call))
            results.append((done, seen))
            for task, outcome in done:
                if task == who:
                    generator.note(call, outcome)
                    count(call[0], kind, outcome)
                else:
                    name, its, of, its_call = waiting.pop(task)
                    of.note(its_call, outcome)
                    count(name, its, outcome)
            if who >= 0 and all(task != who for task, _ in done):
                waiting[who] = call[0], kind, generator, call
            return done[0][1] if done else None

        def count(name: str, kind: str, outcome: Result) -> None:
            if tally is not None:
                key = name, kind, outcome_name(outcome)
                tally[key] = tally.get(key, 0) + 1

        waiting: dict[int, tuple[str, str, TaskGenerator, Call]] = {}
        script = _setup(first)
        try:
            call = next(script)
            while True:
                call = script.send(step(first, call, SETUP))
        except StopIteration:
            pass
        generators: list[TaskGenerator] = []
        for _ in tasks:
            generator = copy.copy(first)
            generator.open = dict(first.open)
            generators.append(generator)
        stage.start()
        while len(program) < length and stage.idle:
            who = dice.pick(sorted(stage.idle))
            generator = generators[stage.process_of[who]]
            if not generator.open:
                generator.open[3] = "eventfd"
            step(generator, generator.sleep_or_wake(len(stage.idle) == 1), who)
        for name, its, _, _ in waiting.values():
            count(name, its, "asleep")
        known.update(first.known)
        results.append((None, stage.look()))
        stage.end()

    try:
        run(main, on_crash=_crash)
    except Unsupported as error:
        if missing is not None:
            missing[str(error)] += 1
        return Program((), observe, tasks, "blocking"), [], known
    except SimulationError:
        raise
    return Program(tuple(program), observe, tasks, "blocking"), results, known


def _crash(task: object, error: BaseException) -> None:
    """A task's main ends by an exception only when the call it made is not modelled, or the fake kernel is broken."""
    raise error


__all__ = ["CLOCK", "LAYOUTS", "make_tasks"]
