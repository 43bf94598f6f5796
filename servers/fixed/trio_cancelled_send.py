"""The twin of broken/trio_cancelled_send: a client whose send was cancelled is done with."""

import os
import socket

import trio

from simkernel.api import Syscalls

CONTRACT = "patience"

IDLE = 0.8  # seconds


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
            with trio.move_on_after(IDLE) as stuck:
                await stream.send_all(data)
            if stuck.cancelled_caught:
                return
    except trio.BrokenResourceError:
        pass  # reset
