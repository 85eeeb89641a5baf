"""What a storage process does beside its ring: checkpoints, retention, flushes by time, delayed deletes.

What: the tasks of one directory and when they are due; an idle directory has only the retention check.
Why a full disk does not stop it: a checkpoint that cannot be written keeps the old one and is tried again
(REVIEW item 25); only a disk that fails takes the directory offline.
Runs in: storage, writer thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from storage.ipc.entries import CompletionKind
from storage.ipc.partition_table import PartitionTable
from storage.ipc.ring import CompletionProducer
from storage.log.directory import LogDirectory
from storage.log.partition_log import PartitionLog
from storage.process.group_commit import GroupCommit
from storage.process.log_cleaner import LogCleaner
from storage.process.schedule import Schedule
from storage.process.slots import SlotMap

log = logging.getLogger(__name__)

NEVER_MS = 1 << 40
"""Kafka's way to say never is Long.MAX_VALUE; anything beyond 34 years counts as that."""

WATERMARKS, RECOVERY_POINTS, LOG_STARTS = "high watermarks", "recovery points", "log starts"
RETENTION, FLUSH_BY_TIME, PRODUCERS = "retention", "flush by time", "producers"
COMPACTION = "compaction"


class Housekeeping:
    """`appended` and `flushed` tell it that there may be something to do."""

    def __init__(
        self, config: Any, directory: LogDirectory, slots: SlotMap, table: PartitionTable,
        group_commit: GroupCommit, monotonic_ms: Callable[[], int], wall_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._directory = directory
        self._slots = slots
        self._table = table
        self._group_commit = group_commit
        self._wall_ms = wall_ms
        self._changed: dict[PartitionLog, None] = {}
        self._cleaner: LogCleaner | None = None
        self._schedule = schedule = Schedule()
        now_ms = monotonic_ms()
        first_ms = now_ms + config["log.initial.task.delay.ms"]
        schedule.add(
            WATERMARKS, config["replica.high.watermark.checkpoint.interval.ms"], self._write_watermarks, None
        )
        schedule.add(
            RECOVERY_POINTS, config["log.flush.offset.checkpoint.interval.ms"],
            self._guarded(directory.write_recovery_points), None,
        )  # fmt: skip
        schedule.add(
            LOG_STARTS, config["log.flush.start.offset.checkpoint.interval.ms"],
            self._guarded(directory.write_log_start_offsets), None,
        )  # fmt: skip
        schedule.add(RETENTION, config["log.retention.check.interval.ms"], self._retain, first_ms)
        expiry_ms = config["producer.id.expiration.check.interval.ms"]
        schedule.add(PRODUCERS, expiry_ms, self._expire_producers, now_ms + expiry_ms)
        self._flush_interval_ms = config["log.flush.scheduler.interval.ms"]
        schedule.add(FLUSH_BY_TIME, min(self._flush_interval_ms, NEVER_MS), self._flush_due, None)

    def add_cleaner(self, cleaner: LogCleaner, backoff_ms: int, now_ms: int) -> None:
        """Asleep while there is no compacted log."""
        self._cleaner = cleaner
        self._schedule.add(COMPACTION, backoff_ms, cleaner.run_pass, now_ms + backoff_ms)

    def note_changed(self, partition_log: PartitionLog) -> None:
        """Names or log start have moved without an entry of the ring that would tell so."""
        self._slots.publish(partition_log)
        self._changed[partition_log] = None

    # The loop's side

    def timeout_ms(self, now_ms: int) -> int | None:
        """How long the loop may sleep; None: until something arrives."""
        timeout_ms = self._schedule.timeout_ms(now_ms)
        delete_ms = self._directory.environment.deletes.next_due_ms
        if delete_ms is not None:
            until_ms = max(delete_ms - now_ms, 0)
            timeout_ms = until_ms if timeout_ms is None else min(timeout_ms, until_ms)
        return timeout_ms

    def appended(self, now_ms: int) -> None:
        """Something was appended or changed since the last pass."""
        self._schedule.wake(WATERMARKS, now_ms)
        if self._cleaner is not None:
            self._schedule.wake(COMPACTION, now_ms)
        if self._flush_interval_ms < NEVER_MS:
            self._schedule.wake(FLUSH_BY_TIME, now_ms)

    def after_appends(self, touched: Mapping[PartitionLog, Exception | None]) -> None:
        """Extra snapshots, and the background flush of segments that a roll has ended.

        A log that refused (no room) may have begun a roll and undone it. Its segment-list version has moved,
        and no completion of an append tells so: readers would wait for that for ever.
        """
        for partition_log, refusal in touched.items():
            if refusal is not None:
                self._changed[partition_log] = None
                continue
            self._try_snapshot(partition_log)
            if partition_log.has_ended_segments_to_flush:
                self._group_commit.flush_up_to(partition_log, partition_log.active_base_offset)

    def _try_snapshot(self, partition_log: PartitionLog) -> None:
        try:
            partition_log.take_snapshot_if_due()
        except OSError as error:
            log.warning("%s: no producer snapshot: %s", partition_log.path, error)

    def flushed(self, now_ms: int) -> None:
        """A sync has moved a recovery point."""
        self._schedule.wake(RECOVERY_POINTS, now_ms)

    def run_due(self, now_ms: int, completions: CompletionProducer | None) -> None:
        """Raises DirectoryFailed."""
        self._schedule.run_due(now_ms)
        due_ms = self._directory.environment.deletes.next_due_ms
        if due_ms is not None and due_ms <= now_ms:
            self._directory.run_delayed_deletes()
        if completions is not None and self._changed:
            self._tell_changes(completions)

    def high_watermarks(self) -> dict[tuple[str, int], int]:
        """What the front end published last, by partition."""
        found = {}
        for partition_log in self._slots:
            slot, generation = self._slots.place_of(partition_log)
            half = self._table.read_front_end_half(slot)
            if half is not None and half.slot_generation == generation:
                found[partition_log.topic, partition_log.partition] = half.high_watermark
        return found

    # Tasks

    def _guarded(self, write: Callable[[], None]) -> Callable[[], bool]:
        """A full disk: the old file stands, try again. True = run again."""

        def run() -> bool:
            try:
                write()
            except OSError as error:
                log.warning("%s: checkpoint not written, trying again: %s", self._directory.path, error)
                return True
            return False

        return run

    def _write_watermarks(self) -> bool:
        return self._guarded(lambda: self._directory.write_high_watermarks(self.high_watermarks()))()

    def _flush_due(self) -> bool:
        for partition_log in self._directory.logs_due_for_flush():
            self._group_commit.flush_up_to(partition_log, None)
        return any(partition_log.unflushed_messages for partition_log in self._slots)

    def _expire_producers(self) -> bool:
        for partition_log in self._slots:
            partition_log.remove_expired_producers(self._wall_ms())
        return True

    def _retain(self) -> bool:
        """Old segments go; the front end hears of new log starts."""
        before = {log_: (log_.log_start_offset, log_.segment_list_version) for log_ in self._slots}
        watermarks = self.high_watermarks()
        try:
            self._directory.retention_pass(
                self._wall_ms(), lambda topic, partition: watermarks.get((topic, partition), 0),
                (lambda _: False) if self._cleaner is None else self._cleaner.is_cleaning,
            )  # fmt: skip
        except OSError as error:
            log.warning("%s: retention: %s", self._directory.path, error)
        for log_, seen in before.items():
            if seen != (log_.log_start_offset, log_.segment_list_version):
                self.note_changed(log_)
        return True

    def _tell_changes(self, completions: CompletionProducer) -> None:
        """As far as the credit reaches; the rest with the next pass."""
        kind = int(CompletionKind.LOG_START_MOVED)
        for log_ in tuple(self._changed):
            slot, generation = self._slots.place_of(log_)
            told = completions.put_unasked(
                kind, 0, 0, slot, generation, 0, 0, -1, -1, log_.log_end_offset, log_.log_start_offset,
                log_.first_unstable_offset, -1, log_.active_base_offset, log_.active_size_bytes,
                log_.segment_list_version, 0, 0, -1, 0,
            )  # fmt: skip
            if not told:
                return
            del self._changed[log_]
