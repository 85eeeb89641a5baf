"""Kafka's own command line tools on a node in ZooKeeper: TopicCommand by broker, ConfigCommand by ZooKeeper."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.zookeeper.tree import tree, wait_for
from tests.peers.java_tools import JavaTools
from tests.peers.kafka_cluster import ZooKeeper
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.wire import WireConnection, wait_for_leaders

pytestmark = pytest.mark.kafka
TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"


@pytest.fixture
def node(zookeeper: ZooKeeper, tmp_path: Path, make_ottla: Callable[..., OttlaBroker]) -> OttlaBroker:
    return make_ottla(overrides={"zookeeper.connect": f"{zookeeper.connect_string}/{tmp_path.name}"})


def test_topic_command_creates_describes_alters_and_deletes(
        node: OttlaBroker, java_tools: JavaTools, zookeeper: ZooKeeper, tmp_path: Path) -> None:
    node.start()
    server = ("--bootstrap-server", node.bootstrap)
    java_tools.run(TOPICS, *server, "--create", "--topic", "t", "--partitions", "2", "--config", "retention.ms=77")
    with tree(zookeeper.connect_string, f"/{tmp_path.name}") as seen:
        assert json.loads(seen.data("/config/topics/t") or b"")["config"] == {"retention.ms": "77"}
        described = java_tools.run(TOPICS, *server, "--describe", "--topic", "t").stdout
        assert "PartitionCount: 2" in described
        assert "retention.ms=77" in described
        assert described.count("Leader: 1") == 2
        java_tools.run(TOPICS, *server, "--alter", "--topic", "t", "--partitions", "3")
        wait_for_leaders(node.address, {"t": 3})
        java_tools.run(TOPICS, *server, "--delete", "--topic", "t")
        wait_for(lambda: seen.czxid("/brokers/topics/t") < 0, "the topic is gone")
        assert java_tools.run(TOPICS, *server, "--list").stdout.split() == []


def test_config_command_by_zookeeper_writes_for_a_broker_that_is_down_and_for_users(
        node: OttlaBroker, java_tools: JavaTools, zookeeper: ZooKeeper, tmp_path: Path) -> None:
    """Kafka 3.9 allows --zookeeper for nothing else. What it wrote does not disturb the node that starts on it."""
    node.start()
    by_zookeeper = ("--zookeeper", f"{zookeeper.connect_string}/{tmp_path.name}")
    alter = (*by_zookeeper, "--alter", "--entity-type", "brokers", "--entity-name", "1", "--add-config",
             "log.retention.ms=99999")
    running = java_tools.run(CONFIGS, *alter, check=False)
    assert "--bootstrap-server option must be specified" in running.stdout + running.stderr
    assert node.stop() == 0
    java_tools.run(CONFIGS, *alter)
    node.start()
    java_tools.run(CONFIGS, *by_zookeeper, "--alter", "--entity-type", "users", "--entity-name", "u",
                   "--add-config", "SCRAM-SHA-256=[password=secret]")
    with tree(zookeeper.connect_string, f"/{tmp_path.name}") as seen:
        assert json.loads(seen.data("/config/brokers/1") or b"")["config"] == {"log.retention.ms": "99999"}
        assert b"SCRAM-SHA-256" in (seen.data("/config/users/u") or b"")
    node.check_running()
    assert "ERROR" not in node.log_text()


def test_configuration_that_an_old_tool_writes_with_its_notification_is_described_by_the_broker(
        node: OttlaBroker, java_tools: JavaTools, zookeeper: ZooKeeper, tmp_path: Path) -> None:
    node.start()
    with WireConnection(node.address) as connection:
        connection.create_topic("t", 1)
    describe = (CONFIGS, "--bootstrap-server", node.bootstrap, "--describe", "--entity-type", "topics",
                "--entity-name", "t")
    with tree(zookeeper.connect_string, f"/{tmp_path.name}") as seen:
        seen.client.set(f"/{tmp_path.name}/config/topics/t", b'{"version":1,"config":{"retention.ms":"4321"}}')
        seen.client.create(f"/{tmp_path.name}/config/changes/config_change_",
                           b'{"version":2,"entity_path":"topics/t"}', sequence=True)
        wait_for(lambda: "retention.ms=4321" in java_tools.run(*describe).stdout, "it is described")
