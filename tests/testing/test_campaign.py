"""Campaigns: many processes find what one does, what was found is kept, and Ctrl-C loses nothing."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis.database import DirectoryBasedExampleDatabase, InMemoryExampleDatabase

from servers import epoll_lt_echo
from servers.broken import et_read_once
from simkernel.cli import cli
from simkernel.errors import UsageError
from simkernel.testing import Echo, check
from simkernel.testing import campaign as campaigns
from simkernel.testing.campaign import Interrupted, Interrupts, Job, Store, dask_workers

ROOT = Path(__file__).parents[2]
GOOD = "servers/epoll_lt_echo.py:serve"
BROKEN = "servers/broken/et_read_once.py:serve"

# A server for the tests that need one of their own: it is fixed by writing the file anew.
SERVER = """
from simkernel.uapi import POLLIN

FIXED = {fixed}

def serve(sys, listener, stop):
    while True:
        ready = [fd for fd, _ in sys.poll([(stop, POLLIN), (listener, POLLIN)])]
        if stop in ready:
            return
        conn, _ = sys.accept4(listener)
        try:
            while data := sys.recv(conn, 65536):
                if not FIXED:
                    data = data.replace(b">", b"}}")
                while data:
                    data = data[sys.send(conn, data, 0x4000) :]
        except OSError:
            pass
        sys.close(conn)
"""


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    """Servers are named from the root of the project."""
    monkeypatch.chdir(ROOT)


def plain(report):
    """A report without what depends on the clock."""
    out = report.as_dict()
    del out["seconds"], out["rates"]
    return out


class Now:
    """An executor that runs at once, the last batch first."""

    def submit(self, function, *args):
        return Lazy(lambda: function(*args))


class Lazy(Future):
    """A future that is worked out when it is asked for."""

    def __init__(self, work):
        super().__init__()
        self.work = work

    def done(self):
        if not super().done():
            self.set_result(self.work())
        return True


class SmallEcho(Echo):
    """Few clients, for quick runs; they may wait until others have been served."""

    max_clients = 2
    behaviours = ("turns", "turns", "stream")
    served_within_ns = None
    crowd = ""


SMALL = SmallEcho()


@pytest.mark.parametrize(("serve", "target"), [(epoll_lt_echo.serve, GOOD), (et_read_once.serve, BROKEN)], ids=["good", "broken"])
def test_any_executor_gives_the_same_report(serve, target):
    alone = plain(check(serve, SMALL, examples=200, seed=4, target=target))
    assert plain(check(serve, SMALL, examples=200, seed=4, target=target, executor=Now())) == alone
    with ThreadPoolExecutor(2) as threads:
        assert plain(check(serve, SMALL, examples=200, seed=4, target=target, executor=threads)) == alone


def test_a_dask_cluster_gives_the_same_report(tmp_path):
    distributed = pytest.importorskip("distributed")
    alone = plain(check(et_read_once.serve, SMALL, examples=150, seed=1, target=BROKEN))
    threads = threading.active_count()
    # Threads of this process: a cluster's processes would leave multiprocessing's helper behind.
    with (
        pytest.importorskip("dask").config.set({"temporary-directory": str(tmp_path)}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50) as cluster,
        dask_workers(cluster.scheduler_address) as workers,
    ):
        assert plain(check(et_read_once.serve, SMALL, examples=150, seed=1, target=BROKEN, executor=workers)) == alone
        assert check(epoll_lt_echo.serve, SMALL, examples=150, target=GOOD, executor=workers).ok
        with pytest.raises(UsageError, match="there is no file no/such"):
            run_elsewhere(workers, Job("no/such/server.py:serve", pickle.dumps(SMALL), "linux"))
    assert threading.active_count() <= threads + 3


def run_elsewhere(executor, job):
    """A batch of one, for a job that Job.of would have refused."""
    return executor.submit(campaigns.run_job, job, [], None).result()


# As a command, so that nothing of multiprocessing stays in this process.
def test_workers_give_the_same_report(tmp_path):
    command = [sys.executable, "-m", "simkernel.cli", "check", GOOD, BROKEN, "--on", "sim", "--examples", "96", "--seed", "1", "--json"]
    kept = ["--database", str(tmp_path / "kept")]
    out = subprocess.run([*command, "--workers", "2", *kept], capture_output=True, text=True, timeout=60)
    assert out.returncode == 1, out.stderr
    good, broken = json.loads(out.stdout)
    for report, serve, target in ((good, epoll_lt_echo.serve, GOOD), (broken, et_read_once.serve, BROKEN)):
        del report["seconds"], report["rates"]
        assert report == json.loads(json.dumps(plain(check(serve, examples=96, seed=1, target=target))))
    assert Store.at(tmp_path / "kept", GOOD, "echo", "linux").done(1) == 96


def test_workers_and_a_scheduler_exclude_each_other():
    result = CliRunner().invoke(cli, ["check", GOOD, "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"])
    assert isinstance(result.exception, UsageError) and "choose one" in str(result.exception)


# --- what can't be run elsewhere ---
def test_a_server_that_has_no_name_is_refused():
    def serve(sys, listener, stop):
        pass

    for what in (serve, lambda sys, listener, stop: None):
        with pytest.raises(UsageError, match="must be a file's own function"):
            check(what, executor=Now())
    with pytest.raises(UsageError, match="must be a file's own function"):
        Job.of(epoll_lt_echo.serve, "no/such/file.py:serve", Echo(), "linux")


def test_a_contract_that_can_not_be_sent_is_refused():
    class Local(Echo):
        pass

    with pytest.raises(UsageError, match="the contract echo can't be sent"):
        check(epoll_lt_echo.serve, Local(), target=GOOD, executor=Now())


def test_without_dask_there_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'simkernel\[dask\]'"), dask_workers("tcp://127.0.0.1:1"):
        pass


def test_without_a_scheduler_there_is_a_clear_error(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(campaigns, "ANSWER", 0.3)
    with pytest.raises(UsageError, match="no dask scheduler answers at tcp"), dask_workers("tcp://127.0.0.1:1"):
        pass


# --- what is kept ---
def test_a_later_check_begins_with_what_failed(tmp_path):
    file = tmp_path / "server.py"
    file.write_text(SERVER.format(fixed=False))
    database = InMemoryExampleDatabase()
    store = Store.at(database, f"{file}:serve", "echo", "linux")

    def run(executor=None):
        target = f"{file}:serve"
        campaigns.example_of.cache_clear()
        serve = campaigns.load(target, "serve", 3)[1]
        return check(serve, SMALL, examples=40, target=target, database=database, executor=executor)

    first = run()
    assert first.failure is not None and first.failure.kind == "corruption"
    failing = store.known()
    assert failing
    again = run(Now())
    # The plain run fails here already; what was kept is what it was shrunk to.
    assert again.failure is not None and again.failure.token == first.failure.token
    file.write_text(SERVER.format(fixed=True))
    assert run().ok
    assert not set(failing) & set(Store.at(database, f"{file}:serve", "echo", "linux")._fetch("failures"))


def test_a_later_check_tries_others_and_knows_what_was_new():
    database = InMemoryExampleDatabase()
    store = Store.at(database, GOOD, "echo", "linux")
    first = check(epoll_lt_echo.serve, examples=100, target=GOOD, database=database)
    assert store.done(0) == 100
    corpus = store.known()
    assert corpus
    second = check(epoll_lt_echo.serve, examples=100, target=GOOD, database=database)
    assert store.done(0) == 200 and store.done(1) == 0
    assert first.ok and second.ok and second.covered > first.covered / 2
    # Of another profile, contract or server nothing is known.
    assert not Store.at(database, GOOD, "echo", "posix").known()
    assert not Store.at(database, GOOD, "http", "linux").known()


def test_a_directory_keeps_a_campaign(tmp_path):
    check(et_read_once.serve, examples=100, target=BROKEN, database=tmp_path / "kept")
    kept = Store.at(tmp_path / "kept", BROKEN, "echo", "linux").known()
    assert kept
    assert kept == Store.at(DirectoryBasedExampleDatabase(tmp_path / "kept"), BROKEN, "echo", "linux").known()
    report = check(et_read_once.serve, examples=100, target=BROKEN, database=tmp_path / "kept")
    assert report.failure is not None and report.failure.example == 2
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        check(et_read_once.serve, examples=100, target=BROKEN, database=tmp_path / "file")


# --- Ctrl-C ---
def test_an_interrupt_is_a_wish_and_a_second_one_an_end():
    with Interrupts() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("executor", [None, Now()], ids=["here", "elsewhere"])
def test_an_interrupted_check_reports_what_it_has(executor):
    database = InMemoryExampleDatabase()

    def progress(kernel, done, total):
        if done >= 70:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as stopped:
        check(epoll_lt_echo.serve, SMALL, examples=100_000, target=GOOD, database=database, progress=once(progress), executor=executor)
    report = stopped.value.report
    assert report.interrupted and report.ok
    assert 64 <= report.examples["sim"] < 300
    assert Store.at(database, GOOD, "echo", "linux").done(0) == report.examples["sim"]


def once(progress):
    """Calls ``progress`` until it has sent a signal: a second one would end the test."""
    sent = []

    def call(kernel, done, total):
        if not sent and done >= 70:
            sent.append(done)
            progress(kernel, done, total)

    return call


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["alone", "workers"])
def test_ctrl_c_in_a_terminal(tmp_path, workers):
    kept = tmp_path / "kept"
    command = [
        sys.executable,
        "-m",
        "simkernel.cli",
        "check",
        str(ROOT / "servers/epoll_lt_echo.py"),
        "--on",
        "sim",
        "--examples",
        "1000000",
    ]
    # In a group of its own: the signal goes to all of it, as from a terminal.
    process = subprocess.Popen(
        [*command, "--database", str(kept), *workers],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        while len(list(kept.glob("*/*"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # What was started has ended of itself; the last helper of the workers needs a moment.
    assert process.returncode == 130, err
    assert "stopped" in out and "examples in" in out
    assert "Traceback" not in err and "interrupted" in err
    store = Store.at(kept, str(ROOT / "servers/epoll_lt_echo.py:serve"), "echo", "linux")
    assert store.done(0) == int(out.split("stopped")[1].split()[0])
    assert store.known()
    deadline = time.monotonic() + 5
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.02)
