"""The client of the article: says its lines one by one, each when the echo of the one before has come back.

The lines are short: a client that sends more than the buffers on the way hold, and reads only then, waits for ever.
"""

from collections.abc import Sequence

from simkernel.api import Syscalls
from simkernel.uapi import AF_INET, MSG_NOSIGNAL, SHUT_WR, SOCK_STREAM


def main(sys: Syscalls, host: str = "127.0.0.1", port: int = 9000, lines: Sequence[str] = ("hello", "world")) -> list[str]:
    """Returns the replies; one more than lines if the server said more than it heard, and a shorter one if it hung up early."""
    fd = sys.socket(AF_INET, SOCK_STREAM)
    while True:
        try:
            sys.connect(fd, (host, port))
            break
        except InterruptedError:
            continue  # it goes on connecting: asking again waits for it
    replies = [talk(sys, fd, line.encode()) for line in lines]
    sys.shutdown(fd, SHUT_WR)
    rest = b""
    while data := receive(sys, fd, 65536):
        rest += data
    sys.close(fd)
    return [reply.decode() for reply in (*replies, *([rest] if rest else []))]


def talk(sys: Syscalls, fd: int, line: bytes) -> bytes:
    """Send a line and wait for as many bytes."""
    unsent = line
    while unsent:
        try:
            unsent = unsent[sys.send(fd, unsent, MSG_NOSIGNAL) :]
        except InterruptedError:
            continue
    reply = b""
    while len(reply) < len(line) and (data := receive(sys, fd, len(line) - len(reply))):
        reply += data
    return reply


def receive(sys: Syscalls, fd: int, n: int) -> bytes:
    while True:
        try:
            return sys.recv(fd, n)
        except InterruptedError:
            continue
