"""Echo with asyncio's streams: nothing but Python's own modules.

Shows what the streams leave to their user.  `await drain()` is the back-pressure: no more is read while a client has much to get.  The
listener and `stop` belong to somebody else: the server has a duplicate of the one, and looks at the other through the loop.  `stop` may
come while a connection is being accepted, which is a task of asyncio's own: Server.close() would take the ground from under it, so it is
waited for.  The connections that are left then are aborted: a close would wait until a client that never reads has read.
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CHUNK = 65536
BACKLOG = 128


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


async def main(listener: int, stop: int) -> None:
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(echo(reader, writer))
        connections[task] = writer
        task.add_done_callback(connections.pop)

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_reader(stop, stopped.set)
    own = socket.socket(fileno=os.dup(listener))
    server = await asyncio.start_server(connected, sock=own, backlog=1)  # so many it accepts in a turn, or notes that it can't
    own.listen(BACKLOG)
    await stopped.wait()
    loop.remove_reader(stop)
    loop.remove_reader(own)  # nobody is accepted any more
    coming = asyncio.all_tasks() - {asyncio.current_task(), *connections}
    if coming:
        await asyncio.wait(coming)
    server.close()
    for writer in connections.values():
        writer.transport.abort()
    if connections:
        await asyncio.wait(connections)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()  # the client's SHUT_WR: what is left of its bytes is sent before the socket is closed
        await writer.wait_closed()
    except OSError:
        writer.close()  # reset
