"""Differences that simkernel conform found."""

from simkernel.api import Syscalls
from simkernel.conform.program import Program
from simkernel.conform.stage import play_tasks
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLIN,
    EPOLLONESHOT,
    MSG_PEEK,
    MSG_WAITALL,
    POLLHUP,
    POLLOUT,
    SA_RESETHAND,
    SHUT_RD,
    SHUT_WR,
    SIGKILL,
    SIGPIPE,
    SIOCATMARK,
    SO_RCVBUF,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import World, client, err, listener, settle, start, tcp_pair, watch, who


def test_a_sleeping_accept_has_its_number_already(world: World) -> None:
    """accept takes the number before it sleeps: what another thread opens meanwhile gets the next one, and dup2 to it is EBUSY."""

    def main(sys: Syscalls) -> None:
        name = b"\0found-%d" % sys.getpid()
        listener = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.bind(listener, name)
        sys.listen(listener, 4)
        got: list[int] = []
        # (start() takes a number for a while: the lowest, which is free again by then.)
        tid = start(sys, lambda sys: got.append(sys.accept4(listener)[0]))
        first = sys.dup(listener)
        taken = {4, 5} - {first}
        assert [err(sys.dup2, listener, fd) for fd in sorted(taken)] == ["EBUSY"]
        fd = client(sys, name)
        sys.join(tid)
        assert set(got) == taken
        assert fd not in taken

    world.run(main)


def test_the_number_is_free_again_when_accept_fails(world: World) -> None:
    """An accept that comes to nothing gives its number back."""

    def main(sys: Syscalls) -> None:
        listener = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.bind(listener, b"\0found2-%d" % sys.getpid())
        sys.listen(listener, 4)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(err(sys.accept4, listener)))
        sys.shutdown(listener, 2)
        sys.join(tid)
        assert got == ["EINVAL"]
        assert [sys.dup(listener), sys.dup(listener)] == [4, 5]

    world.run(main)


def test_a_thread_waits_for_its_own_children_first(world: World) -> None:
    """waitpid(-1) with two dead children: the one that the calling thread has forked comes first, however young."""

    def main(sys: Syscalls) -> None:
        first = sys.spawn(lambda sys: None)
        got: list[int] = []

        def thread(sys: Syscalls) -> None:
            got.append(sys.spawn(lambda sys: None))
            settle(sys, 100)
            got.append(sys.waitpid(-1)[0])

        sys.join(sys.thread(thread))
        assert got[0] == got[1] != first
        assert sys.waitpid(-1)[0] == first

    world.run(main)


def test_an_epoll_knows_no_ioctl_of_sockets(world: World) -> None:
    """SIOCATMARK of an epoll is EINVAL: it has an ioctl of its own, for busy polling alone.  Of a pipe it is ENOTTY."""

    def main(sys: Syscalls) -> None:
        assert err(sys.ioctl, sys.epoll_create1(), SIOCATMARK) == "EINVAL"
        assert err(sys.ioctl, sys.pipe2()[0], SIOCATMARK) == "ENOTTY"

    world.run(main)


def test_sigpipe_by_default_ends_who_writes(world: World) -> None:
    """A process whose SIGPIPE has its default action again (SA_RESETHAND) is ended by its second write to a broken pipe."""

    def main(sys: Syscalls) -> None:
        def child(sys: Syscalls) -> None:
            r, w = sys.pipe2()
            sys.close(r)
            sys.sigaction(SIGPIPE, lambda signum: None, SA_RESETHAND)
            assert err(sys.write, w, b"x") == "EPIPE"
            err(sys.write, w, b"x")
            sys.exit(7)

        _, status = sys.waitpid(sys.spawn(child))
        assert status & 0x7F == SIGPIPE

    world.run(main)


def test_select_of_a_number_without_a_file(world: World) -> None:
    """select of the number that a sleeping accept has taken is no EBADF, but POLLNVAL: ready in every set."""

    def main(sys: Syscalls) -> None:
        listener = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.bind(listener, b"\0found3-%d" % sys.getpid())
        sys.listen(listener, 4)
        tid = start(sys, lambda sys: err(sys.accept4, listener))
        # One of the two is accept's (start() has a number for a while too).
        fd = 9 - sys.dup(listener)
        assert err(sys.select, [fd], [fd], [fd], 0) == ([fd], [fd], [fd])
        assert err(sys.select, [fd + 4], [], [], 0) == "EBADF"
        sys.shutdown(listener, 2)
        sys.join(tid)

    world.run(main)


def test_a_poll_of_an_epoll_wakes_one_of_its_sleepers(world: World) -> None:
    """Whoever looks at a ready list and leaves something there wakes a sleeper (ep_done_scan), and be it a poll of the epoll.

    The sleeper finds nothing and sleeps on, at the head of the queue now: so the next event is another's first.
    """

    def main(sys: Syscalls) -> None:
        program = Program((), observe=False, tasks=(5,)).with_calls(
            [
                (-1, "socket", AF_INET6, SOCK_STREAM),
                (-1, "listen", 3, 1),
                (-1, "socket", AF_INET6, SOCK_STREAM),
                (-1, "epoll_create1", 0),
                (-1, "epoll_ctl", 5, EPOLL_CTL_ADD, 3, EPOLLIN | EPOLLONESHOT, None),
                (2, "epoll_wait", 5, 1, -1),
                (1, "epoll_wait", 5, 1, -1),
                (0, "poll", ((5, POLLOUT), (3, POLLOUT)), -1),
                (4, "epoll_wait", 5, 1, -1),
                (3, "shutdown", 3, SHUT_RD),
                (0, "epoll_ctl", 5, EPOLL_CTL_ADD, 4, EPOLLIN, None),
            ]
        )
        results = [returned for returned, _ in play_tasks(sys, program)]
        assert results[9] == [(3, None), (0, [(3, POLLOUT | POLLHUP)]), (4, [(3, POLLHUP)])]
        assert results[10] == [(0, None), (2, [(4, POLLHUP)]), (1, [(4, POLLHUP)])]

    world.run(main)


def test_a_writer_that_is_killed_still_wakes_who_polls(world: World) -> None:
    """A blocked write that SIGKILL ends leaves the pipe as an interrupted one does: with an edge for its readers."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        ep = watch(sys, r, EPOLLIN | EPOLLET)
        pid = sys.spawn(lambda sys: sys.write(w, bytes(300_000)))
        settle(sys, 50)
        assert who(sys, ep) == [r]
        assert who(sys, ep) == []
        sys.kill(pid, SIGKILL)
        assert sys.waitpid(pid) == (pid, SIGKILL)
        assert who(sys, ep) == [r]

    world.run(main)


def test_a_peek_that_waits_for_all_while_another_reads(world: World) -> None:
    """MSG_PEEK|MSG_WAITALL counts what it has copied: once another has read, each wake-up copies again from where the stream begins."""

    def main(sys: Syscalls) -> None:
        a, b = tcp_pair(sys)
        got: list[bytes] = []
        tid = start(sys, lambda sys: got.append(sys.recv(a, 5000, MSG_PEEK | MSG_WAITALL)))
        sys.send(b, b"1")
        settle(sys)
        assert sys.recv(a, 1) == b"1"
        sys.send(b, b"2")
        settle(sys)
        sys.close(b)
        sys.join(tid)
        assert got == [b"122"]

    world.run(main)


def test_a_recv_of_nothing_ends_with_the_first_wake_up(world: World) -> None:
    """recv(fd, 0) sleeps on an empty TCP socket, and returns when anything wakes it, such as the socket's own SHUT_WR."""

    def main(sys: Syscalls) -> None:
        a, _b = tcp_pair(sys)
        got: list[bytes] = []
        tid = start(sys, lambda sys: got.append(sys.recv(a, 0)))
        assert got == []
        sys.shutdown(a, SHUT_WR)
        sys.join(tid)
        assert got == [b""]

    world.run(main)


def test_waitall_of_more_than_the_window(world: World) -> None:
    """MSG_WAITALL reads as it comes: a peer that a small window has stopped goes on, and what it sends then wakes the reader."""

    def reader(sys: Syscalls, addr: tuple[str, int]) -> None:
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 4096)
        sys.connect(fd, addr)
        sys.send(fd, b"go")
        assert len(sys.recv(fd, 24_000, MSG_WAITALL)) == 24_000

    def main(sys: Syscalls) -> None:
        fd, addr = listener(sys)
        pid = sys.spawn(reader, addr)
        conn, _ = sys.accept4(fd)
        sys.recv(conn, 10)
        left = bytes(24_000)
        while left:
            left = left[sys.send(conn, left) :]
        assert sys.waitpid(pid) == (pid, 0)

    world.run(main)
