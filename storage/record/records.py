"""Inside a v2 batch: decode its records, build batches, correct a header that lies. PURE.

Runs in: helper processes (time look-ups, conversion, loading of coordinators), storage (control batches, and
the rare batch whose max timestamp must be corrected). No state. Everything here costs microseconds *per
record*: it is not for the path of an ordinary produce or fetch.

    record: varint length; int8 attributes; varlong timestamp delta; varint offset delta;
            varint key length (-1 null), key; varint value length (-1 null), value;
            varint header count; per header varint key length, key, varint value length (-1 null), value

Bytes are hostile: anything that does not fit raises InvalidRecordsError (or CorruptBatchError for the frame),
never anything else. `output_size_bytes_max` bounds what a compressed batch may unpack to.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from storage.record.batch import (
    BATCH_OVERHEAD,
    CODEC_MASK,
    CODEC_NONE,
    HEADER,
    LOG_OVERHEAD,
    MAGIC_V2,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    OFFSET_MAX,
    BatchHeader,
    Buffer,
    read_extent,
    read_header,
    restamp,
    sequence_after,
    write_crc,
)
from storage.record.compression import compress, decompress
from storage.record.errors import CorruptBatchError, InvalidRecordsError, UnsupportedFormatError
from storage.record.varint import encode_varint, read_varint, read_varlong

RecordHeader = tuple[bytes, bytes | None]

# Smallest record: length, attributes, two deltas, null key, null value, no headers. Bounds a hostile count.
RECORD_SIZE_BYTES_MIN: Final = 7
# Java wraps around beyond; nothing good can come from that.
TIMESTAMP_MAX: Final = (1 << 63) - 1


class Record(NamedTuple):
    """One record; timestamp in ms. Header keys are left as bytes: nothing promises that they are UTF-8."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[RecordHeader, ...] = ()
    sequence: int = NO_SEQUENCE


class Producer(NamedTuple):
    """Who a batch says it is from."""

    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_PRODUCER_EPOCH
    base_sequence: int = NO_SEQUENCE


NO_PRODUCER: Final = Producer()


class RecordsSummary(NamedTuple):
    """What full validation found. record_errors: (index in the batch, sentence), as Produce v8+ reports."""

    max_timestamp: int
    record_errors: tuple[tuple[int, str], ...]


def batch_at(view: Buffer, position: int = 0) -> BatchHeader:
    """The header of a v2 batch that lies wholly in `view`; CorruptBatchError or UnsupportedFormatError."""
    extent = read_extent(view, position, len(view))
    if extent is None:
        raise CorruptBatchError(position, f"batch cut off after {len(view) - position} bytes")
    if extent.magic != MAGIC_V2:
        raise UnsupportedFormatError(position, f"message format v{extent.magic}")
    return read_header(view, position)


def iterate_records(view: Buffer, position: int = 0, *, output_size_bytes_max: int) -> Iterator[Record]:
    """The records of the v2 batch at `position`, decoded one by one; ends with an error if the count lies."""
    header = batch_at(view, position)
    body = _body(view, position, header, output_size_bytes_max)
    log_append_time = header.max_timestamp if header.is_log_append_time else None
    start = 0
    for index in range(header.record_count):
        start, record_end = _record_extent(body, start, index)
        yield _decode_record(body, start, record_end, header, log_append_time)
        start = record_end
    _check_all_consumed(body, start, header)


def iterate_timestamps(view: Buffer, position: int = 0, *,
                       output_size_bytes_max: int) -> Iterator[tuple[int, int]]:
    """(offset, timestamp) of every record of the v2 batch at `position`; keys and values are stepped over."""
    header = batch_at(view, position)
    body = _body(view, position, header, output_size_bytes_max)
    log_append_time = header.max_timestamp if header.is_log_append_time else None
    start = 0
    for index in range(header.record_count):
        start, record_end = _record_extent(body, start, index)
        timestamp_delta, cursor = read_varlong(body, start + 1, record_end)
        offset_delta, cursor = read_varint(body, cursor, record_end)
        yield (_offset(header, offset_delta, start),
               _timestamp(header, timestamp_delta, start) if log_append_time is None else log_append_time)
        start = record_end
    _check_all_consumed(body, start, header)


def validate_records(view: Buffer, position: int = 0, *, output_size_bytes_max: int,
                     keys_required: bool = False, timestamp_min: int | None = None,
                     timestamp_max: int | None = None) -> RecordsSummary:
    """Every record looked at, as Kafka's LogValidator does: structure, count, offsets 0, 1, 2, ...

    Structural damage raises InvalidRecordsError. Missing keys (compacted topic) and timestamps outside the
    bounds are collected per record; NO_TIMESTAMP is always allowed.
    """
    errors: list[tuple[int, str]] = []
    largest = NO_TIMESTAMP
    base_offset = batch_at(view, position).base_offset
    records = iterate_records(view, position, output_size_bytes_max=output_size_bytes_max)
    for index, record in enumerate(records):
        if record.offset != base_offset + index:
            raise InvalidRecordsError(
                position, f"record {index} has offset delta {record.offset - base_offset}")
        if keys_required and record.key is None:
            errors.append((index, "Compacted topic cannot accept message without key"))
        if record.timestamp != NO_TIMESTAMP and (
                (timestamp_min is not None and record.timestamp < timestamp_min)
                or (timestamp_max is not None and record.timestamp > timestamp_max)):
            errors.append((index, f"Timestamp {record.timestamp} of message is out of range"))
        largest = max(largest, record.timestamp)
    return RecordsSummary(largest, tuple(errors))


def correct_batch(data: Buffer, *, output_size_bytes_max: int) -> bytearray:
    """A copy of one v2 batch whose header holds the records' real max timestamp, with a CRC to match.

    What Kafka does to every CreateTime batch, and Ottla only to one whose header cannot be trusted (old
    sarama sends -1). A LogAppendTime batch keeps its time: its records have no other.
    """
    copy = bytearray(data)
    header = batch_at(copy)
    if header.size_bytes != len(copy):
        raise CorruptBatchError(0, f"batch of {header.size_bytes} bytes in a buffer of {len(copy)}")
    if header.is_log_append_time:
        return copy
    largest = largest_timestamp(copy, output_size_bytes_max=output_size_bytes_max)
    restamp(memoryview(copy), 0, largest, log_append_time=False)
    return copy


def largest_timestamp(view: Buffer, position: int = 0, *, output_size_bytes_max: int) -> int:
    """Of the records of a CreateTime batch, NO_TIMESTAMP if it has none.

    As `iterate_timestamps`, but storage itself calls it for every batch of a client that leaves the max
    timestamp out, so the varints of ordinary records (lengths up to 8 KB) are decoded in line.
    """
    header = batch_at(view, position)
    body = _body(view, position, header, output_size_bytes_max)
    body_end = len(body)
    cursor = 0
    largest_delta = -TIMESTAMP_MAX
    for index in range(header.record_count):
        start = cursor + 2
        if start < body_end and body[cursor] >= 0x80 and body[cursor + 1] < 0x80 and not body[cursor] & 1:
            length = (body[cursor] & 0x7F | body[cursor + 1] << 7) >> 1
            cursor = start + length
            if cursor > body_end or length < RECORD_SIZE_BYTES_MIN - 1:
                raise InvalidRecordsError(start, f"record {index} of {length} bytes, {body_end - start} left")
        else:
            start, cursor = _record_extent(body, cursor, index)
        byte = body[start + 1]
        delta = (byte >> 1) ^ -(byte & 1) if byte < 0x80 else read_varlong(body, start + 1, cursor)[0]
        if delta > largest_delta:
            largest_delta = delta
    _check_all_consumed(body, cursor, header)
    return max(_timestamp(header, largest_delta, 0), NO_TIMESTAMP) if header.record_count else NO_TIMESTAMP


def build_batch(records: Sequence[Record], *, attributes: int = 0, producer: Producer = NO_PRODUCER,
                leader_epoch: int = NO_LEADER_EPOCH, base_offset: int | None = None,
                last_offset: int | None = None) -> bytes:
    """A v2 batch of `records` in offset order; `attributes` carries codec and flags.

    base_offset and last_offset default to the first and last record's; a cleaner keeps the original ones.
    Base timestamp is the first record's, as in Kafka; with LogAppendTime the max timestamp is every record's.
    """
    first = records[0] if records else None
    base = base_offset if base_offset is not None else first.offset if first else 0
    last = last_offset if last_offset is not None else records[-1].offset if records else base
    base_timestamp = first.timestamp if first else NO_TIMESTAMP
    body = b"".join(encode_record(record, base, base_timestamp) for record in records)
    if attributes & CODEC_MASK != CODEC_NONE:
        body = compress(attributes & CODEC_MASK, body)
    max_timestamp = max((record.timestamp for record in records), default=NO_TIMESTAMP)
    batch = bytearray(BATCH_OVERHEAD + len(body))
    HEADER.pack_into(batch, 0, base, len(batch) - LOG_OVERHEAD, leader_epoch, MAGIC_V2, 0, attributes,
                     last - base, base_timestamp, max_timestamp, *producer, len(records))
    batch[BATCH_OVERHEAD:] = body
    write_crc(memoryview(batch), 0, len(batch))
    return bytes(batch)


def encode_record(record: Record, base_offset: int, base_timestamp: int) -> bytes:
    parts = [b"\x00", encode_varint(record.timestamp - base_timestamp),
             encode_varint(record.offset - base_offset)]
    parts += _encode_bytes(record.key)
    parts += _encode_bytes(record.value)
    parts.append(encode_varint(len(record.headers)))
    for key, value in record.headers:
        parts += _encode_bytes(key)
        parts += _encode_bytes(value)
    body = b"".join(parts)
    return encode_varint(len(body)) + body


def _encode_bytes(data: bytes | None) -> Iterable[bytes]:
    return (encode_varint(-1),) if data is None else (encode_varint(len(data)), data)


def _body(view: Buffer, position: int, header: BatchHeader, bound: int) -> bytes:
    """The records as plain bytes (indexing bytes is a third cheaper than a memoryview), count checked."""
    if header.record_count == 0:  # emptied by compaction; Java does not look at what may follow either
        return b""
    raw = memoryview(view)[position + BATCH_OVERHEAD:position + header.size_bytes]
    body = bytes(decompress(header.codec, raw, bound))
    if not 0 <= header.record_count <= len(body) // RECORD_SIZE_BYTES_MIN:
        raise InvalidRecordsError(position, f"{header.record_count} records in {len(body)} bytes")
    return body


def _record_extent(body: bytes, position: int, index: int) -> tuple[int, int]:
    """Where the record's fields begin and end."""
    length, start = read_varint(body, position, len(body))
    if length < RECORD_SIZE_BYTES_MIN - 1 or start + length > len(body):
        raise InvalidRecordsError(position, f"record {index} of {length} bytes, {len(body) - start} left")
    return start, start + length


def _decode_record(body: bytes, start: int, end: int, header: BatchHeader,
                   log_append_time: int | None) -> Record:
    timestamp_delta, cursor = read_varlong(body, start + 1, end)
    offset_delta, cursor = read_varint(body, cursor, end)
    key, cursor = _decode_bytes(body, cursor, end)
    value, cursor = _decode_bytes(body, cursor, end)
    header_count, cursor = read_varint(body, cursor, end)
    headers: tuple[RecordHeader, ...] = ()
    if header_count:
        headers, cursor = _decode_headers(body, cursor, end, header_count)
    if cursor != end:
        raise InvalidRecordsError(start, f"record of {end - start} bytes, its fields take {cursor - start}")
    timestamp = _timestamp(header, timestamp_delta, start) if log_append_time is None else log_append_time
    sequence = NO_SEQUENCE if header.base_sequence < 0 else sequence_after(header.base_sequence, offset_delta)
    return Record(_offset(header, offset_delta, start), timestamp, key, value, headers, sequence)


def _offset(header: BatchHeader, delta: int, position: int) -> int:
    offset = header.base_offset + delta
    if not 0 <= offset <= OFFSET_MAX:
        raise InvalidRecordsError(position, f"offset {offset}")
    return offset


def _timestamp(header: BatchHeader, delta: int, position: int) -> int:
    timestamp = header.base_timestamp + delta
    if not -TIMESTAMP_MAX <= timestamp <= TIMESTAMP_MAX:
        raise InvalidRecordsError(position, f"timestamp {timestamp}")
    return timestamp


def _decode_bytes(body: bytes, position: int, end: int) -> tuple[bytes | None, int]:
    size, start = read_varint(body, position, end)
    if size < 0:
        return None, start
    if start + size > end:
        raise InvalidRecordsError(position, f"field of {size} bytes, {end - start} left in the record")
    return body[start:start + size], start + size


def _decode_headers(body: bytes, position: int, end: int,
                    count: int) -> tuple[tuple[RecordHeader, ...], int]:
    if not 0 <= count <= (end - position) // 2:
        raise InvalidRecordsError(position, f"{count} record headers in {end - position} bytes")
    headers = []
    for _ in range(count):
        key, cursor = _decode_bytes(body, position, end)
        if key is None:
            raise InvalidRecordsError(position, "record header without a key")
        value, position = _decode_bytes(body, cursor, end)
        headers.append((key, value))
    return tuple(headers), position


def _check_all_consumed(body: bytes, position: int, header: BatchHeader) -> None:
    if position != len(body):
        raise InvalidRecordsError(
            position, f"{len(body) - position} bytes behind the last of {header.record_count} records")
