"""Sends each line of stdin to an echo server and prints what comes back: ``python client.py [--host HOST] [--port PORT]``."""

import argparse
import socket
import sys


def main() -> None:
    """Until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    with socket.create_connection((options.host, options.port)) as conn, conn.makefile("rw", encoding="utf-8", newline="\n") as stream:
        for line in sys.stdin:
            stream.write(line if line.endswith("\n") else line + "\n")
            stream.flush()
            print(stream.readline(), end="", flush=True)


if __name__ == "__main__":
    main()
