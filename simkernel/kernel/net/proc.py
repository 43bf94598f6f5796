"""/proc/net and /proc/sys/net (net/ipv4/tcp_ipv4.c and udp.c, net/ipv6, net/unix/af_unix.c, net/core/sysctl_net_core.c)."""

import errno
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.net.inet import InetTable, TimeWait, is_ipv4
from simkernel.kernel.net.net_namespace import Net
from simkernel.kernel.net.socket import Socket, Sysctl
from simkernel.kernel.net.sockopt import SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.tcp_states import TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_LAST_ACK, TCP_LISTEN
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.net.udp_table import UdpTable
from simkernel.kernel.net.unix import UnixSock
from simkernel.kernel.procfs import CtlTable, ProcRoot
from simkernel.kernel.sched import Sched
from simkernel.uapi import AF_INET, AF_INET6, IN6ADDR_ANY, INADDR_ANY, NSEC_PER_SEC

# The record of /proc/net/tcp is padded to this many characters (TMPSZ - 1).
TCP_RECORD: Final = 149
TCP_HEADER: Final = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
TCP6_HEADER: Final = (
    "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt"
    "   uid  timeout inode"
)
UDP_RECORD: Final = 127
UDP_HEADER: Final = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
UDP6_HEADER: Final = TCP6_HEADER + " ref pointer drops"
UNIX_HEADER: Final = "Num       RefCount Protocol Flags    Type St Inode Path\n"
# struct socket's flag and states as af_unix.c prints them.
SO_ACCEPTCON: Final = 1 << 16
SS_UNCONNECTED, SS_CONNECTING, SS_CONNECTED, SS_DISCONNECTING = range(1, 5)
# The states in which the peer's FIN has come.
AFTER_FIN: Final = (TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING)
# Times are shown in hundredths of a second (USER_HZ).
USER_TICK: Final = NSEC_PER_SEC // 100
# Retransmission timeouts in jiffies of a hundredth of a second: before anything was measured, and on lo.
TCP_TIMEOUT_INIT: Final = 100
TCP_RTO_MIN: Final = 20


def hex_addr(family: int, host: str, port: int) -> str:
    """An address as numbers of the host's byte order (little-endian), four bytes each, and the port."""
    if family == AF_INET:
        packed = IPv4Address(host).packed
    else:
        packed = IPv6Address("::ffff:" + host if is_ipv4(host) else host).packed
    words = [packed[i : i + 4][::-1].hex().upper() for i in range(0, len(packed), 4)]
    return f"{''.join(words)}:{port:04X}"


def addresses(sk: TcpSock | UdpSock | TimeWait) -> str:
    """The two addresses of a socket; nobody's are zeros."""
    local = hex_addr(sk.family, sk.laddr, sk.lport)
    nobody = INADDR_ANY if sk.family == AF_INET else IN6ADDR_ANY
    return f"{local} {hex_addr(sk.family, sk.raddr if sk.rport else nobody, sk.rport)}"


def tcp_seq_show(table: InetTable, family: int) -> list[str]:
    """tcp4_seq_show, tcp6_seq_show: listeners, then what is connected or about to be, then what is left of others (TIME_WAIT).

    A FIN counts in rx_queue, as it takes a number of the stream.  What the simulator has no notion of is shown as it is
    on an idle connection: timers, the congestion window.
    """
    socks = [sk for port in table.listeners for sk in table.listeners[port]] + list(table.established.values())
    width = TCP_RECORD if family == AF_INET else 0
    records = [(TCP_HEADER if family == AF_INET else TCP6_HEADER).ljust(width) + "\n"]
    for sk in socks:
        if sk.family != family:
            continue
        listening = sk.state == TCP_LISTEN
        rx_queue = len(sk.acceptq) if listening else sk.rmem + (sk.state in AFTER_FIN)
        inode = sk.socket.ino if sk.socket is not None else 0
        record = (
            f"{len(records) - 1:4}: {addresses(sk)} {sk.state:02X} {sk.wmem_queued:08X}:{rx_queue:08X} 00:00000000 "
            f"00000000 {0:5} {0:8} {inode} {2 if inode else 1} {sk.ino:016x} {TCP_TIMEOUT_INIT if listening else TCP_RTO_MIN} 0 0 10 "
            f"{0 if listening else -1}"
        )
        records.append(record.ljust(width) + "\n")
    for port in sorted(table.bound):
        for tw in table.owners(port):
            if isinstance(tw, TimeWait) and tw.family == family:
                ticks = -(-(tw.expires - table.sched.clock.now) // USER_TICK)
                record = (
                    f"{len(records) - 1:4}: {addresses(tw)} {tw.state:02X} {0:08X}:{0:08X} 03:{ticks:08X} {0:08X} {0:5} {0:8} 0 3 {0:016x}"
                )
                records.append(record.ljust(width) + "\n")
    return records


def udp_seq_show(table: UdpTable[UdpSock], family: int) -> list[str]:
    """udp4_seq_show, udp6_seq_show: the sockets that have a port, whose number stands for that of the hash bucket."""
    width = UDP_RECORD if family == AF_INET else 0
    records = [(UDP_HEADER if family == AF_INET else UDP6_HEADER).ljust(width) + "\n"]
    for port in sorted(table.hash):
        for sk in table.hash[port]:
            if sk.family != family:
                continue
            inode = sk.socket.ino if sk.socket is not None else 0
            record = (
                f"{port:5}: {addresses(sk)} {sk.state:02X} {0:08X}:{sk.rmem - sk.forward_deficit:08X} 00:00000000 "
                f"00000000 {0:5} {0:8} {inode} 2 {sk.ino:016x} 0"
            )
            records.append(record.ljust(width) + "\n")
    return records


def unix_seq_show(sched: Sched) -> list[str]:
    """unix_seq_show: every socket that a process has open, and those that wait to be accepted."""
    found: dict[int, UnixSock] = {}
    for process in sched.processes.values():
        for file in process.files.open_fds().values():
            if isinstance(file, Socket) and isinstance(file.proto, UnixSock):
                found[file.proto.ino] = file.proto
                found.update((child.ino, child) for child in file.proto.connq)
    records = [UNIX_HEADER]
    for _, sk in sorted(found.items()):
        established = sk.state == TCP_ESTABLISHED
        if sk.socket is not None:
            state = SS_CONNECTED if established else SS_UNCONNECTED
        else:
            state = SS_CONNECTING if established else SS_DISCONNECTING
        flags = SO_ACCEPTCON if sk.state == TCP_LISTEN else 0
        inode = sk.socket.ino if sk.socket is not None else 0
        name = " " + sk.addr.replace(b"\0", b"@").decode("utf-8", "surrogateescape") if sk.addr else ""
        records.append(f"{sk.ino:016x}: {2:08X} {0:08X} {flags:08X} {sk.type:04X} {state:02X} {inode:5}{name}\n")
    return records


def register_proc_net(proc: ProcRoot, sysctl: Sysctl, nets: list[Net]) -> None:
    """Make the network's files below ``proc``.  They show the host that the reader is on; the sizes of buffers are everybody's."""

    def net() -> Net:
        return nets[proc.sched.current.process.net_ns]

    proc.register_seq("net/tcp", lambda: tcp_seq_show(net().inet, AF_INET))
    proc.register_seq("net/tcp6", lambda: tcp_seq_show(net().inet, AF_INET6))
    proc.register_seq("net/udp", lambda: udp_seq_show(net().udp, AF_INET))
    proc.register_seq("net/udp6", lambda: udp_seq_show(net().udp, AF_INET6))
    proc.register_seq("net/unix", lambda: unix_seq_show(proc.sched))

    def three(values: list[int]) -> tuple[int, int, int]:
        low, default, high = values
        return low, default, high

    def set_tcp_rmem(values: list[int]) -> None:
        sysctl.tcp_rmem = three(values)

    def set_tcp_wmem(values: list[int]) -> None:
        sysctl.tcp_wmem = three(values)

    def set_somaxconn(values: list[int]) -> None:
        sysctl.somaxconn = values[0]

    def set_rmem_max(values: list[int]) -> None:
        sysctl.rmem_max = values[0]

    def set_wmem_max(values: list[int]) -> None:
        sysctl.wmem_max = values[0]

    def set_syn_retries(values: list[int]) -> None:
        sysctl.tcp_syn_retries = values[0]

    def set_port_range(values: list[int]) -> None:
        """ipv4_local_port_range: EINVAL if it ends before it begins."""
        low, high = values
        if high < low:
            raise oserror(errno.EINVAL)
        sysctl.port_range = low, high
        for each in nets:
            each.inet.set_port_range()

    def set_dgram_qlen(values: list[int]) -> None:
        sysctl.max_dgram_qlen = values[0]

    register = proc.register_sysctl
    register("net/unix/max_dgram_qlen", CtlTable(lambda: [sysctl.max_dgram_qlen], set_dgram_qlen))
    register("net/core/somaxconn", CtlTable(lambda: [sysctl.somaxconn], set_somaxconn, low=0))
    register("net/core/rmem_max", CtlTable(lambda: [sysctl.rmem_max], set_rmem_max, low=SOCK_MIN_RCVBUF))
    register("net/core/wmem_max", CtlTable(lambda: [sysctl.wmem_max], set_wmem_max, low=SOCK_MIN_SNDBUF))
    register("net/ipv4/tcp_rmem", CtlTable(lambda: list(sysctl.tcp_rmem), set_tcp_rmem, low=1))
    register("net/ipv4/tcp_wmem", CtlTable(lambda: list(sysctl.tcp_wmem), set_tcp_wmem, low=1))
    register("net/ipv4/tcp_syn_retries", CtlTable(lambda: [sysctl.tcp_syn_retries], set_syn_retries, low=1, high=127, unsigned=True))
    register("net/ipv4/ip_local_port_range", CtlTable(lambda: list(sysctl.port_range), set_port_range, low=1, high=65535, whole=True))
