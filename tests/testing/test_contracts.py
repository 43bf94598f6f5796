"""How an author subclasses a contract: a line protocol, and what each of its promises finds."""

import pytest

from simkernel.testing import RequestReply, check
from simkernel.uapi import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, MSG_NOSIGNAL, POLLIN

KIB = 1024


class Upper(RequestReply):
    """Each line comes back in capitals."""

    name = "upper"
    memory_per_connection = 16 * KIB

    def request(self, i):
        return b"hello number %d%s\n" % (i, b"!" * (i % 3 * 50))

    def check(self, request, reply):
        return reply == request.upper()


def serve(sys, listener, stop, answer=bytes.upper, split=b"\n"):
    """A right server for lines: it keeps what is no whole line yet."""
    ep = sys.epoll_create1()
    for fd in (listener, stop):
        sys.epoll_ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN)
    rest = {}
    running = True
    while running:
        for fd, _ in sys.epoll_wait(ep, 64):
            if fd == stop:
                running = False
            elif fd == listener:
                conn, _peer = sys.accept4(listener)
                rest[conn] = b""
                sys.epoll_ctl(ep, EPOLL_CTL_ADD, conn, EPOLLIN)
            else:
                try:
                    data = sys.recv(fd, 4096)
                    *lines, rest[fd] = (rest[fd] + data).split(split)
                    for line in lines:
                        out = answer(line + split)
                        while out:
                            out = out[sys.send(fd, out, MSG_NOSIGNAL) :]
                except ConnectionError:
                    data = b""
                if not data:
                    del rest[fd]
                    sys.epoll_ctl(ep, EPOLL_CTL_DEL, fd)
                    sys.close(fd)
    for fd in [*rest, ep]:
        sys.close(fd)


def test_a_right_server_keeps_it_on_both_kernels():
    report = check(serve, Upper(), examples=80, on="both", linux_examples=2)
    assert report.ok, report.failure


def test_a_wrong_reply():
    failure = check(lambda *args: serve(*args, answer=lambda line: line.upper().replace(b"7", b"8")), Upper(), examples=200).failure
    assert failure is not None and failure.kind == "corruption"
    assert "7" in failure.message and "was answered b'HELLO NUMBER " in failure.message


def test_an_assertion_in_check_says_what_is_wrong():
    class Strict(Upper):
        def check(self, request, reply):
            assert len(reply) == len(request), f"{len(reply)} bytes"
            return True

    failure = check(lambda *args: serve(*args, answer=lambda line: b"\n"), Strict(), examples=5).failure
    assert failure is not None and failure.kind == "corruption" and ": 1 bytes" in failure.message


def test_one_recv_is_not_one_request():
    def naive(sys, listener, stop):
        conns = []
        while True:
            ready = [fd for fd, _ in sys.poll([(fd, POLLIN) for fd in [stop, listener, *conns]])]
            if stop in ready:
                break
            for fd in ready:
                if fd == listener:
                    conns.append(sys.accept4(listener)[0])
                    continue
                try:
                    line = sys.recv(fd, 4096)
                    if line:
                        sys.send(fd, line.strip().upper() + b"\n", MSG_NOSIGNAL)
                        continue
                except ConnectionError:
                    pass
                conns.remove(fd)
                sys.close(fd)
        for fd in conns:
            sys.close(fd)

    failure = check(naive, Upper(), examples=200).failure
    assert failure is not None and failure.kind == "corruption"


def one_at_a_time(sys, listener, stop):
    """It serves a client to its end before it accepts the next."""
    while True:
        if stop in [fd for fd, _ in sys.poll([(stop, POLLIN), (listener, POLLIN)])]:
            return
        conn, _ = sys.accept4(listener)
        rest = b""
        try:
            while data := sys.recv(conn, 4096):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    sys.send(conn, line.upper() + b"\n", MSG_NOSIGNAL)
        except ConnectionError:
            pass
        sys.close(conn)


def test_every_client_is_served_within_a_time_while_others_idle():
    failure = check(one_at_a_time, Upper(), examples=200).failure
    assert failure is not None and failure.kind == "starvation"
    assert "more than 300 ms" in failure.message

    class Patient(Upper):
        within_ns = None

    assert check(one_at_a_time, Patient(), examples=60).ok


def test_memory_below_a_limit_a_connection():
    class Long(Upper):
        memory_per_connection = 200

        def request(self, i):
            return b"x" * 300 + b"%d\n" % i

    failure = check(serve, Long(), examples=100).failure
    assert failure is not None and failure.kind == "memory"


def test_a_frame_of_its_own():
    class Length(RequestReply):
        """Replies are a byte with the length, then the bytes."""

        def request(self, i):
            return b"%d\n" % i

        def take(self, data):
            return 1 + data[0] if data and len(data) > data[0] else 0

        def check(self, request, reply):
            return reply[1:] == request[:-1]

    assert check(lambda *args: serve(*args, answer=lambda line: bytes([len(line) - 1]) + line[:-1]), Length(), examples=60).ok
    failure = check(lambda *args: serve(*args, answer=lambda line: bytes([len(line)]) + line[:-1]), Length(), examples=60).failure
    assert failure is not None and failure.kind in ("hang", "corruption")


def test_without_a_request_it_says_so():
    with pytest.raises(NotImplementedError):
        check(serve, RequestReply(), examples=1)
