"""One drained run of appends: decide about each, write per log, publish, answer.

What: every entry that the doorbell announced is staged, each touched log writes once, slots are published
once, and only then the completions go out, so that nobody hears of what is not in the file.
Why errors are per entry: a batch that cannot be taken must not cost its neighbours anything, and an
exception of our own in one of them is that entry's error, logged with its traceback (REVIEW item 20).
Runs in: storage, writer thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import msgpack

from storage import errors
from storage.ipc.arena import ArenaView
from storage.ipc.entries import CompletionKind
from storage.ipc.ring import CompletionProducer, RingLink, SubmissionEntry
from storage.log.failures import DirectoryFailed
from storage.log.partition_log import PartitionLog, StagedAppend
from storage.process.group_commit import GroupCommit
from storage.process.slots import SlotMap

log = logging.getLogger(__name__)

APPEND = int(CompletionKind.APPEND)
FLAG_ONE_BATCH_V2 = 1
FLAG_NO_ZSTD = 2
_MAGIC_POSITION = 16
_LENGTH_POSITION = 8
_ATTRIBUTES_LOW_POSITION = 22
_BATCH_OVERHEAD = 61
_LOG_OVERHEAD = 12
_CODEC_BITS = 0x07
_ZSTD = 4
_MAGIC_V2 = 2

Outcome = StagedAppend | errors.LogAppendError


class AppendPass:
    """Stateless between runs; holds what every run needs."""

    def __init__(
        self, slots: SlotMap, arena: ArenaView, ring: RingLink, group_commit: GroupCommit
    ) -> None:
        self._slots = slots
        self._arena = arena
        self._ring = ring
        self._group_commit = group_commit

    def run(
        self, entries: list[SubmissionEntry], completions: CompletionProducer, now_ms: int
    ) -> Iterable[PartitionLog]:
        """Append `entries` (all of kind APPEND); the logs that were touched.

        Raises DirectoryFailed; unanswered entries stay so.
        """
        outcomes: list[tuple[SubmissionEntry, PartitionLog | None, Outcome]] = []
        touched: dict[PartitionLog, Exception | None] = {}
        ring, slots, view = self._ring, self._slots, self._arena.view
        last_slot = -1
        for entry in entries:
            _, flags, _, slot, generation, leader_epoch, _, offset, size, _, _, _ = entry
            partition_log = slots.get(slot, generation)
            if partition_log is None:
                refusal = errors.LogAppendError(errors.NOT_LEADER_OR_FOLLOWER, "the partition is not here")
                outcomes.append((entry, None, refusal))
                continue
            if slot != last_slot:
                ring.publish_working_slot(slot, generation)
                last_slot = slot
            outcome = self._stage(partition_log, view(offset, size), leader_epoch, now_ms, flags)
            if isinstance(outcome, StagedAppend):
                touched[partition_log] = None
            outcomes.append((entry, partition_log, outcome))
        for partition_log in touched:
            touched[partition_log] = self._write(partition_log)
        ring.clear_working_slot()
        self._answer(outcomes, touched, completions)
        return touched

    def _stage(
        self, partition_log: PartitionLog, batch: memoryview, leader_epoch: int, now_ms: int, flags: int
    ) -> Outcome:
        try:
            refusal = _refusal(batch, flags)
            if refusal is not None:
                return refusal
            return partition_log.stage_leader_append(batch, leader_epoch, now_ms)
        except errors.LogAppendError as refused:
            return refused
        except DirectoryFailed:
            raise
        except Exception:
            log.exception("Append to %s-%d", partition_log.topic, partition_log.partition)
            return errors.LogAppendError(errors.UNKNOWN_SERVER_ERROR, "the broker failed on this batch")

    def _write(self, partition_log: PartitionLog) -> Exception | None:
        try:
            partition_log.write_staged()
        except OSError as error:
            log.warning("Append to %s-%d refused: %s", partition_log.topic, partition_log.partition, error)
            return error
        self._slots.publish(partition_log)
        return None

    def _answer(
        self, outcomes: list[tuple[SubmissionEntry, PartitionLog | None, Outcome]],
        touched: dict[PartitionLog, Exception | None], completions: CompletionProducer,
    ) -> None:  # fmt: skip
        held: dict[PartitionLog, list[tuple[Any, ...]]] = {}
        for entry, partition_log, outcome in outcomes:
            if isinstance(outcome, errors.LogAppendError):
                completions.put(*self._refused(entry, partition_log, outcome))
                continue
            assert partition_log is not None
            if touched[partition_log] is not None:
                completions.put(*self._refused(entry, partition_log, _NO_ROOM))
                continue
            completion = _appended(entry, partition_log, outcome)
            if partition_log.unflushed_messages >= partition_log.config.flush_interval_messages:
                held.setdefault(partition_log, []).append(completion)
            else:
                completions.put(*completion)
        for partition_log, waiting in held.items():
            self._group_commit.add(partition_log, waiting)

    def _refused(
        self, entry: SubmissionEntry, partition_log: PartitionLog | None, refusal: errors.LogAppendError
    ) -> tuple[Any, ...]:
        """The sentence and the offending records go where the refused batch was."""
        detail = msgpack.packb({"message": refusal.message, "record_errors": list(refusal.record_errors)})
        size = 0
        if len(detail) <= entry[8]:
            self._arena.view(entry[7], len(detail))[:] = detail
            size = len(detail)
        log_start = -1 if partition_log is None else partition_log.log_start_offset
        return (
            APPEND, 0, refusal.code, entry[3], entry[4], 0, entry[6], -1, -1, -1, log_start, -1, -1, -1, 0, 0,
            entry[7], size,
        )  # fmt: skip


_NO_ROOM = errors.LogAppendError(
    errors.NOT_ENOUGH_REPLICAS, "the log directory has no room; nothing was written, try again later"
)


def _appended(entry: SubmissionEntry, log_: PartitionLog, staged: StagedAppend) -> tuple[Any, ...]:
    return (
        APPEND, 0, 0, entry[3], entry[4], 0, entry[6], staged.base_offset, staged.last_offset,
        log_.log_end_offset, log_.log_start_offset, log_.first_unstable_offset, staged.log_append_time_ms,
        log_.active_base_offset, log_.active_size_bytes, log_.segment_list_version,
    )  # fmt: skip


def _refusal(batch: memoryview, flags: int) -> errors.LogAppendError | None:
    """The rules that hang on the request's version (behaviour 26); the rest is the log's."""
    if not flags:
        return None
    if len(batch) < _BATCH_OVERHEAD:
        if len(batch) == 0:
            return errors.LogAppendError(errors.INVALID_RECORD, "Produce requests must have exactly one batch")
        return errors.LogAppendError(errors.CORRUPT_MESSAGE, "the record set is shorter than a batch header")
    if flags & FLAG_ONE_BATCH_V2:
        if batch[_MAGIC_POSITION] != _MAGIC_V2:
            return errors.LogAppendError(errors.INVALID_RECORD, "Produce requests from version 3 on carry magic 2")
        length = int.from_bytes(batch[_LENGTH_POSITION : _LENGTH_POSITION + 4], "big", signed=True)
        if length + _LOG_OVERHEAD < len(batch):
            return errors.LogAppendError(errors.INVALID_RECORD, "Produce requests must have exactly one batch")
    if flags & FLAG_NO_ZSTD and batch[_ATTRIBUTES_LOW_POSITION] & _CODEC_BITS == _ZSTD:
        return errors.LogAppendError(
            errors.UNSUPPORTED_COMPRESSION_TYPE, "Produce requests before version 7 cannot use zstd"
        )
    return None
