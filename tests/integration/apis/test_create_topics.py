"""CreateTopics: behaviours 24, 73 and 74."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import BROKER_ID, ApiBroker
from tests.integration.apis.wire import Client, versions

CreateTopicsRequest = request_class(ApiKey.CREATE_TOPICS)
ALL_VERSIONS = versions(ApiKey.CREATE_TOPICS)
ZERO_ID = bytes(16)
NOT_SAID = -1
TOPIC_CONFIG_COUNT = 36
UNKNOWN_BROKER = 77


def wanted(
    name: str, partitions: int = 1, replicas: int = 1, configs: Mapping[str, str | None] | None = None,
    assignment: Sequence[tuple[int, list[int]]] = (),
) -> Any:  # fmt: skip
    """assignment: (partition, broker ids); excludes both counts."""
    if assignment:
        partitions = replicas = -1
    return CreateTopicsRequest.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=replicas,
        assignments=[CreateTopicsRequest.CreatableReplicaAssignment(partition_index=index, broker_ids=brokers)
                     for index, brokers in assignment],
        configs=[CreateTopicsRequest.CreatableTopicConfig(name=key, value=value)
                 for key, value in (configs or {}).items()],
    )  # fmt: skip


def create(
    client: Client, *topics: Any, version: int = 7, timeout_ms: int = 10_000, validate_only: bool = False
) -> list[Any]:
    request = CreateTopicsRequest(topics=list(topics), timeout_ms=timeout_ms)
    if version >= 1:
        request.validate_only = validate_only
    results: list[Any] = client.call(ApiKey.CREATE_TOPICS, version, request).topics
    return results


def error_of(client: Client, topic: Any, **options: Any) -> ErrorCode:
    """The error of one topic; a refusal says why, and tells nothing about the topic."""
    (result,) = create(client, topic, **options)
    if result.error_code not in (ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT):
        assert result.error_message
        assert (result.num_partitions, result.replication_factor) == (NOT_SAID, NOT_SAID)
        assert (list(result.configs), bytes(result.topic_id)) == ([], ZERO_ID)
    return ErrorCode(result.error_code)


def partitions_of(broker: ApiBroker, name: str) -> dict[int, int]:
    """{partition: leader}"""
    (topic,) = broker.metadata(name).topics
    return {each.partition_index: each.leader_id for each in topic.partitions}


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_73_the_answer_comes_when_all_partitions_have_leaders(
    broker: ApiBroker, client: Client, version: int
) -> None:
    name = broker.new_name("created")
    (result,) = create(client, wanted(name, partitions=3), version=version)
    assert (result.error_code, result.name, result.error_message) == (0, name, None if version else "")
    assert partitions_of(broker, name) == dict.fromkeys(range(3), BROKER_ID)


@pytest.mark.parametrize("version", versions(ApiKey.CREATE_TOPICS, 5))
def test_73_the_answer_describes_the_topic_from_version_5(
    broker: ApiBroker, client: Client, version: int
) -> None:
    topic = wanted(broker.new_name("created"), 2, configs={"retention.ms": "123456"})
    (result,) = create(client, topic, version=version)
    assert (result.num_partitions, result.replication_factor, result.topic_config_error_code) == (2, 1, 0)
    configs = {entry.name: entry for entry in result.configs}
    assert len(configs) == len(result.configs) == TOPIC_CONFIG_COUNT
    assert (configs["retention.ms"].value, configs["retention.ms"].config_source) == ("123456", 1)
    assert (configs["segment.bytes"].value, configs["segment.bytes"].config_source) == ("1073741824", 5)
    assert not any(entry.read_only or entry.is_sensitive for entry in result.configs)
    assert (bytes(result.topic_id) != ZERO_ID) == (version >= 7)


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("timeout_ms", [0, -1])
def test_73_without_time_to_wait_the_topic_is_created_all_the_same(
    broker: ApiBroker, client: Client, version: int, timeout_ms: int
) -> None:
    name = broker.new_name("created")
    (result,) = create(client, wanted(name, partitions=2), version=version, timeout_ms=timeout_ms)
    assert result.error_code == ErrorCode.REQUEST_TIMED_OUT
    broker.wait_for_leaders(name, 2)


def test_73_a_topic_that_timed_out_is_described_as_a_failed_one(broker: ApiBroker, client: Client) -> None:
    (result,) = create(client, wanted(broker.new_name("created")), timeout_ms=0)
    assert (result.num_partitions, result.replication_factor, list(result.configs)) == (NOT_SAID, NOT_SAID, [])
    assert result.error_message is None
    assert bytes(result.topic_id) != ZERO_ID


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_73_all_copies_of_a_repeated_name_are_an_invalid_request(
    broker: ApiBroker, client: Client, version: int
) -> None:
    name, other = broker.new_name("twice"), broker.new_name("once")
    results = create(client, wanted(name), wanted(other), wanted(name, partitions=2), version=version)
    assert [(result.name, result.error_code) for result in results] == [
        (name, ErrorCode.INVALID_REQUEST), (other, 0), (name, ErrorCode.INVALID_REQUEST),
    ]  # fmt: skip
    assert partitions_of(broker, name) == {}
    assert partitions_of(broker, other) == {0: BROKER_ID}


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_73_minus_one_means_the_broker_s_defaults(broker: ApiBroker, client: Client, version: int) -> None:
    name = broker.new_name("default")
    (result,) = create(client, wanted(name, -1, -1), version=version)
    assert result.error_code == 0
    assert sorted(partitions_of(broker, name)) == [0, 1]


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_73_an_existing_topic_is_an_error(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("existing")
    (result,) = create(client, wanted(topic.name, partitions=0), version=version)
    assert result.error_code == ErrorCode.TOPIC_ALREADY_EXISTS
    assert (version >= 1) == bool(result.error_message)


@pytest.mark.parametrize("version", versions(ApiKey.CREATE_TOPICS, 1))
def test_73_validate_only_creates_nothing(broker: ApiBroker, client: Client, version: int) -> None:
    name = broker.new_name("checked")
    (result,) = create(client, wanted(name), version=version, validate_only=True)
    assert result.error_code == 0
    assert partitions_of(broker, name) == {}
    (result,) = create(client, wanted(name, partitions=0), version=version, validate_only=True)
    assert result.error_code == ErrorCode.INVALID_PARTITIONS


def test_73_validate_only_describes_the_topic_but_has_no_id(broker: ApiBroker, client: Client) -> None:
    (result,) = create(client, wanted(broker.new_name("checked"), 2), validate_only=True)
    assert (result.num_partitions, result.replication_factor, bytes(result.topic_id)) == (2, 1, ZERO_ID)
    assert len(result.configs) == TOPIC_CONFIG_COUNT


@pytest.mark.parametrize("partitions", [0, -2])
def test_73_partition_counts_below_one_are_invalid(
    broker: ApiBroker, client: Client, partitions: int
) -> None:
    topic = wanted(broker.new_name("refused"), partitions)
    assert error_of(client, topic) == ErrorCode.INVALID_PARTITIONS


@pytest.mark.parametrize("replicas", [0, -2, 2])
def test_73_replication_factors_below_one_or_above_the_brokers_are_invalid(
    broker: ApiBroker, client: Client, replicas: int
) -> None:
    topic = wanted(broker.new_name("refused"), 1, replicas)
    assert error_of(client, topic) == ErrorCode.INVALID_REPLICATION_FACTOR


ASSIGNMENTS: dict[str, tuple[list[tuple[int, list[int]]], ErrorCode]] = {
    "consecutive": ([(0, [1]), (1, [1])], ErrorCode.NONE),
    "in any order": ([(1, [1]), (0, [1])], ErrorCode.NONE),
    "with a broker that does not exist": ([(0, [1, UNKNOWN_BROKER])], ErrorCode.NONE),
    "not from 0": ([(1, [1])], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "with a gap": ([(0, [1]), (2, [1])], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "a partition twice": ([(0, [1]), (0, [1])], ErrorCode.NONE),
    "of different sizes": ([(0, [1]), (1, [1, UNKNOWN_BROKER])], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "a broker twice": ([(0, [1, 1])], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "without replicas": ([(0, [])], ErrorCode.NONE),
    "with a negative broker": ([(0, [-1])], ErrorCode.NONE),
}


@pytest.mark.parametrize(("assignment", "error"), ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_73_manual_assignments(
    broker: ApiBroker, client: Client, assignment: list[tuple[int, list[int]]], error: ErrorCode
) -> None:
    topic = wanted(broker.new_name("assigned"), assignment=assignment)
    assert error_of(client, topic, validate_only=True) == error


def test_73_an_assignment_excludes_counts(broker: ApiBroker, client: Client) -> None:
    for partitions, replicas in ((1, -1), (-1, 1), (1, 1)):
        topic = wanted(broker.new_name("assigned"), assignment=[(0, [1])])
        topic.num_partitions, topic.replication_factor = partitions, replicas
        assert error_of(client, topic) == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "configs",
    [
        {"no.such.key": "1"},
        {"retention.ms": "soon"},
        {"retention.ms": "-2"},
        {"retention.ms": None},
        {"segment.bytes": "13"},
        {"cleanup.policy": "keep"},
        {"message.timestamp.type": "Now"},
        {"min.insync.replicas": "0"},
        {"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "9"},
        {"compression.type": "brotli"},
        {"leader.replication.throttled.replicas": "zero:one"},
    ],
    ids=str,
)
def test_73_wrong_configurations_are_refused(
    broker: ApiBroker, client: Client, configs: dict[str, str | None]
) -> None:
    topic = wanted(broker.new_name("refused"), configs=configs)
    assert error_of(client, topic) == ErrorCode.INVALID_CONFIG


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "ü", "a/b", "x" * 250, "nul\0", "a:b"])
def test_24_names_outside_the_rules_are_an_invalid_topic(client: Client, name: str) -> None:
    assert error_of(client, wanted(name)) == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_24_names_of_249_legal_characters_are_accepted(broker: ApiBroker, client: Client) -> None:
    for name in ("x" * 249, "...", "-", "__", "A.b_c-9"):
        assert error_of(client, wanted(name), validate_only=True) == 0


def test_24_names_that_differ_in_dot_and_underscore_only_collide(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("a.b_c")
    for twin in (topic.name.replace(".", "_"), topic.name.replace("_", ".")):
        assert error_of(client, wanted(twin)) == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_24_names_collide_within_one_request_too(broker: ApiBroker, client: Client) -> None:
    dotted = broker.new_name("one.request")
    results = create(client, wanted(dotted), wanted(dotted.replace(".", "_")))
    assert sorted(result.error_code for result in results) == [0, ErrorCode.INVALID_TOPIC_EXCEPTION]


def test_24_the_topic_of_a_kraft_cluster_may_not_be_created(client: Client) -> None:
    (result,) = create(client, wanted("__cluster_metadata"))
    assert result.error_code == ErrorCode.INVALID_REQUEST


def test_74_replicas_go_round_the_brokers(broker: ApiBroker, client: Client) -> None:
    name = broker.new_name("placed")
    (result,) = create(client, wanted(name, partitions=7))
    assert result.error_code == 0
    assert partitions_of(broker, name) == dict.fromkeys(range(7), BROKER_ID)


def test_73_one_bad_topic_does_not_cost_the_others(broker: ApiBroker, client: Client) -> None:
    good, bad = broker.new_name("good"), broker.new_name("bad")
    results = create(client, wanted(bad, 0), wanted(good))
    assert {result.name: result.error_code for result in results} == {
        good: 0, bad: ErrorCode.INVALID_PARTITIONS}  # fmt: skip
    assert partitions_of(broker, good) == {0: BROKER_ID}


def test_73_a_request_without_topics_is_answered(client: Client) -> None:
    for version in ALL_VERSIONS:
        assert create(client, version=version) == []
