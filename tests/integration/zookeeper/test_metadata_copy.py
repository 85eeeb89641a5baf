"""`ottla metadata copy`: a node with records goes from its embedded store into ZooKeeper and back."""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.integration.zookeeper.tree import tree, wait_for
from tests.peers.kafka_cluster import ZooKeeper
from tests.peers.ottla_broker import REPOSITORY, OttlaBroker
from tests.peers.wire import WireConnection, wait_for_leaders

SECONDS = 20.0
RECORDS = [f"record {number}".encode() for number in range(50)]
MakeOttla = Callable[..., OttlaBroker]


def copy(node: OttlaBroker, direction: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    properties = node.log_dirs[0].parent / "copy.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in node.properties().items()))
    given = [argument for override in overrides for argument in ("--override", override)]
    start = "import sys; from broker.cli.main import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", start, "metadata", "copy", direction, str(properties), *given],
                          cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


def produce(node: OttlaBroker) -> None:
    producer = Producer({"bootstrap.servers": node.bootstrap, "enable.idempotence": True})
    for record in RECORDS:
        producer.produce("t", record, partition=0)
    assert producer.flush(SECONDS) == 0


def consume(node: OttlaBroker) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": node.bootstrap, "group.id": "none", "enable.auto.commit": False})
    consumer.assign([TopicPartition("t", 0, 0)])
    try:
        records = consumer.consume(len(RECORDS), SECONDS)
        return [record.value() for record in records]
    finally:
        consumer.close()


@pytest.fixture
def chroot(tmp_path: Path) -> str:
    return f"/{tmp_path.name}"


def test_node_goes_into_zookeeper_and_back_with_all_its_data(
        zookeeper: ZooKeeper, chroot: str, make_ottla: MakeOttla) -> None:
    embedded = make_ottla()
    connect = f"zookeeper.connect={zookeeper.connect_string}{chroot}"
    moved = make_ottla(overrides=dict([connect.split("=", 1)]), log_dirs=embedded.log_dirs)
    metadata = embedded.log_dirs[0] / "ottla-metadata.sqlite"
    embedded.start()
    with WireConnection(embedded.address) as connection:
        connection.create_topic("t", 2, {"retention.ms": "123456789"})
    wait_for_leaders(embedded.address, {"t": 2})
    produce(embedded)

    result = copy(embedded, "--to-zookeeper", connect)
    assert (result.returncode, "in use by broker 1" in result.stderr) == (1, True), result.stderr
    assert embedded.stop() == 0

    result = copy(embedded, "--to-zookeeper", connect)
    assert result.returncode == 0, result.stderr
    assert "of 1 topics are in ZooKeeper" in result.stdout
    assert not metadata.exists()
    assert "holds cluster.id=" in copy_of(metadata, embedded, connect).stderr

    moved.start()
    wait_for_leaders(moved.address, {"t": 2})
    assert consume(moved) == RECORDS
    with tree(zookeeper.connect_string, chroot) as seen:
        assert json.loads(seen.data("/config/topics/t") or b"")["config"] == {"retention.ms": "123456789"}
        assert json.loads(seen.data("/latest_producer_id_block") or b"")["block_start"] == "0"
        wait_for(lambda: int(seen.data("/controller_epoch") or b"0") >= 2, "the embedded epoch goes on")
        with WireConnection(moved.address) as connection:
            connection.create_topic("made-there", 1)
        result = copy(moved, "--from-zookeeper")
        assert (result.returncode, "has live brokers (1): stop them first" in result.stderr) == (1, True)
        assert moved.stop() == 0

    result = copy(moved, "--from-zookeeper")
    assert result.returncode == 0, result.stderr
    embedded.start()
    wait_for_leaders(embedded.address, {"t": 2, "made-there": 1})
    assert consume(embedded) == RECORDS
    assert embedded.stop() == 0


def copy_of(metadata: Path, node: OttlaBroker, connect: str) -> subprocess.CompletedProcess[str]:
    """Once more from the renamed file: the target is not overwritten."""
    return copy(node, "--to-zookeeper", connect, f"ottla.metadata.path={metadata}.copied-to-zookeeper")


def test_directories_of_an_embedded_node_are_refused_by_an_empty_zookeeper_with_the_command_to_use(
        zookeeper: ZooKeeper, chroot: str, make_ottla: MakeOttla) -> None:
    embedded = make_ottla()
    embedded.start()
    assert embedded.stop() == 0
    moved = make_ottla(overrides={"zookeeper.connect": zookeeper.connect_string + chroot},
                       log_dirs=embedded.log_dirs)
    process = moved.spawn()
    wait_for(lambda: process.return_code is not None, "ottla gives up")
    assert "ottla metadata copy --to-zookeeper" in process.log_text()


def test_without_zookeeper_connect_the_command_says_what_is_missing(make_ottla: MakeOttla, tmp_path: Path) -> None:
    node = make_ottla()
    node.log_dirs[0].mkdir(parents=True)
    result = copy(node, "--to-zookeeper")
    assert result.returncode == 1
    assert "zookeeper.connect is not set" in result.stderr
