"""The zoo: a server for each class of bug, and its twin without it.

``servers/broken/NAME.py`` says in CLASS which class of bug it has and in SEEN_IN where it was seen; ``servers/fixed/NAME.py`` is the same
server without it.  The zoo checks them all: each broken one has to be found, with every seed; each twin, and each reference server, has
to pass, under every profile.
"""

import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from simkernel.errors import UsageError
from simkernel.kernel.liberties import PROFILES
from simkernel.testing.checker import check
from simkernel.testing.contracts import CONTRACTS
from simkernel.testing.load import load

SEEDS = (0, 1, 2, 3, 4)
# How many examples a bug may take to be found, and how many a right server has to pass.
MOST_EXAMPLES = 200
TWIN_EXAMPLES = 2000

# Classes that no server here can show, and why.
NOT_SHOWN: dict[str, str] = {}


@dataclass(frozen=True)
class Exhibit:
    """A broken server: its class, where that was seen, the contract that it breaks, and the mildest profile that shows it."""

    name: str
    bug_class: str
    seen_in: str
    contract: str
    profile: str
    broken: str
    fixed: str


@dataclass
class Row:
    """What was found of one exhibit, or of one reference server (``bug_class`` and ``seen_in`` are "" then).

    ``kinds``, ``examples`` and ``calls``: for each seed the failure's kind ("" if nothing was found), how many examples it took, and how
    many calls its story has.  ``passed``: for each profile, how many examples the right server passed; ``alarms``: what was said of it.
    """

    name: str
    bug_class: str
    contract: str
    profile: str
    seen_in: str = ""
    kinds: list[str] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    passed: dict[str, int] = field(default_factory=dict)
    alarms: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether the bug was found with every seed."""
        return all(self.kinds)

    @property
    def ok(self) -> bool:
        """Found where there is something to find, and no false alarm."""
        return self.found and not self.alarms

    def median(self) -> float | None:
        """The median of the examples until found, or None."""
        return statistics.median(self.examples) if self.examples and self.found else None


def exhibits(folder: Path) -> list[Exhibit]:
    """The zoo's inhabitants in a checkout's ``servers`` folder.  UsageError if there are none, or one has no twin."""
    if not (folder / "broken").is_dir():
        raise UsageError(f"there is no zoo in {folder}: name the servers folder of a checkout with --servers")
    found = []
    for path in sorted((folder / "broken").glob("*.py")):
        if path.stem == "__init__":
            continue
        module, _serve, _target = load(str(path), "serve", 3)
        bug_class = getattr(module, "CLASS", None)
        if bug_class is None:
            continue
        twin = folder / "fixed" / path.name
        if not twin.is_file():
            raise UsageError(f"{path} has no twin: there is no {twin}")
        found.append(
            Exhibit(
                path.stem,
                bug_class,
                getattr(module, "SEEN_IN", ""),
                getattr(module, "CONTRACT", "echo"),
                getattr(module, "PROFILE", "linux"),
                str(path),
                str(twin),
            )
        )
    return found


def reference_servers(folder: Path) -> list[tuple[str, str, str]]:
    """The right servers beside the zoo: name, path and contract of each file with a function serve."""
    found = []
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__" and "\ndef serve(" in path.read_text():
            module, _serve, _target = load(str(path), "serve", 3)
            found.append((path.stem, str(path), getattr(module, "CONTRACT", "echo")))
    return found


def find_bug(path: str, contract: str, profile: str, seed: int, examples: int = MOST_EXAMPLES) -> tuple[str, int, int]:
    """Check a broken server once: the failure's kind, examples until found, calls of its story; ("", examples, 0) if nothing was found."""
    _module, serve, target = load(path, "serve", 3)
    report = check(serve, CONTRACTS[contract](), examples, seed=seed, target=target, profile=profile)
    failure = report.failure
    return ("", examples, 0) if failure is None else (failure.kind, failure.example, failure.calls)


def pass_twin(path: str, contract: str, profile: str, examples: int) -> tuple[int, str]:
    """Check a right server: how many examples it passed, and what was said of it ("": nothing)."""
    _module, serve, target = load(path, "serve", 3)
    report = check(serve, CONTRACTS[contract](), examples, seed=1, target=target, profile=profile)
    failure = report.failure
    return report.examples["sim"], "" if failure is None else f"{failure.kind}: {failure.message}  {failure.token}"


Tick = Callable[[int, int], None]


def visit(
    folder: Path,
    only: Iterable[str] = (),
    seeds: Iterable[int] = SEEDS,
    twin_examples: int = TWIN_EXAMPLES,
    workers: int = 1,
    tick: Tick | None = None,
) -> list[Row]:
    """Check the whole zoo (or those named), over ``workers`` processes.  ``tick(done, total)`` is called as it goes.

    ``twin_examples`` 0 leaves the right servers out.  UsageError for a name that there is not.
    """
    names = set(only)
    shown = exhibits(folder)
    right = reference_servers(folder)
    if unknown := names - {e.name for e in shown} - {name for name, _path, _contract in right}:
        raise UsageError(f"there is no {', '.join(sorted(unknown))} in {folder}: choose of {', '.join(e.name for e in shown)}")
    rows: dict[str, Row] = {}
    jobs: list[tuple[str, str, tuple[Any, ...]]] = []
    for e in shown:
        if not names or e.name in names:
            rows[e.name] = Row(e.name, e.bug_class, e.contract, e.profile, e.seen_in)
            jobs += [(e.name, f"seed {seed}", (e.broken, e.contract, e.profile, seed)) for seed in seeds]
            jobs += _twin_jobs(e.name, e.fixed, e.contract, twin_examples)
    for name, path, contract in right:
        if not names or name in names:
            rows[name] = Row(name, "", contract, "linux")
            jobs += _twin_jobs(name, path, contract, twin_examples)
    done: dict[tuple[str, str], Any] = {}
    with ProcessPoolExecutor(workers) as pool:
        for key, result in _run(pool, jobs):
            done[key] = result
            if tick is not None:
                tick(len(done), len(jobs))
    for name, what, _args in jobs:
        row, result = rows[name], done[name, what]
        if what in PROFILES:
            row.passed[what] = result[0]
            if result[1]:
                row.alarms[what] = result[1]
        else:
            row.kinds.append(result[0])
            row.examples.append(result[1])
            row.calls.append(result[2])
    return list(rows.values())


def _twin_jobs(name: str, path: str, contract: str, examples: int) -> list[tuple[str, str, tuple[Any, ...]]]:
    profiles = CONTRACTS[contract].profiles if contract in CONTRACTS else ()
    return [(name, profile, (path, contract, profile, examples)) for profile in profiles] if examples else []


def _run(pool: Executor, jobs: list[tuple[str, str, tuple[Any, ...]]]) -> Iterable[tuple[tuple[str, str], Any]]:
    futures: dict[Future[Any], tuple[str, str]] = {}
    for name, what, args in jobs:
        futures[pool.submit(pass_twin if what in PROFILES else find_bug, *args)] = name, what
    for future in as_completed(futures):
        yield futures[future], future.result()


def as_plain(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows in plain values, for --json."""
    return [{**asdict(row), "median": row.median(), "found": row.found, "ok": row.ok} for row in rows]


# Of the page's first table; where the class was seen is in no other.
HEAD = "| class | server | kind | examples (median) | calls | twin: false alarms | seen in |"


def markdown(rows: list[Row], date: str) -> str:
    """The table as a page."""
    lines = ["# The zoo", "", f"Made by `simkernel zoo` on {date}: each class of bug, a server that has it, and its twin that has not.", ""]
    lines += [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    lines += ["| " + " | ".join([*cells(row), row.seen_in]) + " |" for row in rows if row.bug_class]
    lines += ["", "| right server | contract | examples | false alarms |", "|---|---|---|---|"]
    for row in rows:
        if not row.bug_class:
            lines.append(f"| {row.name} | {row.contract} | {sum(row.passed.values())} | {alarms(row)} |")
    if NOT_SHOWN:
        lines += ["", "| not shown | why |", "|---|---|", *(f"| {name} | {why} |" for name, why in NOT_SHOWN.items())]
    return "\n".join(lines) + "\n"


def cells(row: Row) -> list[str]:
    """One exhibit as the table's cells: class, server, kind, examples, calls, false alarms."""
    kinds = ", ".join(dict.fromkeys(kind or "not found" for kind in row.kinds))
    if row.profile != "linux":
        kinds += f" ({row.profile})"
    median = row.median()
    calls = f"{statistics.median(row.calls):g}" if row.calls and row.found else "-"
    return [row.bug_class, row.name, kinds, f"{median:g}" if median is not None else "-", calls, alarms(row)]


def alarms(row: Row) -> str:
    """The false alarms of a right server, over the examples that it was given."""
    if not row.passed:
        return "not asked"
    given = " + ".join(str(n) for n in row.passed.values())
    return f"{len(row.alarms)} in {given}"
