"""fcntl on the fds of the machine that runs: numbers, and buffers where a request fills one."""

import fcntl as real
import struct
from operator import index
from typing import TYPE_CHECKING, Any

from simkernel.errors import Unsupported
from simkernel.stdlib.here import here
from simkernel.uapi import FIONBIO

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"
retried = world.retried

__doc__ = real.__doc__
for _name, _value in vars(real).items():
    if not callable(_value) and not _name.startswith("__"):
        globals()[_name] = _value

C_INT = 4
LOCKS = (real.F_GETLK, real.F_SETLK, real.F_SETLKW)
# struct flock: l_type, l_whence, l_start, l_len, l_pid.
FLOCK = struct.Struct("@hhqqi")


def fileno(fd: Any) -> int:
    """An fd, or that of an object that has one."""
    if isinstance(fd, int):
        number = int(fd)
    else:
        try:
            number = fd.fileno()
        except AttributeError:
            raise TypeError("argument must be an int, or have a fileno() method.") from None
        if not isinstance(number, int):
            raise TypeError("fileno() returned a non-integer")
    if not -(2**31) <= number < 2**31:
        raise OverflowError(f"Python int too {'large' if number > 0 else 'small'} to convert to C int")
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    return number


def fcntl(fd: Any, cmd: int, arg: Any = 0, /) -> Any:
    """fcntl(2) with a number."""
    number, cmd = fileno(fd), index(cmd)
    if isinstance(arg, (str, bytes, bytearray)):
        raw = arg.encode() if isinstance(arg, str) else bytes(arg)
        if cmd not in LOCKS or len(raw) < FLOCK.size:
            raise Unsupported(f"fcntl.fcntl: command {cmd} with a buffer is not modelled")
        l_type, whence, start, length, _ = FLOCK.unpack_from(raw)
        return FLOCK.pack(*retried(here.sys.fcntl_lock, number, cmd, l_type, whence, start, length)) + raw[FLOCK.size :]
    # An unsigned number means the same bits.
    value = index(arg) & 0xFFFFFFFF
    return retried(here.sys.fcntl, number, cmd, value - 2**32 if value >> 31 else value)


def ioctl(fd: Any, request: int, arg: Any = 0, mutate_flag: bool = True, /) -> Any:
    """ioctl(2): the result as a number, or in a copy of the bytes given, or in the buffer itself."""
    number, request = fileno(fd), index(request) & 0xFFFFFFFF
    if hasattr(type(arg), "__index__"):
        return here.sys.ioctl(number, request, index(arg))
    raw = arg.encode() if isinstance(arg, str) else arg
    view = memoryview(raw).cast("B")
    if len(view) < C_INT:
        raise Unsupported(f"fcntl.ioctl: request {request:#x} with a buffer of {len(view)} bytes is not modelled: give a C int")
    result = here.sys.ioctl(number, request, int.from_bytes(view[:C_INT], "little", signed=True) if request == FIONBIO else 0)
    filled = b"" if request == FIONBIO else result.to_bytes(C_INT, "little", signed=True)
    if not view.readonly and mutate_flag:
        view[: len(filled)] = filled
        return 0
    return filled + bytes(view[len(filled) :])


def flock(fd: Any, operation: int, /) -> None:
    """flock(2)."""
    retried(here.sys.flock, fileno(fd), index(operation))


def lockf(fd: Any, cmd: int, len: int = 0, start: int = 0, whence: int = 0, /) -> None:
    """Lock records by fcntl(2)."""
    number, cmd = fileno(fd), index(cmd)
    kinds = {real.LOCK_UN: real.F_UNLCK, real.LOCK_SH: real.F_RDLCK, real.LOCK_EX: real.F_WRLCK}
    kind = next((kinds[bit] for bit in kinds if cmd & bit), None)
    if kind is None:
        raise ValueError("unrecognized lockf argument")
    setlk = real.F_SETLK if cmd & real.LOCK_NB else real.F_SETLKW
    retried(here.sys.fcntl_lock, number, setlk, kind, index(whence), index(start), index(len))
