"""What f_op->poll is given (include/linux/poll.h): a table that knows how to register on a wait queue.

A file's poll does two jobs: it reports the mask, and registers on the file's wait queues if there is a table.  Who registers (select or
epoll) is the table's business alone.
"""

from mypy_extensions import mypyc_attr

from simkernel.kernel.wait import WaitQueue


class PollTable:
    """poll_table: ``qproc`` is called for each wait queue that the file would wake."""

    __slots__ = ()

    def qproc(self, wq: WaitQueue) -> None:
        """Register on ``wq``."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Pollable:
    """What has f_op->poll, or proto_ops->poll."""

    __slots__ = ()

    def poll(self, table: PollTable | None) -> int:
        """The mask of what is ready."""
        raise NotImplementedError


def poll_wait(wq: WaitQueue, table: PollTable | None) -> None:
    """Called by a file's poll for each of its wait queues."""
    if table is not None:
        table.qproc(wq)
