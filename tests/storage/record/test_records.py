"""Records inside v2 batches, against batches of Kafka's client library and against random ones."""
from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.record.batch import (
    BATCH_OVERHEAD,
    CODEC_NONE,
    HEADER,
    LOG_OVERHEAD,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    OFFSET_MAX,
    TIMESTAMP_TYPE_BIT,
    crc_is_valid,
    patch_offset_and_epoch,
    read_header,
    restamp,
    write_crc,
)
from storage.record.errors import CorruptBatchError, InvalidRecordsError, OutputBoundError, RecordError
from storage.record.records import (
    Producer,
    Record,
    build_batch,
    correct_batch,
    iterate_records,
    iterate_timestamps,
    largest_timestamp,
    validate_records,
)
from storage.record.varint import encode_varint
from tests.storage.record.golden import BATCHES, LARGE_RECORDS, SMALL_RECORDS, TIME

BOUND = 1 << 20
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

nullable_bytes = st.none() | st.binary(max_size=40)
record_headers = st.lists(st.tuples(st.binary(max_size=8), nullable_bytes), max_size=4).map(tuple)
timestamps = st.integers(-1, 2**50)
record_bodies = st.tuples(timestamps, nullable_bytes, nullable_bytes, record_headers)


def records_of(data: bytes) -> list[Record]:
    return list(iterate_records(data, output_size_bytes_max=BOUND))


def batch_with_body(body: bytes, record_count: int) -> bytes:
    """A v2 batch with a right CRC around any bytes."""
    data = bytearray(HEADER.pack(0, BATCH_OVERHEAD - LOG_OVERHEAD + len(body), 0, 2, 0, 0, 0, 0, 0,
                                 -1, -1, -1, record_count) + body)
    write_crc(memoryview(data), 0, len(data))
    return bytes(data)


@pytest.mark.parametrize("codec", CODECS)
def test_records_of_a_java_batch(codec: str) -> None:
    assert records_of(BATCHES[f"v2-{codec}"]) == SMALL_RECORDS


@pytest.mark.parametrize("codec", CODECS[1:])
def test_records_of_a_java_batch_of_many_compressed_blocks(codec: str) -> None:
    assert records_of(BATCHES[f"v2-large-{codec}"]) == LARGE_RECORDS


def test_every_record_of_a_log_append_time_batch_has_the_max_timestamp() -> None:
    data = BATCHES["v2-log-append-time"]
    assert [record.timestamp for record in records_of(data)] == [TIME + 99] * 3
    assert list(iterate_timestamps(data, output_size_bytes_max=BOUND)) == [
        (offset, TIME + 99) for offset in (42, 43, 44)]


def test_sequences_of_an_idempotent_batch_wrap() -> None:
    assert [record.sequence for record in records_of(BATCHES["v2-idempotent"])] == [2147483646, 2147483647, 0]


def test_timestamps_count_from_the_delete_horizon_where_there_is_one() -> None:
    assert [record.timestamp for record in records_of(BATCHES["v2-delete-horizon"])] == [
        TIME, TIME + 5, TIME - 300]


def test_emptied_batch_has_no_records() -> None:
    assert records_of(BATCHES["v2-emptied"]) == []


def test_what_is_built_is_byte_for_byte_what_java_builds() -> None:
    assert build_batch(SMALL_RECORDS) == BATCHES["v2-none"]
    built = build_batch(SMALL_RECORDS, attributes=0x10, producer=Producer(4711, 3, 7), leader_epoch=9)
    assert built == BATCHES["v2-transactional"]


@pytest.mark.parametrize("codec", range(5))
def test_built_batches_read_back(codec: int) -> None:
    data = build_batch(LARGE_RECORDS, attributes=codec)
    assert crc_is_valid(memoryview(data), 0, len(data))
    assert records_of(data) == LARGE_RECORDS


@given(st.lists(record_bodies, min_size=1, max_size=8), st.integers(0, 4), st.integers(0, OFFSET_MAX - 8),
       st.integers(NO_SEQUENCE, 2**31 - 1))
def test_any_records_survive_any_codec(bodies: list[tuple], codec: int, base: int, sequence: int) -> None:
    records = [Record(base + i, *body, sequence=NO_SEQUENCE if sequence < 0 else (sequence + i) % 2**31)
               for i, body in enumerate(bodies)]
    data = build_batch(records, attributes=codec, producer=Producer(1, 1, sequence))
    assert records_of(data) == records
    assert [(r.offset, r.timestamp) for r in records] == list(iterate_timestamps(data, output_size_bytes_max=BOUND))
    assert read_header(data).max_timestamp == max(record.timestamp for record in records)


@given(st.lists(st.tuples(st.integers(-3, 2**62), st.sampled_from([0, 1, 50, 63, 64, 8180, 8192, 70_000])),
                max_size=6), st.integers(0, 4))
def test_largest_timestamp_is_that_of_the_records(shapes: list[tuple[int, int]], codec: int) -> None:
    records = [Record(i, timestamp, None, bytes(size)) for i, (timestamp, size) in enumerate(shapes)]
    largest = largest_timestamp(build_batch(records, attributes=codec), output_size_bytes_max=BOUND)
    assert largest == max([NO_TIMESTAMP, *(timestamp for timestamp, _ in shapes)])


def test_offsets_may_have_gaps_and_bounds_of_their_own_after_compaction() -> None:
    kept = [SMALL_RECORDS[0], SMALL_RECORDS[2]]
    data = build_batch(kept, base_offset=40, last_offset=50)
    assert (read_header(data).base_offset, read_header(data).last_offset) == (40, 50)
    assert records_of(data) == kept


def test_correction_gives_old_saramas_batches_their_max_timestamp() -> None:
    for codec in CODECS:
        wrong = bytearray(BATCHES[f"v2-{codec}"])
        restamp(memoryview(wrong), 0, NO_TIMESTAMP, log_append_time=False)
        assert correct_batch(wrong, output_size_bytes_max=BOUND) == BATCHES[f"v2-{codec}"]
        assert read_header(wrong).max_timestamp == NO_TIMESTAMP


def test_correction_leaves_log_append_time_alone() -> None:
    data = BATCHES["v2-log-append-time"]
    assert correct_batch(data, output_size_bytes_max=BOUND) == data


def test_correction_wants_exactly_one_batch() -> None:
    with pytest.raises(CorruptBatchError):
        correct_batch(BATCHES["v2-none"] * 2, output_size_bytes_max=BOUND)


def test_full_validation_of_a_good_batch() -> None:
    assert validate_records(BATCHES["v2-zstd"], output_size_bytes_max=BOUND) == (TIME + 5, ())


def test_full_validation_lists_keyless_and_untimely_records() -> None:
    _, errors = validate_records(BATCHES["v2-none"], output_size_bytes_max=BOUND, keys_required=True,
                                 timestamp_min=TIME, timestamp_max=TIME + 4)
    assert [index for index, _ in errors] == [1, 1, 2]
    assert "without key" in errors[0][1]


def test_full_validation_refuses_offsets_that_do_not_count_up() -> None:
    data = build_batch([Record(0, 0, None, b""), Record(2, 0, None, b"")])
    with pytest.raises(InvalidRecordsError, match="record 1 has offset delta 2"):
        validate_records(data, output_size_bytes_max=BOUND)


@pytest.mark.parametrize("codec", range(1, 5))
def test_bomb_is_refused_at_the_bound(codec: int) -> None:
    data = build_batch([Record(0, 0, None, bytes(1 << 20))], attributes=codec)
    with pytest.raises(OutputBoundError):
        list(iterate_records(data, output_size_bytes_max=1 << 16))


@pytest.mark.parametrize(("body", "count", "what"), [
    (b"", 1, "1 records in 0 bytes"),
    (b"\x0c\x00\x00\x00\x01\x01\x00", 2**31 - 1, "records in 7 bytes"),
    (b"\x0c\x00\x00\x00\x01\x01\x00" * 2, 1, "7 bytes behind the last of 1"),
    (b"\x0e\x00\x00\x00\x01\x01\x00", 1, "record 0 of 7 bytes, 6 left"),
    (b"\x01\x00\x00\x00\x01\x01\x00", 1, "record 0 of -1 bytes"),
    (b"\x0c\x00\x00\x00\x04\x01\x00", 1, "field of 2 bytes|cut off|fields take"),
    (b"\x0c\x00\x00\x00\x01\x01\x02", 1, "1 record headers in 0 bytes"),
    (b"\x0c\x00\x00\x00\x01\x01\x01", 1, "-1 record headers"),
    (b"\x10\x00\x00\x00\x01\x01\x02\x01\x01", 1, "record header without a key"),
    (b"\x0e\x00\x00\x00\x01\x01\x00\x00", 1, "record of 7 bytes, its fields take 6"),
    (b"\x80\x80\x80\x80\x80\x80\x00", 1, "longer than 5 bytes"),
    (b"\x80\x80\x80\x80\x80", 0, None),
], ids=str)
def test_malformed_records(body: bytes, count: int, what: str | None) -> None:
    data = batch_with_body(body, count)
    if what is None:
        assert records_of(data) == []
        return
    with pytest.raises(InvalidRecordsError, match=what):
        records_of(data)


def test_timestamp_beyond_int64_is_refused() -> None:
    data = bytearray(build_batch([Record(0, 2**63 - 1, None, b""), Record(1, 2**63 - 1, None, b"")]))
    body = data[BATCH_OVERHEAD:].replace(encode_varint(0), encode_varint(0), 1)
    body[2] = 2  # timestamp delta 1
    with pytest.raises(InvalidRecordsError, match="timestamp"):
        records_of(bytes(data[:BATCH_OVERHEAD] + body))


@given(st.binary(max_size=200), st.integers(-(2**31), 2**31 - 1), st.integers(0, 7))
def test_any_body_decodes_or_raises_a_record_error(body: bytes, count: int, attributes: int) -> None:
    data = bytearray(batch_with_body(body, count))
    data[22] = attributes
    with contextlib.suppress(RecordError):
        list(iterate_records(data, output_size_bytes_max=BOUND))


@given(st.sampled_from(sorted(name for name in BATCHES if name.startswith("v2"))), st.data())
def test_a_damaged_java_batch_decodes_or_raises_a_record_error(name: str, data: st.DataObject) -> None:
    batch = bytearray(BATCHES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        batch[data.draw(st.integers(0, len(batch) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(iterate_records(batch, output_size_bytes_max=BOUND))
        list(iterate_timestamps(batch, output_size_bytes_max=BOUND))
        correct_batch(batch, output_size_bytes_max=BOUND)
    except RecordError:
        pass


def test_cut_at_every_byte() -> None:
    for name in ("v2-none", "v2-snappy", "v2-lz4"):
        for end in range(len(BATCHES[name])):
            with pytest.raises(RecordError):
                records_of(BATCHES[name][:end])


def test_patching_moves_the_records_offsets() -> None:
    data = bytearray(BATCHES["v2-gzip"])
    patch_offset_and_epoch(memoryview(data), 0, 1000, 1)
    assert [record.offset for record in records_of(bytes(data))] == [1000, 1001, 1002]


def test_unused_attribute_bits_do_not_disturb() -> None:
    data = build_batch([Record(0, 5, b"k", b"v")], attributes=TIMESTAMP_TYPE_BIT | 0x80 | CODEC_NONE)
    assert records_of(data) == [Record(0, 5, b"k", b"v")]
