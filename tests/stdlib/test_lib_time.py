"""An hour of virtual time: exactly an hour to whoever sleeps, next to nothing in front of the screen."""

import asyncio
import threading
import time

import pytest

pytest.importorskip("trio")
pytest.importorskip("anyio")

import anyio
import trio

import simkernel.asyncio
import simkernel.trio
from simkernel.stdlib.process import run_function

HOUR = 3600


async def asyncio_sleeps():
    began = time.monotonic_ns(), time.time_ns(), asyncio.get_running_loop().time()
    await asyncio.sleep(HOUR)
    return time.monotonic_ns() - began[0], time.time_ns() - began[1], asyncio.get_running_loop().time() - began[2]


async def trio_sleeps():
    began = time.monotonic_ns(), time.time_ns(), trio.current_time()
    await trio.sleep(HOUR)
    return time.monotonic_ns() - began[0], time.time_ns() - began[1], trio.current_time() - began[2]


async def anyio_sleeps():
    began = time.monotonic_ns(), time.time_ns(), anyio.current_time()
    await anyio.sleep(HOUR)
    return time.monotonic_ns() - began[0], time.time_ns() - began[1], anyio.current_time() - began[2]


def anyio_runs():
    return anyio.run(anyio_sleeps)


def time_sleeps():
    began = time.monotonic_ns(), time.time_ns(), time.perf_counter()
    time.sleep(HOUR)
    return time.monotonic_ns() - began[0], time.time_ns() - began[1], time.perf_counter() - began[2]


def threads_wait():
    began = time.monotonic_ns(), time.time_ns(), time.monotonic()
    assert not threading.Event().wait(HOUR)
    return time.monotonic_ns() - began[0], time.time_ns() - began[1], time.monotonic() - began[2]


RUNS = {
    "asyncio": lambda **options: simkernel.asyncio.run(asyncio_sleeps, **options),
    "trio": lambda **options: simkernel.trio.run(trio_sleeps, **options),
    "anyio on asyncio": lambda **options: run_function(anyio_runs, **options),
    "time.sleep": lambda **options: run_function(time_sleeps, **options),
    "threading": lambda **options: run_function(threads_wait, **options),
}


@pytest.mark.parametrize("name", RUNS)
def test_an_hour(name):
    monotonic, wall, clock = RUNS[name]()
    assert monotonic == wall
    assert clock == pytest.approx(monotonic / 1e9, abs=1e-6)
    assert monotonic == HOUR * 10**9


@pytest.mark.parametrize("name", ("asyncio", "trio", "time.sleep"))
def test_a_timer_may_be_late_but_never_early(name):
    for seed in range(5):
        monotonic, _, _ = RUNS[name](seed=seed)
        assert 0 <= monotonic - HOUR * 10**9 <= 2_000_000


def test_it_takes_next_to_no_real_time():
    RUNS["asyncio"]()
    began = time.process_time()
    for _ in range(24):
        RUNS["asyncio"]()
    # A day: seconds of processor time would mean that somebody counts it out.
    assert time.process_time() - began < 10
