"""Brokers come, go, come back and change their listeners; their directories fail (PURE).

| event | what follows |
|---|---|
| broker up | brokers learn of it; it learns everything; its replicas Online; leaderless partitions elected |
| broker back with a new epoch | as if it had gone and come, in one event |
| broker down | its leaderships move, its replicas leave the in-sync sets, deletions with it halt |
| registration changed | UpdateMetadata to all |
| directories of a broker failed | it is asked with LeaderAndIsr which replicas it still has |

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Iterable

from controller import replica_states, znodes
from controller.cluster import Broker, PartitionReplica
from controller.decision import learn, tell_metadata
from controller.metadata_store.operations import (
    Delete,
    GetChildren,
    GetChildrenResult,
    GetData,
    GetDataResult,
)
from controller.procedures.leadership import bring_online, replicas_became_offline
from controller.procedures.runtime import Runtime
from controller.procedures.topic_deletion import fail_replicas, resume_deletions_of
from controller.records import BrokerRegistered, BrokerUnregistered, OfflineDirectoriesChanged, ReplicaState


async def read_brokers(runtime: Runtime) -> tuple[dict[int, Broker], list[str]]:
    """All registrations, watches armed on the list and on each; and what is wrong with unreadable ones."""
    (listed,) = await runtime.read([GetChildren(znodes.BROKER_IDS, watch=True)])
    assert isinstance(listed, GetChildrenResult), listed
    ids = sorted(int(child) for child in listed.children if child.isascii() and child.isdigit())
    outcomes = await runtime.read([GetData(znodes.broker_path(broker_id), watch=True) for broker_id in ids])
    brokers: dict[int, Broker] = {}
    problems: list[str] = []
    for broker_id, outcome in zip(ids, outcomes, strict=True):
        if not isinstance(outcome, GetDataResult):
            continue
        try:
            brokers[broker_id] = znodes.decode_broker(broker_id, outcome.data, outcome.stat.czxid)
        except znodes.ZnodeFormatError as error:
            problems.append(f"broker {broker_id} is left out: {error}")
    return brokers, problems


async def brokers_changed(runtime: Runtime) -> None:
    """Children of `/brokers/ids` changed."""
    state = runtime.state
    found, problems = await read_brokers(runtime)
    decision = learn([])
    decision.problems = problems
    await runtime.apply(decision)
    gone = [broker_id for broker_id in state.brokers if broker_id not in found]
    bounced = [broker_id for broker_id, broker in found.items()
               if broker_id in state.brokers and broker.epoch > state.brokers[broker_id].epoch]
    new = [broker_id for broker_id in found if broker_id not in state.brokers]
    if new:
        await _came(runtime, [found[broker_id] for broker_id in new])
    if bounced:
        await _went(runtime, bounced)
        await _came(runtime, [found[broker_id] for broker_id in bounced])
    if gone:
        await _went(runtime, gone)
        for broker_id in gone:
            runtime.close_channel(broker_id)


async def _came(runtime: Runtime, brokers: list[Broker]) -> None:
    state = runtime.state
    ids = {broker.id for broker in brokers}
    await runtime.apply(learn([
        *(BrokerRegistered(broker) for broker in brokers),
        *(OfflineDirectoriesChanged(broker_id, frozenset()) for broker_id in ids)]))
    for broker_id in sorted(ids):
        runtime.reset_channel(broker_id)
    # Brokers must know who is alive before they are told whom to follow.
    await runtime.apply(tell_metadata(set(state.brokers) - ids))
    runtime.send()
    await runtime.apply(tell_metadata(ids, state.partitions_with_leadership()))
    runtime.send()
    replicas = state.replicas_on_brokers(ids)
    await runtime.apply(replica_states.decide_moves(state, replicas, ReplicaState.ONLINE))
    await bring_online(runtime, state.partitions_without_leader())
    runtime.send()
    await resume_deletions_of(runtime, {replica.topic for replica in replicas})


async def _went(runtime: Runtime, broker_ids: list[int]) -> None:
    state = runtime.state
    await runtime.apply(learn([
        *(BrokerUnregistered(broker_id) for broker_id in broker_ids),
        *(OfflineDirectoriesChanged(broker_id, frozenset()) for broker_id in broker_ids)]))
    replicas = state.replicas_on_brokers(broker_ids)
    deleting = await replicas_became_offline(runtime, replicas)
    await fail_replicas(runtime, [replica for replica in deleting if _can_fail(runtime, replica)])


def _can_fail(runtime: Runtime, replica: PartitionReplica) -> bool:
    return runtime.state.replica_state(replica) in (ReplicaState.OFFLINE, ReplicaState.DELETION_STARTED)


async def broker_modified(runtime: Runtime, broker_id: int) -> None:
    """Data of a registration changed; a change of epoch is the business of `brokers_changed`."""
    known = runtime.state.brokers.get(broker_id)
    (outcome,) = await runtime.read([GetData(znodes.broker_path(broker_id), watch=True)])
    if known is None or not isinstance(outcome, GetDataResult) or outcome.stat.czxid != known.epoch:
        return
    decision = learn([])
    try:
        broker = znodes.decode_broker(broker_id, outcome.data, outcome.stat.czxid)
    except znodes.ZnodeFormatError as error:
        decision.problems.append(f"change of broker {broker_id} is ignored: {error}")
    else:
        if broker != known:
            decision = tell_metadata(runtime.state.live_broker_ids())
            decision.records.append(BrokerRegistered(broker))
    await runtime.apply(decision)
    runtime.send()


async def directories_failed(runtime: Runtime) -> None:
    """Children of `/log_dir_event_notification` came: ask those brokers for all their replicas."""
    directory = znodes.LOG_DIR_EVENT_NOTIFICATION
    (listed,) = await runtime.read([GetChildren(directory, watch=True)])
    if not isinstance(listed, GetChildrenResult) or not listed.children:
        return
    paths = [f"{directory}/{child}" for child in listed.children]
    broker_ids = set()
    decision = learn([])
    for path, outcome in zip(paths, await runtime.read([GetData(path) for path in paths]), strict=True):
        if isinstance(outcome, GetDataResult):
            try:
                broker_ids.add(znodes.decode_log_dir_event(path, outcome.data))
            except znodes.ZnodeFormatError as error:
                decision.problems.append(str(error))
    await runtime.apply(decision)
    await _ask_for_replicas(runtime, broker_ids)
    await runtime.write([(Delete(path),) for path in paths])


async def _ask_for_replicas(runtime: Runtime, broker_ids: Iterable[int]) -> None:
    state = runtime.state
    replicas = [replica for replica in state.replicas_on_brokers(set(broker_ids))
                if replica.topic not in state.topics_to_be_deleted]
    await runtime.apply(replica_states.decide_moves(state, replicas, ReplicaState.ONLINE))
    runtime.send()


async def clear_notifications(runtime: Runtime) -> None:
    """At fail-over everything is read anew: old notifications say nothing more. Arms the watch on new ones.

    Changes of in-sync sets are only notified by brokers below inter-broker version 2.7.
    """
    directories = (znodes.LOG_DIR_EVENT_NOTIFICATION, znodes.ISR_CHANGE_NOTIFICATION)
    outcomes = await runtime.read([
        GetChildren(directory, watch=directory == znodes.LOG_DIR_EVENT_NOTIFICATION)
        for directory in directories])
    await runtime.write([
        (Delete(f"{directory}/{child}"),) for directory, outcome in zip(directories, outcomes, strict=True)
        if isinstance(outcome, GetChildrenResult) for child in outcome.children])
