"""From Kafka to Ottla and back: directories that Kafka wrote, what Ottla makes of them, Kafka on the result.

Each step happens once, when a test first asks for it, and leaves what it saw; tests then compare. `KafkaPart`
is shared by two stories: one goes on from a killed Kafka and ends with a clean stop of Ottla, the other one
goes on from a clean stop and ends with `kill -9`, so every hand-over is seen in both kinds.
Runs in: the test process; the brokers are its children.
"""
from __future__ import annotations

import re
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from tests.integration.apis.requests import LATEST, list_offsets
from tests.integration.apis.wire import Client
from tests.integration.kafka_directories.settings import (
    CODECS,
    COMPACTED_TOPIC,
    FIRST_TIMESTAMP_MS,
    IDEMPOTENT_TOPIC,
    PARTITIONS,
    SETTINGS,
    TRANSACTION_TOPIC,
    TRIMMED_TOPIC,
)
from tests.integration.kafka_directories.views import PartitionView, Place, consume, view_all
from tests.integration.kafka_directories.writer import (
    Sequence,
    Written,
    create_topic,
    go_on,
    new_producer,
    send,
    sequence_batch,
    write_all,
    write_codec,
)
from tests.integration.kafka_directories.znodes import Nodes, read_embedded, read_zookeeper, write_zookeeper
from tests.peers.kafka_cluster import KafkaBroker, ZooKeeper
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.wire import wait_for_leaders

KAFKA_HEAP = "400m"
FIRST_CHROOT = "/written-by-kafka"
NEW_TOPIC = "made-by-ottla"
NEW_TOPIC_PARTITIONS = 2
LATER_MS = 500_000
"""From Kafka's records to those that Ottla adds."""

# Of the network, before a broker listens; nothing that concerns files.
_NOT_ABOUT_FILES = ("kafka.controller.RequestSendThread", "org.apache.kafka.clients.NetworkClient")
_COMPLAINT = re.compile(r"^\[[^]]*\] (WARN|ERROR|FATAL) (.*) \(([^()]*)\)$", re.MULTILINE)


def complaints(log_text: str) -> set[str]:
    """What a Kafka logged above INFO, without numbers, so that two runs can be compared."""
    return {re.sub(r"\d+", "N", f"{level} {text} ({logger})")
            for level, text, logger in _COMPLAINT.findall(log_text) if logger not in _NOT_ABOUT_FILES}


class KafkaPart(NamedTuple):
    """view: what Kafka served after a restart, of its own files. complaints: about those."""

    written: Written
    view: dict[Place, PartitionView]
    nodes: Nodes
    complaints: set[str]
    killed: Path
    clean: Path


def play_kafka(libs: Path, zookeeper: ZooKeeper, work_dir: Path) -> KafkaPart:
    """Write, be killed, start again, stop cleanly; a copy of the directory at both ends."""
    broker = KafkaBroker(libs, work_dir / "kafka", zookeeper, SETTINGS, heap=KAFKA_HEAP, chroot=FIRST_CHROOT)
    killed, clean = work_dir / "killed", work_dir / "clean"
    (log_dir,) = broker.log_dirs
    try:
        broker.start()
        written = write_all(broker.address, log_dir)
        before = view_all(broker.address)
        noted = complaints(broker.log_text())
        broker.kill()
        shutil.copytree(log_dir, killed)
        broker.start()
        wait_for_leaders(broker.address, _partition_counts(before))
        view = view_all(broker.address)
        assert view == before
        noted |= complaints(broker.log_text())
        broker.stop()
        shutil.copytree(log_dir, clean)
    finally:
        broker.close()
    return KafkaPart(written, view, read_zookeeper(zookeeper.connect_string, FIRST_CHROOT), noted, killed, clean)


def _partition_counts(view: dict[Place, PartitionView]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for topic, _ in view:
        counts[topic] = counts.get(topic, 0) + 1
    return counts


class Opened(NamedTuple):
    """What Ottla served before it changed anything. committed: as librdkafka reads TRANSACTION_TOPIC."""

    view: dict[Place, PartitionView]
    committed: dict[Place, list[bytes | None]]
    log_text: str


class Repeated(NamedTuple):
    """Answers to an idempotent producer: to its last batch again, and to one that leaves a gap; the log's end
    before and after both."""

    duplicate: Any
    gap: Any
    end_before: int
    end_after: int


class Appended(NamedTuple):
    view: dict[Place, PartitionView]
    repeated: list[Repeated]
    sequences: list[Sequence]
    new_producer_id: int


class Returned(NamedTuple):
    """Kafka on what Ottla left. complaints: of its start."""

    view: dict[Place, PartitionView]
    committed: dict[Place, list[bytes | None]]
    repeated: list[Repeated]
    complaints: set[str]
    log_text: str


class Story:
    """kind: how Kafka had ended, "killed" or "clean"; Ottla ends the other way."""

    def __init__(self, kind: str, kafka_part: KafkaPart, libs: Path, zookeeper: ZooKeeper, work_dir: Path) -> None:
        self.kind = kind
        self.kafka_part = kafka_part
        self.log_dir = work_dir / "ottla-logs"
        self.ottla = OttlaBroker(work_dir / "ottla", SETTINGS, log_dirs=[self.log_dir])
        self._libs = libs
        self._zookeeper = zookeeper
        self._work_dir = work_dir
        self._kafka: KafkaBroker | None = None

    def close(self) -> None:
        self.ottla.close()
        if self._kafka is not None:
            self._kafka.close()

    @cached_property
    def opened(self) -> Opened:
        shutil.copytree(getattr(self.kafka_part, self.kind), self.log_dir)
        self.ottla.start()
        wait_for_leaders(self.ottla.address, _partition_counts(self.kafka_part.view))
        return Opened(view_all(self.ottla.address), self._committed(self.ottla.bootstrap), self.ottla.log_text())

    @staticmethod
    def _committed(bootstrap: str) -> dict[Place, list[bytes | None]]:
        return consume(bootstrap, {TRANSACTION_TOPIC: PARTITIONS[TRANSACTION_TOPIC]},
                       isolation_level="read_committed")

    @cached_property
    def appended(self) -> Appended:
        assert self.opened
        with Client(self.ottla.address) as client:
            repeated = [_repeat(client, sequence) for sequence in self.kafka_part.written.sequences]
            sequences = []
            for sequence in self.kafka_part.written.sequences:
                following = go_on(client, sequence)
                for _ in range(15):
                    following = go_on(client, following)
                sequences.append(following)
            producer_id, _ = new_producer(client)
            create_topic(client, NEW_TOPIC, NEW_TOPIC_PARTITIONS, {})
        wait_for_leaders(self.ottla.address, {NEW_TOPIC: NEW_TOPIC_PARTITIONS})
        _append_everywhere(self.ottla.bootstrap)
        return Appended(view_all(self.ottla.address), repeated, sequences, producer_id)

    @cached_property
    def ended(self) -> int | None:
        """Ottla's exit code, None after a kill."""
        assert self.appended
        if self.kind == "killed":
            return self.ottla.stop()
        self.ottla.kill()
        return None

    @cached_property
    def nodes(self) -> Nodes:
        """Of the embedded store, as Ottla left it."""
        assert self.ended in (0, None)
        copy = self._work_dir / "store"
        copy.mkdir()
        for path in self.log_dir.glob("*.sqlite*"):
            shutil.copy(path, copy)
        return read_embedded(copy)

    @cached_property
    def returned(self) -> Returned:
        """Kafka on a copy, with a ZooKeeper that says what Ottla's store said, and the old configuration."""
        configs = {path: data for path, data in self.kafka_part.nodes.items() if path.startswith("/config/")}
        chroot = f"/after-{self.kind}"
        write_zookeeper(self._zookeeper.connect_string, chroot, {**self.nodes, **configs})
        log_dir = self._work_dir / "for-kafka"
        shutil.copytree(self.log_dir, log_dir)
        settings = {**SETTINGS, "log.cleaner.enable": "false"}  # what is served has to be what was found
        broker = self._kafka = KafkaBroker(self._libs, self._work_dir / "kafka", self._zookeeper, settings,
                                           log_dirs=[log_dir], heap=KAFKA_HEAP, chroot=chroot)
        broker.start()
        wait_for_leaders(broker.address, _partition_counts(self.appended.view))
        view = view_all(broker.address)
        noted = complaints(broker.log_text())
        with Client(broker.address) as client:
            repeated = [_repeat(client, sequence) for sequence in self.appended.sequences]
        committed = self._committed(broker.bootstrap)
        log_text = broker.log_text()
        broker.kill()
        return Returned(view, committed, repeated, noted, log_text)


def _repeat(client: Client, sequence: Sequence) -> Repeated:
    before = _end(client, sequence)
    producer = (sequence.producer_id, sequence.producer_epoch)
    duplicate = send(client, sequence.partition, sequence.last_batch)
    gap = send(client, sequence.partition, sequence_batch(producer, sequence.next_sequence + 1, b"after a gap"))
    return Repeated(duplicate, gap, before, _end(client, sequence))


def _end(client: Client, sequence: Sequence) -> int:
    return int(list_offsets(client, IDEMPOTENT_TOPIC, LATEST, sequence.partition).offset)


def _append_everywhere(bootstrap: str) -> None:
    for partition in range(len(CODECS)):
        write_codec(bootstrap, partition, "ottla", 100, FIRST_TIMESTAMP_MS + LATER_MS)
    producer = Producer({"bootstrap.servers": bootstrap, "batch.num.messages": 5, "linger.ms": 5})
    others = [(topic, number) for topic in (TRANSACTION_TOPIC, TRIMMED_TOPIC, COMPACTED_TOPIC)
              for number in range(PARTITIONS[topic])]
    others += [(NEW_TOPIC, number) for number in range(NEW_TOPIC_PARTITIONS)]
    for topic, number in others:
        for index in range(60):
            producer.produce(topic, b"appended %d " % index + b"+" * 700, key=b"key %d" % index, partition=number,
                             timestamp=FIRST_TIMESTAMP_MS + LATER_MS + index)
    assert producer.flush(30) == 0
