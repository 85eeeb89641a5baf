"""Walk the batch headers of a segment file without reading the records.

Runs in: storage (loading, truncation), helpers. No state; the file is only read.

A chunk of 64 KiB serves some 60 small batches with one pread; a batch that is larger than the rest of the
chunk is jumped over, so a walk over 1 MB batches reads one chunk for each. Checksums are not looked at: this
is for bytes that are trusted; recovery verifies with the scan in `storage.helpers`.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from storage.record.batch import (
    HEADER,
    LOG_OVERHEAD,
    MAGIC_POSITION,
    MAGIC_V1,
    MAGIC_V2,
    MIN_SIZE_BYTES,
    NO_TIMESTAMP,
    BatchHeader,
)

CHUNK_SIZE_BYTES: Final = 64 << 10
_HEADER_SIZE_BYTES: Final = HEADER.size
V1_TIMESTAMP_POSITION: Final = 18  # offset, size, crc, magic and attributes come before it
# Below this no entry of any format fits.
_ENTRY_SIZE_BYTES_MIN: Final = MIN_SIZE_BYTES[0]

Read = Callable[[int, int], bytes]


class WalkedBatch(NamedTuple):
    """header: the 13 fields of a v2 batch; None for formats v0 and v1, which tell only their last offset."""

    position: int
    size_bytes: int
    magic: int
    last_offset: int
    max_timestamp: int
    header: BatchHeader | None

    @property
    def base_offset(self) -> int:
        return self.last_offset if self.header is None else self.header.base_offset


def walk_batches(read: Read, position: int, end: int) -> Iterator[WalkedBatch]:
    """Every whole batch in [position, end); stops before the first that is cut or cannot be one.

    read(size_bytes, position) gives up to that many bytes, less only at the end of the file.
    """
    while end - position >= _ENTRY_SIZE_BYTES_MIN:
        chunk = read(min(CHUNK_SIZE_BYTES, end - position), position)
        used = 0
        while len(chunk) - used >= _HEADER_SIZE_BYTES or position + len(chunk) >= end:
            batch = _batch_at(chunk, used, position, end)
            if batch is None:
                return
            yield batch
            used += batch.size_bytes
            if used >= len(chunk):
                break
        if used == 0:
            return
        position += used


def _batch_at(chunk: bytes, used: int, chunk_position: int, end: int) -> WalkedBatch | None:
    if len(chunk) - used <= MAGIC_POSITION:
        return None
    magic = chunk[used + MAGIC_POSITION]
    length = int.from_bytes(chunk[used + 8:used + 12], "big", signed=True)
    size_bytes = length + LOG_OVERHEAD
    position = chunk_position + used
    if magic > MAGIC_V2 or size_bytes < MIN_SIZE_BYTES[magic] or position + size_bytes > end:
        return None
    if magic < MAGIC_V2:
        return _legacy_batch(chunk, used, position, size_bytes, magic)
    if len(chunk) - used < _HEADER_SIZE_BYTES:
        return None
    header = BatchHeader._make(HEADER.unpack_from(chunk, used))
    return WalkedBatch(position, size_bytes, magic, header.base_offset + header.last_offset_delta,
                       header.max_timestamp, header)


def _legacy_batch(chunk: bytes, used: int, position: int, size_bytes: int, magic: int) -> WalkedBatch | None:
    """A v0 or v1 message; a compressed v1 wrapper carries the largest timestamp of what it wraps."""
    timestamp = NO_TIMESTAMP
    if magic == MAGIC_V1:
        field = chunk[used + V1_TIMESTAMP_POSITION:used + V1_TIMESTAMP_POSITION + 8]
        if len(field) < 8:
            return None
        timestamp = int.from_bytes(field, "big", signed=True)
    offset = int.from_bytes(chunk[used:used + 8], "big", signed=True)
    return WalkedBatch(position, size_bytes, magic, offset, timestamp, None)


def batch_at(read: Read, position: int, end: int) -> WalkedBatch | None:
    """The batch at `position`, read with its header alone; None if none can begin there."""
    if not 0 <= position < end:
        return None
    return _batch_at(read(_HEADER_SIZE_BYTES, position), 0, position, end)


def first_batch(read: Read, end: int) -> WalkedBatch | None:
    """The batch at the start of the file."""
    return batch_at(read, 0, end)


def find_batch_of(read: Read, offset: int, position: int, end: int) -> WalkedBatch | None:
    """The first batch whose last offset is at or above `offset`, walking from `position`."""
    return next((batch for batch in walk_batches(read, position, end) if batch.last_offset >= offset), None)
