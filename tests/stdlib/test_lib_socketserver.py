"""socketserver: a thread for each connection or datagram, and clients on plain sockets."""

import contextlib
import os
import socket
import socketserver
import threading
from collections.abc import Iterator

from tests.stdlib.both import both_ways


class Lines(socketserver.StreamRequestHandler):
    """Each line comes back reversed."""

    timeout = 20

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.rstrip(b"\n")[::-1] + b"\n")


class Capitals(socketserver.DatagramRequestHandler):
    """Each datagram comes back in capitals."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """A server that runs in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def ask(address: tuple[str, int], name: str, answers: dict[str, list[str]]) -> None:
    with socket.create_connection(address, timeout=20) as connection, connection.makefile("rw", newline="\n") as file:
        answers[name] = []
        for n in range(3):
            file.write(f"{name} {n}\n")
            file.flush()
            answers[name].append(file.readline())
        connection.shutdown(socket.SHUT_WR)
        assert file.read() == ""


@both_ways
def test_threading_tcp_server():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Lines) as server, serving(server):
        answers: dict[str, list[str]] = {}
        clients = [threading.Thread(target=ask, args=(server.server_address, f"client{n}", answers)) for n in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert answers == {f"client{n}": [f"client{n} {i}"[::-1] + "\n" for i in range(3)] for n in range(4)}


@both_ways
def test_tcp_server_without_threads():
    with socketserver.TCPServer(("127.0.0.1", 0), Lines) as server, serving(server):
        for _ in range(2):
            answers: dict[str, list[str]] = {}
            ask(server.server_address, "one", answers)
            assert answers["one"][2] == "2 eno\n"


@both_ways
def test_threading_udp_server():
    with (
        socketserver.ThreadingUDPServer(("127.0.0.1", 0), Capitals) as server,
        serving(server),
        socket.socket(type=socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(20)
        for word in (b"one", b"two", b"three"):
            client.sendto(word, server.server_address)
            assert client.recvfrom(100) == (word.upper(), server.server_address)


@both_ways
def test_threading_unix_server():
    name = f"\0simkernel-socketserver-{os.getpid()}"
    with socketserver.ThreadingUnixStreamServer(name, Lines) as server, serving(server), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(name)
        client.sendall(b"abc\n")
        assert client.recv(100) == b"cba\n"
