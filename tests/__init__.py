"""The tests.  Those in properties/ can also be run as campaigns: python -m tests.properties.fuzz."""

import pytest

from simkernel.kernel.entry import COMPILED

# For tests that put a function of their own into a class of the kernel: a compiled class can't be changed.
interpreted = pytest.mark.skipif(COMPILED, reason="a compiled class can't be patched")
