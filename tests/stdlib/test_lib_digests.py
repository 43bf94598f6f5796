"""A seed has one digest: in every process, whatever the hashes of its strings are, and in the first run of a world as in the second."""

import json
import os
import subprocess
import sys


def test_digests_do_not_depend_on_the_process():
    processes = []
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.stdlib.digests", "7"]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    one, other = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert len(one) > 20
    assert one == other
    assert [name for name, (first, second) in one.items() if first != second] == []
