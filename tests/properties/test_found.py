"""Programs in which the two kernels once differed, found by the campaigns: shrunk, and named after what Linux does."""

from typing import Any

import pytest

from simkernel.conform.compare import on_linux, on_sim, play_calls
from simkernel.conform.program import Call, Program, Result
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    F_GETFL,
    F_SETFL,
    F_SETPIPE_SZ,
    FIONREAD,
    MSG_PEEK,
    MSG_WAITALL,
    O_DIRECT,
    O_NONBLOCK,
    SHUT_RD,
    SHUT_WR,
    SO_RCVLOWAT,
    SO_REUSEPORT,
    SO_SNDBUF,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

TCP = "socket", AF_INET, SOCK_STREAM | SOCK_NONBLOCK
UNIX = "socket", AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK
PAIR = "socketpair", AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK
PIPE = "pipe2", O_NONBLOCK
PACKETS = "pipe2", O_NONBLOCK | O_DIRECT
EVENTFD = "eventfd", 1, O_NONBLOCK
EPOLL = "epoll_create1", 0
ANY = "127.0.0.1", 0


def watch(ep: int, fd: int, events: int) -> Any:
    return "epoll_ctl", ep, EPOLL_CTL_ADD, fd, events, None


def wait(ep: int) -> Any:
    return "epoll_wait", ep, 8, 0


FOUND: dict[str, list[Call]] = {
    # pipes
    "a short read loses the rest of a packet": [
        PACKETS,
        ("write", 4, 70_000),
        ("readv", 3, [65_536, 10]),
        ("read", 3, 1),
        ("read", 3, 5000),
    ],
    "O_DIRECT is of the writing end": [PACKETS, ("fcntl", 3, F_GETFL, 0), ("fcntl", 4, F_GETFL, 0)],
    "O_DIRECT is for pipes alone": [EVENTFD, ("fcntl", 3, F_SETFL, O_NONBLOCK | O_DIRECT)],
    "a write that fails is an edge for readers": [
        PIPE,
        EPOLL,
        watch(5, 3, EPOLLIN | EPOLLET),
        ("write", 4, 70_000),
        wait(5),
        ("write", 4, 1),
        wait(5),
    ],
    "F_SETPIPE_SZ is an edge for writers": [
        PIPE,
        EPOLL,
        watch(5, 4, EPOLLOUT | EPOLLET),
        wait(5),
        ("fcntl", 4, F_SETPIPE_SZ, 65_536),
        wait(5),
    ],
    # files
    "FIONREAD of an epoll is EINVAL": [EPOLL, ("ioctl", 3, FIONREAD)],
    "select leaves the bits beyond the fd table": [
        EVENTFD,
        ("select", [3], [], [999], 0),
        ("select", [], [999], [], 0),
        ("select", [60], [], [], 0),
    ],
    "writev to an eventfd is a write for each buffer": [
        EVENTFD,
        ("writev", 3, [8, 8, 3]),
        ("writev", 3, [0, 8]),
        ("writev", 3, []),
        ("readv", 3, []),
    ],
    # epoll
    "an epoll wakes those that watch it for IN alone": [
        *(EPOLL, EPOLL, PIPE, watch(4, 3, EPOLLRDNORM | EPOLLET), ("write", 6, 1), watch(3, 5, EPOLLOUT)),
        *(("epoll_ctl", 3, EPOLL_CTL_MOD, 5, EPOLLIN, None), wait(4), wait(3)),
    ],
    # AF_UNIX
    "SO_SNDBUF is an edge for unix writers": [
        PAIR,
        EPOLL,
        watch(5, 3, EPOLLOUT | EPOLLET),
        wait(5),
        ("setsockopt", 3, SOL_SOCKET, SO_SNDBUF, 99_999),
        wait(5),
    ],
    "accept on a unix listener that was shut down is EAGAIN": [
        UNIX,
        ("bind", 3, ("name", 1)),
        ("listen", 3, 1),
        ("shutdown", 3, SHUT_RD),
        ("accept4", 3),
    ],
    "a short read takes the error too": [
        PAIR,
        ("write", 3, 1),
        ("write", 4, 1),
        ("setsockopt", 4, SOL_SOCKET, SO_RCVLOWAT, 5),
        ("close", 3),
        ("recv", 4, 3),
    ],
    "peeking doesn't wait for more, nor take the error": [
        PAIR,
        ("send", 4, 4096),
        ("send", 3, 1),
        ("close", 3),
        ("recv", 4, 9999, MSG_PEEK | MSG_WAITALL),
    ],
    "a second autobind does nothing": [UNIX, ("bind", 3, ("name", 1)), ("bind", 3, ""), ("bind", 3, ("name", 2))],
    "AF_UNIX has no SO_REUSEPORT": [UNIX, ("setsockopt", 3, SOL_SOCKET, SO_REUSEPORT, 1), ("setsockopt", 3, SOL_SOCKET, SO_REUSEPORT, 0)],
    "an address of another family": [
        UNIX,
        TCP,
        ("connect", 3, ANY),
        ("bind", 3, ANY),
        ("connect", 4, ("name", 1)),
        ("bind", 4, ("name", 1)),
        ("bind", 4, b"\0"),
    ],
    # TCP
    "SHUT_RD before connect stays": [TCP, ("listen", 3, 1), TCP, ("shutdown", 4, SHUT_RD), ("connect", 4, ("of", 3))],
    "SHUT_WR before listen ends each connection": [
        TCP,
        ("shutdown", 3, SHUT_WR),
        ("listen", 3, 1),
        TCP,
        ("connect", 4, ("of", 3)),
        ("accept4", 3),
        ("send", 5, 1),
    ],
    "SHUT_WR before a self-connect ends it": [
        TCP,
        ("bind", 3, ANY),
        ("shutdown", 3, SHUT_WR),
        ("connect", 3, ("of", 3)),
        ("connect", 3, ("of", 3)),
    ],
    "a refused socket can be bound": [
        TCP,
        TCP,
        ("bind", 4, ANY),
        ("connect", 3, ("of", 4)),
        ("bind", 3, ANY),
        ("connect", 3, ("of", 4)),
        ("getsockname", 3),
    ],
    "getsockname tells a port that was given back": [
        TCP,
        TCP,
        ("bind", 4, ANY),
        ("connect", 3, ("of", 4)),
        ("connect", 3, ("of", 4)),
        ("getsockname", 3),
    ],
    "the failure of connect is an edge": [
        TCP,
        TCP,
        ("bind", 4, ANY),
        EPOLL,
        watch(5, 3, EPOLLET),
        ("connect", 3, ("of", 4)),
        wait(5),
        ("connect", 3, ("of", 4)),
        wait(5),
    ],
    "who connects is woken before who listens": [
        *(EPOLL, TCP, ("listen", 4, 1), watch(3, 4, EPOLLIN | EPOLLET), TCP, watch(3, 5, EPOLLOUT | EPOLLET), wait(3)),
        *(("connect", 5, ("of", 4)), wait(3)),
    ],
    "SO_RCVLOWAT looks again": [
        *(
            TCP,
            ("listen", 3, 1),
            TCP,
            ("connect", 4, ("of", 3)),
            ("accept4", 3),
            EPOLL,
            watch(6, 4, EPOLLIN | EPOLLET),
            ("close", 5),
            wait(6),
        ),
        *(("setsockopt", 4, SOL_SOCKET, SO_RCVLOWAT, 1), wait(6)),
    ],
}


@pytest.fixture(scope="module")
def linux() -> dict[str, list[Result]]:
    return dict(zip(FOUND, on_linux(play_calls, [Program(tuple(calls)) for calls in FOUND.values()]), strict=True))


@pytest.mark.parametrize("name", FOUND, ids=[name.replace(" ", "-") for name in FOUND])
def test_found(name: str, linux: dict[str, list[Result]]) -> None:
    assert on_sim(play_calls, Program(tuple(FOUND[name]))) == linux[name]
