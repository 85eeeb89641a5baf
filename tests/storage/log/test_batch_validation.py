"""What a leader refuses, with which code, and when it looks at the records (subtle.md D)."""
from __future__ import annotations

import struct
from typing import Any

import pytest

from storage.errors import (
    CORRUPT_MESSAGE,
    INVALID_RECORD,
    INVALID_TIMESTAMP,
    MESSAGE_TOO_LARGE,
    UNSUPPORTED_COMPRESSION_TYPE,
    UNSUPPORTED_FOR_MESSAGE_FORMAT,
    LogAppendError,
)
from storage.log.batch_validation import admit_batch
from storage.log.log_config import LogConfig
from storage.log.producer_state import AppendOrigin
from storage.record.batch import CODEC_GZIP, CODEC_LZ4, CODEC_NONE, CODEC_ZSTD, crc_is_valid, read_header, write_crc
from storage.record.legacy import build_message
from storage.record.records import Producer, Record, build_batch, iterate_records
from tests.storage.log.worlds import NOW_MS, batch

CODECS = [CODEC_NONE, CODEC_GZIP, CODEC_LZ4, CODEC_ZSTD]


def admit(view: memoryview, origin: AppendOrigin = AppendOrigin.CLIENT, **config: Any) -> memoryview:
    return admit_batch(view, LogConfig(**config), NOW_MS, origin)


def refusal(view: memoryview, origin: AppendOrigin = AppendOrigin.CLIENT, **config: Any) -> LogAppendError:
    with pytest.raises(LogAppendError) as caught:
        admit(view, origin, **config)
    return caught.value


def changed(view: memoryview, position: int, layout: str, value: int) -> memoryview:
    """A field overwritten, the CRC made right again."""
    copy = memoryview(bytearray(view))
    struct.pack_into(layout, copy, position, value)
    write_crc(copy, 0, len(copy))
    return copy


def records_of(view: memoryview) -> list[Record]:
    return list(iterate_records(view, output_size_bytes_max=1 << 20))


def test_an_ordinary_batch_passes_unchanged() -> None:
    view = batch(3)
    before = bytes(view)
    assert admit(view) == before


# -- the frame

@pytest.mark.parametrize("size", [0, 5, 12, 60, 70])
def test_a_cut_batch_is_no_batch(size: int) -> None:
    assert refusal(batch()[:size]).code == INVALID_RECORD


def test_a_cut_batch_behind_a_whole_one_is_dropped() -> None:
    whole = batch()
    assert admit(memoryview(bytearray(bytes(whole) + bytes(whole)[:-1]))) == whole


def test_two_batches_are_refused() -> None:
    """Subtle 26."""
    assert refusal(memoryview(bytearray(bytes(batch()) * 2))).code == INVALID_RECORD


def test_a_length_below_every_header_is_corrupt() -> None:
    view = batch()
    struct.pack_into(">i", view, 8, 5)
    assert refusal(view).code == CORRUPT_MESSAGE


def test_an_unknown_magic_is_corrupt() -> None:
    view = batch()
    view[16] = 3
    assert refusal(view).code == CORRUPT_MESSAGE


@pytest.mark.parametrize("magic", [0, 1])
def test_older_formats_are_not_supported(magic: int) -> None:
    message = build_message(Record(0, NOW_MS, b"k", b"v"), magic=magic)
    assert refusal(memoryview(bytearray(message))).code == UNSUPPORTED_FOR_MESSAGE_FORMAT


@pytest.mark.parametrize("position", [17, 21, 40, 65])
def test_any_byte_that_does_not_match_the_checksum_is_corrupt(position: int) -> None:
    view = batch()
    view[position] ^= 1
    assert refusal(view).code == CORRUPT_MESSAGE


def test_a_base_offset_other_than_zero_is_invalid() -> None:
    """Subtle 27; comes before size and checksum."""
    view = batch()
    struct.pack_into(">q", view, 0, 5)
    assert refusal(view, message_size_bytes_max=10).code == INVALID_RECORD


def test_a_batch_larger_than_the_limit_is_too_large() -> None:
    """Subtle 29: the whole batch counts, header included."""
    view = batch(10)
    assert refusal(view, message_size_bytes_max=len(view) - 1).code == MESSAGE_TOO_LARGE
    admit(view, message_size_bytes_max=len(view))


# -- the header

@pytest.mark.parametrize(("position", "layout", "value", "code"), [
    (23, ">i", -1, INVALID_RECORD),      # last offset delta
    (23, ">i", 5, INVALID_RECORD),       # does not go with the count
    (57, ">i", 0, INVALID_RECORD),       # count
    (57, ">i", -1, INVALID_RECORD),
    (21, ">h", 0x20, INVALID_RECORD),    # control
    (21, ">h", 5, UNSUPPORTED_COMPRESSION_TYPE),
    (43, ">q", 9, INVALID_RECORD),       # producer id without a sequence
])
def test_headers_that_clients_may_not_send(position: int, layout: str, value: int, code: int) -> None:
    """Subtle 27."""
    assert refusal(changed(batch(2), position, layout, value)).code == code


def test_a_coordinator_may_write_control_batches_and_odd_counts() -> None:
    admit(changed(batch(2), 21, ">h", 0x20), AppendOrigin.COORDINATOR)
    admit(changed(batch(2), 23, ">i", 5), AppendOrigin.COORDINATOR)


# -- timestamps

@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("header_time", [-1, 0, NOW_MS - 1])
def test_a_max_timestamp_below_the_base_is_corrected_with_a_new_checksum(codec: int, header_time: int) -> None:
    """Old sarama sends -1 (REVIEW 3)."""
    view = changed(batch(3, codec=codec), 35, ">q", header_time)
    admitted = admit(view)
    assert read_header(admitted).max_timestamp == NOW_MS + 2
    assert crc_is_valid(admitted, 0, len(admitted))


def test_a_larger_max_timestamp_is_trusted_unless_all_records_are_validated() -> None:
    view = changed(batch(3), 35, ">q", NOW_MS + 1000)
    assert read_header(admit(memoryview(bytearray(view)))).max_timestamp == NOW_MS + 1000
    assert read_header(admit(view, validate_all_records=True)).max_timestamp == NOW_MS + 2


def test_records_without_a_timestamp_stay_without() -> None:
    view = batch(1, timestamp=-1)
    assert read_header(admit(view)).max_timestamp == -1


def test_timestamps_outside_the_bounds_are_listed_by_record() -> None:
    """Subtle 27 and 28."""
    error = refusal(batch(3), timestamp_after_ms_max=1)
    assert error.code == INVALID_TIMESTAMP
    assert [index for index, _ in error.record_errors] == [2]
    error = refusal(batch(3, timestamp=NOW_MS - 12), timestamp_before_ms_max=10)
    assert [index for index, _ in error.record_errors] == [0, 1]
    admit(batch(3), timestamp_after_ms_max=2)


def test_log_append_time_overwrites_the_max_timestamp() -> None:
    """Subtle 28: bounds do not count then."""
    view = admit(batch(2, timestamp=5), log_append_time=True, timestamp_before_ms_max=1)
    header = read_header(view)
    assert (header.max_timestamp, header.is_log_append_time) == (NOW_MS, True)
    assert crc_is_valid(view, 0, len(view))


def test_a_producer_may_not_say_log_append_time() -> None:
    error = refusal(batch_with_type_bit(), log_append_time=True)
    assert error.code == INVALID_TIMESTAMP
    assert len(error.record_errors) == 2


def test_with_create_time_the_type_bit_of_a_producer_is_cleared() -> None:
    """What Kafka does: the records' time is the header's, and it lies within the bounds."""
    view = admit(batch_with_type_bit())
    assert not read_header(view).is_log_append_time
    assert read_header(view).max_timestamp == NOW_MS + 1


def batch_with_type_bit() -> memoryview:
    return changed(batch(2), 21, ">h", 0x08)


# -- compacted topics

@pytest.mark.parametrize("codec", CODECS)
def test_a_compacted_topic_wants_keys(codec: int) -> None:
    """Subtle 27: the whole batch is refused, offending records are listed."""
    records = [Record(index, NOW_MS, None if index in (1, 3) else b"k" * index, b"v" * 300)
               for index in range(5)]
    view = memoryview(bytearray(build_batch(records, attributes=codec)))
    admit(view)
    error = refusal(view, compact=True)
    assert error.code == INVALID_RECORD
    assert [index for index, _ in error.record_errors] == [1, 3]


def test_a_null_value_is_a_tombstone_and_passes() -> None:
    records = [Record(0, NOW_MS, b"k", None), Record(1, NOW_MS - 200, b"", None)]
    admit(memoryview(bytearray(build_batch(records))), compact=True)


def test_keys_and_times_are_reported_together() -> None:
    records = [Record(0, NOW_MS + 99, b"k", b""), Record(1, NOW_MS, None, b"")]
    error = refusal(memoryview(bytearray(build_batch(records))), compact=True, timestamp_after_ms_max=5)
    assert error.code == INVALID_TIMESTAMP
    assert [index for index, _ in error.record_errors] == [0, 1]


# -- broken insides

@pytest.mark.parametrize("config", [{"compact": True}, {"validate_all_records": True}])
def test_broken_insides_are_found_when_records_are_looked_at(config: dict[str, bool]) -> None:
    view = batch(3)
    view[61] = 0x7F  # length of the first record: 63 bytes below zero
    write_crc(view, 0, len(view))
    assert refusal(view, **config).code == INVALID_RECORD


def test_with_header_validation_broken_insides_pass() -> None:
    """The documented difference of ottla.validate.records=header."""
    view = batch(3)
    view[61] = 0x7F
    write_crc(view, 0, len(view))
    admit(view)


def test_rubbish_for_a_compressed_block_is_invalid() -> None:
    view = changed(batch(3), 21, ">h", CODEC_ZSTD)
    assert refusal(view, validate_all_records=True).code == INVALID_RECORD


# -- compression.type

@pytest.mark.parametrize("source", CODECS)
@pytest.mark.parametrize("target", CODECS)
def test_another_compression_type_encodes_the_records_again(source: int, target: int) -> None:
    """Subtle 30."""
    producer = Producer(9, 1, 4)
    view = batch(50, value=b"abc" * 50, codec=source, producer=producer)
    sent = records_of(view)
    admitted = admit(view, target_codec=target)
    header = read_header(admitted)
    assert header.codec == target
    assert records_of(admitted) == sent
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == producer
    assert crc_is_valid(admitted, 0, len(admitted))


def test_the_size_limit_counts_again_after_compression() -> None:
    view = batch(50, value=b"abc" * 50, codec=CODEC_GZIP)
    assert refusal(view, target_codec=CODEC_NONE, message_size_bytes_max=len(view)).code == MESSAGE_TOO_LARGE


def test_encoding_again_with_log_append_time_gives_every_record_that_time() -> None:
    admitted = admit(batch(3, timestamp=5), target_codec=CODEC_LZ4, log_append_time=True)
    assert {record.timestamp for record in records_of(admitted)} == {NOW_MS}
    assert read_header(admitted).is_log_append_time


def test_compressed_records_with_wrong_offsets_are_numbered_again() -> None:
    """Kafka rebuilds such a batch (some old clients send it); only seen where records are looked at."""
    records = [Record(offset, NOW_MS, b"k", b"v") for offset in (0, 0, 0)]
    view = memoryview(bytearray(build_batch(records, attributes=CODEC_LZ4, base_offset=0, last_offset=2)))
    admitted = admit(view, validate_all_records=True)
    assert [record.offset for record in records_of(admitted)] == [0, 1, 2]
