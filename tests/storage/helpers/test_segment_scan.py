"""The recovery scan: the same indexes, epochs and end as Kafka's recovery, and a named reason for each stop."""
from __future__ import annotations

import pathlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.checkpoint.leader_epoch_checkpoint import decode_leader_epoch_checkpoint
from storage.helpers import segment_scan
from storage.helpers.producer_updates import unpack_updates
from storage.helpers.segment_scan import ScanStart, SegmentScan, StopReason, scan_segment
from storage.record.batch import CONTROL_BIT, LOG_OVERHEAD, iterate_headers, patch_offset_and_epoch, write_crc
from storage.record.legacy import build_message
from storage.record.records import Producer, Record, build_batch
from tests.storage.helpers import golden
from tests.storage.record.golden import BATCHES, TIME

LOG = golden.FILES["log"]
VALID = LOG[:-golden.TRUNCATED_SIZE_BYTES]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "00000000000000000000.log")


def scan(path: str, data: bytes, *, base_offset: int = 0, position: int = 0, interval: int = 4096,
         start: ScanStart = segment_scan.FROM_THE_BEGINNING, verify_crc: bool = True) -> SegmentScan:
    pathlib.Path(path).write_bytes(data)
    return scan_segment(path, position, base_offset, interval, start=start, verify_crc=verify_crc)


def scan_golden(path: str, data: bytes = LOG, **arguments: bool) -> SegmentScan:
    return scan(path, data, base_offset=golden.BASE_OFFSET, interval=golden.INDEX_INTERVAL_BYTES, **arguments)


def batch(offset: int, *, size_bytes: int = 100, timestamp: int = TIME, epoch: int = 0) -> bytes:
    """A batch of exactly that size."""
    overhead = len(build_batch([Record(offset, timestamp, None, bytes(size_bytes - 80))])) - (size_bytes - 80)
    return build_batch([Record(offset, timestamp, None, bytes(size_bytes - overhead))], leader_epoch=epoch)


@pytest.mark.parametrize("verify_crc", [True, False])
def test_indexes_are_kafkas_byte_for_byte(path: str, verify_crc: bool) -> None:
    result = scan_golden(path, verify_crc=verify_crc)
    assert result.offset_index == golden.FILES["index"]
    assert result.time_index == golden.FILES["timeindex"]


def test_end_epochs_and_next_offset_are_kafkas(path: str) -> None:
    result = scan_golden(path)
    assert result.invalid_size_bytes == golden.TRUNCATED_SIZE_BYTES
    assert result.next_offset == golden.NEXT_OFFSET
    epochs = decode_leader_epoch_checkpoint("golden", golden.FILES["leader-epoch-checkpoint"])
    assert result.leader_epochs == [list(entry) for entry in epochs]
    assert result.batch_count == sum(1 for _ in iterate_headers(VALID))
    assert (result.stop_reason, result.file_size_bytes) == (StopReason.CUT_BATCH, len(LOG))


def test_small_buffers_see_the_same(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scan_golden(path)
    for size_bytes in (61, 62, 97, 150, 1000):
        monkeypatch.setattr(segment_scan, "BUFFER_SIZE_BYTES", size_bytes)
        expected = whole if size_bytes >= 150 else None
        result = scan_golden(path)
        if expected is None:  # a control batch must fit the buffer, larger data batches need not
            assert result.stop_reason in (StopReason.CUT_BATCH, StopReason.CORRUPT_BATCH)
        else:
            assert result == expected


def test_resumed_scan_adds_what_the_first_left_out(path: str) -> None:
    whole = scan_golden(path)
    for position, header in list(iterate_headers(VALID))[1:]:
        first = scan_golden(path, VALID[:position])
        start = ScanStart(first.next_offset, first.last_index_position, first.largest_timestamp,
                          first.offset_of_largest_timestamp, first.leader_epochs[-1][0])
        rest = scan(path, VALID, base_offset=golden.BASE_OFFSET, interval=golden.INDEX_INTERVAL_BYTES,
                    position=position, start=start)
        assert first.offset_index + rest.offset_index == whole.offset_index
        assert first.leader_epochs + rest.leader_epochs == whole.leader_epochs
        assert rest.next_offset == whole.next_offset
        assert first.batch_count + rest.batch_count == whole.batch_count
        assert header.base_offset >= first.next_offset


def test_every_cut_ends_at_the_last_whole_batch(path: str) -> None:
    ends = [position for position, _ in iterate_headers(VALID)] + [len(VALID)]
    for cut in range(1200):
        result = scan_golden(path, VALID[:cut])
        assert result.valid_end_position == max(end for end in ends if end <= cut)
        assert (result.stop_reason == StopReason.END_OF_FILE) == (cut in ends)


def test_every_flipped_byte_ends_the_scan_before_its_batch(path: str) -> None:
    ends = [position for position, _ in iterate_headers(VALID)] + [len(VALID)]
    for position in range(1000):
        start = max(end for end in ends if end <= position)
        if position - start < 8 or 12 <= position - start < 16:
            continue  # base offset and leader epoch are protected by nothing
        damaged = bytearray(VALID)
        damaged[position] ^= 0x80
        result = scan_golden(path, bytes(damaged))
        assert result.valid_end_position == start
        assert result.stop_reason in (StopReason.CORRUPT_BATCH, StopReason.CUT_BATCH, StopReason.OFFSET_OVERFLOW)
        assert result.stop_what


def test_empty_file(path: str) -> None:
    result = scan(path, b"", base_offset=7)
    assert (result.valid_end_position, result.next_offset, result.batch_count) == (0, 7, 0)
    assert (result.stop_reason, result.largest_timestamp, result.time_index) == (StopReason.END_OF_FILE, -1, b"")


def test_zero_tail_of_a_preallocated_segment(path: str) -> None:
    result = scan(path, batch(0) + bytes(5000))
    assert (result.valid_end_position, result.stop_reason) == (100, StopReason.CORRUPT_BATCH)
    assert result.stop_what == "zeros where a batch should begin"


def test_batch_larger_than_the_buffer(path: str) -> None:
    data = batch(0) + batch(1, size_bytes=5_000_000) + batch(2)
    for verify_crc in (True, False):
        result = scan(path, data, verify_crc=verify_crc)
        assert (result.valid_end_position, result.batch_count) == (len(data), 3)
        assert result.offset_index == struct.pack(">ii", 2, len(data) - 100)


def test_large_batch_with_a_flipped_byte(path: str) -> None:
    data = bytearray(batch(0) + batch(1, size_bytes=5_000_000))
    data[-1] ^= 1
    result = scan(path, bytes(data))
    assert (result.valid_end_position, result.stop_reason) == (100, StopReason.CORRUPT_BATCH)
    assert "checksum of the batch at offset 1" in result.stop_what


def test_large_batch_of_a_producer_is_noted(path: str) -> None:
    data = build_batch([Record(0, TIME, None, bytes(3_000_000))], producer=Producer(5, 1, 9))
    (update,) = unpack_updates(scan(path, data).producer_updates)
    assert (update.producer_id, update.first_sequence, update.last_offset) == (5, 9, 0)


def test_cut_large_batch(path: str) -> None:
    result = scan(path, batch(0) + batch(1, size_bytes=5_000_000)[:-1])
    assert (result.valid_end_position, result.stop_reason) == (100, StopReason.CUT_BATCH)


def test_offsets_that_go_back_end_the_scan(path: str) -> None:
    result = scan(path, batch(5) + batch(6) + batch(6))
    assert (result.valid_end_position, result.next_offset) == (200, 7)
    assert result.stop_reason == StopReason.CORRUPT_BATCH
    assert "where 7 should follow" in result.stop_what


def test_offsets_below_the_base_end_the_scan(path: str) -> None:
    result = scan(path, batch(5), base_offset=6)
    assert (result.valid_end_position, result.stop_reason) == (0, StopReason.CORRUPT_BATCH)


def test_offsets_too_far_from_the_base_are_an_overflow(path: str) -> None:
    result = scan(path, batch(0) + batch(2**31 - 1) + batch(2**31))
    assert (result.valid_end_position, result.next_offset) == (200, 2**31)
    assert result.stop_reason == StopReason.OFFSET_OVERFLOW


def test_gaps_left_by_compaction_are_fine(path: str) -> None:
    result = scan(path, batch(5) + batch(100))
    assert (result.next_offset, result.stop_reason) == (101, StopReason.END_OF_FILE)


def test_first_batch_is_never_indexed_and_the_time_index_still_ends_right(path: str) -> None:
    result = scan(path, batch(3), interval=0)
    assert result.offset_index == b""
    assert result.time_index == struct.pack(">qi", TIME, 3)


def test_largest_timestamp_is_that_of_the_first_batch_that_has_it(path: str) -> None:
    result = scan(path, batch(0, timestamp=5) + batch(1, timestamp=9) + batch(2, timestamp=9))
    assert (result.first_timestamp, result.largest_timestamp, result.offset_of_largest_timestamp) == (5, 9, 1)


def test_batches_without_timestamps_leave_the_time_index_empty(path: str) -> None:
    result = scan(path, batch(0, timestamp=-1) + batch(1, timestamp=-1), interval=0)
    assert (result.time_index, result.largest_timestamp) == (b"", -1)
    assert len(result.offset_index) == 8


def test_epochs_only_rise_and_a_negative_one_is_none(path: str) -> None:
    result = scan(path, b"".join(batch(i, epoch=epoch) for i, epoch in enumerate([-1, 3, 3, 2, 7])))
    assert result.leader_epochs == [[3, 1], [7, 4]]


def test_old_formats(path: str) -> None:
    data = BATCHES["v0-none"] + BATCHES["v1-gzip"].replace(struct.pack(">q", 44), struct.pack(">q", 47), 1)
    result = scan(path, data, interval=20)
    assert (result.batch_count, result.next_offset, result.stop_reason) == (4, 48, StopReason.END_OF_FILE)
    assert (result.largest_timestamp, result.offset_of_largest_timestamp) == (TIME + 5, 47)
    assert [offset for offset, _ in struct.iter_unpack(">ii", result.offset_index)] == [43, 44, 47]
    assert result.leader_epochs == []


def test_damaged_old_message(path: str) -> None:
    data = bytearray(BATCHES["v1-none"])
    data[-1] ^= 1
    result = scan(path, bytes(data))
    assert (result.batch_count, result.stop_reason) == (2, StopReason.CORRUPT_BATCH)


def test_large_old_message(path: str) -> None:
    data = build_message(Record(0, TIME, None, bytes(3_000_000)), magic=1)
    assert scan(path, data + batch(1)).batch_count == 2
    assert scan(path, data[:-1]).stop_reason == StopReason.CUT_BATCH


def test_control_batch_that_does_not_decode_is_corrupt(path: str) -> None:
    data = build_batch([Record(0, TIME, b"\0", b"")], attributes=CONTROL_BIT, producer=Producer(5, 1))
    result = scan(path, batch(0) + _at(data, 1))
    assert (result.valid_end_position, result.stop_reason) == (100, StopReason.CORRUPT_BATCH)
    assert "control batch at offset 1" in result.stop_what


def test_control_batch_of_no_transaction_is_kept(path: str) -> None:
    data = build_batch([Record(0, TIME, b"\0\0\0\2", b"")], attributes=CONTROL_BIT, producer=Producer(5, 1))
    result = scan(path, data)
    assert (result.batch_count, result.producer_updates) == (1, b"")


def test_start_beyond_the_file(path: str) -> None:
    result = scan(path, batch(0), position=100, start=ScanStart(next_offset=1))
    assert (result.valid_end_position, result.next_offset, result.batch_count) == (100, 1, 0)


def test_missing_file_is_an_os_error(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        scan_segment(path, 0, 0, 4096)


@given(st.lists(st.binary(max_size=90) | st.sampled_from(sorted(BATCHES.values())), max_size=5))
def test_any_bytes_scan_to_a_prefix_of_whole_batches(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_scan, "BUFFER_SIZE_BYTES", 200)
        path = pathlib.Path("/proc/self/fd") / str(_memfd(data))
        result = scan_segment(str(path), 0, 0, 0)
    assert 0 <= result.valid_end_position <= len(data) == result.file_size_bytes
    assert (result.stop_reason == StopReason.END_OF_FILE) == (result.valid_end_position == len(data))


def _memfd(data: bytes, holder: list[int] = []) -> int:  # noqa: B006 - one descriptor, reused
    import os
    while holder:
        os.close(holder.pop())
    holder.append(os.memfd_create("segment"))
    os.write(holder[0], data)
    return holder[0]


def _at(data: bytes, offset: int) -> bytes:
    moved = bytearray(data)
    patch_offset_and_epoch(memoryview(moved), 0, offset, 0)
    assert struct.unpack_from(">i", moved, 8)[0] + LOG_OVERHEAD == len(moved)
    write_crc(memoryview(moved), 0, len(moved))
    return bytes(moved)
