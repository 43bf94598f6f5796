"""trio: streams, threads, cancellation, datagrams, and the order in which it runs its tasks."""

import contextlib

import pytest

pytest.importorskip("trio")

import trio
import trio.testing

from tests.stdlib.both import both_ways

BIG = b"0123456789abcdef" * 8000
trio_ways = both_ways(runner="trio")


async def echo(stream):
    """Everything comes back."""
    async for data in stream:
        await stream.send_all(data)


@trio_ways
async def test_serve_tcp():
    answers = {}

    async def client(n: int, port: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            got = b""
            for word in (b"one", b"two"):
                await stream.send_all(b"%d %s" % (n, word))
                while len(got) < 5:
                    got += await stream.receive_some()
                answers[n, word], got = got, b""
            await stream.send_eof()
            assert await stream.receive_some() == b""

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(20):
            async with trio.open_nursery() as clients:
                for n in range(4):
                    clients.start_soon(client, n, port)
        nursery.cancel_scope.cancel()
    assert answers == {(n, word): b"%d %s" % (n, word) for n in range(4) for word in (b"one", b"two")}


@trio_ways
async def test_much_to_send():
    got = bytearray()

    async def receive(stream) -> None:
        while len(got) < len(BIG):
            got.extend(await stream.receive_some())

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        stream = await trio.testing.open_stream_to_socket_listener(listeners[0])
        async with stream, trio.open_nursery() as both:
            both.start_soon(receive, stream)
            await stream.send_all(BIG)
        nursery.cancel_scope.cancel()
    assert got == BIG


@trio_ways
async def test_names():
    """A host's addresses are tried in turn."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        port = listeners[0].socket.getsockname()[1]
        async with await trio.open_tcp_stream("localhost", port) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        nursery.cancel_scope.cancel()


@trio_ways
async def test_threads():
    seen = []

    def work(n: int) -> int:
        trio.from_thread.run(trio.sleep, 0.001 * n)
        trio.from_thread.run_sync(seen.append, n)
        return n * n

    results = {}

    async def ask(n: int) -> None:
        results[n] = await trio.to_thread.run_sync(work, n)

    async with trio.open_nursery() as nursery:
        for n in range(4):
            nursery.start_soon(ask, n)
    assert results == {n: n * n for n in range(4)}
    assert sorted(seen) == [0, 1, 2, 3]


@trio_ways
async def test_cancellation():
    ended = []

    async def sleeper(n: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(n)
            with trio.socket.socket() as made:
                made.getsockname()

    with trio.move_on_after(0.05) as scope:
        async with trio.open_nursery() as nursery:
            for n in range(6):
                nursery.start_soon(sleeper, n)
    assert scope.cancelled_caught
    assert sorted(ended) == list(range(6))

    async def fail(n: int) -> None:
        await trio.sleep(0.01)
        raise ValueError(n)

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, 1)
            for n in range(6, 12):
                nursery.start_soon(sleeper, n)
    assert [repr(error) for error in caught.value.exceptions] == ["ValueError(1)"]
    assert sorted(ended) == list(range(12))


@trio_ways
async def test_channels_locks_and_capacity():
    send, receive = trio.open_memory_channel[int](1)
    limiter = trio.CapacityLimiter(2)
    lock = trio.Lock()
    got = []

    async def produce(channel, first: int) -> None:
        async with channel:
            for n in range(first, first + 3):
                await channel.send(n)

    async def consume(channel) -> None:
        async with channel:
            async for n in channel:
                async with limiter, lock:
                    await trio.sleep(0.001)
                    got.append(n)

    async with trio.open_nursery() as nursery, send, receive:
        for n in range(2):
            nursery.start_soon(produce, send.clone(), 3 * n)
            nursery.start_soon(consume, receive.clone())
    assert sorted(got) == list(range(6))


@trio_ways
async def test_datagrams():
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as server, trio.socket.socket(type=trio.socket.SOCK_DGRAM) as client:
        await server.bind(("127.0.0.1", 0))
        await client.connect(server.getsockname())
        with trio.fail_after(20):
            for word in (b"one", b"two"):
                await client.send(word)
                data, address = await server.recvfrom(100)
                await server.sendto(data[::-1], address)
                assert await client.recv(100) == word[::-1]


@trio_ways
async def test_a_client_that_breaks_off():
    broken = []

    async def serve(stream) -> None:
        try:
            while True:
                await stream.send_all(BIG)
        except trio.BrokenResourceError:
            broken.append(True)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        stream = await trio.testing.open_stream_to_socket_listener(listeners[0])
        await stream.receive_some(10)
        await trio.aclose_forcefully(stream)
        with trio.fail_after(20):
            while not broken:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


@trio_ways
async def test_async_generators_left_open():
    ended = []

    async def numbers(n: int):
        try:
            while True:
                yield n
        finally:
            ended.append(n)
            with contextlib.suppress(trio.Cancelled):
                await trio.sleep(0)

    kept.clear()
    for n in range(3):
        generator = numbers(n)
        kept.append(generator)
        async for value in generator:
            assert value == n
            break


kept: list[object] = []
