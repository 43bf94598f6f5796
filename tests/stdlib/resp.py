"""A small Redis server: the RESP protocol, version 2, and the commands that the tests of redis-py use."""

from collections.abc import Callable, Iterator


class Error(Exception):
    """A command's error reply."""


def parse(buffer: bytearray) -> Iterator[list[bytes]]:
    """Take the commands that are complete off the front of ``buffer``."""
    while True:
        lines = buffer.split(b"\r\n", 1)
        if len(lines) < 2 or not lines[0].startswith(b"*"):
            return
        at = len(lines[0]) + 2
        words = []
        for _ in range(int(lines[0][1:])):
            end = buffer.find(b"\r\n", at)
            if end < 0:
                return
            length = int(buffer[at + 1 : end])
            at = end + 2 + length + 2
            if at > len(buffer):
                return
            words.append(bytes(buffer[end + 2 : end + 2 + length]))
        del buffer[:at]
        yield words


def encode(value: object) -> bytes:
    """A reply: str a status, bytes a bulk string, int, None, Error, and lists of these."""
    if isinstance(value, str):
        return f"+{value}\r\n".encode()
    if isinstance(value, Error):
        return f"-{value}\r\n".encode()
    if isinstance(value, int):
        return b":%d\r\n" % value
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    assert isinstance(value, list)
    return b"*%d\r\n" % len(value) + b"".join(map(encode, value))


class Store:
    """The keys, and who has subscribed: a channel's subscribers are functions that send bytes to one client each."""

    def __init__(self) -> None:
        self.keys: dict[bytes, bytes] = {}
        self.lists: dict[bytes, list[bytes]] = {}
        self.channels: dict[bytes, list[Callable[[bytes], None]]] = {}


class Session:
    """One connection: ``feed`` takes what came in, and calls ``send`` with what is to go out."""

    def __init__(self, store: Store, send: Callable[[bytes], None]) -> None:
        self.store = store
        self.send = send
        self.buffer = bytearray()
        self.queued: list[list[bytes]] | None = None
        self.subscribed: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.buffer += data
        for words in parse(self.buffer):
            self.send(self.answer(words))

    def end(self) -> None:
        for channel in self.subscribed:
            self.store.channels[channel].remove(self.send)

    def answer(self, words: list[bytes]) -> bytes:
        name = words[0].decode().lower()
        if name == "multi":
            self.queued = []
            return encode("OK")
        if name == "exec":
            queued, self.queued = self.queued, None
            assert queued is not None
            return encode([self.reply(each) for each in queued])
        if self.queued is not None:
            self.queued.append(words)
            return encode("QUEUED")
        if name == "subscribe":
            out = b""
            for channel in words[1:]:
                self.subscribed.append(channel)
                self.store.channels.setdefault(channel, []).append(self.send)
                out += encode([b"subscribe", channel, len(self.subscribed)])
            return out
        return encode(self.reply(words))

    def reply(self, words: list[bytes]) -> object:
        name, arguments = words[0].decode().lower(), words[1:]
        command = getattr(self, f"do_{name}", None)
        if command is None:
            return Error(f"ERR unknown command '{name}'")
        try:
            return command(*arguments)
        except Error as error:
            return error

    def do_ping(self) -> object:
        return "PONG"

    def do_client(self, *words: bytes) -> object:
        return "OK"

    def do_set(self, key: bytes, value: bytes) -> object:
        self.store.keys[key] = value
        return "OK"

    def do_get(self, key: bytes) -> object:
        return self.store.keys.get(key)

    def do_incrby(self, key: bytes, by: bytes) -> object:
        try:
            value = int(self.store.keys.get(key, b"0")) + int(by)
        except ValueError:
            raise Error("ERR value is not an integer or out of range") from None
        self.store.keys[key] = b"%d" % value
        return value

    def do_rpush(self, key: bytes, *values: bytes) -> object:
        self.store.lists.setdefault(key, []).extend(values)
        return len(self.store.lists[key])

    def do_lrange(self, key: bytes, start: bytes, stop: bytes) -> object:
        values = self.store.lists.get(key, [])
        return values[int(start) : int(stop) + 1 or None]

    def do_publish(self, channel: bytes, message: bytes) -> object:
        receivers = self.store.channels.get(channel, [])
        for send in receivers:
            send(encode([b"message", channel, message]))
        return len(receivers)
