"""ControlledShutdown (key 7), versions 0-3: a broker that is about to stop gives up its leaderships.

Versions: 2 broker epoch (-1 and older versions: not checked); 3 flexible.

Partitions with more replicas get another leader in their in-sync sets; where the broker follows, it is stopped and
taken out of the in-sync set. The answer names the partitions that it still leads; those whose only replica it
holds are not among them, for nothing can be done about them. Until it registers anew the broker is not made
leader nor taken into an in-sync set.

PURE. Runs in: controller.
"""
from __future__ import annotations

from typing import Any

from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller.cluster import PartitionReplica, TopicPartition
from controller.decision import Decision, StopReplicaTarget, learn
from controller.partition_states import Strategy
from controller.procedures.leadership import bring_online, take_replicas_offline
from controller.procedures.runtime import Runtime
from controller.records import BrokerShuttingDown
from controller.state import ControllerState

ANY_BROKER_EPOCH = -1


async def controlled_shutdown(runtime: Runtime, request: Any) -> Any:
    state = runtime.state
    broker = state.brokers.get(request.broker_id)
    if broker is None:
        return _response(ErrorCode.BROKER_NOT_AVAILABLE)
    if request.broker_epoch != ANY_BROKER_EPOCH and request.broker_epoch < broker.epoch:
        return _response(ErrorCode.STALE_BROKER_EPOCH)
    await runtime.apply(learn([BrokerShuttingDown(broker.id)]))
    replicated = _replicated_partitions(state, broker.id)
    await bring_online(runtime, [key for key in replicated if _leads(state, broker.id, key)],
                       Strategy.CONTROLLED_SHUTDOWN)
    followed = [key for key in replicated if not _leads(state, broker.id, key)]
    await runtime.apply(Decision(stop_replica=[
        StopReplicaTarget(key, broker.id, delete=False) for key in followed]))
    runtime.send()
    await take_replicas_offline(runtime, [PartitionReplica(*key, broker.id) for key in followed])
    runtime.send()
    remaining = [key for key in _replicated_partitions(state, broker.id) if _leads(state, broker.id, key)]
    return _response(ErrorCode.NONE, remaining)


def _replicated_partitions(state: ControllerState, broker_id: int) -> list[TopicPartition]:
    return [key for key, partition in state.partitions()
            if broker_id in partition.assignment.replicas and len(partition.assignment.replicas) > 1
            and partition.leader_and_isr is not None and key.topic not in state.topics_to_be_deleted]


def _leads(state: ControllerState, broker_id: int, key: TopicPartition) -> bool:
    current = state.partition(key).leader_and_isr
    return current is not None and current.leader == broker_id


def _response(code: ErrorCode, remaining: list[TopicPartition] | None = None) -> Any:
    response = message_class("ControlledShutdownResponse")
    return response(error_code=code, remaining_partitions=[
        response.RemainingPartition(topic_name=key.topic, partition_index=key.partition)
        for key in remaining or ()])
