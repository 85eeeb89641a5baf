"""Whether a batch may enter the log as the leader's next one: Kafka's checks, in Kafka's order. PURE.

Runs in: storage (writer thread). No state. An ordinary batch passes `PartitionLog.stage_leader_append`'s own
short test and never comes here; this module serves the rest: it says what is wrong, or decodes the records
where the header is not enough (storage/log/ARCHITECTURE.md, "When records are decoded"). Decoding costs
microseconds per record and holds up the whole directory meanwhile.

Order (ProduceRequest.validateRecords, UnifiedLog.analyzeAndValidateRecords, LogValidator): frame, exactly one
batch, format, base offset, size, CRC, codec, offsets and count, control, sequence, records, timestamps.
"""
from __future__ import annotations

from typing import Final, NamedTuple

from storage.errors import (
    CORRUPT_MESSAGE,
    INVALID_RECORD,
    INVALID_TIMESTAMP,
    MESSAGE_TOO_LARGE,
    UNSUPPORTED_COMPRESSION_TYPE,
    UNSUPPORTED_FOR_MESSAGE_FORMAT,
    LogAppendError,
)
from storage.log.log_config import UNLIMITED, LogConfig
from storage.log.producer_state import AppendOrigin
from storage.record.batch import (
    BATCH_OVERHEAD,
    CODEC_NONE,
    CODEC_ZSTD,
    CONTROL_BIT,
    MAGIC_V2,
    NO_TIMESTAMP,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchExtent,
    BatchHeader,
    crc_is_valid,
    read_extent,
    read_header,
    restamp,
)
from storage.record.compression import decompress
from storage.record.errors import CorruptBatchError, InvalidRecordsError, RecordError
from storage.record.records import Producer, Record, build_batch, iterate_records
from storage.record.varint import read_varint

# What one batch may unpack to in the writer's memory. Kafka streams and has no bound; a batch of the default
# max.message.bytes that goes beyond has been compressed 128 times and more.
UNPACKED_SIZE_BYTES_MAX: Final = 128 << 20


class _Records(NamedTuple):
    """What a walk over the records found: largest timestamp, and whether offsets are 0, 1, 2, ..."""

    max_timestamp: int
    consecutive: bool


def plain_attributes(config: LogConfig) -> frozenset[int]:
    """Attribute values of batches that need no look inside: none if every batch has to be decoded."""
    if config.compact or config.validate_all_records:
        return frozenset()
    codecs = range(CODEC_ZSTD + 1) if config.target_codec is None else (config.target_codec,)
    return frozenset(codec | flag for codec in codecs for flag in (0, TRANSACTIONAL_BIT))


def timestamps_are_bounded(config: LogConfig) -> bool:
    return not config.log_append_time and (
        config.timestamp_before_ms_max != UNLIMITED or config.timestamp_after_ms_max != UNLIMITED)


def timestamp_in_bounds(timestamp: int, config: LogConfig, now_ms: int) -> bool:
    """NO_TIMESTAMP is always allowed."""
    return timestamp == NO_TIMESTAMP or (now_ms - timestamp <= config.timestamp_before_ms_max
                                         and timestamp - now_ms <= config.timestamp_after_ms_max)


def admit_batch(batch: memoryview, config: LogConfig, now_ms: int, origin: AppendOrigin) -> memoryview:
    """The batch to write, with a header that can be trusted; raises LogAppendError.

    That is the given buffer, possibly restamped in place and without bytes behind the batch, or a new one
    if the records had to be encoded again (compression.type, offsets of a broken client).
    """
    view = _only_batch(batch)
    header = read_header(view)
    _check_frame(view, header, config, origin)
    _check_header(header, origin)
    try:
        return _admit_records(view, header, config, now_ms)
    except RecordError as error:
        raise LogAppendError(error.code, f"records of the batch: {error.what}") from error


def _only_batch(batch: memoryview) -> memoryview:
    """The one whole batch of a produce entry. Kafka drops a cut batch behind it, so nobody may rely on it."""
    first = _extent(batch, 0)
    if first is None:
        raise LogAppendError(INVALID_RECORD, "no whole record batch in the request's records")
    if first.magic != MAGIC_V2:
        raise LogAppendError(UNSUPPORTED_FOR_MESSAGE_FORMAT,
                             f"record format v{first.magic}: only format v2 is accepted")
    if _extent(batch, first.size_bytes) is not None:
        raise LogAppendError(INVALID_RECORD, "more than one record batch for one partition")
    return batch[:first.size_bytes]


def _extent(batch: memoryview, position: int) -> BatchExtent | None:
    try:
        return read_extent(batch, position, len(batch))
    except CorruptBatchError as error:
        raise LogAppendError(CORRUPT_MESSAGE, str(error)) from error


def _check_frame(view: memoryview, header: BatchHeader, config: LogConfig, origin: AppendOrigin) -> None:
    if origin is AppendOrigin.CLIENT and header.base_offset != 0:
        raise LogAppendError(INVALID_RECORD, f"base offset {header.base_offset}: a producer has to send 0")
    if len(view) > config.message_size_bytes_max:
        raise LogAppendError(MESSAGE_TOO_LARGE, f"record batch of {len(view)} bytes; max.message.bytes is "
                             f"{config.message_size_bytes_max}")
    if len(view) < BATCH_OVERHEAD or not crc_is_valid(view, 0, len(view)):
        raise LogAppendError(CORRUPT_MESSAGE, "the record batch does not match its checksum "
                             f"({header.crc:#010x})")


def _check_header(header: BatchHeader, origin: AppendOrigin) -> None:
    if header.codec > CODEC_ZSTD:
        raise LogAppendError(UNSUPPORTED_COMPRESSION_TYPE, f"compression codec {header.codec}")
    if origin is not AppendOrigin.CLIENT:
        return
    if header.last_offset_delta < 0:
        raise LogAppendError(INVALID_RECORD, f"last offset delta {header.last_offset_delta}")
    if header.record_count <= 0:
        raise LogAppendError(INVALID_RECORD, f"record count {header.record_count}")
    if header.record_count != header.last_offset_delta + 1:
        raise LogAppendError(INVALID_RECORD, f"{header.record_count} records for "
                             f"{header.last_offset_delta + 1} offsets")
    if header.is_control:
        raise LogAppendError(INVALID_RECORD, "clients may not write control batches")
    if header.has_producer_id and header.base_sequence < 0:
        raise LogAppendError(INVALID_RECORD, f"sequence {header.base_sequence} in a batch of producer "
                             f"{header.producer_id}")


def _admit_records(view: memoryview, header: BatchHeader, config: LogConfig, now_ms: int) -> memoryview:
    if config.log_append_time and header.is_log_append_time:
        message = "a producer may not set the timestamp type to LogAppendTime"
        raise LogAppendError(INVALID_TIMESTAMP, message,
                             tuple((index, message) for index in range(header.record_count)))
    stored_codec = header.codec
    recode = config.target_codec is not None and stored_codec != config.target_codec and not (
        header.is_control and stored_codec == CODEC_NONE)
    trusted = _max_timestamp_is_trusted(header, config, now_ms)
    if trusted and not recode and not config.validate_all_records:
        if config.compact:
            _check_keys(view, header)
        max_timestamp = header.max_timestamp
    else:
        records = _look_at_records(view, header, config, now_ms)
        max_timestamp = records.max_timestamp
        if recode or (stored_codec != CODEC_NONE and not records.consecutive):
            return _encode_again(view, header, config, now_ms)
    restamp(view, 0, now_ms if config.log_append_time else max_timestamp, config.log_append_time)
    return view


def _max_timestamp_is_trusted(header: BatchHeader, config: LogConfig, now_ms: int) -> bool:
    """The decision of the design's section 4: not below the base, within bounds, no type bit to clear."""
    if config.log_append_time:
        return True
    return (header.max_timestamp >= max(header.base_timestamp, NO_TIMESTAMP)
            and not header.is_log_append_time
            and timestamp_in_bounds(header.base_timestamp, config, now_ms)
            and timestamp_in_bounds(header.max_timestamp, config, now_ms))


def _look_at_records(view: memoryview, header: BatchHeader, config: LogConfig, now_ms: int) -> _Records:
    """Every record: structure, key where compaction needs one, time within bounds."""
    key_errors: list[tuple[int, str]] = []
    time_errors: list[tuple[int, str]] = []
    largest, consecutive = NO_TIMESTAMP, True
    check_times = timestamps_are_bounded(config)
    records = iterate_records(view, output_size_bytes_max=UNPACKED_SIZE_BYTES_MAX)
    for index, record in enumerate(records):
        if config.compact and record.key is None:
            key_errors.append((index, _KEY_MISSING))
        elif check_times and not timestamp_in_bounds(record.timestamp, config, now_ms):
            time_errors.append((index, f"timestamp {record.timestamp} is more than "
                                f"{config.timestamp_before_ms_max} ms before or "
                                f"{config.timestamp_after_ms_max} ms after {now_ms}"))
        consecutive = consecutive and record.offset == header.base_offset + index
        largest = max(largest, record.timestamp)
    _raise_record_errors(key_errors, time_errors)
    return _Records(largest, consecutive)


_KEY_MISSING: Final = "a compacted topic does not accept a record without a key"


def _raise_record_errors(key_errors: list[tuple[int, str]], time_errors: list[tuple[int, str]]) -> None:
    errors = tuple(sorted(key_errors + time_errors))
    if time_errors:
        raise LogAppendError(INVALID_TIMESTAMP, "one or more records have been rejected because of their "
                             "timestamp", errors)
    if key_errors:
        raise LogAppendError(INVALID_RECORD, f"{len(errors)} records have been rejected: {errors[0][1]}", errors)


def _check_keys(view: memoryview, header: BatchHeader) -> None:
    """Only whether every record has a key: the frequent case of a compacted topic, a tight loop."""
    body = bytes(decompress(header.codec, view[BATCH_OVERHEAD:], UNPACKED_SIZE_BYTES_MAX))
    end = len(body)
    errors = []
    position = 0
    for index in range(header.record_count):
        length, start = read_varint(body, position, end)
        position = start + length
        if length <= 0 or position > end:
            raise InvalidRecordsError(start, f"record {index} of {length} bytes, {end - start} left")
        cursor = start + 1
        for _ in range(2):  # timestamp and offset delta: a varint ends at the first byte below 0x80
            while cursor < position and body[cursor] >= 0x80:
                cursor += 1
            cursor += 1
        if read_varint(body, cursor, position)[0] < 0:
            errors.append((index, _KEY_MISSING))
    if position != end:
        raise InvalidRecordsError(position, f"{end - position} bytes behind the last record")
    _raise_record_errors(errors, [])


def _encode_again(view: memoryview, header: BatchHeader, config: LogConfig, now_ms: int) -> memoryview:
    """The same records as one batch with the topic's codec and offsets 0, 1, 2, ..."""
    codec = header.codec if config.target_codec is None else config.target_codec
    flags = header.attributes & (TRANSACTIONAL_BIT | CONTROL_BIT)
    flags |= TIMESTAMP_TYPE_BIT if config.log_append_time else 0
    records: list[Record] = []
    for index, record in enumerate(iterate_records(view, output_size_bytes_max=UNPACKED_SIZE_BYTES_MAX)):
        timestamp = now_ms if config.log_append_time else record.timestamp
        records.append(record._replace(offset=index, timestamp=timestamp))
    producer = Producer(header.producer_id, header.producer_epoch, header.base_sequence)
    encoded = build_batch(records, attributes=codec | flags, producer=producer)
    if len(encoded) > config.message_size_bytes_max:
        raise LogAppendError(MESSAGE_TOO_LARGE, f"record batch of {len(encoded)} bytes after compression; "
                             f"max.message.bytes is {config.message_size_bytes_max}")
    return memoryview(bytearray(encoded))

