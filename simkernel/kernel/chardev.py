"""Character devices: the console behind fds 0, 1 and 2."""

import sys

from simkernel.kernel.file import File
from simkernel.kernel.sched import Sched


class Console(File):
    """/dev/console: what is written appears on the real stdout or stderr, a read is at the end."""

    __slots__ = ("stderr",)
    kind = "console"
    can_poll = True

    def __init__(self, sched: Sched, f_flags: int, stderr: bool) -> None:
        super().__init__(sched, f_flags)
        self.stderr = stderr

    def read(self, n: int) -> bytes:
        return b""

    def write(self, data: bytes) -> int:
        stream = sys.stderr if self.stderr else sys.stdout
        stream.write(data.decode("utf-8", "backslashreplace"))
        stream.flush()
        return len(data)
