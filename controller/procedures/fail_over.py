"""Taking office: everything is read, and every broker told everything (PURE).

Order (watches are armed by the very reads that fill the state, so nothing between is lost):
1. the feature node; old notifications away
2. brokers, topics, ids, assignments, partition states, topics to be deleted
   and then the overrides of the topics found, for this node's front end: a log is opened with what it knows then
3. UpdateMetadata with the brokers alone: they must know who is alive before they are told whom to follow
4. replicas Online and Offline, leaders for partitions without one: LeaderAndIsr and UpdateMetadata for all
5. deletions go on

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Iterable

from controller import replica_states, znodes
from controller.cluster import PartitionReplica, TopicPartition
from controller.decision import Decision, learn, tell_metadata
from controller.metadata_store.errors import NoNodeError
from controller.metadata_store.operations import (
    Create,
    GetChildren,
    GetChildrenResult,
    GetData,
    GetDataResult,
    Outcome,
    SetData,
)
from controller.procedures.brokers import clear_notifications, read_brokers
from controller.procedures.leadership import bring_online, take_replicas_offline
from controller.procedures.runtime import Runtime
from controller.procedures.topic_deletion import deletions_changed
from controller.procedures.topics import read_topics, topic_records
from controller.records import (
    BrokerRegistered,
    DeletionHalted,
    DeletionQueued,
    LeadershipChanged,
    PartitionMoved,
    PartitionState,
    Record,
    ReplicaMoved,
    ReplicaState,
)


async def take_office(runtime: Runtime, feature_version: int) -> None:
    """feature_version: of the feature node, 0 below inter-broker version 2.7 (then it says disabled)."""
    await _ensure_feature(runtime, feature_version)
    await clear_notifications(runtime)
    await _read_cluster(runtime)
    await runtime.refresh_overrides()
    await _queue_deletions(runtime)
    state = runtime.state
    for broker_id in state.live_broker_ids():
        runtime.reset_channel(broker_id)
    await runtime.apply(tell_metadata(state.live_broker_ids()))
    runtime.send()
    await _start_replicas(runtime)
    await _start_partitions(runtime)
    runtime.send()
    await deletions_changed(runtime)


async def _ensure_feature(runtime: Runtime, feature_version: int) -> None:
    version, enabled = max(feature_version, 1), feature_version > 0
    (outcome,) = await runtime.read([GetData(znodes.FEATURE)])
    if isinstance(outcome, NoNodeError):
        await runtime.write([(Create(znodes.FEATURE, znodes.encode_feature(version, enabled=enabled)),)])
    elif isinstance(outcome, GetDataResult):
        wanted = znodes.refreshed_feature(outcome.data, version, enabled=enabled)
        if wanted is not None:
            await runtime.write([(SetData(znodes.FEATURE, wanted, outcome.stat.version),)])


async def _read_cluster(runtime: Runtime) -> None:
    decision = learn([])
    brokers, problems = await read_brokers(runtime)
    decision.problems += problems
    decision.records += [BrokerRegistered(broker) for broker in brokers.values()]
    (listed,) = await runtime.read([GetChildren(znodes.TOPICS, watch=True)])
    assert isinstance(listed, GetChildrenResult), listed
    topics, problems = await read_topics(runtime, sorted(listed.children))
    decision.problems += problems
    for topic, assignment in topics.items():
        decision.records += topic_records(topic, assignment)
    keys = [TopicPartition(topic, number) for topic, assignment in topics.items()
            for number in sorted(assignment.partitions)]
    outcomes = await runtime.read([GetData(znodes.partition_state_path(*key)) for key in keys])
    _leaderships(keys, outcomes, decision)
    await runtime.apply(decision)


def _leaderships(keys: Iterable[TopicPartition], outcomes: Iterable[Outcome], decision: Decision) -> None:
    for key, outcome in zip(keys, outcomes, strict=True):
        if not isinstance(outcome, GetDataResult):
            continue
        try:
            leader_and_isr = znodes.decode_partition_state(key, outcome.data, outcome.stat.version)
        except znodes.ZnodeFormatError as error:
            decision.problems.append(f"{key} gets no leader: {error}")
        else:
            decision.records.append(LeadershipChanged(key, leader_and_isr))


async def _queue_deletions(runtime: Runtime) -> None:
    """Topics with a dead replica wait for it. Requests for unknown topics are seen to after the start."""
    if not runtime.deletion_enabled:
        return
    state = runtime.state
    (listed,) = await runtime.read([GetChildren(znodes.DELETE_TOPICS)])
    assert isinstance(listed, GetChildrenResult), listed
    records: list[Record] = []
    for topic in sorted(set(listed.children) & set(state.topics)):
        records.append(DeletionQueued(topic))
        if not all(_is_online(runtime, replica) for replica in state.replicas_of_topic(topic)):
            records.append(DeletionHalted(topic))
    await runtime.apply(learn(records))


def _is_online(runtime: Runtime, replica: PartitionReplica) -> bool:
    return runtime.state.is_replica_online(replica.broker_id, replica.topic_partition)


async def _start_replicas(runtime: Runtime) -> None:
    """Dead ones begin as ineligible for deletion: what was under way when they died is not known."""
    state = runtime.state
    online: list[PartitionReplica] = []
    offline: list[PartitionReplica] = []
    for replica in state.replicas():
        (online if _is_online(runtime, replica) else offline).append(replica)
    await runtime.apply(learn([
        *(ReplicaMoved(replica, ReplicaState.ONLINE) for replica in online),
        *(ReplicaMoved(replica, ReplicaState.DELETION_INELIGIBLE) for replica in offline)]))
    await runtime.apply(replica_states.decide_moves(state, online, ReplicaState.ONLINE))
    await take_replicas_offline(runtime, offline)


async def _start_partitions(runtime: Runtime) -> None:
    state = runtime.state
    records: list[Record] = []
    for key, partition in state.partitions():
        current = partition.leader_and_isr
        if current is None:
            first = PartitionState.NEW
        elif state.is_replica_online(current.leader, key):
            first = PartitionState.ONLINE
        else:
            first = PartitionState.OFFLINE
        records.append(PartitionMoved(key, first))
    await runtime.apply(learn(records))
    await bring_online(runtime, state.partitions_without_leader())
