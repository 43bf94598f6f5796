"""xmlrpc.server and xmlrpc.client."""

import datetime
import threading
import xmlrpc.client
from socketserver import ThreadingMixIn
from xmlrpc.server import SimpleXMLRPCServer

import pytest

from tests.stdlib.both import both_ways


class Server(ThreadingMixIn, SimpleXMLRPCServer):
    """A thread for each call."""


class Register:
    """What the clients call."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lock = threading.Lock()

    def add(self, name: str) -> int:
        with self.lock:
            self.names.append(name)
            return len(self.names)

    def all(self) -> list[str]:
        return sorted(self.names)


@both_ways
def test_xmlrpc():
    with Server(("127.0.0.1", 0), logRequests=False, allow_none=True, use_builtin_types=True) as server:
        server.register_introspection_functions()
        server.register_multicall_functions()
        server.register_function(pow)
        server.register_function(lambda *values: values, "echo")
        server.register_instance(Register())
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        url = "http://{}:{}".format(*server.server_address)
        try:
            with xmlrpc.client.ServerProxy(url, allow_none=True, use_builtin_types=True) as proxy:
                assert proxy.pow(2, 9) == 512
                when = datetime.datetime(2024, 2, 29, 12, 30)
                values = [1.5, "ü<&>", b"\0\xff", None, when, {"a": [True]}]
                assert proxy.echo(*values) == values
                assert "pow" in proxy.system.listMethods()
                with pytest.raises(xmlrpc.client.Fault, match="ZeroDivisionError"):
                    proxy.pow(0, -1)
                calls = xmlrpc.client.MultiCall(proxy)
                calls.pow(3, 3)
                calls.add("first")
                assert list(calls()) == [27, 1]

            def add(name: str) -> None:
                with xmlrpc.client.ServerProxy(url) as proxy:
                    proxy.add(name)

            threads = [threading.Thread(target=add, args=(f"name {n}",)) for n in range(3)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            with xmlrpc.client.ServerProxy(url) as proxy:
                assert proxy.all() == ["first", "name 0", "name 1", "name 2"]
        finally:
            server.shutdown()
            thread.join()
