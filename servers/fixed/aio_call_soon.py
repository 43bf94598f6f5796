"""The twin of broken/aio_call_soon: call_soon_threadsafe writes to the loop's own socket, which wakes it."""

import asyncio
import os
import queue
import socket
import threading

from simkernel.api import Syscalls

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
            self.loop.call_soon_threadsafe(done, future, bytes(data))

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
