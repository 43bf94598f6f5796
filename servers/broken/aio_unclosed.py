"""An echo server on asyncio's streams that closes what is left and ends.

close() only begins: a transport that has something to send closes its socket when that is sent.  A client that does not read has such a
transport at the server's end, the loop is closed, and the socket stays open (leak).
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CLASS = "close is not waited for"
SEEN_IN = "python/asyncio#466; python/asyncio#141"

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
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:
            writer.close()  # reset
        finally:
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
        writer.close()  # bug: a transport with something to send closes its socket when that is sent, and the loop ends before
