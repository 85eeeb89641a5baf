"""Headers of record batches, format v2: read, walk, check and patch in place. PURE.

Runs in: storage (appends, recovery), front end (fetch position), helpers. Nobody owns state here; the buffer
belongs to the caller and only `patch_offset_and_epoch` and `restamp` write to it.

    byte  0 int64  base_offset             ┐ outside the CRC: the leader
          8 int32  batch_length (after it) │ patches offset and epoch
         12 int32  partition_leader_epoch  │ without reading the rest
         16 int8   magic = 2               ┘
         17 uint32 crc32c over bytes 21 to the end
         21 int16  attributes: bits 0-2 codec, 3 LogAppendTime, 4 transactional, 5 control, 6 delete horizon
         23 int32  last_offset_delta      27 int64 base_timestamp      35 int64 max_timestamp
         43 int64  producer_id            51 int16 producer_epoch      53 int32 base_sequence
         57 int32  record_count           61 records, one compressed block when the codec is not 0

Formats v0 and v1 share the first 17 bytes but for the meaning of 12-15 (their CRC); `storage.record.legacy`
reads them. Sizes in a buffer are hostile: every walk checks them against the end before it believes them.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from storage.record.errors import CorruptBatchError, UnsupportedFormatError

Buffer = bytes | bytearray | memoryview

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
BATCH_OVERHEAD: Final = 61
LOG_OVERHEAD: Final = 12
MAGIC_POSITION: Final = 16
CRC_POSITION: Final = 17
ATTRIBUTES_POSITION: Final = 21
MAX_TIMESTAMP_POSITION: Final = 35

MAGIC_V0: Final = 0
MAGIC_V1: Final = 1
MAGIC_V2: Final = 2
# Smallest whole entry of the log for each magic, log overhead included: a v0 message is crc, magic,
# attributes and two empty byte arrays (14 bytes); v1 adds a timestamp.
MIN_SIZE_BYTES: Final = (LOG_OVERHEAD + 14, LOG_OVERHEAD + 22, BATCH_OVERHEAD)

CODEC_MASK: Final = 0x07
TIMESTAMP_TYPE_BIT: Final = 0x08
TRANSACTIONAL_BIT: Final = 0x10
CONTROL_BIT: Final = 0x20
DELETE_HORIZON_BIT: Final = 0x40

CODEC_NONE: Final = 0
CODEC_GZIP: Final = 1
CODEC_SNAPPY: Final = 2
CODEC_LZ4: Final = 3
CODEC_ZSTD: Final = 4
CODEC_NAMES: Final = ("none", "gzip", "snappy", "lz4", "zstd")

NO_TIMESTAMP: Final = -1
NO_PRODUCER_ID: Final = -1
NO_PRODUCER_EPOCH: Final = -1
NO_SEQUENCE: Final = -1
NO_LEADER_EPOCH: Final = -1
SEQUENCE_MAX: Final = 0x7FFFFFFF
OFFSET_MAX: Final = 0x7FFFFFFFFFFFFFFF

_LENGTH_AND_MAGIC = struct.Struct(">8xi4xb")
_LENGTH = struct.Struct(">i")
_BASE_OFFSET = struct.Struct(">q")
_LEADER_EPOCH = struct.Struct(">i")
_CRC = struct.Struct(">I")
_ATTRIBUTES = struct.Struct(">h")
_TIMESTAMP = struct.Struct(">q")

assert HEADER.size == BATCH_OVERHEAD
assert _LENGTH_AND_MAGIC.size == MAGIC_POSITION + 1


class BatchHeader(NamedTuple):
    """The 13 fields of a v2 header, in wire order. Hot paths use HEADER.unpack_from and indices instead."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        return self.batch_length + LOG_OVERHEAD

    @property
    def last_offset(self) -> int:
        """Stays true after compaction removed records, and for a batch without any."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        return sequence_after(self.base_sequence, self.last_offset_delta)

    @property
    def codec(self) -> int:
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & TIMESTAMP_TYPE_BIT)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    @property
    def has_producer_id(self) -> bool:
        return self.producer_id > NO_PRODUCER_ID

    @property
    def has_delete_horizon(self) -> bool:
        """base_timestamp then holds the time from which tombstones may go, not a record's time."""
        return bool(self.attributes & DELETE_HORIZON_BIT)


class BatchExtent(NamedTuple):
    """Where one log entry lies: v2 batch, or v0/v1 message with its overhead."""

    position: int
    size_bytes: int
    magic: int


def sequence_after(sequence: int, increment: int) -> int:
    """Producer sequences wrap from 2147483647 to 0; NO_SEQUENCE stays."""
    if sequence == NO_SEQUENCE:
        return NO_SEQUENCE
    return (sequence + increment) & SEQUENCE_MAX


def read_header(view: Buffer, position: int = 0) -> BatchHeader:
    """The header at `position`; the caller knows that 61 bytes are there and that the magic is 2."""
    return BatchHeader._make(HEADER.unpack_from(view, position))


def read_extent(view: Buffer, position: int, end: int) -> BatchExtent | None:
    """Size and magic of the entry at `position`; None if `end` comes before the entry does.

    Raises CorruptBatchError for an unknown magic or a length smaller than that magic's header.
    """
    if end - position < LOG_OVERHEAD:
        return None
    if end - position <= MAGIC_POSITION:
        (length,) = _LENGTH.unpack_from(view, position + 8)
        if length < MIN_SIZE_BYTES[MAGIC_V0] - LOG_OVERHEAD:
            raise CorruptBatchError(position, f"batch length {length} is below every format's header")
        return None
    length, magic = _LENGTH_AND_MAGIC.unpack_from(view, position)
    if not MAGIC_V0 <= magic <= MAGIC_V2:
        raise CorruptBatchError(position, f"unknown magic {magic}")
    size_bytes = length + LOG_OVERHEAD
    if size_bytes < MIN_SIZE_BYTES[magic]:
        raise CorruptBatchError(position, f"batch length {length} is below the header of magic {magic}")
    if position + size_bytes > end:
        return None
    return BatchExtent(position, size_bytes, magic)


def iterate_extents(view: Buffer, position: int = 0, end: int | None = None,
                    *, allow_partial: bool = False) -> Iterator[BatchExtent]:
    """Every whole entry in [position, end), of any magic.

    A cut last entry raises CorruptBatchError, unless `allow_partial` (fetched data may end so: KIP-74).
    """
    end = len(view) if end is None else end
    while position < end:
        extent = read_extent(view, position, end)
        if extent is None:
            if allow_partial:
                return
            raise CorruptBatchError(position, f"only {end - position} bytes left of the last batch")
        yield extent
        position += extent.size_bytes


def iterate_headers(view: Buffer, position: int = 0, end: int | None = None,
                    *, allow_partial: bool = False) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of every v2 batch in [position, end); UnsupportedFormatError at an older one."""
    for extent in iterate_extents(view, position, end, allow_partial=allow_partial):
        if extent.magic != MAGIC_V2:
            raise UnsupportedFormatError(extent.position, f"message format v{extent.magic}")
        yield extent.position, read_header(view, extent.position)


def crc_is_valid(view: memoryview, position: int, size_bytes: int) -> bool:
    """Whether the v2 batch of `size_bytes` at `position` carries its own CRC-32C. Copies nothing."""
    (stored,) = _CRC.unpack_from(view, position + CRC_POSITION)
    return bool(crc32c(view[position + ATTRIBUTES_POSITION:position + size_bytes]) == stored)


def write_crc(view: memoryview, position: int, size_bytes: int) -> None:
    """Compute and store the CRC-32C of the batch; the last step of building or restamping one."""
    crc = crc32c(view[position + ATTRIBUTES_POSITION:position + size_bytes])
    _CRC.pack_into(view, position + CRC_POSITION, crc)


def patch_offset_and_epoch(view: memoryview, position: int, base_offset: int, leader_epoch: int) -> None:
    """What a leader stamps on each batch; both fields lie outside the CRC."""
    _BASE_OFFSET.pack_into(view, position, base_offset)
    _LEADER_EPOCH.pack_into(view, position + LOG_OVERHEAD, leader_epoch)


def restamp(view: memoryview, position: int, max_timestamp: int, log_append_time: bool) -> None:
    """Set timestamp type and max timestamp, and the CRC if either changed. Base timestamp stays as it is:

    with LogAppendTime every record's time is the max timestamp, whatever its delta says.
    """
    (attributes,) = _ATTRIBUTES.unpack_from(view, position + ATTRIBUTES_POSITION)
    (current,) = _TIMESTAMP.unpack_from(view, position + MAX_TIMESTAMP_POSITION)
    wanted = attributes | TIMESTAMP_TYPE_BIT if log_append_time else attributes & ~TIMESTAMP_TYPE_BIT
    if wanted == attributes and current == max_timestamp:
        return
    _ATTRIBUTES.pack_into(view, position + ATTRIBUTES_POSITION, wanted)
    _TIMESTAMP.pack_into(view, position + MAX_TIMESTAMP_POSITION, max_timestamp)
    (length,) = _LENGTH.unpack_from(view, position + 8)
    write_crc(view, position, length + LOG_OVERHEAD)
