"""_posixsubprocess: a program is started as a process of the machine, if it is one of Python's."""

import _posixsubprocess as real
from typing import TYPE_CHECKING, Any

from simkernel.errors import Unsupported

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__


def fork_exec(process_args: Any, executable_list: Any, *args: Any) -> int:
    """fork and exec."""
    words = [word.decode(errors="backslashreplace") if isinstance(word, bytes) else str(word) for word in process_args or ()]
    raise Unsupported(f"subprocess: {' '.join(words)!r} is a real program, which a simulated process can't start")
