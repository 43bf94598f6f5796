"""AF_UNIX on the fake kernel alone: what a trace and a snapshot show of it, paths that are unlinked, and the books after a collection."""

import struct

from simkernel.api import Syscalls
from simkernel.kernel.machine import Kernel
from simkernel.kernel.trace import Trace
from simkernel.tools.strace import strace_lines
from simkernel.uapi import (
    AF_UNIX,
    MSG_CMSG_CLOEXEC,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SO_PASSCRED,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)


def test_strace_of_control_messages() -> None:
    """Files and credentials are shown by name."""

    def main(sys: Syscalls) -> None:
        a, b = sys.socketpair(AF_UNIX, SOCK_DGRAM)
        sys.setsockopt(b, SOL_SOCKET, SO_PASSCRED, 1)
        sys.sendmsg(a, [b"x", b"y"], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("2i", 0, 1))])
        sys.sendmsg(a, [b"z"])
        sys.sendto(a, b"w", 0, None)
        sys.recvmsg(b, 9, 64, MSG_CMSG_CLOEXEC)
        sys.sendmsg(a, [b"q"], [(SOL_SOCKET, SCM_CREDENTIALS, struct.pack("3i", 1, 0, 0))])

    trace = Trace()
    Kernel(trace=trace).run(main)
    text = "\n".join(strace_lines(trace))
    for expected in (
        "setsockopt(4, SOL_SOCKET, SO_PASSCRED, 1) = 0",
        "sendmsg(3, ['x', 'y'], [SCM_RIGHTS [0, 1]]) = 2",
        "sendmsg(3, ['z']) = 1",
        "sendto(3, 'w', 0, NULL) = 1",
        "recvmsg(4, 9, 64, MSG_CMSG_CLOEXEC) = ('xy', [SCM_CREDENTIALS {pid=1, uid=0, gid=0}, SCM_RIGHTS [5, 6]], MSG_CMSG_CLOEXEC, '')",
        "sendmsg(3, ['q'], [SCM_CREDENTIALS {pid=1, uid=0, gid=0}]) = 1",
    ):
        assert expected in text


def test_snapshot() -> None:
    """A snapshot has the type, the name, the peer, the queue, and the files in it."""

    def main(sys: Syscalls) -> None:
        a, b = sys.socketpair(AF_UNIX, SOCK_SEQPACKET)
        sys.bind(a, b"\0name")
        sys.sendmsg(a, [b"abc"], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("i", 0))])
        sys.send(a, b"de")
        files = kernel.snapshot()["files"]
        fds = kernel.snapshot()["processes"][1]["fds"]
        ours, theirs = files[fds[a]], files[fds[b]]
        assert (ours["kind"], ours["type"], ours["name"], ours["wmem"]) == ("unix", "SOCK_SEQPACKET", b"\0name", 2 * 768)
        assert (theirs["rmem"], theirs["queued"], theirs["files"]) == (5, 2, [[fds[0]]])
        sk = kernel.sched.current.files.fget(b).sk
        assert sk is not None and sk.describe() == "unix seqpacket unnamed <- @name"

    kernel = Kernel(debug=True)
    kernel.run(main)


def test_table_of_paths() -> None:
    """A path belongs to its inode: unlinked and bound again it leads to the new socket, and a socket that is gone has no entry."""

    def main(sys: Syscalls) -> None:
        table = kernel.sys.unix
        old, new, client = (sys.socket(AF_UNIX, SOCK_STREAM) for _ in range(3))
        sys.bind(old, "/tmp/s")
        sys.unlink("/tmp/s")
        sys.bind(new, "/tmp/s")
        sys.listen(new, 1)
        sys.connect(client, "/tmp/s")
        assert len(table.paths) == 2
        sys.close(old)
        assert list(table.paths.values()) == [table.find(b"/tmp/s", SOCK_STREAM)]
        sys.close(new)
        assert table.paths == {}

    kernel = Kernel(debug=True)
    kernel.run(main)


def test_nothing_is_left_in_flight() -> None:
    """A collection leaves no message behind, and every sender uncharged."""

    def main(sys: Syscalls) -> None:
        inflight = kernel.sys.unix.inflight
        for kind in (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET):
            a, b = sys.socketpair(AF_UNIX, kind)
            c, d = sys.socketpair(AF_UNIX, kind)
            for to, files in ((b, [c, a, 0]), (d, [a, a]), (d, [])):
                sys.sendmsg(to, [b"x"], [(SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(files)}i", *files))] if files else ())
            assert (len(inflight.edges), inflight.tot_inflight) == (2, 4)
            for fd in (a, c, b):
                sys.close(fd)
            # The last end is open still: what it has sent is lost all the same.
            assert (inflight.edges, inflight.tot_inflight) == ({}, 0)
            sk = sys_sock(sys, d)
            assert sk.siocoutq() == 0
            sys.close(d)

    def sys_sock(sys: Syscalls, fd: int):  # type: ignore[no-untyped-def]
        sk = kernel.sched.current.files.fget(fd).sk
        assert sk is not None
        return sk

    kernel = Kernel(debug=True)
    kernel.run(main)
