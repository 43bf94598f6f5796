"""Choice sources that know the scheduler: priorities, every schedule, lanes; and what a run covers."""

import itertools

import pytest

import simkernel
from simkernel import Exhaustive, Livelock, Pct, Recording, Seeded, Swarm, Tape, Trace
from simkernel.errors import UsageError
from simkernel.kernel.choice import Choice
from simkernel.kernel.coverage import Coverage, Covering
from simkernel.kernel.lanes import Journal, Lanes, Record
from simkernel.uapi import POLLIN

SCHEDULING = ("sched", "preempt")


def three_tasks(sys):
    """Who called when: three threads of four calls each."""
    log = []

    def work(sys, name):
        for _ in range(4):
            sys.getpid()
            log.append(name)

    for tid in [sys.thread(work, name) for name in "abc"]:
        sys.join(tid)
    return "".join(log)


def lost_update(sys):
    """Two threads add 1 to a number, each with a call between its read and its write: 2, or 1 if one preempts the other there."""
    value = [0]

    def add(sys):
        before = value[0]
        sys.getpid()
        value[0] = before + 1

    for tid in [sys.thread(add) for _ in range(2)]:
        sys.join(tid)
    return value[0]


def echo(sys):
    """A client and a server with more than one thing to choose."""
    a, b = sys.socketpair(1, 1)

    def server(sys):
        while data := sys.recv(b, 100):
            sys.send(b, data)

    def client(sys, n):
        sys.send(a, bytes(n))

    sys.thread(server)
    for tid in [sys.thread(client, n) for n in (10, 20)]:
        sys.join(tid)
    got = 0
    while got < 30:
        got += len(sys.recv(a, 100))
    sys.shutdown(a, 1)


# --- Pct ---
def test_the_highest_priority_runs_until_it_is_done():
    runs = {simkernel.run(three_tasks, choice=Pct(seed, depth=1)) for seed in range(60)}
    blocks = {"".join(x * 4 for x in order) for order in ("abc", "acb", "bac", "bca", "cab", "cba")}
    assert runs == blocks


def test_a_change_of_priority_preempts_once():
    runs = {simkernel.run(three_tasks, choice=Pct(seed, depth=2, steps=16)) for seed in range(300)}
    blocks = [sum(1 for x, y in itertools.pairwise(run) if x != y) for run in runs]
    assert max(blocks) == 3 and 3 in blocks


def test_pct_keeps_its_promise():
    """A bug of depth 2 among 3 tasks and about 12 steps: at least 1 run in 3 * 12."""
    runs = 600
    found = sum(simkernel.run(lost_update, choice=Pct(seed, depth=2, steps=12)) == 1 for seed in range(runs))
    assert found >= runs / (3 * 12)
    assert all(simkernel.run(lost_update, choice=Pct(seed, depth=1)) == 2 for seed in range(50))


def test_a_task_that_tries_again_and_again_gives_way():
    def main(sys):
        ready = []

        def waits(sys):
            while not ready:
                sys.poll([], 0)

        def works(sys):
            for _ in range(5):
                sys.getpid()
            ready.append(True)

        for tid in [sys.thread(waits), sys.thread(waits), sys.thread(works)]:
            sys.join(tid)

    for seed in range(40):
        simkernel.run(main, choice=Pct(seed, depth=3), max_stalled=600)
    with pytest.raises(Livelock):
        simkernel.run(main, choice=Tape(b""), max_stalled=600)


def test_pct_answers_what_is_not_about_tasks_by_another_source():
    class Sevens(Choice):
        def pick(self, n, label):
            assert label not in SCHEDULING
            return 7 % n

    assert Pct(1, others=Sevens()).pick(10, "size") == 7
    with pytest.raises(UsageError, match="a kernel"):
        Pct(1).pick(2, "preempt")
    with pytest.raises(UsageError, match="depth"):
        Pct(1, depth=0)


@pytest.mark.parametrize("make", [Seeded, Swarm, lambda seed: Pct(seed, 3)], ids=["Seeded", "Swarm", "Pct"])
@pytest.mark.parametrize("program", [three_tasks, echo])
def test_a_recording_of_any_source_is_a_tape_of_the_run(make, program):
    for seed in range(5):
        recording, first, again = Recording(make(seed)), Trace(), Trace()
        simkernel.run(program, choice=recording, trace=first)
        simkernel.run(program, choice=Tape(recording.tape()), trace=again)
        assert first.digest() == again.digest()


# --- Exhaustive ---
class Scripted(Choice):
    """Follows a script of scheduling choices, then goes on plainly, and notes what there was to choose."""

    def __init__(self, script):
        self.script = script
        self.seen = []

    def pick(self, n, label):
        if n <= 1 or label not in SCHEDULING:
            return 0
        got = self.script[len(self.seen)] if len(self.seen) < len(self.script) else 0
        self.seen.append((n, label, got))
        return got


def every_schedule(program, most):
    """By brute force: all schedules with at most ``most`` preemptions."""
    found = set()
    todo = [[]]
    while todo:
        choice = Scripted(todo.pop())
        simkernel.run(program, choice=choice)
        seen = choice.seen
        if sum(label == "preempt" and got > 0 for _, label, got in seen) > most:
            continue
        found.add(tuple(got for _, _, got in seen))
        done = len(choice.script)
        for i in range(done, len(seen)):
            todo += [[got for _, _, got in seen[:i]] + [value] for value in range(1, seen[i][0])]
    return found


@pytest.mark.parametrize("program", [lost_update, three_tasks])
@pytest.mark.parametrize("most", [0, 1, 2])
def test_exhaustive_runs_each_schedule_once(program, most):
    if program is three_tasks and most == 2:
        pytest.skip("15,000 schedules")
    ran = []
    schedules = Exhaustive(most, most=100_000)
    for choice in schedules:
        spied = Spied(choice)
        simkernel.run(program, choice=spied)
        ran.append(tuple(spied.scheduling))
    assert schedules.done
    assert len(ran) == len(set(ran)) == schedules.runs
    assert set(ran) == every_schedule(program, most)


class Spied(Choice):
    """Notes the scheduling choices of a source."""

    def __init__(self, source):
        self.source = source
        self.scheduling = []

    def pick(self, n, label):
        got = self.source.pick(n, label)
        if label in SCHEDULING and n > 1:
            self.scheduling.append(got)
        return got


def test_exhaustive_proves_up_to_the_bug():
    none = Exhaustive(preemptions=0)
    assert all(simkernel.run(lost_update, choice=choice) == 2 for choice in none)
    assert none.proof().startswith(
        f"proved for this plan: no failure in any schedule with at most 0 preemptions ({none.runs} runs); not covered:"
    )
    one = Exhaustive(preemptions=1)
    first = next(choice for choice in one if simkernel.run(lost_update, choice=choice) == 1)
    assert one.bound == 1
    assert simkernel.run(lost_update, choice=type(first)(first.departures)) == 1


def test_exhaustive_says_what_it_has_not_proved():
    some = Exhaustive(preemptions=1, most=7)
    assert sum(1 for choice in some if simkernel.run(three_tasks, choice=choice)) == 7
    assert not some.done
    assert "not proved" in some.proof() and "7 schedules" in some.proof()
    with pytest.raises(UsageError, match="preemptions"):
        Exhaustive(-1)


def test_exhaustive_takes_everything_else_from_the_plan():
    class Picks(Choice):
        """Notes what is not about scheduling."""

        def __init__(self, source):
            self.source = source
            self.got = []

        def pick(self, n, label):
            got = self.source.pick(n, label)
            if label not in SCHEDULING:
                self.got.append((label, got))
            return got

    for choice in Exhaustive(1, plan=bytes([2, 1]), most=20):
        picks = Picks(choice)
        simkernel.run(echo, choice=picks)
        assert picks.got[0] == ("buffers", 2)
        assert [got for _, got in picks.got[2:]] == [0] * (len(picks.got) - 2)
    assert choice.departures


# --- Lanes ---
@pytest.mark.parametrize("program", [three_tasks, echo])
def test_lanes_replay_what_was_noted(program):
    for seed in range(5):
        journal, first, again = Journal(Swarm(seed)), Trace(), Trace()
        simkernel.run(program, choice=journal, trace=first)
        simkernel.run(program, choice=Lanes(journal.record), trace=again)
        assert first.digest() == again.digest()
        tape = Trace()
        simkernel.run(program, choice=Tape(journal.tape()), trace=tape)
        assert tape.digest() == first.digest()


def test_tasks_are_named_by_where_they_come_from():
    def main(sys):
        def child(sys):
            sys.waitpid(sys.spawn(lambda sys: sys.getpid()))

        pids = [sys.spawn(child) for _ in range(2)]
        sys.join(sys.thread(lambda sys: sys.getpid()))
        for pid in pids:
            sys.waitpid(pid)

    names = set()
    for seed in range(20):
        journal = Journal(Seeded(seed))
        simkernel.run(main, choice=journal)
        names |= {pick.who for pick in journal.picks} | {pick.whom for pick in journal.picks}
    assert names == {"", "1", "1.1", "1.2", "1.1.1", "1.2.1", "1t1"}


def test_a_choice_left_out_does_not_shift_the_others():
    journal = Journal(Seeded(3))
    first = simkernel.run(three_tasks, choice=journal)
    without_c = [pick for pick in journal.picks if pick.who != "1t3"]
    changed = simkernel.run(three_tasks, choice=Lanes(Record.of(without_c)))
    assert changed.replace("c", "") != "" and len(changed) == len(first)
    assert Lanes(Record.of(without_c)).pick(5, "of nobody") == 0


# --- coverage ---
def test_a_plain_run_and_a_recorded_one_cover_the_same():
    quick, slow = Coverage(), Coverage()
    simkernel.run(echo, choice=Covering(Swarm(3), quick))
    simkernel.run(echo, choice=Covering(Swarm(3), slow), trace=Trace())
    assert quick.seen == slow.seen and quick.seen


def test_looking_at_what_a_run_covers_does_not_change_it():
    for seed in range(5):
        coverage, first, again = Coverage(), Trace(), Trace()
        simkernel.run(echo, choice=Covering(Swarm(seed), coverage), trace=first)
        simkernel.run(echo, choice=Swarm(seed), trace=again)
        assert first.digest() == again.digest()
        assert coverage.seen


def test_coverage_knows_results_masks_and_waiting_apart():
    def pairs(main):
        coverage = Coverage()
        simkernel.run(main, choice=Covering(Tape(b""), coverage))
        return coverage.seen

    def program(say, ask):
        def main(sys):
            a, b = sys.socketpair(1, 1)

            def child(sys):
                if say:
                    sys.send(a, say)
                ask(sys, b)

            sys.join(sys.thread(child))

        return main

    def recv(n):
        return lambda sys, fd: sys.recv(fd, n, 0x40)

    def refused(sys, fd):
        with pytest.raises(BlockingIOError):
            sys.recv(fd, 10, 0x40)

    runs = [
        program(b"12345", recv(5)),
        program(b"12345", recv(10)),
        program(b"", refused),
        program(b"12345", lambda sys, fd: sys.poll([(fd, POLLIN)], 0)),
        program(b"", lambda sys, fd: sys.poll([(fd, POLLIN)], 0)),
        program(b"", lambda sys, fd: sys.poll([(fd, POLLIN)], 1)),
    ]
    seen = [frozenset(pairs(run)) for run in runs]
    assert len(set(seen)) == len(seen)
    assert seen == [frozenset(pairs(run)) for run in runs]


def test_a_pair_is_the_same_number_everywhere():
    coverage = Coverage()
    simkernel.run(echo, choice=Covering(Swarm(2), coverage))
    assert coverage.seen == {74972779, 175638493, 412815216, 188590396268024067, 443256963178432477, 461271794405869533}
