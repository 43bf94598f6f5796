"""/proc (fs/proc, fs/seq_file.c, kernel/sysctl.c): files whose contents are made when they are read.

Others register theirs here: the network its tables and its sysctls.
"""

import errno
from collections.abc import Callable
from typing import Final, TypeAlias

from simkernel.errors import Unsupported, oserror
from simkernel.kernel.file import File
from simkernel.kernel.namei import DirNode, Node, PosFile, Vfs
from simkernel.kernel.sched import Process, Sched
from simkernel.kernel.stat import PROC_BLKSIZE, PROC_DEV, S_IFDIR, S_IFLNK, S_IFREG, Kstat
from simkernel.uapi import O_ACCMODE, O_CLOEXEC, O_RDONLY, PAGE_SIZE, SEEK_END

# What there is to read now, one text a record.
Show: TypeAlias = Callable[[], list[str]]


# --- seq_file ---
class SeqNode(Node):
    """A file of records.  ``pde``: made by proc_create, so it can be polled; and it is not to be opened for writing (seq_open_net)."""

    __slots__ = ("pde", "show")

    def __init__(self, i_ino: int, show: Show, pde: bool) -> None:
        super().__init__(i_ino)
        self.show = show
        self.pde = pde

    def getattr(self) -> Kstat:
        return Kstat(S_IFREG | 0o444, PROC_DEV, self.i_ino, blksize=PROC_BLKSIZE)

    def open(self, sched: Sched, f_flags: int) -> File:
        if self.pde and f_flags & O_ACCMODE != O_RDONLY:
            raise oserror(errno.EACCES)
        return SeqPollFile(sched, self, self.show, f_flags) if self.pde else SeqFile(sched, self, self.show, f_flags)


class SeqFile(PosFile):
    """seq_file: records are shown into a buffer of a page, from which reads take.

    ``index`` is the next record, ``read_pos`` the position of what comes next.
    """

    __slots__ = ("buf", "index", "read_pos", "show")
    kind = "proc"
    # seq_open takes it away; and there is no f_op->write.
    can_pwrite = False
    can_write = False

    def __init__(self, sched: Sched, node: Node, show: Show, f_flags: int) -> None:
        super().__init__(sched, node, f_flags)
        self.show = show
        self.buf = b""
        self.index = 0
        self.read_pos = 0

    def pread(self, n: int, pos: int) -> bytes:
        """seq_read_iter: what is in the buffer, then whole records as long as they fit the page and are asked for."""
        if pos != self.read_pos:
            self.traverse(pos)
        got = b""
        if self.buf:
            got, self.buf = self.buf[:n], self.buf[n:]
        if not self.buf and len(got) < n:
            records = [record.encode("utf-8", "surrogateescape") for record in self.show()]
            room = n - len(got)
            while self.index < len(records) and len(self.buf) < room:
                record = records[self.index]
                if self.buf and len(self.buf) + len(record) > PAGE_SIZE:
                    break
                self.buf += record
                self.index += 1
            got += self.buf[:room]
            self.buf = self.buf[room:]
        self.read_pos = pos + len(got)
        return got

    def traverse(self, offset: int) -> None:
        """Show records again from the first one on, up to ``offset``."""
        self.index = 0
        self.buf = b""
        self.read_pos = offset
        if offset:
            for text in self.show():
                record = text.encode("utf-8", "surrogateescape")
                self.index += 1
                if offset < len(record):
                    self.buf = record[offset:]
                    return
                offset -= len(record)

    def llseek(self, offset: int, whence: int) -> int:
        """seq_lseek: the end is unknown."""
        if whence == SEEK_END:
            raise oserror(errno.EINVAL)
        return super().llseek(offset, whence)

    def pwrite(self, data: bytes, pos: int) -> int:
        raise oserror(errno.EINVAL)

    def ftruncate(self, length: int) -> None:
        """proc_setattr takes a size and forgets it."""

    def fionread(self) -> int:
        """The size of these files is 0, whatever they hold."""
        return -self.f_pos


class SeqPollFile(SeqFile):
    """proc_reg_poll: these may be polled, though nothing ever happens."""

    __slots__ = ()
    can_poll = True


# --- sysctl ---
class CtlTable:
    """struct ctl_table: ``get`` reads the numbers, ``set`` stores them, each within ``low`` and ``high``.

    ``unsigned``: one number by proc_douintvec_minmax, which differs in what it counts as written.  ``whole``: nothing is stored unless
    all of it is good.  A ``set`` of None makes the file read-only.
    """

    __slots__ = ("get", "high", "low", "set", "unsigned", "whole")

    def __init__(
        self,
        get: Callable[[], list[int]],
        set: Callable[[list[int]], None] | None,
        low: int = -(2**31),
        high: int = 2**31 - 1,
        unsigned: bool = False,
        whole: bool = False,
    ) -> None:
        self.get = get
        self.set = set
        self.low = low
        self.high = high
        self.unsigned = unsigned
        self.whole = whole


class SysctlNode(Node):
    """A file of /proc/sys."""

    __slots__ = ("table",)

    def __init__(self, i_ino: int, table: CtlTable) -> None:
        super().__init__(i_ino)
        self.table = table

    def getattr(self) -> Kstat:
        return Kstat(S_IFREG | (0o444 if self.table.set is None else 0o644), PROC_DEV, self.i_ino, blksize=PROC_BLKSIZE)

    def open(self, sched: Sched, f_flags: int) -> File:
        if self.table.set is None and f_flags & O_ACCMODE != O_RDONLY:
            raise oserror(errno.EACCES)
        return SysctlFile(sched, self, self.table, f_flags)


class SysctlFile(PosFile):
    """proc_sys_file_operations: a read gives all at once, from position 0 only; a write elsewhere is taken and has no effect."""

    __slots__ = ("table",)
    kind = "sysctl"
    can_splice_write = True
    can_poll = True

    def __init__(self, sched: Sched, node: Node, table: CtlTable, f_flags: int) -> None:
        super().__init__(sched, node, f_flags)
        self.table = table

    def pread(self, n: int, pos: int) -> bytes:
        if pos:
            return b""
        return ("\t".join(map(str, self.table.get())) + "\n").encode()[:n]

    def pwrite(self, data: bytes, pos: int) -> int:
        return proc_dointvec(self.table, data) if data and not pos else len(data)

    def write(self, data: bytes) -> int:
        n = super().write(data)
        if self.table.unsigned and n and self.f_pos == n:
            # do_proc_douintvec_w leaves the position alone.
            self.f_pos = 0
        return n

    def ftruncate(self, length: int) -> None:
        """proc_sys_setattr takes a size and forgets it."""

    def fionread(self) -> int:
        return -self.f_pos

    def splice_read(self, n: int, pos: int, slots: int, flags: int) -> list[bytes]:
        """copy_splice_read."""
        data = self.pread(n, pos)
        return [data] if data else []

    def splice_write(self, data: bytes, pos: int, flags: int) -> int:
        return self.pwrite(data, pos)


def proc_dointvec(table: CtlTable, data: bytes) -> int:
    """do_proc_dointvec for a write: how many bytes were understood.  EINVAL; what comes before the mistake is stored."""
    assert table.set is not None
    text = data[: PAGE_SIZE - 1].decode("latin-1")
    values = table.get()
    at = 0
    stored = 0
    bad = False
    for i in range(len(values)):
        at = skip_spaces(text, at)
        if at == len(text):
            break
        end = at
        while end < len(text) and text[end] not in " \t\n":
            end += 1
        number = strtoul(text[at:end])
        if number is None or not table.low <= number <= table.high:
            bad = True
            break
        values[i] = number
        stored += 1
        at = end
    if stored and not (bad and table.whole):
        table.set(values)
    if bad or not stored:
        raise oserror(errno.EINVAL)
    return len(data) if table.unsigned else skip_spaces(text, at)


def constant(name: str, value: int) -> CtlTable:
    """A limit that is built in: root may write it on Linux, not here."""

    def store(values: list[int]) -> None:
        if values != [value]:
            raise Unsupported(f"a new value of {name} is not modelled")

    return CtlTable(lambda: [value], store, 0, 2**32 - 1, unsigned=True)


def skip_spaces(text: str, at: int) -> int:
    """proc_skip_spaces."""
    while at < len(text) and text[at] in " \t\n\v\f\r":
        at += 1
    return at


def strtoul(text: str) -> int | None:
    """proc_get_long: a number as C writes it, with base 8 and 16; None for anything else."""
    digits = text[1:] if text.startswith("-") else text
    if not digits or not digits[0].isdigit() or len(text) > 21:
        return None
    base = 10
    if digits[:2].lower() == "0x" and len(digits) > 2:
        base, digits = 16, digits[2:]
    elif digits[0] == "0":
        base = 8
    try:
        number = int(digits, base) if "_" not in digits else None
    except ValueError:
        return None
    return -number if number is not None and text.startswith("-") else number


# --- directories ---
class ProcDir(DirNode):
    """A directory of fixed files, as registered."""

    __slots__ = ("entries",)

    def __init__(self, i_ino: int, parent: DirNode | None) -> None:
        super().__init__(i_ino, parent)
        self.entries: dict[bytes, Node] = {}

    def lookup(self, name: bytes) -> Node | None:
        return self.entries.get(name)


class SysctlDir(ProcDir):
    """A directory below /proc/sys, where nothing is removed for another reason."""

    __slots__ = ()

    def unlink(self, name: bytes) -> None:
        raise oserror(errno.EACCES)


class FdLink(Node):
    """/proc/self/fd/N: a link that leads straight to the file's inode."""

    __slots__ = ("file",)

    def __init__(self, file: File) -> None:
        super().__init__(file.ino)
        self.file = file

    def get_link(self) -> Node | None:
        node = self.file.inode()
        # Sockets, eventfds and the rest of the anonymous ones can't be opened again: ENXIO.
        return node if isinstance(node, Node) else AnonNode(self.file)

    def readlink(self) -> bytes:
        return self.file.d_path()

    def getattr(self) -> Kstat:
        """proc_fd_instantiate: the file's own rights of reading and writing, and 64 for a length that nobody counted."""
        return Kstat(S_IFLNK | self.file.readable * 0o500 | self.file.writable * 0o300, PROC_DEV, self.i_ino, 64, blksize=PROC_BLKSIZE)


class AnonNode(Node):
    """What no path but /proc/self/fd/N leads to, and no open: a socket, an eventfd."""

    __slots__ = ("file",)

    def __init__(self, file: File) -> None:
        super().__init__(file.ino)
        self.file = file

    def getattr(self) -> Kstat:
        return self.file.getattr()


class ProcFdDir(DirNode):
    """/proc/PID/fd and fdinfo."""

    __slots__ = ("info", "process")

    def __init__(self, i_ino: int, parent: DirNode, process: Process, info: bool) -> None:
        super().__init__(i_ino, parent)
        self.process = process
        self.info = info

    def getattr(self) -> Kstat:
        mode = 0o555 if self.info else 0o500
        size = len(self.process.files.open_fds())
        return Kstat(S_IFDIR | mode, PROC_DEV, self.i_ino, 0 if self.info else size, 2, blksize=PROC_BLKSIZE)

    def iterate(self) -> list[tuple[int, int, bytes]]:
        return [(file.ino, 8 if self.info else 10, b"%d" % fd) for fd, file in self.process.files.open_fds().items()]

    def path_name(self) -> bytes:
        return b"/proc/%d/%b" % (self.process.pid, b"fdinfo" if self.info else b"fd")

    def lookup(self, name: bytes) -> Node | None:
        """proc_lookupfd_common: a name is a number without a leading zero."""
        if not name.isdigit() or (name[:1] == b"0" and name != b"0"):
            return None
        fd = int(name)
        process = self.process
        file = process.files.open_fds().get(fd)
        if file is None:
            return None
        return SeqNode(file.ino, lambda: [seq_show_fdinfo(process, fd)], pde=False) if self.info else FdLink(file)


def seq_show_fdinfo(process: Process, fd: int) -> str:
    """seq_show of fs/proc/fd.c: ENOENT when the fd has been closed since."""
    file = process.files.open_fds().get(fd)
    if file is None:
        raise oserror(errno.ENOENT)
    f_flags = file.f_flags | (O_CLOEXEC if fd in process.files.cloexec else 0)
    node = file.inode()
    ino = node.i_ino if node is not None else file.ino
    return f"pos:\t{file.f_pos}\nflags:\t0{f_flags:o}\nmnt_id:\t{MNT_ID}\nino:\t{ino}\n{file.fdinfo()}"


MNT_ID: Final = 15


class ProcPidDir(DirNode):
    """/proc/PID: its open files are all there is."""

    __slots__ = ("process",)

    def __init__(self, i_ino: int, parent: DirNode, process: Process) -> None:
        super().__init__(i_ino, parent)
        self.process = process

    def lookup(self, name: bytes) -> Node | None:
        if name in (b"fd", b"fdinfo"):
            return ProcFdDir(self.i_ino, self, self.process, info=name == b"fdinfo")
        return None


class SelfLink(Node):
    """/proc/self."""

    __slots__ = ("proc", "sched")

    def __init__(self, i_ino: int, proc: "ProcRoot", sched: Sched) -> None:
        super().__init__(i_ino)
        self.proc = proc
        self.sched = sched

    def getattr(self) -> Kstat:
        return Kstat(S_IFLNK | 0o777, PROC_DEV, self.i_ino, blksize=PROC_BLKSIZE)

    def readlink(self) -> bytes:
        return b"%d" % self.sched.current.process.pid

    def get_link(self) -> Node | None:
        return self.proc.lookup(b"%d" % self.sched.current.process.pid)


class ProcRoot(ProcDir):
    """/proc: what is registered, and a directory for each process."""

    __slots__ = ("sched", "vfs")

    def __init__(self, vfs: Vfs, parent: DirNode) -> None:
        super().__init__(vfs.get_next_ino(), parent)
        self.vfs = vfs
        self.sched = vfs.sched
        self.entries[b"self"] = SelfLink(vfs.get_next_ino(), self, vfs.sched)
        self.register_sysctl("fs/file-max", CtlTable(self._file_max, self._set_file_max, 0, 2**63 - 1))
        self.register_sysctl("fs/file-nr", CtlTable(lambda: [self.sched.nr_files, 0, self.sched.max_files], None))

    def lookup(self, name: bytes) -> Node | None:
        found = self.entries.get(name)
        if found is None and name.isdigit() and name[:1] != b"0":
            process = self.sched.processes.get(int(name))
            if process is not None:
                return ProcPidDir(process.pid, self, process)
        return found

    def directory(self, names: list[str], sysctl: bool) -> ProcDir:
        """The directory of this path below /proc, made if there is none."""
        at: ProcDir = self
        for name in names:
            found = at.entries.get(name.encode())
            if found is None:
                ino = self.vfs.get_next_ino()
                found = SysctlDir(ino, at) if sysctl else ProcDir(ino, at)
                at.entries[name.encode()] = found
            assert isinstance(found, ProcDir)
            at = found
        return at

    def register_seq(self, path: str, show: Show) -> None:
        """proc_create_seq: /proc/``path`` holds the records of ``show()``."""
        *above, name = path.split("/")
        self.directory(above, sysctl=False).entries[name.encode()] = SeqNode(self.vfs.get_next_ino(), show, pde=True)

    def register_sysctl(self, path: str, table: CtlTable) -> None:
        """register_sysctl: /proc/sys/``path``."""
        *above, name = path.split("/")
        self.directory(["sys", *above], sysctl=True).entries[name.encode()] = SysctlNode(self.vfs.get_next_ino(), table)

    def _file_max(self) -> list[int]:
        return [self.sched.max_files]

    def _set_file_max(self, values: list[int]) -> None:
        self.sched.max_files = values[0]
