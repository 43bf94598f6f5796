"""threading, queue, concurrent.futures and logging, across threads."""

import concurrent.futures
import io
import logging
import logging.handlers
import pickle
import queue
import socketserver
import struct
import threading
import time

import pytest

from tests.stdlib.both import both_ways


@both_ways
def test_queues():
    jobs: queue.Queue[int | None] = queue.Queue(2)
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    last: queue.PriorityQueue[int] = queue.PriorityQueue()

    def work() -> None:
        while (job := jobs.get(timeout=20)) is not None:
            done.put(job * job)
            last.put(-job)
            jobs.task_done()
        jobs.task_done()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(8):
        jobs.put(n, timeout=20)
    for _ in threads:
        jobs.put(None)
    jobs.join()
    for thread in threads:
        thread.join()
    assert sorted(done.get() for _ in range(8)) == [n * n for n in range(8)]
    assert [last.get() for _ in range(8)] == list(range(-7, 1))
    with pytest.raises(queue.Empty):
        jobs.get(timeout=0.01)


@both_ways
def test_futures():
    def work(n: int) -> int:
        time.sleep(0.001 * (5 - n))
        if n == 3:
            raise ValueError(n)
        return n

    with concurrent.futures.ThreadPoolExecutor(3, thread_name_prefix="pool") as pool:
        futures = {pool.submit(work, n): n for n in range(5)}
        first, _ = concurrent.futures.wait(futures, timeout=20, return_when=concurrent.futures.FIRST_COMPLETED)
        assert first
        ended = [futures[future] for future in concurrent.futures.as_completed(futures, timeout=20)]
        assert sorted(ended) == list(range(5))
        outcomes = {n: repr(future.exception()) for future, n in futures.items()}
        assert outcomes == {n: "ValueError(3)" if n == 3 else "None" for n in range(5)}
        slow = [pool.submit(time.sleep, 0.02) for _ in range(6)]
        pool.shutdown(cancel_futures=True)
        assert all(future.done() for future in slow)


@both_ways
def test_locks_conditions_barriers_and_timers():
    condition = threading.Condition()
    order: list[int] = []
    barrier = threading.Barrier(4, timeout=20)
    local = threading.local()
    rooms = threading.BoundedSemaphore(2)

    def enter(n: int) -> None:
        local.number = n
        barrier.wait()
        with rooms:
            time.sleep(0.001)
        with condition:
            condition.wait_for(lambda: len(order) == n, timeout=20)
            order.append(local.number)
            condition.notify_all()

    threads = [threading.Thread(target=enter, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    barrier.wait()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert order == [0, 1, 2]
    assert not hasattr(local, "number")
    fired = threading.Event()
    began = time.monotonic()
    threading.Timer(0.05, fired.set).start()
    assert fired.wait(20)
    assert round(time.monotonic() - began, 6) >= 0.05
    lock = threading.RLock()
    with lock, lock:
        assert not fired_by_another(lock)


def fired_by_another(lock) -> bool:
    """Whether another thread gets the lock within 10 ms."""
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(lock.acquire(timeout=0.01)))
    thread.start()
    thread.join()
    return got[0]


@both_ways
def test_an_exception_in_a_thread():
    seen = []
    was = threading.excepthook
    threading.excepthook = lambda args: seen.append((args.exc_type, args.thread.name))
    try:
        thread = threading.Thread(target=lambda: 1 / 0, name="divider")
        thread.start()
        thread.join()
    finally:
        threading.excepthook = was
    assert seen == [(ZeroDivisionError, "divider")]


@both_ways
def test_logging():
    """A queue between those who log and the one who writes."""
    text = io.StringIO()
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    target = logging.StreamHandler(text)
    target.setFormatter(logging.Formatter("%(threadName)s %(levelname)s %(message)s"))
    listener = logging.handlers.QueueListener(records, target)
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(logging.handlers.QueueHandler(records))

    def work(n: int) -> None:
        for i in range(3):
            logger.info("message %d of %d", i, n)
            logger.debug("not this")

    listener.start()
    threads = [threading.Thread(target=work, args=(n,), name=f"T{n}") for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listener.stop()
    lines = text.getvalue().splitlines()
    assert sorted(lines) == [f"T{n} INFO message {i} of {n}" for n in range(3) for i in range(3)]
    for n in range(3):
        assert [line for line in lines if line.startswith(f"T{n}")] == [f"T{n} INFO message {i} of {n}" for i in range(3)]


@both_ways
def test_logging_over_a_socket():
    """logging.handlers.SocketHandler and DatagramHandler, as the logging cookbook has it."""
    got: queue.Queue[str] = queue.Queue()

    class Receive(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(4):
                record = logging.makeLogRecord(pickle.loads(self.rfile.read(struct.unpack(">L", head)[0])))
                got.put(record.getMessage())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Receive) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        handler = logging.handlers.SocketHandler(*server.server_address)
        logger = logging.Logger("test")
        logger.addHandler(handler)
        logger.warning("%d green bottles", 10)
        logger.error("one fell")
        assert [got.get(timeout=20) for _ in range(2)] == ["10 green bottles", "one fell"]
        handler.close()
        server.shutdown()
        thread.join()
