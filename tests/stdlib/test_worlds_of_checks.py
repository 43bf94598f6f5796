"""Servers and tests on Python's own modules: who is taken into a world, what runs there, and whose lines are told."""

import asyncio
import dataclasses
import http.server
import json
import logging
import os
import pathlib
import random
import secrets
import selectors
import socket
import threading
import time
import uuid
from time import monotonic

import pytest

from servers import asyncio_echo, epoll_lt_echo, http_h11, selectors_echo, socketserver_echo, threads_echo, trio_echo
from simkernel.testing import Echo, check, listen, simulate
from simkernel.testing.simulate import Simulation
from simkernel.testing.worlds import needs_world

generator = random.Random(3)
log = logging.getLogger(__name__)


@dataclasses.dataclass
class Point:
    x: int = 0


class Waits:
    clock = time.monotonic

    def wait(self):
        time.sleep(1)


class Own(socket.socket):
    pass


def imports_inside():
    import trio  # noqa: PLC0415

    trio.run(None)


def imports_a_name_inside():
    from http.server import HTTPServer as Server  # noqa: PLC0415

    return Server


def imports_under_another_name():
    import http.client as client  # noqa: PLC0415

    return client.HTTPConnection


def closes_over(value):
    def function():
        return value()

    return function


USERS = [
    lambda: asyncio.run(None),
    lambda: time.monotonic(),
    lambda: monotonic(),
    lambda: Waits(),
    lambda: Own(),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: [None for _ in [threading.Event()]],
    lambda: os.read(0, 1),
    lambda: random.random(),
    lambda: http.server.HTTPServer(("", 0), None),
    lambda clock=time.time: clock(),
    secrets.token_hex,
    uuid.uuid4,
    imports_inside,
    imports_a_name_inside,
    imports_under_another_name,
    closes_over(selectors.DefaultSelector),
    asyncio_echo.serve,
    selectors_echo.serve,
    socketserver_echo.serve,
    trio_echo.serve,
]
OTHERS = [
    lambda: random.Random(5).random(),
    lambda: generator.random(),
    lambda: os.path.join("a", "b"),
    lambda: pathlib.Path("x").read_text(),
    lambda: log.info("x"),
    lambda: (Point(), json.dumps({}), time.gmtime(0)),
    closes_over(Point),
    epoll_lt_echo.serve,
    threads_echo.serve,
    http_h11.serve,
]


@pytest.mark.parametrize("function", USERS)
def test_what_needs_a_world(function):
    assert needs_world(function)


@pytest.mark.parametrize("function", OTHERS)
def test_what_needs_none(function):
    assert not needs_world(function)


def test_what_its_author_allows_is_no_reason():
    assert not needs_world(lambda: time.time(), ["time"])
    assert needs_world(lambda: (time.time(), time.sleep(1)), ["time"])


@simulate(examples=20)
def test_the_same_kernel_below_sockets_and_calls(sys):
    listener = listen(sys, ("127.0.0.1", 9000))
    with socket.create_connection(("127.0.0.1", 9000)) as client:
        fd, _ = sys.accept4(listener)
        client.sendall(b"hello")
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            assert selector.select()
        assert sys.recv(fd, 5, socket.MSG_WAITALL) == b"hello"
    began = time.monotonic()
    time.sleep(60)
    assert 60 <= time.monotonic() - began < 61
    sys.close(fd)
    sys.close(listener)


def broken(sys):
    with socket.create_server(("127.0.0.1", 9000)) as server, socket.create_connection(("127.0.0.1", 9000)) as client:
        conn, _ = server.accept()
        client.sendall(b"hello")
        assert conn.recv(3) == b"hello"


def test_the_lines_that_are_told_are_the_tests_own():
    simulated = simulate(examples=1)(broken)
    simulation = simulated.simulation
    assert isinstance(simulation, Simulation)
    with pytest.raises(AssertionError, match=r"assert b'hel' == b'hello'") as caught:
        simulated()
    trace = caught.value.simkernel_failure.trace
    places = {record["fn"]: record["at"].rpartition("/")[2] for record in trace.records() if record["ev"] == "sys_enter"}
    first = broken.__code__.co_firstlineno
    assert places["bind"] == places["connect"] == f"test_worlds_of_checks.py:{first + 1}"
    assert places["accept4"] == f"test_worlds_of_checks.py:{first + 2}"
    assert places["recv"] == f"test_worlds_of_checks.py:{first + 4}"


def test_selectors_are_checked_as_calls_are():
    report = check(selectors_echo.serve, Echo(), examples=40)
    assert report.ok, report.failure


def never_answers(sys, listener, stop):
    with socket.socket(fileno=os.dup(listener)) as own:
        conn, _ = own.accept()
        conn.recv(100)
        print("got it")
        with selectors.DefaultSelector() as selector:
            selector.register(stop, selectors.EVENT_READ)
            selector.select()


def test_a_story_has_the_servers_lines_and_what_it_wrote():
    failure = check(never_answers, Echo(1, 1), examples=20).failure
    assert failure is not None and failure.kind == "hang"
    line = never_answers.__code__.co_firstlineno + 7
    text = "\n".join(failure.explanation)
    assert f"sleeps in epoll_wait(9), test_worlds_of_checks.py:{line}" in text
    assert text.endswith("the server wrote:\n  got it")
    assert not [said for said in failure.story() if "socket.py" in said]


def test_runs_of_one_seed_are_one_run():
    first, second = (check(selectors_echo.serve, Echo(), examples=30, seed=5) for _ in range(2))
    assert first.ok and first.covered == second.covered > 0
