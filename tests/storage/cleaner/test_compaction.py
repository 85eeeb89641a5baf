"""Whole cleanings of small logs: what is left, record by record."""
from __future__ import annotations

from pathlib import Path

import pytest

from storage.helpers.segment_scan import StopReason, scan_segment
from storage.log.partition_log import PartitionLog
from storage.log.transaction_index import AbortedTxn
from storage.process.cleaning_steps import CleanerShare, UncleanableError
from storage.record.batch import (
    CODEC_GZIP,
    CODEC_LZ4,
    CODEC_NONE,
    CODEC_SNAPPY,
    CODEC_ZSTD,
    DELETE_HORIZON_BIT,
    iterate_extents,
)
from storage.record.legacy import build_message, build_wrapper, iterate_legacy_records
from storage.record.records import Producer, Record
from tests.storage.cleaner.cleaning_worlds import (
    SHARE,
    bases,
    clean,
    cleanable,
    contents,
    headers,
    leftovers,
    put,
    records,
)
from tests.storage.log.worlds import NOW_MS, World, append_marker, new_world

DAY_MS = 86_400_000
SMALL = {"compact": True, "delete": False, "segment_size_bytes": 300, "index_interval_bytes": 50}


def new_log(path: Path, **config: object) -> tuple[World, PartitionLog]:
    world = new_world(path, **{**SMALL, **config})
    return world, world.new_log()


def finish(log: PartitionLog) -> None:
    """What was put so far lies in ended segments."""
    log.roll(NOW_MS)


def test_the_latest_value_of_each_key_stays_with_its_offset(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    put(log, (b"a", b"1"), (b"b", b"1"))
    put(log, (b"a", b"2"), (b"c", b"1"))
    put(log, (b"b", b"2"))
    finish(log)
    report = clean(log)
    assert contents(log) == [(2, b"a", b"2"), (3, b"c", b"1"), (4, b"b", b"2")]
    assert (report.end_offset, report.records_read, report.records_kept) == (5, 5, 3)


def test_the_active_segment_and_its_keys_do_not_count(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    put(log, (b"a", b"1"))
    finish(log)
    put(log, (b"a", b"2"))
    clean(log)
    assert contents(log) == [(0, b"a", b"1"), (1, b"a", b"2")]


@pytest.mark.parametrize("codec", [CODEC_NONE, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD])
def test_batches_keep_codec_offsets_sequence_and_epoch(tmp_path: Path, codec: int) -> None:
    _, log = new_log(tmp_path, segment_size_bytes=4000)
    put(log, (b"a", b"1"), (b"b", b"1"), (b"c", b"1"), codec=codec, producer=Producer(7, 2, 5))
    put(log, (b"a", b"2"), (b"c", b"2"))
    finish(log)
    before = headers(log)[0]
    clean(log)
    after = headers(log)[0]
    kept = records(log)[0]
    assert (kept.offset, kept.key, kept.timestamp, kept.sequence) == (1, b"b", NOW_MS + 1, 6)
    assert after.max_timestamp == NOW_MS + 1
    unchanged = ("base_offset", "last_offset", "last_sequence", "producer_epoch", "attributes",
                 "partition_leader_epoch", "base_timestamp")
    assert [getattr(after, name) for name in unchanged] == [getattr(before, name) for name in unchanged]


def test_an_untouched_batch_is_copied_byte_by_byte(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    put(log, (b"a", b"1"), (b"b", b"1"))
    finish(log)
    before = Path(log.segments[0].log.path).read_bytes()
    clean(log)
    assert Path(log.segments[0].log.path).read_bytes() == before


def test_a_record_without_key_goes(tmp_path: Path) -> None:
    """Only possible in a topic that became compacted later."""
    world, log = new_log(tmp_path, compact=False, delete=True)
    put(log, (None, b"1"), (b"b", b"1"))
    finish(log)
    world.config = type(world.config)(**SMALL)
    log.update_config(world.config)
    assert clean(log).invalid == 1
    assert contents(log) == [(1, b"b", b"1")]


def test_a_tombstone_gets_a_horizon_first_and_goes_when_that_has_passed(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    put(log, (b"a", b"1"))
    put(log, (b"a", None), (b"b", b"1"))
    finish(log)
    first = clean(log)
    batch = headers(log)[0]
    assert contents(log) == [(1, b"a", None), (2, b"b", b"1")]
    assert batch.attributes & DELETE_HORIZON_BIT
    assert batch.base_timestamp == NOW_MS + DAY_MS
    assert [record.timestamp for record in records(log)] == [NOW_MS, NOW_MS + 1]
    assert clean(log, now_ms=NOW_MS + DAY_MS - 1).end_offset == first.end_offset
    assert headers(log)[0].base_timestamp == NOW_MS + DAY_MS, "the first horizon stands"
    clean(log, now_ms=NOW_MS + DAY_MS)
    assert contents(log) == [(2, b"b", b"1")]


def test_a_newer_value_removes_a_tombstone_at_once(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    put(log, (b"a", None))
    put(log, (b"a", b"2"))
    finish(log)
    clean(log)
    assert contents(log) == [(1, b"a", b"2")]


def test_small_segments_are_put_together_and_the_first_keeps_its_name(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    for _ in range(6):
        put(log, (b"a", b"x" * 20), (b"b", b"x" * 20), (b"c", b"x" * 100))
    finish(log)
    before = bases(log)
    assert len(before) > 3
    clean(log)
    assert bases(log) == before, "sizes before a cleaning decide"
    clean(log)
    assert bases(log) == [0, log.log_end_offset]
    assert not log.snapshots.offsets or set(log.snapshots.offsets) <= set(bases(log))
    assert leftovers(log) == []


def test_no_group_spans_more_offsets_than_an_index_can_say(tmp_path: Path) -> None:
    """Offsets over 2**31 apart: a compacted log of few keys reaches that after years."""
    world, log = new_log(tmp_path)
    put(log, (b"a", b"1"))
    finish(log)
    log.truncate_fully_and_start_at((1 << 31) + 10, 0)
    put(log, (b"a", b"2"))
    finish(log)
    early = Path(log.path, f"{5:020d}.log")
    early.write_bytes(_moved(Path(log.segments[0].log.path).read_bytes(), 5))
    log.close()
    world.reopen()
    log = world.log()
    assert bases(log)[:2] == [5, (1 << 31) + 10]
    clean(log)
    assert bases(log)[:2] == [5, (1 << 31) + 10]
    assert contents(log) == [((1 << 31) + 10, b"a", b"2")]


def _moved(batch: bytes, offset: int) -> bytes:
    return offset.to_bytes(8, "big") + batch[8:]


def test_an_aborted_transaction_goes_and_its_marker_later(tmp_path: Path) -> None:
    _, log = new_log(tmp_path, segment_size_bytes=10_000)
    producer = Producer(9, 0, 0)
    put(log, (b"a", b"1"))
    put(log, (b"a", b"aborted"), (b"b", b"aborted"), producer=producer, transactional=True)
    append_marker(log, producer, commit=False)
    other = Producer(8, 0, 0)
    put(log, (b"z", b"1"), producer=other, transactional=True)
    append_marker(log, other, commit=True)
    finish(log)
    index = log.segments[0].txn_index.entries()
    clean(log)
    assert contents(log) == [(0, b"a", b"1"), (4, b"z", b"1")]
    # The aborted batch stays without records: it has the producer's last sequence. So its marker is of use.
    empty = headers(log)[1]
    assert (empty.record_count, empty.base_offset, empty.last_offset, empty.last_sequence) == (0, 1, 2, 1)
    assert log.segments[0].txn_index.entries() == index == [AbortedTxn(9, 1, 3, 4)]
    log.remove_expired_producers(NOW_MS + 2 * DAY_MS)
    clean(log)  # nothing is remembered of the producer: the batch goes, the marker may follow
    assert [header.base_offset for header in headers(log)] == [0, 3, 4, 5]
    assert log.segments[0].txn_index.entries() == index
    clean(log)
    marker = headers(log)[1]
    assert marker.attributes & DELETE_HORIZON_BIT
    assert log.segments[0].txn_index.entries() == []
    clean(log, now_ms=NOW_MS + 2 * DAY_MS)
    assert [header.base_offset for header in headers(log)] == [0, 4, 5]


def test_an_open_transaction_bounds_what_is_cleaned(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    put(log, (b"a", b"1"))
    finish(log)
    put(log, (b"a", b"2"), producer=Producer(9, 0, 0), transactional=True)
    finish(log)
    put(log, (b"a", b"3"))
    finish(log)
    assert cleanable(log).first_uncleanable_offset == 1


def test_a_map_that_becomes_full_cleans_as_far_as_it_goes(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    for number in range(40):
        put(log, (b"%d" % number, b"1"), (b"same", b"x" * 50))
    finish(log)
    share = SHARE._replace(map_size_bytes_max=24 * 24)
    first = clean(log, share=share)
    assert 0 < first.end_offset < 80
    last = first
    while last.end_offset < 80:
        last = clean(log, last.end_offset, share=share)
    assert [key for _, key, _ in contents(log)] == [b"%d" % number for number in range(40)] + [b"same"]


def test_a_map_that_takes_not_one_batch_is_refused_with_the_key_to_change(tmp_path: Path) -> None:
    _, log = new_log(tmp_path, segment_size_bytes=3000)
    put(log, *((b"%d" % number, b"1") for number in range(40)))
    finish(log)
    with pytest.raises(UncleanableError, match="log.cleaner.dedupe.buffer.size"):
        clean(log, share=CleanerShare(24 * 10, 0.9, 1000, 1e300))
    assert len(contents(log)) == 40


def test_what_was_clean_is_compacted_with_the_new_keys(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    put(log, (b"a", b"1"), (b"b", b"1"))
    finish(log)
    end = clean(log).end_offset
    put(log, (b"a", b"2"))
    finish(log)
    look = cleanable(log, end)
    assert (look.first_dirty_offset, look.first_uncleanable_offset) == (2, 3)
    assert 0 < look.ratio < 1
    clean(log, end)
    assert contents(log) == [(1, b"b", b"1"), (2, b"a", b"2")]


def test_files_keep_their_time(tmp_path: Path) -> None:
    world, log = new_log(tmp_path)
    put(log, (b"a", b"1"))
    finish(log)
    path = log.segments[0].log.path
    world.files.set_modified_time(path, 1_600_000_000_123)
    clean(log)
    status = world.files.status(path)
    assert status is not None
    assert status.modified_time_ms == 1_600_000_000_123


def test_the_cleaned_segment_and_its_indexes_are_what_recovery_would_make(tmp_path: Path) -> None:
    world, log = new_log(tmp_path, segment_size_bytes=4000)
    for number in range(60):
        put(log, (b"%d" % (number % 45), b"x" * 30), timestamp=NOW_MS + number)
    finish(log)
    clean(log)
    for segment in log.segments[:-1]:
        scan = scan_segment(segment.log.path, 0, segment.base_offset, log.config.index_interval_bytes)
        assert scan.stop_reason == StopReason.END_OF_FILE
        assert Path(segment.path(".index")).read_bytes() == scan.offset_index
        assert Path(segment.path(".timeindex")).read_bytes() == scan.time_index
    before = contents(log)
    log.close()
    world.reopen()
    assert contents(world.log()) == before
    assert world.log().log_end_offset == 60


def test_a_damaged_batch_stops_the_cleaning_with_file_and_position(tmp_path: Path) -> None:
    _, log = new_log(tmp_path)
    put(log, (b"a", b"1"))
    second = log.active_size_bytes
    put(log, (b"a", b"2"))
    finish(log)
    path = Path(log.segments[0].log.path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(Exception, match=rf"{path} at byte {second}: the batch does not match"):
        clean(log)
    assert leftovers(log) == []
    assert path.read_bytes() == data


@pytest.mark.parametrize("magic", [0, 1])
def test_messages_of_formats_0_and_1_are_compacted(tmp_path: Path, magic: int) -> None:
    world, log = new_log(tmp_path)
    put(log, *[(b"x", b"1")] * 4)
    finish(log)
    log.close()
    time = NOW_MS if magic else -1
    inner = [Record(0, time, b"a", b"1"), Record(1, time, b"b", b"1"), Record(2, time, b"c", None)]
    messages = b"".join(build_message(record, magic=magic) for record in inner)
    single = build_message(Record(3, time, b"a", b"2"), magic=magic)
    wrapper = build_wrapper(messages, offset=2, timestamp=time, magic=magic, attributes=CODEC_GZIP)
    Path(log.path, f"{0:020d}.log").write_bytes(wrapper + single)
    world.reopen()
    log = world.log()
    clean(log)
    data = Path(log.segments[0].log.path).read_bytes()
    assert [(record.offset, record.key, record.timestamp) for extent in iterate_extents(data)
            for record in iterate_legacy_records(data, extent.position, output_size_bytes_max=OUTPUT)] == [
        (1, b"b", time), (2, b"c", time), (3, b"a", time)]


OUTPUT = 1 << 20
