"""threading, queue, concurrent.futures and locks, as they are, on the threads of a fake machine."""

import _thread
import asyncio
import concurrent.futures
import contextvars
import queue
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

import simkernel
from simkernel.kernel.trace import Trace
from simkernel.stdlib.process import run_function


def line_of(text: str) -> int:
    """The number of the one line of this file that is ``text``."""
    return Path(__file__).read_text().splitlines().index(text) + 1


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
    lines = "\n".join(caught.value.__notes__).splitlines()
    second = line_of("                with second:")
    assert lines[1:] == [
        f"  main (pid 1, thread {me}) sleeps in futex_wait() in lock.acquire, test_threads.py:{second}, for a lock that thread {other} "
        f"(Thread-{other - 1} (worker)) holds"
        for me, other in ((2, 3), (3, 2))
    ]
    assert lines[0].startswith("  main (pid 1) sleeps in futex_wait() in Thread.join, test_threads.py:")


def test_who_waits_for_itself() -> None:
    def main() -> None:
        queue.Queue().get()

    with pytest.raises(simkernel.Deadlock) as caught:
        run_function(main)
    (report,) = caught.value.__notes__
    assert "futex_wait() in Queue.get, test_threads.py:" in report
    assert report.endswith("for a lock that it took itself: another thread is to release it")


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


def test_two_event_loops_in_two_threads() -> None:
    """Each has its own hooks for asynchronous generators, and its own running loop."""

    def main() -> list[object]:
        out: list[object] = []

        async def numbers(name: str) -> Any:
            try:
                for i in range(3):
                    await asyncio.sleep(0.001)
                    yield i
            finally:
                # Closed by the loop that it belongs to, which awaits this.
                loop = asyncio.get_running_loop()
                await asyncio.sleep(0.001)
                out.append((name, loop is loops[name], asyncio.get_running_loop() is loop))

        loops: dict[str, Any] = {}

        async def body(name: str) -> None:
            loops[name] = asyncio.get_running_loop()
            agen = numbers(name)
            async for i in agen:
                if i == 1:
                    break
            hooks = sys.get_asyncgen_hooks()
            await asyncio.sleep(0.01)
            assert sys.get_asyncgen_hooks() == hooks
            assert hooks.firstiter.__self__ is loops[name]
            del agen
            await asyncio.sleep(0.01)

        threads = [threading.Thread(target=lambda name=name: asyncio.run(body(name))) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            assert sys.get_asyncgen_hooks() == (None, None)
            thread.join()
        return sorted(out)

    for seed in (None, 1, 2, 3):
        assert run_function(main, seed=seed) == [("a", True, True), ("b", True, True)]
    assert sys.get_asyncgen_hooks() == (None, None)


def test_what_an_event_loop_around_the_machine_has_set_is_not_the_machines() -> None:
    async def outer() -> Any:
        def main() -> object:
            return sys.get_asyncgen_hooks() == (None, None)

        hooks = sys.get_asyncgen_hooks()
        assert hooks != (None, None)
        assert run_function(main)
        return sys.get_asyncgen_hooks() == hooks

    assert asyncio.run(outer())


def test_contextvars_are_those_of_a_thread() -> None:
    def main() -> list[object]:
        var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="nothing")
        var.set("main")
        out: list[object] = []

        def body(name: str) -> None:
            out.append(var.get())
            var.set(name)
            time.sleep(0.01)
            out.append((name, var.get()))
            contextvars.copy_context().run(var.set, "inner")
            time.sleep(0.01)
            out.append((name, var.get()))

        threads = [threading.Thread(target=body, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [*out, var.get()]

    want = ["nothing", "nothing", ("a", "a"), ("b", "b"), ("a", "a"), ("b", "b"), "main"]
    assert run_function(main) == want


def test_a_trace_function_is_that_of_its_thread() -> None:
    """It sees what its thread does, also after others ran, and nothing of the machine."""

    def main() -> list[object]:
        calls: list[tuple[str, str]] = []

        def tracer(frame: Any, event: str, arg: object) -> Any:
            calls.append((threading.current_thread().name, frame.f_code.co_name))

        def seen() -> None:
            time.sleep(0.01)

        def unseen() -> None:
            time.sleep(0.01)

        def first() -> None:
            sys.settrace(tracer)
            seen()
            seen()
            assert sys.gettrace() is tracer
            sys.settrace(None)
            unseen()

        def second() -> None:
            for _ in range(5):
                unseen()
            assert sys.gettrace() is None

        threads = [threading.Thread(target=target, name=target.__name__) for target in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [call for call in calls if "seen" in call[1]] + [call for call in calls if call[0] == "second"]

    before = sys.gettrace()
    assert run_function(main) == [("first", "seen"), ("first", "seen")]
    assert sys.gettrace() is before


def test_current_frames() -> None:
    def main() -> list[tuple[bool, str]]:
        def body() -> None:
            time.sleep(1)

        thread = threading.Thread(target=body)
        thread.start()
        time.sleep(0.1)
        frames = sys._current_frames()
        return [(ident == threading.get_ident(), frame.f_code.co_name) for ident, frame in sorted(frames.items())]

    assert run_function(main) == [(True, "main"), (False, "body")]


def test_what_is_set_in_sys_is_as_before_after_the_run() -> None:
    def main() -> tuple[int, float]:
        sys.setrecursionlimit(5000)
        sys.setswitchinterval(1e-6)
        return sys.getrecursionlimit(), sys.getswitchinterval()

    before = sys.getrecursionlimit(), sys.getswitchinterval()
    assert run_function(main) == (5000, 1e-6)
    assert before == (sys.getrecursionlimit(), sys.getswitchinterval())


ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    (("x",), {}),
    ((None,), {}),
    ((True, -1.0), {}),
    ((True, -2), {}),
    ((True, 0), {}),
    ((True, 0.25), {}),
    ((False, 0), {}),
    ((False, -1), {}),
    ((True, 1e300), {}),
    ((True, float("nan")), {}),
    ((True, "x"), {}),
    ((True, _thread.TIMEOUT_MAX + 1), {}),
    ((), {"timeout": None}),
    ((), {"blocking": False}),
    ((), {"timeout": 1e-9}),
]


def lock_api() -> list[object]:
    """What the functions of _thread do with all kinds of arguments."""
    out: list[object] = []

    def note(call: Any, *args: Any, **kwargs: Any) -> None:
        try:
            out.append(call(*args, **kwargs))
        except BaseException as error:
            out.append((type(error).__name__, str(error)))

    lock, rlock = _thread.allocate_lock(), _thread.RLock()
    for args, kwargs in ARGUMENTS:
        for made in (lock, rlock):
            note(made.acquire, *args, **kwargs)
        out.append(lock.locked())
        if lock.locked():
            # And of one that is taken.
            if kwargs.get("timeout", args[1] if len(args) > 1 else -1) in (0, 0.25, 1e-9) or (args or [kwargs.get("blocking")])[0] is False:
                note(lock.acquire, *args, **kwargs)
            lock.release()
        while rlock._is_owned():
            rlock.release()
    note(lock.release)
    note(rlock.release)
    note(rlock._release_save)
    note(rlock._acquire_restore, (2, _thread.get_ident()))
    note(lambda: rlock._release_save()[0])
    note(_thread.start_new_thread, 1, ())
    note(_thread.start_new_thread, print, [])
    note(_thread.start_new_thread, print, (), 3)
    note(_thread.interrupt_main, 1000)
    note(_thread.stack_size, -1)
    note(_thread.stack_size, 100)
    note(_thread.stack_size, 1 << 20)
    note(_thread.stack_size, 0)
    note(_thread.exit)
    note(_thread._local, 3)
    note(setattr, _thread._local(), "__dict__", {})
    note(type, "sub", (_thread.LockType,), {})
    out.append(weakref.ref(lock)() is lock)
    out.append([type(made).__name__ for made in (lock, rlock)])
    out.append(repr(rlock).split(" at ")[0].replace(f"owner={_thread.get_ident()}", "owner"))
    out.append(repr(lock).split(" at ")[0])
    out.append((_thread.error is RuntimeError, _thread.TIMEOUT_MAX, threading.TIMEOUT_MAX))
    return out


def test_locks_take_and_refuse_what_those_of_this_python_do() -> None:
    assert run_function(lock_api) == lock_api()


def test_all_that_this_pythons_thread_module_has() -> None:
    def main() -> list[str]:
        return dir(_thread)

    missing = set(dir(_thread)) - set(run_function(main)) - {"__loader__", "__spec__"}
    assert not missing


def bank(kind: str) -> list[object]:
    """Threads, conditions, a barrier, a semaphore, a timer and an executor at once."""
    out: list[object] = []
    condition = threading.Condition(threading.Lock() if kind == "lock" else None)
    barrier = threading.Barrier(3)
    semaphore = threading.BoundedSemaphore(2)
    ready: list[int] = []

    def worker(n: int) -> None:
        with semaphore:
            time.sleep(0.001 * n)
        with condition:
            ready.append(n)
            condition.notify()
        out.append(("passed", barrier.wait()))

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(3)]
    timer = threading.Timer(0.5, out.append, ("rang",))
    for thread in (*threads, timer):
        thread.start()
    with condition:
        out.append(condition.wait_for(lambda: len(ready) == 3, timeout=10))
    for thread in (*threads, timer):
        thread.join()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(pow, 2, i) for i in range(5)]
        out.append(sorted(future.result() for future in concurrent.futures.as_completed(futures)))
    out.append(threading.active_count())
    return out


@pytest.mark.parametrize("kind", ["lock", "rlock"])
def test_one_seed_is_one_run(kind: str) -> None:
    """The first run and a later one make the same calls in the same order, whatever the schedule; and the real threads do the same."""

    def normal(out: list[object]) -> list[str]:
        return sorted(map(repr, out))

    want = normal(bank(kind))
    digests = set()
    for seed in (None, *range(6)):
        runs = []
        for _ in range(2):
            trace = Trace()
            assert normal(run_function(bank, kind, seed=seed, trace=trace)) == want
            runs.append(trace.digest())
        assert runs[0] == runs[1]
        digests.add(runs[0])
    assert len(digests) == 7
