"""The same actions on a real Kafka 3.9.1 and on Ottla leave the same tree in ZooKeeper, node by node.

Only what must differ is named instead of compared: cluster and topic ids, timestamps. The port is the same, epochs
are: both have done the same.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.integration.zookeeper.tree import Tree, Znode, difference, tree, wait_for
from tests.peers.kafka_cluster import SESSION_TIMEOUT_MS, KafkaBroker, ZooKeeper
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import free_ports
from tests.peers.wire import has_leaders, wait_for_leaders

pytestmark = pytest.mark.kafka
SECONDS = 30.0
OVERRIDES = {"broker.rack": "r1", "num.partitions": "2"}


class Broker(Protocol):
    @property
    def address(self) -> tuple[str, int]: ...

    @property
    def bootstrap(self) -> str: ...

    def start(self) -> float: ...

    def stop(self) -> int: ...

    def kill(self) -> None: ...


def create(admin: AdminClient, *topics: NewTopic) -> None:
    for future in admin.create_topics(list(topics), operation_timeout=SECONDS).values():
        future.result(SECONDS)


def act(broker: Broker, seen: Tree) -> None:
    """Everything that a node with one broker is asked for, by clients and by tools that write nodes."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    create(admin, NewTopic("plain", 3, 1), NewTopic("default", -1, -1),
           NewTopic("configured", 1, 1, config={"retention.ms": "1000", "cleanup.policy": "delete"}),
           NewTopic("gone", 2, 1, config={"retention.ms": "5"}),
           NewTopic("placed", 2, replica_assignment=[[1], [1]]))
    for future in admin.create_partitions([NewPartitions("plain", 5)]).values():
        future.result(SECONDS)
    for future in admin.delete_topics(["gone"], operation_timeout=SECONDS).values():
        future.result(SECONDS)
    wait_for(lambda: seen.czxid("/brokers/topics/gone") < 0, "deletion")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    producer.produce("plain", b"value", partition=0)
    assert producer.flush(SECONDS) == 0
    seen.create("/config/topics/by-nodes", b'{"version":1,"config":{"retention.ms":"7"}}')
    seen.create("/brokers/topics/by-nodes", b'{"version":1,"partitions":{"0":[1],"1":[1]}}')
    wait_for_leaders(broker.address, {"plain": 5, "default": 2, "configured": 1, "placed": 2, "by-nodes": 2})
    seen.create("/brokers/topics/short-lived", b'{"version":1,"partitions":{"0":[1]}}')
    wait_for(lambda: has_leaders(broker.address, {"short-lived": 1}), "a topic of nodes is led")
    seen.create("/admin/delete_topics/short-lived", b"")
    wait_for(lambda: seen.czxid("/brokers/topics/short-lived") < 0, "deletion by a node")


def play(broker: Broker, seen: Tree) -> dict[str, dict[str, Znode]]:
    """moment -> tree."""
    trees = {}
    broker.start()
    wait_for(lambda: seen.owner("/controller"), "it leads")
    wait_for(lambda: seen.data("/feature"), "it is in office")
    trees["started"] = seen.walk()
    act(broker, seen)
    trees["after the actions"] = seen.walk()
    broker.stop()
    trees["stopped"] = seen.walk()
    broker.start()
    wait_for(lambda: (seen.data("/controller_epoch") or b"") == b"2", "it is elected again")
    wait_for_leaders(broker.address, {"plain": 5, "default": 2, "configured": 1, "placed": 2, "by-nodes": 2})
    trees["started again"] = seen.walk()
    broker.stop()
    return trees


@pytest.fixture(scope="module")
def trees(kafka_libs: Path, zookeeper: ZooKeeper, tmp_path_factory: pytest.TempPathFactory
          ) -> Iterator[dict[str, dict[str, dict[str, Znode]]]]:
    port = free_ports(1)[0]
    found = {}
    connect = zookeeper.connect_string
    ottla = OttlaBroker(tmp_path_factory.mktemp("ottla"), {
        **OVERRIDES, "zookeeper.connect": f"{connect}/tree-ottla",
        "zookeeper.session.timeout.ms": str(SESSION_TIMEOUT_MS)}, port=port)
    kafka = KafkaBroker(kafka_libs, tmp_path_factory.mktemp("kafka"), zookeeper, OVERRIDES, port=port,
                        chroot="/tree-kafka")
    for broker in (ottla, kafka):
        try:
            with tree(connect, f"/tree-{broker.name}") as seen:
                found[broker.name] = play(broker, seen)
        finally:
            broker.close()
    yield found


@pytest.mark.parametrize("moment", ["started", "after the actions", "stopped", "started again"])
def test_tree_is_kafka_s(trees: dict[str, dict[str, dict[str, Znode]]], moment: str) -> None:
    ours, kafkas = trees["ottla"][moment], trees["kafka"][moment]
    assert len(kafkas) > 20
    assert "\n".join(difference(ours, kafkas)) == ""


