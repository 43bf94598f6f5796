"""For users of asyncio: a coroutine function on a fake machine, in virtual time.

    import simkernel.asyncio

    async def main(): ...                          # asyncio.start_server, open_connection, sleep, to_thread, ...
    simkernel.asyncio.run(main, seed=7)

The module of ``main`` is imported a second time, over the fake machine's modules (simkernel.stdlib).
"""

from collections.abc import Callable, Coroutine
from typing import Any

from simkernel.stdlib.process import in_world
from simkernel.stdlib.world import World


def run(
    main: Callable[..., Coroutine[Any, Any, Any]], *args: Any, seed: int | None = None, debug: bool | None = None, **options: Any
) -> Any:
    """``asyncio.run(main(*args))`` on a fake machine; returns what it returns and raises what it raised.

    seed     which schedule, buffer sizes and random numbers (default: the plain ones)
    debug    asyncio's debug mode
    options  ``hosts`` (more names of hosts, as /etc/hosts has them), ``choice`` and ``trace``, and Kernel's
    """

    def body(world: World) -> Any:
        return world.import_module("asyncio").run(world.inside(main)(*args), debug=debug)

    return in_world(body, main, seed=seed, **options)
