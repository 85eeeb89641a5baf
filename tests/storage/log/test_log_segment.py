"""The rules for filling and ending a segment, without a log around it."""
from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from storage.fs import OS_FILES
from storage.log.log_config import LogConfig
from storage.log.log_segment import LogSegment
from tests.storage.log.worlds import NOW_MS, batch, sized_batch

BASE = 100
GIGABYTE = 1 << 30


def new_segment(path: Path, roll_jitter_ms: int = 0, **config: Any) -> LogSegment:
    segment = LogSegment(str(path), BASE, 0, LogConfig(**config), OS_FILES, now_ms=NOW_MS,
                         roll_jitter_ms=roll_jitter_ms)
    segment.create_files()
    return segment


def fill(segment: LogSegment, *batches: memoryview, first_offset: int = BASE, timestamp: int = NOW_MS) -> None:
    """One record each."""
    for index, each in enumerate(batches):
        struct.pack_into(">q", each, 0, first_offset + index)
        segment.stage(len(each), first_offset + index, timestamp + index)
        segment.log.append([each])
        segment.write_pending_indexes()


def offset_entries(segment: LogSegment) -> list[tuple[int, int]]:
    data = Path(segment.path(".index")).read_bytes()
    return list(struct.iter_unpack(">ii", data))


def time_entries(segment: LogSegment) -> list[tuple[int, int]]:
    data = Path(segment.path(".timeindex")).read_bytes()
    return list(struct.iter_unpack(">qi", data))


def test_an_entry_is_due_after_more_than_the_interval_since_the_last(tmp_path: Path) -> None:
    """The first append is never indexed; the entry names the append that begins behind the interval."""
    segment = new_segment(tmp_path, index_interval_bytes=1000)
    fill(segment, *(sized_batch(500) for _ in range(8)))
    assert offset_entries(segment) == [(3, 1500), (6, 3000)]
    assert time_entries(segment) == [(NOW_MS + 3, 3), (NOW_MS + 6, 6)]


def test_exactly_the_interval_is_not_enough(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, index_interval_bytes=500)
    fill(segment, sized_batch(500), sized_batch(500), sized_batch(500))
    assert offset_entries(segment) == [(2, 1000)]


def test_the_time_entry_names_where_the_largest_timestamp_was(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, index_interval_bytes=100)
    fill(segment, sized_batch(200), timestamp=NOW_MS + 50)
    fill(segment, sized_batch(200), first_offset=BASE + 1, timestamp=NOW_MS)
    assert time_entries(segment) == [(NOW_MS + 50, 0)]


def test_a_sealed_segment_ends_with_its_largest_timestamp(tmp_path: Path) -> None:
    segment = new_segment(tmp_path)
    fill(segment, sized_batch(200), sized_batch(200))
    segment.seal()
    segment.seal()
    assert time_entries(segment) == [(NOW_MS + 1, 1)]


def rolls(segment: LogSegment, size_bytes: int = 100, timestamp: int = NOW_MS, now_ms: int = NOW_MS,
          last_offset: int = BASE + 1, segment_size_bytes: int = GIGABYTE) -> bool:
    return segment.should_roll(size_bytes, timestamp, last_offset, now_ms, segment_size_bytes)


def test_a_segment_rolls_when_the_append_would_make_it_too_large(tmp_path: Path) -> None:
    segment = new_segment(tmp_path)
    fill(segment, sized_batch(300))
    assert not rolls(segment, 100, segment_size_bytes=400)
    assert rolls(segment, 101, segment_size_bytes=400)


def test_a_segment_rolls_by_the_timestamps_of_its_batches(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, segment_ms=1000)
    fill(segment, sized_batch(300))
    assert not rolls(segment, timestamp=NOW_MS + 1000)
    assert rolls(segment, timestamp=NOW_MS + 1001)
    assert not rolls(segment, timestamp=NOW_MS, now_ms=NOW_MS + 10**9)  # the clock does not count


def test_without_timestamps_a_segment_rolls_by_the_clock_since_it_was_created(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, segment_ms=1000)
    fill(segment, sized_batch(300), timestamp=-1)
    assert not rolls(segment, timestamp=-1, now_ms=NOW_MS + 1000)
    assert rolls(segment, timestamp=-1, now_ms=NOW_MS + 1001)


def test_jitter_makes_it_roll_earlier(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, roll_jitter_ms=400, segment_ms=1000)
    fill(segment, sized_batch(300))
    assert not rolls(segment, timestamp=NOW_MS + 600)
    assert rolls(segment, timestamp=NOW_MS + 601)


def test_an_empty_segment_never_rolls_by_time_or_size(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, segment_ms=1000)
    assert not rolls(segment, timestamp=NOW_MS + 10**9, now_ms=NOW_MS + 10**9)


def test_a_relative_offset_must_fit_31_bits(tmp_path: Path) -> None:
    segment = new_segment(tmp_path)
    assert not rolls(segment, last_offset=BASE + (1 << 31) - 1)
    assert rolls(segment, last_offset=BASE + (1 << 31))


@pytest.mark.parametrize(("index_size_bytes_max", "entries"), [(24, 1), (36, 2), (48, 3)])
def test_a_full_index_makes_it_roll(tmp_path: Path, index_size_bytes_max: int, entries: int) -> None:
    """The time index is full one entry early: the last slot is for the end of the segment."""
    segment = new_segment(tmp_path, index_interval_bytes=0, index_size_bytes_max=index_size_bytes_max)
    count = 0
    while not rolls(segment):
        fill(segment, sized_batch(100), first_offset=BASE + count, timestamp=NOW_MS + count)
        count += 1
    assert len(time_entries(segment)) == entries


def test_segment_ms_changes_at_once(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, segment_ms=1000)
    fill(segment, sized_batch(300))
    segment.update_config(LogConfig(segment_ms=10))
    assert rolls(segment, timestamp=NOW_MS + 11)


def reopened(path: Path, **config: Any) -> LogSegment:
    size = (path / f"{BASE:020d}.log").stat().st_size
    segment = LogSegment(str(path), BASE, size, LogConfig(**config), OS_FILES, now_ms=NOW_MS, exists=True)
    segment.open_for_append()
    return segment


def test_a_reopened_segment_rolls_by_its_first_batch(tmp_path: Path) -> None:
    segment = new_segment(tmp_path)
    fill(segment, sized_batch(300), sized_batch(300, timestamp=NOW_MS + 500))
    segment.seal()
    again = reopened(tmp_path, segment_ms=1000)
    assert not rolls(again, timestamp=NOW_MS + 1000)
    assert rolls(again, timestamp=NOW_MS + 1001)
    assert again.largest_timestamp == NOW_MS + 1


def test_a_reopened_segment_finds_its_batches(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, index_interval_bytes=250)
    fill(segment, *(sized_batch(100) for _ in range(20)))
    again = reopened(tmp_path)
    assert again.next_offset() == BASE + 20
    for offset in range(BASE, BASE + 20):
        found = again.find_batch(offset)
        assert found is not None
        assert found.position == (offset - BASE) * 100
    assert again.find_batch(BASE + 20) is None


@pytest.mark.parametrize("position", [-100, 50, 1500, 1 << 30])
def test_an_index_entry_that_leads_nowhere_is_passed_over(tmp_path: Path, position: int) -> None:
    """Before the file, into a batch, behind the wanted batch, behind the file."""
    segment = new_segment(tmp_path, index_interval_bytes=250)
    fill(segment, *(sized_batch(100) for _ in range(20)))
    Path(segment.path(".index")).write_bytes(struct.pack(">ii", 5, position))
    again = reopened(tmp_path)
    for offset in range(BASE, BASE + 20):
        found = again.find_batch(offset)
        assert found is not None and found.position == (offset - BASE) * 100


@pytest.mark.parametrize("entry", [(0, 0), (NOW_MS - 10**9, 7), (NOW_MS, 10**6)])
def test_the_largest_timestamp_is_not_taken_from_an_index_that_lies(tmp_path: Path, entry: tuple[int, int]) -> None:
    """Else retention would delete the segment."""
    segment = new_segment(tmp_path, index_interval_bytes=250)
    fill(segment, *(sized_batch(100, timestamp=NOW_MS + index) for index in range(10)))
    segment.seal()
    segment.release()
    Path(segment.path(".timeindex")).write_bytes(struct.pack(">qi", *entry))
    size = Path(segment.log.path).stat().st_size
    ended = LogSegment(str(tmp_path), BASE, size, LogConfig(), OS_FILES, now_ms=NOW_MS, exists=True)
    assert ended.largest_timestamp == NOW_MS + 9
    assert ended.log.fd < 0


def test_truncation_takes_whole_batches_and_their_index_entries(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, index_interval_bytes=250)
    fill(segment, *(sized_batch(100, timestamp=NOW_MS + index) for index in range(20)))
    assert segment.truncate_to(BASE + 10, NOW_MS) == 1000
    assert (segment.size_bytes, segment.next_offset()) == (1000, BASE + 10)
    assert offset_entries(segment) == [(3, 300), (6, 600), (9, 900)]
    assert segment.max_timestamp == NOW_MS + 9


def test_the_largest_timestamp_of_batches_without_one_is_the_files_time(tmp_path: Path) -> None:
    segment = new_segment(tmp_path)
    fill(segment, sized_batch(300, timestamp=-1), timestamp=-1)
    segment.release()
    OS_FILES.set_modified_time(segment.log.path, NOW_MS - 5)
    assert segment.largest_timestamp == NOW_MS - 5


def test_restore_takes_a_failed_group_out_of_files_and_counters(tmp_path: Path) -> None:
    segment = new_segment(tmp_path, index_interval_bytes=150)
    fill(segment, *(sized_batch(100) for _ in range(5)))
    before = (segment.state(), Path(segment.log.path).read_bytes(), offset_entries(segment),
              time_entries(segment))
    fill(segment, *(sized_batch(100) for _ in range(5)), first_offset=BASE + 5, timestamp=NOW_MS + 5)
    segment.stage(len(batch()), BASE + 11, NOW_MS + 100)
    segment.restore(before[0])
    assert (segment.state(), Path(segment.log.path).read_bytes(), offset_entries(segment),
            time_entries(segment)) == before
