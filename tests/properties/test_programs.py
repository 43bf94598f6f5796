"""The two kernels return the same, call by call, for random programs: a sample of what simkernel conform compares, family by family."""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

import simkernel
from simkernel.api import Syscalls
from simkernel.conform.compare import judge, on_linux, on_sim, play_calls, story
from simkernel.conform.dice import seeded
from simkernel.conform.generate import Tally, make
from simkernel.conform.program import Program, Result
from simkernel.conform.strategy import programs
from simkernel.uapi import EFD_NONBLOCK, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLONESHOT, EPOLLOUT

FAMILIES = {
    "epoll": ("pipe", "eventfd", "unix", "epoll"),
    "tcp": ("tcp", "epoll"),
    "sockets": ("unix", "tcp"),
    "all": ("pipe", "eventfd", "unix", "tcp", "epoll"),
}


def differing(made: list[tuple[Program, list[Result]]]) -> list[str]:
    """The stories of the programs on which the two kernels differ."""
    stories: list[str] = []
    for (program, sim), real in zip(made, on_linux(play_calls, [program for program, _ in made]), strict=True):
        verdict = judge(play_calls, program, sim, real)
        if verdict.kind == "differs":
            stories.append(story(program, verdict.sim, verdict.linux))
    return stories


@pytest.mark.parametrize("name", FAMILIES)
def test_call_by_call(name: str) -> None:
    made = [make(seeded("families", name, i), 60, FAMILIES[name])[:2] for i in range(40)]
    stories = differing(made)
    assert not stories, "\n\n".join(stories)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(made=programs())
def test_call_by_call_by_hypothesis(made: tuple[Program, list[Result]]) -> None:
    """The same programs from Hypothesis: a failure is shrunk by it."""
    stories = differing([made])
    assert not stories, stories[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_programs_do_something(name: str) -> None:
    """Not only errors come back: each kind of call also succeeds."""
    tally: Tally = {}
    for i in range(60):
        make(seeded("do", name, i), 60, FAMILIES[name], tally)
    done: Counter[str] = Counter()
    for (call, _, outcome), n in tally.items():
        done[call] += n if outcome == "ok" else 0
    wanted = {"read", "write", "close", "dup", "fcntl", "poll", "select"}
    if "tcp" in FAMILIES[name]:
        wanted |= {"accept4", "connect", "listen", "recv", "send", "shutdown", "setsockopt", "getsockopt"}
    if "epoll" in FAMILIES[name]:
        wanted |= {"epoll_ctl", "epoll_wait"}
    assert {call for call, n in done.items() if n >= 5} >= wanted


def test_a_program_replays() -> None:
    for i in range(10):
        program, results, _ = make(seeded("replay", i), 60)
        assert on_sim(play_calls, program) == results


# --- a small independent model of epoll: what the manual and the ready list promise, without wait queues ---


class ModelItem:
    def __init__(self, file: "ModelEventFd", fd: int, events: int) -> None:
        self.file = file
        self.fd = fd
        self.events = events


class ModelEventFd:
    def __init__(self) -> None:
        self.count = 0
        self.fds = 1

    def mask(self) -> int:
        return (EPOLLIN if self.count else 0) | EPOLLOUT


class ModelEpoll:
    """An interest list, and the order in which its items became ready."""

    def __init__(self) -> None:
        self.items: dict[tuple[ModelEventFd, int], ModelItem] = {}
        self.ready: list[ModelItem] = []

    def armed(self, item: ModelItem) -> bool:
        return bool(item.events & (EPOLLIN | EPOLLOUT))

    def event(self, file: ModelEventFd, bit: int) -> None:
        """``file`` has woken its waiters for ``bit``: the last to have registered hears it first."""
        for item in reversed(list(self.items.values())):
            if item.file is file and item.events & bit and item not in self.ready:
                self.ready.append(item)

    def ctl(self, op: int, file: ModelEventFd, fd: int, events: int) -> bool:
        key = file, fd
        if (op == EPOLL_CTL_ADD) == (key in self.items):
            return False
        if op == EPOLL_CTL_DEL:
            item = self.items.pop(key)
            self.ready = [other for other in self.ready if other is not item]
            return True
        if op == EPOLL_CTL_ADD:
            self.items[key] = ModelItem(file, fd, events)
        item = self.items[key]
        item.events = events
        if file.mask() & events and item not in self.ready:
            self.ready.append(item)
        return True

    def wait(self, maxevents: int) -> list[tuple[int, int]]:
        got: list[tuple[int, int]] = []
        again: list[ModelItem] = []
        while self.ready and len(got) < maxevents:
            item = self.ready.pop(0)
            mask = item.file.mask() & item.events
            if mask:
                got.append((item.fd, mask))
                if item.events & EPOLLONESHOT:
                    item.events &= EPOLLET | EPOLLONESHOT
                elif not item.events & EPOLLET:
                    again.append(item)
        self.ready += again
        return got

    def gone(self, file: ModelEventFd) -> None:
        for key in [key for key in self.items if key[0] is file]:
            self.ctl(EPOLL_CTL_DEL, *key, 0)


def test_the_ready_list_holds_exactly_what_the_model_says() -> None:
    def main(sys: Syscalls) -> int:
        events = 0
        for seed in range(150):
            r = random.Random(seed)
            ep, model = sys.epoll_create1(), ModelEpoll()
            fds: dict[int, ModelEventFd] = {}
            for _ in range(5):
                fds[sys.eventfd(0, EFD_NONBLOCK)] = ModelEventFd()
            for _ in range(150):
                fd = r.choice(list(fds))
                file = fds[fd]
                verb = r.choice(["ctl", "ctl", "ctl", "write", "write", "read", "wait", "wait", "wait", "dup", "close"])
                if verb == "ctl":
                    op = r.choice([EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL])
                    wanted = r.choice([0, EPOLLIN, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT]) | r.choice([0, EPOLLET, EPOLLONESHOT])
                    try:
                        sys.epoll_ctl(ep, op, fd, wanted)
                        done = True
                    except OSError:
                        done = False
                    assert model.ctl(op, file, fd, wanted) == done
                elif verb == "write":
                    sys.write(fd, (1).to_bytes(8, "little"))
                    file.count += 1
                    model.event(file, EPOLLIN)
                elif verb == "read" and file.count:
                    assert sys.read(fd, 8) == file.count.to_bytes(8, "little")
                    file.count = 0
                    model.event(file, EPOLLOUT)
                elif verb == "wait":
                    n = r.choice([1, 2, 10])
                    got = sys.epoll_wait(ep, n, 0)
                    assert got == model.wait(n), (seed, got)
                    events += len(got)
                elif verb == "dup" and len(fds) < 9:
                    fds[sys.dup(fd)] = file
                    file.fds += 1
                elif verb == "close" and len(fds) > 3 and (file.fds == 1 or all((file, fd) != key for key in model.items)):
                    # (What is left registered of a closed fd can't be named any more; the campaigns do that.)
                    sys.close(fd)
                    del fds[fd]
                    file.fds -= 1
                    if not file.fds:
                        model.gone(file)
            for fd in (ep, *fds):
                sys.close(fd)
        return events

    assert simkernel.run(main) > 5000
    assert simkernel.linux.run(main) > 5000
