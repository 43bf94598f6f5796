"""TLS: asyncio's streams and start_tls, trio's SSLStream, blocking SSLSockets, HTTPS."""

import asyncio
import contextlib
import http.server
import socket
import ssl
import threading
import urllib.request

import pytest

pytest.importorskip("trio")

import trio

from tests.stdlib.both import both_ways
from tests.stdlib.certificates import contexts

BIG = b"0123456789abcdef" * 1500


async def echo(reader, writer):
    """Everything comes back."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(5000):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@both_ways
async def test_asyncio_streams():
    server_side, client_side = contexts()
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]

        async def ask(n: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side, server_hostname="localhost")
            assert writer.get_extra_info("peercert")["subject"] == ((("commonName", "localhost"),),)
            writer.write(b"%d" % n + BIG)
            await writer.drain()
            got = await reader.readexactly(len(BIG) + 1)
            writer.close()
            await writer.wait_closed()
            return got

        assert await asyncio.gather(*(ask(n) for n in range(2))) == [b"%d" % n + BIG for n in range(2)]
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context(), server_hostname="localhost")
        # The server's ends see the clients go.
        await asyncio.sleep(0.1)


@both_ways
async def test_asyncio_start_tls():
    server_side, client_side = contexts()

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go on\n")
        await writer.drain()
        await writer.start_tls(server_side)
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go on\n"
        await writer.start_tls(client_side, server_hostname="localhost")
        writer.write(b"secret\n")
        assert await reader.readline() == b"SECRET\n"
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


@both_ways(runner="trio")
async def test_trio_streams():
    server_side, client_side = contexts()

    async def serve(stream) -> None:
        async with stream:
            async for data in stream:
                await stream.send_all(data.upper())

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, server_side, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        async with await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=client_side) as stream:
            await stream.send_all(b"hello")
            got = b""
            while len(got) < 5:
                got += await stream.receive_some()
            assert got == b"HELLO"
        nursery.cancel_scope.cancel()


@both_ways
def test_blocking_sockets():
    server_side, client_side = contexts()

    def serve() -> None:
        connection, _ = listener.accept()
        with server_side.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.settimeout(20)
            while data := wrapped.recv(1000):
                wrapped.sendall(data)
            wrapped.unwrap()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        plain = socket.create_connection(listener.getsockname(), timeout=20)
        with client_side.wrap_socket(plain, server_hostname="localhost") as wrapped:
            assert wrapped.version() == "TLSv1.3"
            wrapped.sendall(b"x" * 5000)
            got = b""
            while len(got) < 5000:
                got += wrapped.recv(5000)
            assert got == b"x" * 5000
            wrapped.unwrap()
        thread.join()


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BIG)))
        self.end_headers()
        self.wfile.write(BIG)

    def log_message(self, format: str, *args: object) -> None:
        pass


@both_ways
def test_https():
    server_side, client_side = contexts()
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        server.socket = server_side.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        web = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=client_side))
        try:
            with web.open(f"https://localhost:{server.server_port}/", timeout=20) as answer:
                assert answer.read() == BIG
        finally:
            server.shutdown()
            thread.join()
