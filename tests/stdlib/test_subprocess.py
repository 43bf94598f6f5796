"""Programs that start programs: subprocess, os.posix_spawn and os.exec* in a simulated process."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simkernel import Unsupported
from simkernel.stdlib.process import run_function


def filtered() -> Any:
    code = "import sys, os; print(sys.stdin.read().upper(), os.getpid(), os.getppid(), sys.argv[1:]); sys.stderr.write('err'); sys.exit(3)"
    done = subprocess.run([sys.executable, "-c", code, "a", "b c"], input="hello", capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_run():
    assert run_function(filtered) == (3, "HELLO 2 1 ['a', 'b c']\n", "err")


def broken_pipe() -> Any:
    code = "import os, sys; sys.stdin.read()\ntry: os.write(1, b'x')\nexcept BrokenPipeError: os.write(2, b'broken')"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, stderr=-1) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdout.close()
        child.stdin.close()
        return child.stderr.read(), child.wait()


def test_a_broken_pipe_is_an_exception():
    """Python ignores SIGPIPE from its first line on, though a child is started with it as it was (restore_signals)."""
    assert run_function(broken_pipe) == broken_pipe() == (b"broken", 0)


def surroundings(folder: str) -> Any:
    code = "import os; print(os.environ['NAME'], 'HOME' in os.environ, os.getcwd(), len(os.listdir('/proc/self/fd')))"
    w = os.eventfd(0)
    inherited = subprocess.check_output(["python3", "-c", code], env={"NAME": "value"}, cwd=folder, pass_fds=[w])
    os.environ["NAME"] = "other"
    plain = subprocess.check_output(["python3", "-c", code], close_fds=False)
    return inherited.decode(), plain.decode(), os.getcwd()


def test_environment_folder_and_fds(tmp_path: Path):
    inherited, plain, cwd = run_function(surroundings, str(tmp_path))
    # stdin, stdout, stderr, the one that is passed, and the one that listdir reads.
    assert inherited == f"value False {tmp_path} 5\n"
    assert plain == f"other True {cwd} 4\n"


def memory() -> Any:
    logging.root.name = "changed"
    return subprocess.check_output([sys.executable, "-c", "import logging; print(logging.root.name)"])


def test_nothing_is_shared():
    assert run_function(memory) == b"root\n"


def failures() -> Any:
    out = []
    for arguments, options in (
        (["/nonexistent"], {}),
        (["/etc/passwd"], {}),
        ([sys.executable], {"cwd": "/nonexistent"}),
        ([sys.executable], {"preexec_fn": lambda: 1 / 0}),
    ):
        with pytest.raises((OSError, subprocess.SubprocessError)) as caught:
            subprocess.run(arguments, **options)
        error = caught.value
        out.append((type(error).__name__, getattr(error, "filename", None)))
    return out


def test_failures():
    names = run_function(failures)
    assert names == [
        ("FileNotFoundError", "/nonexistent"),
        ("PermissionError", "/etc/passwd"),
        ("FileNotFoundError", "/nonexistent"),
        ("SubprocessError", None),
    ]


def real_program() -> Any:
    with pytest.raises(Unsupported, match=r"/bin/sh -c 'ls \| wc' is a real program"):
        subprocess.run("ls | wc", shell=True)
    with pytest.raises(Unsupported, match="option -O is not modelled"):
        subprocess.run([sys.executable, "-O", "-c", "pass"])


def test_real_programs_are_refused():
    run_function(real_program)


def by_shell() -> Any:
    words = subprocess.check_output(f"{sys.executable} -c 'import sys; print(sys.argv[1:]); # $ | ;' \"a b\" c", shell=True)
    quoted = subprocess.check_output("python3 -c 'print(2 * 3)'", shell=True)
    for command in ("python3 -c pass; true", "python3 -c pass > /tmp/x", "python3 -c $HOME", "X=1 python3", 'python3 -c "$(ls)"'):
        with pytest.raises(Unsupported, match="is a real program"):
            subprocess.run(command, shell=True)
    return words, quoted


def test_a_shell_that_has_nothing_to_do():
    assert run_function(by_shell) == (b"['a b', 'c']\n", b"6\n")


def ended() -> Any:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10**6)"])
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(timeout=1000)
    sleeper.terminate()
    handler = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print(flush=True); time.sleep(100)"
    polite = subprocess.Popen([sys.executable, "-c", handler], stdout=subprocess.PIPE, start_new_session=True)
    assert polite.stdout is not None
    polite.stdout.readline()
    session = os.getsid(polite.pid) == os.getpgid(polite.pid) == polite.pid
    os.killpg(polite.pid, signal.SIGTERM)
    return sleeper.wait(), polite.wait(), session


def test_children_end():
    assert run_function(ended) == (-15, 7, True)


def script(folder: str) -> Any:
    path = Path(folder) / "script"
    path.write_text(f"#!{sys.executable}\nimport sys, helper\nprint(sys.argv, helper.NAME)\n")
    path.chmod(0o755)
    (Path(folder) / "helper.py").write_text("NAME = 'helper'\n")
    os.chdir(folder)
    piped = subprocess.run([sys.executable, "-"], input=b"print('from stdin')", stdout=subprocess.PIPE)
    return subprocess.check_output(["./script", "x"]).decode(), piped.stdout


def test_scripts(tmp_path: Path):
    assert run_function(script, str(tmp_path)) == ("['./script', 'x'] helper\n", b"from stdin\n")


def replaced() -> Any:
    r, w = os.pipe()
    code = f"import os; os.dup2({w}, 1); os.execv({sys.executable!r}, ['python', '-c', 'print(__import__(\"os\").getpid())'])"
    pid = os.posix_spawn(sys.executable, ["python", "-c", code], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, w, w)])
    os.close(w)
    with open(r, "rb") as reader:
        out = reader.read()
    return out == b"%d\n" % pid, os.waitpid(pid, 0)[1]


def test_exec():
    assert run_function(replaced) == (True, 0)


async def communicate() -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(input()[::-1])", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(b"stressed\n")
    return out, process.returncode


def with_asyncio() -> Any:
    return asyncio.run(communicate())


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_asyncio(seed: int | None):
    assert run_function(with_asyncio, seed=seed) == (b"desserts\n", 0)
