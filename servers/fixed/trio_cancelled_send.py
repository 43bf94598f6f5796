"""The twin of broken/trio_cancelled_send: a send is measured, not cancelled."""

import os
import socket

import trio

from simkernel.api import Syscalls

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
            began = trio.current_time()
            await stream.send_all(data)
            slow += trio.current_time() - began > PATIENCE
    except trio.BrokenResourceError:
        pass  # reset
