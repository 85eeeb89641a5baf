"""DescribeConfigs: behaviour 76 as far as nothing is altered at run time."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import BROKER_ID, ApiBroker
from tests.integration.apis.wire import Client, versions

DescribeConfigsRequest = request_class(ApiKey.DESCRIBE_CONFIGS)
ALL_VERSIONS = versions(ApiKey.DESCRIBE_CONFIGS)
TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS = 2, 4, 8, 16
TOPIC_SOURCE, STATIC_BROKER, DEFAULT = 1, 4, 5
TOPIC_CONFIG_COUNT = 36


def resource(kind: int, name: str, keys: list[str] | None = None) -> Any:
    return DescribeConfigsRequest.DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=keys
    )


def describe(client: Client, *resources: Any, version: int = 4, synonyms: bool = False) -> list[Any]:
    request = DescribeConfigsRequest(resources=list(resources))
    if version >= 1:
        request.include_synonyms = synonyms
    results: list[Any] = client.call(ApiKey.DESCRIBE_CONFIGS, version, request).results
    return results


def entries(result: Any) -> dict[str, Any]:
    """The entries of a result without an error, by name."""
    assert (result.error_code, result.error_message) == (0, "")
    named = {entry.name: entry for entry in result.configs}
    assert len(named) == len(result.configs)
    return named


def synonyms_of(entry: Any) -> list[tuple[str, str | None, int]]:
    return [(synonym.name, synonym.value, synonym.source) for synonym in entry.synonyms]


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_76_a_topic_s_own_values_and_defaults(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("described", retention_ms=123, min_insync_replicas=1)
    (result,) = describe(client, resource(TOPIC, topic.name), version=version)
    assert (result.resource_type, result.resource_name) == (TOPIC, topic.name)
    found = entries(result)
    assert len(found) == TOPIC_CONFIG_COUNT
    own, default = found["retention.ms"], found["segment.bytes"]
    assert (own.value, default.value) == ("123", "1073741824")
    assert (own.read_only, own.is_sensitive, default.read_only) == (False, False, False)
    assert (own.is_default, default.is_default) == (False, False)
    if version >= 1:
        assert (own.config_source, default.config_source) == (TOPIC_SOURCE, DEFAULT)
        assert found["min.insync.replicas"].config_source == TOPIC_SOURCE
    assert synonyms_of(own) == []
    assert own.config_type == (5 if version >= 3 else 0)


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_CONFIGS, 1))
def test_76_synonyms_are_ordered_by_precedence(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("described", max_message_bytes=2000)
    (result,) = describe(client, resource(TOPIC, topic.name), version=version, synonyms=True)
    found = entries(result)
    assert synonyms_of(found["max.message.bytes"]) == [
        ("max.message.bytes", "2000", TOPIC_SOURCE), ("message.max.bytes", "1048588", DEFAULT)]  # fmt: skip
    assert synonyms_of(found["segment.bytes"]) == [("log.segment.bytes", "1073741824", DEFAULT)]
    assert synonyms_of(found["leader.replication.throttled.replicas"]) == []


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_76_keys_can_be_chosen(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("described")
    keys = ["segment.ms", "no.such.key", "cleanup.policy"]
    (result,) = describe(client, resource(TOPIC, topic.name, keys), version=version)
    assert set(entries(result)) == {"segment.ms", "cleanup.policy"}


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_76_an_empty_choice_of_keys_is_none(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("described")
    (result,) = describe(client, resource(TOPIC, topic.name, []), version=version)
    assert len(entries(result)) == TOPIC_CONFIG_COUNT


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_76_the_broker_s_values_and_where_they_come_from(client: Client, version: int) -> None:
    wanted = ["num.partitions", "log.segment.bytes", "listeners", "ssl.keystore.password", "log.retention.ms"]
    (result,) = describe(client, resource(BROKER, str(BROKER_ID), wanted), version=version)
    found = entries(result)
    assert set(found) == set(wanted)
    own, default = found["num.partitions"], found["log.segment.bytes"]
    assert (own.value, default.value, found["log.retention.ms"].value) == ("2", "1073741824", None)
    assert (own.is_default, default.is_default) == (False, False)
    if version >= 1:
        assert (own.config_source, default.config_source) == (STATIC_BROKER, DEFAULT)
    assert (own.read_only, default.read_only) == (True, False)
    password = found["ssl.keystore.password"]
    assert (password.value, password.is_sensitive) == (None, True)


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_CONFIGS, 1))
def test_76_synonyms_of_the_broker(client: Client, version: int) -> None:
    keys = ["num.partitions", "log.retention.hours", "log.flush.interval.ms"]
    (result,) = describe(client, resource(BROKER, str(BROKER_ID), keys), version=version, synonyms=True)
    found = entries(result)
    assert synonyms_of(found["num.partitions"]) == [
        ("num.partitions", "2", STATIC_BROKER), ("num.partitions", "1", DEFAULT)]  # fmt: skip
    assert synonyms_of(found["log.retention.hours"]) == [("log.retention.hours", "168", DEFAULT)]


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_76_the_cluster_wide_defaults_are_empty(client: Client, version: int) -> None:
    (result,) = describe(client, resource(BROKER, ""), version=version)
    assert entries(result) == {}


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        (BROKER, "77", ErrorCode.INVALID_REQUEST),
        (BROKER, "one", ErrorCode.INVALID_REQUEST),
        (BROKER_LOGGER, "77", ErrorCode.INVALID_REQUEST),
        (BROKER_LOGGER, "", ErrorCode.INVALID_REQUEST),
        (TOPIC, "a b", ErrorCode.INVALID_TOPIC_EXCEPTION),
        (TOPIC, "", ErrorCode.INVALID_TOPIC_EXCEPTION),
    ],
)
@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_76_wrong_resources_are_refused_one_by_one(
    broker: ApiBroker, client: Client, version: int, kind: int, name: str, error: ErrorCode
) -> None:
    good = resource(BROKER, str(BROKER_ID), ["num.partitions"])
    results = {(result.resource_type, result.resource_name): result
               for result in describe(client, resource(kind, name), good, version=version)}  # fmt: skip
    refused = results[kind, name]
    assert (refused.error_code, list(refused.configs)) == (error, [])
    assert refused.error_message
    assert set(entries(results[BROKER, str(BROKER_ID)])) == {"num.partitions"}


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_76_an_unknown_topic_is_an_error_without_a_message(client: Client, version: int) -> None:
    (result,) = describe(client, resource(TOPIC, "missing"), version=version)
    assert (result.error_code, list(result.configs)) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, [])
    assert not result.error_message


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_76_a_resource_type_that_is_none_refuses_the_whole_request(client: Client, version: int) -> None:
    wanted = [resource(99, "x"), resource(BROKER, "")]
    results = describe(client, *wanted, version=version)
    assert {(result.resource_type, result.error_code) for result in results} == {
        (99, ErrorCode.INVALID_REQUEST), (BROKER, ErrorCode.INVALID_REQUEST)}  # fmt: skip


def test_76_a_request_without_resources_is_answered(client: Client) -> None:
    for version in ALL_VERSIONS:
        assert describe(client, version=version) == []
