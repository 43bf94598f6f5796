"""Somebody who looks on: what the kernel tells of its own accord, for those who look for bugs of programs.

``Kernel(watch=...)`` takes one.  Nothing here is told on the way of a plain send or recv: only at errors, at accept and close, when
nobody can run, and now and then between calls.
"""

from typing import Any

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Watch:
    """Is told, and does nothing about it: to be subclassed.  A method may end the run with Sched.stop."""

    __slots__ = ()

    def idle(self, expires: int | None) -> None:
        """Nobody can run and nothing is on its way; the next timer is due at ``expires`` (ns since boot), None: there is none."""

    def sample(self) -> None:
        """Called before every 64th system call (WATCH_CALLS); in a run with a trace, before each."""

    def failed(self, call: str, args: tuple[Any, ...], errno: int) -> None:
        """A call of the running task has failed."""

    def accepted(self, listener: Any, fd: int) -> None:
        """The running task has accepted a connection from the Sock ``listener`` as ``fd``."""

    def vain(self, owner: Any) -> None:
        """The running task was woken, and ``owner`` (a Sock), which woke it, has nothing for it any more: it goes back to sleep."""

    def closed(self, fd: int, file: Any) -> None:
        """The running task closes ``fd``, which is that File."""

    def acts(self, call: str, args: tuple[Any, ...]) -> None:
        """A thread that has been told of events makes a call; Task.learnt has the File of each fd that it was told of."""
