"""simkernel conform: a sample of each kind agrees; a wrong kernel is found, shrunk, and printed as a test that shows it."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simkernel import linux
from simkernel.api import Syscalls
from simkernel.conform import KINDS, KNOWN, Divergence, compare
from simkernel.conform.campaign import explain, run_batch
from simkernel.conform.compare import judge, on_linux, on_sim, orderless, play_calls
from simkernel.conform.dice import seeded, taped
from simkernel.conform.generate import make
from simkernel.conform.machine import Machine
from simkernel.conform.program import PATTERN, SETUP, Program, numbered, renumber
from simkernel.conform.stage import play_tasks
from simkernel.kernel.eventfd import EventFd
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import Sched, Task
from simkernel.uapi import AF_UNIX, O_NONBLOCK, POLLOUT, SIGUSR1, SOCK_STREAM
from tests import interpreted

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_agrees(kind: str) -> None:
    report = run_batch(kind, 1, 0)
    assert report.programs >= KINDS[kind].batch - 2
    assert not report.differed, "\n\n".join(found.story + "\n" + found.test for found in report.divergences)
    assert report.wavered <= 2


# --- a wrong kernel is found ---


def pasted(text: str, world: Any) -> None:
    """Run a printed test as if it stood among the conformance tests."""
    space: dict[str, Any] = {"__package__": "tests.conformance"}
    exec(compile(text, "pasted", "exec"), space)  # noqa: S102  it is Python that we printed
    tests = [value for name, value in space.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0](world)


class SimWorld:
    name = "sim"

    def run(self, main: Callable[..., object]) -> Any:
        return Kernel().run(main)


class LinuxWorld:
    name = "linux"

    def run(self, main: Callable[..., object]) -> Any:
        return linux.run(main)


def wrong(name: str, most_calls: int) -> Divergence:
    """The kernel, which is wrong now, is found out within a few programs, and the story is of a few calls."""
    kind = KINDS[name]
    for first in range(0, 80, 8):
        made = [(i, *kind.make(seeded(3, name, i), {}, Counter())) for i in range(first, first + 8)]
        for (i, program, sim, _), real in zip(made, on_linux(kind.runner, [program for _, program, _, _ in made]), strict=True):
            if judge(kind.runner, program, sim, real).kind == "differs":
                found = explain(name, program, 3, i)
                assert "!!" in found.story
                assert found.calls <= most_calls, found.story
                return found
    raise AssertionError("nothing was found")


def shows_it(found: Divergence) -> None:
    """What is printed fails on the wrong kernel, and passes on Linux."""
    pasted(found.test, LinuxWorld())
    with pytest.raises(AssertionError):
        pasted(found.test, SimWorld())


@interpreted
def test_a_wrong_mask_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = EventFd.poll
    monkeypatch.setattr(EventFd, "poll", lambda self, table: right(self, table) & ~(POLLOUT if self.count else 0))
    shows_it(wrong("calls", 3))


@interpreted
def test_a_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = EventFd.write
    monkeypatch.setattr(EventFd, "write", lambda self, data: right(self, data) + (self.count > 5))
    shows_it(wrong("calls", 4))


@interpreted
def test_a_wrong_order_of_waking_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last to sleep is woken first, where Linux has them in line."""

    def wake_up_process(self: Sched, task: Task, **options: Any) -> int:
        woken = right(self, task, **options)
        if woken and len(self.runqueue) > 1:
            self.runqueue.insert(0, self.runqueue.pop())
        return woken

    right = Sched.wake_up_process
    monkeypatch.setattr(Sched, "wake_up_process", wake_up_process)
    shows_it(wrong("blocking", 14))


def test_a_lost_signal_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Machine.step

    def step(self: Machine, call: Any) -> Any:
        if not self.on_linux and call[0] == "kill" and call[2] == SIGUSR1:
            return None
        return right(self, call)

    monkeypatch.setattr(Machine, "step", step)
    wrong("signals", 8)


@interpreted
def test_a_late_timer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Sched.schedule_timeout

    def schedule_timeout(self: Sched, timeout_ns: int | None, *rest: Any) -> bool:
        return right(self, timeout_ns * 5 if timeout_ns and 1_000_000 < timeout_ns < 100_000_000 else timeout_ns, *rest)

    monkeypatch.setattr(Sched, "schedule_timeout", schedule_timeout)
    monkeypatch.setattr(compare, "SHRINK_SECONDS", 4.0)
    wrong("timers", 20)


def test_linux_that_wavers_is_no_divergence() -> None:
    """Three answers of Linux that are not the same say nothing about ours."""
    answers = iter([["a"], ["b"], ["c"], ["d"]])

    def runner(sys: Syscalls, program: Program, /, *, settle: bool = False, raw: bool = False) -> list[Any]:
        return [sys.clock_gettime_ns(1)]

    assert judge(runner, Program(()), [0], next(answers)).kind == "wavers"
    assert judge(runner, Program(()), ["a"], ["a"]).kind == "same"


# --- parts ---


def test_the_order_of_several_woken_at_once() -> None:
    """Eventfd readers wake together; that they did is compared even where their order is left out."""
    assert orderless([([(2, 1), (0, 1)], None)]) == [([(0, 1), (2, 1)], None)]


def test_who_wakes_is_seen() -> None:
    """Of three that sleep in accept, the first to have come is woken, on both kernels."""
    name = ("name", 1)
    program = Program(
        (
            (SETUP, "socket", AF_UNIX, SOCK_STREAM),
            (SETUP, "bind", 3, name),
            (SETUP, "listen", 3, 5),
            (SETUP, "socket", AF_UNIX, SOCK_STREAM),
            (1, "accept4", 3),
            (0, "accept4", 3),
            (2, "connect", 4, name),
        ),
        observe=False,
        tasks=(3,),
    )
    sim, real = on_sim(play_tasks, program), on_linux(play_tasks, [program])[0]
    assert [task for task, _ in real[6][0]] == [2, 1]
    assert sim[6] == real[6]


def test_a_program_is_the_same_by_its_seed_and_any_tape_is_one() -> None:
    first, again = (make(seeded(7, "x"), 40) for _ in range(2))
    assert first == again
    program, sim, _ = make(taped(b""), 10)
    assert len(program.calls) == 10
    assert on_linux(play_calls, [program])[0] == sim


def test_numbered_bytes_show_what_moved() -> None:
    assert numbered(0, 8) == PATTERN[:8]
    assert len({PATTERN[i : i + 8] for i in range(60_000)}) == 60_000


def test_fds_are_renumbered_wherever_they_are() -> None:
    new = {5: 4}
    assert renumber(("epoll_ctl", 5, 1, 5, 0, None), new) == ("epoll_ctl", 4, 1, 4, 0, None)
    assert renumber(("connect", 3, ("of", 5)), new) == ("connect", 3, ("of", 4))
    assert renumber(("poll", ((5, 1),), 0), new) == ("poll", ((4, 1),), 0)
    assert renumber(("eventfd", 5, O_NONBLOCK), new) == ("eventfd", 5, O_NONBLOCK)


# --- the command ---


def simkernel(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "simkernel.cli", "conform", *args], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_command(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = simkernel("--kind", "calls", "--calls", "3000", "--workers", "1", "--seed", "1", "--report", str(page), "--date", "2026-01-02")
    assert done.returncode in (0, 1), done.stderr
    assert " calls compared, 100 programs, " in done.stdout.splitlines()[-1]
    text = page.read_text()
    assert "date: 2026-01-02; seed 1" in text
    assert "| epoll_wait | epoll |" in text
    assert all(f"| {known.name} |" in text for known in KNOWN)


def test_the_command_as_json() -> None:
    done = simkernel("--kind", "blocking", "--programs", "10", "--json", "--workers", "1")
    report = json.loads(done.stdout)
    assert report["programs"] >= 10 and report["kinds"] == ["blocking"]
    assert done.returncode == (0 if report["ok"] else 1)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--kind", "nonsense"], "there is no kind 'nonsense': choose of calls, blocking"),
        (["--calls", "0"], "0 is not in the range x>=1"),
        (["--report", "/nowhere/x.md"], "--report /nowhere/x.md: there is no such directory"),
    ],
)
def test_mistakes_of_the_command_line(args: list[str], text: str) -> None:
    done = simkernel(*args)
    assert done.returncode == 2
    assert text in done.stderr and len(done.stderr.splitlines()) == 1


@interpreted
def test_the_command_fails_when_kernels_differ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from simkernel import cli  # noqa: PLC0415

    right = EventFd.poll
    monkeypatch.setattr(EventFd, "poll", lambda self, table: right(self, table) & ~(POLLOUT if self.count else 0))
    monkeypatch.setattr(sys, "argv", ["simkernel", "conform", "--kind", "blocking", "--calls", "1", "--workers", "1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "!!" in out and "def test_blocking_" in out


def test_workers_change_nothing(tmp_path: Path) -> None:
    """(As a command: a pool of processes leaves multiprocessing's resource tracker behind, which tests of waitpid(-1) would find.)"""
    pages = []
    for workers in ("1", "2"):
        page = tmp_path / workers
        done = simkernel("--kind", "blocking", "--programs", "40", "--seed", "4", "--workers", workers, "--report", str(page))
        assert done.returncode == 0, done.stdout + done.stderr
        pages.append([line for line in page.read_text().splitlines() if "date:" not in line])
    assert pages[0] == pages[1]
