"""Echo with trio: nothing but trio's own streams.

Shows structured concurrency: each connection is a task of one nursery, and cancelling that ends them all, wherever they sleep.  `send_all`
comes back when the kernel has taken the bytes, which is the back-pressure.  serve_listeners closes a connection when its handler returns,
and pauses when there is no fd for another.  The listener and `stop` belong to somebody else: the server has a duplicate of the one, which
is closed at its end, and looks at the other through the loop.
"""

import os
import socket

import trio

from simkernel.api import Syscalls


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
