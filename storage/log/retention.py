"""Which of a log's oldest segments may go. Decisions only, over what the segments say of themselves.

Runs in: storage (writer thread). No state. Kafka's UnifiedLog.deleteOldSegments: three passes, each over the
segments that the one before has left; a segment goes only if all of it lies below the high watermark, and
segments go from the oldest on until one has to stay.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from storage.log.log_config import LogConfig
from storage.log.log_segment import LogSegment

# (segment, base offset of the next one or None) -> whether this pass wants it gone.
Predicate = Callable[[LogSegment, int | None], bool]


def segments_to_delete(segments: Sequence[LogSegment], config: LogConfig, *, log_start_offset: int,
                       log_end_offset: int, high_watermark: int, now_ms: int) -> int:
    """How many of the oldest segments go; all of them means that the active one has to be rolled first."""
    def prefix(start: int, predicate: Predicate) -> int:
        return start + _prefix_length(segments[start:], predicate, log_end_offset, high_watermark)

    count = prefix(0, lambda _, next_base: next_base is not None and next_base <= log_start_offset)
    if config.delete:
        count = prefix(count, _beyond_size(segments[count:], config.retention_bytes))
        count = prefix(count, _beyond_age(config.retention_ms, now_ms))
    return count


def _prefix_length(segments: Sequence[LogSegment], predicate: Predicate, log_end_offset: int,
                   high_watermark: int) -> int:
    for index, segment in enumerate(segments):
        next_base = segments[index + 1].base_offset if index + 1 < len(segments) else None
        if high_watermark < (log_end_offset if next_base is None else next_base):
            return index
        if next_base is None and not segment.size_bytes:
            return index
        if not predicate(segment, next_base):
            return index
    return len(segments)


def _beyond_size(segments: Sequence[LogSegment], retention_bytes: int) -> Predicate:
    excess_bytes = sum(segment.size_bytes for segment in segments) - retention_bytes

    def predicate(segment: LogSegment, _: int | None) -> bool:
        nonlocal excess_bytes
        if retention_bytes < 0 or excess_bytes < segment.size_bytes:
            return False
        excess_bytes -= segment.size_bytes
        return True

    return predicate


def _beyond_age(retention_ms: int, now_ms: int) -> Predicate:
    return lambda segment, _: 0 <= retention_ms < now_ms - segment.largest_timestamp
