"""Metadata: behaviours 18-24, and DescribeCluster beside it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import BROKER_ID, ApiBroker, Topic
from tests.integration.apis.wire import Client, versions

MetadataRequest = request_class(ApiKey.METADATA)
CreateTopicsRequest = request_class(ApiKey.CREATE_TOPICS)
DescribeClusterRequest = request_class(ApiKey.DESCRIBE_CLUSTER)
ALL_VERSIONS = versions(ApiKey.METADATA)
DEAD_BROKER = 77
NOT_ASKED = -(2**31)
ALL_TOPIC_OPERATIONS = sum(1 << code for code in (3, 4, 5, 6, 7, 8, 10, 11))
ALL_CLUSTER_OPERATIONS = sum(1 << code for code in (5, 7, 8, 9, 10, 11, 12))
UNKNOWN_ID = bytes(range(16))
ZERO_ID = bytes(16)


def ask(client: Client, version: int, topics: list[Any] | None, **flags: Any) -> Any:
    return client.call(ApiKey.METADATA, version, MetadataRequest(topics=topics, **flags))


def named(*names: str | None) -> list[Any]:
    return [MetadataRequest.MetadataRequestTopic(name=name) for name in names]


def by_id(*topic_ids: bytes) -> list[Any]:
    return [MetadataRequest.MetadataRequestTopic(name=None, topic_id=topic_id) for topic_id in topic_ids]


def ask_existing(client: Client, version: int, *names: str) -> list[Any]:
    """The topics' entries, nothing created."""
    flags = {"allow_auto_topic_creation": False} if version >= 4 else {}
    topics: list[Any] = ask(client, version, named(*names), **flags).topics
    return topics


def create_assigned(client: Client, name: str, *replicas: list[int], **configs: str) -> ErrorCode:
    """One partition per list of replicas; brokers that do not exist are allowed here (behaviour 73)."""
    wanted = CreateTopicsRequest.CreatableTopic(
        name=name, num_partitions=-1, replication_factor=-1,
        assignments=[CreateTopicsRequest.CreatableReplicaAssignment(partition_index=index, broker_ids=each)
                     for index, each in enumerate(replicas)],
        configs=[CreateTopicsRequest.CreatableTopicConfig(name=key.replace("_", "."), value=value)
                 for key, value in configs.items()],
    )  # fmt: skip
    request = CreateTopicsRequest(topics=[wanted], timeout_ms=300)
    (result,) = client.call(ApiKey.CREATE_TOPICS, 7, request).topics
    return ErrorCode(result.error_code)


def topic_with_dead_replica(broker: ApiBroker, label: str, *replicas: list[int], **configs: str) -> Topic:
    """Partition 0 has a living replica."""
    name = broker.new_name(label)
    with broker.connect() as client:
        error = create_assigned(client, name, *replicas, **configs)
    assert error in (ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT)
    broker.wait_for_leaders(name, 1)
    return Topic(name, bytes(broker.metadata(name).topics[0].topic_id))


@pytest.fixture(scope="module")
def three(broker: ApiBroker) -> Topic:
    """A topic of three partitions."""
    return broker.topic("three", partitions=3)


@pytest.fixture(scope="module")
def half_dead(broker: ApiBroker) -> Topic:
    """One of the two replicas of partition 0 is dead, partition 1 never had a living one."""
    return topic_with_dead_replica(broker, "half-dead", [BROKER_ID, DEAD_BROKER], [DEAD_BROKER, DEAD_BROKER + 1])


def test_18_version_0_takes_an_empty_list_for_all(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("listed")
    assert topic.name in [each.name for each in ask(client, 0, []).topics]


@pytest.mark.parametrize("version", versions(ApiKey.METADATA, 1))
def test_18_null_asks_for_all_and_an_empty_list_for_none(
    three: Topic, client: Client, version: int
) -> None:
    assert three.name in [each.name for each in ask(client, version, None).topics]
    nothing = ask(client, version, [])
    assert list(nothing.topics) == []
    assert [node.node_id for node in nothing.brokers] == [BROKER_ID]


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_18_a_topic_is_described_once_however_often_it_is_asked_for(
    three: Topic, client: Client, version: int
) -> None:
    (found,) = ask_existing(client, version, three.name, three.name)
    assert (found.error_code, found.name) == (0, three.name)
    assert sorted(each.partition_index for each in found.partitions) == [0, 1, 2]
    for partition in found.partitions:
        assert (partition.error_code, partition.leader_id) == (0, BROKER_ID)
        assert (list(partition.replica_nodes), list(partition.isr_nodes)) == ([BROKER_ID], [BROKER_ID])
        assert list(partition.offline_replicas) == []
        assert partition.leader_epoch == (0 if version >= 7 else -1)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_19_first_reply_to_an_automatic_creation_is_leader_not_available(
    broker: ApiBroker, client: Client, version: int
) -> None:
    name = broker.new_name("automatic")
    (first,) = ask(client, version, named(name)).topics
    assert (first.error_code, first.name, list(first.partitions)) == (ErrorCode.LEADER_NOT_AVAILABLE, name, [])
    assert not first.is_internal
    broker.wait_for_leaders(name, 2)


@pytest.mark.parametrize("version", versions(ApiKey.METADATA, 4))
def test_19_nothing_is_created_unless_the_request_allows_it(
    broker: ApiBroker, client: Client, version: int
) -> None:
    name = broker.new_name("unwanted")
    for _ in range(2):
        (found,) = ask(client, version, named(name), allow_auto_topic_creation=False).topics
        assert (found.error_code, found.name) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("name", ["", ".", "..", "a b", "ü", "a/b", "x" * 250, "nul\0"])
def test_19_invalid_names_are_an_invalid_topic(client: Client, version: int, name: str) -> None:
    (found,) = ask(client, version, named(name)).topics
    assert (found.error_code, found.name) == (ErrorCode.INVALID_TOPIC_EXCEPTION, name)


def test_19_an_invalid_name_that_may_not_be_created_is_an_invalid_topic_too(client: Client) -> None:
    (found,) = ask(client, 12, named("a b"), allow_auto_topic_creation=False).topics
    assert found.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_19_too_few_brokers_are_an_invalid_replication_factor(variant: ApiBroker) -> None:
    with variant.connect() as client:
        for _ in range(2):
            (found,) = ask(client, 12, named("too-many-replicas")).topics
            assert found.error_code == ErrorCode.INVALID_REPLICATION_FACTOR


def test_19_existing_and_new_topics_in_one_request(broker: ApiBroker, client: Client) -> None:
    existing, new = broker.topic("existing"), broker.new_name("new")
    found = ask(client, 12, named(new, existing.name, "a b")).topics
    assert {each.name: each.error_code for each in found} == {
        existing.name: 0, new: ErrorCode.LEADER_NOT_AVAILABLE, "a b": ErrorCode.INVALID_TOPIC_EXCEPTION,
    }  # fmt: skip


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_20_a_dead_replica_stays_in_the_lists(half_dead: Topic, client: Client, version: int) -> None:
    (found,) = ask_existing(client, version, half_dead.name)
    (partition,) = found.partitions
    assert (found.error_code, partition.leader_id) == (0, BROKER_ID)
    if version == 0:
        assert partition.error_code == ErrorCode.REPLICA_NOT_AVAILABLE
        assert list(partition.replica_nodes) == [BROKER_ID]
    else:
        assert partition.error_code == 0
        assert list(partition.replica_nodes) == [BROKER_ID, DEAD_BROKER]
    assert list(partition.isr_nodes) == [BROKER_ID]
    assert list(partition.offline_replicas) == ([DEAD_BROKER] if version >= 5 else [])


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_20_a_partition_that_never_had_a_living_replica_is_not_shown(
    half_dead: Topic, client: Client, version: int
) -> None:
    (found,) = ask_existing(client, version, half_dead.name)
    assert (found.error_code, [each.partition_index for each in found.partitions]) == (0, [0])


def test_20_a_topic_that_never_had_a_living_replica_is_unknown(broker: ApiBroker, client: Client) -> None:
    name = broker.new_name("dead")
    assert create_assigned(client, name, [DEAD_BROKER]) == ErrorCode.REQUEST_TIMED_OUT
    (found,) = ask_existing(client, 12, name)
    assert found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_21_brokers_are_named_by_the_listener_of_the_request(broker: ApiBroker, version: int) -> None:
    for address in (broker.address, broker.external_address):
        with broker.connect(address=address) as client:
            answer = ask(client, version, [])
            assert [(node.node_id, node.host, node.port) for node in answer.brokers] == [(BROKER_ID, *address)]
            assert answer.brokers[0].rack is None
            assert answer.controller_id == (BROKER_ID if version >= 1 else -1)


@pytest.mark.parametrize("version", versions(ApiKey.METADATA, 2))
def test_21_the_cluster_id_is_named_from_version_2(client: Client, version: int) -> None:
    cluster_id = ask(client, version, []).cluster_id
    assert len(cluster_id) == 22
    assert cluster_id == ask(client, 12, []).cluster_id


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_CLUSTER))
def test_21_describe_cluster_names_the_same_brokers(broker: ApiBroker, version: int) -> None:
    for address in (broker.address, broker.external_address):
        with broker.connect(address=address) as client:
            answer = client.call(ApiKey.DESCRIBE_CLUSTER, version, DescribeClusterRequest())
            assert answer.error_code == 0
            assert [(node.broker_id, node.host, node.port) for node in answer.brokers] == [(BROKER_ID, *address)]
            assert answer.controller_id == BROKER_ID
            assert answer.cluster_id == ask(client, 12, []).cluster_id
            assert answer.cluster_authorized_operations == NOT_ASKED


@pytest.mark.parametrize("version", versions(ApiKey.DESCRIBE_CLUSTER))
def test_22_describe_cluster_names_authorized_operations_if_asked(client: Client, version: int) -> None:
    request = DescribeClusterRequest(include_cluster_authorized_operations=True)
    answer = client.call(ApiKey.DESCRIBE_CLUSTER, version, request)
    assert answer.cluster_authorized_operations == ALL_CLUSTER_OPERATIONS


@pytest.mark.parametrize(
    ("endpoint_type", "error"),
    [(2, ErrorCode.MISMATCHED_ENDPOINT_TYPE), (3, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE),
     (0, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE)],
)  # fmt: skip
def test_21_describe_cluster_refuses_other_endpoint_types(
    client: Client, endpoint_type: int, error: ErrorCode
) -> None:
    request = DescribeClusterRequest(endpoint_type=endpoint_type)
    answer = client.call(ApiKey.DESCRIBE_CLUSTER, 1, request)
    assert (answer.error_code, list(answer.brokers)) == (error, [])
    assert answer.error_message


@pytest.mark.parametrize("version", versions(ApiKey.METADATA, 10))
def test_22_topic_ids_are_named_from_version_10(three: Topic, client: Client, version: int) -> None:
    (found,) = ask_existing(client, version, three.name)
    assert bytes(found.topic_id) == three.id != ZERO_ID


def test_22_version_12_finds_topics_by_id(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("identified", partitions=2)
    (found,) = ask(client, 12, by_id(topic.id, topic.id)).topics
    assert (found.error_code, found.name, bytes(found.topic_id)) == (0, topic.name, topic.id)
    assert len(found.partitions) == 2


def test_22_an_unknown_id_is_unknown_topic_id_without_a_name(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("identified")
    found = ask(client, 12, by_id(UNKNOWN_ID, topic.id)).topics
    errors = {bytes(each.topic_id): (each.error_code, each.name) for each in found}
    assert errors == {UNKNOWN_ID: (ErrorCode.UNKNOWN_TOPIC_ID, None), topic.id: (0, topic.name)}


def test_22_names_are_not_looked_at_when_ids_are_given(broker: ApiBroker, client: Client) -> None:
    one, other = broker.topic("identified"), broker.topic("named")
    found = ask(client, 12, [*by_id(one.id), *named(other.name)]).topics
    assert [each.name for each in found] == [one.name]


@pytest.mark.parametrize("version", [10, 11])
def test_22_ids_and_null_names_before_version_12_are_an_invalid_request(
    broker: ApiBroker, client: Client, version: int
) -> None:
    topic = broker.topic("identified")
    for wanted, topic_id in ((named(None), ZERO_ID), (by_id(topic.id), topic.id)):
        answer = ask(client, version, wanted)
        (found,) = answer.topics
        assert (found.error_code, found.name) == (ErrorCode.INVALID_REQUEST, "")
        assert bytes(found.topic_id) == topic_id
        assert list(answer.brokers) == []


@pytest.mark.parametrize("version", versions(ApiKey.METADATA, 8))
def test_22_authorized_operations_are_named_if_asked(three: Topic, client: Client, version: int) -> None:
    flags: dict[str, Any] = {"allow_auto_topic_creation": False}
    answer = ask(client, version, named(three.name), **flags)
    assert answer.topics[0].topic_authorized_operations == NOT_ASKED
    assert answer.cluster_authorized_operations == NOT_ASKED
    flags["include_topic_authorized_operations"] = True
    if version <= 10:
        flags["include_cluster_authorized_operations"] = True
    answer = ask(client, version, named(three.name, "unknown"), **flags)
    operations = {each.name: each.topic_authorized_operations for each in answer.topics}
    assert operations == {three.name: ALL_TOPIC_OPERATIONS, "unknown": ALL_TOPIC_OPERATIONS}
    assert answer.cluster_authorized_operations == (ALL_CLUSTER_OPERATIONS if version <= 10 else NOT_ASKED)


def test_22_authorized_operations_of_unknown_ids(client: Client) -> None:
    (found,) = ask(client, 12, by_id(UNKNOWN_ID), include_topic_authorized_operations=True).topics
    assert found.error_code == ErrorCode.UNKNOWN_TOPIC_ID
    assert found.topic_authorized_operations == NOT_ASKED


@pytest.mark.parametrize("version", versions(ApiKey.METADATA, 1))
def test_24_internal_topics_are_marked(
    broker: ApiBroker, three: Topic, client: Client, version: int
) -> None:
    if not broker.metadata("__transaction_state").topics[0].partitions:
        broker.create("__transaction_state")
    found = ask_existing(client, version, "__transaction_state", three.name)
    assert {each.name: each.is_internal for each in found} == {"__transaction_state": True, three.name: False}


def test_24_names_that_differ_in_dot_and_underscore_only_are_not_created_automatically(
    broker: ApiBroker, client: Client
) -> None:
    topic = broker.topic("with.dot")
    twin = topic.name.replace(".", "_")
    for _ in range(2):
        (found,) = ask(client, 12, named(twin)).topics
        assert found.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
