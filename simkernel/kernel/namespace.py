"""What is mounted where at boot (fs/namespace.c, init/do_mounts.c)."""

from simkernel.kernel.mem import Crng, chr_dev_init
from simkernel.kernel.namei import Vfs
from simkernel.kernel.pipe import PIPE_MAX_SIZE
from simkernel.kernel.procfs import ProcRoot, constant
from simkernel.kernel.shmem import ShmemDir


def init_mount_tree(vfs: Vfs, crng: Crng) -> ProcRoot:
    """Make /, /tmp, /dev with its devices, and /proc, which others may add to."""
    root = ShmemDir(vfs.get_next_ino(), None)
    vfs.made = root
    for name, mode in ((b"tmp", 0o1777), (b"dev", 0o755)):
        root.mkdir(name, vfs, mode)
    chr_dev_init(vfs, crng)
    proc = ProcRoot(vfs, root)
    root.mknod(b"proc", proc)
    proc.register_sysctl("fs/pipe-max-size", constant("fs.pipe-max-size", PIPE_MAX_SIZE))
    return proc
