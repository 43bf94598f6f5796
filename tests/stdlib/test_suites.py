"""simkernel suites: runs others' tests on both kernels, survives what they do, and tells the truth about them."""

import sys
import textwrap

import pytest
from click.testing import CliRunner

from simkernel.cli import cli
from simkernel.errors import UsageError
from simkernel.suites.catalog import Suite, choose, why_not
from simkernel.suites.drive import Ran, Side, run_side, run_suites
from simkernel.suites.report import compare, markdown


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Writes a module of tests that workers find; returns its suite."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source, kind="unittest"):
        (tmp_path / "own_tests.py").write_text("import os, sys, time, unittest\n" + textwrap.dedent(source))
        return Suite("own_tests", ("own_tests",), kind)

    return write


def test_the_outcomes_of_tests(own_module):
    suite = own_module(
        """
        class Tests(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.made = True
            def test_pass(self):
                self.assertTrue(self.made)
            def test_fail(self):
                self.fail("no good")
            def test_skip(self):
                self.skipTest("not today")
            def test_skipped_in_part(self):
                with self.subTest("one"):
                    self.skipTest("a part")
            @unittest.expectedFailure
            def test_known(self):
                self.fail("known")
            def test_leaves(self):
                sys.exit(3)
        """
    )
    side = run_side(suite, "linux", "", None, 20)
    assert {test.rpartition(".")[2]: ran.outcome for test, ran in side.tests.items()} == {
        "test_pass": "passed",
        "test_fail": "failed",
        "test_skip": "skipped",
        "test_skipped_in_part": "passed",
        "test_known": "passed",
        "test_leaves": "failed",
    }
    assert "no good" in side.tests["own_tests.Tests.test_fail"].why
    assert side.tests["own_tests.Tests.test_skip"].why == "not today"


def test_one_that_is_stuck_or_dies_takes_no_other_with_it(own_module):
    suite = own_module(
        """
        class Tests(unittest.TestCase):
            def test_1_sleeps(self):
                time.sleep(100)
            def test_2_dies(self):
                os._exit(7)
            def test_3_passes(self):
                pass
        """
    )
    side = run_side(suite, "linux", "", None, 1)
    stuck, dead, passed = side.tests.values()
    assert (stuck.outcome, dead.outcome, passed.outcome) == ("failed", "failed", "passed")
    assert "stuck for 1 s" in stuck.why
    assert "in test_1_sleeps" in stuck.why
    assert "ended with status 7" in dead.why


def test_machines_of_their_own(own_module):
    suite = own_module(
        """
        import threading
        class Tests(unittest.TestCase):
            def test_1_deadlock(self):
                lock = threading.Lock()
                lock.acquire()
                lock.acquire()
            def test_2_has_a_day(self):
                began = time.monotonic()
                time.sleep(86400)
                self.assertEqual((began, time.monotonic(), os.getpid()), (0, 86400, 1))
            def test_3_catches_what_is_refused(self):
                try:
                    os.fork()
                except Exception:
                    pass
                self.fail("no child")
        """
    )
    side = run_side(suite, "sim", "", None, 20)
    deadlock, day, fork = side.tests.values()
    assert (deadlock.outcome, day.outcome, fork.outcome) == ("failed", "passed", "failed")
    assert "Deadlock" in deadlock.why
    assert "no child" in fork.why
    assert why_not("own_tests.Tests.test_3", fork.why) == "forks the interpreter: a Python stack can't be copied"


def test_a_module_that_is_not_there(own_module):
    side = run_side(Suite("nothing", ("test.test_of_nothing",)), "linux", "", None, 20)
    assert "has no test.test_of_nothing" in side.skipped
    side = run_side(Suite("nothing", ("no_such_package.tests",)), "linux", "", None, 20)
    assert "has no no_such_package.tests" in side.broken
    assert not side.tests
    suite = own_module("raise unittest.SkipTest('wrong system')")
    assert run_side(suite, "linux", "", None, 20).skipped == "wrong system"
    suite = own_module("import no_such_module")
    assert "No module named 'no_such_module'" in run_side(suite, "linux", "", None, 20).broken


def test_the_share_is_of_what_passes_on_the_real_kernel():
    linux = Side({name: Ran("passed") for name in ("a", "b", "c", "d", "e")} | {"f": Ran("failed"), "g": Ran("skipped", "no IPv9")})
    sim = Side(
        {
            "a": Ran("passed"),
            "b": Ran("failed", "Traceback\nAssertionError: 1 != 2"),
            "c": Ran("skipped", "AF_VSOCK support required"),
            "d": Ran("skipped", "some other reason"),
            "f": Ran("passed"),
            "g": Ran("passed"),
        }
    )
    row = compare("s", {"linux": linux, "sim": sim})
    assert row.both == 1
    assert list(row.cannot) == ["c"]
    # One that skips itself on the fake kernel, or is not there at all, does not pass.
    assert list(row.wrong) == ["b", "d", "e"]
    assert row.share == 25
    assert not row.ok
    page = markdown([row], "2026-01-02")
    assert "| s | 5 | 1 | 1 | 3 | 2 | 1 | 1 | 25.0 |" in page
    assert "| s: b | AssertionError: 1 != 2 |" in page


def test_names():
    assert [suite.name for suite in choose(["trio.test_io", "test_select"])] == ["trio.test_io", "test_select"]
    assert {suite.name.partition(".")[0] for suite in choose(["test_asyncio"])} == {"test_asyncio"}
    assert len(choose(["trio.*"])) == 10
    assert choose(["test.test_ftplib"]) == [Suite("test.test_ftplib", ("test.test_ftplib",))]
    assert len(choose([])) > 30
    with pytest.raises(UsageError, match="there is no suite and no module 'nonsense'"):
        choose(["nonsense"])
    assert why_not("test.x", "AssertionError: 1 != 2") is None


def test_the_command(own_module):
    own_module(
        """
        class Tests(unittest.TestCase):
            def test_fail(self):
                self.fail("no good")
            def test_pass(self):
                pass
        """
    )
    ran = CliRunner().invoke(cli, ["suites", "own_tests", "--on", "linux", "--verbose"], standalone_mode=False)
    assert ran.return_value == 1
    assert "failed: own_tests.Tests.test_fail: AssertionError: no good" in ran.output
    assert 'in test_fail\n    self.fail("no good")' in ran.output
    ran = CliRunner().invoke(cli, ["suites", "own_tests", "--on", "linux", "-k", "pass"], standalone_mode=False)
    assert ran.return_value == 0
    ran = CliRunner().invoke(cli, ["suites", "nonsense"], standalone_mode=False)
    assert isinstance(ran.exception, UsageError)


@pytest.mark.skipif(sys.platform != "linux", reason="both kernels")
def test_a_sample_of_the_suites():
    pytest.importorskip("test.test_select", reason="CPython's tests are not installed")
    ran = run_suites(choose(["test_epoll", "trio.test_highlevel_generic"]), jobs=2)
    rows = [compare(name, sides) for name, sides in ran.items()]
    assert not any(row.wrong or row.cannot for row in rows), rows
    assert [row.both for row in rows] == [len(row.linux.tests) for row in rows]
    assert rows[0].both >= 10
    assert rows[1].both >= 2
