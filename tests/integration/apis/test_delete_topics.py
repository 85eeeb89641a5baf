"""DeleteTopics: behaviour 75."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import ApiBroker, Topic
from tests.integration.apis.records import batch
from tests.integration.apis.requests import append, fetch, list_offsets, produce
from tests.integration.apis.wire import Client, versions
from tests.peers.processes import wait_until

DeleteTopicsRequest = request_class(ApiKey.DELETE_TOPICS)
ALL_VERSIONS = versions(ApiKey.DELETE_TOPICS)
FIRST_VERSION_BY_ID = 6
UNKNOWN_ID = bytes(range(16))
ZERO_ID = bytes(16)


def state(name: str | None = None, topic_id: bytes = ZERO_ID) -> Any:
    return DeleteTopicsRequest.DeleteTopicState(name=name, topic_id=topic_id)


def delete(
    client: Client, *names: str, version: int = 6, states: Any = None, timeout_ms: int = 20_000
) -> list[Any]:
    """Names in the form of the version, or `states` of version 6."""
    request = DeleteTopicsRequest(timeout_ms=timeout_ms)
    if states is not None:
        request.topics = list(states)
    elif version < FIRST_VERSION_BY_ID:
        request.topic_names = list(names)
    else:
        request.topics = [state(name) for name in names]
    results: list[Any] = client.call(ApiKey.DELETE_TOPICS, version, request).responses
    return results


def exists(broker: ApiBroker, topic: Topic) -> bool:
    (found,) = broker.metadata(topic.name).topics
    return found.error_code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_75_the_answer_comes_when_the_topic_is_gone_from_metadata(
    broker: ApiBroker, client: Client, version: int
) -> None:
    topic, kept = broker.topic("doomed", partitions=2), broker.topic("kept")
    append(client, topic, batch(b"v"))
    (result,) = delete(client, topic.name, version=version)
    assert (result.error_code, result.name, result.error_message) == (0, topic.name, None)
    assert not exists(broker, topic)
    assert exists(broker, kept)
    assert produce(client, topic, batch(b"v")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert fetch(client, topic, version=12).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert fetch(client, topic).error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_75_the_log_is_gone_soon_after(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("doomed")
    append(client, topic, batch(b"v"))
    delete(client, topic.name)
    wait_until(
        lambda: list_offsets(client, topic, -1).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        "the partition is not served any more", 10,
    )  # fmt: skip


def test_75_version_6_deletes_by_id(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("doomed")
    (result,) = delete(client, states=[state(topic_id=topic.id)])
    assert (result.error_code, result.name, bytes(result.topic_id)) == (0, topic.name, topic.id)
    assert not exists(broker, topic)


def test_75_unknown_names_and_ids(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("doomed")
    states = [state("missing"), state(topic_id=UNKNOWN_ID), state(topic.name)]
    results = {result.name: result for result in delete(client, states=states)}
    assert results["missing"].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert results[None].error_code == ErrorCode.UNKNOWN_TOPIC_ID
    assert bytes(results[None].topic_id) == UNKNOWN_ID
    assert results[topic.name].error_code == 0


@pytest.mark.parametrize("name", ["", "a b", "..", "x" * 300])
def test_75_names_that_cannot_exist_are_unknown(client: Client, name: str) -> None:
    (result,) = delete(client, name)
    assert result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_75_name_and_id_together_are_an_invalid_request(broker: ApiBroker, client: Client) -> None:
    topic, other = broker.topic("doomed"), broker.topic("doomed")
    results = delete(client, states=[state(topic.name, topic.id), state(other.name)])
    assert [result.error_code for result in results] == [ErrorCode.INVALID_REQUEST] * 2
    assert exists(broker, topic) and exists(broker, other)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_75_deletion_that_is_switched_off_is_refused(variant: ApiBroker, version: int) -> None:
    topic = variant.topic("indestructible")
    with variant.connect() as client:
        (result,) = delete(client, topic.name, version=version)
    expected = ErrorCode.INVALID_REQUEST if version < 3 else ErrorCode.TOPIC_DELETION_DISABLED
    assert (result.error_code, result.name) == (expected, topic.name)
    assert exists(variant, topic)


@pytest.mark.parametrize("timeout_ms", [0, -1])
def test_75_without_time_to_wait_the_topic_is_deleted_all_the_same(
    broker: ApiBroker, client: Client, timeout_ms: int
) -> None:
    topic = broker.topic("doomed")
    (result,) = delete(client, topic.name, timeout_ms=timeout_ms)
    assert result.error_code == ErrorCode.REQUEST_TIMED_OUT
    wait_until(lambda: not exists(broker, topic), f"{topic.name} is gone", 15)


def test_75_a_name_that_is_given_twice_is_deleted_once(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("doomed")
    results = delete(client, topic.name, topic.name, version=5)
    assert {result.name for result in results} == {topic.name}
    assert not exists(broker, topic)


def test_75_a_deleted_name_can_be_used_again_with_a_new_id(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("reborn")
    append(client, topic, batch(b"old"))
    delete(client, topic.name)
    again = recreated(broker, topic.name)
    assert again.id != topic.id
    assert list_offsets(client, again, -1).offset == 0
    assert fetch(client, topic).error_code == ErrorCode.UNKNOWN_TOPIC_ID
    assert fetch(client, again).error_code == 0


def recreated(broker: ApiBroker, name: str) -> Topic:
    """A name is free again when the replicas are gone, which may be after the answer to the deletion."""
    made: list[Topic] = []

    def created() -> bool:
        try:
            made.append(broker.create(name))
        except AssertionError as refusal:
            assert f" {ErrorCode.TOPIC_ALREADY_EXISTS:d} " in str(refusal)
        return bool(made)

    wait_until(created, f"{name} can be created again", 15)
    return made[0]


def test_75_a_request_without_topics_is_answered(client: Client) -> None:
    for version in ALL_VERSIONS:
        assert delete(client, version=version) == []
