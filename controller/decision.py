"""What the controller decided: records, writes to the store, and what which broker must be told (PURE).

A decision is made from the state alone and changes nothing. The event loop then makes it happen: the
records at once, each write under the guard of the controller's epoch, and a write's own records and
targets only if it succeeded.

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.cluster import TopicPartition
from controller.metadata_store.errors import StoreError
from controller.metadata_store.operations import Operation
from controller.records import Record


@dataclass(frozen=True, slots=True)
class LeaderAndIsrTarget:
    """Tell these brokers who leads; implies UpdateMetadata for the partition to all."""

    partition: TopicPartition
    broker_ids: tuple[int, ...]
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class StopReplicaTarget:
    partition: TopicPartition
    broker_id: int
    delete: bool


@dataclass(frozen=True, slots=True)
class Write:
    """Operations that take effect together or not at all.

    partition: set when the write is conditional on that partition's epoch; if the version has moved, the
    state node is read again and the partition reported back for a new decision.
    tolerated: errors that are as good as success (the node is there already).
    """

    operations: tuple[Operation, ...]
    records: tuple[Record, ...] = ()
    targets: tuple[LeaderAndIsrTarget, ...] = ()
    partition: TopicPartition | None = None
    tolerated: tuple[type[StoreError], ...] = ()


@dataclass(slots=True)
class Decision:
    """problems: sentences for the log about what could not be decided; they change nothing."""

    records: list[Record] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    leader_and_isr: list[LeaderAndIsrTarget] = field(default_factory=list)
    stop_replica: list[StopReplicaTarget] = field(default_factory=list)
    update_metadata: list[TopicPartition] = field(default_factory=list)
    update_metadata_broker_ids: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def tell_metadata(broker_ids: Iterable[int], partitions: Iterable[TopicPartition] = ()) -> Decision:
    """UpdateMetadata to these brokers: always the live brokers, and these partitions."""
    return Decision(update_metadata=list(partitions), update_metadata_broker_ids=set(broker_ids))


def learn(records: Iterable[Record]) -> Decision:
    """Only records."""
    return Decision(records=list(records))
