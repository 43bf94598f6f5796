"""Hosts: network namespaces (net/core/net_namespace.c), each with its addresses, its ports, lo, and links to others.

A process belongs to one, as its children do, and a socket to that of the process that made it.  Everything else is shared, as by
namespaces of one machine: process ids, files, clock, the sizes of buffers.  A host has IPv4 addresses, its networks are of 24 bits, and
hosts reach each other over the link between them: nobody forwards.
"""

import errno

from simkernel.errors import oserror
from simkernel.kernel.net.inet import InetTable, is_local
from simkernel.kernel.net.loopback import Loopback
from simkernel.kernel.net.netdevice import NetDevice
from simkernel.kernel.net.skbuff import RST, SkBuff
from simkernel.kernel.net.socket import Sysctl
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_states import TCP_CLOSE, TCP_SYN_RECV
from simkernel.kernel.net.tcp_timer import tcp_keepalive
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.net.udp_table import UdpTable
from simkernel.kernel.net.veth import Neighbour, VethDev
from simkernel.kernel.sched import Sched
from simkernel.uapi import INADDR_LOOPBACK


def network_of(addr: str) -> str:
    """The network of an address: its first 24 bits."""
    return addr.rsplit(".", 1)[0]


class Net:
    """struct net: ``addrs`` are its addresses beside those of lo, ``routes`` the links by the address that they lead to."""

    __slots__ = ("addrs", "inet", "links", "lo", "name", "neighbour", "routes", "sched", "udp", "udplite")

    def __init__(self, sched: Sched, sysctl: Sysctl, lo: Loopback, name: str) -> None:
        self.sched = sched
        self.name = name
        self.lo = lo
        self.addrs: list[str] = []
        self.links: list[VethDev] = []
        self.routes: dict[str, VethDev] = {}
        self.neighbour = Neighbour(lo)
        self.inet = InetTable(sched, sysctl, lo, self)
        self.udp: UdpTable[UdpSock] = UdpTable(sched, sysctl, lo, self)
        self.udplite: UdpTable[UdpSock] = UdpTable(sched, sysctl, lo, self, lite=True)

    def dismantle(self) -> None:
        """Let go of what knows it."""
        self.inet = self.udp = self.udplite = self.neighbour.peer = None  # type: ignore[assignment]  # they are used no more

    def is_local(self, addr: str) -> bool:
        """inet_addr_type: whether the address is this host's."""
        return is_local(addr) or addr in self.addrs

    def route(self, daddr: str) -> NetDevice:
        """ip_route_output: the device that leads to ``daddr``.  ENETUNREACH for an address of a network that it is not on."""
        if is_local(daddr) or daddr in self.addrs:
            return self.lo
        link = self.routes.get(daddr)
        if link is not None:
            return link
        if any(network_of(addr) == network_of(daddr) for addr in self.addrs):
            return self.neighbour
        raise oserror(errno.ENETUNREACH)

    def source(self, daddr: str) -> str:
        """inet_select_addr: the address that what goes to ``daddr`` comes from."""
        if daddr in self.addrs:
            return daddr
        if is_local(daddr):
            return INADDR_LOOPBACK
        return next((addr for addr in self.addrs if network_of(addr) == network_of(daddr)), self.addrs[0])


def veth_newlink(a: Net, b: Net) -> tuple[VethDev, VethDev]:
    """veth_newlink, and the routes: a link between two hosts, its two ends."""
    ends = VethDev(a, a.lo), VethDev(b, b.lo)
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    for dev, far in zip(ends, (b, a), strict=True):
        dev.net.links.append(dev)
        for addr in far.addrs:
            dev.net.routes[addr] = dev
    return ends


def find_link(a: Net, b: Net) -> VethDev | None:
    """The end at ``a`` of the link between two hosts."""
    return next((dev for dev in a.links if dev.peer.net is b), None)


def connections(dev: VethDev) -> list[TcpSock]:
    """The sockets at this end of a link whose connections go over it, in a fixed order."""
    return [sk for sk in dev.net.inet.established.values() if sk.device is dev]


def set_carrier(dev: VethDev, up: bool) -> None:
    """netif_carrier_on and off: from now on this direction of the link carries everything, or nothing."""
    if dev.up == up:
        return
    dev.up = up
    trace = dev.lo.sched.trace
    if trace.on:
        trace.emit("netif_carrier", "netif_carrier_on" if up else "netif_carrier_off", ("from", dev.net.name, "to", dev.peer.net.name))
    if not up:
        dev.failed += 1
        for sk in connections(dev):
            if sk.keepalive:
                tcp_keepalive(sk, dev)


def reset_connection(sk: TcpSock) -> bool:
    """Something on the way resets a connection: a RST comes to both ends at once.  False if there is none to reset."""
    peer = sk.peer
    if peer is None or sk.state in (TCP_CLOSE, TCP_SYN_RECV):
        return False
    lo = sk.table.device
    for end, other in ((sk, peer), (peer, sk)):
        if end.peer is other and end.state != TCP_CLOSE:
            lo.netif_rx(SkBuff(other, end, RST, b""))
    return True


def power_off(net: Net) -> None:
    """Every connection of a host is forgotten, and nobody is told."""
    for sk in [*net.inet.established.values(), *net.inet.requests.values()]:
        sk.purge_write_queue()
        if sk.rtx is not None:
            sk.rtx.queue.clear()
        sk.tcp_done()
