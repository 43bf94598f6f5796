"""The twin of broken/socketserver_waits: the connections that are left are shut, which wakes their handlers."""

import os
import select
import socket
import socketserver
import threading
import time
from typing import Any

from simkernel.api import Syscalls

CHUNK = 65536
PAUSE = 0.1  # seconds


class Server(socketserver.ThreadingTCPServer):
    def __init__(self, listener: int) -> None:
        super().__init__(("", 0), Echo, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=os.dup(listener))  # closed at the end, as what is one's own
        self.socket.setblocking(False)
        self.connections: dict[socket.socket, None] = {}
        self.lock = threading.Lock()  # who has it may use the connections that are there: none is closed meanwhile

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return self.socket.accept()
        except BlockingIOError:
            raise
        except OSError:
            time.sleep(PAUSE)  # no fd for it, most likely
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.connections[request] = None  # here, not in its thread: that may not have begun when `stop` comes
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.connections.pop(request, None)
        super().shutdown_request(request)


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(CHUNK):
                self.request.sendall(data)
        except OSError:
            pass  # reset


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    with Server(listener) as server:
        while stop not in select.select([server.fileno(), stop], [], [])[0]:
            server.handle_request()
        with server.lock:
            for conn in server.connections:
                try:
                    conn.shutdown(socket.SHUT_RDWR)  # whoever sleeps on it wakes
                except OSError:
                    pass  # it has been reset
