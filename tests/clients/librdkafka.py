"""Writes and reads the dataset with librdkafka (confluent-kafka); the second reader of what others wrote.

Partitions are assigned by hand with offsets given, so no consumer group is formed: the group id is
there because the library demands one.
Runs in: the test process.
"""
from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.clients.dataset import PARTITIONS, Record, digest, make_record

READ_TIMEOUT_SECONDS = 120
BATCH_RECORDS = 10_000


def write(
    bootstrap: str, topic: str, count: int, base_timestamp_ms: int, settings: Mapping[str, object]
) -> list[int]:
    """Produces records 0..count-1; returns the acknowledged offset of each (-1 unknown, with acks=0)."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, **settings})
    offsets = [-2] * count
    failures: list[KafkaError] = []

    def note(index: int, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(error)
        else:
            offsets[index] = message.offset() if message.offset() is not None else -1

    for index in range(count):
        record = make_record(index, base_timestamp_ms)
        arguments = {
            "key": record.key,
            "value": record.value,
            "partition": index % PARTITIONS,
            "timestamp": record.timestamp_ms,
            "headers": list(record.headers),
            "on_delivery": lambda error, message, index=index: note(index, error, message),
        }
        while True:
            try:
                producer.produce(topic, **arguments)
                break
            except BufferError:
                producer.poll(0.1)
        if index % 1000 == 0:
            producer.poll(0)
    unsent = producer.flush(READ_TIMEOUT_SECONDS)
    assert not unsent, f"{unsent} records were not delivered"
    assert not failures, f"{len(failures)} deliveries failed, the first with {failures[0]}"
    return offsets


def consumer(bootstrap: str, **settings: object) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "check.crcs": True,
            **settings,
        }
    )


def read(bootstrap: str, topic: str, partitions: int, count: int = 0) -> list[list[Record]]:
    """Every record of the topic, per partition, once there are `count` (for acks=0, which nobody confirms)."""
    client = consumer(bootstrap)
    try:
        return _read_all(client, topic, partitions, count)
    finally:
        client.close()


def _read_all(client: Consumer, topic: str, partitions: int, count: int) -> list[list[Record]]:
    deadline = time.monotonic() + READ_TIMEOUT_SECONDS
    while (missing := _end_sum(client, topic, partitions)) < count:
        assert time.monotonic() < deadline, f"{topic} has {missing} of {count} records"
        time.sleep(0.05)
    records: list[list[Record]] = [[] for _ in range(partitions)]
    client.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
    while missing > 0:
        assert time.monotonic() < deadline, f"{missing} records of {topic} did not arrive"
        for message in client.consume(BATCH_RECORDS, timeout=0.5):
            if message.error():
                raise KafkaException(message.error())
            records[message.partition()].append(_record(message))
            missing -= 1
    return records


def _end_sum(client: Consumer, topic: str, partitions: int) -> int:
    parts = (TopicPartition(topic, index) for index in range(partitions))
    return sum(client.get_watermark_offsets(part, timeout=30)[1] for part in parts)


def _record(message: Message) -> Record:
    return Record(
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


def read_digests(bootstrap: str, topic: str, partitions: int, count: int = 0) -> tuple[str, ...]:
    return tuple(digest(records) for records in read(bootstrap, topic, partitions, count))
