"""How a reader of datagrams sleeps (net/core/datagram.c)."""

from simkernel.kernel.wait import TaskWait
from simkernel.uapi import POLLERR, POLLIN


class ReceiverWait(TaskWait):
    """receiver_wake_function: woken for data and errors alone; free space for sending is none of its business."""

    __slots__ = ()

    def func(self, key: int) -> int:
        if key and not key & (POLLIN | POLLERR):
            return 0
        return TaskWait.func(self, key)
