"""Names of hosts and services: a world's table answers, and nobody else."""

import asyncio
import socket as real

import pytest

import simkernel.asyncio
from simkernel.errors import UsageError
from simkernel.stdlib.hosts import Hosts, protocol_number, service_name, service_port
from simkernel.stdlib.process import in_world
from simkernel.stdlib.resolve import getaddrinfo, getnameinfo
from tests.stdlib.sides import Modules

TABLE = """
# a comment
127.0.0.1  localhost
::1        localhost  ip6-localhost
10.0.0.1   Web www     # and another
10.0.0.2   web
fd00::1    six
"""


def stream(hosts, name, service=None, family=0, flags=0):
    return [(family, addr) for family, _, _, _, addr in getaddrinfo(hosts, name, service, family, 1, 0, flags)]


def test_a_table():
    hosts = Hosts(TABLE, "web")
    assert hosts.lookup("WEB") == [(real.AF_INET, "10.0.0.1", "Web"), (real.AF_INET, "10.0.0.2", "web")]
    assert hosts.names_of("10.0.0.1") == ("Web", "www")
    assert hosts.names_of("10.9.9.9") == ()
    assert Hosts(hosts.text()).entries == hosts.entries
    for text in ("10.0.0 name", "name 10.0.0.1", "10.0.0.1"):
        with pytest.raises(UsageError, match="hosts: "):
            Hosts(text)


def test_the_order_of_addresses():
    """RFC 6724: ::1, then IPv4 in the table's order, then IPv6 that leads nowhere."""
    hosts = Hosts(TABLE)
    assert stream(hosts, "localhost", "80") == [(real.AF_INET6, ("::1", 80, 0, 0)), (real.AF_INET, ("127.0.0.1", 80))]
    assert stream(hosts, "localhost", "80", real.AF_INET) == [(real.AF_INET, ("127.0.0.1", 80))]
    assert [addr[0] for _, addr in stream(hosts, "web")] == ["10.0.0.1", "10.0.0.2"]
    assert getaddrinfo(hosts, "www", None, 0, 1, 0, real.AI_CANONNAME) == [(real.AF_INET, 1, 6, "Web", ("10.0.0.1", 0))]
    assert stream(hosts, "web", None, real.AF_INET6, real.AI_V4MAPPED)[0] == (real.AF_INET6, ("::ffff:10.0.0.1", 0, 0, 0))
    assert stream(hosts, "six") == [(real.AF_INET6, ("fd00::1", 0, 0, 0))]
    with pytest.raises(real.gaierror, match="Name or service not known"):
        stream(hosts, "six", None, real.AF_INET)


def test_the_way_back():
    hosts = Hosts(TABLE)
    assert getnameinfo(hosts, "10.0.0.1", 80, 0, 0) == ("Web", "http")
    assert getnameinfo(hosts, "10.0.0.9", 4, 0, 0) == ("10.0.0.9", "4")
    with pytest.raises(real.gaierror):
        getnameinfo(hosts, "10.0.0.9", 4, 0, real.NI_NAMEREQD)


def test_services_and_protocols():
    assert (service_port("http"), service_port("domain", "udp"), service_port("www", "tcp"), service_port("http", "udp")) == (
        80,
        53,
        80,
        None,
    )
    assert (service_name(22), service_name(22, "udp"), service_name(69)) == ("ssh", None, "tftp")
    assert (protocol_number("tcp"), protocol_number("UDP"), protocol_number("no")) == (6, 17, None)


def test_what_is_in_no_table_does_not_exist():
    """As glibc says it of such names; a connect to a name resolves as getaddrinfo does."""

    def body(world):
        m = Modules(world.import_module)
        for call in (
            m.socket.gethostbyname,
            m.socket.gethostbyname_ex,
            m.socket.gethostbyaddr,
            lambda name: m.socket.getaddrinfo(name, 80),
        ):
            with pytest.raises(m.socket.gaierror) as caught:
                call("no-such-name.invalid")
            assert caught.value.args == (-2, "Name or service not known")
        with pytest.raises(m.socket.gaierror):
            m.socket.socket().connect(("300.1.1.1", 80))
        with pytest.raises(m.socket.herror) as caught:
            m.socket.gethostbyaddr("10.255.255.9")
        assert caught.value.args == (1, "Unknown host")
        assert m.socket.gethostname() == m.socket.getfqdn() == "simkernel"
        assert m.socket.gethostbyname("here") == "127.0.2.1"
        assert m.socket.gethostbyname_ex("web") == ("Web", ["www"], ["10.0.0.1", "10.0.0.2"])
        with m.socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            # ::1 refuses, so 127.0.0.1 is tried.
            with m.socket.create_connection(("localhost", port)) as client:
                assert client.getpeername() == ("127.0.0.1", port)
        with pytest.raises(PermissionError):
            m.socket.sethostname("there")

    in_world(body, hosts=TABLE + "127.0.2.1 here")


async def resolved(name):
    return await asyncio.get_running_loop().getaddrinfo(name, 80, type=real.SOCK_STREAM)


def test_hosts_of_one_run():
    assert simkernel.asyncio.run(resolved, "web", hosts="10.0.0.1 web")[0][4] == ("10.0.0.1", 80)
    with pytest.raises(real.gaierror):
        simkernel.asyncio.run(resolved, "web")
    with pytest.raises(UsageError, match="hosts: 'web' is not a numeric"):
        simkernel.asyncio.run(resolved, "web", hosts="web 10.0.0.1")
