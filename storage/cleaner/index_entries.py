"""Offset and time index of a segment that is written from its first byte to its last. PURE.

Runs in: the cleaner's helper process; one object per cleaned segment. The rule is that of an append
(storage/FORMAT.md, "Indexes") taken batch by batch, as recovery takes it.
"""
from __future__ import annotations

import struct
from typing import Final

from storage.record.batch import NO_TIMESTAMP
from storage.record.errors import CorruptBatchError

OFFSET_ENTRY: Final = struct.Struct(">ii")
TIME_ENTRY: Final = struct.Struct(">qi")
# Positions and offsets count from the segment's base in 31 bits.
RELATIVE_MAX: Final = (1 << 31) - 1


class IndexEntries:
    """offset_index, time_index: the files' bytes, whole after `finish`."""

    __slots__ = ("offset_index", "time_index", "max_timestamp", "_base_offset", "_interval_bytes",
                 "_size_bytes_max", "_bytes_since_entry", "_max_timestamp_offset", "_last_time")

    def __init__(self, base_offset: int, interval_bytes: int, size_bytes_max: int) -> None:
        """interval_bytes: index.interval.bytes. size_bytes_max: segment.index.bytes."""
        self.offset_index = bytearray()
        self.time_index = bytearray()
        self.max_timestamp = NO_TIMESTAMP
        self._base_offset = base_offset
        self._interval_bytes = interval_bytes
        self._size_bytes_max = size_bytes_max
        self._bytes_since_entry = 0
        self._max_timestamp_offset = base_offset
        self._last_time = NO_TIMESTAMP

    def add(self, position: int, size_bytes: int, last_offset: int, max_timestamp: int) -> None:
        """A batch begins at `position`. CorruptBatchError if it lies beyond what indexes can say."""
        relative = last_offset - self._base_offset
        if not 0 <= relative <= RELATIVE_MAX or position > RELATIVE_MAX - size_bytes:
            raise CorruptBatchError(position, f"offset {last_offset} is too far from the segment's base "
                                    f"{self._base_offset}, or the segment too large")
        if max_timestamp > self.max_timestamp:
            self.max_timestamp, self._max_timestamp_offset = max_timestamp, last_offset
        if self._bytes_since_entry > self._interval_bytes:
            self._add_entries(relative, position)
            self._bytes_since_entry = 0
        self._bytes_since_entry += size_bytes

    def _add_entries(self, relative: int, position: int) -> None:
        """Not beyond the size of an index: a segment with a sparser one is as good."""
        if len(self.offset_index) + OFFSET_ENTRY.size <= self._size_bytes_max:
            self.offset_index += OFFSET_ENTRY.pack(relative, position)
        if len(self.time_index) + 2 * TIME_ENTRY.size <= self._size_bytes_max:
            self._add_time()

    def _add_time(self) -> None:
        if self.max_timestamp > self._last_time:
            self.time_index += TIME_ENTRY.pack(self.max_timestamp, self._max_timestamp_offset - self._base_offset)
            self._last_time = self.max_timestamp

    def finish(self) -> None:
        """An ended segment's time index ends with its largest timestamp."""
        self._add_time()
