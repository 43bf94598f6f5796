"""asyncio's streams, protocols, datagrams, unix sockets, threads, and what it does with tasks."""

import asyncio
import contextlib
import os
import socket
import time

import pytest

from tests.stdlib.both import both_ways

BIG = b"0123456789abcdef" * 8000


@contextlib.asynccontextmanager
async def serving(start=asyncio.start_server, *where, **options):
    """A server that sends everything back; it is left when its clients are."""
    serving: set[asyncio.Task[None]] = set()

    async def echo(reader, writer):
        serving.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(5000):
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await start(echo, *(where or ("127.0.0.1", 0)), **options) as server:
        yield server.sockets[0].getsockname()
        if serving:
            await asyncio.wait(serving)


@both_ways
async def test_streams():
    async def client(n: int) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"hello %d\n" % n)
        line = await reader.readline()
        writer.write(b"%d|" % n)
        assert await reader.readuntil(b"|") == b"%d|" % n
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        return line

    async with serving() as address:
        assert await asyncio.gather(*(client(n) for n in range(5))) == [b"hello %d\n" % n for n in range(5)]


@both_ways
async def test_streams_with_much_to_send():
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address)

        async def send() -> None:
            for at in range(0, len(BIG), 10000):
                writer.write(BIG[at : at + 10000])
                await writer.drain()
            writer.write_eof()

        async with asyncio.timeout(20):
            _, got = await asyncio.gather(send(), reader.read())
        assert got == BIG
        writer.close()
        await writer.wait_closed()


@both_ways
async def test_a_client_that_breaks_off():
    """A reset is an exception in the server's task, and of nobody else."""
    seen = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        try:
            await reader.readexactly(100)
        except (asyncio.IncompleteReadError, ConnectionResetError) as error:
            seen.set_result(type(error).__name__)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"only this")
        await writer.drain()
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        async with asyncio.timeout(20):
            assert await seen in ("IncompleteReadError", "ConnectionResetError")


@both_ways
async def test_chat():
    """Who is there is in a set, and what one says goes to all in the set's order."""
    there: set[asyncio.StreamWriter] = set()

    async def serve(reader, writer):
        there.add(writer)
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                for each in there:
                    each.write(line)
        there.discard(writer)
        writer.close()

    async def client(n: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while len(there) < 6:
            await asyncio.sleep(0.01)
        writer.write(b"from %d\n" % n)
        lines = [await reader.readline() for _ in range(6)]
        writer.close()
        await writer.wait_closed()
        return sorted(lines)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        assert await asyncio.gather(*(client(n) for n in range(6))) == [[b"from %d\n" % n for n in range(6)]] * 6
        while there:
            await asyncio.sleep(0.01)


class Shout(asyncio.Protocol):
    """What comes in goes out in capitals."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data.upper())

    def eof_received(self):
        return False


class Collect(asyncio.Protocol):
    """Notes what comes in until the connection ends."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        transport.writelines([b"one ", b"two ", b"three"])
        transport.write_eof()

    def data_received(self, data):
        self.data += data

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@both_ways
async def test_protocols():
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Shout, "127.0.0.1", 0) as server:
        clients = [(await loop.create_connection(Collect, *server.sockets[0].getsockname()))[1] for _ in range(3)]
        for client in clients:
            async with asyncio.timeout(20):
                assert await client.lost is None
            assert client.data == b"ONE TWO THREE"


class Answer(asyncio.DatagramProtocol):
    """A datagram server, or a client: what comes is noted, and answered by a server."""

    def __init__(self, serves: bool) -> None:
        self.serves = serves
        self.got: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        if self.serves:
            self.transport.sendto(data[::-1], addr)
        else:
            self.got.put_nowait(data)


@both_ways
async def test_datagrams():
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(lambda: Answer(True), local_addr=("127.0.0.1", 0))
    client, protocol = await loop.create_datagram_endpoint(lambda: Answer(False), remote_addr=server.get_extra_info("sockname"))
    for word in (b"one", b"two", b"three"):
        client.sendto(word)
        async with asyncio.timeout(20):
            assert await protocol.got.get() == word[::-1]
    client.close()
    server.close()
    await asyncio.sleep(0)


@both_ways
async def test_unix_sockets():
    name = f"\0simkernel-asyncio-{os.getpid()}"
    async with serving(asyncio.start_unix_server, name):
        reader, writer = await asyncio.open_unix_connection(name)
        writer.write(b"over there and back")
        writer.write_eof()
        assert await reader.read() == b"over there and back"
        writer.close()
        await writer.wait_closed()


@both_ways
async def test_sock_calls():
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        accepting = asyncio.ensure_future(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        connection, _ = await accepting
        with connection:
            connection.setblocking(False)
            sending = asyncio.ensure_future(loop.sock_sendall(client, BIG))
            got = bytearray()
            while len(got) < len(BIG):
                got += await loop.sock_recv(connection, 65536)
            await sending
            assert got == BIG


@both_ways
async def test_names():
    async with serving(asyncio.start_server, "localhost", 0) as address:
        family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
        reader, writer = await asyncio.open_connection("localhost", address[1], family=family)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await writer.wait_closed()


@both_ways
async def test_threads():
    def work(n: int) -> tuple[int, float]:
        time.sleep(0.01 * (3 - n))
        loop.call_soon_threadsafe(order.append, n)
        return n

    loop = asyncio.get_running_loop()
    order: list[int] = []
    assert await asyncio.gather(*(asyncio.to_thread(work, n) for n in range(3))) == [0, 1, 2]
    assert sorted(order) == [0, 1, 2]
    future = asyncio.run_coroutine_threadsafe
    # A thread that asks the loop for something.
    assert await asyncio.to_thread(lambda: future(asyncio.sleep(0.01, "slept"), loop).result(20)) == "slept"


@both_ways
async def test_queues_events_and_locks():
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    seen: list[int] = []
    lock = asyncio.Lock()
    ready = asyncio.Event()

    async def produce() -> None:
        await ready.wait()
        for n in range(6):
            await queue.put(n)

    async def consume() -> None:
        while True:
            n = await queue.get()
            async with lock:
                await asyncio.sleep(0.001)
                seen.append(n)
            queue.task_done()

    async with asyncio.TaskGroup() as group:
        consumers = [group.create_task(consume()) for _ in range(2)]
        producer = group.create_task(produce())
        ready.set()
        await producer
        await queue.join()
        for task in consumers:
            task.cancel()
    assert sorted(seen) == list(range(6))


@both_ways
async def test_waiting_for_many():
    """asyncio's sets of tasks: who ends first, and all that are left when the loop ends."""
    ended: list[int] = []

    async def sleep(n: int) -> int:
        try:
            await asyncio.sleep(0.01 * n)
        finally:
            # So that the order in which they are cancelled is one that the machine sees.
            ended.append(n)
            with socket.socket() as made:
                made.getsockname()
        return n

    tasks = {asyncio.create_task(sleep(n)) for n in (1, 1, 1, 500, 500)}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in done} == {1}
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            for n in range(4):
                group.create_task(sleep(100 + n))
            await asyncio.sleep(0)
            group.create_task(asyncio.wait_for(asyncio.sleep(5), 0.001))
    assert len(caught.value.exceptions) == 1
    # Left to asyncio.run, which cancels them.
    left.extend(asyncio.create_task(sleep(1000 + n)) for n in range(5))
    await asyncio.sleep(0)


left: list[asyncio.Task[int]] = []


@both_ways
async def test_generators_left_open():
    """Asynchronous generators that nobody finished are closed with the loop."""

    async def numbers(n: int):
        try:
            while True:
                yield n
                n += 1
        finally:
            await asyncio.sleep(0)
            with socket.socket() as made:
                made.getsockname()

    kept.clear()
    for n in range(4):
        generator = numbers(n)
        kept.append(generator)
        async for value in generator:
            assert value == n
            break


kept: list[object] = []
