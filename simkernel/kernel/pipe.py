"""Pipes (fs/pipe.c).

A pipe is a ring of page-sized buffers.  Small writes are merged into the last page if they fit, which is why it holds 65,536 single bytes
but only 16 writes of 4,095; and it is writable again only when a whole page has been read.
"""

import errno
from collections import deque
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.namei import Node
from simkernel.kernel.poll import PollTable
from simkernel.kernel.sched import Sched
from simkernel.kernel.stat import PIPEFS_DEV, S_IFIFO, Kstat
from simkernel.kernel.wait import WaitQueue, wait_event, wake_up, wake_up_all
from simkernel.uapi import (
    ERESTARTSYS,
    O_ACCMODE,
    O_DIRECT,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    PAGE_SIZE,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDNORM,
    POLLWRNORM,
)

PIPE_DEF_BUFFERS: Final = 16
# fs.pipe-max-size: more is for CAP_SYS_RESOURCE.
PIPE_MAX_SIZE: Final = 1 << 20
KEY_IN: Final = POLLIN | POLLRDNORM
KEY_OUT: Final = POLLOUT | POLLWRNORM


class PipeBuffer:
    """pipe_buffer: one page; bytes ``offset`` to ``end`` are still to be read.  A packet (O_DIRECT) is read alone, its rest is lost.

    A write may add to the page if ``can_merge``; a page that was spliced in belongs to somebody else.
    """

    __slots__ = ("can_merge", "end", "offset", "packet", "page")

    def __init__(self, data: bytes, packet: bool, can_merge: bool) -> None:
        self.can_merge = can_merge
        self.page = bytearray(data)
        self.offset = 0
        self.end = len(data)
        self.packet = packet


class PipeInode(Node):
    """pipe_inode_info: what both ends share."""

    __slots__ = ("bufs", "max_usage", "poll_usage", "rd_wait", "readers", "wr_wait", "writers")

    def __init__(self, i_ino: int) -> None:
        super().__init__(i_ino)
        self.bufs: deque[PipeBuffer] = deque()
        self.max_usage = PIPE_DEF_BUFFERS
        self.readers = 1
        self.writers = 1
        self.poll_usage = False
        self.rd_wait = WaitQueue(self, "rd_wait")
        self.wr_wait = WaitQueue(self, "wr_wait")

    def getattr(self) -> Kstat:
        return Kstat(S_IFIFO | 0o600, PIPEFS_DEV, self.i_ino)

    def open(self, sched: Sched, f_flags: int) -> File:
        """fifo_open, through /proc/self/fd/N: one more end; it never sleeps, since this is no named pipe."""
        file = Pipe(sched, self, f_flags)
        self.readers += file.readable
        self.writers += file.writable
        return file

    def queued(self) -> int:
        """Unread bytes."""
        return sum(buf.end - buf.offset for buf in self.bufs)


class Pipe(File):
    """One end of a pipe."""

    __slots__ = ("pipe",)
    kind = "pipe"
    can_seek = False

    def __init__(self, sched: Sched, pipe: PipeInode, f_flags: int) -> None:
        super().__init__(sched, f_flags)
        self.pipe = pipe

    def getattr(self) -> Kstat:
        return self.pipe.getattr()

    def d_path(self) -> bytes:
        return b"pipe:[%d]" % self.pipe.i_ino

    def read(self, n: int) -> bytes:
        """pipe_read."""
        if not self.readable:
            raise oserror(errno.EBADF)
        if n == 0:
            return b""
        pipe = self.pipe
        bufs = pipe.bufs
        wake_writer = wake_next_reader = False
        got = bytearray()
        while True:
            while bufs and len(got) < n:
                buf = bufs[0]
                chars = min(buf.end - buf.offset, n - len(got))
                got += buf.page[buf.offset : buf.offset + chars]
                buf.offset += chars
                if buf.packet:
                    n = len(got)
                    buf.offset = buf.end
                if buf.offset == buf.end:
                    wake_writer |= len(bufs) >= pipe.max_usage
                    bufs.popleft()
            if got or not pipe.writers:
                break
            if self.nonblock:
                self.sched.stall("read of an empty pipe")
                raise oserror(errno.EAGAIN)
            wait_event(self.sched, pipe.rd_wait, lambda: bool(bufs) or not pipe.writers, exclusive=True)
            wake_next_reader = True
        self.sched.stalled = 0
        if wake_writer:
            wake_up(pipe.wr_wait, KEY_OUT)
        if wake_next_reader and bufs:
            wake_up(pipe.rd_wait, KEY_IN)
        return bytes(got)

    def write(self, data: bytes) -> int:
        """pipe_write.  A partial count if it can't go on after some bytes were taken."""
        if not self.writable:
            raise oserror(errno.EBADF)
        total = len(data)
        if total == 0:
            return 0
        pipe = self.pipe
        bufs = pipe.bufs
        if not pipe.readers:
            self.sched.send_sigpipe()
            raise self._not_written(errno.EPIPE)
        was_empty = not bufs
        done = 0
        # Merge what is over whole pages into the last buffer: small writes share a page, and large ones stay page-aligned.
        chars = total % PAGE_SIZE
        if chars and bufs and bufs[-1].can_merge and bufs[-1].end + chars <= PAGE_SIZE:
            bufs[-1].page += data[:chars]
            bufs[-1].end += chars
            done = chars
        packet = bool(self.f_flags & O_DIRECT)
        wake_next_writer = False
        while done < total:
            if not pipe.readers:
                self.sched.send_sigpipe()
                if not done:
                    raise self._not_written(errno.EPIPE)
                break
            if len(bufs) < pipe.max_usage:
                chunk = data[done : done + PAGE_SIZE]
                bufs.append(PipeBuffer(chunk, packet, not packet))
                done += len(chunk)
                continue
            if self.nonblock:
                if not done:
                    self.sched.stall("write to a full pipe")
                    raise self._not_written(errno.EAGAIN)
                break
            if was_empty:
                wake_up(pipe.rd_wait, KEY_IN)
            try:
                wait_event(self.sched, pipe.wr_wait, lambda: len(bufs) < pipe.max_usage or not pipe.readers, exclusive=True)
            except OSError:
                # A signal: what was taken counts.
                if not done:
                    raise self._not_written(ERESTARTSYS) from None
                break
            was_empty = not bufs
            wake_next_writer = True
        self.sched.stalled = 0
        # Epoll wants a wake-up whether or not the pipe was empty: with one, every write is an edge.
        if was_empty or pipe.poll_usage:
            wake_up(pipe.rd_wait, KEY_IN)
        if wake_next_writer and len(bufs) < pipe.max_usage:
            wake_up(pipe.wr_wait, KEY_OUT)
        return done

    def _not_written(self, code: int) -> OSError:
        """The end of pipe_write without a byte: who polls the other end is woken all the same."""
        if self.pipe.poll_usage:
            wake_up(self.pipe.rd_wait, KEY_IN)
        return oserror(code)

    def poll(self, table: PollTable | None) -> int:
        """pipe_poll."""
        pipe = self.pipe
        pipe.poll_usage = True
        mask = 0
        if self.readable:
            if table is not None:
                table.qproc(pipe.rd_wait)
            if pipe.bufs:
                mask = KEY_IN
            if not pipe.writers:
                mask |= POLLHUP
        if self.writable:
            if table is not None:
                table.qproc(pipe.wr_wait)
            if len(pipe.bufs) < pipe.max_usage:
                mask |= KEY_OUT
            if not pipe.readers:
                mask |= POLLERR
        return mask

    def fionread(self) -> int:
        return self.pipe.queued()

    def inode(self) -> Node:
        return self.pipe

    def release(self) -> None:
        """pipe_release: the side that lost its last user wakes the other."""
        pipe = self.pipe
        if self.readable:
            pipe.readers -= 1
        if self.writable:
            pipe.writers -= 1
        if (not pipe.readers) != (not pipe.writers):
            wake_up_all(pipe.rd_wait)
            wake_up_all(pipe.wr_wait)
        if not pipe.readers and not pipe.writers:
            pipe.rd_wait.owner = pipe.wr_wait.owner = None

    def set_size(self, size: int) -> int:
        """pipe_set_size: a power of two of pages.  EPERM above fs.pipe-max-size, EBUSY if what is queued would not fit."""
        size &= 0xFFFFFFFF
        if size > 1 << 31:
            raise oserror(errno.EINVAL)
        pages = max((size + PAGE_SIZE - 1) // PAGE_SIZE, 1)
        slots = 1 << (pages - 1).bit_length()
        if slots > self.pipe.max_usage and slots * PAGE_SIZE > PIPE_MAX_SIZE:
            raise oserror(errno.EPERM)
        if slots < len(self.pipe.bufs):
            raise oserror(errno.EBUSY)
        self.pipe.max_usage = slots
        # pipe_resize_ring: there may be more room, so the writers are woken, whether or not there is.
        wake_up(self.pipe.wr_wait)
        return slots * PAGE_SIZE


class Fifo(Pipe):
    """One end of a named pipe.  ``w_seen``: how many writers had come when a reader opened it without waiting for one."""

    __slots__ = ("w_seen",)

    def __init__(self, sched: Sched, pipe: PipeInode, f_flags: int) -> None:
        super().__init__(sched, pipe, f_flags)
        self.w_seen = -1

    def poll(self, table: PollTable | None) -> int:
        """pipe_poll: that there is no writer is no news before one has come."""
        mask = super().poll(table)
        pipe = self.pipe
        return mask & ~POLLHUP if isinstance(pipe, FifoInode) and self.w_seen == pipe.w_counter else mask

    def release(self) -> None:
        super().release()
        if not self.pipe.readers and not self.pipe.writers:
            self.pipe.bufs.clear()


class FifoInode(PipeInode):
    """A named pipe, whose name is ``node``; the counters are of the opens for reading and for writing."""

    __slots__ = ("node", "r_counter", "w_counter")

    def __init__(self, node: Node) -> None:
        super().__init__(node.i_ino)
        self.node = node
        self.readers = self.writers = 0
        self.r_counter = self.w_counter = 0

    def getattr(self) -> Kstat:
        return self.node.getattr()

    def open(self, sched: Sched, f_flags: int) -> File:
        """fifo_open: sleeps until the other end is open, too; ENXIO for a writer that would not wait for a reader."""
        if f_flags & O_ACCMODE == O_WRONLY and f_flags & O_NONBLOCK and not self.readers:
            raise oserror(errno.ENXIO)
        file = Fifo(sched, self, f_flags)
        file.f_count = 1
        self.rd_wait.owner = self.wr_wait.owner = self
        self.readers += file.readable
        self.writers += file.writable
        self.r_counter += file.readable
        self.w_counter += file.writable
        wake_up_all(self.rd_wait)
        wake_up_all(self.wr_wait)
        seen = self.w_counter if file.readable else self.r_counter
        alone = not self.writers if file.readable else not self.readers
        try:
            if alone and not file.nonblock:
                wait_event(sched, self.rd_wait, lambda: seen != (self.w_counter if file.readable else self.r_counter))
            elif alone:
                file.w_seen = seen
        except BaseException:
            file.fput()
            raise
        file.f_count = 0
        return file


def do_pipe2(sched: Sched, flags: int) -> tuple[Pipe, Pipe]:
    """Both ends of a new pipe."""
    sched.check_files(2)
    # Numbered like its first end, which comes next.
    pipe = PipeInode(sched.next_ino + 1)
    return Pipe(sched, pipe, O_RDONLY | flags & ~O_DIRECT), Pipe(sched, pipe, O_WRONLY | flags)
