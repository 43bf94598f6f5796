"""Differences that simkernel conform found."""

from simkernel.api import Syscalls
from simkernel.uapi import AF_UNIX, SA_RESETHAND, SIGPIPE, SIOCATMARK, SOCK_STREAM

from .helpers import World, client, err, settle, start


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
