"""An echo server on trio that waits for a slow client for a while only.

A timeout cancels send_all.  Some of the bytes have been sent then, the rest never is, and the next bytes follow (corruption).
"""

import os
import socket

import trio

from simkernel.api import Syscalls

CLASS = "timeout cancels a send and the connection is used on"
SEEN_IN = "encode/httpx#341; python-trio/trio#889"

CHUNK = 65536
PATIENCE = 0.01  # seconds


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    trio.run(main, listener, stop)


async def main(listener: int, stop: int) -> None:
    own = trio.socket.from_stdlib_socket(socket.socket(fileno=os.dup(listener)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, [trio.SocketListener(own)])
        await trio.lowlevel.wait_readable(stop)
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    slow = 0  # how often the client kept us waiting
    try:
        async for data in stream:
            with trio.move_on_after(PATIENCE) as scope:
                await stream.send_all(data)  # bug: cancelled, it has sent some of it, and nobody knows how much
            slow += scope.cancelled_caught
    except trio.BrokenResourceError:
        pass  # reset
