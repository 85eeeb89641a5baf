"""What the controller's requests do to hosted partitions: open, lead, follow, stop, delete, reconfigure.

What: each change is one or more ring entries, in one order with the appends of that partition; the state
machine in `partition` moves when storage has answered.
Why waiting: a controller takes KAFKA_STORAGE_ERROR as "this replica is offline" until further notice, so its
requests wait up to CONTROLLER_WAIT_S for a storage process that is only being restarted (REVIEW item 19).
Runs in: front end. Owner: the front end's one instance.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

import msgpack
import trio

from broker.log_dirs.log_dirs import LogDirs
from broker.log_dirs.storage_link import StorageLink
from broker.metadata.cache import MetadataCache
from broker.protocol.errors import ErrorCode
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition, Role
from broker.replica.registry import PartitionRegistry
from storage.ipc.arena import Slab
from storage.ipc.entries import SubmissionKind
from storage.ipc.ring import CompletionEntry

log = logging.getLogger(__name__)

CONTROLLER_WAIT_S = 10.0
MESSAGE_SLAB_BYTES = 1 << 16
"""Room for a request and, in the same slab, its result (a leader-epoch history of 4,000 entries fits)."""

NO_SLOT = 0xFFFFFFFF


class StorageRefusedError(Exception):
    """Storage answered with an error code, or went away."""

    def __init__(self, code: int) -> None:
        super().__init__(f"storage answered {code}")
        self.code = code


class _Call:
    """One entry with a message in a slab, awaited by a task."""

    __slots__ = ("arrived", "completion", "error")

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.error = 0
        self.completion: CompletionEntry | None = None

    def storage_completed(self, index: int, error: int, completion: CompletionEntry | None) -> None:
        self.error = error
        self.completion = completion
        self.arrived.set()


class RoleChanges:
    """All methods that await run one at a time per request: the controller has one request in flight."""

    def __init__(
        self, broker_id: int, registry: PartitionRegistry, log_dirs: LogDirs, metadata: MetadataCache,
        resolve_topic: Callable[[dict[str, str]], dict[str, Any]],
    ) -> None:  # fmt: skip
        self._broker_id = broker_id
        self._registry = registry
        self._log_dirs = log_dirs
        self._metadata = metadata
        self._resolve_topic = resolve_topic
        self.controller_epoch = -1

    # Ring entries that carry a message

    async def call(
        self, link: StorageLink, kind: SubmissionKind, slot: int, slot_generation: int, leader_epoch: int,
        message: dict[str, Any] | None = None, arg0: int = 0,
    ) -> tuple[CompletionEntry, Any]:  # fmt: skip
        """(completion, result message or None). Raises StorageRefusedError."""
        slab = await self._slab()
        try:
            packed = msgpack.packb(message) if message is not None else b""
            if len(packed) > slab.view.nbytes:
                raise StorageRefusedError(ErrorCode.INVALID_CONFIG)
            slab.view[: len(packed)] = packed
            slab.note_touched(MESSAGE_SLAB_BYTES)
            waiting = _Call()
            link.submit(
                waiting, 0, int(kind), slot, slot_generation, leader_epoch, slab.offset, len(packed), arg0,
                extra=MESSAGE_SLAB_BYTES,
            )  # fmt: skip
            with trio.CancelScope(shield=True):
                await waiting.arrived.wait()
            completion = waiting.completion
            if waiting.error or completion is None:
                raise StorageRefusedError(waiting.error)
            result = None
            if completion[17]:
                start = completion[16] - slab.offset
                result = msgpack.unpackb(slab.view[start : start + completion[17]])
            return completion, result
        finally:
            slab.release()

    async def _slab(self) -> Slab:
        """The reserve share of the arena is for messages like these; it frees up as they complete."""
        while True:
            slab = self._log_dirs.arena.allocate(MESSAGE_SLAB_BYTES, reserve=True)
            if slab is not None:
                return slab
            await trio.sleep(0.01)

    # Opening

    async def _open(self, topic: str, number: int, topic_id: bytes) -> Partition:
        """The hosted partition, its log created in the least filled directory when there is none."""
        partition = self._registry.get(topic, number)
        if partition is not None and partition.role is not Role.OFFLINE:
            return partition
        if partition is not None:
            link = await self._wait_usable(partition.directory_index)
        else:
            link = self._log_dirs.place()
        if link is None:
            raise StorageRefusedError(ErrorCode.KAFKA_STORAGE_ERROR)
        overrides = self._metadata.topic_overrides.get(topic, {})
        config = self._resolve_topic(overrides)
        message = {"topic": topic, "partition": number, "topic_id": topic_id, "config": config}
        with self._log_dirs.creating(link):
            completion, result = await self.call(link, SubmissionKind.OPEN, NO_SLOT, 0, -1, message)
        return self.adopt(link, topic, number, topic_id, completion[3], completion[4], config, result)

    def adopt(
        self, link: StorageLink, topic: str, number: int, topic_id: bytes, slot: int, slot_generation: int,
        config: dict[str, Any], listed: dict[str, Any],
    ) -> Partition:  # fmt: skip
        """Enter a partition whose log storage has open; `listed` describes it as in `partitions` messages."""
        known = self._registry.get(topic, number)
        high_watermark = listed["checkpoint_high_watermark"]
        own = self._log_dirs.read_own_half(slot)
        if own is not None and own.slot_generation == slot_generation:
            high_watermark = max(high_watermark, own.high_watermark)
        if known is not None:
            high_watermark = max(high_watermark, known.high_watermark)
            self._registry.remove(known)
            self._log_dirs.segments.forget(known)
        path = os.path.join(link.directory, f"{topic}-{number}")
        partition = Partition(topic, number, topic_id, link.index, path, slot, slot_generation)
        partition.apply_config(config)
        half = self._log_dirs.read_half(slot)
        if half is None:
            raise StorageRefusedError(ErrorCode.KAFKA_STORAGE_ERROR)
        end = LogPosition(half.log_end_offset, half.active_base_offset, half.active_position)
        partition.log_opened(
            half.log_start_offset, end, half.first_unstable_offset, half.segment_list_version, high_watermark
        )
        self._registry.add(partition)
        return partition

    async def _wait_usable(self, directory_index: int) -> StorageLink | None:
        """A storage process that is being restarted gets CONTROLLER_WAIT_S."""
        link = self._log_dirs.links[directory_index]
        with trio.move_on_after(CONTROLLER_WAIT_S):
            while not link.usable and link.failed_reason is None:
                await trio.sleep(0.02)
        return link if link.usable else None

    # LeaderAndIsr

    async def lead_or_follow(self, topic: str, topic_id: bytes, state: Any) -> ErrorCode:
        """One partition of a LeaderAndIsr request (inter-broker facts, 3.1)."""
        partition = self._registry.get(topic, state.partition_index)
        if self._broker_id not in state.replicas:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if partition is not None and partition.role is not Role.OFFLINE:
            if topic_id not in (partition.topic_id, bytes(16)) and partition.topic_id != bytes(16):
                return ErrorCode.INCONSISTENT_TOPIC_ID
            if state.leader_epoch <= partition.leader_epoch:
                return ErrorCode.STALE_CONTROLLER_EPOCH
        try:
            partition = await self._open(topic, state.partition_index, topic_id)
            await self._take_role(partition, state)
        except StorageRefusedError as refusal:
            log.error("%s-%d: %s", topic, state.partition_index, refusal)
            if refusal.code == ErrorCode.INCONSISTENT_TOPIC_ID:
                return ErrorCode.INCONSISTENT_TOPIC_ID
            return ErrorCode.KAFKA_STORAGE_ERROR
        return ErrorCode.NONE

    async def _take_role(self, partition: Partition, state: Any) -> None:
        partition.replicas = tuple(state.replicas)
        partition.isr = tuple(state.isr)
        partition.partition_epoch = state.partition_epoch
        link = self._log_dirs.links[partition.directory_index]
        if state.leader == self._broker_id:
            _, result = await self.call(
                link, SubmissionKind.BECOME_LEADER, partition.slot, partition.slot_generation,
                state.leader_epoch,
            )  # fmt: skip
            starts = [(epoch, start) for epoch, start in result["leader_epochs"]]
            partition.lead(self._broker_id, state.leader_epoch, starts)
        else:
            await self.call(
                link, SubmissionKind.BECOME_FOLLOWER, partition.slot, partition.slot_generation,
                state.leader_epoch,
            )  # fmt: skip
            partition.follow(state.leader, state.leader_epoch)
        self._log_dirs.publish(partition)

    async def reopen(self, directory_index: int) -> None:
        """A storage process is back: its partitions take up the role they had."""
        for partition in self._registry.of_directory(directory_index):
            if partition.role is not Role.OFFLINE:
                continue
            try:
                fresh = await self._open(partition.topic, partition.partition, partition.topic_id)
                fresh.follower_ends = partition.follower_ends
                await self._take_role(fresh, _Remembered(partition))
            except StorageRefusedError as refusal:
                log.error("%s-%d after a restart: %s", partition.topic, partition.partition, refusal)
            else:
                _hand_over_watchers(partition, fresh)

    # StopReplica

    async def stop(self, topic: str, number: int, leader_epoch: int, delete: bool) -> ErrorCode:
        """One partition of a StopReplica request (inter-broker facts, 3.3)."""
        partition = self._registry.get(topic, number)
        if partition is None:
            return ErrorCode.NONE
        if leader_epoch not in (-2, -1) and leader_epoch < partition.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        link = await self._wait_usable(partition.directory_index)
        if link is None:
            return ErrorCode.KAFKA_STORAGE_ERROR
        kind = SubmissionKind.DELETE_PARTITION if delete else SubmissionKind.CLOSE_PARTITION
        try:
            await self.call(link, kind, partition.slot, partition.slot_generation, -1)
        except StorageRefusedError as refusal:
            log.error("Stopping %s-%d: %s", topic, number, refusal)
            return ErrorCode.KAFKA_STORAGE_ERROR
        self._registry.remove(partition)
        self._log_dirs.segments.forget(partition)
        partition.stop()
        self._log_dirs.settle()
        return ErrorCode.NONE

    # Configuration

    async def configure_topic(self, topic: str, overrides: dict[str, str]) -> None:
        """These are now all the overrides of the topic; hosted partitions take them at once."""
        self._metadata.topic_overrides[topic] = overrides
        await self._configure(self._registry.of_topic(topic), self._resolve_topic(overrides))

    async def _configure(self, partitions: Iterable[Partition], config: dict[str, Any]) -> None:
        for partition in partitions:
            partition.apply_config(config)
            link = self._log_dirs.links[partition.directory_index]
            try:
                await self.call(
                    link, SubmissionKind.CONFIGURE, partition.slot, partition.slot_generation, -1,
                    {"config": config},
                )  # fmt: skip
            except StorageRefusedError as refusal:
                log.error("Configuring %s-%d: %s", partition.topic, partition.partition, refusal)


class _Remembered:
    """The role of a partition before its storage process died, in the shape of a LeaderAndIsr entry."""

    def __init__(self, partition: Partition) -> None:
        self.replicas = partition.replicas
        self.isr = partition.isr
        self.partition_epoch = partition.partition_epoch
        self.leader = partition.leader_id
        self.leader_epoch = partition.leader_epoch


def _hand_over_watchers(old: Partition, new: Partition) -> None:
    """Sessions look partitions up again when they see a change; tell them there was one."""
    for watcher in tuple(old.watchers):
        watcher.partition_changed(old)
    old.watchers.clear()
    new.watchers.clear()
