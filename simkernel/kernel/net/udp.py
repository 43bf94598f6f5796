"""UDP: what a program calls (net/ipv4/udp.c, net/ipv6/udp.c, net/ipv4/datagram.c); udp_table.py finds the receiver.

The way of a datagram: sendmsg -> ip_append_data -> loopback, where it stops being the sender's (an OUT edge) -> NET_RX -> lookup ->
receive queue -> sk_data_ready -> wake_up.  Nobody there: an ICMP error comes back the same way.

A receiver is charged for each datagram with the kernel's own overhead (truesize), and what does not fit is dropped, silently.
"""

import errno
from collections import deque
from collections.abc import Collection, Mapping
from typing import ClassVar, Final

from simkernel.api import Address
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.net.af_inet import (
    InetSock,
    inet6_name,
    inet6_sockaddr,
    inet_sockaddr,
    is_broadcast,
    needs_scope,
    show,
)
from simkernel.kernel.net.datagram import ReceiverWait
from simkernel.kernel.net.inet import IPV6_DEFAULT_HOPLIMIT, is_ipv4
from simkernel.kernel.net.socket import RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK, MsgHdr, Sysctl
from simkernel.kernel.net.sockopt import SIMULATED, Option, int_option, set_option
from simkernel.kernel.net.udp_table import TCP_CLOSE, TCP_ESTABLISHED, UdpSkb, UdpTable
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.wait import wait_event, wake_up
from simkernel.uapi import (
    AF_INET,
    IN6ADDR_ANY,
    INADDR_ANY,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    IPV6_HOPLIMIT,
    IPV6_RECVHOPLIMIT,
    IPV6_RECVTCLASS,
    IPV6_TCLASS,
    IPV6_UNICAST_HOPS,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_NAMES,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SO_PRIORITY,
    SOCK_DGRAM,
    SOL_SOCKET,
    UDP_CORK,
    UDPLITE_RECV_CSCOV,
    UDPLITE_SEND_CSCOV,
)

KEY_WRITABLE: Final = POLLOUT | POLLWRNORM | POLLWRBAND
UDP_MAX_LEN: Final = 0xFFFF
SIZEOF_INT: Final = 4
UDPLITE_OPTIONS: Final = (UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV)
# UDP_ENCAP, UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX, UDP_SEGMENT, UDP_GRO.
UDP_UNMODELLED: Final = range(100, 105)
# Control messages that Linux knows, none of which is modelled, by level.
CMSGS: Mapping[int, Collection[int]] = {
    SOL_SOCKET: (SO_PRIORITY, 36, 37, 61),
    IPPROTO_IP: (1, 2, 7, 8, 52),
    IPPROTO_UDP: (103,),
    IPPROTO_IPV6: range(1, 80),
}
# What means something over IPv4 too.
PKTINFO_V6: Final = (IPPROTO_IPV6, 50)
MSG_KNOWN: Final = sum(MSG_NAMES)


class UdpSock(InetSock):
    """struct udp_sock.

    ``receive_queue`` is what has come, ``reader_queue`` the part of it that readers have taken over; ``rmem`` is sk_rmem_alloc, in which
    what was read stays for a while: ``forward_deficit``.  ``drops`` counts what did not fit.  ``cork`` is the datagram that MSG_MORE and
    UDP_CORK hold back.  ``flow`` is inet->cork.fl, whose uses get in each other's way: source, destination and port of a connected
    socket, of what is held back, and of a connect that failed; ``routed`` says that a connected socket sends by it (sk_dst_cache).
    """

    __slots__ = (
        "cork",
        "corked",
        "drops",
        "flow",
        "forward_deficit",
        "reader_queue",
        "receive_queue",
        "reuseport_cb",
        "rmem",
        "routed",
        "table",
    )
    name = "udp"
    options: ClassVar[Mapping[int, Option]] = {}
    state_names: ClassVar[Mapping[int, str]] = {TCP_ESTABLISHED: "ESTABLISHED", TCP_CLOSE: "CLOSE"}

    def __init__(self, sched: Sched, sysctl: Sysctl, table: UdpTable["UdpSock"], family: int) -> None:
        super().__init__(sched, sysctl, table.net, family, SOCK_DGRAM, IPPROTO_UDP)
        self.table = table
        self.rcvbuf = sysctl.rmem_default
        self.sndbuf = sysctl.wmem_default
        self.receive_queue: deque[UdpSkb] = deque()
        self.reader_queue: deque[UdpSkb] = deque()
        self.rmem = 0
        self.forward_deficit = 0
        self.drops = 0
        self.cork: UdpSkb | None = None
        self.corked = 0
        self.flow = INADDR_ANY, INADDR_ANY, 0
        self.routed = False
        self.reuseport_cb = False

    # --- names ---
    def get_port(self, port: int) -> int:
        return self.table.get_port(self, port)

    def autobind(self) -> None:
        """inet_autobind."""
        if not self.lport:
            try:
                self.lport = self.sport = self.table.get_port(self, 0)
            except OSError:
                raise self.again("send") from None

    def connect(self, addr: Address, nonblock: bool) -> None:
        """inet_dgram_connect: nothing is sent, only the peer is remembered; again for another."""
        self.autobind()
        if self.family == AF_INET:
            self.ip4_datagram_connect(*inet_sockaddr(addr))
        else:
            self.ip6_datagram_connect(addr)
        self.sched.stalled = 0

    def ip4_datagram_connect(self, host: str, port: int) -> None:
        self.routed = False
        # Even a connect that fails has written the flow.
        self.flow = INADDR_ANY, host, port
        laddr, host = self.udp_route_v4(host)
        if self.cork is not None and not is_ipv4(self.cork.daddr):
            # inet->cork.fl is a union: the flow of the one overwrites that of the other.
            raise Unsupported("connecting to an IPv4 address while MSG_MORE holds back a datagram of IPv6 is not modelled")
        self.connected(laddr, host, port)
        self.flow = laddr, host, port
        self.routed = True

    def ip6_datagram_connect(self, addr: Address) -> None:
        if isinstance(addr, tuple) and len(addr) == 2:
            # An IPv4 address will do, unless there is to be no IPv4.
            if self.ipv6only:
                raise oserror(errno.EAFNOSUPPORT)
            self.ip4_datagram_connect(*inet_sockaddr(addr))
            return
        host, port, scope_id = inet6_sockaddr(addr)
        if host == IN6ADDR_ANY:
            host = self.this_machine()
        if is_ipv4(host):
            if self.ipv6only:
                raise oserror(errno.ENETUNREACH)
            self.ip4_datagram_connect(host, port)
            return
        if needs_scope(host) and not scope_id:
            raise oserror(errno.EINVAL)
        self.connected(*self.route_v6(host), port)

    def connected(self, laddr: str, raddr: str, rport: int) -> None:
        """The addresses of a connected socket.  One that was not bound to an address now is."""
        if self.laddr in (INADDR_ANY, IN6ADDR_ANY):
            self.table.rehash(self, laddr)
        self.raddr, self.rport = raddr, rport
        self.state = TCP_ESTABLISHED

    def udp_route_v4(self, host: str) -> tuple[str, str]:
        """A route that must not be a broadcast's, unless SO_BROADCAST is set; 255.255.255.255 has none, without a device but lo."""
        if not self.broadcast and is_broadcast(host):
            raise oserror(errno.EACCES)
        return self.route_v4(host)

    # --- datagrams out ---
    def sendmsg(self, data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> int:
        """udp_sendmsg, udpv6_sendmsg.  Never sleeps: on loopback a datagram is the sender's for no time at all."""
        if flags & ~MSG_KNOWN:
            raise Unsupported(f"send on UDP with flags {flags:#x} is not modelled")
        if not self.lport:
            self.autobind()
        name = None if msg is None else msg.name
        if self.family == AF_INET or (self.cork is not None and is_ipv4(self.cork.daddr)):
            self.udp_sendmsg(data, flags, name, msg)
        else:
            self.udpv6_sendmsg(data, flags, name, msg)
        self.sched.stalled = 0
        return len(data)

    def udp_sendmsg(self, data: bytes, flags: int, name: Address | None, msg: MsgHdr | None) -> None:
        if len(data) > UDP_MAX_LEN:
            raise oserror(errno.EMSGSIZE)
        if flags & MSG_OOB:
            raise oserror(errno.EOPNOTSUPP)
        if self.cork is not None:
            if not is_ipv4(self.cork.daddr):
                raise oserror(errno.EINVAL)
            self.append_data(self.cork, data, flags)
            return
        if name is not None:
            host, port = inet_sockaddr(name)
            if not port:
                raise oserror(errno.EINVAL)
        elif self.state != TCP_ESTABLISHED:
            raise oserror(errno.EDESTADDRREQ)
        else:
            host, port = self.raddr, self.rport
        if msg is not None and msg.control:
            self.cmsg_send(msg, IPPROTO_IP)
        if name is None and self.routed:
            # Its route is known since connect (sk_dst_check), and the flow is whatever was written there last.
            flow = self.flow
            if flags & MSG_MORE or self.corked:
                flow = flow[0], host, port
        else:
            self.routed = self.routed or name is None
            flow = *self.udp_route_v4(host), port
        if flags & MSG_MORE or self.corked:
            self.flow = flow
        self.ip_make_skb(data, flags, *flow)

    def udpv6_sendmsg(self, data: bytes, flags: int, name: Address | None, msg: MsgHdr | None) -> None:
        if self.cork is not None and name is None:
            self.append_data(self.cork, data, flags)
            return
        if name is not None:
            if not isinstance(name, tuple):
                raise oserror(errno.EINVAL)
            if len(name) == 2:
                self.udp_over_v4(data, flags, name, msg)
                return
            host, port, _ = inet6_sockaddr(name)
            if host == IN6ADDR_ANY:
                host = self.this_machine()
        elif self.state != TCP_ESTABLISHED:
            raise oserror(errno.EDESTADDRREQ)
        else:
            host, port = self.raddr, self.rport
        if is_ipv4(host):
            self.udp_over_v4(data, flags, (host, port), msg)
            return
        if self.cork is not None:
            self.append_data(self.cork, data, flags)
            return
        if name is not None and not port:
            raise oserror(errno.EINVAL)
        found = self.cmsg_send(msg, IPPROTO_IPV6) if msg is not None and msg.control else {}
        hops = found.get(IPV6_HOPLIMIT, -1)
        if hops < 0:
            hops = self.stored_v6(IPV6_UNICAST_HOPS, IPV6_DEFAULT_HOPLIMIT)
        # -1 means no default here, but its last byte.
        tclass = found.get(IPV6_TCLASS, self.stored_v6(IPV6_TCLASS, 0)) & 0xFF
        self.ip_make_skb(data, flags, *self.route_v6(host), port, hops, tclass)

    def udp_over_v4(self, data: bytes, flags: int, name: Address, msg: MsgHdr | None) -> None:
        """An AF_INET6 socket sends over IPv4."""
        if self.ipv6only:
            raise oserror(errno.ENETUNREACH)
        self.udp_sendmsg(data, flags, name, msg)

    def stored_v6(self, name: int, default: int) -> int:
        """An option of IPv6 that a program may have set; ``default`` also for -1."""
        val = default if self.stored is None else self.stored.get((IPPROTO_IPV6, name), default)
        return default if val < 0 else val

    def cmsg_send(self, msg: MsgHdr, level: int) -> dict[int, int]:
        """udp_cmsg_send, ip_cmsg_send, ip6_datagram_send_ctl (by ``level``): what is AF_UNIX's or of another level is ignored.

        Returns what was asked for of IPV6_HOPLIMIT and IPV6_TCLASS.
        """
        found: dict[int, int] = {}
        for cmsg_level, kind, data in msg.control:
            if cmsg_level not in (SOL_SOCKET, IPPROTO_UDP, level) and (cmsg_level, kind) != PKTINFO_V6:
                continue
            if cmsg_level == SOL_SOCKET and kind in (SCM_RIGHTS, SCM_CREDENTIALS):
                continue
            if cmsg_level == IPPROTO_IPV6 and self.family == AF_INET:
                continue
            if (cmsg_level, kind) in ((IPPROTO_IPV6, IPV6_HOPLIMIT), (IPPROTO_IPV6, IPV6_TCLASS)):
                val = int.from_bytes(data, "little", signed=True)
                if len(data) != SIZEOF_INT or not -1 <= val <= 0xFF:
                    raise oserror(errno.EINVAL)
                found[kind] = val
                continue
            if kind in CMSGS[cmsg_level]:
                raise Unsupported(f"the control message (level {cmsg_level}, type {kind}) on UDP is not modelled")
            raise oserror(errno.EINVAL)
        return found

    def ip_make_skb(
        self, data: bytes, flags: int, saddr: str, daddr: str, dport: int, hops: int = IPV6_DEFAULT_HOPLIMIT, tclass: int = 0
    ) -> None:
        """A new datagram (sock_alloc_send_skb): sent, or held back for more."""
        skb = UdpSkb(self.table, saddr, self.sport, daddr, dport, data)
        skb.hop_limit, skb.tclass = hops, tclass
        if len(data) > skb.max_payload():
            raise oserror(errno.EMSGSIZE)
        if self.err:
            raise oserror(self.sock_error())
        if self.shutdown_mask & SEND_SHUTDOWN:
            raise oserror(errno.EPIPE)
        if flags & MSG_MORE or self.corked:
            self.cork = skb
        else:
            self.udp_send_skb(skb)

    def append_data(self, skb: UdpSkb, data: bytes, flags: int) -> None:
        """ip_append_data to what is held back; too much of it is all lost."""
        if len(skb.data) + len(data) > skb.max_payload():
            self.cork = None
            raise oserror(errno.EMSGSIZE)
        skb.append(data)
        if not (flags & MSG_MORE or self.corked):
            self.udp_push_pending_frames()

    def udp_push_pending_frames(self) -> None:
        """Send what was held back."""
        skb, self.cork = self.cork, None
        if skb is not None:
            if is_ipv4(skb.daddr):
                skb.saddr, skb.daddr, skb.dport = self.flow
            self.udp_send_skb(skb)

    def udp_send_skb(self, skb: UdpSkb) -> None:
        """Onto the device, which takes the datagram off the sender's account at once (skb_orphan, sock_wfree)."""
        self.wakes_on_space()
        (self.net.route(skb.daddr) if self.net.addrs else self.table.device).xmit(skb)

    def writable(self) -> bool:
        """sock_writeable: less than half of the send buffer is charged."""
        return 1 + self.wmem_alloc() < self.sndbuf >> 1

    def wmem_alloc(self) -> int:
        """sk_wmem_alloc_get: only what is held back."""
        return self.cork.truesize if self.cork is not None else 0

    def wakes_on_space(self) -> None:
        """sock_def_write_space."""
        if self.wq.entries and self.writable():
            wake_up(self.wq, KEY_WRITABLE)

    # --- datagrams in ---
    def queue_rcv_skb(self, skb: UdpSkb) -> None:
        """__udp_enqueue_schedule_skb: a full buffer drops it, but an empty one takes any."""
        rmem = self.rmem
        if rmem and rmem + skb.truesize > self.rcvbuf:
            self.drops += 1
            trace = self.sched.trace
            if trace.on:
                trace.emit("udp_fail_queue_rcv_skb", "__udp_enqueue_schedule_skb", ("sk", self.ino, "sport", skb.sport, "dport", skb.dport))
            return
        if rmem > self.rcvbuf >> 1:
            skb.condense()
        self.rmem = rmem + skb.truesize
        self.receive_queue.append(skb)
        if not self.dead:
            self.sk_data_ready()

    def rmem_release(self, size: int) -> None:
        """udp_rmem_release: what was read is uncharged in lots of a quarter of the buffer, or when all that readers took over is read."""
        self.forward_deficit += size
        if self.forward_deficit < self.rcvbuf >> 2 and self.reader_queue:
            return
        self.rmem -= self.forward_deficit
        self.forward_deficit = 0
        # While it holds the lock of the queue, it takes over what has come.
        self.splice()

    def recvmsg(self, n: int, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> bytes:
        """udp_recvmsg: one datagram, cut to ``n`` bytes."""
        if flags & ~MSG_KNOWN:
            raise Unsupported(f"recv on UDP with flags {flags:#x} is not modelled")
        if flags & MSG_ERRQUEUE:
            # Nothing is queued there unless IP_RECVERR is set.
            raise self.again("recv")
        skb = self.skb_recv_udp(nonblock or flags & MSG_DONTWAIT != 0, flags & MSG_PEEK != 0)
        if skb is None:
            return b""
        data = skb.data
        if msg is not None:
            msg.name = (skb.saddr, skb.sport) if self.family == AF_INET else inet6_name(skb.saddr, skb.sport)
            if len(data) > n:
                msg.flags |= MSG_TRUNC
            if self.stored is not None and not is_ipv4(skb.daddr):
                self.ip6_datagram_recv_specific_ctl(skb, msg)
        self.sched.stalled = 0
        return data if len(data) <= n else data[:n]

    def ip6_datagram_recv_specific_ctl(self, skb: UdpSkb, msg: MsgHdr) -> None:
        """What a program wants to know of the header."""
        if self.stored_v6(IPV6_RECVHOPLIMIT, 0):
            msg.put_cmsg(IPPROTO_IPV6, IPV6_HOPLIMIT, skb.hop_limit.to_bytes(SIZEOF_INT, "little"))
        if self.stored_v6(IPV6_RECVTCLASS, 0):
            msg.put_cmsg(IPPROTO_IPV6, IPV6_TCLASS, skb.tclass.to_bytes(SIZEOF_INT, "little"))

    def skb_recv_udp(self, nonblock: bool, peek: bool) -> UdpSkb | None:
        """__skb_recv_udp: the first datagram, slept for if need be.  None when the socket was shut down meanwhile."""
        queue = self.reader_queue
        deadline = None if self.rcvtimeo is None else self.sched.clock.now + self.rcvtimeo
        while True:
            if self.err:
                raise oserror(self.sock_error())
            if not queue:
                self.splice()
            if queue:
                if peek:
                    return queue[0]
                skb = queue.popleft()
                self.rmem_release(skb.truesize)
                return skb
            if nonblock:
                raise self.again("recv")
            if self.shutdown_mask & RCV_SHUTDOWN:
                return None
            left = None if deadline is None else max(deadline - self.sched.clock.now, 0)
            entry = ReceiverWait(self.sched.current)
            if not wait_event(self.sched, self.wq, self.may_go_on, left, exclusive=True, entry=entry, promise=self.is_told):
                raise oserror(errno.EAGAIN)

    def may_go_on(self) -> bool:
        """__skb_wait_for_more_packets: whether a sleeping reader has to look again."""
        return bool(self.receive_queue) or bool(self.reader_queue) or self.err != 0 or self.shutdown_mask & RCV_SHUTDOWN != 0

    def is_told(self) -> bool:
        """When a sleeping reader is woken: one for each datagram.  One that only peeks leaves it, and does not wake the next."""
        return bool(self.receive_queue) or self.err != 0 or self.shutdown_mask & RCV_SHUTDOWN != 0

    def splice(self) -> None:
        """The readers take over all that has come."""
        if self.receive_queue:
            self.reader_queue.extend(self.receive_queue)
            self.receive_queue.clear()

    def first_packet_length(self) -> int:
        """The size of the next datagram, -1 if there is none."""
        if not self.reader_queue:
            self.splice()
        return len(self.reader_queue[0].data) if self.reader_queue else -1

    def unread(self) -> int:
        """The bytes that wait, for explanations."""
        return sum(len(skb.data) for skb in self.reader_queue) + sum(len(skb.data) for skb in self.receive_queue)

    def fionread(self) -> int:
        """udp_ioctl SIOCINQ: the size of the next datagram."""
        return max(self.first_packet_length(), 0)

    def siocoutq(self) -> int:
        """udp_ioctl SIOCOUTQ: the memory of what is held back."""
        return self.wmem_alloc()

    # --- errors and ends ---
    def udp_err(self, code: int) -> None:
        """__udp4_lib_err: an ICMP error concerns connected sockets only, since IP_RECVERR is not set."""
        if self.state == TCP_ESTABLISHED:
            self.err = code
            self.sk_error_report()

    def shutdown(self, how: int) -> None:
        """inet_shutdown: without a peer ENOTCONN, yet it is shut."""
        self.shutdown_mask |= how + 1
        self.sk_state_change()
        if self.state == TCP_CLOSE:
            raise oserror(errno.ENOTCONN)

    def close(self) -> None:
        """sk_common_release."""
        self.dead = True
        self.cork = None
        self.table.unhash(self)
        self.receive_queue.clear()
        self.reader_queue.clear()
        self.rmem = self.forward_deficit = 0

    def poll(self, table: PollTable | None) -> int:
        """udp_poll."""
        if table is not None:
            table.qproc(self.wq)
        mask = 0
        if self.err:
            mask = POLLERR
        shutdown = self.shutdown_mask
        if shutdown:
            if shutdown & RCV_SHUTDOWN:
                mask |= POLLRDHUP | POLLIN | POLLRDNORM
            if shutdown == SHUTDOWN_MASK:
                mask |= POLLHUP
        if self.receive_queue or self.reader_queue:
            mask |= POLLIN | POLLRDNORM
            if not shutdown & RCV_SHUTDOWN and self.socket is not None and not self.socket.nonblock:
                # It looks for a broken checksum, and to do so takes over what has come.
                self.first_packet_length()
        if self.writable():
            mask |= KEY_WRITABLE
        return mask

    # --- options ---
    def setsockopt_proto(self, level: int, name: int, value: int | bytes) -> None:
        """udp_lib_setsockopt: UDP_CORK, taken out, sends what was held back."""
        if level not in (IPPROTO_UDP, IPPROTO_UDPLITE):
            self.inet_setsockopt(level, name, value)
            return
        val = int_option(value)
        set_option(self, self.udp_option(name, "setsockopt"), val, value)

    def getsockopt_proto(self, level: int, name: int) -> int | bytes:
        """udp_lib_getsockopt."""
        if level not in (IPPROTO_UDP, IPPROTO_UDPLITE):
            return self.inet_getsockopt(level, name)
        if name in UDPLITE_OPTIONS and name not in self.options:
            # All of a datagram of UDP is covered, which can't be changed.
            return 0
        found: int = self.udp_option(name, "getsockopt").get(self)
        return found

    def udp_option(self, name: int, call: str) -> Option:
        """Only UDP_CORK is modelled; the others are encapsulation, checksums and segmentation."""
        if name in UDP_UNMODELLED:
            raise Unsupported(f"{call}(IPPROTO_UDP, {name}) is not modelled")
        if name not in self.options:
            raise oserror(errno.ENOPROTOOPT)
        return self.options[name]

    def describe(self) -> str:
        if self.state != TCP_ESTABLISHED:
            return f"{self.name} {show(self.laddr, self.sport)} unconnected"
        return f"{self.name} {show(self.laddr, self.sport)} <- {show(self.raddr, self.rport)}"


def set_udp_cork(sk: UdpSock, val: int) -> None:
    """UDP_CORK: taken out, it sends what was held back."""
    sk.corked = int(val != 0)
    if not val:
        sk.udp_push_pending_frames()


IPPROTO_UDP_TABLE: Final = (Option(IPPROTO_UDP, UDP_CORK, "UDP_CORK", SIMULATED, lambda sk: sk.corked, set_udp_cork, where="UDP"),)
UDP_OPTIONS: Final = {option.number: option for option in IPPROTO_UDP_TABLE}
UdpSock.options = UDP_OPTIONS
