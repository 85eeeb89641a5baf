"""One drained run of appends: decide about each, write per log, publish, answer.

What: every entry that the doorbell announced is staged, each touched log writes once, slots are published
once, and only then the completions go out, so that nobody hears of what is not in the file.
Why errors are per entry: a batch that cannot be taken must not cost its neighbours anything, and an
exception of our own in one of them is that entry's error, logged with its traceback (REVIEW item 20).
Runs in: storage, writer thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from storage import errors
from storage.ipc.arena import ArenaView
from storage.ipc.entries import CompletionKind
from storage.ipc.refusal import pack_refusal
from storage.ipc.ring import CompletionProducer, RingLink, SubmissionEntry
from storage.log.failures import DirectoryFailed
from storage.log.partition_log import PartitionLog, StagedAppend
from storage.process.group_commit import GroupCommit
from storage.process.slots import SlotMap
from storage.record.batch import (
    BATCH_OVERHEAD,
    CODEC_MASK,
    CODEC_ZSTD,
    LOG_OVERHEAD,
    MAGIC_POSITION,
    MAGIC_V2,
    read_extent,
)
from storage.record.errors import CorruptBatchError

log = logging.getLogger(__name__)

APPEND = int(CompletionKind.APPEND)
FLAG_ONE_BATCH_V2 = 1
FLAG_NO_ZSTD = 2
_LENGTH_POSITION = 8
_ATTRIBUTES_LOW_POSITION = 22

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
    ) -> Mapping[PartitionLog, Exception | None]:
        """Append `entries` (all of kind APPEND); the logs that were touched, with what kept them from it.

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
        detail = pack_refusal(refusal.message, refusal.record_errors, entry[8])
        if detail:
            self._arena.view(entry[7], len(detail))[:] = detail
        log_start = -1
        if not (partition_log is None or refusal.code in _TELL_NO_START or isinstance(refusal, RequestRefused)):
            log_start = partition_log.log_start_offset
        return (
            APPEND, 0, refusal.code, entry[3], entry[4], 0, entry[6], -1, -1, -1, log_start, -1, -1, -1, 0, 0,
            entry[7], len(detail),
        )  # fmt: skip


_TELL_NO_START = frozenset({
    errors.CORRUPT_MESSAGE, errors.UNKNOWN_TOPIC_OR_PARTITION, errors.NOT_LEADER_OR_FOLLOWER,
    errors.MESSAGE_TOO_LARGE, errors.RECORD_LIST_TOO_LARGE, errors.KAFKA_STORAGE_ERROR,
})  # fmt: skip
"""As in Kafka, a refusal with one of these leaves the log's start out of the answer."""

_NO_ROOM = errors.LogAppendError(
    errors.NOT_ENOUGH_REPLICAS, "the log directory has no room; nothing was written, try again later"
)


def _appended(entry: SubmissionEntry, log_: PartitionLog, staged: StagedAppend) -> tuple[Any, ...]:
    return (
        APPEND, 0, 0, entry[3], entry[4], 0, entry[6], staged.base_offset, staged.last_offset,
        log_.log_end_offset, log_.log_start_offset, log_.first_unstable_offset, staged.log_append_time_ms,
        log_.active_base_offset, log_.active_size_bytes, log_.segment_list_version,
    )  # fmt: skip


class RequestRefused(errors.LogAppendError):
    """The request may not carry such records; the log was not asked."""


def _refusal(batch: memoryview, flags: int) -> errors.LogAppendError | None:
    """The rules that hang on the request's version (behaviour 26); the rest is the log's."""
    if not flags:
        return None
    size = len(batch)
    if (
        size < BATCH_OVERHEAD
        or batch[MAGIC_POSITION] != MAGIC_V2
        or int.from_bytes(batch[_LENGTH_POSITION : _LENGTH_POSITION + 4], "big") + LOG_OVERHEAD != size
    ):
        refusal = _not_one_batch(batch)
        if refusal is not None:
            return refusal
    if flags & FLAG_NO_ZSTD and batch[_ATTRIBUTES_LOW_POSITION] & CODEC_MASK == CODEC_ZSTD:
        return RequestRefused(
            errors.UNSUPPORTED_COMPRESSION_TYPE, "Produce requests before version 7 cannot use zstd"
        )
    return None


def _not_one_batch(batch: memoryview) -> errors.LogAppendError | None:
    """None if there is one whole batch of format 2, and perhaps a cut one behind it."""
    size = len(batch)
    try:
        first = read_extent(batch, 0, size)
        if first is None:
            return RequestRefused(errors.INVALID_RECORD, "no whole record batch in the request's records")
        if first.magic != MAGIC_V2:
            return RequestRefused(errors.INVALID_RECORD, "Produce requests from version 3 on carry format 2")
        if read_extent(batch, first.size_bytes, size) is not None:
            return RequestRefused(errors.INVALID_RECORD, "more than one record batch for one partition")
    except CorruptBatchError as error:
        return RequestRefused(errors.CORRUPT_MESSAGE, str(error))
    return None
