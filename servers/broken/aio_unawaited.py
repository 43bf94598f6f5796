"""An echo server on asyncio's streams with one await too few.

Small replies are written as they come; where a read was full more may follow, so they are kept until there is a chunk of them.  Then they
should be flushed, and flush() is called, but a coroutine function that is called does nothing: its coroutine has to be awaited.  A client
whose message is as long as the server's reads waits for its echo (hang), or gets it too late, or never (corruption).
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CLASS = "coroutine that nobody awaits"
SEEN_IN = "microsoft/playwright-python#2759; bachya/simplisafe-python#205"

CHUNK = 4096
BACKLOG = 128
LAST = 0.01  # seconds for whoever is being accepted: Server.close() is not for that moment


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


class Replies:
    """What a client has to get: a big one at once, small ones together."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.unsent = b""

    async def add(self, data: bytes) -> None:
        self.unsent += data
        if len(data) < CHUNK:
            await self.flush()

    async def flush(self) -> None:
        self.writer.write(self.unsent)
        self.unsent = b""
        await self.writer.drain()


async def main(listener: int, stop: int) -> None:
    writers: set[asyncio.StreamWriter] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        replies = Replies(writer)
        try:
            while data := await reader.read(CHUNK):
                await replies.add(data)
                if len(replies.unsent) >= CHUNK:
                    replies.flush()  # type: ignore[unused-coroutine]  # bug: this only makes a coroutine: await it
            writer.close()
            await writer.wait_closed()
        except OSError:
            pass  # reset
        finally:
            writer.close()
            writers.discard(writer)

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_reader(stop, stopped.set)
    own = socket.socket(fileno=os.dup(listener))
    server = await asyncio.start_server(echo, sock=own, backlog=1)
    own.listen(BACKLOG)
    await stopped.wait()
    loop.remove_reader(stop)
    loop.remove_reader(own)
    await asyncio.sleep(LAST)
    server.close()
    for writer in writers:
        writer.transport.abort()
    while writers:
        await asyncio.sleep(0)  # their handlers end
