"""``_ssl``: OpenSSL itself, over the world's sockets (Modules/_ssl.c).

All of it is the real one but how it reads and writes: a TLS socket here is OpenSSL over two memory BIOs, and the bytes between these and
the socket are moved as OpenSSL moves them when it has a socket: it reads the five bytes of a record's header, then exactly the rest, so
that nothing which is not decrypted yet leaves the kernel; it writes a record at a time.
"""

import _ssl as real
import os
import time
import weakref
from collections.abc import Callable
from hashlib import shake_256
from typing import TYPE_CHECKING, Any, Final

from simkernel.stdlib.environ import c_environment
from simkernel.stdlib.here import here
from simkernel.stdlib.openssl import date_tickets, drawing
from simkernel.uapi import CLOCK_MONOTONIC, CLOCK_REALTIME, NSEC_PER_MSEC, POLLIN, POLLOUT

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
globals().update({name: value for name, value in vars(real).items() if not name.startswith("__")})
NSEC: Final = 1_000_000_000
# The most that a record holds, and what is before its contents: type, version, length.
SSL3_RT_MAX_PLAIN_LENGTH: Final = 16384
SSL3_RT_HEADER_LENGTH: Final = 5
PY_SSL_ERROR_NO_SOCKET: Final = 9

# The state of the process's generator: None until it is seeded.
_key: bytes | None = None


def _draw(n: int) -> bytes:
    global _key
    if here.sched is None or _key is None:
        # The run ended while one of its tasks was within OpenSSL: what is predictable is for simulated programs only.
        return os.urandom(n)
    drawn = shake_256(_key).digest(32 + n)
    _key = drawn[:32]
    return drawn[32:]


def _call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call OpenSSL, whose random numbers are the program's: seeded once a process, as there, from getrandom."""
    global _key
    if here.sched is None:
        return function(*args, **kwargs)
    if _key is None:
        _key = here.sys.getrandom(32)
    return drawing(_draw, function, *args, **kwargs)


def _now() -> int:
    # (Nobody else may run within OpenSSL.)
    return here.sched.clock.gettime(CLOCK_REALTIME) // NSEC if here.sched is not None else int(time.time())


def RAND_bytes(n: int, /) -> bytes:  # noqa: N802
    """Random bytes."""
    drawn: bytes = _call(real.RAND_bytes, n)
    return drawn


def reset() -> None:
    """A new process begins."""
    global _key
    _key = None


_real_wrap_bio: Any = vars(real._SSLContext)["_wrap_bio"]


class _Immutable(type):
    """As types of C are: their attributes are not set."""

    def __setattr__(cls, name: str, value: object) -> None:
        if cls.__module__ == "_ssl":
            raise TypeError(f"cannot set {name!r} attribute of immutable type '_ssl.{cls.__name__}'")
        super().__setattr__(name, value)


class _SSLContext(real._SSLContext, metaclass=_Immutable):
    """SSL_CTX."""

    __slots__ = ()
    __module__ = "_ssl"

    def __new__(cls, protocol: int) -> "_SSLContext":
        # (It has keys of its own for the tickets of sessions.)
        made: _SSLContext = _call(real._SSLContext.__new__, cls, protocol)
        if here.sched is not None:
            date_tickets(made, _now)
        return made

    def set_default_verify_paths(self) -> None:
        """SSL_CTX_set_default_verify_paths, which looks at SSL_CERT_FILE and SSL_CERT_DIR: the program's."""
        with c_environment(world, "SSL_CERT_FILE", "SSL_CERT_DIR"):
            super().set_default_verify_paths()

    def _wrap_socket(
        self, sock: Any, server_side: bool, server_hostname: Any = None, *, owner: Any = None, session: Any = None
    ) -> "_SSLSocket":
        kind = world.import_module("_socket").socket
        if not isinstance(sock, kind):
            raise TypeError(f"_wrap_socket() argument 'sock' must be _socket.socket, not {type(sock).__name__}")
        incoming, outgoing = real.MemoryBIO(), real.MemoryBIO()
        wrapped = _call(_real_wrap_bio, self, incoming, outgoing, server_side, server_hostname, owner=owner, session=session)
        return _SocketSSL(wrapped, sock, incoming, outgoing)

    def _wrap_bio(
        self, incoming: Any, outgoing: Any, server_side: bool, server_hostname: Any = None, *, owner: Any = None, session: Any = None
    ) -> "_SSLSocket":
        return _SSLSocket(_call(_real_wrap_bio, self, incoming, outgoing, server_side, server_hostname, owner=owner, session=session))


def _through(name: str) -> Any:
    """An attribute of the object of OpenSSL."""

    def get(self: "_SSLSocket") -> Any:
        return getattr(self._ssl, name)

    def put(self: "_SSLSocket", value: Any) -> None:
        setattr(self._ssl, name, value)

    return property(get, put)


class _SSLSocket(metaclass=_Immutable):
    """SSL, over memory BIOs that the program fills and empties itself."""

    __module__ = "_ssl"
    __slots__ = ("__weakref__", "_ssl")

    context, owner, session = _through("context"), _through("owner"), _through("session")
    server_hostname, server_side, session_reused = (_through(name) for name in ("server_hostname", "server_side", "session_reused"))

    def __init__(self, wrapped: Any) -> None:
        self._ssl = wrapped

    def __getattr__(self, name: str) -> Any:
        # What only asks: cipher, getpeercert, version...
        return getattr(self._ssl, name)

    def do_handshake(self) -> None:
        """SSL_do_handshake."""
        _call(self._ssl.do_handshake)

    def read(self, *args: Any) -> Any:
        """SSL_read."""
        return _call(self._ssl.read, *args)

    def write(self, data: Any, /) -> int:
        """SSL_write."""
        written: int = _call(self._ssl.write, data)
        return written

    def shutdown(self) -> Any:
        """SSL_shutdown."""
        return _call(self._ssl.shutdown)

    def verify_client_post_handshake(self) -> None:
        """SSL_verify_client_post_handshake."""
        _call(self._ssl.verify_client_post_handshake)


class _SocketSSL(_SSLSocket):
    """SSL, over a socket."""

    __slots__ = ("_body", "_header", "_incoming", "_outgoing", "_sock", "_unsent", "_writing", "_written")

    def __init__(self, wrapped: Any, sock: Any, incoming: Any, outgoing: Any) -> None:
        super().__init__(wrapped)
        self._sock = weakref.ref(sock)
        self._incoming, self._outgoing = incoming, outgoing
        # Of the record that is being read: its header as far as it has come, and how much of the rest is missing.
        self._header = b""
        self._body = 0
        # What the socket has not taken yet.
        self._unsent = b""
        # A write that has to be tried again: its length, and how much of it is encrypted.
        self._writing: int | None = None
        self._written = 0

    # --- the socket ---
    def _socket(self) -> tuple[Any, int, float | None]:
        """The socket, its fd and its timeout in seconds."""
        sock = self._sock()
        kind = world.import_module("_socket").socket
        fd = kind.fileno(sock) if sock is not None else -1
        if fd < 0:
            raise real.SSLError(PY_SSL_ERROR_NO_SOCKET, "Underlying socket connection gone")
        return sock, fd, kind.gettimeout(sock)

    def _flush(self, fd: int) -> int:
        """Write what OpenSSL has for the other end.  POLLOUT if the socket does not take it now, 0 when nothing is left or to try again."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                sent = here.sys.write(fd, self._unsent)
            except BlockingIOError:
                return POLLOUT
            except InterruptedError:
                world.check_signals()
                continue
            self._unsent = self._unsent[sent:]
        return 0

    def _fill(self, fd: int) -> int:
        """Read what is missing of the header or of the rest of a record.  POLLIN if there is nothing now."""
        try:
            data = here.sys.read(fd, self._body or SSL3_RT_HEADER_LENGTH - len(self._header))
        except BlockingIOError:
            return POLLIN
        except InterruptedError:
            return 0
        if not data:
            self._incoming.write_eof()
            return 0
        self._incoming.write(data)
        if self._body:
            self._body -= len(data)
        else:
            self._header += data
            if len(self._header) == SSL3_RT_HEADER_LENGTH:
                self._body = int.from_bytes(self._header[3:], "big")
                self._header = b""
        return 0

    def _operate(self, action: str, operation: Callable[[], Any] | None, deadline: int | None = None) -> Any:
        """Do an operation of OpenSSL, and move bytes, until it is done and what it has for the other end is written."""
        _sock, fd, timeout = self._socket()
        if deadline is None:
            deadline = self._deadline(timeout)
        done, result = operation is None, None
        while True:
            want: OSError | None = None
            blocked = self._flush_after(fd, done)
            if not blocked:
                if done:
                    return result
                assert operation is not None
                try:
                    result, done = _call(operation), True
                except real.SSLWantReadError as error:
                    want = error
                except BaseException:
                    self._last_words(fd)
                    raise
                if want is not None:
                    blocked = self._flush(fd) or self._fill(fd)
            elif done and action == "read":
                # What was decrypted is not kept back for what is to be written.
                return result
            world.check_signals()
            if not blocked or timeout is None:
                continue
            if timeout == 0:
                if blocked == POLLIN and want is not None:
                    raise want.with_traceback(None)
                raise real.SSLWantWriteError(real.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)")
            assert deadline is not None
            self._wait(fd, blocked, deadline, action)

    def _flush_after(self, fd: int, done: bool) -> int:
        try:
            return self._flush(fd)
        except (BrokenPipeError, ConnectionResetError):
            if not done or not self._ssl.server_side or self._written or self._ssl.version() != "TLSv1.3":
                raise
            # Tickets for a client that has gone already are no error (OpenSSL, conn_is_closed).
            self._unsent = b""
            return 0

    def _last_words(self, fd: int) -> None:
        """An alert, if the socket takes it."""
        try:
            self._flush(fd)
        except OSError:
            pass

    @staticmethod
    def _deadline(timeout: float | None) -> int | None:
        return here.clock_gettime_ns(CLOCK_MONOTONIC) + int(timeout * NSEC) if timeout else None

    @staticmethod
    def _wait(fd: int, events: int, deadline: int, action: str) -> None:
        """PySSL_select: until the socket is ready."""
        while True:
            left = deadline - here.clock_gettime_ns(CLOCK_MONOTONIC)
            if left < 0:
                raise TimeoutError(f"The {action} operation timed out")
            try:
                if here.sys.poll([(fd, events)], -(-left // NSEC_PER_MSEC)):
                    return
            except InterruptedError:
                world.check_signals()
                continue
            raise TimeoutError(f"The {action} operation timed out")

    # --- what the program calls ---
    def do_handshake(self) -> None:
        self._operate("handshake", self._ssl.do_handshake)

    def read(self, *args: Any) -> Any:
        return self._operate("read", lambda: self._ssl.read(*args))

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
        length = len(view)
        _sock, fd, timeout = self._socket()
        deadline = self._deadline(timeout)
        if deadline is not None:
            self._wait(fd, POLLOUT, deadline, "write")
        if self._writing is not None and length < self._writing:
            raise real.SSLError(real.SSL_ERROR_SSL, "[SSL: BAD_WRITE_RETRY] bad write retry")
        first = self._writing is None
        self._writing = length

        def record() -> None:
            self._written += self._ssl.write(view[self._written : self._written + SSL3_RT_MAX_PLAIN_LENGTH])

        self._operate("write", None, deadline)
        while first or self._written < length:
            self._operate("write", record, deadline)
            first = False
        self._writing, self._written = None, 0
        return length

    def shutdown(self) -> Any:
        sock, _fd, _timeout = self._socket()
        self._operate("read", self._ssl.shutdown)
        return sock

    def verify_client_post_handshake(self) -> None:
        self._operate("write", self._ssl.verify_client_post_handshake)
