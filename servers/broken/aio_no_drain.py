"""An echo server on asyncio's streams that writes and never drains.

write() takes whatever it is given: what the socket has no room for is kept in the transport.  From a client that sends and does not read,
the server goes on reading, and keeps all of it (memory).
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CLASS = "writer without drain"
SEEN_IN = "ronf/asyncssh#664"

CHUNK = 65536
BACKLOG = 128
LAST = 0.01  # seconds for whoever is being accepted: Server.close() is not for that moment


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


async def main(listener: int, stop: int) -> None:
    writers: set[asyncio.StreamWriter] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while data := await reader.read(CHUNK):
                writer.write(data)  # bug: what the socket does not take is kept, however much it is: await drain
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
