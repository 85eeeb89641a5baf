"""Ottla and Kafka 3.9.1 in one chroot, either of them the controller: every test runs both ways."""
from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.requests import new_producer_id
from tests.integration.apis.wire import Client
from tests.integration.zookeeper.mixed_cluster import (
    BOTH,
    KAFKA,
    OTTLA,
    SESSION_TIMEOUT_MS,
    WAIT_SECONDS,
    MixedCluster,
)
from tests.peers.kafka_cluster import ZooKeeper

pytestmark = pytest.mark.kafka

E = ErrorCode
RECORDS_PER_PARTITION = 200


@pytest.fixture(scope="module", params=[OTTLA, KAFKA], ids=["ottla leads", "kafka leads"])
def leads(request: pytest.FixtureRequest) -> int:
    leader: int = request.param
    return leader


@pytest.fixture(scope="module")
def cluster(leads: int, kafka_libs: Path, zookeeper: ZooKeeper,
            tmp_path_factory: pytest.TempPathFactory) -> Iterator[MixedCluster]:
    cluster = MixedCluster(kafka_libs, zookeeper, tmp_path_factory.mktemp("mixed"), f"/mixed-{leads}")
    try:
        cluster.start(leads)
        yield cluster
    finally:
        cluster.close()


def test_both_list_both_and_the_same_controller(cluster: MixedCluster, leads: int) -> None:
    for asked in (OTTLA, KAFKA):
        assert cluster.live_brokers(asked) == [(OTTLA, cluster.ottla.port), (KAFKA, cluster.kafka.port)]
        assert cluster.controller_of(asked) == leads
        with cluster.client(asked) as client:
            described = client.call(ApiKey.DESCRIBE_CLUSTER, 0, request_class(ApiKey.DESCRIBE_CLUSTER)())
        assert described.controller_id == leads
        assert sorted(broker.broker_id for broker in described.brokers) == [OTTLA, KAFKA]


def test_partitions_are_served_where_they_are_assigned_whomever_clients_know(cluster: MixedCluster) -> None:
    cluster.create("served", [[OTTLA], [KAFKA], [OTTLA], [KAFKA]])
    cluster.wait_for_leaders("served", {0: OTTLA, 1: KAFKA, 2: OTTLA, 3: KAFKA})
    sent = {number: [f"{number}-{index}".encode() for index in range(RECORDS_PER_PARTITION)] for number in range(4)}
    known = {OTTLA: cluster.ottla.bootstrap, KAFKA: cluster.kafka.bootstrap}
    for number, values in sent.items():
        bootstrap = known[KAFKA if number < 2 else OTTLA]
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        for value in values:
            producer.produce("served", value, partition=number)
        assert producer.flush(WAIT_SECONDS) == 0
    for bootstrap in known.values():
        assert _consume(bootstrap, "served", range(4)) == sent
    assert sorted(cluster.log_files(OTTLA, "served")) == [0, 2]
    assert sorted(cluster.log_files(KAFKA, "served")) == [1, 3]


def _consume(bootstrap: str, topic: str, partitions: range) -> dict[int, list[bytes]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    received: dict[int, list[bytes]] = {number: [] for number in partitions}
    deadline = time.monotonic() + WAIT_SECONDS
    while any(len(values) < RECORDS_PER_PARTITION for values in received.values()) and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            assert message.error() is None, message.error()
            received[message.partition()].append(message.value())
    consumer.close()
    return received


def test_overrides_of_a_topic_hold_on_either_broker_and_so_do_their_changes(cluster: MixedCluster) -> None:
    """Segments of 10,000 bytes from the start; larger ones once Kafka was asked to change that."""
    cluster.create("small", [[OTTLA], [KAFKA]], segment_bytes="10000")
    for broker_id, number in ((OTTLA, 0), (KAFKA, 1)):
        for _ in range(3):
            assert cluster.produce(broker_id, "small", number, bytes(8000)) == E.NONE
        assert len(cluster.log_files(broker_id, "small")[number]) == 3
    _set_override(cluster, "small", "segment.bytes", "1000000")
    for broker_id, number in ((OTTLA, 0), (KAFKA, 1)):
        for _ in range(5):
            assert cluster.produce(broker_id, "small", number, bytes(8000)) == E.NONE
        assert len(cluster.log_files(broker_id, "small")[number]) == 3


def _set_override(cluster: MixedCluster, topic: str, name: str, value: str) -> None:
    """At Kafka; on return both brokers say so."""
    request = request_class(ApiKey.INCREMENTAL_ALTER_CONFIGS)
    resource = request.AlterConfigsResource(
        resource_type=2, resource_name=topic, configs=[request.AlterableConfig(name=name, value=value)])
    with cluster.client(KAFKA) as client:
        (answer,) = client.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, request(resources=[resource])).responses
    assert answer.error_code == E.NONE, answer
    cluster.wait_on(BOTH, lambda each: _override(cluster, each, topic, name) == value, f"{name}={value}")


def _override(cluster: MixedCluster, broker_id: int, topic: str, name: str) -> str:
    request = request_class(ApiKey.DESCRIBE_CONFIGS)
    with cluster.client(broker_id) as client:
        (result,) = client.call(ApiKey.DESCRIBE_CONFIGS, 1, request(resources=[request.DescribeConfigsResource(
            resource_type=2, resource_name=topic, configuration_keys=[name])])).results
    value: str = result.configs[0].value
    return value


@pytest.mark.parametrize("asked", [OTTLA, KAFKA])
def test_a_topic_is_created_by_being_asked_for_at_either(cluster: MixedCluster, asked: int) -> None:
    topic = f"wanted-{asked}"
    cluster.metadata(asked, [topic], create=True)
    cluster.wait_on(BOTH, lambda each: len(cluster.partitions(each, topic)) == 4, f"knows {topic}")
    leaders = cluster.leaders(OTTLA, topic)
    assert sorted(leaders.values()) == [OTTLA, OTTLA, KAFKA, KAFKA]
    for number, leader in leaders.items():
        cluster.wait_on([leader], lambda each, number=number: cluster.produce(each, topic, number, b"x") == E.NONE,
                        f"{topic}-{number} takes records")


def test_producer_ids_of_either_are_nobody_elses(cluster: MixedCluster) -> None:
    given: list[int] = []
    for broker_id in (OTTLA, KAFKA):
        with cluster.client(broker_id) as client:
            given += [new_producer_id(client) for _ in range(1500)]
    assert len(set(given)) == 3000


def test_admin_requests_go_to_the_controller_alone(cluster: MixedCluster, leads: int) -> None:
    request = request_class(ApiKey.CREATE_TOPICS)
    message = request(timeout_ms=1000, topics=[request.CreatableTopic(name="nowhere", num_partitions=1,
                                                                      replication_factor=1)])
    with cluster.client(OTTLA + KAFKA - leads) as client:
        (result,) = client.call(ApiKey.CREATE_TOPICS, 5, message).topics
    assert result.error_code == E.NOT_CONTROLLER


def test_topics_grow_and_go_on_both(cluster: MixedCluster, leads: int) -> None:
    cluster.create("passing", [[OTTLA], [KAFKA]])
    with cluster.client(leads) as client:
        _grow(client, "passing", [OTTLA, KAFKA])
        cluster.wait_for_leaders("passing", {0: OTTLA, 1: KAFKA, 2: OTTLA, 3: KAFKA})
        hosted = {OTTLA: [0, 2], KAFKA: [1, 3]}
        cluster.wait_on(BOTH, lambda each: sorted(cluster.log_files(each, "passing")) == hosted[each], "its logs")
        delete = request_class(ApiKey.DELETE_TOPICS)
        (deleted,) = client.call(ApiKey.DELETE_TOPICS, 4, delete(
            topic_names=["passing"], timeout_ms=10_000)).responses
    assert deleted.error_code == E.NONE
    cluster.wait_on(BOTH, lambda each: cluster.log_files(each, "passing") == {}, "has no log of it")


def _grow(client: Client, topic: str, broker_ids: list[int]) -> None:
    """By a partition on each of these brokers, from two."""
    grow = request_class(ApiKey.CREATE_PARTITIONS)
    wanted = grow.CreatePartitionsTopic(name=topic, count=2 + len(broker_ids), assignments=[
        grow.CreatePartitionsAssignment(broker_ids=[broker_id]) for broker_id in broker_ids])
    (result,) = client.call(ApiKey.CREATE_PARTITIONS, 2, grow(timeout_ms=10_000, topics=[wanted])).results
    assert result.error_code == E.NONE, result


@pytest.mark.parametrize("replicas", [[OTTLA, KAFKA], [KAFKA, OTTLA]])
def test_a_replicated_partition_is_served_by_kafka_and_ottla_claims_nothing(
        cluster: MixedCluster, replicas: list[int]) -> None:
    topic = f"replicated-{replicas[0]}"
    cluster.create(topic, [replicas])
    cluster.wait_on(BOTH, lambda each: cluster.partitions(each, topic)[0] == (KAFKA, replicas, [KAFKA], [OTTLA]),
                    "Ottla's replica is offline")
    assert cluster.produce(KAFKA, topic, 0, b"x") == E.NONE
    assert cluster.produce(OTTLA, topic, 0, b"x") == E.NOT_LEADER_OR_FOLLOWER
    assert cluster.log_files(OTTLA, topic) == {}
    assert "this version does not replicate between brokers" in cluster.ottla.log_text()


# Deaths and returns: from here on the cluster is shaken


def test_the_follower_stops_and_comes_back(cluster: MixedCluster, leads: int) -> None:
    follower = OTTLA + KAFKA - leads
    cluster.create("returning", [[follower], [leads]])
    assert cluster.produce(follower, "returning", 0, b"x") == E.NONE
    cluster.brokers[follower].stop()
    cluster.wait_for_leaders("returning", {0: -1, 1: leads}, [leads])
    cluster.brokers[follower].start()
    cluster.wait_for_brokers(OTTLA, KAFKA)
    cluster.wait_for_leaders("returning", {0: follower, 1: leads})
    assert cluster.produce(follower, "returning", 0, b"y") == E.NONE


def test_ottlas_front_end_dies_and_whoever_leads_tells_the_next_one_everything(cluster: MixedCluster) -> None:
    cluster.create("resumed", [[OTTLA], [KAFKA]])
    cluster.ottla.kill_process("front end")
    cluster.ottla.wait_until_serving()
    cluster.wait_for_brokers(OTTLA, KAFKA)
    cluster.wait_for_leaders("resumed", {0: OTTLA, 1: KAFKA})
    cluster.wait_until(lambda: cluster.produce(OTTLA, "resumed", 0, b"x") == E.NONE, "Ottla takes records")


def test_the_controller_dies_and_the_other_one_leads(cluster: MixedCluster, leads: int) -> None:
    survivor = OTTLA + KAFKA - leads
    cluster.create("survived", [[leads], [survivor]])
    killed = time.monotonic()
    cluster.brokers[leads].kill()
    cluster.wait_until(lambda: cluster.controller_of(survivor) == survivor, "the other broker leads")
    assert time.monotonic() - killed < SESSION_TIMEOUT_MS / 1000 + 4
    cluster.wait_for_leaders("survived", {0: -1, 1: survivor}, [survivor])
    assert cluster.produce(survivor, "survived", 1, b"x") == E.NONE
    cluster.brokers[leads].start()
    cluster.wait_for_brokers(OTTLA, KAFKA)
    cluster.wait_for_leaders("survived", {0: leads, 1: survivor})
    assert cluster.controller_of(leads) == survivor
    assert cluster.produce(leads, "survived", 0, b"x") == E.NONE
