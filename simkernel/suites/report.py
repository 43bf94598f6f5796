"""What came of the suites: the share of the tests that pass on the real kernel that pass on the fake one, and why the others don't."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from simkernel.suites.catalog import why_not
from simkernel.suites.drive import Side

# What is aimed at: so many of 100.
AIM: Final = 98.0


@dataclass
class Row:
    """One suite on both kernels; a side that was not run is None.

    both    how many tests pass on both
    cannot  tests that pass on the real kernel and can't run on the fake one, with the reason (catalog.REASONS)
    wrong   tests that pass on the real kernel and should on the fake one but do not, with what was said
    """

    name: str
    linux: Side | None = None
    sim: Side | None = None
    both: int = 0
    cannot: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """How many of 100 tests that pass on the real kernel and can run on the fake one pass there; None if there are none."""
        should = self.both + len(self.wrong)
        return 100 * self.both / should if should else None

    @property
    def ok(self) -> bool:
        """Whether the aim is reached; on one side alone, whether nothing failed."""
        sides = [side for side in (self.linux, self.sim) if side is not None]
        if any(side.broken for side in sides):
            return False
        if len(sides) == 1:
            return not sides[0].count("failed")
        return self.share is None or self.share >= AIM


def compare(name: str, sides: dict[str, Side]) -> Row:
    """The row of a suite."""
    row = Row(name, sides.get("linux"), sides.get("sim"))
    if row.linux is None or row.sim is None:
        return row
    for test, ran in row.linux.tests.items():
        if ran.outcome != "passed":
            continue
        fake = row.sim.tests.get(test)
        if fake is not None and fake.outcome == "passed":
            row.both += 1
            continue
        why = fake.why if fake is not None else row.sim.broken or row.sim.skipped or "there is no such test in the world's module"
        reason = why_not(test, why)
        if reason is not None:
            row.cannot[test] = reason
        else:
            row.wrong[test] = why
    return row


def counts(side: Side | None) -> list[str]:
    """Passed, skipped and failed tests of a side."""
    if side is None:
        return ["", "", ""]
    if side.broken and not side.tests:
        return ["-", "-", "broken"]
    if side.skipped:
        return ["-", "all", "-"]
    return [str(side.count(outcome)) for outcome in ("passed", "skipped", "failed")]


HEAD: Final = ("suite", "real: passed", "skipped", "failed", "fake: passed", "skipped", "failed", "can't run", "of 100")


def cells(row: Row) -> list[str]:
    """A row of the table: see HEAD.  A fake failure of a test that can't run counts as skipped."""
    sim = counts(row.sim)
    if row.sim is not None and row.sim.tests:
        moved = sum(row.sim.tests[test].outcome == "failed" for test in row.cannot if test in row.sim.tests)
        sim = [sim[0], str(row.sim.count("skipped") + moved), str(row.sim.count("failed") - moved)]
    share = "-" if row.share is None else f"{row.share:.1f}"
    return [row.name, *counts(row.linux), *sim, str(len(row.cannot)) if row.linux and row.sim else "", share]


def last_line(why: str) -> str:
    """The line of a traceback that says what was wrong, or the first line of other words."""
    lines = [line for line in why.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    if not any(line.startswith(("Traceback", "  ")) for line in lines):
        return lines[0]
    for line in reversed(lines):
        if not line.startswith((" ", "During", "The above")) and ":" in line:
            return line
    return lines[-1]


def total(rows: list[Row]) -> float | None:
    """The share over all suites."""
    both, wrong = sum(row.both for row in rows), sum(len(row.wrong) for row in rows)
    return 100 * both / (both + wrong) if both + wrong else None


def whole(rows: list[Row]) -> float:
    """The share over all suites of what passes on the real kernel, what can't run on the fake one among it."""
    return 100 * sum(row.both for row in rows) / sum(row.both + len(row.wrong) + len(row.cannot) for row in rows)


def markdown(rows: list[Row], date: str) -> str:
    """The page docs/suites.md."""
    import trio  # noqa: PLC0415  # only for its version

    share = total(rows)
    lines = [
        "# The suites",
        "",
        f"Made by `simkernel suites` on {date}, Python {platform.python_version()}, trio {trio.__version__}, Linux {platform.release()}:",
        "the test suites of CPython and trio as they are installed, on both kernels, each test with its own fixtures.",
        "",
        "*can't run*: tests that pass on the real kernel and need what is not modelled, listed below; the fake one skips them.",
        "*of 100*: of the tests that pass on the real kernel, without those, how many pass on the fake one."
        + (f"  Together: {share:.1f}; {whole(rows):.1f} if what can't run counts as failed." if share is not None else ""),
        "",
        "| " + " | ".join(HEAD) + " |",
        "|---" * len(HEAD) + "|",
        *("| " + " | ".join(cells(row)) + " |" for row in rows),
    ]
    reasons = Counter(reason for row in rows for reason in row.cannot.values())
    lines += table(("can't run", "tests", "suites"), [(reason, str(n), suites_of(rows, reason)) for reason, n in reasons.most_common()])
    lines += table(
        ("passes on the real kernel and not on the fake one", "what it says"),
        [(f"{row.name}: {short(test, row.name)}", last_line(why)) for row in rows for test, why in row.wrong.items()],
    )
    skips = Counter(
        ran.why.splitlines()[0] if ran.why else ""
        for row in rows
        if row.linux
        for ran in row.linux.tests.values()
        if ran.outcome == "skipped"
    )
    lines += table(("skipped on the real kernel too", "tests"), [(why, str(n)) for why, n in skips.most_common()])
    fails = [
        (f"{row.name}: {short(test, row.name)}", last_line(ran.why))
        for row in rows
        if row.linux
        for test, ran in row.linux.tests.items()
        if ran.outcome == "failed"
    ]
    lines += table(("fails on the real kernel", "what it says"), fails)
    return "\n".join(lines) + "\n"


def suites_of(rows: list[Row], reason: str) -> str:
    """The suites that have tests which can't run for a reason."""
    return ", ".join(row.name for row in rows if reason in row.cannot.values())


def short(test: str, suite: str) -> str:
    """A test's id without its module."""
    _path, colons, name = test.partition("::")
    if colons:
        return name
    return ".".join(test.split(".")[-2:])


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A table of a page, or nothing."""
    if not rows:
        return []
    escaped = (tuple(cell.replace("|", "\\|")[:200] for cell in row) for row in rows)
    return ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in escaped)]


def as_plain(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows in plain values, for --json."""
    return [{**asdict(row), "share": row.share, "ok": row.ok} for row in rows]
