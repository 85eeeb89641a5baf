"""ZooKeeper's transaction log, read from its files: every change of the tree, by whom, in order.

Why the log and not a recording by the nodes: it is the servers' own memory of what took effect, kept by nobody
whom the tests suspect. Format of ZooKeeper 3.5 to 3.9 (FileTxnLog, zookeeper.jute):

    file:   "ZKLG", int version, long database id, records, zeros up to the preallocated end
    record: long checksum, int length, header, body, (digest), byte 'B'
    header: long session, int request, long zxid, long time in ms, int type

Runs in: the test process. Pure but for reading files.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAGIC = b"ZKLG"
_FILE_HEADER = struct.Struct(">4siq")
_RECORD_HEADER = struct.Struct(">qi")
_HEADER = struct.Struct(">qiqqi")
_INT = struct.Struct(">i")
END_OF_RECORD = 0x42

ERROR, CLOSE_SESSION, CREATE_SESSION = -1, -11, -10
CREATE, DELETE, SET_DATA, CHECK, MULTI, CREATE_2, CREATE_CONTAINER, CREATE_TTL = 1, 2, 5, 13, 14, 15, 19, 21
_CREATIONS = (CREATE, CREATE_2, CREATE_CONTAINER, CREATE_TTL)
_WITH_PATH = {CREATE: "create", CREATE_2: "create", CREATE_CONTAINER: "create", CREATE_TTL: "create",
              DELETE: "delete", SET_DATA: "set", CHECK: "check"}


class Change(NamedTuple):
    """verb: create, set, delete, check, or refused (each operation of a multi that failed)."""

    verb: str
    path: str
    data: bytes | None


class Transaction(NamedTuple):
    """changes: empty for those that opened (opens) or ended (ends) the session, and for refused ones."""

    zxid: int
    time_ms: int
    session: int
    changes: tuple[Change, ...]
    opens: bool = False
    ends: bool = False


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def integer(self) -> int:
        (value,) = _INT.unpack_from(self._body, self._position)
        self._position += 4
        return int(value)

    def buffer(self) -> bytes | None:
        length = self.integer()
        if length < 0:
            return None
        start, self._position = self._position, self._position + length
        return self._body[start:self._position]


def read_log(data_dir: Path) -> list[Transaction]:
    """All that the server of this directory has kept, in order; also what is not committed yet."""
    found: dict[int, Transaction] = {}
    for path in sorted((data_dir / "version-2").glob("log.*"), key=lambda path: int(path.suffix[1:], 16)):
        for transaction in _transactions(path.read_bytes()):
            found[transaction.zxid] = transaction
    return [found[zxid] for zxid in sorted(found)]


def _transactions(content: bytes) -> Iterator[Transaction]:
    if len(content) < _FILE_HEADER.size:
        return
    magic, _, _ = _FILE_HEADER.unpack_from(content)
    assert magic == MAGIC, magic
    position = _FILE_HEADER.size
    while position + _RECORD_HEADER.size <= len(content):
        _, length = _RECORD_HEADER.unpack_from(content, position)
        start = position + _RECORD_HEADER.size
        position = start + length + 1
        if length <= 0 or position > len(content) or content[position - 1] != END_OF_RECORD:
            return  # the preallocated end, or a record being written
        yield _transaction(content[start:position - 1])


def _transaction(record: bytes) -> Transaction:
    session, _, zxid, time_ms, kind = _HEADER.unpack_from(record)
    body = _Reader(record[_HEADER.size:])
    changes: tuple[Change, ...] = ()
    if kind == MULTI:
        changes = _all_or_nothing([(body.integer(), body.buffer() or b"") for _ in range(body.integer())])
    elif kind in _WITH_PATH:
        changes = (_change(kind, body),)
    return Transaction(zxid, time_ms, session & (1 << 64) - 1, changes, kind == CREATE_SESSION,
                       kind == CLOSE_SESSION)


def _all_or_nothing(parts: list[tuple[int, bytes]]) -> tuple[Change, ...]:
    """A failed multi is in the log, too: its operations as far as they were fine, then errors."""
    if any(kind == ERROR for kind, _ in parts):
        return (Change("refused", "", None),) * len(parts)
    return tuple(_change(kind, _Reader(body)) for kind, body in parts)


def _change(kind: int, body: _Reader) -> Change:
    path = (body.buffer() or b"").decode()
    data = body.buffer() if kind in (*_CREATIONS, SET_DATA) else None
    return Change(_WITH_PATH[kind], path, data)


SUPER_SECRET = 0xB3415C00
_JAVA_MULTIPLIER, _JAVA_MASK = 0x5DEECE66D, (1 << 48) - 1


def session_password(session: int) -> bytes:
    """What a server gives to the client of this session: java.util.Random seeded by its id."""
    state = ((session ^ SUPER_SECRET) ^ _JAVA_MULTIPLIER) & _JAVA_MASK
    password = b""
    for _ in range(4):
        state = (state * _JAVA_MULTIPLIER + 0xB) & _JAVA_MASK
        password += (state >> 16).to_bytes(4, "little")
    return password
