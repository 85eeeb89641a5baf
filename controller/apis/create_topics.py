"""CreateTopics (key 19).

| version | what it adds |
|---|---|
| 1 | validate_only; error messages in the answer |
| 2 | throttle time |
| 4 | -1 partitions and -1 replicas mean the broker's defaults (accepted in every version) |
| 5 | flexible; partition count, replication factor and configuration in the answer |
| 6 | THROTTLING_QUOTA_EXCEEDED instead of waiting (the front end's business) |
| 7 | topic id in the answer |

A topic's node and its configuration node are written in one transaction (Kafka writes them one after the
other and may leave a configuration behind). The answer waits until the front end knows a leader of every
partition; with a time-out of 0 or less it is REQUEST_TIMED_OUT at once, though the topic exists. Automatic
creation arrives as an ordinary request. Policies (`create.topic.policy.class.name`) are refused at start.

PURE. Runs in: controller.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.config.errors import ConfigErrors
from broker.config.kafka_config import KafkaConfig
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import assignment as placement
from controller import znodes
from controller.apis.fault import ApiFault
from controller.apis.topic_rules import (
    CLUSTER_METADATA_TOPIC,
    check_collision,
    check_manual_assignment,
    check_partition_count,
    check_topic_name,
    may_collide,
    unified,
)
from controller.apis.waiting import WaitingAnswer
from controller.cluster import ReplicaAssignment
from controller.metadata_store.errors import MultiError, NodeExistsError, StoreError
from controller.metadata_store.operations import (
    Create,
    Exists,
    ExistsResult,
    GetChildren,
    GetChildrenResult,
    Operation,
    Outcome,
    SetData,
)
from controller.procedures.runtime import Runtime

NOT_GIVEN = -1


@dataclass(frozen=True, slots=True)
class PlannedTopic:
    """A topic that may be created. configs: its overrides."""

    name: str
    topic_id: bytes | None
    assignment: dict[int, tuple[int, ...]]
    configs: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Present:
    """What is in the store under a name."""

    topic: bool
    config: bool
    marked_for_deletion: bool


async def create_topics(runtime: Runtime, config: KafkaConfig, request: Any,
                        random_index: Callable[[int], int]) -> WaitingAnswer:
    """random_index: a number from 0 to one below its argument."""
    results = _results(request)
    present, taken = await _look_up(runtime, [topic.name for topic in request.topics])
    planned: list[PlannedTopic] = []
    for topic, result in zip(request.topics, results, strict=True):
        if result.error_code == ErrorCode.NONE:
            try:
                plan = plan_topic(runtime, config, topic, present[topic.name], taken, random_index)
            except ApiFault as fault:
                _fail(result, fault)
            else:
                planned.append(plan)
                _describe(config, plan, result)
                if not request.validate_only:
                    taken[unified(plan.name)] = plan.name
    response = message_class("CreateTopicsResponse")(topics=results)
    by_name = {result.name: result for result in results}
    if request.validate_only:
        return WaitingAnswer(response, timeout_ms=0, on_time_out=lambda name: None)
    outcomes = await runtime.write([_writes(plan, present[plan.name].config) for plan in planned])
    created: dict[str, dict[int, tuple[int, ...]]] = {}
    for plan, outcome in zip(planned, outcomes, strict=True):
        if isinstance(outcome, StoreError):
            _fail(by_name[plan.name], _write_fault(plan.name, outcome))
        else:
            by_name[plan.name].topic_id = plan.topic_id or bytes(16)
            created[plan.name] = plan.assignment

    def on_time_out(name: str) -> None:
        _fail(by_name[name], ApiFault(ErrorCode.REQUEST_TIMED_OUT))

    return WaitingAnswer(response, timeout_ms=request.timeout_ms, on_time_out=on_time_out, leaders=created)


def refuse_create_topics(request: Any, code: ErrorCode, message: str | None = None) -> Any:
    """The same error for every topic."""
    response = message_class("CreateTopicsResponse")
    return response(topics=[response.CreatableTopicResult(name=topic.name, error_code=code,
                                                          error_message=message)
                            for topic in request.topics])


def _results(request: Any) -> list[Any]:
    """One result per entry in the request's order, faults of the request itself already in."""
    result_class = message_class("CreateTopicsResponse").CreatableTopicResult
    copies = Counter(topic.name for topic in request.topics)
    results = []
    for topic in request.topics:
        result = result_class(name=topic.name, error_message=None, configs=[])
        if topic.name == CLUSTER_METADATA_TOPIC:
            _fail(result, ApiFault(ErrorCode.INVALID_REQUEST, f"Topic {topic.name} may not be created."))
        elif copies[topic.name] > 1:
            _fail(result, ApiFault(ErrorCode.INVALID_REQUEST, "The request names this topic more than once."))
        results.append(result)
    return results


def _fail(result: Any, fault: ApiFault) -> None:
    result.error_code = fault.code
    result.error_message = fault.message
    result.num_partitions = result.replication_factor = -1
    result.topic_config_error_code = ErrorCode.NONE
    result.configs = []


async def _look_up(runtime: Runtime, names: list[str]) -> tuple[dict[str, _Present], dict[str, str]]:
    """What exists under each name, and, if a name could collide, all topics by their unified names."""
    askable = [name for name in dict.fromkeys(names) if _is_askable(name)]
    outcomes = await runtime.read([
        Exists(path) for name in askable
        for path in (znodes.topic_path(name), znodes.config_path(znodes.TOPIC_CONFIGS, name),
                     znodes.delete_topic_path(name))])
    found = [isinstance(outcome, ExistsResult) and outcome.stat is not None for outcome in outcomes]
    present = {name: _Present(*found[3 * index:3 * index + 3]) for index, name in enumerate(askable)}
    for name in names:
        present.setdefault(name, _Present(False, False, False))
    if not any(map(may_collide, askable)):
        return present, {}
    (listed,) = await runtime.read([GetChildren(znodes.TOPICS)])
    existing = listed.children if isinstance(listed, GetChildrenResult) else ()
    return present, {unified(name): name for name in existing}


def _is_askable(name: str) -> bool:
    """Names that are none are refused later, with Kafka's order of checks; they must not become paths."""
    try:
        check_topic_name(name)
    except ApiFault:
        return False
    return True


def plan_topic(runtime: Runtime, config: KafkaConfig, topic: Any, present: _Present, taken: Mapping[str, str],
               random_index: Callable[[int], int]) -> PlannedTopic:
    """ApiFault in Kafka's order of checks. taken: names of other topics by their unified names."""
    if topic.name in runtime.state.topics or present.topic:
        raise _exists(topic.name)
    nulls = [entry.name for entry in topic.configs if entry.value is None]
    if nulls:
        raise ApiFault(ErrorCode.INVALID_CONFIG, f"Topic configurations may not be null: {', '.join(nulls)}.")
    assignment = _assign(runtime, config, topic, random_index)
    check_topic_name(topic.name)
    if present.marked_for_deletion:
        raise ApiFault(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{topic.name}' is still being deleted.")
    check_collision(topic.name, taken)
    check_manual_assignment(assignment)
    configs = {entry.name: entry.value for entry in topic.configs}
    try:
        config.validate_topic_configs(configs)
    except ConfigErrors as errors:
        raise ApiFault(ErrorCode.INVALID_CONFIG, str(errors)) from errors
    topic_id = runtime.new_topic_id() if runtime.uses_topic_ids else None
    return PlannedTopic(topic.name, topic_id, assignment, configs)


def _exists(name: str) -> ApiFault:
    return ApiFault(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")


def _assign(runtime: Runtime, config: KafkaConfig, topic: Any,
            random_index: Callable[[int], int]) -> dict[int, tuple[int, ...]]:
    if topic.assignments:
        if topic.num_partitions != NOT_GIVEN or topic.replication_factor != NOT_GIVEN:
            raise ApiFault(ErrorCode.INVALID_REQUEST, (
                "A replica assignment excludes a partition count and a replication factor: "
                "leave both at -1, or leave the assignment out."))
        return {entry.partition_index: tuple(entry.broker_ids) for entry in topic.assignments}
    brokers = runtime.state.brokers
    partition_count = config["num.partitions"] if topic.num_partitions == NOT_GIVEN else topic.num_partitions
    check_partition_count(partition_count)
    replication_factor = topic.replication_factor
    if replication_factor == NOT_GIVEN:
        replication_factor = config["default.replication.factor"]
    try:
        return placement.assign_replicas(
            {broker.id: broker.rack for broker in brokers.values()}, partition_count, replication_factor,
            start_index=random_index(max(len(brokers), 1)), replica_shift=random_index(max(len(brokers), 1)))
    except placement.AssignmentError as error:
        raise ApiFault(_ASSIGNMENT_CODES[type(error)], str(error)) from error


_ASSIGNMENT_CODES = {
    placement.InvalidPartitionCountError: ErrorCode.INVALID_PARTITIONS,
    placement.InvalidReplicationFactorError: ErrorCode.INVALID_REPLICATION_FACTOR,
    # Kafka has no code of its own for it either.
    placement.IncompleteRacksError: ErrorCode.UNKNOWN_SERVER_ERROR,
}


def _describe(config: KafkaConfig, plan: PlannedTopic, result: Any) -> None:
    entry_class = message_class("CreateTopicsResponse").CreatableTopicConfigs
    result.num_partitions = len(plan.assignment)
    result.replication_factor = len(plan.assignment[0])
    result.configs = [
        entry_class(name=entry.name, value=entry.value_text, read_only=entry.read_only,
                    config_source=entry.source, is_sensitive=entry.sensitive)
        for entry in config.describe_topic(plan.configs)]


def _writes(plan: PlannedTopic, config_exists: bool) -> tuple[Operation, ...]:
    """A configuration left behind by an interrupted creation is overwritten, as Kafka does."""
    config_path = znodes.config_path(znodes.TOPIC_CONFIGS, plan.name)
    overrides = znodes.encode_config(plan.configs)
    assignment = znodes.TopicAssignment(
        plan.topic_id, {number: ReplicaAssignment(replicas) for number, replicas in plan.assignment.items()})
    return (SetData(config_path, overrides) if config_exists else Create(config_path, overrides),
            Create(znodes.topic_path(plan.name), znodes.encode_topic(assignment)))


def _write_fault(name: str, outcome: Outcome) -> ApiFault:
    cause = outcome.cause if isinstance(outcome, MultiError) else outcome
    if isinstance(cause, NodeExistsError):
        return _exists(name)
    return ApiFault(ErrorCode.UNKNOWN_SERVER_ERROR, f"The topic could not be stored: {cause}.")
