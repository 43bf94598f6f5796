"""A small sample of fuzz.py, whose main() makes as many calls as wanted."""

from tests.properties import fuzz


def test_nothing_strange_comes_out() -> None:
    outcomes = fuzz.fuzz(30_000, seed=1)
    assert sum(outcomes.values()) == 30_000
    # It reaches the kernel, and doesn't only bounce off the checks of arguments.
    assert outcomes["ok"] > 5000
    assert {"TypeError", "OverflowError", "ValueError", "BufferError", "EBADF", "EINVAL", "EAGAIN", "EPIPE", "Unsupported"} <= set(outcomes)


def test_linux_answers_the_same() -> None:
    found = fuzz.differences(60, seed=1)
    assert not found, "\n".join(found)
