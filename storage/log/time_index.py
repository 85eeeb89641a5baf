"""`%020d.timeindex`: the largest timestamp so far and where it was, sparse. The append side.

Runs in: storage (writer thread), owned by its segment. Readers elsewhere (`storage.reader`) only read.

Entry, 12 bytes: int64 timestamp, int32 offset relative to the segment's base: the last offset of the batch
that brought this largest timestamp. Timestamps strictly ascend. A segment that is rolled, closed or
recovered ends with its largest timestamp; retention and look-ups by time rely on that.
Never preallocated; see offset_index.py.
"""
from __future__ import annotations

import struct
from typing import Final, NamedTuple

from storage.log.append_file import AppendFile
from storage.log.offset_index import common_entries
from storage.record.batch import NO_TIMESTAMP

ENTRY_SIZE_BYTES: Final = 12
_ENTRY: Final = struct.Struct(">qi")
_pack = _ENTRY.pack


class TimestampOffset(NamedTuple):
    timestamp: int
    offset: int


TimeIndexState = tuple[int, TimestampOffset, int, bytes]


class TimeIndex:
    """entry_count and last include what is pending; an empty index has timestamp -1."""

    __slots__ = ("base_offset", "file", "entry_count", "entry_count_max", "last", "pending")

    def __init__(self, file: AppendFile, base_offset: int, index_size_bytes_max: int) -> None:
        self.file = file
        self.base_offset = base_offset
        self.entry_count_max = index_size_bytes_max // ENTRY_SIZE_BYTES
        self.pending = bytearray()
        self.entry_count = file.size_bytes // ENTRY_SIZE_BYTES
        self.last = self._last_entry()

    @property
    def is_full(self) -> bool:
        """One entry is kept free for the one that ends the segment."""
        return self.entry_count >= self.entry_count_max - 1

    def maybe_append(self, timestamp: int, offset: int) -> None:
        """Only a larger timestamp is worth an entry. The caller checks `is_full` unless the segment ends."""
        if timestamp > self.last[0]:
            self.pending += _pack(timestamp, offset - self.base_offset)
            self.entry_count += 1
            self.last = TimestampOffset(timestamp, offset)

    def write_pending(self) -> None:
        if self.pending:
            self.file.append((self.pending,))
            self.pending = bytearray()

    def entry(self, index: int) -> TimestampOffset:
        """Entry of the file (not a pending one)."""
        timestamp, relative = _ENTRY.unpack(self.file.read(ENTRY_SIZE_BYTES, index * ENTRY_SIZE_BYTES))
        return TimestampOffset(timestamp, self.base_offset + relative)

    def _last_entry(self) -> TimestampOffset:
        count = self.file.size_bytes // ENTRY_SIZE_BYTES
        return self.entry(count - 1) if count else TimestampOffset(NO_TIMESTAMP, self.base_offset)

    def problem(self, next_offset: int) -> str | None:
        """What cannot be right about the file; None if nothing shows. next_offset: where the segment ends."""
        if self.file.size_bytes % ENTRY_SIZE_BYTES:
            return f"length {self.file.size_bytes} is no multiple of {ENTRY_SIZE_BYTES}"
        if not self.entry_count:
            return None
        first, last = self.entry(0), self.last
        if last.timestamp < first.timestamp:
            return f"last timestamp {last.timestamp} is below the first, {first.timestamp}"
        if not self.base_offset <= last.offset < next_offset:
            return f"last entry has offset {last.offset} outside [{self.base_offset}, {next_offset})"
        return None

    def truncate_to(self, offset: int) -> None:
        """Keep entries below `offset`: both columns ascend. Nothing may be pending."""
        low, high = 0, self.file.size_bytes // ENTRY_SIZE_BYTES
        while low < high:
            middle = (low + high) // 2
            if self.entry(middle).offset < offset:
                low = middle + 1
            else:
                high = middle
        self._keep(low)

    def replace(self, entries: bytes) -> None:
        """Recovery: these entries instead of what is there, as OffsetIndex.replace."""
        self.file.open()
        self._keep(common_entries(self.file.read(len(entries), 0), entries, ENTRY_SIZE_BYTES))
        self.extend(entries[self.file.size_bytes:])

    def extend(self, entries: bytes) -> None:
        """Recovery: whole entries at the end, pending."""
        if entries:
            self.pending += entries
            self.entry_count += len(entries) // ENTRY_SIZE_BYTES
            timestamp, relative = _ENTRY.unpack_from(entries, len(entries) - ENTRY_SIZE_BYTES)
            self.last = TimestampOffset(timestamp, self.base_offset + relative)

    def state(self) -> TimeIndexState:
        """What `restore` needs to forget everything appended from now on."""
        return (self.entry_count, self.last, self.file.size_bytes, bytes(self.pending))

    def restore(self, state: TimeIndexState) -> None:
        self.entry_count, self.last, size_bytes, pending = state
        self.pending = bytearray(pending)
        self.file.cut(size_bytes)

    def _keep(self, count: int) -> None:
        """The first entries of the file, nothing pending."""
        self.file.cut(count * ENTRY_SIZE_BYTES)
        self.pending = bytearray()
        self.entry_count = count
        self.last = self._last_entry()
