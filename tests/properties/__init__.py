"""Properties that hold on every tape, and campaigns that compare the two kernels call by call."""

from hypothesis import strategies as st

from simkernel import Choice, Seeded, Tape

# Where choices come from: a tape, which shrinks well but is soon at its end, or a seed, which never is.
CHOICES = st.one_of(st.binary(max_size=256), st.integers(0, 2**32))


def source(drawn: bytes | int) -> Choice:
    """The choice source of a drawn value: it can be made again, for a second run."""
    return Tape(drawn) if isinstance(drawn, bytes) else Seeded(drawn)
