"""Virtual time."""

from hypothesis import given
from hypothesis import strategies as st

from simkernel.kernel.clock import Clock


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
