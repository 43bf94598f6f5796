"""Signals of the real process.

A handler is run by Python, not inside the kernel's signal frame: the C function that Python installs notes the signal, and the function
runs in the first thread of the process between two bytecodes.  What follows from that: flags and masks are the kernel's, EINTR and
restarts are decided by the kernel, but of several signals that come at once Python runs the handlers in order of their numbers; and
a handler with SA_RESTART runs when the restarted call returns.
"""

import ctypes
import errno
import os
import signal
import threading
from collections.abc import Iterable
from ctypes import byref
from types import FrameType

from simkernel.api import Handler
from simkernel.errors import Unsupported
from simkernel.linux.libc import SigAction, c_sigaction, c_sigprocmask, fail, sigset
from simkernel.uapi import SA_NODEFER, SIG_DFL, SIG_IGN

_handlers: dict[int, Handler] = {}


class _PythonHandler:
    """What Python calls: the handler, with the signals blocked that the kernel would block meanwhile."""

    def __init__(self, handler: Handler, blocked: bytes) -> None:
        self.handler = handler
        self.blocked = blocked

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        # The errno that the interrupted call left is read after this returns.
        code = ctypes.get_errno()
        old = ctypes.create_string_buffer(128)
        c_sigprocmask(signal.SIG_BLOCK, self.blocked, old)
        try:
            assert callable(self.handler)
            self.handler(signum)
        finally:
            ctypes.set_errno(code)
            c_sigprocmask(signal.SIG_SETMASK, old, None)


def sigaction(signum: int, handler: Handler | None, flags: int, mask: Iterable[int]) -> Handler:
    """sigaction(2); see api.Syscalls."""
    blocked = set(mask)
    raw = sigset(blocked)
    old = SigAction()
    if c_sigaction(signum, None, byref(old)) < 0:
        fail()
    previous: Handler = _handlers[signum] if old.handler not in (None, SIG_IGN) and signum in _handlers else old.handler or SIG_DFL
    if handler is None:
        return previous
    new = SigAction(flags=ctypes.c_int(flags).value)
    new.mask = raw
    if isinstance(handler, int):
        new.handler = handler
    else:
        if threading.current_thread() is not threading.main_thread():
            raise Unsupported("sigaction with a function in a thread other than the first, on the real kernel: Python does not allow it")
        own = set() if flags & SA_NODEFER else {signum}
        try:
            signal.signal(signum, _PythonHandler(handler, sigset(blocked | own)))
        except ValueError as error:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
        if c_sigaction(signum, None, byref(old)) < 0:
            fail()
        # Python's function, with our flags and mask.
        new.handler = old.handler
        new.restorer = old.restorer
    if c_sigaction(signum, byref(new), None) < 0:
        fail()
    _handlers[signum] = handler
    return previous


def default_handlers() -> None:
    """Give every signal that has a handler its default action: also those that are not Python's (readline has one for SIGWINCH)."""
    action = SigAction()
    for signum in range(1, signal.SIGSYS + 1):
        if c_sigaction(signum, None, byref(action)) == 0 and action.handler not in (None, SIG_IGN):
            signal.signal(signum, signal.SIG_DFL)


def forget_handlers() -> None:
    """In process 1 of a run: the caller's handlers are not its own."""
    _handlers.clear()
