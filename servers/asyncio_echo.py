"""Echo with asyncio's streams: nothing but Python's own modules.

Shows what the streams leave to their user.  `await drain()` is the back-pressure: no more is read while a client has much to get.  A
connection is closed by its own handler, whatever ends it.  The listener and `stop` belong to somebody else: the server has a duplicate
of the one, which closing it closes, and looks at the other through the loop.  At `stop` the connections that are left are aborted, for
a close would wait until a client that never reads has read.
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CHUNK = 65536


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


async def main(listener: int, stop: int) -> None:
    connections: dict[asyncio.StreamWriter, asyncio.Future[None]] = {}

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = connections[writer] = asyncio.get_running_loop().create_future()
        try:
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
            writer.close()  # the client's SHUT_WR: what is left of its bytes is sent before the socket is closed
            await writer.wait_closed()
        except OSError:
            writer.close()  # reset
        finally:
            del connections[writer]
            ended.set_result(None)

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(stop, stopped.set)
    server = await asyncio.start_server(echo, sock=socket.socket(fileno=os.dup(listener)))
    await stopped.wait()
    loop.remove_reader(stop)
    server.close()
    for writer in connections:
        writer.transport.abort()
    await asyncio.gather(*connections.values())
