"""An echo server on asyncio's sockets, with a loop of its own that accepts.

Each connection's task is to be called by its client's name.  A client that connects and resets at once has none any more when it is
accepted: getpeername fails, and with it the task that accepts.  Its exception stays in the task.  Nobody is accepted any more
(hang), and the connections of all others end with it (corruption).
"""

import asyncio
import os
import socket

from simkernel.api import Syscalls

CLASS = "exception ends the accept loop"
SEEN_IN = "cpython#156365"

CHUNK = 65536
PAUSE = 0.1  # seconds


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    asyncio.run(main(listener, stop))


async def main(listener: int, stop: int) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_reader(stop, stopped.set)
    with socket.socket(fileno=os.dup(listener)) as own:
        own.setblocking(False)
        accepting = asyncio.create_task(accept(own))
        await stopped.wait()
        loop.remove_reader(stop)
        accepting.cancel()
        await asyncio.wait([accepting])


async def accept(own: socket.socket) -> None:
    tasks: set[asyncio.Task[None]] = set()
    try:
        while True:
            try:
                conn, _ = await asyncio.get_running_loop().sock_accept(own)
            except OSError:
                await asyncio.sleep(PAUSE)  # gone again, or no fd for it
                continue
            conn.setblocking(False)
            peer = conn.getpeername()  # bug: a client that has reset has no name: this ends the loop, and nobody is told
            task = asyncio.create_task(echo(conn), name=f"{peer[0]}:{peer[1]}")
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()


async def echo(conn: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with conn:
        try:
            while data := await loop.sock_recv(conn, CHUNK):
                await loop.sock_sendall(conn, data)
        except OSError:
            pass  # reset
