"""What is mounted where at boot (fs/namespace.c, init/do_mounts.c)."""

import os

from simkernel.kernel.file import File
from simkernel.kernel.hostfs import mount_host
from simkernel.kernel.mem import Crng, chr_dev_init
from simkernel.kernel.namei import DirNode, Node, Vfs
from simkernel.kernel.pipe import PIPE_MAX_SIZE, FifoInode
from simkernel.kernel.procfs import ProcRoot, constant
from simkernel.kernel.shmem import ShmemDir
from simkernel.kernel.stat import DEVTMPFS_DEV


def init_mount_tree(vfs: Vfs, crng: Crng, hostfs: bool) -> ProcRoot:
    """Make /, /tmp, /dev with its devices, and /proc, which others may add to.  ``hostfs``: the real / for the first two."""
    root: DirNode
    if hostfs:
        root = mount_host(vfs)
    else:
        root = vfs.made = ShmemDir(vfs.get_next_ino(), None)
        root.mkdir(b"tmp", vfs, 0o1777)
    root.mknod(b"dev", ShmemDir(vfs.get_next_ino(), root, i_dev=DEVTMPFS_DEV))
    chr_dev_init(vfs, crng)
    proc = ProcRoot(vfs, root)
    root.mknod(b"proc", proc)
    proc.register_sysctl("fs/pipe-max-size", constant("fs.pipe-max-size", PIPE_MAX_SIZE))
    fifos: dict[tuple[int, int], FifoInode] = {}

    def open_fifo(node: Node, f_flags: int) -> File:
        found = node.getattr()
        fifo = fifos.setdefault((found.dev, found.ino), FifoInode(node))
        return fifo.open(vfs.sched, f_flags)

    vfs.open_fifo = open_fifo
    if hostfs:
        # Where the real process is, so that relative paths mean what they mean to the real one.
        vfs.pwd = vfs.directory(os.getcwdb())
    return proc
