"""Processes and threads: fork, exit, wait, kill, and what each shares with whom."""

import errno
import os
from collections.abc import Callable

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import AF_UNIX, SIGKILL, SIGTERM, SOCK_STREAM, WNOHANG

from .helpers import World, err, mask, settle, start


def sleeper(sys: Syscalls) -> None:
    """Sleep until a signal ends it."""
    while True:
        sys.nanosleep(60 * 10**9)


def spawn_and_await_end(sys: Syscalls, main: Callable[[Syscalls], object]) -> int:
    """Spawn a child and return its pid when it is a zombie.  End of file on a pipe tells, however long its end takes."""
    r, w = sys.pipe2()
    pid = sys.spawn(main)
    sys.close(w)
    assert sys.read(r, 1) == b""
    sys.close(r)
    settle(sys)
    return pid


def test_child_reports_through_a_pipe(world: World) -> None:
    """fork: the child has the parent's fds, its own pid, and the parent as getppid."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        pid = sys.spawn(lambda sys: sys.write(w, b"%d %d" % (sys.getpid(), sys.getppid())))
        assert sys.waitpid(pid) == (pid, 0)
        assert sys.read(r, 99) == b"%d %d" % (pid, sys.getpid())
        assert pid != sys.getpid()

    world.run(main)


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 1), (3, 3), (255, 255), (259, 3)])
def test_exit_status(world: World, status: int, expected: int) -> None:
    """waitpid's status has the low 8 bits of what was given to exit, times 256."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(lambda sys: sys.exit(status))
        assert sys.waitpid(pid) == (pid, expected << 8)
        assert os.waitstatus_to_exitcode(expected << 8) == expected

    world.run(main)


@pytest.mark.parametrize("signum", [SIGKILL, SIGTERM])
def test_killed_status(world: World, signum: int) -> None:
    """A process that a signal ended has the signal's number as its status."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(sleeper)
        settle(sys)
        sys.kill(pid, signum)
        assert sys.waitpid(pid) == (pid, signum)

    world.run(main)


def test_kill_before_the_first_step(world: World) -> None:
    """A child may be killed before it has done anything."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(sleeper)
        sys.kill(pid, SIGKILL)
        assert sys.waitpid(pid) == (pid, SIGKILL)

    world.run(main)


def test_kill_oneself(world: World) -> None:
    """A process may send itself SIGKILL, and doesn't come back from the call."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            sys.kill(sys.getpid(), SIGKILL)
            sys.write(w, b"alive")

        pid = sys.spawn(child)
        sys.close(w)
        assert sys.waitpid(pid) == (pid, SIGKILL)
        assert sys.read(r, 9) == b""

    world.run(main)


def test_zombie_until_waited_for(world: World) -> None:
    """An ended child keeps its pid: kill succeeds and does nothing until waitpid has taken it; then ESRCH and ECHILD."""

    def main(sys: Syscalls) -> None:
        pid = spawn_and_await_end(sys, lambda sys: sys.exit(7))
        assert err(sys.kill, pid, SIGTERM) is None
        assert err(sys.kill, pid, SIGKILL) is None
        assert sys.waitpid(pid) == (pid, 7 << 8)
        assert err(sys.kill, pid, SIGTERM) == "ESRCH"
        assert err(sys.waitpid, pid) == "ECHILD"

    world.run(main)


def test_kill_nobody(world: World) -> None:
    """kill of a pid that doesn't exist is ESRCH; a signal number that doesn't exist is EINVAL; 0 only looks."""

    def main(sys: Syscalls) -> None:
        pid = sys.spawn(sleeper)
        assert err(sys.kill, pid, 0) is None
        assert err(sys.kill, pid, 65) == "EINVAL"
        assert err(sys.waitpid, pid, WNOHANG) == (0, 0)
        sys.kill(pid, SIGKILL)
        sys.waitpid(pid)
        assert err(sys.kill, pid, 0) == "ESRCH"
        assert err(sys.kill, pid, SIGKILL) == "ESRCH"

    world.run(main)


def test_wnohang(world: World) -> None:
    """WNOHANG returns (0, 0) while the child runs, and takes one that has ended."""

    def main(sys: Syscalls) -> None:
        go_r, go_w = sys.pipe2()
        pid = sys.spawn(lambda sys: sys.read(go_r, 1))
        assert sys.waitpid(pid, WNOHANG) == (0, 0)
        assert sys.waitpid(-1, WNOHANG) == (0, 0)
        ended = spawn_and_await_end(sys, lambda sys: sys.exit(3))
        assert sys.waitpid(pid, WNOHANG) == (0, 0)
        assert sys.waitpid(-1, WNOHANG) == (ended, 3 << 8)
        assert err(sys.waitpid, ended, WNOHANG) == "ECHILD"
        sys.write(go_w, b"!")
        assert sys.waitpid(pid) == (pid, 0)

    world.run(main)


def test_wait_for_any_child(world: World) -> None:
    """waitpid(-1) takes whichever child has ended, and is ECHILD when none is left."""

    def main(sys: Syscalls) -> None:
        assert err(sys.waitpid, -1) == "ECHILD"
        pids = [sys.spawn(lambda sys, status: sys.exit(status), i) for i in range(3)]
        got = sorted(sys.waitpid(-1) for _ in pids)
        assert got == sorted((pid, i << 8) for i, pid in enumerate(pids))
        assert err(sys.waitpid, -1) == "ECHILD"

    world.run(main)


def test_wait_for_any_takes_the_one_that_ended(world: World) -> None:
    """waitpid(-1) doesn't wait for the older child that runs on."""

    def main(sys: Syscalls) -> None:
        old = sys.spawn(sleeper)
        young = sys.spawn(lambda sys: sys.exit(2))
        assert sys.waitpid(-1) == (young, 2 << 8)
        sys.kill(old, SIGKILL)
        assert sys.waitpid(-1) == (old, SIGKILL)

    world.run(main)


def test_wait_for_a_stranger(world: World) -> None:
    """Only one's own children can be waited for: oneself, a parent, a grandchild are ECHILD."""

    def main(sys: Syscalls) -> None:
        assert err(sys.waitpid, sys.getpid()) == "ECHILD"
        r, w = sys.pipe2()
        go_r, go_w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            grandchild = sys.spawn(lambda sys: sys.read(go_r, 1))
            sys.write(w, b"%s %d" % (err(sys.waitpid, sys.getppid()).encode(), grandchild))
            sys.waitpid(grandchild)

        pid = sys.spawn(child)
        answer, grandchild = sys.read(r, 99).split()
        assert answer == b"ECHILD"
        assert err(sys.waitpid, int(grandchild)) == "ECHILD"
        sys.write(go_w, b"!")
        assert sys.waitpid(pid) == (pid, 0)

    world.run(main)


def test_waitpid_sleeps(world: World) -> None:
    """A blocking waitpid in a thread wakes when the child, which another thread spawned, ends."""

    def main(sys: Syscalls) -> None:
        go_r, go_w = sys.pipe2()
        pid = sys.spawn(lambda sys: sys.read(go_r, 1))
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.waitpid(pid)))
        assert got == []
        sys.write(go_w, b"!")
        sys.join(tid)
        assert got == [(pid, 0)]

    world.run(main)


def test_orphan(world: World) -> None:
    """A process whose parent has died gets another one: process 1, which can wait for it."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        go_r, go_w = sys.pipe2()

        def grandchild(sys: Syscalls) -> None:
            sys.write(w, b"%d %d\n" % (sys.getpid(), sys.getppid()))
            sys.read(go_r, 1)
            sys.write(w, b"%d %d\n" % (sys.getpid(), sys.getppid()))
            sys.exit(5)

        child = sys.spawn(lambda sys: sys.spawn(grandchild))
        assert sys.waitpid(child) == (child, 0)
        settle(sys)
        sys.write(go_w, b"!")
        pid, status = sys.waitpid(-1)
        assert status == 5 << 8
        first, second = sys.read(r, 99).splitlines()
        # The first line may have been written before the child's end or after it.
        assert first in (b"%d %d" % (pid, child), b"%d %d" % (pid, sys.getpid()))
        assert second == b"%d %d" % (pid, sys.getpid())

    world.run(main)


def test_orphan_zombie(world: World) -> None:
    """A zombie whose parent ends without waiting for it becomes process 1's to wait for."""

    def main(sys: Syscalls) -> None:
        def child(sys: Syscalls) -> None:
            sys.spawn(lambda sys: sys.exit(9))
            settle(sys)
            sys.exit(4)

        pid = sys.spawn(child)
        assert sys.waitpid(pid) == (pid, 4 << 8)
        orphan, status = sys.waitpid(-1)
        assert orphan != pid and status == 9 << 8

    world.run(main)


@pytest.mark.parametrize("how", ["return", "exit", "kill"])
def test_fds_are_closed_at_exit(world: World, how: str) -> None:
    """However a process ends, its fds are closed when it can be waited for: the reader sees HUP."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        go_r, go_w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            sys.read(go_r, 1)
            if how == "exit":
                sys.exit(0)
            elif how == "kill":
                sleeper(sys)

        pid = sys.spawn(child)
        sys.close(w)
        settle(sys)
        assert mask(sys, r) == "0"
        sys.write(go_w, b"!")
        if how == "kill":
            settle(sys)
            sys.kill(pid, SIGTERM)
        sys.waitpid(pid)
        assert mask(sys, r) == "HUP"

    world.run(main)


def test_blocked_reader_sees_the_exit(world: World) -> None:
    """A read that sleeps on a pipe ends when the only writer, another process, is killed."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        pid = sys.spawn(sleeper)
        sys.close(w)
        got: list[object] = []
        tid = start(sys, lambda sys: got.append(sys.read(r, 9)))
        assert got == []
        sys.kill(pid, SIGKILL)
        sys.join(tid)
        assert got == [b""]
        assert sys.waitpid(pid) == (pid, SIGKILL)

    world.run(main)


def test_processes_have_their_own_fd_tables(world: World) -> None:
    """After the fork what one opens or closes is nothing to the other."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd(5)
        r, w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            sys.close(fd)
            sys.write(w, b"%d" % sys.epoll_create1())

        pid = sys.spawn(child)
        assert sys.waitpid(pid) == (pid, 0)
        # The child's new file took the number that it had closed, in its own table.
        assert sys.read(r, 9) == b"%d" % fd
        assert sys.read(fd, 8) == (5).to_bytes(8, "little")

    world.run(main)


def test_threads_share_the_fd_table(world: World) -> None:
    """What a thread opens or closes is opened or closed for all."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        made: list[int] = []

        def body(sys: Syscalls) -> None:
            sys.close(fd)
            made.extend(sys.pipe2())
            sys.write(made[1], b"x")

        sys.join(sys.thread(body))
        assert made == [fd, fd + 1]
        assert sys.read(made[0], 9) == b"x"

    world.run(main)


def test_threads_are_one_process(world: World) -> None:
    """A thread has the pid and the parent of its process."""

    def main(sys: Syscalls) -> None:
        got: list[int] = []
        sys.join(sys.thread(lambda sys: got.extend([sys.getpid(), sys.getppid()])))
        assert got == [sys.getpid(), sys.getppid()]

    world.run(main)


def test_join(world: World) -> None:
    """join waits for the thread's end; after that, as for a number that never was, ESRCH; oneself is EDEADLK."""

    def main(sys: Syscalls) -> None:
        ended: list[int] = []
        own: list[object] = []
        go_r, go_w = sys.pipe2()
        tids: list[int] = []

        def body(sys: Syscalls) -> None:
            sys.read(go_r, 1)
            own.append(err(sys.join, tids[0]))
            sys.nanosleep(20_000_000)
            ended.append(1)

        tids.append(sys.thread(body))
        sys.write(go_w, b"!")
        sys.join(tids[0])
        assert (ended, own) == ([1], ["EDEADLK"])
        assert err(sys.join, tids[0]) == "ESRCH"
        assert err(sys.join, 999_999) == "ESRCH"

    world.run(main)


def test_join_after_the_end(world: World) -> None:
    """A thread that has ended can be joined, at once."""

    def main(sys: Syscalls) -> None:
        tid = start(sys, lambda sys: None)
        settle(sys)
        assert err(sys.join, tid) is None

    world.run(main)


def test_exit_ends_all_threads(world: World) -> None:
    """exit, from whichever thread, ends the process with all of them, asleep or not."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        never_r, _ = sys.pipe2()

        def child(sys: Syscalls) -> None:
            start(sys, lambda sys: sys.read(never_r, 1))
            sys.thread(lambda sys: sys.exit(6))
            sleeper(sys)

        pid = sys.spawn(child)
        sys.close(w)
        assert sys.waitpid(pid) == (pid, 6 << 8)
        assert mask(sys, r) == "HUP"

    world.run(main)


def test_return_of_main_ends_all_threads(world: World) -> None:
    """So does the return of the child's main, as the return of a C program's main."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        never_r, _ = sys.pipe2()

        def child(sys: Syscalls) -> None:
            start(sys, lambda sys: sys.read(never_r, 1))

        pid = sys.spawn(child)
        sys.close(w)
        assert sys.waitpid(pid) == (pid, 0)
        assert mask(sys, r) == "HUP"

    world.run(main)


def test_kill_ends_all_threads(world: World) -> None:
    """A signal that ends a process ends all of its threads, and its fds are closed once."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        never_r, _ = sys.pipe2()

        def child(sys: Syscalls) -> None:
            for _ in range(2):
                sys.thread(lambda sys: sys.read(never_r, 1))
            sleeper(sys)

        pid = sys.spawn(child)
        sys.close(w)
        settle(sys)
        assert mask(sys, r) == "0"
        sys.kill(pid, SIGKILL)
        assert sys.waitpid(pid) == (pid, SIGKILL)
        assert mask(sys, r) == "HUP"

    world.run(main)


def test_fork_copies_the_calling_thread_only(world: World) -> None:
    """A child that a thread spawns has that thread alone: the others' reads stay with the parent."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        got: list[bytes] = []
        reader = start(sys, lambda sys: got.append(sys.read(r, 9)))
        pids: list[int] = []
        sys.join(sys.thread(lambda sys: pids.append(sys.spawn(lambda sys: sys.nanosleep(1_000_000)))))
        assert sys.waitpid(pids[0]) == (pids[0], 0)
        sys.write(w, b"x")
        sys.join(reader)
        assert got == [b"x"]

    world.run(main)


def test_a_childs_failure_is_its_status(world: World) -> None:
    """A main that raises ends its process with status 1, and nobody else."""

    def main(sys: Syscalls) -> None:
        def child(sys: Syscalls) -> None:
            raise OSError(errno.EIO, "meant to fail")

        pid = sys.spawn(child)
        assert sys.waitpid(pid) == (pid, 1 << 8)

    world.run(main)


def test_arguments(world: World) -> None:
    """spawn and thread hand their arguments on."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        pid = sys.spawn(lambda sys, a, b: sys.write(w, a + b), b"ab", b"cd")
        sys.waitpid(pid)
        sys.join(sys.thread(lambda sys, a: sys.write(w, a), b"ef"))
        assert sys.read(r, 9) == b"abcdef"

    world.run(main)


def test_connection_between_processes(world: World) -> None:
    """A killed process's connection with unread data is reset; the kernel closes for it."""

    def main(sys: Syscalls) -> None:
        ours, theirs = sys.socketpair(AF_UNIX, SOCK_STREAM)
        pid = sys.spawn(sleeper)
        sys.close(theirs)
        sys.send(ours, b"unread")
        sys.kill(pid, SIGKILL)
        sys.waitpid(pid)
        assert [err(sys.recv, ours, 9), err(sys.recv, ours, 9)] == ["ECONNRESET", b""]

    world.run(main)


def test_groups_and_sessions(world: World) -> None:
    """A child is in its parent's group and session until it or its parent puts it elsewhere; a leader stays where it is."""

    def main(sys: Syscalls) -> None:
        group, session = sys.getpgid(0), sys.getsid(0)
        r, w = sys.pipe2()

        def child(sys: Syscalls) -> None:
            me = sys.getpid()
            assert (sys.getpgid(0), sys.getsid(0)) == (sys.getpgid(sys.getppid()), sys.getsid(sys.getppid()))
            sys.setpgid(0, 0)
            assert sys.getpgid(me) == me and sys.getsid(0) == session
            assert err(sys.setsid) == "EPERM"
            sys.setpgid(0, group)
            assert sys.getpgid(0) == group
            assert [err(sys.setpgid, 0, -1), err(sys.setpgid, sys.getppid(), 0), err(sys.getpgid, 99999999)] == ["EINVAL", "ESRCH", "ESRCH"]
            assert sys.setsid() == me == sys.getpgid(0) == sys.getsid(0)
            assert err(sys.setpgid, 0, group) == "EPERM"
            sys.write(w, b"x")
            sys.nanosleep(10**11)

        pid = sys.spawn(child)
        assert sys.read(r, 1) == b"x"
        assert (sys.getpgid(pid), sys.getsid(pid)) == (pid, pid)
        assert err(sys.setpgid, pid, group) == "EPERM"
        sys.kill(-pid, SIGKILL)
        assert sys.waitpid(pid) == (pid, SIGKILL)

    world.run(main)
