"""What brokers answered to LeaderAndIsr, StopReplica and UpdateMetadata (PURE).

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from controller.cluster import PartitionReplica, TopicPartition
from controller.decision import learn
from controller.procedures.leadership import replicas_became_offline
from controller.procedures.runtime import Runtime
from controller.procedures.topic_deletion import fail_replicas, replicas_deleted
from controller.records import OfflineDirectoriesChanged, ReplicaState
from controller.request_batch import BrokerRequest
from controller.state import ControllerState


async def broker_answered(runtime: Runtime, broker_id: int, request: BrokerRequest, response: Any) -> None:
    """request: one of this controller's own epoch."""
    match request.api_key:
        case ApiKey.LEADER_AND_ISR:
            if response.error_code == ErrorCode.NONE:
                await _leader_and_isr_answered(runtime, broker_id, _partition_errors(runtime.state, response))
        case ApiKey.STOP_REPLICA:
            await _stop_replica_answered(runtime, broker_id, request.message, response)


def _partition_errors(state: ControllerState, response: Any) -> Iterator[tuple[TopicPartition, int]]:
    """(partition, error code) from either form: before version 5 by name, since then by topic id."""
    for answer in response.partition_errors:
        yield TopicPartition(answer.topic_name, answer.partition_index), answer.error_code
    for topic in response.topics:
        name = state.topic_names.get(bytes(topic.topic_id))
        if name is not None:
            for answer in topic.partition_errors:
                yield TopicPartition(name, answer.partition_index), answer.error_code


async def _leader_and_isr_answered(runtime: Runtime, broker_id: int,
                                   partition_errors: Iterable[tuple[TopicPartition, int]]) -> None:
    """KAFKA_STORAGE_ERROR: that replica lies in a failed directory; NONE: it does not (any more)."""
    state = runtime.state
    if broker_id not in state.brokers:
        return
    before = state.offline_directories.get(broker_id, frozenset())
    online, offline = set(), set()
    for key, error_code in partition_errors:
        if error_code == ErrorCode.KAFKA_STORAGE_ERROR:
            offline.add(key)
        elif before and error_code == ErrorCode.NONE:
            online.add(key)
    after = frozenset((before - online) | offline)
    if after == before:
        return
    await runtime.apply(learn([OfflineDirectoriesChanged(broker_id, after)]))
    newly = [PartitionReplica(*key, broker_id) for key in sorted(after - before)
             if state.find_partition(key) is not None]
    if newly:
        deleting = await replicas_became_offline(runtime, newly)
        await fail_replicas(runtime, [
            replica for replica in deleting
            if state.replica_state(replica) in (ReplicaState.OFFLINE, ReplicaState.DELETION_STARTED)])


async def _stop_replica_answered(runtime: Runtime, broker_id: int, request: Any, response: Any) -> None:
    """Only what belongs to a deletion matters; stopping alone needs no answer."""
    state = runtime.state
    deleted = {TopicPartition(topic.topic_name, partition.partition_index)
               for topic in request.topic_states for partition in topic.partition_states
               if partition.delete_partition}
    succeeded: list[PartitionReplica] = []
    failed: list[PartitionReplica] = []
    for answer in response.partition_errors:
        key = TopicPartition(answer.topic_name, answer.partition_index)
        if key not in deleted or key.topic not in state.topics_with_deletion_started:
            continue
        replica = PartitionReplica(*key, broker_id)
        if state.replica_state(replica) is not ReplicaState.DELETION_STARTED:
            continue
        is_error = response.error_code != ErrorCode.NONE or answer.error_code != ErrorCode.NONE
        (failed if is_error else succeeded).append(replica)
    if succeeded or failed:
        await replicas_deleted(runtime, succeeded, failed)
