"""One partition's replication state: role, epochs, in-sync set, log end, high watermark.

What: the plain state machine behind Produce and Fetch. It is fed with events (LeaderAndIsr, append
completions, follower fetches) and answers questions (may this be produced to, how far may this be read);
it does no I/O and knows no sockets.
Why the watermark lives here: the front end alone sees follower fetches and in-sync-set changes; storage
only knows its own log end. The watermark words in shared memory are a copy for takeover and checkpoints.
Runs in: front end. Owner: `PartitionRegistry`. Pure.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol

from broker.protocol.errors import ErrorCode
from broker.replica.marks import LogPosition, PositionMarks

NO_LEADER = -1
UNDEFINED_EPOCH = -1


class Role(IntEnum):
    """What this broker is for the partition; the number is what the shared slot keeps."""

    NONE = 0
    LEADER = 1
    FOLLOWER = 2
    OFFLINE = 3


class Watcher(Protocol):
    """Something that waits for a partition to change: a parked fetch, an incremental fetch session."""

    def partition_changed(self, partition: Partition) -> None: ...


class Partition:
    """State of one hosted partition.

    Fixed at open: topic, partition, topic_id (16 bytes), directory_index, path, slot, slot_generation.
    Written by the controller's requests: role, leader_id, leader_epoch, partition_epoch, isr, replicas.
    Written by completions: log_start_offset, first_unstable_offset, marks, segment_list_version.
    """

    __slots__ = (
        "config", "directory_index", "epoch_start_offset", "first_unstable_offset", "follower_ends",
        "generation_key",
        "high_watermark", "isr", "leader_epoch", "leader_epoch_starts", "leader_id", "log_start_offset",
        "marks", "max_message_bytes", "min_insync_replicas", "partition", "partition_epoch", "path",
        "reader", "replicas", "role", "segment_list_version", "slot", "slot_generation", "topic",
        "topic_id", "watchers",
    )  # fmt: skip

    def __init__(
        self, topic: str, partition: int, topic_id: bytes, directory_index: int, path: str,
        slot: int, slot_generation: int,
    ) -> None:  # fmt: skip
        self.topic = topic
        self.partition = partition
        self.topic_id = topic_id
        self.directory_index = directory_index
        self.path = path
        self.slot = slot
        self.slot_generation = slot_generation

        self.role = Role.NONE
        self.leader_id = NO_LEADER
        self.leader_epoch = -1
        self.partition_epoch = -1
        self.isr: tuple[int, ...] = ()
        self.replicas: tuple[int, ...] = ()
        self.follower_ends: dict[int, int] = {}
        self.epoch_start_offset = 0
        self.leader_epoch_starts: list[tuple[int, int]] = []

        self.log_start_offset = 0
        self.first_unstable_offset = -1
        self.high_watermark = 0
        self.segment_list_version = 0
        self.marks = PositionMarks(LogPosition(0, 0, 0))

        self.config: dict[str, Any] = {}
        self.max_message_bytes = 0
        self.min_insync_replicas = 1
        self.reader: Any = None
        self.watchers: set[Watcher] = set()

    @property
    def log_end_offset(self) -> int:
        return self.marks.log_end.offset

    @property
    def last_stable_offset(self) -> int:
        """What read_committed consumers may read up to (subtle behaviour 42)."""
        unstable = self.first_unstable_offset
        return self.high_watermark if unstable < 0 else min(unstable, self.high_watermark)

    # Events

    def apply_config(self, config: dict[str, Any]) -> None:
        """Take the effective topic configuration (typed values by Kafka's topic key)."""
        self.config = config
        self.max_message_bytes = config["max.message.bytes"]
        self.min_insync_replicas = config["min.insync.replicas"]

    def log_opened(
        self, log_start: int, log_end: LogPosition, first_unstable: int, version: int, high_watermark: int
    ) -> None:
        """Storage opened or reopened the log: take its bounds, clamp the watermark into them (on-disk 4)."""
        self.log_start_offset = log_start
        self.first_unstable_offset = first_unstable
        self.segment_list_version = version
        self.marks.reset(log_end)
        self.high_watermark = max(log_start, min(high_watermark, log_end.offset))

    def succeed(self, earlier: Partition) -> None:
        """Another incarnation of the log's entry: what the controller said last still holds."""
        self.role = earlier.role
        self.replicas = earlier.replicas
        self.isr = earlier.isr
        self.partition_epoch = earlier.partition_epoch
        self.leader_id = earlier.leader_id
        self.leader_epoch = earlier.leader_epoch
        self.leader_epoch_starts = earlier.leader_epoch_starts
        self.follower_ends = earlier.follower_ends
        self.epoch_start_offset = earlier.epoch_start_offset

    def log_advanced(self, log_end: LogPosition, log_start: int, first_unstable: int, version: int) -> None:
        """The newest append completion of a pump pass."""
        self.log_start_offset = log_start
        self.first_unstable_offset = first_unstable
        self.marks.advance(log_end)
        self._take_version(version)
        self.maybe_advance_high_watermark()
        self._notify()

    def log_start_moved(self, log_start: int, version: int) -> None:
        """Retention or DeleteRecords removed records below `log_start`."""
        self.log_start_offset = log_start
        self._take_version(version)
        self.high_watermark = max(self.high_watermark, log_start)
        self._notify()

    def _take_version(self, version: int) -> None:
        """A mark holds a position, and a compacted segment has other positions under the same name."""
        if version != self.segment_list_version:
            self.segment_list_version = version
            self.marks.forget_other_segments()

    def lead(self, broker_id: int, leader_epoch: int, epoch_starts: list[tuple[int, int]]) -> None:
        """This broker leads from now on; `epoch_starts` is the log's leader-epoch history."""
        if leader_epoch > self.leader_epoch:
            self.epoch_start_offset = self.marks.log_end.offset
        self.role = Role.LEADER
        self.leader_id = broker_id
        self.leader_epoch = leader_epoch
        self.leader_epoch_starts = epoch_starts
        self.follower_ends = {
            replica: self.follower_ends.get(replica, -1) for replica in self.replicas if replica != broker_id
        }
        self.maybe_advance_high_watermark()
        self._notify()

    def follow(self, leader_id: int, leader_epoch: int) -> None:
        """Another broker leads: parked fetches must be answered, nothing may be produced here."""
        self.role = Role.FOLLOWER
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch
        self._notify()

    def go_offline(self) -> None:
        """The directory or its storage process is gone."""
        self.role = Role.OFFLINE
        self._notify()

    def stop(self) -> None:
        """The replica is taken away (StopReplica); whoever is made leader next may have any epoch."""
        self.role = Role.NONE
        self.leader_id = NO_LEADER
        self.leader_epoch = -1
        self._notify()

    def maybe_advance_high_watermark(self) -> bool:
        """Min of the in-sync replicas' log ends; stands still under min.insync.replicas (KIP-966)."""
        if self.role is not Role.LEADER:
            return False
        if len(self.isr) < min(self.min_insync_replicas, len(self.replicas)):
            return False
        candidate = self.marks.log_end.offset
        for replica in self.isr:
            if replica != self.leader_id:
                candidate = min(candidate, self.follower_ends.get(replica, -1))
        if candidate <= self.high_watermark:
            return False
        self.high_watermark = candidate
        return True

    # Questions

    def produce_error(self, acks: int) -> ErrorCode:
        """Why a produce cannot be taken now, NONE if it can (subtle behaviours 31, 32)."""
        if self.role is Role.LEADER:
            if acks == -1 and len(self.isr) < min(self.min_insync_replicas, len(self.replicas)):
                return ErrorCode.NOT_ENOUGH_REPLICAS
            return ErrorCode.NONE
        return self._not_leader_error()

    def read_error(self, current_leader_epoch: int, leader_only: bool = True) -> ErrorCode:
        """Fencing by role and leader epoch (subtle behaviour 45); -1 skips the epoch check."""
        role = self.role
        if role is not Role.LEADER and (leader_only or role is not Role.FOLLOWER):
            return self._not_leader_error()
        if current_leader_epoch >= 0 and current_leader_epoch != self.leader_epoch:
            if current_leader_epoch < self.leader_epoch:
                return ErrorCode.FENCED_LEADER_EPOCH
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        return ErrorCode.NONE

    def _not_leader_error(self) -> ErrorCode:
        if self.role is Role.OFFLINE:
            return ErrorCode.KAFKA_STORAGE_ERROR
        return ErrorCode.NOT_LEADER_OR_FOLLOWER

    @property
    def end_is_uncertain(self) -> bool:
        """The watermark has not reached where this leader began: what was read before may lie above it, so
        that the end of the log must not be told yet (subtle behaviour 51)."""
        return self.high_watermark < self.epoch_start_offset

    def end_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(epoch, end offset) as LeaderEpochFileCache.endOffsetFor; (-1, -1) when unknown (behaviour 52)."""
        starts = self.leader_epoch_starts
        if epoch == UNDEFINED_EPOCH or not starts or epoch > starts[-1][0]:
            return (-1, -1)
        if epoch == starts[-1][0]:
            return (epoch, self.marks.log_end.offset)
        if epoch < starts[0][0]:
            return (epoch, starts[0][1])
        found = starts[0]
        for entry, following in zip(starts, starts[1:], strict=False):
            if entry[0] <= epoch < following[0]:
                found = (entry[0], following[1])
        return found

    def epoch_at(self, offset: int) -> int:
        """The leader epoch under which `offset` was written, -1 when the history does not say."""
        epoch = -1
        for known_epoch, start in self.leader_epoch_starts:
            if start > offset:
                break
            epoch = known_epoch
        return epoch

    def _notify(self) -> None:
        if self.watchers:
            for watcher in tuple(self.watchers):
                watcher.partition_changed(self)
