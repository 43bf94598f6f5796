"""Fixtures that the conformance tests share."""

import os
import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture
def workdir() -> Iterator[str]:
    """A path below /tmp for a test to make a directory of; the real one is removed, with all that is in it, when the test has ended."""
    path = f"/tmp/simkernel-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)
