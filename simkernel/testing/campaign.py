"""Campaigns: exploration over many processes or machines, kept in a database, and stopped at any time without a loss.

The work travels as data: a Job names the server, a batch of tries says what to run.  Any concurrent.futures.Executor will do.  What is
found does not depend on it: the tries of a generation are fixed before it begins, outcomes are taken in their order, and of several
failures the one with the lowest number wins.
"""

import contextlib
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import active_children, get_context
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from simkernel.errors import UsageError
from simkernel.testing.contracts import Contract
from simkernel.testing.escapes import no_escape
from simkernel.testing.example import Example, sim_example
from simkernel.testing.explore import Found, Here, Search, search, smallest
from simkernel.testing.load import load
from simkernel.testing.scenario import Serve
from simkernel.testing.strategies import CORPUS, Outcome, Try, make_strategy, run_batch
from simkernel.testing.worlds import no_last_words

# Where a campaign is kept, unless told otherwise.
DATABASE = ".simkernel"
# Seconds between two looks at whether the campaign was told to stop, and to wait for a scheduler's answer.
LOOK = 0.2
ANSWER = 10


@dataclass(frozen=True, slots=True)
class Job:
    """An example that any process can make for itself: the server's ``path:function``, the contract (pickled), the profile."""

    target: str
    contract: bytes
    profile: str
    # The kinds of escapes.py that are allowed.
    allow_real: frozenset[str] = frozenset()

    @classmethod
    def of(cls, serve: Serve, target: str, contract: Contract, profile: str, allow_real: frozenset[str] = frozenset()) -> "Job":
        """UsageError for what can't be named: only what stands at the top of a file can be found by another process."""
        name = getattr(serve, "__qualname__", type(serve).__qualname__)
        path, _, function = target.partition(":")
        if not path or not function.isidentifier() or "<locals>" in name or not Path(path).is_file():
            raise UsageError(
                f"{name} can't be run by other processes: they load it as FILE.py:FUNCTION, so it must be a file's own function"
            )
        try:
            pickled = pickle.dumps(contract)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(f"the contract {contract.name} can't be sent to other processes: {error}") from None
        return cls(target, pickled, profile, allow_real)


@lru_cache(maxsize=8)
def example_of(job: Job) -> Example:
    """The example of a job, made once in each process."""
    # The server's file first: the contract may be defined there.
    _module, serve, _target = load(job.target, "serve", 3)
    return sim_example(serve, pickle.loads(job.contract), job.profile, job.allow_real)


def run_job(job: Job, tries: Sequence[Try], seen: frozenset[int] | None) -> list[Outcome]:
    """One batch, in whichever process this is."""
    example = example_of(job)
    with no_escape(job.allow_real), no_last_words():
        return run_batch(example, tries, seen)


class Workers:
    """Runs batches on an executor, all those of a generation at once.  ``stop()`` true: what has not begun is left."""

    def __init__(self, executor: Executor, job: Job, stop: Callable[[], bool]) -> None:
        self._executor = executor
        self._job = job
        self._stop = stop

    def run(self, batches: Sequence[Sequence[Try]], seen: frozenset[int] | None) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in their order; ``seen`` are the pairs that count as covered already, None: nobody looks."""
        futures: list[Future[list[Outcome]]] = []
        try:
            futures += (self._executor.submit(run_job, self._job, batch, seen) for batch in batches)
            for future in futures:
                while not future.done() and not self._stop():
                    wait([future], timeout=LOOK)
                if not future.done() and self._stop():
                    # What runs is waited for, so that nothing that was found is lost.
                    for other in futures:
                        other.cancel()
                if future.cancelled():
                    continue
                try:
                    yield future.result()
                except CancelledError:
                    continue
        except BrokenExecutor as error:
            raise UsageError(f"a worker has died ({error}): is there enough memory, and does the server leave its process alone?") from None
        finally:
            for future in futures:
                future.cancel()


def ignore_interrupts() -> None:
    """Ctrl-C goes to every process of the terminal; what becomes of it is the first one's to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


class LocalWorkers(ProcessPoolExecutor):
    """A pool whose processes hear nothing of Ctrl-C from their first instruction on."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The same; a process that this starts inherits the mask, and ``ignore_interrupts`` comes when it has imported what it needs."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def local_workers(n: int) -> Iterator[Executor]:
    """An executor of ``n`` processes on this machine, gone at the end."""
    before = set(active_children())
    pool = LocalWorkers(n, mp_context=get_context("spawn"), initializer=ignore_interrupts)
    try:
        yield pool
    except KeyboardInterrupt:
        # Asked a second time: no more waiting.
        for child in active_children():
            if child not in before:
                child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def dask_workers(address: str) -> Iterator[Executor]:
    """An executor over the dask cluster whose scheduler is at ``address``.  UsageError without dask, or when nobody answers."""
    try:
        from distributed import Client  # noqa: PLC0415
    except ImportError:
        raise UsageError("a scheduler needs dask.distributed: pip install 'simkernel[dask]'") from None
    try:
        client = Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"no dask scheduler answers at {address}: {error}") from None
    try:
        yield client.get_executor(pure=False)
    finally:
        client.close()


class Interrupts:
    """Ctrl-C as a wish: the first sets ``asked``, a second one is KeyboardInterrupt as ever.

    Only in the main thread, and only where nobody else has taken SIGINT: elsewhere it changes nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __call__(self) -> bool:
        return self.asked

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Store:
    """What is kept of the campaigns against one server, in a Hypothesis ExampleDatabase: failures, the corpus, how far each seed got."""

    def __init__(self, database: ExampleDatabase, target: str, contract: str, profile: str) -> None:
        self._database = database
        self._name = f"simkernel 1 {target} {contract} {profile}"

    @classmethod
    def at(cls, where: "ExampleDatabase | str | Path", target: str, contract: str, profile: str) -> "Store":
        """In ``where``: a database, or the directory of one."""
        if not isinstance(where, ExampleDatabase):
            path = Path(where)
            if path.exists() and not path.is_dir():
                raise UsageError(f"the database {path} is a file: name a directory")
            where = DirectoryBasedExampleDatabase(path)
        return cls(where, target, contract, profile)

    def _key(self, what: str) -> bytes:
        return f"{self._name} {what}".encode()

    def _fetch(self, what: str) -> list[bytes]:
        """In an order that no file system decides."""
        return sorted(self._database.fetch(self._key(what)), key=lambda tape: (len(tape), tape))

    def known(self) -> list[bytes]:
        """The tapes to begin with: failures, then the corpus."""
        return list(dict.fromkeys([*self._fetch("failures"), *self._fetch("corpus")[:CORPUS]]))

    def keep(self, tapes: Sequence[bytes]) -> None:
        """Tapes that covered something new."""
        for tape in tapes:
            self._database.save(self._key("corpus"), tape)

    def failed(self, tape: bytes) -> None:
        """A tape that fails."""
        self._database.save(self._key("failures"), tape)

    def fixed(self, tapes: Sequence[bytes]) -> None:
        """Tapes that do not fail, or no longer."""
        for tape in tapes:
            self._database.delete(self._key("failures"), tape)

    def done(self, seed: int) -> int:
        """How many examples of a seed were tried."""
        return max((int(value) for value in self._database.fetch(self._key(f"seed {seed}")) if value.isdigit()), default=0)

    def did(self, seed: int, examples: int) -> None:
        """``examples`` of a seed were tried, in all."""
        key = self._key(f"seed {seed}")
        for value in list(self._database.fetch(key)):
            self._database.delete(key, value)
        self._database.save(key, str(examples).encode())


@dataclass(frozen=True)
class Campaign:
    """What a campaign came to: the failure, shrunk; examples that ran, pairs covered; whether it was stopped; what was proved."""

    found: Found | None
    ran: int
    covered: int
    stopped: bool
    proofs: list[str]


def campaign(
    example: Example,
    examples: int,
    seed: int,
    tick: Callable[[int], object],
    *,
    strategy: str = "portfolio",
    preemptions: int | None = None,
    executor: Executor | None = None,
    job: Job | None = None,
    store: Store | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Campaign:
    """``explore`` with more hands and a memory.  ``executor`` runs the ``job``'s examples, else this process does.

    What a ``store`` knows is tried first, and what is found goes there at once.  After ``stop()`` is true nothing new begins.
    """
    done = store.done(seed) if store is not None else 0
    plan = make_strategy(strategy, seed, examples, store.known() if store is not None else (), done, preemptions)
    if executor is not None and job is not None:
        runner: Here | Workers = Workers(executor, job, stop)
    else:
        runner = Here(example, lambda n: tick(n) or stop())
    saved = 0

    def progress(so_far: Search) -> None:
        nonlocal saved
        if isinstance(runner, Workers):
            tick(so_far.ran)
        if store is not None:
            store.keep(so_far.kept[saved:])
            saved = len(so_far.kept)

    out = search(plan, runner, stop, progress)
    found = out.found
    if store is not None:
        store.did(seed, done + out.ran)
        store.fixed(out.fixed)
        if found is not None:
            store.failed(found.tape)
    if found is not None:
        found = smallest(example, found, stop)
        if store is not None:
            store.failed(found.tape)
    return Campaign(found, out.ran, len(plan.pairs), out.stopped, plan.proofs() if found is None else [])


class Interrupted(KeyboardInterrupt):
    """A check was stopped by Ctrl-C; ``report`` is what it has so far."""

    def __init__(self, report: Any) -> None:
        super().__init__()
        self.report = report
