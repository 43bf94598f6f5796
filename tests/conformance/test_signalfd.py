"""signalfd: signals to be read."""

import struct

from simkernel.api import Syscalls
from simkernel.uapi import (
    EPOLLET,
    EPOLLIN,
    NSEC_PER_SEC,
    POLLIN,
    SFD_CLOEXEC,
    SFD_NONBLOCK,
    SIG_BLOCK,
    SIG_UNBLOCK,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGPIPE,
    SIGRTMIN,
    SIGSTOP,
    SIGUSR1,
    SIGUSR2,
)

from .helpers import World, err, mask, settle, start, watch, who


def read(sys: Syscalls, fd: int, n: int = 1) -> list[tuple[int, int, int, int]]:
    """(signo, code, pid, status) of up to n signals."""
    data = sys.read(fd, 128 * n)
    assert len(data) % 128 == 0
    out = []
    for i in range(0, len(data), 128):
        signo, _errno, code, pid = struct.unpack_from("<IiiI", data, i)
        (status,) = struct.unpack_from("<i", data, i + 40)
        out.append((signo, code, pid, status))
    return out


def test_a_signal_is_read(world: World) -> None:
    """A blocked signal that signalfd is for makes it IN (without RDNORM); a read takes it: number, SI_USER, the sender's pid."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1, SIGUSR2])
        fd = sys.signalfd(-1, [SIGUSR1], SFD_NONBLOCK)
        assert mask(sys, fd) == "0"
        assert err(sys.read, fd, 128) == "EAGAIN"
        sys.kill(sys.getpid(), SIGUSR2)
        assert mask(sys, fd) == "0"
        sys.kill(sys.getpid(), SIGUSR1)
        assert mask(sys, fd) == "IN"
        assert read(sys, fd) == [(SIGUSR1, 0, sys.getpid(), 0)]
        assert sys.sigpending() == {SIGUSR2}
        assert err(sys.read, fd, 128) == "EAGAIN"

    world.run(main)


def test_several_at_once(world: World) -> None:
    """A read takes as many as fit, lowest number first, real-time signals each time they were sent."""

    def main(sys: Syscalls) -> None:
        rt = SIGRTMIN + 2
        signums = [SIGUSR1, SIGUSR2, rt]
        sys.sigprocmask(SIG_BLOCK, signums)
        fd = sys.signalfd(-1, signums, SFD_NONBLOCK)
        for signum in (rt, SIGUSR2, SIGUSR1, SIGUSR1, rt):
            sys.kill(sys.getpid(), signum)
        assert err(sys.read, fd, 127) == "EINVAL"
        assert len(sys.read(fd, 200)) == 128
        assert [signo for signo, *_ in read(sys, fd, 8)] == [SIGUSR2, rt, rt]

    world.run(main)


def test_of_a_child(world: World) -> None:
    """SIGCHLD tells CLD_EXITED, CLD_KILLED, CLD_STOPPED or CLD_CONTINUED, the child's pid and its status."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGCHLD])
        fd = sys.signalfd(-1, [SIGCHLD])
        pid = sys.spawn(lambda sys: sys.exit(7))
        assert read(sys, fd) == [(SIGCHLD, 1, pid, 7)]
        sys.waitpid(pid)
        pid = sys.spawn(lambda sys: sys.nanosleep(60 * NSEC_PER_SEC))
        settle(sys)
        sys.kill(pid, SIGSTOP)
        assert read(sys, fd) == [(SIGCHLD, 5, pid, SIGSTOP)]
        sys.kill(pid, SIGCONT)
        assert read(sys, fd) == [(SIGCHLD, 6, pid, SIGCONT)]
        sys.kill(pid, SIGKILL)
        assert read(sys, fd) == [(SIGCHLD, 2, pid, SIGKILL)]
        sys.waitpid(pid)

    world.run(main)


def test_sigpipe_is_the_threads_own(world: World) -> None:
    """SIGPIPE, blocked, waits for who wrote."""

    def main(sys: Syscalls) -> None:
        sys.sigaction(SIGPIPE, 0)
        sys.sigprocmask(SIG_BLOCK, [SIGPIPE])
        fd = sys.signalfd(-1, [SIGPIPE])
        r, w = sys.pipe2()
        sys.close(r)
        assert err(sys.write, w, b"x") == "EPIPE"
        assert read(sys, fd) == [(SIGPIPE, 0, sys.getpid(), 0)]

    world.run(main)


def test_a_new_mask(world: World) -> None:
    """signalfd of an existing one changes what it is for, and wakes who polls it; SIGKILL and SIGSTOP are left out."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1, SIGUSR2])
        fd = sys.signalfd(-1, [SIGUSR1, SIGKILL, SIGSTOP], SFD_NONBLOCK | SFD_CLOEXEC)
        assert sys.fcntl(fd, 1) == 1
        assert sys.fcntl(fd, 3) == 0o4002
        sys.kill(sys.getpid(), SIGUSR2)
        assert mask(sys, fd) == "0"
        assert sys.signalfd(fd, [SIGUSR2]) == fd
        assert mask(sys, fd) == "IN"
        assert read(sys, fd)[0][0] == SIGUSR2

    world.run(main)


def test_errors(world: World) -> None:
    """EINVAL for flags and for an fd of another kind, EBADF for none."""

    def main(sys: Syscalls) -> None:
        assert err(sys.signalfd, -1, [SIGUSR1], 1) == "EINVAL"
        assert err(sys.signalfd, sys.eventfd(), [SIGUSR1]) == "EINVAL"
        assert err(sys.signalfd, 99, [SIGUSR1]) == "EBADF"
        assert err(sys.signalfd, -2, [SIGUSR1]) == "EBADF"
        fd = sys.signalfd(-1, [SIGUSR1])
        assert err(sys.write, fd, b"x" * 128) == "EINVAL"

    world.run(main)


def test_a_signal_that_is_not_blocked_goes_to_its_handler(world: World) -> None:
    """Without sigprocmask the handler gets the signal, not the signalfd."""

    def main(sys: Syscalls) -> None:
        log: list[int] = []
        sys.sigaction(SIGUSR1, log.append)
        fd = sys.signalfd(-1, [SIGUSR1], SFD_NONBLOCK)
        sys.kill(sys.getpid(), SIGUSR1)
        assert log == [SIGUSR1]
        assert err(sys.read, fd, 128) == "EAGAIN"

    world.run(main)


def test_a_blocking_read_waits(world: World) -> None:
    """A reader sleeps until somebody sends."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
        fd = sys.signalfd(-1, [SIGUSR1])
        got: list[int] = []
        tid = start(sys, lambda sys: got.append(read(sys, fd)[0][0]))
        assert got == []
        sys.kill(sys.getpid(), SIGUSR1)
        sys.join(tid)
        assert got == [SIGUSR1]

    world.run(main)


def test_edges(world: World) -> None:
    """Each signal that is sent is an edge, one that is pending already is not."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1, SIGUSR2])
        fd = sys.signalfd(-1, [SIGUSR1, SIGUSR2])
        ep = watch(sys, fd, EPOLLIN | EPOLLET)
        sys.kill(sys.getpid(), SIGUSR1)
        assert who(sys, ep) == [fd]
        sys.kill(sys.getpid(), SIGUSR1)
        assert who(sys, ep) == []
        sys.kill(sys.getpid(), SIGUSR2)
        assert who(sys, ep) == [fd]

    world.run(main)


def test_a_child_reads_its_own_signals(world: World) -> None:
    """A signalfd that was inherited shows the signals of whoever reads or polls it."""

    def main(sys: Syscalls) -> None:
        sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
        fd = sys.signalfd(-1, [SIGUSR1], SFD_NONBLOCK)
        sys.kill(sys.getpid(), SIGUSR1)

        def child(sys: Syscalls) -> None:
            assert mask(sys, fd) == "0"
            sys.kill(sys.getpid(), SIGUSR1)
            assert mask(sys, fd) == "IN"
            assert read(sys, fd) == [(SIGUSR1, 0, sys.getpid(), 0)]

        pid = sys.spawn(child)
        assert sys.waitpid(pid) == (pid, 0)
        assert sys.poll([(fd, POLLIN)], 0) == [(fd, POLLIN)]
        sys.sigaction(SIGUSR1, 1)
        sys.sigprocmask(SIG_UNBLOCK, [SIGUSR1])

    world.run(main)
