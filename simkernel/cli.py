"""The simkernel command."""

import datetime
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import simkernel
from simkernel import linux
from simkernel.bench import bench
from simkernel.errors import (
    Escape,
    Killed,
    SimulationError,
    Timeout,
    UsageError,
    program_traceback,
)
from simkernel.kernel.choice import Seeded, Tape
from simkernel.kernel.liberties import PROFILES, markdown
from simkernel.kernel.machine import Kernel
from simkernel.kernel.trace import Trace
from simkernel.stdlib.programs import parse as parse_command
from simkernel.stdlib.programs import programs
from simkernel.testing import zoo
from simkernel.testing.campaign import DATABASE, Interrupted, dask_workers, local_workers
from simkernel.testing.checker import Report, check
from simkernel.testing.contracts import CONTRACTS, Contract
from simkernel.testing.escapes import no_escape
from simkernel.testing.example import Failure, sim_example
from simkernel.testing.load import load
from simkernel.testing.replay import parse
from simkernel.testing.scenario import program_place
from simkernel.testing.strategies import STRATEGIES
from simkernel.tools.jsonl import save
from simkernel.tools.strace import strace_lines

if TYPE_CHECKING:
    from simkernel.suites.report import Row


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(simkernel.__version__, prog_name="simkernel")
def cli() -> None:
    """A deterministic fake Linux kernel: check servers on it and on the real one."""


def contract_of(name: str | None, module: object, clients: int | None = None, echoes: int | None = None) -> Contract:
    """The contract by its name; without one, the module's own CONTRACT, else echo.  ``echo:10x10`` is one with a fixed plan.

    A module's CONTRACT is a name, a subclass of Contract, or one of its objects.
    """
    known = dict(CONTRACTS)
    own = getattr(module, "CONTRACT", None)
    if isinstance(own, Contract):
        if name in (None, own.name) and clients is None and echoes is None:
            return own
        own = type(own)
    if isinstance(own, type) and issubclass(own, Contract):
        known[own.name] = own
        own = own.name
    if own is not None and not isinstance(own, str):
        raise UsageError(f"CONTRACT is {own!r}: it must be a contract's name, or a subclass of simkernel.testing.Contract")
    name = name or own or "echo"
    kind, _, plan = name.partition(":")
    if kind not in known:
        raise UsageError(f"there is no contract {name!r}: choose one of {', '.join(sorted(known))}")
    if plan:
        both = plan.split("x")
        if len(both) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in both):
            raise UsageError(f"the contract {name!r} makes no sense: after the colon are clients and echoes, as in {kind}:10x10")
        if clients is not None or echoes is not None:
            raise UsageError(f"the contract {name!r} has its clients and echoes: leave out --clients and --echoes")
        clients, echoes = map(int, both)
    return known[kind](clients, echoes)


@cli.command("check")
@click.argument("servers", metavar="FILE.py[:serve]...", nargs=-1, required=True)
@click.option("--contract", metavar="NAME", help=f"{', '.join(CONTRACTS)}; default: the file's CONTRACT, else echo.")
@click.option("--examples", type=click.IntRange(1), default=200, show_default=True, help="Schedules to try on the fake kernel.")
@click.option("--linux-examples", type=click.IntRange(1), default=None, help="Examples on the real kernel. [default: 20 at most]")
@click.option("--on", type=click.Choice(["sim", "linux", "both"]), default="both", show_default=True, help="Which kernel.")
@click.option("--seed", type=int, default=0, show_default=True, help="Choose other examples.")
@click.option("--profile", type=click.Choice(PROFILES), default="linux", show_default=True, help="What the fake kernel may do.")
@click.option("--clients", type=int, default=None, metavar="N", help="A fixed plan: N clients that take --echoes turns each.")
@click.option("--echoes", type=int, default=None, metavar="M", help="With --clients: small messages, one after the other.")
@click.option("--strategy", type=click.Choice(STRATEGIES), default="portfolio", show_default=True, help="How examples are chosen.")
@click.option("--preemptions", type=click.IntRange(0), help="How many the exhaustive strategy goes to. [default: 2; in the portfolio 1]")
@click.option("--workers", type=click.IntRange(1), help="Run the examples in so many processes, and keep the campaign in the database.")
@click.option("--scheduler", metavar="ADDRESS", help="Run the examples on the dask cluster there, and keep the campaign in the database.")
@click.option(
    "--database",
    type=click.Path(file_okay=False),
    help=f"Keep failures and the corpus in this directory, and begin with them. [default: {DATABASE}, with --workers or --scheduler]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def check_command(
    servers: tuple[str, ...],
    contract: str | None,
    examples: int,
    linux_examples: int | None,
    on: str,
    seed: int,
    profile: str,
    clients: int | None,
    echoes: int | None,
    strategy: str,
    preemptions: int | None,
    workers: int | None,
    scheduler: str | None,
    database: str | None,
    as_json: bool,
) -> int:
    """Check that serve(sys, listener, stop) keeps its contract, over many schedules.

    Exit status 0 when it does, 1 when it does not, 2 for a command that makes no sense, 130 after Ctrl-C, with the report so far.
    """
    if workers is not None and scheduler is not None:
        raise UsageError("--workers are processes of this machine, and --scheduler has a cluster's: choose one")
    loaded = [load(server, "serve", 3) for server in servers]
    contracts = [contract_of(contract, module, clients, echoes) for module, _serve, _target in loaded]
    reports: list[Report] = []
    with helpers(workers, scheduler) as executor:
        if database is None and executor is not None:
            database = DATABASE
        for (_module, serve, target), promise in zip(loaded, contracts, strict=True):
            with progress_bar(target, quiet=as_json) as progress:
                try:
                    report = check(
                        serve,
                        promise,
                        examples,
                        on=on,
                        seed=seed,
                        target=target,
                        progress=progress,
                        linux_examples=linux_examples,
                        profile=profile,
                        strategy=strategy,
                        preemptions=preemptions,
                        executor=executor,
                        database=database,
                    )
                except Interrupted as stopped:
                    report = stopped.report
            reports.append(report)
            if not as_json:
                print_report(report, examples)
            if report.interrupted:
                break
    if as_json:
        plain = [report.as_dict() for report in reports]
        click.echo(json.dumps(plain[0] if len(plain) == 1 else plain, indent=2))
    if reports[-1].interrupted:
        raise KeyboardInterrupt
    return 0 if all(report.ok for report in reports) else 1


@contextmanager
def helpers(workers: int | None, scheduler: str | None) -> Iterator[Executor | None]:
    """Who runs the examples: processes of this machine, a cluster, or (None) this process."""
    if workers is not None:
        with local_workers(workers) as executor:
            yield executor
    elif scheduler is not None:
        with dask_workers(scheduler) as executor:
            yield executor
    else:
        yield None


# Seconds between two changes of a progress bar.
REDRAWN = 0.05


@contextmanager
def progress_bar(target: str, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr while examples run; it goes when they are done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}
        shown = 0.0

        def progress(kernel: str, done: int, total: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < REDRAWN and kernel in tasks:
                # The bar takes longer to be told than a small example to run.
                return
            shown = now
            if kernel not in tasks:
                tasks[kernel] = bar.add_task(f"{target} on {kernel}", total=total)
            bar.update(tasks[kernel], completed=done)

        yield progress


def print_report(report: Report, examples: int) -> None:
    """A line for each kernel, and the failure's explanation."""
    failed = report.failure.on if report.failure is not None else None
    for kernel, ran in report.examples.items():
        if kernel != failed:
            ended = "stopped" if report.interrupted else "ok"
            rate = report.rate(kernel)
            speed = f", {rate:,.0f} a second" if rate is not None else ""
            click.echo(f"{report.target}    {kernel}   {ended}   {ran} examples in {report.seconds.get(kernel, 0):.1f} s{speed}")
    for text in report.proofs:
        click.echo("  " + text)
    if report.ratio is not None:
        click.echo(f"{report.target}    sim / linux   {report.ratio:.1f} times as many examples a second")
    if report.failure is not None:
        print_failure(report.target, report.failure, examples)


def print_failure(target: str, failure: Failure, examples: int) -> None:
    """The failure's first line, as wide as it comes, then its explanation."""
    line = f"{target}    {failure.on}   {failure.kind}   example {failure.example} of {examples}"
    if failure.calls:
        line += f", shrunk to {failure.calls} calls"
    if failure.token:
        line += f"      replay: {failure.token}"
    click.echo(line)
    for text in failure.explanation:
        click.echo("  " + text)
    if failure.on == "linux":
        for plan in failure.plans:
            click.echo(f"  {plan}")


@cli.command("replay")
@click.argument("token")
@click.option("--file", "file", metavar="FILE.py[:serve]", help="The server, when it is no longer where the token says.")
def replay_command(token: str, file: str | None) -> int:
    """Print the story of a failure: each system call with its result and each wake-up between them.

    Exit status 1 when the failure shows again, 0 when it does not.
    """
    parsed = parse(token)
    target = file or parsed.target
    if not target:
        raise UsageError("this token belongs to a test's own server: name its file with --file FILE.py:FUNCTION")
    module, serve, target = load(target, "serve", 3)
    promise = contract_of(parsed.contract, module)
    failure = sim_example(serve, promise, parsed.profile)(Tape(parsed.tape), Trace())
    if failure is None:
        click.echo(f"{target}    sim   ok   the failure does not show: the server has changed since, or simkernel has")
        return 0
    for plan in failure.plans:
        click.echo(str(plan))
    for line in failure.story():
        click.echo(line)
    click.echo(f"{target}    sim   {failure.kind}   {failure.calls} calls")
    for text in failure.explanation:
        click.echo("  " + text)
    return 1


@cli.command("run")
@click.argument("program", metavar="FILE.py[:main]")
@click.option("--on", type=click.Choice(["sim", "linux"]), default="sim", show_default=True, help="Which kernel.")
@click.option("--seed", type=int, default=None, help="Explore: another schedule for each seed. [default: the plain one]")
@click.option("--strace", is_flag=True, help="Print the system calls and wake-ups to stderr (fake kernel only).")
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds before a run on Linux is stopped.")
def run_command(program: str, on: str, seed: int | None, strace: bool, timeout: float) -> int:
    """Run main(sys) as process 1 of a kernel, and print what it returns.

    Exit status 0, main's own with sys.exit, or 1 when it failed.
    """
    if on == "linux" and (strace or seed is not None):
        option = "--strace" if strace else "--seed"
        raise UsageError(f"{option} works on the fake kernel only" + ("; on Linux, use strace -f" if strace else ""))
    _module, main, target = load(program, "main", 1)
    trace = Trace() if strace else None
    result: object = None
    status = 0
    try:
        if on == "linux":
            result = linux.run(main, timeout=timeout)
        else:
            result = Kernel(Seeded(seed) if seed is not None else None, trace).run(main)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except (SimulationError, Timeout, Killed) as error:
        click.echo(f"{target}: {type(error).__name__}: {error}", err=True)
        for note in getattr(error, "__notes__", []):
            click.echo(note, err=True)
        status = 1
    except Exception as error:
        # On Linux it was raised in another process: its traceback there is the cause.
        click.echo(str(error.__cause__).strip() if on == "linux" and error.__cause__ else program_traceback(error), err=True)
        status = 1
    if trace is not None:
        for line in strace_lines(trace):
            click.echo(line, err=True)
    if result is not None:
        click.echo(repr(result))
    return status


class ExecCommand(click.Command):
    """An argument ``-m MODULE ARGS`` or ``-c CODE`` is one program, and no option of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """click.Command.parse_args."""
        return super().parse_args(ctx, [f"python {arg}" if arg.startswith(("-m ", "-c ")) else arg for arg in args])


@cli.command("exec", cls=ExecCommand)
@click.argument("commands", metavar="'SCRIPT ARGS'...", nargs=-1, required=True)
@click.option("--seed", type=int, default=None, help="Explore: another schedule for each seed. [default: the plain one]")
@click.option("--profile", type=click.Choice(PROFILES), default="linux", show_default=True, help="What the machine may do.")
@click.option("--stdin", type=click.File("rb"), default="-", help="What the last program reads. [default: the terminal]")
@click.option("--hosts", type=click.File("r"), default=None, help="Names of hosts, as in /etc/hosts.")
@click.option("--strace", is_flag=True, help="Print the system calls and wake-ups to stderr.")
@click.option("--trace", "trace_file", type=click.File("w"), default=None, help="Write the trace there, as lines of JSON.")
def exec_command(
    commands: tuple[str, ...],
    seed: int | None,
    profile: str,
    stdin: BinaryIO,
    hosts: TextIO | None,
    strace: bool,
    trace_file: TextIO | None,
) -> int:
    """Run programs that nobody changed as the processes of one fake machine, in virtual time.

    Each is a script, or -m MODULE, or -c CODE, with its arguments in one word; each starts when those before it have fallen asleep.  What
    they print is passed on, after the program's name when there are several.  Exit status: the last that is not 0; 1 if they sleep
    for good.

    \b
        simkernel exec "server.py" "client.py --port 9000"
        simkernel exec "-m http.server 8000" "client.py http://127.0.0.1:8000/"
    """
    trace = Trace() if strace or trace_file is not None else None
    output = Passed([parse_command(command).name for command in commands])
    try:
        with no_escape():
            run = programs(
                *commands, stdin=stdin, seed=seed, profile=profile, trace=trace, output=output, hosts=hosts.read() if hosts else ""
            )
        status = run.status
    except (SimulationError, Killed) as error:
        output.flush()
        place = "" if isinstance(error, Escape) else program_place(error)
        click.echo(f"simkernel: {type(error).__name__}: {error}" + (f", at {place}" if place else ""), err=True)
        for note in getattr(error, "__notes__", []):
            click.echo(note, err=True)
        status = 1
    output.flush()
    if trace is not None and strace:
        for line in strace_lines(trace):
            click.echo(line, err=True)
    if trace is not None and trace_file is not None:
        save(trace, trace_file)
    return status


class Passed:
    """Passes on what programs write to stdout and stderr; when they are several, each line after its program's name."""

    def __init__(self, names: list[str]) -> None:
        self.labels = [name if names.count(name) == 1 else f"{name}[{i + 1}]" for i, name in enumerate(names)]
        self.several = len(names) > 1
        # Whose line is not yet ended: (program, 1 or 2).
        self.open: tuple[int, int] | None = None

    def __call__(self, program: int, name: str, fd: int, data: bytes) -> None:
        stream = sys.stdout.buffer if fd == 1 else sys.stderr.buffer
        if self.open not in (None, (program, fd)):
            self.flush()
        for line in data.splitlines(keepends=True):
            if self.open is None and self.several:
                stream.write(f"{self.labels[program]}: ".encode())
            stream.write(line)
            self.open = None if line.endswith(b"\n") else (program, fd)
        stream.flush()

    def flush(self) -> None:
        """End the line that is open."""
        if self.open is not None and self.several:
            stream = sys.stdout.buffer if self.open[1] == 1 else sys.stderr.buffer
            stream.write(b"\n")
            stream.flush()
            self.open = None


@cli.command("liberties")
def liberties_command() -> int:
    """Print what the fake machine may do of its own accord, by profile, with sources: docs/liberties.md."""
    click.echo(markdown(), nl=False)
    return 0


@cli.command("bench")
@click.option("--only", type=click.Choice(["a", "b", "c", "d", "e"]), multiple=True, help="Only this part; may be given again.")
@click.option("--quick", is_flag=True, help="Fewer rounds, rougher figures.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def bench_command(only: tuple[str, ...], quick: bool, as_json: bool) -> int:
    """Measure the fake kernel beside the real one, in one run, on the same code."""
    return bench(json=as_json, only=only, quick=quick)


@cli.command("zoo")
@click.option("--servers", type=click.Path(path_type=Path), default=Path("servers"), show_default=True, help="The folder of the zoo.")
@click.option("--only", metavar="NAME", multiple=True, help="Only this one; may be given again.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="How many seeds each bug must be found with.")
@click.option("--twins", type=click.IntRange(0), default=2000, show_default=True, help="Examples that each right server must pass.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes that check.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--report", "page", type=click.Path(dir_okay=False, writable=True), help="Write the table for people to this file.")
@click.option("--date", help="The date that the table tells. [default: today]")
def zoo_command(
    servers: Path, only: tuple[str, ...], seeds: int, twins: int, workers: int, as_json: bool, page: str | None, date: str | None
) -> int:
    """Check a broken server for each class of bug, and its fixed twin.

    Exit status 0 when each bug is found with every seed and no right server is blamed, 1 when not.
    """
    if page is not None and not Path(page).absolute().parent.is_dir():
        raise UsageError(f"--report {page}: there is no such directory")
    with progress_bar("zoo", quiet=as_json) as progress:
        rows = zoo.visit(servers, only, range(seeds), twins, workers, lambda done, total: progress("sim", done, total))
    if page is not None:
        Path(page).write_text(zoo.markdown(rows, date or datetime.date.today().isoformat()))
    if as_json:
        click.echo(json.dumps(zoo.as_plain(rows), indent=2))
    else:
        print_zoo(rows)
    return 0 if all(row.ok for row in rows) else 1


def print_zoo(rows: list[zoo.Row]) -> None:
    """The zoo's table, then what was said of right servers."""
    table = Table(box=None, pad_edge=False)
    for title in ("class", "server", "kind", "examples", "calls", "twin's false alarms"):
        table.add_column(title, justify="right" if title in ("examples", "calls") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(zoo.cells(row) if row.bug_class else ["(a right server)", row.name, "", "", "", zoo.alarms(row)]))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for row in rows:
        for profile, said in row.alarms.items():
            click.echo(f"{row.name}, {profile}: {said}")
    for name, why in zoo.NOT_SHOWN.items():
        click.echo(f"not shown: {name}: {why}")


@cli.command("suites")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--on", type=click.Choice(["sim", "linux", "both"]), default="both", show_default=True, help="Which kernel.")
@click.option("-k", "pattern", metavar="PATTERN", default="", help="Only tests with this in their id, or that this matches if it has a *.")
@click.option("--seed", type=int, default=None, help="Another schedule for each seed, on the fake kernel. [default: the plain one]")
@click.option("--limit", type=click.FloatRange(1), default=60.0, show_default=True, help="Real seconds after which a test is stuck.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Suites that run at a time.")
@click.option("--verbose", is_flag=True, help="Print why tests were skipped, and the tracebacks of those that failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome of each test as JSON.")
@click.option("--report", "page", type=click.Path(dir_okay=False, writable=True), help="Write the table for people to this file.")
@click.option("--date", help="The date that the table tells. [default: today]")
def suites_command(
    names: tuple[str, ...],
    on: str,
    pattern: str,
    seed: int | None,
    limit: float,
    jobs: int,
    verbose: bool,
    as_json: bool,
    page: str | None,
    date: str | None,
) -> int:
    """Run the test suites of CPython and trio, as they are, on the fake kernel and on the real one.

    NAME is one of them (test_socket, test_asyncio, 'trio.*'), or a module of unittest's tests (test.test_ftplib).  Exit status 0 when in
    each suite, of 100 tests that pass on the real kernel, 98 pass on the fake one; 1 when not.
    """
    # Not needed by the other commands.
    from simkernel.suites import catalog, drive, report  # noqa: PLC0415

    if page is not None and not Path(page).absolute().parent.is_dir():
        raise UsageError(f"--report {page}: there is no such directory")
    chosen = catalog.choose(names)
    with suites_bar(quiet=as_json) as tick:
        ran = drive.run_suites(chosen, on, pattern, seed, limit, jobs, tick)
    rows = [report.compare(name, sides) for name, sides in ran.items()]
    if page is not None:
        Path(page).write_text(report.markdown(rows, date or datetime.date.today().isoformat()))
    if as_json:
        click.echo(json.dumps(report.as_plain(rows), indent=2))
    else:
        print_suites(rows, verbose)
    return 0 if all(row.ok for row in rows) else 1


@contextmanager
def suites_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for each suite that runs."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total, visible=done < total)

        yield progress


def print_suites(rows: "list[Row]", verbose: bool) -> None:
    """The suites' table, then what can't run, and what failed."""
    from simkernel.suites import report  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for title in report.HEAD:
        table.add_column(title, justify="left" if title == "suite" else "right", overflow="fold")
    for row in rows:
        table.add_row(*report.cells(row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for row in rows:
        for on, side in (("real", row.linux), ("fake", row.sim)):
            if side is not None and (side.broken or side.skipped):
                click.echo(f"{row.name} on the {on} kernel: {side.broken or side.skipped}")
    for text, n in Counter(reason for row in rows for reason in row.cannot.values()).most_common():
        click.echo(f"can't run: {n} in {report.suites_of(rows, text)}: {text}")
    for row in rows:
        one_side = row.linux if row.sim is None else row.sim if row.linux is None else None
        failed = row.wrong if one_side is None else {test: ran.why for test, ran in one_side.tests.items() if ran.outcome == "failed"}
        for test, why in failed.items():
            click.echo(f"failed: {test}: {report.last_line(why)}")
            if verbose:
                click.echo(why.rstrip() + "\n")
    if not verbose:
        return
    for row in rows:
        for on, side in (("real", row.linux), ("fake", row.sim)):
            for test, ran in side.tests.items() if side is not None else ():
                if ran.outcome == "skipped":
                    click.echo(f"skipped on the {on} kernel: {test}: {ran.why}")


@cli.command("conform")
@click.option("--calls", type=click.IntRange(1), help="Compare at least so many calls. [default: 100000, if no other limit is given]")
@click.option("--programs", type=click.IntRange(1), help="Compare at least so many programs.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Begin nothing new after so many seconds.")
@click.option("--seed", type=int, default=0, show_default=True, help="Choose other programs.")
@click.option(
    "--kind", "kinds", metavar="KIND", multiple=True, help="calls, blocking, signals, timers or all; may be given again. [default: all]"
)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes that compare.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--report", "page", type=click.Path(dir_okay=False, writable=True), help="Write the table for people to this file.")
@click.option("--date", help="The date that the table tells. [default: today]")
def conform_command(
    calls: int | None,
    programs: int | None,
    seconds: float | None,
    seed: int,
    kinds: tuple[str, ...],
    workers: int,
    as_json: bool,
    page: str | None,
    date: str | None,
) -> int:
    """Compare the fake kernel with the running one, call by call, on random programs.

    A divergence is shrunk and printed as a test.  Exit status 0 without divergences, 1 with, 2 for a command that makes no sense.
    """
    # Not needed by the other commands.
    from simkernel import conform  # noqa: PLC0415

    for kind in kinds:
        if kind != "all" and kind not in conform.KINDS:
            raise UsageError(f"there is no kind {kind!r}: choose of {', '.join(conform.KINDS)}, or all")
    if page is not None and not Path(page).absolute().parent.is_dir():
        raise UsageError(f"--report {page}: there is no such directory")
    chosen = [kind for kind in conform.KINDS if not kinds or "all" in kinds or kind in kinds]
    if calls is None and programs is None and seconds is None:
        calls = 100_000
    with conform_bar(calls, programs, seconds, quiet=as_json) as progress:
        report = conform.campaign(chosen, seed, calls, programs, seconds, workers, progress)
    if page is not None:
        Path(page).write_text(conform.markdown(report, date or datetime.date.today().isoformat()))
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for found in report.divergences:
            click.echo(f"{found.kind}    program {found.index} of seed {found.seed}, shrunk to {found.calls} calls")
            click.echo(f"{found.story}\n\n{found.test}")
        click.echo(report.summary())
    return 0 if report.ok else 1


@contextmanager
def conform_bar(calls: int | None, programs: int | None, seconds: float | None, quiet: bool) -> Iterator[Callable[[int, int, float], None]]:
    """A bar on stderr: how far the nearest limit is."""
    console = Console(stderr=True)
    columns = (TextColumn("conform"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("0 calls", total=1.0)

        def progress(done: int, ran: int, spent: float) -> None:
            share = max(done / calls if calls else 0, ran / programs if programs else 0, spent / seconds if seconds else 0)
            bar.update(task, completed=min(share, 1.0), description=f"{done} calls, {ran} programs")

        yield progress


def main() -> None:
    """The command's entry point: one clear line and exit status 2 for whatever a user got wrong."""
    try:
        code = cli.main(prog_name="simkernel", standalone_mode=False)
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
        click.echo(f"simkernel: {error.format_message()}{hint}", err=True)
        code = 2
    except UsageError as error:
        click.echo(f"simkernel: {error}", err=True)
        code = 2
    except SimulationError as error:
        # A server that can't be checked: what it asked for, and where.
        place = program_place(error)
        click.echo(f"simkernel: {type(error).__name__}: {error}" + (f", at {place}" if place else ""), err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("simkernel: interrupted", err=True)
        code = 130
    except BrokenPipeError:
        # Whoever read our output has gone.
        sys.stderr.close()
        code = 0
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
