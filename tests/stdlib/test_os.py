"""os, io, fcntl, random and what stands on them, in a world on a fake machine."""

import fcntl
import io
import os
import random
import resource
import shutil
import stat
import struct
import tempfile
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from simkernel import Deadlock, Unsupported
from simkernel.stdlib.process import run_function


def run(function: Any, *args: Any, **options: Any) -> Any:
    return run_function(function, *args, **options)


# --- fds ---
def pipe() -> list[Any]:
    r, w = os.pipe()
    os.set_blocking(r, False)
    out: list[Any] = [r, w, os.get_inheritable(r), os.get_blocking(r), os.get_blocking(w)]
    try:
        os.read(r, 1)
    except BlockingIOError as error:
        out.append(error.errno)
    out.append(os.writev(w, [b"ab", bytearray(b"cd"), memoryview(b"ef")]))
    first, second = bytearray(4), bytearray(10)
    out += [os.readv(r, [first, second]), bytes(first), bytes(second[:2]), stat.S_ISFIFO(os.fstat(r).st_mode)]
    os.close(w)
    return [*out, os.read(r, 5)]


def test_pipe():
    assert run(pipe) == [3, 4, False, False, True, 11, 6, 6, b"abcd", b"ef", True, b""]


def is_open(fd: int) -> None:
    os.fstat(fd)


def test_fds_are_the_machines():
    """The same number is another file outside."""
    r, w = os.pipe()
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            run(is_open, r)
        is_open(r)
    finally:
        os.close(r)
        os.close(w)


def dups() -> list[Any]:
    fd = os.memfd_create("x")
    os.write(fd, b"data")
    copy = os.dup(fd)
    os.dup2(fd, 20)
    os.dup2(fd, 21, inheritable=False)
    out = [os.get_inheritable(n) for n in (copy, 20, 21)]
    os.lseek(copy, 0, 0)
    out += [os.read(20, 2), os.pread(fd, 10, 1), os.eventfd_read(os.eventfd(7))]
    os.closerange(3, 30)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    return out


def test_dups():
    assert run(dups) == [False, True, False, b"da", b"ata", 7]


def refusals() -> list[str]:
    out = []
    for call in (os.fork, lambda: os.system("true"), os.openpty, lambda: os.setuid(1)):
        with pytest.raises(Unsupported) as caught:
            call()
        out.append(str(caught.value).split(" is not")[0])
    return out


def test_what_is_not_modelled_says_so():
    assert run(refusals) == ["os.fork", "os.system", "os.openpty", "os.setuid"]


# --- files ---
def files(folder: str) -> list[Any]:
    os.chdir(folder)
    with open("text", "w") as file:
        print("one", "two", file=file)
        file.write("three\n")
    with open(b"text", "rb+") as binary:
        binary.seek(1)
        binary.write(b"NE")
    os.mkdir("dir")
    os.rename("text", "dir/moved")
    Path("dir/link").symlink_to("moved")
    os.utime("dir/moved", (1, 2))
    with os.scandir("dir") as entries:
        found = sorted([(entry.name, entry.is_file(), entry.is_symlink(), entry.stat().st_mtime) for entry in entries])
    text = Path("dir/link").read_text()
    walked = [(where, names) for where, _, names in os.walk(".")]
    shutil.copytree("dir", "copy", symlinks=True)
    listed = sorted(os.listdir("copy"))
    shutil.rmtree("copy")
    return [text, found, walked, listed, os.path.realpath("dir/link"), os.getcwd(), os.path.exists("copy"), os.access("dir", os.W_OK)]


def test_files(tmp_path: Path):
    before = os.getcwd()
    text, found, walked, listed, real, cwd, copy, may = run(files, str(tmp_path))
    assert text == "oNE two\nthree\n" == (tmp_path / "dir" / "moved").read_text()
    assert found == [("link", True, True, 2.0), ("moved", True, False, 2.0)]
    assert walked == [(".", []), ("./dir", ["link", "moved"])] and listed == ["link", "moved"]
    assert (real, cwd, copy, may) == (str(tmp_path / "dir" / "moved"), str(tmp_path), False, True)
    assert os.getcwd() == before


def temporaries() -> list[Any]:
    with tempfile.TemporaryFile("w+") as file:
        file.write("temporary")
        file.seek(0)
        out = [file.read()]
    with tempfile.TemporaryDirectory() as folder:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as named:
            named.write(b"x")
        out += [os.listdir(folder) == [os.path.basename(named.name)], os.stat(named.name).st_size]
    return [*out, os.path.exists(folder), folder]


def test_temporary_files_have_the_runs_names():
    out = [run(temporaries, seed=seed) for seed in (1, 2, 1)]
    assert [found[:4] for found in out] == [["temporary", True, 1, False]] * 3
    assert out[0] == out[2] != out[1]


def missing() -> list[Any]:
    out = []
    for call in (open, os.stat, os.listdir, os.unlink, os.rmdir, os.chdir, os.readlink, os.mkdir):
        with pytest.raises(OSError) as caught:
            call("/nonexistent/x")
        out.append((caught.value.errno, caught.value.filename))
    return out


def test_errors_have_the_files_name():
    assert run(missing) == [(2, "/nonexistent/x")] * 8


def buffers() -> list[Any]:
    r, w = os.pipe()
    reader, writer = os.fdopen(r, "r"), os.fdopen(w, "w", buffering=1)
    writer.write("a line\n")
    out = [reader.readline(), reader.fileno(), writer.isatty(), type(reader.buffer) is io.BufferedReader, isinstance(reader, io.IOBase)]
    os.set_blocking(r, False)
    with pytest.raises(TypeError):
        # As CPython, which has no text without bytes.
        reader.read()
    raw = io.FileIO(os.dup(r))
    out += [raw.read(10), repr(raw)]
    writer.close()
    return [*out, raw.read()]


def test_buffers():
    assert run(buffers) == ["a line\n", 3, False, True, True, None, "<_io.FileIO name=5 mode='rb' closefd=True>", b""]


class Holder:
    """An attribute that is a function of C is no method."""

    read = os.read
    open = open


def as_attribute() -> Any:
    r, w = os.pipe()
    os.write(w, b"x")
    return Holder().read(r, 1), Holder().open(w, "wb").name


def test_functions_are_as_those_of_c():
    assert run(as_attribute) == (b"x", 4)


def held() -> Any:
    return open(os.pipe()[1], "wb")


def test_what_outlives_its_run_closes_nothing():
    """A file that is collected after its machine, with bytes that were not written, does not touch the fds of another."""
    left = run(held)
    left.write(b"unwritten")

    def later() -> Any:
        os.pipe()
        return None

    run(later)
    del left


# --- random numbers ---
def numbers() -> Any:
    return random.random(), random.Random().random(), random.SystemRandom().random(), os.urandom(4), random.Random(3).random()


def test_random_numbers_are_the_runs():
    runs = [run(numbers, seed=seed) for seed in (1, 2, 1)]
    assert runs[0] == runs[2] and runs[0][:4] != runs[1][:4] and runs[0][4] == runs[1][4] == random.Random(3).random()
    assert len({value for drawn in runs[:2] for value in drawn[:3]}) == 6


# --- environment, limits, locks ---
def environment() -> Any:
    os.environ["SIMKERNEL_TEST"] = "inside"
    assert os.environb[b"SIMKERNEL_TEST"] == b"inside"
    return os.getenv("SIMKERNEL_TEST"), os.cpu_count(), len(os.sched_getaffinity(0)), os.getpid(), os.getppid(), os.times().elapsed


def test_the_environment_is_the_worlds():
    assert run(environment) == ("inside", 4, 4, 1, 0, 0.0)
    assert "SIMKERNEL_TEST" not in os.environ


def limits() -> Any:
    resource.setrlimit(resource.RLIMIT_NOFILE, (5, 100))
    fds = os.pipe()
    with pytest.raises(OSError, match="Too many open files"):
        os.pipe()
    with pytest.raises(ValueError, match="not allowed"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, 2**30))
    with pytest.raises(termios.error) as caught:
        termios.tcgetattr(fds[0])
    os.write(fds[1], b"abc")
    buffer = bytearray(4)
    fcntl.ioctl(fds[0], termios.FIONREAD, buffer)
    return (
        fds,
        caught.value.args[0],
        struct.unpack("i", fcntl.ioctl(fds[0], termios.FIONREAD, bytes(4))),
        buffer[0],
        fcntl.fcntl(fds[0], fcntl.F_GETFD),
        resource.getrlimit(resource.RLIMIT_NOFILE),
    )


def test_limits_and_fcntl():
    assert run(limits) == ((3, 4), 25, (3,), 3, 1, (5, 100))


def lock_twice(path: str) -> None:
    files = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]
    fcntl.flock(files[0], fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError):
        fcntl.flock(files[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(files[1], fcntl.LOCK_EX)


def test_a_lock_that_nobody_gives_back(tmp_path: Path):
    with pytest.raises(Deadlock, match="flock"):
        run(lock_twice, str(tmp_path / "lock"))


# --- threads ---
def through_a_fifo(folder: str) -> Any:
    path = os.path.join(folder, "fifo")
    os.mkfifo(path)
    got: list[bytes] = []

    def read() -> None:
        with open(path, "rb") as reader:
            got.append(reader.read())

    thread = threading.Thread(target=read)
    thread.start()
    with open(path, "wb") as writer:
        writer.write(b"through")
    thread.join()
    return got


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_named_pipe_waits_for_its_other_end(tmp_path: Path, seed: int | None):
    assert run(through_a_fifo, str(tmp_path), seed=seed) == [b"through"]


def shared_file() -> Any:
    r, w = os.pipe()
    out = os.fdopen(w, "wb", buffering=64)
    got: list[bytes] = []

    def write(letter: bytes) -> None:
        for _ in range(50):
            out.write(letter * 7)
            out.flush()

    def read() -> None:
        with os.fdopen(r, "rb", buffering=16) as reader:
            while data := reader.read(7):
                got.append(data)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    reader = threading.Thread(target=read)
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    out.close()
    reader.join()
    return got


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_threads_share_a_buffer(seed: int | None):
    """Whoever is inside when the scheduler takes the processor away, a record stays whole and nobody finds the lock taken."""
    got = run(shared_file, seed=seed)
    assert sorted(got) == [letter * 7 for letter in (b"a", b"b", b"c") for _ in range(50)]
