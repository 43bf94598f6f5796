"""anyio over asyncio and over trio."""

import os
import time

import pytest

pytest.importorskip("anyio")
pytest.importorskip("trio")

import asyncio  # noqa: F401  # both backends, which anyio imports when it is run on them

import anyio
import anyio.from_thread
import anyio.to_thread
import trio  # noqa: F401

from tests.stdlib.both import both_ways


async def echo(stream):
    """Everything comes back."""
    async with stream:
        async for data in stream:
            await stream.send(data)


async def tcp() -> None:
    answers = {}

    async def client(n: int) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"hello %d" % n)
            got = b""
            while len(got) < 7:
                got += await stream.receive()
            answers[n] = got
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as servers:
        servers.start_soon(listener.serve, echo)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as clients:
                for n in range(4):
                    clients.start_soon(client, n)
        servers.cancel_scope.cancel()
    assert answers == {n: b"hello %d" % n for n in range(4)}


async def unix_and_udp() -> None:
    name = f"\0simkernel-anyio-{os.getpid()}-{time.monotonic_ns()}"
    listener = await anyio.create_unix_listener(name)
    async with listener, anyio.create_task_group() as servers:
        servers.start_soon(listener.serve, echo)
        async with await anyio.connect_unix(name) as stream:
            await stream.send(b"x")
            assert await stream.receive() == b"x"
        servers.cancel_scope.cancel()
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
        port = server.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
            await client.send(b"ping")
            data, address = await server.receive()
            await server.sendto(data[::-1], *address)
            assert await client.receive() == b"gnip"


async def threads() -> None:
    seen = []

    def work(n: int) -> int:
        anyio.from_thread.run(anyio.sleep, 0.001 * n)
        anyio.from_thread.run_sync(seen.append, n)
        return n

    async with anyio.create_task_group() as group:
        for n in range(4):
            group.start_soon(anyio.to_thread.run_sync, work, n)
    assert sorted(seen) == [0, 1, 2, 3]


async def cancellation() -> None:
    ended = []

    async def sleeper(n: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(n)
            with anyio.CancelScope(shield=True):
                await (await anyio.create_udp_socket(local_host="127.0.0.1")).aclose()

    with anyio.move_on_after(0.05) as scope:
        async with anyio.create_task_group() as group:
            for n in range(6):
                group.start_soon(sleeper, n)
    assert scope.cancelled_caught
    assert sorted(ended) == list(range(6))

    async def fail() -> None:
        await anyio.sleep(0.01)
        raise ValueError

    with pytest.raises(ExceptionGroup):
        async with anyio.create_task_group() as group:
            for n in range(6, 12):
                group.start_soon(sleeper, n)
            group.start_soon(fail)
    assert sorted(ended) == list(range(12))


async def objects_streams_and_locks() -> None:
    send, receive = anyio.create_memory_object_stream[int](1)
    limiter, lock, event = anyio.CapacityLimiter(1), anyio.Lock(), anyio.Event()
    got = []

    async def produce() -> None:
        await event.wait()
        async with send:
            for n in range(5):
                await send.send(n)

    async def consume(stream) -> None:
        async with stream:
            async for n in stream:
                async with limiter, lock:
                    await anyio.sleep(0.001)
                    got.append(n)

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        for _ in range(2):
            group.start_soon(consume, receive.clone())
        receive.close()
        event.set()
    assert sorted(got) == list(range(5))


BODIES = (tcp, unix_and_udp, threads, cancellation, objects_streams_and_locks)


@both_ways
def test_on_asyncio():
    for body in BODIES:
        anyio.run(body)


@both_ways
def test_on_trio():
    for body in BODIES:
        anyio.run(body, backend="trio")


@both_ways
def test_a_portal():
    """Threads that call into a loop of another thread."""
    with anyio.from_thread.start_blocking_portal() as portal:
        futures = [portal.start_task_soon(anyio.sleep, 0.01 * n) for n in range(3)]
        assert [future.result(20) for future in futures] == [None] * 3
        with portal.wrap_async_context_manager(portal.call(anyio.create_task_group)) as group:
            portal.call(group.start_soon, anyio.sleep, 0.01)
