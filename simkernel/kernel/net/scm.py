"""Control messages of AF_UNIX (net/core/scm.c): files and credentials that travel with bytes.

The machine has one user, root: uid and gid are 0, and every capability is there.  So any existing pid, uid and gid may be claimed in
SCM_CREDENTIALS, and ETOOMANYREFS, which is for others than root, never comes.
"""

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from simkernel.errors import oserror
from simkernel.kernel.file import File
from simkernel.kernel.net.socket import MsgHdr, cmsg_align
from simkernel.kernel.sched import Sched
from simkernel.uapi import MSG_CMSG_CLOEXEC, MSG_CTRUNC, RLIMIT_NOFILE, SCM_CREDENTIALS, SCM_MAX_FD, SCM_RIGHTS, SOL_SOCKET

if TYPE_CHECKING:
    from simkernel.kernel.net.unix import UnixSock

# struct ucred: pid, uid, gid.
Ucred: TypeAlias = tuple[int, int, int]
UCRED_SIZE: Final = 12
ROOT_UID = ROOT_GID = 0
# What a buffer's sender is when nobody asked who it was: no pid, and the ids that stand for none (/proc/sys/kernel/overflowuid).
NO_CREDS: Ucred = (0, 65534, 65534)
CMSG_HDR_SIZE: Final = 16
UINT_MAX: Final = 2**32 - 1


class ScmFpList:
    """struct scm_fp_list: files in a message, each with a reference.  ``sockets``: those that are AF_UNIX, once it is queued."""

    __slots__ = ("fp", "sockets")

    def __init__(self, fp: list[File]) -> None:
        self.fp = fp
        self.sockets: list[UnixSock] = []

    def dup(self) -> "ScmFpList":
        """scm_fp_dup: the same files, once more."""
        for file in self.fp:
            file.f_count += 1
        return ScmFpList(self.fp)


class ScmCookie:
    """struct scm_cookie: what a sender's control messages said.  ``creds`` None: nothing about who it is."""

    __slots__ = ("creds", "fp")

    def __init__(self) -> None:
        self.creds: Ucred | None = None
        self.fp: ScmFpList | None = None


def current_creds(sched: Sched) -> Ucred:
    """The running process as SCM_CREDENTIALS and SO_PEERCRED name it."""
    return sched.current.process.pid, ROOT_UID, ROOT_GID


def ucred_bytes(creds: Ucred) -> bytes:
    """struct ucred."""
    return b"".join((value & UINT_MAX).to_bytes(4, "little") for value in creds)


def scm_send(sched: Sched, control: Sequence[tuple[int, int, bytes]]) -> ScmCookie:
    """__scm_send: read a sender's control messages; those of another level than SOL_SOCKET are not for us.

    EINVAL for a type that is neither SCM_RIGHTS nor SCM_CREDENTIALS, for more than 253 files and for a malformed struct ucred; EBADF for a
    bad fd; ESRCH for a pid that is nobody's.
    """
    scm = ScmCookie()
    try:
        for level, kind, data in control:
            if level != SOL_SOCKET:
                continue
            if kind == SCM_RIGHTS:
                _scm_fp_copy(sched, data, scm)
            elif kind == SCM_CREDENTIALS and len(data) == UCRED_SIZE:
                scm.creds = _check_creds(sched, data)
            else:
                raise oserror(errno.EINVAL)
    except OSError:
        if scm.fp is not None:
            put_files(scm.fp)
        raise
    return scm


def _scm_fp_copy(sched: Sched, data: bytes, scm: ScmCookie) -> None:
    num = len(data) // 4
    if num == 0:
        return
    if scm.fp is None:
        scm.fp = ScmFpList([])
    fp = scm.fp.fp
    if len(fp) + num > SCM_MAX_FD:
        raise oserror(errno.EINVAL)
    files = sched.current.files
    for i in range(0, num * 4, 4):
        file = files.fget(int.from_bytes(data[i : i + 4], "little", signed=True))
        file.f_count += 1
        fp.append(file)


def _check_creds(sched: Sched, data: bytes) -> Ucred:
    """scm_check_creds, for root: any process there is, and any ids but -1, which is none."""
    pid = int.from_bytes(data[:4], "little", signed=True)
    uid = int.from_bytes(data[4:8], "little")
    gid = int.from_bytes(data[8:], "little")
    if uid == UINT_MAX or gid == UINT_MAX:
        raise oserror(errno.EINVAL)
    if pid not in sched.tasks and pid not in sched.processes:
        raise oserror(errno.ESRCH)
    return pid, uid, gid


def put_files(fpl: ScmFpList) -> None:
    """__scm_destroy: nobody has received these files."""
    for file in reversed(fpl.fp):
        file.fput()


def scm_recv(sched: Sched, msg: MsgHdr | None, passcred: bool, creds: Ucred, fpl: ScmFpList | None) -> None:
    """scm_recv_unix: hand the receiver of a message its credentials and files, as far as there is room for them."""
    if msg is None:
        if fpl is not None:
            put_files(fpl)
        return
    if passcred:
        msg.put_cmsg(SOL_SOCKET, SCM_CREDENTIALS, ucred_bytes(creds))
    if fpl is not None:
        _scm_detach_fds(sched, msg, fpl)


def _scm_detach_fds(sched: Sched, msg: MsgHdr, fpl: ScmFpList) -> None:
    """scm_detach_fds: new fds for as many files as fit into the room and the fd table; the others are lost, with MSG_CTRUNC."""
    task = sched.current
    files = task.files
    limit = task.process.rlimits[RLIMIT_NOFILE][0]
    room = max(msg.controllen - CMSG_HDR_SIZE, 0) // 4
    fds = bytearray()
    for file in fpl.fp[:room]:
        try:
            fd = files.get_unused_fd(limit)
        except OSError:
            break
        files.fd_install(fd, file, bool(msg.flags & MSG_CMSG_CLOEXEC))
        fds += fd.to_bytes(4, "little")
    if fds:
        msg.control.append((SOL_SOCKET, SCM_RIGHTS, bytes(fds)))
        msg.controllen -= min(cmsg_align(CMSG_HDR_SIZE + len(fds)), msg.controllen)
    if len(fds) < 4 * len(fpl.fp):
        msg.flags |= MSG_CTRUNC
    put_files(fpl)
