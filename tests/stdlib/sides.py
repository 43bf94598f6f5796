"""One body, three sides: CPython's own modules on Linux, ours on Linux, ours on the fake kernel."""

import functools
import importlib

import pytest

import simkernel.linux
from simkernel.stdlib.here import machine
from simkernel.stdlib.process import in_world
from simkernel.stdlib.world import World

SIDES = ("cpython", "linux", "fake")


class Modules:
    """The modules of a side, as attributes."""

    def __init__(self, import_module):
        self._import = import_module

    def __getattr__(self, name):
        return self._import(name)


@functools.cache
def world():
    """The world of the side in the middle: with sockets of ours, over Linux."""
    return World(fakes=("_socket", "select"))


def run(side, body, **options):
    """``body(modules)`` as process 1 of a machine of that side; returns what it returns.  Options: the fake machine's."""
    if side == "cpython":
        return simkernel.linux.run(lambda sys: body(Modules(importlib.import_module)))
    if side == "linux":

        def main(sys):
            with machine(sys):
                return body(Modules(world().import_module))

        return simkernel.linux.run(main)
    return in_world(lambda world: body(Modules(world.import_module)), **options)


def three_ways(test):
    """Runs a test's body on each side."""

    @pytest.mark.parametrize("side", SIDES)
    def ways(side):
        run(side, test)

    ways.__name__ = test.__name__
    ways.__doc__ = test.__doc__
    return ways
