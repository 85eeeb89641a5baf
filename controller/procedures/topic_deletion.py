"""Deleting topics: replicas first, then the nodes (PURE).

A topic is queued by its node under `/admin/delete_topics`. All brokers learn at once that it has no leader
(-2); its replicas go Offline, DeletionStarted, and by each broker's answer DeletionSuccessful or
DeletionIneligible. When all have succeeded, the nodes go. A dead or refusing broker halts the deletion of
the topic until it comes back.

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable

from controller import partition_states, replica_states, znodes
from controller.cluster import PartitionReplica
from controller.decision import Decision, learn, tell_metadata
from controller.metadata_store.errors import NoNodeError, StoreError
from controller.metadata_store.operations import (
    Delete,
    Exists,
    ExistsResult,
    GetChildren,
    GetChildrenResult,
    Operation,
)
from controller.procedures.leadership import take_replicas_offline
from controller.procedures.runtime import Runtime
from controller.records import (
    DeletionHalted,
    DeletionQueued,
    DeletionResumed,
    DeletionStarted,
    PartitionState,
    ReplicaState,
    TopicRemoved,
)

DELETE_ATTEMPTS_MAX = 3
"""Nodes that other tools add under a topic while it goes are found again; more often than this they are left
for the next deletion event."""


async def queue_deletions(runtime: Runtime, topics: Iterable[str]) -> None:
    """Begin, or continue, the deletion of topics that the controller knows."""
    await runtime.apply(learn(DeletionQueued(topic) for topic in topics))
    await resume_deletions(runtime)


async def deletions_changed(runtime: Runtime) -> None:
    """Children of `/admin/delete_topics` came: queue those topics, drop requests that cannot be served."""
    (outcome,) = await runtime.read([GetChildren(znodes.DELETE_TOPICS, watch=True)])
    if not isinstance(outcome, GetChildrenResult):
        return
    state = runtime.state
    unknown = [topic for topic in outcome.children if topic not in state.topics]
    refused = unknown if runtime.deletion_enabled else list(outcome.children)
    if refused:
        await runtime.write([(Delete(znodes.delete_topic_path(topic)),) for topic in refused])
    if runtime.deletion_enabled:
        await queue_deletions(runtime, [topic for topic in outcome.children if topic in state.topics])


async def replicas_deleted(runtime: Runtime, succeeded: Iterable[PartitionReplica],
                           failed: Iterable[PartitionReplica]) -> None:
    """A broker answered StopReplica(delete)."""
    state = runtime.state
    await fail_replicas(runtime, [replica for replica in failed if replica.topic in state.topics_to_be_deleted])
    gone = [replica for replica in succeeded if replica.topic in state.topics_to_be_deleted]
    await runtime.apply(replica_states.decide_moves(state, gone, ReplicaState.DELETION_SUCCESSFUL))
    await resume_deletions(runtime)
    _report_halted(runtime, {replica.topic for replica in gone})


async def fail_replicas(runtime: Runtime, replicas: Collection[PartitionReplica]) -> None:
    """These cannot be deleted now: halt their topics."""
    if not replicas:
        return
    state = runtime.state
    await runtime.apply(replica_states.decide_moves(state, replicas, ReplicaState.DELETION_INELIGIBLE))
    await _halt(runtime, {replica.topic for replica in replicas})
    await resume_deletions(runtime)


async def resume_deletions_of(runtime: Runtime, topics: Collection[str]) -> None:
    """Their brokers are back: try again."""
    waiting = [topic for topic in topics if topic in runtime.state.topics_to_be_deleted]
    if waiting:
        await runtime.apply(learn(DeletionResumed(topic) for topic in waiting))
        await resume_deletions(runtime)


async def resume_deletions(runtime: Runtime) -> None:
    """Go through every queued topic: complete it, prepare it for a retry, or start it."""
    state = runtime.state
    retried: list[PartitionReplica] = []
    started: list[str] = []
    for topic in sorted(state.topics_to_be_deleted):
        if state.all_replicas_in(topic, ReplicaState.DELETION_SUCCESSFUL):
            await _complete(runtime, topic)
        elif topic not in state.topics_ineligible_for_deletion \
                and not state.any_replica_in(topic, ReplicaState.DELETION_STARTED):
            started.append(topic)
            retried += [replica for replica in state.replicas_of_topic(topic)
                        if state.replica_state(replica) is ReplicaState.DELETION_INELIGIBLE]
    await take_replicas_offline(runtime, retried)
    if started:
        await _start(runtime, started)


async def _start(runtime: Runtime, topics: list[str]) -> None:
    state = runtime.state
    for topic in topics:
        if topic not in state.topics_with_deletion_started:
            partitions = state.partitions_of_topic(topic)
            for target in (PartitionState.OFFLINE, PartitionState.NON_EXISTENT):
                await runtime.apply(partition_states.decide_moves(state, partitions, target))
            await runtime.apply(learn([DeletionStarted(topic)]))
    await runtime.apply(tell_metadata(
        state.live_broker_ids(), [key for topic in topics for key in state.partitions_of_topic(topic)]))
    runtime.send()
    await _delete_replicas(runtime, topics)


async def _delete_replicas(runtime: Runtime, topics: list[str]) -> None:
    state = runtime.state
    alive, dead = [], []
    for topic in topics:
        for replica in state.replicas_of_topic(topic):
            if not state.is_replica_online(replica.broker_id, replica.topic_partition):
                dead.append(replica)
            elif state.replica_state(replica) is not ReplicaState.DELETION_SUCCESSFUL:
                alive.append(replica)
    await runtime.apply(_ineligible(runtime, dead))
    await take_replicas_offline(runtime, alive)
    runtime.send()
    await runtime.apply(replica_states.decide_moves(state, alive, ReplicaState.DELETION_STARTED))
    runtime.send()
    await _halt(runtime, {replica.topic for replica in dead})


def _ineligible(runtime: Runtime, replicas: list[PartitionReplica]) -> Decision:
    """Those already ineligible stay so."""
    state = runtime.state
    return replica_states.decide_moves(
        state, [replica for replica in replicas
                if state.replica_state(replica) is not ReplicaState.DELETION_INELIGIBLE],
        ReplicaState.DELETION_INELIGIBLE)


async def _halt(runtime: Runtime, topics: Collection[str]) -> None:
    await runtime.apply(learn(DeletionHalted(topic) for topic in topics))
    _report_halted(runtime, topics)


def _report_halted(runtime: Runtime, topics: Collection[str]) -> None:
    """Those of the topics whose deletion waits for a dead broker and has nothing under way elsewhere."""
    state = runtime.state
    runtime.topics_went([topic for topic in topics if topic in state.topics_ineligible_for_deletion
                         and not state.any_replica_in(topic, ReplicaState.DELETION_STARTED)])


async def _complete(runtime: Runtime, topic: str) -> None:
    """All replicas are gone: remove the nodes, the last three of them in one transaction."""
    for _ in range(DELETE_ATTEMPTS_MAX):
        below = await _nodes_below(runtime, znodes.topic_path(topic))
        last = [znodes.topic_path(topic), znodes.config_path(znodes.TOPIC_CONFIGS, topic),
                znodes.delete_topic_path(topic)]
        present = await runtime.read([Exists(path) for path in last])
        final: tuple[Operation, ...] = tuple(
            Delete(path) for path, outcome in zip(last, present, strict=True)
            if isinstance(outcome, ExistsResult) and outcome.stat is not None)
        outcomes = await runtime.write([*((Delete(path),) for path in reversed(below)), final])
        if not isinstance(outcomes[-1], StoreError):
            await runtime.apply(learn([TopicRemoved(topic)]))
            runtime.topics_went([topic])
            return
    await runtime.apply(Decision(problems=[
        f"nodes of deleted topic {topic!r} cannot be removed and are tried again later: {outcomes[-1]}"]))


async def _nodes_below(runtime: Runtime, path: str) -> list[str]:
    """Every descendant, parents before children."""
    found: list[str] = []
    level = [path]
    while level:
        outcomes = await runtime.read([GetChildren(parent) for parent in level])
        level = [f"{parent}/{child}" for parent, outcome in zip(level, outcomes, strict=True)
                 for child in _children(outcome)]
        found += level
    return found


def _children(outcome: object) -> tuple[str, ...]:
    if isinstance(outcome, NoNodeError):
        return ()
    assert isinstance(outcome, GetChildrenResult), outcome
    return outcome.children
