"""Kafka's nodes in ZooKeeper: every path and every JSON value, written as Kafka 3.9 writes them (PURE).

What is read was perhaps written by other brokers, old tools or hands: `decode_*` take any bytes and give a
well-formed value or raise `ZnodeFormatError` naming node and fault; unknown keys are ignored, as in Kafka.
Numbers that Kafka keeps as strings (cluster id version, timestamps, producer id block) are kept so.

Runs in: controller.
"""
from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from broker.protocol.primitives import uuid_from_text, uuid_to_text
from controller.cluster import (
    RECOVERED,
    RECOVERING,
    Broker,
    Endpoint,
    LeaderAndIsr,
    ReplicaAssignment,
    TopicPartition,
)

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
PRODUCER_ID_BLOCK_SIZE = 1000

CONTROLLER = "/controller"
CONTROLLER_EPOCH = "/controller_epoch"
CLUSTER_ID = "/cluster/id"
BROKER_IDS = "/brokers/ids"
BROKER_SEQUENCE_ID = "/brokers/seqid"
TOPICS = "/brokers/topics"
DELETE_TOPICS = "/admin/delete_topics"
CONFIG_CHANGES = "/config/changes"
ISR_CHANGE_NOTIFICATION = "/isr_change_notification"
LOG_DIR_EVENT_NOTIFICATION = "/log_dir_event_notification"
PRODUCER_ID_BLOCK = "/latest_producer_id_block"
FEATURE = "/feature"

PERSISTENT_PATHS = (
    "/consumers", BROKER_IDS, TOPICS, CONFIG_CHANGES, DELETE_TOPICS, BROKER_SEQUENCE_ID,
    ISR_CHANGE_NOTIFICATION, PRODUCER_ID_BLOCK, LOG_DIR_EVENT_NOTIFICATION, "/config/topics",
    "/config/clients", "/config/users", "/config/brokers", "/config/ips",
)
"""Made by every broker at its start, with null data."""

TOPIC_CONFIGS = "topics"
BROKER_CONFIGS = "brokers"
DEFAULT_ENTITY = "<default>"

CONFIG_CHANGE_PREFIX = "config_change_"

_ENDPOINT = re.compile(r"(.*)://\[?([0-9a-zA-Z\-%._:]*)\]?:([0-9]+)")
_DEFAULT_PROTOCOLS = {name: name for name in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")}
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,9}")
_NUMBER = re.compile(r"-?[0-9]{1,19}")


class ZnodeFormatError(ValueError):
    """A node holds what none of Kafka's versions writes there."""

    def __init__(self, path: str, fault: str) -> None:
        super().__init__(f"{path}: {fault}")
        self.path = path
        self.fault = fault


# Paths


def broker_path(broker_id: int) -> str:
    return f"{BROKER_IDS}/{broker_id}"


def topic_path(topic: str) -> str:
    return f"{TOPICS}/{topic}"


def partitions_path(topic: str) -> str:
    return f"{TOPICS}/{topic}/partitions"


def partition_path(topic: str, partition: int) -> str:
    return f"{TOPICS}/{topic}/partitions/{partition}"


def partition_state_path(topic: str, partition: int) -> str:
    return f"{TOPICS}/{topic}/partitions/{partition}/state"


def config_path(entity_type: str, entity: str) -> str:
    return f"/config/{entity_type}/{entity}"


def delete_topic_path(topic: str) -> str:
    return f"{DELETE_TOPICS}/{topic}"


def sequence_number(name: str, prefix: str) -> int | None:
    """The number of a sequential child, None if the name is not of that kind."""
    digits = name.removeprefix(prefix)
    return int(digits) if digits != name and digits.isascii() and digits.isdigit() else None


# JSON in general


_encode_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _encode(value: Mapping[str, Any]) -> bytes:
    return _encode_json(value).encode()


class _Reader:
    """Takes values out of one node's JSON object, with the node's path in every error."""

    def __init__(self, path: str, data: bytes | None) -> None:
        self.path = path
        try:
            value = json.loads(data or b"")
        except (ValueError, RecursionError) as error:
            raise ZnodeFormatError(path, f"no JSON: {error}") from error
        if not isinstance(value, dict):
            self.fail("no JSON object")
        self._object: dict[str, Any] = value

    def fail(self, fault: str) -> NoReturn:
        raise ZnodeFormatError(self.path, fault)

    def get(self, key: str) -> Any:
        """The value as JSON gave it; None when missing or null."""
        return self._object.get(key)

    def integer(self, key: str, low: int = -INT32_MAX - 1, high: int = INT32_MAX,
                default: int | None = None) -> int:
        value = self._object.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fail(f"{key} is {_shown(value)}, not an integer from {low} to {high}")
        return value

    def text(self, key: str) -> str:
        value = self._object.get(key)
        if not isinstance(value, str):
            self.fail(f"{key} is {_shown(value)}, not a string")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self._object.get(key) is None else self.text(key)

    def number_in_text(self, key: str) -> int:
        text = self.text(key)
        if not _NUMBER.fullmatch(text) or abs(int(text)) > INT64_MAX:
            self.fail(f"{key} is {_shown(text)}, not an integer of 64 bits in a string")
        return int(text)

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._object.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fail(f"{key} is {_shown(value)}, not an object")
        return value

    def broker_ids(self, value: Any, what: str) -> tuple[int, ...]:
        """A list of distinct broker ids."""
        if not isinstance(value, list):
            self.fail(f"{what} is {_shown(value)}, not a list of broker ids")
        for item in value:
            if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= INT32_MAX:
                self.fail(f"{what} holds {_shown(item)}, which is no broker id")
        if len(set(value)) < len(value):
            self.fail(f"{what} names a broker twice: {_shown(value)}")
        return tuple(value)

    def partition_number(self, text: str) -> int:
        if not _DECIMAL.fullmatch(text) or int(text) > INT32_MAX:
            self.fail(f"{_shown(text)} is no partition number")
        return int(text)


def _shown(value: Any) -> str:
    """A value from outside in an error text: short, whatever it is."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# Controller


@dataclass(frozen=True, slots=True)
class ControllerRegistration:
    """kraft_epoch above 0: a KRaft controller holds the node during a migration, nobody may take it."""

    broker_id: int
    kraft_epoch: int


def encode_controller(broker_id: int, timestamp_ms: int) -> bytes:
    return _encode({"version": 2, "brokerid": broker_id, "timestamp": str(timestamp_ms),
                    "kraftControllerEpoch": -1})


def decode_controller(data: bytes | None) -> ControllerRegistration:
    node = _Reader(CONTROLLER, data)
    return ControllerRegistration(node.integer("brokerid"), node.integer("kraftControllerEpoch", default=-1))


def encode_controller_epoch(epoch: int) -> bytes:
    return str(epoch).encode()


def decode_controller_epoch(data: bytes | None) -> int:
    text = (data or b"").decode("ascii", "replace")
    if not _DECIMAL.fullmatch(text) or int(text) > INT32_MAX:
        raise ZnodeFormatError(CONTROLLER_EPOCH, f"{_shown(text)} is no epoch")
    return int(text)


# Cluster, features, producer ids


def encode_cluster_id(cluster_id: str) -> bytes:
    return _encode({"version": "1", "id": cluster_id})


def decode_cluster_id(data: bytes | None) -> str:
    node = _Reader(CLUSTER_ID, data)
    cluster_id = node.text("id")
    if not cluster_id:
        node.fail("the cluster id is empty")
    return cluster_id


def encode_feature(version: int, *, enabled: bool, features: Mapping[str, Any] | None = None) -> bytes:
    """Finalized features of the cluster. version: 2 from inter-broker version 3.3, else 1."""
    return _encode({"version": version, "status": int(enabled), "features": features or {}})


def refreshed_feature(data: bytes | None, version: int, *, enabled: bool) -> bytes | None:
    """What an existing feature node must say under this version; None if it says so already. Features that
    were finalized stay as long as the node stays enabled."""
    node = _Reader(FEATURE, data)
    status = node.integer("status", 0, 1)
    features = node.mapping("features")
    kept = features if enabled and status else {}
    if (node.integer("version", 1, 2), bool(status), features) == (version, enabled, kept):
        return None
    return encode_feature(version, enabled=enabled, features=kept)


@dataclass(frozen=True, slots=True)
class ProducerIdBlock:
    """block_end: the last id of the block, inclusive."""

    broker_id: int
    block_start: int
    block_end: int


def encode_producer_id_block(block: ProducerIdBlock) -> bytes:
    return _encode({"version": 1, "broker": block.broker_id, "block_start": str(block.block_start),
                    "block_end": str(block.block_end)})


def decode_producer_id_block(data: bytes | None) -> ProducerIdBlock | None:
    """None: no block was given out yet."""
    if data is None:
        return None
    node = _Reader(PRODUCER_ID_BLOCK, data)
    block = ProducerIdBlock(node.integer("broker"), node.number_in_text("block_start"),
                            node.number_in_text("block_end"))
    if not 0 <= block.block_start <= block.block_end:
        node.fail(f"the block from {block.block_start} to {block.block_end} is none")
    return block


# Brokers


def encode_broker(endpoints: Sequence[Endpoint], rack: str | None, timestamp_ms: int, version: int) -> bytes:
    """A registration. version: 5 from inter-broker version 2.7, 4 from 0.10.0-IV1, else 2.

    host and port are for clients of long ago, which know PLAINTEXT only.
    """
    plaintext = next((endpoint for endpoint in endpoints if endpoint.security_protocol == "PLAINTEXT"), None)
    value: dict[str, Any] = {
        "version": version,
        "host": plaintext.host if plaintext else None,
        "port": plaintext.port if plaintext else -1,
        "endpoints": [_connection_string(endpoint) for endpoint in endpoints],
        "jmx_port": -1,
        "timestamp": str(timestamp_ms),
    }
    if rack is not None and version >= 3:
        value["rack"] = rack
    if version >= 4:
        value["listener_security_protocol_map"] = {
            endpoint.listener: endpoint.security_protocol for endpoint in endpoints}
    if version >= 5:
        value["features"] = {}
    return _encode(value)


def _connection_string(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{endpoint.listener}://{host}:{endpoint.port}"


def decode_broker(broker_id: int, data: bytes | None, czxid: int) -> Broker:
    """czxid: of the node; it is the broker's epoch."""
    node = _Reader(broker_path(broker_id), data)
    version = node.integer("version", low=1)
    if version == 1:
        endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", node.text("host"), node.integer("port"))
        return Broker(broker_id, czxid, (endpoint,))
    protocols = node.mapping("listener_security_protocol_map") or _DEFAULT_PROTOCOLS
    texts = node.get("endpoints")
    if not isinstance(texts, list):
        node.fail(f"endpoints is {_shown(texts)}, not a list")
    endpoints = tuple(_decode_endpoint(node, text, protocols) for text in texts)
    return Broker(broker_id, czxid, endpoints, node.optional_text("rack"), _decode_features(node))


def _decode_endpoint(node: _Reader, text: Any, protocols: Mapping[str, Any]) -> Endpoint:
    match = _ENDPOINT.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[3]) > 65535:
        node.fail(f"endpoint {_shown(text)} is not NAME://host:port")
    name = match[1].upper()
    protocol = protocols.get(name)
    if protocol not in _DEFAULT_PROTOCOLS:
        node.fail(f"listener {_shown(name)} has security protocol {_shown(protocol)}")
    return Endpoint(name, protocol, match[2], int(match[3]))


def _decode_features(node: _Reader) -> dict[str, dict[str, int]]:
    features = node.mapping("features")
    for name, levels in features.items():
        if not isinstance(levels, dict) or not all(type(level) is int for level in levels.values()):
            node.fail(f"feature {_shown(name)} has levels {_shown(levels)}")
    return features


# Topics and partitions


@dataclass(frozen=True, slots=True)
class TopicAssignment:
    """topic_id: 16 bytes, None in nodes written before inter-broker version 2.8."""

    topic_id: bytes | None
    partitions: Mapping[int, ReplicaAssignment]


def encode_topic(topic: TopicAssignment) -> bytes:
    partitions = sorted(topic.partitions.items())
    value: dict[str, Any] = {
        "version": 3,
        "partitions": {str(number): list(assignment.replicas) for number, assignment in partitions},
        "adding_replicas": {str(number): list(assignment.adding_replicas)
                            for number, assignment in partitions if assignment.adding_replicas},
        "removing_replicas": {str(number): list(assignment.removing_replicas)
                              for number, assignment in partitions if assignment.removing_replicas},
    }
    if topic.topic_id is not None:
        value["topic_id"] = uuid_to_text(topic.topic_id)
    return _encode(value)


def decode_topic(topic: str, data: bytes | None) -> TopicAssignment:
    """Versions 1 to 3."""
    node = _Reader(topic_path(topic), data)
    adding, removing = node.mapping("adding_replicas"), node.mapping("removing_replicas")
    partitions = {}
    for text, replicas in node.mapping("partitions").items():
        partitions[node.partition_number(text)] = ReplicaAssignment(
            node.broker_ids(replicas, f"partition {text}"),
            node.broker_ids(adding.get(text, []), f"adding_replicas of {text}"),
            node.broker_ids(removing.get(text, []), f"removing_replicas of {text}"))
    topic_id = node.optional_text("topic_id")
    try:
        return TopicAssignment(None if topic_id is None else uuid_from_text(topic_id), partitions)
    except ValueError as error:
        raise ZnodeFormatError(node.path, f"topic_id {_shown(topic_id)} is no UUID") from error


def encode_partition_state(state: LeaderAndIsr) -> bytes:
    value: dict[str, Any] = {
        "version": 1, "leader": state.leader, "leader_epoch": state.leader_epoch,
        "controller_epoch": state.controller_epoch, "isr": list(state.isr),
    }
    if state.leader_recovery_state != RECOVERED:
        value["leader_recovery_state"] = state.leader_recovery_state
    return _encode(value)


def decode_partition_state(partition: TopicPartition, data: bytes | None, version: int) -> LeaderAndIsr:
    """version: of the node; it is the partition epoch."""
    node = _Reader(partition_state_path(*partition), data)
    return LeaderAndIsr(
        leader=node.integer("leader", low=-1),
        leader_epoch=node.integer("leader_epoch", low=0),
        isr=node.broker_ids(node.get("isr"), "isr"),
        leader_recovery_state=node.integer("leader_recovery_state", RECOVERED, RECOVERING, default=RECOVERED),
        partition_epoch=version,
        controller_epoch=node.integer("controller_epoch", low=0),
    )


# Configuration


def encode_config(config: Mapping[str, str]) -> bytes:
    return _encode({"version": 1, "config": dict(config)})


def decode_config(path: str, data: bytes | None) -> dict[str, str]:
    """Overrides of one entity; nodes without data (a user above its clients) have none."""
    if not data:
        return {}
    node = _Reader(path, data)
    config = node.mapping("config")
    for key, value in config.items():
        if not isinstance(value, str):
            node.fail(f"{_shown(key)} is {_shown(value)}, not a string")
    return config


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """entity: for users and clients still URL-encoded, perhaps `<user>/clients/<client>`."""

    entity_type: str
    entity: str


def encode_config_change(change: ConfigChange) -> bytes:
    return _encode({"version": 2, "entity_path": f"{change.entity_type}/{change.entity}"})


def decode_config_change(path: str, data: bytes | None) -> ConfigChange:
    """Versions 1 (type and name apart) and 2 (one path)."""
    node = _Reader(path, data)
    version = node.integer("version", low=1, high=2)
    if version == 1:
        entity_type, entity = node.text("entity_type"), node.text("entity_name")
    else:
        entity_type, _, entity = node.text("entity_path").partition("/")
    if not entity_type or not entity:
        node.fail("the entity is not named")
    return ConfigChange(entity_type, entity)


# Notifications of brokers


def decode_log_dir_event(path: str, data: bytes | None) -> int:
    """The broker of which a log directory has failed."""
    return _Reader(path, data).integer("broker", low=0)
