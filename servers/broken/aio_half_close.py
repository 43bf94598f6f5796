"""An echo server on asyncio's protocols that says nothing to the end of the input.

What the transport has no room for waits in the protocol.  A client that has sent all shuts its side and reads on; eof_received() is
called, its None lets the transport close itself, and what waited is written to a closed transport, which drops it
(corruption); if its client has gone, a closed transport waits for room that there never will be (leak).
"""

import asyncio
import os
import socket
from collections import deque

from simkernel.api import Syscalls

CLASS = "half-closed connection is closed by eof_received"
SEEN_IN = "aio-libs/aiohttp#3659"

MUCH = 65536
BACKLOG = 128
LAST = 0.01  # seconds for whoever is being accepted: Server.close() is not for that moment


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


class Echo(asyncio.Protocol):
    """Keeps what is to be sent while the transport has enough, and reads no more then."""

    def __init__(self, transports: set[asyncio.Transport]) -> None:
        self.transports = transports
        self.unsent: deque[bytes] = deque()
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=0)
        self.transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.transports.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.unsent.append(data)
        self.send()

    def eof_received(self) -> None:
        pass  # bug: None means that the transport may be closed, whatever is left to send

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.send()

    def send(self) -> None:
        while self.unsent and not self.full:
            self.transport.write(self.unsent.popleft())
        if not self.transport.is_closing():
            if sum(map(len, self.unsent)) > MUCH:
                self.transport.pause_reading()
            else:
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
