"""Kafka's nodes: bytes as a Kafka 3.9.1 wrote them, older versions, and hostile content."""
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import znodes
from controller.cluster import (
    RECOVERED,
    RECOVERING,
    Broker,
    Endpoint,
    LeaderAndIsr,
    ReplicaAssignment,
    TopicPartition,
)
from controller.znodes import (
    ConfigChange,
    ControllerRegistration,
    ProducerIdBlock,
    TopicAssignment,
    ZnodeFormatError,
)

PLAIN = Endpoint("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 29092)
KEY = TopicPartition("t", 0)
TOPIC_ID = bytes(range(16))
TOPIC_ID_TEXT = "AAECAwQFBgcICQoLDA0ODw"

# As written by a real Kafka 3.9.1.
FROM_KAFKA: dict[str, tuple[bytes, bytes]] = {
    "broker": (
        b'{"features":{},"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"endpoints":'
        b'["PLAINTEXT://127.0.0.1:29092"],"rack":"r1","jmx_port":-1,"port":29092,"host":"127.0.0.1",'
        b'"version":5,"timestamp":"1795372821571"}',
        znodes.encode_broker((PLAIN,), "r1", 1795372821571, 5)),
    "topic": (
        b'{"partitions":{"0":[1],"1":[1]},"topic_id":"AAECAwQFBgcICQoLDA0ODw","adding_replicas":{},'
        b'"removing_replicas":{},"version":3}',
        znodes.encode_topic(TopicAssignment(TOPIC_ID, {0: ReplicaAssignment((1,)), 1: ReplicaAssignment((1,))}))),
    "state": (
        b'{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":0,"isr":[1]}',
        znodes.encode_partition_state(LeaderAndIsr(1, 0, (1,), RECOVERED, 0, 1))),
    "cluster id": (
        b'{"version":"1","id":"jLhwjswiTj2sbaapPzBaKQ"}', znodes.encode_cluster_id("jLhwjswiTj2sbaapPzBaKQ")),
    "config": (
        b'{"version":1,"config":{"retention.ms":"1000"}}', znodes.encode_config({"retention.ms": "1000"})),
    "no config": (b'{"version":1,"config":{}}', znodes.encode_config({})),
    "controller": (
        b'{"version":2,"brokerid":1,"timestamp":"1795372821753","kraftControllerEpoch":-1}',
        znodes.encode_controller(1, 1795372821753)),
    "controller epoch": (b"1", znodes.encode_controller_epoch(1)),
    "feature": (b'{"features":{},"version":2,"status":1}', znodes.encode_feature(2, enabled=True)),
}


@pytest.mark.parametrize("node", FROM_KAFKA)
def test_nodes_say_what_kafka_s_say(node: str) -> None:
    kafkas, ours = FROM_KAFKA[node]
    assert json.loads(ours) == json.loads(kafkas)
    assert b" " not in ours


def test_paths() -> None:
    assert znodes.partition_state_path("t", 3) == "/brokers/topics/t/partitions/3/state"
    assert znodes.partition_path("t", 3) == "/brokers/topics/t/partitions/3"
    assert znodes.partitions_path("t") == "/brokers/topics/t/partitions"
    assert znodes.topic_path("t") == "/brokers/topics/t"
    assert znodes.broker_path(7) == "/brokers/ids/7"
    assert znodes.config_path("topics", "t") == "/config/topics/t"
    assert znodes.delete_topic_path("t") == "/admin/delete_topics/t"


def test_sequence_numbers_compare_as_numbers() -> None:
    assert znodes.sequence_number("config_change_0000000012", "config_change_") == 12
    assert znodes.sequence_number("config_change_", "config_change_") is None
    assert znodes.sequence_number("other_0000000012", "config_change_") is None
    assert znodes.sequence_number("config_change_00x", "config_change_") is None


# Brokers


def test_broker_without_plaintext_listener_has_no_host() -> None:
    node = json.loads(znodes.encode_broker((Endpoint("CLIENTS", "SSL", "h", 1),), None, 0, 5))
    assert (node["host"], node["port"]) == (None, -1)
    assert "rack" not in node


def test_old_broker_versions_leave_out_what_they_did_not_know() -> None:
    four = json.loads(znodes.encode_broker((PLAIN,), "r", 0, 4))
    two = json.loads(znodes.encode_broker((PLAIN,), "r", 0, 2))
    assert "features" not in four and four["rack"] == "r"
    assert "listener_security_protocol_map" not in two and "rack" not in two


def test_broker_round_trip_keeps_ipv6_and_named_listeners() -> None:
    endpoints = (Endpoint("CLIENTS", "SASL_SSL", "::1", 9093), PLAIN)
    data = znodes.encode_broker(endpoints, "r", 0, 5)
    assert znodes.decode_broker(3, data, 77) == Broker(3, 77, endpoints, "r", {})


def test_broker_version_1_has_one_plaintext_endpoint() -> None:
    broker = znodes.decode_broker(1, b'{"version":1,"host":"h","port":9092,"jmx_port":9}', 5)
    assert broker.endpoints == (Endpoint("PLAINTEXT", "PLAINTEXT", "h", 9092),)


def test_broker_version_2_takes_the_protocol_from_the_name() -> None:
    broker = znodes.decode_broker(1, b'{"version":2,"endpoints":["SSL://h:9093"]}', 5)
    assert broker.endpoints == (Endpoint("SSL", "SSL", "h", 9093),)


@pytest.mark.parametrize("change", [
    {"version": 0}, {"endpoints": "PLAINTEXT://h:1"}, {"endpoints": ["h:1"]}, {"endpoints": [7]},
    {"endpoints": ["PLAINTEXT://h:99999"]}, {"endpoints": ["UNMAPPED://h:1"]}, {"rack": 7},
    {"listener_security_protocol_map": {"PLAINTEXT": "TELNET"}}, {"listener_security_protocol_map": []},
    {"features": {"f": 1}}, {"features": {"f": {"min_version": "1"}}},
])
def test_bad_brokers(change: dict[str, Any]) -> None:
    node = json.loads(FROM_KAFKA["broker"][0]) | change
    with pytest.raises(ZnodeFormatError, match="/brokers/ids/1"):
        znodes.decode_broker(1, json.dumps(node).encode(), 0)


# Topics


def test_topic_round_trip_with_a_reassignment() -> None:
    moving = ReplicaAssignment((3, 1, 2), adding_replicas=(3,), removing_replicas=(2,))
    topic = TopicAssignment(TOPIC_ID, {0: moving, 1: ReplicaAssignment((1, 2))})
    data = znodes.encode_topic(topic)
    assert json.loads(data)["adding_replicas"] == {"0": [3]}
    assert znodes.decode_topic("t", data) == topic
    assert moving.target_replicas == (3, 1)


@pytest.mark.parametrize("data", [
    b'{"version":1,"partitions":{"0":[1,2]}}',
    b'{"version":2,"partitions":{"0":[1,2]},"adding_replicas":{},"removing_replicas":{}}',
])
def test_topics_of_older_versions_have_no_id(data: bytes) -> None:
    assert znodes.decode_topic("t", data) == TopicAssignment(None, {0: ReplicaAssignment((1, 2))})


@pytest.mark.parametrize("change", [
    {"partitions": [1]}, {"partitions": {"x": [1]}}, {"partitions": {"-1": [1]}}, {"partitions": {"0": 1}},
    {"partitions": {"0": ["1"]}}, {"partitions": {"0": [True]}}, {"partitions": {"0": [-1]}},
    {"partitions": {"0": [1, 1]}}, {"partitions": {"00": [1]}}, {"partitions": {"99999999999": [1]}},
    {"partitions": {"0": [2**31]}}, {"adding_replicas": {"0": "x"}}, {"topic_id": 7}, {"topic_id": "short"},
    {"topic_id": "!" * 22},
])
def test_bad_topics(change: dict[str, Any]) -> None:
    node = json.loads(FROM_KAFKA["topic"][0]) | change
    with pytest.raises(ZnodeFormatError, match="/brokers/topics/t"):
        znodes.decode_topic("t", json.dumps(node).encode())


# Partition states


def test_state_takes_its_partition_epoch_from_the_node_s_version() -> None:
    state = znodes.decode_partition_state(KEY, FROM_KAFKA["state"][0], 12)
    assert state == LeaderAndIsr(1, 0, (1,), RECOVERED, 12, 1)


def test_recovery_state_is_written_only_while_recovering() -> None:
    recovering = LeaderAndIsr(1, 3, (1,), RECOVERING, 4, 2)
    data = znodes.encode_partition_state(recovering)
    assert json.loads(data)["leader_recovery_state"] == 1
    assert znodes.decode_partition_state(KEY, data, 4) == recovering


@pytest.mark.parametrize("change", [
    {"leader": -2}, {"leader": "1"}, {"leader": True}, {"leader_epoch": -1}, {"leader_epoch": 2**31},
    {"isr": None}, {"isr": {"1": 1}}, {"isr": [1, 1]}, {"controller_epoch": 1.5}, {"leader_recovery_state": 2},
])
def test_bad_states(change: dict[str, Any]) -> None:
    node = json.loads(FROM_KAFKA["state"][0]) | change
    with pytest.raises(ZnodeFormatError, match="/brokers/topics/t/partitions/0/state"):
        znodes.decode_partition_state(KEY, json.dumps(node).encode(), 0)


# The rest


def test_controller_of_a_kraft_migration_is_known_by_its_epoch() -> None:
    data = b'{"version":2,"brokerid":3000,"timestamp":"1","kraftControllerEpoch":7}'
    assert znodes.decode_controller(data) == ControllerRegistration(3000, 7)
    assert znodes.decode_controller(b'{"version":1,"brokerid":2,"timestamp":"1"}') == ControllerRegistration(2, -1)


@pytest.mark.parametrize("data", [None, b"", b"-1", b"1x", b"{}", b"\xff", b"99999999999"])
def test_bad_controller_epochs(data: bytes | None) -> None:
    with pytest.raises(ZnodeFormatError, match="/controller_epoch"):
        znodes.decode_controller_epoch(data)


def test_producer_id_block_keeps_numbers_in_strings() -> None:
    data = znodes.encode_producer_id_block(ProducerIdBlock(1, 1000, 1999))
    assert json.loads(data) == {"version": 1, "broker": 1, "block_start": "1000", "block_end": "1999"}
    assert znodes.decode_producer_id_block(data) == ProducerIdBlock(1, 1000, 1999)
    assert znodes.decode_producer_id_block(None) is None


@pytest.mark.parametrize(("start", "end"), [("5", "4"), ("-1", "4"), ("x", "4"), (0, 4), ("0", str(2**63))])
def test_bad_producer_id_blocks(start: Any, end: Any) -> None:
    data = json.dumps({"version": 1, "broker": 1, "block_start": start, "block_end": end}).encode()
    with pytest.raises(ZnodeFormatError, match="/latest_producer_id_block"):
        znodes.decode_producer_id_block(data)


def test_feature_node_is_rewritten_only_when_it_differs() -> None:
    enabled = znodes.encode_feature(2, enabled=True)
    assert znodes.refreshed_feature(enabled, 2, enabled=True) is None
    disabled = znodes.refreshed_feature(enabled, 1, enabled=False)
    assert json.loads(disabled or b"") == {"version": 1, "status": 0, "features": {}}


def test_finalized_features_stay_while_enabled() -> None:
    old = b'{"version":1,"status":1,"features":{"f":{"max_version_level":2}}}'
    refreshed = json.loads(znodes.refreshed_feature(old, 2, enabled=True) or b"")
    assert refreshed == {"version": 2, "status": 1, "features": {"f": {"max_version_level": 2}}}
    cleared = json.loads(znodes.refreshed_feature(old, 1, enabled=False) or b"")
    assert cleared["features"] == {}


def test_config_change_of_both_versions() -> None:
    change = ConfigChange("users", "a/clients/b")
    assert znodes.decode_config_change("/p", b'{"version":2,"entity_path":"users/a/clients/b"}') == change
    assert znodes.decode_config_change(
        "/p", b'{"version":1,"entity_type":"topics","entity_name":"t"}') == ConfigChange("topics", "t")


@pytest.mark.parametrize("data", [
    b'{"version":3,"entity_path":"topics/t"}', b'{"version":2,"entity_path":"topics"}', b'{"version":2}',
    b'{"version":2,"entity_path":7}', b"[]", b"null",
])
def test_bad_config_changes(data: bytes) -> None:
    with pytest.raises(ZnodeFormatError):
        znodes.decode_config_change("/p", data)


def test_entity_without_data_has_no_overrides() -> None:
    assert znodes.decode_config("/p", None) == {}
    assert znodes.decode_config("/p", b'{"version":1}') == {}
    with pytest.raises(ZnodeFormatError):
        znodes.decode_config("/p", b'{"version":1,"config":{"a":1}}')


DECODERS: dict[str, Callable[[bytes], Any]] = {
    "controller": znodes.decode_controller,
    "controller epoch": znodes.decode_controller_epoch,
    "cluster id": znodes.decode_cluster_id,
    "producer ids": znodes.decode_producer_id_block,
    "broker": lambda data: znodes.decode_broker(1, data, 0),
    "topic": lambda data: znodes.decode_topic("t", data),
    "state": lambda data: znodes.decode_partition_state(KEY, data, 0),
    "config": lambda data: znodes.decode_config("/p", data),
    "config change": lambda data: znodes.decode_config_change("/p", data),
    "log dir event": lambda data: znodes.decode_log_dir_event("/p", data),
    "feature": lambda data: znodes.refreshed_feature(data, 2, enabled=True),
}
KEYS = st.sampled_from([
    "version", "brokerid", "kraftControllerEpoch", "id", "broker", "block_start", "block_end", "partitions",
    "adding_replicas", "removing_replicas", "topic_id", "leader", "leader_epoch", "isr", "controller_epoch",
    "config", "entity_path", "endpoints", "rack", "features", "status", "listener_security_protocol_map", "0"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=12)


@pytest.mark.parametrize("node", DECODERS)
@given(data=st.binary(max_size=40) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_decode_or_are_refused(node: str, data: bytes) -> None:
    try:
        DECODERS[node](data)
    except ZnodeFormatError as error:
        assert len(str(error)) < 400


@pytest.mark.parametrize("node", DECODERS)
def test_deep_nesting_and_huge_numbers_are_refused(node: str) -> None:
    for data in (b"[" * 100_000, b'{"version":' + b"9" * 5000 + b"}"):
        with pytest.raises(ZnodeFormatError):
            DECODERS[node](data)
