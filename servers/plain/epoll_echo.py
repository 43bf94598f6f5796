"""An echo server with epoll(7), edge-triggered: ``python epoll_echo.py [PORT]``."""

import select
import socket
import sys

EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


def echo(conn: socket.socket, unsent: bytearray) -> bool:
    """Read and write until neither goes on: an edge does not come twice.  False when the connection is over."""
    try:
        while True:
            while unsent:
                del unsent[: conn.send(unsent)]
            data = conn.recv(4096)
            if not data:
                return False
            unsent += data
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def main(port: int) -> None:
    """Serve for ever."""
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.setblocking(False)
    print(f"epoll: listening on port {listener.getsockname()[1]}", flush=True)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN | select.EPOLLET)
    conns: dict[int, tuple[socket.socket, bytearray]] = {}
    while True:
        for fd, _events in epoll.poll():
            if fd == listener.fileno():
                while True:
                    try:
                        conn, _addr = listener.accept()
                    except BlockingIOError:
                        break
                    conn.setblocking(False)
                    conns[conn.fileno()] = conn, bytearray()
                    epoll.register(conn, EDGE)
                continue
            conn, unsent = conns[fd]
            if not echo(conn, unsent):
                del conns[fd]
                conn.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9000)
