"""Which suites there are, and why some of their tests can't run on the fake kernel."""

import fnmatch
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from simkernel.errors import UsageError


@dataclass(frozen=True)
class Suite:
    """One suite: modules that hold tests, and who runs them.

    modules  dotted names; those that this Python does not have are left out, if it has any of them
    kind     "unittest" or "pytest"
    only     regular expression that a test's id has to match (default: all tests)
    uses     resources of test.support, above RESOURCES: "network" for suites that ask for it and connect to this machine
    """

    name: str
    modules: tuple[str, ...]
    kind: str = "unittest"
    only: str = ""
    uses: tuple[str, ...] = ()


# Suites that won't run without the resource "network", though what they connect to is on this machine.
LOCAL: Final = ("test_timeout", "test_socketserver")

# The processes of concurrent.futures are forks of the interpreter, so only its thread pools and futures are looked at.
THREAD_POOLS: Final = r"ThreadPool|Future(Tests?|s)?\."
POOL_MODULES: Final = ("test_thread_pool", "test_future", "test_wait", "test_as_completed", "test_init", "test_shutdown")

# The suites that the aim is for.
FIRST: Final = (
    *(
        Suite(name, (f"test.{name}",), uses=("network",) if name in LOCAL else ())
        for name in "test_select test_poll test_epoll test_selectors test_socket test_timeout test_socketserver test_httpservers".split()
    ),
    *(
        Suite(f"test_asyncio.{name}", (f"test.test_asyncio.{name}",))
        for name in """test_selector_events test_streams test_sock_lowlevel test_base_events test_unix_events test_events test_server
        test_sslproto test_subprocess""".split()
    ),
    *(Suite(name, (f"test.{name}",)) for name in "test_threading test_thread test_queue test_signal test_ssl".split()),
    Suite(
        "test_concurrent_futures",
        ("test.test_concurrent_futures", *(f"test.test_concurrent_futures.{name}" for name in POOL_MODULES)),
        only=THREAD_POOLS,
    ),
    *(
        Suite(f"trio.{name}", (f"trio._tests.{name}",), "pytest")
        for name in """test_socket test_highlevel_generic test_highlevel_open_tcp_listeners test_highlevel_open_tcp_stream
        test_highlevel_open_unix_stream test_highlevel_serve_listeners test_highlevel_socket test_highlevel_ssl_helpers test_ssl""".split()
    ),
    Suite("trio.test_io", ("trio._core._tests.test_io",), "pytest"),
)
SUITES: Final = {suite.name: suite for suite in FIRST}

# Resources (test.support) that tests may use, the same on both kernels: no network, but time.
RESOURCES: Final = ("cpu", "walltime")


@dataclass(frozen=True)
class Reason:
    """Why a test can't run on the fake kernel: what its failure, or its own reason for skipping itself, says."""

    pattern: str
    text: str

    def matches(self, why: str) -> bool:
        """Whether a test's words are of this reason."""
        return re.search(self.pattern, why) is not None


# By what is seen at run time.
REASONS: Final = (
    Reason(r"Unsupported: .*\bfork", "forks the interpreter: a Python stack can't be copied"),
    Reason(r"Unsupported: .* is a real program", "starts a program that is not Python's"),
    Reason(r"Unsupported: os.openpty", "pseudo-terminals are not modelled"),
    Reason(r"AF_VSOCK|VSOCK", "AF_VSOCK, sockets to a hypervisor, is not modelled"),
    Reason(r"Unsupported: socket\(family 16,", "AF_NETLINK, which configures the network, is not modelled"),
    Reason(r"AF_ALG|ALG required", "AF_ALG, the kernel's cryptography, is not modelled"),
    Reason(r"AF_CAN|SocketCan|CAN_", "AF_CAN, the bus of cars, is not modelled"),
    Reason(r"AF_QIPCRTR|QIPCRTR", "AF_QIPCRTR, sockets to Qualcomm's processors, is not modelled"),
    Reason(r"Resource 'www\..* is not available", "needs the internet"),
    Reason(r"Unsupported: .*ITIMER_(VIRTUAL|PROF)", "needs a timer of processor time: computing takes no virtual time"),
    Reason(r"SCTP", "SCTP is not modelled"),
)

# By name: (pattern of the test's id, why it is no test of the kernel).
NAMED: Final[tuple[tuple[str, str], ...]] = (
    ("*.SubinterpThreadingTests.*", "runs a second interpreter, whose modules are the real ones"),
    ("*.test_PyThreadState_SetAsyncExc", "asks the interpreter, by ctypes, for a thread of the operating system"),
    ("*.test_can_interrupt_tight_loops", "a loop that only computes is not preempted"),
    ("*.test_print_exception_gh_102056", "a loop that only computes is not preempted"),
    ("*.ThreadPoolExecutorTest.test_hang_global_shutdown_lock", "forks the interpreter: a Python stack can't be copied"),
    ("*.test_signal.GenericTests.test_functions_module_attr", "asks which functions are written in C"),
    ("*.test_signal.RaiseSignalTest.test__thread_interrupt_main", "asks for a signal while the interpreter takes its modules apart"),
)


def why_not(test: str, why: str) -> str | None:
    """Why a test that passes on the real kernel can't run on the fake one, by its id and what it said there; None if it should."""
    for pattern, text in NAMED:
        if fnmatch.fnmatchcase(test, pattern):
            return text
    return next((reason.text for reason in REASONS if reason.matches(why)), None)


def choose(names: Iterable[str]) -> list[Suite]:
    """The suites by their names, with shell patterns; all without.  Another name is a module of unittest's tests.

    UsageError for a name that is neither.
    """
    chosen: dict[str, Suite] = {}
    for name in names:
        found = fnmatch.filter(SUITES, name) or [known for known in SUITES if known.startswith(name + ".")]
        for known in found:
            chosen[known] = SUITES[known]
        if not found:
            if not all(part.isidentifier() for part in name.split(".")) or importlib.util.find_spec(name.partition(".")[0]) is None:
                raise UsageError(f"there is no suite and no module {name!r}: choose of {', '.join(SUITES)}")
            chosen[name] = Suite(name, (name,))
    return list(chosen.values()) if chosen else list(SUITES.values())
