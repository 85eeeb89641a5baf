"""What can become true of the cluster, as the controller sees it: one record per fact (PURE, plain data).

Decisions carry records; `ControllerState.replay` is the only code that makes them true.

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from controller.cluster import Broker, LeaderAndIsr, PartitionReplica, ReplicaAssignment, TopicPartition


class PartitionState(Enum):
    NON_EXISTENT = "NonExistentPartition"
    """Its topic is known, nothing was done yet; or it is deleted."""
    NEW = "NewPartition"
    """Replicas are assigned, no leader was ever chosen: it has no state node."""
    ONLINE = "OnlinePartition"
    OFFLINE = "OfflinePartition"
    """Its leader is gone."""


class ReplicaState(Enum):
    NON_EXISTENT = "NonExistentReplica"
    NEW = "NewReplica"
    ONLINE = "OnlineReplica"
    OFFLINE = "OfflineReplica"
    DELETION_STARTED = "ReplicaDeletionStarted"
    """StopReplica(delete) is on its way to the broker."""
    DELETION_SUCCESSFUL = "ReplicaDeletionSuccessful"
    DELETION_INELIGIBLE = "ReplicaDeletionIneligible"
    """The broker is dead, or refused: deletion is tried again when it comes back."""


VALID_PREVIOUS_PARTITION_STATES: Mapping[PartitionState, frozenset[PartitionState]] = {
    PartitionState.NEW: frozenset({PartitionState.NON_EXISTENT}),
    PartitionState.ONLINE: frozenset({PartitionState.NEW, PartitionState.ONLINE, PartitionState.OFFLINE}),
    PartitionState.OFFLINE: frozenset({PartitionState.NEW, PartitionState.ONLINE, PartitionState.OFFLINE}),
    PartitionState.NON_EXISTENT: frozenset({PartitionState.OFFLINE}),
}

_STARTED_AND_NOT_DELETING = frozenset({
    ReplicaState.NEW, ReplicaState.ONLINE, ReplicaState.OFFLINE, ReplicaState.DELETION_INELIGIBLE})

VALID_PREVIOUS_REPLICA_STATES: Mapping[ReplicaState, frozenset[ReplicaState]] = {
    ReplicaState.NEW: frozenset({ReplicaState.NON_EXISTENT}),
    ReplicaState.ONLINE: _STARTED_AND_NOT_DELETING,
    ReplicaState.OFFLINE: _STARTED_AND_NOT_DELETING,
    ReplicaState.DELETION_STARTED: frozenset({ReplicaState.OFFLINE}),
    ReplicaState.DELETION_SUCCESSFUL: frozenset({ReplicaState.DELETION_STARTED}),
    ReplicaState.DELETION_INELIGIBLE: frozenset({ReplicaState.OFFLINE, ReplicaState.DELETION_STARTED}),
    ReplicaState.NON_EXISTENT: frozenset({ReplicaState.DELETION_SUCCESSFUL}),
}


@dataclass(frozen=True, slots=True)
class ControllerElected:
    """epoch_version: version of the epoch node, which every later write checks."""

    epoch: int
    epoch_version: int


@dataclass(frozen=True, slots=True)
class BrokerRegistered:
    """New, or registered again with other endpoints."""

    broker: Broker


@dataclass(frozen=True, slots=True)
class BrokerUnregistered:
    broker_id: int


@dataclass(frozen=True, slots=True)
class BrokerShuttingDown:
    """It has asked for its leaderships to be moved; over when it is unregistered or registered anew."""

    broker_id: int


@dataclass(frozen=True, slots=True)
class TopicAdded:
    topic: str
    topic_id: bytes


@dataclass(frozen=True, slots=True)
class TopicRemoved:
    topic: str


@dataclass(frozen=True, slots=True)
class PartitionAssigned:
    """A new partition, or other replicas for one that exists."""

    partition: TopicPartition
    assignment: ReplicaAssignment


@dataclass(frozen=True, slots=True)
class LeadershipChanged:
    partition: TopicPartition
    leader_and_isr: LeaderAndIsr


@dataclass(frozen=True, slots=True)
class PartitionMoved:
    partition: TopicPartition
    state: PartitionState


@dataclass(frozen=True, slots=True)
class ReplicaMoved:
    replica: PartitionReplica
    state: ReplicaState


@dataclass(frozen=True, slots=True)
class OfflineDirectoriesChanged:
    """All replicas of this broker that lie in failed log directories."""

    broker_id: int
    partitions: frozenset[TopicPartition]


@dataclass(frozen=True, slots=True)
class DeletionQueued:
    topic: str


@dataclass(frozen=True, slots=True)
class DeletionStarted:
    topic: str


@dataclass(frozen=True, slots=True)
class DeletionHalted:
    """Not to be tried again until `DeletionResumed`."""

    topic: str


@dataclass(frozen=True, slots=True)
class DeletionResumed:
    topic: str


Record = (
    ControllerElected | BrokerRegistered | BrokerUnregistered | BrokerShuttingDown | TopicAdded | TopicRemoved
    | PartitionAssigned | LeadershipChanged | PartitionMoved | ReplicaMoved | OfflineDirectoriesChanged
    | DeletionQueued | DeletionStarted | DeletionHalted | DeletionResumed
)
