"""The machine: runs, ends, reports, digests."""

import gc

import greenlet
import pytest

import simkernel
from simkernel.kernel.file import File
from simkernel.kernel.sched import Task
from simkernel.uapi import AF_INET, CLOCK_MONOTONIC, CLOCK_REALTIME, POLLIN, SIGKILL, SOCK_NONBLOCK, SOCK_STREAM


def test_returns_and_raises_what_main_does():
    assert simkernel.run(lambda sys, a, b: a + b, 1, 2) == 3
    with pytest.raises(KeyError):
        simkernel.run(lambda sys: {}["x"])
    with pytest.raises(SystemExit) as exit_:
        simkernel.run(lambda sys: sys.exit(7))
    assert exit_.value.code == 7
    assert simkernel.run(lambda sys: sys.exit(0)) is None
    with pytest.raises(simkernel.Killed, match="signal 9"):
        simkernel.run(lambda sys: sys.kill(sys.getpid(), SIGKILL))


def test_a_deadlock_says_who_sleeps_where():
    def child(sys, r):
        sys.read(r, 1)

    def main(sys):
        r, _w = sys.pipe2()
        sys.spawn(child, r)
        ep = sys.epoll_create1()
        sys.epoll_wait(ep, 1)

    with pytest.raises(simkernel.Deadlock) as error:
        simkernel.run(main)
    notes = "\n".join(error.value.__notes__)
    assert "main (pid 1) sleeps in epoll_wait(5), test_machine.py:" in notes
    assert "child (pid 2) sleeps in read(3), test_machine.py:" in notes


def test_the_virtual_deadline():
    def main(sys):
        while True:
            sys.nanosleep(1_000_000)

    with pytest.raises(simkernel.Deadlock, match="deadline of 5000000 ns"):
        simkernel.run(main, deadline_ns=5_000_000)


@pytest.mark.parametrize("choice", [None, simkernel.Seeded(1)], ids=["plain", "seeded"])
@pytest.mark.parametrize(
    "call",
    [
        lambda sys, r: sys.poll([(r, POLLIN)], 0),
        lambda sys, r: sys.select([r], [], [], 0),
        lambda sys, r: sys.clock_gettime_ns(CLOCK_MONOTONIC),
        lambda sys, r: sys.epoll_wait(r + 2, 1, 0),
    ],
    ids=["poll", "select", "clock", "epoll_wait"],
)
def test_calls_without_progress_are_a_livelock(choice, call):
    def main(sys):
        r, _w = sys.pipe2()
        sys.epoll_create1()
        while True:
            call(sys, r)

    with pytest.raises(simkernel.Livelock, match="without progress"):
        simkernel.run(main, choice=choice)


def test_a_busy_task_gives_way():
    """A loop that polls without sleeping must not keep others from what it waits for."""

    def writer(sys, w):
        sys.write(w, b"x")

    def main(sys):
        r, w = sys.pipe2()
        sys.spawn(writer, w)
        polls = 0
        while not sys.poll([(r, POLLIN)], 0):
            polls += 1
        return polls

    assert 0 < simkernel.run(main) < 1000


def test_time_is_virtual_and_never_early():
    def main(sys):
        before = sys.clock_gettime_ns(CLOCK_MONOTONIC), sys.clock_gettime_ns(CLOCK_REALTIME)
        sys.nanosleep(3600 * 10**9)
        return sys.clock_gettime_ns(CLOCK_MONOTONIC) - before[0], sys.clock_gettime_ns(CLOCK_REALTIME) - before[1]

    assert simkernel.run(main) == (3600 * 10**9, 3600 * 10**9)
    late = simkernel.run(main, choice=simkernel.Tape(bytes([0, 3])))
    assert late[0] >= 3600 * 10**9


def test_a_killed_task_makes_no_more_calls():
    seen = []

    def child(sys, r, w):
        try:
            sys.read(r, 1)
        finally:
            seen.append("finally")
            sys.write(w, b"from beyond")
            seen.append("wrote")

    def main(sys):
        r, _w = sys.pipe2()
        out, into = sys.pipe2()
        pid = sys.spawn(child, r, into)
        sys.nanosleep(1)
        sys.kill(pid, SIGKILL)
        assert sys.waitpid(pid) == (pid, SIGKILL)
        sys.close(into)
        return sys.read(out, 99)

    assert simkernel.run(main) == b""
    assert seen == ["finally"]


def test_a_task_that_refuses_to_die():
    def child(sys, r):
        while True:
            try:
                sys.read(r, 1)
            except BaseException:
                pass

    def main(sys):
        r, _w = sys.pipe2()
        pid = sys.spawn(child, r)
        sys.nanosleep(1)
        sys.kill(pid, SIGKILL)
        sys.nanosleep(1)
        return sys.waitpid(pid)[1]

    # As in Linux, nothing that the program does saves it.
    assert simkernel.run(main) == SIGKILL


def test_a_childs_exception_is_its_exit_status(capsys):
    def child(sys):
        raise ValueError("child's own")

    def main(sys):
        return sys.waitpid(sys.spawn(child))[1]

    assert simkernel.run(main) == 1 << 8
    assert "ValueError: child's own" in capsys.readouterr().err


def test_unsupported_is_loud_even_in_a_child():
    def child(sys):
        sys.socket(AF_INET, 3)

    def main(sys):
        sys.waitpid(sys.spawn(child))

    with pytest.raises(simkernel.Unsupported, match="type 3"):
        simkernel.run(main)


@pytest.mark.parametrize("world", ["sim", "linux"], indirect=True)
def test_main_may_return_while_a_thread_sleeps(world):
    def main(sys):
        r, _w = sys.pipe2()
        sys.thread(lambda sys: sys.read(r, 1))
        sys.nanosleep(1_000_000)
        return "done"

    assert world.run(main) == "done"


@pytest.mark.parametrize("world", ["sim", "linux"], indirect=True)
def test_what_is_not_modelled_says_so(world):
    with pytest.raises(simkernel.Unsupported, match="kill"):
        world.run(lambda sys: sys.kill(-1, 0))


def test_one_tape_one_digest_on_every_python():
    def child(sys, port):
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(fd, ("127.0.0.1", port))
        sys.send(fd, b"x" * 3000)
        sys.close(fd)

    def main(sys):
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(listener, ("127.0.0.1", 9000))
        sys.listen(listener, 5)
        for _ in range(3):
            sys.spawn(child, 9000)
        got = 0
        for _ in range(3):
            fd, _peer = sys.accept4(listener)
            while data := sys.recv(fd, 1000):
                got += len(data)
        return got

    def digest(data):
        trace = simkernel.Trace()
        assert simkernel.run(main, choice=simkernel.Tape(data), trace=trace) == 9000
        return trace.digest()

    tapes = [bytes((i * k) % 251 for i in range(200)) for k in range(6)]
    digests = [digest(tape) for tape in tapes]
    assert digests == [digest(tape) for tape in tapes]
    assert len(set(digests)) == len(tapes)


def test_trace_records_name_places_and_causes():
    trace = simkernel.Trace()

    def child(sys, w):
        sys.write(w, b"x")

    def main(sys):
        r, w = sys.pipe2()
        sys.spawn(child, w)
        sys.read(r, 1)

    simkernel.run(main, trace=trace)
    events = list(trace.records())
    wake = next(e for e in events if e["ev"] == "sched_waking" and e["f"]["pid"] == 1)
    cause = events[wake["cause"]]
    assert (cause["ev"], cause["fn"], cause["pid"]) == ("sys_enter", "write", 2)
    assert cause["at"].startswith(__file__)
    switch = next(e for e in events if e["ev"] == "sched_switch" and e["f"]["next_pid"] == 1)
    assert switch["cause"] == wake["seq"]


def test_snapshots_are_equal_for_equal_states():
    def main(sys):
        r, w = sys.pipe2()
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, 1, r, POLLIN)
        before = kernel.snapshot()
        sys.write(w, b"abc")
        between = kernel.snapshot()
        sys.read(r, 3)
        sys.epoll_wait(ep, 1, 0)
        return before, between, kernel.snapshot()

    kernel = simkernel.Kernel()
    before, between, after = kernel.run(main)
    assert before == after != between


class Late(simkernel.Choice):
    """Everything as it comes, but the network is always put off."""

    def pick(self, n, label):
        return int(label == "softirq-later")


def test_a_late_handshake_does_not_overfill_the_backlog():
    """Three SYNs pass before the first connection is complete: the others wait for room, and come when there is some."""

    def main(sys):
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(listener, ("127.0.0.1", 9000))
        sys.listen(listener, 0)
        clients = [sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK) for _ in range(3)]
        for fd in clients:
            with pytest.raises(BlockingIOError):
                sys.connect(fd, ("127.0.0.1", 9000))
        sys.nanosleep(1)
        lengths = [kernel.sched.current.files.fget(listener).sk.acceptq.__len__()]
        for number, fd in enumerate(clients):
            sys.send(fd, b"%d" % number)
        got = []
        for _ in clients:
            conn, _peer = sys.accept4(listener)
            lengths.append(len(kernel.sched.current.files.fget(listener).sk.acceptq))
            got.append(sys.recv(conn, 9))
        return max(lengths), sorted(got), sys.clock_gettime_ns(CLOCK_MONOTONIC)

    kernel = simkernel.Kernel(Late())
    longest, got, now = kernel.run(main)
    assert longest <= 1
    assert got == [b"0", b"1", b"2"]
    assert now >= 10**9


def test_bad_options():
    with pytest.raises(simkernel.UsageError, match="nofile"):
        simkernel.Kernel(nofile=(10, 5))
    with pytest.raises(simkernel.UsageError, match="max_stalled"):
        simkernel.Kernel(max_stalled=1)


def test_a_run_inside_another_greenlet_and_inside_a_run():
    def inner(sys):
        return sys.getpid()

    def outer(sys):
        sys.nanosleep(5)
        return simkernel.run(inner), sys.clock_gettime_ns(CLOCK_MONOTONIC)

    assert greenlet.greenlet(lambda: simkernel.run(outer)).switch() == (1, 5)


def test_runs_leave_nothing():
    def child(sys, r):
        sys.read(r, 1)

    def main(sys):
        r, _w = sys.pipe2()
        sys.spawn(child, r)
        sys.nanosleep(1)

    def count():
        gc.collect()
        return sum(isinstance(thing, (Task, File)) for thing in gc.get_objects())

    simkernel.run(main)
    before = count()
    for _ in range(200):
        simkernel.run(main)
    assert count() <= before
