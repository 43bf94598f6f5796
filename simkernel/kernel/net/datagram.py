"""How a reader of datagrams sleeps (net/core/datagram.c)."""

from simkernel.kernel.wait import WaitEntry, autoremove_wake_function
from simkernel.uapi import POLLERR, POLLIN


def receiver_wake_function(entry: WaitEntry, key: int) -> int:
    """Wake a reader for data and errors alone; free space for sending is none of its business."""
    if key and not key & (POLLIN | POLLERR):
        return 0
    return autoremove_wake_function(entry, key)
