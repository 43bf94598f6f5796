"""TCP's own socket options (net/ipv4/tcp.c, do_tcp_setsockopt, do_tcp_getsockopt)."""

from typing import TYPE_CHECKING

from simkernel.errors import Unsupported
from simkernel.kernel.net.socket import int_option
from simkernel.uapi import IPPROTO_IPV6, IPPROTO_TCP, TCP_NODELAY

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock


def do_tcp_setsockopt(sk: "TcpSock", level: int, name: int, value: int | bytes) -> None:
    """Set an option of another level than SOL_SOCKET."""
    if level == IPPROTO_IPV6:
        sk.ipv6_setsockopt(name, value)
        return
    if level != IPPROTO_TCP or name != TCP_NODELAY:
        raise Unsupported(f"setsockopt(level {level}, option {name}) on TCP is not modelled")
    sk.nodelay = int(bool(int_option(value)))


def do_tcp_getsockopt(sk: "TcpSock", level: int, name: int) -> int:
    """Read an option of another level than SOL_SOCKET."""
    if level == IPPROTO_IPV6:
        return sk.ipv6_getsockopt(name)
    if level != IPPROTO_TCP or name != TCP_NODELAY:
        raise Unsupported(f"getsockopt(level {level}, option {name}) on TCP is not modelled")
    return sk.nodelay
