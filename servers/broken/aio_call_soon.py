"""An echo server on asyncio's streams with a thread that works for it.

The thread hands its result to the loop by call_soon.  That only puts it into a list: a loop that sleeps in its selector is not woken, and
comes to it when something else happens, if anything does (hang).
"""

import asyncio
import os
import queue
import socket
import threading

from simkernel.api import Syscalls

CLASS = "call_soon from another thread"
SEEN_IN = "prompt-toolkit/python-prompt-toolkit#159; python/asyncio#154"

CHUNK = 65536
BACKLOG = 128
LAST = 0.01  # seconds for whoever is being accepted: Server.close() is not for that moment


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


Job = tuple[asyncio.Future[bytes], bytes]


class Worker(threading.Thread):
    """Does what would take the loop's time: here, nothing to speak of."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            future, data = job
            self.loop.call_soon(done, future, bytes(data))  # bug: this does not wake the loop, which sleeps in its selector

    async def work(self, data: bytes) -> bytes:
        future: asyncio.Future[bytes] = self.loop.create_future()
        self.jobs.put((future, data))
        return await future


def done(future: asyncio.Future[bytes], result: bytes) -> None:
    if not future.cancelled():
        future.set_result(result)


async def main(listener: int, stop: int) -> None:
    writers: set[asyncio.StreamWriter] = set()
    worker = Worker(asyncio.get_running_loop())
    worker.start()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while data := await reader.read(CHUNK):
                writer.write(await worker.work(data))
                await writer.drain()
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
    worker.jobs.put(None)
    worker.join()
