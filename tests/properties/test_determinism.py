"""The same choices give the same trace: in one process, in others, from a tape and from the recording of another source."""

import subprocess
import sys as python

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers import epoll_et_echo, prefork_echo, threads_echo
from simkernel import Choice, Recording, Seeded, Tape, Trace
from simkernel.api import Syscalls
from simkernel.kernel.machine import Kernel
from simkernel.uapi import AF_INET, MSG_NOSIGNAL, SHUT_WR, SOCK_STREAM

SERVERS = {"edge": epoll_et_echo, "prefork": prefork_echo, "threads": threads_echo}


def client(sys: Syscalls, size: int) -> None:
    fd = sys.socket(AF_INET, SOCK_STREAM)
    sys.connect(fd, ("127.0.0.1", 9000))
    sys.send(fd, bytes(size), MSG_NOSIGNAL)
    sys.nanosleep(1000 * size)
    sys.shutdown(fd, SHUT_WR)
    while sys.recv(fd, 1000):
        pass


def digest(choice: Choice, name: str = "threads") -> str:
    """The digest of a run with processes, threads, sleeps, sockets and epoll in it."""

    def main(sys: Syscalls) -> None:
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(listener, ("127.0.0.1", 9000))
        sys.listen(listener, 16)
        stop = sys.eventfd()
        sys.spawn(SERVERS[name].serve, listener, stop)
        for pid in [sys.spawn(client, size) for size in (1, 100, 3000)]:
            assert sys.waitpid(pid)[1] == 0
        sys.write(stop, (1).to_bytes(8, "little"))
        sys.waitpid(-1)

    trace = Trace()
    Kernel(choice, trace).run(main)
    assert len(trace) > 100
    return trace.digest()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tape=st.binary(max_size=256), name=st.sampled_from(sorted(SERVERS)))
def test_the_same_tape_gives_the_same_trace(tape: bytes, name: str) -> None:
    assert digest(Tape(tape), name) == digest(Tape(tape), name)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**64), name=st.sampled_from(sorted(SERVERS)))
def test_a_recording_replays(seed: int, name: str) -> None:
    recording = Recording(Seeded(seed))
    seen = digest(recording, name)
    assert digest(Tape(recording.tape()), name) == seen


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tape=st.binary(max_size=400), name=st.sampled_from(sorted(SERVERS)))
def test_a_tape_that_is_spent_is_one_of_zeros(tape: bytes, name: str) -> None:
    """Whoever is spent is not asked any more, and that is all the difference."""
    assert not Tape(tape + b"\0").spent() and Tape(b"").spent()
    assert digest(Tape(tape), name) == digest(Tape(tape + bytes(10_000)), name)


def test_other_choices_give_other_traces() -> None:
    """Or the tests above would say nothing."""
    assert len({digest(Seeded(seed)) for seed in range(20)}) == 20


TAPES = [b"", b"\1" * 200, bytes(range(256)), bytes(range(255, -1, -1)), b"\0\3\1" * 80]

PROGRAM = """
from tests.properties.test_determinism import SERVERS, TAPES, digest
from simkernel import Tape
print([digest(Tape(tape), name) for tape in TAPES for name in sorted(SERVERS)])
"""


def test_the_same_in_every_process() -> None:
    """Neither the seed of str's hash nor the addresses of objects matter."""
    here = str([digest(Tape(tape), name) for tape in TAPES for name in sorted(SERVERS)])
    for seed in ("1", "2"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p for p in python.path if p) or "."}
        done = subprocess.run([python.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == here
