"""The fake of _ssl under the unmodified ssl.py: TLS over simulated sockets."""

import asyncio
import functools
import importlib
import os
import select
import socket
import ssl
import tempfile
import threading
import time

import pytest

import simkernel
from simkernel.stdlib.here import machine
from simkernel.stdlib.process import run_function
from simkernel.stdlib.world import World

trustme = pytest.importorskip("trustme")


@functools.cache
def files():
    """(CA, certificate and key) as files, made once for all tests; the key is one of an elliptic curve."""
    ca = trustme.CA()
    cert = ca.issue_cert("localhost", "127.0.0.1")
    directory = tempfile.mkdtemp(prefix="simkernel-tls-")
    ca.cert_pem.write_to_path(f"{directory}/ca.pem")
    cert.private_key_and_cert_chain_pem.write_to_path(f"{directory}/cert.pem")
    return directory


@pytest.fixture(scope="module")
def directory():
    path = files()
    yield path
    for name in os.listdir(path):
        os.unlink(f"{path}/{name}")
    os.rmdir(path)
    files.cache_clear()


def contexts(directory, version=None):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(f"{directory}/cert.pem")
    client = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    if version is not None:
        client.maximum_version = version
    return server, client


def in_a_thread(function, *args):
    threading.Thread(target=function, args=args, daemon=True).start()


def serve(listener, context, handle):
    """Accept one connection, and call ``handle(tls)``."""
    conn, _ = listener.accept()
    listener.close()
    with context.wrap_socket(conn, server_side=True) as tls:
        handle(tls)


def echo(tls):
    while data := tls.recv(100_000):
        tls.sendall(data)
    tls.unwrap()


def connected(directory, handle, version=None, timeout=None):
    """A client's TLS socket to a thread that calls ``handle(tls)``, or the function of this world of that name."""
    server, client = contexts(directory, version)
    listener = socket.create_server(("127.0.0.1", 0))
    in_a_thread(serve, listener, server, globals()[handle] if isinstance(handle, str) else handle)
    sock = socket.create_connection(listener.getsockname(), timeout=timeout)
    return client.wrap_socket(sock, server_hostname="localhost")


def echoes(directory, version, size):
    with connected(directory, echo, version) as tls:
        data = bytes(range(256)) * (size // 256 + 1)
        done = []
        for n in (1, 100, size):
            tls.sendall(data[:n])
            got = b""
            while len(got) < n:
                got += tls.recv(n - len(got))
            done.append(got == data[:n])
        cert = tls.getpeercert()
        names = [value for kind, value in cert["subjectAltName"]]
        facts = tls.version(), tls.server_side, names
        tls.unwrap().close()
        return done, *facts


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_echo(directory, version, seed):
    done, name, server_side, names = run_function(echoes, directory, version, 50_000, seed=seed)
    assert done == [True] * 3
    assert name == version.name.replace("_", ".")
    assert not server_side
    assert names == ["localhost", "127.0.0.1"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_same_fake_on_the_real_kernel(directory, version):
    """Over the real kernel's calls and Python's own sockets."""
    world = World(fakes=("_ssl",))

    def main(sys):
        with machine(sys):
            return world.inside(echoes)(directory, version, 50_000)

    done, name, _, _ = simkernel.linux.run(main)
    assert (done, name) == ([True] * 3, version.name.replace("_", "."))


def digest(function, *args, **options):
    trace = simkernel.Trace()
    result = run_function(function, *args, trace=trace, **options)
    return trace.digest(), result


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("seed", range(5))
def test_one_digest_a_seed(directory, version, seed):
    """Keys, nonces and signatures are the run's, as all else that is chosen."""
    assert digest(echoes, directory, version, 500, seed=seed)[0] == digest(echoes, directory, version, 500, seed=seed)[0]


def refuses(directory):
    server, _ = contexts(directory)
    listener = socket.create_server(("127.0.0.1", 0))
    errors = []

    def body():
        try:
            serve(listener, server, echo)
        except ssl.SSLError as error:
            errors.append(error.reason)

    in_a_thread(body)
    sock = socket.create_connection(listener.getsockname())
    try:
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
    except ssl.SSLCertVerificationError as error:
        errors.append(error.verify_message)
    time.sleep(1)
    return errors


def test_a_certificate_of_nobody(directory):
    """The client refuses, and the server hears of it by the alert."""
    assert run_function(refuses, directory) == ["unable to get local issuer certificate", "TLSV1_ALERT_UNKNOWN_CA"]


def silent(tls):
    time.sleep(100)


def times_out(directory):
    tls = connected(directory, silent, timeout=2)
    start = time.monotonic()
    try:
        tls.recv(1)
    except TimeoutError as error:
        return time.monotonic() - start, str(error)
    return None


def test_a_timeout(directory):
    assert run_function(times_out, directory) == (2.0, "The read operation timed out")


def never_answers(directory):
    listener = socket.create_server(("127.0.0.1", 0))
    sock = socket.create_connection(listener.getsockname(), timeout=3)
    try:
        contexts(directory)[1].wrap_socket(sock, server_hostname="localhost")
    except TimeoutError as error:
        return time.monotonic(), "handshake operation timed out" in str(error)
    return None


def test_a_handshake_times_out(directory):
    assert run_function(never_answers, directory) == (3.0, True)


def does_not_block(directory):
    """Non-blocking: each operation says what it waits for."""
    server, client = contexts(directory)
    a, b = socket.socketpair()
    for sock in (a, b):
        sock.setblocking(False)
    left = server.wrap_socket(a, server_side=True, do_handshake_on_connect=False)
    right = client.wrap_socket(b, server_hostname="localhost", do_handshake_on_connect=False)
    log = []

    def attempt(what, operation, *args):
        try:
            log.append((what, operation(*args)))
            return True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            log.append((what, type(error).__name__))
            return False

    done = [False, False]
    for _ in range(5):
        done[0] = done[0] or attempt("left", left.do_handshake)
        done[1] = done[1] or attempt("right", right.do_handshake)
    attempt("read", left.recv, 1)
    sent = 0
    data = bytes(1 << 20)
    for _ in range(3):
        attempt("write", right.send, data)
    got = 0
    while not any(entry[0] == "write" and entry[1] == len(data) for entry in log):
        while True:
            try:
                got += len(left.recv(1 << 16))
            except ssl.SSLWantReadError:
                break
        attempt("write", right.send, data)
    while got < len(data):
        got += len(left.recv(1 << 16))
    log = [entry for i, entry in enumerate(log) if not i or entry != log[i - 1]]
    return log, got, sent


def test_nonblocking(directory):
    log, got, _ = run_function(does_not_block, directory)
    assert log == simkernel.linux.run(lambda sys: does_not_block(directory))[0]
    assert got == 1 << 20
    assert ("write", "SSLWantWriteError") in log
    assert log[-1] == ("write", 1 << 20)


def says_and_vanishes(tls):
    tls.sendall(b"half")
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    os.close(tls.detach())


def says_and_shuts_down(tls):
    tls.sendall(b"half")
    socket.socket.shutdown(tls, socket.SHUT_RDWR)


def reads_to_the_end(directory, handle, version, suppress):
    tls = connected(directory, handle, version)
    tls.suppress_ragged_eofs = suppress
    got = []
    try:
        while data := tls.recv(100):
            got.append(data)
    except OSError as error:
        got.append((type(error).__name__, error.errno if not isinstance(error, ssl.SSLError) else error.reason))
    return got


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_ends_that_are_none(directory, version):
    """A FIN without close_notify, and a reset."""
    assert run_function(reads_to_the_end, directory, "says_and_shuts_down", version, True) == [b"half"]
    got = run_function(reads_to_the_end, directory, "says_and_shuts_down", version, False)
    assert got == [b"half", ("SSLEOFError", "UNEXPECTED_EOF_WHILE_READING")]
    got = run_function(reads_to_the_end, directory, "says_and_vanishes", version, False)
    assert got[-1] == ("ConnectionResetError", 104)


def leaves_records_in_the_kernel(directory):
    """What is not decrypted yet is still in the socket, where select sees it."""

    def two(tls):
        tls.sendall(b"a" * 10)
        tls.sendall(b"b" * 10)
        tls.recv(1)

    tls = connected(directory, two, ssl.TLSVersion.TLSv1_2)
    time.sleep(1)
    seen = []
    seen.append((tls.recv(4), tls.pending(), bool(select.select([tls], [], [], 0)[0])))
    seen.append((tls.recv(100), tls.pending(), bool(select.select([tls], [], [], 0)[0])))
    seen.append((tls.recv(100), tls.pending(), bool(select.select([tls], [], [], 0)[0])))
    tls.sendall(b"x")
    return seen


def test_what_is_not_decrypted_stays_in_the_socket(directory):
    assert run_function(leaves_records_in_the_kernel, directory) == [
        (b"aaaa", 6, True),
        (b"aaaaaa", 0, True),
        (b"b" * 10, 0, False),
    ]


def resumes(directory, version):
    server, client = contexts(directory, version)
    listener = socket.create_server(("127.0.0.1", 0))

    def body():
        for _ in range(2):
            conn, _ = listener.accept()
            with server.wrap_socket(conn, server_side=True) as tls:
                tls.sendall(b"hello")
                tls.recv(1)

    in_a_thread(body)
    session, out = None, []
    for _ in range(2):
        sock = socket.create_connection(listener.getsockname())
        with client.wrap_socket(sock, server_hostname="localhost", session=session) as tls:
            out.append((tls.recv(5), tls.session_reused))
            session = tls.session
            tls.sendall(b"x")
    return out


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(directory, version):
    assert run_function(resumes, directory, version) == [(b"hello", False), (b"hello", True)]


def asks_for_a_name(directory):
    """The callback of a server sleeps in the middle of the handshake, while others run."""
    server, client = contexts(directory)
    asked = []

    def callback(tls, name, context):
        time.sleep(1)
        asked.append((type(tls).__name__, name, context is server, round(time.monotonic(), 2)))
        tls.context = server

    server.sni_callback = callback
    listener = socket.create_server(("127.0.0.1", 0))

    def body():
        for _ in range(2):
            conn, _ = listener.accept()
            in_a_thread(one, conn)

    def one(conn):
        with server.wrap_socket(conn, server_side=True) as tls:
            tls.sendall(b"hello")
            tls.recv(1)

    in_a_thread(body)
    results = []

    def connect():
        with client.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="localhost") as tls:
            results.append(tls.recv(5))
            tls.sendall(b"x")

    threads = [threading.Thread(target=connect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return asked, results


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_callback_that_sleeps(directory, seed):
    (asked, results), once = digest(asks_for_a_name, directory, seed=seed)[::-1]
    assert asked == [("SSLSocket", "localhost", True, 1.0)] * 2
    assert results == [b"hello"] * 2
    assert once == digest(asks_for_a_name, directory, seed=seed)[0]


async def asyncio_tls(directory):
    server_context, client_context = contexts(directory)

    async def handle(reader, writer):
        while data := await reader.readline():
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_context)
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port, ssl=client_context, server_hostname="localhost")
    out = []
    for line in (b"one\n", b"x" * 40_000 + b"\n"):
        writer.write(line)
        await writer.drain()
        out.append(await reader.readline() == line.upper())
    writer.close()
    await writer.wait_closed()
    server.close()
    return out, writer.get_extra_info("cipher")[0]


def run_asyncio(directory):
    return asyncio.run(asyncio_tls(directory))


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_asyncio(directory, seed):
    once, again = (digest(run_asyncio, directory, seed=seed) for _ in range(2))
    assert once[1][0] == [True, True]
    assert once[0] == again[0]


def test_it_has_all_that_the_real_one_has():
    real, fake = importlib.import_module("_ssl"), World().import_module("_ssl")
    assert not [name for name in dir(real) if not name.startswith("__") and not hasattr(fake, name)]
    has = {*dir(fake._SSLContext), *dir(fake._SocketSSL), *ASKS}
    assert not [name for kind in (real._SSLSocket, real._SSLContext) for name in dir(kind) if not name.startswith("__") and name not in has]


ASKS = "cipher compression get_channel_binding get_unverified_chain get_verified_chain getpeercert pending selected_alpn_protocol".split()
ASKS += "shared_ciphers version group".split()
