"""epoll: what is an edge, for each kind of file; ONESHOT; and what the mask of an event says."""

import pytest

from simkernel.api import Syscalls
from simkernel.uapi import (
    AF_INET,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLRDHUP,
    SHUT_RD,
    SHUT_WR,
    SOCK_NONBLOCK,
    SOCK_STREAM,
)

from .helpers import World, bound, channel, client, drain, err, fill, listener, nonblocking, ready, reset, settle, tcp_pair, watch, who

CHANNELS = ["pipe", "unix", "tcp"]
EIGHT = (1).to_bytes(8, "little")


@pytest.mark.parametrize("kind", CHANNELS)
def test_new_data_while_unread_is_an_edge(world: World, kind: str) -> None:
    """Fact 75: data that comes while older data is unread is a new event."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLET)
        for _ in range(3):
            sys.write(w, b"x")
            settle(sys)
            assert ready(sys, epfd) == [(r, "IN")]
            assert ready(sys, epfd) == []

    world.run(main)


def test_eventfd_new_write_while_unread_is_an_edge(world: World) -> None:
    """Fact 75: an eventfd as well."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        epfd = watch(sys, fd, EPOLLIN | EPOLLET)
        for _ in range(3):
            sys.write(fd, EIGHT)
            assert ready(sys, epfd) == [(fd, "IN")]
            assert ready(sys, epfd) == []

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_partial_read_is_no_edge(world: World, kind: str) -> None:
    """Fact 76: reading part of the data gives no event for the rest."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLET)
        sys.write(w, b"abcd")
        settle(sys)
        assert ready(sys, epfd) == [(r, "IN")]
        assert sys.read(r, 2) == b"ab"
        assert ready(sys, epfd) == []
        assert sys.read(r, 9) == b"cd"
        assert ready(sys, epfd) == []

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_level_triggered_repeats_until_drained(world: World, kind: str) -> None:
    """Fact 76, the other way: level-triggered, the event comes until the last byte is read."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN)
        sys.write(w, b"abcd")
        settle(sys)
        assert [ready(sys, epfd), ready(sys, epfd)] == [[(r, "IN")], [(r, "IN")]]
        sys.read(r, 2)
        assert ready(sys, epfd) == [(r, "IN")]
        sys.read(r, 2)
        assert ready(sys, epfd) == []

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_events_coalesce(world: World, kind: str) -> None:
    """Fact 77: two writes before a wait are one event."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLET)
        sys.write(w, b"x")
        sys.write(w, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(r, "IN")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_the_mask_is_the_one_at_harvest(world: World) -> None:
    """Fact 78: the edge of data reports OUT too, since it is true now; read before the wait, the event says OUT alone."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(ours, "OUT")]
        assert ready(sys, epfd) == []
        sys.send(theirs, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(ours, "IN|OUT")]
        sys.send(theirs, b"y")
        settle(sys)
        assert sys.recv(ours, 9) == b"xy"
        assert ready(sys, epfd) == [(ours, "OUT")]
        assert ready(sys, epfd) == []

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_event_whose_cause_has_gone(world: World, kind: str) -> None:
    """Fact 78: data read before the wait, and nothing else asked for: no event at all."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLET)
        sys.write(w, b"x")
        settle(sys)
        sys.read(r, 9)
        assert ready(sys, epfd) == []

    world.run(main)


def test_edge_of_one_bit_reports_the_other_still_true(world: World) -> None:
    """Raw values: unix: an edge from the peer's read says IN as well while data is unread."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, "unix")
        epfd = watch(sys, ours, EPOLLIN | EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(ours, "OUT")]
        sys.send(theirs, b"x")
        assert ready(sys, epfd) == [(ours, "IN|OUT")]
        sys.send(ours, b"y")
        sys.recv(theirs, 9)
        assert ready(sys, epfd) == [(ours, "IN|OUT")]

    world.run(main)


@pytest.mark.parametrize("kind", CHANNELS)
def test_mod_rearms_if_ready(world: World, kind: str) -> None:
    """Fact 79: MOD gives an event when the file is ready now, even with the same bits; none when it isn't."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLET)
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET)
        assert ready(sys, epfd) == []
        sys.write(w, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(r, "IN")]
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET)
        assert ready(sys, epfd) == [(r, "IN")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_mod_to_other_bits(world: World) -> None:
    """Raw values: MOD to OUT fires for OUT at once; MOD to 0 is silent, yet tells of an RST."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLET)
        assert ready(sys, epfd) == []
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, ours, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(ours, "OUT")]
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, ours, 0)
        assert ready(sys, epfd) == []
        reset(sys, theirs)
        settle(sys)
        assert ready(sys, epfd) == [(ours, "ERR|HUP")]

    world.run(main)


@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
@pytest.mark.parametrize("kind", CHANNELS)
def test_oneshot(world: World, kind: str, trigger: int) -> None:
    """Fact 80: one event, then silence whatever comes, then MOD fires again for what is there."""

    def main(sys: Syscalls) -> None:
        r, w = channel(sys, kind)
        epfd = watch(sys, r, EPOLLIN | EPOLLONESHOT | trigger)
        sys.write(w, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(r, "IN")]
        sys.write(w, b"y")
        settle(sys)
        assert ready(sys, epfd) == []
        assert err(sys.epoll_ctl, epfd, EPOLL_CTL_ADD, r, EPOLLIN) == "EEXIST"
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLONESHOT | trigger)
        assert ready(sys, epfd) == [(r, "IN")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_oneshot_keeps_hup_back(world: World) -> None:
    """Fact 80: once fired, not even HUP is reported (unlike events=0); MOD brings it."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN | EPOLLONESHOT)
        sys.write(w, b"x")
        assert ready(sys, epfd) == [(r, "IN")]
        sys.close(w)
        assert ready(sys, epfd) == []
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLONESHOT)
        assert ready(sys, epfd) == [(r, "IN|HUP")]

    world.run(main)


def test_tcp_small_send_gives_no_out_edge(world: World) -> None:
    """Fact 81: OUT at ADD, and then no more: a send, its ACK and the peer's read are no edges."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(ours, "OUT")]
        sys.send(ours, b"x")
        settle(sys)
        assert ready(sys, epfd) == []
        sys.recv(theirs, 9)
        settle(sys)
        assert ready(sys, epfd) == []

    world.run(main)


def full_tcp(sys: Syscalls) -> tuple[int, int, int]:
    """A connection with small buffers, filled until EAGAIN: (full end, other end, bytes in it)."""
    ours, theirs = tcp_pair(sys, 4096)
    nonblocking(sys, ours, theirs)
    total = fill(sys, ours)
    settle(sys)
    total += fill(sys, ours)
    return ours, theirs, total


def test_tcp_out_edge_after_eagain_and_a_drain(world: World) -> None:
    """Fact 81: after EAGAIN, once the peer has read everything, OUT is one edge."""

    def main(sys: Syscalls) -> None:
        ours, theirs, total = full_tcp(sys)
        epfd = watch(sys, ours, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == []
        got = 0
        while got < total:
            got += drain(sys, theirs)
            settle(sys)
        assert ready(sys, epfd) == [(ours, "OUT")]
        assert ready(sys, epfd) == []

    world.run(main)


@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
def test_tcp_out_needs_a_substantial_drain(world: World, trigger: int) -> None:
    """Fact 82: one byte read from a full connection doesn't bring OUT back; all of it read does."""

    def main(sys: Syscalls) -> None:
        ours, theirs, total = full_tcp(sys)
        epfd = watch(sys, ours, EPOLLOUT | trigger)
        got = len(sys.recv(theirs, 1))
        settle(sys)
        assert ready(sys, epfd) == []
        while got < total:
            got += drain(sys, theirs)
            settle(sys)
        assert ready(sys, epfd) == [(ours, "OUT")]

    world.run(main)


def test_unix_out_edge_on_every_peer_read(world: World) -> None:
    """Fact 83: AF_UNIX gives an OUT edge whenever the peer has taken what was sent, without any EAGAIN before."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, "unix")
        epfd = watch(sys, ours, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(ours, "OUT")]
        for _ in range(2):
            sys.send(ours, b"x")
            assert ready(sys, epfd) == []
            sys.recv(theirs, 9)
            assert ready(sys, epfd) == [(ours, "OUT")]
            assert ready(sys, epfd) == []

    world.run(main)


def test_unix_partial_peer_read_is_no_out_edge(world: World) -> None:
    """Fact 83, finer: the edge comes when a whole buffer (one send's) is freed, not when part of it is read."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, "unix")
        epfd = watch(sys, ours, EPOLLOUT | EPOLLET)
        ready(sys, epfd)
        sys.send(ours, b"abcd")
        sys.recv(theirs, 2)
        assert ready(sys, epfd) == []
        sys.recv(theirs, 2)
        assert ready(sys, epfd) == [(ours, "OUT")]

    world.run(main)


def test_eventfd_edges(world: World) -> None:
    """Fact 85: every write is an edge, of 0 too; a read is an OUT edge."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        epfd = watch(sys, fd, EPOLLIN | EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(fd, "OUT")]
        assert ready(sys, epfd) == []
        sys.write(fd, EIGHT)
        assert ready(sys, epfd) == [(fd, "IN|OUT")]
        sys.write(fd, bytes(8))
        assert ready(sys, epfd) == [(fd, "IN|OUT")]
        assert ready(sys, epfd) == []
        sys.read(fd, 8)
        assert ready(sys, epfd) == [(fd, "OUT")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_eventfd_out_edges(world: World) -> None:
    """Fact 85: asked for OUT alone, a write is no edge and a read is one."""

    def main(sys: Syscalls) -> None:
        fd = sys.eventfd()
        epfd = watch(sys, fd, EPOLLOUT | EPOLLET)
        results = [who(sys, epfd), who(sys, epfd)]
        sys.write(fd, EIGHT)
        results.append(who(sys, epfd))
        sys.read(fd, 8)
        results.append(who(sys, epfd))
        assert results == [[fd], [], [], [fd]]

    world.run(main)


def test_pipe_out_edge_only_after_full(world: World) -> None:
    """Fact 86: OUT at ADD; writes and reads of a pipe that was never full give no edge."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, w, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(w, "OUT")]
        sys.write(w, b"x")
        assert ready(sys, epfd) == []
        sys.read(r, 1)
        assert ready(sys, epfd) == []

    world.run(main)


def test_pipe_out_edge_when_a_page_frees(world: World) -> None:
    """Fact 86: of a full pipe the first byte read is no edge, the rest of the page is."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        nonblocking(sys, w)
        fill(sys, w)
        epfd = watch(sys, w, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == []
        sys.read(r, 1)
        assert ready(sys, epfd) == []
        sys.read(r, 4095)
        assert ready(sys, epfd) == [(w, "OUT")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_listener_edges(world: World) -> None:
    """Fact 88: two connections before a wait are one event; an accept gives none; a third connection is an event."""

    def main(sys: Syscalls) -> None:
        listening, addr = listener(sys)
        epfd = watch(sys, listening, EPOLLIN | EPOLLET)
        client(sys, addr)
        client(sys, addr)
        settle(sys)
        assert ready(sys, epfd) == [(listening, "IN")]
        sys.accept4(listening)
        assert ready(sys, epfd) == []
        client(sys, addr)
        settle(sys)
        assert ready(sys, epfd) == [(listening, "IN")]

    world.run(main)


def test_fin_edge(world: World) -> None:
    """Raw values: a FIN is one edge, IN|OUT|RDHUP."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
        ready(sys, epfd)
        sys.shutdown(theirs, SHUT_WR)
        settle(sys)
        assert ready(sys, epfd) == [(ours, "IN|OUT|RDHUP")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_tcp_shut_wr_then_close_is_one_edge(world: World) -> None:
    """Fact 89: TCP: the peer's close after its SHUT_WR sends nothing, so gives nothing, until an RST."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLRDHUP | EPOLLET)
        sys.shutdown(theirs, SHUT_WR)
        settle(sys)
        assert ready(sys, epfd) == [(ours, "IN|RDHUP")]
        sys.close(theirs)
        settle(sys)
        assert ready(sys, epfd) == []
        sys.send(ours, b"x")
        settle(sys)
        assert ready(sys, epfd) == [(ours, "IN|ERR|HUP|RDHUP")]

    world.run(main)


def test_unix_shut_wr_then_close_are_two_edges(world: World) -> None:
    """Fact 89: AF_UNIX: the close is an edge of its own, with HUP."""

    def main(sys: Syscalls) -> None:
        ours, theirs = channel(sys, "unix")
        epfd = watch(sys, ours, EPOLLIN | EPOLLRDHUP | EPOLLET)
        sys.shutdown(theirs, SHUT_WR)
        assert ready(sys, epfd) == [(ours, "IN|RDHUP")]
        assert ready(sys, epfd) == []
        sys.close(theirs)
        assert ready(sys, epfd) == [(ours, "IN|HUP|RDHUP")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_data_and_fin_before_the_wait_are_one_event(world: World) -> None:
    """Raw values: data, then a FIN, then a wait: one event with both; the later close() adds none."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLRDHUP | EPOLLET)
        sys.send(theirs, b"x")
        sys.shutdown(theirs, SHUT_WR)
        settle(sys)
        assert ready(sys, epfd) == [(ours, "IN|RDHUP")]
        sys.close(theirs)
        settle(sys)
        assert ready(sys, epfd) == []

    world.run(main)


def test_pipe_writers_close_is_an_edge(world: World) -> None:
    """Raw values: the close of the write end is an edge, IN|HUP while data is unread."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, r, EPOLLIN | EPOLLET)
        sys.write(w, b"x")
        assert ready(sys, epfd) == [(r, "IN")]
        sys.close(w)
        assert ready(sys, epfd) == [(r, "IN|HUP")]
        assert ready(sys, epfd) == []
        sys.read(r, 9)
        assert ready(sys, epfd) == []

    world.run(main)


def test_pipe_readers_close_is_an_edge(world: World) -> None:
    """The close of the read end is an edge of the write end, OUT|ERR."""

    def main(sys: Syscalls) -> None:
        r, w = sys.pipe2()
        epfd = watch(sys, w, EPOLLOUT | EPOLLET)
        ready(sys, epfd)
        sys.close(r)
        assert ready(sys, epfd) == [(w, "OUT|ERR")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_edges_beyond_maxevents_are_kept(world: World) -> None:
    """Fact 90: an edge that found no room in a small maxevents comes with the next wait."""

    def main(sys: Syscalls) -> None:
        ends = [sys.pipe2() for _ in range(3)]
        epfd = sys.epoll_create1()
        for i, (r, _) in enumerate(ends):
            sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN | EPOLLET, i)
        for _, w in ends:
            sys.write(w, b"x")
        assert [who(sys, epfd, 1) for _ in range(4)] == [[0], [1], [2], []]

    world.run(main)


def test_fresh_socket_then_connect(world: World) -> None:
    """Raw values: a fresh TCP socket gives OUT|HUP when added, and OUT as an edge when it has connected."""

    def main(sys: Syscalls) -> None:
        _, addr = listener(sys)
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        epfd = watch(sys, fd, EPOLLIN | EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(fd, "OUT|HUP")]
        err(sys.connect, fd, addr)
        settle(sys)
        assert ready(sys, epfd) == [(fd, "OUT")]
        assert ready(sys, epfd) == []

    world.run(main)


@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
def test_refused_connect(world: World, trigger: int) -> None:
    """Raw values: asked for OUT, a refused connect is OUT|ERR|HUP."""

    def main(sys: Syscalls) -> None:
        _, addr = bound(sys)
        fd = client(sys, addr, SOCK_NONBLOCK)
        epfd = watch(sys, fd, EPOLLOUT | trigger)
        settle(sys)
        assert ready(sys, epfd) == [(fd, "OUT|ERR|HUP")]

    world.run(main)


def test_rst_is_an_edge(world: World) -> None:
    """Facts 11 and 75: an RST is one edge, with everything."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
        ready(sys, epfd)
        reset(sys, theirs)
        settle(sys)
        assert ready(sys, epfd) == [(ours, "IN|OUT|ERR|HUP|RDHUP")]
        assert ready(sys, epfd) == []

    world.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_own_shut_rd_is_an_edge(world: World, kind: str) -> None:
    """Fact 26: one's own SHUT_RD is an edge with RDHUP."""

    def main(sys: Syscalls) -> None:
        ours, _ = channel(sys, kind)
        epfd = watch(sys, ours, EPOLLIN | EPOLLRDHUP | EPOLLET)
        assert ready(sys, epfd) == []
        sys.shutdown(ours, SHUT_RD)
        assert ready(sys, epfd) == [(ours, "IN|RDHUP")]
        assert ready(sys, epfd) == []

    world.run(main)


def test_edge_for_a_bit_not_asked_for(world: World) -> None:
    """A wake-up that carries no bit asked for queues nothing: OUT alone isn't told of data."""

    def main(sys: Syscalls) -> None:
        ours, theirs = tcp_pair(sys)
        epfd = watch(sys, ours, EPOLLOUT | EPOLLET)
        assert ready(sys, epfd) == [(ours, "OUT")]
        sys.send(theirs, b"x")
        settle(sys)
        assert ready(sys, epfd) == []

    world.run(main)
