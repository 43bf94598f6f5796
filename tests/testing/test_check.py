"""The check finds bugs, passes what is right, and tells what it saw."""

import pytest

from servers import blocking_echo, epoll_et_echo, epoll_lt_echo, http_h11, poll_echo, prefork_echo, select_echo, threads_echo
from servers.broken import article_epoll, article_select, et_read_once
from simkernel.kernel.choice import Tape
from simkernel.testing import Echo, Http, check
from simkernel.testing.example import run_sim
from simkernel.testing.replay import parse
from simkernel.uapi import EPOLL_CTL_ADD, EPOLLIN, MSG_NOSIGNAL, POLLIN, POLLOUT, SHUT_RDWR, SOCK_NONBLOCK

GOOD = [blocking_echo, select_echo, poll_echo, epoll_lt_echo, epoll_et_echo, prefork_echo, threads_echo]
MOST_CALLS = 25


@pytest.mark.parametrize("server", GOOD, ids=lambda m: m.__name__)
def test_a_good_server_passes_on_both_kernels(server):
    report = check(server.serve, Echo(), examples=60, on="both", linux_examples=4)
    assert report.ok, report.failure
    assert report.examples == {"sim": 60, "linux": 4}


def test_the_http_server_passes_on_both_kernels():
    report = check(http_h11.serve, Http(), examples=60, on="both", linux_examples=4)
    assert report.ok, report.failure


@pytest.mark.parametrize(
    ("server", "kind", "said"),
    [
        (article_epoll, "hang", "accept until EAGAIN"),
        (article_select, "spin", "end of the stream"),
        (et_read_once, "hang", "EAGAIN"),
    ],
    ids=["article_epoll", "article_select", "et_read_once"],
)
def test_a_broken_server_is_found_and_explained(server, kind, said):
    report = check(server.serve, Echo(), examples=200)
    failure = report.failure
    assert failure is not None
    assert failure.kind == kind
    assert any(said in line for line in failure.explanation), failure.explanation
    assert 0 < failure.calls <= MOST_CALLS
    # The token is the run: the same failure, with the same trace.
    again = run_sim(server.serve, Echo(), Tape(parse(failure.token).tape), trace=type(failure.trace)())
    assert again is not None and again.kind == kind
    assert again.trace.digest() == failure.trace.digest()
    assert again.explanation == failure.explanation
    assert any("wakes [" in line for line in failure.story())


@pytest.mark.parametrize("server", [article_epoll, article_select], ids=["article_epoll", "article_select"])
@pytest.mark.parametrize("seed", range(3))
def test_the_articles_servers_are_found_with_any_seed(server, seed):
    assert not check(server.serve, Echo(), examples=200, seed=seed).ok


def echo_all(sys, listener, stop, reply=lambda data: data, keep=False, early=False):
    """A small right server, with a place for a bug."""
    unsent = {}
    while True:
        watched = [(fd, POLLOUT if data else POLLIN) for fd, data in unsent.items()]
        for fd, _ in sys.poll([(stop, POLLIN), (listener, POLLIN), *watched]):
            if fd == stop:
                for conn in unsent:
                    sys.close(conn)
                return
            if fd == listener:
                try:
                    unsent[sys.accept4(listener, SOCK_NONBLOCK)[0]] = b""
                except OSError:
                    sys.nanosleep(1_000_000)
                continue
            try:
                data = unsent[fd] or reply(sys.recv(fd, 65536))
                unsent[fd] = data[sys.send(fd, data, MSG_NOSIGNAL) :] if data else data
            except BlockingIOError:
                unsent[fd] = data
            except ConnectionError:
                data = b""
            if not data:
                del unsent[fd]
                if not keep:
                    sys.close(fd)
                if early:
                    return


def test_corruption():
    def serve(sys, listener, stop):
        echo_all(sys, listener, stop, reply=lambda data: data.replace(b">", b"}"))

    failure = check(serve, examples=50).failure
    assert failure is not None and failure.kind == "corruption"
    assert "came back wrong" in failure.message


def test_lost_bytes():
    def serve(sys, listener, stop):
        while True:
            if sys.poll([(stop, POLLIN), (listener, POLLIN)])[0][0] == stop:
                return
            conn, _ = sys.accept4(listener)
            try:
                sys.send(conn, sys.recv(conn, 8))
                sys.shutdown(conn, SHUT_RDWR)
            except OSError:
                pass
            sys.close(conn)

    failure = check(serve, examples=50).failure
    assert failure is not None and failure.kind == "corruption"


class PatientEcho(Echo):
    """Clients may wait until others have been served, as echo_all has it."""

    served_within_ns = None


def test_crash():
    def serve(sys, listener, stop):
        echo_all(sys, listener, stop, reply=lambda data: data if len(data) != 1000 else data[{}["gone"] :])

    failure = check(serve, PatientEcho(), examples=200).failure
    assert failure is not None and failure.kind == "crash"
    assert "KeyError: 'gone'" in failure.message and "test_check.py" in failure.message


def test_leak():
    def serve(sys, listener, stop):
        echo_all(sys, listener, stop, keep=True)

    # Kept open, the client never sees the end: that is what it reports first.
    failure = check(serve, examples=50).failure
    assert failure is not None and failure.kind == "hang"

    def leaves_its_epoll(sys, listener, stop):
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, stop, EPOLLIN)
        echo_all(sys, listener, stop)

    for on in ("sim", "linux"):
        failure = check(leaves_its_epoll, examples=5, on=on, linux_examples=1).failure
        assert failure is not None and failure.kind == "leak" and "left open" in failure.message


def test_leaves_a_child():
    def serve(sys, listener, stop):
        sys.spawn(lambda sys: None)
        echo_all(sys, listener, stop)

    failure = check(serve, examples=5).failure
    assert failure is not None and failure.kind == "leak" and "child" in failure.message


def test_returns_too_early():
    failure = check(lambda sys, listener, stop: echo_all(sys, listener, stop, early=True), examples=50).failure
    assert failure is not None and failure.kind in ("crash", "hang")


def test_a_spinning_wait_is_named():
    def serve(sys, listener, stop):
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, listener, EPOLLIN)
        while True:
            sys.epoll_wait(ep, 8)

    failure = check(serve, examples=5).failure
    assert failure is not None and failure.kind == "spin"
    assert failure.calls <= MOST_CALLS
    assert any("nobody acts on" in line for line in failure.explanation)


def test_crash_of_a_child():
    def child(sys):
        raise ValueError("no worker")

    def serve(sys, listener, stop):
        sys.waitpid(sys.spawn(child))
        echo_all(sys, listener, stop)

    failure = check(serve, examples=5).failure
    assert failure is not None and failure.kind == "crash" and "no worker" in failure.message


def test_bad_arguments():
    with pytest.raises(ValueError, match="on must be"):
        check(epoll_lt_echo.serve, on="mars")
    with pytest.raises(ValueError, match="at least 1"):
        check(epoll_lt_echo.serve, examples=0)
