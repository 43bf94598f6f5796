"""The twin of broken/trio_nursery: what one client can do is caught in its own task."""

import os
import socket

import trio

from simkernel.api import Syscalls

CONTRACT = "plain"


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    trio.run(main, listener, stop)


async def main(listener: int, stop: int) -> None:
    own = trio.socket.from_stdlib_socket(socket.socket(fileno=os.dup(listener)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, [trio.SocketListener(own)])
        await trio.lowlevel.wait_readable(stop)
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # reset
