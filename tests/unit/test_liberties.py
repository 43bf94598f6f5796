"""The table of liberties is the code's."""

import ast
from pathlib import Path

import pytest

import simkernel
from simkernel import UsageError
from simkernel.kernel.liberties import LIBERTIES, PROFILES, check_profile, markdown

KERNEL = Path(simkernel.__file__).parent / "kernel"


def labels() -> set[str]:
    """The labels of all choices in the kernel: the last argument of pick, and what the faults hand on to it."""
    found = set()
    for path in KERNEL.rglob("*.py"):
        if path.name in ("choice.py", "pct.py"):
            # The sources of choices ask one another: those are no liberties.
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            last = node.args[-1]
            if node.func.attr in ("pick", "should_fail", "fails") and isinstance(last, ast.Constant) and isinstance(last.value, str):
                found.add(last.value)
    return found


def test_each_choice_of_the_kernel_is_in_the_table_and_nothing_else() -> None:
    table = [liberty.label for liberty in LIBERTIES]
    assert len(table) == len(set(table))
    assert set(table) == labels()


def test_each_liberty_has_a_profile_and_a_source() -> None:
    for liberty in LIBERTIES:
        assert all(profile in PROFILES for profile in liberty.profile.split(", "))
        assert liberty.source and liberty.what.endswith(".")


def test_the_documentation_is_current() -> None:
    assert (KERNEL.parent.parent / "docs" / "liberties.md").read_text() == markdown(), (
        "write it anew: simkernel liberties > docs/liberties.md"
    )


def test_a_profile_that_is_none() -> None:
    with pytest.raises(UsageError, match="choose one of linux, network, posix"):
        check_profile("bsd")
