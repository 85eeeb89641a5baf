"""One segment: the `.log` file, its three indexes, and the rules for filling and ending it.

Runs in: storage (writer thread). Owned by the partition's log.

While batches are being staged (partition_log.py) `size_bytes`, the timestamps and the index counters run
ahead of the files; `state`/`restore` undo that. An inactive segment keeps no descriptor and no index object
(`release`); they come back when asked for.

Index rule (Kafka's LogSegment.append, storage/FORMAT.md): before the bytes of an append are counted, if more
than index.interval.bytes have been appended since the last entry, add (last offset, position of the append)
to the offset index and the largest timestamp so far to the time index. So a segment's first append is never
indexed.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from storage.fs import FileLayer
from storage.log.append_file import AppendFile
from storage.log.file_names import (
    LOG_SUFFIX,
    OFFSET_INDEX_SUFFIX,
    SEGMENT_SUFFIXES,
    TIME_INDEX_SUFFIX,
    TXN_INDEX_SUFFIX,
    segment_file_name,
)
from storage.log.log_config import LogConfig
from storage.log.offset_index import RELATIVE_OFFSET_MAX, OffsetIndex, OffsetIndexState
from storage.log.segment_walk import WalkedBatch, batch_at, find_batch_of, first_batch, walk_batches
from storage.log.time_index import TimeIndex, TimeIndexState, TimestampOffset
from storage.log.transaction_index import TransactionIndex
from storage.record.batch import NO_TIMESTAMP

_new = tuple.__new__  # a NamedTuple's own costs twice as much
NEVER: Final = (1 << 63) - 1


class SegmentState(NamedTuple):
    """What a group of staged appends changes in a segment, as it was before the group."""

    log_size_bytes: int
    first_timestamp: int | None
    max_timestamp: int
    max_timestamp_offset: int
    bytes_since_index_entry: int
    indexes_full: bool
    roll_above_timestamp: int
    roll_above_now_ms: int
    offset_index: OffsetIndexState
    time_index: TimeIndexState
    txn_index: int


class LogSegment:
    """Fixed: base_offset, created_ms (wall clock, when this process first had it), roll_jitter_ms.

    Owned by the writer thread: size_bytes (staged bytes included), first_timestamp (largest of the first
    batch; None unknown), max_timestamp and max_timestamp_offset, indexes_full, and two precomputed limits:
    roll_above_timestamp and roll_above_now_ms (NEVER when the other one rules, or for an empty segment).
    """

    __slots__ = ("directory", "base_offset", "log", "size_bytes", "created_ms", "roll_jitter_ms",
                 "first_timestamp", "max_timestamp", "max_timestamp_offset", "bytes_since_index_entry",
                 "indexes_full", "roll_above_timestamp", "roll_above_now_ms", "_segment_ms",
                 "_index_interval_bytes", "_index_size_bytes_max", "_offset_index", "_time_index",
                 "_txn_index", "_files")

    def __init__(self, directory: str, base_offset: int, size_bytes: int, config: LogConfig,
                 files: FileLayer, *, now_ms: int, roll_jitter_ms: int = 0, exists: bool = False) -> None:
        self.directory = directory
        self.base_offset = base_offset
        self.size_bytes = size_bytes
        self.created_ms = now_ms
        self.roll_jitter_ms = roll_jitter_ms
        self.log = AppendFile(self.path(LOG_SUFFIX), size_bytes, files, exists=exists)
        self.first_timestamp: int | None = None
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = base_offset
        self.bytes_since_index_entry = 0
        self.indexes_full = False
        self._segment_ms = config.segment_ms_max
        self._index_interval_bytes = config.index_interval_bytes
        self._index_size_bytes_max = config.index_size_bytes_max
        self._offset_index: OffsetIndex | None = None
        self._time_index: TimeIndex | None = None
        self._txn_index: TransactionIndex | None = None
        self._files = files
        if not exists:
            self._make_empty_indexes()
        self._set_roll_limits()

    def _make_empty_indexes(self) -> None:
        """For a segment that is only staged: whatever lies under these names is not its content."""
        def file(suffix: str) -> AppendFile:
            return AppendFile(self.path(suffix), 0, self._files, exists=False)

        self._offset_index = OffsetIndex(file(OFFSET_INDEX_SUFFIX), self.base_offset,
                                         self._index_size_bytes_max)
        self._time_index = TimeIndex(file(TIME_INDEX_SUFFIX), self.base_offset, self._index_size_bytes_max)
        self._txn_index = TransactionIndex(file(TXN_INDEX_SUFFIX), self.base_offset)

    def path(self, suffix: str) -> str:
        return f"{self.directory}/{segment_file_name(self.base_offset, suffix)}"

    # -- indexes, made when first asked for

    @property
    def offset_index(self) -> OffsetIndex:
        if self._offset_index is None:
            file = AppendFile.at(self.path(OFFSET_INDEX_SUFFIX), self._files)
            self._offset_index = OffsetIndex(file, self.base_offset, self._index_size_bytes_max)
        return self._offset_index

    @property
    def time_index(self) -> TimeIndex:
        if self._time_index is None:
            file = AppendFile.at(self.path(TIME_INDEX_SUFFIX), self._files)
            self._time_index = TimeIndex(file, self.base_offset, self._index_size_bytes_max)
        return self._time_index

    @property
    def txn_index(self) -> TransactionIndex:
        if self._txn_index is None:
            file = AppendFile.at(self.path(TXN_INDEX_SUFFIX), self._files)
            self._txn_index = TransactionIndex(file, self.base_offset)
        return self._txn_index

    # -- filling

    def stage(self, size_bytes: int, last_offset: int, max_timestamp: int) -> None:
        """Count an append that will be written at `size_bytes`; its index entries become pending."""
        position = self.size_bytes
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.bytes_since_index_entry > self._index_interval_bytes:
            self._add_index_entries(last_offset, position)
        self.bytes_since_index_entry += size_bytes
        self.size_bytes = position + size_bytes
        if position == 0:
            self.first_timestamp = max_timestamp
            self._set_roll_limits()

    def _add_index_entries(self, last_offset: int, position: int) -> None:
        offset_index, time_index = self.offset_index, self.time_index
        if not offset_index.is_full:
            offset_index.append(last_offset, position)
        if not time_index.is_full:
            time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
        self.bytes_since_index_entry = 0
        self.indexes_full = offset_index.is_full or time_index.is_full

    def write_pending_indexes(self) -> None:
        """One write for each index that has anything pending."""
        if self._offset_index is not None and self._offset_index.pending:
            self._offset_index.write_pending()
        if self._time_index is not None and self._time_index.pending:
            self._time_index.write_pending()
        if self._txn_index is not None and self._txn_index.pending:
            self._txn_index.write_pending()

    def cut_torn_indexes(self) -> None:
        """After a failed write of pending entries: readers in other processes must not see half of one."""
        for index in (self.offset_index, self.time_index, self.txn_index):
            index.file.cut(index.file.size_bytes)

    def state(self) -> SegmentState:
        """What `restore` needs to forget everything staged or written from now on."""
        return _new(SegmentState, (
            self.log.size_bytes, self.first_timestamp, self.max_timestamp, self.max_timestamp_offset,
            self.bytes_since_index_entry, self.indexes_full, self.roll_above_timestamp, self.roll_above_now_ms,
            self.offset_index.state(), self.time_index.state(), self.txn_index.file.size_bytes))

    def restore(self, state: SegmentState) -> None:
        (self.size_bytes, self.first_timestamp, self.max_timestamp, self.max_timestamp_offset,
         self.bytes_since_index_entry, self.indexes_full, self.roll_above_timestamp,
         self.roll_above_now_ms, offset_index, time_index, txn_index) = state
        self.log.cut(self.size_bytes)
        self.offset_index.restore(offset_index)
        self.time_index.restore(time_index)
        self.txn_index.restore(txn_index)

    # -- ending

    def should_roll(self, size_bytes: int, max_timestamp: int, last_offset: int, now_ms: int,
                    segment_size_bytes: int) -> bool:
        """Whether an append has to go into the next segment (Kafka's LogSegment.shouldRoll)."""
        if last_offset - self.base_offset > RELATIVE_OFFSET_MAX:
            return True
        if not self.size_bytes:
            return False
        return (self.size_bytes > segment_size_bytes - size_bytes or self.indexes_full
                or max_timestamp > self.roll_above_timestamp or now_ms > self.roll_above_now_ms)

    def _set_roll_limits(self) -> None:
        """Time counts from the first batch's timestamp, or from the creation if that batch has none."""
        self.roll_above_timestamp = self.roll_above_now_ms = NEVER
        if not self.size_bytes or self.first_timestamp is None:
            return
        wait_ms = self._segment_ms - self.roll_jitter_ms
        if self.first_timestamp >= 0:
            self.roll_above_timestamp = self.first_timestamp + wait_ms
        else:
            self.roll_above_now_ms = self.created_ms + wait_ms

    def update_config(self, config: LogConfig) -> None:
        """segment.ms counts at once; index settings are those that the segment was opened with."""
        self._segment_ms = config.segment_ms_max
        self._set_roll_limits()

    def create_files(self) -> None:
        """Empty files for a new segment; leftovers of these names are emptied or removed."""
        self._files.unlink(self.path(TXN_INDEX_SUFFIX))
        for file in (self.log, self.offset_index.file, self.time_index.file):
            self._files.close(self._files.open_write(file.path, truncate=True))
            file.exists = True

    def seal(self) -> None:
        """Kafka's onBecomeInactiveSegment: the time index ends with the largest timestamp."""
        self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
        self.write_pending_indexes()

    def release(self) -> None:
        """Give up descriptors and index objects of a segment that is no longer filled."""
        self.close_files()
        self._offset_index = self._time_index = self._txn_index = None

    def close_files(self) -> None:
        """Give up descriptors only; the next use opens them again."""
        self.log.close()
        for index in (self._offset_index, self._time_index, self._txn_index):
            if index is not None:
                index.file.close()

    # -- opening

    def open_for_append(self) -> None:
        """Read what the roll and index rules need from an existing segment."""
        self.max_timestamp, self.max_timestamp_offset = self.time_index.last
        first = first_batch(self.log.read, self.log.size_bytes)
        self.first_timestamp = None if first is None else first.max_timestamp
        self.bytes_since_index_entry = 0
        self.indexes_full = self.offset_index.is_full or self.time_index.is_full
        self.txn_index  # noqa: B018  made now, so that staging does no input or output
        self._set_roll_limits()

    @property
    def largest_timestamp(self) -> int:
        """The largest timestamp of an inactive segment; its file's time if its batches have none."""
        if self.max_timestamp == NO_TIMESTAMP and self.size_bytes:
            is_released = self._time_index is None
            self.max_timestamp, self.max_timestamp_offset = self._look_up_largest()
            if is_released:
                self.release()
        if self.max_timestamp >= 0:
            return self.max_timestamp
        status = self._files.status(self.log.path)
        return NO_TIMESTAMP if status is None else status.modified_time_ms

    def _look_up_largest(self) -> TimestampOffset:
        """What the time index ends with. If no batch bears it out, what the headers say: retention would
        delete a whole segment for an index of zeros."""
        entry = self.time_index.last
        if entry.timestamp == NO_TIMESTAMP:
            return entry
        batch = self.find_batch(entry.offset)
        if batch is not None and batch.max_timestamp == entry.timestamp:
            return entry
        return self._largest_from(0, TimestampOffset(NO_TIMESTAMP, self.base_offset))

    # -- looking up

    def walk(self, position: int = 0) -> Iterator[WalkedBatch]:
        """Headers of the whole batches from `position` on."""
        return walk_batches(self.log.read, position, self.log.size_bytes)

    def find_batch(self, offset: int) -> WalkedBatch | None:
        """The batch that holds `offset`, or the first one behind it; None at the end of the segment."""
        return find_batch_of(self.log.read, offset, self.position_before(offset), self.log.size_bytes)

    def position_before(self, offset: int) -> int:
        """A batch boundary at or before the batch that holds `offset`, near it if the index is right.

        Index entries are hints: they have no checksum, and after a clean stop those of older segments are not
        looked at. One that leads to no batch at or before `offset` is passed over.
        """
        position = self.offset_index.lookup(offset).position
        batch = batch_at(self.log.read, position, self.log.size_bytes)
        return 0 if batch is None or batch.base_offset > offset else position

    def boundary_before(self, position: int) -> int:
        """Where a batch begins, at or before `position`, near it if the index is right."""
        return self.position_before(self.offset_index.last_before(position).offset)

    def last_batch(self) -> WalkedBatch | None:
        """The last whole batch, found from the last index entry."""
        last = deque(self.walk(self.offset_index.last_entry().position), maxlen=1)
        return last[0] if last else None

    def next_offset(self) -> int:
        batch = self.last_batch()
        return self.base_offset if batch is None else batch.last_offset + 1

    # -- cutting and removing

    def truncate_to(self, offset: int, now_ms: int) -> int:
        """Drop the batch that holds `offset` and all behind it; the number of bytes dropped."""
        batch = self.find_batch(offset)
        self.offset_index.truncate_to(offset)
        self.time_index.truncate_to(offset)
        self.txn_index.truncate_to(offset)
        dropped = 0
        if batch is not None:
            dropped = self.log.size_bytes - batch.position
            self.log.cut(batch.position)
        self.size_bytes = self.log.size_bytes
        if not self.size_bytes:
            self.created_ms = now_ms
            self.first_timestamp = None
        self.bytes_since_index_entry = 0
        self.indexes_full = False
        self._set_roll_limits()
        self._find_max_timestamp()
        return dropped

    def _find_max_timestamp(self) -> None:
        """After a cut: the last time index entry, or a larger timestamp behind it."""
        best = self.time_index.last
        self.max_timestamp, self.max_timestamp_offset = self._largest_from(self.position_before(best.offset), best)

    def _largest_from(self, position: int, best: TimestampOffset) -> TimestampOffset:
        """`best`, or the larger timestamp of a batch from `position` on."""
        for batch in self.walk(position):
            if batch.max_timestamp > best.timestamp:
                best = TimestampOffset(batch.max_timestamp, batch.last_offset)
        return best

    def move_to(self, directory: str) -> None:
        """The partition's directory was renamed."""
        self.directory = directory
        self.log.path = self.path(LOG_SUFFIX)
        for suffix, index in ((OFFSET_INDEX_SUFFIX, self._offset_index), (TIME_INDEX_SUFFIX, self._time_index),
                              (TXN_INDEX_SUFFIX, self._txn_index)):
            if index is not None:
                index.file.path = self.path(suffix)

    def remove_files(self) -> None:
        """At once, without a delay: for a segment that nobody has seen yet."""
        self.release()
        for suffix in SEGMENT_SUFFIXES:
            self._files.unlink(self.path(suffix))
