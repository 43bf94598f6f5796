"""termios: the error that tells a file from a terminal.  There are no terminals to set."""

import termios as real
from typing import TYPE_CHECKING, Any

from simkernel.errors import Unsupported
from simkernel.stdlib.here import here
from simkernel.uapi import TCGETS

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

__doc__ = real.__doc__
error = real.error


def terminal_call(name: str) -> Any:
    """A call on a terminal: the error of what is none."""

    def call(fd: Any, *args: Any) -> Any:
        number = fd if isinstance(fd, int) else fd.fileno()
        try:
            here.sys.ioctl(number, TCGETS)
        except OSError as failure:
            raise error(*failure.args) from None
        raise Unsupported(f"termios.{name} is not modelled: a simulated terminal has no settings")

    call.__name__ = call.__qualname__ = name
    return call


for _name, _value in vars(real).items():
    if not _name.startswith("__") and _name != "error":
        globals()[_name] = terminal_call(_name) if callable(_value) else _value
