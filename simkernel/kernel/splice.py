"""splice and sendfile (fs/splice.c, fs/read_write.c): bytes move between a pipe and a file without the program.

A pipe takes a buffer for each page, or each piece of a socket's buffer, however few bytes are in it, and later writes do not join them.
"""

import errno
from typing import Final

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.hostfs import HostFile
from simkernel.kernel.namei import rw_verify_area
from simkernel.kernel.pipe import PIPE_DEF_BUFFERS, Pipe, PipeBuffer, PipeInode
from simkernel.kernel.procfs import SysctlFile
from simkernel.kernel.sched import Sched
from simkernel.kernel.shmem import MAX_RW_COUNT, ShmemFile
from simkernel.kernel.wait import wait_event, wake_up
from simkernel.uapi import (
    O_APPEND,
    PAGE_SIZE,
    SPLICE_F_GIFT,
    SPLICE_F_MORE,
    SPLICE_F_MOVE,
    SPLICE_F_NONBLOCK,
)

SPLICE_F_ALL: Final = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT


def do_splice(sched: Sched, file_in: File, off_in: int | None, file_out: File, off_out: int | None, n: int, flags: int) -> int:
    """splice(2) with its files found: how many bytes were moved.

    ESPIPE for an offset with a pipe, EBADF for a file not open that way, EINVAL for an offset with what has no position, an append-only
    target, two ends of one pipe, no pipe at all.
    """
    ipipe = file_in.pipe if isinstance(file_in, Pipe) else None
    opipe = file_out.pipe if isinstance(file_out, Pipe) else None
    if (ipipe is not None and off_in is not None) or (opipe is not None and off_out is not None):
        raise oserror(errno.ESPIPE)
    if not file_in.readable or not file_out.writable:
        raise oserror(errno.EBADF)
    if ipipe is not None and opipe is not None:
        if ipipe is opipe:
            raise oserror(errno.EINVAL)
        return splice_pipe_to_pipe(sched, ipipe, opipe, n, file_in.nonblock or file_out.nonblock or bool(flags & SPLICE_F_NONBLOCK))
    if ipipe is not None:
        pos = _offset(file_out, off_out, file_out.can_pwrite)
        if file_out.f_flags & O_APPEND:
            raise oserror(errno.EINVAL)
        rw_verify_area(pos, n)
        if file_in.nonblock:
            flags |= SPLICE_F_NONBLOCK
        done = splice_from_pipe(sched, ipipe, file_out, pos, min(n, MAX_RW_COUNT), flags)
        _move(file_out, off_out, pos + done)
        return done
    if opipe is not None:
        pos = _offset(file_in, off_in, file_in.can_pread)
        rw_verify_area(pos, n)
        if file_out.nonblock:
            flags |= SPLICE_F_NONBLOCK
        done = splice_file_to_pipe(sched, file_in, opipe, pos, n, flags)
        _move(file_in, off_in, pos + done)
        return done
    raise oserror(errno.EINVAL)


def _offset(file: File, offset: int | None, can: bool) -> int:
    if offset is None:
        return file.f_pos
    if not can:
        raise oserror(errno.EINVAL)
    return offset


def _move(file: File, offset: int | None, pos: int) -> None:
    """The position moves when no offset was given; devices have none."""
    if offset is None and isinstance(file, (ShmemFile, HostFile, SysctlFile)):
        file.f_pos = pos


# --- sendfile ---
def sendfile_from(file: File, offset: int | None, n: int) -> int:
    """do_sendfile's look at its source: where to read from.  It comes before the other fd is looked at."""
    if not file.readable:
        raise oserror(errno.EBADF)
    if offset is not None and not file.can_pread:
        raise oserror(errno.ESPIPE)
    pos = file.f_pos if offset is None else offset
    rw_verify_area(pos, n)
    return pos


def do_sendfile(sched: Sched, out: File, file: File, pos: int, offset: int | None, n: int) -> int:
    """do_sendfile, with the source's position known: how many bytes were copied."""
    if not out.writable:
        raise oserror(errno.EBADF)
    n = min(n, MAX_RW_COUNT)
    if isinstance(out, Pipe):
        done = splice_file_to_pipe(sched, file, out.pipe, pos, n, SPLICE_F_NONBLOCK if out.nonblock else 0)
    else:
        rw_verify_area(out.f_pos, n)
        if out.f_flags & O_APPEND:
            raise oserror(errno.EINVAL)
        done = splice_direct_to_actor(file, pos, out, n)
        _move(out, None, out.f_pos + done)
    _move(file, offset, pos + done)
    return done


def splice_direct_to_actor(file: File, pos: int, out: File, n: int) -> int:
    """Through a pipe of the kernel's own: fill it, empty it, until a read finds nothing or a write takes less than all.

    EINVAL for a source that can't seek, since what was read and not written would be lost.
    """
    if not file.can_seek:
        raise oserror(errno.EINVAL)
    done = 0
    while done < n:
        try:
            data = b"".join(file.splice_read(min(n - done, PIPE_DEF_BUFFERS * PAGE_SIZE), pos + done, PIPE_DEF_BUFFERS, 0))
            if not data:
                break
            # Linux says SPLICE_F_MORE while it goes on, and pushes what that held back when it ends (splice_eof).
            written = _write_all(out, out.f_pos + done, data)
        except OSError:
            if done:
                break
            raise
        done += written
        if written < len(data):
            break
    return done


def _write_all(out: File, pos: int, data: bytes) -> int:
    """Until all is written, or no more can be."""
    if not out.can_splice_write:
        raise oserror(errno.EINVAL)
    done = 0
    while done < len(data):
        try:
            n = out.splice_write(data[done:], pos + done, 0)
        except OSError:
            if done:
                break
            raise
        if not n:
            break
        done += n
    return done


# --- a pipe at one end ---
def splice_file_to_pipe(sched: Sched, file: File, pipe: PipeInode, pos: int, n: int, flags: int) -> int:
    """As much as fits now: sleeps for room and for the first byte, not for more.  EAGAIN, EPIPE."""
    while True:
        wait_for_space(sched, pipe, bool(flags & SPLICE_F_NONBLOCK))
        if not n:
            return 0
        file.splice_wait(flags)
        # Linux holds the pipe's lock all the while; here somebody may have filled it during the sleep.
        slots = pipe.max_usage - len(pipe.bufs)
        if slots > 0:
            break
    pieces = file.splice_read(min(n, slots * PAGE_SIZE), pos, slots, flags)
    for piece in pieces:
        pipe.bufs.append(PipeBuffer(piece, packet=False, can_merge=False))
    if pieces:
        sched.stalled = 0
        wake_up(pipe.rd_wait)
    return sum(map(len, pieces))


def wait_for_space(sched: Sched, pipe: PipeInode, nonblock: bool) -> None:
    """Until a buffer of the pipe is free.  EPIPE without readers."""
    while True:
        if not pipe.readers:
            sched.send_sigpipe()
            raise oserror(errno.EPIPE)
        if len(pipe.bufs) < pipe.max_usage:
            return
        if nonblock:
            sched.stall("splice to a full pipe")
            raise oserror(errno.EAGAIN)
        wait_event(sched, pipe.wr_wait, lambda: len(pipe.bufs) < pipe.max_usage or not pipe.readers)


def wait_for_data(sched: Sched, pipe: PipeInode, nonblock: bool) -> bool:
    """Until there is something in the pipe; False at the end, without writers."""
    while not pipe.bufs:
        if not pipe.writers:
            return False
        if nonblock:
            sched.stall("splice from an empty pipe")
            raise oserror(errno.EAGAIN)
        wait_event(sched, pipe.rd_wait, lambda: bool(pipe.bufs) or not pipe.writers)
    return True


def splice_from_pipe(sched: Sched, pipe: PipeInode, out: File, pos: int, n: int, flags: int) -> int:
    """iter_file_splice_write and splice_to_socket: until ``n`` bytes are written or, after some were, the pipe is empty."""
    if not out.can_splice_write:
        raise oserror(errno.EINVAL)
    done = 0
    need_wakeup = False
    try:
        while done < n:
            if not pipe.bufs and done:
                break
            if not wait_for_data(sched, pipe, bool(flags & SPLICE_F_NONBLOCK)):
                break
            taken: list[PipeBuffer] = []
            data = b""
            while pipe.bufs and len(taken) < PIPE_DEF_BUFFERS and len(data) < n - done:
                # Out of the pipe, so that no reader finds them while we sleep in the write: Linux holds the pipe's lock.
                buf = pipe.bufs.popleft()
                taken.append(buf)
                data += buf.page[buf.offset : buf.end]
            # They still take up the room that they had.
            pipe.max_usage -= len(taken)
            written = 0
            try:
                written = out.splice_write(data[: n - done], pos + done, flags)
            except OSError:
                if not done:
                    raise
            finally:
                need_wakeup |= _put_back(pipe, taken, written)
            done += written
            if not written:
                break
    finally:
        if need_wakeup:
            wake_up(pipe.wr_wait)
    if done:
        sched.stalled = 0
    return done


def _put_back(pipe: PipeInode, taken: list[PipeBuffer], used: int) -> bool:
    """Return what was not used of the buffers to the pipe's head; whether any was used up."""
    pipe.max_usage += len(taken)
    released = False
    left: list[PipeBuffer] = []
    for buf in taken:
        chars = min(used, buf.end - buf.offset)
        buf.offset += chars
        used -= chars
        if buf.offset < buf.end:
            left.append(buf)
        else:
            released = True
    pipe.bufs.extendleft(reversed(left))
    return released


def splice_pipe_to_pipe(sched: Sched, ipipe: PipeInode, opipe: PipeInode, n: int, nonblock: bool) -> int:
    """Whole buffers change hands, the last one is split: as many as there are and as fit.  Sleeps only for the first."""
    done = 0
    input_wakeup = False
    while True:
        wait_for_data(sched, ipipe, nonblock)
        # opipe_prep: nobody reads the full pipe, so nobody will make room.
        wait_for_space(sched, opipe, nonblock)
        while done < n:
            if not opipe.readers:
                sched.send_sigpipe()
                if not done:
                    raise oserror(errno.EPIPE)
                break
            if not ipipe.bufs or len(opipe.bufs) >= opipe.max_usage:
                break
            buf = ipipe.bufs[0]
            if buf.end - buf.offset <= n - done:
                opipe.bufs.append(ipipe.bufs.popleft())
                input_wakeup = True
                done += buf.end - buf.offset
            else:
                piece = bytes(buf.page[buf.offset : buf.offset + n - done])
                buf.offset += n - done
                opipe.bufs.append(PipeBuffer(piece, buf.packet, can_merge=False))
                done = n
        # Linux looks again, with both pipes locked, when somebody else was faster.
        if done or not ipipe.writers:
            break
    if done:
        sched.stalled = 0
        wake_up(opipe.rd_wait)
    if input_wakeup:
        wake_up(ipipe.wr_wait)
    return done
