"""TCP over AF_INET (net/ipv4/af_inet.c, tcp.c, tcp_input.c, tcp_output.c).

The way of a byte: sendmsg -> write queue -> segment -> loopback -> NET_RX -> tcp_rcv -> receive queue -> sk_data_ready -> wake_up.

Kept from Linux: the states and their transitions, the masks of poll, errors and when they are reported, RST against FIN, the lock of a
socket and its backlog (why a non-blocking connect on loopback says EINPROGRESS although it is done), windows and send buffers.
Simplified: an acknowledgement takes effect at once instead of travelling; buffers count bytes without the kernel's overhead; there is no
loss, so nothing is retransmitted but SYNs to a full backlog; Nagle's algorithm, delayed ACKs and congestion windows don't delay anything,
nor does receive buffer autotuning.
"""

import errno
from collections import deque

from simkernel.api import Address
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.clock import Timer
from simkernel.kernel.net.inet import InetTable, is_local
from simkernel.kernel.net.skbuff import ACK, FIN, RST, SYN, SkBuff
from simkernel.kernel.net.socket import (
    KEY_READABLE,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_DISCONNECTING,
    SS_UNCONNECTED,
    Sock,
    Sysctl,
    int_option,
)
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import wait_event, wake_up
from simkernel.sockaddr import inet_addr, unix_path
from simkernel.uapi import (
    AF_INET,
    INADDR_ANY,
    INADDR_LOOPBACK,
    IPPROTO_TCP,
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_WAITALL,
    NSEC_PER_SEC,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    SOCK_STREAM,
    TCP_NODELAY,
)

TCP_ESTABLISHED = 1
TCP_SYN_SENT = 2
TCP_SYN_RECV = 3
TCP_FIN_WAIT1 = 4
TCP_FIN_WAIT2 = 5
TCP_TIME_WAIT = 6
TCP_CLOSE = 7
TCP_CLOSE_WAIT = 8
TCP_LAST_ACK = 9
TCP_LISTEN = 10
TCP_CLOSING = 11

STATE_NAMES = {
    TCP_ESTABLISHED: "ESTABLISHED",
    TCP_SYN_SENT: "SYN_SENT",
    TCP_SYN_RECV: "SYN_RECV",
    TCP_FIN_WAIT1: "FIN_WAIT1",
    TCP_FIN_WAIT2: "FIN_WAIT2",
    TCP_TIME_WAIT: "TIME_WAIT",
    TCP_CLOSE: "CLOSE",
    TCP_CLOSE_WAIT: "CLOSE_WAIT",
    TCP_LAST_ACK: "LAST_ACK",
    TCP_LISTEN: "LISTEN",
    TCP_CLOSING: "CLOSING",
}

KEY_WRITABLE = POLLOUT | POLLWRNORM | POLLWRBAND
# The largest segment on lo, whose MTU is 65,536.
MSS_LOOPBACK = 65483
# What the send buffer of an established connection on lo grows to (tcp_sndbuf_expand; measured with getsockopt on Linux 6.18).
SNDBUF_ESTABLISHED = 3939840
# When a SYN is sent again: four times a second apart, then doubling (tcp_syn_linear_timeouts, tcp_syn_retries).
SYN_LINEAR_TIMEOUTS = 4
SIZEOF_SOCKADDR_IN = 16
SYN_TIMEOUT = NSEC_PER_SEC


class TcpSock(Sock):
    """struct tcp_sock.

    ``lport`` is inet_num, the port it holds; ``sport`` inet_sport, which getsockname tells even when the port has been given back.
    The locks say what bind was told, and a reset keeps.

    ``snd_wnd`` is how many bytes the peer still takes, ``rcv_wnd`` what we told it; ``wmem_queued`` the bytes sent or to be sent that
    the peer has not received, ``unsent`` those still in the write queue.  ``write_seq`` and ``copied_seq`` count the bytes of the stream that the program wrote and read.
    """

    __slots__ = (
        "backlog",
        "bindaddr_lock",
        "bindport_lock",
        "copied_seq",
        "done",
        "fin_queued",
        "laddr",
        "lport",
        "nodelay",
        "nospace",
        "owned",
        "peer",
        "queue_offset",
        "raddr",
        "rcv_wnd",
        "receive_queue",
        "retries",
        "rmem",
        "rport",
        "snd_wnd",
        "sport",
        "table",
        "timer",
        "unsent",
        "window_clamp",
        "wmem_queued",
        "write_queue",
        "write_seq",
    )
    name = "tcp"
    state_names = STATE_NAMES

    def __init__(self, sched: Sched, sysctl: Sysctl, table: InetTable["TcpSock"]) -> None:
        super().__init__(sched, sysctl, AF_INET, SOCK_STREAM, IPPROTO_TCP)
        self.table = table
        self.state = TCP_CLOSE
        self.laddr = INADDR_ANY
        self.lport = 0
        self.sport = 0
        self.bindaddr_lock = False
        self.bindport_lock = False
        self.raddr = INADDR_ANY
        self.rport = 0
        self.peer: TcpSock | None = None
        self.rcvbuf = sysctl.tcp_rmem[1]
        self.sndbuf = sysctl.tcp_wmem[1]
        self.window_clamp = self.rcvbuf >> 1
        self.rcv_wnd = self.window_clamp
        self.snd_wnd = 0
        self.receive_queue: deque[bytes] = deque()
        self.queue_offset = 0
        self.rmem = 0
        self.write_queue: deque[bytes] = deque()
        self.wmem_queued = 0
        self.unsent = 0
        self.write_seq = 0
        self.copied_seq = 0
        self.fin_queued = False
        self.done = False
        self.nospace = False
        self.nodelay = 0
        self.owned = False
        self.backlog: deque[SkBuff] = deque()
        self.acceptq: deque[TcpSock] = deque()
        self.timer: Timer | None = None
        self.retries = 0

    # --- names ---
    def getname(self, peer: bool) -> Address:
        """inet_getname."""
        if not peer:
            return self.laddr, self.sport
        if not self.rport or self.state in (TCP_CLOSE, TCP_SYN_SENT):
            raise oserror(errno.ENOTCONN)
        return self.raddr, self.rport

    def accepted_name(self) -> Address:
        return self.raddr, self.rport

    def bind(self, addr: Address) -> None:
        """inet_bind."""
        host, port = inet_sockaddr(addr)
        if host != INADDR_ANY and not is_local(host):
            raise oserror(errno.EADDRNOTAVAIL)
        if self.state != TCP_CLOSE or self.lport:
            raise oserror(errno.EINVAL)
        self.laddr = host
        try:
            self.lport = self.table.get_port(self, port)
        except OSError:
            self.laddr = INADDR_ANY
            raise
        self.sport = self.lport
        self.bindaddr_lock = host != INADDR_ANY
        self.bindport_lock = port != 0

    # --- listening ---
    def listening(self) -> bool:
        return self.state == TCP_LISTEN

    def listen(self, backlog: int) -> None:
        """inet_listen: ``backlog + 1`` connections may wait; without bind, a port of the kernel's choice."""
        if (self.socket is not None and self.socket.state != SS_UNCONNECTED) or self.state not in (TCP_CLOSE, TCP_LISTEN):
            raise oserror(errno.EINVAL)
        self.backlog_max = self.sysctl.somaxconn if not 0 <= backlog <= self.sysctl.somaxconn else backlog
        if self.state == TCP_LISTEN:
            return
        self.set_state(TCP_LISTEN)
        try:
            if self.lport:
                self.table.check_listen(self)
            else:
                self.lport = self.table.get_port(self, 0)
        except OSError:
            self.inet_sk_set_state(TCP_CLOSE)
            raise
        self.sport = self.lport
        self.table.listeners.setdefault(self.lport, []).append(self)

    def listen_stop(self) -> None:
        """inet_csk_listen_stop: whoever waits to be accepted is reset."""
        while self.acceptq:
            child = self.acceptq.popleft()
            child.dead = True
            child.tcp_disconnect()

    def accept(self, nonblock: bool) -> Sock:
        """inet_csk_accept: sleepers are exclusive, the first to come is the first to be served."""
        if self.state != TCP_LISTEN:
            raise oserror(errno.EINVAL)
        acceptq = self.acceptq
        if not acceptq:
            if nonblock:
                raise self.again("accept")
            if not wait_event(
                self.sched, self.wq, lambda: bool(acceptq) or self.state != TCP_LISTEN, self.rcvtimeo, exclusive=True
            ):
                raise oserror(errno.EAGAIN)
            if self.state != TCP_LISTEN:
                raise oserror(errno.EINVAL)
        self.sched.stalled = 0
        return acceptq.popleft()

    # --- connecting ---
    def connect(self, addr: Address, nonblock: bool) -> None:
        """inet_stream_connect.  The SYN is answered on loopback at once, but the answer waits in the backlog while we hold the lock."""
        sock = self.socket
        assert sock is not None
        if sock.state == SS_CONNECTED or (sock.state == SS_UNCONNECTED and self.state != TCP_CLOSE):
            raise oserror(errno.EISCONN)
        if sock.state == SS_DISCONNECTING:
            raise oserror(errno.EINVAL)
        code = errno.EALREADY
        if sock.state == SS_UNCONNECTED:
            host, port = inet_sockaddr(addr)
            self.owned = True
            try:
                self.tcp_v4_connect(host, port)
                sock.state = SS_CONNECTING
                code = errno.EINPROGRESS
            finally:
                if nonblock or sock.state == SS_UNCONNECTED:
                    self.release_sock()
            if nonblock:
                raise oserror(code)
            self.release_sock()
        if self.state in (TCP_SYN_SENT, TCP_SYN_RECV):
            if nonblock:
                raise oserror(code)
            if not wait_event(self.sched, self.wq, lambda: self.state not in (TCP_SYN_SENT, TCP_SYN_RECV), self.sndtimeo):
                raise oserror(code)
        if self.state == TCP_CLOSE:
            code = self.sock_error() or errno.ECONNABORTED
            sock.state = SS_UNCONNECTED
            self.tcp_disconnect()
            raise oserror(code)
        sock.state = SS_CONNECTED
        self.sched.stalled = 0

    def tcp_v4_connect(self, host: str, port: int) -> None:
        """Choose addresses and a port, and send the SYN."""
        if host == INADDR_ANY:
            host = INADDR_LOOPBACK
        if not is_local(host):
            raise oserror(errno.ENETUNREACH)
        laddr = INADDR_LOOPBACK if self.laddr == INADDR_ANY else self.laddr
        self.table.hash_connect(self, laddr, host, port)
        self.laddr, self.sport = laddr, self.lport
        self.raddr, self.rport = host, port
        self.err = 0
        self.done = False
        self.set_state(TCP_SYN_SENT)
        self.retries = 0
        self.send_syn()

    def send_syn(self) -> None:
        """Send the SYN, and again when no answer comes (the backlog was full): tcp_connect, tcp_retransmit_timer."""
        shift = max(self.retries - SYN_LINEAR_TIMEOUTS, 0)
        self.timer = self.sched.clock.add_timer(SYN_TIMEOUT << shift, self.syn_timeout)
        self.table.device.loopback_xmit(SkBuff(self, None, SYN, b""))

    def syn_timeout(self) -> None:
        """The SYN was not answered in time."""
        self.timer = None
        if self.state != TCP_SYN_SENT:
            return
        if self.retries >= self.sysctl.tcp_syn_retries + SYN_LINEAR_TIMEOUTS:
            self.done_with_error(errno.ETIMEDOUT)
            return
        self.retries += 1
        self.send_syn()

    def established(self, window: int) -> None:
        """tcp_finish_connect and its twin for a child: buffers get their working size."""
        if self.timer is not None:
            self.sched.clock.del_timer(self.timer)
            self.timer = None
        self.set_state(TCP_ESTABLISHED)
        self.window_clamp = max(self.rcvbuf >> 1, 1)
        self.snd_wnd = window
        if not self.sndbuf_locked:
            self.sndbuf = max(self.sndbuf, min(SNDBUF_ESTABLISHED, self.sysctl.tcp_wmem[2]))

    # --- bytes out ---
    def sendmsg(self, data: bytes, flags: int, nonblock: bool) -> int:
        """tcp_sendmsg.  Returns how much was taken; with a full buffer EAGAIN, or sleeps until a third of it is free."""
        n = len(data)
        if (
            0 < n <= self.snd_wnd
            and n <= MSS_LOOPBACK
            and (not flags or flags == MSG_NOSIGNAL)
            and (self.state == TCP_ESTABLISHED or self.state == TCP_CLOSE_WAIT)
            and not self.write_queue
            and not self.shutdown_mask & SEND_SHUTDOWN
            and not self.err
            and not self.sched.explore
            and self.wmem_queued < self.sndbuf
        ):
            # The plain case: the peer takes it all, as one segment.
            self.snd_wnd -= n
            self.wmem_queued += n
            seq = self.write_seq
            self.write_seq = seq + n
            self.sched.stalled = 0
            self.table.device.loopback_xmit(SkBuff(self, self.peer, ACK, data, seq))
            return n
        return self.tcp_sendmsg_slow(data, flags, nonblock)

    def tcp_sendmsg_slow(self, data: bytes, flags: int, nonblock: bool) -> int:
        """The general case: wait for the connection, for space; cut into segments."""
        if flags:
            if flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE):
                raise Unsupported(f"send on TCP with flags {flags:#x} is not modelled")
            nonblock = nonblock or bool(flags & MSG_DONTWAIT)
        deadline = None if self.sndtimeo is None else self.sched.clock.now + self.sndtimeo
        if self.state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT):
            self.wait_connect(nonblock, deadline)
        if self.err or self.shutdown_mask & SEND_SHUTDOWN:
            raise oserror(self.sock_error() or errno.EPIPE)
        copied = 0
        total = len(data)
        # A segment is at most half of the peer's window (tcp_bound_to_half_wnd).
        peer = self.peer
        goal = MSS_LOOPBACK if peer is None else max(min(MSS_LOOPBACK, peer.window_clamp >> 1), 1)
        while copied < total:
            if self.wmem_queued >= self.sndbuf:
                self.nospace = True
                if nonblock:
                    if copied:
                        break
                    raise self.again("send")
                left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
                woken = wait_event(
                    self.sched,
                    self.wq,
                    lambda: self.wmem_queued < self.sndbuf or bool(self.err) or bool(self.shutdown_mask & SEND_SHUTDOWN),
                    left,
                )
                if not woken:
                    if copied:
                        break
                    raise oserror(errno.EAGAIN)
                if self.err or self.shutdown_mask & SEND_SHUTDOWN:
                    if copied:
                        break
                    raise oserror(self.sock_error() or errno.EPIPE)
                continue
            chunk = data[copied : copied + goal]
            copied += len(chunk)
            self.write_queue.append(chunk)
            self.wmem_queued += len(chunk)
            self.unsent += len(chunk)
            self.write_seq += len(chunk)
            self.sched.stalled = 0
            self.tcp_write_xmit()
            if self.err:
                # The segment was answered by a reset: what was taken counts, the error waits for the next call.
                break
        return copied

    def wait_connect(self, nonblock: bool, deadline: int | None) -> None:
        """sk_stream_wait_connect: EPIPE unless a connection is being made."""
        while self.state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT):
            if self.err:
                raise oserror(self.sock_error())
            if self.state not in (TCP_SYN_SENT, TCP_SYN_RECV):
                raise oserror(errno.EPIPE)
            if nonblock:
                raise self.again("send")
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            if not wait_event(self.sched, self.wq, lambda: self.state not in (TCP_SYN_SENT, TCP_SYN_RECV), left):
                raise oserror(errno.EAGAIN)

    def tcp_write_xmit(self) -> None:
        """Send what the peer's window takes; then the FIN, if one waits.  A choice may cut a segment anywhere."""
        queue = self.write_queue
        device = self.table.device
        sched = self.sched
        while queue and self.snd_wnd > 0:
            chunk = queue[0]
            n = min(len(chunk), self.snd_wnd)
            if sched.explore and n > 1:
                cut = sched.choice.pick(4, "segment")
                n = n if cut == 0 else 1 if cut == 1 else max(n >> 1, 1) if cut == 2 else n - 1
            if n < len(chunk):
                queue[0] = chunk[n:]
                chunk = chunk[:n]
            else:
                queue.popleft()
            self.snd_wnd -= n
            # Its place in the stream: what was written, less what still waits.
            seq = self.write_seq - self.unsent
            self.unsent -= n
            device.loopback_xmit(SkBuff(self, self.peer, ACK, chunk, seq))
        if self.fin_queued and not queue:
            self.fin_queued = False
            device.loopback_xmit(SkBuff(self, self.peer, FIN | ACK, b"", self.write_seq))

    def writable(self) -> bool:
        """sk_stream_is_writeable: free space of at least half of what is queued, so a third of the buffer."""
        queued = self.wmem_queued
        return self.sndbuf - queued >= queued >> 1 and queued < self.sndbuf

    def tcp_check_space(self) -> None:
        """The peer has taken bytes: if a writer found no space before, and there is enough now, wake it."""
        if self.nospace and self.writable() and not self.dead:
            self.nospace = False
            if self.wq.entries:
                wake_up(self.wq, KEY_WRITABLE)

    def set_rcvlowat(self, val: int) -> None:
        """tcp_set_rcvlowat: at most half of the receive buffer; with the new one there may be enough to read."""
        cap = self.rcvbuf if self.rcvbuf_locked else self.sysctl.tcp_rmem[2]
        self.rcvlowat = min(val, cap >> 1) or 1
        if self.done or self.epollin_ready():
            self.sk_data_ready()

    def epollin_ready(self) -> bool:
        """tcp_epollin_ready: enough to read, or no window left for more."""
        return self.rmem > 0 and (self.rmem >= self.rcvlowat or self.rcv_wnd <= 0)

    def wakes_on_space(self) -> None:
        """sk_stream_write_space."""
        if self.writable():
            self.nospace = False
            if self.wq.entries:
                wake_up(self.wq, KEY_WRITABLE)

    # --- bytes in ---
    def recvmsg(self, n: int, flags: int, nonblock: bool) -> bytes:
        """tcp_recvmsg."""
        queue = self.receive_queue
        if not queue and not nonblock and not flags and n and self.plain_wait():
            wait_event(self.sched, self.wq, self.sk_wait_data)
        if queue and not flags and not self.queue_offset and self.rcvlowat == 1:
            data = queue[0]
            got = len(data)
            if got <= n and (got == n or len(queue) == 1):
                # The plain case: one segment, read whole.
                queue.popleft()
                self.copied_seq += got
                self.rmem -= got
                self.sched.stalled = 0
                if self.rcv_wnd << 1 <= self.window_clamp:
                    self.tcp_cleanup_rbuf()
                return data
        return self.tcp_recvmsg_slow(n, flags, nonblock)

    def plain_wait(self) -> bool:
        """Whether a reader of an empty queue has nothing to do but sleep until something comes."""
        return self.state == TCP_ESTABLISHED and not self.shutdown_mask and not self.err and self.rcvtimeo is None

    def sk_wait_data(self) -> bool:
        """What a sleeping reader waits for: the first bytes, or that there will be none."""
        return self.rmem > 0 or self.err != 0 or self.shutdown_mask & RCV_SHUTDOWN != 0 or self.state == TCP_CLOSE

    def tcp_recvmsg_slow(self, n: int, flags: int, nonblock: bool) -> bytes:
        """The general case: several segments, parts of one, peeking, sleeping, errors."""
        peek = False
        target = min(self.rcvlowat, n) or 1
        if flags:
            if flags & ~(MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_NOSIGNAL):
                raise Unsupported(f"recv on TCP with flags {flags:#x} is not modelled")
            nonblock = nonblock or bool(flags & MSG_DONTWAIT)
            peek = bool(flags & MSG_PEEK)
            if flags & MSG_WAITALL:
                target = n or 1
        if self.state == TCP_LISTEN:
            raise oserror(errno.ENOTCONN)
        queue = self.receive_queue
        deadline = None if self.rcvtimeo is None else self.sched.clock.now + self.rcvtimeo
        got = bytearray()
        while True:
            if peek:
                got.clear()
                self.peek_into(got, n)
            elif queue:
                self.copy_into(got, n)
            copied = len(got)
            if copied >= n or copied >= target:
                # A read of nothing is done as soon as there is something it could have read.
                if n or queue:
                    break
            if copied:
                if nonblock or self.err or self.state == TCP_CLOSE or self.shutdown_mask & RCV_SHUTDOWN:
                    break
            elif not (n == 0 and queue):
                if self.done:
                    break
                if self.err:
                    raise oserror(self.sock_error())
                if self.shutdown_mask & RCV_SHUTDOWN:
                    break
                if self.state == TCP_CLOSE:
                    raise oserror(errno.ENOTCONN)
                if nonblock:
                    raise self.again("recv")
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            seen = self.rmem
            if not wait_event(
                self.sched,
                self.wq,
                lambda seen=seen: (  # type: ignore[misc]
                    self.rmem > seen or bool(self.err) or bool(self.shutdown_mask & RCV_SHUTDOWN) or self.state == TCP_CLOSE
                ),
                left,
            ):
                if got:
                    break
                raise oserror(errno.EAGAIN)
        if got:
            self.sched.stalled = 0
        return bytes(got)

    def copy_into(self, got: bytearray, n: int) -> None:
        """Move up to ``n`` bytes in all from the receive queue, and tell the peer about the space."""
        queue = self.receive_queue
        before = len(got)
        while queue and len(got) < n:
            data = queue[0]
            offset = self.queue_offset
            room = n - len(got)
            if len(data) - offset <= room:
                got += data[offset:] if offset else data
                queue.popleft()
                self.queue_offset = 0
            else:
                got += data[offset : offset + room]
                self.queue_offset = offset + room
        taken = len(got) - before
        if taken:
            self.copied_seq += taken
            self.rmem -= taken
            self.tcp_cleanup_rbuf()

    def peek_into(self, got: bytearray, n: int) -> None:
        """The same without taking them (MSG_PEEK)."""
        offset = self.queue_offset
        for data in self.receive_queue:
            got += data[offset : offset + n - len(got)]
            offset = 0
            if len(got) >= n:
                break

    def select_window(self) -> int:
        """__tcp_select_window: the space to offer; none rather than a little, so that the peer doesn't send crumbs."""
        clamp = self.window_clamp
        free = clamp - self.rmem
        if free < clamp >> 1 and (free < clamp >> 4 or free < min(MSS_LOOPBACK, clamp >> 1)):
            return 0
        return max(free, 0)

    def tcp_cleanup_rbuf(self) -> None:
        """The program has read: send a window update if the window has at least doubled."""
        now = self.rcv_wnd
        if self.shutdown_mask & RCV_SHUTDOWN or now << 1 > self.window_clamp:
            return
        new = self.select_window()
        if new and new >= now << 1:
            self.rcv_wnd = new
            peer = self.peer
            if peer is not None:
                self.table.device.loopback_xmit(SkBuff(self, peer, ACK, b"", self.write_seq, new))

    # --- segments ---
    def tcp_rcv(self, skb: SkBuff) -> None:
        """tcp_v4_rcv, once the socket is known: the common case first; a locked socket takes it from the backlog later."""
        data = skb.data
        if data and self.state == TCP_ESTABLISHED and not self.owned:
            # tcp_rcv_established -> tcp_data_queue: queue, acknowledge, wake the reader.
            n = len(data)
            self.receive_queue.append(data)
            rmem = self.rmem + n
            self.rmem = rmem
            clamp = self.window_clamp
            wnd = self.rcv_wnd - n
            new = clamp - rmem if rmem << 1 <= clamp else self.select_window()
            if new > wnd:
                wnd = new
            self.rcv_wnd = wnd
            if rmem >= self.rcvlowat:
                wq = self.wq
                if wq.entries:
                    wake_up(wq, KEY_READABLE)
            snd = skb.sk
            queued = snd.wmem_queued - n
            snd.wmem_queued = queued
            if queued:
                snd.tcp_ack(wnd)
            else:
                snd.snd_wnd = wnd
            if snd.nospace:
                snd.tcp_check_space()
            return
        if self.owned:
            self.backlog.append(skb)
            return
        self.tcp_rcv_state_process(skb)

    def release_sock(self) -> None:
        """Unlock: process what came meanwhile."""
        self.owned = False
        while self.backlog:
            self.tcp_rcv(self.backlog.popleft())

    def tcp_rcv_state_process(self, skb: SkBuff) -> None:
        """Everything but data on an established connection."""
        flags = skb.flags
        state = self.state
        if state == TCP_CLOSE:
            self.drop_to_closed(skb)
        elif state == TCP_LISTEN:
            if flags & SYN:
                self.tcp_conn_request(skb)
        elif state == TCP_SYN_SENT:
            self.tcp_rcv_synsent(skb)
        elif flags & RST:
            self.tcp_reset()
        elif state == TCP_SYN_RECV:
            self.tcp_rcv_synrecv(skb)
        elif skb.data:
            self.tcp_data_queue(skb)
        elif flags & FIN:
            self.tcp_fin(skb)
        elif skb.window:
            # A window update.
            self.tcp_ack(skb.sk.rcv_wnd)
            self.tcp_check_space()

    def tcp_ack(self, window: int) -> None:
        """tcp_ack: the peer's window counts from what it has received, so what is in flight is part of it; then go on sending."""
        if self.wmem_queued < self.unsent:
            # Acknowledges what was in flight when the write queue was purged.
            self.wmem_queued = self.unsent
        self.snd_wnd = window - (self.wmem_queued - self.unsent)
        if self.write_queue or self.fin_queued:
            self.tcp_write_xmit()

    def tcp_data_queue(self, skb: SkBuff) -> None:
        """Data in a state other than ESTABLISHED: half-closed by us, or nobody here to read it."""
        if self.shutdown_mask & RCV_SHUTDOWN and self.state in (TCP_FIN_WAIT1, TCP_FIN_WAIT2):
            skb.sk.wmem_queued -= len(skb.data)
            self.send_reset(skb.sk)
            self.tcp_reset()
            return
        if self.state not in (TCP_FIN_WAIT1, TCP_FIN_WAIT2):
            return
        state = self.state
        self.state = TCP_ESTABLISHED
        try:
            self.tcp_rcv(skb)
        finally:
            self.state = state

    def tcp_fin(self, skb: SkBuff) -> None:
        """The peer sends no more."""
        self.shutdown_mask |= RCV_SHUTDOWN
        self.done = True
        state = self.state
        if state == TCP_ESTABLISHED:
            self.set_state(TCP_CLOSE_WAIT)
        elif state == TCP_FIN_WAIT1:
            self.set_state(TCP_CLOSING)
        elif state == TCP_FIN_WAIT2:
            self.tcp_time_wait()
        if not self.dead:
            self.sk_state_change()
        skb.sk.fin_acked()

    def fin_acked(self) -> None:
        """The peer has our FIN."""
        state = self.state
        if state == TCP_FIN_WAIT1:
            self.set_state(TCP_FIN_WAIT2)
            self.shutdown_mask |= SEND_SHUTDOWN
            if not self.dead:
                self.sk_state_change()
        elif state == TCP_CLOSING:
            self.tcp_time_wait()
        elif state == TCP_LAST_ACK:
            self.tcp_done()

    def tcp_conn_request(self, skb: SkBuff) -> None:
        """A SYN for a listener: a child in SYN_RECV answers it; dropped when more than the backlog wait already."""
        if len(self.acceptq) > self.backlog_max:
            return
        client = skb.sk
        child = TcpSock(self.sched, self.sysctl, self.table)
        child.laddr, child.lport = client.raddr, client.rport
        child.sport = child.lport
        child.bindaddr_lock = self.bindaddr_lock
        child.raddr, child.rport = client.laddr, client.lport
        child.reuseaddr, child.reuseport = self.reuseaddr, self.reuseport
        child.keepalive, child.nodelay, child.linger = self.keepalive, self.nodelay, self.linger
        child.rcvlowat, child.rcvtimeo, child.sndtimeo = self.rcvlowat, self.rcvtimeo, self.sndtimeo
        child.rcvbuf, child.rcvbuf_locked = self.rcvbuf, self.rcvbuf_locked
        child.sndbuf, child.sndbuf_locked = self.sndbuf, self.sndbuf_locked
        child.shutdown_mask = self.shutdown_mask
        child.window_clamp = child.rcv_wnd = max(child.rcvbuf >> 1, 1)
        child.peer = client
        child.set_state(TCP_SYN_RECV)
        self.table.device.loopback_xmit(SkBuff(child, client, SYN | ACK, b"", 0, child.rcv_wnd))

    def tcp_rcv_synsent(self, skb: SkBuff) -> None:
        """The answer to our SYN."""
        flags = skb.flags
        if flags & RST:
            self.tcp_reset()
            return
        if not flags & SYN:
            return
        if not flags & ACK:
            if skb.sk is self:
                # Connected to itself: a simultaneous open with one socket in both parts.
                self.peer = self
                self.established(self.rcv_wnd)
                self.sk_state_change()
                self.tcp_shutdown(self.shutdown_mask)
            return
        self.peer = skb.sk
        self.window_clamp = self.rcv_wnd = max(self.rcvbuf >> 1, 1)
        self.established(skb.window)
        # Whoever waits for us is woken before the third packet of the handshake wakes the listener.
        self.sk_state_change()
        self.table.device.loopback_xmit(SkBuff(self, skb.sk, ACK, b"", 0, self.rcv_wnd))

    def tcp_rcv_synrecv(self, skb: SkBuff) -> None:
        """The third packet of the handshake: the child joins the accept queue of its listener."""
        listener = self.table.lookup_listener(self.laddr, self.lport)
        if listener is None:
            self.send_reset(skb.sk)
            self.set_state(TCP_CLOSE)
            return
        self.established(skb.window or self.snd_wnd)
        self.table.inherit_port(self)
        listener.acceptq.append(self)
        # The listener's program had shut it down before it listened.
        self.tcp_shutdown(self.shutdown_mask)
        if skb.data or skb.flags & FIN:
            self.tcp_rcv(skb)
        listener.sk_data_ready()

    def drop_to_closed(self, skb: SkBuff) -> None:
        """A segment for a socket that is no more: answered by a reset, unless it is one."""
        skb.sk.wmem_queued -= len(skb.data)
        if skb.flags & RST or not (skb.data or skb.flags & (SYN | FIN)):
            return
        if skb.flags & FIN and not skb.data:
            # Both have closed: the FIN of a connection that was reset on the way here means nothing.
            skb.sk.tcp_reset()
            return
        self.send_reset(skb.sk)

    def send_reset(self, to: "TcpSock") -> None:
        """tcp_send_active_reset, tcp_v4_send_reset."""
        self.table.device.loopback_xmit(SkBuff(self, to, RST, b"", self.write_seq))

    def tcp_reset(self) -> None:
        """A RST has come: the error depends on the state; what was received stays readable."""
        state = self.state
        if state == TCP_CLOSE:
            return
        self.done_with_error(
            errno.ECONNREFUSED if state == TCP_SYN_SENT else errno.EPIPE if state == TCP_CLOSE_WAIT else errno.ECONNRESET
        )

    def done_with_error(self, code: int) -> None:
        """tcp_done_with_error."""
        self.err = code
        self.purge_write_queue()
        self.tcp_done()
        if not self.dead:
            self.sk_error_report()

    def purge_write_queue(self) -> None:
        """tcp_write_queue_purge: what was not sent is lost."""
        self.write_queue.clear()
        self.wmem_queued = self.unsent = 0
        self.fin_queued = False

    # --- ends ---
    def set_state(self, state: int) -> None:
        """tcp_set_state: a closed socket is found by nobody, and gives its port back unless bind asked for that one."""
        if state == TCP_CLOSE:
            self.table.unhash(self)
            if not self.bindport_lock:
                self.table.put_port(self)
        self.inet_sk_set_state(state)

    def inet_sk_set_state(self, state: int) -> None:
        """The state alone."""
        trace = self.sched.trace
        if trace.on:
            trace.emit(
                "inet_sock_set_state",
                "tcp_set_state",
                ("sk", self.ino, "sport", self.sport, "dport", self.rport)
                + ("oldstate", STATE_NAMES[self.state], "newstate", STATE_NAMES[state]),
            )
        self.state = state

    def tcp_done(self) -> None:
        """The connection is over."""
        if self.timer is not None:
            self.sched.clock.del_timer(self.timer)
            self.timer = None
        self.set_state(TCP_CLOSE)
        self.shutdown_mask = SHUTDOWN_MASK
        if self.dead:
            self.table.put_port(self)
        else:
            self.sk_state_change()

    def tcp_time_wait(self) -> None:
        """We closed first: the port stays taken for a minute, the socket itself is done."""
        self.table.time_wait(self)
        self.tcp_done()

    def close_state(self) -> bool:
        """tcp_close_state: where closing our side leads; True if a FIN is to be sent."""
        state = self.state
        if state in (TCP_ESTABLISHED, TCP_SYN_RECV):
            self.set_state(TCP_FIN_WAIT1)
            return True
        if state == TCP_CLOSE_WAIT:
            self.set_state(TCP_LAST_ACK)
            return True
        if state == TCP_SYN_SENT:
            self.tcp_done()
        return False

    def send_fin(self) -> None:
        """tcp_send_fin: behind what is still to be sent."""
        self.fin_queued = True
        self.tcp_write_xmit()

    def shutdown(self, how: int) -> None:
        """inet_shutdown."""
        mode = how + 1
        sock = self.socket
        assert sock is not None
        if sock.state == SS_CONNECTING:
            sock.state = SS_DISCONNECTING if self.state in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE) else SS_CONNECTED
        state = self.state
        if state == TCP_LISTEN or state == TCP_SYN_SENT:
            if state == TCP_SYN_SENT or mode & RCV_SHUTDOWN:
                self.tcp_disconnect()
                sock.state = SS_UNCONNECTED
        else:
            self.shutdown_mask |= mode
            self.tcp_shutdown(mode)
        self.sk_state_change()
        if state == TCP_CLOSE:
            raise oserror(errno.ENOTCONN)

    def tcp_shutdown(self, mode: int) -> None:
        """tcp_shutdown: send a FIN if there is a connection to be ended."""
        if mode & SEND_SHUTDOWN and self.state in (TCP_ESTABLISHED, TCP_CLOSE_WAIT) and self.close_state():
            self.send_fin()

    def close(self) -> None:
        """__tcp_close: with unread bytes, or SO_LINGER of 0 seconds, a reset; else a FIN behind what is still to be sent."""
        self.shutdown_mask = SHUTDOWN_MASK
        state = self.state
        if state == TCP_LISTEN:
            self.set_state(TCP_CLOSE)
            self.listen_stop()
        elif state != TCP_CLOSE:
            unread = self.rmem
            self.receive_queue.clear()
            self.rmem = 0
            if unread:
                self.set_state(TCP_CLOSE)
                self.abort()
            elif self.linger == (1, 0):
                self.tcp_disconnect()
            elif self.close_state():
                self.send_fin()
        if self.state == TCP_CLOSE:
            self.table.put_port(self)

    def abort(self) -> None:
        """Reset the peer, and forget what was to be sent."""
        self.purge_write_queue()
        if self.peer is not None:
            self.send_reset(self.peer)

    def tcp_disconnect(self) -> None:
        """Back to a fresh socket; the peer, if there is one, is reset.  A bound port is kept."""
        state = self.state
        if self.timer is not None:
            self.sched.clock.del_timer(self.timer)
            self.timer = None
        if state != TCP_CLOSE:
            self.set_state(TCP_CLOSE)
        if state == TCP_LISTEN:
            self.listen_stop()
        elif state not in (TCP_CLOSE, TCP_SYN_SENT, TCP_TIME_WAIT):
            self.abort()
            self.err = errno.ECONNRESET
        elif state == TCP_SYN_SENT:
            self.err = errno.ECONNRESET
        self.purge_write_queue()
        self.receive_queue.clear()
        self.rmem = self.queue_offset = 0
        self.peer = None
        self.rport = 0
        self.raddr = INADDR_ANY
        if not self.bindaddr_lock:
            self.laddr = INADDR_ANY
        self.shutdown_mask = 0
        self.done = False
        self.nospace = False
        self.rcv_wnd = self.window_clamp
        if not self.dead:
            self.sk_error_report()

    # --- poll and options ---
    def poll(self, table: PollTable | None) -> int:
        """tcp_poll."""
        if table is not None:
            table.qproc(self.wq)
        state = self.state
        if state == TCP_LISTEN:
            return POLLIN | POLLRDNORM if self.acceptq else 0
        shutdown = self.shutdown_mask
        mask = 0
        if shutdown or state == TCP_CLOSE:
            if shutdown == SHUTDOWN_MASK or state == TCP_CLOSE:
                mask = POLLHUP
            if shutdown & RCV_SHUTDOWN:
                mask |= POLLIN | POLLRDNORM | POLLRDHUP
        if state != TCP_SYN_SENT and state != TCP_SYN_RECV:
            if self.rmem and self.epollin_ready():
                mask |= POLLIN | POLLRDNORM
            if shutdown & SEND_SHUTDOWN:
                mask |= POLLOUT | POLLWRNORM
            else:
                queued = self.wmem_queued
                if not queued or self.writable():
                    mask |= POLLOUT | POLLWRNORM
                else:
                    self.nospace = True
        if self.err:
            mask |= POLLERR
        return mask

    def fionread(self) -> int:
        """tcp_ioctl SIOCINQ."""
        if self.state == TCP_LISTEN:
            raise oserror(errno.EINVAL)
        return self.rmem

    def setsockopt_proto(self, level: int, name: int, value: int | bytes) -> None:
        if level != IPPROTO_TCP or name != TCP_NODELAY:
            raise Unsupported(f"setsockopt(level {level}, option {name}) on TCP is not modelled")
        self.nodelay = int(bool(int_option(value)))

    def getsockopt_proto(self, level: int, name: int) -> int:
        if level != IPPROTO_TCP or name != TCP_NODELAY:
            raise Unsupported(f"getsockopt(level {level}, option {name}) on TCP is not modelled")
        return self.nodelay

    def describe(self) -> str:
        if self.state == TCP_LISTEN:
            return f"tcp {self.laddr}:{self.sport} listening"
        if not self.rport:
            return f"tcp {self.laddr}:{self.sport} unconnected"
        return f"tcp {self.laddr}:{self.sport} <- :{self.rport}"


def inet_sockaddr(addr: Address) -> tuple[str, int]:
    """A struct sockaddr_in: of another family it is EAFNOSUPPORT, but one that is too short for it EINVAL."""
    if isinstance(addr, tuple):
        return inet_addr(addr)
    path = unix_path(addr)
    length = 2 + len(path) + bool(path and path[0])
    raise oserror(errno.EINVAL if length < SIZEOF_SOCKADDR_IN else errno.EAFNOSUPPORT)


def tcp_v4_rcv(skb: SkBuff) -> None:
    """Find the socket of a segment and give it to it; a SYN that finds none is refused."""
    dst = skb.dst
    if dst is None:
        sk = skb.sk
        table = sk.table
        if (sk.laddr, sk.lport) == (sk.raddr, sk.rport):
            dst = sk
        else:
            dst = table.lookup_listener(sk.raddr, sk.rport)
            if dst is None:
                table.device.loopback_xmit(SkBuff(sk, sk, RST, b""))
                return
    dst.tcp_rcv(skb)
