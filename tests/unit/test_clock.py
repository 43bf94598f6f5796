"""Virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simkernel.kernel.clock import JIFFY, Clock, calc_wheel_expiry


@given(st.lists(st.tuples(st.integers(-5, 50), st.booleans()), max_size=200))
def test_timers_fire_in_order_and_cancelled_ones_never(timers):
    clock = Clock()
    fired = []
    for number, (delay, cancel) in enumerate(timers):
        timer = clock.add_timer(delay, lambda number=number: fired.append(number))
        if cancel:
            clock.del_timer(timer)
            clock.del_timer(timer)
    while (expires := clock.next_expiry()) is not None:
        assert expires >= clock.now
        clock.now = expires
        while (timer := clock.pop_expired()) is not None:
            timer.function()
    expected = sorted((max(delay, 0), number) for number, (delay, cancel) in enumerate(timers) if not cancel)
    assert fired == [number for _, number in expected]


def test_nothing_fires_early():
    clock = Clock()
    clock.add_timer(10, lambda: None)
    clock.now = 9
    assert clock.pop_expired() is None
    clock.now = 10
    assert clock.pop_expired() is not None


@pytest.mark.parametrize(
    ("now", "timeout", "jiffies"),
    [(0, 1, 2), (0, JIFFY, 2), (JIFFY - 1, JIFFY, 2), (0, 62 * JIFFY, 63), (0, 63 * JIFFY, 64), (0, 64 * JIFFY, 72), (0, 504 * JIFFY, 512)],
)
def test_a_timer_of_the_wheel_is_late_and_never_early(now, timeout, jiffies):
    """Buckets of one jiffy up to 62 of them, then of 8, of 64 and so on (kernel/time/timer.c)."""
    expiry = calc_wheel_expiry(now, timeout)
    assert expiry == jiffies * JIFFY
    assert expiry >= now + timeout
