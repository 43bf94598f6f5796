"""Async test functions on a fake machine: what the marks simkernel_asyncio and simkernel_trio do.

@pytest.mark.simkernel_asyncio(seeds=20)
async def test_echo(): ...
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import simkernel.asyncio
import simkernel.trio
from simkernel.errors import UsageError
from simkernel.kernel.trace import Trace
from simkernel.testing.escapes import no_escape

RUNNERS: dict[str, Callable[..., Any]] = {"simkernel_asyncio": simkernel.asyncio.run, "simkernel_trio": simkernel.trio.run}


def run_test(mark: str, function: Callable[..., Any], arguments: dict[str, Any], seeds: int = 0, **options: Any) -> None:
    """Run a test once with the plain choices, or ``seeds`` times with seeds 0, 1, 2...

    A failure is run once more with a trace, which its exception has as ``simkernel_trace``, with a note that names the seed.
    """
    if not isinstance(seeds, int) or seeds < 0:
        raise UsageError(f"{mark}: seeds is how many to try, not {seeds!r}")
    allowed = options.pop("allow_real", ())

    def run(**options: Any) -> None:
        with no_escape(allowed):
            RUNNERS[mark](functools.partial(function, **arguments), **options)

    for seed in range(seeds) if seeds else [options.pop("seed", None)]:
        try:
            run(seed=seed, **options)
        except Exception as error:
            trace = Trace()
            with contextlib.suppress(Exception):
                run(seed=seed, trace=trace, **options)
            name = RUNNERS[mark].__module__
            error.add_note(
                f"on a fake machine, {'with the plain choices' if seed is None else f'seed {seed}'}: {name}.run(..., seed={seed})"
            )
            error.simkernel_trace = trace  # type: ignore[attr-defined]  # for the plugin's report
            raise
