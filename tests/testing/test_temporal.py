"""always, never, sometimes and eventually: on both kernels, and the step that broke them."""

import pytest

import simkernel
from simkernel.errors import UsageError
from simkernel.testing import Broken, Conditions, always, eventually, never, sometimes

MS = 1_000_000


def count_up(sys, shared, n):
    for _ in range(n):
        shared.append(None)
        sys.getppid()


LINE = count_up.__code__.co_firstlineno + 3


def sim(main, **options):
    conditions = Conditions()
    simkernel.run(main, probes=[conditions], **options)
    return conditions


def test_always_names_the_step_that_broke_it():
    def main(sys):
        shared = []
        always(sys, lambda: len(shared) < 3, "fewer than three")
        sys.join(sys.thread(count_up, shared, 5))

    with pytest.raises(Broken) as caught:
        sim(main, trace=simkernel.Trace())
    text = str(caught.value)
    assert "always('fewer than three'), test_temporal.py:" in text
    # The third append, after the second call and before the third.
    assert f"before getppid, test_temporal.py:{LINE} of main (pid 2), after its getppid() = 0, test_temporal.py:{LINE}" in text
    assert "sleeps in join" in caught.value.__notes__[0]


def test_it_breaks_at_that_step_under_every_schedule():
    def main(sys):
        shared = []
        always(sys, lambda: len(shared) < 3)
        tids = [sys.thread(count_up, shared, 2) for _ in range(3)]
        for tid in tids:
            sys.join(tid)

    for seed in range(20):
        with pytest.raises(Broken, match="before getppid"):
            sim(main, choice=simkernel.Seeded(seed))


def test_never_and_the_end_of_a_block():
    def main(sys):
        shared = []
        with never(sys, lambda: len(shared) > 1):
            shared.append(None)
            sys.getpid()
        shared.append(None)
        sys.getpid()
        with pytest.raises(Broken, match="at the end of its block"), always(sys, lambda: len(shared) < 3):
            shared.append(None)
        with pytest.raises(Broken, match="from the start"):
            never(sys, lambda: True)

    sim(main)


def test_eventually_wakes_at_the_step_that_makes_it_true():
    def late(sys, shared):
        sys.nanosleep(7 * MS)
        shared.append(None)
        sys.nanosleep(100 * MS)

    def main(sys):
        shared = []
        sys.spawn(late, shared)
        eventually(sys, lambda: shared, within=50 * MS)
        assert sys.clock_gettime_ns(1) == 7 * MS

    sim(main)


def test_eventually_gives_up_in_virtual_time():
    def main(sys):
        r, _w = sys.pipe2()
        sys.spawn(lambda sys: sys.read(r, 1))
        eventually(sys, lambda: False, within=3_600_000 * MS, name="an hour")

    with pytest.raises(Broken, match=r"'an hour'\).*did not come true within 3.6e\+06 ms") as caught:
        sim(main)
    assert "sleeps in read(3)" in caught.value.__notes__[0]


def test_sometimes_is_noted():
    def main(sys):
        shared = []
        sometimes(sys, lambda: len(shared) == 2, "two")
        sometimes(sys, lambda: len(shared) == 9, "nine")
        count_up(sys, shared, 4)

    reached = sim(main).reached
    assert [held for name, held in reached.items() if "two" in name] == [True]
    assert [held for name, held in reached.items() if "nine" in name] == [False]


def test_both_kernels(world):
    def main(sys):
        shared = []
        sometimes(sys, lambda: len(shared) == 1)
        with always(sys, lambda: len(shared) < 3):
            count_up(sys, shared, 2)
        eventually(sys, lambda: len(shared) == 2, within=1000 * MS)
        always(sys, lambda: len(shared) < 4, "fewer than four")
        count_up(sys, shared, 9)

    with pytest.raises(Broken, match=r"fewer than four.*before getppid"):
        world.run(main)


def test_eventually_fails_on_both_kernels(world):
    with pytest.raises(Broken, match="did not come true within 20 ms"):
        world.run(lambda sys: eventually(sys, lambda: False, within=20 * MS))


def test_a_child_breaks_it_on_both_kernels(world):
    def main(sys):
        shared = []
        always(sys, lambda: len(shared) < 3, "in a child")
        sys.waitpid(sys.spawn(count_up, shared, 5))

    with pytest.raises(Broken, match="in a child"):
        world.run(main)


def test_mistakes():
    with pytest.raises(UsageError, match="needs a run that is watched"):
        simkernel.run(lambda sys: always(sys, lambda: True))
    with pytest.raises(UsageError, match="returned None"):
        sim(lambda sys: always(sys, lambda: None))
    with pytest.raises(UsageError, match="above 0"):
        sim(lambda sys: eventually(sys, lambda: True, within=0))
