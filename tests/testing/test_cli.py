"""The command as a user meets it: results, exit status, and one clear line for each mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def simkernel(*args, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "simkernel.cli", *args], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_check_passes():
    done = simkernel("check", "servers/poll_echo.py", "--examples", "20", "--linux-examples", "2")
    assert done.returncode == 0, done.stderr
    assert "sim   ok   20 examples" in done.stdout
    assert "linux   ok   2 examples" in done.stdout


def test_check_of_a_fixed_plan_tells_how_fast_it_is():
    done = simkernel("check", "servers/poll_echo.py", "--clients", "3", "--echoes", "2", "--examples", "20", "--linux-examples", "2")
    assert done.returncode == 0, done.stderr
    sim, linux, both = done.stdout.splitlines()
    assert re.fullmatch(r"servers/poll_echo.py:serve    sim   ok   20 examples in [0-9.]+ s, [0-9,]+ a second", sim)
    assert re.fullmatch(r"servers/poll_echo.py:serve    linux   ok   2 examples in [0-9.]+ s, [0-9,]+ a second", linux)
    assert re.fullmatch(r"servers/poll_echo.py:serve    sim / linux   [0-9.]+ times as many examples a second", both)


def test_a_fixed_plan_is_in_the_token():
    done = simkernel("check", "servers/broken/article_select.py", "--clients", "2", "--echoes", "3", "--on", "sim")
    assert done.returncode == 1
    token = done.stdout.splitlines()[0].split("replay: ")[1]
    again = simkernel("replay", token)
    assert again.returncode == 1
    assert again.stdout.splitlines()[:2] == ["client 0: turns, sizes (16, 16, 16)", "client 1: turns, sizes (16, 16, 16)"]
    assert done.stdout.splitlines()[1:] == again.stdout.splitlines()[-len(done.stdout.splitlines()[1:]) :]


def test_check_fails_and_its_token_replays():
    done = simkernel("check", "servers/broken/et_read_once.py")
    assert done.returncode == 1
    first = done.stdout.splitlines()[0]
    assert "servers/broken/et_read_once.py:serve    sim   hang   example" in first
    token = first.split("replay: ")[1]
    again = simkernel("replay", token)
    assert again.returncode == 1
    assert "recv(8, 1024) = " in again.stdout and "wakes [" in again.stdout
    # The explanation is the same, word for word.
    assert done.stdout.splitlines()[1:] == again.stdout.splitlines()[-len(done.stdout.splitlines()[1:]) :]
    moved = simkernel("replay", token, "--file", "servers/poll_echo.py")
    assert moved.returncode == 0 and "does not show" in moved.stdout


def test_check_as_json():
    done = simkernel("check", "servers/broken/article_select.py", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False and report["failure"]["kind"] == "spin" and report["failure"]["token"].startswith("sk1-")
    both = simkernel("check", "servers/poll_echo.py", "servers/http_h11.py", "--json", "--examples", "3", "--on", "sim")
    assert [r["contract"] for r in json.loads(both.stdout)] == ["echo", "http"]


PROGRAM = """
def main(sys):
    r, w = sys.pipe2()
    sys.write(w, b"hello")
    return sys.read(r, 100)

def status(sys):
    sys.exit(3)

def wrong(sys):
    return {}["missing"]

def stuck(sys):
    r, w = sys.pipe2()
    sys.read(r, 1)

def bad_fd(sys):
    sys.send(99, b"x")

def ahead(sys, listener, stop):
    sys.accept4(listener)
    sys.kill(-1, 0)

def serve(sys):
    pass

answer = 42
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "prog.py").write_text(PROGRAM)
    (tmp_path / "syntax.py").write_text("def main(:\n")
    (tmp_path / "importing.py").write_text("\nimport no_such_module_at_all\n")
    return tmp_path


@pytest.mark.parametrize("on", ["sim", "linux"])
def test_run(program, on):
    done = simkernel("run", "prog.py", "--on", on, cwd=program)
    assert (done.returncode, done.stdout) == (0, "b'hello'\n"), done.stderr
    assert simkernel("run", "prog.py:status", "--on", on, cwd=program).returncode == 3
    failed = simkernel("run", "prog.py:wrong", "--on", on, cwd=program)
    assert failed.returncode == 1
    assert "KeyError: 'missing'" in failed.stderr and "prog.py" in failed.stderr
    bad_fd = simkernel("run", "prog.py:bad_fd", "--on", on, cwd=program)
    assert bad_fd.returncode == 1
    assert "Bad file descriptor" in bad_fd.stderr and 'prog.py", line' in bad_fd.stderr
    # No frame of ours.
    for text in (failed.stderr, bad_fd.stderr):
        assert "/simkernel/" not in text


def test_run_with_strace_and_seed(program):
    done = simkernel("run", "prog.py", "--strace", "--seed", "3", cwd=program)
    assert done.returncode == 0
    assert "write(4, 'hello') = 5" in done.stderr and "prog.py:4" in done.stderr


def test_run_explains_a_deadlock(program):
    done = simkernel("run", "prog.py:stuck", cwd=program)
    assert done.returncode == 1
    assert "Deadlock" in done.stderr and "sleeps in read(3), prog.py:15" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["check", "missing.py"], "there is no file missing.py"),
        (["check", "prog.py:absent"], "prog.py has no function absent"),
        (["check", "prog.py:answer"], "answer in prog.py is not a function"),
        (["check", "prog.py"], "can't be called with (sys, listener, stop)"),
        (["check", "."], "is a folder"),
        (["check", "prog.py:ahead"], "Unsupported: kill(-1, ...), to all processes, is not modelled, at prog.py:22 in ahead"),
        (["check", "syntax.py"], "syntax.py:1:"),
        (["check", "importing.py"], "importing.py:2 can't be imported: ModuleNotFoundError"),
        (["check", "prog.py", "--examples", "0"], "--examples"),
        (["check", "prog.py", "--on", "mars"], "mars"),
        (["check", "prog.py:ahead", "--clients", "3"], "clients is given and echoes is not"),
        (["check", "prog.py:ahead", "--echoes", "3"], "echoes is given and clients is not"),
        (["check", "prog.py:ahead", "--clients", "0", "--echoes", "1"], "clients must be 1 to 200, not 0"),
        (["check", "prog.py:ahead", "--clients", "1", "--echoes", "-1"], "echoes must be 1 to 10000, not -1"),
        (["check", "prog.py:ahead", "--contract", "echo:3"], "after the colon are clients and echoes, as in echo:10x10"),
        (["check", "prog.py:ahead", "--contract", "echo:3x3", "--clients", "3"], "leave out --clients and --echoes"),
        (["check", "prog.py:ahead", "--contract", "smtp:3x3"], "there is no contract 'smtp:3x3'"),
        (["check"], "FILE.py"),
        (["replay", "nonsense"], "is not a replay token"),
        (["replay", "sk1-AAAA"], "damaged"),
        (["replay", "sk1-\u20ac"], "damaged"),
        (["run", "missing.py"], "there is no file"),
        (["run", "prog.py", "--on", "linux", "--strace"], "--strace works on the fake kernel only"),
        (["run", "prog.py", "--bad"], "No such option"),
        (["bench", "--only", "z"], "'z'"),
        (["nonsense"], "No such command"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_mistakes(program, args, said):
    done = simkernel(*args, cwd=program)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
