"""requests and urllib3 against http.server."""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("requests")

import requests
import urllib3

from tests.stdlib.both import both_ways
from tests.stdlib.test_lib_http import BIG, serving

# pytest keeps what is logged, here exceptions with the sockets of their frames.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


@both_ways
def test_requests():
    with serving() as url, requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"{url}/moved", timeout=20)
        assert (answer.json()["path"], [step.status_code for step in answer.history]) == ("/json", [302])
        assert session.get(f"{url}/cookie", timeout=20).cookies["visited"] == "yes"
        assert session.get(f"{url}/json", timeout=20).json()["cookie"] == "visited=yes"
        assert session.post(f"{url}/post", data={"q": "a b"}, timeout=20).text == "Q=A+B"
        assert session.get(f"{url}/big", timeout=20).content == BIG
        with session.get(f"{url}/chunks", stream=True, timeout=20) as answer:
            assert list(answer.iter_content(None)) == [b"one ", b"two ", b"three"]
        assert session.get(f"{url}/nothing", timeout=20).status_code == 404
    with pytest.raises(requests.ConnectionError), requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=20)


@both_ways
def test_urllib3_pool_from_many_threads():
    with serving() as url, urllib3.PoolManager(maxsize=2, block=True) as pool, ThreadPoolExecutor(3) as threads:

        def ask(n: int) -> bytes:
            return pool.request("POST", f"{url}/post", body=b"n%d" % n, timeout=20, retries=False).data

        assert list(threads.map(ask, range(6))) == [b"N%d" % n for n in range(6)]


@both_ways
def test_urllib3_retries():
    """A server that breaks off twice is asked a third time, a while later."""

    def serve() -> None:
        for n in range(3):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                connection.recv(4096)
                if n == 2:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with socket.create_server(("127.0.0.1", 0)) as listener, urllib3.PoolManager() as pool:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        began = time.monotonic()
        retries = urllib3.Retry(4, backoff_factor=0.1)
        answer = pool.request("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", retries=retries, timeout=20)
        thread.join()
        assert (answer.data, len(answer.retries.history)) == (b"hello", 2)
        # Between the first and the second retry 0.1 * 2 s.
        assert round(time.monotonic() - began, 6) >= 0.2
