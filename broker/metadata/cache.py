"""What the controller told this broker about the cluster: brokers, topics, leaders, overrides.

What: the state behind Metadata, DescribeCluster and every "who leads this" question, replaced and merged
by UpdateMetadata exactly as it arrives (inter-broker facts, 3.2), plus topic and broker overrides that
come on the controller's stream.
Runs in: front end. Owner: the front end's one instance; only the controller's requests write it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class

UpdateMetadataEndpoint = request_class(ApiKey.UPDATE_METADATA).UpdateMetadataEndpoint
SECURITY_PROTOCOL_NAMES = {0: "PLAINTEXT", 1: "SSL", 2: "SASL_PLAINTEXT", 3: "SASL_SSL"}
LEADER_DURING_DELETE = -2
ZERO_UUID = bytes(16)
INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state"})


@dataclass(slots=True, frozen=True)
class BrokerEndpoint:
    """Where one broker is reached on one listener."""

    broker_id: int
    host: str
    port: int
    rack: str | None


@dataclass(slots=True)
class PartitionMetadata:
    """One partition as the controller last described it."""

    leader: int
    leader_epoch: int
    isr: list[int]
    replicas: list[int]
    offline_replicas: list[int]
    partition_epoch: int


@dataclass(slots=True)
class TopicMetadata:
    """One topic; `partitions` by number."""

    name: str
    topic_id: bytes
    partitions: dict[int, PartitionMetadata] = field(default_factory=dict)


class MetadataCache:
    """Readers get the live objects and must not change them."""

    def __init__(self) -> None:
        self.controller_id = -1
        self.controller_epoch = -1
        self.topics: dict[str, TopicMetadata] = {}
        self._names_by_id: dict[bytes, str] = {}
        self._brokers: dict[int, Any] = {}
        self.topic_overrides: dict[str, dict[str, str]] = {}
        self.broker_overrides: dict[str, dict[str, str]] = {}

    def update(self, request: Any) -> list[str]:
        """Take one UpdateMetadata request (any version); returns the names of topics that went away."""
        self.controller_id = request.controller_id
        self.controller_epoch = request.controller_epoch
        self._brokers = {broker.id: _with_listeners(broker) for broker in request.live_brokers}
        gone = []
        for name, topic_id, states in _grouped(request):
            if self._merge(name, topic_id, states):
                gone.append(name)
        return gone

    def _merge(self, name: str, topic_id: bytes, states: Iterable[Any]) -> bool:
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = TopicMetadata(name, topic_id)
        if topic_id != ZERO_UUID:
            self._names_by_id.pop(topic.topic_id, None)
            topic.topic_id = topic_id
            self._names_by_id[topic_id] = name
        for state in states:
            if state.leader == LEADER_DURING_DELETE:
                topic.partitions.pop(state.partition_index, None)
                continue
            topic.partitions[state.partition_index] = PartitionMetadata(
                state.leader, state.leader_epoch, state.isr, state.replicas, state.offline_replicas,
                state.zk_version,
            )  # fmt: skip
        if topic.partitions:
            return False
        del self.topics[name]
        self._names_by_id.pop(topic.topic_id, None)
        self.topic_overrides.pop(name, None)
        return True

    def name_of(self, topic_id: bytes) -> str | None:
        return self._names_by_id.get(topic_id)

    def partition(self, topic: str, partition: int) -> PartitionMetadata | None:
        found = self.topics.get(topic)
        return None if found is None else found.partitions.get(partition)

    def is_alive(self, broker_id: int) -> bool:
        return broker_id in self._brokers

    def live_broker_ids(self) -> list[int]:
        return sorted(self._brokers)

    def endpoint(self, broker_id: int, listener_name: str) -> BrokerEndpoint | None:
        """Where the broker is reached on that listener; None when dead or without it (behaviour 20)."""
        broker = self._brokers.get(broker_id)
        if broker is None:
            return None
        for endpoint in broker.endpoints:
            if endpoint.listener == listener_name:
                return BrokerEndpoint(broker_id, endpoint.host, endpoint.port, broker.rack)
        return None

    def endpoints(self, listener_name: str) -> list[BrokerEndpoint]:
        """Every live broker that exposes the listener (behaviour 21), by id."""
        found = (self.endpoint(broker_id, listener_name) for broker_id in sorted(self._brokers))
        return [endpoint for endpoint in found if endpoint is not None]


def _with_listeners(broker: Any) -> Any:
    """In the form of version 3 and newer: before it listeners had the names of their security protocols, before 2
    there were no racks, and in version 0 there was one address."""
    broker.rack = broker.rack or None
    if broker.v0_host and not broker.endpoints:
        broker.endpoints = [UpdateMetadataEndpoint(host=broker.v0_host, port=broker.v0_port, listener="PLAINTEXT")]
    for endpoint in broker.endpoints:
        endpoint.listener = endpoint.listener or SECURITY_PROTOCOL_NAMES.get(endpoint.security_protocol, "")
    return broker


def _grouped(request: Any) -> Iterable[tuple[str, bytes, list[Any]]]:
    """Partition states by topic, from the grouped (v5+) or the flat (v0-4) form."""
    for topic in request.topic_states:
        yield topic.topic_name, topic.topic_id, topic.partition_states
    flat: dict[str, list[Any]] = {}
    for state in request.ungrouped_partition_states:
        flat.setdefault(state.topic_name, []).append(state)
    for name, states in flat.items():
        yield name, ZERO_UUID, states
