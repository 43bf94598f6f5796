"""The fake of atexit: the end of a program, not of the interpreter."""

import atexit
import importlib
import sys
import tempfile
import weakref

from simkernel.stdlib.process import run_function
from simkernel.stdlib.world import World

LOG = []


def registers():
    LOG.clear()
    atexit.register(LOG.append, "first")
    atexit.register(LOG.append, "last")
    gone = atexit.register(lambda: LOG.append("gone"))
    atexit.unregister(gone)
    atexit.register(print, "of a program", end="")
    return atexit._ncallbacks()


def test_the_last_is_called_first_at_the_end_of_the_process(capsys):
    world = World()
    outer = atexit._ncallbacks()
    before = run_function(count, world=world)
    assert run_function(registers, world=world) == before + 3
    assert world.modules[__name__].LOG == ["last", "first"]
    assert run_function(count, world=world) == before
    assert atexit._ncallbacks() == outer


def count():
    return atexit._ncallbacks()


def fails():
    LOG.clear()
    sys.unraisablehook = lambda args: LOG.append((args.exc_type, args.err_msg))
    atexit.register(LOG.append, "called all the same")
    atexit.register(lambda: 1 / 0)


def test_an_error_is_told_and_the_others_are_called():
    world = World()
    run_function(fails, world=world)
    assert [(ZeroDivisionError, "Exception ignored in atexit callback"), "called all the same"] == world.modules[__name__].LOG


class Thing:
    pass


def finalizes(keep=[]):  # noqa: B006  # it is to live until the end
    LOG.clear()
    thing = Thing()
    keep.append(thing)
    weakref.finalize(thing, LOG.append, "finalized")
    keep.append(tempfile.TemporaryDirectory())
    return keep[-1].name


def test_finalizers_are_called_at_the_end():
    world = World()
    for _ in range(2):
        run_function(finalizes, world=world)
        assert world.modules[__name__].LOG == ["finalized"]


def test_it_has_all_that_the_real_one_has():
    real, fake = importlib.import_module("atexit"), World().import_module("atexit")
    assert not [name for name in dir(real) if not name.startswith("__") and not hasattr(fake, name)]
