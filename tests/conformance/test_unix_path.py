"""AF_UNIX names that are paths: they live in the file system."""

from simkernel.api import Syscalls
from simkernel.uapi import AF_UNIX, O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, SOCK_STREAM

from .helpers import World, err


def unix(sys: Syscalls) -> int:
    """A new stream socket."""
    return sys.socket(AF_UNIX, SOCK_STREAM)


def test_bind_makes_a_name(world: World, workdir: str) -> None:
    """bind makes a node that unlink removes; it can't be opened (ENXIO), and is no directory."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/s"
        fd = unix(sys)
        sys.bind(fd, path)
        assert sys.getsockname(fd) == path
        assert [err(sys.open, path, flags) for flags in (O_RDONLY, O_RDWR | O_CREAT, O_RDWR | O_TRUNC)] == ["ENXIO"] * 3
        assert err(sys.open, path, O_CREAT | O_EXCL) == "EEXIST"
        assert err(sys.open, path, O_DIRECTORY) == "ENOTDIR"
        assert err(sys.open, path + "/x", O_RDONLY) == "ENOTDIR"
        assert err(sys.mkdir, path) == "EEXIST"
        sys.unlink(path)
        assert err(sys.open, path, O_RDONLY) == "ENOENT"

    world.run(main)


def test_bind_errors(world: World, workdir: str) -> None:
    """EADDRINUSE over anything that is there, ENOENT and ENOTDIR for the path to it; the first mistake that Linux sees counts."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.open(workdir + "/f", O_CREAT | O_WRONLY)
        fd = unix(sys)
        assert [err(sys.bind, fd, path) for path in (workdir + "/f", workdir, "/tmp", workdir + "/.")] == ["EADDRINUSE"] * 4
        assert [err(sys.bind, fd, workdir + path) for path in ("/none/s", "/f/s", "/s/")] == ["ENOENT", "ENOTDIR", "ENOENT"]
        sys.bind(fd, workdir + "/s")
        assert err(sys.bind, unix(sys), workdir + "/s") == "EADDRINUSE"
        # One that has a name: the new one is looked at first.
        assert [err(sys.bind, fd, workdir + path) for path in ("/s", "/t", "/none/s")] == ["EADDRINUSE", "EINVAL", "ENOENT"]
        assert err(sys.open, workdir + "/t", O_RDONLY) == "ENOENT"

    world.run(main)


def test_connect_errors(world: World, workdir: str) -> None:
    """Fact 121: ENOENT for a missing path, ECONNREFUSED for what is no listening socket, be it a file, a directory or a device."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        sys.open(workdir + "/f", O_CREAT | O_WRONLY)
        sys.bind(unix(sys), workdir + "/s")
        fd = unix(sys)
        paths = ["/f", "", "/s", "/none", "/none/s", "/f/s", "/s/"]
        wanted = ["ECONNREFUSED"] * 3 + ["ENOENT", "ENOENT", "ENOTDIR", "ENOTDIR"]
        assert [err(sys.connect, fd, workdir + path) for path in paths] == wanted
        assert err(sys.connect, fd, "/dev/null") == "ECONNREFUSED"

    world.run(main)


def test_stale_path(world: World, workdir: str) -> None:
    """Fact 121: a path outlives its socket: connect ECONNREFUSED, bind EADDRINUSE, until it is unlinked."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/s"
        listening = unix(sys)
        sys.bind(listening, path)
        sys.listen(listening, 1)
        sys.close(listening)
        assert err(sys.connect, unix(sys), path) == "ECONNREFUSED"
        assert err(sys.bind, unix(sys), path) == "EADDRINUSE"
        sys.unlink(path)
        assert err(sys.connect, unix(sys), path) == "ENOENT"
        assert err(sys.bind, unix(sys), path) is None

    world.run(main)


def test_unlinked_listener(world: World, workdir: str) -> None:
    """A listener whose path is unlinked keeps its name and its queue, but nobody finds it; the path is free for another."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        path = workdir + "/s"
        old, new, first, second = (unix(sys) for _ in range(4))
        sys.bind(old, path)
        sys.listen(old, 1)
        sys.connect(first, path)
        sys.unlink(path)
        assert err(sys.connect, second, path) == "ENOENT"
        sys.bind(new, path)
        assert err(sys.connect, second, path) == "ECONNREFUSED"
        sys.listen(new, 1)
        sys.connect(second, path)
        sys.send(first, b"1")
        sys.send(second, b"2")
        assert sys.recv(sys.accept4(old)[0], 9) == b"1"
        assert sys.recv(sys.accept4(new)[0], 9) == b"2"
        assert sys.getsockname(old) == sys.getpeername(first) == path
        # The old one's end takes nothing from the new.
        sys.close(old)
        sys.connect(unix(sys), path)

    world.run(main)


def test_other_path_to_the_same_socket(world: World, workdir: str) -> None:
    """A socket is found by any path that leads to it, and its name stays as it was given."""

    def main(sys: Syscalls) -> None:
        sys.mkdir(workdir)
        listening, fd = unix(sys), unix(sys)
        sys.bind(listening, workdir + "/s")
        sys.listen(listening, 1)
        sys.connect(fd, workdir + "/.//../" + workdir.rpartition("/")[2] + "/s")
        assert sys.getpeername(fd) == workdir + "/s"

    world.run(main)
