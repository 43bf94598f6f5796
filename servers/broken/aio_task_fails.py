"""A server of lines on asyncio's streams whose handlers are tasks that may fail.

A client goes away within a line, and the handler fails.  Its exception stays in the task and its connection stays open, for nobody looks
at either: the streams leave a connection whose client has shut its side to the handler (leak).
Python 3.13 closes it itself.
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CLASS = "task whose exception nobody sees"
SEEN_IN = "cpython#110894; capnproto/pycapnp#337"
CONTRACT = "lines"
BACKLOG = 128
LAST = 0.01  # seconds for whoever is being accepted: Server.close() is not for that moment


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


async def main(listener: int, stop: int) -> None:
    tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(answer(reader, writer))
        tasks[task] = writer
        task.add_done_callback(ended)

    def ended(task: asyncio.Task[None]) -> None:
        del tasks[task]  # bug: if it has failed, its connection is open still

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_reader(stop, stopped.set)
    own = socket.socket(fileno=os.dup(listener))
    server = await asyncio.start_server(connected, sock=own, backlog=1)
    own.listen(BACKLOG)
    await stopped.wait()
    loop.remove_reader(stop)
    loop.remove_reader(own)
    await asyncio.sleep(LAST)
    server.close()
    for writer in tasks.values():
        writer.transport.abort()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        if not line.endswith(b"\n"):
            raise ValueError("half a line")
        writer.write(b"%d %s" % (len(line) - 1, line))
        await writer.drain()
    writer.close()
    await writer.wait_closed()
