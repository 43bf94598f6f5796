"""TCP's own socket options (net/ipv4/tcp.c, do_tcp_setsockopt, do_tcp_getsockopt), in a table as those of sockopt.py are.

Stored: the timers of keepalive have nothing to watch over, for a peer on lo is never lost, and an orphan in FIN_WAIT2 waits for ever;
TCP_USER_TIMEOUT ends an attempt to connect, and no connection whose peer does not read; TCP_QUICKACK reads back what was set, and not
what the traffic made of it, since acknowledgements are not delayed; TCP_MAXSEG and TCP_WINDOW_CLAMP cut no segments.
"""

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.net.sockopt import (
    SIMULATED,
    SOCK_MIN_RCVBUF,
    STORED,
    Option,
    in_range,
    int_option,
    set_option,
    store,
    stored,
    switch,
)
from simkernel.kernel.net.tcp_output import tcp_check_space, tcp_push_pending_frames, user_mss
from simkernel.kernel.net.tcp_states import TCP_CLOSE, TCP_LISTEN
from simkernel.uapi import (
    IPPROTO_TCP,
    TCP_CORK,
    TCP_DEFER_ACCEPT,
    TCP_INFO,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_LINGER2,
    TCP_MAXSEG,
    TCP_NODELAY,
    TCP_NOTSENT_LOWAT,
    TCP_QUICKACK,
    TCP_SYNCNT,
    TCP_USER_TIMEOUT,
    TCP_WINDOW_CLAMP,
)

if TYPE_CHECKING:
    from simkernel.kernel.net.tcp import TcpSock

MAX_TCP_KEEPIDLE: Final = 32767
MAX_TCP_KEEPINTVL: Final = 32767
MAX_TCP_KEEPCNT: Final = 127
MAX_TCP_SYNCNT: Final = 127
TCP_FIN_TIMEOUT: Final = 60
TCP_FIN_TIMEOUT_MAX: Final = 120
TCP_MIN_MSS: Final = 88
MAX_TCP_WINDOW: Final = 32767
TCP_RTO_MAX_SECONDS: Final = 120
SIZEOF_TCP_INFO: Final = 280

# Numbers that mean nothing to Linux 6.18; there is nothing beyond the last either.
TCP_UNKNOWN: Final = frozenset((0, 15, 38, 39, 40, 41))
TCP_LAST: Final = 46


def secs_to_retrans(seconds: int) -> int:
    """How many times a SYN-ACK is sent within ``seconds``: after 1, 3, 7, ... seconds."""
    retrans, wait, period = 0, 1, 0
    while seconds > period and retrans < 255:
        period += wait
        wait = min(wait << 1, TCP_RTO_MAX_SECONDS)
        retrans += 1
    return retrans


def retrans_to_secs(retrans: int) -> int:
    """The seconds that ``retrans`` times take."""
    period, wait = 0, 1
    for _ in range(retrans):
        period += wait
        wait = min(wait << 1, TCP_RTO_MAX_SECONDS)
    return period


def set_nodelay(sk: "TcpSock", val: int) -> None:
    """__tcp_sock_set_nodelay: switched on, it sends what is queued now, even if TCP_CORK holds it."""
    sk.nodelay = switch(val)
    if val:
        tcp_push_pending_frames(sk, False)


def set_cork(sk: "TcpSock", val: int) -> None:
    """__tcp_sock_set_cork: switched off, it sends what it has held."""
    sk.cork = val != 0
    if not val:
        tcp_push_pending_frames(sk, False)


def set_defer_accept(sk: "TcpSock", val: int) -> None:
    """TCP_DEFER_ACCEPT: seconds."""
    sk.defer_accept = secs_to_retrans(val)


def set_syncnt(sk: "TcpSock", val: int) -> None:
    """TCP_SYNCNT."""
    sk.syn_retries = in_range(1, MAX_TCP_SYNCNT)(val)


def get_syncnt(sk: "TcpSock") -> int:
    """TCP_SYNCNT, or the system's number."""
    return sk.syn_retries or sk.sysctl.tcp_syn_retries


def get_defer_accept(sk: "TcpSock") -> int:
    """TCP_DEFER_ACCEPT, in the seconds that it comes to."""
    return retrans_to_secs(sk.defer_accept)


def get_notsent_lowat(sk: "TcpSock") -> int:
    """TCP_NOTSENT_LOWAT in bytes."""
    return (sk.notsent_lowat ^ 1 << 31) - (1 << 31)


def set_notsent_lowat(sk: "TcpSock", val: int) -> None:
    """Bytes, an unsigned number; 0 is the system's default, no limit.  Who waits for space looks again."""
    sk.notsent_lowat = val & 0xFFFFFFFF
    tcp_check_space(sk)


def get_user_timeout(sk: "TcpSock") -> int:
    """TCP_USER_TIMEOUT in milliseconds."""
    return sk.user_timeout


def set_user_timeout(sk: "TcpSock", val: int) -> None:
    """Milliseconds; 0 is the system's default."""
    sk.user_timeout = in_range(0, 2**31 - 1)(val)


def check_linger2(val: int) -> int:
    """Seconds, at most two minutes; 0 is the system's default, a negative number none."""
    if val < 0:
        return -1
    return min(val, TCP_FIN_TIMEOUT_MAX) or TCP_FIN_TIMEOUT


def get_maxseg(sk: "TcpSock") -> int:
    """What a segment of the connection may hold; before there is one, what was asked for."""
    return user_mss(sk) or sk.mss_cache if sk.state in (TCP_CLOSE, TCP_LISTEN) else sk.mss_cache


def set_maxseg(sk: "TcpSock", val: int) -> None:
    """tcp_sock_set_maxseg: 0 forgets it."""
    if val:
        in_range(TCP_MIN_MSS, MAX_TCP_WINDOW)(val)
    store(sk, IPPROTO_TCP, TCP_MAXSEG, val)


def get_window_clamp(sk: "TcpSock") -> int:
    """TCP_WINDOW_CLAMP."""
    clamp = sk.stored.get((IPPROTO_TCP, TCP_WINDOW_CLAMP), 0) if sk.stored else 0
    return clamp or (0 if sk.state in (TCP_CLOSE, TCP_LISTEN) else sk.window_clamp)


def set_window_clamp(sk: "TcpSock", val: int) -> None:
    """tcp_set_window_clamp: 0, without a limit, only while there is no connection."""
    if val == 0 and sk.state != TCP_CLOSE:
        raise oserror(errno.EINVAL)
    store(sk, IPPROTO_TCP, TCP_WINDOW_CLAMP, max(val, SOCK_MIN_RCVBUF // 2) if val else 0)


def tcp_get_info(sk: "TcpSock") -> bytes:
    """struct tcp_info.  Modelled: tcpi_state, tcpi_snd_mss, tcpi_notsent_bytes, and a listener's queue in tcpi_unacked and tcpi_sacked.

    The rest is 0: rates, round trips, congestion.
    """
    info = bytearray(SIZEOF_TCP_INFO)
    info[0] = sk.state
    if sk.state == TCP_LISTEN:
        info[24:28] = len(sk.acceptq).to_bytes(4, "little")
        info[28:32] = sk.backlog_max.to_bytes(4, "little")
        return bytes(info)
    info[16:20] = get_maxseg(sk).to_bytes(4, "little")
    info[144:148] = sk.unsent.to_bytes(4, "little")
    return bytes(info)


IPPROTO_TCP_TABLE: Final[Sequence[Option]] = (
    Option(IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY", SIMULATED, lambda sk: sk.nodelay, set_nodelay, where="TCP"),
    Option(IPPROTO_TCP, TCP_MAXSEG, "TCP_MAXSEG", STORED, get_maxseg, set_maxseg, where="TCP"),
    Option(IPPROTO_TCP, TCP_CORK, "TCP_CORK", SIMULATED, lambda sk: int(sk.cork), set_cork, where="TCP"),
    stored(IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE", 7200, in_range(1, MAX_TCP_KEEPIDLE), where="TCP"),
    stored(IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL", 75, in_range(1, MAX_TCP_KEEPINTVL), where="TCP"),
    stored(IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT", 9, in_range(1, MAX_TCP_KEEPCNT), where="TCP"),
    Option(IPPROTO_TCP, TCP_SYNCNT, "TCP_SYNCNT", SIMULATED, get_syncnt, set_syncnt, where="TCP"),
    stored(IPPROTO_TCP, TCP_LINGER2, "TCP_LINGER2", TCP_FIN_TIMEOUT, check_linger2, where="TCP"),
    Option(
        IPPROTO_TCP,
        TCP_DEFER_ACCEPT,
        "TCP_DEFER_ACCEPT",
        SIMULATED,
        get_defer_accept,
        set_defer_accept,
        where="TCP",
    ),
    Option(IPPROTO_TCP, TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", STORED, get_window_clamp, set_window_clamp, where="TCP"),
    Option(IPPROTO_TCP, TCP_INFO, "TCP_INFO", SIMULATED, tcp_get_info, None, SIZEOF_TCP_INFO, "TCP"),
    stored(IPPROTO_TCP, TCP_QUICKACK, "TCP_QUICKACK", 1, switch, where="TCP"),
    Option(IPPROTO_TCP, TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT", SIMULATED, get_notsent_lowat, set_notsent_lowat, where="TCP"),
    Option(
        IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", SIMULATED, get_user_timeout, set_user_timeout, where="TCP, while it connects"
    ),
)
TCP_OPTIONS: Final = {option.number: option for option in IPPROTO_TCP_TABLE}


def tcp_option(name: int, call: str) -> Option:
    """The entry of an option of level IPPROTO_TCP."""
    option = TCP_OPTIONS.get(name)
    if option is None:
        if name in TCP_UNKNOWN or not 0 <= name <= TCP_LAST:
            raise oserror(errno.ENOPROTOOPT)
        raise Unsupported(f"{call}(IPPROTO_TCP, {name}) is not modelled")
    return option


def do_tcp_setsockopt(sk: "TcpSock", level: int, name: int, value: int | bytes) -> None:
    """tcp_setsockopt, and for the levels below af_inet.py's."""
    if level == IPPROTO_TCP:
        val = int_option(value)
        set_option(sk, tcp_option(name, "setsockopt"), val, value)
    else:
        sk.inet_setsockopt(level, name, value)


def do_tcp_getsockopt(sk: "TcpSock", level: int, name: int) -> int | bytes:
    """tcp_getsockopt, and for the levels below af_inet.py's."""
    if level == IPPROTO_TCP:
        value: int | bytes = tcp_option(name, "getsockopt").get(sk)
        return value
    return sk.inet_getsockopt(level, name)
