"""OpenSSL's random numbers, in the place of which a simulated program's come.

What OpenSSL draws decides keys, nonces and the lengths of some signatures, so a run that does TLS is the same twice only if that is chosen
like all else.  While a simulated program is in OpenSSL (``drawing``), and in this OS thread only, its RAND_METHOD is ours.
"""

import _ssl
import ctypes
import os
import threading
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


def _libcrypto() -> Any:
    """The libcrypto that _ssl uses, or None where its functions can't be found (linked in, and hidden)."""
    try:
        lib = ctypes.CDLL(_ssl.__file__)
        lib.RAND_set_rand_method.argtypes = [ctypes.c_void_p]
        lib.RAND_get_rand_method.restype = ctypes.c_void_p
    except (AttributeError, OSError):
        return None
    return lib


_LIB: Final = _libcrypto()
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
