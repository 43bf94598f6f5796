"""Makes programs of several tasks that block: the kinds blocking, signals and timers."""

import copy
import struct
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from simkernel.api import Syscalls
from simkernel.conform import verbs
from simkernel.conform.dice import Dice
from simkernel.conform.generate import Generator, Tally, outcome_name
from simkernel.conform.program import CLOCK, SETUP, Call, Program, Result, first_fd
from simkernel.conform.stage import Stage
from simkernel.conform.verbs import LISTENER, Script, Verb
from simkernel.errors import Unsupported
from simkernel.kernel.machine import run
from simkernel.uapi import (
    CLOCK_MONOTONIC,
    EFD_SEMAPHORE,
    EPOLL_CTL_ADD,
    NSEC_PER_MSEC,
    POLLIN,
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGCHLD,
    SIGPIPE,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    SO_RCVTIMEO,
    SOL_SOCKET,
    TFD_NONBLOCK,
    WNOHANG,
)

# --- verbs ---


def _close(g: Generator, fd: int) -> Call:
    return "close", fd


def _shut(g: Generator, fd: int) -> Call:
    return "shutdown", fd, g.dice.pick((SHUT_WR, SHUT_RD, SHUT_RDWR))


def _spawn(g: Generator, fd: int) -> Call:
    return "spawn", g.fd("pipe-r", "eventfd", "unix"), g.dice.below(4)


def _wait(g: Generator, fd: int) -> Call:
    return "waitpid", -1, g.dice.pick((0, 0, 0, WNOHANG))


def _add(g: Generator, fd: int) -> Call:
    return "add", fd, g.dice.pick((1, 1, 2, 0, 2**64 - 2))


def _read(g: Generator, fd: int) -> Call:
    return "read", fd, g.dice.pick((1, 8, 100, 5000))


_SLEEPS: dict[str, tuple[Verb, ...]] = {
    "pipe-r": (*(verbs.read,) * 3, _read, _read, verbs.poll),
    "pipe-w": (*(verbs.write,) * 4, verbs.poll),
    "eventfd": (*(verbs.read,) * 3, verbs.poll),
    "epoll": (*(verbs.epoll_wait,) * 5, verbs.poll),
    "timerfd": (_read, _read, verbs.poll),
    **dict.fromkeys(verbs.SOCKETS, (*(verbs.recv,) * 4, _read, verbs.poll)),
    **{kind + LISTENER: (*(verbs.accept,) * 5, verbs.poll) for kind in verbs.SOCKETS},
}
_WAKES: dict[str, tuple[Verb, ...]] = {
    "pipe-r": (_read, _read, _close),
    "pipe-w": (*(verbs.write,) * 5, _close),
    "eventfd": (*(_add,) * 5, verbs.read),
    "epoll": (verbs.epoll_ctl,),
    **dict.fromkeys(verbs.SOCKETS, (*(verbs.send,) * 5, _shut, _close, verbs.connect)),
    **{kind + LISTENER: (_shut, _close) for kind in verbs.SOCKETS},
}
_PROCESSES: tuple[Verb, ...] = (_spawn, _wait, _wait)


class TaskGenerator(Generator):
    """Chooses calls that block, and those that wake who does."""

    layouts: ClassVar[tuple[tuple[int, ...], ...]] = ((3,), (2,), (1, 1), (2, 1), (1, 1, 1), (4,), (2, 2), (5,))
    sleeps = 0  # how often time passes when all sleep

    def setup(self) -> Script:
        """What the tasks inherit: two or three things, often in an epoll."""
        pick, chance = self.dice.pick, self.dice.chance
        for _ in range(pick((2, 1, 2, 3))):
            kind = pick([family for family in self.families if family not in ("epoll", "file", "timerfd")])
            if kind == "pipe":
                yield "pipe2", 0
            elif kind == "eventfd":
                yield "eventfd", pick((0, 0, 2)), pick((0, EFD_SEMAPHORE))
            elif kind in ("unix", "unix-dgram", "unix-seq") and chance(0.6):
                yield "socketpair", *verbs.FAMILY[kind]
            elif kind in ("udp", "udp6", "unix-dgram"):
                yield from verbs.bound(self, kind)
            else:
                yield from verbs.pair(self, kind)
        while chance(0.5):
            epoll = yield "epoll_create1", 0
            for _ in range(pick((1, 1, 2))):
                yield "epoll_ctl", epoll, EPOLL_CTL_ADD, self.fd(), verbs.events(self), None

    def begin(self) -> list[Call]:
        """What each process's first task calls first."""
        return []

    def next_call(self, last: bool, waiting: Sequence[int]) -> Call:
        """A call for an idle task; for the ``last`` one, something that wakes others.  ``waiting`` are the fds that tasks wait for."""
        if self.dice.chance(0.06):
            return self.dice.pick(_PROCESSES)(self, -1)
        if self.dice.chance(0.06):
            return self.connecting()
        fd = self.fd()
        if waiting and self.dice.chance(0.5):
            # The same file as others sleep for, or the other end of it.
            fd = max(self.dice.pick(waiting) + self.dice.pick((0, 1, -1)), 3)
        kind = self.open.get(fd) or self.dice.pick([*self.open.values()] or ["eventfd"])
        table = _WAKES if self.dice.chance(0.9 if last else 0.5) else _SLEEPS
        call = self.dice.pick(table.get(kind) or (_close,))(self, fd)
        slept_on = fd in waiting or any(self.open.get(waited) == "epoll" for waited in waiting)
        if call[0] == "shutdown" and call[2] in (SHUT_WR, SHUT_RDWR) and kind.startswith("tcp") and slept_on:
            self.known["delayed-ack"] += 1
            return "shutdown", fd, SHUT_RD
        return call

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


_SIGNALS = (SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD, SIGPIPE)


class SignalGenerator(TaskGenerator):
    """Processes that send each other signals; each has one task, since Python runs handlers in the first thread alone."""

    layouts: ClassVar[tuple[tuple[int, ...], ...]] = ((1, 1), (1, 1, 1), (1,))

    def begin(self) -> list[Call]:
        """Mostly handlers, or the first signal ends it."""
        actions = ("note", "note", "note", SIG_IGN)
        return [("sigaction", signum, self.dice.pick(actions), self._flags(), ()) for signum in _SIGNALS if self.dice.chance(0.8)]

    def _flags(self) -> int:
        return self.dice.pick((0, 0, SA_RESTART, SA_RESTART, SA_NODEFER, SA_RESETHAND))

    def _set(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.dice.pick(_SIGNALS) for _ in range(self.dice.below(3))))

    def next_call(self, last: bool, waiting: Sequence[int]) -> Call:
        """One call in three is about signals."""
        pick = self.dice.pick
        which = self.dice.below(24)
        if which < 5:
            return "kill", ("pid", self.dice.below(3)), pick((*_SIGNALS, SIGUSR1, 0, 65))
        if which == 5:
            return "sigaction", pick(_SIGNALS), pick(("note", "note", SIG_IGN, SIG_DFL, None)), self._flags(), self._set()
        if which == 6:
            return "sigprocmask", pick((SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK)), pick((self._set(), self._set(), None))
        if which == 7:
            return ("sigpending",)
        if which == 8:
            return "signalfd", -1, self._set() or (SIGUSR1,), 0
        if which == 9:
            return "ppoll", ((self.fd(), POLLIN),), pick((None, None, 0)), pick((self._set(), None))
        if which == 10:
            return "epoll_pwait", self.fd("epoll"), 4, pick((-1, -1, 0)), pick((self._set(), None))
        if which == 11:
            return "pselect", (max(self.fd(), 3),), (), (), pick((None, None, 0)), pick((self._set(), None))
        if which == 12:
            return "sigtimedwait", self._set(), pick((None, None, 0))
        if which == 13:
            return pick((("pause",), ("sigpending",)))
        if which == 14:
            # (Each process has one thread, of the same number.)
            who = ("pid", self.dice.below(3))
            return "tgkill", who, who, pick((*_SIGNALS, SIGUSR1, 0, 65))
        return super().next_call(last, waiting)


class TimerGenerator(TaskGenerator):
    """Tasks that sleep with a time limit; now and then all limits pass.  They are 20 ms apart, so that their order is Linux's own."""

    layouts: ClassVar[tuple[tuple[int, ...], ...]] = ((2,), (3,), (1, 1), (2, 1))
    sleeps = 2

    def setup(self) -> Script:
        """A timerfd or two, beside the usual."""
        for _ in range(self.dice.pick((1, 2))):
            yield "timerfd_create", CLOCK_MONOTONIC, self.dice.pick((0, 0, TFD_NONBLOCK))
        yield from super().setup()

    def next_call(self, last: bool, waiting: Sequence[int]) -> Call:
        """Half of the calls have a limit."""
        pick = self.dice.pick
        ms = pick((40, 60, 80))
        which = self.dice.below(16)
        if which == 0:
            return "sleep", 120 * NSEC_PER_MSEC
        if which < 3:
            return "timerfd_settime", self.fd("timerfd"), 0, pick((ms * NSEC_PER_MSEC, ms * NSEC_PER_MSEC, 0, 1)), 0
        if which == 3:
            return "timerfd_gettime", self.fd("timerfd")
        if which == 4:
            return "epoll_wait", self.fd("epoll"), 4, ms
        if which == 5:
            return "poll", ((self.fd(), POLLIN), (self.fd(), POLLIN)), ms
        if which == 6:
            return "select", (max(self.fd(), 3),), (), (), ms / 1000
        if which == 7:
            return "nanosleep", ms * NSEC_PER_MSEC
        if which == 8:
            return "epoll_pwait2", self.fd("epoll"), 4, ms * NSEC_PER_MSEC
        if which == 9:
            return "setsockopt", self.fd("unix", "tcp"), SOL_SOCKET, SO_RCVTIMEO, struct.pack("qq", 0, ms * 1000)
        if which == 10:
            return "read", self.fd("timerfd"), 8
        return super().next_call(last, waiting)


def make_tasks(
    dice: Dice,
    length: int,
    families: Sequence[str],
    tally: Tally | None = None,
    missing: Counter[str] | None = None,
    style: type[TaskGenerator] = TaskGenerator,
    kind: str = "blocking",
) -> tuple[Program, list[Result], Counter[str]]:
    """A program of up to ``length`` steps, its results on the fake kernel, and how often a known difference was avoided.

    It ends early when every task sleeps.  One that meets what is not modelled is empty, and counted in ``missing``.
    """
    tasks = dice.pick(style.layouts)
    observe = dice.chance(0.5)
    program: list[Call] = []
    results: list[Result] = []
    known: Counter[str] = Counter()
    counted: Tally = {}

    def main(sys: Syscalls) -> None:
        stage = Stage(sys, tasks)
        first = style(dice, families, nonblock=0, wild=False, messages=False)
        waiting: dict[int, tuple[Call, str, TaskGenerator]] = {}

        def count(call: Call, kind: str, outcome: Result) -> None:
            key = call[0], kind, outcome_name(outcome)
            counted[key] = counted.get(key, 0) + 1

        def step(generator: TaskGenerator, call: Call, who: int) -> Result:
            fd = first_fd(call)
            sort = "" if fd is None else generator.open.get(fd, "none")
            if who >= 0:
                waiting[who] = call, sort, generator
            done, seen = stage.step((who, *call), observe)
            program.append((who, *call))
            results.append((done, seen))
            for task, outcome in done:
                of_call, its, of = waiting.pop(task) if task >= 0 else (call, sort, generator)
                if isinstance(outcome, tuple) and outcome and outcome[0] == "caught":
                    outcome = outcome[2]
                of.note(of_call, outcome)
                count(of_call, its, outcome)
            return done[0][1] if done else None

        script = first.setup()
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
        for p, generator in enumerate(generators):
            for call in generator.begin():
                step(generator, call, stage.process_of.index(p))
        left = style.sleeps
        while len(program) < length:
            if not stage.idle:
                if not left:
                    break
                left -= 1
                step(first, ("sleep", 120 * NSEC_PER_MSEC), CLOCK)
                continue
            who = dice.pick(sorted(stage.idle))
            generator = generators[stage.process_of[who]]
            if not generator.open:
                generator.open[3] = "eventfd"
            asleep = [fd for call, _, _ in waiting.values() if (fd := first_fd(call)) is not None]
            call = generator.next_call(len(stage.idle) == 1, asleep)
            step(generator, call, CLOCK if call[0] == "sleep" else who)
        for call, its, _ in waiting.values():
            count(call, its, "asleep")
        known.update(first.known)
        results.append((None, stage.look()))
        stage.end()

    try:
        run(main, on_crash=_crash)
    except Unsupported as error:
        if missing is not None:
            missing[str(error)] += 1
        return Program((), observe, tasks, kind), [], known
    if tally is not None:
        for key, n in counted.items():
            tally[key] = tally.get(key, 0) + n
    return Program(tuple(program), observe, tasks, kind), results, known


def _crash(task: object, error: BaseException) -> None:
    """A task's main ends by an exception only when the call it made is not modelled, or the fake kernel is broken."""
    raise error
