"""AlterPartition (key 56), versions 0-3: a leader proposes another in-sync set.

Versions: 1 leader recovery state; 2 topic ids; 3 in-sync replicas with broker epochs, which a ZooKeeper-mode
controller does not look at.

The checks, in Kafka's order, for each partition:

| proposal | answer |
|---|---|
| partition unknown | UNKNOWN_TOPIC_OR_PARTITION, by id UNKNOWN_TOPIC_ID |
| an epoch that this controller has not seen yet | NOT_CONTROLLER: there must be a newer one |
| lower leader epoch | FENCED_LEADER_EPOCH |
| what is in place already | as it is (the leader asks again after a lost answer) |
| lower partition epoch | INVALID_UPDATE_VERSION |
| not from the leader | INVALID_REQUEST |
| RECOVERING with more than one in sync, or after RECOVERED | INVALID_REQUEST |
| in sync: a broker that is dead or about to stop | INELIGIBLE_REPLICA, before 2 OPERATION_NOT_ATTEMPTED |
| the state node has changed meanwhile | INVALID_UPDATE_VERSION |

Every broker is told of all named partitions. The new state counts for the leader with this answer, so no
LeaderAndIsr follows.

PURE. Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import partition_states
from controller.cluster import RECOVERED, RECOVERING, LeaderAndIsr, TopicPartition
from controller.decision import Decision, tell_metadata
from controller.procedures.runtime import Runtime
from controller.state import ControllerState

FIRST_VERSION_WITH_TOPIC_IDS = 2
FIRST_VERSION_WITH_EPOCHS = 3


class _Topic(NamedTuple):
    """name: None for an id that no topic has."""

    name: str | None
    topic_id: bytes
    proposals: list[Any]


async def alter_partition(runtime: Runtime, request: Any, version: int) -> Any:
    response = message_class("AlterPartitionResponse")
    state = runtime.state
    broker = state.brokers.get(request.broker_id)
    if broker is None or broker.epoch != request.broker_epoch:
        return response(error_code=ErrorCode.STALE_BROKER_EPOCH)
    topics = _topics(state, request, version)
    errors = await _apply(runtime, request.broker_id, topics, version)
    return response(topics=[
        response.TopicData(topic_name=topic.name or "", topic_id=topic.topic_id, partitions=[
            _answer(state, topic.name, proposal.partition_index, errors) for proposal in topic.proposals])
        for topic in topics])


def _topics(state: ControllerState, request: Any, version: int) -> list[_Topic]:
    if version < FIRST_VERSION_WITH_TOPIC_IDS:
        return [_Topic(topic.topic_name, bytes(16), topic.partitions) for topic in request.topics]
    return [_Topic(state.topic_names.get(bytes(topic.topic_id)), bytes(topic.topic_id), topic.partitions)
            for topic in request.topics]


async def _apply(runtime: Runtime, leader: int, topics: list[_Topic],
                 version: int) -> dict[TopicPartition, ErrorCode]:
    """Write what may be written; the partitions that were refused and why."""
    state = runtime.state
    proposals = {TopicPartition(topic.name, proposal.partition_index): proposal
                 for topic in topics if topic.name is not None for proposal in topic.proposals}
    decision = Decision()
    errors: dict[TopicPartition, ErrorCode] = {}
    written: dict[TopicPartition, tuple[int, ...]] = {}
    for key, proposal in proposals.items():
        current = _current(state, key)
        if current is None:
            errors[key] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            continue
        wanted = _proposed(current, leader, proposal, version)
        error = _refusal(current, wanted, state.eligible_broker_ids(), version)
        if error:
            errors[key] = error
        elif not _is_in_place(current, wanted):
            decision.writes.append(partition_states.state_write(state, key, current, wanted, ()))
            written[key] = wanted.isr
    for key in await runtime.apply(decision):
        errors[key] = ErrorCode.INVALID_UPDATE_VERSION
    for key, isr in written.items():
        after = _current(state, key)
        if key not in errors and (after is None or after.isr != isr):
            errors[key] = ErrorCode.UNKNOWN_SERVER_ERROR
    await runtime.apply(tell_metadata(state.live_broker_ids(), proposals))
    runtime.send()
    return errors


def _current(state: ControllerState, key: TopicPartition) -> LeaderAndIsr | None:
    partition = state.find_partition(key)
    return None if partition is None else partition.leader_and_isr


def _proposed(current: LeaderAndIsr, leader: int, proposal: Any, version: int) -> LeaderAndIsr:
    isr = proposal.new_isr
    if version >= FIRST_VERSION_WITH_EPOCHS:
        isr = [member.broker_id for member in proposal.new_isr_with_epochs]
    return replace(current, leader=leader, leader_epoch=proposal.leader_epoch, isr=tuple(isr),
                   leader_recovery_state=proposal.leader_recovery_state, partition_epoch=proposal.partition_epoch)


def _is_in_place(current: LeaderAndIsr, wanted: LeaderAndIsr) -> bool:
    return replace(wanted, partition_epoch=current.partition_epoch) == current


def _refusal(current: LeaderAndIsr, wanted: LeaderAndIsr, eligible: Collection[int], version: int) -> ErrorCode:
    """NONE: it may be written, or is in place already."""
    if wanted.partition_epoch > current.partition_epoch or wanted.leader_epoch > current.leader_epoch:
        return ErrorCode.NOT_CONTROLLER
    if wanted.leader_epoch < current.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if _is_in_place(current, wanted):
        return ErrorCode.NONE
    if wanted.partition_epoch < current.partition_epoch:
        return ErrorCode.INVALID_UPDATE_VERSION
    if wanted.leader != current.leader:
        return ErrorCode.INVALID_REQUEST
    recovering = wanted.leader_recovery_state == RECOVERING
    if recovering and (len(wanted.isr) > 1 or current.leader_recovery_state == RECOVERED):
        return ErrorCode.INVALID_REQUEST
    if not set(wanted.isr) <= set(eligible):
        if version < FIRST_VERSION_WITH_TOPIC_IDS:
            return ErrorCode.OPERATION_NOT_ATTEMPTED
        return ErrorCode.INELIGIBLE_REPLICA
    return ErrorCode.NONE


def _answer(state: ControllerState, topic: str | None, number: int,
            errors: dict[TopicPartition, ErrorCode]) -> Any:
    data = message_class("AlterPartitionResponse").PartitionData
    if topic is None:
        return data(partition_index=number, error_code=ErrorCode.UNKNOWN_TOPIC_ID)
    key = TopicPartition(topic, number)
    current = _current(state, key)
    if key in errors or current is None:
        return data(partition_index=number, error_code=errors.get(key, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
    return data(partition_index=number, leader_id=current.leader, leader_epoch=current.leader_epoch,
                isr=list(current.isr), leader_recovery_state=current.leader_recovery_state,
                partition_epoch=current.partition_epoch)
