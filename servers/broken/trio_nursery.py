"""An echo server on trio whose handler lets a client's reset out.

All connections are tasks of one nursery.  An exception of one cancels the others and ends the nursery, and the server with it (crash).
"""

import os
import socket

import trio

from simkernel.api import Syscalls

CLASS = "one client's error cancels all others"
SEEN_IN = "ethereum/ddht#265; python-trio/purerpc#34"
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
    async for data in stream:  # bug: a client that resets raises BrokenResourceError here, and it ends the nursery
        await stream.send_all(data)
