"""Programs on Python's own socket and select, for ``simkernel exec``: they know nothing of simkernel."""
