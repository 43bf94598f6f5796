"""docs/ten-minutes.md: its server has the bug, its commands print what it says, and its fix is one."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from simkernel.cli import cli

PAGE = Path(__file__).parents[2] / "docs" / "ten-minutes.md"


def blocks(language, name=""):
    """The fenced blocks of a language, without their first line if it names a file; only those of ``name`` if given."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    if not name:
        return found
    return [text.partition("\n")[2] for text in found if text.startswith(f"# {name}\n")]


def patched(source):
    """The server after the page's diff."""
    hunks = re.split(r"^\.\.\.\n", blocks("diff")[0], flags=re.MULTILINE)
    for hunk in hunks:
        old = "".join(line[1:] + "\n" for line in hunk.splitlines() if line.startswith("-"))
        new = "".join(line[1:] + "\n" for line in hunk.splitlines() if line.startswith("+"))
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def masked(text):
    """Without what differs from run to run: tokens, times, rates."""
    text = re.sub(r"sk1-[\w-]+", "sk1-...", text)
    return re.sub(r"in [\d.]+ s, [\d,]+ a second", "in ... s, ... a second", text)


def run(command):
    return CliRunner().invoke(cli, command.split()[1:], standalone_mode=False)


@pytest.fixture
def upper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "upper.py"
    path.write_text("\n\n".join(blocks("python", "upper.py")))
    return path


def test_the_check_finds_what_the_page_says(upper):
    result = run("simkernel check upper.py")
    told = re.search(r"    \$ simkernel check upper\.py\n((?:    .*\n)+)", PAGE.read_text())
    assert told is not None
    assert masked(result.output) == "".join(line[4:] + "\n" for line in told[1].splitlines())
    assert result.return_value == 1

    token = re.search(r"sk1-[\w-]+", result.output)
    assert token is not None
    story = run(f"simkernel replay {token[0]}").output
    # Each line that the page quotes of the story stands in it, in this order.
    quoted = re.search(r"\$ simkernel replay.*?## Minute 8", PAGE.read_text(), re.DOTALL)
    assert quoted is not None
    lines = [line[4:].rstrip() for line in quoted[0].splitlines()[1:] if line.startswith("    ")]
    assert len(lines) > 10
    rest = [line.rstrip() for line in story.splitlines()]
    for line in lines:
        assert line in rest, line
        rest = rest[rest.index(line) + 1 :]


def test_the_fix_is_one(upper):
    upper.write_text(patched(upper.read_text()))
    result = run("simkernel check upper.py --on sim --examples 2000")
    assert result.return_value == 0
    assert masked(result.output) in "".join(line[4:] + "\n" for line in PAGE.read_text().splitlines() if line.startswith("    "))


def test_the_page_s_test_passes_with_the_fix(upper, monkeypatch):
    upper.write_text(patched(upper.read_text()))
    monkeypatch.syspath_prepend(str(upper.parent))
    namespace: dict[str, object] = {}
    exec(blocks("python", "test_upper.py")[0], namespace)  # noqa: S102
    namespace["test_upper"]()  # type: ignore[operator]
