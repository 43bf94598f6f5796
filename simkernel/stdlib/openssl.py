"""OpenSSL's random numbers and the time in its tickets, in the place of which a simulated program's come.

What OpenSSL draws decides keys, nonces and the lengths of some signatures, so a run that does TLS is the same twice only if that is chosen
like all else.  While a simulated program is in OpenSSL (``drawing``), and in this OS thread only, its RAND_METHOD is ours.  The ticket of a
session holds, encrypted, when that began: virtual time (``date_tickets``).

Where libcrypto's functions can't be found, a run sends records of other contents each time, and of other lengths where keys are elliptic.
"""

import _ssl
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

_SEED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_ADD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_double)
_CLEANUP = ctypes.CFUNCTYPE(None)
_STATUS = ctypes.CFUNCTYPE(ctypes.c_int)
Source = Callable[[int], bytes]


class RandMethod(ctypes.Structure):
    """struct rand_meth_st (openssl/rand.h)."""

    _fields_ = (
        ("seed", _SEED),
        ("bytes", _SEED),
        ("cleanup", _CLEANUP),
        ("add", _ADD),
        ("pseudorand", _SEED),
        ("status", _STATUS),
    )


# Where the bytes come from, for which OS thread, and how many are inside OpenSSL: greenlets may change in a callback of it.
_source: Source = os.urandom
_thread = 0
_inside = 0


def _bytes(buffer: int, n: int) -> int:
    source = _source if threading.get_ident() == _thread else os.urandom
    ctypes.memmove(buffer, source(n), n)
    return 1


_METHOD: Final = RandMethod(
    _SEED(lambda buffer, n: 1), _SEED(_bytes), _CLEANUP(lambda: None), _ADD(lambda buffer, n, entropy: 1), _SEED(_bytes), _STATUS(lambda: 1)
)


def _library() -> Any:
    """The OpenSSL that _ssl uses, or None where its functions can't be found (linked in, and hidden)."""
    try:
        lib = ctypes.CDLL(_ssl.__file__)
        lib.RAND_set_rand_method.argtypes = [ctypes.c_void_p]
        lib.RAND_get_rand_method.restype = ctypes.c_void_p
        lib.SSL_CTX_set_session_ticket_cb.argtypes = [ctypes.c_void_p, _GENERATE, _DECRYPT, ctypes.c_void_p]
        lib.SSL_get_session.argtypes = [ctypes.c_void_p]
        lib.SSL_get_session.restype = ctypes.c_void_p
        lib.SSL_SESSION_get_time.argtypes = [ctypes.c_void_p]
        lib.SSL_SESSION_get_time.restype = ctypes.c_long
        lib.SSL_SESSION_set_time.argtypes = [ctypes.c_void_p, ctypes.c_long]
        lib.SSL_SESSION_set_time.restype = ctypes.c_long
    except (AttributeError, OSError):
        return None
    return lib


_GENERATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_DECRYPT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
_LIB: Final = _library()
_default: int | None = None


def drawing(source: Source, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of _ssl, with random numbers from ``source(n)``, which gives n bytes and makes no system calls."""
    global _source, _thread, _inside, _default
    if _LIB is None:
        return function(*args, **kwargs)
    if not _inside:
        _default = _LIB.RAND_get_rand_method()
    _inside += 1
    _source, _thread = source, threading.get_ident()
    _LIB.RAND_set_rand_method(ctypes.byref(_METHOD))
    try:
        return function(*args, **kwargs)
    finally:
        _inside -= 1
        if not _inside:
            _LIB.RAND_set_rand_method(_default)
            _source = os.urandom


# --- tickets ---
# SSL_TICKET_STATUS of a ticket that could be decrypted, and the SSL_TICKET_RETURN for each (openssl/ssl.h).
_SSL_TICKET_RETURN: Final = {5: 3, 6: 4}
_SSL_TICKET_RETURN_IGNORE_RENEW: Final = 2
# struct PySSLContext (Modules/_ssl.c) begins with its SSL_CTX in these.
_KNOWN: Final = ((3, 11), (3, 12), (3, 13))
Now = Callable[[], int]
_now: Now | None = None


def _generate(ssl: int, arg: int | None) -> int:
    if _now is not None:
        _LIB.SSL_SESSION_set_time(_LIB.SSL_get_session(ssl), _now())
    return 1


def _decrypt(ssl: int, session: int | None, name: int | None, length: int, status: int, arg: int | None) -> int:
    if status not in _SSL_TICKET_RETURN:
        return _SSL_TICKET_RETURN_IGNORE_RENEW
    if _now is not None:
        # OpenSSL asks the real clock how old it is.
        _LIB.SSL_SESSION_set_time(session, int(time.time()) - (_now() - _LIB.SSL_SESSION_get_time(session)))
    return _SSL_TICKET_RETURN[status]


_CALLBACKS: Final = _GENERATE(_generate), _DECRYPT(_decrypt)


def date_tickets(context: object, now: Now) -> None:
    """Have the tickets that a new _ssl._SSLContext gives say that their session began ``now()``, in seconds since the Epoch."""
    global _now
    _now = now
    if _LIB is not None and sys.version_info[:2] in _KNOWN:
        ctx = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
        _LIB.SSL_CTX_set_session_ticket_cb(ctx, *_CALLBACKS, None)
