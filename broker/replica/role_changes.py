"""What the controller's requests do to hosted partitions: open, lead, follow, stop, delete, reconfigure.

What: each change is one or more ring entries, in one order with the appends of that partition; the state
machine in `partition` moves when storage has answered. After the death of a storage process its partitions
take up the role they had.
Why waiting: a controller takes KAFKA_STORAGE_ERROR as "this replica is offline" until further notice, so its
requests wait up to CONTROLLER_WAIT_S for a storage process that is only being restarted (REVIEW item 19). And
a partition that is not known may lie in a directory that has not told yet what it holds: created in another
one it would exist twice, which stops a Kafka.
Why partitions with replicas elsewhere are declined: this version does not copy from other brokers, so it must
not claim to be in sync, nor lead others that count on it. KAFKA_STORAGE_ERROR says what is true ("not this
replica") in the one way that a controller acts on: it leaves the replica out and elects another leader. To lead
with nobody but this broker in sync needs no copying, and is accepted.
Runs in: front end. Owner: the front end's one instance.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import trio

from broker.log_dirs.log_dirs import LogDirs
from broker.log_dirs.storage_link import StorageLink
from broker.metadata.cache import MetadataCache
from broker.protocol.errors import ErrorCode
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition, Role
from broker.replica.registry import PartitionRegistry
from broker.replica.storage_calls import StorageCalls, StorageGoneError, StorageRefusedError
from broker.replica.turns import Turns
from storage.ipc.entries import C_FIRST_UNSTABLE_OFFSET, C_LOG_END_OFFSET, SubmissionKind
from storage.ipc.ring import CompletionEntry

log = logging.getLogger(__name__)

CONTROLLER_WAIT_S = 10.0
RETRY_PAUSE_S = 0.01
NO_SLOT = 0xFFFFFFFF
"""In an OPEN: the partition has none yet. In a listing: storage has set the log aside."""

ZERO_UUID = bytes(16)
NO_ROOM = ErrorCode.NOT_ENOUGH_REPLICAS
"""Storage's answer on a full disk: to a produce, and to the creation of a log."""


Listed = list[Any]
"""A log as its storage process lists it: topic, partition, topic id, slot, slot generation, watermark."""


class RoleChanges:
    """Changes of one partition take turns; those of different partitions run side by side.

    declined: partitions that a controller has assigned to this broker and others, and that are not served.
    on_role: told of every partition whose role a controller has changed.
    """

    def __init__(
        self, broker_id: int, registry: PartitionRegistry, log_dirs: LogDirs, metadata: MetadataCache,
        resolve_topic: Callable[[dict[str, str]], dict[str, Any]], *, in_cluster: bool = False,
    ) -> None:  # fmt: skip
        """in_cluster: there may be other brokers."""
        self._in_cluster = in_cluster
        self._broker_id = broker_id
        self._registry = registry
        self._log_dirs = log_dirs
        self._metadata = metadata
        self._resolve_topic = resolve_topic
        self._storage = StorageCalls(log_dirs.arena)
        self._turns = Turns()
        self._without_room: dict[tuple[str, int], bytes] = {}
        self.controller_epoch = -1
        self.declined: set[tuple[str, int]] = set()
        self.on_role: Callable[[Partition], None] = _ignore

    # A storage process has started

    async def enter(self, link: StorageLink, listed: Iterable[Listed]) -> None:
        """Take up the logs of a storage process that has (re)started; StorageGoneError if it died again.

        Logs nobody knows are entered and wait for the controller; those that had a role get it back; those
        that are not there any more were being deleted.
        """
        present: set[tuple[str, int]] = set()
        returning: list[tuple[str, int]] = []
        for entry in listed:
            topic, number = entry[:2]
            present.add((topic, number))
            known = self._registry.get(topic, number)
            if known is not None and known.role is not Role.NONE:
                returning.append((topic, number))
            else:
                await self._enter_one(link, *entry)
        for partition in self._registry.of_directory(link.index):
            if partition.role is Role.NONE and (partition.topic, partition.partition) not in present:
                self._forget(partition)
        link.is_listed = True
        for topic, number in returning:
            await self._reopen(topic, number)

    async def _enter_one(
        self, link: StorageLink, topic: str, number: int, topic_id: bytes, slot: int, slot_generation: int,
        high_watermark: int,
    ) -> None:  # fmt: skip
        if slot == NO_SLOT:
            self._enter_unusable(link, topic, number, topic_id)
            return
        try:
            partition = self._adopt(link, topic, number, topic_id, slot, slot_generation, high_watermark)
        except StorageRefusedError as refusal:
            log.error("%s-%d is not served: %s", topic, number, refusal)
            return
        if self._metadata.topic_overrides.get(topic):
            await self._configure(partition, partition.config)

    def _enter_unusable(self, link: StorageLink, topic: str, number: int, topic_id: bytes) -> None:
        """Storage has set its log aside: an entry that says so, else it would be created elsewhere."""
        known = self._registry.get(topic, number)
        if known is not None:
            self._forget(known)
        path = os.path.join(link.directory, f"{topic}-{number}")
        partition = Partition(topic, number, topic_id, link.index, path, NO_SLOT, 0)
        partition.apply_config(self._config_of(topic))
        partition.go_offline()
        self._registry.add(partition)

    def _forget(self, partition: Partition) -> None:
        self._registry.remove(partition)
        self._log_dirs.segments.forget(partition)

    def _config_of(self, topic: str) -> dict[str, Any]:
        return self._resolve_topic(self._metadata.topic_overrides.get(topic, {}))

    async def _reopen(self, topic: str, number: int) -> None:
        async with self._turns.of(topic, number):
            old = self._registry.get(topic, number)
            if old is None or old.role is not Role.OFFLINE:
                return
            try:
                await self._take_role(await self._open(topic, number, old.topic_id), _Remembered(old))
            except StorageGoneError:
                raise
            except StorageRefusedError as refusal:
                log.error("%s-%d after a restart: %s", topic, number, refusal)
            else:
                _hand_over_watchers(old)

    # Waiting for storage

    def _is_undecided(self, topic: str, number: int) -> bool:
        """The partition's storage process, or any that may have the partition, is being restarted."""
        partition = self._registry.get(topic, number)
        if partition is not None:
            return self._log_dirs.links[partition.directory_index].is_coming
        return any(link.is_coming for link in self._log_dirs.links)

    async def wait_until_decided(self, topic: str, number: int) -> None:
        """At most CONTROLLER_WAIT_S: storage has told what became of the partition."""
        with trio.move_on_after(CONTROLLER_WAIT_S):
            while self._is_undecided(topic, number):
                await trio.sleep(RETRY_PAUSE_S)

    async def _patiently(
        self, topic: str, number: int, change: Callable[[], Awaitable[ErrorCode]]
    ) -> ErrorCode:
        """In the partition's turn; again when its storage process dies under it, for CONTROLLER_WAIT_S."""
        deadline_s = trio.current_time() + CONTROLLER_WAIT_S
        while True:
            await self.wait_until_decided(topic, number)
            async with self._turns.of(topic, number):
                try:
                    if self._is_undecided(topic, number):
                        raise StorageGoneError
                    return await change()
                except StorageGoneError as refusal:
                    if trio.current_time() >= deadline_s:
                        log.error("%s-%d: %s", topic, number, refusal)
                        return ErrorCode.KAFKA_STORAGE_ERROR
                except StorageRefusedError as refusal:
                    log.error("%s-%d: %s", topic, number, refusal)
                    if refusal.code == ErrorCode.INCONSISTENT_TOPIC_ID:
                        return ErrorCode.INCONSISTENT_TOPIC_ID
                    return ErrorCode.KAFKA_STORAGE_ERROR
            await trio.sleep(RETRY_PAUSE_S)

    # Opening

    async def _open(self, topic: str, number: int, topic_id: bytes, is_new: bool = False) -> Partition:
        """Have storage open the partition's log, creating it in the least filled directory if it has none."""
        known = self._registry.get(topic, number)
        if known is not None:
            link = self._log_dirs.links[known.directory_index]
        else:
            link = self._place(is_new)
        message = {
            "topic": topic, "partition": number, "topic_id": topic_id, "config": self._config_of(topic)
        }  # fmt: skip
        self._without_room.pop((topic, number), None)
        try:
            with self._log_dirs.creating(link):
                completion, result = await self._storage.call(link, SubmissionKind.OPEN, NO_SLOT, 0, -1, message)
        except StorageRefusedError as refusal:
            if refusal.code == NO_ROOM:
                self._without_room[topic, number] = topic_id
            raise
        return self._adopt(
            link, topic, number, topic_id, completion[3], completion[4], result["checkpoint_high_watermark"]
        )

    async def retry_without_room(self) -> bool:
        """Partitions whose log found no room, once more; True: some are there now, and nobody knows of it.

        A controller has been told that they are offline, and asks again only of a broker with a new epoch.
        """
        healed = False
        for (topic, number), topic_id in tuple(self._without_room.items()):
            async with self._turns.of(topic, number):
                try:
                    if self._registry.get(topic, number) is None:
                        await self._open(topic, number, topic_id, is_new=True)
                        log.info("%s-%d has found room", topic, number)
                        healed = True
                except StorageRefusedError as refusal:
                    log.debug("%s-%d: %s", topic, number, refusal)
        return healed

    def _place(self, is_new: bool) -> StorageLink:
        """As Kafka: a partition that is not new may lie in a directory that has failed."""
        failed = [link for link in self._log_dirs.links if link.failed_reason is not None]
        if failed and not is_new:
            raise StorageRefusedError(
                ErrorCode.KAFKA_STORAGE_ERROR, f"its log may lie in {failed[0].directory}, which is offline"
            )
        link = self._log_dirs.place()
        if link is None:
            raise StorageGoneError
        return link

    def _adopt(
        self, link: StorageLink, topic: str, number: int, topic_id: bytes, slot: int, slot_generation: int,
        high_watermark: int,
    ) -> Partition:  # fmt: skip
        """Enter a log that storage has open, with what an earlier entry of it knew."""
        known = self._registry.get(topic, number)
        own = self._log_dirs.read_own_half(slot)
        if own is not None and own.slot_generation == slot_generation:
            high_watermark = max(high_watermark, own.high_watermark)
        half = self._log_dirs.read_half(slot)
        if half is None:
            raise StorageRefusedError(ErrorCode.KAFKA_STORAGE_ERROR, f"slot {slot} was never published")
        path = os.path.join(link.directory, f"{topic}-{number}")
        partition = Partition(topic, number, topic_id, link.index, path, slot, slot_generation)
        if known is not None:
            high_watermark = max(high_watermark, known.high_watermark)
            partition.succeed(known)
            self._forget(known)
        partition.apply_config(self._config_of(topic))
        end = LogPosition(half.log_end_offset, half.active_base_offset, half.active_position)
        partition.log_opened(
            half.log_start_offset, end, half.first_unstable_offset, half.segment_list_version, high_watermark
        )
        self._registry.add(partition)
        return partition

    async def _call(
        self, partition: Partition, kind: SubmissionKind, leader_epoch: int = -1,
        message: dict[str, Any] | None = None, arg0: int = 0,
    ) -> tuple[CompletionEntry, Any]:  # fmt: skip
        link = self._log_dirs.links[partition.directory_index]
        slot, generation = partition.slot, partition.slot_generation
        return await self._storage.call(link, kind, slot, generation, leader_epoch, message, arg0)

    # LeaderAndIsr

    def knows(self, topic: str, topic_id: bytes, number: int) -> bool:
        """Whether the partition's log is open here, with the configuration that it has."""
        partition = self._registry.get(topic, number)
        return partition is not None and topic_id in (partition.topic_id, ZERO_UUID)

    async def lead_or_follow(self, topic: str, topic_id: bytes, state: Any) -> ErrorCode:
        """One partition of a LeaderAndIsr request (inter-broker facts, 3.1)."""
        if self._broker_id not in state.replicas:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        key = (topic, state.partition_index)
        if self._needs_copying(state):
            self.declined.add(key)
            return await self._patiently(*key, lambda: self._decline(*key, state.leader_epoch))
        self.declined.discard(key)
        return await self._patiently(*key, lambda: self._lead_or_follow(topic, topic_id, state))

    def _needs_copying(self, state: Any) -> bool:
        leads_alone = state.leader == self._broker_id and list(state.isr) == [self._broker_id]
        return self._in_cluster and len(state.replicas) > 1 and not leads_alone

    async def _decline(self, topic: str, number: int, leader_epoch: int) -> ErrorCode:
        """Its log, if there is one, is left as it is; nothing is created."""
        partition = self._registry.get(topic, number)
        if partition is not None and partition.role in (Role.LEADER, Role.FOLLOWER):
            if leader_epoch <= partition.leader_epoch:
                return ErrorCode.STALE_CONTROLLER_EPOCH
            await self._stop(topic, number, leader_epoch, delete=False)
            self.declined.add((topic, number))
        return ErrorCode.KAFKA_STORAGE_ERROR

    async def _lead_or_follow(self, topic: str, topic_id: bytes, state: Any) -> ErrorCode:
        partition = self._registry.get(topic, state.partition_index)
        if partition is not None and partition.role is not Role.OFFLINE:
            if topic_id not in (partition.topic_id, ZERO_UUID) and partition.topic_id != ZERO_UUID:
                return ErrorCode.INCONSISTENT_TOPIC_ID
            if state.leader_epoch <= partition.leader_epoch:
                return ErrorCode.STALE_CONTROLLER_EPOCH
        if partition is None or partition.role is Role.OFFLINE or partition.topic_id != topic_id != ZERO_UUID:
            partition = await self._open(topic, state.partition_index, topic_id, state.is_new)
        await self._take_role(partition, state)
        return ErrorCode.NONE

    async def _take_role(self, partition: Partition, state: Any) -> None:
        leads = state.leader == self._broker_id
        kind = SubmissionKind.BECOME_LEADER if leads else SubmissionKind.BECOME_FOLLOWER
        alone = leads and tuple(state.isr) == (self._broker_id,)
        watermark = partition.log_end_offset if alone else partition.high_watermark
        completion, result = await self._call(partition, kind, state.leader_epoch, arg0=watermark)
        if partition.log_end_offset == completion[C_LOG_END_OFFSET]:  # else a later append has told
            partition.first_unstable_offset = completion[C_FIRST_UNSTABLE_OFFSET]
        partition.replicas = tuple(state.replicas)
        partition.isr = tuple(state.isr)
        partition.partition_epoch = state.partition_epoch
        if leads:
            starts = [(epoch, start) for epoch, start in result["leader_epochs"]]
            partition.lead(self._broker_id, state.leader_epoch, starts)
        else:
            partition.follow(state.leader, state.leader_epoch)
        self._log_dirs.publish(partition)
        self.on_role(partition)
        self._log_dirs.settle()

    # StopReplica

    async def stop(self, topic: str, number: int, leader_epoch: int, delete: bool) -> ErrorCode:
        """One partition of a StopReplica request (inter-broker facts, 3.3)."""
        return await self._patiently(topic, number, lambda: self._stop(topic, number, leader_epoch, delete))

    async def _stop(self, topic: str, number: int, leader_epoch: int, delete: bool) -> ErrorCode:
        """A stopped log stays entered, so that a later LeaderAndIsr finds it where it lies."""
        self.declined.discard((topic, number))
        partition = self._registry.get(topic, number)
        if partition is None:
            if delete:
                self._without_room.pop((topic, number), None)
            return ErrorCode.NONE
        if leader_epoch not in (-2, -1) and leader_epoch < partition.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        if partition.role is Role.OFFLINE:
            partition = await self._open(topic, number, partition.topic_id)
        await self._call(
            partition, SubmissionKind.DELETE_PARTITION if delete else SubmissionKind.CLOSE_PARTITION
        )
        partition.stop()
        self.on_role(partition)
        if delete:
            self._forget(partition)
        else:
            self._log_dirs.publish(partition)
        self._log_dirs.settle()
        return ErrorCode.NONE

    # Configuration

    async def configure_topic(self, topic: str, overrides: dict[str, str]) -> None:
        """These are now all the overrides of the topic; hosted partitions take them at once."""
        self._metadata.topic_overrides[topic] = overrides
        for number in [partition.partition for partition in self._registry.of_topic(topic)]:
            async with self._turns.of(topic, number):
                partition = self._registry.get(topic, number)
                if partition is not None:
                    await self._configure(partition, self._resolve_topic(overrides))

    async def _configure(self, partition: Partition, config: dict[str, Any]) -> None:
        partition.apply_config(config)
        try:
            await self._call(partition, SubmissionKind.CONFIGURE, message={"config": config})
        except StorageGoneError:
            log.info("%s-%d gets its configuration when its storage process is back", partition.topic,
                     partition.partition)  # fmt: skip
        except StorageRefusedError as refusal:
            log.error("Configuring %s-%d: %s", partition.topic, partition.partition, refusal)


def _ignore(partition: Partition) -> None:
    return None


class _Remembered:
    """The role of a partition before its storage process died, in the shape of a LeaderAndIsr entry."""

    def __init__(self, partition: Partition) -> None:
        self.replicas = partition.replicas
        self.isr = partition.isr
        self.partition_epoch = partition.partition_epoch
        self.leader = partition.leader_id
        self.leader_epoch = partition.leader_epoch


def _hand_over_watchers(old: Partition) -> None:
    """Sessions look partitions up again when they see a change; tell them there was one."""
    for watcher in tuple(old.watchers):
        watcher.partition_changed(old)
    old.watchers.clear()
