"""aiohttp: server and client, JSON, streams, websockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

pytest.importorskip("aiohttp")

import aiohttp
from aiohttp import web

from tests.stdlib.both import both_ways

BIG = bytes(range(256)) * 400


async def hello(request: web.Request) -> web.Response:
    return web.json_response({"name": request.match_info["name"], "q": request.query.get("q")})


async def shout(request: web.Request) -> web.Response:
    return web.Response(body=(await request.read()).upper())


async def pieces(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for n in range(3):
        await response.write(b"piece %d;" % n)
        await asyncio.sleep(0.01)
    await response.write_eof()
    return response


async def form(request: web.Request) -> web.Response:
    fields = await request.post()
    file = fields["file"]
    return web.Response(text=f"{fields['field']} {file.filename} {len(file.file.read())}")


async def chat(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=5)
    await socket.prepare(request)
    async for message in socket:
        if message.type == aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data[::-1])
        else:
            await socket.send_bytes(message.data[::-1])
    return socket


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(1)
    return web.Response(text="late")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """A server; its URL."""
    app = web.Application()
    app.add_routes([web.get("/hello/{name}", hello), web.post("/shout", shout), web.get("/pieces", pieces)])
    app.add_routes([web.post("/form", form), web.get("/chat", chat), web.get("/slow", slow)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


@both_ways
async def test_requests():
    async with serving() as url, aiohttp.ClientSession() as session:

        async def ask(n: int) -> object:
            async with session.get(f"{url}/hello/n{n}", params={"q": "a b"}) as answer:
                assert answer.status == 200
                return await answer.json()

        assert await asyncio.gather(*(ask(n) for n in range(4))) == [{"name": f"n{n}", "q": "a b"} for n in range(4)]
        async with session.post(f"{url}/shout", data=b"loud") as answer:
            assert await answer.read() == b"LOUD"
        async with session.get(f"{url}/pieces") as answer:
            assert b"".join([piece async for piece in answer.content.iter_any()]) == b"piece 0;piece 1;piece 2;"
        async with session.get(f"{url}/nothing") as answer:
            assert answer.status == 404
        fields = aiohttp.FormData()
        fields.add_field("field", "value")
        fields.add_field("file", BIG, filename="big.bin")
        async with session.post(f"{url}/form", data=fields) as answer:
            assert await answer.text() == f"value big.bin {len(BIG)}"


@both_ways
async def test_websocket():
    async with serving() as url, aiohttp.ClientSession() as session, session.ws_connect(f"{url}/chat") as socket:
        await socket.send_str("abc")
        assert await socket.receive_str() == "cba"
        await socket.send_bytes(BIG)
        assert await socket.receive_bytes() == BIG[::-1]
        await socket.ping()


@both_ways
async def test_timeouts_and_refusals():
    async with serving() as url, aiohttp.ClientSession() as session:
        with pytest.raises(asyncio.TimeoutError):
            await session.get(f"{url}/slow", timeout=aiohttp.ClientTimeout(total=0.1))
        asking = asyncio.ensure_future(session.get(f"{url}/slow"))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)
