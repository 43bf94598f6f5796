"""TCP: a program's bytes in (net/ipv4/tcp.c: tcp_recvmsg_locked, tcp_recv_urg, tcp_ioctl).

Urgent data is a mark in the stream (``urg_seq``) and a byte beside it (``urg_data``): a read stops at the mark, the next one steps over
the byte, which MSG_OOB reads; with SO_OOBINLINE it is a byte like others behind a mark.
"""

import errno
from typing import TYPE_CHECKING

from simkernel.errors import oserror
from simkernel.kernel.net.socket import RCV_SHUTDOWN, MsgHdr
from simkernel.kernel.net.tcp_output import tcp_cleanup_rbuf
from simkernel.kernel.net.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT, TCP_URG_READ, TCP_URG_VALID
from simkernel.kernel.wait import wait_event
from simkernel.uapi import (
    FIONREAD,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SIOCATMARK,
    SIOCOUTQ,
)

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock


def tcp_recvmsg_locked(sk: "TcpSock", n: int, flags: int, nonblock: bool, msg: MsgHdr | None) -> bytes:
    """The general case: several segments, parts of one, peeking, sleeping, urgent data, errors.  Other flags are ignored.

    MSG_TRUNC throws the bytes away; the program's buffer stays as it was, which is zeros.
    """
    if flags & MSG_ERRQUEUE:
        # inet_recv_error: nothing comes from lo.
        raise sk.again("recv")
    if sk.state == TCP_LISTEN:
        raise oserror(errno.ENOTCONN)
    if flags & MSG_OOB:
        return tcp_recv_urg(sk, n, flags, msg)
    nonblock = nonblock or bool(flags & MSG_DONTWAIT)
    peek = bool(flags & MSG_PEEK)
    trunc = bool(flags & MSG_TRUNC)
    target = (n if flags & MSG_WAITALL else min(sk.rcvlowat, n)) or 1
    queue = sk.receive_queue
    deadline = None if sk.rcvtimeo is None else sk.sched.clock.now + sk.rcvtimeo
    parts: list[bytes] = []
    copied = 0
    code = 0
    # Where the next byte is: its place in the stream, in which segment, and how far into that.
    seq, index, offset = sk.copied_seq, 0, sk.queue_offset
    taken = seq
    urg_hole = 0
    while True:
        if sk.urg_data and sk.urg_seq == seq and copied:
            break
        if index < len(queue):
            data = queue[index]
            used = min(len(data) - offset, n - copied)
            if sk.urg_data:
                mark = sk.urg_seq - seq
                if 0 < mark < used:
                    used = mark
                elif mark == 0 and used and not sk.urginline:
                    # Step over the urgent byte.
                    seq += 1
                    offset += 1
                    used -= 1
                    urg_hole += 1
            parts.append(bytes(used) if trunc else data if used == len(data) else data[offset : offset + used])
            copied += used
            seq += used
            offset += used
            if not peek:
                sk.rmem -= seq - sk.copied_seq
                sk.copied_seq = seq
                sk.queue_offset = offset
                if sk.urg_data and seq > sk.urg_seq:
                    sk.urg_data = 0
            if offset == len(data):
                offset = 0
                if peek:
                    index += 1
                else:
                    queue.pop(0)
                    sk.queue_offset = 0
            if copied >= n:
                break
            continue
        if copied >= target:
            break
        if copied:
            if nonblock or sk.err or sk.state == TCP_CLOSE or sk.shutdown_mask & RCV_SHUTDOWN:
                break
        else:
            if sk.done:
                break
            if sk.err:
                code = sk.sock_error()
                break
            if sk.shutdown_mask & RCV_SHUTDOWN:
                break
            if sk.state == TCP_CLOSE:
                code = errno.ENOTCONN
                break
            if nonblock:
                code = errno.EAGAIN
                break
        seen = sk.rmem
        if sk.copied_seq != taken:
            taken = sk.copied_seq
            tcp_cleanup_rbuf(sk)
            if sk.rmem > seen or sk.err or sk.shutdown_mask & RCV_SHUTDOWN or sk.state == TCP_CLOSE:
                # The peer has answered the new window already: what it sent is no reason to sleep (sk_wait_data looks for it as well).
                seq, index, offset = sk.copied_seq, 0, sk.queue_offset
                continue
        try:
            woken = sk_wait_data(sk, seen, deadline)
        except OSError:
            if copied:
                break
            raise
        if not woken:
            if not copied:
                code = errno.EAGAIN
            break
        if n == 0:
            break
        if not peek or seq - copied - urg_hole != sk.copied_seq:
            # Somebody else may have read meanwhile ("race in MSG_PEEK"): go on where the stream now begins, each time.
            seq, index, offset = sk.copied_seq, 0, sk.queue_offset
    if sk.copied_seq != taken:
        tcp_cleanup_rbuf(sk)
    if code:
        raise sk.again("recv") if code == errno.EAGAIN and nonblock else oserror(code)
    if copied:
        sk.sched.stalled = 0
    return b"".join(parts)


def sk_wait_data(sk: "TcpSock", seen: int, deadline: int | None) -> bool:
    """sk_wait_data: sleep until something happens to a queue of ``seen`` bytes.  False if ``deadline`` came first.

    Any wake-up is a reason to look again (and for a recv of nothing to be over).
    """
    left = None if deadline is None else max(deadline - sk.sched.clock.now, 0)
    looks = 0

    def second_time() -> bool:
        nonlocal looks
        looks += 1
        return looks > 1

    def may_go_on() -> bool:
        return sk.rmem > seen or bool(sk.err) or bool(sk.shutdown_mask & RCV_SHUTDOWN) or sk.state == TCP_CLOSE

    return wait_event(sk.sched, sk.wq, second_time, left, promise=may_go_on)


def tcp_recv_urg(sk: "TcpSock", n: int, flags: int, msg: MsgHdr | None) -> bytes:
    """tcp_recv_urg: the urgent byte, once.  EINVAL where there is none (or it is inline), EAGAIN where it is still to come."""
    urg = sk.urg_data
    if sk.urginline or not urg or urg == TCP_URG_READ:
        sk.sched.stall("recv")
        raise oserror(errno.EINVAL)
    if sk.state == TCP_CLOSE and not sk.done:
        raise oserror(errno.ENOTCONN)
    if urg & TCP_URG_VALID:
        if not flags & MSG_PEEK:
            sk.urg_data = TCP_URG_READ
        if msg is not None:
            msg.flags |= MSG_OOB if n else MSG_OOB | MSG_TRUNC
        sk.sched.stalled = 0
        return (bytes(1) if flags & MSG_TRUNC else bytes((urg & 0xFF,))) if n else b""
    if sk.state == TCP_CLOSE or sk.shutdown_mask & RCV_SHUTDOWN:
        return b""
    raise sk.again("recv")


def tcp_inq(sk: "TcpSock") -> int:
    """What FIONREAD tells: the bytes up to the urgent mark, or all of them."""
    if sk.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        return 0
    if not sk.urg_data or sk.urginline or not sk.copied_seq <= sk.urg_seq < sk.copied_seq + sk.rmem:
        return sk.rmem
    return sk.urg_seq - sk.copied_seq


def tcp_ioctl(sk: "TcpSock", request: int) -> int:
    """SIOCINQ, SIOCOUTQ (not yet acknowledged, a FIN counts for one), SIOCOUTQNSD (not yet sent): EINVAL of a listener.  SIOCATMARK."""
    if request == SIOCATMARK:
        return int(sk.urg_data != 0 and sk.urg_seq == sk.copied_seq)
    if sk.state == TCP_LISTEN:
        raise oserror(errno.EINVAL)
    if request == FIONREAD:
        return tcp_inq(sk)
    if sk.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        return 0
    return (sk.wmem_queued if request == SIOCOUTQ else sk.unsent) + sk.fin_queued
