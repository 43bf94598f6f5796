"""For users of trio: an async function on a fake machine, in virtual time, with trio's own scheduler seeded too.

    import simkernel.trio

    async def main(): ...                          # trio.serve_tcp, open_tcp_stream, sleep, to_thread.run_sync, ...
    simkernel.trio.run(main, seed=7)

The module of ``main`` is imported a second time, over the fake machine's modules (simkernel.stdlib).
"""

from collections.abc import Awaitable, Callable
from typing import Any

from simkernel.stdlib.process import in_world
from simkernel.stdlib.world import World


def run(main: Callable[..., Awaitable[Any]], *args: Any, seed: int | None = None, **options: Any) -> Any:
    """``trio.run(main, *args)`` on a fake machine; returns what it returns and raises what it raised.

    seed     which schedule, buffer sizes and random numbers, and in which order trio runs what is runnable (default: the plain ones)
    options  ``choice`` and ``trace``, and Kernel's
    """

    def body(world: World) -> Any:
        return world.import_module("trio").run(world.inside(main), *args)

    return in_world(body, main, seed=seed, **options)
