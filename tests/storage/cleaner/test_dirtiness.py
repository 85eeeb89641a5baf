from __future__ import annotations

from dataclasses import dataclass

import pytest

from storage.cleaner.dirtiness import (
    RELATIVE_OFFSET_MAX,
    CleanableLog,
    LogBounds,
    SegmentSizes,
    group_segments,
    look_at,
)
from storage.log.log_config import LogConfig

NOW_MS = 1_000_000


@dataclass
class FakeSegment:
    base_offset: int
    size_bytes: int = 100
    largest_timestamp: int = 0
    first_timestamp: int = -1


def segments(*bases: int) -> list[FakeSegment]:
    """Written at ten times their base."""
    return [FakeSegment(base, largest_timestamp=base * 10, first_timestamp=base * 10) for base in bases]


def look(checkpoint: int | None = None, *, stable: int = 60, start: int = 0, end: int = 60,
         bases: tuple[int, ...] = (0, 10, 20, 30, 40, 50), now_ms: int = NOW_MS, **config: object) -> CleanableLog:
    made = LogConfig(compact=True, **config)  # type: ignore[arg-type]
    return look_at(segments(*bases), LogBounds(start, end, stable), checkpoint, made, now_ms,
                   lambda segment: segment.first_timestamp)


@pytest.mark.parametrize(("stable", "uncleanable"), [(60, 50), (50, 50), (49, 40), (40, 40), (39, 30), (0, 0)])
def test_cleaning_ends_before_the_segment_that_holds_the_stable_offset(stable: int, uncleanable: int) -> None:
    assert look(stable=stable).first_uncleanable_offset == uncleanable


def test_the_active_segment_is_never_cleaned() -> None:
    assert look().first_uncleanable_offset == 50


@pytest.mark.parametrize(("now_ms", "uncleanable"), [(399, 20), (400, 30), (401, 30), (500, 40), (10_000, 50)])
def test_cleaning_ends_with_the_first_segment_that_is_too_young(now_ms: int, uncleanable: int) -> None:
    """Young is: newer than now less 200 ms."""
    assert look(now_ms=now_ms, min_compaction_lag_ms=200).first_uncleanable_offset == uncleanable


def test_a_future_timestamp_is_young_for_ever_but_only_with_a_lag() -> None:
    assert look(now_ms=-1_000_000).first_uncleanable_offset == 50
    assert look(now_ms=-1_000_000, min_compaction_lag_ms=1).first_uncleanable_offset == 0


@pytest.mark.parametrize(("checkpoint", "first_dirty", "wrong"), [
    (None, 5, False), (5, 5, False), (25, 25, False), (60, 60, False), (4, 5, True), (61, 5, True)])
def test_a_checkpoint_outside_the_log_is_replaced_by_the_log_start(
        checkpoint: int | None, first_dirty: int, wrong: bool) -> None:
    seen = look(checkpoint, start=5)
    assert (seen.first_dirty_offset, seen.checkpoint_was_wrong) == (first_dirty, wrong)


@pytest.mark.parametrize(("checkpoint", "clean", "cleanable"), [
    (None, 0, 500), (20, 200, 300), (25, 300, 300), (50, 500, 0), (55, 600, 0)])
def test_dirt_is_counted_in_whole_segments(checkpoint: int | None, clean: int, cleanable: int) -> None:
    """The one that holds the first dirty offset counts on both sides, as in Kafka."""
    seen = look(checkpoint)
    assert (seen.clean_size_bytes, seen.cleanable_size_bytes) == (clean, cleanable)


@pytest.mark.parametrize(("checkpoint", "due"), [(20, True), (30, False), (50, False)])
def test_due_is_what_has_more_dirt_than_the_ratio(checkpoint: int, due: bool) -> None:
    """500 bytes are below the active segment: 300 of them dirty are more than half, 200 are not."""
    assert look(checkpoint).is_due(LogConfig()) is due


@pytest.mark.parametrize(("now_ms", "due"), [(500, False), (501, True)])
def test_max_lag_makes_any_dirt_due(now_ms: int, due: bool) -> None:
    """Counted from the first batch of the oldest dirty segment, here 400 ms."""
    seen = look(40, now_ms=now_ms, max_compaction_lag_ms=100)
    assert seen.is_due(LogConfig()) is due


def test_max_lag_has_nothing_to_do_without_dirt() -> None:
    assert not look(50, max_compaction_lag_ms=100).is_due(LogConfig())


def groups(*sizes: tuple[int, ...], uncleanable: int = 1000) -> list[list[int]]:
    made = group_segments([SegmentSizes(*each) for each in sizes], log_size_bytes_max=100,
                          index_size_bytes_max=100, first_uncleanable_offset=uncleanable)
    return [[segment.base_offset for segment in group] for group in made]


def test_neighbours_are_grouped_as_long_as_they_fit_one_segment() -> None:
    assert groups((0, 50, 1, 1), (10, 50, 1, 1), (20, 1, 1, 1), (30, 100, 1, 1), (40, 200, 1, 1)) == [
        [0, 10], [20], [30], [40]]


@pytest.mark.parametrize("second", [(10, 1, 60, 1), (10, 1, 1, 60)])
def test_indexes_bound_a_group_too(second: tuple[int, ...]) -> None:
    assert groups((0, 1, 50, 50), second) == [[0], [10]]


@pytest.mark.parametrize(("uncleanable", "together"), [
    (RELATIVE_OFFSET_MAX + 1, True), (RELATIVE_OFFSET_MAX + 2, False)])
def test_the_last_possible_offset_bounds_a_group(uncleanable: int, together: bool) -> None:
    """The next segment's base, or what may not be cleaned, says what it may be at most."""
    assert (groups((0, 1, 1, 1), (10, 1, 1, 1), uncleanable=uncleanable) == [[0, 10]]) is together


def test_an_empty_segment_goes_with_any_group() -> None:
    assert groups((0, 1, 1, 1), (2**40, 0, 0, 0), uncleanable=2**41) == [[0, 2**40]]
