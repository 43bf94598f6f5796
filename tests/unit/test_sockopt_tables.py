"""The tables of socket options, from which documentation is made."""

from simkernel import uapi
from simkernel.kernel.net.options import option_table


def test_the_tables_are_whole() -> None:
    """Each option is in one table, with a name of uapi's and a tag."""
    rows = option_table()
    assert len({(level, name) for level, name, _, _ in rows}) == len(rows)
    assert {tag for *_, tag in rows} == {"simulated", "stored"}
    assert all(hasattr(uapi, name) for _, name, _, _ in rows)
