"""The twin of broken/aio_accept_loop: what can fail for one client is caught for that client."""

import asyncio
import os
import socket

from simkernel.api import Syscalls

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
            try:
                peer = conn.getpeername()
            except OSError:
                conn.close()  # it has reset
                continue
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
