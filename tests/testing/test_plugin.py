"""The pytest plugin, in a pytest of its own."""

pytest_plugins = ["pytester"]

TESTS = """
import pytest
import simkernel

def test_both(world):
    def main(sys):
        r, w = sys.pipe2()
        sys.write(w, b"x")
        return world.name, sys.read(r, 9)
    assert world.run(main) == (world.name, b"x")

def test_fails(world):
    def main(sys):
        r, w = sys.pipe2()
        sys.write(w, b"story")
        assert sys.read(r, 9) == b"other"
    world.run(main, choice=simkernel.Seeded(7))

def test_kernel(kernel):
    def main(sys):
        sys.eventfd(3)
    kernel.run(main)
    assert kernel.sched.trace.events
    raise AssertionError("show me")
"""


def test_fixtures_and_report(pytester):
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=3)
    text = result.stdout.str()
    assert "simkernel: the end of the trace" in text
    assert "write(4, 'story') = 5" in text
    assert "eventfd(3, 0) = 3" in text
    assert "choice=simkernel.testing.tape('sk1-" in text
