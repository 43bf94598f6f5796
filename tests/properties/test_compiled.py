"""The compiled build (hatch_build.py) does what the interpreted one does, bit for bit, and says where programs are as well as that.

Run with a compiled simkernel; its wheel has the sources too, so that the interpreted build is there to be compared with.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from simkernel.kernel.entry import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="this simkernel is interpreted")

# Imports simkernel's sources, whatever is compiled beside them.
INTERPRETED = """
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader

def sources_of_simkernel(path):
    if "simkernel" not in path.split("/"):
        raise ImportError
    return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))

sys.path_hooks.insert(0, sources_of_simkernel)
"""

DIGESTS = """
import random
from simkernel import Deadlock, Kernel, Trace
from simkernel.kernel.choice import Plain, Seeded, Tape
from simkernel.kernel.entry import COMPILED
from simkernel.testing import Echo
from simkernel.testing.scenario import scenario
from servers import blocking_echo, epoll_et_echo, epoll_lt_echo, poll_echo, prefork_echo, select_echo, threads_echo

print(COMPILED)
for server in (blocking_echo, epoll_et_echo, epoll_lt_echo, poll_echo, prefork_echo, select_echo, threads_echo):
    for seed in range(6):
        for choice in (Plain(), Tape(random.Random(seed).randbytes(200)), Seeded(seed)):
            trace = Trace()
            contract = Echo()
            Kernel(choice, trace, debug=seed == 5).run(scenario, server.serve, contract, contract.plans(choice))
            print(server.__name__, seed, trace.digest(), hash(tuple(str(record["at"]) for record in trace.records())))
"""

STORIES = """
from simkernel import Deadlock, Kernel
from simkernel.kernel.entry import COMPILED
from simkernel.testing import check
from simkernel.uapi import AF_UNIX, SA_RESTART, SIGUSR1, SOCK_STREAM
from servers.broken import article_epoll, article_select, et_read_once

print(COMPILED)
for server in (article_epoll, article_select, et_read_once):
    report = check(server.serve, examples=60).as_dict()
    print(report["failure"])

def child(sys, fd):
    sys.recv(fd, 10)

def handler_sleeps(sys, fd):
    sys.sigaction(SIGUSR1, lambda signum: sys.read(fd, 1))
    sys.nanosleep(10**18)

def wakes(sys, fd):
    sys.sigaction(SIGUSR1, lambda signum: sys.getpid(), SA_RESTART)
    sys.recv(fd, 10)

def main(sys):
    a, b = sys.socketpair(AF_UNIX, SOCK_STREAM)
    sys.spawn(child, a)
    for program in (handler_sleeps, wakes):
        pid = sys.spawn(program, a)
        sys.nanosleep(1000)
        sys.kill(pid, SIGUSR1)
    sys.waitpid(-1)

try:
    Kernel(deadline_ns=10**10).run(main)
except Deadlock as error:
    print(error, error.__notes__)

def raises(sys):
    sys.thread(lambda sys: sys.socketpair(AF_UNIX, SOCK_STREAM, -1))
    sys.nanosleep(1)

Kernel().run(raises)
"""


def runs(script: str) -> tuple[str, str]:
    """What a script prints in the compiled build, and what in the interpreted one; the first line of each says which it is."""
    root = str(Path(__file__).parent.parent.parent)
    out = []
    for before in ("\n" * INTERPRETED.count("\n"), INTERPRETED):
        command = [sys.executable, "-c", before + script]
        env = {"PYTHONPATH": root, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root, env=env, timeout=120)
        assert done.returncode == 0, done.stdout
        out.append(done.stdout)
    compiled, interpreted = out
    assert compiled.startswith("True\n") and interpreted.startswith("False\n")
    return compiled[5:], interpreted[6:]


def test_both_builds_give_one_digest() -> None:
    """The same tape or seed, the same trace, and the same places in the programs."""
    compiled, interpreted = runs(DIGESTS)
    assert compiled == interpreted


def test_both_builds_tell_one_story() -> None:
    """Failures, their explanations, who sleeps where without a trace, and what a program's exception shows."""
    compiled, interpreted = runs(STORIES)
    assert compiled == interpreted
    for place in ("child (pid 2) sleeps in recv(3)", "handler_sleeps (pid 3) sleeps in read(3)", "wakes (pid 4) sleeps in recv(3)"):
        assert place in interpreted
