"""A certificate for localhost and the authority that signed it, the same bytes in every process.

Ed25519 keys are any 32 bytes, and signatures have no chance in them; serial numbers and dates are fixed.
"""

import datetime
import functools
import ipaddress
import ssl
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def _certificate(name: str, serial: int, key: Ed25519PrivateKey, signer: Ed25519PrivateKey, issuer: str) -> x509.CertificateBuilder:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder(named(issuer), named(name), key.public_key(), serial)
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2100, 1, 1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


@functools.cache
def pems() -> tuple[bytes, bytes, bytes]:
    """PEM texts: the authority's certificate, the server's, and the server's key."""
    authority, server = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    usage = dict.fromkeys("content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only".split(), False)
    ca = (
        _certificate("an authority", 1, authority, authority, "an authority")
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .sign(authority, None)
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = _certificate("localhost", 2, server, authority, "an authority").add_extension(names, critical=False).sign(authority, None)
    encoding = serialization.Encoding.PEM
    key = server.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ca.public_bytes(encoding), leaf.public_bytes(encoding), key


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, and a client's that trusts it."""
    ca, leaf, key = pems()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(leaf + key)
        file.flush()
        server.load_cert_chain(file.name)
    client = ssl.create_default_context(cadata=ca.decode())
    return server, client
