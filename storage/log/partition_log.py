"""The log of one partition: appends in groups, rolls, flushes, truncation, retention, and what it publishes.

Runs in: storage (writer thread, the only caller). Owned by its `LogDirectory`.

Appends happen in two steps. `stage_leader_append` decides about one batch and patches it in place; nothing
is written. `write_staged` writes all that was staged, with one pwritev per segment, then the indexes, and
only then moves `log_end_offset`: what the attributes say is always in the files. While a group is staged the
producer state, the active segment's counters and `_next_offset` run ahead; if a write fails they go back
together with the files, and the log is as it was.

A roll in the middle of a group is staged as well: the producer snapshot of the new segment is encoded at
that moment, because a snapshot taken later would know batches that lie behind it.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, TypeVar

from crc32c import crc32c

from storage.checkpoint.partition_metadata import PARTITION_METADATA, write_partition_metadata
from storage.errors import (
    NOT_LEADER_OR_FOLLOWER,
    RECORD_LIST_TOO_LARGE,
    LogAppendError,
    OffsetOutOfRangeError,
)
from storage.helpers.segment_scan import scan_segment
from storage.log.batch_validation import (
    admit_batch,
    plain_attributes,
    timestamp_in_bounds,
    timestamps_are_bounded,
)
from storage.log.environment import LogEnvironment
from storage.log.failures import DirectoryFailed, InconsistentTopicIdError, failure_of
from storage.log.file_names import SEGMENT_SUFFIXES, delete_directory_name
from storage.log.flush_plan import FlushPlan, ended_segment_paths, plan_flush
from storage.log.leader_epoch_cache import UNDEFINED_EPOCH, LeaderEpochFileCache
from storage.log.log_config import SNAPSHOT_INTERVAL_BYTES, LogConfig
from storage.log.log_segment import LogSegment, SegmentState
from storage.log.offset_index import RELATIVE_OFFSET_MAX
from storage.log.producer_append import check_producer, record_marker
from storage.log.producer_snapshot import ProducerSnapshots, encode_snapshot
from storage.log.producer_state import AppendOrigin, ProducerStateManager
from storage.log.retention import segments_to_delete
from storage.log.segment_swap import retire_segment, swap_in
from storage.log.state_rebuild import RebuildSource, rebuild_producer_state, take_snapshot
from storage.record.batch import (
    BATCH_OVERHEAD,
    CONTROL_BIT,
    HEADER,
    LOG_OVERHEAD,
    MAGIC_V2,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    SEQUENCE_MAX,
    TRANSACTIONAL_BIT,
    restamp,
)

ZERO_TOPIC_ID: Final = bytes(16)
NO_LEADER: Final = UNDEFINED_EPOCH
# Stands for a header that cannot be unpacked; its attributes (-1) are never plain ones.
_NO_HEADER: Final = (-1,) * 13
# Base offset, length and leader epoch: what a leader stamps, in one store that repeats the length.
_pack_stamp = struct.Struct(">qii").pack_into
_unpack_header = HEADER.unpack_from
_new = tuple.__new__
Result = TypeVar("Result")


class StagedAppend(NamedTuple):
    """log_append_time_ms: -1 for CreateTime; of a duplicate, the timestamp of the original batch."""

    base_offset: int
    last_offset: int
    log_append_time_ms: int
    duplicate: bool


@dataclass(slots=True)
class LoadedLog:
    """What the loader found. segments: never empty, ascending. indexes_synced: those of the active one."""

    segments: list[LogSegment]
    log_start_offset: int
    log_end_offset: int
    recovery_point: int
    producer_state: ProducerStateManager
    snapshots: ProducerSnapshots
    leader_epoch_cache: LeaderEpochFileCache
    topic_id: bytes = ZERO_TOPIC_ID
    indexes_synced: bool = False


@dataclass(slots=True)
class _Chunk:
    """The staged batches for one segment. previous and snapshot: set if the segment begins with this chunk."""

    segment: LogSegment
    buffers: list[memoryview] = field(default_factory=list)
    previous: LogSegment | None = None
    snapshot: bytes = b""
    created: bool = False


def _publish_nothing(version: int) -> None:
    """Until the process says where segment_list_version is to be published."""


class PartitionLog:
    """Fixed: topic, partition. Changed by their own calls only: topic_id, path, config, leader_epoch.

    Published, true of the files: log_start_offset, log_end_offset, first_unstable_offset (-1: none),
    recovery_point, active_base_offset, active_size_bytes, segment_list_version (odd while names change),
    leader_epoch_cache. publish_version: called with the odd version before any name changes and with the
    even one after.
    """

    __slots__ = ("topic", "partition", "topic_id", "path", "config", "leader_epoch", "log_start_offset",
                 "log_end_offset", "first_unstable_offset", "recovery_point", "active_base_offset",
                 "active_size_bytes", "segment_list_version", "leader_epoch_cache", "segments",
                 "producer_state", "snapshots", "recently_used", "publish_version", "_environment",
                 "last_flush_monotonic_ms", "_extra_snapshots", "_bytes_since_snapshot", "_indexes_synced",
                 "_truncation_count", "_active", "_next_offset", "_staged_size_bytes", "_chunks", "_base_state",
                 "_plain_attributes", "_timestamps_bounded", "_message_size_bytes_max", "_segment_size_bytes",
                 "_log_append_time", "_epoch_unwritten")

    def __init__(self, topic: str, partition: int, path: str, config: LogConfig, environment: LogEnvironment,
                 loaded: LoadedLog) -> None:
        self.topic = topic
        self.partition = partition
        self.topic_id = loaded.topic_id
        self.path = path
        self.leader_epoch = NO_LEADER
        self.segments = loaded.segments
        self.producer_state = loaded.producer_state
        self.snapshots = loaded.snapshots
        self.leader_epoch_cache = loaded.leader_epoch_cache
        self.log_start_offset = loaded.log_start_offset
        self.recovery_point = loaded.recovery_point
        self.segment_list_version = 0
        self.recently_used = False
        self.last_flush_monotonic_ms = environment.monotonic_ms()
        self.publish_version: Callable[[int], None] = _publish_nothing
        self._environment = environment
        self._epoch_unwritten = False
        self._extra_snapshots: list[int] = []
        self._bytes_since_snapshot = 0
        self._indexes_synced = loaded.indexes_synced
        self._truncation_count = 0
        self._chunks: list[_Chunk] = []
        self._base_state: SegmentState | None = None
        self._staged_size_bytes = 0
        self._next_offset = loaded.log_end_offset
        self._active = self.segments[-1]
        self._publish_end()
        self._publish_unstable()
        self.update_config(config)

    # -- staging

    def stage_leader_append(self, batch: memoryview, leader_epoch: int, now_ms: int, *,
                            origin: AppendOrigin = AppendOrigin.CLIENT,
                            transaction_verified: bool = False) -> StagedAppend:
        """Decide about the records of one produce entry and patch them in place; nothing is written yet.

        batch: writable, untouched by others until write_staged returns. now_ms: wall clock.
        transaction_verified: the coordinator has confirmed this producer's transaction on this partition.
        Raises LogAppendError: nothing was staged. A duplicate is answered with the original's offsets, which
        may belong to a batch staged before it: the answer counts only once write_staged has returned.
        """
        if leader_epoch != self.leader_epoch:
            raise LogAppendError(NOT_LEADER_OR_FOLLOWER, f"the log is led at epoch {self.leader_epoch}, the "
                                 f"append is for epoch {leader_epoch}")
        size = len(batch)
        header = _unpack_header(batch) if size >= BATCH_OVERHEAD else _NO_HEADER
        (base_offset, length, _, magic, crc, attributes, last_delta, base_timestamp, max_timestamp,
         producer_id, producer_epoch, first_sequence, count) = header
        if (attributes in self._plain_attributes and magic == MAGIC_V2 and length + LOG_OVERHEAD == size
                and size <= self._message_size_bytes_max and base_offset == 0
                and count == last_delta + 1 > 0 and (producer_id < 0 or first_sequence >= 0)
                and (max_timestamp >= base_timestamp and max_timestamp >= NO_TIMESTAMP
                     or self._log_append_time)
                and not (self._timestamps_bounded
                         and self._timestamps_refused(base_timestamp, max_timestamp, now_ms))
                and crc32c(batch[21:]) == crc):
            if self._log_append_time:
                restamp(batch, 0, now_ms, True)
                max_timestamp = now_ms
        else:
            batch = admit_batch(batch, self.config, now_ms, origin)
            size = len(batch)
            header = _unpack_header(batch)
            (_, length, _, _, _, attributes, last_delta, _, max_timestamp,
             producer_id, producer_epoch, first_sequence, _) = header
        if size > self._segment_size_bytes:
            raise LogAppendError(RECORD_LIST_TOO_LARGE, f"record batch of {size} bytes; segment.bytes is "
                                 f"{self._segment_size_bytes}")
        base_offset = self._next_offset
        last_offset = base_offset + last_delta
        if producer_id >= 0 and (attributes & CONTROL_BIT or not self.producer_state.is_next(
                producer_id, producer_epoch, first_sequence, attributes & TRANSACTIONAL_BIT != 0)):
            original = check_producer(self.producer_state, batch, header, origin,
                                      transaction_verified or not self.config.transaction_verification)
            if original is not None:
                return StagedAppend(original.first_offset, original.last_offset, original.timestamp, True)
        segment = self._segment_for(size, last_offset, max_timestamp, now_ms)
        if producer_id >= 0:
            if attributes & CONTROL_BIT:
                self._stage_marker(batch, header, base_offset, max_timestamp, segment)
            else:
                self.producer_state.append_batch(
                    producer_id, producer_epoch, first_sequence,
                    (first_sequence + last_delta) & SEQUENCE_MAX if first_sequence >= 0 else NO_SEQUENCE,
                    base_offset, last_offset, max_timestamp, attributes & TRANSACTIONAL_BIT != 0)
        _pack_stamp(batch, 0, base_offset, length, leader_epoch)
        self._chunks[-1].buffers.append(batch)
        segment.stage(size, last_offset, max_timestamp)
        self._staged_size_bytes += size
        self._next_offset = last_offset + 1
        return _new(StagedAppend, (base_offset, last_offset, now_ms if self._log_append_time else -1, False))

    def _stage_marker(self, batch: memoryview, header: tuple[int, ...], offset: int, timestamp: int,
                      segment: LogSegment) -> None:
        aborted = record_marker(self.producer_state, batch, header, offset, timestamp)
        if aborted is not None:
            segment.txn_index.append(aborted)

    def _timestamps_refused(self, base_timestamp: int, max_timestamp: int, now_ms: int) -> bool:
        return not (timestamp_in_bounds(base_timestamp, self.config, now_ms)
                    and timestamp_in_bounds(max_timestamp, self.config, now_ms))

    def _segment_for(self, size: int, last_offset: int, max_timestamp: int, now_ms: int) -> LogSegment:
        """The segment that takes the append; rolls, on paper, if it has to be a new one."""
        segment = self._active
        if not self._chunks:
            self._begin_group()
        if ((segment.size_bytes + size > self._segment_size_bytes or segment.indexes_full
             or max_timestamp > segment.roll_above_timestamp or now_ms > segment.roll_above_now_ms
             or last_offset - segment.base_offset > RELATIVE_OFFSET_MAX)
                and segment.should_roll(size, max_timestamp, last_offset, now_ms, self._segment_size_bytes)):
            return self._stage_roll(now_ms)
        return segment

    def _begin_group(self) -> None:
        self._base_state = self._active.state()
        self._chunks.append(_Chunk(self._active))

    def _stage_roll(self, now_ms: int) -> LogSegment:
        """The next segment begins at the next offset; its files come with write_staged."""
        previous = self._active
        self._active = self._new_segment(self._next_offset, now_ms)
        self._chunks.append(_Chunk(self._active, previous=previous,
                                   snapshot=encode_snapshot(self.producer_state.producers)))
        return self._active

    def _new_segment(self, base_offset: int, now_ms: int) -> LogSegment:
        config = self.config
        jitter_ms = self._environment.jitter_ms(config.segment_jitter_ms, config.segment_ms)
        return LogSegment(self.path, base_offset, 0, config, self._environment.files, now_ms=now_ms,
                          roll_jitter_ms=jitter_ms)

    # -- writing

    @property
    def has_staged(self) -> bool:
        return bool(self._chunks)

    def write_staged(self) -> None:
        """Write everything staged; afterwards it is in the log, or, on an error, none of it is.

        Raises the OSError itself if it will pass (no space), DirectoryFailed if the disk is at fault.
        """
        if not self._chunks:
            return
        self.recently_used = True
        if self._active.log.fd < 0:
            self._environment.open_logs.note_open(self)
        try:
            if self._epoch_unwritten:
                self._write_leader_epoch()
            for chunk in self._chunks:
                if chunk.previous is not None:
                    self._begin_segment(chunk, chunk.previous)
                if chunk.buffers:
                    chunk.segment.log.append(chunk.buffers)
                chunk.segment.write_pending_indexes()
        except OSError as error:
            self._abandon_staged(error)
            raise failure_of(self.path, error, "append") from error
        self._commit_staged()

    def _begin_segment(self, chunk: _Chunk, previous: LogSegment) -> None:
        chunk.created = True
        self._names_begin()
        previous.seal()
        chunk.segment.create_files()
        self.snapshots.write(chunk.segment.base_offset, chunk.snapshot, sync=False)

    def _abandon_staged(self, error: OSError) -> None:
        """Files and memory back to what they were before the first stage call of the group."""
        chunks, self._chunks = self._chunks, []
        base = chunks[0].segment
        assert self._base_state is not None
        try:
            for chunk in reversed(chunks):
                if chunk.created:
                    self._remove_created(chunk.segment)
            base.restore(self._base_state)
        except OSError as second:
            raise DirectoryFailed(self.path, second, f"undoing an append that failed ({error})") from second
        self._names_end()
        self.producer_state.rollback()
        self._active = base
        self._next_offset = self.log_end_offset
        self._staged_size_bytes = 0

    def _remove_created(self, segment: LogSegment) -> None:
        segment.release()
        for suffix in SEGMENT_SUFFIXES:
            self._environment.files.unlink(segment.path(suffix))
        self.snapshots.remove(segment.base_offset)

    def _commit_staged(self) -> None:
        chunks, self._chunks = self._chunks, []
        self.producer_state.commit()
        self._bytes_since_snapshot += self._staged_size_bytes
        self._staged_size_bytes = 0
        self._indexes_synced = False
        if len(chunks) > 1:
            self.segments += [chunk.segment for chunk in chunks[1:]]
        self._publish_end()
        self._publish_unstable()
        for chunk in chunks[1:]:
            assert chunk.previous is not None
            self._end_segment(chunk.previous, chunk.segment.base_offset)

    def _end_segment(self, ended: LogSegment, next_base_offset: int) -> None:
        """After a roll: names are stable, extra snapshots are in the way no longer."""
        self._names_end()
        self._bytes_since_snapshot = 0
        self._remove_extra_snapshots()
        ended.release()
        if self.recovery_point >= next_base_offset:
            # All of it has been flushed but its indexes, and no later flush looks back this far.
            FlushPlan(self.recovery_point, tuple(ended_segment_paths(ended, next_base_offset)),
                      ()).run(self._environment.files)

    def _publish_end(self) -> None:
        active = self._active
        self.log_end_offset = self._next_offset
        self.active_base_offset = active.base_offset
        self.active_size_bytes = active.size_bytes

    def _publish_unstable(self) -> None:
        offset = self.producer_state.first_unstable_offset
        self.first_unstable_offset = offset if offset < 0 else max(offset, self.log_start_offset)

    def _names_begin(self) -> None:
        if not self.segment_list_version & 1:
            self.segment_list_version += 1
            self.publish_version(self.segment_list_version)

    def _names_end(self) -> None:
        if self.segment_list_version & 1:
            self.segment_list_version += 1
            self.publish_version(self.segment_list_version)

    # -- rolling, flushing, snapshots

    def roll(self, now_ms: int) -> bool:
        """Begin a new segment at the log end, unless the active one is empty. Nothing may be staged."""
        assert not self._chunks
        if not self._active.size_bytes:
            return False
        self._begin_group()
        self._stage_roll(now_ms)
        self.write_staged()
        return True

    @property
    def unflushed_messages(self) -> int:
        return self.log_end_offset - self.recovery_point

    @property
    def has_ended_segments_to_flush(self) -> bool:
        """After a roll: `plan_flush(active_base_offset)` is due, in a pool thread if there is one."""
        return self.recovery_point < self.active_base_offset

    def plan_flush(self, offset: int | None = None) -> FlushPlan | None:
        """What has to be synced so that the recovery point can become `offset` (default: the log end)."""
        end = self.log_end_offset if offset is None else min(offset, self.log_end_offset)
        return plan_flush(self.path, self.segments, self.recovery_point, end, self._truncation_count)

    def finish_flush(self, plan: FlushPlan) -> None:
        """`plan.run` has returned. If the log was truncated meanwhile, others may lie at these offsets now."""
        if plan.truncation_count != self._truncation_count:
            return
        self.recovery_point = max(self.recovery_point, plan.recovery_point)
        self.last_flush_monotonic_ms = self._environment.monotonic_ms()

    def flush(self, offset: int | None = None) -> None:
        """fdatasync everything below `offset` (default: the log end) and move the recovery point there."""
        plan = self.plan_flush(offset)
        if plan is not None:
            plan.run(self._environment.files)
            self.finish_flush(plan)

    def take_snapshot_if_due(self) -> bool:
        """Every SNAPSHOT_INTERVAL_BYTES, for a quick reload after a death of this process alone.

        Not synced: for a reload in the same boot the page cache is enough. Raises as write_staged.
        """
        if self._bytes_since_snapshot < SNAPSHOT_INTERVAL_BYTES or self._chunks:
            return False
        offset = self.log_end_offset
        if offset in self.snapshots.offsets:
            return False
        try:
            self.snapshots.write(offset, encode_snapshot(self.producer_state.producers), sync=False)
            self._extra_snapshots.append(offset)
            self._bytes_since_snapshot = 0
            while len(self._extra_snapshots) > 2:  # one more than needed, should the last be torn
                self.snapshots.remove(self._extra_snapshots.pop(0))
        except OSError as error:
            raise failure_of(self.path, error, "producer snapshot") from error
        return True

    def _remove_extra_snapshots(self) -> None:
        bases = {segment.base_offset for segment in self.segments}
        extra, self._extra_snapshots = self._extra_snapshots, []
        for offset in extra:
            if offset not in bases:
                self._guard("removing a producer snapshot", self.snapshots.remove, offset)

    # -- leadership, log start, transactions

    def become_leader(self, epoch: int) -> int:
        """Appends of `epoch` are taken from now on; the offset at which that epoch begins in this log.

        On a full disk the log is led, so that it can be read, and the file is written with the first append.
        """
        assert not self._chunks
        try:
            if self.leader_epoch_cache.assign(epoch, self.log_end_offset):
                self._epoch_unwritten = False
        except OSError as error:
            failure = failure_of(self.path, error, "writing the leader epoch")
            if failure is not error:
                raise failure from error
            self.leader_epoch_cache.assign(epoch, self.log_end_offset, durable=False)
            self._epoch_unwritten = True
        self.leader_epoch = epoch
        return self.leader_epoch_cache.start_offset_of(epoch)

    def _write_leader_epoch(self) -> None:
        """No batch of an epoch is in the log before the file has that epoch."""
        self.leader_epoch_cache.flush_if_stale()
        self._epoch_unwritten = False

    def become_follower(self) -> None:
        self.leader_epoch = NO_LEADER

    def maybe_increment_log_start(self, offset: int, reason: str) -> bool:
        """DeleteRecords and retention; the caller has compared `offset` with the high watermark.

        Files go when the next retention pass finds whole segments below. reason: for the error only.
        """
        if offset > self.log_end_offset:
            raise OffsetOutOfRangeError(f"log start of {self.topic}-{self.partition} cannot become {offset} "
                                        f"({reason}): the log ends at {self.log_end_offset}")
        if offset <= self.log_start_offset:
            return False
        self.log_start_offset = offset
        self.recovery_point = max(self.recovery_point, offset)
        self.leader_epoch_cache.truncate_from_start(offset)
        self.producer_state.on_high_watermark_updated(offset)
        self._publish_unstable()
        return True

    def on_high_watermark_updated(self, high_watermark: int) -> bool:
        """Only of interest while `producer_state.unreplicated` is not empty; whether the LSO may move."""
        changed = self.producer_state.on_high_watermark_updated(high_watermark)
        if changed:
            self._publish_unstable()
        return changed

    def remove_expired_producers(self, now_ms: int) -> int:
        assert not self._chunks
        return self.producer_state.remove_expired(now_ms, self.config.producer_id_expiration_ms)

    def assign_topic_id(self, topic_id: bytes) -> None:
        """Write partition.metadata if there is none; raises InconsistentTopicIdError for another topic's."""
        if self.topic_id == topic_id:
            return
        if self.topic_id != ZERO_TOPIC_ID:
            raise InconsistentTopicIdError(f"{self.path} belongs to topic id {self.topic_id.hex()}, not to "
                                           f"{topic_id.hex()}")
        self._guard("writing partition.metadata", write_partition_metadata,
                    f"{self.path}/{PARTITION_METADATA}", topic_id, self._environment.files)
        self.topic_id = topic_id

    # -- shortening

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self.segments)

    def delete_old_segments(self, now_ms: int, high_watermark: int) -> int:
        """Retention by log start, size and time; the number of segments deleted."""
        assert not self._chunks
        try:
            count = segments_to_delete(self.segments, self.config, log_start_offset=self.log_start_offset,
                                       log_end_offset=self.log_end_offset, high_watermark=high_watermark,
                                       now_ms=now_ms)
        except OSError as error:
            raise failure_of(self.path, error, "retention") from error
        if not count:
            return 0
        if count == len(self.segments):
            self.roll(now_ms)
        deleted = self.segments[:count]
        self.maybe_increment_log_start(self.segments[count].base_offset, "segment deletion")
        self._delete_segments(deleted)
        self._names_end()
        return count

    def truncate_to(self, offset: int) -> bool:
        """Drop everything from `offset` on, whole batches; False if the log ends there or before.

        The lower end is published before anything is cut: should this process die in between, its successor
        must not find less than was published.
        """
        assert not self._chunks
        if offset >= self.log_end_offset:
            self.leader_epoch_cache.truncate_from_end(self.log_end_offset)
            return False
        if offset < self.segments[0].base_offset:
            self.truncate_fully_and_start_at(offset)
            return True
        target = next(segment for segment in reversed(self.segments) if segment.base_offset <= offset)
        batch = self._guard("truncate", target.find_batch, offset)
        self._publish_lower_end(offset, target.base_offset, target.size_bytes if batch is None else batch.position)
        self.log_start_offset = min(self.log_start_offset, offset)
        self._delete_segments([segment for segment in self.segments if segment.base_offset > offset])
        self._active = target
        self._guard("truncate", self._cut, target, offset)
        self._rebuild_state(offset)
        return True

    def truncate_fully_and_start_at(self, offset: int, log_start_offset: int | None = None) -> None:
        """An empty log that begins at `offset`."""
        assert not self._chunks
        new = self._new_segment(offset, self._environment.now_ms())
        self._publish_lower_end(offset, offset, 0)
        self.log_start_offset = offset if log_start_offset is None else log_start_offset
        self._delete_segments(list(self.segments))
        self._guard("starting an empty log", new.create_files)
        self.segments.append(new)
        self._active = new
        self._guard("writing the leader epochs", self.leader_epoch_cache.clear_and_flush)
        for snapshot in list(self.snapshots.offsets):
            self._guard("removing a producer snapshot", self.snapshots.remove, snapshot)
        self._rebuild_state(offset)

    def _publish_lower_end(self, offset: int, base_offset: int, position: int) -> None:
        self._next_offset = self.log_end_offset = offset
        self.active_base_offset, self.active_size_bytes = base_offset, position
        self.recovery_point = min(self.recovery_point, offset)
        self._truncation_count += 1
        self._names_begin()

    def _cut(self, segment: LogSegment, offset: int) -> None:
        segment.open_for_append()
        segment.truncate_to(offset, self._environment.now_ms())

    def _rebuild_state(self, offset: int) -> None:
        """The last step of a truncation: the state as of the new end, then all of it is published."""
        self.leader_epoch_cache.truncate_from_end(offset)
        self._extra_snapshots = []
        self._indexes_synced = False
        source = RebuildSource(self.segments, self.snapshots, self.config,
                               partial(scan_segment, files=self._environment.files), _note_nothing)
        self._guard("rebuilding the producer state", partial(
            rebuild_producer_state, self.producer_state, source, log_start_offset=self.log_start_offset,
            snapshot_offset_max=offset, end_offset=offset, now_ms=self._environment.now_ms()))
        self._publish_end()
        self._publish_unstable()
        self._names_end()

    def _delete_segments(self, segments: Sequence[LogSegment]) -> None:
        """Out of the list, renamed to `.deleted`, removed after file.delete.delay.ms. Leaves the version odd."""
        if not segments:
            return
        gone = {segment.base_offset for segment in segments}
        self.segments[:] = [segment for segment in self.segments if segment.base_offset not in gone]
        self._names_begin()
        for segment in segments:
            self._guard("deleting a segment", self._rename_segment, segment)

    def _rename_segment(self, segment: LogSegment) -> None:
        retire_segment(segment, self.snapshots, self._environment, self.config.file_delete_delay_ms)

    def replace_segments(self, old: Sequence[LogSegment], size_bytes: int, modified_time_ms: int) -> None:
        """The finished `.cleaned` files at the first one's base, of that size, take the place of `old`."""
        assert not self._chunks
        self._names_begin()
        swap_in(self, old, size_bytes, modified_time_ms, self._environment)
        self._names_end()

    # -- life

    def update_config(self, config: LogConfig) -> None:
        self.config = config
        self._plain_attributes = plain_attributes(config)
        self._timestamps_bounded = timestamps_are_bounded(config)
        self._message_size_bytes_max = config.message_size_bytes_max
        self._segment_size_bytes = config.segment_size_bytes
        self._log_append_time = config.log_append_time
        self._active.update_config(config)

    def close(self) -> None:
        """Leave all as a clean stop wants it: indexes ended, everything synced, a snapshot at the log end.

        Raises DirectoryFailed, or the OSError of a full disk: then no marker may be written.
        """
        assert not self._chunks
        self._guard("closing", self._finish_files)
        self.flush()
        if not self._indexes_synced:
            paths = ended_segment_paths(self._active, self.log_end_offset)
            FlushPlan(self.log_end_offset, tuple(paths), (self.path,)).run(self._environment.files)
            self._indexes_synced = True
        self.close_files()

    def _finish_files(self) -> None:
        self._active.seal()
        take_snapshot(self.producer_state, self.snapshots, self.log_end_offset)
        self._extra_snapshots = [each for each in self._extra_snapshots if each != self.log_end_offset]
        self._remove_extra_snapshots()
        self.leader_epoch_cache.flush_if_stale()

    def close_files(self) -> None:
        """Give up descriptors; the log stays usable."""
        self._environment.open_logs.note_closed(self)
        for segment in self.segments:
            segment.close_files()

    def rename_to_delete(self, unique_id: str) -> str:
        """Give the directory its `-delete` name; the new path. unique_id: 32 hex digits, random.

        The log takes no appends afterwards; its directory is the caller's to remove.
        """
        assert not self._chunks
        self.leader_epoch = NO_LEADER
        self._names_begin()
        self.close_files()
        parent, _, _ = self.path.rpartition("/")
        target = f"{parent}/{delete_directory_name(self.topic, self.partition, unique_id)}"
        self._guard("renaming a deleted partition", self._environment.files.durable_rename, self.path, target)
        self._environment.deletes.forget_below(self.path)
        self._move_to(target)
        self._names_end()
        return target

    def _move_to(self, path: str) -> None:
        self.path = self.snapshots.directory = self.leader_epoch_cache.directory = path
        for segment in self.segments:
            segment.move_to(path)

    def _guard(self, doing: str, call: Callable[..., Result], *arguments: object) -> Result:
        try:
            return call(*arguments)
        except OSError as error:
            raise failure_of(self.path, error, doing) from error


def _note_nothing(path: str, sentence: str) -> None:
    """Truncation on a running log removes snapshots as a matter of course."""
