"""The servers agree on what they echo, on any tape."""

from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simkernel
from servers import blocking_echo, epoll_et_echo, epoll_lt_echo, poll_echo, prefork_echo, select_echo, threads_echo
from simkernel.api import Syscalls
from simkernel.uapi import AF_INET, MSG_NOSIGNAL, SHUT_WR, SO_LINGER, SOCK_STREAM, SOL_SOCKET
from tests.properties import CHOICES, source

PATTERN = b"".join((i * 2654435761 % 2**32).to_bytes(4, "little") for i in range(1 << 12))
Plan = tuple[int, int, str]

PLANS = st.lists(
    st.tuples(st.sampled_from([0, 1, 100, 1024, 1500, 5000]), st.sampled_from([1, 3]), st.sampled_from(["reads", "vanishes", "resets"])),
    min_size=1,
    max_size=5,
)


def client(sys: Syscalls, number: int, plan: Plan, out: dict[int, bytes]) -> None:
    """Say so many bytes so often, each time waiting for the echo; then go, politely or not."""
    size, times, end = plan
    fd = sys.socket(AF_INET, SOCK_STREAM)
    sys.connect(fd, ("127.0.0.1", 9000))
    heard = b""
    for turn in range(times):
        said = PATTERN[number * 7 + turn : number * 7 + turn + size]
        sent = 0
        while sent < len(said):
            sent += sys.send(fd, said[sent:], MSG_NOSIGNAL)
        if end == "vanishes":
            # With the echo unread: a reset, at a time that the tape chooses.
            sys.close(fd)
            return
        got = b""
        while len(got) < size:
            got += sys.recv(fd, 4096)
        heard += got
    if end == "resets":
        sys.setsockopt(fd, SOL_SOCKET, SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
    else:
        sys.shutdown(fd, SHUT_WR)
        assert sys.recv(fd, 1) == b""
    sys.close(fd)
    out[number] = heard


def echoed(module: ModuleType, choices: bytes | int, plans: list[Plan]) -> dict[int, bytes]:
    """What each client heard."""
    out: dict[int, bytes] = {}

    def main(sys: Syscalls) -> None:
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(listener, ("127.0.0.1", 9000))
        sys.listen(listener, 16)
        stop = sys.eventfd()
        server = sys.spawn(module.serve, listener, stop)
        pids = [sys.spawn(client, i, plan, out) for i, plan in enumerate(plans)]
        assert [sys.waitpid(pid)[1] for pid in pids] == [0] * len(pids)
        sys.write(stop, (1).to_bytes(8, "little"))
        assert sys.waitpid(server) == (server, 0)

    simkernel.run(main, choice=source(choices), max_stalled=2000)
    return out


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(choices=CHOICES, plans=PLANS)
def test_select_poll_level_and_edge_agree(choices: bytes | int, plans: list[Plan]) -> None:
    wanted = {
        i: b"".join(PATTERN[i * 7 + turn : i * 7 + turn + size] for turn in range(times))
        for i, (size, times, end) in enumerate(plans)
        if end != "vanishes"
    }
    for module in (select_echo, poll_echo, epoll_lt_echo, epoll_et_echo):
        assert echoed(module, choices, plans) == wanted


@pytest.mark.parametrize("module", [blocking_echo, prefork_echo, threads_echo], ids=["blocking", "prefork", "threads"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(choices=CHOICES, plans=PLANS)
def test_processes_and_threads_agree(module: ModuleType, choices: bytes | int, plans: list[Plan]) -> None:
    assert echoed(module, choices, plans) == echoed(epoll_lt_echo, choices, plans)
