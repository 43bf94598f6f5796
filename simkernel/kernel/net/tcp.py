"""TCP: what a program calls (net/ipv4/af_inet.c, tcp.c); the other tcp files do the rest.

The way of a byte: sendmsg -> write queue -> segment -> loopback or link -> NET_RX -> tcp_rcv -> receive queue -> sk_data_ready -> wake_up.

Kept from Linux: the states and their transitions, the masks of poll, errors and when they are reported, RST against FIN, the lock of a
socket and its backlog (why a non-blocking connect on loopback says EINPROGRESS although it is done), windows and send buffers, urgent
data, what TCP_CORK and MSG_MORE hold back and for how long, TCP_DEFER_ACCEPT, lingering.

Simplified: an acknowledgement takes effect at once instead of travelling, or of waiting up to 40 ms.  So Nagle's algorithm has nothing to
wait for: on Linux, without TCP_NODELAY, the second of two small writes of a program that has been answered before comes some 40 ms after
the first, here at once.  What MSG_MORE holds goes with each segment from the peer, on Linux not with those that header prediction takes;
and urgent data pushes what follows it only until it is acknowledged, here at once.  Buffers count bytes without the kernel's overhead;
on lo there is no loss, so nothing is retransmitted but SYNs to a full backlog; congestion windows don't delay anything, nor does receive
buffer autotuning.  A peer that does not read is waited for without limit, whatever TCP_USER_TIMEOUT says, and an orphan in FIN_WAIT2 too.

Over a link (veth.py) data, SYNs, FINs, RSTs and window updates travel.  The acknowledgement of data and of a FIN, and the window that it
carries, take effect when the segment arrives, so a latency early; Nagle's algorithm waits for that.  A lost segment is sent again after a
timeout only, never sooner (no fast retransmit), what is sent behind it waits, and a RST is sent again as well (tcp_timer.py).  Segments
are as big as on lo (as with TSO).
"""

import errno

from simkernel.api import Address
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.clock import Timer
from simkernel.kernel.net.af_inet import InetSock, inet6_sockaddr, inet_sockaddr, is_multicast, needs_scope, show
from simkernel.kernel.net.inet import InetTable, is_ipv4
from simkernel.kernel.net.netdevice import NetDevice
from simkernel.kernel.net.skbuff import ACK, SkBuff
from simkernel.kernel.net.socket import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_DISCONNECTING,
    SS_UNCONNECTED,
    MsgHdr,
    Sock,
    Sysctl,
)
from simkernel.kernel.net.tcp_input import release_sock
from simkernel.kernel.net.tcp_output import (
    segment_size,
    tcp_cleanup_rbuf,
    tcp_push_pending_frames,
    tcp_send_fin,
    tcp_send_reset,
    tcp_send_syn,
)
from simkernel.kernel.net.tcp_recvmsg import tcp_ioctl, tcp_recvmsg_locked
from simkernel.kernel.net.tcp_sendmsg import tcp_sendmsg_locked
from simkernel.kernel.net.tcp_sockopt import do_tcp_getsockopt, do_tcp_setsockopt
from simkernel.kernel.net.tcp_states import (
    KEY_WRITABLE,
    MSS_LOOPBACK,
    STATE_NAMES,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_MSS_DEFAULT,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
    TCP_URG_VALID,
)
from simkernel.kernel.net.tcp_timer import RtxQueue
from simkernel.kernel.net.veth import VethDev
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import TaskWait, finish_wait, prepare_to_wait, wait_event, wake_up
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    ERESTARTSYS,
    FIONREAD,
    IN6ADDR_ANY,
    INADDR_ANY,
    IPPROTO_TCP,
    MSG_NOSIGNAL,
    NSEC_PER_SEC,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLPRI,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRNORM,
    SIOCATMARK,
    SIOCOUTQ,
    SIOCOUTQNSD,
    SOCK_STREAM,
)

# Who waits to be accepted by a socket that does not listen.
NOBODY: "list[TcpSock]" = []


class TcpSock(InetSock):
    """struct tcp_sock.

    ``snd_wnd`` is how many bytes the peer still takes, ``rcv_wnd`` what we told it; ``wmem_queued`` the bytes sent or to be sent that
    the peer has not received, ``unsent`` those still in the write queue.  ``write_seq`` and ``copied_seq`` count the bytes of the
    stream that the program wrote and read.  ``device`` leads to the peer; ``rtx`` is what a link has lost, where there is one.
    """

    __slots__ = (
        "backlog",
        "copied_seq",
        "cork",
        "defer_accept",
        "device",
        "done",
        "eor",
        "fin_queued",
        "mapped",
        "max_window",
        "mss_cache",
        "nodelay",
        "nospace",
        "notsent_lowat",
        "owned",
        "peer",
        "queue_offset",
        "rcv_wnd",
        "receive_queue",
        "retrans_stamp",
        "retries",
        "rmem",
        "rtx",
        "snd_up",
        "snd_wnd",
        "syn_retries",
        "table",
        "timer",
        "unsent",
        "urg_data",
        "urg_seq",
        "user_timeout",
        "window_clamp",
        "wmem_queued",
        "write_queue",
        "write_seq",
    )
    name = "tcp"
    state_names = STATE_NAMES

    def __init__(self, sched: Sched, sysctl: Sysctl, table: InetTable, family: int = AF_INET) -> None:
        super().__init__(sched, sysctl, table.net, family, SOCK_STREAM, IPPROTO_TCP)
        self.table = table
        self.device: NetDevice = table.device
        self.peer: TcpSock | None = None
        self.rtx: RtxQueue | None = None
        self.rcvbuf = sysctl.tcp_rmem[1]
        self.sndbuf = sysctl.tcp_wmem[1]
        self.window_clamp = self.rcvbuf >> 1
        self.rcv_wnd = self.window_clamp
        self.snd_wnd = 0
        self.max_window = 0
        self.mss_cache = TCP_MSS_DEFAULT
        self.receive_queue: list[bytes] = []
        self.queue_offset = 0
        self.rmem = 0
        self.write_queue: list[bytes] = []
        self.wmem_queued = 0
        self.unsent = 0
        self.write_seq = 0
        self.copied_seq = 0
        self.fin_queued = False
        self.done = False
        self.nospace = False
        self.nodelay = 0
        self.mapped = False
        self.cork = False
        self.defer_accept = 0
        self.syn_retries = 0
        self.user_timeout = 0
        self.notsent_lowat = 0
        self.retrans_stamp = 0
        self.eor = False
        self.snd_up = 0
        self.urg_data = 0
        self.urg_seq = 0
        self.owned = False
        self.backlog: list[SkBuff] = []
        # Of a listener its own.
        self.acceptq = NOBODY
        self.timer: Timer | None = None
        self.retries = 0

    def get_port(self, port: int) -> int:
        return self.table.get_port(self, port)

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
        self.acceptq = []
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
            child = self.acceptq.pop(0)
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
            if not wait_event(self.sched, self.wq, lambda: bool(acceptq) or self.state != TCP_LISTEN, self.rcvtimeo, exclusive=True):
                raise oserror(errno.EAGAIN)
            if self.state != TCP_LISTEN:
                raise oserror(errno.EINVAL)
        self.sched.stalled = 0
        return acceptq.pop(0)

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
            self.owned = True
            try:
                if self.family == AF_INET:
                    self.tcp_v4_connect(*inet_sockaddr(addr))
                else:
                    self.tcp_v6_connect(*inet6_sockaddr(addr))
                sock.state = SS_CONNECTING
                code = errno.EINPROGRESS
            finally:
                if nonblock or sock.state == SS_UNCONNECTED:
                    release_sock(self)
            if nonblock:
                raise oserror(code)
            release_sock(self)
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
        """Over IPv4."""
        self.tcp_connect(*self.route_v4(host), port)

    def tcp_v6_connect(self, host: str, port: int, scope_id: int) -> None:
        """Over IPv6, or over IPv4 to an address that is mapped.  :: is this machine."""
        if host == IN6ADDR_ANY:
            host = self.this_machine()
        if is_ipv4(host):
            if self.ipv6only:
                raise oserror(errno.ENETUNREACH)
            self.tcp_v4_connect(host, port)
            self.mapped = True
            return
        if needs_scope(host) and not is_multicast(host) and not scope_id:
            raise oserror(errno.EINVAL)
        laddr, host = self.route_v6(host)
        if self.mapped:
            # Linux goes on sending over IPv4 (icsk_af_ops stays ipv6_mapped), so that no SYN arrives.
            raise Unsupported("connecting a TCP socket to an IPv6 address after an IPv4 one is not modelled")
        self.tcp_connect(laddr, host, port)

    def tcp_connect(self, laddr: str, host: str, port: int) -> None:
        """Take a port, and send the SYN."""
        self.table.hash_connect(self, laddr, host, port)
        self.laddr, self.sport = laddr, self.lport
        self.raddr, self.rport = host, port
        self.set_device(self.net.route(host))
        self.err = 0
        self.done = False
        self.set_state(TCP_SYN_SENT)
        self.retries = 0
        tcp_send_syn(self)

    def set_device(self, device: NetDevice) -> None:
        """sk_dst_set: the way to the peer."""
        self.device = device
        self.rtx = RtxQueue(self, device) if isinstance(device, VethDev) else None

    def host_unreachable(self, ends: tuple[int, int, int, int]) -> None:
        """tcp_v4_err: nobody has the address that the SYN went to, if that is still what we wait for."""
        if self.state == TCP_SYN_SENT and (self.sport, self.rport) == ends[:2]:
            self.done_with_error(errno.EHOSTUNREACH)

    # --- bytes out ---
    def sendmsg(self, data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> int:
        """tcp_sendmsg.  Returns how much was taken; with a full buffer EAGAIN, or sleeps until a third of it is free."""
        n = len(data)
        if (
            0 < n <= self.snd_wnd
            and n <= MSS_LOOPBACK
            and n << 1 <= self.max_window
            and (not flags or flags == MSG_NOSIGNAL)
            and (self.state == TCP_ESTABLISHED or self.state == TCP_CLOSE_WAIT)
            and not self.write_queue
            and not self.shutdown_mask & SEND_SHUTDOWN
            and not self.err
            and self.wmem_queued < self.sndbuf
            and not self.cork
            and self.rtx is None
            and (msg is None or not msg.control)
        ):
            # The plain case: the peer takes it all, as one segment.
            self.wmem_queued += n
            seq = self.write_seq
            self.write_seq = seq + n
            sched = self.sched
            sched.stalled = 0
            first = n
            if sched.explore and n > 1:
                first = segment_size(sched, n)
                if first < n:
                    # The rest waits its turn.
                    self.write_queue.append(data[first:])
                    self.unsent = n - first
                    self.eor = False
                    data = data[:first]
            self.snd_wnd -= first
            self.device.xmit(SkBuff(self, self.peer, ACK, data, seq))
            if first < n:
                tcp_push_pending_frames(self, self.cork)
            return n
        return tcp_sendmsg_locked(self, data, flags, nonblock, msg)

    def writable(self) -> bool:
        """__sk_stream_is_writeable: free space of at least half of what is queued, so a third of the buffer; and with TCP_NOTSENT_LOWAT
        less than half of that unsent."""
        queued = self.wmem_queued
        lowat = self.notsent_lowat
        return self.sndbuf - queued >= queued >> 1 and queued < self.sndbuf and (not lowat or self.unsent << 1 < lowat)

    def memory_free(self) -> bool:
        """sk_stream_memory_free: whether a new segment may be queued."""
        return self.wmem_queued < self.sndbuf and (not self.notsent_lowat or self.unsent < self.notsent_lowat)

    def set_rcvlowat(self, val: int) -> None:
        """tcp_set_rcvlowat: at most half of the receive buffer; with the new one there may be enough to read."""
        cap = self.rcvbuf if self.rcvbuf_locked else self.sysctl.tcp_rmem[2]
        self.rcvlowat = val = min(val, cap >> 1) or 1
        if self.done or self.epollin_ready():
            self.sk_data_ready()
        if not self.rcvbuf_locked and val << 1 > self.rcvbuf:
            # The buffer grows with it.
            self.rcvbuf = val << 1
            if self.window_clamp < val:
                self.window_clamp = val

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
    def recvmsg(self, n: int, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> bytes:
        """tcp_recvmsg."""
        queue = self.receive_queue
        if not queue and not nonblock and not flags and n and self.plain_wait():
            self.sk_wait_data()
        if queue and not flags and not self.queue_offset and self.rcvlowat == 1 and not self.urg_data:
            data = queue[0]
            got = len(data)
            if got <= n and (got == n or len(queue) == 1):
                # The plain case: one segment, read whole.
                if len(queue) == 1:
                    queue.clear()
                else:
                    queue.pop(0)
                self.copied_seq += got
                self.rmem -= got
                self.sched.stalled = 0
                if self.rcv_wnd << 1 <= self.window_clamp:
                    tcp_cleanup_rbuf(self)
                return data
        return tcp_recvmsg_locked(self, n, flags, nonblock, msg)

    def plain_wait(self) -> bool:
        """Whether a reader of an empty queue has nothing to do but sleep until something comes."""
        return self.state == TCP_ESTABLISHED and not self.shutdown_mask and not self.err and self.rcvtimeo is None

    def sk_wait_data(self) -> None:
        """Sleep until there are bytes, or there will be none: wait_event, written out for what most sleepers wait for."""
        sched = self.sched
        task = sched.current
        entry = TaskWait(task)
        if sched.check_sleepers is not None:
            task.condition = self.may_read
        try:
            while True:
                prepare_to_wait(sched, self.wq, entry, exclusive=False)
                if task.sigpending:
                    raise oserror(ERESTARTSYS)
                sched.schedule()
                if self.may_read():
                    return
        finally:
            finish_wait(sched, entry)

    def may_read(self) -> bool:
        """Whether there are bytes, or there will be none."""
        return self.rmem > 0 or self.err != 0 or self.shutdown_mask & RCV_SHUTDOWN != 0 or self.state == TCP_CLOSE

    # --- segments ---
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
        if self.rtx is not None:
            self.rtx.purge()
        self.wmem_queued = self.unsent = 0
        self.fin_queued = False

    # --- ends ---
    def set_state(self, state: int) -> None:
        """tcp_set_state: a closed socket is found by nobody, and gives its port back unless bind asked for that one."""
        if state == TCP_CLOSE:
            self.table.unhash(self)
            if self.rtx is not None:
                self.table.requests.pop((self.laddr, self.sport, self.raddr, self.rport), None)
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
                (
                    *("sk", self.ino, "sport", self.sport, "dport", self.rport),
                    *("oldstate", STATE_NAMES[self.state], "newstate", STATE_NAMES[state]),
                ),
            )
        self.state = state

    def sk_clone(self, client: "TcpSock") -> "TcpSock":
        """sk_clone_lock, inet_csk_clone_lock: the child of a listener, with its options, for a connection to ``client``."""
        child = TcpSock(self.sched, self.sysctl, self.table, self.family)
        child.ipv6only = self.ipv6only
        child.laddr, child.lport = client.raddr, client.rport
        child.sport = child.lport
        child.bindaddr_lock = self.bindaddr_lock
        child.raddr, child.rport = client.laddr, client.lport
        child.reuseaddr, child.reuseport = self.reuseaddr, self.reuseport
        self.inherit_options(child)
        child.nodelay, child.cork = self.nodelay, self.cork
        child.syn_retries, child.user_timeout, child.notsent_lowat = self.syn_retries, self.user_timeout, self.notsent_lowat
        child.rcvbuf, child.rcvbuf_locked = self.rcvbuf, self.rcvbuf_locked
        child.sndbuf, child.sndbuf_locked = self.sndbuf, self.sndbuf_locked
        child.shutdown_mask = self.shutdown_mask
        child.window_clamp = child.rcv_wnd = max(child.rcvbuf >> 1, 1)
        child.peer = client
        if client.device is not self.device:
            child.set_device(client.device.peer)
        return child

    def tcp_done(self) -> None:
        """The connection is over."""
        if self.timer is not None:
            self.sched.clock.del_timer(self.timer)
            self.timer = None
        self.set_state(TCP_CLOSE)
        self.shutdown_mask = SHUTDOWN_MASK
        if self.dead:
            self.sk_free()
        else:
            self.sk_state_change()

    def sk_free(self) -> None:
        """inet_csk_destroy_sock: neither the program nor the protocol needs it any more."""
        self.table.put_port(self)
        self.peer = None

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

    def shutdown(self, how: int) -> None:
        """inet_shutdown."""
        mode = how + 1
        sock = self.socket
        assert sock is not None
        if sock.state == SS_CONNECTING:
            sock.state = SS_DISCONNECTING if self.state in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE) else SS_CONNECTED
        state = self.state
        if state in (TCP_LISTEN, TCP_SYN_SENT):
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
            tcp_send_fin(self)

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
                tcp_send_fin(self)
                if self.linger[0]:
                    self.stream_wait_close()
        if self.state == TCP_CLOSE:
            self.sk_free()

    def stream_wait_close(self) -> None:
        """sk_stream_wait_close: SO_LINGER waits, O_NONBLOCK or not, until the peer has everything; an exiting process does not."""
        closing = (TCP_FIN_WAIT1, TCP_CLOSING, TCP_LAST_ACK)
        if self.sched.current.process.exiting or self.state not in closing:
            return
        # Not an orphan yet: it is woken.
        self.dead = False
        try:
            wait_event(self.sched, self.wq, lambda: self.state not in closing, self.linger[1] * NSEC_PER_SEC)
        except OSError:
            # A signal ends the wait; close has succeeded.
            pass
        self.dead = True

    def abort(self) -> None:
        """Reset the peer, and forget what was to be sent."""
        self.purge_write_queue()
        if self.peer is not None:
            tcp_send_reset(self, self.peer)

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
        self.raddr = IN6ADDR_ANY if self.family == AF_INET6 else INADDR_ANY
        if not self.bindaddr_lock:
            self.reset_saddr()
        self.shutdown_mask = 0
        self.done = False
        self.nospace = False
        self.rcv_wnd = self.window_clamp
        self.write_seq = self.copied_seq = self.snd_up = self.urg_data = 0
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
            if self.urg_data:
                mask |= self.urgent_mask()
            elif self.rmem and (self.rmem >= self.rcvlowat or self.rcv_wnd <= 0):
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

    def urgent_mask(self) -> int:
        """What can be read where urgent data is known of: at the mark the urgent byte itself is nothing to read, unless it is inline."""
        target = self.rcvlowat + (self.urg_seq == self.copied_seq and not self.urginline)
        mask = POLLIN | POLLRDNORM if self.rmem and (self.rmem >= target or self.rcv_wnd <= 0) else 0
        return mask | POLLPRI if self.urg_data & TCP_URG_VALID else mask

    def fionread(self) -> int:
        return tcp_ioctl(self, FIONREAD)

    def siocoutq(self) -> int:
        return tcp_ioctl(self, SIOCOUTQ)

    def siocoutqnsd(self) -> int:
        return tcp_ioctl(self, SIOCOUTQNSD)

    def siocatmark(self) -> int:
        return tcp_ioctl(self, SIOCATMARK)

    def setsockopt_proto(self, level: int, name: int, value: int | bytes) -> None:
        do_tcp_setsockopt(self, level, name, value)

    def getsockopt_proto(self, level: int, name: int) -> int | bytes:
        return do_tcp_getsockopt(self, level, name)

    def describe(self) -> str:
        if self.state == TCP_LISTEN:
            return f"tcp {show(self.laddr, self.sport)} listening"
        if not self.rport:
            return f"tcp {show(self.laddr, self.sport)} unconnected"
        return f"tcp {show(self.laddr, self.sport)} <- :{self.rport}"
