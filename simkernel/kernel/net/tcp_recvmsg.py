"""TCP: a program's bytes in (net/ipv4/tcp.c, tcp_recvmsg_locked)."""

import errno
from typing import TYPE_CHECKING

from simkernel.errors import oserror
from simkernel.kernel.net.socket import RCV_SHUTDOWN
from simkernel.kernel.net.tcp_output import tcp_cleanup_rbuf
from simkernel.kernel.net.tcp_states import TCP_CLOSE, TCP_LISTEN
from simkernel.kernel.wait import wait_event

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock


def tcp_recvmsg_locked(sk: "TcpSock", n: int, flags: int, nonblock: bool) -> bytes:
    """The general case: several segments, parts of one, peeking, sleeping, errors."""
    nonblock, peek, target = sk.recv_flags(n, flags, nonblock)
    if sk.state == TCP_LISTEN:
        raise oserror(errno.ENOTCONN)
    queue = sk.receive_queue
    deadline = None if sk.rcvtimeo is None else sk.sched.clock.now + sk.rcvtimeo
    got = bytearray()
    while True:
        if peek:
            got.clear()
            peek_into(sk, got, n)
        elif queue:
            copy_into(sk, got, n)
        copied = len(got)
        # A read of nothing is done as soon as there is something it could have read.
        if (copied >= n or copied >= target) and (n or queue):
            break
        if copied:
            if nonblock or sk.err or sk.state == TCP_CLOSE or sk.shutdown_mask & RCV_SHUTDOWN:
                break
        elif not (n == 0 and queue):
            if sk.done:
                break
            if sk.err:
                raise oserror(sk.sock_error())
            if sk.shutdown_mask & RCV_SHUTDOWN:
                break
            if sk.state == TCP_CLOSE:
                raise oserror(errno.ENOTCONN)
            if nonblock:
                raise sk.again("recv")
        left = None if deadline is None else max(deadline - sk.sched.clock.now, 0)
        seen = sk.rmem
        try:
            woken = wait_event(
                sk.sched,
                sk.wq,
                lambda seen=seen: (  # type: ignore[misc]
                    sk.rmem > seen or bool(sk.err) or bool(sk.shutdown_mask & RCV_SHUTDOWN) or sk.state == TCP_CLOSE
                ),
                left,
            )
        except OSError:
            if got:
                break
            raise
        if not woken:
            if got:
                break
            raise oserror(errno.EAGAIN)
    if got:
        sk.sched.stalled = 0
    return bytes(got)


def copy_into(sk: "TcpSock", got: bytearray, n: int) -> None:
    """Move up to ``n`` bytes in all from the receive queue, and tell the peer about the space."""
    queue = sk.receive_queue
    before = len(got)
    while queue and len(got) < n:
        data = queue[0]
        offset = sk.queue_offset
        room = n - len(got)
        if len(data) - offset <= room:
            got += data[offset:] if offset else data
            queue.popleft()
            sk.queue_offset = 0
        else:
            got += data[offset : offset + room]
            sk.queue_offset = offset + room
    taken = len(got) - before
    if taken:
        sk.copied_seq += taken
        sk.rmem -= taken
        tcp_cleanup_rbuf(sk)


def peek_into(sk: "TcpSock", got: bytearray, n: int) -> None:
    """The same without taking them (MSG_PEEK)."""
    offset = sk.queue_offset
    for data in sk.receive_queue:
        got += data[offset : offset + n - len(got)]
        offset = 0
        if len(got) >= n:
            break
