"""Exploration: strategies find bugs, the same ones each time, and shrinking tells them shortly."""

import random
import re

import pytest

from servers import epoll_lt_echo
from servers.broken import article_select, epollout_armed, et_read_once, late_finalizer
from simkernel.errors import UsageError
from simkernel.kernel.choice import Recording, Tape
from simkernel.kernel.trace import Trace
from simkernel.testing import Echo, check
from simkernel.testing.example import Failure, sim_example
from simkernel.testing.explore import Here, explore, search
from simkernel.testing.replay import Token, parse
from simkernel.testing.shrink import RUNS, Shrinker, shrink
from simkernel.testing.strategies import STRATEGIES, Portfolio, Schedule, make_strategy, run_batch
from simkernel.uapi import EPOLL_CTL_ADD, EPOLLIN, F_SETFL, MSG_NOSIGNAL, O_NONBLOCK, POLLIN

MOST_CALLS = 25


def lost_wakeup(sys, listener, stop):
    """A worker that says it is idle after it has looked for work: who comes between is not told, and sleeps for ever."""
    work, state = [], {"idle": False, "end": False}
    bell = sys.eventfd(0)

    def worker(sys):
        while work or not state["end"]:
            if not work:
                sys.getpid()
                state["idle"] = True
                sys.read(bell, 8)
                state["idle"] = False
                continue
            conn = work.pop(0)
            try:
                while data := sys.recv(conn, 65536):
                    while data:
                        data = data[sys.send(conn, data, MSG_NOSIGNAL) :]
            except OSError:
                pass
            sys.close(conn)

    tid = sys.thread(worker)
    while True:
        ready = [fd for fd, _ in sys.poll([(stop, POLLIN), (listener, POLLIN)])]
        if listener in ready:
            work.append(sys.accept4(listener)[0])
            if state["idle"]:
                sys.write(bell, (1).to_bytes(8, "little"))
        elif stop in ready:
            state["end"] = True
            sys.write(bell, (1).to_bytes(8, "little"))
            sys.join(tid)
            sys.close(bell)
            return


def drops_what_send_left(sys, listener, stop):
    """Sends once and never looks how much was taken."""
    sys.fcntl(listener, F_SETFL, O_NONBLOCK)
    ep = sys.epoll_create1()
    for fd in (stop, listener):
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)
    conns = set()
    while True:
        for fd, _ in sys.epoll_wait(ep, 64):
            if fd == stop:
                for conn in conns:
                    sys.close(conn)
                sys.close(ep)
                return
            if fd == listener:
                try:
                    conn, _ = sys.accept4(listener, O_NONBLOCK)
                except OSError:
                    continue
                conns.add(conn)
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN)
                continue
            try:
                data = sys.recv(fd, 4096)
                if data:
                    sys.send(fd, data, MSG_NOSIGNAL)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                conns.remove(fd)
                sys.close(fd)


class OwnEcho(Echo):
    """Clients that may wait: what is looked for here is something else."""

    served_within_ns = None
    crowd = ""
    memory_per_connection = None


class SmallEcho(OwnEcho):
    """Few clients, for many quick runs."""

    max_clients = 2
    behaviours = ("turns",)


LOST_WAKEUP = sim_example(lost_wakeup, SmallEcho())
DROPS = sim_example(drops_what_send_left, OwnEcho())
GOOD = sim_example(epoll_lt_echo.serve, SmallEcho())


def quiet(ran):
    pass


# --- strategies ---
@pytest.mark.parametrize("strategy", ["portfolio", "random", "pct"])
@pytest.mark.parametrize("example", [LOST_WAKEUP, DROPS], ids=["lost_wakeup", "drops_what_send_left"])
def test_each_strategy_finds(strategy, example):
    found = search(make_strategy(strategy, 3, 400), Here(example, quiet)).found
    assert found is not None
    failure = example(Tape(found.tape))
    assert failure is not None and failure.kind == found.kind


def test_exhaustive_finds_with_as_few_preemptions_as_it_takes():
    strategy = make_strategy("exhaustive", 0, 400)
    found = search(strategy, Here(LOST_WAKEUP, quiet)).found
    assert found is not None and found.kind == "hang"
    assert LOST_WAKEUP(Tape(found.tape)).kind == "hang"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_is_the_same_search(strategy):
    ran = []
    for _ in range(2):
        searched = make_strategy(strategy, 5, 150)
        tries = []
        result = search(searched, Spy(GOOD, tries))
        ran.append((tries, result.ran, result.kept, searched.proofs()))
    assert ran[0] == ran[1]
    assert ran[0][1] == 150
    other = []
    search(make_strategy(strategy, 6, 150), Spy(GOOD, other))
    assert (other == ran[0][0]) == (strategy == "exhaustive")


class Spy(Here):
    """Here, with a note of all tries."""

    def __init__(self, example, tries):
        super().__init__(example, quiet)
        self.tries = tries

    def run(self, batches, seen):
        for batch in batches:
            self.tries += batch
        return super().run(batches, seen)


class Scattered:
    """Runs batches in any order, as many processes would."""

    def __init__(self, example):
        self.example = example
        self.order = random.Random(1)

    def run(self, batches, seen):
        order = list(range(len(batches)))
        self.order.shuffle(order)
        done = {at: run_batch(self.example, batches[at], seen) for at in order}
        for at in range(len(batches)):
            yield done[at]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("example", [GOOD, LOST_WAKEUP], ids=["good", "lost_wakeup"])
def test_who_runs_the_batches_does_not_matter(strategy, example):
    one = search(make_strategy(strategy, 2, 200), Here(example, quiet))
    other = search(make_strategy(strategy, 2, 200), Scattered(example))
    assert one == other


def test_the_portfolio_is_a_mixture_that_learns():
    tries = []
    strategy = Portfolio(1, 300)
    search(strategy, Spy(GOOD, tries))
    assert [one.number for one in tries] == list(range(1, 301))
    assert tries[0].how == "plain"
    assert {one.how for one in tries[1:64]} == {"random", "pct"}
    assert {one.how for one in tries[64:]} == {"random", "pct", "mutant", "schedule"}
    assert len(strategy.pairs) > 100
    parents = {one.parent for one in tries if one.how == "mutant"}
    assert len(parents) > 5


def test_a_mutant_is_near_its_parent_and_new():
    strategy = Portfolio(1, 500)
    tries = []
    search(strategy, Spy(GOOD, tries))
    tapes = set()
    for one in [one for one in tries if one.how == "mutant"][:20]:
        recording = Recording(one.choice())
        GOOD(recording)
        tapes.add(recording.tape())
        again = Recording(one.choice())
        GOOD(again)
        assert again.tape() == recording.tape()
    assert len(tapes) > 15


def test_exhaustive_says_what_it_proved_plan_by_plan():
    report = check(epoll_lt_echo.serve, examples=600, strategy="exhaustive", preemptions=1)
    assert report.ok
    assert report.proofs[0].startswith("proved for the plain plan: no failure in any schedule with at most 1 preemption (")
    assert "not covered: other plans" in report.proofs[0]
    assert any(proof.startswith("proved for the plan with buffers 1 and the rest plain") for proof in report.proofs)
    assert sum("not proved" in proof for proof in report.proofs) < len(report.proofs)
    assert report.as_dict()["proofs"] == report.proofs


def test_a_proof_needs_every_schedule():
    """The runs of the proof are those that the source gives when it is driven by hand."""
    strategy = make_strategy("exhaustive", 0, 300, preemptions=1)
    tries = []
    search(strategy, Spy(GOOD, tries))
    plain = [one.departures for one in tries if one.how == "schedule" and one.tape == b""]
    todo, all_of_them = [()], []
    while todo:
        choice = Schedule(todo.pop())
        GOOD(choice)
        all_of_them.append(choice.departures)
        spent = sum(1 for place, _ in choice.departures if place in PREEMPTS[choice.departures])
        for place, n, preempt in choice.alternatives:
            if spent + preempt <= 1:
                for value in range(1, n):
                    departures = (*choice.departures, (place, value))
                    PREEMPTS[departures] = PREEMPTS[choice.departures] | ({place} if preempt else set())
                    todo.append(departures)
    assert sorted(plain) == sorted(all_of_them)
    assert f"({len(plain)} runs)" in strategy.proofs()[0]


PREEMPTS = {(): set()}


def test_bad_strategies():
    with pytest.raises(UsageError, match="choose one of portfolio"):
        check(epoll_lt_echo.serve, strategy="luck")
    with pytest.raises(UsageError, match="preemptions"):
        check(epoll_lt_echo.serve, preemptions=-1)


# --- shrinking ---
@pytest.mark.parametrize("strategy", ["random", "pct"])
@pytest.mark.parametrize("server", [et_read_once, article_select], ids=["et_read_once", "article_select"])
def test_stories_are_short_whoever_found_them(server, strategy):
    example = sim_example(server.serve, OwnEcho())
    found = search(make_strategy(strategy, 1, 200), Here(example, quiet)).found
    tape = shrink(example, found.tape, found.kind)
    failure = example(Tape(tape), Trace())
    assert failure.kind == found.kind
    assert failure.calls <= MOST_CALLS


@pytest.mark.parametrize("seed", range(4))
def test_a_race_shrinks_to_one_client(seed):
    found = search(make_strategy("random", seed, 400), Here(LOST_WAKEUP, quiet)).found
    shrinker = Shrinker(LOST_WAKEUP, found.kind)
    assert shrinker.attempt(Tape(found.tape))
    tape = shrinker.shrink()
    failure = LOST_WAKEUP(Tape(tape), Trace())
    assert failure.kind == found.kind and failure.calls <= MOST_CALLS
    assert len(failure.plans) == 1
    assert shrinker.ran <= RUNS
    assert shrink(LOST_WAKEUP, found.tape, found.kind) == tape


def test_a_long_story_ends_in_a_tiny_world():
    """Found with many clients and hundreds of calls: one client and the right buffers show it, and no small change leads there."""
    example = sim_example(epollout_armed.serve, Echo())
    found = search(make_strategy("portfolio", 1, 200), Here(example, quiet)).found
    first = example(Tape(found.tape), Trace())
    assert first.calls > 100
    failure = example(Tape(shrink(example, found.tape, found.kind)), Trace())
    assert failure.kind == first.kind == "spin"
    assert failure.calls <= 25 and len(failure.plans) == 1


@pytest.mark.parametrize("server", [et_read_once, article_select, late_finalizer, epollout_armed], ids=lambda module: module.__name__)
def test_the_calls_are_those_of_the_story(server):
    """As many as begin before its end: whoever reads it counts the same."""
    failure = check(server.serve, Echo(), examples=200).failure
    shown = [line for line in failure.story() if re.match(r" +[0-9.]+ ms  \[[0-9]+\] [a-z0-9_]+[(]", line)]
    assert failure.calls == len([line for line in shown if "scenario.py" not in line])


def test_shrinking_can_be_told_to_stop():
    found = search(make_strategy("random", 0, 400), Here(DROPS, quiet)).found
    assert shrink(DROPS, found.tape, found.kind, stop=lambda: True) == Recorded(found.tape).tape


class Recorded:
    """A tape as its run uses it."""

    def __init__(self, tape):
        recording = Recording(Tape(tape))
        DROPS(recording)
        self.tape = recording.tape()


def test_what_does_not_fail_again_is_given_back():
    def never(choice, trace=None):
        return None

    assert shrink(never, b"\1\2", "hang") == b"\1\2"


def test_any_example_can_be_explored():
    """An example without a kernel: choices of its own, and a failure that needs three of them."""

    def example(choice, trace=None):
        picked = [choice.pick(4, "a"), choice.pick(300, "b"), *(choice.pick(2, "c") for _ in range(5))]
        if picked[0] == 3 and sum(picked[2:]) >= 2:
            return Failure("odd", str(picked), "sim", calls=sum(picked))
        return None

    found = explore(example, 500, 1, quiet)
    assert found is not None and found.kind == "odd"
    assert example(Tape(found.tape)).calls == 5
    assert explore(example, 3, 1, quiet) is None


# --- one seed, one result, on every Python ---
def test_a_seed_finds_the_same_on_every_python():
    found = explore(LOST_WAKEUP, 400, 1, quiet)
    assert found is not None
    assert (found.kind, found.example, found.tape.hex()) == FOUND
    trace = Trace()
    LOST_WAKEUP(Tape(found.tape), trace)
    assert trace.digest() == DIGEST
    token = Token("", "echo", found.tape)
    assert str(token) == TOKEN and parse(TOKEN) == token


# What the searches of seed 1 found first and shrank to, and the run of that tape: they change when the kernel or exploration does.
FOUND = ("hang", 46, "00000000000000000000000000000000000000000000000001")
DIGEST = "e3d27f257e27008800991cb6486b8574c825aeb47440b4d371af63e3021f52d7"
TOKEN = "sk1-_Bq8cHp42mNITc7IZ8AFGAEuQgGh"
