"""The cluster as the active controller knows it: brokers, topics, partitions, replicas, deletions (PURE).

Filled at fail-over from the metadata store and then kept by replaying the records of every decision;
dropped on resignation. Decisions read it and never write.

Runs in: controller. Owner: the event loop's one task.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from controller import records as rec
from controller.cluster import (
    EPOCH_DURING_DELETE,
    NO_EPOCH,
    Broker,
    LeaderAndIsr,
    PartitionReplica,
    ReplicaAssignment,
    TopicPartition,
)
from controller.records import PartitionState, Record, ReplicaState

_NO_PARTITIONS: frozenset[TopicPartition] = frozenset()


class Partition:
    """One partition. leader_and_isr is None until its state node exists."""

    __slots__ = ("assignment", "leader_and_isr", "replica_states", "state")

    def __init__(self, assignment: ReplicaAssignment) -> None:
        self.assignment = assignment
        self.leader_and_isr: LeaderAndIsr | None = None
        self.state = PartitionState.NON_EXISTENT
        self.replica_states: dict[int, ReplicaState] = {}


class Topic:
    """topic_id: 16 bytes, all zero where the inter-broker version has none. partitions: by number."""

    __slots__ = ("partitions", "topic_id")

    def __init__(self, topic_id: bytes) -> None:
        self.topic_id = topic_id
        self.partitions: dict[int, Partition] = {}


class ControllerState:
    """Everything is read through attributes and queries; `replay` is the only mutator."""

    def __init__(self) -> None:
        self.epoch = 0
        self.epoch_version = -1
        self.brokers: dict[int, Broker] = {}
        self.shutting_down: set[int] = set()
        self.topics: dict[str, Topic] = {}
        self.topic_names: dict[bytes, str] = {}
        self.offline_directories: dict[int, frozenset[TopicPartition]] = {}
        self.topics_to_be_deleted: set[str] = set()
        self.topics_with_deletion_started: set[str] = set()
        self.topics_ineligible_for_deletion: set[str] = set()

    # Queries: brokers and replicas

    def is_replica_online(self, broker_id: int, partition: TopicPartition) -> bool:
        """Whether it may lead or be in sync: its broker is there to stay."""
        return broker_id not in self.shutting_down and self.is_replica_alive(broker_id, partition)

    def is_replica_alive(self, broker_id: int, partition: TopicPartition) -> bool:
        """Its broker hears what it is told, though it may be about to stop."""
        return broker_id in self.brokers and \
            partition not in self.offline_directories.get(broker_id, _NO_PARTITIONS)

    def online_replicas(self, partition: TopicPartition, replicas: Iterable[int]) -> tuple[int, ...]:
        return tuple(replica for replica in replicas if self.is_replica_online(replica, partition))

    def alive_replicas(self, partition: TopicPartition, replicas: Iterable[int]) -> tuple[int, ...]:
        return tuple(replica for replica in replicas if self.is_replica_alive(replica, partition))

    def live_broker_ids(self) -> tuple[int, ...]:
        """All that are registered, those about to stop too."""
        return tuple(sorted(self.brokers))

    def eligible_broker_ids(self) -> tuple[int, ...]:
        """Those that may be taken into an in-sync set."""
        return tuple(sorted(self.brokers.keys() - self.shutting_down))

    def replicas(self) -> Iterator[PartitionReplica]:
        for topic in self.topics:
            yield from self.replicas_of_topic(topic)

    def replicas_of_topic(self, topic: str) -> Iterator[PartitionReplica]:
        for number, partition in self.topics[topic].partitions.items():
            for broker_id in partition.assignment.replicas:
                yield PartitionReplica(topic, number, broker_id)

    def replicas_of_partitions(self, partitions: Iterable[TopicPartition]) -> Iterator[PartitionReplica]:
        for partition in partitions:
            for broker_id in self.partition(partition).assignment.replicas:
                yield PartitionReplica(*partition, broker_id)

    def replicas_on_brokers(self, broker_ids: Collection[int]) -> list[PartitionReplica]:
        return [replica for replica in self.replicas() if replica.broker_id in broker_ids]

    def replica_state(self, replica: PartitionReplica) -> ReplicaState:
        states = self.topics[replica.topic].partitions[replica.partition].replica_states
        return states.get(replica.broker_id, ReplicaState.NON_EXISTENT)

    def any_replica_in(self, topic: str, state: ReplicaState) -> bool:
        return any(self.replica_state(replica) is state for replica in self.replicas_of_topic(topic))

    def all_replicas_in(self, topic: str, state: ReplicaState) -> bool:
        return all(self.replica_state(replica) is state for replica in self.replicas_of_topic(topic))

    # Queries: partitions

    def partition(self, partition: TopicPartition) -> Partition:
        """KeyError for one that does not exist."""
        return self.topics[partition.topic].partitions[partition.partition]

    def find_partition(self, partition: TopicPartition) -> Partition | None:
        topic = self.topics.get(partition.topic)
        return None if topic is None else topic.partitions.get(partition.partition)

    def partitions(self) -> Iterator[tuple[TopicPartition, Partition]]:
        for name, topic in self.topics.items():
            for number, partition in topic.partitions.items():
                yield TopicPartition(name, number), partition

    def partitions_of_topic(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in self.topics[topic].partitions]

    def partitions_without_leader(self) -> list[TopicPartition]:
        """New and offline ones of topics that are to stay."""
        wanted = (PartitionState.NEW, PartitionState.OFFLINE)
        return [key for key, partition in self.partitions()
                if partition.state in wanted and key.topic not in self.topics_to_be_deleted]

    def partitions_with_leadership(self) -> list[TopicPartition]:
        """Those that have a state node and whose topic is to stay."""
        return [key for key, partition in self.partitions()
                if partition.leader_and_isr is not None and key.topic not in self.topics_to_be_deleted]

    def partitions_with_offline_leader(self) -> list[TopicPartition]:
        return [key for key, partition in self.partitions()
                if partition.leader_and_isr is not None and key.topic not in self.topics_to_be_deleted
                and not self.is_replica_online(partition.leader_and_isr.leader, key)]

    def leader_epoch_for_stop(self, partition: TopicPartition) -> int:
        """What StopReplica carries: a sentinel when the topic goes, else the known epoch."""
        if partition.topic in self.topics_to_be_deleted:
            return EPOCH_DURING_DELETE
        leader_and_isr = self.partition(partition).leader_and_isr
        return NO_EPOCH if leader_and_isr is None else leader_and_isr.leader_epoch

    # Replay

    def replay(self, record: Record) -> None:
        """Make one record true. KeyError when it speaks of something that does not exist: a bug."""
        _REPLAY[type(record)](self, record)

    def _controller_elected(self, record: rec.ControllerElected) -> None:
        self.epoch, self.epoch_version = record.epoch, record.epoch_version

    def _broker_registered(self, record: rec.BrokerRegistered) -> None:
        known = self.brokers.get(record.broker.id)
        if known is not None and known.epoch != record.broker.epoch:
            self.shutting_down.discard(record.broker.id)
        self.brokers[record.broker.id] = record.broker

    def _broker_unregistered(self, record: rec.BrokerUnregistered) -> None:
        del self.brokers[record.broker_id]
        self.shutting_down.discard(record.broker_id)

    def _broker_shutting_down(self, record: rec.BrokerShuttingDown) -> None:
        self.shutting_down.add(record.broker_id)

    def _topic_added(self, record: rec.TopicAdded) -> None:
        self.topics[record.topic] = Topic(record.topic_id)
        if any(record.topic_id):
            self.topic_names[record.topic_id] = record.topic

    def _topic_removed(self, record: rec.TopicRemoved) -> None:
        topic = self.topics.pop(record.topic)
        self.topic_names.pop(topic.topic_id, None)
        for topics in (self.topics_to_be_deleted, self.topics_with_deletion_started,
                       self.topics_ineligible_for_deletion):
            topics.discard(record.topic)

    def _partition_assigned(self, record: rec.PartitionAssigned) -> None:
        partitions = self.topics[record.partition.topic].partitions
        partition = partitions.get(record.partition.partition)
        if partition is None:
            partitions[record.partition.partition] = Partition(record.assignment)
        else:
            partition.assignment = record.assignment

    def _leadership_changed(self, record: rec.LeadershipChanged) -> None:
        self.partition(record.partition).leader_and_isr = record.leader_and_isr

    def _partition_moved(self, record: rec.PartitionMoved) -> None:
        self.partition(record.partition).state = record.state

    def _replica_moved(self, record: rec.ReplicaMoved) -> None:
        topic, number, broker_id = record.replica
        partition = self.topics[topic].partitions[number]
        if record.state is ReplicaState.NON_EXISTENT:
            partition.replica_states.pop(broker_id, None)
        else:
            partition.replica_states[broker_id] = record.state

    def _offline_directories_changed(self, record: rec.OfflineDirectoriesChanged) -> None:
        if record.partitions:
            self.offline_directories[record.broker_id] = record.partitions
        else:
            self.offline_directories.pop(record.broker_id, None)

    def _deletion_queued(self, record: rec.DeletionQueued) -> None:
        self.topics_to_be_deleted.add(record.topic)

    def _deletion_started(self, record: rec.DeletionStarted) -> None:
        self.topics_with_deletion_started.add(record.topic)

    def _deletion_halted(self, record: rec.DeletionHalted) -> None:
        self.topics_ineligible_for_deletion.add(record.topic)

    def _deletion_resumed(self, record: rec.DeletionResumed) -> None:
        self.topics_ineligible_for_deletion.discard(record.topic)


_REPLAY: dict[type, Callable[[ControllerState, Any], None]] = {
    rec.ControllerElected: ControllerState._controller_elected,
    rec.BrokerRegistered: ControllerState._broker_registered,
    rec.BrokerUnregistered: ControllerState._broker_unregistered,
    rec.BrokerShuttingDown: ControllerState._broker_shutting_down,
    rec.TopicAdded: ControllerState._topic_added,
    rec.TopicRemoved: ControllerState._topic_removed,
    rec.PartitionAssigned: ControllerState._partition_assigned,
    rec.LeadershipChanged: ControllerState._leadership_changed,
    rec.PartitionMoved: ControllerState._partition_moved,
    rec.ReplicaMoved: ControllerState._replica_moved,
    rec.OfflineDirectoriesChanged: ControllerState._offline_directories_changed,
    rec.DeletionQueued: ControllerState._deletion_queued,
    rec.DeletionStarted: ControllerState._deletion_started,
    rec.DeletionHalted: ControllerState._deletion_halted,
    rec.DeletionResumed: ControllerState._deletion_resumed,
}
