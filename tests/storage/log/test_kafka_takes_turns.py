"""A real Kafka and this package on the same directory, in turns: clean, and after kill -9 (promise 1).

Kafka writes with rolls, idempotence and transactions; we load, append and stop; Kafka goes on; Kafka is
killed; we recover; Kafka starts again and serves every record that was ever acknowledged.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from storage.log.load_report import LoadReport
from storage.log.log_config import LogConfig
from tests.peers.kafka_cluster import KafkaBroker
from tests.storage.log.worlds import World, append, batch, file_contents

pytestmark = pytest.mark.kafka

TOPIC = "shared"
SETTINGS = {"num.partitions": "1", "log.segment.bytes": "10000", "log.index.interval.bytes": "1000",
            "log.message.timestamp.type": "CreateTime"}


class Turns:
    """The values acknowledged so far, in order, whoever wrote them."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker = broker
        self.values: list[bytes] = []

    def produce_to_kafka(self, count: int) -> None:
        """Every third transaction is aborted; its values must never be seen."""
        plain = Producer({"bootstrap.servers": self.broker.bootstrap, "enable.idempotence": True})
        transactional = Producer({"bootstrap.servers": self.broker.bootstrap, "transactional.id": "turns"})
        transactional.init_transactions(30)
        for index in range(count):
            self._keep(plain, b"plain-%d-%d" % (len(self.values), index))
            transactional.begin_transaction()
            transactional.produce(TOPIC, b"x" * 700 if index % 3 == 0 else b"in-%d" % index)
            assert transactional.flush(30) == 0  # an abort would drop what has not been sent
            if index % 3 == 0:
                transactional.abort_transaction(30)
            else:
                transactional.commit_transaction(30)
                self.values.append(b"in-%d" % index)

    def _keep(self, producer: Producer, value: bytes) -> None:
        producer.produce(TOPIC, value + b"." * 300)
        assert producer.flush(30) == 0
        self.values.append(value + b"." * 300)

    def consume_from_kafka(self) -> list[bytes]:
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "none",
                             "enable.auto.commit": False, "isolation.level": "read_committed"})
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        values: list[bytes] = []
        while len(values) < len(self.values):
            message = consumer.poll(30)
            assert message is not None, f"only {len(values)} of {len(self.values)} records"
            assert message.error() is None
            values.append(message.value())
        assert consumer.poll(1) is None
        consumer.close()
        return values


def load(path: Path) -> tuple[World, LoadReport]:
    """Kafka's directory in our hands; its internal topics come along."""
    world = World(path, LogConfig(segment_size_bytes=10000, index_interval_bytes=1000))
    world.now_ms = 0  # no producer expires
    reports: dict[tuple[str, int], LoadReport] = {}
    world.load(progress=lambda done, total, key, report: reports.update({key: report}))
    assert world.directory.failed == {}
    assert all(report.truncations == [] for report in reports.values())
    return world, reports[TOPIC, 0]


def append_ours(world: World, turns: Turns, count: int) -> None:
    log = world.log(TOPIC)
    log.become_leader(log.leader_epoch_cache.latest_epoch)
    for index in range(count):
        value = b"ottla-%d-%d" % (len(turns.values), index) + b"." * 500
        append(log, batch(value=value))
        turns.values.append(value)


def test_kafka_and_we_take_turns_on_one_directory(make_kafka: Callable[..., KafkaBroker]) -> None:
    broker = make_kafka(overrides=SETTINGS, heap="400m")
    turns = Turns(broker)
    path = broker.log_dirs[0]

    broker.start()
    turns.produce_to_kafka(60)
    broker.stop()
    contents = file_contents(path / f"{TOPIC}-0")

    world, report = load(path)
    assert world.directory.was_clean
    assert (report.repairs, report.segments_scanned) == ([], 0)
    log = world.log(TOPIC)
    assert len(log.segments) > 1
    assert sum(len(segment.txn_index.entries()) for segment in log.segments) == 20
    assert len(log.producer_state.producers) == 2
    assert len(log.topic_id) == 16
    append_ours(world, turns, 80)
    assert world.directory.close({(TOPIC, 0): log.log_end_offset}) == []
    for name, data in contents.items():
        if name.endswith((".log", ".index", ".timeindex", ".txnindex")):
            assert (path / f"{TOPIC}-0" / name).read_bytes().startswith(data)

    broker.start()
    assert turns.consume_from_kafka() == turns.values
    assert "clean shutdown file was found" in broker.log_text()
    turns.produce_to_kafka(30)
    broker.kill()

    world, report = load(path)
    assert not world.directory.was_clean
    assert report.segments_scanned >= 1
    append_ours(world, turns, 40)
    for each in world.directory.logs.values():
        each.close_files()  # and no clean stop: as if we had been killed

    broker.start()
    assert turns.consume_from_kafka() == turns.values
    turns.produce_to_kafka(5)
    assert turns.consume_from_kafka() == turns.values
    broker.stop()
