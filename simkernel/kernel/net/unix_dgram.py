"""SOCK_DGRAM and SOCK_SEQPACKET of AF_UNIX (net/unix/af_unix.c: unix_dgram_ops, unix_seqpacket_ops).

Nothing gets lost: a sender waits, or gets EAGAIN, while the receiver has max_dgram_qlen datagrams and one more unread.  That holds for
those whom the receiver is not connected to; of two that are connected to each other the send buffer alone is the limit.
"""

import errno

from simkernel.api import Address
from simkernel.errors import oserror
from simkernel.kernel.net.datagram import ReceiverWait
from simkernel.kernel.net.scm import NO_CREDS, ScmCookie, scm_recv
from simkernel.kernel.net.socket import RCV_SHUTDOWN, SHUTDOWN_MASK, MsgHdr, Sock, Sysctl
from simkernel.kernel.net.unix import (
    KEY_WRITABLE,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    UnixSkb,
    UnixSock,
    UnixTable,
    dgram_truesize,
)
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import (
    add_wait_queue,
    remove_wait_queue,
    wait_event,
    wake_up,
    wake_up_all,
)
from simkernel.sockaddr import unix_name
from simkernel.uapi import (
    MSG_DONTWAIT,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLRDHUP,
    POLLRDNORM,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
)


class UnixDgramSock(UnixSock):
    """A socket for datagrams, each with its sender.  ``peeked``: the buffer that was last looked at by MSG_PEEK."""

    __slots__ = ("peeked",)

    def __init__(self, sched: Sched, sysctl: Sysctl, table: UnixTable, type: int = SOCK_DGRAM) -> None:
        super().__init__(sched, sysctl, table, type)
        self.peeked: UnixSkb | None = None

    # --- connections ---
    def listen(self, backlog: int) -> None:
        """sock_no_listen."""
        raise oserror(errno.EOPNOTSUPP)

    def accept(self, nonblock: bool) -> Sock:
        """sock_no_accept."""
        raise oserror(errno.EOPNOTSUPP)

    def connect(self, addr: Address, nonblock: bool) -> None:
        """unix_dgram_connect: where to send from now on; only that socket may send here.  EPERM if it is connected to another."""
        path = self.peer_path(addr)
        if self.passcred:
            self.autobind()
        other = self.table.find(path, self.type)
        if not self._may_send(other):
            raise oserror(errno.EPERM)
        self.state = other.state = TCP_ESTABLISHED
        old, self.peer = self.peer, other
        self.sched.stalled = 0
        if old is not None:
            self._peer_wake_disconnect_wakeup(old)
            if old is not other:
                self._disconnected(old)
                if old.peer is None:
                    old.state = TCP_CLOSE

    def _may_send(self, other: UnixSock) -> bool:
        """unix_may_send: a connected socket takes from its peer alone."""
        return other.peer is None or other.peer is self

    def _disconnected(self, other: UnixSock) -> None:
        """unix_dgram_disconnected: what the old peer has sent is lost; it is told if it was connected to us."""
        if self.receive_queue:
            self.purge()
            wake_up_all(self.peer_wait)
            if not other.dead and other.peer is self:
                other.err = errno.ECONNRESET
                other.sk_error_report()

    # --- the peer's queue is full: wait for it without reading from it ---
    def _peer_wake_me(self, other: UnixSock) -> bool:
        """unix_dgram_peer_wake_me: ask for the wake-up of ``other``'s readers.  False if there is no need to wait."""
        entry = self.peer_wake
        if entry.wq is None:
            add_wait_queue(other.peer_wait, entry)
            connected = True
        else:
            connected = False
        if other.recvq_full() and not other.dead:
            return True
        if connected:
            self._peer_wake_disconnect(other)
        return False

    def _peer_wake_disconnect(self, other: UnixSock) -> None:
        if self.peer_wake.wq is other.peer_wait:
            remove_wait_queue(self.peer_wake)

    def _peer_wake_disconnect_wakeup(self, other: UnixSock) -> None:
        self._peer_wake_disconnect(other)
        wake_up(self.wq, KEY_WRITABLE)

    # --- sending ---
    def sendmsg(self, data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> int:
        """unix_dgram_sendmsg.  Flags that it does not know it ignores."""
        scm = self.scm_send(msg) if msg is not None else None
        try:
            return self._sendmsg(data, flags, nonblock or bool(flags & MSG_DONTWAIT), None if msg is None else msg.name, scm)
        finally:
            if scm is not None:
                self.scm_destroy(scm)

    def _sendmsg(self, data: bytes, flags: int, nonblock: bool, name: Address | None, scm: ScmCookie | None) -> int:
        if flags & MSG_OOB:
            raise oserror(errno.EOPNOTSUPP)
        path = None if name is None else self.peer_path(name)
        if self.passcred:
            self.autobind()
        if len(data) > self.sndbuf - 32:
            raise oserror(errno.EMSGSIZE)
        self.alloc_send(nonblock, None if self.sndtimeo is None else self.sched.clock.now + self.sndtimeo)
        skb = UnixSkb(self, data, dgram_truesize(len(data)))
        self.wmem_alloc += skb.truesize
        try:
            other = self._find_receiver(path, nonblock)
        except BaseException:
            self.sock_wfree(skb.truesize)
            raise
        if scm is not None or self.passcred or other.passcred or other.socket is None:
            self.fill_cb(skb, other, scm)
        other.receive_queue.append(skb)
        self.sched.stalled = 0
        other.sk_data_ready()
        return len(data)

    def _find_receiver(self, path: bytes | None, nonblock: bool) -> UnixSock:
        """Who gets the datagram: the socket called ``path``, or the peer; as soon as it takes it."""
        deadline = None if self.sndtimeo is None else self.sched.clock.now + self.sndtimeo
        other = self.peer if path is None else self.table.find(path, self.type)
        if other is None:
            raise oserror(errno.ENOTCONN)
        while True:
            if not self._may_send(other):
                raise oserror(errno.EPERM)
            if other.dead:
                if self.type == SOCK_SEQPACKET:
                    raise oserror(errno.EPIPE)
                if self.peer is other:
                    self.peer = None
                    self._peer_wake_disconnect_wakeup(other)
                    self.state = TCP_CLOSE
                    self._disconnected(other)
                    raise oserror(errno.ECONNREFUSED)
                # It has gone while we slept.
                if path is None:
                    raise oserror(errno.ECONNRESET)
                other = self.table.find(path, self.type)
                continue
            if other.shutdown_mask & RCV_SHUTDOWN:
                raise oserror(errno.EPIPE)
            if other is self or other.peer is self or not other.recvq_full():
                return other
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            if nonblock or left == 0:
                if self.peer is other and not self._peer_wake_me(other):
                    return other
                raise self.again("send") if nonblock else oserror(errno.EAGAIN)
            self._wait_for_peer(other, left)

    def _wait_for_peer(self, other: UnixSock, left: int | None) -> None:
        """unix_wait_for_peer: the first to come is the first to go on.  Only once awake it finds that it may not send any more."""

        def is_told() -> bool:
            return other.dead or not other.recvq_full()

        def may_go_on() -> bool:
            return is_told() or bool(other.shutdown_mask & RCV_SHUTDOWN) or not self._may_send(other)

        wait_event(self.sched, other.peer_wait, may_go_on, left, exclusive=True, promise=is_told)

    # --- receiving ---
    def recvmsg(self, n: int, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> bytes:
        """unix_dgram_recvmsg: one datagram, cut to ``n`` bytes with MSG_TRUNC.  Errors go before datagrams."""
        if flags & MSG_OOB:
            raise oserror(errno.EOPNOTSUPP)
        nonblock = nonblock or bool(flags & MSG_DONTWAIT)
        queue = self.receive_queue
        if self.err:
            raise oserror(self.sock_error())
        if not queue and not self._wait_for_datagram(nonblock):
            return b""
        skb = queue[0]
        if self.peer_wait.entries:
            wake_up(self.peer_wait, KEY_WRITABLE)
        cb = skb.cb
        fpl = None
        if flags & MSG_PEEK:
            self.peeked = skb
            if cb is not None and cb.fp is not None:
                fpl = cb.fp.dup()
        else:
            queue.popleft()
            fpl = self.take_files(skb)
        data = skb.data
        if msg is not None:
            if skb.sk.addr:
                msg.name = unix_name(skb.sk.addr)
            if n < len(data):
                msg.flags |= MSG_TRUNC
        if fpl is not None or self.passcred:
            scm_recv(self.sched, msg, self.passcred, cb.creds if cb is not None else NO_CREDS, fpl)
        self.sched.stalled = 0
        if not flags & MSG_PEEK:
            skb.sk.sock_wfree(skb.truesize)
        return data if n >= len(data) else data[:n]

    def _wait_for_datagram(self, nonblock: bool) -> bool:
        """__skb_wait_for_more_packets.  False at the end: the socket is shut down, and of datagrams only a sleeper is told so."""
        queue = self.receive_queue
        deadline = None if self.rcvtimeo is None else self.sched.clock.now + self.rcvtimeo
        while True:
            if nonblock:
                if self.type == SOCK_SEQPACKET and self.shutdown_mask & RCV_SHUTDOWN:
                    return False
                raise self.again("recv")
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            if not wait_event(
                self.sched,
                self.wq,
                self._recv_may_go_on,
                left,
                exclusive=True,
                entry=ReceiverWait(self.sched.current),
                promise=self._receiver_is_told,
            ):
                raise oserror(errno.EAGAIN)
            if self.err:
                raise oserror(self.sock_error())
            if queue:
                return True
            if self.shutdown_mask & RCV_SHUTDOWN:
                return False

    def _recv_may_go_on(self) -> bool:
        """__skb_wait_for_more_packets: whether a sleeping reader has to look again."""
        return bool(self.receive_queue) or bool(self.err) or bool(self.shutdown_mask & RCV_SHUTDOWN)

    def _receiver_is_told(self) -> bool:
        """A datagram wakes one sleeper.  One that only peeks leaves it, and does not wake the next: that one sleeps on."""
        if self.receive_queue:
            return self.receive_queue[0] is not self.peeked
        return bool(self.err) or bool(self.shutdown_mask & RCV_SHUTDOWN)

    # --- state ---
    def poll(self, table: PollTable | None) -> int:
        """unix_dgram_poll.  Looking for room at a full peer asks for its wake-up, which no wait queue of ours would bring."""
        if table is not None:
            table.qproc(self.wq)
        mask = 0
        shutdown = self.shutdown_mask
        if self.err:
            mask |= POLLERR
        if shutdown & RCV_SHUTDOWN:
            mask |= POLLRDHUP | POLLIN | POLLRDNORM
        if shutdown == SHUTDOWN_MASK or (self.type == SOCK_SEQPACKET and self.state == TCP_CLOSE):
            mask |= POLLHUP
        if self.receive_queue or self.connq:
            mask |= POLLIN | POLLRDNORM
        if self.writable():
            other = self.peer
            if other is None or other.peer is self or not other.recvq_full() or not self._peer_wake_me(other):
                mask |= KEY_WRITABLE
        return mask


class UnixSeqpacketSock(UnixDgramSock):
    """Datagrams over a connection: connected as a stream is, sent and received as datagrams are."""

    __slots__ = ()

    def __init__(self, sched: Sched, sysctl: Sysctl, table: UnixTable) -> None:
        super().__init__(sched, sysctl, table, SOCK_SEQPACKET)

    def create1(self) -> UnixSock:
        return UnixSeqpacketSock(self.sched, self.sysctl, self.table)

    def listen(self, backlog: int) -> None:
        """unix_listen."""
        UnixSock.listen(self, backlog)

    def accept(self, nonblock: bool) -> Sock:
        """unix_accept."""
        return UnixSock.accept(self, nonblock)

    def connect(self, addr: Address, nonblock: bool) -> None:
        """unix_stream_connect."""
        UnixSock.connect(self, addr, nonblock)

    def sendmsg(self, data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> int:
        """unix_seqpacket_sendmsg: an address is ignored."""
        if self.err:
            raise oserror(self.sock_error())
        if self.state != TCP_ESTABLISHED:
            raise oserror(errno.ENOTCONN)
        if msg is not None:
            msg.name = None
        return super().sendmsg(data, flags, nonblock, msg)

    def recvmsg(self, n: int, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> bytes:
        """unix_seqpacket_recvmsg."""
        if self.state != TCP_ESTABLISHED:
            raise oserror(errno.ENOTCONN)
        return super().recvmsg(n, flags, nonblock, msg)
