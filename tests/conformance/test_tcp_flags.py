"""The flags, addresses and control messages of send and recv on TCP, and the ioctls that count bytes."""

import struct

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    FIONREAD,
    MSG_CONFIRM,
    MSG_CTRUNC,
    MSG_DONTROUTE,
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_ERRQUEUE,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SCM_RIGHTS,
    SHUT_WR,
    SIOCATMARK,
    SIOCOUTQ,
    SIOCOUTQNSD,
    SO_RCVTIMEO,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

from .helpers import DATA, FULL_ERR, IDLE, World, client, err, fill, listener, mask, nonblocking, settle, start, tcp_pair, timeval

# Bits that no flag has, or that only the kernel itself uses.
UNKNOWN = 0x10 | 0x400 | 0x80000 | 0x1000000


@pytest.mark.parametrize(
    "flag", [MSG_CONFIRM, MSG_DONTROUTE, MSG_EOR, MSG_NOSIGNAL, MSG_TRUNC, MSG_CTRUNC, MSG_WAITALL, MSG_PEEK, MSG_ERRQUEUE, UNKNOWN]
)
def test_flags_that_a_send_ignores(world: World, flag: int) -> None:
    """send on TCP ignores what means nothing to it."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        assert sys.send(writer, b"abc", flag) == 3
        assert sys.recv(reader, 10) == b"abc"

    world.run(main)


@pytest.mark.parametrize("flag", [MSG_CONFIRM, MSG_DONTROUTE, MSG_EOR, MSG_NOSIGNAL, MSG_CTRUNC, UNKNOWN])
def test_flags_that_a_recv_ignores(world: World, flag: int) -> None:
    """recv on TCP ignores what means nothing to it; recvmsg does not give it back."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.send(writer, b"abc")
        assert sys.recv(reader, 2, flag) == b"ab"
        assert sys.recvmsg(reader, 2, 0, flag) == (b"c", [], 0, "")

    world.run(main)


def test_msg_trunc_throws_away(world: World) -> None:
    """recv(MSG_TRUNC) takes bytes without copying them: the buffer stays as it was; with MSG_PEEK it takes none."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.send(writer, b"abcdef")
        assert sys.recv(reader, 4, MSG_TRUNC | MSG_PEEK) == bytes(4)
        assert sys.recv(reader, 4, MSG_TRUNC) == bytes(4)
        assert sys.recvmsg(reader, 10, 0, MSG_TRUNC) == (bytes(2), [], 0, "")
        assert mask(sys, reader) == IDLE

    world.run(main)


def test_peek_and_waitall(world: World) -> None:
    """MSG_PEEK|MSG_WAITALL waits for all bytes, and leaves them."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        out, result = sys.pipe2()

        def peek(sys: Syscalls) -> None:
            sys.write(result, sys.recv(reader, 6, MSG_PEEK | MSG_WAITALL))

        sys.send(writer, b"abc")
        tid = start(sys, peek)
        sys.send(writer, b"defg")
        assert sys.read(out, 10) == b"abcdef"
        sys.join(tid)
        assert sys.recv(reader, 10) == b"abcdefg"

    world.run(main)


def test_peek_with_a_low_water_mark_ends_at_the_fin(world: World) -> None:
    """MSG_PEEK|MSG_WAITALL returns what there is at the end of the stream, again and again."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.send(writer, b"abc")
        sys.shutdown(writer, SHUT_WR)
        assert [sys.recv(reader, 6, MSG_PEEK | MSG_WAITALL) for _ in range(2)] == [b"abc"] * 2
        assert sys.recv(reader, 6, MSG_WAITALL) == b"abc"
        assert sys.recv(reader, 6, MSG_WAITALL) == b""

    world.run(main)


def test_waitall_and_dontwait(world: World) -> None:
    """MSG_DONTWAIT is stronger than MSG_WAITALL; a timeout ends MSG_WAITALL with what there is."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        assert err(sys.recv, reader, 5, MSG_WAITALL | MSG_DONTWAIT) == "EAGAIN"
        sys.send(writer, b"abc")
        assert sys.recv(reader, 5, MSG_WAITALL | MSG_DONTWAIT) == b"abc"
        sys.setsockopt(reader, SOL_SOCKET, SO_RCVTIMEO, timeval(60))
        sys.send(writer, b"de")
        assert sys.recv(reader, 5, MSG_WAITALL) == b"de"
        assert err(sys.recv, reader, 5, MSG_WAITALL) == "EAGAIN"

    world.run(main)


def test_the_error_queue_is_empty(world: World) -> None:
    """recv(MSG_ERRQUEUE) is EAGAIN, also of a blocking socket, a listener, and one with data or an error."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.send(writer, b"abc")
        listening, _ = listener(sys)
        fresh = sys.socket(AF_INET, SOCK_STREAM)
        for fd in (reader, writer, listening, fresh):
            assert err(sys.recv, fd, 5, MSG_ERRQUEUE) == "EAGAIN"
            assert err(sys.recvmsg, fd, 5, 100, MSG_ERRQUEUE) == "EAGAIN"
        assert mask(sys, reader) == DATA

    world.run(main)


def test_sendto_on_a_connection(world: World) -> None:
    """TCP ignores the address of sendto and sendmsg on a connection; without one it is EPIPE, not EDESTADDRREQ."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        assert sys.sendto(writer, b"a", 0, ("127.0.0.9", 9)) == 1
        assert sys.sendto(writer, b"b", 0, "/no/such/path") == 1
        assert sys.sendmsg(writer, [b"c", b"", b"d"], (), 0, ("127.0.0.1", 1)) == 2
        assert sys.recv(reader, 10) == b"abcd"
        fresh = sys.socket(AF_INET, SOCK_STREAM)
        listening, addr = listener(sys)
        assert err(sys.sendto, fresh, b"a", MSG_NOSIGNAL, addr) == "EPIPE"
        assert err(sys.sendto, listening, b"a", MSG_NOSIGNAL, addr) == "EPIPE"
        assert err(sys.sendto, fresh, b"", MSG_NOSIGNAL, addr) == "EPIPE"

    world.run(main)


def test_recvfrom_names_nobody(world: World) -> None:
    """recvfrom and recvmsg on TCP give no address."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.send(writer, b"abcd")
        assert sys.recvfrom(reader, 2) == (b"ab", "")
        assert sys.recvmsg(reader, 10, 100) == (b"cd", [], 0, "")
        sys.close(writer)
        assert sys.recvfrom(reader, 2) == (b"", "")
        assert sys.recvmsg(reader, 2) == (b"", [], 0, "")

    world.run(main)


def test_control_messages_on_tcp(world: World) -> None:
    """TCP ignores SCM_RIGHTS and other levels' control messages; an unknown one of SOL_SOCKET is EINVAL, after the state was looked at."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        assert sys.sendmsg(writer, [b"a"], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("i", 0))]) == 1
        assert sys.sendmsg(writer, [b"b"], [(77, 1, b"")]) == 1
        assert err(sys.sendmsg, writer, [b"c"], [(SOL_SOCKET, 99, b"xxxx")]) == "EINVAL"
        assert sys.recvmsg(reader, 10, 100) == (b"ab", [], 0, "")
        fresh = sys.socket(AF_INET, SOCK_STREAM)
        assert err(sys.sendmsg, fresh, [b"c"], [(SOL_SOCKET, 99, b"xxxx")], MSG_NOSIGNAL) == "EPIPE"

    world.run(main)


def test_the_flag_of_compat_calls(world: World) -> None:
    """sendmsg and recvmsg with MSG_CMSG_COMPAT, the sign bit, which 32-bit callers' calls set inside the kernel: EINVAL."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        assert err(sys.sendmsg, writer, [b"a"], (), -(2**31)) == "EINVAL"
        sys.send(writer, b"a")
        assert err(sys.recvmsg, reader, 10, 0, -(2**31)) == "EINVAL"
        assert sys.recv(reader, 10) == b"a"

    world.run(main)


def test_siocoutq(world: World) -> None:
    """SIOCOUTQ: bytes that the peer has not acknowledged, SIOCOUTQNSD those not sent.  A FIN that waits counts for one."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys, 4096)
        nonblocking(sys, writer, reader)
        assert (sys.ioctl(writer, SIOCOUTQ), sys.ioctl(writer, SIOCOUTQNSD)) == (0, 0)
        total = fill(sys, writer)
        # What has come is acknowledged a little later.
        settle(sys, 100)
        assert sys.ioctl(writer, SIOCOUTQ) + sys.ioctl(reader, FIONREAD) == total
        waiting = sys.ioctl(writer, SIOCOUTQNSD)
        assert 0 < waiting <= sys.ioctl(writer, SIOCOUTQ)
        sys.shutdown(writer, SHUT_WR)
        assert sys.ioctl(writer, SIOCOUTQNSD) == waiting + 1

    world.run(main)


def test_ioctls_by_state(world: World) -> None:
    """FIONREAD, SIOCOUTQ and SIOCOUTQNSD: EINVAL of a listener, 0 of a fresh socket and one that connects.  SIOCATMARK: 0 of all."""

    def main(sys: Syscalls) -> None:
        fresh = sys.socket(AF_INET, SOCK_STREAM)
        listening, addr = listener(sys, 0)
        first = client(sys, addr)
        second = client(sys, addr, SOCK_NONBLOCK)
        for request in (FIONREAD, SIOCOUTQ, SIOCOUTQNSD):
            assert err(sys.ioctl, listening, request) == "EINVAL"
            assert [sys.ioctl(fd, request) for fd in (fresh, second)] == [0, 0]
        assert [sys.ioctl(fd, SIOCATMARK) for fd in (fresh, listening, first, second)] == [0] * 4

    world.run(main)


@pytest.mark.parametrize("request_", [SIOCOUTQ, SIOCATMARK, SIOCOUTQNSD])
def test_ioctls_of_other_files(world: World, request_: int) -> None:
    """A pipe and an eventfd don't know the requests of sockets: ENOTTY.  A closed fd is EBADF."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        assert [err(sys.ioctl, fd, request_) for fd in (r, w, sys.eventfd())] == ["ENOTTY"] * 3
        assert err(sys.ioctl, 900, request_) == "EBADF"

    world.run(main)


def test_fionread_after_fin_and_reset(world: World) -> None:
    """FIONREAD doesn't count a FIN, and after a RST tells what can still be read."""

    def main(sys: Syscalls) -> None:
        writer, reader = tcp_pair(sys)
        sys.send(writer, b"abc")
        sys.shutdown(writer, SHUT_WR)
        assert sys.ioctl(reader, FIONREAD) == 3
        sys.recv(reader, 3)
        assert sys.ioctl(reader, FIONREAD) == 0
        writer, reader = tcp_pair(sys)
        sys.send(reader, b"unread")
        sys.send(writer, b"abc")
        sys.close(writer)
        assert (mask(sys, reader), sys.ioctl(reader, FIONREAD)) == (FULL_ERR, 3)

    world.run(main)
