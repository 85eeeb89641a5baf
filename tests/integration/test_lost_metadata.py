"""The embedded metadata file is lost: the next start makes them anew from the log directories.

Ottla's own directories here; Kafka's are in kafka_directories/.
"""
from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.front_end import ROLES_WAIT_S_MAX
from storage.checkpoint.leader_epoch_checkpoint import LEADER_EPOCH_CHECKPOINT, read_leader_epoch_checkpoint
from tests.integration.apis.brokers import Topic
from tests.integration.apis.records import batch
from tests.integration.apis.requests import append, epoch_end
from tests.integration.apis.wire import Client
from tests.integration.kafka_directories.views import PartitionView, Place, topics_of, view_all
from tests.integration.kafka_directories.writer import create_topic, new_producer
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import wait_until
from tests.peers.wire import wait_for_leaders

TOPICS = {"one": 1, "many": 5}
MakeOttla = Callable[..., OttlaBroker]


@pytest.fixture
def broker(make_ottla: MakeOttla, tmp_path: Path) -> OttlaBroker:
    """Two log directories, topics with records in every partition, of an idempotent producer too."""
    node = make_ottla(log_dirs=[tmp_path / "a", tmp_path / "b"])
    node.start()
    with Client(node.address) as client:
        for name, count in TOPICS.items():
            create_topic(client, name, count, {"retention.ms": "-1"})
        wait_for_leaders(node.address, TOPICS)
        for name, count in TOPICS.items():
            producer = new_producer(client)
            for number in range(count):
                batches = batch(b"plain"), batch(b"idempotent", producer=(*producer, 0))
                append(client, name, *batches, partition=number)
    return node


def lose_metadata(node: OttlaBroker) -> None:
    for path in node.log_dirs[0].glob("ottla-metadata*"):
        path.unlink()


def look(node: OttlaBroker) -> tuple[dict[Place, PartitionView], dict[str, tuple[Topic, list[int]]]]:
    return view_all(node.address), topics_of(node.address)


@pytest.mark.parametrize("ending", ["clean stop", "kill"])
def test_topics_records_and_ids_come_back(broker: OttlaBroker, ending: str) -> None:
    before = look(broker)
    with Client(broker.address) as client:
        last_producer_id, _ = new_producer(client)
        append(client, "one", batch(b"its only batch", producer=(last_producer_id, 0, 0)))
    before_end = view_all(broker.address)
    if ending == "kill":
        broker.kill()
    else:
        assert broker.stop() == 0
    lose_metadata(broker)
    broker.start()
    wait_for_leaders(broker.address, TOPICS)
    views, topics = look(broker)
    assert (views, topics) == (before_end, before[1])
    with Client(broker.address) as client:
        assert new_producer(client)[0] > last_producer_id
        append(client, "many", batch(b"goes on"), partition=4)
    assert "configuration overrides" in broker.log_text()


def test_leader_epochs_rise_with_every_loss(broker: OttlaBroker) -> None:
    for lost in range(1, 4):
        assert broker.stop() == 0
        lose_metadata(broker)
        broker.start()
        wait_for_leaders(broker.address, TOPICS)
        with Client(broker.address) as client:
            (base,) = append(client, "one", batch(b"of epoch %d" % lost))
            found = epoch_end(client, "one", lost)
            assert (found.error_code, found.leader_epoch, found.end_offset) == (0, lost, base + 1)
    path = next(directory / "one-0" for directory in broker.log_dirs if (directory / "one-0").exists())
    entries = read_leader_epoch_checkpoint(str(path / LEADER_EPOCH_CHECKPOINT))
    assert [entry.epoch for entry in entries] == [0, 1, 2, 3]


def test_partitions_that_the_metadata_do_not_know_are_left_alone(broker: OttlaBroker) -> None:
    assert broker.stop() == 0
    home = next(directory for directory in broker.log_dirs if (directory / "one-0").exists())
    shutil.copytree(home / "one-0", home / "unknown-3")
    kept = {path.name: path.read_bytes() for path in (home / "unknown-3").glob("*.log")}
    assert broker.start() < ROLES_WAIT_S_MAX, "clients waited for a role that nobody will give"
    wait_for_leaders(broker.address, TOPICS)
    assert set(topics_of(broker.address)) == set(TOPICS)
    (line,) = [line for line in broker.log_text().splitlines() if "unknown-3" in line and " WARN " in line]
    assert f"1 partition of topic 'unknown' is not in the metadata and left alone: {home}/unknown-3" in line
    assert broker.stop() == 0
    assert {path.name: path.read_bytes() for path in (home / "unknown-3").glob("*.log")} == kept


def test_lost_directory_holds_back_the_rebuild(broker: OttlaBroker) -> None:
    """Its partitions would be made anew, empty, and exist twice when it is back."""
    assert broker.stop() == 0
    lose_metadata(broker)
    away = broker.log_dirs[1].rename(broker.log_dirs[1].with_name("away"))
    broker.log_dirs[1].touch()
    process = broker.spawn()
    wait_until(lambda: process.return_code is not None, "the start is refused", 20)
    broker.close()
    assert process.return_code == 1
    assert "cannot be made anew" in process.log_text()
    assert f"while {broker.log_dirs[1]} cannot be read (Not a directory)" in process.log_text()
    broker.log_dirs[1].unlink()
    away.rename(broker.log_dirs[1])
    broker.start()
    wait_for_leaders(broker.address, TOPICS)
