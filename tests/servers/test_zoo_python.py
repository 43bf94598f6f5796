"""The zoo's servers on Python's own modules: each bug is found and explained, and its twin is right on both kernels."""

import importlib
import inspect
from asyncio import StreamReaderProtocol
from pathlib import Path

import pytest

from simkernel.kernel.choice import Seeded
from simkernel.kernel.trace import Trace
from simkernel.testing import check
from simkernel.testing.contracts import CONTRACTS
from simkernel.testing.example import sim_example

# What is found is one of these: the bug shows in more than one way, and the example decides.
KINDS = {
    "aio_blocking_result": {"hang"},
    "aio_call_soon": {"hang"},
    "aio_cancelled_read": {"corruption", "hang"},
    "aio_half_close": {"corruption", "leak"},
    "aio_no_drain": {"memory"},
    "aio_task_fails": {"leak"},
    "aio_unawaited": {"hang", "corruption"},
    "aio_unclosed": {"leak"},
    "selectors_stale_key": {"crash"},
    "socketserver_waits": {"hang"},
    "trio_cancelled_send": {"corruption", "memory"},
    "trio_nursery": {"crash", "corruption"},
}


# Later Pythons close the connection of a handler that has failed, so that nothing leaks (cpython#110894).
CLOSES_ITSELF = inspect.getsource(StreamReaderProtocol.connection_made).count("transport.close()") > 1


@pytest.mark.parametrize("name", KINDS)
def test_the_bug_is_found_and_explained(name):
    if name == "aio_task_fails" and CLOSES_ITSELF:
        pytest.skip("this Python's streams close the connection of a handler that has failed")
    module = importlib.import_module(f"servers.broken.{name}")
    example = sim_example(module.serve, CONTRACTS[getattr(module, "CONTRACT", "echo")]())
    seed = next(seed for seed in range(200) if example(Seeded(seed)) is not None)
    failure = example(Seeded(seed), Trace())
    assert failure is not None
    assert failure.kind in KINDS[name], failure.message
    assert failure.explanation
    assert Path(module.__file__).read_text().count("# bug:") == 1
    assert module.CLASS and module.SEEN_IN


@pytest.mark.parametrize("name", KINDS)
def test_the_twin_passes(name):
    module = importlib.import_module(f"servers.fixed.{name}")
    contract = CONTRACTS[getattr(module, "CONTRACT", "echo")]()
    report = check(module.serve, contract, examples=20, on="both", linux_examples=1)
    assert report.ok, report.failure


@pytest.mark.parametrize("name", ["asyncio_echo", "trio_echo", "selectors_echo", "socketserver_echo"])
@pytest.mark.parametrize("profile", ["linux", "network", "posix"])
def test_the_reference_servers(name, profile):
    module = importlib.import_module(f"servers.{name}")
    report = check(module.serve, examples=30, on="both" if profile == "linux" else "sim", linux_examples=2, profile=profile)
    assert report.ok, report.failure
