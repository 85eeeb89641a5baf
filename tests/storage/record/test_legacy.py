"""Message formats v0 and v1, against messages of Kafka's client library."""
from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.record.batch import (
    CODEC_GZIP,
    CODEC_LZ4,
    CODEC_SNAPPY,
    CODEC_ZSTD,
    NO_TIMESTAMP,
    TIMESTAMP_TYPE_BIT,
    iterate_extents,
)
from storage.record.errors import CorruptBatchError, InvalidRecordsError, RecordError, UnsupportedFormatError
from storage.record.legacy import (
    build_message,
    build_wrapper,
    header_of_message,
    iterate_legacy_records,
    legacy_crc_is_valid,
    read_message,
)
from storage.record.records import Record
from tests.storage.record.golden import BATCHES, SMALL_RECORDS_WITHOUT_HEADERS, TIME

BOUND = 1 << 20
LEGACY = sorted(name for name in BATCHES if not name.startswith("v2"))
CODECS = {"none": 0, "gzip": CODEC_GZIP, "snappy": CODEC_SNAPPY, "lz4": CODEC_LZ4}


def records_of(data: bytes) -> list[Record]:
    return [record for extent in iterate_extents(data)
            for record in iterate_legacy_records(data, extent.position, output_size_bytes_max=BOUND)]


def expected(magic: int) -> list[Record]:
    if magic:
        return SMALL_RECORDS_WITHOUT_HEADERS
    return [record._replace(timestamp=NO_TIMESTAMP) for record in SMALL_RECORDS_WITHOUT_HEADERS]


@pytest.mark.parametrize("name", LEGACY)
def test_records_of_java_messages(name: str) -> None:
    assert records_of(BATCHES[name]) == expected(magic=int(name[1]))


@pytest.mark.parametrize("name", LEGACY)
def test_checksums_of_java_messages(name: str) -> None:
    data = bytearray(BATCHES[name])
    for extent in iterate_extents(bytes(data)):
        assert legacy_crc_is_valid(memoryview(data), extent.position, extent.size_bytes)
    data[-1] ^= 1
    assert not legacy_crc_is_valid(memoryview(data), extent.position, extent.size_bytes)


def test_header_of_a_wrapper() -> None:
    header = header_of_message(BATCHES["v1-gzip"])
    assert (header.last_offset, header.magic, header.codec, header.max_timestamp) == (44, 1, CODEC_GZIP, TIME + 5)
    assert header.size_bytes == len(BATCHES["v1-gzip"])
    assert not header.has_producer_id and header.partition_leader_epoch == -1


def test_built_messages_are_javas() -> None:
    for magic in (0, 1):
        built = b"".join(build_message(record, magic=magic) for record in SMALL_RECORDS_WITHOUT_HEADERS)
        assert built == BATCHES[f"v{magic}-none"]


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4])
def test_built_wrappers_read_back(magic: int, codec: int) -> None:
    inner = b"".join(build_message(record._replace(offset=i if magic else record.offset), magic=magic)
                     for i, record in enumerate(SMALL_RECORDS_WITHOUT_HEADERS))
    data = build_wrapper(inner, offset=44, timestamp=TIME + 5, magic=magic, attributes=codec)
    assert records_of(data) == expected(magic)


def test_log_append_time_of_the_wrapper_counts() -> None:
    inner = build_message(Record(0, 5, None, b"v"), magic=1)
    data = build_wrapper(inner, offset=9, timestamp=77, magic=1, attributes=CODEC_GZIP | TIMESTAMP_TYPE_BIT)
    assert records_of(data) == [Record(9, 77, None, b"v")]


def test_wrapper_offset_0_of_old_librdkafka_counts_from_0() -> None:
    inner = b"".join(build_message(Record(i, 5, None, b"v"), magic=1) for i in range(3))
    data = build_wrapper(inner, offset=0, timestamp=5, magic=1, attributes=CODEC_GZIP)
    assert [record.offset for record in records_of(data)] == [0, 1, 2]


def test_wrapper_offset_below_the_inner_ones_is_refused() -> None:
    inner = build_message(Record(5, 5, None, b"v"), magic=1)
    with pytest.raises(InvalidRecordsError, match="wrapper offset 3 below inner offset 5"):
        records_of(build_wrapper(inner, offset=3, timestamp=5, magic=1, attributes=CODEC_GZIP))


def test_cut_inner_message_is_dropped() -> None:
    inner = b"".join(build_message(Record(i, 5, None, b"v"), magic=1) for i in range(2)) + b"\x00" * 5
    data = build_wrapper(inner, offset=9, timestamp=5, magic=1, attributes=CODEC_GZIP)
    assert [record.offset for record in records_of(data)] == [8, 9]


@pytest.mark.parametrize(("message", "what"), [
    (build_message(Record(0, 0, None, None), magic=1, attributes=CODEC_GZIP), "without a value"),
    (build_message(Record(0, 0, None, b""), magic=1, attributes=CODEC_ZSTD), "compression type 4"),
    (build_wrapper(b"", offset=0, timestamp=0, magic=1, attributes=CODEC_GZIP), "without inner messages"),
    (build_wrapper(build_message(Record(0, 0, None, b"x"), magic=1, attributes=CODEC_GZIP), offset=0,
                   timestamp=0, magic=1, attributes=CODEC_GZIP), "inside a compressed message"),
])
def test_malformed_wrappers(message: bytes, what: str) -> None:
    with pytest.raises(InvalidRecordsError, match=what):
        records_of(message)


def test_field_length_beyond_the_message() -> None:
    data = bytearray(BATCHES["v1-gzip"])
    data[26:30] = b"\x00\x00\x7f\xff"
    with pytest.raises(InvalidRecordsError, match="field of 32767 bytes"):
        records_of(bytes(data))


def test_v2_is_not_a_message() -> None:
    with pytest.raises(UnsupportedFormatError):
        read_message(BATCHES["v2-none"], 0, 102)


def test_cut_at_every_byte() -> None:
    data = BATCHES["v0-lz4"]
    for end in range(len(data)):
        with pytest.raises(CorruptBatchError):
            read_message(data, 0, end)


@given(st.sampled_from(LEGACY), st.data())
def test_damaged_messages_decode_or_raise_a_record_error(name: str, data: st.DataObject) -> None:
    message = bytearray(BATCHES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RecordError):
        records_of(bytes(message))
