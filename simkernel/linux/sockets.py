"""The calls on sockets."""

import ctypes
import os
import struct
from collections.abc import Iterable, Sequence
from ctypes import c_int
from typing import Any, Final

from simkernel.api import Address, Buffer, Cmsg
from simkernel.errors import Unsupported
from simkernel.linux.files import FileCalls
from simkernel.linux.libc import (
    INT,
    SOCKADDR_STORAGE,
    IoVec,
    MsgHdr,
    address_of,
    addressof,
    c_accept4,
    c_bind,
    c_connect,
    c_getpeername,
    c_getsockname,
    c_getsockopt,
    c_listen,
    c_recv,
    c_recvfrom,
    c_recvmsg,
    c_send,
    c_sendmsg,
    c_sendto,
    c_setsockopt,
    c_shutdown,
    c_socket,
    c_socketpair,
    check_ints,
    check_size,
    contents,
    fail,
    io_vec,
    pack_addr,
    pin,
    uint,
    unpack_addr,
)

_OPTION_MAX: Final = 65536


class SocketCalls(FileCalls):
    """The calls on sockets."""

    __slots__ = ()

    def socket(self, family: int, type: int, proto: int = 0, /) -> int:
        """socket(2).  Any family and type that the kernel has; addresses are AF_INET's, AF_INET6's and AF_UNIX's."""
        if (family | type | proto) >> 31:
            check_ints(family, type, proto)
        fd: int = c_socket(family, type, proto)
        if fd < 0:
            fail()
        return fd

    def socketpair(self, family: int, type: int, proto: int = 0, /) -> tuple[int, int]:
        """socketpair(2)."""
        if (family | type | proto) >> 31:
            check_ints(family, type, proto)
        fds = (c_int * 2)()
        if c_socketpair(family, type, proto, fds) < 0:
            fail()
        return fds[0], fds[1]

    def bind(self, fd: int, addr: Address, /) -> None:
        """bind(2).  A pair is an AF_INET address, four values are an AF_INET6 one, str and bytes are AF_UNIX ones."""
        if fd >> 31:
            check_ints(fd)
        raw = pack_addr(addr)
        if c_bind(fd, raw, len(raw)) < 0:
            fail()

    def listen(self, fd: int, backlog: int, /) -> None:
        """listen(2)."""
        if (fd | backlog) >> 31:
            check_ints(fd, backlog)
        if c_listen(fd, backlog) < 0:
            fail()

    def connect(self, fd: int, addr: Address, /) -> None:
        """connect(2)."""
        if fd >> 31:
            check_ints(fd)
        raw = pack_addr(addr)
        if c_connect(fd, raw, len(raw)) < 0:
            fail()

    def accept4(self, fd: int, flags: int = 0, /) -> tuple[int, Address]:
        """accept4(2)."""
        if (fd | flags) >> 31:
            check_ints(fd, flags)
        raw = bytes(SOCKADDR_STORAGE)
        length = uint(SOCKADDR_STORAGE)
        new: int = c_accept4(fd, raw, addressof(length), flags)
        if new < 0:
            fail()
        try:
            return new, unpack_addr(raw, length.value)
        except Unsupported:
            os.close(new)
            raise

    def getsockname(self, fd: int, /) -> Address:
        """getsockname(2)."""
        return self._name(c_getsockname, fd)

    def getpeername(self, fd: int, /) -> Address:
        """getpeername(2)."""
        return self._name(c_getpeername, fd)

    def _name(self, call: Any, fd: int) -> Address:
        if fd >> 31:
            check_ints(fd)
        raw = bytes(SOCKADDR_STORAGE)
        length = uint(SOCKADDR_STORAGE)
        if call(fd, raw, addressof(length)) < 0:
            fail()
        return unpack_addr(raw, length.value)

    def shutdown(self, fd: int, how: int, /) -> None:
        """shutdown(2)."""
        if (fd | how) >> 31:
            check_ints(fd, how)
        if c_shutdown(fd, how) < 0:
            fail()

    def setsockopt(self, fd: int, level: int, name: int, value: int | bytes, /) -> None:
        """setsockopt(2).  An int is passed as a C int, bytes as they are."""
        if (fd | level | name) >> 31:
            check_ints(fd, level, name)
        if isinstance(value, int):
            check_ints(value)
            raw = INT.pack(value)
        else:
            raw = contents(value)
        if c_setsockopt(fd, level, name, raw, len(raw)) < 0:
            fail()

    def getsockopt(self, fd: int, level: int, name: int, buflen: int = 0, /) -> int | bytes:
        """getsockopt(2).  A C int, or up to ``buflen`` bytes when ``buflen`` is not 0."""
        if (fd | level | name | buflen) >> 31:
            check_ints(fd, level, name, buflen)
            if buflen < 0:
                check_size(buflen)
        buf = ctypes.create_string_buffer(min(buflen, _OPTION_MAX) or 4)  # no option is longer
        length = uint(len(buf))
        if c_getsockopt(fd, level, name, buf, addressof(length)) < 0:
            fail()
        if buflen:
            return buf.raw[: length.value]
        value: int = INT.unpack(buf.raw)[0]
        return value

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        """send(2).  SIGPIPE is ignored, as Python starts a process: a broken pipe is EPIPE, with or without MSG_NOSIGNAL."""
        if (fd | flags) >> 31:
            check_ints(fd, flags)
        if data.__class__ is bytes:
            n: int = c_send(fd, data, len(data), flags)
        else:
            n = c_send(fd, *pin(data), flags)
        if n < 0:
            fail()
        return n

    # recv, read and epoll_wait let the kernel write into a bytes object that nothing else refers to yet, and return its head: no
    # faster way was found, and unlike a buffer that each thread keeps, a signal handler in between can't overwrite it.  Python
    # shares the objects of length 0 and, in places, 1, so those take a buffer.

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        """recv(2).  ValueError for a negative ``n``."""
        if (fd | flags) >> 31:
            check_ints(fd, flags)
        if n >> 63:
            check_size(n)
        buf: Any = bytes(n) if n > 1 else ctypes.create_string_buffer(n)
        got: int = c_recv(fd, buf, n, flags)
        if got < 0:
            fail()
        data: bytes = buf[:got]  # MSG_TRUNC may return more than was asked for, a slice not
        return data

    def sendto(self, fd: int, data: Buffer, flags: int, addr: Address | None, /) -> int:
        """sendto(2)."""
        if (fd | flags) >> 31:
            check_ints(fd, flags)
        raw = contents(data)
        name = b"" if addr is None else pack_addr(addr)
        n: int = c_sendto(fd, raw, len(raw), flags, name or None, len(name))
        if n < 0:
            fail()
        return n

    def recvfrom(self, fd: int, n: int, flags: int = 0, /) -> tuple[bytes, Address]:
        """recvfrom(2)."""
        if (fd | flags) >> 31:
            check_ints(fd, flags)
        if n >> 63:
            check_size(n)
        buf = ctypes.create_string_buffer(n or 1)
        name = bytes(SOCKADDR_STORAGE)
        length = uint(SOCKADDR_STORAGE)
        got: int = c_recvfrom(fd, buf, n, flags, name, addressof(length))
        if got < 0:
            fail()
        return buf.raw[: min(got, n)], unpack_addr(name, length.value)

    def sendmsg(
        self, fd: int, buffers: Sequence[Buffer], ancdata: Iterable[Cmsg] = (), flags: int = 0, addr: Address | None = None, /
    ) -> int:
        """sendmsg(2)."""
        if (fd | flags) >> 31:
            check_ints(fd, flags)
        parts = [contents(buffer) for buffer in buffers]
        iov = io_vec(parts)
        name = b"" if addr is None else pack_addr(addr)
        control = b""
        for level, kind, data in ancdata:
            check_ints(level, kind)
            raw = contents(data)
            control += _CMSGHDR.pack(_CMSGHDR.size + len(raw), level, kind) + raw + bytes(-len(raw) % 8)
        msg = MsgHdr(address_of(name), len(name), addressof(iov), len(parts), address_of(control), len(control), 0)
        n: int = c_sendmsg(fd, addressof(msg), flags)
        if n < 0:
            fail()
        return n

    def recvmsg(
        self, fd: int, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Address]:
        """recvmsg(2)."""
        if (fd | flags) >> 31:
            check_ints(fd, flags)
        if (bufsize | ancbufsize) >> 63:
            check_size(bufsize)
            check_size(ancbufsize)
        buf = ctypes.create_string_buffer(bufsize or 1)
        ancbufsize = min(ancbufsize, _OPTION_MAX)  # no message has more
        control = ctypes.create_string_buffer(ancbufsize or 1)
        name = ctypes.create_string_buffer(SOCKADDR_STORAGE)
        iov = IoVec(addressof(buf), bufsize)
        msg = MsgHdr(addressof(name), SOCKADDR_STORAGE, addressof(iov), 1, addressof(control), ancbufsize, 0)
        got: int = c_recvmsg(fd, addressof(msg), flags)
        if got < 0:
            fail()
        return buf.raw[: min(got, bufsize)], _cmsgs(control.raw[: msg.controllen]), msg.flags, unpack_addr(name.raw, msg.namelen)


_CMSGHDR: Final = struct.Struct("@Qii")


def _cmsgs(raw: bytes) -> list[tuple[int, int, bytes]]:
    """The control messages in a buffer of recvmsg (CMSG_FIRSTHDR, CMSG_NXTHDR)."""
    found: list[tuple[int, int, bytes]] = []
    offset = 0
    while offset + _CMSGHDR.size <= len(raw):
        length, level, kind = _CMSGHDR.unpack_from(raw, offset)
        if length < _CMSGHDR.size:
            break
        found.append((level, kind, raw[offset + _CMSGHDR.size : offset + length]))
        offset += (length + 7) & ~7
    return found
