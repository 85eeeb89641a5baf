"""Compaction of a node at work: producers and consumers all the time, helpers and storage killed at random.

Each key's values are numbers that grow. Whatever is read, from any offset, at any time: offsets ascend and a key's
numbers ascend; what is read in the end is what was acknowledged last. Seeds are printed.
"""
from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.peers.java_tools import JavaTools
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import descendants, wait_until

TOPIC = "compacted"
KEYS = 300
LOAD_S = 12.0
READ_WAIT_S = 30.0
SETTINGS = {"log.cleaner.backoff.ms": "100", "log.index.interval.bytes": "1000"}
TOPIC_CONFIG = {"cleanup.policy": "compact", "segment.bytes": "60000", "min.cleanable.dirty.ratio": "0.05",
                "delete.retention.ms": "200", "file.delete.delay.ms": "500"}


class Load(threading.Thread):
    """sent, acked: the newest number of each key."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        super().__init__()
        self.acked: dict[bytes, int] = {}
        self.sent: dict[bytes, int] = {}
        self.stopping = threading.Event()
        self._random = random.Random(seed)
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2,
                                   "message.timeout.ms": 60_000, "batch.size": 10_000})

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            for _ in range(50):
                number += 1
                key = b"%d" % self._random.randrange(KEYS)
                self.sent[key] = number
                self._producer.produce(TOPIC, b"%d" % number + b" " * 100, key, partition=0, on_delivery=self._on)
            self._producer.poll(0.01)
        assert self._producer.flush(60) == 0

    def _on(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        key, value = message.key(), message.value()
        assert key is not None
        assert value is not None
        self.acked[key] = int(value)


class Reader(threading.Thread):
    """From the beginning to the end, again and again."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.bootstrap = bootstrap
        self.stopping = threading.Event()
        self.problems: list[str] = []
        self.rounds = 0

    def run(self) -> None:
        while not self.stopping.is_set() and not self.problems:
            _, problems = read_all(self.bootstrap)
            self.problems += problems
            self.rounds += 1


def read_all(bootstrap: str) -> tuple[dict[bytes, int], list[str]]:
    """Newest number of each key, and what was wrong on the way."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    found: dict[bytes, int] = {}
    try:
        end = log_end(consumer)
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        last, deadline = -1, time.monotonic() + READ_WAIT_S
        while last < end - 1:
            message = consumer.poll(0.5)
            if message is None or message.error():
                if time.monotonic() > deadline:
                    return found, [f"stuck behind {last} of {end}: {message and message.error()}"]
                continue
            key, value, offset = message.key(), message.value(), message.offset()
            assert key is not None
            assert value is not None
            if offset is None or offset <= last:
                return found, [f"offset {offset} after {last}"]
            if int(value) <= found.get(key, -1):
                return found, [f"{key!r}: {int(value)} at {offset} after {found[key]}"]
            found[key], last = int(value), offset
    finally:
        consumer.close()
    return found, []


def log_end(consumer: Consumer) -> int:
    """While storage starts again, the answer is KAFKA_STORAGE_ERROR."""
    deadline = time.monotonic() + READ_WAIT_S
    while True:
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=READ_WAIT_S)
            return int(end)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def kill_one(broker: OttlaBroker, title: str) -> bool:
    """SIGKILL to the process whose title holds this; False if there is none just now."""
    for process in descendants(broker.pid):
        try:
            if title in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                return True
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return False


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[OttlaBroker]:
    made = OttlaBroker(tmp_path, SETTINGS)
    try:
        made.start()
        admin = AdminClient({"bootstrap.servers": made.bootstrap})
        for future in admin.create_topics([NewTopic(TOPIC, 1, 1, config=TOPIC_CONFIG)]).values():
            future.result()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(("victim", "pause_s", "kills_max"), [("helper compaction", 0.2, 3), ("storage", 3.0, 9)])
def test_killed_parts_of_a_compaction_lose_and_revive_nothing(
        broker: OttlaBroker, java_tools: JavaTools, victim: str, pause_s: float, kills_max: int) -> None:
    """After three dead helpers the log waits 64 backoffs for the next."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    load, reader = Load(broker.bootstrap, seed), Reader(broker.bootstrap)
    load.start()
    reader.start()
    kills, deadline = 0, time.monotonic() + LOAD_S
    while time.monotonic() < deadline:
        time.sleep(chance.random() * pause_s)
        kills += kills < kills_max and kill_one(broker, victim)
    load.stopping.set()
    load.join()
    reader.stopping.set()
    reader.join()
    assert reader.problems == []
    assert reader.rounds > 0
    found, problems = read_all(broker.bootstrap)
    assert problems == []
    assert found == load.acked == load.sent
    assert kills >= 2
    wait_until(lambda: " compacted: offsets " in broker.log_text(), "a cleaning succeeded", READ_WAIT_S)
    assert "Traceback" not in broker.log_text()
    assert broker.stop() == 0
    _assert_the_files_are_sound(java_tools, broker.log_dirs[0] / f"{TOPIC}-0")


def _assert_the_files_are_sound(java_tools: JavaTools, directory: Path) -> None:
    assert not [path.name for path in directory.iterdir() if path.suffix in (".cleaned", ".swap")]
    files = [path for path in sorted(directory.iterdir()) if path.suffix in (".log", ".index", ".timeindex")]
    text = java_tools.dump_log_segments(files, "--deep-iteration")
    assert "isvalid: false" not in text
    assert not [line for line in text.splitlines()
                if any(word in line for word in ("Mismatch", "out of order", "sanity check failed", "Exception"))]
