"""threading, queue, concurrent.futures and locks, as they are, on the threads of a fake machine."""

import concurrent.futures
import queue
import sys
import threading
import time
from typing import Any

import pytest

import simkernel
from simkernel.stdlib.process import run_function


def test_threads_have_the_same_names_in_every_run() -> None:
    def main() -> list[str]:
        threads = [threading.Thread(target=lambda: None) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            names = list(pool.map(lambda _: threading.current_thread().name, range(1)))
        return [threading.current_thread().name, *names, *(thread.name for thread in threads)]

    first = run_function(main)
    assert first[0] == "MainThread"
    assert first[1] == "ThreadPoolExecutor-0_0"
    assert first[2] == "Thread-1 (<lambda>)"
    assert [run_function(main) for _ in range(3)] == [first] * 3


def test_a_queue_between_threads() -> None:
    def main() -> list[int]:
        q: queue.Queue[int] = queue.Queue(2)
        got: list[int] = []

        def consumer() -> None:
            while (item := q.get()) >= 0:
                got.append(item)
                q.task_done()
            q.task_done()

        thread = threading.Thread(target=consumer)
        thread.start()
        for i in range(20):
            q.put(i)
        q.put(-1)
        q.join()
        thread.join()
        return got

    for seed in (None, *range(10)):
        assert run_function(main, seed=seed) == list(range(20))


def test_a_limit_passes_in_virtual_time() -> None:
    def main() -> list[object]:
        lock = threading.Lock()
        lock.acquire()
        out: list[object] = [lock.acquire(timeout=3600), lock.acquire(False), lock.acquire(True, 0)]
        out.append(threading.Event().wait(86400))
        try:
            queue.Queue().get(timeout=5)
        except queue.Empty:
            out.append("empty")
        return out

    assert run_function(main) == [False, False, False, False, "empty"]


def test_each_schedule_is_found_and_is_the_same_again() -> None:
    """Another thread may go first at each lock, so a counter that is read under one lock and written under the next loses counts."""

    def main() -> int:
        lock = threading.Lock()
        count = 0

        def add() -> None:
            nonlocal count
            for _ in range(5):
                with lock:
                    seen = count
                with lock:
                    count = seen + 1

        threads = [threading.Thread(target=add) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count

    assert run_function(main) == 15
    counts = [run_function(main, seed=seed) for seed in range(30)]
    assert min(counts) < 15
    assert counts == [run_function(main, seed=seed) for seed in range(30)]


def test_the_order_of_two_locks() -> None:
    """Each thread holds what the other wants; the report names both, and the lines at which they wait."""

    def main() -> None:
        a, b = threading.Lock(), threading.Lock()

        def worker(first: Any, second: Any) -> None:
            with first:
                time.sleep(0.001)
                with second:
                    pass

        threads = [threading.Thread(target=worker, args=locks) for locks in ((a, b), (b, a))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with pytest.raises(simkernel.Deadlock) as caught:
        run_function(main)
    report = "\n".join(caught.value.__notes__)
    assert "futex_wait" in report


def test_an_exception_in_a_thread_goes_to_its_excepthook(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> list[str]:
        seen: list[str] = []
        thread = threading.Thread(target=lambda: 1 / 0, name="one")
        thread.start()
        thread.join()
        threading.excepthook = lambda args: seen.append(f"{args.thread.name} {args.exc_type.__name__}")
        thread = threading.Thread(target=lambda: [].pop(), name="two")
        thread.start()
        thread.join()
        return seen

    assert run_function(main) == ["two IndexError"]
    err = capsys.readouterr().err
    assert "Exception in thread one:" in err
    assert "ZeroDivisionError" in err
    # The hook was that process's.
    assert run_function(main) == ["two IndexError"]


def test_daemons_end_with_the_process_and_others_are_waited_for() -> None:
    out: list[str] = []

    def main(out: list[str]) -> None:
        def daemon() -> None:
            while True:
                time.sleep(1)

        def other() -> None:
            time.sleep(3)
            out.append("done")

        threading.Thread(target=daemon, daemon=True).start()
        threading.Thread(target=other).start()

    run_function(main, out)
    assert out == ["done"]


def test_thread_local_data() -> None:
    def main() -> list[object]:
        class Mine(threading.local):
            kind = "class"

            def __init__(self, start: int) -> None:
                self.n = start

        mine = Mine(7)
        mine.n += 1
        seen: list[object] = []

        def body(add: int) -> None:
            mine.n += add
            time.sleep(0.01)
            seen.append((mine.n, sorted(vars(mine))))

        threads = [threading.Thread(target=body, args=(i,)) for i in (10, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [*seen, mine.n, mine.kind]

    assert run_function(main) == [(17, ["n"]), (27, ["n"]), 8, "class"]


def test_real_threads_are_as_they_were() -> None:
    before = threading.active_count(), threading.main_thread(), sys.get_asyncgen_hooks()
    run_function(lambda: None)
    assert before == (threading.active_count(), threading.main_thread(), sys.get_asyncgen_hooks())


def test_a_flag_that_is_asked_for_all_the_time() -> None:
    """Whoever spins on a lock, or on a flag below it, gives way, and the time that the other one sleeps passes."""

    def main(kind: str) -> str:
        lock = threading.Lock()
        held = threading.Lock()
        held.acquire()
        done = False

        def body() -> None:
            nonlocal done
            time.sleep(10)
            with lock:
                done = True
            held.release()

        threading.Thread(target=body).start()
        if kind == "flag":
            while True:
                with lock:
                    if done:
                        return "done"
        while not held.acquire(False):
            pass
        return "acquired"

    assert run_function(main, "flag") == "done"
    assert run_function(main, "try") == "acquired"


def test_a_spin_that_nobody_ends() -> None:
    def main() -> None:
        lock = threading.Lock()
        lock.acquire()
        while not lock.acquire(False):
            pass

    with pytest.raises(simkernel.Livelock):
        run_function(main)
