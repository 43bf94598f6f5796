"""Ctrl-C and signals in programs: asyncio, trio, threads, a server that is told to stop."""

import asyncio
import os
import selectors
import signal
import threading
import time

import pytest
import trio

import simkernel
from simkernel.stdlib.here import here
from simkernel.stdlib.process import run_function


def later(seconds, *signums):
    """Another process sends this one signals, a tenth of a second apart."""
    me = os.getpid()

    def body(sys):
        sys.nanosleep(int(seconds * 1e9))
        for signum in signums:
            sys.kill(me, signum)
            sys.nanosleep(100_000_000)

    here.sys.spawn(body)


# --- asyncio ---
async def asyncio_handlers():
    loop = asyncio.get_running_loop()
    got: asyncio.Queue = asyncio.Queue()
    for signum in (signal.SIGTERM, signal.SIGUSR1):
        loop.add_signal_handler(signum, got.put_nowait, (signum.name))
    later(1, signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1)
    log = [(await got.get(), round(loop.time(), 2)) for _ in range(3)]
    log.append(loop.remove_signal_handler(signal.SIGTERM))
    log.append(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
    return log


def run_asyncio_handlers():
    return asyncio.run(asyncio_handlers())


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_asyncio_signal_handlers(seed):
    assert run_function(run_asyncio_handlers, seed=seed) == [("SIGUSR1", 1.0), ("SIGTERM", 1.1), ("SIGUSR1", 1.2), True, True]


async def asyncio_sleeps(log):
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        log.append(("cancelled", asyncio.get_running_loop().time()))
        raise


def asyncio_interrupted():
    log = []
    later(2, signal.SIGINT)
    try:
        asyncio.run(asyncio_sleeps(log))
    except KeyboardInterrupt:
        log.append("KeyboardInterrupt")
    return log


def test_ctrl_c_cancels_the_main_task_of_asyncio():
    assert run_function(asyncio_interrupted) == [("cancelled", 2.0), "KeyboardInterrupt"]


# --- trio ---
async def trio_receiver():
    log = []
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        later(1, signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1)
        async for signum in signals:
            log.append((signal.Signals(signum).name, round(time.monotonic(), 2)))
            if len(log) == 3:
                break
    log.append(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
    return log


def run_trio_receiver():
    return trio.run(trio_receiver)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_trio_signal_receiver(seed):
    assert run_function(run_trio_receiver, seed=seed) == [("SIGUSR1", 1.0), ("SIGTERM", 1.1), ("SIGUSR1", 1.2), True]


def trio_interrupted():
    log = []

    async def main():
        try:
            await trio.sleep(100)
        finally:
            log.append(("end", trio.current_time() > 0, time.monotonic()))

    later(2, signal.SIGINT)
    try:
        trio.run(main)
    except KeyboardInterrupt:
        log.append("KeyboardInterrupt")
    return log


def test_ctrl_c_in_trio():
    assert run_function(trio_interrupted) == [("end", True, 2.0), "KeyboardInterrupt"]


# --- plain programs ---
def selector_interrupted():
    later(3, signal.SIGINT)
    with selectors.DefaultSelector() as selector:
        r, _w = os.pipe()
        selector.register(r, selectors.EVENT_READ)
        try:
            selector.select()
        except KeyboardInterrupt as error:
            return time.monotonic(), error.__context__
    return None


def test_ctrl_c_in_a_selector():
    assert run_function(selector_interrupted) == (3.0, None)


def lock_interrupted():
    """Ctrl-C while the main thread waits for another one."""
    later(3, signal.SIGINT)
    log = []
    thread = threading.Thread(target=lambda: (time.sleep(10), log.append(("thread", time.monotonic()))))
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        log.append(("main", time.monotonic()))
    # (A second join would not wait: CPython takes the thread for stopped.)
    time.sleep(20)
    return log


def test_ctrl_c_while_a_thread_is_waited_for():
    assert run_function(lock_interrupted) == [("main", 3.0), ("thread", 10.0)]


def queue_goes_on():
    """A handler that does not raise ends no wait for a lock, an event or a condition; they keep their time."""
    log = []
    signal.signal(signal.SIGUSR1, lambda signum, frame: log.append(time.monotonic()))
    later(1, signal.SIGUSR1)
    log.append(threading.Event().wait(5))
    log.append(time.monotonic())
    later(1, signal.SIGUSR1)
    lock = threading.Lock()
    lock.acquire()
    log.append(lock.acquire(timeout=5))
    log.append(time.monotonic())
    return log


def test_waits_go_on_after_a_handler():
    assert run_function(queue_goes_on) == [1.0, False, 5.0, 6.0, False, 10.0]


def ignores_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    later(1, signal.SIGINT)
    time.sleep(3)
    return time.monotonic()


def test_ctrl_c_ignored():
    assert run_function(ignores_it) == 3.0


def dies_of_it():
    pid = here.sys.spawn(lambda sys: sys.nanosleep(10**12))
    time.sleep(1)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic()


def test_a_child_that_is_ended():
    assert run_function(dies_of_it) == (-signal.SIGTERM, 1.0)


@pytest.mark.parametrize("function", [run_asyncio_handlers, run_trio_receiver, asyncio_interrupted, lock_interrupted])
@pytest.mark.parametrize("seed", [1, 2])
def test_one_digest_a_seed(function, seed):
    def digest():
        trace = simkernel.Trace()
        run_function(function, seed=seed, trace=trace)
        return trace.digest()

    assert digest() == digest()
