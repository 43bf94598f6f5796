"""ServerMachine: right servers pass, broken ones fail with their steps and their story."""

import time

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from servers import epoll_et_echo, epoll_lt_echo, threads_echo
from servers.broken import et_read_once
from simkernel.errors import Escape
from simkernel.testing import ServerMachine, Violation
from simkernel.uapi import POLLIN
from tests.testing.test_contracts import serve as serve_lines

QUICK = settings(
    max_examples=15,
    stateful_step_count=20,
    database=None,
    derandomize=True,
    deadline=None,
    # Hypothesis's profile for CI prints one, and it changes the report's last lines.
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


def machine(function):
    class Machine(ServerMachine):
        def serve(self, sys, listener, stop):
            return function(sys, listener, stop)

    return Machine


def fails(which, **options):
    """The failure that Hypothesis finds, as text with its notes."""
    quick = settings(QUICK, **{"max_examples": 200, "phases": [Phase.generate, Phase.shrink], **options})
    with pytest.raises((Violation, AssertionError, Escape)) as caught:
        run_state_machine_as_test(which, settings=quick)
    return caught.value, "\n".join(caught.value.__notes__)


def steps_of(text):
    """The steps that Hypothesis shows between the machine's boot and its teardown."""
    shown = text[text.index("state = ") :].splitlines()
    assert shown[1].startswith("state.boot(") and shown[-1] == "state.teardown()"
    return shown[2:-1]


@pytest.mark.parametrize("server", [epoll_lt_echo, epoll_et_echo, threads_echo], ids=lambda m: m.__name__)
def test_a_right_server_passes(server):
    run_state_machine_as_test(machine(server.serve), settings=QUICK)


def test_a_hang_shows_the_steps_and_the_story():
    error, text = fails(machine(et_read_once.serve))
    assert error.kind == "hang" and "client" in str(error) and "waited 60 s for" in str(error)
    assert "server (pid 2) sleeps in epoll_wait(7), et_read_once.py:" in text and "its last edge came at step" in text
    assert "wakes [" in text and "et_read_once.py:" in text
    steps = steps_of(text)
    assert len(steps) <= 3 and any(step.startswith("state.send(") for step in steps)


def test_a_leak_is_found_at_the_end_and_needs_no_step():
    def leaves_an_eventfd(sys, listener, stop):
        sys.eventfd(0)
        epoll_lt_echo.serve(sys, listener, stop)

    error, text = fails(machine(leaves_an_eventfd))
    assert error.kind == "leak" and "left open" in str(error)
    assert steps_of(text) == [] and "state.boot(steps=0, tape=Tape(b''))" in text


def test_what_shows_at_the_end_alone_has_the_steps_that_it_needs():
    class Leaky:
        """The system calls, of which every second accept leaves an eventfd behind."""

        def __init__(self, sys):
            self.sys = sys
            self.accepted = 0

        def __getattr__(self, name):
            return getattr(self.sys, name)

        def accept4(self, fd, flags=0):
            got = self.sys.accept4(fd, flags)
            self.accepted += 1
            if not self.accepted % 2:
                self.sys.eventfd(0)
            return got

    def keeps_one_in_two(sys, listener, stop):
        epoll_lt_echo.serve(Leaky(sys), listener, stop)

    error, text = fails(machine(keeps_one_in_two))
    assert error.kind == "leak" and "(eventfd)" in str(error)
    assert [step.split(" = ")[-1] for step in steps_of(text)] == ["state.connect()"] * 2


def test_a_crash_and_an_escape():
    def crashes(sys, listener, stop):
        if (listener, POLLIN) in sys.poll([(listener, POLLIN), (stop, POLLIN)]):
            raise KeyError("no such client")

    error, text = fails(machine(crashes))
    assert error.kind == "crash" and "KeyError: 'no such client', at test_stateful.py" in str(error)
    assert [step.split(" = ")[-1] for step in steps_of(text)] == ["state.connect()"]

    def escapes(sys, listener, stop):
        time.time()

    error, text = fails(machine(escapes))
    assert isinstance(error, Escape) and "test_stateful.py" in str(error)
    assert steps_of(text) == []
    # And all is put back, though the run ended in the middle.
    assert time.time.__module__ == "time" and type(time.time).__name__ == "builtin_function_or_method"


class Lines(ServerMachine):
    """A machine of a line protocol, with a rule and an invariant of its own."""

    bug = False

    def serve(self, sys, listener, stop):
        serve_lines(sys, listener, stop, answer=lambda line: line.upper() if not self.bug or line != b"de\n" else b"?\n")

    def due(self, sent):
        return b"".join(line.upper() + b"\n" for line in sent.split(b"\n")[:-1])

    @rule(client=ServerMachine.clients, words=st.lists(st.sampled_from([b"abc", b"de", b"\n"]), min_size=1, max_size=4))
    def say(self, client, words):
        for word in words:
            self.send_bytes(client, word)
        self.read(client, all=True)

    @invariant()
    def nobody_gets_more_than_they_are_due(self):
        for client in self.open:
            assert self.due(client.sent).startswith(client.got)


class BadLines(Lines):
    bug = True


def test_a_machine_of_ones_own():
    run_state_machine_as_test(Lines, settings=QUICK)
    error, text = fails(BadLines)
    assert error.kind == "corruption" and "is wrong: got b'?\\n', due b'DE\\n'" in str(error)
    # With its invariant, which Hypothesis shows after each step.
    steps = [step for step in steps_of(text) if not step.startswith("state.nobody_gets")]
    assert len(steps) <= 3 and steps[-1].startswith("state.say(")


def test_a_rule_that_fails_is_the_failure():
    class Wrong(ServerMachine):
        def serve(self, sys, listener, stop):
            epoll_lt_echo.serve(sys, listener, stop)

        @rule(client=ServerMachine.clients)
        def wrong(self, client):
            assert client.number < 0, "the author's own"

    error, text = fails(Wrong)
    assert isinstance(error, AssertionError) and "the author's own" in str(error)
    assert steps_of(text) == ["clients_0 = state.connect()", "state.wrong(client=clients_0)"]


TestLines = Lines.TestCase
TestLines.settings = settings(TestLines.settings, max_examples=10, stateful_step_count=15)
