"""Replay tokens are read back whole, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simkernel
from simkernel.errors import UsageError
from simkernel.testing import tape
from simkernel.testing.replay import Token, parse


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.sampled_from(["", "echo", "http"]), st.binary())
def test_round_trip(target, contract, data):
    token = Token(target, contract, data)
    assert parse(str(token)) == Token(target, contract, data.rstrip(b"\0"))


@given(st.binary(min_size=1, max_size=40), st.data())
def test_damage_is_noticed(data, draw):
    text = str(Token("a.py:serve", "echo", data + b"\1"))
    at = draw.draw(st.integers(4, len(text) - 1))
    char = draw.draw(st.sampled_from("ABCabc019-_!~").filter(lambda c: c != text[at]))
    with pytest.raises(UsageError):
        # The last character may carry unused bits: changing those alone changes nothing.
        if parse(text[:at] + char + text[at + 1 :]) == parse(text):
            raise UsageError("the same token")


def test_a_token_replays_a_run_of_ones_own():
    def main(sys):
        r, w = sys.pipe2()

        def child(sys, name):
            sys.write(w, name)

        for name in (b"a", b"b", b"c"):
            sys.thread(child, name)
        sys.nanosleep(1)
        return sys.read(r, 9)

    recording = simkernel.Recording(simkernel.Seeded(11))
    first = simkernel.run(main, choice=recording)
    token = str(Token("", "", recording.tape()))
    assert simkernel.run(main, choice=tape(token)) == first
