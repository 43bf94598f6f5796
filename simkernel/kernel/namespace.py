"""What is mounted where at boot (fs/namespace.c, init/do_mounts.c)."""

from simkernel.kernel.mem import chr_dev_init
from simkernel.kernel.namei import Vfs
from simkernel.kernel.pipe import PIPE_MAX_SIZE
from simkernel.kernel.procfs import ProcRoot, constant
from simkernel.kernel.shmem import ShmemDir


def init_mount_tree(vfs: Vfs) -> ProcRoot:
    """Make /, /tmp, /dev with its devices, and /proc, which others may add to."""
    root = ShmemDir(vfs.get_next_ino(), None)
    vfs.made = root
    for name in (b"tmp", b"dev"):
        root.mkdir(name, vfs)
    chr_dev_init(vfs)
    proc = ProcRoot(vfs, root)
    root.mknod(b"proc", proc)
    proc.register_sysctl("fs/pipe-max-size", constant("fs.pipe-max-size", PIPE_MAX_SIZE))
    return proc
