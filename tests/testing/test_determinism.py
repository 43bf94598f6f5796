"""A program whose two runs of one tape differ is reported as such, with the call at which they part."""

import itertools
import random

import simkernel
from servers import poll_echo
from simkernel.kernel.choice import Tape
from simkernel.testing import Echo, check
from simkernel.testing.determinism import parting
from simkernel.testing.replay import parse


def wavering(sys, listener, stop, calls):
    """A right server, that first makes some calls more."""
    for _ in range(calls):
        sys.getpid()
    poll_echo.serve(sys, listener, stop)


def test_state_that_an_earlier_run_left():
    count = itertools.count()
    failure = check(lambda *args: wavering(*args, next(count)), Echo(), examples=100).failure
    assert failure is not None and failure.kind == "nondeterminism"
    assert failure.example == 1
    assert "the two runs of tape without choices part at step " in failure.message
    assert " against [2] getpid() = 2, test_determinism.py:" in failure.message
    assert any("order of a set" in line for line in failure.explanation)


def test_a_failure_that_is_seen_once_is_no_false_hang():
    runs = itertools.count()

    def serve(sys, listener, stop):
        if next(runs) == 40:
            raise KeyError("only once")
        poll_echo.serve(sys, listener, stop)

    failure = check(serve, Echo(), examples=100).failure
    assert failure is not None and failure.kind == "nondeterminism"
    assert "showed crash, and two runs later did not" in failure.message


def test_a_choice_by_chance_is_told_as_such():
    failure = check(lambda *args: wavering(*args, random.getrandbits(12) % 400), Echo(), examples=100, allow_real=["random"]).failure
    assert failure is not None and failure.kind == "nondeterminism"
    assert parse(failure.token).tape == b""


def test_a_deterministic_server_is_left_alone():
    report = check(poll_echo.serve, Echo(), examples=40)
    assert report.ok, report.failure


def test_where_two_traces_part():
    def main(sys, n):
        r, w = sys.pipe2()
        sys.write(w, b"x" * 9)
        sys.read(r, n)
        sys.getpid()

    def traced(*args):
        trace = simkernel.Trace()
        simkernel.run(main, *args, choice=Tape(b""), trace=trace)
        return trace

    assert parting(traced(3), traced(3), harness=0) is None
    found = parting(traced(3), traced(4), harness=0)
    assert found is not None and found.step == 3
    assert found.first.startswith("[1] read(3, 3) = 3, test_determinism.py:") and found.second.startswith("[1] read(3, 4) = 4")

    trace = simkernel.Trace()
    simkernel.run(lambda sys: sys.pipe2(), choice=Tape(b""), trace=trace)
    found = parting(trace, traced(3), harness=0)
    assert found is not None and found.step == 2 and "write(4" in found.second
