"""The zoo command, and that nothing in the check knows its inhabitants."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simkernel.cli import cli
from simkernel.errors import UsageError
from simkernel.testing.contracts import CONTRACTS
from simkernel.testing.zoo import HEAD, exhibits, visit

ROOT = Path(__file__).parents[2]
SERVERS = ROOT / "servers"
# Every class of bug that the zoo is there to show.
CLASSES = 50


def run(*args):
    return CliRunner().invoke(cli, ["zoo", "--servers", str(SERVERS), *args], standalone_mode=False)


def test_each_class_is_shown_once_and_has_a_twin():
    shown = exhibits(SERVERS)
    assert len(shown) == len({e.bug_class for e in shown}) == CLASSES
    assert all(e.seen_in and e.contract in CONTRACTS for e in shown)
    for e in shown:
        broken, fixed = Path(e.broken).read_text(), Path(e.fixed).read_text()
        assert "# bug:" in broken and "# bug:" not in fixed


def test_no_oracle_and_no_explanation_knows_a_server():
    testing = ROOT / "simkernel" / "testing"
    sources = [*testing.glob("*.py"), *testing.glob("explain/*.py"), *(ROOT / "simkernel" / "kernel").rglob("*.py")]
    names = [e.name for e in exhibits(SERVERS)] + ["article_epoll", "article_select"]
    told = [
        (path.name, name) for path in sources for name in names if f"{name}.py" in (text := path.read_text()) or f"broken.{name}" in text
    ]
    assert not told


def test_a_row_tells_what_was_found():
    result = run("--only", "sigpipe", "--seeds", "2", "--twins", "5", "--workers", "1", "--json")
    assert result.return_value == 0
    (row,) = json.loads(result.output)
    assert row["found"] and row["kinds"] == ["crash", "crash"]
    assert row["passed"] == {"linux": 5, "network": 5, "posix": 5} and not row["alarms"]


def test_the_table_and_the_page(tmp_path):
    page = tmp_path / "zoo.md"
    args = ("--only", "file_in_epoll", "--only", "epoll_lt_echo", "--seeds", "1", "--twins", "3", "--workers", "1")
    result = run(*args, "--report", str(page), "--date", "2001-09-09")
    assert result.return_value == 0
    assert "regular file in epoll" in result.output and "(a right server)" in result.output
    assert "2001-09-09" in page.read_text()
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| regular file in epoll | file_in_epoll | crash | 1 |")]
    assert row.endswith("| clustershell#56; cpython#73903 |")


def test_the_page_of_the_last_run_shows_the_zoo_that_there_is():
    lines = (ROOT / "docs" / "zoo.md").read_text().splitlines()
    head = lines.index(HEAD)
    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[head + 2 : head + 2 + CLASSES]]
    assert [(row[0], row[1], row[-1]) for row in shown] == [(e.bug_class, e.name, e.seen_in) for e in exhibits(SERVERS)]
    assert lines[head + 2 + CLASSES] == ""


def test_a_right_server_that_is_blamed_fails_the_zoo(tmp_path):
    broken = tmp_path / "broken"
    fixed = tmp_path / "fixed"
    broken.mkdir()
    fixed.mkdir()
    text = (SERVERS / "broken" / "sigpipe.py").read_text()
    (broken / "one.py").write_text(text)
    (fixed / "one.py").write_text(text)
    (row,) = visit(tmp_path, seeds=(0,), twin_examples=60)
    assert row.found and not row.ok
    assert row.alarms["linux"].startswith("crash:")


@pytest.mark.parametrize(
    ("folder", "only", "said"),
    [(ROOT / "docs", (), "no zoo"), (SERVERS, ("nonsense",), "there is no nonsense")],
)
def test_mistakes(folder, only, said):
    with pytest.raises(UsageError, match=said):
        visit(folder, only)


def test_a_broken_server_without_a_twin(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "one.py").write_text('CLASS = "x"\n\n\ndef serve(sys, listener, stop):\n    pass\n')
    with pytest.raises(UsageError, match="has no twin"):
        visit(tmp_path)
