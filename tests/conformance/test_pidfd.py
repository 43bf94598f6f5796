"""pidfd_open: a process to wait for."""

from simkernel.api import Syscalls
from simkernel.uapi import EPOLLET, EPOLLIN, NSEC_PER_SEC, PIDFD_NONBLOCK, POLLIN, SIGKILL

from .helpers import MS, World, err, mask, ready, settle, watch


def test_it_is_readable_when_the_process_has_ended(world: World) -> None:
    """0 while it runs, IN when it has ended, HUP too when it has been waited for."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(lambda sys: sys.nanosleep(60 * NSEC_PER_SEC))
        fd = sys.pidfd_open(pid)
        assert sys.fcntl(fd, 1) == 1
        assert mask(sys, fd) == "0"
        sys.kill(pid, SIGKILL)
        assert sys.poll([(fd, POLLIN)], 10_000) == [(fd, POLLIN)]
        assert mask(sys, fd) == "IN|RDNORM"
        sys.waitpid(pid)
        assert mask(sys, fd) == "IN|HUP|RDNORM"

    world.run(main)


def test_edges(world: World) -> None:
    """The end of the process is one edge, that it was waited for another."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(lambda sys: sys.nanosleep(30 * MS))
        fd = sys.pidfd_open(pid)
        ep = watch(sys, fd, EPOLLIN | EPOLLET)
        assert ready(sys, ep) == []
        settle(sys, 80)
        assert ready(sys, ep) == [(fd, "IN")]
        assert ready(sys, ep) == []
        sys.waitpid(pid)
        assert ready(sys, ep) == [(fd, "IN|HUP")]

    world.run(main)


def test_errors(world: World) -> None:
    """EINVAL for no pid and for flags, ESRCH for nobody; it can't be read or written."""

    def main(sys: Syscalls) -> None:
        me = sys.getpid()
        assert err(sys.pidfd_open, 0) == "EINVAL"
        assert err(sys.pidfd_open, -1) == "EINVAL"
        assert err(sys.pidfd_open, 2**31 - 1) == "ESRCH"
        assert err(sys.pidfd_open, me, 1) == "EINVAL"
        pid = sys.spawn(lambda sys: None)
        sys.waitpid(pid)
        assert err(sys.pidfd_open, pid) == "ESRCH"
        fd = sys.pidfd_open(me, PIDFD_NONBLOCK)
        assert err(sys.read, fd, 1) == "EINVAL"
        assert err(sys.write, fd, b"x") == "EINVAL"
        assert sys.fcntl(fd, 3) == 0o4002

    world.run(main)


def test_of_a_zombie(world: World) -> None:
    """A process that has ended and was not waited for can be opened."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(lambda sys: None)
        settle(sys, 50)
        assert mask(sys, sys.pidfd_open(pid)) == "IN|RDNORM"
        sys.waitpid(pid)

    world.run(main)
