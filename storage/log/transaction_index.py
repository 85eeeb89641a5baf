"""`%020d.txnindex`: the aborted transactions that ended in a segment. The append side.

Runs in: storage (writer thread), owned by its segment. Readers elsewhere (`storage.reader`) only read.

Entry, 34 bytes: int16 version 0, int64 producer id, int64 first offset, int64 last offset (of the abort
marker), int64 last stable offset after the abort. Ordered by last offset. There is no file until the first
aborted transaction of the segment.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from storage.errors import CorruptLogError
from storage.log.append_file import AppendFile
from storage.log.producer_state import CompletedTxn

VERSION: Final = 0
_ENTRY: Final = struct.Struct(">hqqqq")
ENTRY_SIZE_BYTES: Final = _ENTRY.size
assert ENTRY_SIZE_BYTES == 34


class AbortedTxn(NamedTuple):
    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class TransactionIndex:
    """pending: entries to go out with the group's write."""

    __slots__ = ("base_offset", "file", "pending")

    def __init__(self, file: AppendFile, base_offset: int) -> None:
        self.file = file
        self.base_offset = base_offset
        self.pending = bytearray()

    def append(self, txn: CompletedTxn) -> None:
        self.pending += encode_aborted_txn(txn)

    def write_pending(self) -> None:
        if self.pending:
            self.file.append((self.pending,))
            self.pending = bytearray()

    def entries(self) -> list[AbortedTxn]:
        """All whole entries of the file. Raises CorruptLogError for a version of the future."""
        if not self.file.size_bytes:
            return []
        data = self.file.read(self.file.size_bytes // ENTRY_SIZE_BYTES * ENTRY_SIZE_BYTES, 0)
        entries = []
        for index, (version, *fields) in enumerate(_ENTRY.iter_unpack(data)):
            if version > VERSION:
                raise CorruptLogError(self.file.path, index * ENTRY_SIZE_BYTES,
                                      f"aborted transaction of version {version}")
            entries.append(AbortedTxn(*fields))
        return entries

    def problem(self) -> str | None:
        """What cannot be right about the file; None if nothing shows."""
        if self.file.size_bytes % ENTRY_SIZE_BYTES:
            return f"length {self.file.size_bytes} is no multiple of {ENTRY_SIZE_BYTES}"
        for entry in self.entries():
            if entry.last_offset < self.base_offset:
                return f"a transaction ends at {entry.last_offset}, before the base {self.base_offset}"
        return None

    def truncate_to(self, offset: int) -> None:
        """Keep transactions whose marker lies below `offset`."""
        kept = 0
        for entry in self.entries():
            if entry.last_offset >= offset:
                break
            kept += 1
        self.restore(kept * ENTRY_SIZE_BYTES)

    def replace(self, txns: Iterable[CompletedTxn]) -> None:
        """Recovery: the aborted ones of these instead of what is there."""
        self.restore(0)
        self.extend(txns)

    def extend(self, txns: Iterable[CompletedTxn]) -> None:
        """Recovery: the aborted ones of these at the end, written at once."""
        for txn in txns:
            if txn.is_aborted:
                self.append(txn)
        self.write_pending()

    def restore(self, size_bytes: int) -> None:
        """Forget everything appended since the file had this size; an empty one is no file."""
        self.pending = bytearray()
        if size_bytes:
            self.file.cut(size_bytes)
        else:
            self.file.remove()


def encode_aborted_txn(txn: CompletedTxn) -> bytes:
    return _ENTRY.pack(VERSION, txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset)
