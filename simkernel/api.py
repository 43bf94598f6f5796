"""Syscalls: the one layer that servers are written against.

Names, arguments and errors are those of the man pages (section 2); results are Python's: ints, bytes, tuples.  A failure is an
OSError with Linux's errno, so BlockingIOError, ConnectionResetError and the others come free.  Two classes implement it:
the fake kernel's (simkernel.kernel.syscalls) and the real one's (simkernel.linux).

AF_INET addresses are ``(host, port)`` with a numeric host (``""`` means 0.0.0.0); AF_UNIX addresses are str or bytes, abstract names
start with a zero byte, and an unnamed one is ``""``.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias

from simkernel.errors import Unsupported

Address: TypeAlias = "tuple[str, int] | str | bytes"
Buffer: TypeAlias = "bytes | bytearray | memoryview"
Main: TypeAlias = Callable[..., object]


class Syscalls(Protocol):
    """System calls.  Every fd is an int, every failure an OSError with the errno of the man page.

    Timeouts keep the unit of their man page: epoll_wait and poll take milliseconds (negative: no limit), select seconds or None,
    epoll_pwait2, the clock and sleeps nanoseconds.  What is not modelled raises simkernel.Unsupported.
    """

    # --- sockets ---
    def socket(self, family: int, type: int, proto: int = 0, /) -> int:
        """socket(2).  ``type`` may carry SOCK_NONBLOCK and SOCK_CLOEXEC.  Returns the lowest free fd."""
        ...

    def socketpair(self, family: int, type: int, proto: int = 0, /) -> tuple[int, int]:
        """socketpair(2): two connected AF_UNIX sockets."""
        ...

    def bind(self, fd: int, addr: Address, /) -> None:
        """bind(2)."""
        ...

    def listen(self, fd: int, backlog: int, /) -> None:
        """listen(2): up to ``backlog + 1`` connections wait to be accepted."""
        ...

    def connect(self, fd: int, addr: Address, /) -> None:
        """connect(2).  EINPROGRESS for a non-blocking TCP socket, even on loopback."""
        ...

    def accept4(self, fd: int, flags: int = 0, /) -> tuple[int, Address]:
        """accept4(2).  ``flags``: SOCK_NONBLOCK, SOCK_CLOEXEC.  Returns the new fd and the peer's address."""
        ...

    def getsockname(self, fd: int, /) -> Address:
        """getsockname(2)."""
        ...

    def getpeername(self, fd: int, /) -> Address:
        """getpeername(2)."""
        ...

    def shutdown(self, fd: int, how: int, /) -> None:
        """shutdown(2).  ``how``: SHUT_RD, SHUT_WR, SHUT_RDWR."""
        ...

    def setsockopt(self, fd: int, level: int, name: int, value: int | bytes, /) -> None:
        """setsockopt(2).  An int is passed as a C int, bytes as they are (struct linger, struct timeval)."""
        ...

    def getsockopt(self, fd: int, level: int, name: int, buflen: int = 0, /) -> int | bytes:
        """getsockopt(2).  A C int, or up to ``buflen`` bytes when ``buflen`` is not 0."""
        ...

    def send(self, fd: int, data: Buffer, flags: int = 0, /) -> int:
        """send(2).  Returns how many bytes were taken, which may be fewer than given."""
        ...

    def recv(self, fd: int, n: int, flags: int = 0, /) -> bytes:
        """recv(2).  At most ``n`` bytes; ``b""`` at the end of a stream."""
        ...

    # --- files ---
    def read(self, fd: int, n: int, /) -> bytes:
        """read(2)."""
        ...

    def write(self, fd: int, data: Buffer, /) -> int:
        """write(2)."""
        ...

    def readv(self, fd: int, sizes: Sequence[int], /) -> list[bytes]:
        """readv(2) into buffers of ``sizes`` bytes.  Returns their contents, trailing empty buffers left out."""
        ...

    def writev(self, fd: int, buffers: Sequence[Buffer], /) -> int:
        """writev(2)."""
        ...

    def close(self, fd: int, /) -> None:
        """close(2)."""
        ...

    def dup(self, fd: int, /) -> int:
        """dup(2)."""
        ...

    def dup2(self, old: int, new: int, /) -> int:
        """dup2(2)."""
        ...

    def dup3(self, old: int, new: int, flags: int, /) -> int:
        """dup3(2).  ``flags``: 0 or O_CLOEXEC; EINVAL when both fds are the same."""
        ...

    def fcntl(self, fd: int, cmd: int, arg: int = 0, /) -> int:
        """fcntl(2): F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETPIPE_SZ, F_SETPIPE_SZ."""
        ...

    def ioctl(self, fd: int, request: int, arg: int = 0, /) -> int:
        """ioctl(2): FIONREAD returns the bytes that can be read; FIONBIO sets O_NONBLOCK to ``bool(arg)`` and returns 0."""
        ...

    def pipe2(self, flags: int = 0, /) -> tuple[int, int]:
        """pipe2(2): (read end, write end).  ``flags``: O_NONBLOCK, O_CLOEXEC."""
        ...

    def eventfd(self, initval: int = 0, flags: int = 0, /) -> int:
        """eventfd(2).  ``flags``: EFD_SEMAPHORE, EFD_NONBLOCK, EFD_CLOEXEC."""
        ...

    # --- waiting for many files ---
    def epoll_create1(self, flags: int = 0, /) -> int:
        """epoll_create1(2).  ``flags``: 0 or EPOLL_CLOEXEC."""
        ...

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: Any = None, /) -> None:
        """epoll_ctl(2).  ``data`` is any object and comes back from epoll_wait; None stands for ``fd``."""
        ...

    def epoll_wait(self, epfd: int, maxevents: int, timeout: int = -1, /) -> list[tuple[Any, int]]:
        """epoll_wait(2).  ``timeout`` in milliseconds.  Returns (data, events) pairs; empty at the timeout."""
        ...

    def epoll_pwait2(
        self, epfd: int, maxevents: int, timeout_ns: int | None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[Any, int]]:
        """epoll_pwait2(2).  ``timeout_ns`` in nanoseconds, None without a limit."""
        ...

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        """poll(2).  Takes (fd, events) pairs and returns (fd, revents) of those with any, in the order given.  ``timeout`` in ms."""
        ...

    def select(
        self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /
    ) -> tuple[list[int], list[int], list[int]]:
        """select(2).  ``timeout`` in seconds or None.  ValueError for an fd outside range(1024), the size of libc's fd_set."""
        ...

    # --- time ---
    def clock_gettime_ns(self, clockid: int, /) -> int:
        """clock_gettime(2) in nanoseconds."""
        ...

    def nanosleep(self, ns: int, /) -> None:
        """nanosleep(2) for ``ns`` nanoseconds.  Never shorter."""
        ...

    # --- processes and threads ---
    def spawn(self, main: Main, /, *args: object) -> int:
        """fork(2), and run ``main(sys, *args)`` in the child: its fds are inherited, its exit status is 0, or 1 if it raises."""
        ...

    def thread(self, main: Main, /, *args: object) -> int:
        """clone(2) of a thread that runs ``main(sys, *args)``: fd table and memory are shared.  Returns its id for join."""
        ...

    def join(self, tid: int, /) -> None:
        """Wait until thread ``tid`` of this process has ended, as pthread_join(3).  ESRCH if there is none, EDEADLK for oneself."""
        ...

    def waitpid(self, pid: int, options: int = 0, /) -> tuple[int, int]:
        """waitpid(2): (pid, wait status), to be read with os.waitstatus_to_exitcode.  ``options``: 0 or WNOHANG."""
        ...

    def kill(self, pid: int, signum: int, /) -> None:
        """kill(2)."""
        ...

    def getpid(self) -> int:
        """getpid(2)."""
        ...

    def getppid(self) -> int:
        """getppid(2)."""
        ...

    def exit(self, status: int, /) -> None:
        """_exit(2): end the process and all of its threads.  Does not return."""
        ...

    def getrlimit(self, resource: int, /) -> tuple[int, int]:
        """getrlimit(2): (soft, hard).  ``resource``: RLIMIT_NOFILE."""
        ...

    def setrlimit(self, resource: int, limits: tuple[int, int], /) -> None:
        """setrlimit(2)."""
        ...


def _unmodelled(name: str) -> Callable[..., NoReturn]:
    def call(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise Unsupported(f"the system call {name} is not modelled yet")

    call.__name__ = name
    call.__doc__ = f"{name}(2), not modelled yet: raises Unsupported."
    return call


class UnmodelledCalls:
    """System calls of the layer that neither kernel offers yet: a program that makes one is told so."""

    __slots__ = ()

    open = _unmodelled("open")
    sendto = _unmodelled("sendto")
    recvfrom = _unmodelled("recvfrom")
    sendmsg = _unmodelled("sendmsg")
    recvmsg = _unmodelled("recvmsg")
    signalfd = _unmodelled("signalfd")
    timerfd_create = _unmodelled("timerfd_create")
    timerfd_settime = _unmodelled("timerfd_settime")
    timerfd_gettime = _unmodelled("timerfd_gettime")
    sigaction = _unmodelled("sigaction")
    sigprocmask = _unmodelled("sigprocmask")
