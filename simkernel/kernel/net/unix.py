"""AF_UNIX sockets (net/unix/af_unix.c): names, connections, buffers, and what the three types share.

No device in between: a send queues its buffers on the peer's receive queue and wakes its readers.  The sender is charged for each buffer,
with the kernel's own overhead (truesize), until the peer has read all of it.
"""

import errno
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Final

from simkernel.api import Address
from simkernel.errors import oserror
from simkernel.kernel.namei import Vfs
from simkernel.kernel.net.garbage import InFlight
from simkernel.kernel.net.scm import NO_CREDS, ScmCookie, ScmFpList, Ucred, current_creds, scm_send, ucred_bytes
from simkernel.kernel.net.socket import (
    NO_PEERCRED,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SS_CONNECTED,
    MsgHdr,
    Sock,
    Socket,
    Sysctl,
)
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import WaitEntry, WaitQueue, remove_wait_queue, wait_event, wake_up, wake_up_all
from simkernel.sockaddr import unix_name, unix_path
from simkernel.uapi import (
    AF_UNIX,
    PAGE_SIZE,
    POLLOUT,
    POLLWRBAND,
    POLLWRNORM,
    SOCK_DGRAM,
    SOCK_NAMES,
    SOCK_STREAM,
)

TCP_ESTABLISHED: Final = 1
TCP_CLOSE: Final = 7
TCP_LISTEN: Final = 10

KEY_WRITABLE: Final = POLLOUT | POLLWRNORM | POLLWRBAND

# What a buffer costs beside its bytes (x86-64): struct sk_buff, skb_shared_info, and the slab sizes that kmalloc rounds up to.
SIZEOF_SKBUFF: Final = 256
SIZEOF_SHARED_INFO: Final = 320
SKB_MAX_HEAD: Final = PAGE_SIZE - SIZEOF_SHARED_INFO
SKB_MAX_ALLOC: Final = 4 * PAGE_SIZE - SIZEOF_SHARED_INFO
MAX_SKB_FRAGS: Final = 17
UNIX_SKB_FRAGS_SZ: Final = 32768
KMALLOC_SIZES: Final = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)


def skb_truesize(size: int, data_len: int) -> int:
    """What the sender is charged for a buffer of ``size`` bytes, ``data_len`` of them in pages (sock_alloc_send_pskb)."""
    head = -(-(size - data_len) // 64) * 64 + SIZEOF_SHARED_INFO
    if head <= KMALLOC_SIZES[-1]:
        slab = next(s for s in KMALLOC_SIZES if s >= head)
    else:
        # Whole pages, a power of two of them.
        slab = 1 << (head - 1).bit_length()
    return slab + SIZEOF_SKBUFF + -(-data_len // PAGE_SIZE) * PAGE_SIZE


# The same for one without pages, by its size in units of 64 bytes: so much of a page is left beside skb_shared_info.
HEAD_TRUESIZE: Final = [skb_truesize(64 * units, 0) for units in range((SKB_MAX_HEAD + 63) // 64 + 1)]


def stream_data_len(size: int) -> int:
    """How many bytes of a stream's buffer of ``size`` bytes lie in pages, and not in its head."""
    return min(size, -(-max(size - SKB_MAX_HEAD, 0) // PAGE_SIZE) * PAGE_SIZE)


def stream_truesize(size: int) -> int:
    """The charge for a buffer of a stream that fills its head and goes on in pages."""
    return skb_truesize(size, stream_data_len(size))


def dgram_truesize(size: int) -> int:
    """The charge for a datagram: four pages in one piece, then up to 17 single ones, and what is too big for these in one piece again."""
    data_len = min(max(size - SKB_MAX_ALLOC, 0), MAX_SKB_FRAGS * PAGE_SIZE)
    return skb_truesize(size, -(-data_len // PAGE_SIZE) * PAGE_SIZE)


class UnixCb:
    """UNIXCB: who sent a buffer, and the files that go with it."""

    __slots__ = ("creds", "fp")

    def __init__(self, creds: Ucred, fp: ScmFpList | None) -> None:
        self.creds = creds
        self.fp = fp


class UnixSkb:
    """One buffer: its bytes, how many of them have been read, its sender, and what that was charged.  ``cb`` None: creds and files none."""

    __slots__ = ("cb", "data", "offset", "sk", "truesize")

    def __init__(self, sk: "UnixSock", data: bytes, truesize: int) -> None:
        self.sk = sk
        self.data = data
        self.offset = 0
        self.truesize = truesize
        self.cb: UnixCb | None = None


class UnixTable:
    """Names of AF_UNIX sockets, and the sockets in flight.

    A path outlives its socket, until it is unlinked; its socket is known by the inode and not by the name, for it can be reached by
    other paths, and not once it is unlinked.  An abstract name lives as long as its socket, and each type of socket has its own; the key
    is (type, name).
    """

    __slots__ = ("abstract", "autobind", "inflight", "paths", "vfs")

    def __init__(self, vfs: Vfs) -> None:
        self.vfs = vfs
        self.abstract: dict[tuple[int, bytes], UnixSock] = {}
        self.paths: dict[int, UnixSock] = {}
        self.autobind = 0
        self.inflight = InFlight()

    def find(self, path: bytes, type: int) -> "UnixSock":
        """unix_find_other: the socket of this name.

        ENOENT for a path that is not there, ECONNREFUSED for one whose socket has gone or that is no socket, and for an abstract name that
        nobody has, EPROTOTYPE for a path whose socket is of another type.
        """
        if path[0] == 0:
            sk = self.abstract.get((type, path))
            if sk is None:
                raise oserror(errno.ECONNREFUSED)
            return sk
        sk = self.paths.get(self.vfs.find_socket(path).i_ino)
        if sk is None:
            raise oserror(errno.ECONNREFUSED)
        if sk.type != type:
            raise oserror(errno.EPROTOTYPE)
        return sk

    def bind_bsd(self, sk: "UnixSock", path: bytes) -> None:
        """unix_bind_bsd: make the node of a path.  EADDRINUSE if there is anything of that name, and only then EINVAL for a second name."""
        try:
            if sk.addr:
                self.vfs.may_mknod(path)
                raise oserror(errno.EINVAL)
            node = self.vfs.mknod_socket(path)
        except FileExistsError:
            raise oserror(errno.EADDRINUSE) from None
        self.paths[node.i_ino] = sk
        sk.path_ino = node.i_ino
        sk.addr = path

    def release(self, sk: "UnixSock") -> None:
        """The socket is closed: its abstract name is free, its path is stale."""
        addr = sk.addr
        if not addr:
            return
        if addr[0] == 0:
            if self.abstract.get((sk.type, addr)) is sk:
                del self.abstract[sk.type, addr]
        elif sk.path_ino:
            del self.paths[sk.path_ino]
            sk.path_ino = 0


class PeerWake(WaitEntry):
    """Queued on the peer_wait of a peer that takes no more, to relay its wake-up to those who wait to write to ``sk``."""

    __slots__ = ("sk",)

    def __init__(self, sk: "UnixSock") -> None:
        super().__init__()
        self.sk = sk

    def func(self, key: int) -> int:
        """unix_dgram_peer_wake_relay: the peer's queue has room again, or the peer has gone; pass it on, once."""
        remove_wait_queue(self)
        if self.sk.wq.entries:
            wake_up(self.sk.wq, key)
        return 0


class UnixSock(Sock):
    """struct unix_sock.  ``backlog_max`` bounds both the connections of a listener and the datagrams of others in a receive queue."""

    __slots__ = (
        "addr",
        "connq",
        "listener",
        "path_ino",
        "peer",
        "peer_creds",
        "peer_wait",
        "peer_wake",
        "receive_queue",
        "table",
        "wmem_alloc",
    )
    name = "unix"
    state_names: ClassVar[Mapping[int, str]] = {TCP_ESTABLISHED: "ESTABLISHED", TCP_CLOSE: "CLOSE", TCP_LISTEN: "LISTEN"}

    def __init__(self, sched: Sched, sysctl: Sysctl, table: UnixTable, type: int) -> None:
        super().__init__(sched, sysctl, AF_UNIX, type, 0)
        self.table = table
        self.state = TCP_CLOSE
        self.addr = b""
        # The inode of its path, 0 if it has none.
        self.path_ino = 0
        self.peer: UnixSock | None = None
        self.receive_queue: deque[UnixSkb] = deque()
        self.connq: deque[UnixSock] = deque()
        # Of a connection that is not accepted yet: in whose queue it waits.
        self.listener: UnixSock | None = None
        self.wmem_alloc = 0
        self.peer_wait = WaitQueue(self, "peer_wait")
        self.peer_wake = PeerWake(self)
        self.peer_creds: Ucred | None = None
        self.backlog_max = sysctl.max_dgram_qlen
        self.rcvbuf = self.sndbuf = sysctl.unix_wmem

    def create1(self) -> "UnixSock":
        """unix_create1: another socket of this type."""
        raise NotImplementedError

    # --- names ---
    def bind(self, addr: Address) -> None:
        """unix_bind.  The empty name asks for an abstract one of the kernel's."""
        if isinstance(addr, tuple):
            raise oserror(errno.EINVAL)
        path = unix_path(addr)
        table = self.table
        if not path:
            self.autobind()
        elif path[0] == 0:
            if self.addr:
                raise oserror(errno.EINVAL)
            if (self.type, path) in table.abstract:
                raise oserror(errno.EADDRINUSE)
            table.abstract[self.type, path] = self
            self.addr = path
        else:
            table.bind_bsd(self, path)

    def autobind(self) -> None:
        """unix_autobind: an abstract name of five hexadecimal digits, unless it has a name.  Linux begins at a random one."""
        if self.addr:
            return
        table = self.table
        while True:
            path = b"\0%05x" % table.autobind
            table.autobind = (table.autobind + 1) & 0xFFFFF
            if (self.type, path) not in table.abstract:
                break
        table.abstract[self.type, path] = self
        self.addr = path

    def getname(self, peer: bool) -> Address:
        if not peer:
            return unix_name(self.addr)
        if self.peer is None:
            raise oserror(errno.ENOTCONN)
        return unix_name(self.peer.addr)

    def peer_path(self, addr: Address) -> bytes:
        """unix_validate_addr: the name of a destination.  EINVAL for none and for another family's."""
        if isinstance(addr, tuple):
            raise oserror(errno.EINVAL)
        path = unix_path(addr)
        if not path:
            raise oserror(errno.EINVAL)
        return path

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
        # For connect to copy.
        self.peer_creds = current_creds(self.sched)

    def connect(self, addr: Address, nonblock: bool) -> None:
        """unix_stream_connect: the connection is complete before anybody accepts it; with a full queue, EAGAIN or sleep."""
        path = self.peer_path(addr)
        if self.passcred:
            self.autobind()
        try:
            self._connect(path, nonblock)
        except OSError:
            # The other end was made before all else, and its release collects.
            self.table.inflight.unix_gc()
            raise

    def _connect(self, path: bytes, nonblock: bool) -> None:
        deadline = None if self.sndtimeo is None else self.sched.clock.now + self.sndtimeo
        while True:
            other = self.table.find(path, self.type)
            if other.state != TCP_LISTEN or other.shutdown_mask & RCV_SHUTDOWN:
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
                promise=other.connector_is_told,
            ):
                raise oserror(errno.EAGAIN)
        if self.state != TCP_CLOSE:
            raise oserror(errno.EISCONN if self.state == TCP_ESTABLISHED else errno.EINVAL)
        new = self.create1()
        new.addr = other.addr
        new.peer = self
        new.listener = other
        new.state = TCP_ESTABLISHED
        new.passcred = other.passcred
        new.peer_creds = current_creds(self.sched)
        self.peer_creds = other.peer_creds
        self.peer = new
        self.state = TCP_ESTABLISHED
        assert self.socket is not None
        self.socket.state = SS_CONNECTED
        other.connq.append(new)
        self.sched.stalled = 0
        other.sk_data_ready()

    def connect_may_go_on(self) -> bool:
        """unix_wait_for_peer: whether whoever waits for room in this listener's queue has to look again."""
        return self.connector_is_told() or bool(self.shutdown_mask & RCV_SHUTDOWN)

    def connector_is_told(self) -> bool:
        """When who waits for room is woken.  A shutdown wakes nobody."""
        return self.dead or len(self.connq) <= self.backlog_max

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

    # --- buffers ---
    def alloc_send(self, nonblock: bool, deadline: int | None) -> None:
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
            if not wait_event(self.sched, self.wq, self._send_may_go_on, left, promise=self._sender_is_told):
                raise oserror(errno.EAGAIN)

    def _send_may_go_on(self) -> bool:
        """sock_wait_for_wmem."""
        return self.wmem_alloc < self.sndbuf or bool(self.err) or bool(self.shutdown_mask & SEND_SHUTDOWN)

    def _sender_is_told(self) -> bool:
        """A sleeping sender is woken when three quarters are free; awake for another reason it goes on with less."""
        return self.writable() or bool(self.err) or bool(self.shutdown_mask & SEND_SHUTDOWN)

    def scm_send(self, msg: MsgHdr) -> ScmCookie | None:
        """What the control messages of a send say; None if there are none."""
        return scm_send(self.sched, msg.control) if msg.control else None

    def scm_destroy(self, scm: ScmCookie | None) -> None:
        """The send is over: put the files that it has not queued."""
        if scm is not None and scm.fp is not None:
            fpl, scm.fp = scm.fp, None
            self.table.inflight.put_files(fpl)

    def fill_cb(self, skb: UnixSkb, other: "UnixSock", scm: ScmCookie | None) -> None:
        """unix_scm_to_skb and maybe_add_creds: who sends this buffer to ``other``, and with which files.

        Every buffer of a message has the credentials that its control messages gave, the first one the files.  Without any given it is
        the running process, if either end wants to know; a connection that is not accepted yet may want to later.
        """
        creds = None
        fpl = None
        if scm is not None:
            creds = scm.creds
            fpl, scm.fp = scm.fp, None
        if creds is None and (self.passcred or other.passcred or other.socket is None):
            creds = current_creds(self.sched)
        if creds is None and fpl is None:
            return
        skb.cb = UnixCb(creds or NO_CREDS, fpl)
        if fpl is not None:
            fpl.sockets = [file.sk for file in fpl.fp if isinstance(file.sk, UnixSock)]
            self.table.inflight.add_edges(fpl, other)

    def take_files(self, skb: UnixSkb) -> ScmFpList | None:
        """unix_detach_fds: what is received takes the files with it."""
        cb = skb.cb
        if cb is None or cb.fp is None:
            return None
        fpl, cb.fp = cb.fp, None
        self.table.inflight.del_edges(fpl)
        return fpl

    def kfree_skb(self, skb: UnixSkb) -> None:
        """Throw a queued buffer away, with its files (unix_destruct_scm)."""
        fpl = self.take_files(skb)
        if fpl is not None:
            self.table.inflight.put_files(fpl)
        skb.sk.sock_wfree(skb.truesize)

    def sock_wfree(self, truesize: int) -> None:
        """A buffer of ours has been read: uncharge it, and tell the writers if three quarters are free."""
        self.wmem_alloc -= truesize
        # While they are told, one byte of the buffer is still charged, and one always is.
        if self.wq.entries and self.state != TCP_LISTEN and (self.wmem_alloc + 2) << 2 <= self.sndbuf:
            wake_up(self.wq, KEY_WRITABLE)

    def writable(self) -> bool:
        """unix_writable."""
        return self.state != TCP_LISTEN and (self.wmem_alloc + 1) << 2 <= self.sndbuf

    def wakes_on_space(self) -> None:
        """unix_write_space."""
        if self.wq.entries and self.writable():
            wake_up(self.wq, KEY_WRITABLE)

    def splice_piece(self) -> int:
        """The rest of the first buffer's head, or of the page fragment after it."""
        skb = self.receive_queue[0]
        head = len(skb.data) - stream_data_len(len(skb.data))
        return head - skb.offset if skb.offset < head else UNIX_SKB_FRAGS_SZ - (skb.offset - head) % UNIX_SKB_FRAGS_SZ

    def recvq_full(self) -> bool:
        """unix_recvq_full, of datagrams."""
        return len(self.receive_queue) > self.backlog_max

    def unread(self) -> int:
        """The bytes that wait in the receive queue."""
        return sum(len(skb.data) - skb.offset for skb in self.receive_queue)

    def fionread(self) -> int:
        """unix_inq_len: of datagrams the length of the next, else the sum."""
        if self.state == TCP_LISTEN:
            raise oserror(errno.EINVAL)
        if self.type == SOCK_DGRAM:
            return len(self.receive_queue[0].data) if self.receive_queue else 0
        return self.unread()

    def siocoutq(self) -> int:
        """unix_outq_len: what is charged for buffers that are not read, overhead and all."""
        return self.wmem_alloc

    def siocatmark(self) -> int:
        """Only streams have urgent bytes."""
        raise oserror(errno.EOPNOTSUPP)

    # --- options ---
    def setsockopt_proto(self, level: int, name: int, value: int | bytes) -> None:
        raise oserror(errno.EOPNOTSUPP)

    def getsockopt_proto(self, level: int, name: int) -> int:
        raise oserror(errno.EOPNOTSUPP)

    def may_scm_recv(self) -> bool:
        return True

    def peercred(self) -> bytes:
        """SO_PEERCRED: a struct ucred, (0, -1, -1) if nobody has connected."""
        return ucred_bytes(self.peer_creds) if self.peer_creds is not None else NO_PEERCRED

    # --- state ---
    def shutdown(self, how: int) -> None:
        """unix_shutdown: each direction is shut at both ends, of datagrams at this one alone."""
        mode = how + 1
        self.shutdown_mask |= mode
        self.sk_state_change()
        peer = self.peer
        if peer is not None and self.type != SOCK_DGRAM:
            peer.shutdown_mask |= (SEND_SHUTDOWN if mode & RCV_SHUTDOWN else 0) | (RCV_SHUTDOWN if mode & SEND_SHUTDOWN else 0)
            peer.sk_state_change()

    def close(self) -> None:
        """unix_release_sock."""
        self._release(embryo=False)
        self.table.inflight.unix_gc()

    def _release(self, embryo: bool) -> None:
        self.table.release(self)
        self.dead = True
        self.shutdown_mask = SHUTDOWN_MASK
        self.state = TCP_CLOSE
        peer, self.peer = self.peer, None
        wake_up_all(self.peer_wait)
        if peer is not None:
            if self.type != SOCK_DGRAM and not peer.dead:
                peer.shutdown_mask = SHUTDOWN_MASK
                if embryo or self.loses_data():
                    peer.err = errno.ECONNRESET
                peer.sk_state_change()
            if self.peer_wake.wq is peer.peer_wait:
                remove_wait_queue(self.peer_wake)
        self.purge()
        while self.connq:
            self.connq.popleft()._release(embryo=True)

    def loses_data(self) -> bool:
        """Whether something is lost when this end is closed now: then the other end learns by ECONNRESET.

        An empty buffer at the head does not count: an urgent byte that was received has left one, or it is an empty packet.
        """
        queue = self.receive_queue
        if queue and queue[0].offset == len(queue[0].data):
            return len(queue) > 1
        return bool(queue)

    def purge(self) -> None:
        """Throw away what has been received."""
        while self.receive_queue:
            self.kfree_skb(self.receive_queue.popleft())

    def collect_queue(self, hitlist: list[UnixSkb]) -> None:
        """unix_collect_queue: nobody will read this queue, and of a listener those of its connections."""
        for sk in (self, *self.connq):
            hitlist += sk.receive_queue
            sk.receive_queue.clear()

    def describe(self) -> str:
        def shown(addr: bytes) -> str:
            return addr.decode("utf-8", "backslashreplace").replace("\0", "@") or "unnamed"

        kind = "" if self.type == SOCK_STREAM else SOCK_NAMES[self.type].removeprefix("SOCK_").lower() + " "
        return f"unix {kind}{shown(self.addr)} <- {shown(self.peer.addr) if self.peer else 'nobody'}"


def unix_socketpair(a: UnixSock, b: UnixSock, f_flags: int) -> tuple[Socket, Socket]:
    """unix_socketpair: two new sockets, each the other's peer."""
    a.sched.check_files(2)
    a.peer, b.peer = b, a
    a.state = b.state = TCP_ESTABLISHED
    a.peer_creds = b.peer_creds = current_creds(a.sched)
    files = Socket(a.sched, a, f_flags), Socket(b.sched, b, f_flags)
    for file in files:
        file.state = SS_CONNECTED
    return files
