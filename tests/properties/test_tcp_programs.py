"""Random programs of one task on a TCP connection: urgent data, flags, options, ioctls.

On the simulator with its own checks on and any order of delivery; and against real Linux, call by call, where nothing depends on time (what
MSG_MORE and TCP_CORK hold goes when acknowledgements come, so they are left out there).
"""

import random
from typing import Any

import pytest

import simkernel
import simkernel.linux
from simkernel.api import Syscalls
from simkernel.kernel.choice import Seeded
from simkernel.uapi import (
    FIONREAD,
    IPPROTO_TCP,
    MSG_EOR,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SIOCATMARK,
    SO_OOBINLINE,
    SO_RCVLOWAT,
    SOL_SOCKET,
    TCP_CORK,
    TCP_NODELAY,
)

from ..conformance.helpers import err, mask, nonblocking, tcp_pair

SEND = (0, 0, 0, MSG_OOB, MSG_OOB)
HELD = (MSG_MORE, MSG_MORE | MSG_OOB, MSG_EOR | MSG_MORE)
RECV = (
    *(0, 0, 0, MSG_OOB, MSG_OOB, MSG_PEEK, MSG_PEEK | MSG_OOB, MSG_TRUNC, MSG_WAITALL, MSG_TRUNC | MSG_PEEK, MSG_ERRQUEUE),
)  # fmt: skip
OPTIONS = ((SOL_SOCKET, SO_OOBINLINE), (SOL_SOCKET, SO_RCVLOWAT))
CORKS = ((IPPROTO_TCP, TCP_CORK), (IPPROTO_TCP, TCP_NODELAY))


def program(sys: Syscalls, seed: int, hold: bool) -> list[Any]:
    """Thirty calls of a seed, each with its result and what both ends look like after it."""
    rng = random.Random(seed)
    ends = tcp_pair(sys)
    nonblocking(sys, *ends)
    for fd in ends:
        sys.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, 1)
    log: list[Any] = []
    written = 0
    for _ in range(30):
        fd = rng.choice(ends)
        dice = rng.random()
        call: tuple[Any, ...] = ()
        if dice < 0.35:
            data = bytes((written + i) % 251 for i in range(rng.choice((0, 1, 1, 2, 3, 5, 9))))
            written += len(data)
            call = (sys.send, fd, data, rng.choice(SEND + HELD if hold else SEND))
        elif dice < 0.75:
            call = (sys.recvmsg, fd, rng.choice((0, 1, 2, 3, 5, 20)), 0, rng.choice(RECV))
        elif dice < 0.85:
            call = (sys.setsockopt, fd, *rng.choice(OPTIONS + CORKS if hold else OPTIONS), rng.choice((0, 1, 1, 3)))
        elif dice < 0.87:
            call = (sys.shutdown, fd, rng.choice((0, 1, 1)))
        result = err(*call) if call else None
        log.append((call[1:], result, [(mask(sys, end), sys.ioctl(end, FIONREAD), sys.ioctl(end, SIOCATMARK)) for end in ends]))
    sys.close(ends[0])
    log.append([mask(sys, ends[1]), *(err(sys.recv, ends[1], 100, flags) for flags in (0, MSG_OOB, 0))])
    return log


@pytest.mark.parametrize("seed", range(12))
def test_the_books_are_right(seed: int) -> None:
    """No check of the kernel's own fails, whatever the order of delivery and the cuts of segments."""
    for number in range(seed * 20, seed * 20 + 20):
        for hold in (False, True):
            simkernel.run(program, number, hold, debug=True)
            simkernel.run(program, number, hold, choice=Seeded(number), debug=True)


@pytest.mark.parametrize("seed", range(6))
def test_urgent_data_is_linux(seed: int) -> None:
    """Every call gives what it gives on Linux, and leaves the same masks, FIONREAD and SIOCATMARK."""
    for number in range(seed * 10, seed * 10 + 10):
        assert simkernel.run(program, number, False) == simkernel.linux.run(program, number, False)
