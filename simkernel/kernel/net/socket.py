"""Sockets (net/socket.c, net/core/sock.c): the file, and what all protocols share.

A Socket is the file of a program; a Sock is the protocol's end, which may outlive it (a FIN still to be sent) or wait for one (a
connection not yet accepted).
"""

import errno
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from simkernel.api import Address
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.file import File
from simkernel.kernel.net.sockopt import ip_option_value, option_value, sk_getsockopt, sk_setsockopt
from simkernel.kernel.poll import Pollable, PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.stat import S_IFSOCK, SOCKFS_DEV, Kstat
from simkernel.kernel.wait import WaitQueue, wake_up, wake_up_all
from simkernel.uapi import (
    AF_UNIX,
    IPPROTO_IP,
    MSG_CTRUNC,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_PEEK,
    O_RDWR,
    PAGE_SIZE,
    POLLERR,
    POLLIN,
    POLLPRI,
    POLLRDBAND,
    POLLRDNORM,
    SIOCATMARK,
    SIOCOUTQ,
    SIOCOUTQNSD,
    SO_PRIORITY,
    SOCK_STREAM,
    SOL_SOCKET,
    SPLICE_F_MORE,
    SPLICE_F_NONBLOCK,
)

RCV_SHUTDOWN: Final = 1
SEND_SHUTDOWN: Final = 2
SHUTDOWN_MASK: Final = 3

# sock->state
SS_UNCONNECTED: Final = 1
SS_CONNECTING: Final = 2
SS_CONNECTED: Final = 3
SS_DISCONNECTING: Final = 4

# Keys of the wake-ups (net/core/sock.c): sock_def_readable and sock_def_error_report.
KEY_READABLE: Final = POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND
KEY_ERROR: Final = POLLERR

# The largest piece of memory that sent bytes are laid in (SKB_FRAG_PAGE_ORDER).
SKB_FRAG_PAGE: Final = 32768
# struct ucred: pid 0, uid and gid -1.
NO_PEERCRED: Final = bytes(4) + b"\xff" * 8


class Sysctl:
    """/proc/sys/net: buffer sizes in bytes (minimum, default, maximum) and limits, with Linux's defaults."""

    __slots__ = (
        "max_dgram_qlen",
        "port_range",
        "rmem_default",
        "rmem_max",
        "somaxconn",
        "tcp_rmem",
        "tcp_syn_retries",
        "tcp_wmem",
        "unix_wmem",
        "wmem_default",
        "wmem_max",
    )

    def __init__(self) -> None:
        self.tcp_rmem = (4096, 131072, 33554432)
        self.tcp_wmem = (4096, 16384, 4194304)
        self.unix_wmem = 212992
        self.max_dgram_qlen = 10
        self.rmem_default = 212992
        self.wmem_default = 212992
        self.rmem_max = 212992
        self.wmem_max = 212992
        self.somaxconn = 4096
        self.port_range = (32768, 60999)
        self.tcp_syn_retries = 6


CMSG_HDR: Final = 16


def cmsg_align(n: int) -> int:
    """CMSG_ALIGN: control messages start at multiples of 8 bytes."""
    return (n + 7) & ~7


class MsgHdr:
    """struct msghdr, for the calls that need more than bytes.

    Sending, ``name`` is the destination (None: none given) and ``control`` the control messages.  Receiving, the protocol fills both in,
    and ``flags``; ``controllen`` is the room that is left for control messages, in bytes.
    """

    __slots__ = ("control", "controllen", "flags", "name")

    def __init__(self, name: Address | None = None, control: Sequence[tuple[int, int, bytes]] = (), controllen: int = 0) -> None:
        self.name = name
        self.control = list(control)
        self.controllen = controllen
        self.flags = 0

    def put_cmsg(self, level: int, type: int, data: bytes) -> None:
        """put_cmsg (net/core/scm.c): append a control message, cut to the room there is; MSG_CTRUNC if that is too little."""
        if self.controllen < CMSG_HDR:
            self.flags |= MSG_CTRUNC
            return
        length = CMSG_HDR + len(data)
        if self.controllen < length:
            self.flags |= MSG_CTRUNC
            data = data[: self.controllen - CMSG_HDR]
        self.control.append((level, type, data))
        self.controllen -= min(cmsg_align(length), self.controllen)


class Sock(Pollable):
    """struct sock: addresses, state, queues, errors and options of one end of a connection.

    ``wq`` is where its readers, writers, polls and epoll items wait.  ``err`` is sk_err, an errno that is reported once.  Timeouts are in
    nanoseconds or None, buffer sizes in bytes.
    """

    __slots__ = (
        "acceptq",
        "backlog_max",
        "broadcast",
        "dead",
        "err",
        "family",
        "ino",
        "keepalive",
        "linger",
        "passcred",
        "protocol",
        "rcvbuf",
        "rcvbuf_locked",
        "rcvlowat",
        "rcvtimeo",
        "reuseaddr",
        "reuseport",
        "sched",
        "shutdown_mask",
        "sndbuf",
        "sndbuf_locked",
        "sndtimeo",
        "socket",
        "state",
        "stored",
        "sysctl",
        "type",
        "urginline",
        "wq",
    )
    name = "sock"
    state_names: ClassVar[Mapping[int, str]] = {}

    def __init__(self, sched: Sched, sysctl: Sysctl, family: int, type: int, protocol: int) -> None:
        self.sched = sched
        self.sysctl = sysctl
        self.ino = sched.new_ino()
        self.family = family
        self.type = type
        self.protocol = protocol
        self.state = 0
        self.err = 0
        self.shutdown_mask = 0
        self.dead = False
        self.socket: Socket | None = None
        self.wq = WaitQueue(self, "sk_wq")
        self.backlog_max = 0
        self.reuseaddr = 0
        self.reuseport = 0
        self.keepalive = 0
        self.broadcast = 0
        self.urginline = False
        self.passcred = False
        # What the options that have no effect were set to, by (level, name).
        self.stored: dict[tuple[int, int], int] | None = None
        self.linger: tuple[int, int] = (0, 0)
        self.rcvlowat = 1
        self.rcvtimeo: int | None = None
        self.sndtimeo: int | None = None
        self.rcvbuf = 0
        self.sndbuf = 0
        self.rcvbuf_locked = False
        self.sndbuf_locked = False

    def __repr__(self) -> str:
        return f"<{self.name} {self.ino}>"

    # --- wake-ups ---
    def sk_data_ready(self) -> None:
        """sock_def_readable: something can be read (or accepted)."""
        if self.wq.entries:
            wake_up(self.wq, KEY_READABLE)

    def sk_state_change(self) -> None:
        """sock_def_wakeup: wake everybody, whatever they wait for."""
        if self.wq.entries:
            wake_up_all(self.wq)

    def sk_error_report(self) -> None:
        """sock_def_error_report."""
        if self.wq.entries:
            wake_up(self.wq, KEY_ERROR)

    def sock_error(self) -> int:
        """Take sk_err: it is reported once."""
        err, self.err = self.err, 0
        return err

    def stream_error(self, flags: int) -> OSError:
        """sk_stream_error: why nothing was sent; EPIPE comes with SIGPIPE, unless MSG_NOSIGNAL forbids it."""
        code = self.sock_error() or errno.EPIPE
        if code == errno.EPIPE and not flags & MSG_NOSIGNAL:
            self.sched.send_sigpipe()
        return oserror(code)

    def again(self, call: str) -> OSError:
        """EAGAIN, counted as a call without progress."""
        self.sched.stall(call)
        return oserror(errno.EAGAIN)

    # --- operations of a protocol ---
    def bind(self, addr: Address) -> None:
        """bind(2)."""
        raise oserror(errno.EOPNOTSUPP)

    def listen(self, backlog: int) -> None:
        """listen(2)."""
        raise oserror(errno.EOPNOTSUPP)

    def connect(self, addr: Address, nonblock: bool) -> None:
        """connect(2)."""
        raise oserror(errno.EOPNOTSUPP)

    def accept(self, nonblock: bool) -> "Sock":
        """accept(2): the connection's own Sock, which has no file yet."""
        raise oserror(errno.EOPNOTSUPP)

    def getname(self, peer: bool) -> Address:
        """getsockname(2), or getpeername(2) of the ``peer``."""
        raise oserror(errno.EOPNOTSUPP)

    def accepted_name(self) -> Address:
        """The peer's address as accept reports it, even if the peer has reset the connection since."""
        return self.getname(True)

    def sendmsg(self, data: bytes, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> int:
        """send(2), sendto(2), sendmsg(2): how many bytes were taken.  ``msg``: a destination, control messages."""
        raise oserror(errno.EOPNOTSUPP)

    def recvmsg(self, n: int, flags: int, nonblock: bool, msg: MsgHdr | None = None) -> bytes:
        """recv(2), recvfrom(2), recvmsg(2): at most ``n`` bytes.  ``msg`` is filled with the sender, control messages and flags."""
        raise oserror(errno.EOPNOTSUPP)

    def poll(self, table: PollTable | None) -> int:
        """The mask of the protocol's poll (tcp_poll, unix_poll)."""
        raise NotImplementedError

    def shutdown(self, how: int) -> None:
        """shutdown(2)."""
        raise oserror(errno.EOPNOTSUPP)

    def close(self) -> None:
        """The program's last reference has gone."""
        raise NotImplementedError

    def fionread(self) -> int:
        """ioctl FIONREAD: bytes that can be read at once."""
        raise oserror(errno.EOPNOTSUPP)

    def splice_piece(self) -> int:
        """How many bytes, at most, of the first that can be read go into one buffer of a pipe: what lies together in memory."""
        return SKB_FRAG_PAGE

    def siocoutq(self) -> int:
        """ioctl SIOCOUTQ: bytes sent that have not arrived."""
        raise oserror(errno.ENOTTY)

    def siocoutqnsd(self) -> int:
        """ioctl SIOCOUTQNSD: bytes written that have not been sent."""
        raise oserror(errno.ENOTTY)

    def siocatmark(self) -> int:
        """ioctl SIOCATMARK: 1 if the urgent mark is next, else 0."""
        raise oserror(errno.ENOTTY)

    def inherit_options(self, child: "Sock") -> None:
        """sk_clone_lock: what a connection has from its listener.  A priority it has not."""
        child.keepalive, child.broadcast, child.urginline, child.linger = self.keepalive, self.broadcast, self.urginline, self.linger
        child.rcvlowat, child.rcvtimeo, child.sndtimeo = self.rcvlowat, self.rcvtimeo, self.sndtimeo
        if self.stored is not None:
            child.stored = {key: val for key, val in self.stored.items() if key != (SOL_SOCKET, SO_PRIORITY)}

    def describe(self) -> str:
        """The connection in words, for explanations."""
        return self.name

    def listening(self) -> bool:
        """SO_ACCEPTCONN."""
        return False

    def set_rcvlowat(self, val: int) -> None:
        """SO_RCVLOWAT was given."""
        self.rcvlowat = val or 1

    def wakes_on_space(self) -> None:
        """SO_SNDBUF was changed: a sender may go on."""

    # --- options ---
    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """do_sock_setsockopt.  An option that is not modelled raises Unsupported."""
        if level == SOL_SOCKET:
            sk_setsockopt(self, name, value)
        else:
            self.setsockopt_proto(level, name, value)

    def setsockopt_proto(self, level: int, name: int, value: int | bytes) -> None:
        """An option of another level than SOL_SOCKET."""
        raise Unsupported(f"setsockopt(level {level}, option {name}) is not modelled")

    def getsockopt(self, level: int, name: int, buflen: int) -> int | bytes:
        """do_sock_getsockopt: an int, or the bytes of the value when ``buflen`` is not 0."""
        if level == SOL_SOCKET:
            return option_value(sk_getsockopt(self, name), buflen)
        value = self.getsockopt_proto(level, name)
        return ip_option_value(value, buflen) if level == IPPROTO_IP else option_value(value, buflen)

    def getsockopt_proto(self, level: int, name: int) -> int | bytes:
        """An option of another level than SOL_SOCKET: an int, or the bytes of a struct."""
        raise Unsupported(f"getsockopt(level {level}, option {name}) is not modelled")

    def may_scm_recv(self) -> bool:
        """sk_may_scm_recv: whether SO_PASSCRED is for it."""
        return False

    def peercred(self) -> bytes:
        """SO_PEERCRED, a struct ucred: nobody, of a socket whose peer has no credentials."""
        return NO_PEERCRED


class Socket(File):
    """struct socket and its file.  ``state`` is how far connect has come (SS_*); ``proto`` its Sock, as ``sk`` is but never None."""

    __slots__ = ("proto", "state")
    kind = "socket"
    can_seek = False
    can_splice_write = True

    def __init__(self, sched: Sched, sk: Sock, f_flags: int) -> None:
        super().__init__(sched, f_flags | O_RDWR)
        self.sk = sk
        self.proto = sk
        self.state = SS_UNCONNECTED
        sk.socket = self

    def __repr__(self) -> str:
        return repr(self.proto)

    def read(self, n: int) -> bytes:
        """sock_read_iter: a read of nothing succeeds at once, unlike a recv of nothing."""
        return self.proto.recvmsg(n, 0, self.nonblock) if n else b""

    def write(self, data: bytes) -> int:
        return self.proto.sendmsg(data, 0, self.nonblock)

    def poll(self, table: PollTable | None) -> int:
        return self.proto.poll(table)

    def poll_op(self) -> Pollable:
        return self.proto

    def fionread(self) -> int:
        return self.proto.fionread()

    def splice_wait(self, flags: int) -> None:
        """The first half of sock_splice_read.  TCP and datagrams sleep whatever SPLICE_F_NONBLOCK says, AF_UNIX streams do not."""
        sk = self.proto
        heeds = sk.family == AF_UNIX and sk.type == SOCK_STREAM
        sk.recvmsg(1, MSG_PEEK, self.nonblock or (heeds and bool(flags & SPLICE_F_NONBLOCK)))

    def splice_read(self, n: int, pos: int, slots: int, flags: int) -> list[bytes]:
        """sock_splice_read: of a stream the pieces that it arrived in, of anything else one message (copy_splice_read)."""
        sk = self.proto
        pieces: list[bytes] = []
        if sk.type != SOCK_STREAM:
            data = sk.recvmsg(n, 0, self.nonblock)
            return [data[i : i + PAGE_SIZE] for i in range(0, len(data), PAGE_SIZE)]
        while n > 0 and len(pieces) < slots and sk.fionread():
            piece = sk.recvmsg(min(n, sk.splice_piece()), 0, True)
            pieces.append(piece)
            n -= len(piece)
        return pieces

    def splice_write(self, data: bytes, pos: int, flags: int) -> int:
        """splice_to_socket.  SPLICE_F_MORE is MSG_MORE, which AF_UNIX does not know."""
        sk = self.proto
        return sk.sendmsg(data, MSG_MORE if flags & SPLICE_F_MORE and sk.family != AF_UNIX else 0, self.nonblock)

    def ioctl(self, request: int) -> int:
        sk = self.proto
        if request == SIOCOUTQ:
            return sk.siocoutq()
        if request == SIOCATMARK:
            return sk.siocatmark()
        return sk.siocoutqnsd() if request == SIOCOUTQNSD else super().ioctl(request)

    def d_path(self) -> bytes:
        return b"socket:[%d]" % self.ino

    def getattr(self) -> Kstat:
        return Kstat(S_IFSOCK | 0o777, SOCKFS_DEV, self.ino, time=0)

    def release(self) -> None:
        """sock_release: the program's end is gone, the protocol's may have work left."""
        sk = self.proto
        sk.dead = True
        sk.close()
        # sock_orphan.
        sk.socket = None
        sk.wq.owner = None
