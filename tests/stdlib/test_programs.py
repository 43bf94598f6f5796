"""simkernel exec and simkernel.programs: programs that nobody changed, on the fake machine as on the real one."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import simkernel
from simkernel.kernel.trace import Trace
from simkernel.stdlib.programs import programs
from tests.testing.test_cli import simkernel as command

ROOT = Path(__file__).parents[2]
PLAIN = ROOT / "servers" / "plain"
LINES = b"one\ntwo two\n" + b"x" * 5000 + b"\nthe last, without an end"
ANSWER = LINES + b"\n"


@contextmanager
def real_server(path: Path) -> Iterator[int]:
    """The server as a real process, on a port of the kernel's choice."""
    with subprocess.Popen([sys.executable, path, "0"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().split()[-1])
        finally:
            process.kill()


@pytest.mark.parametrize("server", ["select_echo.py", "epoll_echo.py"])
class TestEcho:
    """A server on plain socket and select, and a client that reads lines from stdin."""

    def test_on_linux(self, server: str) -> None:
        with real_server(PLAIN / server) as port:
            client = [sys.executable, PLAIN / "client.py", "--port", str(port)]
            assert subprocess.run(client, input=LINES, stdout=subprocess.PIPE, timeout=30, check=True).stdout == ANSWER

    @pytest.mark.parametrize("seed", [None, *range(5)])
    def test_on_the_fake_machine(self, server: str, seed: int | None) -> None:
        run = programs([str(PLAIN / server)], [str(PLAIN / "client.py")], stdin=LINES, seed=seed)
        assert run.programs[1].stdout == ANSWER
        assert [program.status for program in run.programs] == [None, 0] and run.status == 0
        assert run.programs[0].stdout == f"{server.split('_', maxsplit=1)[0]}: listening on port 9000\n".encode()
        assert len(run.serving) == 1 and server in run.serving[0]

    def test_two_clients(self, server: str) -> None:
        run = programs(f"{PLAIN / server} 81", f"{PLAIN / 'client.py'} --port 81", f"{PLAIN / 'client.py'} --port 81", stdin=b"last")
        # Only the last one has the terminal.
        assert [program.stdout for program in run.programs[1:]] == [b"", b"last\n"]

    def test_one_seed_is_one_run(self, server: str) -> None:
        digests = set()
        for _ in range(2):
            trace = Trace()
            programs([str(PLAIN / server)], [str(PLAIN / "client.py")], stdin=LINES, seed=3, trace=trace)
            digests.add(trace.digest())
        assert len(digests) == 1


def script(tmp_path: Path, name: str, text: str) -> str:
    """A program in a file."""
    path = tmp_path / name
    path.write_text(text)
    return str(path)


class TestProcess:
    """What Python does around a program."""

    @pytest.mark.parametrize(
        ("text", "status", "stdout", "stderr"),
        [
            ("print('hello')", 0, b"hello\n", b""),
            ("import sys; sys.exit(7)", 7, b"", b""),
            ("import sys; sys.exit('no such luck')", 1, b"", b"no such luck\n"),
            ("import os; os._exit(3)", 3, b"", b""),
            ("import sys; sys.stdout.write('no newline'); sys.stderr.write('err')", 0, b"no newline", b"err"),
            ("import sys; print(sys.argv[1:], __name__)", 0, b"['a', 'b c'] __main__\n", b""),
            ("import atexit; atexit.register(print, 'bye'); print('hello')", 0, b"hello\nbye\n", b""),
            ("import threading\nthreading.Thread(target=lambda: print('thread')).start()", 0, b"thread\n", b""),
            ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, b"", b""),
            ("print(input('? '), input())", 0, b"? one two\n", b""),
            ("import sys; print(sys.stdin.read().split())", 0, b"['one', 'two']\n", b""),
            ("import os; os.write(1, b'raw'); print(os.read(0, 3))", 0, b"rawb'one'\n", b""),
            ("import helper; print(helper.NAME)", 0, b"helper\n", b""),
            ("import time; t = time.monotonic(); time.sleep(3600); print(time.monotonic() - t)", 0, b"3600.0\n", b""),
        ],
    )
    def test_as_python_itself(self, tmp_path: Path, text: str, status: int, stdout: bytes, stderr: bytes) -> None:
        path = script(tmp_path, "program.py", text)
        (tmp_path / "helper.py").write_text("NAME = __name__")
        if "sleep" not in text:
            real = subprocess.run([sys.executable, path, "a", "b c"], input=b"one\ntwo", capture_output=True, check=False)
            assert (real.returncode % 256 if real.returncode >= 0 else 128 - real.returncode, real.stdout, real.stderr) == (
                status,
                stdout,
                stderr,
            )
        run = programs([path, "a", "b c"], stdin=b"one\ntwo")
        assert (run.status, run.programs[0].stdout, run.programs[0].stderr) == (status, stdout, stderr)

    def test_an_exception_is_shown_as_python_shows_it(self, tmp_path: Path) -> None:
        path = script(tmp_path, "program.py", "def f():\n    return {}['no']\nf()\n")
        real = subprocess.run([sys.executable, path], capture_output=True, check=False)
        run = programs([path])
        assert run.status == real.returncode == 1
        assert run.programs[0].stderr == real.stderr

    def test_a_module(self) -> None:
        run = programs("-m json.tool --compact", stdin=b'{"a": [1, 2]}')
        assert run.programs[0].stdout == b'{"a":[1,2]}\n'

    def test_a_text(self) -> None:
        assert programs(["-c", "import sys; print(sys.argv)", "x"]).programs[0].stdout == b"['-c', 'x']\n"

    def test_programs_share_nothing_but_the_machine(self, tmp_path: Path) -> None:
        text = "import logging, sys\nlogging.basicConfig(format=sys.argv[1])\nlogging.warning('here')\n"
        path = script(tmp_path, "program.py", text)
        run = programs([path, "first %(message)s"], [path, "second %(message)s"])
        assert [program.stderr for program in run.programs] == [b"first here\n", b"second here\n"]

    def test_a_terminal_is_read_when_all_sleep(self, tmp_path: Path) -> None:
        path = script(tmp_path, "program.py", "import time\nfor _ in range(2):\n    print(input(), time.monotonic())\n    time.sleep(1)\n")

        class Terminal(io.BytesIO):
            def fileno(self) -> int:
                return 0

        run = programs(path, stdin=io.BytesIO(b"a\nb\n"))
        first = run.programs[0].stdout.split()
        assert first[::2] == [b"a", b"b"] and float(first[3]) - float(first[1]) == pytest.approx(1)

    def test_a_table_of_hosts(self, tmp_path: Path) -> None:
        path = script(tmp_path, "program.py", "import socket, sys\nprint(socket.gethostbyname(sys.argv[1]))\n")
        assert programs([path, "db.example"], hosts="127.0.0.7 db.example db\n").programs[0].stdout == b"127.0.0.7\n"
        assert b"gaierror" in programs([path, "db.example"]).programs[0].stderr


class TestErrors:
    """One clear line for whatever a user got wrong."""

    @pytest.mark.parametrize(
        ("command", "text"),
        [
            ("nothere.py", "no script 'nothere.py'"),
            ("-m no.such.module", "no module 'no.such.module'"),
            ("", "this one is empty"),
            ("--flag x.py", "--flag is no option"),
            ("-m", "after -m comes a module"),
        ],
    )
    def test_a_command_that_makes_no_sense(self, command: str, text: str) -> None:
        with pytest.raises(simkernel.UsageError, match=text):
            programs(command)

    def test_sleeping_for_good(self, tmp_path: Path) -> None:
        path = script(tmp_path, "stuck.py", "import os\nr, w = os.pipe()\nos.read(r, 1)\n")
        with pytest.raises(simkernel.Deadlock) as caught:
            programs(path)
        assert "stuck.py (pid 2) sleeps in read(3), stuck.py:3" in caught.value.__notes__[0]


class TestCommand:
    """The same from a shell."""

    def test_output_is_passed_on_with_names(self) -> None:
        done = command("exec", "servers/plain/epoll_echo.py 81", "servers/plain/client.py --port 81", "--stdin", "pyproject.toml")
        assert done.returncode == 0, done.stderr
        first, *others = done.stdout.splitlines()
        assert first == "epoll_echo.py: epoll: listening on port 81"
        assert others == [f"client.py: {line}" for line in (ROOT / "pyproject.toml").read_text().splitlines()]

    def test_one_program_has_no_name_before_it(self, tmp_path: Path) -> None:
        done = command("exec", script(tmp_path, "program.py", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(5)"))
        assert (done.returncode, done.stdout, done.stderr) == (5, "out\n", "err\n")

    def test_a_deadlock_is_told_without_a_traceback(self, tmp_path: Path) -> None:
        done = command("exec", script(tmp_path, "stuck.py", "import os\nr, w = os.pipe()\nos.read(r, 1)\n"))
        assert done.returncode == 1
        assert "Deadlock" in done.stderr and "stuck.py (pid 2) sleeps in read(3), stuck.py:3" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_trace_is_written(self, tmp_path: Path) -> None:
        path = script(tmp_path, "program.py", "import os\nos.write(1, b'x')\n")
        done = command("exec", path, "--trace", str(tmp_path / "trace"), "--strace")
        assert done.returncode == 0 and "write(1, b'x')" in done.stderr.replace("'x'", "b'x'").replace("bb", "b")
        header, *events = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
        assert header == {"format": "simkernel-trace", "version": 1}
        assert any(event["ev"] == "sys_enter" and event["fn"] == "write" and event["at"] == f"{path}:2" for event in events)

    def test_a_module_and_a_text(self) -> None:
        code = 'import urllib.request as r; print(len(r.urlopen("http://127.0.0.1:8000/pyproject.toml").read()))'
        done = command("exec", "-m http.server 8000", f"-c '{code}'")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"-c: {(ROOT / 'pyproject.toml').stat().st_size}"

    def test_an_empty_command(self) -> None:
        done = command("exec", "nothere.py")
        assert done.returncode == 2 and done.stderr == "simkernel: there is no script 'nothere.py'\n"


def test_a_script_that_begins_a_run_when_it_is_imported(tmp_path: Path) -> None:
    """As for multiprocessing, what begins it has to be under ``if __name__ == "__main__"``; without, there is one clear line."""
    path = script(tmp_path, "run.py", "import simkernel.asyncio\nasync def main():\n    return 7\nprint(simkernel.asyncio.run(main))\n")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, check=False)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.endswith("begin it under if __name__ == '__main__'") and path in last
