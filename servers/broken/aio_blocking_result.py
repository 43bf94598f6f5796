"""An echo server on asyncio's streams with a function that is meant for other threads.

note() hands a coroutine to the loop and waits for its result, as a thread may.  Called in the loop's own thread, it keeps the loop from
running what it waits for: the first echo is sent, and nothing after it (hang).
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CLASS = "loop waits for itself"
SEEN_IN = "empicano/aiomqtt#174; home-assistant/core#3658"

CHUNK = 65536
BACKLOG = 128
LAST = 0.01  # seconds for whoever is being accepted: Server.close() is not for that moment


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


class Log:
    """Counts what was served.  Threads may use it as well as the loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.lock = asyncio.Lock()
        self.served = 0

    async def count(self, n: int) -> None:
        async with self.lock:
            self.served += n

    def note(self, n: int) -> None:
        asyncio.run_coroutine_threadsafe(self.count(n), self.loop).result()  # bug: in the loop itself this waits for ever


async def main(listener: int, stop: int) -> None:
    writers: set[asyncio.StreamWriter] = set()
    log = Log()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
                log.note(len(data))
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
