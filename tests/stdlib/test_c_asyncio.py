"""asyncio's C futures and tasks in a world: as its Python ones are, call by call, and of their own loop, thread and run."""

import asyncio
import gc
import sys

import pytest

from simkernel import Trace
from simkernel.stdlib.process import in_world, run_function
from simkernel.stdlib.world import World


async def echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


async def client(port, n):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(n):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()


async def much():
    seen = []
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*[client(port, n) for n in range(4)])
    server.close()
    tasks = [asyncio.create_task(asyncio.sleep(i / 10)) for i in (3, 1, 2)]
    _done, pending = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
    for task in pending:
        task.cancel()
    seen += [repr(result) for result in await asyncio.gather(*tasks, return_exceptions=True)]
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.1)
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(1))
    me = asyncio.current_task()
    seen += [task.get_name() for task in (me, *tasks)] + [asyncio.all_tasks() == {me}]
    future = asyncio.Future()
    asyncio.get_running_loop().call_soon(future.set_result, 5)
    seen += [isinstance(me, asyncio.Future), isinstance(future, asyncio.Future), asyncio.isfuture(me), await future]
    if sys.version_info >= (3, 12):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        at_once = asyncio.create_task(asyncio.sleep(0, 7))
        seen += [await at_once, await asyncio.create_task(immediately()), len(asyncio.all_tasks())]
    return seen


async def immediately():
    return asyncio.current_task() in asyncio.all_tasks()


def run():
    return asyncio.run(much())


def calls(trace):
    """What a run did, without the question who it is: the Python futures ask it again and again."""
    out = []
    for (t, pid, _ctx), ev, fn, _code, _lasti, _cause, fields in trace.unpacked():
        if fn != "getpid" and ev in ("sys_enter", "sys_exit"):
            out.append((t, pid, ev, fn, fields[1] if ev == "sys_enter" else fields[3]))
    return out


def pythons():
    world = World()
    world.modules["_asyncio"] = None
    return world


@pytest.mark.parametrize("seed", [None, 1])
def test_c_and_python_do_the_same(seed):
    with_c, with_python = Trace(), Trace()
    # A choice is made at each call, so only without choices are the runs the same with more of them.
    seen = run_function(run, seed=seed, trace=with_c)
    assert seen == run_function(run, world=pythons(), seed=seed, trace=with_python)
    assert seen[3] == "Task-1" and seen[7] is True
    if seed is None:
        assert calls(with_c) == calls(with_python)


def test_runs_of_a_world_are_the_same():
    world = World()
    digests = []
    for seed in (1, 2, 1):
        trace = Trace()
        run_function(run, world=world, seed=seed, trace=trace)
        digests.append(trace.digest())
        gc.collect()
    assert digests[0] == digests[2] != digests[1]


def test_the_exceptions_are_everyones():
    def body(world):
        inside = world.import_module("asyncio")
        assert inside.CancelledError is asyncio.CancelledError and inside.Task is not asyncio.Task

    in_world(body)


def test_a_real_loop_around_is_left_alone():
    async def outside():
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        seen = run_function(run)
        assert asyncio.get_running_loop() is loop and asyncio.current_task() is task and asyncio.all_tasks() == {task}
        await asyncio.sleep(0)
        return seen

    assert asyncio.run(outside())[3] == "Task-1"


def test_no_loop():
    def body(world):
        inside = world.import_module("asyncio")
        with pytest.raises(RuntimeError, match="no running event loop"):
            inside.get_running_loop()
        coroutine = immediately()
        with pytest.raises(RuntimeError, match="no running event loop"):
            inside.create_task(coroutine)
        coroutine.close()

    in_world(body)
