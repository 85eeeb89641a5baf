"""One directory, compacted by a real Kafka 3.9.1 and by Ottla: the same records, batches, segments, indexes.

Kafka writes: keys, tombstones, every codec, idempotent and transactional producers, several segments; it is
kept from compacting by a dirty ratio that nothing exceeds. A copy is compacted here, then Kafka is told to
compact its own. Then the same once more, on segments that Kafka has compacted and with delete horizons that
have passed. Times of delete horizons are not compared: they are the moments of the two cleanings.
"""
from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from storage.checkpoint.offset_checkpoint import CLEANER_OFFSET_CHECKPOINT, read_offset_checkpoint
from storage.log.log_config import LogConfig
from storage.log.partition_log import PartitionLog
from storage.record.batch import BatchHeader, iterate_headers
from storage.record.records import Record, iterate_records
from tests.peers.java_tools import JavaTools
from tests.peers.kafka_cluster import KafkaBroker, ZooKeeper
from tests.peers.processes import wait_until
from tests.peers.wire import wait_for_leaders
from tests.storage.cleaner.cleaning_worlds import OUTPUT_BOUND, bases
from tests.storage.process.test_log_cleaner import Loop

pytestmark = pytest.mark.kafka

TOPIC = "compacted"
SEGMENT_SIZE_BYTES = 20_000
SETTINGS = {"log.cleaner.backoff.ms": "100", "transaction.state.log.replication.factor": "1",
            "transaction.state.log.num.partitions": "1", "offsets.topic.num.partitions": "1",
            "log.index.interval.bytes": "1000"}
TOPIC_CONFIG = {"cleanup.policy": "compact", "segment.bytes": str(SEGMENT_SIZE_BYTES), "delete.retention.ms": "0",
                "min.cleanable.dirty.ratio": "1.0"}
CONFIG = LogConfig(compact=True, delete=False, segment_size_bytes=SEGMENT_SIZE_BYTES, delete_retention_ms=0,
                   min_cleanable_dirty_ratio=0.0, index_interval_bytes=1000)
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SEED = 20261122


class View(NamedTuple):
    """What is in the files of a log, without the times of delete horizons."""

    bases: list[int]
    batches: list[tuple[Any, ...]]
    records: list[Record]
    aborted: list[Any]
    cleaned_to: int | None


def view(log: PartitionLog, cleaned_to: int | None) -> View:
    batches, records = [], []
    for segment in log.segments:
        data = Path(segment.log.path).read_bytes()
        for position, header in iterate_headers(data):
            batches.append(_comparable(header))
            records += iterate_records(data, position, output_size_bytes_max=OUTPUT_BOUND)
    aborted = [txn for segment in log.segments for txn in segment.txn_index.entries()]
    return View(bases(log), batches, records, aborted, cleaned_to)


def _comparable(header: BatchHeader) -> tuple[Any, ...]:
    """Without length and checksum (compressors differ) and without the base timestamp (see batch_filter)."""
    return tuple(header._replace(batch_length=0, crc=0, base_timestamp=0))


class Round(NamedTuple):
    before: View
    ottla: View
    kafka: View
    ottla_path: Path


def write(bootstrap: str, generator: random.Random, round_number: int) -> None:
    for index, codec in enumerate(CODECS):
        producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 20,
                             "enable.idempotence": index % 2 == 0})
        for number in range(150):
            key, value = b"k%d" % generator.randrange(60), generator.randbytes(60) + b"x" * 60
            producer.produce(TOPIC, None if generator.random() < 0.2 else value, key, partition=0,
                             headers=[("h", b"%d" % number)])
        producer.flush()
    for number in range(8):
        producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"t{round_number}-{number % 3}"})
        producer.init_transactions()
        producer.begin_transaction()
        for _ in range(10):
            producer.produce(TOPIC, generator.randbytes(100), b"k%d" % generator.randrange(80), partition=0)
        producer.flush()
        producer.abort_transaction() if number % 2 else producer.commit_transaction()
    filler = Producer({"bootstrap.servers": bootstrap})
    for number in range(2 * SEGMENT_SIZE_BYTES // 1000):
        filler.produce(TOPIC, b"f" * 1000, b"filler-%d" % number, partition=0)
    filler.flush()


def set_ratio(bootstrap: str, ratio: str) -> None:
    resource = ConfigResource("topic", TOPIC, set_config={**TOPIC_CONFIG, "min.cleanable.dirty.ratio": ratio})
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.alter_configs([resource]).values():
        future.result()


def load(path: Path) -> Loop:
    loop = Loop(path, CONFIG)
    loop.world.now_ms = 1 << 42  # long after every delete horizon that Kafka has set
    log = loop.world.log(TOPIC)
    loop.watermarks[TOPIC, 0] = log.log_end_offset
    log.on_high_watermark_updated(log.log_end_offset)
    return loop


def copy_of(log_dir: Path, target: Path) -> Path:
    target.mkdir()
    shutil.copytree(log_dir / f"{TOPIC}-0", target / f"{TOPIC}-0")
    for name in (".kafka_cleanshutdown", "recovery-point-offset-checkpoint"):
        shutil.copy(log_dir / name, target)
    offset = cleaned_to(log_dir)
    if offset is not None:
        (target / CLEANER_OFFSET_CHECKPOINT).write_text(f"0\n1\n{TOPIC} 0 {offset}\n")
    return target


def cleaned_to(log_dir: Path) -> int | None:
    return read_offset_checkpoint(str(log_dir / CLEANER_OFFSET_CHECKPOINT)).get((TOPIC, 0))


def by_kafka(broker: KafkaBroker, active_base: int, target: Path) -> View:
    """Kafka compacts its own directory; a copy of the result, read here."""
    broker.start()
    wait_for_leaders(broker.address, {TOPIC: 1})
    set_ratio(broker.bootstrap, "0.0")
    (log_dir,) = broker.log_dirs
    wait_until(lambda: cleaned_to(log_dir) == active_base, "Kafka has compacted", 60)
    set_ratio(broker.bootstrap, "1.0")
    broker.stop()
    loop = load(copy_of(log_dir, target))
    return view(loop.world.log(TOPIC), cleaned_to(log_dir))


def play(broker: KafkaBroker, work_dir: Path, number: int) -> Round:
    generator = random.Random(SEED + number)
    print(f"seed {SEED + number}")
    write(broker.bootstrap, generator, number)
    broker.stop()
    (log_dir,) = broker.log_dirs
    path = copy_of(log_dir, work_dir / f"ottla-{number}")
    loop = load(path)
    log = loop.world.log(TOPIC)
    before = view(log, None)
    loop.cleaner.run_pass()
    loop.run()
    ottla = view(log, cleaned_to(path))
    assert loop.world.directory.close({}) == []
    loop.close()
    return Round(before, ottla, by_kafka(broker, log.active_base_offset, work_dir / f"kafka-{number}"), path)


@pytest.fixture(scope="module")
def rounds(kafka_libs: Path, zookeeper: ZooKeeper,
           tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Round]]:
    work_dir = tmp_path_factory.mktemp("cleaner")
    broker = KafkaBroker(kafka_libs, work_dir / "kafka", zookeeper, SETTINGS, heap="400m", chroot="/cleaner")
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.create_topics([NewTopic(TOPIC, 1, 1, config=TOPIC_CONFIG)]).values():
            future.result()
        played = [play(broker, work_dir, 0)]
        broker.start()
        played.append(play(broker, work_dir, 1))
    finally:
        broker.close()
    yield played


@pytest.mark.parametrize("number", [0, 1])
def test_both_leave_the_same_records(rounds: list[Round], number: int) -> None:
    played = rounds[number]
    assert len(played.ottla.records) < len(played.before.records)
    assert played.ottla.records == played.kafka.records


@pytest.mark.parametrize("number", [0, 1])
def test_both_leave_the_same_batches(rounds: list[Round], number: int) -> None:
    assert rounds[number].ottla.batches == rounds[number].kafka.batches


@pytest.mark.parametrize("number", [0, 1])
def test_both_leave_the_same_segments_aborted_transactions_and_checkpoint(rounds: list[Round], number: int) -> None:
    ottla, kafka = rounds[number].ottla, rounds[number].kafka
    assert ottla.bases == kafka.bases
    assert ottla.aborted == kafka.aborted
    assert ottla.cleaned_to == kafka.cleaned_to


@pytest.mark.parametrize("number", [0, 1])
def test_kafka_s_own_tool_accepts_every_file(java_tools: JavaTools, rounds: list[Round], number: int) -> None:
    directory = rounds[number].ottla_path / f"{TOPIC}-0"
    files = [path for path in sorted(directory.iterdir()) if path.suffix in (".log", ".index", ".timeindex")]
    text = java_tools.dump_log_segments(files, "--deep-iteration")
    assert "isvalid: false" not in text
    assert not [line for line in text.splitlines()
                if any(word in line for word in ("Mismatch", "out of order", "sanity check failed", "Exception"))]
