"""The calls on sockets (net/socket.c)."""

import errno
from collections.abc import Iterable, Sequence

from simkernel.api import Address, Buffer, Cmsg
from simkernel.errors import Unsupported, oserror
from simkernel.kernel.fdtable import bad_fd
from simkernel.kernel.net.socket import SS_CONNECTED, MsgHdr, Sock, Socket
from simkernel.kernel.net.tcp import TcpSock
from simkernel.kernel.net.udp import UdpSock
from simkernel.kernel.net.udplite import UdpLiteSock
from simkernel.kernel.net.unix import UnixSock, unix_socketpair
from simkernel.kernel.net.unix_dgram import UnixDgramSock, UnixSeqpacketSock
from simkernel.kernel.net.unix_stream import UnixStreamSock
from simkernel.kernel.syscalls.base import (
    AF_MAX,
    IOV_MAX,
    IPPROTO_MAX,
    SOCK_MAX,
    SOCK_TYPE_MASK,
    as_bytes,
    c_int,
    move_addr_to_kernel,
    size,
)
from simkernel.kernel.syscalls.vfs import VfsCalls
from simkernel.uapi import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    AF_VSOCK,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    MSG_CMSG_CLOEXEC,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)


class SocketCalls(VfsCalls):
    """socket, bind, listen, connect, accept4, send, recv and their kin."""

    __slots__ = ()

    def socket(self, family: int, type: int, proto: int = 0, /) -> int:
        c_int(family, "family")
        c_int(type, "type")
        c_int(proto, "proto")
        if type & ~SOCK_TYPE_MASK & ~(SOCK_NONBLOCK | SOCK_CLOEXEC):
            raise oserror(errno.EINVAL)
        sk = self._sk_alloc(family, type & SOCK_TYPE_MASK, proto)
        file = Socket(self.sched, sk, type & SOCK_NONBLOCK)
        return self._install(self.sched.current.files, file, bool(type & SOCK_CLOEXEC))

    def _sk_alloc(self, family: int, kind: int, proto: int) -> Sock:
        if not 0 <= family < AF_MAX:
            raise oserror(errno.EAFNOSUPPORT)
        if kind >= SOCK_MAX:
            raise oserror(errno.EINVAL)
        if family in (AF_INET, AF_INET6) and kind in (SOCK_STREAM, SOCK_DGRAM):
            return self._inet_create(family, kind, proto)
        if family == AF_UNIX:
            return self._unix_create(kind, proto)
        if family in (AF_INET, AF_INET6) and kind != SOCK_RAW:
            raise oserror(errno.ESOCKTNOSUPPORT if 0 <= proto < IPPROTO_MAX else errno.EINVAL)
        if family not in (AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK):
            # Of a module that this kernel has not.
            raise oserror(errno.EAFNOSUPPORT)
        raise Unsupported(
            f"socket(family {family}, type {kind}) is not modelled, only AF_UNIX, and AF_INET and AF_INET6 with SOCK_STREAM or SOCK_DGRAM"
        )

    def _inet_create(self, family: int, kind: int, proto: int) -> Sock:
        """inet_create, inet6_create: the protocol that a type and a number name (inetsw)."""
        if not 0 <= proto < IPPROTO_MAX:
            raise oserror(errno.EINVAL)
        if proto in ((IPPROTO_MPTCP,) if kind == SOCK_STREAM else (IPPROTO_ICMP if family == AF_INET else IPPROTO_ICMPV6,)):
            raise Unsupported(f"socket(family {family}, type {kind}, protocol {proto}) is not modelled")
        net = self.nets[self.sched.current.process.net_ns]
        if kind == SOCK_DGRAM and proto == IPPROTO_UDPLITE:
            return UdpLiteSock(self.sched, self.sysctl, net.udplite, family)
        if proto not in (0, IPPROTO_TCP if kind == SOCK_STREAM else IPPROTO_UDP):
            raise oserror(errno.EPROTONOSUPPORT)
        if kind == SOCK_STREAM:
            return TcpSock(self.sched, self.sysctl, net.inet, family)
        return UdpSock(self.sched, self.sysctl, net.udp, family)

    def _unix_create(self, kind: int, proto: int) -> UnixSock:
        """unix_create.  Linux takes SOCK_RAW for SOCK_DGRAM."""
        if proto not in (0, AF_UNIX):
            raise oserror(errno.EPROTONOSUPPORT)
        if kind == SOCK_STREAM:
            return UnixStreamSock(self.sched, self.sysctl, self.unix)
        if kind in (SOCK_DGRAM, SOCK_RAW):
            return UnixDgramSock(self.sched, self.sysctl, self.unix)
        if kind == SOCK_SEQPACKET:
            return UnixSeqpacketSock(self.sched, self.sysctl, self.unix)
        raise oserror(errno.ESOCKTNOSUPPORT)

    def socketpair(self, family: int, type: int, proto: int = 0, /) -> tuple[int, int]:
        c_int(family, "family")
        c_int(type, "type")
        c_int(proto, "proto")
        if type & ~SOCK_TYPE_MASK & ~(SOCK_NONBLOCK | SOCK_CLOEXEC):
            raise oserror(errno.EINVAL)
        if family != AF_UNIX:
            self._sk_alloc(family, type & SOCK_TYPE_MASK, proto).close()
            raise oserror(errno.EOPNOTSUPP)
        kind = type & SOCK_TYPE_MASK
        if kind >= SOCK_MAX:
            raise oserror(errno.EINVAL)
        a, b = unix_socketpair(self._unix_create(kind, proto), self._unix_create(kind, proto), type & SOCK_NONBLOCK)
        return self._install2(a, b, bool(type & SOCK_CLOEXEC))

    def bind(self, fd: int, addr: Address, /) -> None:
        addr = move_addr_to_kernel(fd, addr)
        self._sock(fd).bind(addr)

    def listen(self, fd: int, backlog: int, /) -> None:
        c_int(backlog, "backlog")
        self._sock(fd).listen(backlog)

    def connect(self, fd: int, addr: Address, /) -> None:
        addr = move_addr_to_kernel(fd, addr)
        files = self.sched.current.files
        file = files.fget(fd)
        if file.sk is None:
            raise oserror(errno.ENOTSOCK)
        self._held(files, file, file.sk.connect, addr, file.nonblock)

    def accept4(self, fd: int, flags: int = 0, /) -> tuple[int, Address]:
        c_int(flags, "flags")
        files = self.sched.current.files
        file = files.fget(fd)
        if flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC):
            raise oserror(errno.EINVAL)
        limit = self._nofile()
        try:
            # Linux takes the number first: with a full table nothing is accepted, and the connection stays pending.
            newfd = files.get_unused_fd(limit)
            self.sched.check_files(1)
        except OSError:
            self.sched.stall("accept4")
            raise
        if file.sk is None:
            raise oserror(errno.ENOTSOCK)
        # Nobody else gets it while we sleep.
        files.reserved.add(newfd)
        try:
            sk: Sock = self._held(files, file, file.sk.accept, file.nonblock)
        finally:
            files.put_unused_fd(newfd)
        new = Socket(self.sched, sk, flags & SOCK_NONBLOCK)
        new.state = SS_CONNECTED
        files.fd_install(newfd, new, bool(flags & SOCK_CLOEXEC))
        self.sched.stalled = 0
        if self.sched.watch is not None:
            self.sched.watch.accepted(file.sk, newfd)
        return newfd, sk.accepted_name()

    def getsockname(self, fd: int, /) -> Address:
        return self._sock(fd).getname(False)

    def getpeername(self, fd: int, /) -> Address:
        return self._sock(fd).getname(True)

    def shutdown(self, fd: int, how: int, /) -> None:
        c_int(how, "how")
        sk = self._sock(fd)
        if not 0 <= how <= 2:
            raise oserror(errno.EINVAL)
        sk.shutdown(how)

    def setsockopt(self, fd: int, level: int, name: int, value: int | bytes, /) -> None:
        c_int(level, "level")
        c_int(name, "name")
        value = c_int(value, "value") if isinstance(value, int) else as_bytes(value)
        self._sock(fd).setsockopt(level, name, value)

    def getsockopt(self, fd: int, level: int, name: int, buflen: int = 0, /) -> int | bytes:
        c_int(level, "level")
        c_int(name, "name")
        size(c_int(buflen, "buflen"), "buflen")
        sk = self._sock(fd)
        if level == SOL_SOCKET and name == SO_ERROR:
            # Reading it takes it: asking again makes no progress.
            self.sched.stall("getsockopt")
        return sk.getsockopt(level, name, buflen)

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        if type(data) is not bytes:
            data = as_bytes(data)
        if flags >> 31:
            c_int(flags, "flags")
        sched = self.sched
        files = sched.current.files
        try:
            file = files.fd[fd] if fd >= 0 else None
        except (IndexError, TypeError):
            file = None
        if file is None:
            raise bad_fd(fd)
        sk = file.sk
        if sk is None:
            raise oserror(errno.ENOTSOCK)
        if files.count == 1:
            try:
                n = sk.sendmsg(data, flags, file.nonblock)
            except OSError as error:
                if not self._restarts(error):
                    raise
                return self.send(fd, data, flags)
            if sched.sigwork:
                self._exit_to_user()
            return n
        sent: int = self._held(files, file, sk.sendmsg, data, flags, file.nonblock)
        return sent

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        if n >> 63:
            size(n)
        if flags >> 31:
            c_int(flags, "flags")
        sched = self.sched
        files = sched.current.files
        try:
            file = files.fd[fd] if fd >= 0 else None
        except (IndexError, TypeError):
            file = None
        if file is None:
            raise bad_fd(fd)
        sk = file.sk
        if sk is None:
            raise oserror(errno.ENOTSOCK)
        if files.count == 1:
            try:
                got = sk.recvmsg(n, flags, file.nonblock)
            except OSError as error:
                if not self._restarts(error):
                    raise
                return self.recv(fd, n, flags)
            if sched.sigwork:
                self._exit_to_user()
            return got
        data: bytes = self._held(files, file, sk.recvmsg, n, flags, file.nonblock)
        return data

    def sendto(self, fd: int, data: Buffer, flags: int, addr: Address | None, /) -> int:
        c_int(fd, "fd")
        raw = as_bytes(data)
        c_int(flags, "flags")
        name = None if addr is None else move_addr_to_kernel(fd, addr)
        return self._sendmsg(fd, raw, flags, MsgHdr(name))

    def recvfrom(self, fd: int, n: int, flags: int = 0, /) -> tuple[bytes, Address]:
        c_int(fd, "fd")
        size(n)
        c_int(flags, "flags")
        msg = MsgHdr()
        data = self._recvmsg(fd, n, flags, msg)
        return data, "" if msg.name is None else msg.name

    def sendmsg(
        self, fd: int, buffers: Sequence[Buffer], ancdata: Iterable[Cmsg] = (), flags: int = 0, addr: Address | None = None, /
    ) -> int:
        c_int(fd, "fd")
        raw = [as_bytes(buffer) for buffer in buffers]
        control = [(c_int(level, "cmsg_level"), c_int(kind, "cmsg_type"), as_bytes(data)) for level, kind, data in ancdata]
        c_int(flags, "flags")
        name = None if addr is None else move_addr_to_kernel(fd, addr)
        if flags < 0:
            # MSG_CMSG_COMPAT, the sign bit, is the kernel's own.
            raise oserror(errno.EINVAL)
        if len(raw) > IOV_MAX:
            self._sock(fd)
            raise oserror(errno.EMSGSIZE)
        return self._sendmsg(fd, b"".join(raw), flags, MsgHdr(name, control))

    def recvmsg(
        self, fd: int, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Address]:
        c_int(fd, "fd")
        size(bufsize, "bufsize")
        size(ancbufsize, "ancbufsize")
        c_int(flags, "flags")
        if flags < 0:
            raise oserror(errno.EINVAL)
        msg = MsgHdr(None, (), ancbufsize)
        # What the caller asked of the fds comes back in msg_flags (____sys_recvmsg).
        msg.flags = flags & MSG_CMSG_CLOEXEC
        data = self._recvmsg(fd, bufsize, flags, msg)
        return data, msg.control, msg.flags, "" if msg.name is None else msg.name

    def _sendmsg(self, fd: int, data: bytes, flags: int, msg: MsgHdr) -> int:
        files = self.sched.current.files
        file = files.fget(fd)
        if file.sk is None:
            raise oserror(errno.ENOTSOCK)
        sent: int = self._held(files, file, file.sk.sendmsg, data, flags, file.nonblock, msg)
        return sent

    def _recvmsg(self, fd: int, n: int, flags: int, msg: MsgHdr) -> bytes:
        files = self.sched.current.files
        file = files.fget(fd)
        if file.sk is None:
            raise oserror(errno.ENOTSOCK)
        data: bytes = self._held(files, file, file.sk.recvmsg, n, flags, file.nonblock, msg)
        return data
