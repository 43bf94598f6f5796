"""Kernel(debug=True) finds a kernel whose books don't balance, and leaves a right one alone."""

import pytest

from simkernel.errors import InvariantViolation
from simkernel.kernel.machine import Kernel
from simkernel.kernel.pipe import Pipe
from simkernel.kernel.sched import Sched
from simkernel.uapi import AF_INET, EPOLL_CTL_ADD, EPOLLIN, SIG_BLOCK, SIGUSR1, SOCK_STREAM
from tests import interpreted


def run(main):
    return Kernel(debug=True).run(main)


def test_a_right_kernel_passes():
    def main(sys):
        r, w = sys.pipe2()
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN)
        sys.spawn(lambda sys: (sys.nanosleep(1000), sys.write(w, b"x")))
        assert sys.epoll_wait(ep, 1) == [(r, EPOLLIN)]
        return sys.read(r, 1)

    assert run(main) == b"x"


def files(sys):
    return sys.sched.current.files


def lose_a_reference(sys):
    r, _w = sys.pipe2()
    files(sys).fd[r].f_count -= 1


def keep_a_reference(sys):
    r, _w = sys.pipe2()
    files(sys).fd[r].f_count += 1


def ready_twice(sys):
    r, w = sys.pipe2()
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN)
    sys.write(w, b"x")
    ready = files(sys).fd[ep].rdllist
    ready.append(ready[0])


def ready_and_unlinked(sys):
    r, w = sys.pipe2()
    ep = sys.epoll_create1()
    sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN)
    sys.write(w, b"x")
    files(sys).fd[ep].rdllist[0].linked = False


def bytes_from_nowhere(sys):
    fd = sys.socket(AF_INET, SOCK_STREAM)
    files(sys).fd[fd].sk.rmem += 1


def cloexec_of_nothing(sys):
    files(sys).cloexec.add(99)


def free_number_overlooked(sys):
    files(sys).next_fd = 9
    fd = sys.eventfd()
    files(sys).fd[fd - 1] = None


def signal_not_queued(sys):
    sys.sigprocmask(SIG_BLOCK, [SIGUSR1])
    sys.sched.current.pending.signal = 1 << (SIGUSR1 - 1)


def pipe_too_full(sys):
    r, w = sys.pipe2()
    for _ in range(2):
        sys.write(w, bytes(4096))
    file = files(sys).fd[r]
    assert isinstance(file, Pipe)
    file.pipe.max_usage = 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lose_a_reference, "counted 0 times, and found 1"),
        (keep_a_reference, "counted 2 times, and found 1"),
        (ready_twice, "2 times on the ready list"),
        (ready_and_unlinked, "on the ready list"),
        (bytes_from_nowhere, "counts 1 unread bytes, and has 0"),
        (cloexec_of_nothing, "fd 99 has FD_CLOEXEC"),
        (free_number_overlooked, "lower fd is free"),
        (signal_not_queued, "pending signals"),
        (pipe_too_full, "2 buffers, and room for 1"),
    ],
)
def test_a_wrong_one_is_found(wrong, said):
    def main(sys):
        wrong(sys)
        sys.getpid()

    with pytest.raises(InvariantViolation, match=said):
        run(main)


@interpreted
@pytest.mark.parametrize("call", ["read", "poll", "epoll_wait"])
def test_a_lost_wake_up_is_found(monkeypatch, call):
    """With wake-ups that get lost, somebody sleeps although what he waits for is there."""

    def main(sys):
        r, w = sys.pipe2()
        ep = sys.epoll_create1()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN)

        def writer(sys):
            monkeypatch.setattr(Sched, "wake_up_process", lambda self, task, stopped=False: 0)
            sys.write(w, b"x")

        sys.spawn(writer)
        if call == "read":
            sys.read(r, 1)
        elif call == "poll":
            sys.poll([(r, EPOLLIN)])
        else:
            sys.epoll_wait(ep, 1)

    with pytest.raises(InvariantViolation, match="lost wake-up: task 1"):
        run(main)
