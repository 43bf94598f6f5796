"""futex(2): sleep on a word, and wake who sleeps there."""

import ctypes

from simkernel.api import Syscalls
from simkernel.uapi import CLOCK_MONOTONIC, SA_RESTART, SIGUSR1

from .helpers import MS, World, err, settle, start


def word(value: int = 0) -> ctypes.c_uint32:
    return ctypes.c_uint32(value)


def test_it_sleeps_only_if_the_word_is_as_expected(world: World) -> None:
    """EAGAIN for another value, even with a limit of nothing; with the right one the limit passes: ETIMEDOUT, and never early."""

    def main(sys: Syscalls) -> None:
        w = word(7)
        assert err(sys.futex_wait, w, 6) == "EAGAIN"
        assert err(sys.futex_wait, w, 6, 0) == "EAGAIN"
        assert err(sys.futex_wait, w, 7, 0) == "ETIMEDOUT"
        began = sys.clock_gettime_ns(CLOCK_MONOTONIC)
        assert err(sys.futex_wait, w, 7, 20 * MS) == "ETIMEDOUT"
        assert sys.clock_gettime_ns(CLOCK_MONOTONIC) - began >= 20 * MS
        assert err(sys.futex_wait, w, 7, -1) == "EINVAL"
        w.value = 2**32 - 1
        assert err(sys.futex_wait, w, 2**32 - 1, 0) == "ETIMEDOUT"

    world.run(main)


def test_the_first_to_sleep_is_the_first_to_wake(world: World) -> None:
    """futex_wake wakes as many as it is asked to, in the order in which they came, and says how many."""

    def main(sys: Syscalls) -> None:
        w = word()
        woken: list[str] = []

        def sleeper(sys: Syscalls, name: str) -> None:
            sys.futex_wait(w, 0)
            woken.append(name)

        tids = [start(sys, sleeper, name) for name in "abcde"]
        assert woken == []
        assert sys.futex_wake(w, 1) == 1
        settle(sys)
        assert woken == ["a"]
        assert sys.futex_wake(w, 2) == 2
        settle(sys)
        assert sorted(woken) == ["a", "b", "c"]
        assert sys.futex_wake(w, 10) == 2
        for tid in tids:
            sys.join(tid)
        assert sorted(woken) == ["a", "b", "c", "d", "e"]
        assert sys.futex_wake(w, 1) == 0

    world.run(main)


def test_to_wake_nobody_wakes_one(world: World) -> None:
    """A count of 0, or one below, is taken as 1."""

    def main(sys: Syscalls) -> None:
        w = word()
        tids = [start(sys, lambda sys: sys.futex_wait(w, 0)) for _ in range(3)]
        assert sys.futex_wake(w, 0) == 1
        assert sys.futex_wake(w, -1) == 1
        settle(sys)
        assert sys.futex_wake(w, 1) == 1
        for tid in tids:
            sys.join(tid)

    world.run(main)


def test_words_are_told_apart_by_where_they_are(world: World) -> None:
    """Equal values do not make two words one."""

    def main(sys: Syscalls) -> None:
        w, other = word(5), word(5)
        tid = start(sys, lambda sys: sys.futex_wait(w, 5))
        assert sys.futex_wake(other, 10) == 0
        assert sys.futex_wake(w, 10) == 1
        sys.join(tid)

    world.run(main)


def test_who_is_woken_in_time_did_not_time_out(world: World) -> None:
    """A wake-up before the limit ends the sleep without an error, and what the word is by then does not matter."""

    def main(sys: Syscalls) -> None:
        w = word()
        got: list[object] = []

        def sleeper(sys: Syscalls) -> None:
            got.append(sys.futex_wait(w, 0, 20_000 * MS))
            got.append(w.value)

        tid = start(sys, sleeper)
        w.value = 3
        assert sys.futex_wake(w, 1) == 1
        sys.join(tid)
        assert got == [None, 3]

    world.run(main)


def test_the_word_of_a_child_is_its_own(world: World) -> None:
    """A futex belongs to a process: a child does not wake those who sleep in its parent."""

    def main(sys: Syscalls) -> None:
        w = word()
        tid = start(sys, lambda sys: sys.futex_wait(w, 0))
        pid = sys.spawn(lambda sys: sys.exit(sys.futex_wake(w, 10)))
        assert sys.waitpid(pid) == (pid, 0)
        assert sys.futex_wake(w, 10) == 1
        sys.join(tid)

    world.run(main)


def test_a_signal(world: World) -> None:
    """EINTR where a handler ran; with SA_RESTART it sleeps on, if it has no limit."""

    def main(sys: Syscalls) -> None:
        w = word()

        def signaller(sys: Syscalls, pid: int) -> None:
            settle(sys)
            sys.kill(pid, SIGUSR1)

        def waker(sys: Syscalls) -> None:
            settle(sys, 100)
            sys.futex_wake(w, 1)

        for flags, limit in ((0, None), (0, 60_000 * MS), (SA_RESTART, 60_000 * MS)):
            sys.sigaction(SIGUSR1, lambda signum: None, flags)
            pid = sys.spawn(signaller, sys.getpid())
            assert err(sys.futex_wait, w, 0, limit) == "EINTR"
            sys.waitpid(pid)
        tid = sys.thread(waker)
        pid = sys.spawn(signaller, sys.getpid())
        assert err(sys.futex_wait, w, 0) is None
        sys.waitpid(pid)
        sys.join(tid)

    world.run(main)
