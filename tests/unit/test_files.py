"""What of files, devices and /proc only the simulator can show: its limit of files, its drivers, its choices, its traces."""

import errno

import pytest

import simkernel
from simkernel import Unsupported, UsageError
from simkernel.api import Syscalls
from simkernel.kernel.choice import Seeded
from simkernel.kernel.file import File
from simkernel.kernel.machine import Kernel
from simkernel.kernel.sched import Sched
from simkernel.kernel.trace import Trace
from simkernel.tools.strace import strace_lines
from simkernel.uapi import (
    AF_INET,
    AF_UNIX,
    O_CREAT,
    O_DIRECT,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    SEEK_SET,
    SO_RCVBUF,
    SOCK_STREAM,
    SOL_SOCKET,
    SPLICE_F_NONBLOCK,
)


def nfile(sys: Syscalls) -> int:
    """Open files of the machine, as /proc/sys/fs/file-nr counts them; the file itself is one."""
    fd = sys.open("/proc/sys/fs/file-nr", O_RDONLY)
    n = int(sys.read(fd, 100).split()[0])
    sys.close(fd)
    return n - 1


def test_file_max() -> None:
    """Every call that makes a file gives ENFILE at file_max, nothing is made, and a close gives the place back."""

    def main(sys: Syscalls) -> None:
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(listener, ("127.0.0.1", 9000))
        sys.listen(listener, 5)
        client = sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(client, ("127.0.0.1", 9000))
        spare = sys.eventfd(0)
        makers = (
            lambda: sys.eventfd(0),
            lambda: sys.socket(AF_INET, SOCK_STREAM),
            lambda: sys.socketpair(AF_UNIX, SOCK_STREAM),
            lambda: sys.pipe2(),
            lambda: sys.epoll_create1(),
            lambda: sys.timerfd_create(1),
            lambda: sys.signalfd(-1, [10]),
            lambda: sys.pidfd_open(1),
            lambda: sys.memfd_create("x"),
            lambda: sys.open("/tmp/x", O_RDWR | O_CREAT),
            lambda: sys.open("/dev/null", O_RDWR),
            lambda: sys.accept4(listener),
        )
        for make in makers:
            with pytest.raises(OSError, match="Too many open files in system") as caught:
                make()
            assert caught.value.errno == errno.ENFILE
        # One place: a pipe needs two.
        sys.close(spare)
        with pytest.raises(OSError):
            sys.pipe2()
        with pytest.raises(FileNotFoundError):
            sys.open("/tmp/x", O_RDONLY)
        assert sys.accept4(listener)[0] == spare
        # dup makes no file.
        assert sys.dup(spare) > spare

    simkernel.run(main, file_max=6)


def test_files_are_counted_exactly() -> None:
    """What is closed, ends with its process or fails on the way is given back."""

    def main(sys: Syscalls) -> None:
        before = nfile(sys)
        r, w = sys.pipe2()
        a, b = sys.socketpair(AF_UNIX, SOCK_STREAM)
        copy = sys.dup(r)
        assert nfile(sys) == before + 4
        sys.waitpid(sys.spawn(lambda sys: sys.eventfd(0)))
        for fd in (r, w, a, b):
            sys.close(fd)
        assert nfile(sys) == before + 1
        sys.close(copy)
        sys.setrlimit(7, (5, 100))
        sys.eventfd(0)
        for make in (lambda: sys.pipe2(), lambda: sys.socketpair(AF_UNIX, SOCK_STREAM)):
            with pytest.raises(OSError, match="Too many open files"):
                make()
        assert nfile(sys) == before + 1

    simkernel.run(main)


def test_file_max_is_checked_at_boot() -> None:
    """stdin, stdout and stderr need three."""
    with pytest.raises(UsageError, match="file_max must be at least 3"):
        Kernel(file_max=2)


class Answer(File):
    """A device that always answers 42."""

    __slots__ = ()
    kind = "answer"

    def read(self, n: int) -> bytes:
        return b"42"[:n]


def open_answer(sched: Sched, f_flags: int) -> File:
    """The driver's open."""
    return Answer(sched, f_flags)


def test_registered_device() -> None:
    """A driver registers its name, and open finds it."""
    kernel = Kernel()
    kernel.register_chrdev("answer", open_answer)
    with pytest.raises(UsageError, match="/dev/answer"):
        kernel.register_chrdev("answer", open_answer)
    with pytest.raises(UsageError):
        kernel.register_chrdev("a/b", open_answer)

    def main(sys: Syscalls) -> bytes:
        return sys.read(sys.open("/dev/answer", O_RDONLY), 10)

    assert kernel.run(main) == b"42"


def test_random_bytes_are_the_choices() -> None:
    """The same choices give the same bytes, others give others."""

    def main(sys: Syscalls) -> tuple[bytes, bytes]:
        fd = sys.open("/dev/urandom", O_RDONLY)
        return sys.read(fd, 16), sys.read(fd, 16)

    runs = [simkernel.run(main, choice=Seeded(seed)) for seed in (1, 1, 2, 3)]
    assert runs[0] == runs[1]
    assert len({*runs}) == 3
    plain = simkernel.run(main)
    assert plain == simkernel.run(main)
    assert plain[0] != plain[1]


def test_sysctls_have_effect() -> None:
    """What root writes to /proc/sys counts from then on."""

    def main(sys: Syscalls) -> None:
        def put(name: str, text: bytes) -> None:
            sys.write(sys.open("/proc/sys/net/" + name, O_WRONLY), text)

        put("core/rmem_max", b"5000")
        put("ipv4/ip_local_port_range", b"2000 2003")
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, 10**6)
        assert sys.getsockopt(fd, SOL_SOCKET, SO_RCVBUF) == 10_000
        ports = set()
        for _ in range(4):
            fd = sys.socket(AF_INET, SOCK_STREAM)
            sys.bind(fd, ("127.0.0.1", 0))
            ports.add(sys.getsockname(fd)[1])
        assert ports == {2000, 2001, 2002, 2003}
        with pytest.raises(Unsupported, match=r"fs\.nr_open"):
            sys.write(sys.open("/proc/sys/fs/nr_open", O_WRONLY), b"5000")

    simkernel.run(main)


def test_flags_that_are_not_modelled() -> None:
    """They are Unsupported, not taken for something else."""

    def main(sys: Syscalls) -> None:
        with pytest.raises(Unsupported, match="O_DIRECT"):
            sys.open("/tmp/x", O_RDWR | O_CREAT | O_DIRECT)
        with pytest.raises(Unsupported, match="memfd_create flags 0x2"):
            sys.memfd_create("x", 2)

    simkernel.run(main)


def test_strace_text() -> None:
    """The calls as strace shows them."""
    trace = Trace()

    def main(sys: Syscalls) -> None:
        fd = sys.open("/tmp/f", O_RDWR | O_CREAT, 0o600)
        sys.open("/tmp/f", O_RDONLY)
        sys.mkdir("/tmp/d")
        sys.write(fd, b"hello")
        sys.lseek(fd, 0, SEEK_SET)
        sys.pread(fd, 3, 1)
        _, w = sys.pipe2()
        sys.splice(fd, None, w, None, 5, SPLICE_F_NONBLOCK)
        sys.sendfile(w, fd, 0, 2)
        sys.unlink("/tmp/f")

    simkernel.run(main, trace=trace)
    text = "\n".join(strace_lines(trace))
    for line in (
        "open('/tmp/f', O_RDWR|O_CREAT, 0o600) = 3",
        "open('/tmp/f', O_RDONLY) = 4",
        "mkdir('/tmp/d', 0o777) = 0",
        "lseek(3, 0, SEEK_SET) = 0",
        "pread(3, 3, 1) = 'ell'",
        "splice(3, None, 6, None, 5, SPLICE_F_NONBLOCK) = 5",
        "sendfile(6, 3, 0, 2) = 2",
        "unlink('/tmp/f') = 0",
    ):
        assert line in text


def test_snapshot_shows_positions() -> None:
    """A file's position and size are part of the machine's state."""
    kernel = Kernel()

    def main(sys: Syscalls) -> list[dict[str, object]]:
        fd = sys.memfd_create("x")
        sys.write(fd, b"hello")
        sys.lseek(fd, 2, SEEK_SET)
        return [file for file in kernel.snapshot()["files"].values() if file["kind"] == "file"]

    [file] = kernel.run(main)
    assert (file["pos"], file["size"]) == (2, 5)
