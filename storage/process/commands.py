"""Everything but appends that changes a partition: open, lead, follow, stop, delete, cut, configure.

What: one method per kind of ring entry. They come through the same ring as the appends, so one order holds
for all; a message and its result share the slab that the entry names.
Runs in: storage, writer thread.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

import msgpack

from storage import errors
from storage.ipc.arena import ArenaView
from storage.ipc.entries import SubmissionKind
from storage.ipc.ring import CompletionProducer, SubmissionEntry
from storage.log.directory import LogDirectory
from storage.log.failures import DirectoryFailed, InconsistentTopicIdError
from storage.log.log_config import LogConfig
from storage.log.partition_log import PartitionLog
from storage.process.group_commit import GroupCommit
from storage.process.slots import SlotMap, SlotsExhaustedError

log = logging.getLogger(__name__)

SetConfig = Callable[[str, dict[str, Any]], LogConfig]
"""Takes a topic and its resolved configuration; remembers it for logs still to be created."""


class CommandError(Exception):
    """The command was refused; `code` is Kafka's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Commands:
    """`run` answers every entry it is given, with an error if need be. Raises DirectoryFailed only."""

    def __init__(
        self, directory: LogDirectory, slots: SlotMap, arena: ArenaView, group_commit: GroupCommit,
        set_config: SetConfig, watch: Callable[[PartitionLog], None],
    ) -> None:  # fmt: skip
        self._directory = directory
        self._slots = slots
        self._arena = arena
        self._group_commit = group_commit
        self._set_config = set_config
        self._watch = watch
        self._methods: dict[int, Callable[[SubmissionEntry, Any, CompletionProducer], Any]] = {
            SubmissionKind.OPEN: self._open,
            SubmissionKind.BECOME_LEADER: self._become_leader,
            SubmissionKind.BECOME_FOLLOWER: self._become_follower,
            SubmissionKind.CLOSE_PARTITION: self._close,
            SubmissionKind.DELETE_PARTITION: self._delete,
            SubmissionKind.TRUNCATE: self._truncate,
            SubmissionKind.LOG_START: self._log_start,
            SubmissionKind.CONFIGURE: self._configure,
            SubmissionKind.FLUSH: self._flush,
        }

    def run(self, entry: SubmissionEntry, completions: CompletionProducer) -> None:
        """Carry out one entry and put its completion."""
        error, result, partition_log = 0, None, None
        try:
            partition_log, result = self._dispatch(entry, completions)
        except CommandError as refused:
            log.error("%s refused: %s", _name(entry[0]), refused)
            error = refused.code
        except OSError as failure:
            log.error("%s refused: %s", _name(entry[0]), failure)
            error = errors.NOT_ENOUGH_REPLICAS  # no room: whoever asks again later may be served
        except DirectoryFailed:
            raise
        except Exception:
            log.exception("%s", _name(entry[0]))
            error = errors.UNKNOWN_SERVER_ERROR
        size = self._store_result(entry, result)
        slot, generation = entry[3], entry[4]
        if partition_log is None:
            completions.put(entry[0], 0, error, slot, generation, 0, entry[6], -1, -1, -1, -1, -1, -1, -1, 0, 0,
                            entry[7], size)  # fmt: skip
            return
        slot, generation = self._slots.place_of(partition_log)
        self._slots.publish(partition_log)
        completions.put(
            entry[0], 0, error, slot, generation, 0, entry[6], -1, -1, partition_log.log_end_offset,
            partition_log.log_start_offset, partition_log.first_unstable_offset, -1,
            partition_log.active_base_offset, partition_log.active_size_bytes,
            partition_log.segment_list_version, entry[7], size, partition_log.leader_epoch,
        )  # fmt: skip

    def _dispatch(
        self, entry: SubmissionEntry, completions: CompletionProducer
    ) -> tuple[PartitionLog | None, Any]:
        method = self._methods.get(entry[0])
        if method is None:
            raise CommandError(errors.UNKNOWN_SERVER_ERROR, f"entry of unknown kind {entry[0]}")
        message = msgpack.unpackb(self._arena.view(entry[7], entry[8])) if entry[8] else None
        outcome: tuple[PartitionLog | None, Any] = method(entry, message, completions)
        return outcome

    def _store_result(self, entry: SubmissionEntry, result: Any) -> int:
        """msgpack of the result in the entry's slab (`extra` bytes of room); its size."""
        if result is None:
            return 0
        packed = msgpack.packb(result)
        if len(packed) > entry[9]:
            raise ValueError(f"result of {len(packed)} bytes, the slab has room for {entry[9]}")
        self._arena.view(entry[7], len(packed))[:] = packed
        return len(packed)

    def _log(self, entry: SubmissionEntry) -> PartitionLog:
        found = self._slots.get(entry[3], entry[4])
        if found is None:
            raise CommandError(
                errors.UNKNOWN_TOPIC_OR_PARTITION, f"no partition in slot {entry[3]}, generation {entry[4]}"
            )
        return found

    # One method per kind: (log, result message)

    def _open(self, _: SubmissionEntry, message: Any, __: CompletionProducer) -> tuple[PartitionLog, Any]:
        """Open, creating it if there is none: the log with this topic id and configuration."""
        topic, number, topic_id = message["topic"], message["partition"], message["topic_id"]
        config = self._set_config(topic, message["config"])
        partition_log = self._directory.logs.get((topic, number))
        if (topic, number) in self._directory.failed:
            raise CommandError(errors.KAFKA_STORAGE_ERROR, str(self._directory.failed[topic, number]))
        if partition_log is None:
            partition_log = self._directory.create_partition(topic, number, topic_id)
            self._watch(partition_log)
            try:
                self._slots.assign(partition_log)
            except SlotsExhaustedError as error:
                raise CommandError(errors.KAFKA_STORAGE_ERROR, str(error)) from error
        elif self._slots.is_quarantined(partition_log):
            raise CommandError(errors.KAFKA_STORAGE_ERROR, f"{topic}-{number} is quarantined")
        else:
            partition_log.update_config(config)
        if topic_id != bytes(16):
            try:
                partition_log.assign_topic_id(topic_id)
            except InconsistentTopicIdError as error:
                raise CommandError(errors.INCONSISTENT_TOPIC_ID, str(error)) from error
        return partition_log, {
            "checkpoint_high_watermark": self._directory.checkpoint_high_watermark(topic, number)
        }

    def _become_leader(self, entry: SubmissionEntry, _: Any, __: CompletionProducer) -> tuple[PartitionLog, Any]:
        """arg0: the high watermark that the new leader begins with; what ended below it is stable."""
        partition_log = self._log(entry)
        partition_log.become_leader(entry[5])
        partition_log.on_high_watermark_updated(entry[10])
        return partition_log, {"leader_epochs": _epochs(partition_log)}

    def _become_follower(
        self, entry: SubmissionEntry, _: Any, __: CompletionProducer
    ) -> tuple[PartitionLog, Any]:
        partition_log = self._log(entry)
        partition_log.become_follower()
        return partition_log, None

    def _close(self, entry: SubmissionEntry, _: Any, __: CompletionProducer) -> tuple[PartitionLog, Any]:
        """StopReplica without deletion: the log stays, nobody leads it."""
        partition_log = self._log(entry)
        partition_log.become_follower()
        return partition_log, None

    def _delete(
        self, entry: SubmissionEntry, _: Any, completions: CompletionProducer
    ) -> tuple[None, Any]:
        partition_log = self._log(entry)
        for waiting in self._group_commit.forget(partition_log):
            completions.put(*waiting)
        self._directory.delete_partition(partition_log.topic, partition_log.partition, secrets.token_hex(16))
        self._slots.release(partition_log)
        return None, None

    def _truncate(self, entry: SubmissionEntry, _: Any, __: CompletionProducer) -> tuple[PartitionLog, Any]:
        partition_log = self._log(entry)
        partition_log.truncate_to(entry[10])
        self._directory.cut_cleaner_offset((partition_log.topic, partition_log.partition), entry[10])
        return partition_log, None

    def _log_start(self, entry: SubmissionEntry, _: Any, __: CompletionProducer) -> tuple[PartitionLog, Any]:
        partition_log = self._log(entry)
        try:
            partition_log.maybe_increment_log_start(entry[10], "DeleteRecords")
        except errors.OffsetOutOfRangeError as error:
            raise CommandError(errors.OFFSET_OUT_OF_RANGE, str(error)) from error
        return partition_log, None

    def _configure(self, entry: SubmissionEntry, message: Any, __: CompletionProducer) -> tuple[PartitionLog, Any]:
        partition_log = self._log(entry)
        partition_log.update_config(self._set_config(partition_log.topic, message["config"]))
        return partition_log, None

    def _flush(self, entry: SubmissionEntry, _: Any, __: CompletionProducer) -> tuple[PartitionLog, Any]:
        partition_log = self._log(entry)
        partition_log.flush()
        return partition_log, None


def _name(kind: int) -> str:
    try:
        return SubmissionKind(kind).name
    except ValueError:
        return f"kind {kind}"


EPOCHS_MAX = 3000
"""Leader epochs that fit the result's slab; older ones are only needed by followers far behind."""


def _epochs(partition_log: PartitionLog) -> list[list[int]]:
    """The newest leader epochs as [epoch, start offset], ascending."""
    return [list(entry) for entry in partition_log.leader_epoch_cache.entries[-EPOCHS_MAX:]]
