"""_io: files over the fds of the machine that runs; what keeps its bytes in memory is the real module's.

A FileIO is written anew on system calls.  The buffers above it are the real ones, but for their lock, which must let other tasks run.  The
world's open, print and input are these, too.
"""

import _io as real
import errno
import operator
import os
import stat
import sys
import warnings
from _io import (  # noqa: F401
    DEFAULT_BUFFER_SIZE,
    BytesIO,
    IncrementalNewlineDecoder,
    StringIO,
    TextIOWrapper,
    UnsupportedOperation,
    _BufferedIOBase,
    _IOBase,
    _RawIOBase,
    _TextIOBase,
    text_encoding,
)
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simkernel.stdlib.builtin import as_builtin
from simkernel.stdlib.here import here
from simkernel.uapi import F_GETFD, F_SETFD, FD_CLOEXEC, TCGETS

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"
retried = world.retried

__doc__ = real.__doc__
BlockingIOError = BlockingIOError  # noqa: A001
READ_MAX = 2**31 - 1
# Of the flags of open(2), by the letter of a mode.
FLAGS = {"r": 0, "w": os.O_CREAT | os.O_TRUNC, "x": os.O_CREAT | os.O_EXCL, "a": os.O_CREAT | os.O_APPEND}


def failed(code: int, name: object) -> OSError:
    """The OSError of ``code``, with the file's name."""
    return OSError(code, os.strerror(code), name)


class FileIO(_RawIOBase):
    """A file behind an fd, without a buffer."""

    _fd = -1

    def __init__(self, file: Any, mode: str = "r", closefd: bool = True, opener: Callable[[Any, int], int] | None = None) -> None:
        if self._fd >= 0:
            # Initialized again.
            self._release()
        # Whose fd it is: a number means another file in another process, and nothing in a later run.
        self._owner: tuple[object, int] = (here.on_exit, here.process_id())
        self._fd = -1
        self._seekable: bool | None = None
        self._closefd = bool(closefd)
        self._kind, self._updating, flags = parse(mode)
        if isinstance(file, float):
            raise TypeError("integer argument expected, got float")
        if isinstance(file, bool) and sys.version_info >= (3, 13):
            warnings.warn("bool is used as a file descriptor", RuntimeWarning, stacklevel=2)
        fd = operator.index(file) if hasattr(type(file), "__index__") else None
        if fd is not None and not -(2**31) <= fd < 2**31:
            raise TypeError(f"expected str, bytes or os.PathLike object, not {type(file).__name__}")
        if fd is not None and fd < 0:
            raise ValueError("negative file descriptor")
        try:
            if fd is not None:
                self._fd = fd
            else:
                if not closefd:
                    raise ValueError("Cannot use closefd=False with file name")
                self._fd = opened(file, flags, opener)
            found = retried(here.sys.fstat, self._fd)
            if stat.S_ISDIR(found.st_mode):
                raise failed(errno.EISDIR, file)
            self._blksize = found.st_blksize if found.st_blksize > 1 else DEFAULT_BUFFER_SIZE
            self.name = file
            if self._kind == "a":
                try:
                    here.sys.lseek(self._fd, 0, 2)
                except OSError as error:
                    if error.errno != errno.ESPIPE:
                        raise
        except BaseException:
            if fd is None and self._fd >= 0:
                self._release()
            self._fd = -1
            raise

    # --- whose it is ---
    def _is_ours(self) -> bool:
        """Whether the fd's number means this file to who runs now."""
        return self._owner[0] is here.on_exit and self._owner[1] == here.process_id() and not here.dying()

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if not self._closefd:
            return
        try:
            here.sys.close(fd)
        except InterruptedError:
            # It is closed.
            world.check_signals()

    def _dealloc_warn(self, source: object) -> None:
        """Called by whoever is collected before it was closed."""
        if self._fd >= 0 and self._closefd:
            if not self._is_ours():
                self._disown()
                return
            warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    def _disown(self) -> None:
        """Collected in another process or after its machine: there is nothing to close, and nowhere to write."""
        self._fd = -1
        self._closefd = False

    def __del__(self) -> None:
        if self._fd >= 0 and self._closefd:
            self._dealloc_warn(self)
        super().__del__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot pickle '{type(self).__module__}.{type(self).__name__}' object")

    def __repr__(self) -> str:
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        if self._fd < 0:
            return f"<{name} [closed]>"
        shown = f"name={self.name!r}" if hasattr(self, "name") else f"fd={self._fd}"
        return f"<{name} {shown} mode={self.mode!r} closefd={self._closefd!r}>"

    def close(self) -> None:
        """Close the file; the fd too, unless closefd is False."""
        if self._fd >= 0 and not self._is_ours() and getattr(self, "_finalizing", False):
            self._disown()
        try:
            super().close()
        finally:
            if self._fd >= 0:
                self._release()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._fd < 0

    @property
    def closefd(self) -> bool:
        """Whether the fd is closed with the file."""
        return self._closefd

    @property
    def mode(self) -> str:
        """The mode, as open wants it."""
        kind = self._kind if self._kind in "xa" or not self._updating else "r"
        return f"{kind}b{'+' if self._updating else ''}"

    def _check_closed(self) -> None:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")

    def fileno(self) -> int:
        """The fd."""
        self._check_closed()
        return self._fd

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        self._check_closed()
        return self._kind == "r" or self._updating

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        self._check_closed()
        return self._kind != "r" or self._updating

    def seekable(self) -> bool:
        """Whether it has a position."""
        self._check_closed()
        if self._seekable is None:
            try:
                here.sys.lseek(self._fd, 0, 1)
                self._seekable = True
            except OSError:
                self._seekable = False
        return self._seekable

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        self._check_closed()
        try:
            here.sys.ioctl(self._fd, TCGETS)
        except OSError:
            return False
        return True

    def _may(self, action: str, can: Callable[[], bool]) -> None:
        self._check_closed()
        if not can():
            raise UnsupportedOperation(f"File not open for {action}")

    # --- reading ---
    def read(self, size: int | None = -1, /) -> bytes | None:
        """At most ``size`` bytes by one call, all without; None if it would block."""
        self._may("reading", self.readable)
        n = -1 if size is None else operator.index(size)
        if n < 0:
            return self.readall()
        try:
            data: bytes = retried(here.sys.read, self._fd, min(n, READ_MAX))
        except BlockingIOError:
            return None
        return data

    def readinto(self, buffer: Any, /) -> int | None:
        """Read into ``buffer``; None if it would block."""
        self._may("reading", self.readable)
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise TypeError(f"readinto() argument must be read-write bytes-like object, not {type(buffer).__name__}")
        try:
            data = retried(here.sys.read, self._fd, min(len(view), READ_MAX))
        except BlockingIOError:
            return None
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes | None:  # type: ignore[override]
        """Everything to the end; what there was if it would block then, None if that was nothing."""
        self._may("reading", self.readable)
        size = DEFAULT_BUFFER_SIZE
        try:
            left = retried(here.sys.fstat, self._fd).st_size - here.sys.lseek(self._fd, 0, 1)
            if left >= 0:
                # One byte more finds the end.
                size = left + 1
        except OSError:
            pass
        chunks: list[bytes] = []
        while True:
            try:
                data = retried(here.sys.read, self._fd, min(size, READ_MAX))
            except BlockingIOError:
                if not chunks:
                    return None
                break
            if not data:
                break
            chunks.append(data)
            size = max(size, DEFAULT_BUFFER_SIZE)
        return b"".join(chunks)

    # --- writing ---
    def write(self, data: Any, /) -> int | None:
        """Write by one call; how many bytes were taken, None if it would block."""
        self._may("writing", self.writable)
        raw = data if isinstance(data, bytes) else memoryview(data).cast("B")
        try:
            n: int = retried(here.sys.write, self._fd, raw)
        except BlockingIOError:
            return None
        return n

    # --- the position ---
    def seek(self, pos: int, whence: int = 0, /) -> int:
        """Move the position."""
        self._check_closed()
        if isinstance(pos, float):
            raise TypeError("an integer is required")
        return here.sys.lseek(self._fd, operator.index(pos), whence)

    def tell(self) -> int:
        """The position."""
        self._check_closed()
        return here.sys.lseek(self._fd, 0, 1)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut off or lengthen to ``size``, by default where the position is."""
        self._may("writing", self.writable)
        length = self.tell() if size is None else operator.index(size)
        retried(here.sys.ftruncate, self._fd, length)
        return length


def parse(mode: str) -> tuple[str, bool, int]:
    """The mode of a FileIO: its letter, whether there is a plus, the flags of open(2)."""
    if not isinstance(mode, str):
        raise TypeError(f"FileIO() argument 'mode' must be str, not {type(mode).__name__}")
    kinds = [letter for letter in mode if letter in FLAGS]
    if set(mode) - set("rwxab+"):
        raise ValueError(f"invalid mode: {mode}")
    if len(kinds) != 1 or mode.count("+") > 1:
        raise ValueError("Must have exactly one of create/read/write/append mode and at most one plus")
    kind, updating = kinds[0], "+" in mode
    access = os.O_RDWR if updating else os.O_RDONLY if kind == "r" else os.O_WRONLY
    return kind, updating, access | FLAGS[kind] | os.O_CLOEXEC


def opened(file: Any, flags: int, opener: Callable[[Any, int], int] | None) -> int:
    """A new fd that is not inherited."""
    if opener is not None:
        fd = opener(file, flags)
        if not isinstance(fd, int):
            raise TypeError("expected integer from opener")
        if fd < 0:
            # Python bug tracker, 27066: the opener's own error, if it had one, has been raised.
            raise ValueError(f"opener returned {fd}")
        here.sys.fcntl(fd, F_SETFD, here.sys.fcntl(fd, F_GETFD) | FD_CLOEXEC)
        return fd
    name = os.fspath(file)
    if not isinstance(name, (str, bytes)):
        raise TypeError(f"expected str, bytes or os.PathLike object, not {type(file).__name__}")
    if (b"\0" if isinstance(name, bytes) else "\0") in name:  # type: ignore[operator]
        raise ValueError("embedded null byte" if isinstance(name, bytes) else "embedded null character")
    try:
        opened_fd: int = retried(here.sys.open, name, flags, 0o666)
    except OSError as error:
        raise failed(error.errno or 0, file) from None
    return opened_fd


# --- buffers ---
class Turn:
    """The lock of a buffered file: a task that finds another one inside sleeps.  The real one would stop them all."""

    __slots__ = ("tid", "waiting")

    def __init__(self) -> None:
        self.tid = 0
        # Who waits, in order: the thread and the lock that it sleeps on.
        self.waiting: list[tuple[int, Any]] = []

    def take(self, tid: int) -> None:
        """Wait for a turn."""
        lock = world.modules["_thread"].allocate_lock()
        lock.acquire()
        if not self.tid:
            # Whoever was inside has left meanwhile: the lock is made by calls, at which others may run.
            self.tid = tid
            return
        entry = (tid, lock)
        self.waiting.append(entry)
        try:
            lock.acquire()
        except BaseException:
            if entry in self.waiting:
                self.waiting.remove(entry)
            elif self.tid == tid:
                self.give()
            raise

    def give(self) -> None:
        """The next one's turn."""
        if self.waiting:
            self.tid, lock = self.waiting.pop(0)
            lock.release()
        else:
            self.tid = 0


def in_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a buffered file that one task at a time is in."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        tid = here.thread_id()
        turn: Turn = self._turn
        # Threads of the real kernel, or a signal handler inside: the real lock knows what to do.
        inside = turn.tid == tid
        if not inside:
            if turn.tid:
                turn.take(tid)
            else:
                turn.tid = tid
        try:
            return method(self, *args, **kwargs)
        except BlockingIOError as error:
            if error.errno:
                raise
            # The real one has the errno of C, which no system call of ours sets.
            raise BlockingIOError(errno.EAGAIN, error.strerror, error.characters_written) from None
        finally:
            if not inside:
                turn.give()

    call.__name__ = method.__name__
    call.__doc__ = method.__doc__
    return call


IN_TURN = "read read1 peek readinto readinto1 readline write flush seek tell truncate close".split()


class Buffered:
    """What makes a buffered file safe for tasks."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made: Any = super().__new__(cls)
        made._turn = Turn()
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot pickle '{type(self).__module__}.{type(self).__name__}' object")

    def __repr__(self) -> str:
        # The C type's name is without its module.
        shown = super().__repr__()
        return shown if type(self).__module__ != __name__ else shown.replace("<", f"<{__name__}.", 1)

    def __init_subclass__(cls) -> None:
        if cls.__module__ != __name__:
            return
        for name in IN_TURN:
            method = getattr(cls.__mro__[2], name, None)
            if method is not None:
                setattr(cls, name, in_turn(method))


class BufferedReader(Buffered, real.BufferedReader):
    """A buffer for reading."""


class BufferedWriter(Buffered, real.BufferedWriter):
    """A buffer for writing."""


class BufferedRandom(Buffered, real.BufferedRandom):
    """A buffer for both, of a file with a position."""


class BufferedRWPair(real.BufferedRWPair):
    """Two buffers, for reading and writing, of two files."""


for _class in (FileIO, BufferedReader, BufferedWriter, BufferedRandom, BufferedRWPair):
    _class.__doc__ = getattr(real, _class.__name__).__doc__


# --- open ---
def open(  # noqa: A001
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[Any, int], int] | None = None,
) -> Any:
    """The world's open: a file, with a buffer unless ``buffering`` is 0, and text above it unless ``mode`` has a b."""
    if not hasattr(type(file), "__index__"):
        file = os.fspath(file)
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    letters = set(mode)
    if letters - set("axrwb+t") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: '{mode}'")
    text, binary = "t" in letters, "b" in letters
    if text and binary:
        raise ValueError("can't have text and binary mode at once")
    if len(letters & set("axrw")) > 1 or not letters & set("axrw"):
        raise ValueError("must have exactly one of create/read/write/append mode")
    if binary:
        for name, given in (("encoding", encoding), ("errors", errors), ("newline", newline)):
            if given is not None:
                raise ValueError(f"binary mode doesn't take {'an' if name[0] == 'e' else 'a'} {name} argument")
        if buffering == 1:
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
                RuntimeWarning,
                stacklevel=2,
            )
    raw_mode = "".join([letter for letter in mode if letter in "axrw+"])
    raw = FileIO(file, raw_mode, closefd, opener)
    result: Any = raw
    try:
        lines = buffering == 1
        if buffering < 0 and raw.isatty():
            lines = True
        if buffering < 0 or lines:
            buffering = raw._blksize if buffering < 0 and not lines else DEFAULT_BUFFER_SIZE
        if buffering == 0:
            if not binary:
                raise ValueError("can't have unbuffered text I/O")
            return result
        kind = BufferedRandom if "+" in letters else BufferedReader if "r" in letters else BufferedWriter
        result = kind(raw, buffering)
        if binary:
            return result
        result = TextIOWrapper(result, encoding, errors, newline, lines)
        result.mode = mode
        return result
    except BaseException:
        result.close()
        raise


def open_code(path: str) -> Any:
    """Open a file of code for reading, in bytes."""
    if not isinstance(path, str):
        raise TypeError(f"open_code() argument 'path' must be str, not {type(path).__name__}")
    return open(path, "rb")


# --- what builtins has of it ---
def print_(*values: object, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False) -> None:
    """The world's print, which goes to its sys.stdout."""
    if file is None:
        file = world.sys.stdout
        if file is None:
            return
    print(*values, sep=sep, end=end, file=file, flush=flush)


def input_(prompt: object = "", /) -> str:
    """The world's input, from its sys.stdin."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(world.sys, name, None) is None:
            raise RuntimeError(f"input(): lost sys.{name}")
    world.sys.stderr.flush()
    world.sys.stdout.write(str(prompt))
    world.sys.stdout.flush()
    line: str = world.sys.stdin.readline()
    if not line:
        raise EOFError("EOF when reading a line")
    return line.removesuffix("\n")


for _function, _name in ((open, "open"), (print_, "print"), (input_, "input"), (open_code, "open_code")):
    _function.__name__ = _function.__qualname__ = _name
world.builtins["open"] = open = as_builtin(open, "io")  # noqa: A001
world.builtins["print"] = as_builtin(print_, "builtins")
world.builtins["input"] = as_builtin(input_, "builtins")
open_code = as_builtin(open_code, "io")
for _name, _value in vars(real).items():
    # What is new in this Python, and private.
    if _name not in globals():
        globals()[_name] = _value
