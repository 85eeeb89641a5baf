"""States made by replaying records, for tests of pure decisions."""
from __future__ import annotations

from controller.cluster import (
    RECOVERED,
    Broker,
    Endpoint,
    LeaderAndIsr,
    PartitionReplica,
    ReplicaAssignment,
    TopicPartition,
)
from controller.records import (
    BrokerRegistered,
    ControllerElected,
    DeletionQueued,
    LeadershipChanged,
    PartitionAssigned,
    PartitionMoved,
    PartitionState,
    ReplicaMoved,
    ReplicaState,
    TopicAdded,
)
from controller.state import ControllerState

TOPIC = "t"
KEY = TopicPartition(TOPIC, 0)
TOPIC_ID = bytes(15) + b"\x01"


def broker(broker_id: int, epoch: int = 100) -> Broker:
    return Broker(broker_id, epoch, (Endpoint("PLAINTEXT", "PLAINTEXT", f"host{broker_id}", 9092),))


def cluster(*alive: int, replicas: tuple[int, ...] = (1, 2), leader: LeaderAndIsr | None = None,
            state: PartitionState = PartitionState.NON_EXISTENT, deleting: bool = False) -> ControllerState:
    """One topic `t` with one partition; controller epoch 3."""
    cluster_state = ControllerState()
    for record in (ControllerElected(3, 7), *(BrokerRegistered(broker(broker_id)) for broker_id in alive),
                   TopicAdded(TOPIC, TOPIC_ID), PartitionAssigned(KEY, ReplicaAssignment(replicas)),
                   PartitionMoved(KEY, state)):
        cluster_state.replay(record)
    if leader is not None:
        cluster_state.replay(LeadershipChanged(KEY, leader))
    if deleting:
        cluster_state.replay(DeletionQueued(TOPIC))
    return cluster_state


def led_by(leader: int, *isr: int, epoch: int = 5, partition_epoch: int = 8,
           controller_epoch: int = 2) -> LeaderAndIsr:
    return LeaderAndIsr(leader, epoch, isr, RECOVERED, partition_epoch, controller_epoch)


def replica(broker_id: int) -> PartitionReplica:
    return PartitionReplica(TOPIC, 0, broker_id)


def with_replica(cluster_state: ControllerState, broker_id: int, state: ReplicaState) -> ControllerState:
    cluster_state.replay(ReplicaMoved(replica(broker_id), state))
    return cluster_state
