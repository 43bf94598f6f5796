"""An echo server with select(2): ``python select_echo.py [PORT]``."""

import select
import socket
import sys


def main(port: int) -> None:
    """Serve for ever."""
    listener = socket.create_server(("127.0.0.1", port))
    print(f"select: listening on port {listener.getsockname()[1]}", flush=True)
    unsent: dict[socket.socket, bytes] = {}
    while True:
        # Whose answer is not yet on its way is not read from: it can't fill our memory.
        reading = [conn for conn, data in unsent.items() if not data]
        writing = [conn for conn, data in unsent.items() if data]
        readable, writable, _ = select.select([listener, *reading], writing, [])
        for sock in readable:
            if sock is listener:
                conn, _addr = listener.accept()
                conn.setblocking(False)
                unsent[conn] = b""
                continue
            try:
                data = sock.recv(4096)
            except ConnectionError:
                data = b""
            if data:
                unsent[sock] = data
            else:
                del unsent[sock]
                sock.close()
        for sock in writable:
            try:
                unsent[sock] = unsent[sock][sock.send(unsent[sock]) :]
            except ConnectionError:
                del unsent[sock]
                sock.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9000)
