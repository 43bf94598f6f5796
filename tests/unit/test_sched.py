"""Preempt notifiers, time slices in user mode, and the queues of futexes."""

import ctypes

import pytest

import simkernel
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import TIMESLICE_USER, PreemptNotifier


class Notes(PreemptNotifier):
    """Writes down what it hears."""

    def __init__(self, log, name):
        self.log = log
        self.name = name

    def sched_in(self):
        self.log.append(f"{self.name} in")

    def sched_out(self, following):
        self.log.append(f"{self.name} out for {following.pid}")


def test_a_notifier_hears_of_each_switch_of_its_task_until_that_ends():
    log = []
    kernel = Kernel()

    def noted(sys, name):
        kernel.sched.preempt_notifier_register(Notes(log, name))
        sys.nanosleep(1000)
        log.append(f"{name} ends")

    def main(sys):
        a, b = sys.thread(noted, "a"), sys.thread(noted, "b")
        sys.join(a)
        sys.join(b)
        return a, b, kernel.sched.preempt_notifier_key

    a, b, left = kernel.run(main)
    assert (a, b, left) == (2, 3, 0)
    assert log == ["a out for 3", "b out for 2", "a in", "a ends", "a out for 3", "b in", "b ends", "b out for 1"]


def test_whoever_makes_no_calls_gives_way_at_the_end_of_its_slice():
    kernel = Kernel()
    sched = kernel.sched
    log = []

    def counts(sys, name):
        log.append(f"{name} begins")
        for _ in range(5 * TIMESLICE_USER):
            sched.user_time += 1
            if sched.user_time > sched.user_slice:
                sched.sched_tick()
        log.append(f"{name} ends")

    def main(sys):
        for tid in [sys.thread(counts, name) for name in "ab"]:
            sys.join(tid)

    kernel.run(main)
    assert log == ["a begins", "b begins", "a ends", "b ends"]


def test_a_slice_after_another_without_a_call_is_a_livelock():
    kernel = Kernel(max_stalled=100)
    sched = kernel.sched

    def main(sys):
        while True:
            sched.user_time += TIMESLICE_USER + 1
            sched.sched_tick()

    with pytest.raises(simkernel.Livelock, match="time slices without a system call"):
        kernel.run(main)


def test_a_queue_is_there_as_long_as_somebody_sleeps_on_the_word():
    kernel = Kernel(debug=True)

    def main(sys):
        words = [ctypes.c_uint32(0) for _ in range(3)]
        for word in words:
            sys.thread(lambda sys, word: sys.futex_wait(word, 0), word)
        with pytest.raises(TimeoutError):
            sys.futex_wait(words[0], 0, 1000)
        futexes = kernel.sched.current.process.futexes
        assert [wq.owner is word for wq, word in zip(futexes, words, strict=True)] == [True] * 3
        assert [sys.futex_wake(word, 5) for word in words] == [1] * 3
        sys.nanosleep(1)
        return futexes

    assert kernel.run(main) == []
