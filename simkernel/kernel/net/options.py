"""All socket options that are modelled, for documentation."""

from simkernel.kernel.net.af_inet import IPPROTO_IPV6_TABLE
from simkernel.kernel.net.sockopt import IPPROTO_IP_TABLE, SOL_SOCKET_TABLE
from simkernel.kernel.net.tcp_sockopt import IPPROTO_TCP_TABLE
from simkernel.kernel.net.udp import IPPROTO_UDP_TABLE
from simkernel.kernel.net.udplite import IPPROTO_UDPLITE_TABLE


def option_table() -> list[tuple[int, str, str, str]]:
    """(level, name, for whom, ``simulated`` or ``stored``) of each option.

    A simulated one does what it does in Linux; a stored one is checked, clamped, kept and read back as in Linux, without an effect.
    """
    tables = (SOL_SOCKET_TABLE, IPPROTO_IP_TABLE, IPPROTO_IPV6_TABLE, IPPROTO_TCP_TABLE, IPPROTO_UDP_TABLE, IPPROTO_UDPLITE_TABLE)
    return [(option.level, option.name, option.where or "every socket", option.tag) for table in tables for option in table]
