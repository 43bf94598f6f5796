"""@simulate in a pytest of its own: what it finds, how it reports, how it is replayed, and who else is honoured."""

import re
import subprocess
import sys

import pytest

from simkernel.errors import UsageError
from simkernel.testing import simulate

pytest_plugins = ["pytester"]

TESTS = """
import pytest
from hypothesis import settings
from simkernel.testing import Violation, always, simulate, sometimes

def lossy(sys, r, w):
    data = sys.read(r, 10)
    sys.write(w, data[:1] if len(data) > 3 else data)

@simulate(examples=10)
@pytest.mark.parametrize("n", [2, 5])
def test_lossy(sys, n, tmp_path):
    assert tmp_path.is_dir()
    r, w = sys.pipe2()
    r2, w2 = sys.pipe2()
    sys.spawn(lossy, r, w2)
    sys.write(w, b"x" * n)
    got = sys.read(r2, 100)
    assert got == b"x" * n

def add(sys, shared, n):
    for _ in range(n):
        value = shared[0]
        sys.getpid()
        shared[0] = value + 1

@simulate(examples=100)
def test_race(sys):
    shared = [0]
    for tid in [sys.thread(add, shared, 2) for _ in range(2)]:
        sys.join(tid)
    assert shared[0] == 4

@simulate(examples=5)
def test_hang(sys):
    r, w = sys.pipe2()
    sys.read(r, 1)

def dies(sys):
    raise KeyError("gone")

@simulate(examples=5)
def test_crash(sys):
    sys.waitpid(sys.spawn(dies))

@simulate(examples=5, may_crash=True)
def test_may_crash(sys):
    assert sys.waitpid(sys.spawn(dies))[1] == 256

@simulate(examples=5)
def test_spin(sys):
    while True:
        sys.getpid()

@simulate(examples=5)
def test_always(sys):
    shared = [0]
    always(sys, lambda: shared[0] < 3, "small")
    sys.join(sys.thread(add, shared, 4))

@simulate(examples=5)
def test_sometimes(sys):
    sometimes(sys, lambda: False, "never is")
    sometimes(sys, lambda: True, "always is")
    sys.getpid()

@simulate(examples=5)
def test_violation(sys):
    raise Violation("corruption", "not these bytes")

class TestInAClass:
    @simulate(examples=3)
    def test_method(self, sys):
        assert sys.getpid() == 1
"""

WHAT = {
    r"test_lossy\[5\]": "AssertionError: assert b'x' == b'xxxxx'",
    "test_race": "assert shared",
    "test_hang": "main \\(pid 1\\) sleeps in read\\(3\\), test_all.py:\\d+, on a pipe",
    "test_crash": "dies \\(pid 2\\) died of KeyError: 'gone'",
    "test_spin": "these 1 calls again and again",
    "test_always": "always\\('small'\\), test_all.py:\\d+ broke before getpid, test_all.py:\\d+ of main \\(pid 2\\), after its getpid",
    "test_sometimes": "never true in 5 examples: sometimes\\('never is'\\)",
    "test_violation": "corruption",
}


@pytest.fixture
def all_tests(pytester):
    pytester.makepyfile(test_all=TESTS)
    # Nothing of this test's own Hypothesis database.
    pytester.makeconftest("from hypothesis import settings\nsettings.register_profile('t', database=None)\nsettings.load_profile('t')")
    return pytester


def run(pytester, *args):
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *args)


def section(text, name):
    """The report of one failed test."""
    return re.search(rf"^_+ (?:\w+\.)?{name} _+$(.*?)(?=^_{{3,}} |\Z|^=+ )", text, re.S | re.M).group(1)


def test_what_is_found_and_how_it_is_told(all_tests):
    result = run(all_tests)
    result.assert_outcomes(passed=3, failed=len(WHAT))
    text = result.stdout.str()
    for name, said in WHAT.items():
        report = section(text, name)
        assert re.search(said, report), report
        if name == "test_sometimes":
            continue
        assert "simkernel: the story" in report
        # The command is shown, and shows the same failure again, whole.
        command = re.search(r"replay: (pytest .*)", report).group(1)
        assert f"::{name.replace(chr(92), '')}" in command
    command = re.search(r"replay: (pytest '.*)", section(text, r"test_lossy\[5\]")).group(1)
    again = subprocess.run(command, shell=True, cwd=all_tests.path, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1, again.stderr
    told = section(text, r"test_lossy\[5\]")
    shown = section(again.stdout, r"test_lossy\[5\]")
    assert told[told.index("simkernel: the story") :] == shown[shown.index("simkernel: the story") :]
    # No frame of ours.
    assert "simkernel/testing" not in text and "simkernel/kernel" not in text


def test_a_race_is_shrunk_to_its_calls_and_replays(all_tests):
    text = run(all_tests, "-k", "race").stdout.str()
    found = re.search(r"simkernel: AssertionError at test_all.py:\d+   example \d+, shrunk to (\d+) calls", text)
    assert found is not None, text
    # Two threads, two joins, and two getpid each: none can be left out.
    assert int(found.group(1)) == 8
    # With the plain choices it is no race.
    plain = "sk1-q7CxQnAAAA"
    run(all_tests, "--simkernel-replay", plain, "test_all.py::test_race").assert_outcomes(passed=1)
    bad = run(all_tests, "--simkernel-replay", "sk1-nonsense")
    assert bad.ret == 4 and "damaged" in bad.stderr.str()


def test_under_xdist(all_tests):
    result = run(all_tests, "-n", "2", "-k", "lossy or race or hang")
    result.assert_outcomes(passed=1, failed=3)
    text = result.stdout.str()
    assert "simkernel: the story" in section(text, "test_hang")
    assert "replay: pytest test_all.py::test_race --simkernel-replay sk1-" in text


def test_without_the_plugin(all_tests):
    result = run(all_tests, "-p", "no:simkernel", "-k", "lossy or race or method")
    result.assert_outcomes(passed=2, failed=2)
    text = result.stdout.str()
    # The story is in the failure itself, and the command needs no pytest.
    command = re.search(r"replay: (python -c .*)", section(text, "test_race")).group(1)
    assert "write(6, 'x')" in section(text, r"test_lossy\[5\]")
    again = subprocess.run(
        command.replace("python", sys.executable, 1),
        shell=True,
        cwd=all_tests.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 1 and "AssertionError" in again.stderr and "simkernel: AssertionError at test_all.py" in again.stderr


def test_hypothesis_settings_and_profiles(pytester):
    pytester.makepyfile("""
        from hypothesis import settings
        from simkernel.testing import simulate
        settings.register_profile("few", max_examples=9, database=None)
        settings.load_profile("few")
        counts = dict.fromkeys(("above", "below", "profile", "argument"), 0)

        @settings(max_examples=5, database=None)
        @simulate
        def test_above(sys):
            counts["above"] += 1
            race(sys)

        @simulate
        @settings(max_examples=6, database=None)
        def test_below(sys):
            counts["below"] += 1
            race(sys)

        @simulate
        def test_profile(sys):
            counts["profile"] += 1
            race(sys)

        @simulate(examples=7)
        def test_argument(sys):
            counts["argument"] += 1
            race(sys)

        def race(sys):
            # Enough choices that no schedule comes twice.
            for tid in [sys.thread(lambda sys: [sys.getpid() for _ in range(9)]) for _ in range(3)]:
                sys.join(tid)

        def test_counts():
            # Runs 1 and 4 are made twice more, to see that they are the same.
            assert counts == {"above": 5 + 4, "below": 6 + 4, "profile": 9 + 4, "argument": 7 + 4}
    """)
    run(pytester).assert_outcomes(passed=5)


def test_the_database_remembers_what_failed(pytester, monkeypatch):
    pytester.makepyfile(
        test_memory="""
        import os
        from hypothesis import settings
        from hypothesis.database import DirectoryBasedExampleDatabase
        from simkernel.testing import simulate
        runs = []

        def add(sys, shared):
            value = shared[0]
            sys.getpid()
            shared[0] = value + 1

        @simulate(examples=200)
        @settings(database=DirectoryBasedExampleDatabase("memory"))
        def test_race(sys):
            runs.append(1)
            shared = [0]
            for tid in [sys.thread(add, shared) for _ in range(2)]:
                sys.join(tid)
            assert shared[0] == 2 or "FIXED" in os.environ

        def test_runs():
            print("runs:", len(runs))
    """
    )

    def runs(*args):
        result = run(pytester, "-rP", *args)
        return int(re.search(r"runs: (\d+)", result.stdout.str()).group(1)), result

    first, result = runs()
    result.assert_outcomes(passed=1, failed=1)
    second, result = runs()
    result.assert_outcomes(passed=1, failed=1)
    # The remembered tape, and twice with a trace.
    assert second == 3 < first
    monkeypatch.setenv("FIXED", "1")
    third, result = runs()
    result.assert_outcomes(passed=2)
    assert third > 200
    monkeypatch.delenv("FIXED")
    # What no longer failed was forgotten.
    fourth, _ = runs()
    assert fourth == first


def test_both_kernels_and_outcomes(pytester):
    pytester.makepyfile("""
        import pytest
        import socket
        from simkernel.linux import LinuxSyscalls
        from simkernel.testing import eventually, simulate
        seen = []
        kept = [socket.socket]

        @simulate(examples=3, on="both")
        def test_both(sys):
            seen.append(isinstance(sys, LinuxSyscalls))
            r, w = sys.pipe2()
            sys.write(w, b"x")
            assert sys.read(r, 9) == b"x"
            eventually(sys, lambda: True, within=1)

        @simulate(examples=3)
        def test_world(sys, world):
            assert isinstance(sys, LinuxSyscalls) == (world.name == "linux")

        @simulate(examples=3, on="linux")
        def test_fails_on_linux(sys):
            assert sys.getppid() == -1

        @simulate(examples=3)
        def test_skips(sys):
            pytest.skip("not today")

        @simulate(examples=3)
        def test_pytest_fail(sys):
            pytest.fail("by hand")

        @simulate(examples=3)
        def test_escape(sys):
            kept[0]()

        count = []
        @simulate(examples=20)
        def test_nondeterminism(sys):
            count.append(1)
            for _ in range(len(count)):
                sys.getpid()
    """)
    result = run(pytester)
    result.assert_outcomes(passed=3, failed=4, skipped=1)
    text = result.stdout.str()
    assert "Failed: by hand" in section(text, "test_pytest_fail")
    assert "Escape: the real socket.socket inside a simulated run, at test_both_kernels_and_outcomes.py:" in section(text, "test_escape")
    told = section(text, "test_nondeterminism")
    assert "Nondeterminism: the two runs of tape without choices part at step 3: [1] exits" in told or "part at step" in told, told
    assert "-1" in section(text, "test_fails_on_linux")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"examples": 0}, "examples must be at least 1"),
        ({"on": "mars"}, "on must be"),
        ({"profile": "lunar"}, "there is no profile 'lunar'"),
        ({"allow_real": ["clock"]}, "there is no kind 'clock'"),
    ],
)
def test_mistakes(options, said):
    with pytest.raises(UsageError, match=said):
        simulate(**options)


def test_functions_that_can_not_be_simulated():
    with pytest.raises(UsageError, match="must take sys"):

        @simulate
        def test():
            pass

    with pytest.raises(UsageError, match="coroutine"):

        @simulate
        async def test_async(sys):
            pass


def test_the_plugin_imports_nothing_of_the_kernel():
    code = "import simkernel.testing.plugin, sys; print([m for m in sys.modules if 'simkernel.kernel' in m or m in ('hypothesis', 'trio')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["simulate", "scenario"])
def test_a_function_keeps_its_name_though_its_module_is_imported_first(name):
    code = f"import simkernel.testing.{name}; from simkernel.testing import {name}; print(type({name}).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "function"
