"""Giving partitions leaders, and taking replicas on- and offline (PURE).

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Iterable

from controller import partition_states, replica_states
from controller.cluster import PartitionReplica, TopicPartition
from controller.decision import tell_metadata
from controller.partition_states import Strategy
from controller.procedures.runtime import Runtime
from controller.records import PartitionState, ReplicaState


async def bring_online(runtime: Runtime, partitions: Iterable[TopicPartition],
                       strategy: Strategy = Strategy.OFFLINE) -> None:
    """New partitions get their first leader, others are elected for; until no write meets a newer node."""
    state = runtime.state
    new: list[TopicPartition] = []
    waiting: list[TopicPartition] = []
    for key in partitions:
        (new if state.partition(key).state is PartitionState.NEW else waiting).append(key)
    # A state node that is there already was made by a write whose answer was lost: elected for, next epoch.
    waiting += await runtime.apply(partition_states.decide_first_leaders(state, new))
    while waiting:
        decision = partition_states.decide_elections(
            state, waiting, strategy, runtime.unclean_allowed,
            recovery_state_supported=runtime.recovery_state_supported)
        waiting = await runtime.apply(decision)


async def take_replicas_offline(runtime: Runtime, replicas: Iterable[PartitionReplica]) -> None:
    """Broker by broker: two replicas of a partition are two changes of its in-sync set."""
    by_broker: dict[int, list[PartitionReplica]] = {}
    for replica in replicas:
        by_broker.setdefault(replica.broker_id, []).append(replica)
    for broker_id, group in by_broker.items():
        while group:
            conflicts = await runtime.apply(replica_states.decide_offline(runtime.state, broker_id, group))
            group = [PartitionReplica(*key, broker_id) for key in conflicts]


async def replicas_became_offline(runtime: Runtime, replicas: list[PartitionReplica]) -> list[PartitionReplica]:
    """Brokers or directories failed: leaders elsewhere, then out of the in-sync sets, then tell.

    Returns the replicas of topics that are being deleted: for the deletion to deal with.
    """
    state = runtime.state
    staying = [replica for replica in replicas if replica.topic not in state.topics_to_be_deleted]
    leaderless = state.partitions_with_offline_leader()
    await runtime.apply(partition_states.decide_moves(state, leaderless, PartitionState.OFFLINE))
    await bring_online(runtime, state.partitions_without_leader())
    await take_replicas_offline(runtime, staying)
    await runtime.apply(tell_metadata(state.live_broker_ids()))
    runtime.send()
    return [replica for replica in replicas if replica.topic in state.topics_to_be_deleted]


async def start_new_partitions(runtime: Runtime, partitions: list[TopicPartition]) -> None:
    """A topic was created or grew: New, first leader, and told to all."""
    state = runtime.state
    replicas = list(state.replicas_of_partitions(partitions))
    await runtime.apply(partition_states.decide_moves(state, partitions, PartitionState.NEW))
    await runtime.apply(replica_states.decide_moves(state, replicas, ReplicaState.NEW))
    await bring_online(runtime, partitions)
    await runtime.apply(replica_states.decide_moves(state, replicas, ReplicaState.ONLINE))
    runtime.send()
