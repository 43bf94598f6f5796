"""Replay tokens: a failure in a line to paste.

``sk1-`` and, in base64url: a CRC-32 of the rest, then server, contract (``@`` profile, when it is not linux) and tape.  A token names the
server by its path, so it is replayed where that path leads to the server.
"""

import base64
import binascii
import zlib
from dataclasses import dataclass

from simkernel.errors import UsageError
from simkernel.kernel.choice import Tape

PREFIX = "sk1-"


@dataclass(frozen=True, slots=True)
class Token:
    """What a run depends on: the server (``path[:function]``, "" for a test's own), the contract's name, the tape, the profile."""

    target: str
    contract: str
    tape: bytes
    profile: str = "linux"

    def __str__(self) -> str:
        contract = self.contract if self.profile == "linux" else f"{self.contract}@{self.profile}"
        body = b"\0".join([self.target.encode(), contract.encode(), self.tape.rstrip(b"\0")])
        packed = b"z" + zlib.compress(body, 9)
        if len(packed) > len(body):
            packed = b"p" + body
        raw = zlib.crc32(packed).to_bytes(4, "big") + packed
        return PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def tape(token: str) -> Tape:
    """The choices of a token: ``simkernel.run(main, choice=tape("sk1-..."))`` is that run again.  UsageError for a bad token."""
    return Tape(parse(token).tape)


def parse(text: str) -> Token:
    """Read a token back.  UsageError for anything else."""
    text = text.strip()
    if not text.startswith(PREFIX):
        raise UsageError(f"{text!r} is not a replay token: they begin with {PREFIX}")
    body = text[len(PREFIX) :]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise UsageError("the replay token is damaged: it has characters that no token has; copy it whole") from None
    if len(raw) < 6 or zlib.crc32(raw[4:]).to_bytes(4, "big") != raw[:4]:
        raise UsageError("the replay token is damaged: its checksum does not match; copy it whole")
    try:
        plain = zlib.decompress(raw[5:]) if raw[4:5] == b"z" else raw[5:]
        target, contract, tape = plain.split(b"\0", 2)
        name, _, profile = contract.decode().partition("@")
        return Token(target.decode(), name, tape, profile or "linux")
    except (ValueError, zlib.error):
        raise UsageError("the replay token can't be read: it was made by another version of simkernel") from None
