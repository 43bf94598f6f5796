"""Syscalls: the one layer that servers are written against.

Names, arguments and errors are those of the man pages (section 2); results are Python's: ints, bytes, tuples.  A failure is an
OSError with Linux's errno, so BlockingIOError, ConnectionResetError and the others come free.  Two classes implement it:
the fake kernel's (simkernel.kernel.syscalls) and the real one's (simkernel.linux).

AF_INET addresses are ``(host, port)`` with a numeric host (``""`` means 0.0.0.0), AF_INET6 ones ``(host, port, flowinfo, scope_id)``
with a numeric host (``""`` means ::); AF_UNIX addresses are str or bytes, abstract names start with a zero byte, and an unnamed one
is ``""``.  Signal masks are any iterable of signal numbers, and come back as sets.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str | bytes
Buffer: TypeAlias = bytes | bytearray | memoryview
# A control message (cmsg(3)): level, type, contents.  SCM_RIGHTS holds C ints, SCM_CREDENTIALS a struct ucred (pid, uid, gid).
Cmsg: TypeAlias = tuple[int, int, Buffer]
# What a signal does: SIG_DFL, SIG_IGN, or a function that is called with the signal's number.
Handler: TypeAlias = int | Callable[[int], object]
Main: TypeAlias = Callable[..., object]


class FutexWord(Protocol):
    """What threads agree on by futexes: any object of which ``value`` is an int, on the real kernel a ctypes.c_uint32."""

    value: int


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

    def sendto(self, fd: int, data: Buffer, flags: int, addr: Address | None, /) -> int:
        """sendto(2).  ``addr`` None is a null pointer: send(2)."""
        ...

    def recvfrom(self, fd: int, n: int, flags: int = 0, /) -> tuple[bytes, Address]:
        """recvfrom(2): the bytes and the sender's address, ``""`` where the protocol names none (a TCP stream, an unnamed socket)."""
        ...

    def sendmsg(
        self, fd: int, buffers: Sequence[Buffer], ancdata: Iterable[Cmsg] = (), flags: int = 0, addr: Address | None = None, /
    ) -> int:
        """sendmsg(2): the buffers' bytes and ``ancdata``, control messages (level, type, data).  Returns how many bytes were taken."""
        ...

    def recvmsg(
        self, fd: int, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Address]:
        """recvmsg(2): (bytes, control messages, msg_flags, sender's address).

        ``ancbufsize`` is the room for control messages in bytes, as CMSG_SPACE counts it; MSG_CTRUNC in msg_flags says that it did not
        do, MSG_TRUNC that ``bufsize`` did not hold all of a datagram.
        """
        ...

    # --- files ---
    def open(self, path: str | bytes, flags: int, mode: int = 0o666, /) -> int:
        """open(2)."""
        ...

    def unlink(self, path: str | bytes, /) -> None:
        """unlink(2)."""
        ...

    def mkdir(self, path: str | bytes, mode: int = 0o777, /) -> None:
        """mkdir(2)."""
        ...

    def rmdir(self, path: str | bytes, /) -> None:
        """rmdir(2)."""
        ...

    def rename(self, old: str | bytes, new: str | bytes, /) -> None:
        """rename(2)."""
        ...

    def readlink(self, path: str | bytes, /) -> bytes:
        """readlink(2)."""
        ...

    def chmod(self, path: str | bytes, mode: int, /) -> None:
        """chmod(2)."""
        ...

    def chdir(self, path: str | bytes, /) -> None:
        """chdir(2)."""
        ...

    def getcwd(self) -> bytes:
        """getcwd(2)."""
        ...

    def flock(self, fd: int, operation: int, /) -> None:
        """flock(2).  ``operation``: LOCK_SH, LOCK_EX or LOCK_UN, with LOCK_NB."""
        ...

    def fcntl_lock(
        self, fd: int, cmd: int, l_type: int, l_whence: int = 0, l_start: int = 0, l_len: int = 0, /
    ) -> tuple[int, int, int, int, int]:
        """fcntl(2) with a struct flock: F_GETLK, F_SETLK or F_SETLKW; returns (l_type, l_whence, l_start, l_len, l_pid) as they are then.

        ``l_type``: F_RDLCK, F_WRLCK, F_UNLCK.
        """
        ...

    def umask(self, mask: int, /) -> int:
        """umask(2); the old one."""
        ...

    def getdents64(self, fd: int, n: int = 32768, /) -> list[tuple[int, int, bytes]]:
        """getdents64(2) with a buffer of ``n`` bytes: (d_ino, d_type, d_name) of the next entries, . and .. among them; none at the end."""
        ...

    def stat(self, path: str | bytes, /) -> os.stat_result:
        """stat(2)."""
        ...

    def lstat(self, path: str | bytes, /) -> os.stat_result:
        """lstat(2): of a link itself."""
        ...

    def fstat(self, fd: int, /) -> os.stat_result:
        """fstat(2)."""
        ...

    def memfd_create(self, name: str, flags: int = 0, /) -> int:
        """memfd_create(2): a file in memory without a path.  ``flags``: 0 or MFD_CLOEXEC."""
        ...

    def lseek(self, fd: int, offset: int, whence: int, /) -> int:
        """lseek(2).  ``whence``: SEEK_SET, SEEK_CUR, SEEK_END."""
        ...

    def ftruncate(self, fd: int, length: int, /) -> None:
        """ftruncate(2)."""
        ...

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        """pread(2)."""
        ...

    def pwrite(self, fd: int, data: Buffer, offset: int, /) -> int:
        """pwrite(2)."""
        ...

    def sendfile(self, out_fd: int, in_fd: int, offset: int | None, count: int, /) -> int:
        """sendfile(2): how many bytes were copied.  ``offset`` None reads from the file's own position, which then moves."""
        ...

    def splice(self, fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, count: int, flags: int = 0, /) -> int:
        """splice(2): how many bytes were moved; one of the two is a pipe.  ``flags``: SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE."""
        ...

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
        """ioctl(2): FIONREAD returns the bytes that can be read; FIONBIO sets O_NONBLOCK to ``bool(arg)`` and returns 0.

        Of sockets, SIOCOUTQ returns the bytes not yet acknowledged (TCP) or what is charged for those not yet read, with the kernel's
        overhead (AF_UNIX), SIOCOUTQNSD those not yet sent, SIOCATMARK whether the urgent mark is next.  TCGETS, TIOCGPGRP and TIOCGWINSZ
        only tell a terminal, for which they return 0, from what is none: ENOTTY.
        """
        ...

    def pipe2(self, flags: int = 0, /) -> tuple[int, int]:
        """pipe2(2): (read end, write end).  ``flags``: O_NONBLOCK, O_CLOEXEC."""
        ...

    def eventfd(self, initval: int = 0, flags: int = 0, /) -> int:
        """eventfd(2).  ``flags``: EFD_SEMAPHORE, EFD_NONBLOCK, EFD_CLOEXEC."""
        ...

    def timerfd_create(self, clockid: int, flags: int = 0, /) -> int:
        """timerfd_create(2).  ``clockid``: CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME; ``flags``: TFD_NONBLOCK, TFD_CLOEXEC."""
        ...

    def timerfd_settime(self, fd: int, flags: int, initial_ns: int, interval_ns: int = 0, /) -> tuple[int, int]:
        """timerfd_settime(2), in nanoseconds; ``initial_ns`` 0 disarms.  ``flags``: 0 or TFD_TIMER_ABSTIME.

        Returns the old setting, as timerfd_gettime does.
        """
        ...

    def timerfd_gettime(self, fd: int, /) -> tuple[int, int]:
        """timerfd_gettime(2): (nanoseconds until it expires next, 0 when disarmed; interval in nanoseconds)."""
        ...

    def signalfd(self, fd: int, mask: Iterable[int], flags: int = 0, /) -> int:
        """signalfd(2).  ``fd`` -1 makes a new one; ``flags``: SFD_NONBLOCK, SFD_CLOEXEC.  Reads give 128-byte signalfd_siginfo."""
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

    def epoll_pwait(self, epfd: int, maxevents: int, timeout: int = -1, sigmask: Iterable[int] | None = None, /) -> list[tuple[Any, int]]:
        """epoll_pwait(2): epoll_wait with ``sigmask`` for its duration, None to leave the mask alone."""
        ...

    def poll(self, fds: Sequence[tuple[int, int]], timeout: int = -1, /) -> list[tuple[int, int]]:
        """poll(2).  Takes (fd, events) pairs and returns (fd, revents) of those with any, in the order given.  ``timeout`` in ms."""
        ...

    def select(
        self, r: Iterable[int], w: Iterable[int], x: Iterable[int], timeout: float | None = None, /
    ) -> tuple[list[int], list[int], list[int]]:
        """select(2).  ``timeout`` in seconds or None.  ValueError for an fd outside range(1024), the size of libc's fd_set."""
        ...

    def ppoll(
        self, fds: Sequence[tuple[int, int]], timeout_ns: int | None = None, sigmask: Iterable[int] | None = None, /
    ) -> list[tuple[int, int]]:
        """ppoll(2).  ``timeout_ns`` in nanoseconds, None without a limit; ``sigmask`` for its duration, None to leave the mask alone."""
        ...

    def pselect(
        self,
        r: Iterable[int],
        w: Iterable[int],
        x: Iterable[int],
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | None = None,
        /,
    ) -> tuple[list[int], list[int], list[int]]:
        """pselect(2).  ``timeout_ns`` in nanoseconds, None without a limit; ``sigmask`` as in ppoll."""
        ...

    def getrandom(self, n: int, flags: int = 0, /) -> bytes:
        """getrandom(2): ``n`` bytes.  ``flags``: GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE."""
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

    def futex_wait(self, word: FutexWord, expected: int, timeout_ns: int | None = None, /) -> None:
        """FUTEX_WAIT of futex(2), private to the process: sleep until a futex_wake on the same word, for at most ``timeout_ns``.

        EAGAIN if ``word.value`` is not ``expected``, ETIMEDOUT, EINTR.
        """
        ...

    def futex_wake(self, word: FutexWord, n: int, /) -> int:
        """FUTEX_WAKE of futex(2), private to the process: wake the ``n`` that sleep longest on the word (at least one).  How many."""
        ...

    def waitpid(self, pid: int, options: int = 0, /) -> tuple[int, int]:
        """waitpid(2): (pid, wait status), to be read with os.waitstatus_to_exitcode.  ``options``: WNOHANG, WUNTRACED, WCONTINUED."""
        ...

    def kill(self, pid: int, signum: int, /) -> None:
        """kill(2)."""
        ...

    def tgkill(self, tgid: int, tid: int, signum: int, /) -> None:
        """tgkill(2): a signal for one thread of a process.  ``tid``: what ``thread`` has returned, or the pid for the first thread."""
        ...

    def pidfd_send_signal(self, pidfd: int, signum: int, flags: int = 0, /) -> None:
        """pidfd_send_signal(2), as kill sends it.  ``flags``: 0."""
        ...

    def pidfd_open(self, pid: int, flags: int = 0, /) -> int:
        """pidfd_open(2): an fd that polls readable when the process has ended.  ``flags``: 0 or PIDFD_NONBLOCK."""
        ...

    def sigaction(self, signum: int, handler: Handler | None, flags: int = 0, mask: Iterable[int] = (), /) -> Handler:
        """sigaction(2): what ``signum`` does from now on; returns what it did.  ``handler`` None only asks.

        ``flags``: SA_RESTART, SA_NODEFER, SA_RESETHAND, SA_NOCLDSTOP, SA_NOCLDWAIT; ``mask`` is blocked while the handler runs.
        """
        ...

    def sigprocmask(self, how: int, set: Iterable[int] | None = None, /) -> set[int]:
        """sigprocmask(2) of the calling thread; returns the old mask.  ``how``: SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK; None only asks."""
        ...

    def sigpending(self) -> set[int]:
        """sigpending(2): the blocked signals that wait for this thread."""
        ...

    def sigtimedwait(self, set: Iterable[int], timeout_ns: int | None = None, /) -> tuple[int, int, int, int, int, int]:
        """sigtimedwait(2): take a signal of ``set``, which should be blocked; EAGAIN at the timeout, None: sigwaitinfo(2).

        Returns of its siginfo si_signo, si_code, si_errno, si_pid, si_uid and si_status; what its kind of signal has not is 0.
        """
        ...

    def pause(self) -> None:
        """pause(2): sleep until a signal handler has run.  Never returns but by EINTR."""
        ...

    def alarm(self, seconds: int, /) -> int:
        """alarm(2): SIGALRM after ``seconds``, 0: none.  Returns how many were left of the one before."""
        ...

    def getitimer(self, which: int, /) -> tuple[int, int]:
        """getitimer(2): (microseconds until it expires, 0 when disarmed; interval in microseconds).  ``which``: ITIMER_REAL."""
        ...

    def setitimer(self, which: int, value_us: int, interval_us: int = 0, /) -> tuple[int, int]:
        """setitimer(2), in microseconds; ``value_us`` 0 disarms.  Returns the old setting, as getitimer does."""
        ...

    def getpid(self) -> int:
        """getpid(2)."""
        ...

    def getppid(self) -> int:
        """getppid(2)."""
        ...

    def getpgid(self, pid: int, /) -> int:
        """getpgid(2): the process group of a process, 0 for oneself."""
        ...

    def setpgid(self, pid: int, pgid: int, /) -> None:
        """setpgid(2); 0 for oneself, and for a group of one's own."""
        ...

    def getsid(self, pid: int, /) -> int:
        """getsid(2)."""
        ...

    def setsid(self) -> int:
        """setsid(2): a session of one's own.  EPERM for the leader of a process group."""
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
