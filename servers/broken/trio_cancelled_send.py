"""An echo server on trio that does not wait long for a slow client.

A timeout cancels send_all.  Some of the bytes have been sent then, the rest never is, and the next bytes follow (corruption); from a client
that never reads, the server goes on reading (memory).
"""

import os
import socket

import trio

from simkernel.api import Syscalls

CLASS = "timeout cancels a send and the connection is used on"
SEEN_IN = "encode/httpx#341; python-trio/trio#889"
CONTRACT = "patience"

IDLE = 0.8  # seconds
HURRY = 0.1


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    trio.run(main, listener, stop)


async def main(listener: int, stop: int) -> None:
    own = trio.socket.from_stdlib_socket(socket.socket(fileno=os.dup(listener)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, [trio.SocketListener(own)])
        await trio.lowlevel.wait_readable(stop)
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    data = b""
    try:
        while True:
            with trio.move_on_after(IDLE) as idle:
                data = await stream.receive_some()
            if idle.cancelled_caught or not data:
                return
            with trio.move_on_after(HURRY):  # bug: cancelled, it has sent some of it, and nobody knows how much
                await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # reset
