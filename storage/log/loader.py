"""From files to a log: Kafka's start-up recovery, and the quick reload after a death of this process alone.

Runs in: storage (a thread of the loading pool, one partition at a time). What it makes is handed to the
writer thread; until then nobody else sees it.

What is trusted decides the work:

    clean stop         everything: no scan, indexes by their length, state from the snapshot at the end
    unclean stop       segments before the one that holds the recovery point; from it on every batch is
                       verified, the three indexes made anew, and the first bad byte ends the log
    trusted end        (the process died, the machine did not) everything up to the position that was
                       published; only what lies behind is verified, and less than that is a failure

Verification reads files through `scan`, which a storage process hands to a helper. Every truncation is in the
report with file, position and bytes. Steps are numbered as in storage/FORMAT.md, "Start".
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from storage.checkpoint.leader_epoch_checkpoint import LEADER_EPOCH_CHECKPOINT
from storage.checkpoint.partition_metadata import PARTITION_METADATA, read_partition_metadata
from storage.errors import CorruptLogError
from storage.helpers.segment_scan import FROM_THE_BEGINNING, ScanStart, SegmentScan, StopReason, scan_segment
from storage.log.environment import LogEnvironment
from storage.log.failures import PASSING_ERRNOS, LogShrunkError, failure_of
from storage.log.file_names import (
    DELETED_SUFFIX,
    LOG_SUFFIX,
    OFFSET_INDEX_SUFFIX,
    SEGMENT_SUFFIXES,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    offset_of_file_name,
    segment_file_name,
)
from storage.log.flush_plan import FlushPlan
from storage.log.leader_epoch_cache import LeaderEpochFileCache
from storage.log.leftovers import remove_orphan_indexes, settle_leftovers
from storage.log.load_report import LoadReport
from storage.log.log_config import LogConfig
from storage.log.log_segment import LogSegment
from storage.log.offset_index import ENTRY_SIZE_BYTES as OFFSET_ENTRY_SIZE_BYTES
from storage.log.partition_log import ZERO_TOPIC_ID, LoadedLog
from storage.log.producer_snapshot import ProducerSnapshots
from storage.log.producer_state import CompletedTxn, ProducerStateManager
from storage.log.segment_walk import WalkedBatch
from storage.log.state_rebuild import RebuildSource, Scan, rebuild_producer_state
from storage.log.time_index import ENTRY_SIZE_BYTES as TIME_ENTRY_SIZE_BYTES
from storage.log.time_index import TimestampOffset

_ZERO_PROBE_SIZE_BYTES: Final = 1 << 20


class TrustedEnd(NamedTuple):
    """What had been published before the process died: log end offset, and where that lies."""

    log_end_offset: int
    active_base_offset: int
    position: int


@dataclass(slots=True)
class LoadRequest:
    """What to load and what is known about it. clean: the directory carried the clean-shutdown marker."""

    path: str
    config: LogConfig
    environment: LogEnvironment
    clean: bool
    log_start_offset: int = 0
    recovery_point: int = 0
    trusted_end: TrustedEnd | None = None
    scan: Scan | None = None
    report: LoadReport = field(default_factory=LoadReport)


def load_log(request: LoadRequest) -> LoadedLog:
    """Raises DirectoryFailed (or a passing OSError), CorruptLogError for what must not be repaired by
    guessing, LogShrunkError if trusted bytes are gone."""
    try:
        return _Loader(request).load()
    except OSError as error:
        raise failure_of(request.path, error, "loading the log") from error


class _Loader:
    """One load. segments ascend. By base offset: scans, of segments scanned from their first byte, and
    last_batches, of segments whose indexes were looked into and are as they should be."""

    def __init__(self, request: LoadRequest) -> None:
        self.request = request
        self.path = request.path
        self.config = request.config
        self.files = request.environment.files
        self.report = request.report
        self.now_ms = request.environment.now_ms()
        self.scan: Scan = request.scan or partial(scan_segment, files=self.files)
        self.segments: list[LogSegment] = []
        self.scans: dict[int, SegmentScan] = {}
        self.last_batches: dict[int, WalkedBatch | None] = {}
        self.snapshots = ProducerSnapshots(self.path, (), self.files)
        self.epochs = LeaderEpochFileCache(self.path, self.files)

    def load(self) -> LoadedLog:
        names = settle_leftovers(self.path, self.files, self.scan, self.report)    # step 2
        names = remove_orphan_indexes(self.path, names, self.files, self.report)   # step 3
        self._open_segments(names)
        self._load_epochs()
        verified_from = self._verify()                                             # step 4
        self._write_indexes()
        log_end_offset = self._log_end()
        if log_end_offset < self.request.log_start_offset:                         # step 5
            log_end_offset = self._start_over()
        if not self.segments:
            self._add_empty_segment(self.request.log_start_offset)
        clean = self.request.clean and not self.report.lost_size_bytes             # step 6
        recovery_point = log_end_offset if clean else min(self.request.recovery_point, log_end_offset)
        log_start_offset = max(self.request.log_start_offset, self.segments[0].base_offset)
        self._trim_epochs(log_end_offset)                                          # step 7
        state = self._rebuild_state(log_start_offset, log_end_offset, verified_from)
        self._finish_segments()
        return LoadedLog(self.segments, log_start_offset, log_end_offset,
                         max(recovery_point, log_start_offset), state, self.snapshots, self.epochs,
                         self._topic_id(), indexes_synced=self.request.clean and not self.scans)

    # -- opening

    def _open_segments(self, names: set[str]) -> None:
        def offsets_of(suffix: str) -> list[int]:
            return sorted(offset for name in names if name.endswith(suffix)
                          and (offset := offset_of_file_name(name)) is not None)

        self.snapshots = ProducerSnapshots(self.path, offsets_of(SNAPSHOT_SUFFIX), self.files)
        for base_offset in offsets_of(LOG_SUFFIX):
            status = self.files.status(f"{self.path}/{segment_file_name(base_offset, LOG_SUFFIX)}")
            self.segments.append(self._segment(base_offset, status.size_bytes if status else 0, exists=True))

    def _segment(self, base_offset: int, size_bytes: int, *, exists: bool) -> LogSegment:
        jitter_ms = self.request.environment.jitter_ms(self.config.segment_jitter_ms, self.config.segment_ms)
        return LogSegment(self.path, base_offset, size_bytes, self.config, self.files, now_ms=self.now_ms,
                          roll_jitter_ms=jitter_ms, exists=exists)

    def _add_empty_segment(self, base_offset: int) -> None:
        segment = self._segment(base_offset, 0, exists=False)
        segment.create_files()
        self.segments.append(segment)

    def _load_epochs(self) -> None:
        """The file has no checksum, but every batch carries its epoch: an unreadable file is made anew."""
        try:
            self.epochs = LeaderEpochFileCache.load(self.path, self.files)
        except CorruptLogError as error:
            self.report.repaired(error.path, f"{error.what}; made anew from the batches")
            self.epochs = LeaderEpochFileCache.made_anew(self.path, self.files)
            for segment in self.segments:
                self._take_epochs(self._scan_trusted(segment))

    def _topic_id(self) -> bytes:
        return read_partition_metadata(f"{self.path}/{PARTITION_METADATA}", self.files) or ZERO_TOPIC_ID

    # -- verification

    def _verify(self) -> int | None:
        """Make the end of the log trustworthy; the offset from which batches were verified, None: none."""
        if self.request.trusted_end is not None:
            return self._verify_behind(self.request.trusted_end)
        first = len(self.segments) if self.request.clean else self._first_unflushed()
        for segment in self.segments[:first]:
            self._check_indexes(segment, thoroughly=not self.request.clean or segment is self.segments[-1])
        if self.request.clean:
            return self._check_clean_end()
        self._recover_from(first)
        return self.segments[first].base_offset if first < len(self.segments) else None

    def _first_unflushed(self) -> int:
        """Index of the segment that holds the recovery point; earlier ones are on disk for certain."""
        bases = [segment.base_offset for segment in self.segments]
        return max(sum(base <= self.request.recovery_point for base in bases) - 1, 0)

    def _recover_from(self, first: int) -> None:
        """Verify segments in order; behind a broken batch the log ends."""
        for index in range(first, len(self.segments)):
            segment = self.segments[index]
            if not self._recover_segment(segment):
                self._drop_segments(self.segments[index + 1:], f"behind a broken batch in {segment.log.path}")
                return

    def _recover_segment(self, segment: LogSegment) -> bool:
        """Verify all of it and make its indexes anew; False if it had to be truncated."""
        scan = self._scan(segment, 0, FROM_THE_BEGINNING)
        self.scans[segment.base_offset] = scan
        whole = self._cut_behind(segment, scan)
        segment.offset_index.replace(scan.offset_index)
        segment.time_index.replace(scan.time_index)
        self._take_epochs(scan)
        return whole

    def _check_clean_end(self) -> int | None:
        """A clean stop ends with a whole batch; if this one did not, its last segment is verified after all."""
        if not self.segments:
            return None
        last = self.segments[-1]
        if last.base_offset in self.scans:
            return last.base_offset
        batch = self.last_batches[last.base_offset]
        end = 0 if batch is None else batch.position + batch.size_bytes
        if end == last.size_bytes:
            return None
        self.report.repaired(last.log.path, f"{last.size_bytes - end} bytes behind the last batch in spite of "
                             "the clean-shutdown marker; the segment is verified")
        self._recover_segment(last)
        return last.base_offset

    def _verify_behind(self, end: TrustedEnd) -> int:
        """Trust up to `end`, verify the rest of that segment and every later one."""
        bases = [segment.base_offset for segment in self.segments]
        if end.active_base_offset not in bases:
            raise LogShrunkError(f"{self.path}: segment {end.active_base_offset} is gone, which held the log's "
                                 f"end at offset {end.log_end_offset} when the storage process died")
        index = bases.index(end.active_base_offset)
        active = self.segments[index]
        for segment in self.segments[:index]:
            self._check_indexes(segment, thoroughly=False)
        whole = active.size_bytes >= end.position and self._verify_tail(active, end)
        if active.size_bytes < end.position:
            raise LogShrunkError(f"{active.log.path}: {end.position} bytes had been written when the storage "
                                 f"process died (offset {end.log_end_offset}), {active.size_bytes} are left")
        if whole:
            self._recover_from(index + 1)
        else:
            self._drop_segments(self.segments[index + 1:], f"behind a broken batch in {active.log.path}")
        return end.log_end_offset

    def _verify_tail(self, segment: LogSegment, end: TrustedEnd) -> bool:
        problem = self._index_problem(segment)
        if problem is not None:
            self.report.repaired(segment.path(OFFSET_INDEX_SUFFIX), f"indexes made anew: {problem}")
            segment.release()
            return self._recover_segment(segment)
        segment.offset_index.truncate_to(end.log_end_offset)
        segment.time_index.truncate_to(end.log_end_offset)
        largest = self._index_largest_timestamp(segment, end.position)
        if segment.size_bytes == end.position:
            return True
        scan = self._scan(segment, end.position, ScanStart(
            end.log_end_offset, segment.offset_index.last_entry().position, largest.timestamp, largest.offset,
            self.epochs.latest_epoch))
        whole = self._cut_behind(segment, scan)
        segment.offset_index.extend(scan.offset_index)
        segment.time_index.extend(scan.time_index)
        self._take_epochs(scan)
        return whole

    def _index_largest_timestamp(self, segment: LogSegment, position: int) -> TimestampOffset:
        """The largest before `position`: the dead process knew it, its time index may have lagged behind."""
        largest = segment.time_index.last
        for batch in segment.walk(segment.position_before(largest.offset)):
            if batch.position >= position:
                break
            if batch.max_timestamp > largest.timestamp:
                largest = TimestampOffset(batch.max_timestamp, batch.last_offset)
        segment.time_index.maybe_append(*largest)
        return largest

    def _scan(self, segment: LogSegment, position: int, start: ScanStart) -> SegmentScan:
        scan = self.scan(segment.log.path, position, segment.base_offset, self.config.index_interval_bytes,
                         start=start)
        self.report.segments_scanned += 1
        self.report.bytes_scanned += scan.file_size_bytes - position
        return scan

    def _scan_trusted(self, segment: LogSegment) -> SegmentScan:
        return self.scan(segment.log.path, 0, segment.base_offset, self.config.index_interval_bytes,
                         verify_crc=False)

    def _cut_behind(self, segment: LogSegment, scan: SegmentScan) -> bool:
        """Truncate after the last good batch; True if there was nothing to truncate."""
        if scan.stop_reason == StopReason.OFFSET_OVERFLOW:
            raise CorruptLogError(segment.log.path, scan.valid_end_position, f"{scan.stop_what}; only releases "
                                  "before Kafka 1.1.2 wrote such segments, and any later Kafka splits them "
                                  "when it starts once on this directory")
        if not scan.invalid_size_bytes:
            return True
        position = scan.valid_end_position
        zeros = self._is_zero_tail(segment, position, scan.file_size_bytes)
        self.report.truncated(segment.log.path, position, scan.invalid_size_bytes, scan.stop_what,
                              is_zero_tail=zeros)
        segment.log.cut(position)
        segment.size_bytes = position
        return False

    def _is_zero_tail(self, segment: LogSegment, position: int, end: int) -> bool:
        while position < end:
            data = segment.log.read(min(_ZERO_PROBE_SIZE_BYTES, end - position), position)
            if not data or data.count(0) != len(data):
                return False
            position += len(data)
        return True

    def _take_epochs(self, scan: SegmentScan) -> None:
        for epoch, offset in scan.leader_epochs:
            if epoch > self.epochs.latest_epoch:
                self.epochs.assign(epoch, offset, durable=False)

    def _drop_segments(self, segments: Sequence[LogSegment], why: str) -> None:
        """Out of the log; the files stay as `.deleted` for file.delete.delay.ms, for whoever wants to look."""
        doomed = list(segments)
        for segment in doomed:
            self.report.truncated(segment.log.path, 0, segment.size_bytes, why)
            self.scans.pop(segment.base_offset, None)
            segment.release()
            for path in map(segment.path, SEGMENT_SUFFIXES):
                if self.files.status(path) is not None:
                    self.files.rename(path, path + DELETED_SUFFIX)
                    self.report.retired_paths.append(path + DELETED_SUFFIX)
        self.segments = [segment for segment in self.segments if segment not in doomed]

    # -- indexes of trusted segments

    def _check_indexes(self, segment: LogSegment, *, thoroughly: bool) -> None:
        """Missing or impossible index files are made anew from the trusted bytes, without checksums.

        thoroughly: look into the files; else at names and lengths only, which is cheap enough for every
        segment of a clean directory.
        """
        problem = self._index_problem(segment) if thoroughly else self._missing_index(segment)
        if problem is None:
            return
        self.report.repaired(segment.path(OFFSET_INDEX_SUFFIX), f"indexes made anew: {problem}")
        segment.release()
        scan = self._scan_trusted(segment)
        self._cut_behind(segment, scan)
        segment.offset_index.replace(scan.offset_index)
        segment.time_index.replace(scan.time_index)
        segment.write_pending_indexes()
        self.scans[segment.base_offset] = scan
        FlushPlan(0, (segment.path(OFFSET_INDEX_SUFFIX), segment.path(TIME_INDEX_SUFFIX)),
                  (self.path,)).run(self.files)

    def _missing_index(self, segment: LogSegment) -> str | None:
        for suffix, entry_size in ((OFFSET_INDEX_SUFFIX, OFFSET_ENTRY_SIZE_BYTES),
                                   (TIME_INDEX_SUFFIX, TIME_ENTRY_SIZE_BYTES)):
            status = self.files.status(segment.path(suffix))
            if status is None:
                return f"no {suffix} file"
            if status.size_bytes % entry_size:
                return f"{suffix} file of {status.size_bytes} bytes"
        return None

    def _index_problem(self, segment: LogSegment) -> str | None:
        problem = self._missing_index(segment) or segment.offset_index.problem(segment.size_bytes)
        if problem is None:
            batch = self.last_batches[segment.base_offset] = segment.last_batch()
            next_offset = segment.base_offset if batch is None else batch.last_offset + 1
            problem = segment.time_index.problem(next_offset) or segment.txn_index.problem()
        return problem

    def _write_indexes(self) -> None:
        """What verification found missing. On a full disk the last segment's entries wait for the next write:
        a restart must not need room."""
        for segment in self.segments:
            try:
                segment.write_pending_indexes()
            except OSError as error:
                if segment is not self.segments[-1] or error.errno not in PASSING_ERRNOS:
                    raise
                segment.cut_torn_indexes()
                self.report.repaired(segment.path(OFFSET_INDEX_SUFFIX), f"index entries wait for room: {error}")

    # -- the end of the log

    def _log_end(self) -> int:
        """A truncated log may end behind its last batch: what had been published counts."""
        if not self.segments:
            return self.request.log_start_offset
        last = self.segments[-1]
        scan = self.scans.get(last.base_offset)
        if scan is not None:
            end = scan.next_offset
        elif self.request.trusted_end is None:
            batch = self.last_batches[last.base_offset]
            end = last.base_offset if batch is None else batch.last_offset + 1
        else:
            end = last.next_offset()
        trusted = self.request.trusted_end
        return end if trusted is None else max(end, trusted.log_end_offset)

    def _start_over(self) -> int:
        """The log ends before its start: segment files were taken away. Begin empty at the log start."""
        start = self.request.log_start_offset
        self._drop_segments(self.segments, f"all of it lies below the log start offset {start}")
        self.epochs.clear_and_flush()
        for offset in list(self.snapshots.offsets):
            self.snapshots.remove(offset)
        return start

    def _trim_epochs(self, log_end_offset: int) -> None:
        """Entries that recovery found are written before the recovery point can pass them; one that is merely
        too much (an empty log's) stays in the file, where the next leadership usually wants it again."""
        self.epochs.truncate_from_end(log_end_offset)
        self.epochs.truncate_from_start(self.request.log_start_offset)
        if not self.epochs.lacks_entries:
            return
        try:
            self.epochs.flush_if_stale()
        except OSError as error:
            if error.errno not in PASSING_ERRNOS:
                raise
            self.report.repaired(f"{self.path}/{LEADER_EPOCH_CHECKPOINT}", f"to be written later: {error}")

    # -- state

    def _rebuild_state(self, log_start_offset: int, log_end_offset: int,
                       verified_from: int | None) -> ProducerStateManager:
        """Stray snapshots go, the state is brought to the log end, transaction indexes are completed."""
        self.snapshots.remove_stray(segment.base_offset for segment in self.segments)
        source = RebuildSource(self.segments, self.snapshots, self.config, self.scan, self.report.repaired)
        state = ProducerStateManager()
        limits = [log_end_offset, *self.scans, *([] if verified_from is None else [verified_from])]
        completed = rebuild_producer_state(
            state, source, log_start_offset=log_start_offset, snapshot_offset_max=min(limits),
            end_offset=log_end_offset, now_ms=self.now_ms, scans=self.scans, recalls=not self.request.clean)
        for segment in self.segments:
            self._complete_txn_index(segment, completed.get(segment.base_offset, []))
        return state

    def _complete_txn_index(self, segment: LogSegment, completed: list[CompletedTxn]) -> None:
        trusted = self.request.trusted_end
        if segment.base_offset in self.scans:
            segment.txn_index.replace(completed)
        elif trusted is not None and segment.base_offset == trusted.active_base_offset:
            segment.txn_index.truncate_to(trusted.log_end_offset)
            segment.txn_index.extend(txn for txn in completed if txn.last_offset >= trusted.log_end_offset)

    def _finish_segments(self) -> None:
        for segment in self.segments[:-1]:
            segment.release()
        active = self.segments[-1]
        active.open_for_append()
        active.close_files()
