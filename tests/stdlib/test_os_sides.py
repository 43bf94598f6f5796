"""os, io and fcntl: one body on CPython's own, on ours over Linux, and on ours over the fake kernel; the answers are the same."""

import importlib
import shutil
import tempfile

import pytest

import simkernel.linux
from simkernel.stdlib.here import machine
from simkernel.stdlib.process import boot
from simkernel.stdlib.world import World

from .sides import Modules

FAKES = ("_io", "_posixsubprocess", "_socket", "fcntl", "posix", "resource", "select", "termios")
_worlds = []


def world():
    if not _worlds:
        _worlds.append(World(fakes=FAKES))
    return _worlds[0]


def run(side, body, *args):
    if side == "cpython":
        return simkernel.linux.run(lambda sys: report(body, importlib.import_module, args))
    if side == "linux":

        def main(sys):
            with machine(sys):
                return report(body, world().import_module, args)

        return simkernel.linux.run(main)
    return boot(lambda sys: report(body, World().import_module, args))


def report(body, import_module, args):
    """What the body has seen."""
    return body(Modules(import_module), *args)


def outcome(call, *args, **kwargs):
    """The result of a call, or its exception with what a program sees of it."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return type(error).__name__, getattr(error, "errno", None), getattr(error, "filename", None)


def fds(py):
    os, fcntl = py.os, py.fcntl
    out = []
    r, w = os.pipe()
    os.set_blocking(r, False)
    out += [
        outcome(os.read, r, 1),
        outcome(os.read, r, -1),
        outcome(os.read, "x", 1),
        outcome(os.write, w, "text"),
        outcome(os.read, -1, 1),
    ]
    out += [os.write(w, memoryview(b"abcdef")[::1]), os.readv(r, [bytearray(2), bytearray(3)]), outcome(os.readv, r, [b"no"])]
    out += [outcome(os.lseek, r, 0, 0), outcome(os.pread, r, 1, 0), outcome(os.ftruncate, r, 1), outcome(os.fsync, r)]
    out += [outcome(os.dup2, r, -1), outcome(os.dup2, 99, 5), outcome(os.dup, 99), outcome(os.close, 99), outcome(os.fstat, 99)]
    out += [outcome(os.dup2, r, r, False), outcome(os.set_inheritable, 99, True), outcome(os.get_blocking, 99)]
    out += [os.isatty(r), outcome(os.isatty, 99), outcome(os.ttyname, r), outcome(os.get_terminal_size, r), outcome(os.tcgetpgrp, r)]
    out += [os.device_encoding(r), outcome(os.eventfd_read, os.eventfd(0, os.EFD_NONBLOCK)), outcome(os.pipe2, 1 << 5)]
    out += [
        outcome(fcntl.fcntl, r, fcntl.F_GETFL),
        outcome(fcntl.ioctl, 99, py.termios.FIONREAD),
        outcome(fcntl.fcntl, "x", 1),
        outcome(fcntl.fcntl, -1, 1),
    ]
    out += [outcome(fcntl.flock, r, 0), outcome(os.sendfile, w, r, 0, 10), outcome(os.splice, r, w, -1), outcome(os.eventfd_write, 99, 1)]
    out += [outcome(os.memfd_create, "a\0b"), outcome(os.memfd_create, "x" * 250), outcome(os.posix_fadvise, r, 0, 0, 0)]
    out += [outcome(os.waitpid, -1, os.WNOHANG), outcome(os.kill, os.getpid(), 99), outcome(os.getpgid, 2**30), outcome(os.urandom, -1)]
    return out


def paths(py, folder):
    os = py.os
    os.chdir(folder)
    os.mkdir("d")
    fd = os.open("d/f", os.O_CREAT | os.O_RDWR, 0o640)
    os.symlink("f", "d/l")
    os.symlink("loop", "loop")
    os.link("d/f", "d/h")
    dir_fd = os.open("d", os.O_RDONLY)
    out = [os.write(fd, b"data"), oct(os.stat("f", dir_fd=dir_fd).st_mode), os.stat("d/l").st_nlink, oct(os.lstat(b"d/l").st_mode)]
    out += [sorted(os.listdir(dir_fd)), sorted(os.listdir(b"d")), os.readlink("l", dir_fd=dir_fd), os.readlink(b"d/l")]
    out += [sorted([(e.name, e.path, e.is_file(), e.is_symlink(), e.stat().st_size) for e in os.scandir("d")])]
    out += [sorted([(e.name, e.path, e.is_file(follow_symlinks=False)) for e in os.scandir(dir_fd)])]
    out += [outcome(call, "none") for call in (os.stat, os.unlink, os.rmdir, os.chdir, os.readlink, os.listdir, os.scandir, os.statvfs)]
    out += [outcome(call, "d/f/x") for call in (os.stat, os.unlink, os.rmdir, os.chdir, os.mkdir, os.listdir)]
    out += [outcome(call, "loop/x") for call in (os.stat, os.unlink, os.listdir)]
    out += [outcome(call, "d") for call in (os.rmdir, os.unlink, os.mkdir, os.readlink)]
    out += [outcome(call, b"a\0b") for call in (os.stat, os.unlink, os.open, os.mkdir)]
    out += [outcome(call, 3.5) for call in (os.stat, os.unlink, os.listdir, os.chdir, os.mkdir)]
    out += [
        outcome(os.rename, "d/f", "d/g/h"),
        outcome(os.rename, "none", "x"),
        outcome(os.symlink, "x", "d"),
        outcome(os.link, "none", "y"),
    ]
    out += [
        outcome(os.stat, "f", dir_fd=99),
        outcome(os.stat, "f", dir_fd="x"),
        outcome(os.open, "d", os.O_WRONLY),
        outcome(os.truncate, "d", 0),
    ]
    os.chmod("d/f", 0o604)
    os.fchmod(fd, os.stat("d/f").st_mode | 0o20)
    os.utime("d/f", ns=(10**18, 2 * 10**18))
    os.truncate("d/f", 2)
    os.utime(fd, (5, 6))
    out += [oct(os.fstat(fd).st_mode), os.stat("d/f").st_mtime, os.stat("d/f").st_size, os.access("d", os.X_OK), os.access("none", os.F_OK)]
    os.replace("d/f", "moved")
    out += [os.path.exists("d/f"), os.path.islink("d/l"), os.path.exists("d/l"), os.getcwd() == folder, os.getcwdb() == folder.encode()]
    old = os.umask(0o077)
    os.mkdir("private", 0o777)
    out += [oct(old), oct(os.umask(old)), oct(os.stat("private").st_mode)]
    out += [[sorted(names) for names in next(os.walk("."))[1:]], [sorted(names) for _, _, names, _ in os.fwalk("d")]]
    return out


def files(py, folder):
    io, os = py.io, py.os
    os.chdir(folder)
    out = []
    with io.open("f", "w", encoding="utf-8", newline="\r\n") as file:
        out += [file.write("ä\nb\n"), file.tell(), file.mode, file.name, file.line_buffering, file.buffer.mode, file.buffer.raw.closefd]
    with io.open("f", "rb", 0) as raw:
        out += [
            raw.readall(),
            raw.seek(1),
            raw.read(2),
            raw.tell(),
            raw.readinto(bytearray(9)),
            raw.readable(),
            raw.writable(),
            raw.seekable(),
        ]
        out += [outcome(raw.write, b"x"), outcome(raw.truncate), repr(raw), raw.mode]
    out += [raw.closed, repr(raw), outcome(raw.read), outcome(raw.fileno)]
    for mode in ("r+", "w+b", "a", "x", "rw", "rt+", "", "U", "bb", "rbt", "+"):
        made = outcome(io.open, "g", mode)
        out.append((mode, made if isinstance(made, tuple) else (type(made).__name__, made.mode, made.close())))
    for options in ({"encoding": "x"}, {"newline": "x"}, {"buffering": 0}, {"closefd": False}, {"errors": "strict", "mode": "rb"}):
        out.append(outcome(io.open, "f", **options))
    out += [outcome(io.open, name) for name in ("none", ".", b"none", -1, 99, 1.5, None, "a\0b")]
    out += [outcome(io.FileIO, *args) for args in (("none",), (99,), (-1,), ("f", "rr"), ("f", "r", False))]
    with io.open("f", opener=lambda path, flags: os.open(path, flags)) as opened:
        out += [opened.read(), os.get_inheritable(opened.fileno())]
    out.append(outcome(io.open, "f", opener=lambda path, flags: -1))
    with io.open("f", "ab") as appended:
        out += [appended.tell(), appended.write(b"!"), appended.seek(0), appended.write(b"?"), appended.tell()]
    with io.open("f", "r+b") as both:
        out += [both.read(1), both.write(b"Z"), both.seek(0), both.read(), type(both).__name__, repr(both)]
    r, w = os.pipe()
    os.set_blocking(r, False)
    os.set_blocking(w, False)
    with io.open(r, "rb") as reader, io.open(w, "wb") as writer:
        out += [reader.read(5), outcome(reader.readline), writer.write(b"line\nrest"), writer.flush(), reader.readline(), reader.read()]
        out += [reader.read1(5) if False else None, outcome(writer.write, bytes(10**6)), outcome(writer.seek, 0), outcome(reader.tell)]
        reader.read()
    return out


def fifos(py, folder):
    os, select = py.os, py.select
    os.chdir(folder)
    os.mkfifo("fifo")
    out = [outcome(os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK), oct(os.stat("fifo").st_mode & 0o170000)]
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    out += [os.read(reader, 5), poll.poll(0)]
    writer = os.open("fifo", os.O_WRONLY)
    out += [
        outcome(os.read, reader, 5),
        os.write(writer, b"data"),
        poll.poll(0),
        os.read(reader, 9),
        oct(os.fstat(writer).st_mode & 0o170000),
    ]
    os.write(writer, b"left")
    os.close(writer)
    out += [poll.poll(0), os.read(reader, 9), os.read(reader, 9)]
    os.close(reader)
    both = os.open("fifo", os.O_RDWR)
    out += [os.write(both, b"x"), os.read(both, 2)]
    os.write(both, b"lost")
    os.close(both)
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    out.append(os.read(reader, 5))
    return out


def test_fds():
    assert run("cpython", fds) == run("linux", fds) == run("fake", fds)


@pytest.mark.parametrize("body", [paths, files, fifos], ids=lambda body: body.__name__)
def test_in_a_folder(body):
    out = []
    for side in ("cpython", "linux", "fake"):
        folder = tempfile.mkdtemp()
        try:
            out.append(run(side, body, folder))
        finally:
            shutil.rmtree(folder)
    cpython, linux, fake = out
    assert cpython == linux
    assert cpython == fake
