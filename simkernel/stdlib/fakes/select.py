"""select: CPython's select, poll and epoll objects on the system calls of the machine that runs (selectmodule.c)."""

import math
import operator
import select as real
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from simkernel.errors import oserror
from simkernel.stdlib.here import here
from simkernel.stdlib.sockargs import INT_MAX, INT_MIN, NS, SSIZE_MAX, SSIZE_MIN, c_int

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

globals().update({name: value for name, value in vars(real).items() if isinstance(value, int)})
error = OSError

CLOCK_MONOTONIC: Final = 1
FD_SETSIZE: Final = 1024
NS_PER_US: Final = 1000
NS_PER_MS: Final = 1_000_000
ENOENT: Final = 2
EPOLL_CLOEXEC: Final = real.EPOLL_CLOEXEC
EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3

# How many processes of this program came before.
_run = 0


def reset() -> None:
    """A new process begins: what the one before left behind is not its own."""
    global _run
    _run += 1


def _file_descriptor(file: Any) -> int:
    """The fd of an int, or of what has a fileno()."""
    number = file
    if not isinstance(file, int):
        fileno = getattr(file, "fileno", None)
        if fileno is None:
            raise TypeError("argument must be an int, or have a fileno() method.")
        number = fileno()
        if not isinstance(number, int):
            raise TypeError("fileno() returned a non-integer")
    fd = int(number)
    if not INT_MIN <= fd <= INT_MAX:
        raise OverflowError("Python int too large to convert to C int")
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


def _nanoseconds(timeout: Any, unit: int, text: str) -> int:
    """A timeout in nanoseconds, rounded away from zero; ``text`` is TypeError's."""
    if isinstance(timeout, float):
        if math.isnan(timeout):
            raise ValueError("Invalid value NaN (not a number)")
        exact = timeout * unit if math.isfinite(timeout) else timeout
        if not SSIZE_MIN <= exact < -float(SSIZE_MIN):
            raise OverflowError("timestamp out of range for platform time_t")
        return math.ceil(exact) if exact >= 0 else math.floor(exact)
    if not hasattr(timeout, "__index__"):
        raise TypeError(text)
    ns = operator.index(timeout) * unit
    if not SSIZE_MIN <= ns <= SSIZE_MAX:
        raise OverflowError("timestamp too large to convert to C _PyTime_t")
    return ns


class _Deadline:
    """When a call that a signal interrupts is to end."""

    __slots__ = ("end",)

    def __init__(self, ns: int) -> None:
        self.end = here.clock_gettime_ns(CLOCK_MONOTONIC) + ns

    def left(self) -> int:
        """Nanoseconds until then; negative when it has passed."""
        return self.end - here.clock_gettime_ns(CLOCK_MONOTONIC)


# --- select ---
def select(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    """Wait until one or more file descriptors are ready for some kind of I/O."""
    ns = None if timeout is None else _nanoseconds(timeout, NS, "timeout must be a float or None")
    if ns is not None:
        if ns < 0:
            raise ValueError("timeout must be non-negative")
        # A struct timeval has microseconds.
        ns = -(-ns // NS_PER_US) * NS_PER_US
    r, w, x = _fd_set(rlist), _fd_set(wlist), _fd_set(xlist)
    deadline = _Deadline(ns) if ns else None
    while True:
        try:
            ready = here.sys.pselect([fd for fd, _ in r], [fd for fd, _ in w], [fd for fd, _ in x], ns)
            break
        except InterruptedError:
            world.check_signals()
            if deadline is not None:
                ns = deadline.left()
                if ns < 0:
                    return [], [], []
    return _objects(r, ready[0]), _objects(w, ready[1]), _objects(x, ready[2])


def _fd_set(files: Iterable[Any]) -> list[tuple[int, Any]]:
    """The fds of one of the lists, each with what it was given as.  A fileno() may change a list: it is read as it is then."""
    try:
        items = files if isinstance(files, (list, tuple)) else list(files)
    except TypeError:
        raise TypeError("arguments 1-3 must be sequences") from None
    found: list[tuple[int, Any]] = []
    for item in items:
        fd = _file_descriptor(item)
        if fd >= FD_SETSIZE:
            raise ValueError("filedescriptor out of range in select()")
        found.append((fd, item))
    return found


def _objects(files: list[tuple[int, Any]], ready: list[int]) -> list[Any]:
    if not ready:
        return []
    if len(ready) == len(files):
        return [item for _, item in files]
    fds = set(ready)
    return [item for fd, item in files if fd in fds]


# --- poll ---
def _event_mask(value: Any) -> int:
    """An event mask: a C unsigned short."""
    if not hasattr(value, "__index__"):
        raise TypeError("an integer is required")
    mask = operator.index(value)
    if mask < 0:
        raise ValueError("value must be positive")
    if mask >= 2**64:
        raise OverflowError("Python int too large to convert to C unsigned long")
    if mask > 0xFFFF:
        raise OverflowError("Python int too large for C unsigned short")
    return mask


class _Poll:
    """The polling object."""

    __slots__ = ("_fds", "_running")
    # In the order of registration.
    _fds: dict[int, int]
    _running: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("cannot create 'select.poll' instances")

    def register(self, fd: Any, eventmask: int = real.POLLIN | real.POLLPRI | real.POLLOUT, /) -> None:
        """Register a file descriptor with the polling object."""
        self._fds[_file_descriptor(fd)] = _event_mask(eventmask)

    def modify(self, fd: Any, eventmask: int, /) -> None:
        """Modify an already registered file descriptor."""
        number, mask = _file_descriptor(fd), _event_mask(eventmask)
        if number not in self._fds:
            raise oserror(ENOENT)
        self._fds[number] = mask

    def unregister(self, fd: Any, /) -> None:
        """Remove a file descriptor being tracked by the polling object."""
        del self._fds[_file_descriptor(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Polls the set of registered file descriptors, ``timeout`` in milliseconds: a list of (fd, event) pairs."""
        ms = -1
        deadline: _Deadline | None = None
        if timeout is not None:
            ns = _nanoseconds(timeout, NS_PER_MS, "timeout must be an integer or None")
            ms = -(-ns // NS_PER_MS) if ns >= 0 else ns // NS_PER_MS
            if not INT_MIN <= ms <= INT_MAX:
                raise OverflowError("timeout is too large")
            if ns > 0:
                deadline = _Deadline(ns)
        if self._running:
            raise RuntimeError("concurrent poll() invocation")
        self._running = True
        try:
            while True:
                try:
                    return here.sys.poll(list(self._fds.items()), ms)
                except InterruptedError:
                    world.check_signals()
                    if deadline is not None:
                        ns = deadline.left()
                        if ns < 0:
                            return []
                        ms = -(-ns // NS_PER_MS)
        finally:
            self._running = False


_Poll.__name__ = _Poll.__qualname__ = "poll"


def poll() -> _Poll:
    """Returns a polling object.

    This object supports registering and unregistering file descriptors, and then polling them for I/O events.
    """
    made: _Poll = object.__new__(_Poll)
    made._fds = {}
    made._running = False
    return made


# --- epoll ---
class epoll:  # noqa: N801
    """select.epoll(sizehint=-1, flags=0)

    Returns an epolling object.
    """

    __slots__ = ("_epfd", "_owner")
    DEFAULT_EVENTS: ClassVar[int] = real.EPOLLIN | real.EPOLLPRI | real.EPOLLOUT

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        self._epfd = -1
        sizehint, flags = c_int(sizehint), c_int(flags)
        if sizehint != -1 and sizehint <= 0:
            raise ValueError("negative sizehint")
        if flags & ~EPOLL_CLOEXEC:
            raise OSError("invalid flags")
        self._epfd = here.sys.epoll_create1(EPOLL_CLOEXEC)
        # In another run or another process the number is someone else's.
        self._owner = (_run, here.process_id())

    @classmethod
    def fromfd(cls, fd: int, /) -> "epoll":
        """Create an epoll object from a given control fd."""
        made = cls.__new__(cls)
        made._epfd = c_int(fd)
        made._owner = (_run, here.process_id())
        return made

    def __del__(self) -> None:
        fd = getattr(self, "_epfd", -1)
        if fd >= 0 and self._owner == (_run, here.process_id()) and not here.dying():
            try:
                here.sys.close(fd)
            except OSError:
                pass

    def _open(self) -> int:
        if self._epfd < 0:
            raise ValueError("I/O operation on closed epoll object")
        return self._epfd

    @property
    def closed(self) -> bool:
        """True if the epoll handler is closed"""
        return self._epfd < 0

    def close(self) -> None:
        """Close the epoll control file descriptor.  Further operations on the epoll object will raise an exception."""
        fd, self._epfd = self._epfd, -1
        if fd >= 0:
            here.sys.close(fd)

    def fileno(self) -> int:
        """Return the epoll control file descriptor."""
        return self._open()

    def register(self, fd: Any, eventmask: int = DEFAULT_EVENTS) -> None:
        """Registers a new fd or raises an OSError if the fd is already registered."""
        here.sys.epoll_ctl(self._open(), EPOLL_CTL_ADD, _file_descriptor(fd), operator.index(eventmask) & 0xFFFFFFFF)

    def modify(self, fd: Any, eventmask: int) -> None:
        """Modify event mask for a registered file descriptor."""
        here.sys.epoll_ctl(self._open(), EPOLL_CTL_MOD, _file_descriptor(fd), operator.index(eventmask) & 0xFFFFFFFF)

    def unregister(self, fd: Any) -> None:
        """Remove a registered file descriptor from the epoll object."""
        here.sys.epoll_ctl(self._open(), EPOLL_CTL_DEL, _file_descriptor(fd))

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Wait for events on the epoll file descriptor, ``timeout`` in seconds: a list of (fd, event) pairs."""
        epfd = self._open()
        ms = -1
        deadline: _Deadline | None = None
        if type(timeout) is int and -1 <= timeout <= 0:
            # What EpollSelector asks for most.
            ms = timeout
        elif timeout is not None:
            ns = _nanoseconds(timeout, NS, "timeout must be an integer or None")
            ms = -(-ns // NS_PER_MS)
            if not INT_MIN <= ms <= INT_MAX:
                raise OverflowError("timeout is too large")
            if ns > 0:
                deadline = _Deadline(ns)
        if maxevents == -1:
            maxevents = FD_SETSIZE - 1
        else:
            maxevents = c_int(maxevents)
            if maxevents < 1:
                raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
        while True:
            try:
                return here.sys.epoll_wait(epfd, maxevents, ms)
            except InterruptedError:
                world.check_signals()
                if deadline is not None:
                    ns = deadline.left()
                    if ns < 0:
                        return []
                    ms = -(-ns // NS_PER_MS)

    def __enter__(self) -> "epoll":
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None, value: BaseException | None = None, tb: TracebackType | None = None, /
    ) -> None:
        self.close()
