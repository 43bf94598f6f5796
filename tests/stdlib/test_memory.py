"""What a world that is used again knows of the run before: nothing that a module's globals tell."""

import itertools
import random
import tempfile

from simkernel.stdlib.process import run_function

calls = 0
later = None
names = itertools.count(1).__next__
numbers = itertools.count(5)
evens = itertools.count(-2, 2)


def count():
    global calls, later
    calls += 1
    later = "set"
    return calls, names(), next(numbers), next(evens), next(evens)


def test_globals_are_as_after_the_import():
    before = calls, later
    assert [run_function(count) for _ in range(3)] == [(1, 1, 5, -2, 0)] * 3
    assert (calls, later) == before


def draw():
    """Numbers and names that Python makes by chance."""

    return random.random(), random.randbytes(8), next(tempfile._get_candidate_names())


def test_chance_begins_anew_with_each_run():
    runs = [run_function(draw, seed=seed) for seed in (1, 2, 1, 2)]
    assert runs[:2] == runs[2:]
    assert runs[0] != runs[1]
