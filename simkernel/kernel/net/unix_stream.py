"""SOCK_STREAM of AF_UNIX (net/unix/af_unix.c: unix_stream_ops).

A stream is a queue of buffers all the same: a recv stops after one with files, and where who sent them changes if anybody asks that.

An urgent byte (MSG_OOB) is a buffer of its own in this queue.  ``oob_skb`` is the last one sent, as long as it is neither received by
MSG_OOB nor passed by: a recv stops in front of it, the next one drops it, or with SO_OOBINLINE takes it as data.  One that was received by
MSG_OOB stays in the queue, empty, and marks the place.
"""

import errno

from simkernel.errors import oserror
from simkernel.kernel.net.scm import NO_CREDS, ScmCookie, ScmFpList, Ucred, put_files, scm_recv
from simkernel.kernel.net.socket import RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK, MsgHdr, Sysctl
from simkernel.kernel.net.unix import (
    HEAD_TRUESIZE,
    KEY_WRITABLE,
    SKB_MAX_HEAD,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    UNIX_SKB_FRAGS_SZ,
    UnixSkb,
    UnixSock,
    UnixTable,
    stream_truesize,
)
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import wait_event
from simkernel.sockaddr import unix_name
from simkernel.uapi import (
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLPRI,
    POLLRDHUP,
    POLLRDNORM,
    SOCK_STREAM,
)


class UnixStreamSock(UnixSock):
    """A stream's end.  ``inq_lost``: urgent bytes that were dropped, which FIONREAD goes on counting (unix_sock.inq_len)."""

    __slots__ = ("inq_lost", "oob_skb")

    def __init__(self, sched: Sched, sysctl: Sysctl, table: UnixTable) -> None:
        super().__init__(sched, sysctl, table, SOCK_STREAM)
        self.oob_skb: UnixSkb | None = None
        self.inq_lost = 0

    def create1(self) -> UnixSock:
        return UnixStreamSock(self.sched, self.sysctl, self.table)

    # --- sending ---
    def sendmsg(self, data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None = None, scm: ScmCookie | None = None) -> int:
        """unix_stream_sendmsg: cut into buffers of at most half the send buffer, each queued and announced on its own.

        Flags that it does not know it ignores.  ``scm``: what the control messages have said.
        """
        if flags:
            nonblock = nonblock or bool(flags & MSG_DONTWAIT)
            if flags & MSG_OOB:
                return self._sendmsg_more(data, flags, nonblock, msg)
        if msg is not None:
            return self._sendmsg_more(data, flags, nonblock, msg)
        peer = self.peer
        if peer is None:
            raise oserror(errno.ENOTCONN)
        if self.shutdown_mask & SEND_SHUTDOWN:
            raise self._broken_pipe(flags)
        sent = 0
        total = len(data)
        largest = min((self.sndbuf >> 1) - 64, SKB_MAX_HEAD + UNIX_SKB_FRAGS_SZ)
        deadline = None if self.sndtimeo is None else self.sched.clock.now + self.sndtimeo
        while sent < total:
            try:
                self.alloc_send(nonblock, deadline)
            except OSError:
                if sent:
                    return sent
                raise
            if peer.dead or peer.shutdown_mask & RCV_SHUTDOWN:
                if sent:
                    return sent
                raise self._broken_pipe(flags)
            chunk = data[sent : sent + largest]
            size = len(chunk)
            skb = UnixSkb(self, chunk, HEAD_TRUESIZE[(size + 63) >> 6] if size <= SKB_MAX_HEAD else stream_truesize(size))
            self.wmem_alloc += skb.truesize
            if scm is not None or self.passcred or peer.passcred or peer.socket is None:
                self.fill_cb(skb, peer, scm)
            sent += size
            peer.receive_queue.append(skb)
            self.sched.stalled = 0
            peer.sk_data_ready()
        return sent

    def _sendmsg_more(self, data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None) -> int:
        """The sends with control messages, an urgent byte or, which is an error, an address."""
        scm = self.scm_send(msg) if msg is not None else None
        try:
            urgent = b""
            if flags & MSG_OOB:
                if not data:
                    raise oserror(errno.EOPNOTSUPP)
                data, urgent = data[:-1], data[-1:]
            if msg is not None and msg.name is not None:
                raise oserror(errno.EISCONN if self.state == TCP_ESTABLISHED else errno.EOPNOTSUPP)
            sent = self.sendmsg(data, flags & ~MSG_OOB, nonblock, None, scm)
            if urgent and sent == len(data):
                try:
                    self._queue_oob(urgent, nonblock, scm)
                    sent += 1
                except OSError:
                    if not sent:
                        raise
            return sent
        finally:
            self.scm_destroy(scm)

    def _broken_pipe(self, flags: int) -> OSError:
        """EPIPE with its signal, which a sender that the end finds asleep does not get."""
        if not flags & MSG_NOSIGNAL:
            self.sched.send_sigpipe()
        return oserror(errno.EPIPE)

    def _queue_oob(self, urgent: bytes, nonblock: bool, scm: ScmCookie | None) -> None:
        """queue_oob: the last byte of a send, in a buffer of its own; the mark that there was before becomes ordinary data."""
        peer = self.peer
        assert isinstance(peer, UnixStreamSock)
        self.alloc_send(nonblock, None if self.sndtimeo is None else self.sched.clock.now + self.sndtimeo)
        if peer.dead or peer.shutdown_mask & RCV_SHUTDOWN:
            raise oserror(errno.EPIPE)
        skb = UnixSkb(self, urgent, HEAD_TRUESIZE[1])
        self.wmem_alloc += skb.truesize
        self.fill_cb(skb, peer, scm)
        peer.oob_skb = skb
        peer.receive_queue.append(skb)
        self.sched.stalled = 0
        peer.sk_data_ready()

    # --- receiving ---
    def recvmsg(self, n: int, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> bytes:
        """unix_stream_read_generic."""
        if self.state != TCP_ESTABLISHED:
            raise oserror(errno.EINVAL)
        peek = False
        target = min(self.rcvlowat, n) or 1
        if flags:
            if flags & MSG_OOB:
                return self._recv_urg(n, bool(flags & MSG_PEEK), msg)
            nonblock = nonblock or bool(flags & MSG_DONTWAIT)
            peek = bool(flags & MSG_PEEK)
            if flags & MSG_WAITALL:
                target = n or 1
        queue = self.receive_queue
        if not flags and msg is None and len(queue) == 1:
            # Most often there is one buffer, and it is wanted whole.
            skb = queue[0]
            data = skb.data
            if self.rcvlowat <= len(data) <= n and not skb.offset and skb.cb is None and skb is not self.oob_skb:
                queue.popleft()
                skb.sk.sock_wfree(skb.truesize)
                self.sched.stalled = 0
                return data
        deadline = None if self.rcvtimeo is None else self.sched.clock.now + self.rcvtimeo
        got = bytearray()
        creds: Ucred | None = None
        fpl: ScmFpList | None = None
        code = 0
        # Which buffer is next: only peeking leaves some behind.
        i = 0
        copied = False
        while True:
            if i < len(queue):
                skb = queue[i]
                if skb is self.oob_skb or skb.offset == len(skb.data):
                    i = self._manage_oob(i, peek, copied)
                    if i < 0:
                        if copied:
                            break
                        i = len(queue)
                        continue
                    skb = queue[i]
                cb = skb.cb
                if self.passcred:
                    sender = cb.creds if cb is not None else NO_CREDS
                    if creds is not None and creds != sender:
                        # Never glue messages from different writers.
                        break
                    creds = sender
                if msg is not None and skb.sk.addr:
                    msg.name = unix_name(skb.sk.addr)
                chunk = skb.data[skb.offset : skb.offset + n - len(got)]
                got += chunk
                copied = copied or bool(chunk)
                if peek:
                    if cb is not None and cb.fp is not None:
                        fpl = cb.fp.dup()
                        break
                    # It looks at the next one even when it has enough, but never waits for one.
                    i += 1
                    if i == len(queue):
                        break
                    continue
                skb.offset += len(chunk)
                if cb is not None:
                    fpl = self.take_files(skb)
                if skb.offset < len(skb.data):
                    break
                queue.popleft()
                skb.sk.sock_wfree(skb.truesize)
                if fpl is not None or len(got) >= n:
                    break
                continue
            if len(got) >= target:
                break
            if self.err:
                # Taken even if there are bytes to return, so that nobody will see it.
                code = self.sock_error()
                break
            if self.shutdown_mask & RCV_SHUTDOWN:
                break
            if nonblock:
                code = errno.EAGAIN
                break
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            last = queue[-1] if queue else None
            try:
                woken = wait_event(
                    self.sched,
                    self.wq,
                    lambda: (
                        bool(queue and queue[-1] is not last)  # noqa: B023  called before the loop goes on
                        or bool(self.err)
                        or bool(self.shutdown_mask & RCV_SHUTDOWN)
                    ),
                    left,
                )
            except OSError:
                # A signal: what was received counts, without a word on who sent it.
                if not got:
                    raise
                return bytes(got)
            if not woken:
                code = errno.EAGAIN
                break
            i = 0
        if msg is not None:
            # Without a buffer read, what is told of the sender is all zeros.
            scm_recv(self.sched, msg, self.passcred, creds or (0, 0, 0), fpl)
        elif fpl is not None:
            put_files(fpl)
        if got:
            self.sched.stalled = 0
        elif code == errno.EAGAIN and nonblock:
            raise self.again("recv")
        elif code:
            raise oserror(code)
        return bytes(got)

    def _manage_oob(self, i: int, peek: bool, copied: bool) -> int:
        """manage_oob: the urgent byte is next, or the empty buffer of one.  The index of the buffer to read, -1 if there is none now."""
        queue = self.receive_queue
        skb = queue[i]
        if skb.offset == len(skb.data):
            if copied and (self.oob_skb is None or skb is self.oob_skb):
                return -1
            if peek:
                i += 1
            else:
                self.kfree_skb(queue.popleft())
            if i >= len(queue):
                return -1
            skb = queue[i]
        if skb is not self.oob_skb:
            return i
        if copied:
            return -1
        if not peek:
            self.oob_skb = None
            if not self.urginline:
                self.inq_lost += len(skb.data) - skb.offset
                self.kfree_skb(queue.popleft())
        elif not self.urginline:
            i += 1
        return i if i < len(queue) else -1

    def _recv_urg(self, n: int, peek: bool, msg: MsgHdr | None) -> bytes:
        """unix_stream_recv_urg: the urgent byte, wherever it is in the queue.  EINVAL without one, and with SO_OOBINLINE."""
        skb = self.oob_skb
        if self.urginline or skb is None:
            raise oserror(errno.EINVAL)
        if not peek:
            self.oob_skb = None
            queue = self.receive_queue
            place = queue.index(skb)
            if place and queue[place - 1].offset == len(queue[place - 1].data):
                # One mark is enough.
                before = queue[place - 1]
                del queue[place - 1]
                self.kfree_skb(before)
            skb.offset += 1
        if msg is not None:
            msg.flags |= MSG_OOB
        self.sched.stalled = 0
        return skb.data[:n]

    def fionread(self) -> int:
        """unix_inq_len.  Urgent bytes that were dropped are counted for ever, as Linux 6.18 does."""
        return super().fionread() + self.inq_lost

    def siocatmark(self) -> int:
        """Whether the urgent byte is next, or the place of a received one, or the empty buffer that tells a listener of a connection."""
        queue = self.receive_queue
        if self.connq:
            return 1
        if not queue:
            return 0
        skb = queue[0]
        if skb is self.oob_skb:
            return 1
        if skb.offset < len(skb.data):
            return 0
        return int(self.oob_skb is None or (len(queue) > 1 and queue[1] is self.oob_skb))

    def _release(self, embryo: bool) -> None:
        self.oob_skb = None
        super()._release(embryo)

    def poll(self, table: PollTable | None) -> int:
        """unix_poll."""
        if table is not None:
            table.qproc(self.wq)
        mask = 0
        shutdown = self.shutdown_mask
        if self.err:
            mask |= POLLERR
        if shutdown == SHUTDOWN_MASK or self.state == TCP_CLOSE:
            mask |= POLLHUP
        if shutdown & RCV_SHUTDOWN:
            mask |= POLLRDHUP | POLLIN | POLLRDNORM
        if self.receive_queue or self.connq:
            mask |= POLLIN | POLLRDNORM
        if self.oob_skb is not None:
            mask |= POLLPRI
        if self.writable():
            mask |= KEY_WRITABLE
        return mask
