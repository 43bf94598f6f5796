"""TCP: receiving (net/ipv4/tcp_input.c, tcp_ipv4.c, tcp_minisocks.c): what each segment does in each state."""

import errno
from typing import TYPE_CHECKING

from simkernel.kernel.net.netdevice import NetProtocol
from simkernel.kernel.net.skbuff import ACK, FIN, RST, SYN, URG, SkBuff, UrgentSkBuff
from simkernel.kernel.net.socket import KEY_READABLE, RCV_SHUTDOWN, SEND_SHUTDOWN
from simkernel.kernel.net.tcp_output import tcp_check_space, tcp_select_window, tcp_send_reset, tcp_sync_mss, tcp_write_xmit
from simkernel.kernel.net.tcp_states import (
    MSS_LOOPBACK,
    SNDBUF_ESTABLISHED,
    SYN_TIMEOUT,
    SYNACK_RETRIES,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_URG_NOTYET,
    TCP_URG_VALID,
)
from simkernel.kernel.wait import wake_up

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock


def tcp_v4_rcv(skb: SkBuff) -> None:
    """A segment arrives: the common case first; a locked socket takes it from its backlog later."""
    sk = skb.dst
    if sk is None:
        sk = tcp_v4_lookup(skb)
        if sk is None:
            return
    data = skb.data
    if data and sk.state == TCP_ESTABLISHED and not sk.owned:
        # tcp_rcv_established -> tcp_data_queue: queue, acknowledge, wake the reader.
        if skb.flags & URG:
            tcp_urg(sk, skb)
        n = len(data)
        sk.receive_queue.append(data)
        rmem = sk.rmem + n
        sk.rmem = rmem
        clamp = sk.window_clamp
        wnd = sk.rcv_wnd - n
        new = clamp - rmem if rmem << 1 <= clamp else tcp_select_window(sk)
        if new > wnd:
            wnd = new
        sk.rcv_wnd = wnd
        if rmem >= sk.rcvlowat:
            wq = sk.wq
            if wq.entries:
                wake_up(wq, KEY_READABLE)
        snd = skb.sk
        queued = snd.wmem_queued - n
        snd.wmem_queued = queued
        if queued:
            tcp_ack(snd, wnd)
        else:
            snd.snd_wnd = wnd
        if snd.nospace:
            tcp_check_space(snd)
        if sk.write_queue:
            # tcp_data_snd_check: a segment from the peer pushes what MSG_MORE held.
            tcp_write_xmit(sk, sk.cork)
        return
    if sk.owned:
        sk.backlog.append(skb)
        return
    tcp_rcv_state_process(sk, skb)


class TcpProtocol(NetProtocol):
    """tcp_protocol."""

    __slots__ = ()

    def handler(self, skb: SkBuff) -> None:
        tcp_v4_rcv(skb)


def tcp_v4_lookup(skb: SkBuff) -> "TcpSock | None":
    """__inet_lookup_skb: whom a SYN is for; one that finds nobody is refused."""
    client = skb.sk
    device = client.device
    # On lo our own ports, over a link those of the host at the other end.
    table = client.table if device.peer is device else device.peer.net.inet
    if (client.laddr, client.lport) == (client.raddr, client.rport):
        skb.dst = client
    else:
        skb.dst = table.lookup_listener(client.laddr, client.lport, client.raddr, client.rport)
        if skb.dst is None:
            device.peer.xmit(SkBuff(client, client, RST, b""))
    return skb.dst


def release_sock(sk: "TcpSock") -> None:
    """Unlock: process what came meanwhile."""
    sk.owned = False
    while sk.backlog:
        tcp_v4_rcv(sk.backlog.pop(0))


def tcp_rcv_state_process(sk: "TcpSock", skb: SkBuff) -> None:
    """Everything but data on an established connection."""
    flags = skb.flags
    state = sk.state
    if state == TCP_CLOSE:
        tcp_drop(sk, skb)
    elif state == TCP_LISTEN:
        if flags & SYN:
            tcp_conn_request(sk, skb)
    elif state == TCP_SYN_SENT:
        tcp_rcv_synsent(sk, skb)
    elif flags & RST:
        tcp_reset(sk)
    elif state == TCP_SYN_RECV:
        tcp_rcv_synrecv(sk, skb)
    elif skb.data:
        tcp_data_queue(sk, skb)
    elif flags & FIN:
        tcp_fin(sk, skb)
    elif skb.window:
        # A window update.
        tcp_ack(sk, skb.sk.rcv_wnd)
        tcp_check_space(sk)


def tcp_ack(sk: "TcpSock", window: int) -> None:
    """tcp_ack: the peer's window counts from what it has received, so what is in flight is part of it; then go on sending."""
    if sk.wmem_queued < sk.unsent:
        # Acknowledges what was in flight when the write queue was purged.
        sk.wmem_queued = sk.unsent
    sk.snd_wnd = window - (sk.wmem_queued - sk.unsent)
    if sk.write_queue or sk.fin_queued:
        tcp_write_xmit(sk, sk.cork)


def tcp_urg(sk: "TcpSock", skb: SkBuff) -> None:
    """tcp_urg, tcp_check_urg: an urgent pointer.  If its byte is in the segment, poll says so (POLLPRI) before the data is queued."""
    assert isinstance(skb, UrgentSkBuff)
    mark = skb.urg - 1
    rcv_nxt = sk.copied_seq + sk.rmem
    if mark >= rcv_nxt and not (sk.urg_data and mark <= sk.urg_seq):
        if sk.urg_data and sk.urg_seq == sk.copied_seq and sk.rmem and not sk.urginline:
            # The last urgent byte would come next: a newer one makes it vanish, and not become a byte like others.
            sk.copied_seq += 1
            sk.rmem -= 1
            sk.queue_offset += 1
            if sk.queue_offset == len(sk.receive_queue[0]):
                sk.receive_queue.pop(0)
                sk.queue_offset = 0
        sk.urg_data = TCP_URG_NOTYET
        sk.urg_seq = mark
    if sk.urg_data == TCP_URG_NOTYET:
        offset = sk.urg_seq - skb.seq
        if 0 <= offset < len(skb.data):
            sk.urg_data = TCP_URG_VALID | skb.data[offset]
            if not sk.dead:
                sk.sk_data_ready()


def tcp_data_queue(sk: "TcpSock", skb: SkBuff) -> None:
    """Data in a state other than ESTABLISHED: half-closed by us, or nobody here to read it."""
    if sk.shutdown_mask & RCV_SHUTDOWN and sk.state in (TCP_FIN_WAIT1, TCP_FIN_WAIT2):
        if skb.flags & URG:
            # The urgent pointer is looked at first.
            tcp_urg(sk, skb)
        tcp_uncharge(skb)
        tcp_send_reset(sk, skb.sk)
        tcp_reset(sk)
        return
    if sk.state not in (TCP_FIN_WAIT1, TCP_FIN_WAIT2):
        return
    state = sk.state
    sk.state = TCP_ESTABLISHED
    try:
        tcp_v4_rcv(skb)
    finally:
        sk.state = state


def tcp_fin(sk: "TcpSock", skb: SkBuff) -> None:
    """The peer sends no more."""
    sk.shutdown_mask |= RCV_SHUTDOWN
    sk.done = True
    state = sk.state
    if state == TCP_ESTABLISHED:
        sk.set_state(TCP_CLOSE_WAIT)
    elif state == TCP_FIN_WAIT1:
        sk.set_state(TCP_CLOSING)
    elif state == TCP_FIN_WAIT2:
        sk.tcp_time_wait()
    if not sk.dead:
        sk.sk_state_change()
    if sk.write_queue:
        tcp_write_xmit(sk, sk.cork)
    tcp_fin_acked(skb.sk)


def tcp_fin_acked(sk: "TcpSock") -> None:
    """The peer has our FIN."""
    state = sk.state
    if state == TCP_FIN_WAIT1:
        sk.set_state(TCP_FIN_WAIT2)
        sk.shutdown_mask |= SEND_SHUTDOWN
        if not sk.dead:
            sk.sk_state_change()
    elif state == TCP_CLOSING:
        sk.tcp_time_wait()
    elif state == TCP_LAST_ACK:
        sk.tcp_done()


def tcp_conn_request(sk: "TcpSock", skb: SkBuff) -> None:
    """A SYN for a listener: a child in SYN_RECV answers it; dropped when more than the backlog wait already."""
    if len(sk.acceptq) > sk.backlog_max:
        return
    client = skb.sk
    if sk.table.requests:
        request = sk.table.requests.get((client.raddr, client.rport, client.laddr, client.lport))
        if request is not None:
            # tcp_check_req: the answer is on the way, or was lost and goes once more.
            if request.rtx is not None:
                request.rtx.retransmit()
            return
    child = sk.sk_clone(client)
    child.set_state(TCP_SYN_RECV)
    if child.rtx is not None:
        child.rtx.listener = sk
        sk.table.requests[child.laddr, child.lport, child.raddr, child.rport] = child
    child.device.xmit(SkBuff(child, client, SYN | ACK, b"", 0, child.rcv_wnd))


def tcp_rcv_synsent(sk: "TcpSock", skb: SkBuff) -> None:
    """The answer to our SYN."""
    flags = skb.flags
    if flags & RST:
        tcp_reset(sk)
        return
    if not flags & SYN:
        return
    if not flags & ACK:
        if skb.sk is sk:
            # Connected to itself: a simultaneous open with one socket in both parts.
            sk.peer = sk
            tcp_finish_connect(sk, sk.rcv_wnd)
            sk.sk_state_change()
            sk.tcp_shutdown(sk.shutdown_mask)
        return
    sk.peer = skb.sk
    sk.window_clamp = sk.rcv_wnd = max(sk.rcvbuf >> 1, 1)
    tcp_finish_connect(sk, skb.window)
    # The window of a SYN-ACK is not scaled: it is of whole segments.
    sk.max_window = min(skb.window, MSS_LOOPBACK)
    tcp_sync_mss(sk, skb.sk)
    # Whoever waits for us is woken before the third packet of the handshake wakes the listener.
    sk.sk_state_change()
    sk.device.xmit(SkBuff(sk, skb.sk, ACK, b"", 0, sk.rcv_wnd))


def tcp_finish_connect(sk: "TcpSock", window: int) -> None:
    """tcp_finish_connect and its twin for a child: buffers get their working size."""
    if sk.timer is not None:
        sk.sched.clock.del_timer(sk.timer)
        sk.timer = None
    sk.set_state(TCP_ESTABLISHED)
    sk.window_clamp = max(sk.rcvbuf >> 1, 1)
    sk.snd_wnd = sk.max_window = window
    if not sk.sndbuf_locked:
        sk.sndbuf = max(sk.sndbuf, min(SNDBUF_ESTABLISHED, sk.sysctl.tcp_wmem[2]))


def listener_of(sk: "TcpSock") -> "TcpSock | None":
    """Whose accept queue a child in SYN_RECV joins: over a link, where a handshake takes time, its own listener's or nobody's."""
    if sk.rtx is not None:
        listener = sk.rtx.listener
        return listener if listener is not None and listener.state == TCP_LISTEN else None
    return sk.table.lookup_listener(sk.raddr, sk.rport, sk.laddr, sk.lport)


def tcp_rcv_synrecv(sk: "TcpSock", skb: SkBuff) -> None:
    """The third packet of the handshake: the child joins the accept queue of its listener."""
    listener = listener_of(sk)
    if listener is None:
        tcp_send_reset(sk, skb.sk)
        sk.set_state(TCP_CLOSE)
        return
    if sk.retries < listener.defer_accept and not skb.data and not skb.flags & FIN:
        # TCP_DEFER_ACCEPT drops the bare acknowledgement, and waits for data.
        if sk.timer is None:
            sk.timer = sk.sched.clock.add_timer(SYN_TIMEOUT << sk.retries, lambda: tcp_synack_timeout(sk))
        return
    if (sk.timer is not None and sk.backlog) or len(listener.acceptq) > listener.backlog_max:
        # tcp_v4_syn_recv_sock finds no room: as if it had been lost.  The SYN-ACK, sent again, has it answered again.
        sk.backlog.append(skb)
        if sk.timer is None:
            sk.timer = sk.sched.clock.add_timer(SYN_TIMEOUT << sk.retries, lambda: tcp_synack_timeout(sk))
        return
    if sk.rtx is not None:
        sk.table.requests.pop((sk.laddr, sk.lport, sk.raddr, sk.rport), None)
    tcp_finish_connect(sk, skb.window or skb.sk.rcv_wnd)
    tcp_sync_mss(sk, skb.sk)
    sk.table.inherit_port(sk)
    listener.acceptq.append(sk)
    # The listener's program had shut it down before it listened.
    sk.tcp_shutdown(sk.shutdown_mask)
    if skb.data or skb.flags & FIN:
        tcp_v4_rcv(skb)
    listener.sk_data_ready()


def tcp_synack_timeout(sk: "TcpSock") -> None:
    """reqsk_timer_handler: the handshake's last packet found no room in the accept queue; try it again, but not for ever."""
    sk.timer = None
    listener = listener_of(sk)
    if sk.state != TCP_SYN_RECV:
        return
    if not sk.backlog:
        # Deferred until data comes, but not for ever: the SYN-ACK is sent again, and its acknowledgement may complete the handshake.
        sk.retries += 1
        client = sk.peer
        if listener is None or client is None:
            sk.set_state(TCP_CLOSE)
        else:
            tcp_rcv_synrecv(sk, SkBuff(client, sk, ACK, b"", 0, client.rcv_wnd))
        return
    if listener is not None and len(listener.acceptq) > listener.backlog_max:
        if sk.retries < SYNACK_RETRIES:
            sk.retries += 1
            sk.timer = sk.sched.clock.add_timer(SYN_TIMEOUT << sk.retries, lambda: tcp_synack_timeout(sk))
        else:
            # Given up: the client, who thinks it is connected, learns of it with what it sends next.
            sk.backlog.clear()
            sk.set_state(TCP_CLOSE)
        return
    release_sock(sk)


def tcp_uncharge(skb: SkBuff) -> None:
    """A segment that nobody takes is gone; its sender may have forgotten it already, with its write queue."""
    snd = skb.sk
    snd.wmem_queued = max(snd.wmem_queued - len(skb.data), snd.unsent)


def tcp_drop(sk: "TcpSock", skb: SkBuff) -> None:
    """A segment for a socket that is no more: answered by a reset, unless it is one or a bare acknowledgement."""
    tcp_uncharge(skb)
    if not skb.flags & RST and (skb.data or skb.flags & (SYN | FIN)):
        tcp_send_reset(sk, skb.sk)


def tcp_reset(sk: "TcpSock") -> None:
    """A RST has come: the error depends on the state; what was received stays readable."""
    state = sk.state
    if state == TCP_CLOSE:
        return
    sk.done_with_error(errno.ECONNREFUSED if state == TCP_SYN_SENT else errno.EPIPE if state == TCP_CLOSE_WAIT else errno.ECONNRESET)
