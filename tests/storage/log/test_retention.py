from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.log.log_config import LogConfig
from storage.log.retention import segments_to_delete
from tests.storage.log.worlds import NOW_MS, append, new_world, sized_batch


def deletable(path: Path, *, high_watermark: int = 100, log_start_offset: int = 0, now_ms: int = NOW_MS,
              empty_active: bool = False, **config: Any) -> int:
    """Of five segments of 400 bytes, offsets 0 to 4, with timestamps 0, 10, 20, 30, 40 ms after NOW_MS."""
    log = new_world(path, segment_size_bytes=500).new_log()
    append(log, *(sized_batch(400, timestamp=NOW_MS + 10 * index) for index in range(5)))
    if empty_active:
        log.roll(NOW_MS)
    return segments_to_delete(log.segments, LogConfig(**config), log_start_offset=log_start_offset,
                              log_end_offset=5, high_watermark=high_watermark, now_ms=now_ms)


@pytest.mark.parametrize(("retention_bytes", "count"), [
    (-1, 0), (2000, 0), (1999, 0), (1600, 1), (1201, 1), (1200, 2), (399, 4), (0, 5)])
def test_size_deletes_what_is_wholly_in_excess(tmp_path: Path, retention_bytes: int, count: int) -> None:
    assert deletable(tmp_path, retention_bytes=retention_bytes) == count


@pytest.mark.parametrize(("age_ms", "count"), [(100, 0), (101, 1), (120, 2), (140, 4), (141, 5)])
def test_time_counts_from_the_largest_timestamp_of_a_segment(tmp_path: Path, age_ms: int, count: int) -> None:
    assert deletable(tmp_path, retention_ms=100, now_ms=NOW_MS + age_ms) == count


def test_no_limit_by_time(tmp_path: Path) -> None:
    assert deletable(tmp_path, retention_ms=-1, now_ms=NOW_MS + 10**12) == 0


@pytest.mark.parametrize(("high_watermark", "count"), [(0, 0), (1, 1), (4, 4), (5, 5)])
def test_nothing_at_or_above_the_high_watermark_goes(tmp_path: Path, high_watermark: int, count: int) -> None:
    assert deletable(tmp_path, retention_ms=0, now_ms=NOW_MS + 10**6, high_watermark=high_watermark) == count


@pytest.mark.parametrize(("log_start_offset", "count"), [(0, 0), (1, 1), (3, 3), (5, 4)])
def test_segments_below_the_log_start_go(tmp_path: Path, log_start_offset: int, count: int) -> None:
    """Subtle 53: only whole segments, and never the last one for this reason."""
    assert deletable(tmp_path, log_start_offset=log_start_offset) == count


def test_a_compacted_log_loses_only_what_lies_below_its_start(tmp_path: Path) -> None:
    assert deletable(tmp_path, delete=False, compact=True, retention_ms=0, retention_bytes=0,
                     log_start_offset=2, now_ms=NOW_MS + 10**6) == 2


def test_an_empty_active_segment_stays(tmp_path: Path) -> None:
    assert deletable(tmp_path, retention_ms=0, now_ms=NOW_MS + 10**6, empty_active=True) == 5


def test_size_counts_what_the_log_start_has_left(tmp_path: Path) -> None:
    assert deletable(tmp_path, log_start_offset=2, retention_bytes=800) == 3


def test_a_future_timestamp_keeps_its_segment_and_all_behind_it(tmp_path: Path) -> None:
    """Kafka's rule: retention goes from the oldest on, until one segment has to stay."""
    log = new_world(tmp_path, segment_size_bytes=500).new_log()
    append(log, *(sized_batch(400, timestamp=NOW_MS + offset_ms) for offset_ms in (0, 10**12, 0, 0)))
    count = segments_to_delete(log.segments, LogConfig(retention_ms=1), log_start_offset=0, log_end_offset=4,
                               high_watermark=4, now_ms=NOW_MS + 10**6)
    assert count == 1


def test_a_changed_configuration_counts_with_the_next_pass(tmp_path: Path) -> None:
    world = new_world(tmp_path, segment_size_bytes=500, retention_ms=-1)
    log = world.new_log()
    append(log, *(sized_batch(400, timestamp=NOW_MS) for _ in range(3)))
    later_ms = NOW_MS + 10**6
    assert log.delete_old_segments(later_ms, 3) == 0
    log.update_config(LogConfig(segment_size_bytes=500, retention_ms=1000))
    assert log.delete_old_segments(later_ms, 3) == 3
    assert log.log_start_offset == 3


def test_an_expired_active_segment_is_rolled_and_goes_at_once(tmp_path: Path) -> None:
    log = new_world(tmp_path, retention_ms=1000).new_log()
    append(log, sized_batch(400, timestamp=NOW_MS))
    assert log.delete_old_segments(NOW_MS + 1001, 1) == 1
    assert [segment.base_offset for segment in log.segments] == [1]
    assert log.delete_old_segments(NOW_MS + 10**9, 1) == 0, "an empty active segment stays"
