"""The rules of the house: layers, determinism, size, docstrings."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from simkernel.api import Syscalls

ROOT = Path(__file__).parent.parent.parent
KERNEL = sorted((ROOT / "simkernel" / "kernel").rglob("*.py"))
ALL = sorted((ROOT / "simkernel").rglob("*.py"))
# A few printed pages.
MOST_LINES = 730


def name(path):
    return str(path.relative_to(ROOT))


def test_imports_run_downwards_only():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", KERNEL, ids=name)
def test_nothing_hangs_on_addresses_or_hashes(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert not [f"line {call.lineno}" for call in calls if call.func.id in ("id", "hash", "eval", "exec", "setattr", "__import__")]


@pytest.mark.parametrize("path", KERNEL, ids=name)
def test_a_file_of_the_kernel_fits_a_few_pages(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", KERNEL, ids=name)
def test_classes_of_the_kernel_have_slots(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
        if bases & {"Protocol", "Exception", "GreenletExit", "NamedTuple"}:
            continue
        targets = [t.id for stmt in node.body if isinstance(stmt, ast.Assign) for t in stmt.targets if isinstance(t, ast.Name)]
        assert "__slots__" in targets, f"line {node.lineno}: class {node.name}"


# A system call is documented once, in simkernel/api.py.
CALLS = {name for name in vars(Syscalls) if not name.startswith("_")}


def undocumented(tree):
    """Public functions and classes without a docstring; an override has that of what it overrides."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield f"line {node.lineno}: {node.name}"
            if isinstance(node, ast.ClassDef) and not node.bases:
                for method in node.body:
                    if not isinstance(method, ast.FunctionDef) or method.name.startswith("_") or method.name in CALLS:
                        continue
                    if not ast.get_docstring(method):
                        yield f"line {method.lineno}: {node.name}.{method.name}"


@pytest.mark.parametrize("path", ALL, ids=name)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    assert not list(undocumented(tree))
