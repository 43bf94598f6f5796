"""The twin of broken/aio_half_close: eof_received() keeps the transport open, and it is closed when all is written."""

import asyncio
import os
import socket
from collections import deque

from simkernel.api import Syscalls

MUCH = 65536
DELAY = 0.001  # seconds
BACKLOG = 128
LAST = 0.01  # seconds for whoever is being accepted: Server.close() is not for that moment


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


class Echo(asyncio.Protocol):
    """Answers a little later, as a server that has to ask somebody."""

    def __init__(self, transports: set[asyncio.Transport]) -> None:
        self.transports = transports
        self.unsent: deque[bytes] = deque()
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.transports.discard(self.transport)
        self.unsent.clear()

    def data_received(self, data: bytes) -> None:
        self.unsent.append(data)
        if sum(map(len, self.unsent)) > MUCH:
            self.transport.pause_reading()
        if len(self.unsent) == 1:
            asyncio.get_running_loop().call_later(DELAY, self.reply)

    def eof_received(self) -> bool:
        self.ended = True
        if not self.unsent:
            self.transport.close()
        return True  # it is closed when all is written

    def reply(self) -> None:
        if not self.unsent:
            return  # the connection is lost
        self.transport.write(self.unsent.popleft())
        if self.unsent:
            asyncio.get_running_loop().call_later(DELAY, self.reply)
        elif self.ended:
            self.transport.close()
        self.resume_writing()

    def resume_writing(self) -> None:
        if not (self.unsent or self.transport.is_closing()) and self.transport.get_write_buffer_size() < MUCH:
            self.transport.resume_reading()


async def main(listener: int, stop: int) -> None:
    transports: set[asyncio.Transport] = set()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(stop, stopped.set)
    own = socket.socket(fileno=os.dup(listener))
    server = await loop.create_server(lambda: Echo(transports), sock=own, backlog=1)
    own.listen(BACKLOG)
    await stopped.wait()
    loop.remove_reader(stop)
    loop.remove_reader(own)
    await asyncio.sleep(LAST)
    server.close()
    for transport in transports:
        transport.abort()
