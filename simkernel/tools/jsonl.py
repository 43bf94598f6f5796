"""A trace in a file: lines of JSON.

The first line says what it is: ``{"format": "simkernel-trace", "version": 1}``.  Each other line is one event, with the keys of
Trace.records: seq, t_ns, pid, ctx, ev, fn, at, cause, f.  Bytes are ``{"bytes": text}``, a character for each byte (latin-1).
"""

import json
from typing import Any, Final, TextIO

from simkernel.kernel.trace import Trace

FORMAT: Final = "simkernel-trace"
VERSION: Final = 1


def save(trace: Trace, file: TextIO) -> None:
    """Write a trace."""
    file.write(json.dumps({"format": FORMAT, "version": VERSION}) + "\n")
    for record in trace.records():
        file.write(json.dumps(plain(record)) + "\n")


def plain(value: Any) -> Any:
    """A value of a trace, as JSON has it."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": bytes(value).decode("latin-1")}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
