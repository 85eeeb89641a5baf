"""Read-only look-ups in one partition's directory, for the process that serves fetches.

Runs in: front end (on the loop, so every call reads a few index entries or batch headers and no more);
storage may use it too. One reader per *slot generation*: a topic deleted and created again gets a new one.

Attributes by owner: path, pool, page_cache fixed at start; segments, version, the open files belong to the
loop that calls.

Storage changes files under names that stay the same (compaction, truncation) and tells so by the partition's
segment-list version, odd while it works. What was learnt under one version is void under the next:
- `refresh(version)` with a new even version lists the directory again and forgets every open file; one that
  is pinned lives on until its user lets go, so a transfer under way ends with the bytes it began with;
- while the version is odd nothing is listed or opened; what is open keeps serving;
- after opening a file the live version is read again (`read_version`), and the file is given back unused if
  it moved: the name may have meant another file by then.
Callers key their position hints by (version, base offset) for the same reason.
"""
from __future__ import annotations

import functools
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from storage.errors import CorruptLogError, OffsetOutOfRangeError
from storage.reader.errors import SegmentsChangedError
from storage.reader.file_pool import FileKey, FilePool, OpenFile
from storage.reader.page_cache import PageCacheProbe
from storage.reader.segment_reader import (
    LOG,
    AbortedTransaction,
    SegmentReader,
    TimeEntry,
    read_batch_header,
)
from storage.record.batch import BatchHeader

NO_VERSION: Final = -1
UNKNOWN_TIMESTAMP: Final = (1 << 63) - 1
_BASE_OFFSET_DIGITS: Final = 20

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _under_one_version(
        look_up: Callable[Concatenate[PartitionReader, _Parameters], _Result],
) -> Callable[Concatenate[PartitionReader, _Parameters], _Result]:
    """Bytes that make no sense are no corruption if the version has moved: they may be another file's."""
    def checked(self: PartitionReader, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return look_up(self, *args, **kwargs)
        except CorruptLogError as error:
            if self.live_version() != self.version:
                raise SegmentsChangedError(str(error)) from error
            raise

    functools.update_wrapper(checked, look_up)
    return checked


class Location(NamedTuple):
    """A batch boundary: segment and byte position in its log file."""

    segment_base: int
    position: int


class MaxTimestamp(NamedTuple):
    """The largest timestamp and where to begin looking for the record that has it."""

    timestamp: int
    segment_base: int
    position: int


class PartitionReader:
    """See the module. Methods raise SegmentsChangedError (look up again after the next refresh),
    ColdReadError (fetch in a worker, then again), CorruptLogError, OSError (report it to storage)."""

    def __init__(self, path: str, pool: FilePool | None = None, *, max_open_segments: int = 16,
                 page_cache: PageCacheProbe | None = None,
                 read_version: Callable[[], int] | None = None) -> None:
        """read_version: the live segment-list version of this slot generation, anything else if that is gone;
        without it the version given to `refresh` counts. pool: shared by all partitions; without one, at most
        `max_open_segments` unpinned files of this partition stay open."""
        self.path = path
        self.pool = FilePool(max_open_segments) if pool is None else pool
        self.page_cache = page_cache
        self.segments: list[int] = []
        self.version = NO_VERSION
        self._latest_version = NO_VERSION
        self.live_version = read_version if read_version is not None else lambda: self._latest_version
        self._files: dict[FileKey, OpenFile] = {}
        self._largest_timestamps: dict[int, int] = {}

    # -- the segment list

    def refresh(self, version: int) -> bool:
        """Follow the segment-list version; whether look-ups now see the directory as of `version`."""
        self._latest_version = version
        if version == self.version:
            return True
        if version & 1:
            return False
        try:
            segments = self._list()
        except FileNotFoundError:
            if self.live_version() == version:
                raise
            return False
        if self.live_version() != version:
            return False
        self.forget_files()
        self.segments = segments
        self.version = version
        return True

    def add_segment(self, base_offset: int) -> None:
        """A roll, known from a completion: adds a name and changes none, so the version stands."""
        if not self.segments or base_offset > self.segments[-1]:
            self.segments.append(base_offset)

    def segments_from(self, base_offset: int) -> list[int]:
        """Base offsets at or above `base_offset`, in order."""
        return self.segments[bisect_left(self.segments, base_offset):]

    def forget_files(self) -> None:
        """Close everything that nobody uses; pinned files close when they are released."""
        files = list(self._files.values())
        self._files.clear()
        self._largest_timestamps.clear()
        for file in files:
            file.forget()

    def close(self) -> None:
        """The partition is no longer served here. Later look-ups raise SegmentsChangedError."""
        self.forget_files()
        self.segments = []
        self.version = self._latest_version = NO_VERSION

    # -- descriptors and batches

    def descriptor(self, base_offset: int) -> OpenFile:
        """The segment's log file, pinned: `.fd` is good for sendfile until `.release()`."""
        return self._open(base_offset, LOG)

    def segment_size(self, base_offset: int) -> int:
        """Bytes in the log file now; of the active segment more than may be read."""
        with self._open(base_offset, LOG) as log:
            return log.size_bytes()

    @_under_one_version
    def batch_header_at(self, base_offset: int, position: int, limit: int | None = None) -> BatchHeader:
        """The batch header at a position from `locate` or a hint. CorruptLogError if none can be there."""
        with self._open(base_offset, LOG) as log:
            return read_batch_header(log, base_offset, position, limit)

    @_under_one_version
    def locate(self, offset: int, end_offset: int, end_segment_base: int, end_position: int) -> Location:
        """The first batch whose last offset is at least `offset`, before the readable end.

        The readable end as offset and position (batch boundary) is given back if there is none.
        OffsetOutOfRangeError if `offset` lies before the first segment.
        """
        if offset >= end_offset:
            return Location(end_segment_base, end_position)
        self._require_segment(end_segment_base)
        index = bisect_right(self.segments, offset) - 1
        if index < 0:
            raise OffsetOutOfRangeError(f"offset {offset} lies before the first segment of {self.path}")
        while index < len(self.segments) and self.segments[index] <= end_segment_base:
            base = self.segments[index]
            position = self._position_in(base, offset, end_position if base == end_segment_base else None)
            if position is not None:
                return Location(base, position)
            index += 1
        return Location(end_segment_base, end_position)

    def _position_in(self, base: int, offset: int, limit: int | None) -> int | None:
        with self._open(base, LOG) as log:
            end = log.size_bytes() if limit is None else limit
            return self._segment(base).position_of(log, offset, end)

    # -- by time

    @_under_one_version
    def time_candidates(self, timestamp: int, starting_offset: int = 0,
                        after_base: int = -1) -> Location | None:
        """Where a helper begins to look for the first record of at least `timestamp`; None: nowhere.

        The first segment (after `after_base`, for a second try) whose largest timestamp reaches it, and the
        position in it by time index and offset index, as Kafka's findOffsetByTimestamp. The last segment
        always counts: what it has beyond its last index entry is not on disk as an entry yet.
        """
        first = max(bisect_right(self.segments, starting_offset) - 1, bisect_right(self.segments, after_base), 0)
        for base in self.segments[first:]:
            if base != self.segments[-1] and self._largest_timestamp(base) < timestamp:
                continue
            return self._time_candidate_in(base, timestamp, starting_offset)
        return None

    def _time_candidate_in(self, base: int, timestamp: int, starting_offset: int) -> Location:
        segment = self._segment(base)
        with self._open(base, LOG) as log:
            entry = segment.time_entry_at_or_below(timestamp)
            start = entry.offset if segment.is_true(log, entry) else base
            return Location(base, segment.start_position(log, max(start, starting_offset)))

    @_under_one_version
    def max_timestamp_candidate(self, end_segment_base: int, end_position: int) -> MaxTimestamp | None:
        """The partition's largest timestamp (ListOffsets -3); None: no timestamps.

        The end is the *log end*, as in Kafka: an answer beyond the readable end counts as none found.
        """
        self._require_segment(end_segment_base)
        best: tuple[TimeEntry, int] | None = None
        for base in self.segments:
            if base > end_segment_base:
                break
            entry = self._largest_entry(base, end_position if base == end_segment_base else None)
            if entry is not None and (best is None or entry.timestamp > best[0].timestamp):
                best = entry, base
        if best is None:
            return None
        entry, base = best
        with self._open(base, LOG) as log:
            return MaxTimestamp(entry.timestamp, base, self._segment(base).start_position(log, entry.offset))

    def _largest_timestamp(self, base: int) -> int:
        """Of a segment that is no longer appended to; its mtime if it has no time index, as Kafka takes it.

        UNKNOWN_TIMESTAMP, above every other, if the time index ends with nonsense.
        """
        largest = self._largest_timestamps.get(base)
        if largest is None:
            entry = self._segment(base).last_time_entry()
            if entry is not None:
                largest = entry.timestamp if self._is_plausible(base, entry) else UNKNOWN_TIMESTAMP
            else:
                with self._open(base, LOG) as log:
                    largest = os.fstat(log.fd).st_mtime_ns // 1_000_000
            self._largest_timestamps[base] = largest
        return largest

    def _is_plausible(self, base: int, entry: TimeEntry) -> bool:
        """What can be said without a look into the log: zeros and random bytes are not plausible.

        A damage that leaves the last entry plausible gives wrong answers by time, as in Kafka; to open the log
        of each segment for that would hold up the loop.
        """
        later = bisect_right(self.segments, base)
        return entry.timestamp > 0 and entry.offset >= base and (
            later == len(self.segments) or entry.offset < self.segments[later])

    def _largest_entry(self, base: int, limit: int | None) -> TimeEntry | None:
        """limit: log end in the active segment, whose batches beyond the last index entry are looked at."""
        segment = self._segment(base)
        indexed = segment.last_time_entry()
        if limit is None and (indexed is None or self._is_plausible(base, indexed)):
            return indexed
        with self._open(base, LOG) as log:
            if limit is None:
                return segment.largest_timestamp_from(log, 0, log.size_bytes())
            tail = segment.largest_timestamp_from(log, segment.last_indexed_position(log, limit), limit)
        return max((entry for entry in (indexed, tail) if entry is not None),
                   key=lambda entry: (entry.timestamp, -entry.offset), default=None)

    # -- transactions

    @_under_one_version
    def aborted_transactions(self, fetch_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """Those whose abort marker is at or behind `fetch_offset` and that began before `end_offset`."""
        found: list[AbortedTransaction] = []
        first = max(bisect_right(self.segments, fetch_offset) - 1, 0)
        for base in self.segments[first:]:
            if self._segment(base).collect_aborted(fetch_offset, end_offset, found):
                break
        return found

    @_under_one_version
    def upper_bound_offset(self, base_offset: int, position: int, log_end_offset: int) -> int:
        """An offset behind all batches before `position`: what `aborted_transactions` needs as end.

        From the offset index, so it may lie somewhat further than the data (more is listed than needed).
        """
        offset = self._segment(base_offset).upper_bound_offset(position)
        if offset is not None:
            return offset
        later = bisect_right(self.segments, base_offset)
        return self.segments[later] if later < len(self.segments) else log_end_offset

    # -- files

    def _segment(self, base_offset: int) -> SegmentReader:
        return SegmentReader(base_offset, lambda suffix: self._open_optional(base_offset, suffix))

    def _open_optional(self, base_offset: int, suffix: str) -> OpenFile | None:
        """None if there is no such file: no entries, no aborted transactions."""
        try:
            return self._open(base_offset, suffix)
        except FileNotFoundError:
            return None

    def _open(self, base_offset: int, suffix: str) -> OpenFile:
        held = self._files.get((base_offset, suffix))
        if held is not None:
            return held.pin()
        version = self.version
        if version == NO_VERSION or self.live_version() != version:
            raise SegmentsChangedError(f"{self.path} is at another version than {version}")
        name = f"{base_offset:0{_BASE_OFFSET_DIGITS}d}{suffix}"
        try:
            file = self.pool.open(self._files, (base_offset, suffix), os.path.join(self.path, name),
                                  self.page_cache)
        except FileNotFoundError as error:
            if self.live_version() != version:
                raise SegmentsChangedError(f"{name} of {self.path} is gone") from error
            raise
        if self.live_version() != version:
            del self._files[base_offset, suffix]
            file.forget()
            file.release()
            raise SegmentsChangedError(f"{self.path} changed while {name} was opened")
        return file

    def _require_segment(self, base_offset: int) -> None:
        """A readable end in a segment that is not known: a roll was missed, so the list is not complete."""
        index = bisect_left(self.segments, base_offset)
        if index < len(self.segments) and self.segments[index] == base_offset:
            return
        version = self.version
        segments = self._list()
        if version == NO_VERSION or self.live_version() != version or base_offset not in segments:
            raise SegmentsChangedError(f"{self.path} has no segment {base_offset}")
        self.segments = segments

    def _list(self) -> list[int]:
        """Base offsets of the plain `.log` files; names with a further suffix (.deleted, .swap) are not ours."""
        return sorted(int(name[:-len(LOG)]) for name in os.listdir(self.path)
                      if name.endswith(LOG) and len(name) == _BASE_OFFSET_DIGITS + len(LOG)
                      and name[:-len(LOG)].isdecimal() and name.isascii())
