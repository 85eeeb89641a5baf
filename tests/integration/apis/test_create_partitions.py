"""CreatePartitions: behaviours 73 and 74 as far as they concern it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import BROKER_ID, ApiBroker
from tests.integration.apis.records import batch
from tests.integration.apis.requests import append, list_offsets
from tests.integration.apis.wire import Client, versions

CreatePartitionsRequest = request_class(ApiKey.CREATE_PARTITIONS)
ALL_VERSIONS = versions(ApiKey.CREATE_PARTITIONS)
UNKNOWN_BROKER = 77


def wanted(name: str, count: int, assignments: list[list[int]] | None = None) -> Any:
    given = None
    if assignments is not None:
        assigned = CreatePartitionsRequest.CreatePartitionsAssignment
        given = [assigned(broker_ids=brokers) for brokers in assignments]
    return CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=count, assignments=given)


def grow(
    client: Client, *topics: Any, version: int = 3, timeout_ms: int = 10_000, validate_only: bool = False
) -> dict[str, ErrorCode]:
    """{topic: error}; whoever is refused is told why."""
    request = CreatePartitionsRequest(
        topics=list(topics), timeout_ms=timeout_ms, validate_only=validate_only
    )
    results = client.call(ApiKey.CREATE_PARTITIONS, version, request).results
    assert len({result.name for result in results}) == len(results)
    for result in results:
        silent = result.error_code in (ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT)
        assert silent == (result.error_message is None)
    return {result.name: ErrorCode(result.error_code) for result in results}


def leaders(broker: ApiBroker, name: str) -> list[int]:
    (topic,) = broker.metadata(name).topics
    return [each.leader_id for each in topic.partitions]


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_73_the_answer_comes_when_the_new_partitions_have_leaders(
    broker: ApiBroker, client: Client, version: int
) -> None:
    topic = broker.topic("grown")
    append(client, topic, batch(b"kept"))
    assert grow(client, wanted(topic.name, 3), version=version) == {topic.name: 0}
    assert leaders(broker, topic.name) == [BROKER_ID] * 3
    assert append(client, topic, batch(b"v"), partition=2) == [0]
    assert list_offsets(client, topic, -1).offset == 1


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_73_validate_only_creates_nothing(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("checked")
    assert grow(client, wanted(topic.name, 3), version=version, validate_only=True) == {topic.name: 0}
    assert leaders(broker, topic.name) == [BROKER_ID]


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("timeout_ms", [0, -1])
def test_73_without_time_to_wait_the_partitions_are_created_all_the_same(
    broker: ApiBroker, client: Client, version: int, timeout_ms: int
) -> None:
    topic = broker.topic("grown")
    errors = grow(client, wanted(topic.name, 2), version=version, timeout_ms=timeout_ms)
    assert errors == {topic.name: ErrorCode.REQUEST_TIMED_OUT}
    broker.wait_for_leaders(topic.name, 2)


@pytest.mark.parametrize("count", [2, 1, 0, -1])
def test_73_partitions_can_only_become_more(broker: ApiBroker, client: Client, count: int) -> None:
    topic = broker.topic("grown", partitions=2)
    assert grow(client, wanted(topic.name, count)) == {topic.name: ErrorCode.INVALID_PARTITIONS}


@pytest.mark.parametrize("name", ["missing", "a b", "x" * 300])
def test_73_unknown_topics_are_an_error(client: Client, name: str) -> None:
    assert grow(client, wanted(name, 2)) == {name: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}


def test_73_all_copies_of_a_repeated_name_are_an_invalid_request(broker: ApiBroker, client: Client) -> None:
    topic, other = broker.topic("twice"), broker.topic("once")
    errors = grow(client, wanted(topic.name, 2), wanted(topic.name, 3), wanted(other.name, 2))
    assert errors == {topic.name: ErrorCode.INVALID_REQUEST, other.name: ErrorCode.NONE}


ASSIGNMENTS: dict[str, tuple[list[list[int]], ErrorCode]] = {
    "one per new partition": ([[1], [1]], ErrorCode.NONE),
    "a broker that does not exist": ([[1], [UNKNOWN_BROKER]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "too few": ([[1]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "too many": ([[1], [1], [1]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "none": ([], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "without replicas": ([[1], []], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    "a broker twice": ([[1], [1, 1]], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
}


@pytest.mark.parametrize(("assignments", "error"), ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_73_unknown_brokers_are_refused_here(
    broker: ApiBroker, client: Client, assignments: list[list[int]], error: ErrorCode
) -> None:
    topic = broker.topic("assigned")
    assert grow(client, wanted(topic.name, 3, assignments)) == {topic.name: error}


def test_74_new_partitions_go_on_where_the_first_one_lies(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("placed", partitions=2)
    assert grow(client, wanted(topic.name, 6)) == {topic.name: 0}
    assert leaders(broker, topic.name) == [BROKER_ID] * 6


def test_73_a_request_without_topics_is_answered(client: Client) -> None:
    for version in ALL_VERSIONS:
        assert grow(client, version=version) == {}
