"""http.server and urllib.request, requests and urllib3: threads that answer, threads that ask."""

import contextlib
import http.client
import http.cookiejar
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.stdlib.both import both_ways

BIG = bytes(range(256)) * 400


class Handler(BaseHTTPRequestHandler):
    """Some pages; what is posted comes back in capitals."""

    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self) -> None:
        if self.path == "/big":
            self.answer(BIG, "application/octet-stream")
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/json")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/json":
            self.answer(json.dumps({"path": self.path, "cookie": self.headers.get("Cookie")}).encode(), "application/json")
        elif self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"one ", b"two ", b"three"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/cookie":
            self.answer(b"", "text/plain", ("Set-Cookie", "visited=yes; Path=/"))
        else:
            self.send_error(404, "there is no such page")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).upper(), "text/plain")

    def answer(self, body: bytes, kind: str, *headers: tuple[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A server in a thread; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Without the proxies that the environment may name."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)


@both_ways
def test_urllib():
    cookies = http.cookiejar.CookieJar()
    web = opener(urllib.request.HTTPCookieProcessor(cookies))
    with serving() as url:
        with web.open(f"{url}/moved", timeout=20) as answer:
            assert answer.url == f"{url}/json"
            assert answer.headers["Server"].startswith("BaseHTTP")
            assert json.load(answer) == {"path": "/json", "cookie": None}
        with web.open(f"{url}/chunks", timeout=20) as answer:
            assert answer.read() == b"one two three"
        web.open(f"{url}/cookie", timeout=20).close()
        assert [(cookie.name, cookie.value) for cookie in cookies] == [("visited", "yes")]
        with web.open(f"{url}/json", timeout=20) as answer:
            assert json.load(answer)["cookie"] == "visited=yes"
        with web.open(urllib.request.Request(f"{url}/post", data=b"shout", method="POST"), timeout=20) as answer:
            assert answer.read() == b"SHOUT"
        with pytest.raises(urllib.error.HTTPError) as caught:
            web.open(f"{url}/nothing", timeout=20)
        assert caught.value.code == 404
        caught.value.close()


@both_ways
def test_urllib_from_many_threads():
    def fetch(n: int) -> bytes:
        if n % 2:
            with opener().open(f"{url}/big", timeout=20) as answer:
                return answer.read()
        with opener().open(f"{url}/post", data=b"number %d" % n, timeout=20) as answer:
            return answer.read()

    with serving() as url, ThreadPoolExecutor(3) as pool:
        assert list(pool.map(fetch, range(6))) == [BIG if n % 2 else b"NUMBER %d" % n for n in range(6)]
    with pytest.raises(urllib.error.URLError, match="refused"):
        opener().open(url, timeout=20)


@both_ways
def test_http_client_keeps_a_connection():
    with serving() as url:
        connection = http.client.HTTPConnection(url.partition("//")[2], timeout=20)
        with contextlib.closing(connection):
            ports = set()
            for n in range(3):
                connection.request("POST", "/post", body=iter([b"a%d" % n, b"b"]), headers={"Content-Length": "3"})
                ports.add(connection.sock.getsockname()[1])
                assert connection.getresponse().read() == b"A%dB" % n
            assert len(ports) == 1
