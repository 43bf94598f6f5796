"""asyncio's streams on both sides of a connection: a server and its clients in one event loop, as in a test.

It takes no ``sys``: Python's own modules are real, or those of a world.  `simkernel bench` measures it on both.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

MESSAGE = b"x" * 64


def round_trips(connections: int, rounds: int, clock: Callable[[], float]) -> float:
    """Round trips a second by ``clock``: each connection sends a message when the echo of the one before is back."""
    return asyncio.run(measured(connections, rounds, clock))


def small_test(clients: int, echoes: int) -> None:
    """A whole test: a loop, a server, clients that take their turns, and everything is closed."""
    asyncio.run(tested(clients, echoes))


async def measured(connections: int, rounds: int, clock: Callable[[], float]) -> float:
    async with served() as port:
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
        await asyncio.gather(*[turns(reader, writer, 1) for reader, writer in streams])
        began = clock()
        await asyncio.gather(*[turns(reader, writer, rounds) for reader, writer in streams])
        seconds = clock() - began
        for _, writer in streams:
            writer.close()
    return connections * rounds / seconds


async def tested(clients: int, echoes: int) -> None:
    async with served() as port:
        await asyncio.gather(*[client(port, echoes) for _ in range(clients)])


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[int]:
    """A server's port; its clients end before it does."""
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(echo(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.gather(*tasks)


async def client(port: int, echoes: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await turns(reader, writer, echoes)
    writer.close()
    await writer.wait_closed()


async def turns(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, echoes: int) -> None:
    for _ in range(echoes):
        writer.write(MESSAGE)
        assert await reader.readexactly(len(MESSAGE)) == MESSAGE


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
