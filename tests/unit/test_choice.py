"""Choice sources."""

from hypothesis import given
from hypothesis import strategies as st

from simkernel import Plain, Recording, Seeded, Swarm, Tape


def test_plain_is_always_zero():
    assert [Plain().pick(n, "x") for n in (1, 2, 300)] == [0, 0, 0]


def test_a_tape_is_read_byte_by_byte_and_then_zero():
    tape = Tape(bytes([5, 6, 7]))
    assert [tape.pick(4, "x"), tape.pick(1, "nothing to choose"), tape.pick(4, "x"), tape.pick(256, "x")] == [1, 0, 2, 7]
    assert tape.used == 3
    assert tape.pick(9, "past the end") == 0


def test_a_tape_takes_two_bytes_for_many():
    tape = Tape(bytes([0x34, 0x12, 9]))
    assert tape.pick(0x10000, "x") == 0x1234
    assert tape.pick(10, "x") == 9


def test_a_seed_gives_the_same_numbers_on_every_python():
    choice = Seeded(7)
    assert [choice.pick(n, "x") for n in (2, 10, 100, 1000, 3)] == [0, 1, 65, 72, 1]


@given(st.binary(max_size=40), st.lists(st.integers(1, 1000), max_size=60))
def test_a_recording_replays(data, sizes):
    recording = Recording(Tape(data))
    first = [recording.pick(n, "x") for n in sizes]
    again = Tape(recording.tape())
    assert [again.pick(n, "x") for n in sizes] == first
    assert all(0 <= got < n for got, n in zip(first, sizes, strict=True))


def test_a_swarm_gives_the_same_numbers_on_every_python():
    def numbers(seed):
        swarm = Swarm(seed)
        return [swarm.pick(n, label) for n in (2, 10, 1000) for label in ("plan", "preempt", "segment", "plan", "preempt")]

    assert numbers(7) == [1, 0, 0, 1, 0, 0, 0, 4, 0, 0, 90, 0, 0, 826, 0]
    assert numbers(8) == [0, 1, 0, 1, 1, 2, 1, 0, 6, 1, 459, 1, 0, 494, 1]


def test_a_swarm_departs_from_plain_more_or_less_often_by_label():
    shares = set()
    for seed in range(40):
        swarm = Swarm(seed)
        shares.add(round(sum(swarm.pick(9, "segment") > 0 for _ in range(400)) / 400, 1))
    assert {0.0, 0.2, 0.9} <= shares


def test_a_swarm_ends_plain():
    swarm = Swarm(1)
    assert sum(swarm.pick(9, "a") > 0 for _ in range(2000)) > 20
    assert not any(swarm.pick(9, "a") for _ in range(2000))
