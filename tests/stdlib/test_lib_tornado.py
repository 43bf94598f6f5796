"""tornado: its HTTP server and client, websockets, and TCP streams."""

import asyncio

import pytest

pytest.importorskip("tornado")

from tornado import httpclient, httpserver, iostream, netutil, tcpclient, tcpserver, web, websocket

from tests.stdlib.both import both_ways


class Hello(web.RequestHandler):
    def get(self, name: str) -> None:
        self.write({"name": name, "q": self.get_argument("q", None)})

    def post(self, name: str) -> None:
        self.write(self.request.body.upper())


class Slow(web.RequestHandler):
    async def get(self) -> None:
        for n in range(3):
            self.write(f"piece {n};")
            try:
                await self.flush()
            except iostream.StreamClosedError:
                return
            await asyncio.sleep(0.1)


class Chat(websocket.WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message[::-1], binary=isinstance(message, bytes))


def port_of(sockets) -> int:
    return sockets[0].getsockname()[1]


@both_ways
async def test_http():
    app = web.Application([(r"/hello/(\w+)", Hello), (r"/slow", Slow), (r"/chat", Chat)], log_function=lambda handler: None)
    server = httpserver.HTTPServer(app)
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    url = f"http://127.0.0.1:{port_of(sockets)}"
    client = httpclient.AsyncHTTPClient(force_instance=True)

    async def ask(n: int) -> bytes:
        return (await client.fetch(f"{url}/hello/n{n}?q=a+b")).body

    answers = await asyncio.gather(*(ask(n) for n in range(4)))
    assert answers == [b'{"name": "n%d", "q": "a b"}' % n for n in range(4)]
    assert (await client.fetch(f"{url}/hello/you", method="POST", body="shout")).body == b"SHOUT"
    pieces: list[bytes] = []
    await client.fetch(f"{url}/slow", streaming_callback=pieces.append)
    assert b"".join(pieces) == b"piece 0;piece 1;piece 2;"
    with pytest.raises(httpclient.HTTPError, match="404"):
        await client.fetch(f"{url}/nothing")
    with pytest.raises(httpclient.HTTPError, match="Timeout"):
        await client.fetch(f"{url}/slow", request_timeout=0.05)
    socket = await websocket.websocket_connect(f"{url.replace('http', 'ws')}/chat")
    await socket.write_message("abc")
    assert await socket.read_message() == "cba"
    await socket.write_message(b"\0" * 50000 + b"1", binary=True)
    assert await socket.read_message() == b"1" + b"\0" * 50000
    socket.close()
    assert await socket.read_message() is None
    client.close()
    server.stop()
    await server.close_all_connections()


class Lines(tcpserver.TCPServer):
    async def handle_stream(self, stream, address) -> None:
        try:
            while True:
                await stream.write((await stream.read_until(b"\n")).rstrip()[::-1] + b"\n")
        except iostream.StreamClosedError:
            pass


@both_ways
async def test_tcp():
    server = Lines()
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    client = tcpclient.TCPClient()

    async def ask(n: int) -> bytes:
        stream = await client.connect("127.0.0.1", port_of(sockets))
        await stream.write(b"line %d\n" % n)
        line = await stream.read_until(b"\n")
        stream.close()
        return line

    assert await asyncio.gather(*(ask(n) for n in range(3))) == [b"%d enil\n" % n for n in range(3)]
    client.close()
    server.stop()
    # The server's ends see the clients go.
    await asyncio.sleep(0.05)
