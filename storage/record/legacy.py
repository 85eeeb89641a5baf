"""Message formats v0 and v1, read only: header, checksum, records behind a compressed wrapper. PURE.

Runs in: helper processes (recovery, conversion, time look-ups), front end (old segments' headers). No state.

    0 int64 offset   8 int32 size   12 uint32 crc32 from byte 16 to the end
    16 int8 magic   17 int8 attributes
    v0: 18 int32 key length (-1), key, int32 value length (-1), value
    v1: 18 int64 timestamp, then as v0 from 26

A compressed message is a wrapper whose value is a message set. Inner offsets are absolute in v0; in v1 they
are relative, and the wrapper's offset is that of the last inner message (0 from some old librdkafka: then
they count from 0). New writes are always v2, so nothing here writes but the builder that tests use.
"""
from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from storage.record.batch import (
    CODEC_LZ4,
    CODEC_MASK,
    CODEC_NONE,
    CODEC_ZSTD,
    LOG_OVERHEAD,
    MAGIC_V0,
    MAGIC_V1,
    MIN_SIZE_BYTES,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    TIMESTAMP_TYPE_BIT,
    BatchHeader,
    Buffer,
    iterate_extents,
    read_extent,
)
from storage.record.compression import compress, decompress
from storage.record.errors import CorruptBatchError, InvalidRecordsError, UnsupportedFormatError
from storage.record.records import Record

LEGACY_HEADER: Final = struct.Struct(">qiIbb")
# As much of a message as `header_of_message` looks at: no whole message is shorter.
LEGACY_HEADER_SIZE_BYTES: Final = MIN_SIZE_BYTES[MAGIC_V0]
_TIMESTAMP = struct.Struct(">q")
_INT32 = struct.Struct(">i")
_CRC_START: Final = 16
_TIMESTAMP_POSITION: Final = 18
_FIELDS_POSITION: Final = (18, 26)


class LegacyMessage(NamedTuple):
    """One message or wrapper. size_bytes includes the 12 bytes of log overhead; timestamp -1 in v0."""

    position: int
    size_bytes: int
    offset: int
    crc: int
    magic: int
    attributes: int
    timestamp: int

    @property
    def codec(self) -> int:
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        return self.magic > MAGIC_V0 and bool(self.attributes & TIMESTAMP_TYPE_BIT)


def read_message(view: Buffer, position: int, end: int) -> LegacyMessage:
    """The message at `position`; CorruptBatchError if it is not whole, UnsupportedFormatError for v2."""
    extent = read_extent(view, position, end)
    if extent is None:
        raise CorruptBatchError(position, f"message cut off after {end - position} bytes")
    if extent.magic > MAGIC_V1:
        raise UnsupportedFormatError(position, f"message format v{extent.magic}")
    header = header_of_message(view, position)
    return LegacyMessage(position, extent.size_bytes, header.base_offset, header.crc, header.magic,
                         header.attributes, header.max_timestamp)


def header_of_message(view: Buffer, position: int = 0) -> BatchHeader:
    """The first 26 bytes of a message as the fields a v2 header would have; nothing is checked.

    base_offset is the *last* offset (all that a wrapper says), record_count is unknown and given as -1.
    Attribute bits 0-3 mean the same in every format.
    """
    offset, size, crc, magic, attributes = LEGACY_HEADER.unpack_from(view, position)
    timestamp = NO_TIMESTAMP
    if magic == MAGIC_V1:
        (timestamp,) = _TIMESTAMP.unpack_from(view, position + _TIMESTAMP_POSITION)
    return BatchHeader(offset, size, NO_LEADER_EPOCH, magic, crc, attributes, 0, timestamp, timestamp,
                       NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE, -1)


def legacy_crc_is_valid(view: memoryview, position: int, size_bytes: int) -> bool:
    (stored,) = struct.unpack_from(">I", view, position + LOG_OVERHEAD)
    return bool(zlib.crc32(view[position + _CRC_START:position + size_bytes]) == stored)


def iterate_legacy_records(view: Buffer, position: int = 0, *,
                           output_size_bytes_max: int) -> Iterator[Record]:
    """The records of the message at `position`: itself, or those inside the wrapper.

    Raises InvalidRecordsError for damage inside; the checksum is the caller's to check.
    """
    message = read_message(view, position, len(view))
    key, value = _key_and_value(view, message)
    if message.codec == CODEC_NONE:
        yield Record(message.offset, message.timestamp, key, value)
        return
    if message.codec >= CODEC_ZSTD:
        raise InvalidRecordsError(position, f"compression type {message.codec} in message format "
                                            f"v{message.magic}")
    if value is None:
        raise InvalidRecordsError(position, "compressed message without a value")
    inner = decompress(message.codec, value, output_size_bytes_max,
                       ignore_lz4_header_checksum=message.magic == MAGIC_V0)
    yield from _inner_records(inner, message)


def _inner_records(inner: Buffer, wrapper: LegacyMessage) -> Iterator[Record]:
    """A message cut off at the end of the set is dropped in silence, as Java does."""
    messages = [read_message(inner, extent.position, extent.position + extent.size_bytes)
                for extent in iterate_extents(inner, allow_partial=True)]
    if not messages:
        raise InvalidRecordsError(wrapper.position, "compressed message without inner messages")
    first_offset = _offset_to_add(wrapper, messages[-1].offset)
    for message in messages:
        if message.codec != CODEC_NONE:
            raise InvalidRecordsError(wrapper.position, "compressed message inside a compressed message")
        key, value = _key_and_value(inner, message)
        timestamp = message.timestamp
        if message.magic == MAGIC_V1 and wrapper.is_log_append_time:
            timestamp = wrapper.timestamp
        yield Record(message.offset + first_offset, timestamp, key, value)


def _offset_to_add(wrapper: LegacyMessage, last_inner_offset: int) -> int:
    if wrapper.magic == MAGIC_V0 or wrapper.offset == 0:
        return 0
    if wrapper.offset < last_inner_offset:
        raise InvalidRecordsError(
            wrapper.position, f"wrapper offset {wrapper.offset} below inner offset {last_inner_offset}")
    return wrapper.offset - last_inner_offset


def _key_and_value(view: Buffer, message: LegacyMessage) -> tuple[bytes | None, bytes | None]:
    end = message.position + message.size_bytes
    key, cursor = _field(view, message.position + _FIELDS_POSITION[message.magic], end)
    value, cursor = _field(view, cursor, end)
    if cursor != end:
        raise InvalidRecordsError(message.position, f"{end - cursor} bytes behind the value")
    return key, value


def _field(view: Buffer, position: int, end: int) -> tuple[bytes | None, int]:
    start = position + _INT32.size
    if start > end:
        raise InvalidRecordsError(position, "field length cut off")
    (size,) = _INT32.unpack_from(view, position)
    if size < 0:
        return None, start
    if start + size > end:
        raise InvalidRecordsError(position, f"field of {size} bytes, {end - start} left in the message")
    return bytes(view[start:start + size]), start + size


def build_message(record: Record, *, magic: int, attributes: int = 0) -> bytes:
    """One v0 or v1 message; with a codec in `attributes`, `record.value` must be compressed already."""
    fields = b"".join(_INT32.pack(-1) if data is None else _INT32.pack(len(data)) + data
                      for data in (record.key, record.value))
    timestamp = _TIMESTAMP.pack(record.timestamp) if magic == MAGIC_V1 else b""
    checked = struct.pack(">bb", magic, attributes) + timestamp + fields
    return struct.pack(">qiI", record.offset, len(checked) + 4, zlib.crc32(checked)) + checked


def build_wrapper(messages: bytes, *, offset: int, timestamp: int, magic: int, attributes: int) -> bytes:
    """A compressed message around a message set; lz4 in v0 gets the header checksum of its time."""
    codec = attributes & CODEC_MASK
    value = compress(codec, messages, broken_lz4_header=magic == MAGIC_V0 and codec == CODEC_LZ4)
    return build_message(Record(offset, timestamp, None, value), magic=magic, attributes=attributes)
