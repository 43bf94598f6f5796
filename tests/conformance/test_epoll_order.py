"""epoll: the order in which ready files are reported."""

from simkernel.api import Syscalls
from simkernel.uapi import AF_UNIX, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLONESHOT, EPOLLOUT, SOCK_STREAM

from .helpers import World, who


def pipes(sys: Syscalls, count: int) -> tuple[list[int], list[int]]:
    """(read ends, write ends)."""
    made = [sys.pipe2() for _ in range(count)]
    return [r for r, _ in made], [w for _, w in made]


def watched(sys: Syscalls, count: int, events: int = EPOLLIN) -> tuple[int, list[int], list[int]]:
    """An epoll that watches ``count`` pipes, added in order with their index as data."""
    rs, ws = pipes(sys, count)
    epfd = sys.epoll_create1()
    for i, r in enumerate(rs):
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, events, i)
    return epfd, rs, ws


def test_order_made_ready(world: World) -> None:
    """Fact 70: files come in the order in which they became ready, not that of fds."""

    def main(sys: Syscalls) -> list[int]:
        epfd, _, ws = watched(sys, 4)
        for i in (2, 0, 3, 1):
            sys.write(ws[i], b"x")
        return who(sys, epfd)

    assert world.run(main) == [2, 0, 3, 1]


def test_level_triggered_round_robin(world: World) -> None:
    """Fact 71: with maxevents 1 the files take turns: a reported one goes to the tail."""

    def main(sys: Syscalls) -> list[list[int]]:
        epfd, _, ws = watched(sys, 4)
        for i in (2, 0, 3, 1):
            sys.write(ws[i], b"x")
        return [who(sys, epfd, 1) for _ in range(6)]

    assert world.run(main) == [[2], [0], [3], [1], [2], [0]]


def test_level_triggered_rotation(world: World) -> None:
    """Fact 71: with maxevents 3 of 4 the ones left over come first the next time."""

    def main(sys: Syscalls) -> list[list[int]]:
        epfd, _, ws = watched(sys, 4)
        for i in (3, 1, 2, 0):
            sys.write(ws[i], b"x")
        return [who(sys, epfd, 3) for _ in range(3)]

    assert world.run(main) == [[3, 1, 2], [0, 3, 1], [2, 0, 3]]


def test_whole_list_keeps_its_order(world: World) -> None:
    """Fact 71: harvested as a whole, the list comes in the same order again."""

    def main(sys: Syscalls) -> list[list[int]]:
        epfd, _, ws = watched(sys, 3)
        for i in (1, 2, 0):
            sys.write(ws[i], b"x")
        return [who(sys, epfd) for _ in range(3)]

    assert world.run(main) == [[1, 2, 0]] * 3


def test_mod_does_not_move(world: World) -> None:
    """Fact 72: MOD of a file that is queued leaves it where it is."""

    def main(sys: Syscalls) -> list[int]:
        epfd, rs, ws = watched(sys, 4)
        for i in (1, 3, 0, 2):
            sys.write(ws[i], b"x")
        sys.epoll_ctl(epfd, EPOLL_CTL_MOD, rs[3], EPOLLIN, 3)
        return who(sys, epfd)

    assert world.run(main) == [1, 3, 0, 2]


def test_new_data_does_not_move(world: World) -> None:
    """Fact 72: more data for a file that is queued leaves it where it is."""

    def main(sys: Syscalls) -> list[int]:
        epfd, _, ws = watched(sys, 4)
        for i in (1, 3, 0, 2, 1, 3):
            sys.write(ws[i], b"x")
        return who(sys, epfd)

    assert world.run(main) == [1, 3, 0, 2]


def test_drained_file_comes_back_at_the_tail(world: World) -> None:
    """Fact 73: a drained file is dropped at the next harvest; written again, it queues at the tail."""

    def main(sys: Syscalls) -> list[list[int]]:
        epfd, rs, ws = watched(sys, 4)
        for i in (0, 1, 3, 2):
            sys.write(ws[i], b"x")
        results = [who(sys, epfd)]
        sys.read(rs[0], 9)
        results.append(who(sys, epfd))
        sys.write(ws[0], b"x")
        results.append(who(sys, epfd))
        return results

    assert world.run(main) == [[0, 1, 3, 2], [1, 3, 2], [1, 3, 2, 0]]


def test_drained_file_is_dropped_lazily(world: World) -> None:
    """Fact 73: drained and written again between two harvests, it keeps its place: nobody has looked."""

    def main(sys: Syscalls) -> list[int]:
        epfd, rs, ws = watched(sys, 3)
        for i in (0, 1, 2):
            sys.write(ws[i], b"x")
        sys.read(rs[0], 9)
        sys.write(ws[0], b"x")
        return who(sys, epfd)

    assert world.run(main) == [0, 1, 2]


def test_drained_file_takes_no_room(world: World) -> None:
    """Fact 73: a drained file at the head does not use up maxevents."""

    def main(sys: Syscalls) -> list[int]:
        epfd, rs, ws = watched(sys, 3)
        for i in (0, 1, 2):
            sys.write(ws[i], b"x")
        sys.read(rs[0], 9)
        return who(sys, epfd, 1)

    assert world.run(main) == [1]


def test_ready_at_add(world: World) -> None:
    """Fact 74: files that are ready when added come in the order of the ADDs."""

    def main(sys: Syscalls) -> list[int]:
        rs, ws = pipes(sys, 4)
        for w in ws:
            sys.write(w, b"x")
        epfd = sys.epoll_create1()
        for i in (1, 3, 0, 2):
            sys.epoll_ctl(epfd, EPOLL_CTL_ADD, rs[i], EPOLLIN, i)
        return who(sys, epfd)

    assert world.run(main) == [1, 3, 0, 2]


def test_ready_at_add_after_others(world: World) -> None:
    """Facts 70 and 74: a file that is ready at its ADD queues behind those that are ready already."""

    def main(sys: Syscalls) -> list[int]:
        epfd, _, ws = watched(sys, 2)
        r, w = sys.pipe2()
        sys.write(w, b"x")
        sys.write(ws[1], b"x")
        sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN, "added")
        sys.write(ws[0], b"x")
        return who(sys, epfd)

    assert world.run(main) == [1, "added", 0]


def test_ready_at_mod(world: World) -> None:
    """Facts 70 and 79: a file made ready by a MOD queues at that moment."""

    def main(sys: Syscalls) -> list[int]:
        epfd, rs, ws = watched(sys, 3, 0)
        for i in (0, 1, 2):
            sys.write(ws[i], b"x")
        assert who(sys, epfd) == []
        for i in (2, 0, 1):
            sys.epoll_ctl(epfd, EPOLL_CTL_MOD, rs[i], EPOLLIN, i)
        return who(sys, epfd)

    assert world.run(main) == [2, 0, 1]


def test_edge_triggered_files_leave_the_list(world: World) -> None:
    """Fact 71: of a mixed list the edge-triggered ones are reported once, the level-triggered ones keep turning."""

    def main(sys: Syscalls) -> list[list[int]]:
        epfd, rs, ws = watched(sys, 4)
        for i in (1, 2):
            sys.epoll_ctl(epfd, EPOLL_CTL_MOD, rs[i], EPOLLIN | EPOLLET, i)
        for i in range(4):
            sys.write(ws[i], b"x")
        return [who(sys, epfd, 2) for _ in range(4)]

    assert world.run(main) == [[0, 1], [2, 3], [0, 3], [0, 3]]


def test_oneshot_files_leave_the_list(world: World) -> None:
    """Fact 71: ONESHOT files are reported once, in order."""

    def main(sys: Syscalls) -> list[list[int]]:
        epfd, _, ws = watched(sys, 3, EPOLLIN | EPOLLONESHOT)
        for i in (2, 0, 1):
            sys.write(ws[i], b"x")
        return [who(sys, epfd, 2) for _ in range(3)]

    assert world.run(main) == [[2, 0], [1], []]


def test_out_and_in_are_one_place(world: World) -> None:
    """Fact 72: a file queued for OUT keeps its place when data comes, and is reported once with both."""

    def main(sys: Syscalls) -> list[tuple[int, int]]:
        epfd = sys.epoll_create1()
        pairs = [sys.socketpair(AF_UNIX, SOCK_STREAM) for _ in range(2)]
        for i, (ours, _) in enumerate(pairs):
            sys.epoll_ctl(epfd, EPOLL_CTL_ADD, ours, EPOLLIN | EPOLLOUT, i)
        sys.write(pairs[0][1], b"x")
        return sys.epoll_wait(epfd, 9, 0)

    assert world.run(main) == [(0, EPOLLIN | EPOLLOUT), (1, EPOLLOUT)]
