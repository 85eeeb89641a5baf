"""Which part of a log may be compacted, how dirty it is, and which segments are compacted together. PURE.

Runs in: storage (writer thread). No state; rules of Kafka's LogCleanerManager and Cleaner.groupSegmentsBySize.

    log start      first dirty offset        first uncleanable offset     log end
    |  clean       |  cleanable              |  active segment, above the last stable offset, or too young |

The first dirty offset is where the last cleaning ended (`cleaner-offset-checkpoint`). What may be cleaned ends
with the active segment, with the segment that holds the last stable offset (so never beyond the high
watermark), and with the first segment younger than min.compaction.lag.ms.
"""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

NO_LAG_MAX: Final = (1 << 63) - 1
RELATIVE_OFFSET_MAX: Final = (1 << 31) - 1


class CleaningConfig(Protocol):
    """What of a log's configuration decides; ms and a ratio."""

    @property
    def min_cleanable_dirty_ratio(self) -> float: ...
    @property
    def min_compaction_lag_ms(self) -> int: ...
    @property
    def max_compaction_lag_ms(self) -> int: ...


class Segment(Protocol):
    """A segment as its log sees it; largest_timestamp may read files."""

    @property
    def base_offset(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def largest_timestamp(self) -> int: ...


SomeSegment = TypeVar("SomeSegment", bound=Segment)


class LogBounds(NamedTuple):
    """stable_offset: the smaller of high watermark and first unstable offset."""

    log_start_offset: int
    log_end_offset: int
    stable_offset: int


class CleanableLog(NamedTuple):
    """What a look at one log found. first_uncleanable_offset: a segment's base. checkpoint_was_wrong: it lies
    outside the log and has to be written anew. overdue: max.compaction.lag.ms has passed."""

    first_dirty_offset: int
    first_uncleanable_offset: int
    clean_size_bytes: int
    cleanable_size_bytes: int
    overdue: bool
    checkpoint_was_wrong: bool

    @property
    def ratio(self) -> float:
        total = self.clean_size_bytes + self.cleanable_size_bytes
        return self.cleanable_size_bytes / total if total else 0.0

    def is_due(self, config: CleaningConfig) -> bool:
        """Worth a cleaning now."""
        if self.overdue and self.cleanable_size_bytes > 0:
            return True
        return self.ratio > config.min_cleanable_dirty_ratio


def look_at(segments: Sequence[SomeSegment], bounds: LogBounds, checkpoint: int | None, config: CleaningConfig,
            now_ms: int, first_timestamp_of: Callable[[SomeSegment], int]) -> CleanableLog:
    """segments: ascending, the last one is active. checkpoint: of the last cleaning, None if there was none.
    first_timestamp_of: the largest timestamp of a segment's first batch, -1 if it has none."""
    start, wrong = _first_dirty(bounds, checkpoint)
    uncleanable = max(start, _uncleanable_from(segments, bounds.stable_offset, start, config, now_ms))
    younger = _inactive_from(segments, uncleanable)
    first_uncleanable = younger[0].base_offset if younger else segments[-1].base_offset
    cleanable = _between(segments, min(start, first_uncleanable), first_uncleanable)
    return CleanableLog(
        start, first_uncleanable,
        clean_size_bytes=sum(segment.size_bytes for segment in segments if segment.base_offset < start),
        cleanable_size_bytes=sum(segment.size_bytes for segment in cleanable),
        overdue=_is_overdue(_inactive_from(segments, start), config, now_ms, first_timestamp_of),
        checkpoint_was_wrong=wrong)


def _first_dirty(bounds: LogBounds, checkpoint: int | None) -> tuple[int, bool]:
    """And whether the checkpoint lies outside the log."""
    if checkpoint is None:
        return bounds.log_start_offset, False
    if not bounds.log_start_offset <= checkpoint <= bounds.log_end_offset:
        return bounds.log_start_offset, True
    return checkpoint, False


def _uncleanable_from(segments: Sequence[SomeSegment], stable_offset: int, start: int, config: CleaningConfig,
                      now_ms: int) -> int:
    limit = min(stable_offset, segments[-1].base_offset)
    if config.min_compaction_lag_ms > 0:
        young = (segment.base_offset for segment in _inactive_from(segments, start)
                 if segment.largest_timestamp > now_ms - config.min_compaction_lag_ms)
        limit = min(limit, next(young, limit))
    return limit


def _is_overdue(dirty: Sequence[SomeSegment], config: CleaningConfig, now_ms: int,
                first_timestamp_of: Callable[[SomeSegment], int]) -> bool:
    if config.max_compaction_lag_ms >= NO_LAG_MAX:
        return False
    earliest = min((time for time in map(first_timestamp_of, dirty) if time > 0), default=NO_LAG_MAX)
    return earliest < now_ms - config.max_compaction_lag_ms


def _inactive_from(segments: Sequence[SomeSegment], offset: int) -> Sequence[SomeSegment]:
    """Inactive segments from the one that holds `offset` on."""
    active_base = segments[-1].base_offset
    return _between(segments, offset, active_base) if offset <= active_base else ()


def _between(segments: Sequence[SomeSegment], start: int, end: int) -> Sequence[SomeSegment]:
    """Segments from the one that holds `start`, with bases below `end`."""
    if start >= end:
        return ()
    bases = [segment.base_offset for segment in segments]
    first = max(bisect_right(bases, start) - 1, 0)
    return [segment for segment in segments[first:] if segment.base_offset < end]


class SegmentSizes(NamedTuple):
    """A segment that takes part in a cleaning, and what it and its two indexes take."""

    base_offset: int
    log_size_bytes: int
    offset_index_size_bytes: int
    time_index_size_bytes: int


def group_segments(segments: Sequence[SegmentSizes], *, log_size_bytes_max: int, index_size_bytes_max: int,
                   first_uncleanable_offset: int) -> list[list[SegmentSizes]]:
    """Runs of segments, each to become one: none larger than a segment may be, in bytes, in index entries and
    in the span of offsets (an index counts them from the base in 31 bits)."""
    groups: list[list[SegmentSizes]] = []
    log_size = offset_index_size = time_index_size = 0
    for index, segment in enumerate(segments):
        log_size += segment.log_size_bytes
        offset_index_size += segment.offset_index_size_bytes
        time_index_size += segment.time_index_size_bytes
        following = segments[index + 1].base_offset if index + 1 < len(segments) else first_uncleanable_offset
        # An empty segment goes anywhere, or every 2**31 offsets one would be left over.
        if (groups and log_size <= log_size_bytes_max
                and max(offset_index_size, time_index_size) <= index_size_bytes_max
                and (segment.log_size_bytes == 0
                     or following - 1 - groups[-1][0].base_offset <= RELATIVE_OFFSET_MAX)):
            groups[-1].append(segment)
            continue
        groups.append([segment])
        _, log_size, offset_index_size, time_index_size = segment
    return groups
