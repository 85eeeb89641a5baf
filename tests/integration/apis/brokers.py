"""The two brokers that every test here runs against, under one face.

One node of each kind serves all tests (`BASE`); a second one of each kind (`VARIANT`) has the settings that
would disturb the others, and is the one that is restarted. Both kinds get the same properties, so that
DescribeConfigs can be compared too.
Runs in: the test process; the brokers are its children.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class
from tests.integration.apis.wire import CLIENT_ID, Client
from tests.peers.kafka_cluster import KafkaBroker, ZooKeeper
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import free_ports, wait_until
from tests.peers.wire import Address

BROKER_ID = 1
KAFKA_HEAP = "400m"
EXTERNAL_HOST = "localhost"
LIMITED_HOST = "127.0.0.2"
"""Connections from here are limited to one (max.connections.per.ip.overrides)."""

BASE = {
    "num.partitions": "2",
    "auto.create.topics.enable": "true",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,EXTERNAL:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "max.connections.per.ip.overrides": f"{LIMITED_HOST}:1",
    # What the fixture for real brokers adds to Kafka's properties, for both.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "5",
    "group.initial.rebalance.delay.ms": "0",
    "zookeeper.session.timeout.ms": "6000",
}
VARIANT = {
    **BASE,
    # With the replicas of dead brokers that tests make, a clean stop would try in vain for 15 s.
    "controlled.shutdown.enable": "false",
    "delete.topic.enable": "false",
    "default.replication.factor": "2",
    "connections.max.idle.ms": "2500",
    "max.connections": "10",
    "socket.request.max.bytes": "200000",
    "fetch.max.bytes": "50000",
    "max.incremental.fetch.session.cache.slots": "0",
}

KINDS = ["ottla", pytest.param("kafka", marks=pytest.mark.kafka)]

Node = OttlaBroker | KafkaBroker


class Topic(NamedTuple):
    """id: 16 bytes."""

    name: str
    id: bytes


class ApiBroker:
    """One running broker. `kind` is "ottla" or "kafka"."""

    def __init__(self, node: Node, external_port: int) -> None:
        self.node = node
        self.kind = node.name
        self._external_port = external_port
        self._numbers = itertools.count(1)

    @property
    def address(self) -> Address:
        return self.node.address

    @property
    def external_address(self) -> Address:
        """The second listener's, as it is advertised."""
        return (EXTERNAL_HOST, self._external_port)

    def connect(
        self, client_id: str | None = CLIENT_ID, address: Address | None = None, source_host: str | None = None
    ) -> Client:
        return Client(address or self.address, client_id, source_host)

    def new_name(self, label: str = "t") -> str:
        """A topic name that nothing else uses."""
        return f"{label}-{next(self._numbers)}"

    def topic(self, label: str = "t", partitions: int = 1, **configs: Any) -> Topic:
        """A fresh topic with leaders; underscores in the names of `configs` stand for dots."""
        return self.create(self.new_name(label), partitions, {
            key.replace("_", "."): str(value) for key, value in configs.items()})  # fmt: skip

    def create(self, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> Topic:
        create = request_class(ApiKey.CREATE_TOPICS)
        entries = [create.CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()]
        wanted = create.CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=1, configs=entries
        )
        with self.connect() as client:
            (result,) = client.call(ApiKey.CREATE_TOPICS, 7, create(topics=[wanted], timeout_ms=30_000)).topics
        assert result.error_code == 0, f"creating {name}: {result.error_code} {result.error_message}"
        return Topic(name, bytes(result.topic_id))

    def metadata(self, *names: str, version: int = 12) -> Any:
        """Metadata of these topics, without creating them."""
        request = request_class(ApiKey.METADATA)
        message = request(
            topics=[request.MetadataRequestTopic(name=name) for name in names], allow_auto_topic_creation=False
        )
        with self.connect() as client:
            return client.call(ApiKey.METADATA, version, message)

    def wait_for_leaders(self, name: str, partitions: int) -> None:
        """Until the topic has that many partitions with leaders."""

        def led() -> bool:
            (topic,) = self.metadata(name).topics
            return len([each for each in topic.partitions if each.leader_id >= 0]) == partitions

        wait_until(led, f"{name} has {partitions} leaders", 30)


def listener_properties(ports: Sequence[int]) -> dict[str, str]:
    plain, external = ports
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},EXTERNAL://127.0.0.1:{external}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},EXTERNAL://{EXTERNAL_HOST}:{external}",
    }


def ottla(work_dir: Path, settings: Mapping[str, str]) -> ApiBroker:
    """Not started yet; two log directories."""
    ports = free_ports(2)
    node = OttlaBroker(
        work_dir, {**settings, **listener_properties(ports)}, BROKER_ID, ports[0],
        [work_dir / "a", work_dir / "b"],
    )  # fmt: skip
    return ApiBroker(node, ports[1])


def kafka(
    libs: Path, zookeeper: ZooKeeper, work_dir: Path, settings: Mapping[str, str], chroot: str
) -> ApiBroker:
    """Not started yet; two log directories."""
    ports = free_ports(2)
    node = KafkaBroker(
        libs, work_dir, zookeeper, {**settings, **listener_properties(ports)}, BROKER_ID, ports[0],
        [work_dir / "a", work_dir / "b"], KAFKA_HEAP, chroot,
    )  # fmt: skip
    return ApiBroker(node, ports[1])


Start = Callable[[str, str], ApiBroker]


def running_brokers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, area: str,
    settings: Mapping[str, dict[str, str]],
) -> Iterator[Start]:  # fmt: skip
    """For a session's fixture: start(kind, name of the settings) -> the running broker, the same one each time."""
    running: dict[tuple[str, str], ApiBroker] = {}

    def start(kind: str, name: str) -> ApiBroker:
        if (kind, name) not in running:
            work_dir = tmp_path_factory.mktemp(f"{kind}-{area}-{name}")
            made = running[kind, name] = _make(request, kind, work_dir, settings[name], f"/{area}-{name}")
            made.node.start()
        return running[kind, name]

    yield start
    for broker in running.values():
        broker.node.close()


def _make(
    request: pytest.FixtureRequest, kind: str, work_dir: Path, settings: dict[str, str], chroot: str
) -> ApiBroker:
    if kind == "ottla":
        return ottla(work_dir, settings)
    libs: Path = request.getfixturevalue("kafka_libs")
    zookeeper: ZooKeeper = request.getfixturevalue("zookeeper")
    return kafka(libs, zookeeper, work_dir, settings, chroot)
