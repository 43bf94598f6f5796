"""Linux's user-space API: the constants of a program's calls, and their names for printing.

The numbers are those of x86-64 and of every other architecture with the generic ABI
(include/uapi in the Linux tree).  They are written out, not taken from the host's modules,
so that a run prints the same text on any machine.
"""

from collections.abc import Iterable, Mapping
from typing import Final

# --- poll(2), epoll(7): include/uapi/asm-generic/poll.h, linux/eventpoll.h ---
POLLIN: Final = 0x001
POLLPRI: Final = 0x002
POLLOUT: Final = 0x004
POLLERR: Final = 0x008
POLLHUP: Final = 0x010
POLLNVAL: Final = 0x020
POLLRDNORM: Final = 0x040
POLLRDBAND: Final = 0x080
POLLWRNORM: Final = 0x100
POLLWRBAND: Final = 0x200
POLLMSG: Final = 0x400
POLLRDHUP: Final = 0x2000

EPOLLIN: Final = POLLIN
EPOLLPRI: Final = POLLPRI
EPOLLOUT: Final = POLLOUT
EPOLLERR: Final = POLLERR
EPOLLHUP: Final = POLLHUP
EPOLLRDNORM: Final = POLLRDNORM
EPOLLRDBAND: Final = POLLRDBAND
EPOLLWRNORM: Final = POLLWRNORM
EPOLLWRBAND: Final = POLLWRBAND
EPOLLMSG: Final = POLLMSG
EPOLLRDHUP: Final = POLLRDHUP
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLWAKEUP: Final = 1 << 29
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31

EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3
EPOLL_CLOEXEC: Final = 0o2000000

# --- open(2), fcntl(2), ioctl(2) ---
O_RDONLY: Final = 0o0
O_WRONLY: Final = 0o1
O_RDWR: Final = 0o2
O_ACCMODE: Final = 0o3
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_NOCTTY: Final = 0o400
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
O_ASYNC: Final = 0o20000
O_DSYNC: Final = 0o10000
O_DIRECT: Final = 0o40000
O_LARGEFILE: Final = 0o100000
# What O_TMPFILE adds to O_DIRECTORY.
O_TMPFILE_BIT: Final = 0o20000000
O_DIRECTORY: Final = 0o200000
O_NOFOLLOW: Final = 0o400000
O_NOATIME: Final = 0o1000000
O_CLOEXEC: Final = 0o2000000
O_SYNC: Final = 0o4010000
O_PATH: Final = 0o10000000
O_TMPFILE: Final = 0o20200000

F_DUPFD: Final = 0
F_GETFD: Final = 1
F_SETFD: Final = 2
F_GETFL: Final = 3
F_SETFL: Final = 4
F_DUPFD_CLOEXEC: Final = 1030
F_GETLK: Final = 5
F_SETLK: Final = 6
F_SETLKW: Final = 7
F_RDLCK: Final = 0
F_WRLCK: Final = 1
F_UNLCK: Final = 2
F_SETPIPE_SZ: Final = 1031
F_GETPIPE_SZ: Final = 1032
FD_CLOEXEC: Final = 1

SEEK_SET: Final = 0
SEEK_CUR: Final = 1
SEEK_END: Final = 2
SEEK_DATA: Final = 3
SEEK_HOLE: Final = 4
MFD_CLOEXEC: Final = 1
LOCK_SH: Final = 1
LOCK_EX: Final = 2
LOCK_NB: Final = 4
LOCK_UN: Final = 8
GRND_NONBLOCK: Final = 1
GRND_RANDOM: Final = 2
GRND_INSECURE: Final = 4
SPLICE_F_MOVE: Final = 1
SPLICE_F_NONBLOCK: Final = 2
SPLICE_F_MORE: Final = 4
SPLICE_F_GIFT: Final = 8

SIOCATMARK: Final = 0x8905
SIOCOUTQ: Final = 0x5411
SIOCOUTQNSD: Final = 0x894B
TCGETS: Final = 0x5401
TIOCGPGRP: Final = 0x540F
TIOCGWINSZ: Final = 0x5413
FIONREAD: Final = 0x541B
FIONBIO: Final = 0x5421

# --- socket(2) ---
AF_UNSPEC: Final = 0
AF_UNIX: Final = 1
AF_INET: Final = 2
AF_INET6: Final = 10
AF_NETLINK: Final = 16
AF_PACKET: Final = 17
AF_VSOCK: Final = 40
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_RAW: Final = 3
SOCK_SEQPACKET: Final = 5
SOCK_NONBLOCK: Final = O_NONBLOCK
SOCK_CLOEXEC: Final = O_CLOEXEC
SOMAXCONN: Final = 4096
SHUT_RD: Final = 0
SHUT_WR: Final = 1
SHUT_RDWR: Final = 2
INADDR_ANY: Final = "0.0.0.0"
INADDR_LOOPBACK: Final = "127.0.0.1"
IN6ADDR_ANY: Final = "::"
IN6ADDR_LOOPBACK: Final = "::1"

MSG_OOB: Final = 0x1
MSG_PEEK: Final = 0x2
MSG_DONTROUTE: Final = 0x4
MSG_CTRUNC: Final = 0x8
MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
MSG_EOR: Final = 0x80
MSG_WAITALL: Final = 0x100
MSG_CONFIRM: Final = 0x800
MSG_ERRQUEUE: Final = 0x2000
MSG_NOSIGNAL: Final = 0x4000
MSG_MORE: Final = 0x8000
MSG_FASTOPEN: Final = 0x20000000
MSG_CMSG_CLOEXEC: Final = 0x40000000
SCM_RIGHTS: Final = 1
SCM_CREDENTIALS: Final = 2
SCM_MAX_FD: Final = 253

IPPROTO_IP: Final = 0
IPPROTO_ICMP: Final = 1
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_IPV6: Final = 41
IPPROTO_ICMPV6: Final = 58
IPPROTO_UDPLITE: Final = 136
IPPROTO_MPTCP: Final = 262
SOL_SOCKET: Final = 1
SO_DEBUG: Final = 1
SO_REUSEADDR: Final = 2
SO_TYPE: Final = 3
SO_ERROR: Final = 4
SO_DONTROUTE: Final = 5
SO_BROADCAST: Final = 6
SO_SNDBUF: Final = 7
SO_RCVBUF: Final = 8
SO_KEEPALIVE: Final = 9
SO_OOBINLINE: Final = 10
SO_PRIORITY: Final = 12
SO_LINGER: Final = 13
SO_REUSEPORT: Final = 15
SO_PASSCRED: Final = 16
SO_PEERCRED: Final = 17
SO_RCVLOWAT: Final = 18
SO_SNDLOWAT: Final = 19
SO_RCVTIMEO: Final = 20
SO_SNDTIMEO: Final = 21
SO_ACCEPTCONN: Final = 30
SO_BINDTODEVICE: Final = 25
SO_PROTOCOL: Final = 38
SO_DOMAIN: Final = 39
TCP_NODELAY: Final = 1
TCP_MAXSEG: Final = 2
TCP_CORK: Final = 3
TCP_KEEPIDLE: Final = 4
TCP_KEEPINTVL: Final = 5
TCP_KEEPCNT: Final = 6
TCP_SYNCNT: Final = 7
TCP_LINGER2: Final = 8
TCP_DEFER_ACCEPT: Final = 9
TCP_WINDOW_CLAMP: Final = 10
TCP_INFO: Final = 11
TCP_QUICKACK: Final = 12
TCP_USER_TIMEOUT: Final = 18
TCP_NOTSENT_LOWAT: Final = 25
IP_TOS: Final = 1
IP_TTL: Final = 2
IP_BIND_ADDRESS_NO_PORT: Final = 24
IPV6_UNICAST_HOPS: Final = 16
IPV6_V6ONLY: Final = 26
IPV6_RECVHOPLIMIT: Final = 51
IPV6_HOPLIMIT: Final = 52
IPV6_RECVTCLASS: Final = 66
IPV6_TCLASS: Final = 67
UDP_CORK: Final = 1
UDPLITE_SEND_CSCOV: Final = 10
UDPLITE_RECV_CSCOV: Final = 11

# --- eventfd(2) ---
EFD_SEMAPHORE: Final = 1
EFD_NONBLOCK: Final = O_NONBLOCK
EFD_CLOEXEC: Final = O_CLOEXEC

# --- timerfd_create(2), signalfd(2), pidfd_open(2) ---
TFD_NONBLOCK: Final = O_NONBLOCK
TFD_CLOEXEC: Final = O_CLOEXEC
TFD_TIMER_ABSTIME: Final = 1
TFD_TIMER_CANCEL_ON_SET: Final = 2
SFD_NONBLOCK: Final = O_NONBLOCK
SFD_CLOEXEC: Final = O_CLOEXEC
PIDFD_NONBLOCK: Final = O_NONBLOCK

# --- futex(2) ---
FUTEX_WAIT_PRIVATE: Final = 128
FUTEX_WAKE_PRIVATE: Final = 129

# --- clocks, processes, signals, limits ---
CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPUTIME_ID: Final = 2
CLOCK_THREAD_CPUTIME_ID: Final = 3
CLOCK_MONOTONIC_RAW: Final = 4
CLOCK_REALTIME_COARSE: Final = 5
CLOCK_MONOTONIC_COARSE: Final = 6
CLOCK_BOOTTIME: Final = 7
CLOCK_TAI: Final = 11
WNOHANG: Final = 1
WUNTRACED: Final = 2
WCONTINUED: Final = 8
WALL: Final = 0x40000000
SIGHUP: Final = 1
SIGINT: Final = 2
SIGQUIT: Final = 3
SIGILL: Final = 4
SIGTRAP: Final = 5
SIGABRT: Final = 6
SIGBUS: Final = 7
SIGFPE: Final = 8
SIGKILL: Final = 9
SIGUSR1: Final = 10
SIGSEGV: Final = 11
SIGUSR2: Final = 12
SIGPIPE: Final = 13
SIGALRM: Final = 14
SIGTERM: Final = 15
SIGSTKFLT: Final = 16
SIGCHLD: Final = 17
SIGCONT: Final = 18
SIGSTOP: Final = 19
SIGTSTP: Final = 20
SIGTTIN: Final = 21
SIGTTOU: Final = 22
SIGURG: Final = 23
SIGXCPU: Final = 24
SIGXFSZ: Final = 25
SIGVTALRM: Final = 26
SIGPROF: Final = 27
SIGWINCH: Final = 28
SIGIO: Final = 29
SIGPWR: Final = 30
SIGSYS: Final = 31
# As the C library counts: it keeps 32 and 33 for itself (signal(7)).
SIGRTMIN: Final = 34
SIGRTMAX: Final = 64
NSIG: Final = 64
ITIMER_REAL: Final = 0
ITIMER_VIRTUAL: Final = 1
ITIMER_PROF: Final = 2
SIG_DFL: Final = 0
SIG_IGN: Final = 1
SIG_BLOCK: Final = 0
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2
SA_NOCLDSTOP: Final = 0x1
SA_NOCLDWAIT: Final = 0x2
SA_RESTART: Final = 0x10000000
SA_NODEFER: Final = 0x40000000
SA_RESETHAND: Final = 0x80000000
# The kernel's own codes for "start the call again" (include/linux/errno.h): a program never sees them.
ERESTARTSYS: Final = 512
ERESTARTNOINTR: Final = 513
ERESTARTNOHAND: Final = 514
ERESTART_RESTARTBLOCK: Final = 516
RLIMIT_NOFILE: Final = 7
RLIM_INFINITY: Final = -1
FD_SETSIZE: Final = 1024
PAGE_SIZE: Final = 4096
PIPE_BUF: Final = 4096
NSEC_PER_SEC: Final = 1_000_000_000
NSEC_PER_MSEC: Final = 1_000_000
NSEC_PER_USEC: Final = 1_000

_HERE: Final[Mapping[str, object]] = globals()


def _table(names: Iterable[str]) -> dict[int, str]:
    table: dict[int, str] = {}
    for name in names:
        value = _HERE[name]
        assert isinstance(value, int)
        table[value] = name
    return table


POLL_NAMES: Final = _table(
    "POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDNORM POLLRDBAND POLLWRNORM POLLWRBAND POLLMSG POLLRDHUP".split()
)
EPOLL_NAMES: Final = _table(
    (
        "EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDNORM EPOLLRDBAND EPOLLWRNORM EPOLLWRBAND EPOLLMSG "
        "EPOLLRDHUP EPOLLEXCLUSIVE EPOLLWAKEUP EPOLLONESHOT EPOLLET"
    ).split()
)
OPEN_NAMES: Final = _table(
    (
        "O_WRONLY O_RDWR O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_ASYNC O_DIRECT O_LARGEFILE O_DIRECTORY O_NOFOLLOW O_NOATIME "
        "O_CLOEXEC O_PATH"
    ).split()
)
MSG_NAMES: Final = _table(
    (
        "MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_CONFIRM MSG_ERRQUEUE "
        "MSG_NOSIGNAL MSG_MORE MSG_CMSG_CLOEXEC"
    ).split()
)
EPOLL_CTL_NAMES: Final = _table("EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD".split())
FCNTL_NAMES: Final = _table("F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ".split())
SEEK_NAMES: Final = _table("SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE".split())
SPLICE_NAMES: Final = _table("SPLICE_F_MOVE SPLICE_F_NONBLOCK SPLICE_F_MORE SPLICE_F_GIFT".split())
IOCTL_NAMES: Final = _table("FIONREAD FIONBIO SIOCATMARK SIOCOUTQ SIOCOUTQNSD TCGETS TIOCGPGRP TIOCGWINSZ".split())
FAMILY_NAMES: Final = _table("AF_UNSPEC AF_UNIX AF_INET AF_INET6".split())
SOCK_NAMES: Final = _table("SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET".split())
SHUT_NAMES: Final = _table("SHUT_RD SHUT_WR SHUT_RDWR".split())
SO_NAMES: Final = _table(
    (
        "SO_DEBUG SO_REUSEADDR SO_TYPE SO_ERROR SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_OOBINLINE SO_PRIORITY "
        "SO_LINGER SO_REUSEPORT SO_PASSCRED SO_PEERCRED SO_RCVLOWAT SO_SNDLOWAT "
        "SO_RCVTIMEO SO_SNDTIMEO SO_ACCEPTCONN SO_PROTOCOL SO_DOMAIN"
    ).split()
)
TCP_NAMES: Final = _table(
    (
        "TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2 TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP "
        "TCP_INFO TCP_QUICKACK TCP_NOTSENT_LOWAT TCP_USER_TIMEOUT"
    ).split()
)
IP_NAMES: Final = _table("IP_TOS IP_TTL".split())
SIGNAL_NAMES: Final = _table(
    (
        "SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT "
        "SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS"
    ).split()
)
SIG_HOW_NAMES: Final = _table("SIG_BLOCK SIG_UNBLOCK SIG_SETMASK".split())
SA_NAMES: Final = _table("SA_NOCLDSTOP SA_NOCLDWAIT SA_RESTART SA_NODEFER SA_RESETHAND".split())
ITIMER_NAMES: Final = _table("ITIMER_REAL ITIMER_VIRTUAL ITIMER_PROF".split())
CLOCK_NAMES: Final = _table(
    (
        "CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW CLOCK_REALTIME_COARSE "
        "CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_TAI"
    ).split()
)


def flags(value: int, names: Mapping[int, str]) -> str:
    """Print a set of flags as Linux's names joined by ``|``; bits without a name in hexadecimal; no bit at all as ``0``.

    >>> flags(EPOLLIN | EPOLLET, EPOLL_NAMES)
    'EPOLLIN|EPOLLET'
    """
    out = [name for bit, name in names.items() if bit and value & bit]
    rest = value
    for bit in names:
        rest &= ~bit
    if rest:
        out.append(hex(rest))
    return "|".join(out) or "0"


def sock_type(value: int) -> str:
    """Print the type argument of socket(2): ``SOCK_STREAM|SOCK_NONBLOCK``."""
    out = [SOCK_NAMES.get(value & 0xF, str(value & 0xF))]
    if value & SOCK_NONBLOCK:
        out.append("SOCK_NONBLOCK")
    if value & SOCK_CLOEXEC:
        out.append("SOCK_CLOEXEC")
    return "|".join(out)
