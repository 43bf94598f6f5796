"""The fake of _signal under the unmodified signal.py: handlers, masks, waiting, timers and the wakeup fd."""

import errno
import importlib
import os
import signal
import socket
import sys
import time

import pytest

import simkernel
from simkernel.stdlib.here import here, machine
from simkernel.stdlib.process import run_function
from simkernel.stdlib.world import World


class Boom(Exception):
    pass


def boom(signum, frame):
    raise Boom(signum)


def elsewhere(function):
    """Run ``function(sys)`` in another process."""
    return here.sys.spawn(lambda sys: function(sys))


def later(ms, signum):
    """Another process sends this one a signal."""
    me = here.sys.getpid()

    def body(sys):
        sys.nanosleep(ms * 10**6)
        sys.kill(me, signum)

    return elsewhere(body)


def handler_runs_on_the_way_out():
    log = []
    signal.signal(signal.SIGUSR1, lambda signum, frame: log.append((signum, frame.f_code.co_name)))
    os.kill(os.getpid(), signal.SIGUSR1)
    log.append("after kill")
    signal.raise_signal(signal.SIGUSR1)
    return log


def test_a_handler_runs_on_the_way_out_of_the_call():
    assert (
        run_function(handler_runs_on_the_way_out)
        == handler_runs_on_the_way_out()
        == [(signal.SIGUSR1, "handler_runs_on_the_way_out"), "after kill", (signal.SIGUSR1, "handler_runs_on_the_way_out")]
    )


def sleeping_goes_on():
    log = []
    signal.signal(signal.SIGUSR1, lambda signum, frame: log.append(time.monotonic()))
    later(100, signal.SIGUSR1)
    time.sleep(1)
    return log, time.monotonic()


def test_a_sleep_goes_on_after_a_handler():
    assert run_function(sleeping_goes_on) == ([0.1], 1.0)


def raising():
    signal.signal(signal.SIGUSR1, boom)
    later(100, signal.SIGUSR1)
    try:
        time.sleep(5)
    except Boom as error:
        return error.args, time.monotonic(), error.__context__
    return None


def test_what_a_handler_raises_leaves_the_call():
    assert run_function(raising) == ((signal.SIGUSR1,), 0.1, None)


def interrupted():
    later(100, signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        time.sleep(5)
    except KeyboardInterrupt:
        return time.monotonic()
    return None


def test_sigint_is_keyboardinterrupt():
    assert run_function(interrupted) == 0.1


def asks_for_handlers():
    old = signal.signal(signal.SIGUSR1, boom)
    out = [old, signal.getsignal(signal.SIGUSR1) is boom, signal.signal(signal.SIGUSR1, signal.SIG_IGN) is boom]
    out += [signal.getsignal(signal.SIGUSR1), signal.signal(signal.SIGUSR1, signal.SIG_DFL), signal.getsignal(signal.SIGPIPE)]
    for call in (
        lambda: signal.signal(signal.SIGKILL, boom),
        lambda: signal.signal(signal.SIGUSR1, 7),
        lambda: signal.signal(signal.SIGUSR1, "x"),
        lambda: signal.signal(0, boom),
        lambda: signal.signal(99, boom),
        lambda: signal.getsignal(99),
        lambda: signal.signal("a", boom),
        lambda: signal.siginterrupt(99, True),
        lambda: signal.set_wakeup_fd("a"),
        lambda: signal.set_wakeup_fd(999),
        lambda: signal.set_wakeup_fd(os.pipe()[0]),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [0]),
        lambda: signal.pthread_sigmask(1700, []),
        lambda: signal.sigwait([65]),
        lambda: signal.sigtimedwait([signal.SIGTERM], -1),
        lambda: signal.setitimer(signal.ITIMER_REAL, -1),
        lambda: signal.setitimer(-1, 1),
        lambda: signal.setitimer(signal.ITIMER_REAL, "x"),
        lambda: signal.alarm("x"),
        lambda: signal.raise_signal(-1),
    ):
        try:
            out.append(call())
        except Exception as error:
            out.append((type(error).__name__, str(error)))
    return out


def test_questions_and_errors_are_those_of_python():
    assert run_function(asks_for_handlers) == simkernel.linux.run(lambda sys: asks_for_handlers())


def wakes_a_selector():
    r, w = socket.socketpair()
    w.setblocking(False)
    assert signal.set_wakeup_fd(w.fileno()) == -1
    signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    signal.signal(signal.SIGUSR2, lambda signum, frame: None)
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR1)
    got = r.recv(10)
    assert signal.set_wakeup_fd(-1) == w.fileno()
    r.close()
    w.close()
    return got


def test_the_wakeup_fd_gets_numbers():
    assert run_function(wakes_a_selector) == bytes([signal.SIGUSR2, signal.SIGUSR1])


def masks():
    log = []
    signal.signal(signal.SIGUSR1, lambda signum, frame: log.append(signum))
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    os.kill(os.getpid(), signal.SIGUSR1)
    log.append(list(map(int, signal.sigpending())))
    log.append(list(map(int, signal.pthread_sigmask(signal.SIG_SETMASK, old) - old)))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    os.kill(os.getpid(), signal.SIGUSR1)
    log.append(int(signal.sigwait({signal.SIGUSR1})))
    os.kill(os.getpid(), signal.SIGUSR1)
    info = signal.sigwaitinfo({signal.SIGUSR1})
    log.append((info.si_signo, info.si_code, info.si_errno, info.si_pid == os.getpid()))
    log.append(signal.sigtimedwait({signal.SIGUSR1}, 0.01))
    signal.pthread_sigmask(signal.SIG_SETMASK, old)
    return log


def test_masks_and_waiting():
    assert run_function(masks) == simkernel.linux.run(lambda sys: masks())


def a_mask_inside_a_handler():
    """A handler of Python runs with nothing blocked, so it may be entered again, and what it does to the mask stays."""
    log = []

    def handler(signum, frame):
        log.append(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
        if len(log) < 3:
            os.kill(os.getpid(), signal.SIGUSR1)
            log.append("back")
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    signal.signal(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)
    log.append(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    return log


def test_a_handler_runs_outside_of_the_kernels_frame():
    assert run_function(a_mask_inside_a_handler) == simkernel.linux.run(lambda sys: a_mask_inside_a_handler())


def timers():
    log = []
    signal.signal(signal.SIGALRM, lambda signum, frame: log.append(round(time.monotonic() - start, 2)))
    start = time.monotonic()
    old = signal.setitimer(signal.ITIMER_REAL, 0.05, 0.1)
    while len(log) < 3:
        signal.pause()
    left = signal.setitimer(signal.ITIMER_REAL, 0)
    signal.alarm(20)
    return log, old, 0 < left[0] <= 0.1, left[1], signal.alarm(0), signal.getitimer(signal.ITIMER_REAL)


def test_timers():
    assert run_function(timers) == ([0.05, 0.15, 0.25], (0.0, 0.0), True, 0.1, 20, (0.0, 0.0))


def a_read(flag):
    log = []
    r, w = os.pipe()
    signal.signal(signal.SIGUSR1, lambda signum, frame: log.append("handler"))
    signal.siginterrupt(signal.SIGUSR1, flag)
    me = here.sys.getpid()

    def body(sys):
        sys.nanosleep(10**7)
        sys.kill(me, signal.SIGUSR1)
        sys.nanosleep(10**7)
        log.append("write")
        sys.write(w, b"x")

    elsewhere(body)
    log.append(os.read(r, 1))
    return log


@pytest.mark.parametrize(("flag", "expected"), [(True, ["handler", "write", b"x"]), (False, ["write", "handler", b"x"])])
def test_siginterrupt(flag, expected):
    """Without interruption the call starts again in the kernel, and the handler runs when it is over."""
    assert run_function(a_read, flag) == expected


def a_thread_takes_it():
    log = []
    signal.signal(signal.SIGUSR1, lambda signum, frame: log.append(here.thread_id() == here.process_id()))
    me = here.sys.getpid()

    def body(sys):
        sys.tgkill(me, here.thread_id(), signal.SIGUSR1)
        sys.nanosleep(10**6)
        log.append("thread")

    tid = here.sys.thread(body)
    time.sleep(1)
    here.sys.join(tid)
    return log


def test_a_handler_runs_in_the_first_thread_only():
    """A signal that another thread takes is handled at the first thread's next return from a call, which it does not hasten."""
    assert run_function(a_thread_takes_it) == ["thread", True]


def leaves_a_handler():
    signal.signal(signal.SIGTERM, boom)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def looks_at_handlers():
    return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_new_process_begins_anew():
    world = World()
    run_function(leaves_a_handler, world=world)
    assert run_function(looks_at_handlers, world=world) == (signal.SIG_DFL, True)


def full_wakeup_fd(warn):
    _, w = os.pipe()
    os.set_blocking(w, False)
    try:
        while True:
            os.write(w, bytes(65536))
    except BlockingIOError:
        pass
    seen = []
    old = sys.unraisablehook
    sys.unraisablehook = seen.append
    signal.set_wakeup_fd(w, warn_on_full_buffer=warn)
    signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    signal.raise_signal(signal.SIGUSR1)
    sys.unraisablehook = old
    signal.set_wakeup_fd(-1)
    return [args.exc_value.errno for args in seen]


def test_a_full_wakeup_fd():
    assert run_function(full_wakeup_fd, False) == []
    assert run_function(full_wakeup_fd, True) == [errno.EAGAIN]


def test_it_has_all_that_the_real_one_has():
    real, fake = importlib.import_module("_signal"), World().import_module("_signal")
    assert not [name for name in dir(real) if not name.startswith("__") and not hasattr(fake, name)]


@pytest.mark.parametrize("function", [handler_runs_on_the_way_out, masks, wakes_a_selector])
def test_the_same_fake_on_the_real_kernel(function):
    """Over the real kernel's calls it does what Python's own does there."""
    world = World(fakes=("_signal",))

    def main(sys):
        with machine(sys):
            return world.inside(function)()

    assert simkernel.linux.run(main) == simkernel.linux.run(lambda sys: function())


@pytest.mark.parametrize("seed", range(5))
def test_one_digest_a_seed(seed):
    def run():
        trace = simkernel.Trace()
        result = run_function(timers, seed=seed, trace=trace)
        return result, [str(event) for event in trace.events]

    assert run() == run()
