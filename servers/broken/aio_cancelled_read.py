"""A server of lines on asyncio's streams that looks after other things when a client is idle.

It waits for a line with a timeout, which cancels what was waiting.  That has the beginning of a line in its hands, if the line came in
pieces, and it is lost: the reply is to the rest of the line (corruption), or never comes (hang).
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CLASS = "timeout cancels a read and what it had read is lost"
SEEN_IN = "ronf/asyncssh#140; micropython#17351"
CONTRACT = "lines"

IDLE = 0.01  # seconds
BACKLOG = 128
LAST = 0.01  # seconds for whoever is being accepted: Server.close() is not for that moment


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


class Lines:
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader
        self.unread = b""

    async def line(self) -> bytes:
        """The next line, b"" at the end."""
        line, self.unread = self.unread, b""  # bug: whoever cancels this loses the beginning of the line
        while b"\n" not in line:
            data = await self.reader.read(4096)
            if not data:
                return b""
            line += data
        line, _, self.unread = line.partition(b"\n")
        return line + b"\n"


async def main(listener: int, stop: int) -> None:
    writers: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        lines = Lines(reader)
        try:
            while True:
                try:
                    line = await asyncio.wait_for(lines.line(), IDLE)
                except TimeoutError:
                    await writer.drain()  # idle: time for other things
                    continue
                if not line:
                    break
                writer.write(b"%d %s" % (len(line) - 1, line))
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
    server = await asyncio.start_server(answer, sock=own, backlog=1)
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
