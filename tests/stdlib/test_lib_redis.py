"""redis-py, blocking and on asyncio, against a small server of ours."""

import asyncio
import contextlib
import socketserver
import threading

import pytest

pytest.importorskip("redis")

import redis
import redis.asyncio

from tests.stdlib.both import both_ways
from tests.stdlib.resp import Session, Store


class Connection(socketserver.BaseRequestHandler):
    """A thread for each client; one lock for all, since Redis does one thing at a time."""

    def handle(self) -> None:
        self.request.settimeout(20)
        session = Session(self.server.store, self.request.sendall)
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                with self.server.lock:
                    session.feed(data)
        with self.server.lock:
            session.end()


@contextlib.contextmanager
def serving():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as server:
        server.store, server.lock = Store(), threading.Lock()
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@both_ways
def test_blocking():
    with serving() as port, redis.Redis(port=port, protocol=2, socket_timeout=20) as client:
        assert client.ping()
        assert client.set("key", "välue")
        assert client.get("key").decode() == "välue"
        assert client.get("nothing") is None
        big = bytes(range(256)) * 300
        client.set("big", big)
        assert client.get("big") == big
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.incr("key")
        with client.pipeline() as pipe:
            assert pipe.incr("n").incr("n", 5).rpush("list", "a", "b").lrange("list", 0, -1).execute() == [1, 6, 2, [b"a", b"b"]]

        def count() -> None:
            for _ in range(3):
                client.incr("count")

        threads = [threading.Thread(target=count) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get("count") == b"9"


@both_ways
def test_blocking_subscription():
    with serving() as port, redis.Redis(port=port, protocol=2, socket_timeout=20) as client, client.pubsub() as subscription:
        got = []
        subscription.subscribe(news=lambda message: got.append(message["data"]))
        assert subscription.get_message(timeout=20)["type"] == "subscribe"
        assert client.publish("news", "one") == 1
        client.publish("news", "two")
        while len(got) < 2:
            subscription.get_message(timeout=20)
        assert got == [b"one", b"two"]


class Protocol(asyncio.Protocol):
    def __init__(self, store: Store) -> None:
        self.store = store

    def connection_made(self, transport) -> None:
        self.session = Session(self.store, transport.write)

    def data_received(self, data: bytes) -> None:
        self.session.feed(data)

    def connection_lost(self, exc) -> None:
        self.session.end()


@both_ways
async def test_asyncio():
    store = Store()
    async with await asyncio.get_running_loop().create_server(lambda: Protocol(store), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with redis.asyncio.Redis(port=port, protocol=2) as client:
            assert await client.ping()
            await client.set("key", "value")
            assert await client.get("key") == b"value"
            with pytest.raises(redis.ResponseError, match="not an integer"):
                await client.incr("key")

            async def count() -> None:
                for _ in range(3):
                    await client.incr("count")

            await asyncio.gather(*(count() for _ in range(3)))
            assert await client.get("count") == b"9"
            async with client.pipeline() as pipe:
                assert await pipe.incr("n").incr("n", 5).rpush("list", "a", "b").lrange("list", 0, -1).execute() == [1, 6, 2, [b"a", b"b"]]
            async with client.pubsub() as subscription:
                await subscription.subscribe("news")
                assert (await subscription.get_message(timeout=20))["type"] == "subscribe"
                assert await client.publish("news", "one") == 1
                assert (await subscription.get_message(timeout=20))["data"] == b"one"
