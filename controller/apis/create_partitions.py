"""CreatePartitions (key 37).

| version | what it adds |
|---|---|
| 1 | throttling after the answer (the front end's business) |
| 2 | flexible |
| 3 | THROTTLING_QUOTA_EXCEEDED instead of waiting (the front end's business) |

New partitions go to the brokers by the same placement as for a new topic, beginning at the broker that
leads partition 0. A given assignment must name live brokers (CreateTopics accepts unknown ones). The
answer waits as that of CreateTopics does. All versions are served.

PURE. Runs in: controller.
"""
from __future__ import annotations

from collections import Counter
from typing import Any

from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import assignment as placement
from controller import znodes
from controller.apis.fault import ApiFault
from controller.apis.topic_rules import check_partition_count, check_topic_name
from controller.apis.waiting import WaitingAnswer
from controller.cluster import ReplicaAssignment
from controller.metadata_store.errors import MultiError, StoreError
from controller.metadata_store.operations import GetData, GetDataResult, Operation, SetData
from controller.procedures.runtime import Runtime
from controller.znodes import TopicAssignment

NewPartitions = dict[int, tuple[int, ...]]


async def create_partitions(runtime: Runtime, request: Any) -> WaitingAnswer:
    copies = Counter(topic.name for topic in request.topics)
    results: dict[str, Any] = {}
    writes: dict[str, tuple[Operation, ...]] = {}
    grown: dict[str, NewPartitions] = {}
    for topic in request.topics:
        if topic.name in results:
            continue
        result = results[topic.name] = _result(topic.name)
        try:
            if copies[topic.name] > 1:
                raise ApiFault(ErrorCode.INVALID_REQUEST, "The request names this topic more than once.")
            new, write = await _plan(runtime, topic)
        except ApiFault as fault:
            _fail(result, fault)
        else:
            grown[topic.name] = new
            writes[topic.name] = (write,)
    response = message_class("CreatePartitionsResponse")(results=list(results.values()))
    if request.validate_only:
        return WaitingAnswer(response, timeout_ms=0, on_time_out=lambda name: None)
    for name, outcome in zip(writes, await runtime.write(list(writes.values())), strict=True):
        if isinstance(outcome, StoreError):
            cause = outcome.cause if isinstance(outcome, MultiError) else outcome
            _fail(results[name], ApiFault(ErrorCode.UNKNOWN_SERVER_ERROR,
                                          f"The new partitions could not be stored: {cause}."))
            del grown[name]

    def on_time_out(name: str) -> None:
        _fail(results[name], ApiFault(ErrorCode.REQUEST_TIMED_OUT))

    return WaitingAnswer(response, timeout_ms=request.timeout_ms, on_time_out=on_time_out, leaders=grown)


def refuse_create_partitions(request: Any, code: ErrorCode, message: str | None = None) -> Any:
    """The same error for every topic."""
    results = []
    for name in dict.fromkeys(topic.name for topic in request.topics):
        result = _result(name)
        _fail(result, ApiFault(code, message))
        results.append(result)
    return message_class("CreatePartitionsResponse")(results=results)


def _result(name: str) -> Any:
    return message_class("CreatePartitionsResponse").CreatePartitionsTopicResult(name=name)


def _fail(result: Any, fault: ApiFault) -> None:
    result.error_code = fault.code
    result.error_message = fault.message


async def _plan(runtime: Runtime, topic: Any) -> tuple[NewPartitions, Operation]:
    if topic.name in runtime.state.topics_to_be_deleted:
        raise ApiFault(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic is queued for deletion.")
    current, version = await _current(runtime, topic.name)
    if any(assignment.is_being_reassigned for assignment in current.partitions.values()):
        raise ApiFault(ErrorCode.REASSIGNMENT_IN_PROGRESS,
                       f"Partitions of topic '{topic.name}' are being reassigned; try again when that is done.")
    added = topic.count - len(current.partitions)
    if added <= 0:
        raise ApiFault(ErrorCode.INVALID_PARTITIONS, (
            f"Topic '{topic.name}' has {len(current.partitions)} partitions, {topic.count} would not be more."))
    check_partition_count(topic.count)
    new = _given(runtime, topic, current, added) if topic.assignments is not None \
        else _placed(runtime, current, added)
    partitions = {**current.partitions,
                  **{number: ReplicaAssignment(replicas) for number, replicas in new.items()}}
    grown = znodes.encode_topic(TopicAssignment(current.topic_id, partitions))
    return new, SetData(znodes.topic_path(topic.name), grown, version)


async def _current(runtime: Runtime, name: str) -> tuple[TopicAssignment, int]:
    try:
        check_topic_name(name)
    except ApiFault as fault:
        raise _unknown(name) from fault
    (outcome,) = await runtime.read([GetData(znodes.topic_path(name))])
    if not isinstance(outcome, GetDataResult):
        raise _unknown(name)
    try:
        current = znodes.decode_topic(name, outcome.data)
    except znodes.ZnodeFormatError as error:
        raise ApiFault(ErrorCode.UNKNOWN_SERVER_ERROR, str(error)) from error
    if 0 not in current.partitions:
        raise ApiFault(ErrorCode.UNKNOWN_SERVER_ERROR, f"Topic '{name}' has no partition 0.")
    return current, outcome.stat.version


def _unknown(name: str) -> ApiFault:
    return ApiFault(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")


def _given(runtime: Runtime, topic: Any, current: TopicAssignment, added: int) -> NewPartitions:
    given = [tuple(entry.broker_ids) for entry in topic.assignments]
    live = set(runtime.state.brokers)
    unknown = sorted({broker_id for replicas in given for broker_id in replicas} - live)
    replication_factor = len(current.partitions[0].replicas)
    fault = None
    if unknown:
        fault = f"brokers {unknown} are not alive"
    elif len(given) != added:
        fault = f"{len(given)} assignments for {added} new partitions"
    elif any(not replicas for replicas in given):
        fault = "a partition without replicas"
    elif any(len(set(replicas)) < len(replicas) for replicas in given):
        fault = "a partition names a broker twice"
    elif any(len(replicas) != replication_factor for replicas in given):
        fault = f"partition 0 has {replication_factor} replicas, so must every other"
    if fault is not None:
        raise ApiFault(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"The replica assignment is not valid: {fault}.")
    return {len(current.partitions) + index: replicas for index, replicas in enumerate(given)}


def _placed(runtime: Runtime, current: TopicAssignment, added: int) -> NewPartitions:
    brokers = runtime.state.live_broker_ids()
    first = current.partitions[0].replicas
    start = next((index for index, broker_id in enumerate(brokers) if broker_id >= first[0]), 0)
    racks = {broker_id: runtime.state.brokers[broker_id].rack for broker_id in brokers}
    try:
        return placement.assign_replicas(racks, added, len(first), start_index=start, replica_shift=start,
                                         first_partition=len(current.partitions))
    except placement.InvalidReplicationFactorError as error:
        raise ApiFault(ErrorCode.INVALID_REPLICATION_FACTOR, str(error)) from error
    except placement.IncompleteRacksError as error:
        raise ApiFault(ErrorCode.UNKNOWN_SERVER_ERROR, str(error)) from error
