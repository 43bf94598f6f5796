"""For users of trio: an async function on a fake machine, in virtual time, with trio's own scheduler seeded too.

    import simkernel.trio

    async def main(): ...                          # trio.serve_tcp, open_tcp_stream, sleep, to_thread.run_sync, ...
    simkernel.trio.run(main, seed=7)

The module of ``main`` is imported a second time, over the fake machine's modules (simkernel.stdlib).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from simkernel.stdlib.process import in_world
from simkernel.stdlib.world import World

# trio never sleeps longer than a day, so a program that waits for ever would go on for ever: ten years are its end.
DEADLINE_NS: Final = 10 * 365 * 24 * 3600 * 10**9


def run(main: Callable[..., Awaitable[Any]], *args: Any, seed: int | None = None, **options: Any) -> Any:
    """``trio.run(main, *args)`` on a fake machine; returns what it returns and raises what it raised.

    seed     which schedule, buffer sizes and random numbers, and in which order trio runs what is runnable (default: the plain ones)
    options  ``hosts`` (more names, as in /etc/hosts), ``choice``, ``trace``, and Kernel's; ``deadline_ns`` is DEADLINE_NS unless given
    """
    options.setdefault("deadline_ns", DEADLINE_NS)

    def body(world: World) -> Any:
        return world.import_module("trio").run(world.inside(main), *args)

    return in_world(body, main, seed=seed, **options)
