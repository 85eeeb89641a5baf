"""`%020d.index`: from offset to byte position in a segment, sparse. The append side.

Runs in: storage (writer thread), owned by its segment. Readers elsewhere (`storage.reader`) only read.

Entry, 8 bytes: int32 offset relative to the segment's base, int32 position. Offsets strictly ascend.
The file is never preallocated, unlike Kafka's: its length is its content, for readers in other processes
and after a crash. Entries gather in memory (`append`) and go out in one write per group (`write_pending`).
"""
from __future__ import annotations

import struct
from bisect import bisect_right
from typing import Final, NamedTuple

from storage.log.append_file import AppendFile

ENTRY_SIZE_BYTES: Final = 8
RELATIVE_OFFSET_MAX: Final = (1 << 31) - 1
_ENTRY: Final = struct.Struct(">ii")
_pack = _ENTRY.pack


class OffsetPosition(NamedTuple):
    offset: int
    position: int


OffsetIndexState = tuple[int, int, int, bytes]


class OffsetIndex:
    """entry_count and last_offset include what is pending; last_offset of an empty index is the base."""

    __slots__ = ("base_offset", "file", "entry_count", "entry_count_max", "last_offset", "pending")

    def __init__(self, file: AppendFile, base_offset: int, index_size_bytes_max: int) -> None:
        """Takes the file's length as its content; `problem` says whether that can be right."""
        self.file = file
        self.base_offset = base_offset
        self.entry_count_max = index_size_bytes_max // ENTRY_SIZE_BYTES
        self.pending = bytearray()
        self.entry_count = file.size_bytes // ENTRY_SIZE_BYTES
        self.last_offset = self.last_entry().offset

    @property
    def is_full(self) -> bool:
        return self.entry_count >= self.entry_count_max

    def append(self, offset: int, position: int) -> None:
        """The caller gives ascending offsets that fit, and checks `is_full`."""
        self.pending += _pack(offset - self.base_offset, position)
        self.entry_count += 1
        self.last_offset = offset

    def write_pending(self) -> None:
        if self.pending:
            self.file.append((self.pending,))
            self.pending = bytearray()

    def entry(self, index: int) -> OffsetPosition:
        """Entry of the file (not a pending one)."""
        relative, position = _ENTRY.unpack(self.file.read(ENTRY_SIZE_BYTES, index * ENTRY_SIZE_BYTES))
        return OffsetPosition(self.base_offset + relative, position)

    def last_entry(self) -> OffsetPosition:
        """Of the file; the segment's start if it has none."""
        count = self.file.size_bytes // ENTRY_SIZE_BYTES
        return self.entry(count - 1) if count else OffsetPosition(self.base_offset, 0)

    def lookup(self, offset: int) -> OffsetPosition:
        """The last entry at or below `offset`, or the segment's start."""
        index = self._floor(offset)
        return self.entry(index) if index >= 0 else OffsetPosition(self.base_offset, 0)

    def last_before(self, position: int) -> OffsetPosition:
        """The last entry of the file at or below `position`, or the segment's start."""
        count = self.file.size_bytes // ENTRY_SIZE_BYTES
        behind = bisect_right(range(count), position, key=lambda index: self.entry(index).position)
        return self.entry(behind - 1) if behind else OffsetPosition(self.base_offset, 0)

    def problem(self, log_size_bytes: int) -> str | None:
        """What cannot be right about the file; None if nothing shows.

        Looks at length and last entry only, which finds the usual damage: a torn entry, zeros at the end
        (a preallocated file that was never trimmed), positions behind the end of the log.
        """
        if self.file.size_bytes % ENTRY_SIZE_BYTES:
            return f"length {self.file.size_bytes} is no multiple of {ENTRY_SIZE_BYTES}"
        if not self.entry_count:
            return None
        last = self.entry(self.entry_count - 1)
        if last.offset <= self.base_offset and self.entry_count > 1:
            return f"last entry has offset {last.offset}, not above the base {self.base_offset}"
        if not 0 <= last.position < max(log_size_bytes, 1):
            return f"last entry points to byte {last.position} of a log of {log_size_bytes} bytes"
        return None

    def truncate_to(self, offset: int) -> None:
        """Keep entries below `offset`; nothing may be pending."""
        index = self._floor(offset)
        keep = index if index >= 0 and self.entry(index).offset == offset else index + 1
        self._keep(keep)

    def replace(self, entries: bytes) -> None:
        """Recovery: these entries instead of what is there. The file exists afterwards; entries that differ
        from it are pending, so that on a full disk an index that is right already needs no room."""
        self.file.open()
        self._keep(common_entries(self.file.read(len(entries), 0), entries, ENTRY_SIZE_BYTES))
        self.extend(entries[self.file.size_bytes:])

    def extend(self, entries: bytes) -> None:
        """Recovery: whole entries at the end, pending."""
        if entries:
            self.pending += entries
            self.entry_count += len(entries) // ENTRY_SIZE_BYTES
            self.last_offset = self.base_offset + _ENTRY.unpack_from(entries, len(entries) - ENTRY_SIZE_BYTES)[0]

    def state(self) -> OffsetIndexState:
        """What `restore` needs to forget everything appended from now on."""
        return (self.entry_count, self.last_offset, self.file.size_bytes, bytes(self.pending))

    def restore(self, state: OffsetIndexState) -> None:
        self.entry_count, self.last_offset, size_bytes, pending = state
        self.pending = bytearray(pending)
        self.file.cut(size_bytes)

    def _keep(self, count: int) -> None:
        """The first entries of the file, nothing pending."""
        self.file.cut(count * ENTRY_SIZE_BYTES)
        self.pending = bytearray()
        self.entry_count = count
        self.last_offset = self.last_entry().offset

    def _floor(self, offset: int) -> int:
        """Index of the last entry of the file at or below `offset`, -1 if there is none."""
        low, high = -1, self.file.size_bytes // ENTRY_SIZE_BYTES - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.entry(middle).offset <= offset:
                low = middle
            else:
                high = middle - 1
        return low


def common_entries(first: bytes, second: bytes, entry_size_bytes: int) -> int:
    """How many whole entries both begin with."""
    if second.startswith(first):
        return len(first) // entry_size_bytes
    same = next(index for index, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return same // entry_size_bytes
