"""/proc: what it prints, field by field where values differ from machine to machine."""

import re

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    CLOCK_MONOTONIC,
    EFD_NONBLOCK,
    EFD_SEMAPHORE,
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLIN,
    EPOLLOUT,
    F_GETFL,
    FIONREAD,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    PAGE_SIZE,
    POLLIN,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
    SHUT_WR,
    SIGTERM,
    SIGUSR1,
    SOCK_DGRAM,
    SOCK_STREAM,
)

from .helpers import DATA, World, abstract, client, err, inet_name, listener, mask, settle, tcp_pair

SOMAXCONN = "/proc/sys/net/core/somaxconn"


def cat(sys: Syscalls, path: str) -> str:
    """A whole file."""
    fd = sys.open(path, O_RDONLY)
    out = b""
    while data := sys.read(fd, 65536):
        out += data
    sys.close(fd)
    return out.decode()


def fdinfo(sys: Syscalls, fd: int) -> list[str]:
    """The lines of /proc/self/fdinfo/N, the numbers of inodes and mounts left out."""
    return [
        re.sub(r"((?:mnt_id|ino|sdev|eventfd-id):\s?)[0-9a-f]+", r"\1_", line) for line in cat(sys, f"/proc/self/fdinfo/{fd}").splitlines()
    ]


HEAD = ["mnt_id:\t_", "ino:\t_"]


# --- fdinfo ---
def test_fdinfo_of_files(world: World) -> None:
    """Position, flags in octal with O_CLOEXEC of the fd, mount and inode."""

    def main(sys: Syscalls) -> None:
        fd = sys.memfd_create("x")
        sys.write(fd, b"hello")
        r, w = sys.pipe2(O_NONBLOCK)
        null = sys.open("/dev/null", O_RDWR | O_CLOEXEC)
        assert fdinfo(sys, fd) == ["pos:\t5", "flags:\t0100002", *HEAD]
        assert fdinfo(sys, r) == ["pos:\t0", "flags:\t04000", *HEAD]
        assert fdinfo(sys, w) == ["pos:\t0", "flags:\t04001", *HEAD]
        assert fdinfo(sys, null) == ["pos:\t0", "flags:\t02100002", *HEAD]
        assert fdinfo(sys, sys.socket(AF_INET, SOCK_STREAM)) == ["pos:\t0", "flags:\t02", *HEAD]

    world.run(main)


def test_fdinfo_of_an_epoll(world: World) -> None:
    """A line for each item: fd, events with ERR and HUP, data, and of the file its position and inode."""

    def main(sys: Syscalls) -> None:
        ep, event = sys.epoll_create1(), sys.eventfd(0)
        r, _ = sys.pipe2()
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, event, EPOLLIN | EPOLLET, 0x4D)
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, r, EPOLLIN | EPOLLOUT)
        lines = fdinfo(sys, ep)
        assert lines[:4] == ["pos:\t0", "flags:\t02", *HEAD]
        # The order of the items is that of addresses.
        assert sorted(lines[4:]) == [
            f"tfd: {event:8} events: 80000019 data: {0x4D:16x}  pos:0 ino:_ sdev:_",
            f"tfd: {r:8} events:       1d data: {r:16x}  pos:0 ino:_ sdev:_",
        ]

    world.run(main)


def test_fdinfo_of_an_eventfd(world: World) -> None:
    """The counter in hexadecimal, and whether it is a semaphore."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd(300, EFD_SEMAPHORE | EFD_NONBLOCK)
        assert fdinfo(sys, fd) == [
            "pos:\t0",
            "flags:\t04002",
            *HEAD,
            "eventfd-count:              12c",
            "eventfd-id: _",
            "eventfd-semaphore: 1",
        ]

    world.run(main)


def test_fdinfo_of_timers_and_signals(world: World) -> None:
    """A timerfd's clock and times, a signalfd's mask, a pidfd's process."""

    def main(sys: Syscalls) -> None:
        timer, signals = sys.timerfd_create(CLOCK_MONOTONIC), sys.signalfd(-1, [SIGUSR1, SIGTERM])
        lines = fdinfo(sys, timer)
        assert lines[4:] == ["clockid: 1", "ticks: 0", "settime flags: 00", "it_value: (0, 0)", "it_interval: (0, 0)"]
        sys.timerfd_settime(timer, 0, 10**12, 2_500_000_000)
        lines = fdinfo(sys, timer)
        assert re.fullmatch(r"it_value: \((999|1000), \d+\)", lines[7])
        assert lines[8] == "it_interval: (2, 500000000)"
        assert fdinfo(sys, signals)[4:] == ["sigmask:\t0000000000004200"]
        pidfd = sys.pidfd_open(sys.getpid())
        assert fdinfo(sys, pidfd)[1:] == ["flags:\t02000002", *HEAD, f"Pid:\t{sys.getpid()}", f"NSpid:\t{sys.getpid()}"]

    world.run(main)


def test_fdinfo_is_made_when_it_is_read(world: World) -> None:
    """Piece by piece it stays as it was begun, from the start it is made anew; a closed fd is ENOENT by then."""

    def main(sys: Syscalls) -> None:
        fd = sys.memfd_create("x")
        sys.write(fd, b"hello")
        info = sys.open(f"/proc/self/fdinfo/{fd}", O_RDONLY)
        assert sys.read(info, 5) == b"pos:\t"
        sys.write(fd, b"!")
        assert sys.read(info, 5) == b"5\nfla"
        assert [err(sys.lseek, info, *where) for where in ((0, SEEK_END), (0, SEEK_CUR), (-1, SEEK_SET), (3, SEEK_SET))] == [
            "EINVAL",
            10,
            "EINVAL",
            3,
        ]
        assert sys.read(info, 4) == b":\t6\n"
        assert sys.pread(info, 5, 2) == b"s:\t6\n"
        assert [sys.lseek(info, 0, SEEK_CUR), sys.lseek(info, 1000, SEEK_SET), sys.read(info, 3)] == [7, 1000, b""]
        sys.close(fd)
        sys.lseek(info, 0, SEEK_SET)
        assert err(sys.read, info, 100) == "ENOENT"

    world.run(main)


def test_fdinfo_names(world: World) -> None:
    """A name is an open fd as a number without leading zeros; the file can be opened for writing, not written."""

    def main(sys: Syscalls) -> None:
        names = ["999", "abc", "00", "-1", "0x0"]
        assert [err(sys.open, f"/proc/self/fdinfo/{name}", O_RDONLY) for name in names] == ["ENOENT"] * 5
        assert [err(sys.open, f"/proc/self/fd/{name}", O_RDONLY) for name in names] == ["ENOENT"] * 5
        fd = sys.open("/proc/self/fdinfo/0", O_RDWR | O_TRUNC)
        assert err(sys.writev, fd, []) == "EINVAL"
        assert [err(sys.write, fd, b""), err(sys.pwrite, fd, b"x", 0), err(sys.ftruncate, fd, 0)] == ["EINVAL", "ESPIPE", None]
        assert err(sys.write, sys.open("/proc/self/fdinfo/0", O_RDONLY), b"x") == "EBADF"
        assert isinstance(err(sys.open, f"/proc/{sys.getpid()}/fdinfo/0", O_RDONLY), int)
        assert err(sys.open, "/proc/999999999/fdinfo/0", O_RDONLY) == "ENOENT"

    world.run(main)


# --- fd ---
def test_fd_opens_a_pipe_again(world: World) -> None:
    """/proc/self/fd/N of a pipe's end is another end, of whichever kind was asked for; it keeps the pipe open."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2(O_NONBLOCK)
        other = sys.open(f"/proc/self/fd/{r}", O_WRONLY | O_NONBLOCK)
        assert sys.fcntl(other, F_GETFL) == O_WRONLY | O_NONBLOCK | O_LARGEFILE
        sys.write(other, b"abc")
        sys.close(w)
        assert sys.read(r, 9) == b"abc"
        assert err(sys.read, r, 9) == "EAGAIN"
        both = sys.open(f"/proc/self/fd/{r}", O_RDWR)
        sys.write(both, b"q")
        assert mask(sys, both) == DATA
        assert sys.read(both, 4) == b"q"
        sys.close(other)
        sys.close(both)
        assert sys.read(r, 9) == b""

    world.run(main)


def test_fd_of_what_can_not_be_opened(world: World) -> None:
    """ENXIO for sockets and the anonymous files; ELOOP and EEXIST since it is a link; ENOTDIR below it."""

    def main(sys: Syscalls) -> None:
        files = [sys.socket(AF_UNIX, SOCK_STREAM), sys.eventfd(0), sys.epoll_create1(), sys.timerfd_create(1), sys.signalfd(-1, [10])]
        assert [err(sys.open, f"/proc/self/fd/{fd}", O_RDWR) for fd in files] == ["ENXIO"] * 5
        r, _ = sys.pipe2()
        name = f"/proc/self/fd/{r}"
        assert [err(sys.open, name, flags) for flags in (O_NOFOLLOW, O_DIRECTORY, O_CREAT | O_EXCL)] == ["ELOOP", "ENOTDIR", "EEXIST"]
        assert err(sys.open, name + "/x", O_RDONLY) == "ENOTDIR"
        assert isinstance(err(sys.open, name, O_RDWR | O_CREAT), int)
        assert [err(sys.open, "/proc/self", flags) for flags in (O_NOFOLLOW, O_NOFOLLOW | O_DIRECTORY)] == ["ELOOP", "ENOTDIR"]

    world.run(main)


def test_fd_of_another_process_is_its_own(world: World) -> None:
    """/proc/self is whoever asks."""

    def main(sys: Syscalls) -> None:
        fd = sys.memfd_create("x")

        def child(sys: Syscalls) -> None:
            sys.close(fd)
            assert err(sys.open, f"/proc/self/fd/{fd}", O_RDONLY) == "ENOENT"

        assert sys.waitpid(sys.spawn(child))[1] == 0
        assert isinstance(err(sys.open, f"/proc/self/fd/{fd}", O_RDONLY), int)

    world.run(main)


# --- all of it ---
def test_nothing_is_made_in_proc(world: World) -> None:
    """No file and no directory can be made or removed, each for its own reason."""

    def main(sys: Syscalls) -> None:
        assert [err(sys.open, path, O_CREAT | O_RDWR) for path in ("/proc/x", "/proc/self/fd/x", "/proc/sys/x", "/proc/net/x")] == [
            "ENOENT"
        ] * 4
        assert [err(sys.mkdir, path) for path in ("/proc/x", "/proc/self/fd/x", "/proc/sys/x", "/proc/self")] == ["ENOENT"] * 3 + ["EEXIST"]
        assert [err(sys.unlink, path) for path in ("/proc/self", "/proc/self/fd/0", "/proc/net/tcp", SOMAXCONN, "/proc/x")] == [
            "EPERM",
            "EPERM",
            "EPERM",
            "EACCES",
            "ENOENT",
        ]
        for path in ("/proc", "/proc/self", "/proc/self/fd", "/proc/net", "/proc/sys"):
            fd = sys.open(path, O_RDONLY)
            assert [err(sys.read, fd, 5), err(sys.open, path, O_RDWR), err(sys.lseek, fd, 0, SEEK_END)] == ["EISDIR", "EISDIR", 0]

    world.run(main)


@pytest.mark.parametrize("path", ["/proc/self/fdinfo/0", "/proc/net/tcp", "/proc/net/unix", SOMAXCONN])
def test_proc_files_are_ready(world: World, path: str) -> None:
    """poll says IN|OUT of all; epoll takes those that have a poll: not a process's own.  FIONREAD believes a size of 0."""

    def main(sys: Syscalls) -> None:
        fd, ep = sys.open(path, O_RDONLY), sys.epoll_create1()
        assert mask(sys, fd) == DATA
        assert err(sys.epoll_ctl, ep, EPOLL_CTL_ADD, fd, POLLIN) == ("EPERM" if "self" in path else None)
        sys.read(fd, 2)
        assert sys.ioctl(fd, FIONREAD) == -2

    world.run(main)


# --- net ---
def test_net_tcp(world: World) -> None:
    """Addresses and states in hexadecimal, what waits to be accepted, sent and read, 149 characters a line."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys, 7)
        a = client(sys, addr)
        b, _ = sys.accept4(listening)
        c = client(sys, addr)
        sys.send(a, b"hello")
        sys.shutdown(a, SHUT_WR)
        settle(sys)
        text = cat(sys, "/proc/net/tcp")
        lines = text.splitlines()
        assert lines[0] == "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode".ljust(149)
        assert {len(line) for line in lines} == {149}
        assert text.endswith("\n")

        def name(port: int) -> str:
            return f"0100007F:{port:04X}"

        rows = {}
        for line in lines[1:]:
            if line.split()[3] == "06":
                # TIME_WAIT, of whatever ran before: it is no socket any more.
                continue
            assert re.fullmatch(
                r" *\d+: [0-9A-F]{8}:[0-9A-F]{4} [0-9A-F]{8}:[0-9A-F]{4} [0-9A-F]{2} "
                r"[0-9A-F]{8}:[0-9A-F]{8} [0-9A-F]{2}:[0-9A-F]{8} [0-9A-F]{8} "
                r" *\d+  *-?\d+ \d+ \d+ [0-9a-f]{16} \d+ \d+ \d+ \d+ -?\d+ *",
                line,
            ), line
            fields = line.split()
            rows[fields[1], fields[2]] = fields
        server, first, second = name(addr[1]), name(inet_name(sys, a)[1]), name(inet_name(sys, c)[1])
        listens = rows[server, "00000000:0000"]
        assert [listens[3], listens[4], listens[9] == "0"] == ["0A", "00000000:00000001", False]
        assert rows[server, first][3:5] == ["08", "00000000:00000006"]
        assert [rows[first, server][3], rows[first, server][4][9:]] == ["05", "00000000"] or rows[first, server][3] == "04"
        assert rows[second, server][3:5] == ["01", "00000000:00000000"]
        # Nobody has accepted it: no file, so no inode.
        assert [rows[server, second][3], rows[server, second][9]] == ["01", "0"]
        sys.close(b)

    world.run(main)


def test_net_tcp_time_wait(world: World) -> None:
    """Who closed first is there for a minute more, its timer in hundredths of a second; it is no socket any more."""

    def main(sys: Syscalls) -> None:
        a, b = tcp_pair(sys)
        ours, theirs = (f"0100007F:{inet_name(sys, fd)[1]:04X}" for fd in (a, b))
        sys.close(a)
        settle(sys)
        sys.close(b)
        settle(sys)
        lines = cat(sys, "/proc/net/tcp").splitlines()
        rows = [(line, line.split()) for line in lines if ours in line and theirs in line]
        assert len(rows) == 1
        line, fields = rows[0]
        assert len(line) == 149
        assert fields[1:5] == [ours, theirs, "06", "00000000:00000000"]
        assert fields[5].startswith("03:")
        assert 5500 < int(fields[5][3:], 16) <= 6000
        assert fields[6:11] == ["00000000", "0", "0", "0", "3"]
        assert len(fields) == 12

    world.run(main)


def test_net_udp(world: World) -> None:
    """Sockets with a port, the charge of what is queued; 127 characters a line."""

    def main(sys: Syscalls) -> None:
        server, peer = sys.socket(AF_INET, SOCK_DGRAM), sys.socket(AF_INET, SOCK_DGRAM)
        sys.socket(AF_INET, SOCK_DGRAM)
        sys.bind(server, ("127.0.0.1", 0))
        sys.connect(peer, sys.getsockname(server))
        sys.send(peer, b"hello")
        settle(sys)
        lines = cat(sys, "/proc/net/udp").splitlines()
        head = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
        assert lines[0] == head.ljust(127)
        assert {len(line) for line in lines} == {127}
        rows = {fields[1]: fields for fields in map(str.split, lines[1:])}
        one, two = (f"0100007F:{inet_name(sys, fd)[1]:04X}" for fd in (server, peer))
        assert rows[one][2:9] == ["00000000:0000", "07", "00000000:00000340", "00:00000000", "00000000", "0", "0"]
        assert rows[two][2:9] == [one, "01", "00000000:00000000", "00:00000000", "00000000", "0", "0"]
        assert [len(rows[one]), rows[one][10], rows[one][12]] == [13, "2", "0"]

    world.run(main)


def test_net_of_ipv6(world: World) -> None:
    """Addresses in four words; a connection from IPv4 to a socket of IPv6 shows the mapped ones.  The lines have no fixed length."""

    def main(sys: Syscalls) -> None:
        listening = sys.socket(AF_INET6, SOCK_STREAM)
        sys.bind(listening, ("::", 0, 0, 0))
        sys.listen(listening, 4)
        port = sys.getsockname(listening)[1]
        a, b = sys.socket(AF_INET6, SOCK_STREAM), sys.socket(AF_INET, SOCK_STREAM)
        sys.connect(a, ("::1", port, 0, 0))
        sys.connect(b, ("127.0.0.1", port))
        udp = sys.socket(AF_INET6, SOCK_DGRAM)
        sys.bind(udp, ("::1", 0, 0, 0))
        settle(sys)
        head = (
            "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt"
            "   uid  timeout inode"
        )
        lines = cat(sys, "/proc/net/tcp6").splitlines()
        assert lines[0] == head
        rows = {(fields[1], fields[2]): fields for fields in map(str.split, lines[1:])}
        one, mapped, nobody = "0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F", "0" * 32
        assert rows[f"{nobody}:{port:04X}", nobody + ":0000"][3:5] == ["0A", "00000000:00000002"]
        ours = f"{one}:{sys.getsockname(a)[1]:04X}"
        assert rows[ours, f"{one}:{port:04X}"][3] == rows[f"{one}:{port:04X}", ours][3] == "01"
        assert rows[f"{mapped}:{port:04X}", f"{mapped}:{inet_name(sys, b)[1]:04X}"][3] == "01"
        lines = cat(sys, "/proc/net/udp6").splitlines()
        assert lines[0] == head + " ref pointer drops"
        rows = {(fields[1], fields[2]): fields for fields in map(str.split, lines[1:])}
        assert rows[f"{one}:{sys.getsockname(udp)[1]:04X}", nobody + ":0000"][3:5] == ["07", "00000000:00000000"]

    world.run(main)


def test_net_unix(world: World) -> None:
    """Type, state and name of each socket; @ for the zero byte of an abstract name; 00010000 for one that listens."""

    def main(sys: Syscalls) -> None:
        listening, name = sys.socket(AF_UNIX, SOCK_STREAM), abstract(sys)
        sys.bind(listening, name)
        sys.listen(listening, 4)
        sys.connect(sys.socket(AF_UNIX, SOCK_STREAM), name)
        text = cat(sys, "/proc/net/unix")
        assert text.splitlines()[0] == "Num       RefCount Protocol Flags    Type St Inode Path"
        shown = "@" + name[1:].decode()
        rows = [line.split() for line in text.splitlines() if line.endswith(" " + shown)]
        for line in text.splitlines()[1:]:
            assert re.fullmatch(r"[0-9a-f]{16}: [0-9A-F]{8} 0{8} [0-9A-F]{8} 000[125] 0[1-4] [ \d]{5,}(| .*)", line), line
        # The listener, and the connection that waits to be accepted.
        assert sorted((row[2:6], row[6] == "0") for row in rows) == [
            (["00000000", "00000000", "0001", "02"], True),
            (["00000000", "00010000", "0001", "01"], False),
        ]

    world.run(main)


def test_net_tables_are_for_reading(world: World) -> None:
    """They can't be opened for writing, even by root: EACCES."""

    def main(sys: Syscalls) -> None:
        for path in ("/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6", "/proc/net/unix"):
            assert [err(sys.open, path, flags) for flags in (O_RDWR, O_WRONLY, O_WRONLY | O_TRUNC)] == ["EACCES"] * 3
            fd = sys.open(path, O_RDONLY)
            head = sys.read(fd, 30)
            assert sys.pread(fd, 10, 5) == head[5:15]
            assert err(sys.lseek, fd, 0, SEEK_END) == "EINVAL"

    world.run(main)


def test_net_tcp_in_pieces(world: World) -> None:
    """Small reads get it piece by piece, big ones whole records, at most a page."""

    def main(sys: Syscalls) -> None:
        kept = [tcp_pair(sys) for _ in range(30)]
        fd = sys.open("/proc/net/tcp", O_RDONLY)
        first = sys.read(fd, 65536)
        assert len(first) == PAGE_SIZE // 150 * 150
        sys.lseek(fd, 0, SEEK_SET)
        assert sys.read(fd, 100) + sys.read(fd, 200) == first[:300]
        assert sys.read(fd, 65536)[:150] == first[300:450]
        assert len(kept) == 30

    world.run(main)


# --- sys ---
def test_sysctl_reads_once(world: World) -> None:
    """A number is read at once or not at all: what does not fit is lost, and from any position but 0 there is nothing."""

    def main(sys: Syscalls) -> None:
        fd = sys.open(SOMAXCONN, O_RDONLY)
        assert sys.read(fd, 2) == b"40"
        assert [sys.read(fd, 9), sys.lseek(fd, 0, SEEK_CUR), sys.pread(fd, 9, 1)] == [b"", 2, b""]
        assert [sys.lseek(fd, 0, SEEK_SET), sys.read(fd, 100), sys.read(fd, 100)] == [0, b"4096\n", b""]
        assert sys.lseek(fd, 0, SEEK_END) == 0
        fd = sys.open("/proc/sys/net/ipv4/ip_local_port_range", O_RDONLY)
        assert [sys.pread(fd, n, 0) for n in (100, 6, 1, 0)] == [b"32768\t60999\n", b"32768\t", b"3", b""]

    world.run(main)


def test_sysctl_writes(world: World) -> None:
    """What counts as a number, and how many bytes of it were taken.  Writes what is there already, so that nobody is disturbed."""

    def main(sys: Syscalls) -> None:
        fd = sys.open(SOMAXCONN, O_RDWR | O_TRUNC)
        texts = [b"4096\n", b"4096", b"  4096  ", b"4096 5", b"0x1000", b"010000", b""]
        assert [sys.pwrite(fd, text, 0) for text in texts] == [5, 4, 8, 5, 6, 6, 0]
        bad = [b"x", b"-1", b"99999999999", b"\n", b"4096x", b"+4096"]
        assert [err(sys.pwrite, fd, text, 0) for text in bad] == ["EINVAL"] * 6
        # Not at the beginning: taken, and forgotten.
        assert sys.pwrite(fd, b"7", 2) == 1
        assert sys.pread(fd, 9, 0) == b"4096\n"
        sys.lseek(fd, 0, SEEK_SET)
        assert [sys.write(fd, b"4096"), sys.lseek(fd, 0, SEEK_CUR)] == [4, 4]
        assert err(sys.ftruncate, fd, 0) is None
        assert err(sys.open, "/proc/sys/fs/file-nr", O_WRONLY) == "EACCES"

    world.run(main)


def test_sysctl_vectors(world: World) -> None:
    """Of several numbers some may be given; what comes before a mistake counts, but a range of ports is one thing."""

    def main(sys: Syscalls) -> None:
        fd = sys.open("/proc/sys/net/ipv4/tcp_wmem", O_RDWR)
        before = sys.pread(fd, 99, 0)
        first, second, third = before.split()
        assert sys.pwrite(fd, before, 0) == len(before)
        assert sys.pwrite(fd, first, 0) == len(first)
        assert sys.pwrite(fd, before.rstrip() + b" 7", 0) == len(before)
        assert [err(sys.pwrite, fd, text, 0) for text in (b"0 1 2", b"-1 2 3", first + b" x")] == ["EINVAL"] * 3
        assert sys.pread(fd, 99, 0) == b"\t".join((first, second, third)) + b"\n"
        fd = sys.open("/proc/sys/net/ipv4/ip_local_port_range", O_RDWR)
        assert [sys.pwrite(fd, text, 0) for text in (b"32768\t60999\n", b"32768", b"32768 60999 7")] == [12, 5, 12]
        assert [err(sys.pwrite, fd, text, 0) for text in (b"5 4", b"0 5", b"1 70000", b"5 x")] == ["EINVAL"] * 4
        assert sys.pread(fd, 99, 0) == b"32768\t60999\n"

    world.run(main)


def test_sysctl_of_one_unsigned(world: World) -> None:
    """tcp_syn_retries is read by other code: all that is written counts as taken, and the position stays."""

    def main(sys: Syscalls) -> None:
        fd = sys.open("/proc/sys/net/ipv4/tcp_syn_retries", O_RDWR)
        assert sys.pread(fd, 9, 0) == b"6\n"
        assert [sys.write(fd, b"6 7"), sys.lseek(fd, 0, SEEK_CUR)] == [3, 0]
        assert [err(sys.write, fd, text) for text in (b"0", b"-1", b"128", b"x")] == ["EINVAL"] * 4
        assert sys.read(fd, 9) == b"6\n"

    world.run(main)


def test_file_nr(world: World) -> None:
    """Open files, 0, and the limit; a new file counts and a closed one no longer does."""

    def main(sys: Syscalls) -> None:
        nr = cat(sys, "/proc/sys/fs/file-nr")
        assert re.fullmatch(r"\d+\t0\t\d+\n", nr)
        assert nr.split()[2] + "\n" == cat(sys, "/proc/sys/fs/file-max")
        assert cat(sys, "/proc/sys/fs/pipe-max-size") == "1048576\n"
        assert cat(sys, "/proc/sys/fs/nr_open") == "1048576\n"

    world.run(main)
