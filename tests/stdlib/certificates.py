"""TLS for tests: localhost.pem is a certificate for localhost and its key, authority.pem the authority that signed it, until the year 2100.

The keys are Ed25519's, whose signatures are always as long and have no chance in them.  Made with the package cryptography from the private
keys ``bytes([1]) * 32`` (the authority's) and ``bytes([2]) * 32``.
"""

import ssl
from os.path import dirname

HERE = dirname(__file__)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, and a client's that trusts it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(f"{HERE}/localhost.pem")
    return server, ssl.create_default_context(cafile=f"{HERE}/authority.pem")
