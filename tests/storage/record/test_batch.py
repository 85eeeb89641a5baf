"""Headers of v2 batches: reading, walking hostile buffers, patching in place."""
from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.record.batch import (
    BATCH_OVERHEAD,
    CODEC_GZIP,
    HEADER,
    MAGIC_V2,
    OFFSET_MAX,
    BatchHeader,
    crc_is_valid,
    iterate_extents,
    iterate_headers,
    patch_offset_and_epoch,
    read_extent,
    read_header,
    restamp,
    sequence_after,
)
from storage.record.errors import CorruptBatchError, RecordError, UnsupportedFormatError
from tests.storage.record.golden import BATCHES, TIME

V2 = {name: data for name, data in BATCHES.items() if name.startswith("v2")}


def int_of(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def test_header_of_a_java_batch() -> None:
    header = read_header(BATCHES["v2-transactional"])
    assert header == BatchHeader(42, 90, 9, 2, header.crc, 0x10, 2, TIME, TIME + 5, 4711, 3, 7, 3)
    assert (header.size_bytes, header.last_offset, header.next_offset, header.last_sequence) == (102, 44, 45, 9)
    assert header.is_transactional and not header.is_control and header.has_producer_id
    assert read_header(BATCHES["v2-gzip"]).codec == CODEC_GZIP
    assert read_header(BATCHES["v2-log-append-time"]).is_log_append_time
    assert read_header(BATCHES["v2-commit"]).is_control
    assert read_header(BATCHES["v2-delete-horizon"]).has_delete_horizon


def test_sequence_wraps_to_zero() -> None:
    assert read_header(BATCHES["v2-idempotent"]).last_sequence == 0
    assert sequence_after(2147483647, 1) == 0
    assert sequence_after(-1, 5) == -1


def test_last_offset_of_an_emptied_batch() -> None:
    header = read_header(BATCHES["v2-emptied"])
    assert (header.record_count, header.base_offset, header.last_offset) == (0, 100, 104)


@pytest.mark.parametrize("name", sorted(V2))
def test_crc_of_a_java_batch_is_valid(name: str) -> None:
    assert crc_is_valid(memoryview(V2[name]), 0, len(V2[name]))


@pytest.mark.parametrize("name", sorted(V2))
def test_crc_sees_every_changed_byte_behind_it(name: str) -> None:
    data = bytearray(V2[name])
    for position in range(17, min(len(data), 200)):
        data[position] ^= 0x40
        assert not crc_is_valid(memoryview(data), 0, len(data))
        data[position] ^= 0x40


def test_offset_and_epoch_are_patched_without_touching_the_crc() -> None:
    data = bytearray(b"before") + bytearray(BATCHES["v2-lz4"])
    patch_offset_and_epoch(memoryview(data), 6, OFFSET_MAX - 2, 77)
    header = read_header(data, 6)
    assert (header.base_offset, header.partition_leader_epoch) == (OFFSET_MAX - 2, 77)
    assert crc_is_valid(memoryview(data), 6, header.size_bytes)
    assert data[6 + 16:] == BATCHES["v2-lz4"][16:]


def test_restamp_gives_what_java_writes_for_log_append_time() -> None:
    data = bytearray(BATCHES["v2-none"])
    restamp(memoryview(data), 0, TIME + 99, log_append_time=True)
    java = bytearray(BATCHES["v2-log-append-time"])
    patch_offset_and_epoch(memoryview(java), 0, 42, -1)
    assert data == java


def test_restamp_back_to_create_time() -> None:
    data = bytearray(BATCHES["v2-none"])
    restamp(memoryview(data), 0, TIME + 99, log_append_time=True)
    restamp(memoryview(data), 0, TIME + 5, log_append_time=False)
    assert data == BATCHES["v2-none"]


def test_restamp_without_a_change_leaves_even_a_wrong_crc() -> None:
    data = bytearray(BATCHES["v2-none"])
    data[17] ^= 1
    restamp(memoryview(data), 0, TIME + 5, log_append_time=False)
    assert not crc_is_valid(memoryview(data), 0, len(data))


@given(st.tuples(int_of(64), int_of(32), int_of(32), int_of(8), st.integers(0, 2**32 - 1), int_of(16),
                 int_of(32), int_of(64), int_of(64), int_of(64), int_of(16), int_of(32), int_of(32)))
def test_header_fields_survive_packing(fields: tuple[int, ...]) -> None:
    assert read_header(HEADER.pack(*fields)) == fields


def test_walk_over_mixed_formats() -> None:
    names = ["v0-none", "v2-none", "v1-gzip", "v2-zstd"]
    data = b"".join(BATCHES[name] for name in names)
    magics = [extent.magic for extent in iterate_extents(data)]
    assert magics == [0, 0, 0, 2, 1, 2]
    assert sum(extent.size_bytes for extent in iterate_extents(data)) == len(data)


def test_header_walk_refuses_an_old_message() -> None:
    data = BATCHES["v2-none"] + BATCHES["v1-none"]
    with pytest.raises(UnsupportedFormatError, match="at byte 102: message format v1"):
        list(iterate_headers(data))


def test_headers_of_several_batches() -> None:
    data = BATCHES["v2-none"] + BATCHES["v2-emptied"] + BATCHES["v2-gzip"]
    assert [position for position, _ in iterate_headers(data)] == [0, 102, 163]
    assert [position for position, _ in iterate_headers(data, 102, 163)] == [102]


def test_cut_last_batch_is_an_error_unless_allowed() -> None:
    data = BATCHES["v2-none"]
    for cut in range(1, len(data)):
        with pytest.raises(CorruptBatchError):
            list(iterate_headers(data + data[:cut]))
        assert len(list(iterate_headers(data + data[:cut], allow_partial=True))) == 1


@pytest.mark.parametrize(("length", "magic"), [(48, 2), (13, 0), (21, 1), (-1, 2), (-2**31, 2), (0, 2)])
def test_length_below_the_formats_header_is_refused(length: int, magic: int) -> None:
    data = struct.pack(">qiiB", 0, length, 0, magic) + bytes(100)
    with pytest.raises(CorruptBatchError):
        read_extent(data, 0, len(data))


@pytest.mark.parametrize("magic", [3, 127, 128, 255])
def test_unknown_magic_is_refused(magic: int) -> None:
    data = struct.pack(">qiiB", 0, 60, 0, magic) + bytes(100)
    with pytest.raises(CorruptBatchError, match="unknown magic"):
        read_extent(data, 0, len(data))


def test_length_up_to_int32_max_is_only_incomplete() -> None:
    data = struct.pack(">qiiB", 0, 2**31 - 1, 0, MAGIC_V2) + bytes(100)
    assert read_extent(data, 0, len(data)) is None


@given(st.binary(max_size=300))
def test_any_bytes_walk_or_raise_a_record_error(data: bytes) -> None:
    for allow_partial in (False, True):
        try:
            extents = list(iterate_extents(data, allow_partial=allow_partial))
        except RecordError as error:
            assert 0 <= error.position < len(data)
        else:
            assert all(extent.position + extent.size_bytes <= len(data) for extent in extents)


@given(st.binary(min_size=17, max_size=120), st.integers(-1, 130))
def test_any_length_field_stays_within_the_buffer(tail: bytes, length: int) -> None:
    data = struct.pack(">qi", 0, length) + b"\x00" * 4 + b"\x02" + tail
    try:
        extent = read_extent(data, 0, len(data))
    except CorruptBatchError:
        assert length + 12 < BATCH_OVERHEAD
    else:
        assert (extent is None) == (length + 12 > len(data))
