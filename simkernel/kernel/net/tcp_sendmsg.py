"""TCP: a program's bytes out (net/ipv4/tcp.c, tcp_sendmsg_locked; net/core/stream.c)."""

import errno
from typing import TYPE_CHECKING

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.net.socket import SEND_SHUTDOWN
from simkernel.kernel.net.tcp_output import tcp_write_xmit
from simkernel.kernel.net.tcp_states import MSS_LOOPBACK, TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_SYN_RECV, TCP_SYN_SENT
from simkernel.kernel.wait import wait_event
from simkernel.uapi import MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock


def tcp_sendmsg_locked(sk: "TcpSock", data: bytes, flags: int, nonblock: bool) -> int:
    """The general case: wait for the connection, for space; cut into segments."""
    if flags:
        if flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE):
            raise Unsupported(f"send on TCP with flags {flags:#x} is not modelled")
        nonblock = nonblock or bool(flags & MSG_DONTWAIT)
    deadline = None if sk.sndtimeo is None else sk.sched.clock.now + sk.sndtimeo
    if sk.state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT):
        sk_stream_wait_connect(sk, flags, nonblock, deadline)
    if sk.err or sk.shutdown_mask & SEND_SHUTDOWN:
        raise sk.stream_error(flags)
    copied = 0
    total = len(data)
    # A segment is at most half of the peer's window (tcp_bound_to_half_wnd).
    peer = sk.peer
    goal = MSS_LOOPBACK if peer is None else max(min(MSS_LOOPBACK, peer.window_clamp >> 1), 1)
    while copied < total:
        if sk.wmem_queued >= sk.sndbuf:
            sk.nospace = True
            if nonblock:
                if copied:
                    break
                raise sk.again("send")
            left = None if deadline is None else max(deadline - sk.sched.clock.now, 0)
            try:
                woken = wait_event(
                    sk.sched,
                    sk.wq,
                    lambda: sk.wmem_queued < sk.sndbuf or bool(sk.err) or bool(sk.shutdown_mask & SEND_SHUTDOWN),
                    left,
                )
            except OSError:
                # A signal: what was taken counts.
                if copied:
                    break
                raise
            if not woken:
                if copied:
                    break
                raise oserror(errno.EAGAIN)
            if sk.err or sk.shutdown_mask & SEND_SHUTDOWN:
                if copied:
                    break
                raise sk.stream_error(flags)
            continue
        chunk = data[copied : copied + goal]
        copied += len(chunk)
        sk.write_queue.append(chunk)
        sk.wmem_queued += len(chunk)
        sk.unsent += len(chunk)
        sk.write_seq += len(chunk)
        sk.sched.stalled = 0
        tcp_write_xmit(sk)
        if sk.err:
            # The segment was answered by a reset: what was taken counts, the error waits for the next call.
            break
    return copied


def sk_stream_wait_connect(sk: "TcpSock", flags: int, nonblock: bool, deadline: int | None) -> None:
    """sk_stream_wait_connect: EPIPE unless a connection is being made."""
    while sk.state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT):
        if sk.err or sk.state not in (TCP_SYN_SENT, TCP_SYN_RECV):
            raise sk.stream_error(flags)
        if nonblock:
            raise sk.again("send")
        left = None if deadline is None else max(deadline - sk.sched.clock.now, 0)
        if not wait_event(sk.sched, sk.wq, lambda: sk.state not in (TCP_SYN_SENT, TCP_SYN_RECV), left):
            raise oserror(errno.EAGAIN)
