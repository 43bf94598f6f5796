"""resource: the limit of open files is the machine's; computing costs nothing in virtual time."""

import errno
import resource as real
from operator import index
from typing import TYPE_CHECKING, Any

from simkernel.errors import Unsupported
from simkernel.stdlib.here import here

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
for _name, _value in vars(real).items():
    if not _name.startswith("__"):
        globals()[_name] = _value

MODELLED = real.RLIMIT_NOFILE
# The limit of core dumps, if the program has set one.
_core: list[tuple[int, int]] = []


def reset() -> None:
    """A new process."""
    _core.clear()


def getrlimit(resource: int, /) -> tuple[int, int]:
    """(soft, hard).  Limits other than RLIMIT_NOFILE are the real ones, which nothing simulated comes near."""
    if index(resource) == MODELLED:
        return here.sys.getrlimit(MODELLED)
    return _core[0] if resource == real.RLIMIT_CORE and _core else real.getrlimit(resource)


def setrlimit(resource: int, limits: Any, /) -> None:
    """Another limit of open files."""
    if index(resource) == real.RLIMIT_CORE:
        soft, hard = limits
        _core[:] = [(index(soft), index(hard))]
        return
    if index(resource) != MODELLED:
        real.getrlimit(resource)
        raise Unsupported("resource.setrlimit is modelled for RLIMIT_NOFILE alone, and RLIMIT_CORE, since there are no cores")
    try:
        soft, hard = limits
    except ValueError:
        raise ValueError("expected a tuple of 2 integers") from None
    try:
        here.sys.setrlimit(MODELLED, (index(soft), index(hard)))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise ValueError("current limit exceeds maximum limit") from None
        if error.errno == errno.EPERM:
            raise ValueError("not allowed to raise maximum limit") from None
        raise


def prlimit(pid: int, resource: int, limits: Any = None, /) -> tuple[int, int]:
    """The limits of this process, and new ones."""
    if index(pid) not in (0, here.sys.getpid()):
        raise Unsupported("resource.prlimit is modelled for the calling process alone")
    old = getrlimit(resource)
    if limits is not None:
        setrlimit(resource, limits)
    return old


def getrusage(who: int, /) -> real.struct_rusage:
    """Nothing was used."""
    if index(who) not in (real.RUSAGE_SELF, real.RUSAGE_CHILDREN, real.RUSAGE_THREAD):
        raise ValueError("invalid who parameter")
    return real.struct_rusage((0.0, 0.0, *[0] * 14))
