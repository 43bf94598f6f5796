"""Each use of the real world inside a simulated run is seen, with its line; outside of runs nothing is patched."""

import asyncio
import dataclasses
import datetime
import gc
import logging
import os
import pickle
import queue
import random
import secrets
import select
import signal
import socket
import subprocess
import threading
import time
import uuid
from datetime import date
from datetime import datetime as dt
from time import monotonic
from time import sleep as nap

import pytest

import simkernel
from simkernel.errors import Escape, UsageError
from simkernel.testing import check, no_escape
from simkernel.testing.escapes import KINDS

ESCAPES = {
    "time": [
        lambda: time.time(),
        lambda: time.monotonic_ns(),
        lambda: time.perf_counter(),
        lambda: monotonic(),
        lambda: time.clock_gettime(time.CLOCK_REALTIME),
        lambda: time.localtime(),
        lambda: time.strftime("%Y"),
        lambda: time.ctime(),
        lambda: datetime.datetime.now(),
        lambda: datetime.datetime.now(datetime.UTC),
        lambda: datetime.date.today(),
        lambda: dt.utcnow(),
        lambda: dt.today(),
        lambda: date.today(),
        lambda: by_default(),
        lambda: by_keyword(),
        lambda: in_closure(),
        lambda: Clocked().now(),
        lambda: Clocked.wall(),
        lambda: Clocked().read(),
        lambda: Stamped(),
        lambda: current(),
    ],
    "sleep": [lambda: time.sleep(0.001), lambda: nap(0.001)],
    "random": [
        lambda: random.random(),
        lambda: random.shuffle([1, 2]),
        lambda: random.Random(),
        lambda: random.seed(),
        lambda: os.urandom(1),
        uuid.uuid4,
        secrets.token_hex,
    ],
    "socket": [socket.socket, socket.socketpair, lambda: socket.getaddrinfo("127.0.0.1", 80)],
    "select": [lambda: select.select([], [], [], 0), lambda: select.poll(), lambda: select.epoll(), asyncio.new_event_loop],
    "fd": [lambda: os.read(0, 1), lambda: os.write(99, b"x"), lambda: os.close(99), lambda: os.pipe(), lambda: os.eventfd(0)],
    "lock": [lambda: queue.Queue().get(timeout=1), lambda: threading.Event().wait(), lambda: _twice(threading.Lock())],
    "thread": [lambda: threading.Thread(target=print).start()],
    "process": [lambda: os.fork(), lambda: subprocess.run(["true"]), lambda: os.system("true"), lambda: os.kill(os.getpid(), 0)],
    "signal": [lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL), lambda: signal.alarm(0)],
}
HARMLESS = [
    lambda: random.Random(3).random(),
    lambda: random.seed(3),
    lambda: logging.getLogger("x").warning("%s", "a line in a log has the real time"),
    lambda: os.write(2, b""),
    lambda: queue.Queue().put(1),
    lambda: time.strftime("%Y", (2000, 1, 1, 0, 0, 0, 0, 1, 0)),
    lambda: os.strerror(1),
    lambda: time.gmtime(0),
    lambda: dt(2000, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(1),
    lambda: dt.fromtimestamp(0, datetime.UTC),
    lambda: date.fromisoformat("2000-01-01"),
    lambda: dt.strptime("2000", "%Y"),
]
current = dt.now


def by_default(clock=time.monotonic):
    return clock()


def by_keyword(*, stamp=dt):
    return stamp.now()


def _kept(clock):
    def call():
        return clock()

    return call


in_closure = _kept(time.time_ns)


class Clocked:
    now = time.monotonic
    wall = staticmethod(time.time)

    def read(self, clock=monotonic):
        return clock()


@dataclasses.dataclass
class Stamped:
    at: datetime.datetime = dataclasses.field(default_factory=dt.now)


def _twice(lock):
    lock.acquire()
    lock.acquire()


def escaping(function, allow_real=()):
    with no_escape(allow_real):
        return simkernel.run(lambda sys: function())


CASES = [pytest.param(kind, function, id=f"{kind}-{i}") for kind, functions in ESCAPES.items() for i, function in enumerate(functions)]


# A loop that could not be made complains when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(("kind", "function"), CASES)
def test_an_escape_is_seen(kind, function):
    def called():
        function()

    with pytest.raises(Escape, match=r"inside a simulated run, at test_escapes.py:\d+ in "):
        escaping(called)
    gc.collect()


def test_every_kind_has_a_case():
    assert set(ESCAPES) == set(KINDS)


def test_the_line_is_the_programs():
    def program(sys):
        time.sleep(0)

    with no_escape(), pytest.raises(Escape) as caught:
        simkernel.run(program)
    assert f"test_escapes.py:{program.__code__.co_firstlineno + 1} in program: use sys.nanosleep(ns)" in str(caught.value)


@pytest.mark.parametrize("function", HARMLESS)
def test_what_is_no_escape(function):
    escaping(function)


def test_an_escape_that_is_caught_ends_the_run_all_the_same():
    def caught():
        try:
            time.time()
        except Exception:
            pass

    with pytest.raises(Escape):
        escaping(caught)


BEFORE = dt(2000, 1, 1)


def test_dates_are_what_they_are():
    class Own(dt):
        pass

    def main(sys):
        made = dt(2001, 2, 3, 4, 5, 6, 7)
        assert isinstance(BEFORE, dt) and isinstance(BEFORE, date) and isinstance(made, datetime.datetime)
        assert not isinstance(date(2000, 1, 1), dt) and not isinstance(3, date)
        assert issubclass(dt, date) and issubclass(Own, dt) and not issubclass(date, dt)
        assert type(made) == dt and {dt: "here"}[type(made)] == "here"  # noqa: E721
        assert type(made) is type(BEFORE) is type(made + datetime.timedelta(1)) is type(dt.fromtimestamp(0))
        assert pickle.loads(pickle.dumps([made, date(2000, 1, 1)])) == [made, date(2000, 1, 1)]
        assert dt.max.year == 9999 and dt.combine(date(2001, 2, 3), made.time()) == made
        assert type(Own(2001, 2, 3)) is Own

        class Inner(dt):
            pass

        assert type(Inner(2001, 2, 3)) is Inner and isinstance(Inner(2001, 2, 3), dt)
        return made

    with no_escape():
        made = simkernel.run(main)
        # The test itself is not simulated.
        assert type(dt.now()) is type(BEFORE)
    assert type(made) is dt is datetime.datetime is type(BEFORE)


def test_all_is_put_back():
    def bound():
        return (
            *(dt, date, datetime, current, monotonic, time.localtime),
            *(by_default.__defaults__, by_keyword.__kwdefaults__, in_closure.__closure__[0].cell_contents),
            *(vars(Clocked)["now"], vars(Clocked)["wall"], Clocked.read.__defaults__),
        )

    before = bound()
    with no_escape():
        assert not any(now is then for now, then in zip(bound(), before, strict=True))
    assert all(now is then for now, then in zip(bound(), before, strict=True))
    assert Stamped().at <= dt.now() and Clocked.wall() > 0 and by_default() > 0


def test_a_class_that_refuses_is_left_alone():
    escaping(lambda: Frozen.clock)


class Refusing(type):
    def __setattr__(cls, name, value):
        raise AttributeError(name)


class Frozen(metaclass=Refusing):
    clock = time.monotonic


def test_a_lock_that_another_task_holds():
    def main(sys):
        lock = threading.RLock()

        def holder(sys):
            with lock:
                sys.nanosleep(1)

        sys.thread(holder)
        sys.nanosleep(0)
        with lock:
            pass

    with no_escape(), pytest.raises(Escape, match="that another task holds"):
        simkernel.run(main)


def test_locks_that_nobody_waits_for():
    def main(sys):
        lock, again = threading.Lock(), threading.RLock()
        with lock, again, again:
            assert lock.locked() and not lock.acquire(False)
        condition = threading.Condition()
        with condition:
            condition.notify_all()
        return lock.locked()

    with no_escape():
        assert simkernel.run(main) is False


def test_an_author_may_allow_it():
    assert escaping(lambda: time.time() > 0, ["time"])
    assert escaping(lambda: (time.time(), random.random()), True)
    with pytest.raises(Escape):
        escaping(lambda: random.random(), "time")
    with pytest.raises(UsageError, match="there is no kind 'clock'"):
        escaping(time.time, ["clock"])


OWNERS = (time, random, os, select, signal, threading)


def test_nothing_is_patched_outside():
    before = [dict(vars(module)) for module in OWNERS], monotonic, nap
    seen = []
    with no_escape():
        assert time.monotonic is not before[0][0]["monotonic"] and monotonic is not before[1]
        # The check's own code, and other threads.
        time.sleep(0)
        thread = threading.Thread(target=lambda: seen.append(time.time()))
        thread.start()
        thread.join()
        with no_escape("time"):
            pass
        with pytest.raises(Escape):
            simkernel.run(lambda sys: time.time())
    assert ([dict(vars(module)) for module in OWNERS], monotonic, nap) == before
    assert seen
    # Without no_escape a run is left alone.
    assert simkernel.run(lambda sys: time.time()) > 0


def test_check_and_the_fixtures_are_guarded(kernel):
    kept = [socket.socket]

    def serve(sys, listener, stop):
        kept[0]()

    with pytest.raises(Escape, match=r"the real socket.socket .* in serve"):
        check(serve, examples=3)
    with pytest.raises(Escape):
        kernel.run(lambda sys: random.random())


@pytest.mark.parametrize("world", ["sim"], indirect=True)
def test_the_world_is_guarded(world):
    with pytest.raises(Escape):
        world.run(lambda sys: time.time())
    assert world.run(lambda sys: time.time(), allow_real="time") > 0
