"""The real file system below a machine's: the bodies of the conformance tests on it, and what is its own."""

import functools
import inspect
import os
import shutil
import stat
import types
from pathlib import Path

import pytest

import simkernel
from simkernel import Unsupported
from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_UNIX,
    EPOLL_CTL_ADD,
    O_CREAT,
    O_DIRECTORY,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    POLLIN,
    POLLOUT,
    SCM_RIGHTS,
    SOCK_STREAM,
    SOL_SOCKET,
)
from tests.conformance import test_files, test_paths, test_splice, test_stat, test_unix_path
from tests.conformance.helpers import err

HOST = types.SimpleNamespace(name="hostfs", run=functools.partial(simkernel.run, hostfs=True))
BODIES = [
    function
    for module in (test_files, test_paths, test_stat, test_unix_path, test_splice)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if name.startswith("test_") and set(inspect.signature(function).parameters) <= {"world", "workdir"}
]


@pytest.fixture
def workdir():
    path = f"/tmp/simkernel-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_as_on_linux(body, workdir):
    arguments = {"world": HOST, "workdir": workdir}
    body(**{name: arguments[name] for name in inspect.signature(body).parameters})


def open_fds():
    return len(os.listdir("/proc/self/fd"))


def test_files_are_real(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from outside")

    def main(sys: Syscalls) -> bytes:
        fd = sys.open(f"{tmp_path}/out", O_WRONLY | O_CREAT, 0o640)
        sys.write(fd, b"from inside")
        assert sys.fstat(fd).st_ino == os.stat(tmp_path / "out").st_ino
        return sys.read(sys.open(f"{tmp_path}/in", O_RDONLY), 100)

    assert simkernel.run(main, hostfs=True) == b"from outside"
    assert (tmp_path / "out").read_bytes() == b"from inside"


def test_no_real_fd_outlives_the_machine(tmp_path: Path) -> None:
    """Not even one that is in flight in a socket that nobody has."""
    before = open_fds()

    def main(sys: Syscalls) -> None:
        fds = [sys.open(f"{tmp_path}/{i}", O_RDWR | O_CREAT) for i in range(10)]
        assert open_fds() == before + 10
        sys.close(fds[0])
        assert open_fds() == before + 9
        a, _ = sys.socketpair(AF_UNIX, SOCK_STREAM)
        sys.sendmsg(a, [b"x"], [(SOL_SOCKET, SCM_RIGHTS, fds[1].to_bytes(4, "little"))])
        sys.close(fds[1])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        simkernel.run(main, hostfs=True)
    assert open_fds() == before


def test_sockets_are_bound_in_the_machine_alone(tmp_path: Path) -> None:
    path = f"{tmp_path}/socket"

    def main(sys: Syscalls) -> None:
        listening = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.bind(listening, path)
        sys.listen(listening, 1)
        connecting = sys.socket(AF_UNIX, SOCK_STREAM)
        sys.connect(connecting, path)
        assert not os.path.exists(path)
        assert path.rpartition("/")[2].encode() in [name for _, _, name in sys.getdents64(sys.open(str(tmp_path), O_RDONLY | O_DIRECTORY))]
        assert err(sys.rmdir, str(tmp_path)) == "ENOTEMPTY"
        sys.rename(path, path + "2")
        assert err(sys.connect, sys.socket(AF_UNIX, SOCK_STREAM), path) == "ENOENT"
        sys.unlink(path + "2")

    simkernel.run(main, hostfs=True)


def test_devices_and_proc_are_the_machines(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (tmp_path / "link").symlink_to("/dev/null")

    def main(sys: Syscalls) -> None:
        assert err(sys.open, "/dev/tty", O_RDONLY) == "ENXIO"
        assert err(sys.stat, "/proc/cpuinfo") == "ENOENT"
        assert sys.read(sys.open("/dev/urandom", O_RDONLY), 4) != b""
        assert sys.stat(f"{tmp_path}/link").st_rdev == 0x103
        with pytest.raises(Unsupported, match="null is a device"):
            sys.open(f"{tmp_path}/null", O_RDONLY)

    simkernel.run(main, hostfs=True)


def test_always_ready_but_not_for_epoll(tmp_path: Path) -> None:
    def main(sys: Syscalls) -> None:
        fd = sys.open(f"{tmp_path}/x", O_RDWR | O_CREAT)
        assert sys.poll([(fd, POLLIN | POLLOUT)], 0) == [(fd, POLLIN | POLLOUT)]
        assert err(sys.epoll_ctl, sys.epoll_create1(), EPOLL_CTL_ADD, fd, POLLIN) == "EPERM"

    simkernel.run(main, hostfs=True)


def test_a_process_is_where_it_goes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    def main(sys: Syscalls) -> None:
        assert sys.getcwd() == os.getcwdb()
        sys.chdir(str(tmp_path))

        def child(sys: Syscalls) -> None:
            sys.chdir("a")
            sys.close(sys.open("made", O_WRONLY | O_CREAT))

        assert sys.waitpid(sys.spawn(child)) == (2, 0)
        assert sys.getcwd() == os.fsencode(tmp_path)

    here = os.getcwd()
    simkernel.run(main, hostfs=True)
    assert (tmp_path / "a" / "made").exists() and os.getcwd() == here


def test_links_that_lead_nowhere_and_round(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "dangling").symlink_to("none")
    (tmp_path / "a").symlink_to("b/x")
    (tmp_path / "b").symlink_to("a/y")

    def main(sys: Syscalls) -> None:
        sys.chdir(str(tmp_path))
        assert [err(sys.stat, name) for name in ("self", "dangling", "a", "self/x")] == ["ELOOP", "ENOENT", "ELOOP", "ELOOP"]
        assert sys.stat("here/" * 40).st_ino == sys.stat(".").st_ino
        assert err(sys.stat, "here/" * 41) == "ELOOP"
        assert sys.readlink("self") == b"self"

    simkernel.run(main, hostfs=True)


def test_files_are_as_old_as_they_are_to_the_machine(tmp_path: Path) -> None:
    def main(sys: Syscalls) -> None:
        fd = sys.open(f"{tmp_path}/f", O_RDWR | O_CREAT)
        assert sys.fstat(fd).st_mtime_ns == sys.clock_gettime_ns(0)
        sys.nanosleep(3_600_000_000_000)
        assert sys.stat(f"{tmp_path}/f").st_mtime_ns == sys.clock_gettime_ns(0) - 3_600_000_000_000
        sys.write(fd, b"x")
        assert sys.fstat(fd).st_mtime_ns == sys.clock_gettime_ns(0)

    simkernel.run(main, hostfs=True)
