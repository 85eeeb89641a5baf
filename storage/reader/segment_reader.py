"""Look-ups within one segment: offset to position, time to position, headers, aborted transactions.

Runs in: front end, storage. No state of its own: files come pinned from the partition's reader for the time
of a call. Reads index entries and 61-byte batch headers, never records.

Index entries are hints. They have no checksum, and after a clean stop nobody has looked at those of older
segments; one that does not lead to a batch as it says is passed over, and the search begins at the segment's
start. Believed blindly it would hide records from a consumer without a word.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from storage.errors import CorruptLogError
from storage.reader.file_pool import OpenFile
from storage.reader.index_file import (
    OFFSET_INDEX,
    OFFSET_INDEX_BY_POSITION,
    TIME_INDEX,
    TRANSACTION_INDEX,
    IndexFile,
)
from storage.record.batch import (
    BATCH_OVERHEAD,
    HEADER,
    LOG_OVERHEAD,
    MAGIC_POSITION,
    MAGIC_V2,
    MIN_SIZE_BYTES,
    NO_TIMESTAMP,
    BatchHeader,
)
from storage.record.legacy import LEGACY_HEADER_SIZE_BYTES, header_of_message

LOG: Final = ".log"
INDEX: Final = ".index"
TIMEINDEX: Final = ".timeindex"
TXNINDEX: Final = ".txnindex"

TRANSACTION_INDEX_VERSION: Final = 0
_RELATIVE_OFFSET_MAX: Final = (1 << 31) - 1
# A NamedTuple's own __new__ and _make cost twice as much, and there is a header for every fetch.
_new_header: Final = tuple.__new__
_unpack_header: Final = HEADER.unpack


class AbortedTransaction(NamedTuple):
    """As a Fetch response lists it."""

    producer_id: int
    first_offset: int


class TimeEntry(NamedTuple):
    """The largest timestamp up to some batch, and that batch's last offset."""

    timestamp: int
    offset: int


def read_batch_header(log: OpenFile, segment_base: int, position: int, limit: int | None) -> BatchHeader:
    """The header of the batch at `position`; v0 and v1 as `legacy.header_of_message` gives them.

    Raises CorruptLogError if no batch of this segment can begin there, or it reaches beyond `limit`.
    """
    data = log.read(BATCH_OVERHEAD, position)
    if len(data) < LEGACY_HEADER_SIZE_BYTES:
        raise CorruptLogError(log.path, position, f"{len(data)} bytes where a batch header should be")
    magic = data[MAGIC_POSITION]
    if magic == MAGIC_V2 and len(data) == BATCH_OVERHEAD:
        header = _new_header(BatchHeader, _unpack_header(data))
    elif magic < MAGIC_V2:
        header = header_of_message(data)
    else:
        raise CorruptLogError(log.path, position, f"magic {magic} in {len(data)} bytes of header")
    size_bytes = header[1] + LOG_OVERHEAD
    if size_bytes < MIN_SIZE_BYTES[magic] or (limit is not None and position + size_bytes > limit):
        raise CorruptLogError(log.path, position, f"batch of {size_bytes} bytes, readable end {limit}")
    last_offset_delta = header[6]
    relative_offset = header[0] + last_offset_delta - segment_base
    if last_offset_delta < 0 or not 0 <= relative_offset <= _RELATIVE_OFFSET_MAX:
        raise CorruptLogError(log.path, position, f"batch with last offset {header.last_offset}")
    return header


class SegmentReader:
    """open_file(suffix) gives the pinned file, or None if the segment has no such index."""

    __slots__ = ("base_offset", "_open_file")

    def __init__(self, base_offset: int, open_file: Callable[[str], OpenFile | None]) -> None:
        self.base_offset = base_offset
        self._open_file = open_file

    # -- batches

    def position_of(self, log: OpenFile, offset: int, limit: int) -> int | None:
        """Where the first batch begins whose last offset is at least `offset`; None if none before `limit`."""
        position = self.indexed_position(offset)
        if position:
            header = self._batch_led_to(log, position, offset, limit)
            if header is None:
                position = 0
            elif header.last_offset >= offset:
                return position
            else:
                position += header.size_bytes
        while position < limit:
            header = read_batch_header(log, self.base_offset, position, limit)
            if header.last_offset >= offset:
                return position
            position += header.size_bytes
        return None

    def start_position(self, log: OpenFile, offset: int) -> int:
        """A batch boundary at or before the first batch that reaches `offset`, near it if the index is right."""
        position = self.indexed_position(offset)
        if position and self._batch_led_to(log, position, offset, log.size_bytes()) is None:
            return 0
        return position

    def _batch_led_to(self, log: OpenFile, position: int, offset: int, limit: int) -> BatchHeader | None:
        """The batch that an index entry for `offset` or less names; None if the entry cannot be right."""
        try:
            header = read_batch_header(log, self.base_offset, position, limit)
        except CorruptLogError:
            return None
        return header if header.base_offset <= offset else None

    # -- offset index

    def indexed_position(self, offset: int) -> int:
        """Position of the index entry at or below `offset`: a batch begins there, if the entry is right. 0 if
        there is none."""
        file = self._open_file(INDEX)
        if file is None:
            return 0
        with file:
            index = IndexFile(file, OFFSET_INDEX)
            slot = index.last_at_or_below(min(offset - self.base_offset, _RELATIVE_OFFSET_MAX))
            return max(index.entry(slot)[1], 0) if slot >= 0 else 0

    def last_indexed_position(self, log: OpenFile, limit: int) -> int:
        """Position of the last index entry, a batch boundary; 0 if there is none that can be right."""
        file = self._open_file(INDEX)
        if file is None:
            return 0
        with file:
            entry = IndexFile(file, OFFSET_INDEX).last_entry()
        if entry is None or entry[1] <= 0:
            return 0
        led_to = self._batch_led_to(log, entry[1], self.base_offset + entry[0], limit)
        return 0 if led_to is None else entry[1]

    def upper_bound_offset(self, position: int) -> int | None:
        """An offset that lies at or behind `position`: of the first index entry there; None if none is."""
        file = self._open_file(INDEX)
        if file is None:
            return None
        with file:
            index = IndexFile(file, OFFSET_INDEX_BY_POSITION)
            slot = index.first_at_or_above(position)
            return self.base_offset + index.entry(slot)[0] if slot < index.entry_count else None

    # -- time index

    def is_true(self, log: OpenFile, entry: TimeEntry) -> bool:
        """Whether the batch that holds the entry's offset has its timestamp, as with every honest entry."""
        if not 0 <= entry.offset - self.base_offset <= _RELATIVE_OFFSET_MAX:
            return False
        limit = log.size_bytes()
        try:
            position = self.position_of(log, entry.offset, limit)
            if position is None:
                return False
            header = read_batch_header(log, self.base_offset, position, limit)
        except CorruptLogError:
            return False
        return header.base_offset <= entry.offset and header.max_timestamp == entry.timestamp

    def last_time_entry(self) -> TimeEntry | None:
        file = self._open_file(TIMEINDEX)
        if file is None:
            return None
        with file:
            entry = IndexFile(file, TIME_INDEX).last_entry()
            return TimeEntry(entry[0], self.base_offset + entry[1]) if entry else None

    def time_entry_at_or_below(self, timestamp: int) -> TimeEntry:
        """(NO_TIMESTAMP, base offset) if the segment's first entry is later already."""
        file = self._open_file(TIMEINDEX)
        if file is None:
            return TimeEntry(NO_TIMESTAMP, self.base_offset)
        with file:
            index = IndexFile(file, TIME_INDEX)
            slot = index.last_at_or_below(timestamp)
            if slot < 0:
                return TimeEntry(NO_TIMESTAMP, self.base_offset)
            entry = index.entry(slot)
            return TimeEntry(entry[0], self.base_offset + entry[1])

    def largest_timestamp_from(self, log: OpenFile, position: int, limit: int) -> TimeEntry | None:
        """Of the batches in [position, limit), by their headers: the first with the largest timestamp."""
        largest: TimeEntry | None = None
        while position < limit:
            header = read_batch_header(log, self.base_offset, position, limit)
            if header.max_timestamp > (NO_TIMESTAMP if largest is None else largest.timestamp):
                largest = TimeEntry(header.max_timestamp, header.last_offset)
            position += header.size_bytes
        return largest

    # -- transaction index

    def collect_aborted(self, fetch_offset: int, end_offset: int,
                        found: list[AbortedTransaction]) -> bool:
        """Add the aborted transactions that overlap [fetch_offset, end_offset); True: later segments add none.

        Entries are ordered by the offset of their abort marker; one whose last stable offset had reached
        `end_offset` proves that all later ones began behind it.
        """
        file = self._open_file(TXNINDEX)
        if file is None:
            return False
        with file:
            index = IndexFile(file, TRANSACTION_INDEX)
            for slot in range(index.first_at_or_above(fetch_offset), index.entry_count):
                version, producer_id, first_offset, _, last_stable_offset = index.entry(slot)
                if version > TRANSACTION_INDEX_VERSION:
                    raise CorruptLogError(file.path, slot * 34, f"transaction index version {version}")
                if first_offset < end_offset:
                    found.append(AbortedTransaction(producer_id, first_offset))
                if last_stable_offset >= end_offset:
                    return True
            return False
