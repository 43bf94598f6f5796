"""Control messages of AF_UNIX: files (SCM_RIGHTS), credentials (SCM_CREDENTIALS, SO_PEERCRED), and sockets in flight."""

import os
import struct

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_UNIX,
    EPOLLIN,
    F_GETFD,
    FD_CLOEXEC,
    IPPROTO_TCP,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    O_NONBLOCK,
    RLIMIT_NOFILE,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SHUT_WR,
    SO_PASSCRED,
    SO_PEERCRED,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import UNIX_FULL, World, abstract, err, mask, ready, watch

TYPES = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET]
PACKETS = [SOCK_DGRAM, SOCK_SEQPACKET]
EVERY = pytest.mark.parametrize("kind", TYPES)
ROOM = 1024
NOBODY = (0, 65534, 65534)
Cmsgs = list[tuple[int, int, bytes]]


def pair(sys: Syscalls, kind: int = SOCK_STREAM) -> tuple[int, int]:
    return sys.socketpair(AF_UNIX, kind | SOCK_NONBLOCK)


def rights(*fds: int) -> Cmsgs:
    return [(SOL_SOCKET, SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))]


def credentials(pid: int, uid: int, gid: int) -> Cmsgs:
    return [(SOL_SOCKET, SCM_CREDENTIALS, struct.pack("3i", pid, uid, gid))]


def me(sys: Syscalls, world: World) -> tuple[int, int, int]:
    """The running process as struct ucred: the machine of the simulator has one user, root."""
    return (sys.getpid(), os.getuid(), os.getgid()) if world.name == "linux" else (sys.getpid(), 0, 0)


def receive(sys: Syscalls, fd: int, room: int = ROOM, n: int = 99, flags: int = 0) -> tuple[bytes, list[int], int]:
    """One recvmsg: its bytes, the new fds, msg_flags."""
    data, control, msg_flags, _ = sys.recvmsg(fd, n, room, flags)
    fds: list[int] = []
    for level, kind, contents in control:
        assert (level, kind) == (SOL_SOCKET, SCM_RIGHTS)
        fds += struct.unpack(f"{len(contents) // 4}i", contents)
    return data, fds, msg_flags


def counted(sys: Syscalls, fd: int, room: int = ROOM, n: int = 99, flags: int = 0) -> tuple[bytes, int]:
    """One recvmsg: its bytes, and how many fds came, which are closed."""
    data, fds, _ = receive(sys, fd, room, n, flags)
    for new in fds:
        sys.close(new)
    return data, len(fds)


def who_sent(sys: Syscalls, fd: int, room: int = ROOM, n: int = 99) -> tuple[bytes, object]:
    """One recvmsg with SO_PASSCRED: its bytes, and the struct ucred."""
    data, control, _, _ = sys.recvmsg(fd, n, room)
    ((level, kind, contents),) = control
    assert (level, kind) == (SOL_SOCKET, SCM_CREDENTIALS)
    return data, struct.unpack("3i", contents)


def peercred(sys: Syscalls, fd: int) -> tuple[int, int, int]:
    raw = sys.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, 12)
    assert isinstance(raw, bytes)
    pid, uid, gid = struct.unpack("3i", raw)
    return pid, uid, gid


def passcred(sys: Syscalls, fd: int, on: int = 1) -> None:
    sys.setsockopt(fd, SOL_SOCKET, SO_PASSCRED, on)


# --- SCM_RIGHTS ---
@EVERY
def test_files_travel(world: World, kind: int) -> None:
    """The receiver gets new fds, the lowest free ones, of the same open files."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        r, w = sys.pipe2()
        event = sys.eventfd()
        assert sys.sendmsg(theirs, [b"a", b"b"], rights(w, event)) == 2
        sys.close(w)
        data, fds, flags = receive(sys, ours)
        assert (data, flags) == (b"ab", 0)
        assert fds == [w, event + 1]
        sys.write(fds[0], b"through")
        assert sys.read(r, 99) == b"through"
        sys.write(fds[1], (5).to_bytes(8, "little"))
        assert sys.read(event, 8) == (5).to_bytes(8, "little")

    world.run(main)


@EVERY
def test_cloexec(world: World, kind: int) -> None:
    """MSG_CMSG_CLOEXEC sets FD_CLOEXEC on what is received, and comes back in msg_flags; the sender's flag does not travel."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        event = sys.eventfd(0, 0o2000000)
        for flags, cloexec in ((0, 0), (MSG_CMSG_CLOEXEC, FD_CLOEXEC)):
            sys.sendmsg(theirs, [b"x"], rights(event))
            data, (fd,), msg_flags = receive(sys, ours, flags=flags)
            assert (data, msg_flags) == (b"x", flags)
            assert sys.fcntl(fd, F_GETFD) == cloexec

    world.run(main)


@EVERY
def test_too_little_room(world: World, kind: int) -> None:
    """As many as fit are received, the others are lost and closed, with MSG_CTRUNC; room is counted without the last alignment."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        got = []
        for room in (0, 15, 16, 19, 20, 23, 24, 27, 28, 32):
            r, w = sys.pipe2()
            sys.sendmsg(theirs, [b"x"], rights(w, w, w))
            sys.close(w)
            data, fds, flags = receive(sys, ours, room)
            got.append((data, len(fds), flags))
            for fd in fds:
                sys.close(fd)
            assert mask(sys, r) == "HUP"
            sys.close(r)
        assert got == [(b"x", n, MSG_CTRUNC) for n in (0, 0, 0, 0, 1, 1, 2, 2)] + [(b"x", 3, 0)] * 2

    world.run(main)


@EVERY
def test_a_full_table(world: World, kind: int) -> None:
    """With RLIMIT_NOFILE reached while receiving, those that have a number are received, MSG_CTRUNC for the rest."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        event = sys.eventfd()
        hard = sys.getrlimit(RLIMIT_NOFILE)[1]
        for free in (2, 0):
            sys.sendmsg(theirs, [b"x"], rights(event, event, event))
            sys.setrlimit(RLIMIT_NOFILE, (event + 1 + free, hard))
            data, fds, flags = receive(sys, ours)
            assert (data, fds, flags) == (b"x", [event + 1 + n for n in range(free)], MSG_CTRUNC)
            for fd in fds:
                sys.close(fd)
            assert err(sys.recv, ours, 9) == "EAGAIN"

    world.run(main)


@EVERY
def test_what_can_not_be_sent(world: World, kind: int) -> None:
    """More than 253 files are EINVAL, in one control message or in several; a bad fd EBADF; nothing is sent then."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)

        def send(control: Cmsgs) -> object:
            return err(sys.sendmsg, theirs, [b"x"], control)

        assert send(rights(*[0] * 254)) == "EINVAL"
        assert send(rights(*[0] * 200) + rights(*[0] * 54)) == "EINVAL"
        assert send(rights(0, 999)) == "EBADF"
        assert send(rights(-1)) == "EBADF"
        assert err(sys.recv, ours, 9) == "EAGAIN"
        assert send(rights(*[0] * 200) + rights(*[0] * 53)) == 1
        assert counted(sys, ours, 2000) == (b"x", 253)

    world.run(main)


@EVERY
def test_odd_control_messages(world: World, kind: int) -> None:
    """Less than an int of fds is none; another level is ignored; another type of SOL_SOCKET, or a short struct ucred, is EINVAL."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)

        def send(level: int, kind: int, data: bytes) -> object:
            return err(sys.sendmsg, theirs, [b"x"], [(level, kind, data)])

        assert send(SOL_SOCKET, SCM_RIGHTS, b"") == 1
        assert counted(sys, ours) == (b"x", 0)
        assert send(SOL_SOCKET, SCM_RIGHTS, b"abc") == 1
        assert counted(sys, ours) == (b"x", 0)
        assert send(IPPROTO_TCP, SCM_RIGHTS, b"abcd") == 1
        assert counted(sys, ours) == (b"x", 0)
        assert send(SOL_SOCKET, 3, b"abcd") == "EINVAL"
        assert send(SOL_SOCKET, SCM_CREDENTIALS, bytes(11)) == "EINVAL"
        assert send(SOL_SOCKET, SCM_CREDENTIALS, bytes(13)) == "EINVAL"

    world.run(main)


def test_control_messages_are_read_first(world: World) -> None:
    """A bad fd is EBADF even on a socket that is not connected; a packet's socket looks at its connection first."""

    def main(sys: Syscalls) -> None:
        codes = [err(sys.sendmsg, sys.socket(AF_UNIX, kind), [b"x"], rights(999)) for kind in TYPES]
        assert codes == ["EBADF", "EBADF", "ENOTCONN"]
        assert [err(sys.sendmsg, sys.socket(AF_UNIX, kind), [b"x"], rights(0)) for kind in TYPES] == ["ENOTCONN"] * 3

    world.run(main)


@EVERY
def test_files_without_bytes(world: World, kind: int) -> None:
    """An empty datagram carries files; a stream's send of nothing drops them."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        for buffers in ([b""], []):
            assert sys.sendmsg(theirs, buffers, rights(0, 1)) == 0
            assert err(counted, sys, ours) == ("EAGAIN" if kind == SOCK_STREAM else (b"", 2))

    world.run(main)


@EVERY
def test_peek_copies_files(world: World, kind: int) -> None:
    """MSG_PEEK gives new fds each time; the message keeps its files."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        r, w = sys.pipe2()
        sys.sendmsg(theirs, [b"x"], rights(w))
        sys.close(w)
        for flags in (MSG_PEEK, MSG_PEEK, 0):
            assert counted(sys, ours, flags=flags) == (b"x", 1)
            assert mask(sys, r) == ("0" if flags else "HUP")

    world.run(main)


@EVERY
@pytest.mark.parametrize("call", ["recv", "read", "recvfrom"])
def test_other_calls_drop_files(world: World, kind: int, call: str) -> None:
    """What has no room for control messages drops the files: they are closed."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        r, w = sys.pipe2()
        sys.sendmsg(theirs, [b"x"], rights(w))
        sys.close(w)
        assert mask(sys, r) == "0"
        assert getattr(sys, call)(ours, 9) == ((b"x", "") if call == "recvfrom" else b"x")
        assert mask(sys, r) == "HUP"

    world.run(main)


def test_a_stream_stops_at_files(world: World) -> None:
    """A recv ends with the first message that has files, and takes what is before it along."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        for data, files in ((b"ab", 0), (b"cd", 1), (b"ef", 0), (b"gh", 2), (b"ij", 1), (b"kl", 0)):
            sys.sendmsg(theirs, [data], rights(*[0] * files))
        assert [counted(sys, ours) for _ in range(4)] == [(b"abcd", 1), (b"efgh", 2), (b"ij", 1), (b"kl", 0)]

    world.run(main)


def test_a_partial_read_takes_the_files(world: World) -> None:
    """The first byte read of a stream's message takes its files; the rest is as if it had had none."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.sendmsg(theirs, [b"ab"], rights(0))
        sys.sendmsg(theirs, [b"cd"], rights(0, 1))
        assert counted(sys, ours, n=0) == (b"", 1)
        assert counted(sys, ours, n=1) == (b"a", 0)
        assert counted(sys, ours) == (b"bcd", 2)

    world.run(main)


def test_peek_finds_files_behind(world: World) -> None:
    """A peek looks at one message after another even when it has its bytes: it gets the files of the next one that has any."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(theirs, b"ab")
        sys.sendmsg(theirs, [b"cd"], rights(0))
        assert counted(sys, ours, n=2, flags=MSG_PEEK) == (b"ab", 1)
        assert counted(sys, ours, n=2) == (b"ab", 0)

    world.run(main)


def test_only_the_first_buffer_has_the_files(world: World) -> None:
    """A big send is cut into several buffers: a recv gets the files, and stops, at the end of the first."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        assert sys.sendmsg(theirs, [bytes(100_000)], rights(0)) == 100_000
        first, files = counted(sys, ours, n=100_000)
        assert (len(first), files) == (4096 - 320 + 32768, 1)
        rest, files = counted(sys, ours, n=100_000)
        assert (len(rest), files) == (100_000 - len(first), 0)

    world.run(main)


@pytest.mark.parametrize("kind", PACKETS)
def test_a_truncated_datagram_keeps_its_files(world: World, kind: int) -> None:
    """MSG_TRUNC is about bytes alone."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        sys.sendmsg(theirs, [b"abc"], rights(0))
        data, fds, flags = receive(sys, ours, n=1)
        assert (data, len(fds), flags) == (b"a", 1, MSG_TRUNC)

    world.run(main)


def test_urgent_byte_with_files(world: World) -> None:
    """MSG_OOB does not take the files of an urgent byte: they are dropped with its buffer."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        r, w = sys.pipe2()
        sys.sendmsg(theirs, [b"X"], rights(w), MSG_OOB)
        sys.close(w)
        assert receive(sys, ours, flags=MSG_OOB) == (b"X", [], MSG_OOB)
        assert mask(sys, r) == "0"
        assert err(sys.recv, ours, 9) == "EAGAIN"
        assert mask(sys, r) == "HUP"

    world.run(main)


@EVERY
def test_in_flight(world: World, kind: int) -> None:
    """Fact 125: a file in flight is open, and is closed when the receiver goes; the sender's close does not matter."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        r, w = sys.pipe2()
        sys.sendmsg(theirs, [b"x"], rights(w))
        sys.close(w)
        assert mask(sys, r) == "0"
        sys.close(theirs)
        assert mask(sys, r) == "0"
        sys.close(ours)
        assert mask(sys, r) == "HUP"

    world.run(main)


@EVERY
def test_in_flight_to_nobody(world: World, kind: int) -> None:
    """A message that can't be queued leaves no file behind."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        r, w = sys.pipe2()
        sys.close(ours)
        assert err(sys.sendmsg, theirs, [b"x"], rights(w)) == ("ECONNREFUSED" if kind == SOCK_DGRAM else "EPIPE")
        sys.close(w)
        assert mask(sys, r) == "HUP"

    world.run(main)


def test_epoll_goes_on_while_in_flight(world: World) -> None:
    """Fact 65, of files in flight: the epoll item of a closed fd lives as long as the message; the received fd is another key."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN)
        sys.sendmsg(theirs, [b"x"], rights(r))
        sys.close(r)
        sys.write(w, b"data")
        assert ready(sys, epfd) == [(r, "IN")]
        sys.recv(ours, 9)
        assert ready(sys, epfd) == []
        assert err(sys.write, w, b"x") == "EPIPE"

    world.run(main)


def test_between_processes(world: World) -> None:
    """A child passes a file to its parent and ends; the file lives on."""

    def child(sys: Syscalls, fd: int) -> None:
        r, w = sys.pipe2()
        sys.write(w, b"from the child")
        sys.sendmsg(fd, [b"x"], rights(r))

    def main(sys: Syscalls) -> None:
        ours, theirs = sys.socketpair(AF_UNIX, SOCK_STREAM)
        sys.waitpid(sys.spawn(child, theirs))
        _, (fd,), _ = receive(sys, ours)
        assert [sys.read(fd, 99), sys.read(fd, 99)] == [b"from the child", b""]

    world.run(main)


# --- sockets in flight ---
def wait_for_hup(sys: Syscalls, fd: int) -> None:
    """Linux collects in a work queue, soon."""
    for _ in range(500):
        if "HUP" in mask(sys, fd):
            return
        sys.nanosleep(10_000_000)
    raise AssertionError("not collected")


@EVERY
def test_a_socket_in_its_own_queue(world: World, kind: int) -> None:
    """Sent over itself and closed, a socket is held by nothing but itself: it is collected, with the files in its queue."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2(O_NONBLOCK)
        one, two = pair(sys, kind)
        sys.sendmsg(two, [b"x"], rights(one, w))
        for fd in (w, one, two):
            sys.close(fd)
        wait_for_hup(sys, r)

    world.run(main)


@EVERY
def test_two_sockets_in_each_other_s_queue(world: World, kind: int) -> None:
    """Two pairs, one end of each sent to the other's: collected, and the pipe in one of the messages is closed."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2(O_NONBLOCK)
        a, b = pair(sys, kind)
        c, d = pair(sys, kind)
        sys.sendmsg(b, [b"x"], rights(c, w))
        sys.sendmsg(d, [b"x"], rights(a))
        for fd in (w, a, b, c, d):
            sys.close(fd)
        wait_for_hup(sys, r)

    world.run(main)


def test_who_is_connected_to_a_collected_socket(world: World) -> None:
    """The other end of a collected socket sees the end of file, without ECONNRESET for what was unread."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        one, two = pair(sys)
        sys.send(ours, b"never read")
        sys.sendmsg(two, [b"x"], rights(one, theirs))
        sys.sendmsg(ours, [b"x"], rights(one))
        for fd in (theirs, one, two):
            sys.close(fd)
        wait_for_hup(sys, ours)
        assert mask(sys, ours) == UNIX_FULL
        assert sys.recv(ours, 9) == b""

    world.run(main)


def test_a_connection_in_its_listener_s_queue(world: World) -> None:
    """A listener sent over a connection that it has not accepted: collected with it."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2(O_NONBLOCK)
        listening, client = (sys.socket(AF_UNIX, SOCK_STREAM) for _ in range(2))
        sys.bind(listening, abstract(sys))
        sys.listen(listening, 1)
        sys.connect(client, abstract(sys))
        sys.sendmsg(client, [b"x"], rights(listening, w))
        for fd in (w, listening, client):
            sys.close(fd)
        wait_for_hup(sys, r)

    world.run(main)


def test_what_can_be_received_is_not_collected(world: World) -> None:
    """A chain of sockets in flight, one in the queue of the next, is whole as long as the last is open."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2(O_NONBLOCK)
        ours, theirs = pair(sys)
        for _ in range(5):
            one, two = pair(sys)
            sys.sendmsg(two, [b"x"], rights(one))
            sys.sendmsg(two, [b"y"], rights(w))
            sys.sendmsg(theirs, [b"z"], rights(one))
            sys.close(one)
            sys.close(two)
        sys.close(w)
        fds = []
        for _ in range(5):
            data, (fd,), _ = receive(sys, ours)
            assert data == b"z"
            fds.append(fd)
        sys.nanosleep(50_000_000)
        assert mask(sys, r) == "0"
        # In each is the socket itself once more, and the pipe.
        for fd in fds:
            assert [counted(sys, fd), counted(sys, fd)] == [(b"x", 1), (b"y", 1)]
            sys.close(fd)
        wait_for_hup(sys, r)

    world.run(main)


def test_deep_nesting(world: World) -> None:
    """A hundred sockets, each in the queue of the next, go with the last: each end sees it."""

    def main(sys: Syscalls) -> None:
        hard = sys.getrlimit(RLIMIT_NOFILE)[1]
        sys.setrlimit(RLIMIT_NOFILE, (512, hard))
        r, inner = sys.pipe2()
        for _ in range(100):
            one, two = pair(sys)
            sys.sendmsg(two, [b"x"], rights(inner))
            sys.close(inner)
            sys.close(two)
            inner = one
        assert mask(sys, r) == "0"
        sys.close(inner)
        wait_for_hup(sys, r)

    world.run(main)


# --- credentials ---
@EVERY
def test_automatic_credentials(world: World, kind: int) -> None:
    """SO_PASSCRED, when a message is sent, on the receiver or the sender: the sender is known; later on it is nobody."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        sys.send(theirs, b"a")
        passcred(sys, ours)
        assert sys.getsockopt(ours, SOL_SOCKET, SO_PASSCRED) == 1
        assert who_sent(sys, ours) == (b"a", NOBODY)
        sys.send(theirs, b"b")
        assert who_sent(sys, ours) == (b"b", me(sys, world))
        passcred(sys, ours, 0)
        passcred(sys, theirs)
        sys.send(theirs, b"c")
        passcred(sys, ours, 7)
        assert who_sent(sys, ours) == (b"c", me(sys, world))
        passcred(sys, ours, 0)
        sys.send(theirs, b"d")
        assert sys.recvmsg(ours, 9, ROOM)[1] == []
        assert sys.getsockopt(ours, SOL_SOCKET, SO_PASSCRED, 4) == bytes(4)

    world.run(main)


@EVERY
def test_credentials_that_were_given(world: World, kind: int) -> None:
    """A sender may give its own; they are kept whether or not anybody asks yet.  The last of several counts."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        own = me(sys, world)
        sys.sendmsg(theirs, [b"a"], credentials(*own))
        passcred(sys, ours)
        assert who_sent(sys, ours) == (b"a", own)
        sys.sendmsg(theirs, [b"b"], credentials(*own) + credentials(*own))
        assert who_sent(sys, ours) == (b"b", own)

    world.run(main)


@EVERY
def test_bad_credentials(world: World, kind: int) -> None:
    """uid -1 and gid -1 are EINVAL."""

    def main(sys: Syscalls) -> None:
        _, theirs = pair(sys, kind)
        pid, uid, gid = me(sys, world)
        assert err(sys.sendmsg, theirs, [b"x"], credentials(pid, -1, gid)) == "EINVAL"
        assert err(sys.sendmsg, theirs, [b"x"], credentials(pid, uid, -1)) == "EINVAL"

    world.run(main)


@pytest.mark.skipif(os.getuid() != 0, reason="what root may claim")
@EVERY
def test_root_s_claims(world: World, kind: int) -> None:
    """Root may give any ids, and the pid of any process; one that is nobody's is ESRCH."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        passcred(sys, ours)
        claim = (sys.getppid() or 1, 12, 13)
        sys.sendmsg(theirs, [b"x"], credentials(*claim))
        assert who_sent(sys, ours) == (b"x", claim)
        for pid in (0, -5, 2**30):
            assert err(sys.sendmsg, theirs, [b"x"], credentials(pid, 0, 0)) == "ESRCH"
        assert err(sys.sendmsg, theirs, [b"x"], rights(0) + credentials(2**30, 0, 0)) == "ESRCH"

    world.run(main)


@EVERY
def test_credentials_come_before_files(world: World, kind: int) -> None:
    """Both in one message: first the struct ucred, cut to the room there is, then as many fds as fit behind it."""

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys, kind)
        passcred(sys, ours)
        creds = struct.pack("3i", *me(sys, world))
        got = []
        for room in (0, 15, 16, 17, 27, 28, 31, 32, 48, 51, 52, 55, 56, 60):
            sys.sendmsg(theirs, [b"x"], rights(0, 1, 2))
            _, control, flags, _ = sys.recvmsg(ours, 9, room)
            files = 0
            ucred = None
            for _, cmsg_type, data in control:
                if cmsg_type == SCM_RIGHTS:
                    files = len(data) // 4
                    for fd in struct.unpack(f"{files}i", data):
                        sys.close(fd)
                else:
                    assert creds.startswith(data)
                    ucred = len(data)
            got.append((ucred, files, flags))
        assert got == [
            *[(None, 0, MSG_CTRUNC)] * 2,
            *[(n, 0, MSG_CTRUNC) for n in (0, 1, 11)],
            *[(12, 0, MSG_CTRUNC)] * 4,
            *[(12, 0, MSG_CTRUNC), (12, 1, MSG_CTRUNC), (12, 1, MSG_CTRUNC), (12, 2, MSG_CTRUNC), (12, 3, 0)],
        ]

    world.run(main)


def test_a_stream_does_not_glue_writers(world: World) -> None:
    """With SO_PASSCRED a recv stops where the sender changes: another process, or none known."""

    def child(sys: Syscalls, fd: int) -> None:
        sys.send(fd, b"c")
        sys.send(fd, b"d")

    def main(sys: Syscalls) -> None:
        ours, theirs = pair(sys)
        sys.send(theirs, b"a")
        passcred(sys, ours)
        sys.send(theirs, b"b")
        pid = sys.spawn(child, theirs)
        sys.waitpid(pid)
        sys.send(theirs, b"e")
        own = me(sys, world)
        assert [who_sent(sys, ours) for _ in range(4)] == [(b"a", NOBODY), (b"b", own), (b"cd", (pid, *own[1:])), (b"e", own)]
        for letter in (b"f", b"g"):
            sys.send(theirs, letter)
        assert who_sent(sys, ours) == (b"fg", own)
        # Nobody has to look at the control messages: read stops as well.
        passcred(sys, ours, 0)
        sys.send(theirs, b"h")
        passcred(sys, ours)
        sys.send(theirs, b"i")
        assert [sys.read(ours, 9), sys.read(ours, 9)] == [b"h", b"i"]

    world.run(main)


def test_credentials_at_the_end(world: World) -> None:
    """At the end of a stream there is a struct ucred of zeros; packets and datagrams have none."""

    def main(sys: Syscalls) -> None:
        got = []
        for kind in (SOCK_STREAM, SOCK_SEQPACKET):
            ours, theirs = pair(sys, kind)
            passcred(sys, ours)
            sys.shutdown(theirs, SHUT_WR)
            got.append([sys.recvmsg(ours, 9, room)[1:3] for room in (ROOM, 0)])
        assert got == [[([(SOL_SOCKET, SCM_CREDENTIALS, bytes(12))], 0), ([], MSG_CTRUNC)], [([], 0), ([], 0)]]

    world.run(main)


@pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_SEQPACKET])
@pytest.mark.parametrize("listeners", [0, 1])
def test_credentials_before_the_accept(world: World, kind: int, listeners: int) -> None:
    """What is sent before the accept has its sender; the accepted socket inherits the listener's SO_PASSCRED."""

    def main(sys: Syscalls) -> None:
        listening, client = (sys.socket(AF_UNIX, kind) for _ in range(2))
        sys.bind(listening, abstract(sys))
        passcred(sys, listening, listeners)
        sys.listen(listening, 1)
        sys.connect(client, abstract(sys))
        sys.send(client, b"early")
        theirs, _ = sys.accept4(listening)
        assert sys.getsockopt(theirs, SOL_SOCKET, SO_PASSCRED) == listeners
        passcred(sys, theirs)
        assert who_sent(sys, theirs) == (b"early", me(sys, world))

    world.run(main)


def test_passcred_autobinds(world: World) -> None:
    """With SO_PASSCRED a connect, even one that fails, and a send of a datagram give the socket a name; a stream's send does not."""

    def main(sys: Syscalls) -> None:
        for kind in TYPES:
            fd = sys.socket(AF_UNIX, kind)
            passcred(sys, fd)
            assert err(sys.connect, fd, abstract(sys)) == "ECONNREFUSED"
            assert len(sys.getsockname(fd)) == 6
            fd = sys.socket(AF_UNIX, kind)
            passcred(sys, fd)
            assert err(sys.send, fd, b"x") == "ENOTCONN"
            assert len(sys.getsockname(fd)) == (6 if kind == SOCK_DGRAM else 0)
            ours, theirs = pair(sys, kind)
            passcred(sys, theirs)
            sys.send(theirs, b"x")
            assert len(sys.getsockname(theirs)) == (0 if kind == SOCK_STREAM else 6)
            assert sys.recvfrom(ours, 9) == (b"x", sys.getsockname(theirs))

    world.run(main)


def test_a_stream_names_its_sender_too(world: World) -> None:
    """recvfrom and recvmsg on a stream give the peer's name, if it has one."""

    def main(sys: Syscalls) -> None:
        listening, client = (sys.socket(AF_UNIX, SOCK_STREAM) for _ in range(2))
        sys.bind(listening, abstract(sys))
        sys.listen(listening, 1)
        sys.connect(client, abstract(sys))
        theirs, _ = sys.accept4(listening)
        sys.send(theirs, b"x")
        sys.send(theirs, b"y")
        sys.send(client, b"z")
        assert sys.recvfrom(client, 1) == (b"x", abstract(sys))
        assert sys.recvmsg(client, 1) == (b"y", [], 0, abstract(sys))
        assert sys.recvfrom(theirs, 1) == (b"z", "")

    world.run(main)


def test_an_address_on_a_stream(world: World) -> None:
    """A stream takes no address: EISCONN when connected, EOPNOTSUPP when not."""

    def main(sys: Syscalls) -> None:
        ours, _ = pair(sys)
        fd = sys.socket(AF_UNIX, SOCK_STREAM)
        for addr in (abstract(sys), "", ("127.0.0.1", 9)):
            assert err(sys.sendto, ours, b"x", 0, addr) == "EISCONN"
            assert err(sys.sendmsg, ours, [b"x"], (), 0, addr) == "EISCONN"
            assert err(sys.sendto, fd, b"x", 0, addr) == "EOPNOTSUPP"

    world.run(main)


# --- SO_PEERCRED ---
@EVERY
def test_peercred_of_a_pair(world: World, kind: int) -> None:
    """SO_PEERCRED of a pair is who made it; of an unconnected socket (0, -1, -1); as an int it is the pid; it can't be set."""

    def main(sys: Syscalls) -> None:
        for fd in pair(sys, kind):
            assert peercred(sys, fd) == me(sys, world)
            assert sys.getsockopt(fd, SOL_SOCKET, SO_PEERCRED) == sys.getpid()
            assert len(sys.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, 8)) == 8  # type: ignore[arg-type]
            assert len(sys.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, 99)) == 12  # type: ignore[arg-type]
        fd = sys.socket(AF_UNIX, kind)
        assert peercred(sys, fd) == (0, -1, -1)
        assert err(sys.setsockopt, fd, SOL_SOCKET, SO_PEERCRED, 1) == "ENOPROTOOPT"
        assert err(sys.setsockopt, fd, SOL_SOCKET, SO_PASSCRED, b"xx") == "EINVAL"

    world.run(main)


@pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_SEQPACKET])
def test_peercred_of_a_connection(world: World, kind: int) -> None:
    """The client sees who called listen, the accepted end who called connect, the listener itself; nobody who calls accept."""

    def child(sys: Syscalls, fd: int, name: bytes) -> None:
        sys.connect(fd, name)

    def main(sys: Syscalls) -> None:
        listening, client = (sys.socket(AF_UNIX, kind) for _ in range(2))
        sys.bind(listening, abstract(sys))
        assert peercred(sys, listening) == (0, -1, -1)
        sys.listen(listening, 1)
        own = me(sys, world)
        assert peercred(sys, listening) == own
        pid = sys.spawn(child, client, abstract(sys))
        sys.waitpid(pid)
        theirs, _ = sys.accept4(listening)
        assert peercred(sys, client) == own
        # The pid of a process that has been reaped is still known as it was.
        assert peercred(sys, theirs) == (pid, *own[1:])

    world.run(main)


def test_peercred_of_a_connected_datagram_socket(world: World) -> None:
    """connect of a datagram socket tells nothing about the peer."""

    def main(sys: Syscalls) -> None:
        fd, other = (sys.socket(AF_UNIX, SOCK_DGRAM) for _ in range(2))
        sys.bind(other, abstract(sys))
        sys.connect(fd, abstract(sys))
        assert peercred(sys, fd) == (0, -1, -1)

    world.run(main)
