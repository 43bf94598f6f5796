"""Bugs that no list names are found by what they do."""

import pytest

from simkernel.testing import check
from tests.servers import unlisted


@pytest.mark.parametrize(
    ("serve", "kind", "said"),
    [
        (unlisted.scratch, "corruption", "came back wrong"),
        (unlisted.sweep, "crash", "dictionary changed size"),
        (unlisted.spinlock, "spin", "calls without progress"),
        (unlisted.tokens, "hang", "every task sleeps"),
        (unlisted.one_child, "leak", "never waited for"),
    ],
    ids=["corruption", "crash", "spin", "hang", "leak"],
)
def test_a_bug_of_no_list_is_found(serve, kind, said):
    failure = check(serve, examples=200).failure
    assert failure is not None
    assert failure.kind == kind
    assert said in failure.message
    assert failure.example <= 100
