"""The select echo server of a well-known article on I/O multiplexing, rebuilt with its bugs.

It looks like every tutorial: sockets to read, sockets to write, and a queue of messages for each connection.  One client that says
hello and waits for the echo is served well.  But:
  1. it takes the end of the input, b"", for a message: after a client's SHUT_WR or close the socket stays readable, and the loop spins,
     each turn adding a message and an entry (spin, memory), and the client never sees the end (hang);
  2. it puts the connection on `outputs` at every recv, also if it is there already: the list grows with every recv (memory), and a
     queue is asked more often than it has messages;
  3. it drops what send does not take (corruption), and when send takes nothing the error ends the server (crash);
  4. it knows no errors: one client's reset ends the server for all (crash).
"""

from collections import deque

from simkernel.api import Syscalls
from simkernel.uapi import AF_INET, SO_REUSEADDR, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET


def serve(sys: Syscalls, listener: int, stop: int) -> None:
    inputs = [stop, listener]
    outputs: list[int] = []
    messages: dict[int, deque[bytes]] = {}
    while True:
        readable, writable, _ = sys.select(inputs, outputs, inputs)
        if stop in readable:
            break
        for fd in readable:
            if fd == listener:
                conn, _peer = sys.accept4(listener, SOCK_NONBLOCK)  # bug: the listener blocks; the client may have gone
                inputs.append(conn)  # bug: from fd 1024 on select can't watch it
                messages[conn] = deque()
            else:
                data = sys.recv(fd, 1024)  # bug: a reset raises here, and ends the server
                messages[fd].append(data)  # bug: b"" is the end of the input, not a message; and nothing limits the queue
                outputs.append(fd)  # bug: it may be on the list already
        for fd in writable:
            if messages[fd]:
                sys.send(fd, messages[fd].popleft())  # bug: what send didn't take is lost; a full buffer raises, and ends the server
            else:
                outputs.remove(fd)
    for fd in messages:
        sys.close(fd)


def main(sys: Syscalls) -> None:
    listener = sys.socket(AF_INET, SOCK_STREAM)
    sys.setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, 1)
    sys.bind(listener, ("127.0.0.1", 9000))
    sys.listen(listener, 1000)
    serve(sys, listener, sys.eventfd())
