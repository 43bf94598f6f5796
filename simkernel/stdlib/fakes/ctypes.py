"""ctypes: the real one, but without the C library, whose functions would reach the real kernel and know nothing of simulated threads.

(The real one is not executed a second time: it empties the cache of pointer types that it shares with the first.)
"""

import ctypes as real
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from simkernel.stdlib.world import World

world: "World"

globals().update({name: value for name, value in vars(real).items() if not name.startswith("__")})
__doc__ = real.__doc__
__version__: Final = vars(real)["__version__"]
__path__ = list(real.__path__)
C_LIBRARY: Final = ("libc.", "libc-", "libpthread", "librt.")


class CDLL(real.CDLL):
    """A library that does not reach the operating system."""

    def __init__(self, name: Any, *args: Any, **kwargs: Any) -> None:
        if name is not None and os.path.basename(os.fsdecode(name)).startswith(C_LIBRARY):
            raise OSError(f"{os.fsdecode(name)}: what the C library does is real, so a simulated program can't load it")
        super().__init__(name, *args, **kwargs)


CDLL.__module__ = "ctypes"
cdll: Final = real.LibraryLoader(CDLL)


def find_library(name: str) -> str | None:
    """None: ldconfig and the compiler, which would be asked, are real programs."""
    return None


util: Final = ModuleType("ctypes.util")
vars(util).update(find_library=find_library, os=os, sys=sys, __package__="ctypes")
world.modules["ctypes.util"] = util
