"""uvicorn and h11 with a small ASGI application, asked by http.client in threads and by asyncio's streams."""

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("h11")

import uvicorn

from tests.stdlib.both import both_ways


class App:
    """What is posted comes back in capitals; /count streams numbers; it knows whether it was started and stopped."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while self.said[-1:] != ["lifespan.shutdown"]:
                self.said.append((await receive())["type"])
                await send({"type": f"{self.said[-1]}.complete"})
            return
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] == "/count":
            for n in range(3):
                await send({"type": "http.response.body", "body": b"%d " % n, "more_body": True})
                await asyncio.sleep(0.01)
        else:
            while True:
                message = await receive()
                await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": True})
                if not message["more_body"]:
                    break
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def serving(app: App) -> AsyncIterator[int]:
    """A server; its port."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, loop="asyncio", http="h11", ws="none", lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


@both_ways
async def test_asked_by_http_client():
    def ask(n: int) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/", b"shout %d" % n)
            answer = connection.getresponse()
            assert (answer.status, answer.headers["server"]) == (200, "uvicorn")
            first = answer.read()
            connection.request("GET", "/count")
            return first + b" " + connection.getresponse().read()

    app = App()
    async with serving(app) as port:
        assert await asyncio.gather(*(asyncio.to_thread(ask, n) for n in range(3))) == [b"SHOUT %d 0 1 2 " % n for n in range(3)]
    assert app.said == ["lifespan.startup", "lifespan.shutdown"]


def dechunked(body: bytes) -> bytes:
    """What a chunked body holds."""
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return whole
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]


@both_ways
async def test_asked_by_streams():
    async with serving(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert dechunked(body) == b"ABC"
        writer.close()
        await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"this is no HTTP\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        writer.close()
        await writer.wait_closed()
