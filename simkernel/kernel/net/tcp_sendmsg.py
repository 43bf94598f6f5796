"""TCP: a program's bytes out (net/ipv4/tcp.c, tcp_sendmsg_locked; net/core/stream.c)."""

import errno
from typing import TYPE_CHECKING, Final

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.net.socket import SEND_SHUTDOWN, MsgHdr
from simkernel.kernel.net.tcp_output import tcp_mss, tcp_push_pending_frames, tcp_write_xmit
from simkernel.kernel.net.tcp_states import TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_SYN_RECV, TCP_SYN_SENT
from simkernel.kernel.wait import wait_event
from simkernel.uapi import (
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_FASTOPEN,
    MSG_MORE,
    MSG_OOB,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SO_PRIORITY,
    SOL_SOCKET,
)

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock


# Control messages of SOL_SOCKET that say how a packet is sent: known to Linux, not modelled.
SOCK_CMSGS: Final = (SO_PRIORITY, 36, 37, 61, 81)


def sock_cmsg_send(msg: MsgHdr) -> None:
    """Control messages mean nothing on a stream: other levels' and AF_UNIX's are ignored, unknown ones EINVAL."""
    for level, kind, _ in msg.control:
        if level != SOL_SOCKET or kind in (SCM_RIGHTS, SCM_CREDENTIALS):
            continue
        if kind in SOCK_CMSGS:
            raise Unsupported(f"sendmsg on TCP with a control message of type {kind} is not modelled")
        raise oserror(errno.EINVAL)


def tcp_sendmsg_locked(sk: "TcpSock", data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None) -> int:
    """The general case: wait for the connection, for space; cut into segments.  An address, and other flags, are ignored."""
    if flags & MSG_FASTOPEN:
        raise Unsupported("send on TCP with MSG_FASTOPEN is not modelled")
    nonblock = nonblock or bool(flags & MSG_DONTWAIT)
    deadline = None if sk.sndtimeo is None else sk.sched.clock.now + sk.sndtimeo
    if sk.state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT):
        sk_stream_wait_connect(sk, flags, nonblock, deadline)
    if msg is not None and msg.control:
        sock_cmsg_send(msg)
    if sk.err or sk.shutdown_mask & SEND_SHUTDOWN:
        raise sk.stream_error(flags)
    copied = 0
    total = len(data)
    goal = tcp_mss(sk)
    # MSG_MORE holds a segment that is not full, as TCP_CORK does, but only this time.
    corked = sk.cork or bool(flags & MSG_MORE)
    queue = sk.write_queue
    while copied < total:
        if sk.wmem_queued >= sk.sndbuf or (not sk.memory_free() and not (queue and len(queue[-1]) < goal and not sk.eor)):
            sk.nospace = True
            if copied and queue:
                # Nothing is held back for want of more when there is no room for it.
                tcp_push_pending_frames(sk, False)
                if sk.err:
                    break
                if sk.memory_free():
                    continue
            if nonblock:
                if copied:
                    break
                raise sk.again("send")
            try:
                woken = sk_stream_wait_memory(sk, deadline)
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
        if queue and len(queue[-1]) < goal and not sk.eor:
            # Append to the last segment, which has not been sent.
            chunk = data[copied : copied + goal - len(queue[-1])]
            queue[-1] += chunk
        else:
            chunk = data[copied : copied + goal]
            queue.append(chunk)
            sk.eor = False
        n = len(chunk)
        copied += n
        sk.wmem_queued += n
        sk.unsent += n
        sk.write_seq += n
        sk.sched.stalled = 0
        if copied == total:
            sk.eor = bool(flags & MSG_EOR)
            if flags & MSG_OOB:
                # tcp_mark_urg: the last byte is the urgent one.
                sk.snd_up = sk.write_seq
        tcp_write_xmit(sk, corked)
        if not queue:
            # The acknowledgement of what was sent pushes what MSG_MORE would hold.
            corked = sk.cork
        if sk.err:
            # The segment was answered by a reset: what was taken counts, the error waits for the next call.
            break
    return copied


def sk_stream_wait_memory(sk: "TcpSock", deadline: int | None) -> bool:
    """sk_stream_wait_memory: sleep until there is room for more, or never will be.  False if ``deadline`` came first."""
    left = None if deadline is None else max(deadline - sk.sched.clock.now, 0)
    return wait_event(
        sk.sched,
        sk.wq,
        lambda: sk.memory_free() or bool(sk.err) or bool(sk.shutdown_mask & SEND_SHUTDOWN),
        left,
        promise=lambda: sk.writable() or bool(sk.err) or bool(sk.shutdown_mask & SEND_SHUTDOWN),
    )


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
