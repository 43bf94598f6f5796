"""The digests of all bodies of the library tests under one seed, of the first run and of the second, as JSON.

python -m tests.stdlib.digests SEED
"""

import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.stdlib.both import on_fake


def digests(seed: int) -> dict[str, list[str]]:
    """Body by body."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_lib_*.py")):
        try:
            module = importlib.import_module(f"tests.stdlib.{path.stem}")
        except pytest.skip.Exception:
            continue
        for name, test in vars(module).items():
            if hasattr(test, "body"):
                found[f"{path.stem}.{name}"] = [on_fake(test.body, test.runner, seed).digest() for _ in range(2)]
    return found


if __name__ == "__main__":
    json.dump(digests(int(sys.argv[1])), sys.stdout)
