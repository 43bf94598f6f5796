"""Programs from Hypothesis, which then shrinks what fails."""

from hypothesis import strategies as st

from simkernel.conform.dice import taped
from simkernel.conform.generate import make
from simkernel.conform.program import Program, Result


def programs(length: int = 20) -> st.SearchStrategy[tuple[Program, list[Result]]]:
    """Programs of one task, of ``length`` calls, with their results on the fake kernel.

    Hypothesis draws the generator's choices: two bytes each, and zeros, the plainest choices, past the end.
    """
    return st.binary(max_size=16 * length).map(lambda tape: make(taped(tape), length)[:2])
