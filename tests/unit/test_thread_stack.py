"""The stacks of tasks that have ended serve others, and bring nothing of the old task along."""

import contextvars
import threading

import pytest

import simkernel
from simkernel.kernel.choice import Seeded, Tape
from simkernel.kernel.thread_stack import NR_CACHED_STACKS, cached_stacks
from simkernel.uapi import SIGKILL

NAME = contextvars.ContextVar("name", default="nobody")


def boot(main, *args, **options):
    return simkernel.run(main, *args, **options)


def test_a_stack_is_used_again_without_the_context_of_the_task_before():
    seen = []

    def child(sys, name):
        seen.append(NAME.get())
        NAME.set(name)

    def main(sys):
        for name in "abc":
            sys.waitpid(sys.spawn(child, name))

    boot(main)
    before = len(cached_stacks.free)
    boot(main)
    assert seen == ["nobody"] * 6
    assert len(cached_stacks.free) == before, "the second run needed no new stack"


def test_no_more_stacks_are_kept_than_said():
    def main(sys):
        children = [sys.spawn(lambda sys: sys.nanosleep(1)) for _ in range(500)]
        for pid in children:
            sys.waitpid(pid)

    boot(main)
    assert len(cached_stacks.free) == NR_CACHED_STACKS


def test_a_task_that_is_killed_before_it_begins_leaves_its_stack_to_others():
    ran = []

    def main(sys):
        pid = sys.spawn(lambda sys: ran.append("child"))
        sys.kill(pid, SIGKILL)
        return sys.waitpid(pid)[1]

    for _ in range(3):
        assert boot(main) == SIGKILL
    # And one whose whole machine ends before it has begun.
    boot(lambda sys: sys.spawn(lambda sys: ran.append("orphan")))
    assert ran == []
    assert boot(lambda sys: sys.waitpid(sys.spawn(lambda sys: sys.exit(3)))[1]) == 3 << 8


def test_an_exception_goes_to_the_machine_that_runs_the_task():
    def main(sys):
        raise KeyError("here")

    for _ in range(3):
        with pytest.raises(KeyError, match="here"):
            boot(main)


def test_each_thread_has_its_own():
    def main(sys):
        pid = sys.spawn(lambda sys: sys.nanosleep(5))
        return sys.waitpid(pid) == (pid, 0)

    boot(main)
    mine = list(cached_stacks.free)
    assert mine
    results = []

    def other():
        results.append(boot(main))
        results.append(not set(mine) & set(cached_stacks.free))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert results == [True, True]
    assert boot(main) and set(mine) <= set(cached_stacks.free)


def test_new_and_used_stacks_give_the_same_run():
    def worker(sys, r, w):
        sys.write(w, sys.read(r, 1))

    def main(sys):
        r, w = sys.pipe2()
        for _ in range(4):
            sys.thread(worker, r, w)
        sys.write(w, b"x")
        return sys.read(r, 1)

    digests = set()
    for fresh in (True, False):
        if fresh:
            cached_stacks.free.clear()
        for choice in (Tape(b"\1\2\3"), Seeded(4)):
            trace = simkernel.Trace()
            boot(main, choice=choice, trace=trace)
            digests.add(trace.digest())
    assert len(digests) == 2
