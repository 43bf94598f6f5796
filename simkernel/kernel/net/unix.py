"""AF_UNIX stream sockets (net/unix/af_unix.c).

No device in between: a send queues its buffers on the peer's receive queue and wakes its readers.  The sender is charged for each buffer,
with the kernel's own overhead (truesize), until the peer has read all of it.
"""

import errno
from collections import deque
from collections.abc import Mapping
from typing import ClassVar

from simkernel.api import Address
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.net.socket import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SS_CONNECTED,
    MsgHdr,
    Sock,
    Socket,
    Sysctl,
)
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import WaitQueue, wait_event, wake_up, wake_up_all
from simkernel.sockaddr import unix_name, unix_path
from simkernel.uapi import (
    AF_UNIX,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    PAGE_SIZE,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    SOCK_STREAM,
)

TCP_ESTABLISHED = 1
TCP_CLOSE = 7
TCP_LISTEN = 10

KEY_WRITABLE = POLLOUT | POLLWRNORM | POLLWRBAND

# What a buffer costs beside its bytes (x86-64): struct sk_buff, skb_shared_info, and the slab sizes that kmalloc rounds up to.
SIZEOF_SKBUFF = 256
SIZEOF_SHARED_INFO = 320
SKB_MAX_HEAD = PAGE_SIZE - SIZEOF_SHARED_INFO
UNIX_SKB_FRAGS_SZ = 32768
KMALLOC_SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)


def skb_truesize(size: int) -> int:
    """What the sender is charged for a buffer of ``size`` bytes (sock_alloc_send_pskb): header from a slab, the rest in pages."""
    data_len = min(size, -(-max(size - SKB_MAX_HEAD, 0) // PAGE_SIZE) * PAGE_SIZE)
    head = -(-(size - data_len) // 64) * 64 + SIZEOF_SHARED_INFO
    slab = next(s for s in KMALLOC_SIZES if s >= head)
    return slab + SIZEOF_SKBUFF + -(-data_len // PAGE_SIZE) * PAGE_SIZE


class UnixSkb:
    """One buffer of a stream: its unread bytes, its sender, and what the sender was charged."""

    __slots__ = ("data", "offset", "sk", "truesize")

    def __init__(self, sk: "UnixSock", data: bytes) -> None:
        self.sk = sk
        self.data = data
        self.offset = 0
        self.truesize = skb_truesize(len(data))


class UnixTable:
    """Names of AF_UNIX sockets: paths, which outlive their socket, and abstract names, which do not."""

    __slots__ = ("autobind", "names")

    def __init__(self) -> None:
        self.names: dict[bytes, UnixSock] = {}
        self.autobind = 0


class UnixSock(Sock):
    """struct unix_sock."""

    __slots__ = ("addr", "connq", "peer", "peer_wait", "receive_queue", "table", "wmem_alloc")
    name = "unix"
    state_names: ClassVar[Mapping[int, str]] = {TCP_ESTABLISHED: "ESTABLISHED", TCP_CLOSE: "CLOSE", TCP_LISTEN: "LISTEN"}

    def __init__(self, sched: Sched, sysctl: Sysctl, table: UnixTable, type: int) -> None:
        if type != SOCK_STREAM:
            raise Unsupported(f"AF_UNIX sockets of type {type} are not modelled, only SOCK_STREAM")
        super().__init__(sched, sysctl, AF_UNIX, type, 0)
        self.table = table
        self.state = TCP_CLOSE
        self.addr = b""
        self.peer: UnixSock | None = None
        self.receive_queue: deque[UnixSkb] = deque()
        self.connq: deque[UnixSock] = deque()
        self.wmem_alloc = 0
        self.peer_wait = WaitQueue(self, "peer_wait")
        self.rcvbuf = self.sndbuf = sysctl.unix_wmem

    # --- names ---
    def bind(self, addr: Address) -> None:
        """unix_bind.  The empty name asks for an abstract one of the kernel's."""
        if isinstance(addr, tuple):
            raise oserror(errno.EINVAL)
        path = unix_path(addr)
        if self.addr:
            if not path:
                # unix_autobind: it has a name already, which will do.
                return
            raise oserror(errno.EINVAL)
        names = self.table.names
        if not path:
            while True:
                path = b"\0%05x" % self.table.autobind
                self.table.autobind += 1
                if path not in names:
                    break
        elif path in names:
            raise oserror(errno.EADDRINUSE)
        names[path] = self
        self.addr = path

    def getname(self, peer: bool) -> Address:
        if not peer:
            return unix_name(self.addr)
        if self.peer is None:
            raise oserror(errno.ENOTCONN)
        return unix_name(self.peer.addr)

    # --- connections ---
    def listening(self) -> bool:
        return self.state == TCP_LISTEN

    def listen(self, backlog: int) -> None:
        """unix_listen."""
        if not self.addr or self.state not in (TCP_CLOSE, TCP_LISTEN):
            raise oserror(errno.EINVAL)
        backlog = self.sysctl.somaxconn if not 0 <= backlog <= self.sysctl.somaxconn else backlog
        if backlog > self.backlog_max:
            wake_up_all(self.peer_wait)
        self.backlog_max = backlog
        self.state = TCP_LISTEN

    def connect(self, addr: Address, nonblock: bool) -> None:
        """unix_stream_connect: the connection is complete before anybody accepts it; with a full queue, EAGAIN or sleep."""
        if isinstance(addr, tuple):
            raise oserror(errno.EINVAL)
        path = unix_path(addr)
        if not path:
            raise oserror(errno.EINVAL)
        deadline = None if self.sndtimeo is None else self.sched.clock.now + self.sndtimeo
        while True:
            found = self.table.names.get(path)
            if found is None:
                raise oserror(errno.ECONNREFUSED if path[0] == 0 else errno.ENOENT)
            other = found
            if other.dead or other.state != TCP_LISTEN or other.shutdown_mask & RCV_SHUTDOWN:
                raise oserror(errno.ECONNREFUSED)
            if len(other.connq) <= other.backlog_max:
                break
            if nonblock:
                raise self.again("connect")
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            if not wait_event(
                self.sched,
                other.peer_wait,
                other.connect_may_go_on,
                left,
                exclusive=True,
            ):
                raise oserror(errno.EAGAIN)
        if self.state != TCP_CLOSE:
            raise oserror(errno.EISCONN if self.state == TCP_ESTABLISHED else errno.EINVAL)
        new = UnixSock(self.sched, self.sysctl, self.table, self.type)
        new.addr = other.addr
        new.peer = self
        new.state = TCP_ESTABLISHED
        self.peer = new
        self.state = TCP_ESTABLISHED
        assert self.socket is not None
        self.socket.state = SS_CONNECTED
        other.connq.append(new)
        self.sched.stalled = 0
        other.sk_data_ready()

    def connect_may_go_on(self) -> bool:
        """unix_wait_for_peer: whether whoever waits for room in this listener's queue has to look again."""
        return self.dead or bool(self.shutdown_mask & RCV_SHUTDOWN) or len(self.connq) <= self.backlog_max

    def accept(self, nonblock: bool) -> Sock:
        """unix_accept.  EINVAL unless it listens, or when it is shut down."""
        if self.state != TCP_LISTEN:
            raise oserror(errno.EINVAL)
        connq = self.connq
        if not connq:
            if nonblock:
                raise self.again("accept")
            if not wait_event(
                self.sched, self.wq, lambda: bool(connq) or bool(self.shutdown_mask & RCV_SHUTDOWN), self.rcvtimeo, exclusive=True
            ):
                raise oserror(errno.EAGAIN)
            if not connq:
                raise oserror(errno.EINVAL)
        new = connq.popleft()
        self.sched.stalled = 0
        wake_up(self.peer_wait)
        return new

    def accepted_name(self) -> Address:
        return unix_name(self.peer.addr) if self.peer is not None else ""

    # --- bytes ---
    def sendmsg(self, data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> int:
        """unix_stream_sendmsg: cut into buffers of at most half the send buffer, each queued and announced on its own."""
        if flags:
            if flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL):
                raise Unsupported(f"send on AF_UNIX with flags {flags:#x} is not modelled")
            nonblock = nonblock or bool(flags & MSG_DONTWAIT)
        peer = self.peer
        if peer is None:
            raise oserror(errno.ENOTCONN)
        if self.shutdown_mask & SEND_SHUTDOWN:
            raise oserror(errno.EPIPE)
        sent = 0
        total = len(data)
        largest = min((self.sndbuf >> 1) - 64, SKB_MAX_HEAD + UNIX_SKB_FRAGS_SZ)
        deadline = None if self.sndtimeo is None else self.sched.clock.now + self.sndtimeo
        while sent < total:
            try:
                self._alloc_send(nonblock, deadline)
            except OSError:
                if sent:
                    return sent
                raise
            if peer.dead or peer.shutdown_mask & RCV_SHUTDOWN:
                if sent:
                    return sent
                raise oserror(errno.EPIPE)
            skb = UnixSkb(self, data[sent : sent + largest])
            self.wmem_alloc += skb.truesize
            sent += len(skb.data)
            peer.receive_queue.append(skb)
            self.sched.stalled = 0
            peer.sk_data_ready()
        return sent

    def _alloc_send(self, nonblock: bool, deadline: int | None) -> None:
        """sock_alloc_send_pskb: wait until less than the send buffer is charged."""
        while True:
            if self.err:
                raise oserror(self.sock_error())
            if self.shutdown_mask & SEND_SHUTDOWN:
                raise oserror(errno.EPIPE)
            if self.wmem_alloc < self.sndbuf:
                return
            if nonblock:
                raise self.again("send")
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            if not wait_event(
                self.sched,
                self.wq,
                lambda: self.wmem_alloc < self.sndbuf or bool(self.err) or bool(self.shutdown_mask & SEND_SHUTDOWN),
                left,
            ):
                raise oserror(errno.EAGAIN)

    def recvmsg(self, n: int, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> bytes:
        """unix_stream_read_generic."""
        nonblock, peek, target = self.recv_flags(n, flags, nonblock)
        if self.state != TCP_ESTABLISHED:
            raise oserror(errno.EINVAL)
        queue = self.receive_queue
        deadline = None if self.rcvtimeo is None else self.sched.clock.now + self.rcvtimeo
        got = bytearray()
        peeked = 0
        while True:
            if peeked < len(queue):
                skb = queue[peeked]
                chunk = skb.data[skb.offset : skb.offset + n - len(got)]
                got += chunk
                if peek:
                    peeked += 1
                else:
                    skb.offset += len(chunk)
                    if skb.offset < len(skb.data):
                        break
                    queue.popleft()
                    skb.sk.sock_wfree(skb.truesize)
                if len(got) >= n:
                    break
                continue
            if len(got) >= target or peeked:
                # Peeking waits for the first buffer alone.
                break
            if self.err:
                # Taken even if there are bytes to return, so that nobody will see it.
                code = self.sock_error()
                if got:
                    break
                raise oserror(code)
            if self.shutdown_mask & RCV_SHUTDOWN:
                break
            if nonblock:
                if got:
                    break
                raise self.again("recv")
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            if not wait_event(
                self.sched,
                self.wq,
                lambda: (
                    len(queue) > peeked  # noqa: B023  called before the loop goes on
                    or bool(self.err)
                    or bool(self.shutdown_mask & RCV_SHUTDOWN)
                ),
                left,
            ):
                if got:
                    break
                raise oserror(errno.EAGAIN)
        if got:
            self.sched.stalled = 0
        return bytes(got)

    def sock_wfree(self, truesize: int) -> None:
        """A buffer of ours has been read: uncharge it, and tell the writers if three quarters are free."""
        self.wmem_alloc -= truesize
        if self.wq.entries and self.writable():
            wake_up(self.wq, KEY_WRITABLE)

    def writable(self) -> bool:
        """unix_writable."""
        return self.state != TCP_LISTEN and (self.wmem_alloc + 1) << 2 <= self.sndbuf

    def wakes_on_space(self) -> None:
        """unix_write_space."""
        if self.wq.entries and self.writable():
            wake_up(self.wq, KEY_WRITABLE)

    def fionread(self) -> int:
        if self.state == TCP_LISTEN:
            raise oserror(errno.EINVAL)
        return sum(len(skb.data) - skb.offset for skb in self.receive_queue)

    def setsockopt_proto(self, level: int, name: int, value: int | bytes) -> None:
        raise oserror(errno.EOPNOTSUPP)

    def getsockopt_proto(self, level: int, name: int) -> int:
        raise oserror(errno.EOPNOTSUPP)

    def may_scm_recv(self) -> bool:
        return True

    # --- state ---
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
        if self.writable():
            mask |= KEY_WRITABLE
        return mask

    def shutdown(self, how: int) -> None:
        """unix_shutdown: each direction is shut at both ends."""
        mode = how + 1
        self.shutdown_mask |= mode
        self.sk_state_change()
        peer = self.peer
        if peer is not None:
            peer.shutdown_mask |= (SEND_SHUTDOWN if mode & RCV_SHUTDOWN else 0) | (RCV_SHUTDOWN if mode & SEND_SHUTDOWN else 0)
            peer.sk_state_change()

    def close(self) -> None:
        """unix_release_sock."""
        self._release(embryo=False)

    def _release(self, embryo: bool) -> None:
        self.dead = True
        self.shutdown_mask = SHUTDOWN_MASK
        self.state = TCP_CLOSE
        wake_up_all(self.peer_wait)
        names = self.table.names
        if self.addr and self.addr[0] == 0 and names.get(self.addr) is self:
            del names[self.addr]
        peer = self.peer
        if peer is not None and not peer.dead:
            peer.shutdown_mask = SHUTDOWN_MASK
            if self.receive_queue or embryo:
                peer.err = errno.ECONNRESET
            peer.sk_state_change()
        while self.receive_queue:
            skb = self.receive_queue.popleft()
            skb.sk.sock_wfree(skb.truesize)
        while self.connq:
            self.connq.popleft()._release(embryo=True)

    def describe(self) -> str:
        def shown(addr: bytes) -> str:
            return addr.decode("utf-8", "backslashreplace").replace("\0", "@") or "unnamed"

        return f"unix {shown(self.addr)} <- {shown(self.peer.addr) if self.peer else 'nobody'}"


def unix_socketpair(sched: Sched, sysctl: Sysctl, table: UnixTable, type: int, f_flags: int) -> tuple[Socket, Socket]:
    """unix_socketpair: two unnamed sockets, each the other's peer."""
    a = UnixSock(sched, sysctl, table, type)
    b = UnixSock(sched, sysctl, table, type)
    a.peer, b.peer = b, a
    a.state = b.state = TCP_ESTABLISHED
    files = Socket(sched, a, f_flags), Socket(sched, b, f_flags)
    for file in files:
        file.state = SS_CONNECTED
    return files
