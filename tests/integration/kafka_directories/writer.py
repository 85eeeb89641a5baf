"""Writes to a running broker what the directories of these tests are to hold.

librdkafka compresses and runs the transactions; what has to be known to the byte (producer ids, sequences,
DeleteRecords) goes over the wire by hand.
Runs in: the test process.
"""
from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from storage.checkpoint.offset_checkpoint import (
    CLEANER_OFFSET_CHECKPOINT,
    LOG_START_OFFSET_CHECKPOINT,
    read_offset_checkpoint,
)
from tests.integration.apis.records import batch
from tests.integration.apis.requests import produce
from tests.integration.apis.wire import Client
from tests.integration.kafka_directories.settings import (
    CODEC_TOPIC,
    CODECS,
    COMPACTED_CONFIG,
    COMPACTED_TOPIC,
    FIRST_TIMESTAMP_MS,
    IDEMPOTENT_TOPIC,
    PARTITIONS,
    TRANSACTION_TOPIC,
    TRIMMED_TOPIC,
)
from tests.peers.processes import wait_until
from tests.peers.wire import Address, wait_for_leaders

SEED = 20260101
RECORDS_PER_CODEC = 150
BATCH_RECORDS = 5
TRIMMED_TO = 63
NEVER_ENDED_TIMEOUT_MS = 900_000


class Sequence(NamedTuple):
    """An idempotent producer in the middle of its work on a partition: the batch that it sent last."""

    partition: int
    producer_id: int
    producer_epoch: int
    last_batch: bytes
    last_base_offset: int
    next_sequence: int


class Written(NamedTuple):
    """committed: values that a read_committed consumer must get, by partition of TRANSACTION_TOPIC."""

    sequences: tuple[Sequence, ...]
    committed: dict[int, list[bytes]]


def write_all(address: Address, log_dir: Path) -> Written:
    """Every kind of data there is, to a broker without topics. log_dir: where its cleaner's progress shows."""
    bootstrap = f"{address[0]}:{address[1]}"
    with Client(address) as client:
        for topic, count in PARTITIONS.items():
            create_topic(client, topic, count, COMPACTED_CONFIG if topic == COMPACTED_TOPIC else {})
        wait_for_leaders(address, PARTITIONS)
        _write_codecs(bootstrap)
        committed = _write_transactions(bootstrap)
        _write_trimmed(client, bootstrap)
        _write_compacted(bootstrap)
        sequences = tuple(start_sequence(client, partition) for partition in range(PARTITIONS[IDEMPOTENT_TOPIC]))
    wait_until(lambda: checkpointed(log_dir, LOG_START_OFFSET_CHECKPOINT, TRIMMED_TOPIC) == TRIMMED_TO,
               "the log start is on disk", 30)
    active = max(int(path.stem) for path in (log_dir / f"{COMPACTED_TOPIC}-0").glob("*.log"))
    wait_until(lambda: checkpointed(log_dir, CLEANER_OFFSET_CHECKPOINT, COMPACTED_TOPIC) == active,
               "the cleaner has come to its end", 30)
    return Written(sequences, committed)


def checkpointed(log_dir: Path, name: str, topic: str) -> int | None:
    """The offset of the topic's partition 0 in one of Kafka's checkpoint files."""
    return read_offset_checkpoint(str(log_dir / name)).get((topic, 0))


def create_topic(client: Client, name: str, partitions: int, configs: dict[str, str]) -> None:
    create = request_class(ApiKey.CREATE_TOPICS)
    entries = [create.CreatableTopicConfig(name=key, value=value) for key, value in configs.items()]
    wanted = create.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=entries)
    (result,) = client.call(ApiKey.CREATE_TOPICS, 7, create(topics=[wanted], timeout_ms=30_000)).topics
    assert result.error_code == 0, result


def _flush(producer: Producer) -> None:
    assert producer.flush(30) == 0


def write_codec(bootstrap: str, partition: int, label: str, count: int, first_timestamp_ms: int) -> None:
    """Records with and without key, value and headers, and with times that go back now and then."""
    chance = random.Random(f"{SEED} {label} {partition}")
    producer = Producer({"bootstrap.servers": bootstrap, "compression.codec": CODECS[partition],
                         "batch.num.messages": BATCH_RECORDS, "linger.ms": 5, "acks": "all"})
    for index in range(count):
        value = b"%s %d " % (label.encode(), index) * 4 + chance.randbytes(chance.randrange(600))
        producer.produce(
            CODEC_TOPIC, None if index % 50 == 49 else value, key=None if index % 3 else b"key %d" % index,
            partition=partition, headers=[("h", b"%d" % index), ("none", None)] if index % 5 == 0 else None,
            timestamp=first_timestamp_ms + index * 1000 - (30_000 if index % 7 == 0 else 0))
    _flush(producer)


def _write_codecs(bootstrap: str) -> None:
    for partition in range(len(CODECS)):
        write_codec(bootstrap, partition, "kafka", RECORDS_PER_CODEC, FIRST_TIMESTAMP_MS)


def _write_transactions(bootstrap: str) -> dict[int, list[bytes]]:
    committed: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    ended = _transactional(bootstrap, "ended", 60_000)
    for index in range(30):
        ended.begin_transaction()
        values = {partition: b"transaction %d of partition %d " % (index, partition) + b"." * 1000
                  for partition in (0, 1)}
        for partition, value in values.items():
            ended.produce(TRANSACTION_TOPIC, value, partition=partition)
        _flush(ended)  # an abort would drop what has not been sent
        if index % 3 == 2:
            ended.abort_transaction(30)
        else:
            ended.commit_transaction(30)
            for partition, value in values.items():
                committed[partition].append(value)
    never_ended = _transactional(bootstrap, "never-ended", NEVER_ENDED_TIMEOUT_MS)
    plain = Producer({"bootstrap.servers": bootstrap})
    never_ended.begin_transaction()
    for index, producer in enumerate([plain, never_ended, plain, never_ended]):
        value = b"around the transaction that is never ended: %d" % index
        producer.produce(TRANSACTION_TOPIC, value, partition=2)
        _flush(producer)
        if not index:
            committed[2].append(value)
    return committed


def _transactional(bootstrap: str, name: str, timeout_ms: int) -> Producer:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "linger.ms": 0,
                         "transaction.timeout.ms": timeout_ms})
    producer.init_transactions(30)
    return producer


def _write_trimmed(client: Client, bootstrap: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "batch.num.messages": BATCH_RECORDS, "linger.ms": 5})
    for index in range(100):
        producer.produce(TRIMMED_TOPIC, b"%d " % index + b"," * 700, timestamp=FIRST_TIMESTAMP_MS + index)
    _flush(producer)
    delete = request_class(ApiKey.DELETE_RECORDS)
    answer = client.call(ApiKey.DELETE_RECORDS, 2, delete(timeout_ms=30_000, topics=[delete.DeleteRecordsTopic(
        name=TRIMMED_TOPIC, partitions=[delete.DeleteRecordsPartition(partition_index=0, offset=TRIMMED_TO)])]))
    assert answer.topics[0].partitions[0].low_watermark == TRIMMED_TO, answer


def _write_compacted(bootstrap: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "batch.num.messages": BATCH_RECORDS, "linger.ms": 5})
    for index in range(150):
        # Some keys stay for good: with segments that compaction left empty, Kafka's look-up by time finds nothing.
        key = b"once %d" % index if index % 10 == 0 else b"key %d" % (index % 11)
        producer.produce(COMPACTED_TOPIC, None if index % 10 == 9 else b"%d " % index + b"-" * 600, key=key)
    _flush(producer)


# An idempotent producer by hand


def new_producer(client: Client) -> tuple[int, int]:
    """(producer id, epoch) of a new idempotent producer."""
    request = request_class(ApiKey.INIT_PRODUCER_ID)(transactional_id=None, transaction_timeout_ms=60_000)
    answers: list[Any] = []

    def answered() -> bool:
        answers.append(client.call(ApiKey.INIT_PRODUCER_ID, 4, request))
        return bool(answers[-1].error_code != ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)

    wait_until(answered, "the broker has a block of producer ids", 10)
    assert answers[-1].error_code == 0, answers[-1]
    return answers[-1].producer_id, answers[-1].producer_epoch


def sequence_batch(producer: tuple[int, int], sequence: int, *values: bytes) -> bytes:
    """Of now: a producer whose last batch carries a time of long ago expires when its snapshot is read."""
    return batch(*values, producer=(*producer, sequence))


def start_sequence(client: Client, partition: int) -> Sequence:
    """A new producer's first batches on IDEMPOTENT_TOPIC, over more than one segment."""
    producer = new_producer(client)
    sequence = Sequence(partition, *producer, b"", -1, 0)
    for _ in range(20):
        sequence = go_on(client, sequence)
    return sequence


def go_on(client: Client, sequence: Sequence) -> Sequence:
    """The producer's next batch, of three records."""
    producer = (sequence.producer_id, sequence.producer_epoch)
    values = [b"sequence %d" % (sequence.next_sequence + index) + b"." * 500 for index in range(3)]
    data = sequence_batch(producer, sequence.next_sequence, *values)
    result = send(client, sequence.partition, data)
    assert result.error_code == 0, result
    return sequence._replace(last_batch=data, last_base_offset=result.base_offset,
                             next_sequence=sequence.next_sequence + 3)


def send(client: Client, partition: int, data: bytes) -> Any:
    """The partition's answer to a batch for IDEMPOTENT_TOPIC."""
    return produce(client, IDEMPOTENT_TOPIC, data, partition)
