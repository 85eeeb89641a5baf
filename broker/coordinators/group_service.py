"""The group coordinator at work: its decisions carried out, its partitions loaded, its deadlines kept.

What: carries out effects (answers, appends), reads a partition's log when this broker becomes its leader, forgets
it when it does not lead any more, runs the two clocks (deadlines of members, expiry of offsets).
Why decisions are elsewhere: `group/` can be tested as a transcript, without loop, log or sockets.
Runs in: front end, on its loop. Owner: the front end's one instance; the coordinator's memory is touched by nobody
else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, Protocol
from uuid import uuid4

import trio

from broker.config.versions import version_index
from broker.coordinators.effects import Append, Now, Record, Reply
from broker.coordinators.group.commits import OffsetLimits
from broker.coordinators.group.coordinator import GroupCoordinator
from broker.coordinators.group.loading import LogContent
from broker.coordinators.group.rebalance import GroupLimits
from broker.coordinators.group.records import RecordVersions
from broker.coordinators.internal_topics import GROUP_METADATA_TOPIC, InternalTopics
from broker.coordinators.java_hash import partition_for
from broker.coordinators.log_loader import LogLoader
from broker.coordinators.log_writer import LogWriter
from broker.log_dirs.helper_link import HelperUnavailableError
from broker.metadata.cache import MetadataCache
from broker.protocol.errors import ErrorCode
from broker.replica.partition import Partition, Role
from broker.replica.registry import PartitionRegistry
from storage.errors import StorageError
from storage.record.records import NO_PRODUCER, Producer, build_batch
from storage.record.records import Record as LogRecord

log = logging.getLogger(__name__)

MS_PER_S = 1000
LOAD_RETRY_PAUSE_S_MIN = 0.2
LOAD_RETRY_PAUSE_S_MAX = 10.0
"""A helper that died is replaced at once; a log that cannot be read needs somebody's hand."""

NOTE_LENGTH_MAX = 1000
"""Notes hold ids and reasons that clients have chosen."""

FIRST_GROUP_VALUE_WITH_INSTANCE_IDS = 3
EXPIRY_TURN_GROUPS = 100
"""Groups looked at before others get their turn."""

COMMIT_PRODUCER = Producer(base_sequence=0)
"""Kafka gives batches of offset commits a sequence without a producer."""


class Ticket(Protocol):
    """A request that waits for its answer."""

    def answer(self, result: Any) -> None: ...


class GroupService:
    """coordinator: for the request handlers, who call `settle` afterwards. serves_static_members: False while
    brokers of the cluster may be too old to keep instance ids (inter.broker.protocol.version below 2.3)."""

    def __init__(
        self, config: Any, registry: PartitionRegistry, metadata: MetadataCache, writer: LogWriter,
        loader: LogLoader, topics: InternalTopics, wall_clock_ms: Callable[[], int],
        start_soon: Callable[..., None],
    ) -> None:  # fmt: skip
        self.topics = topics
        self._config = config
        self._registry = registry
        self._metadata = metadata
        self._writer = writer
        self._loader = loader
        self._wall_clock_ms = wall_clock_ms
        self._start_soon = start_soon
        self._codec = config["offsets.topic.compression.codec"]
        versions = record_versions(config)
        self.serves_static_members = versions.group_value >= FIRST_GROUP_VALUE_WITH_INSTANCE_IDS
        self._sooner = trio.Event()
        self._wake_ms: int | None = None
        self.coordinator = GroupCoordinator(
            group_limits(config), offset_limits(config), versions, self.partition_of,
            lambda: str(uuid4()),
        )  # fmt: skip

    def now(self) -> Now:
        return Now(round(trio.current_time() * MS_PER_S), self._wall_clock_ms())

    def partition_of(self, group_id: str) -> int:
        """By the topic's partitions; before it exists, by those that it will have."""
        topic = self._metadata.topics.get(GROUP_METADATA_TOPIC)
        count = self._config["offsets.topic.num.partitions"] if topic is None else len(topic.partitions)
        return partition_for(group_id, count)

    # Effects

    def settle(self) -> None:
        """Carry out what the last calls have decided; their consequences too."""
        coordinator = self.coordinator
        while effects := coordinator.take_effects():
            for effect in effects:
                if isinstance(effect, Reply):
                    effect.ticket.answer(effect.result)
                elif isinstance(effect, Append):
                    self._append(effect)
                else:
                    log.info("%s", _printable(effect.text))
        wake_ms = coordinator.timers.next_wake_ms()
        if wake_ms is not None and (self._wake_ms is None or wake_ms < self._wake_ms):
            self._sooner.set()

    def _append(self, effect: Append) -> None:
        batch = self._batch(effect.records, effect.is_offset_commit)
        continuation = effect.continuation
        if continuation is None:
            self._writer.append(effect.partition, batch, None)
            return

        def done(error: ErrorCode, record_offset: int) -> None:
            self.coordinator.appended(continuation, error, record_offset, self.now())
            self.settle()

        self._writer.append(effect.partition, batch, done)

    def _batch(self, records: list[Record], is_offset_commit: bool) -> bytes:
        now_ms = self._wall_clock_ms()
        producer = COMMIT_PRODUCER if is_offset_commit else NO_PRODUCER
        return build_batch(
            [LogRecord(index, now_ms, key, value) for index, (key, value) in enumerate(records)],
            attributes=self._codec, producer=producer,
        )  # fmt: skip

    # Leadership

    def role_changed(self, partition: Partition) -> None:
        """A hosted partition has another role; called for every topic."""
        if partition.topic != GROUP_METADATA_TOPIC:
            return
        number, epoch = partition.partition, partition.leader_epoch
        if partition.role is Role.LEADER:
            if self.coordinator.begin_loading(number, epoch):
                self._start_soon(self._load, number)
        else:
            self.coordinator.unload(number, epoch if epoch >= 0 else None, self.now())
            self.settle()

    async def _load(self, number: int) -> None:
        """Until it has worked, or the partition is not led here any more."""
        started_s = trio.current_time()
        pause_s = LOAD_RETRY_PAUSE_S_MIN
        while self.coordinator.is_loading(number):
            partition = self._registry.get(GROUP_METADATA_TOPIC, number)
            if partition is not None and partition.role is Role.LEADER:
                content = LogContent()
                try:
                    damaged = await self._loader.read(partition, content.apply)
                except (HelperUnavailableError, StorageError, OSError) as error:
                    pause_s = min(2 * pause_s, LOAD_RETRY_PAUSE_S_MAX)
                    log.warning("Loading groups of %s-%d, again in %.1f s: %s", GROUP_METADATA_TOPIC, number,
                                pause_s, error)  # fmt: skip
                else:
                    self._loaded(number, content, damaged, started_s)
                    return
            await trio.sleep(pause_s)

    def _loaded(self, number: int, content: LogContent, damaged: list[str], started_s: float) -> None:
        self.coordinator.finish_loading(number, content, self.now())
        self.settle()
        for what in (*damaged, *content.malformed):
            log.error("%s-%d: stepped over what cannot be read: %s", GROUP_METADATA_TOPIC, number, what)
        if content.foreign_count:
            log.warning("%s-%d: %d records of other coordinators are left alone", GROUP_METADATA_TOPIC, number,
                        content.foreign_count)  # fmt: skip
        log.debug("%s-%d loaded in %.0f ms", GROUP_METADATA_TOPIC, number,
                  (trio.current_time() - started_s) * MS_PER_S)  # fmt: skip

    def topics_deleted(self, names: Collection[str]) -> None:
        if names:
            count = self.coordinator.partitions_deleted(frozenset(names), self.now())
            self.settle()
            if count:
                log.info("%d committed offsets went with the topics %s", count, ", ".join(names))

    # Clocks

    async def run_deadlines(self) -> None:
        """The one timer of all groups."""
        while True:
            self._sooner = trio.Event()
            self._wake_ms = self.coordinator.timers.next_wake_ms()
            if self._wake_ms is None:
                await self._sooner.wait()
                continue
            with trio.move_on_at(self._wake_ms / MS_PER_S):
                await self._sooner.wait()
            self.coordinator.expire_due(self.now())
            self.settle()

    async def run_expiry(self) -> None:
        """Kafka's round over all groups, once every offsets.retention.check.interval.ms."""
        while True:
            await trio.sleep(self._config["offsets.retention.check.interval.ms"] / MS_PER_S)
            await self.expire_offsets()

    async def expire_offsets(self) -> None:
        """One round."""
        count = 0
        for index, group in enumerate(tuple(self.coordinator.groups())):
            count += self.coordinator.expire_offsets(group, self.now())
            self.settle()
            if index % EXPIRY_TURN_GROUPS == 0:
                await trio.lowlevel.checkpoint()
        if count:
            log.info("%d committed offsets have expired", count)


def _printable(text: str) -> str:
    """One line, whatever clients have put into their ids."""
    text = text[:NOTE_LENGTH_MAX]
    return text if text.isprintable() else ascii(text)


def group_limits(config: Any) -> GroupLimits:
    return GroupLimits(
        config["group.min.session.timeout.ms"], config["group.max.session.timeout.ms"],
        config["group.max.size"], config["group.initial.rebalance.delay.ms"],
    )  # fmt: skip


def offset_limits(config: Any) -> OffsetLimits:
    return OffsetLimits(config["offset.metadata.max.bytes"], config["offsets.retention.minutes"] * 60 * MS_PER_S)


def record_versions(config: Any) -> RecordVersions:
    """What every broker of the cluster can read (GroupMetadataManager.groupMetadataValue, offsetCommitValue)."""
    index = version_index(config["inter.broker.protocol.version"])
    assert index is not None  # checked at start
    offset_value = sum(index >= _index(name) for name in ("2.1-IV0", "2.1-IV1")) + 1
    group_value = sum(index >= _index(name) for name in ("0.10.1-IV0", "2.1-IV0", "2.3-IV0"))
    return RecordVersions(offset_value, group_value)


def _index(name: str) -> int:
    index = version_index(name)
    assert index is not None
    return index
