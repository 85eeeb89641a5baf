"""The nouns of a cluster, in Kafka's words: partitions, their replicas and leaders, brokers (PURE).

All are immutable values: a change is a new value in a record (`records`).

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

NO_LEADER = -1
LEADER_DURING_DELETE = -2
EPOCH_DURING_DELETE = -2
NO_EPOCH = -1
INITIAL_LEADER_EPOCH = 0
INITIAL_PARTITION_EPOCH = 0

RECOVERED = 0
RECOVERING = 1
"""Leader recovery state: the leader was elected outside the in-sync set and may have lost records."""

SECURITY_PROTOCOL_IDS = {"PLAINTEXT": 0, "SSL": 1, "SASL_PLAINTEXT": 2, "SASL_SSL": 3}


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class PartitionReplica(NamedTuple):
    topic: str
    partition: int
    broker_id: int

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} on broker {self.broker_id}"


@dataclass(frozen=True, slots=True)
class ReplicaAssignment:
    """Broker ids, the preferred leader first.

    During a reassignment `replicas` holds the target followed by those to be removed.
    """

    replicas: tuple[int, ...]
    adding_replicas: tuple[int, ...] = ()
    removing_replicas: tuple[int, ...] = ()

    @property
    def target_replicas(self) -> tuple[int, ...]:
        return tuple(replica for replica in self.replicas if replica not in self.removing_replicas)

    @property
    def is_being_reassigned(self) -> bool:
        return bool(self.adding_replicas or self.removing_replicas)


@dataclass(frozen=True, slots=True)
class LeaderAndIsr:
    """Who leads a partition, as its state node says.

    leader_epoch counts leaderships; partition_epoch is the version of the state node, so it counts every
    change. controller_epoch: of the controller that wrote it.
    """

    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    leader_recovery_state: int
    partition_epoch: int
    controller_epoch: int


class Endpoint(NamedTuple):
    listener: str
    security_protocol: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Broker:
    """A registered broker. epoch: transaction that created its node; larger after every restart."""

    id: int
    epoch: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    features: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
